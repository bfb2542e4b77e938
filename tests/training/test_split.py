"""No patient is on both sides; folds hold everybody once; a learning curve adds patients and changes nothing else."""

import itertools

import pytest

from lungct import LungError
from lungct.training.split import SplitOptions, split_notes, split_patients

TEN = [f"P{n}" for n in range(10)]


def split(patients=TEN, seed=1, share=0.2, **options) -> dict[str, list[str]]:
    return split_patients(patients, SplitOptions(share, seed, **options))


def notes(patients=TEN, seed=1, share=0.2, **options) -> list[str]:
    chosen = SplitOptions(share, seed, **options)
    return split_notes(patients, chosen, split_patients(patients, chosen))


def test_no_patient_is_on_both_sides_and_the_seed_decides():
    parts = split()
    assert sorted(parts["train"] + parts["val"]) == TEN
    assert len(parts["val"]) == 2
    assert split() == parts
    assert split(seed=2) != parts


def test_the_split_of_earlier_versions_stays():
    assert split() == {"train": ["P0", "P1", "P2", "P3", "P5", "P6", "P7", "P9"], "val": ["P4", "P8"]}


def test_patients_that_the_first_weights_were_trained_on_are_not_validated_on():
    seen = frozenset(TEN[:9])
    assert split(seen=seen) == {"train": TEN[:9], "val": ["P9"]}
    with pytest.raises(LungError, match="trained on all of these patients"):
        split(seen=frozenset(TEN))


def test_one_patient_is_too_few():
    with pytest.raises(LungError, match="1 patient is too few"):
        split(["A"])


@pytest.mark.parametrize(("folds", "sizes"), [(2, [5, 5]), (3, [4, 3, 3]), (10, [1] * 10)])
def test_each_patient_is_validated_in_exactly_one_fold(folds, sizes):
    parts = [split(folds=folds, fold=fold) for fold in range(folds)]
    assert [len(part["val"]) for part in parts] == sizes
    assert sorted(name for part in parts for name in part["val"]) == TEN
    for part in parts:
        assert sorted(part["train"] + part["val"]) == TEN


def test_folds_depend_on_the_seed_and_not_on_the_order_of_the_rows_or_the_share():
    fold = split(folds=5, fold=1)
    assert split([*reversed(TEN), *TEN], share=0.5, folds=5, fold=1) == fold
    assert split(seed=2, folds=5, fold=1) != fold


def test_fold_leaves_out_patients_that_the_first_weights_were_trained_on_and_keeps_the_others_where_they_are():
    first, second = (split(folds=2, fold=fold)["val"] for fold in range(2))
    parts = split(folds=2, fold=0, seen=frozenset([first[0], second[0]]))
    assert parts == {"train": sorted([first[0], *second]), "val": first[1:]}
    with pytest.raises(LungError, match=rf"--init were trained on all patients of fold 0 \({', '.join(first)}\)"):
        split(folds=2, fold=0, seen=frozenset(first))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 5}, r"--folds 5 goes with --fold K.* from 0 to 4"),
        ({"fold": 0}, r"--fold 0 goes with --folds N"),
        ({"folds": 5, "fold": 5}, r"--fold 5: there are 5 folds; they are counted from 0 to 4"),
        ({"folds": 1, "fold": 0}, r"--folds 1: .* give 2 or more"),
    ],
)
def test_folds_that_cannot_be_are_refused(options, message):
    with pytest.raises(LungError, match=message):
        SplitOptions(0.2, 1, **options)


def test_fewer_patients_than_folds_are_refused():
    with pytest.raises(LungError, match="--folds 11: 10 patients cannot fill them"):
        split(folds=11, fold=0)


@pytest.mark.parametrize("options", [{}, {"folds": 5, "fold": 2}])
def test_each_point_of_a_learning_curve_holds_the_patients_of_those_before_it(options):
    full = split(**options)
    curve = [split(train_patients=number, **options) for number in range(1, 9)]
    for number, part in enumerate(curve, start=1):
        assert part["val"] == full["val"]
        assert len(part["train"]) == number
        assert set(part["train"]) <= set(full["train"])
    for fewer, more in itertools.pairwise(curve):
        assert set(fewer["train"]) < set(more["train"])
    assert curve[-1] == full
    assert curve[0]["train"] != full["train"][:1] or curve[1]["train"] != full["train"][:2]  # chosen by the seed


def test_more_patients_than_there_are_besides_the_validation_are_refused():
    with pytest.raises(LungError, match="--train-patients 9: there are 8 besides 2 for validation"):
        split(train_patients=9)


def test_a_validation_of_fewer_than_three_patients_is_pointed_out_with_what_to_do():
    assert notes(share=0.3) == []
    (line,) = notes(share=0.2)
    assert line.startswith("warning: 2 patients for validation, fewer than 3")
    assert line.endswith("prepare more in step 2, or give a higher --validation-share")
    fold, line = notes(folds=10, fold=3)
    assert fold == f"fold 3 of folds 0 to 9; validation: {split(folds=10, fold=3)['val'][0]}"
    assert line.startswith("warning: 1 patient for validation")
    assert line.endswith("or give fewer --folds")


def test_patients_that_are_not_used_or_not_checked_on_are_said():
    first = split(folds=2, fold=0)["val"]
    _, seen = notes(folds=2, fold=0, seen=frozenset(first[:1]))
    assert seen == f"not checked on, since the weights of --init were trained on them: {first[0]}"
    assert notes(share=0.3, train_patients=4) == ["train_patients = 4: 3 patients not used"]
