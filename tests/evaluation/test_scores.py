"""scores.csv: what is written is read back; the rows of means confuse neither us nor a resumed run."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_row

from lungct import LungError
from lungct.evaluation.cases import Volume
from lungct.evaluation.scores import (
    ScanScore,
    print_scores,
    read_earlier_scores,
    read_scores,
    score_volume,
    scores_bytes,
    with_warnings,
)
from lungct.masks.write import LungMask, mask_checksum
from lungct.scans.geometry import frame_of


def score(scan: str, **changes) -> ScanScore:
    numbers = {"slices": 5, "litres": 4.5, "fingerprint": f"0-{scan}", "patient_id": scan}
    return ScanScore(scan, **{**numbers, **changes})


def table(path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_means_and_deviations_stand_last_and_are_no_scans(tmp_path):
    path = tmp_path / "scores.csv"
    scores = [score("A", litres=4.0, dice=0.9), score("B", litres=5.0), score("C", litres=6.0, dice=0.8, slices=8)]
    path.write_bytes(scores_bytes(scores))
    *_, means, deviations = table(path)
    assert (means["scan"], means["litres"], means["dice"], means["slices"]) == ("mean", "5.0", "0.85", "6.0")
    assert (deviations["scan"], deviations["litres"], deviations["dice"]) == ("standard deviation", "1.0", "0.0707")
    assert means["iou"] == means["fingerprint"] == means["patient_id"] == means["flags"] == ""
    assert read_scores(path) == read_earlier_scores(path) == scores


def test_one_scan_has_no_mean(tmp_path):
    (tmp_path / "scores.csv").write_bytes(scores_bytes([score("A")]))
    assert [row["scan"] for row in table(tmp_path / "scores.csv")] == ["A"]


def test_scans_called_like_the_last_rows_are_scans(tmp_path):
    scores = [score("mean"), score("standard deviation", patient_id="")]
    (tmp_path / "scores.csv").write_bytes(scores_bytes(scores))
    assert read_scores(tmp_path / "scores.csv") == scores


def test_an_empty_mask_makes_the_mean_distance_infinite_and_leaves_its_deviation_out(tmp_path):
    (tmp_path / "scores.csv").write_bytes(scores_bytes([score("A", hd95_mm=float("inf")), score("B", hd95_mm=1.0)]))
    *_, means, deviations = table(tmp_path / "scores.csv")
    assert (means["hd95_mm"], deviations["hd95_mm"]) == ("inf", "")


def test_a_table_of_another_version_is_named_and_no_earlier_result(tmp_path, capsys):
    (tmp_path / "scores.csv").write_text("scan,litres\nA,4.5\n")
    assert read_earlier_scores(tmp_path / "none.csv") == []
    assert capsys.readouterr().out == ""
    assert read_earlier_scores(tmp_path / "scores.csv") == []
    assert "scores.csv: columns are not those of this version; all scans are predicted again" in capsys.readouterr().out
    with pytest.raises(LungError, match="columns are not those of this version"):
        read_scores(tmp_path / "scores.csv")


def cube(truth_columns: int, x_mm: float = 0.0) -> tuple[Volume, LungMask]:
    """A lung of -900 HU, 4 x 10 x 10 voxels of 2 x 1 x 1 mm, right in its picture; a reference of as many columns.

    x_mm: of the first column
    """
    place = {"x_mm": x_mm, "slice_mm": 2.0, "row_mm": 1.0, "col_mm": 1.0, "rows": 30, "columns": 40}
    rows = [make_row("A", z, z_mm=2.0 * z, **place) for z in range(6)]
    ct_hu, lung = np.full((6, 30, 40), 40, np.int16), np.zeros((6, 30, 40), bool)
    lung[1:5, 10:20, 5:15] = True
    ct_hu[lung] = -900
    truth = np.zeros(lung.shape, bool)
    truth[1:5, 10:20, 5 : 5 + truth_columns] = True
    frame = frame_of(rows)
    return Volume(rows, frame, ct_hu, truth if truth_columns else None), LungMask(
        lung, frame, lambda: None, "abc", np.array([0, 0.1, 0, 0.3, 0, 0])
    )


def test_a_row_holds_what_was_measured_and_the_voxel():
    found = score_volume(*cube(0))
    assert (found.scan, found.slices, found.lung_slices) == ("A", 6, 4)
    assert (found.litres, found.litres_right, found.litres_left) == (0.001, 0.001, 0.0)  # 0.8 ml
    assert (found.mean_hu, found.perc15_hu, found.laa950, found.mass_g) == (-900, -900, 0, 0.1)
    assert (found.slice_mm, found.row_mm, found.col_mm) == (2.0, 1.0, 1.0)
    assert found.dice is None
    assert found.unsure == 0.1  # 0.4 of 4 cm2
    assert found.mask == mask_checksum(cube(0)[1].lung)


@pytest.mark.parametrize(
    ("x_mm", "side", "flag"),
    [
        (0.0, "right", "one lung only, right or left is a guess"),
        (30.0, "left", "one lung only, right or left by its place in the scanner"),
        (-60.0, "right", "one lung only, right or left by its place in the scanner"),
        (5.0, "left", "one lung only, right or left is a guess"),
    ],
)
def test_a_narrow_picture_of_one_lung_has_the_side_that_its_place_says(x_mm, side, flag):
    found = score_volume(*cube(0, x_mm))
    assert (found.litres_right, found.litres_left) == ((0.001, 0.0) if side == "right" else (0.0, 0.001))
    assert flag in found.flags.split("; ")


def test_a_row_holds_the_agreement_with_a_reference():
    found = score_volume(*cube(5))
    assert found.dice == pytest.approx(2 / 3, abs=1e-4)
    assert found.worst_slice == "A_slice001"


def test_what_was_said_of_the_scan_is_a_flag_unless_one_says_it_already():
    hu = "looks like 8-bit grey levels, not HU"
    warnings = ("2 slices left out: another phase; of 3", f"{hu}: the lungs will be wrong")
    assert with_warnings([hu, "no lung"], warnings) == [hu, "no lung", "2 slices left out: another phase, of 3"]
    volume, mask = cube(5)
    before = score_volume(volume, mask).flags
    assert score_volume(replace(volume, warnings=("a gap",)), mask).flags == "; ".join(filter(None, [before, "a gap"]))


def test_the_table_in_the_terminal_shows_agreement_where_there_is_a_reference_and_measures_otherwise(capsys):
    long = "a" * 60
    print_scores([score(long, mean_hu=-850.0, mass_g=900.0, flags="one lung only")])
    head, line = capsys.readouterr().out.splitlines()
    assert " ".join(head.split()) == "scan slices litres right left mean HU perc15 <-950 HU mass g"
    assert line.split()[:6] == [long, "5", "4.5", "-", "-", "-850.0"]
    assert line.endswith("  one lung only")
    print_scores([score("A", dice=0.5, worst_slice="A_slice001", worst_slice_dice=0.25, seen_in_training="val")])
    head, line, mean = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["scan", "slices", "litres", "Dice"]
    assert "A_slice001 (0.250)  patient was in the validation set" in line
    assert mean.startswith(
        "mean Dice 0.5000 over 1 scan, worst 0.5000; no test: 1 of them, of patients in the training or "
    )
    a, c = (score(name, dice=value, worst_slice_dice=0.25) for name, value in (("A", 0.5), ("C", 0.75)))
    print_scores([a, score("B", seen_in_training="train"), c])
    assert capsys.readouterr().out.splitlines()[-1] == "mean Dice 0.6250 over 2 scans, worst 0.5000"
