"""Two sets of predictions compared: pairs, differences and intervals that are known by hand; and what is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import run
from training_runs import save_patients

from lungct import LungError
from lungct.evaluation.compare import comparison_lines, mean_interval, pair_patients, pair_scans, read_set
from lungct.evaluation.scores import ScanScore, scores_bytes

DICE_A = {"P1": 0.90, "P2": 0.95, "P3": 0.80}
DICE_B = {"P1": 0.94, "P2": 0.93, "P3": 0.88}


def score(scan: str, dice: float | None, **changes) -> ScanScore:
    same = {"patient_id": scan, "slices": 5, "litres": 4.5, "hd95_mm": 2.0, "ct": "c" + scan, "reference": "r" + scan}
    return ScanScore(**{"scan": scan, "dice": dice, "weights": "abc", "fingerprint": "0-0", **same, **changes})


def save(folder: Path, scores: list[ScanScore]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.csv").write_bytes(scores_bytes(scores))
    return folder


def both(tmp_path, a: list[ScanScore] | None = None, b: list[ScanScore] | None = None) -> tuple[Path, Path]:
    """Two folders of predictions, of three patients each unless given."""
    a = a or [score(scan, dice) for scan, dice in DICE_A.items()]
    b = b or [score(scan, dice, weights="def", hd95_mm=1.0) for scan, dice in reversed(DICE_B.items())]
    return save(tmp_path / "a", a), save(tmp_path / "b", b)


def test_differences_and_their_mean_are_of_the_same_patient_whatever_the_order(tmp_path):
    a, b = both(tmp_path)
    lines = comparison_lines(a, b)
    assert lines[:2] == [f"A: {a}, 3 scans, weights abc", f"B: {b}, 3 scans, weights def"]
    assert [line.split() for line in lines[3:6]] == [  # the one for whom B loses most first
        ["P2", "0.9500", "0.9300", "-0.0200", "2.00", "1.00", "-1.00"],
        ["P1", "0.9000", "0.9400", "+0.0400", "2.00", "1.00", "-1.00"],
        ["P3", "0.8000", "0.8800", "+0.0800", "2.00", "1.00", "-1.00"],
    ]
    mean, distance, few = lines[6:]
    assert mean.startswith("mean Dice, B - A: +0.0333, 95% interval -0.0200 to +0.0800; B higher for 2 of 3 patients")
    assert distance == ("mean HD95, B - A: -1.00 mm, 95% interval -1.00 to -1.00 mm; B higher for 0 of 3 patients")
    assert few == "with fewer than 10 patients, such an interval is too narrow"
    assert len({line.index("0.9") for line in lines[3:5]}) == 1


def test_interval_is_what_is_known_for_two_values_and_close_to_the_normal_one_for_many():
    assert mean_interval(np.array([0.01, 0.03])) == (0.01, 0.03)  # 25 % of the draws are one value alone
    assert mean_interval(np.full(5, 0.25)) == (0.25, 0.25)
    values = np.random.default_rng(3).normal(0.1, 1.0, 400)
    half = 1.96 * values.std() / 20
    low, high = mean_interval(values)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)
    assert mean_interval(values) == (low, high)


def test_scans_of_a_patient_count_as_one_patient():
    a = [score("P1", 0.9), score("P1_scan2", 0.8, patient_id="P1"), score("P2", 0.7)]
    b = [score("P1", 0.9), score("P1_scan2", 0.9, patient_id="P1"), score("P2", 0.8)]
    one, two = pair_patients(pair_scans(a, b))
    assert (one.patient_id, one.dice_difference) == ("P1", pytest.approx(0.05))
    assert (two.patient_id, two.dice_difference) == ("P2", pytest.approx(0.1))


def test_what_is_only_in_one_or_has_no_reference_or_was_trained_on_is_listed(tmp_path):
    a = [score("P1", 0.9), score("P2", 0.9, seen_in_training="train"), score("P3", None), score("P4", 0.5)]
    b = [score("P1", 0.9), score("P2", 0.9), score("P3", None), score("P5", 0.5, seen_in_training="val")]
    lines = comparison_lines(*both(tmp_path, a, b))
    assert lines[2:8] == [
        "only in A: P4",
        "not compared, no reference in A: P3",
        "in the training set, so not a test, in A: P2",
        "only in B: P5",
        "not compared, no reference in B: P3",
        "in the validation set, which chose the best epoch, in B: P5",
    ]
    assert "of 2 patients" in lines[-2]


@pytest.mark.parametrize(("change", "what"), [({"ct": "other"}, "CT"), ({"reference": "other"}, "reference")])
def test_other_ct_or_reference_is_refused_with_the_scan(tmp_path, change, what):
    b = [score(scan, dice, **(change if scan == "P2" else {})) for scan, dice in DICE_B.items()]
    with pytest.raises(LungError, match=f"the {what} of A and B is not the same: P2; predict both"):
        comparison_lines(*both(tmp_path, b=b))


def test_fewer_than_two_patients_or_no_dice_are_refused(tmp_path):
    with pytest.raises(LungError, match=r"1 patient with a Dice in both, at least 2 .*: 3 in .*a, 1 in .*b;"):
        comparison_lines(*both(tmp_path, b=[score("P1", 0.9)]))
    with pytest.raises(LungError, match=r"0 patients with a Dice in both.*needs references \(--labels\)"):
        comparison_lines(*both(tmp_path, b=[score(scan, None) for scan in DICE_A]))


def test_an_empty_mask_leaves_hd95_without_a_mean(tmp_path):
    b = [score(scan, dice, hd95_mm=float("inf") if scan == "P3" else 1.0) for scan, dice in DICE_B.items()]
    lines = comparison_lines(*both(tmp_path, b=b))
    assert lines[-2] == "mean HD95, B - A: none, a mask is empty: P3"
    assert lines[-3].startswith("mean Dice, B - A: +0.0333")


def test_a_long_table_shows_the_patients_for_whom_b_loses_most(tmp_path):
    a = [score(f"P{n:02d}", 0.9) for n in range(12)]
    b = [score(f"P{n:02d}", 0.9 - 0.01 * n) for n in range(12)]
    lines = comparison_lines(*both(tmp_path, a, b))
    assert [line.split()[0] for line in lines[3:13]] == [f"P{n:02d}" for n in range(11, 1, -1)]
    assert lines[13] == "and 2 patients for whom B - A of Dice is higher"
    assert "too narrow" not in lines[-1]


def test_folds_are_pooled_without_what_their_networks_were_trained_on(tmp_path):
    for fold in range(2):
        scores = [
            score(f"P{n}", 0.5 + fold / 10 + n / 100, seen_in_training="val" if n % 2 == fold else "train")
            for n in range(4)
        ]
        save(tmp_path / f"cv/fold_{fold}", scores)
    assert {one.scan: one.dice for one in read_set(tmp_path / "cv")} == {"P0": 0.5, "P2": 0.52, "P1": 0.61, "P3": 0.63}
    save(tmp_path / "twice/one", [score("P1", 0.9)])
    save(tmp_path / "twice/two", [score("P1", 0.8)])
    with pytest.raises(LungError, match="in more than one of its 2 tables: P1; of folds, predict only patients"):
        read_set(tmp_path / "twice")


def test_a_folder_without_scores_says_what_makes_them(tmp_path):
    run_folder = tmp_path / "runs/a"
    run_folder.mkdir(parents=True)
    with pytest.raises(LungError, match=r"runs/a holds no scores.csv; .*: python model_test.py --predictions-path DIR"):
        read_set(run_folder)
    (run_folder / "unet_model.pth").write_bytes(b"")
    with pytest.raises(LungError, match=r"model_test.py --weights-path .*a.unet_model.pth --predictions-path DIR"):
        read_set(run_folder)
    (run_folder / "scores.csv").write_text("scan,litres\nA,4.5\n")
    with pytest.raises(LungError, match=r"columns are not those of this version; make it again with model_test.py"):
        read_set(run_folder)


def table(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_two_networks_on_the_same_slices_are_compared_from_the_terminal(tmp_path):
    """Step 5 twice on the slices of step 4, in float32 and in bfloat16; then a label is changed."""
    rng = np.random.default_rng(1)
    ct_hu = np.full((4, 96, 112), 40, np.int16) + rng.integers(-20, 20, (4, 96, 112)).astype(np.int16)
    lung = np.zeros(ct_hu.shape, bool)
    lung[:, 20:80, 15:45] = lung[:, 20:80, 65:95] = True
    ct_hu[lung] = -850
    ct_hu[:, :10] = ct_hu[:, -8:] = -1000
    save_patients(tmp_path / "mydata/Image_test", {"A": (ct_hu, lung), "B": (ct_hu[::-1], lung)})
    run("config_file_create.py", "--png", "none", cwd=tmp_path)
    for name in ("off", "on"):
        run("model_test.py", "--amp", name, "--predictions-path", name, cwd=tmp_path)
    text = run("model_test.py", "--compare", "off", "on", cwd=tmp_path)
    rows = [table(tmp_path / name / "scores.csv") for name in ("off", "on")]
    differences = [float(b["dice"]) - float(a["dice"]) for a, b in zip(*rows, strict=True) if a["fingerprint"]]
    assert f"mean Dice, B - A: {np.mean(differences):+.4f}" in text
    other = lung.copy()
    other[:, 30, 30] = False
    save_patients(tmp_path / "mydata/Image_test", {"A": (ct_hu, other), "B": (ct_hu[::-1], lung)})
    run("model_test.py", "--amp", "on", "--predictions-path", "on", cwd=tmp_path)
    text = run("model_test.py", "--compare", "off", "on", cwd=tmp_path, status=1)
    assert "the reference of A and B is not the same: A;" in text
