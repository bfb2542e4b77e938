"""Which patients of one folder are kept apart to test on.

A patient's place follows from the ID and the seed alone: it is the same in every command, and whatever patients are
added later. In return, the share is met on average only.
"""

from collections import Counter
from pathlib import Path

from lungct import LungError
from lungct.files import short_hash
from lungct.parallel import some_of
from lungct.scans.dicom import DicomScan
from lungct.scans.find import Job
from lungct.scans.nifti import has_ending
from lungct.slices import STEP_2, STEP_4, read_manifest

HASHES = 16**8  # of `short_hash`
ANYBODY = (
    "warning: PatientIDs without a digit may be of anybody: each of their studies is taken for a patient, also where"
    " two are of one"
)


def is_held_out(patient_id: str, share: float, seed: int) -> bool:
    """Whether a patient is kept to test on."""
    return int(short_hash(f"{seed} {patient_id}"), 16) < share * HASHES


def hold_out(jobs: list[Job], share: float, seed: int) -> tuple[list[Job], list[Job]]:
    """(Scans to train on, scans to test on), of whole patients. Raises LungError where either has none."""
    test = [job for job in jobs if is_held_out(job.patient_id, share, seed)]
    train = [job for job in jobs if not is_held_out(job.patient_id, share, seed)]
    if not train or not test:
        raise LungError(
            f"test_share = {share:g} holds out {len(patients_of(test))} of {len(patients_of(jobs))} patients, each by "
            "a hash of the ID; give another --test-share or --test-seed to step 2 and to step 4"
        )
    return train, test


def choose_part(jobs: list[Job], share: float, seed: int, test: bool, other: Path) -> tuple[list[Job], list[str]]:
    """(The scans to test on, or else those to train on; what to say of it, a line each).

    other: manifest of the other part's slices. Raises LungError for patients to test on who are trained on there, and
    where a manifest of training slices is there but does not say whose they are.
    """
    parts = hold_out(jobs, share, seed)
    held_out = patients_of(parts[1])
    found = f"{len(held_out)} of {len(patients_of(jobs))} patients: {some_of(held_out)}"
    later = "" if test else "; step 4 takes them with the same test_share and test_seed"
    notes = [f"held out to test on (test_share = {share:g}, test_seed = {seed}): {found}{later}"]
    try:
        rows = read_manifest(other, STEP_2 if test else STEP_4) if other.is_file() else []
    except LungError as error:
        if test:
            raise
        return parts[test], [*notes, f"warning: {error}"]  # step 4 refuses what it must, once it is run
    prepared = {row.patient_id for row in rows}
    shared = some_of([name for name in patients_of(parts[test]) if name in prepared])
    if shared and test:
        raise LungError(
            f"to test on, but in the training slices of {other}: {shared}; run step 2 first, with the same "
            "--test-share and --test-seed and without --add, and train again"
        )
    if any(isinstance(job.source, Path) and has_ending(job.source) for job in jobs):
        notes.append("patients are told apart by the names of their files: P1_2019 and P1_2020 would be two")
    if words := shared_words(jobs):
        notes.append(f"{ANYBODY}: {some_of(words)}")
    if shared:
        notes.append(f"to train on now, and still in the test slices of {other}: {shared}; run step 4 again")
    return parts[test], notes


def patients_of(jobs: list[Job]) -> list[str]:
    """Their patients, sorted."""
    return sorted({job.patient_id for job in jobs})


def shared_words(jobs: list[Job]) -> list[str]:
    """The PatientIDs that `patient_of` took for those of several patients, one a study, sorted."""
    scans = {job.patient_id: job.source for job in jobs if isinstance(job.source, DicomScan)}
    ends = {name: f"-{short_hash(scan.study_uid)}" for name, scan in scans.items()}
    words = Counter(name.removesuffix(end) for name, end in ends.items() if name.endswith(end))
    return sorted(word for word, studies in words.items() if studies > 1)
