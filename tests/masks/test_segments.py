"""The names, colours and codes of what masks mark."""

import numpy as np
import pytest

from lungct import LungError
from lungct.masks.read_dicom import is_lung_name
from lungct.masks.segments import SIDES, WHOLE, check_values
from lungct.slices import LEFT, RIGHT


def test_names_are_read_back_as_lungs():
    for segment in WHOLE + SIDES:
        assert is_lung_name(segment.name)
        assert is_lung_name(segment.roi_name)


def test_right_and_left_are_what_the_split_calls_them():
    by_value = {segment.value: segment for segment in SIDES}
    assert (by_value[RIGHT].name, by_value[RIGHT].roi_name) == ("Right lung", "Lung_R")
    assert (by_value[LEFT].name, by_value[LEFT].roi_name) == ("Left lung", "Lung_L")
    assert (by_value[RIGHT].side.value, by_value[LEFT].side.value) == ("24028007", "7771000")
    assert [segment.side for segment in WHOLE] == [None]


@pytest.mark.parametrize(("highest", "segments", "known"), [(0, WHOLE, True), (1, WHOLE, True), (2, SIDES, True)])
def test_values_of_the_segments_are_taken(highest, segments, known):
    check_values(np.full((1, 2, 3), highest, np.uint8), segments)


@pytest.mark.parametrize(("highest", "segments"), [(2, WHOLE), (3, SIDES)])
def test_a_value_without_a_name_is_refused(highest, segments):
    with pytest.raises(LungError, match=f"the value {highest}, but only"):
        check_values(np.full((1, 2, 3), highest, np.uint8), segments)
