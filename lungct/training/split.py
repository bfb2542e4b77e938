"""Which patients a network learns from, and which it is validated on."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lungct import LungError
from lungct.parallel import count, some_of

NO_FOLD = -1
MIN_VALIDATION = 3  # patients; of fewer, a single unusual one decides which weights are kept


@dataclass(frozen=True)
class SplitOptions:
    """How to split. Raises LungError where folds and fold do not go together.

    share:          of the patients, kept for validation where there are no folds
    folds, fold:    equal parts of the patients, and the one that is validated on, counted from 0
    train_patients: how many to learn from; 0: all who are not validated on
    seen:           patients whom the weights to start from have learned from; they are not validated on
    """

    share: float
    seed: int
    folds: int = 0
    fold: int = NO_FOLD
    train_patients: int = 0
    seen: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.folds and self.fold == NO_FOLD:
            return
        if not self.folds:
            raise LungError(f"--fold {self.fold} goes with --folds N, the number of parts; give both, or neither")
        if self.folds == 1:
            raise LungError("--folds 1: one part would leave no patient to learn from; give 2 or more")
        known = f"they are counted from 0 to {self.folds - 1}"
        if self.fold == NO_FOLD:
            raise LungError(f"--folds {self.folds} goes with --fold K, the part to validate on; {known}")
        if self.fold >= self.folds:
            raise LungError(f"--fold {self.fold}: there are {self.folds} folds; {known}")


def split_patients(patients: Iterable[str], options: SplitOptions) -> dict[str, list[str]]:
    """Patient IDs by part, `train` and `val`, sorted; the seed decides, and not the order in which they come.

    Of one seed, the folds do not overlap and hold every patient; the patients to learn from, where they are limited,
    are among those of any higher limit, and those to validate on do not depend on it.
    Raises LungError where there are too few patients.
    """
    order = shuffle_patients(patients, options.seed)
    if len(order) < 2:
        raise LungError(f"{len(order)} patient is too few to train: one is needed for training and one for validation")
    held_out = set(choose_fold(order, options) if options.folds else choose_share(order, options))
    rest = [name for name in order if name not in held_out]
    if options.train_patients > len(rest):
        raise LungError(
            f"--train-patients {options.train_patients}: there are {len(rest)} besides {len(held_out)} for validation; "
            "prepare more in step 2, or give a smaller number"
        )
    return {"train": sorted(rest[: options.train_patients or None]), "val": sorted(held_out)}


def shuffle_patients(patients: Iterable[str], seed: int) -> list[str]:
    """Each patient once, in an order that the seed decides."""
    return np.random.default_rng(seed).permutation(sorted(set(patients))).tolist()


def choose_share(order: list[str], options: SplitOptions) -> list[str]:
    """The first ones of a shuffled list whom the first weights have not seen. Raises LungError where they saw all."""
    unseen = [name for name in order if name not in options.seen]
    if not unseen:
        raise LungError("the weights of --init were trained on all of these patients: add others for validation")
    return unseen[: min(len(order) - 1, max(1, round(options.share * len(order))))]


def choose_fold(order: list[str], options: SplitOptions) -> list[str]:
    """The patients of one fold whom the first weights have not seen. Raises LungError where they saw all of them."""
    fold = fold_members(order, options)
    unseen = [name for name in fold if name not in options.seen]
    if not unseen:
        raise LungError(
            f"the weights of --init were trained on all patients of fold {options.fold} ({some_of(sorted(fold))}); "
            "start from others, or without --init"
        )
    return unseen


def fold_members(order: list[str], options: SplitOptions) -> list[str]:
    """All patients of one fold of a shuffled list. Raises LungError for fewer patients than folds."""
    if len(order) < options.folds:
        raise LungError(f"--folds {options.folds}: {count(len(order), 'patient')} cannot fill them; give fewer folds")
    return np.array_split(order, options.folds)[options.fold].tolist()


def split_notes(patients: Iterable[str], options: SplitOptions, split: dict[str, list[str]]) -> list[str]:
    """What a user should know of a split, a line each."""
    order, val, notes = shuffle_patients(patients, options.seed), split["val"], []
    if options.folds:
        notes.append(f"fold {options.fold} of folds 0 to {options.folds - 1}; validation: {some_of(val)}")
        if seen := options.seen.intersection(fold_members(order, options)):
            notes.append(f"not checked on, since the weights of --init were trained on them: {some_of(sorted(seen))}")
    if left := len(order) - len(split["train"]) - len(val):
        notes.append(f"train_patients = {options.train_patients}: {count(left, 'patient')} not used")
    if len(val) < MIN_VALIDATION:
        remedy = "fewer --folds" if options.folds else "a higher --validation-share"
        notes.append(
            f"warning: {count(len(val), 'patient')} for validation, fewer than {MIN_VALIDATION}: the best epoch and "
            f"its Dice depend on single patients; prepare more in step 2, or give {remedy}"
        )
    return notes
