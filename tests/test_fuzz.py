"""A few hundred damaged files: only our own errors may come out. More of them: `make soak`."""

import pytest
from fuzz import READERS, survives

SEEDS = 50


@pytest.mark.parametrize("name", READERS)
def test_damaged_input_is_read_or_refused(name, tmp_path):
    read = [survives(name, tmp_path / str(seed), seed) for seed in range(SEEDS)]
    assert not all(read), "nothing was refused: the damage does not reach the reader"


@pytest.mark.parametrize(("reader", "seed"), [("dicom_bytes", 811)])  # a value representation that pydicom lacks
def test_what_once_ended_in_a_foreign_error_no_longer_does(tmp_path, reader, seed):
    survives(reader, tmp_path / reader, seed)
