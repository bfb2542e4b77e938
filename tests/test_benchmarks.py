"""The benchmarks' own arithmetic, and the peers that they stand for."""

import importlib
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pandas
import pytest
import torch
from conftest import ROOT, small_patient

from benchmarks import reliability, report, scale, stages
from benchmarks.accuracy import shrink, thin_out, turn, variants
from benchmarks.peers import first_label, first_network, r231_network
from lungct.evaluation.metrics import dice
from lungct.settings import default_values, make_record
from lungct.slices import HU_WINDOW
from lungct.training.distributed import Processes
from lungct.training.trainer import Trainer, TrainSettings
from lungct.weights import Model


def test_multiply_adds_of_a_convolution_and_its_transpose():
    convolution = torch.nn.Conv2d(3, 5, 3, padding=1)
    assert report.multiply_adds(convolution, torch.zeros(2, 3, 8, 10)) == 8 * 10 * 5 * 3 * 9
    transposed = torch.nn.ConvTranspose2d(3, 5, 2, stride=2)
    assert report.multiply_adds(transposed, torch.zeros(2, 3, 8, 10)) == 8 * 10 * 3 * 5 * 4


def test_peers_have_the_sizes_that_are_told_of_them():
    for network in (first_network(), r231_network()):
        assert sum(p.numel() for p in network.parameters()) == pytest.approx(31.04e6, rel=0.001)


def test_first_version_labels_lung_where_lung_is():
    patient = small_patient(1)
    middle = len(patient.ct_hu) // 2
    ct_hu = np.pad(patient.ct_hu[middle], ((168, 168), (152, 152)), constant_values=-1000).astype(float)
    lung = np.pad(patient.lung[middle], ((168, 168), (152, 152)))
    assert dice(first_label(ct_hu), lung) > 0.5


def test_mutants_change_code_and_no_type():
    pytest.importorskip("cosmic_ray")
    from benchmarks.mutants import find_mutants, row, rows_of

    source = "def half(x: int | None = 4, y: 'int' = 0) -> float | None:\n    return x / 2 if x > y else None\n"
    names = [name.removeprefix("core/") for name, _ in find_mutants(source)]
    assert names.count("NumberReplacer") == 6  # 4, 0 and 2, each one more and one less
    assert not any("BitOr" in name or name.endswith("_Is") for name in names)
    assert "ReplaceBinaryOperator_Div_Mul" in names
    assert "ReplaceComparisonOperator_Gt_GtE" in names
    found = {"lungct/scans/hu.py": [("killed", ""), ("survived", ""), ("too long", ""), ("killed", "")]}
    assert rows_of(found) == [
        ("`lungct/scans/hu.py`", 4, 3, 1, 1, "75"),
        ("**scans**", 4, 3, 1, 1, "75"),
        ("**all**", 4, 3, 1, 1, "75"),
    ]
    assert row("none", Counter()) == ("none", 0, 0, 0, 0, "-")


def test_a_section_is_replaced_and_the_others_stay(tmp_path):
    page = tmp_path / "RESULTS.md"
    for title, line in (("Speed", "slow"), ("By hand", "kept"), ("Speed", "quick")):
        report.write_section(title, [line], page)
    text = page.read_text()
    assert text.startswith("# ")
    assert text.index("## Speed") < text.index("quick") < text.index("## By hand") < text.index("kept")
    assert "slow" not in text


def test_shrunk_scans_keep_their_size_in_mm_and_their_means():
    ct_hu = np.arange(5 * 9 * 13, dtype=np.int16).reshape(5, 9, 13)
    small, lung, spacing = shrink(ct_hu, ct_hu > 300, (3.0, 0.7, 0.9), (2, 4, 3))
    assert small.shape == lung.shape == (2, 2, 4)
    assert spacing == (6.0, 2.8, 2.7)
    assert small[0, 0, 0] == int(ct_hu[:2, :4, :3].mean())


def test_turning_back_gives_the_slice():
    lung = np.zeros((1, 60, 60), np.uint8)
    lung[0, 20:45, 15:40] = 1
    again = turn(turn(lung, 15, 0, 0), -15, 0, 0)
    assert dice(again > 0, lung > 0) > 0.93


def test_emphysema_halves_the_density_of_lung_and_leaves_its_vessels():
    ct_hu = np.array([[[-1000, -860, -600, 20, -860]]], np.int16)
    thin = thin_out(ct_hu, np.array([[[True, True, True, True, False]]]))
    assert thin.tolist() == [[[-1000, -930, -600, 20, -860]]]
    assert thin.dtype == np.int16


def test_every_variant_keeps_ct_and_lung_together():
    patient = small_patient(2, noise_hu=10.0)
    names = set()
    for name, ct_hu, lung, spacing in variants(patient.ct_hu, patient.lung, patient.spacing_mm):
        names.add(name)
        assert ct_hu.shape == lung.shape
        assert len(spacing) == 3
        inside, outside = np.median(ct_hu[lung]), np.median(ct_hu[~lung & (ct_hu > -300)])
        assert inside < -550 < -150 < outside, name
    assert len(names) == 15


def test_arithmetic_of_a_thousand_times_more_scans():
    series = pandas.DataFrame({"instanceCount": [100, 260], "series_size_MB": [50.0, 130.0]})
    cost = scale.Cost(
        header_s=0.01, step_4_s=1.0, step_5_s=9.0, ct_bytes=5e5, mask_bytes=2.5e5, scan_bytes=4e4, report_bytes=1e4,
        manifest_bytes=100.0,
    )  # fmt: skip
    row = dict(zip(scale.WHAT, scale.column(series, cost), strict=True))
    assert row["scans"] == "2"
    assert row["slices"] == "360"
    assert row["step 5"] == "1 core hours"  # 3,240 s
    assert row["steps 4 and 5 on 100 cores"] == "0.0 h"
    big = pandas.concat([series] * 10000)
    row = dict(zip(scale.WHAT, scale.column(big, cost), strict=True))
    assert row["DICOM"] == "1.80 TB"
    assert row["download at 1 Gbit/s (free of charge)"] == "4 h"  # 14.4e12 bits
    assert row["reading headers, one core of the machine that starts step 4"] == "10.0 h"
    assert row["steps 4 and 5 on 100 cores"] == "100.0 h"  # 3.6e6 slices of 10 s
    assert row["cost at 0.05 USD per core hour (assumed)"] == "500 USD"
    assert row["CT slices between the steps (`.npy`)"] == "1.80 TB"
    assert row["storage of the `.nii.gz` files only, per month"] == "0.02 USD"  # 0.8 GB


REPORT = """<testsuites><testsuite><testcase/><testcase/><testcase><skipped/></testcase>
<testcase><failure/></testcase><testcase><error/></testcase><testcase><failure/><error/></testcase></testsuite></testsuites>"""


def test_cases_of_a_kind_are_counted_by_their_outcome():
    outcomes = reliability.count_outcomes(ElementTree.fromstring(REPORT))
    assert outcomes == {"passed": 2, "skipped": 1, "failed": 3}


def test_each_kind_has_tests_and_no_test_is_of_two_kinds():
    found = [
        path
        for places in reliability.KINDS.values()
        for place in places
        for path in ([ROOT / "tests" / place] if place.endswith(".py") else (ROOT / "tests" / place).glob("test_*.py"))
    ]
    assert all(path.is_file() for path in found)
    assert len(found) == len(set(found)) > len(reliability.KINDS)


NOT_INSTALLED_HERE = {"mutants": "cosmic_ray", "lungmask_peer": "lungmask"}  # `make mutants`, `make bench` install them


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py")))
def test_every_benchmark_finds_what_it_imports(name):
    if package := NOT_INSTALLED_HERE.get(name):
        pytest.importorskip(package)
    assert importlib.import_module(f"benchmarks.{name}").__doc__


def test_the_stand_in_for_slices_gives_the_trainer_its_batches(tmp_path):
    settings = make_record(TrainSettings, default_values(), tmp_path)
    model = Model(settings.width, settings.depth, settings.patch, True, HU_WINDOW, 0.75)
    slices = stages.Noise(2)
    trainer = Trainer(settings, model, slices, slices, torch.device("cpu"), Processes())
    images, targets = trainer.make_batch(np.arange(2), (1, 2))
    assert images.shape == targets.shape == (2, 1, 512, 512)
