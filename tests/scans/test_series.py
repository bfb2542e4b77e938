"""Which slices make one scan: by whom, which grid, which line, which pass; and what is no scan."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from lungct import LungError
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import find_parts, find_series, open_series
from lungct.scans.headers import Header
from lungct.scans.lidc import LidcScan
from lungct.scans.series import (
    count_within,
    describe_part,
    grid_of,
    identifies,
    is_same_grid,
    label_lines,
    natural_order,
    never_a_scan,
    patient_of,
    place_of,
    rank,
    second_choice,
    split_by_line,
    split_by_pass,
    split_series,
    tell_difference,
)

WHO = LidcScan("P1", "1.2.3", "1.2.3.4")
SPACING_MM = (2.5, 0.7, 0.7)
CT_HU = np.random.default_rng(1).integers(-1024, 1000, (8, 6, 9)).astype(np.int16)


def write(folder, edits=None, **tags):
    """Eight slices; `edits` says by slice, from the feet, what is other."""
    write_series(folder, WHO, CT_HU, SPACING_MM, **tags)
    for k in range(len(CT_HU)):
        change = edits(k) if edits else None
        if change:
            edit(folder / f"1-{k + 1:03d}.dcm", **change)


def edit(path, **tags):
    dataset = pydicom.dcmread(path)
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    dataset.save_as(path)


def open_one(folder):
    (files,) = find_series(folder).values()
    return open_series(files)


def sizes(folder):
    (files,) = find_series(folder).values()
    return [len(part) for part in find_parts(files)]


@pytest.mark.parametrize(
    ("patient_id", "answer"),
    [
        *(("P1", True), ("P0", True), ("1001", True), ("LIDC-IDRI-0001", True)),
        *(("0", False), ("000", False), ("", False), ("ANONYMOUS", False), ("张三", False)),
    ],
)
def test_an_id_identifies_with_a_digit(patient_id, answer):
    assert identifies(patient_id) == answer


def test_who_has_no_id_is_one_patient_a_study():
    names = [patient_of(Header({"PatientID": who, "StudyInstanceUID": uid})) for who in ("", "ANON") for uid in "123"]
    assert len(set(names)) == 6
    assert patient_of(Header({"PatientID": " P1 ", "StudyInstanceUID": "1"})) == "P1"


def test_equal_series_uids_of_two_people_are_two_series(tmp_path):
    write(tmp_path / "a")
    write_series(tmp_path / "b", LidcScan("P2", "1.2.3", "1.2.3.4"), CT_HU, SPACING_MM)
    write_series(tmp_path / "c", LidcScan("P2", "1.2.9", "1.2.3.4"), CT_HU, SPACING_MM)
    assert [len(files) for files in find_series(tmp_path).values()] == [8, 8, 8]


def test_another_pixel_spacing_is_left_out_and_named(tmp_path):
    write(tmp_path, lambda k: {"PixelSpacing": [0.35, 0.35]} if k >= 5 else None)
    scan = open_one(tmp_path)
    np.testing.assert_array_equal(scan.read(), CT_HU[:5])
    assert scan.frame.spacing_mm == SPACING_MM
    assert scan.warnings == ("3 slices left out: pixels of 0.35 x 0.35 mm, not 0.7 x 0.7 mm",)


def test_numbers_that_differ_in_their_last_digits_are_one_grid(tmp_path):
    noise = {"PixelSpacing": [0.70002, 0.69999], "ImageOrientationPatient": [0.9999999, 0.0004996, 0, 0, 1, 0.0005004]}
    write(tmp_path, lambda k: {**noise, "ImagePositionPatient": [0.05, 0.2, 2.5 * k]} if k % 2 else None)
    assert sizes(tmp_path) == [8]


def test_a_shift_within_a_series_is_seen(tmp_path):
    write(tmp_path, lambda k: {"ImagePositionPatient": [30, 0, 2.5 * k]} if k >= 6 else None)
    scan = open_one(tmp_path)
    np.testing.assert_array_equal(scan.read(), CT_HU[:6])
    assert scan.warnings == ("2 slices left out: shifted in the plane, begin at x 30.0, y 0.0 mm, not x 0.0, y 0.0 mm",)


def test_another_reconstruction_between_the_slices_is_left_out(tmp_path):
    write(tmp_path, lambda k: {"ImagePositionPatient": [12, 7, 2.5 * k]} if k % 2 and k > 1 else None)
    assert sizes(tmp_path) == [5, 3]


@pytest.mark.parametrize("slope", [0.0, -0.2679, 0.2679, 0.5])
def test_a_tilted_gantry_moves_y_with_z(tmp_path, slope):
    orientation = [1, 0, 0, 0, 0.9659, -0.2588]
    write(
        tmp_path, lambda k: {"ImagePositionPatient": [0, slope * 2.5 * k, 2.5 * k]}, ImageOrientationPatient=orientation
    )
    scan = open_one(tmp_path)
    assert (len(scan), scan.warnings) == (8, ())


@pytest.mark.parametrize("tag", ["AcquisitionNumber", "TemporalPositionIdentifier", "ConvolutionKernel"])
def test_passes_over_the_same_places_are_apart(tmp_path, tag):
    values = ("B30f", "B70f") if tag == "ConvolutionKernel" else (1, 2)
    write(tmp_path / "a", **{tag: values[0]})
    write_series(tmp_path / "b", WHO, CT_HU[::-1][:5], SPACING_MM, **{tag: values[1]})
    assert sizes(tmp_path) == [8, 5]
    scan = open_one(tmp_path)
    np.testing.assert_array_equal(scan.read(), CT_HU)
    assert scan.warnings == (f"5 slices left out: {tag} {values[1]}, not {values[0]}, at the same places",)


def test_slices_of_a_short_phase_take_no_place_of_a_long_one_whichever_comes_first(tmp_path):
    write_series(tmp_path / "a", WHO, CT_HU[::-1][:3], SPACING_MM, TemporalPositionIdentifier=1)
    write(tmp_path / "b", TemporalPositionIdentifier=2)
    assert sizes(tmp_path) == [8, 3]
    np.testing.assert_array_equal(open_one(tmp_path).read(), CT_HU)


def test_acquisitions_that_follow_each_other_are_one_scan(tmp_path):
    write(tmp_path, lambda k: {"AcquisitionNumber": 1 + k // 2})
    assert sizes(tmp_path) == [8]


def test_phases_at_each_table_position_make_as_many_scans(tmp_path):
    for phase in range(3):
        write(tmp_path / str(phase), lambda k, phase=phase: {"AcquisitionNumber": 1 + 3 * (k // 2) + phase})
    assert sizes(tmp_path) == [8, 8, 8]


def test_parts_are_described_each_by_its_own(tmp_path):
    for phase in range(3):
        write(tmp_path / str(phase), AcquisitionNumber=phase)
    (files,) = find_series(tmp_path).values()
    assert len({describe_part(part) for part in find_parts(files)}) == 3


@pytest.mark.parametrize(
    ("image_type", "never", "second"),
    [
        ("ORIGINAL\\PRIMARY\\AXIAL", False, False),
        ("DERIVED\\PRIMARY\\AXIAL", False, False),
        ("DERIVED\\SECONDARY\\AXIAL\\CT_SOM5 SPI", False, False),
        ("ORIGINAL\\PRIMARY", False, False),
        ("", False, False),
        ("DERIVED\\SECONDARY\\MPR", False, True),
        ("DERIVED\\SECONDARY\\REFORMATTED\\AVERAGE", False, True),
        ("DERIVED\\SECONDARY", False, True),
        ("DERIVED\\SECONDARY\\AXIAL\\MIP", True, False),
        ("DERIVED\\PRIMARY\\PROJECTION IMAGE\\MINIP", True, True),
        ("ORIGINAL\\PRIMARY\\LOCALIZER", True, False),
        ("ORIGINAL\\PRIMARY\\AXIAL\\CLIP", False, False),
    ],
)
def test_what_image_types_are_scans(image_type, never, second):
    header = Header({"ImageType": image_type})
    assert (bool(never_a_scan(header)), bool(second_choice(header)) and not never) == (never, second and not never)


def test_a_picture_stored_as_ct_is_no_scan(tmp_path):
    assert "secondary capture" in never_a_scan(Header({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}))
    write(tmp_path, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    with pytest.raises(LungError, match="a picture and not CT"):
        open_one(tmp_path)


def test_projections_under_the_uid_of_the_scan_are_left_out_though_they_are_more(tmp_path):
    mip = {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MIP"]}
    write(tmp_path, lambda k: mip if k >= 3 else None)
    scan = open_one(tmp_path)
    assert len(scan) == 3
    assert scan.warnings[0].startswith("5 slices left out: ImageType DERIVED\\SECONDARY\\AXIAL\\MIP")


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of the last
@pytest.mark.parametrize("spacing_mm", [0.0007, 700, "nan"])
def test_a_pixel_of_another_unit_is_refused_with_its_number(tmp_path, spacing_mm):
    write(tmp_path, PixelSpacing=[spacing_mm, spacing_mm])
    with pytest.raises(LungError, match=f"rows {spacing_mm} mm apart"):
        open_one(tmp_path)


def test_slices_metres_apart_are_refused(tmp_path):
    write(tmp_path, lambda k: {"ImagePositionPatient": [0, 0, 2500 * k]})
    with pytest.raises(LungError, match="slices 2500 mm apart"):
        open_one(tmp_path)


@pytest.mark.parametrize("thickness", ["0", "", "700"])
def test_a_single_slice_without_thickness_is_taken_as_5_mm_and_said(tmp_path, thickness):
    write_series(tmp_path, WHO, CT_HU[:1], SPACING_MM, SliceThickness=thickness)
    scan = open_one(tmp_path)
    assert scan.frame.spacing_mm[0] == 5.0
    assert "taken as 5 mm thick" in scan.warnings[0]


def test_thickness_of_several_slices_does_not_count(tmp_path):
    write(tmp_path, SliceThickness="0")
    scan = open_one(tmp_path)
    assert (scan.frame.spacing_mm[0], scan.warnings) == (2.5, ())


def make_slice(z_mm: float, x_mm: float = 0.0, y_mm: float = 0.0, **tags) -> tuple[Path, Header]:
    """A slice of 6 x 9 pixels of 0.7 x 0.9 mm whose header says so, and what `tags` change."""
    values = {
        "Rows": "6",
        "Columns": "9",
        "PixelSpacing": "0.7\\0.9",
        "ImageOrientationPatient": "1\\0\\0\\0\\1\\0",
        "ImagePositionPatient": f"{x_mm}\\{y_mm}\\{z_mm}",
        "RescaleSlope": "1",
        "RescaleIntercept": "-1024",
        **tags,
    }
    return Path(f"{z_mm}"), Header(values)


GRID = [6, 9, 0.7, 0.9, 1, 0, 0, 0, 1, 0]


def test_grid_and_place_are_numbers_of_the_header():
    assert grid_of(make_slice(2.5)[1]) == GRID
    assert place_of(make_slice(2.5, -3, 4)[1]) == [-3, 4, 2.5]
    for change in ({"PixelSpacing": "0.7"}, {"ImageOrientationPatient": "1\\0\\0"}):
        with pytest.raises(ValueError, match="not have the right number of values"):
            grid_of(make_slice(0, **change)[1])
    with pytest.raises(ValueError, match="not have three values"):
        place_of(make_slice(0, ImagePositionPatient="1\\2")[1])


@pytest.mark.parametrize(
    ("place", "value", "answer"),
    [
        *((0, 7, False), (1, 10, False)),
        *((2, 0.7006, True), (2, 0.7008, False), (2, 0.6992, False), (3, 0.9008, True), (3, 0.9010, False)),
        *((4, 0.9951, True), (4, 0.9949, False), (9, 0.0049, True), (9, -0.0051, False)),
    ],
)
def test_a_thousandth_of_the_spacing_and_a_third_of_a_degree_are_one_grid(place, value, answer):
    assert is_same_grid([*GRID[:place], value, *GRID[place + 1 :]], GRID) == answer


@pytest.mark.parametrize("axis", [0, 1])
def test_places_without_a_gap_between_them_are_on_one_line(axis):
    places_mm = np.zeros((5, 2))
    places_mm[:, axis] = [2, 0, 5, 1, 3.5]
    assert label_lines(places_mm, 1.0).tolist() == [0, 0, 2, 0, 1]
    assert label_lines(places_mm, 1.5).tolist() == [0] * 5
    assert label_lines(places_mm, 0.9).tolist() == [2, 0, 4, 1, 3]


@pytest.mark.parametrize("spacing", ["0.7\\0.9", "0.9\\0.7"])
@pytest.mark.parametrize(("shift_mm", "sizes"), [(0.34, [8]), (0.36, [6, 2])])
def test_slices_off_the_line_by_half_a_pixel_are_apart(spacing, shift_mm, sizes):
    for axis in ("x_mm", "y_mm"):
        slices = [make_slice(2.5 * k, **{axis: shift_mm * (k >= 6)}, PixelSpacing=spacing) for k in range(8)]
        assert [len(part) for part in split_by_line(slices)] == sizes


def test_three_slices_lie_on_a_line_of_any_slope_where_their_steps_are_alike():
    assert [len(part) for part in split_by_line([make_slice(2.5 * k, x_mm=k) for k in range(3)])] == [3]
    bent = [make_slice(2.5 * k, x_mm=x_mm) for k, x_mm in enumerate((0, 1, 3))]
    assert len(split_by_line(bent)) > 1


def test_two_slices_of_a_tilted_gantry_lie_on_its_line_or_are_two_scans():
    tilted = "1\\0\\0\\0\\0.8\\-0.6"  # the normal goes 0.6 mm to the back for 0.8 mm to the head
    along, off = ([make_slice(0), make_slice(4, y_mm=y_mm)] for y_mm in (3, 2))
    for slices, count in ((along, 1), (off, 2)):
        for _, header in slices:
            header.values["ImageOrientationPatient"] = tilted
        assert len(split_by_line(slices)) == count


@pytest.mark.parametrize(("z_mm", "count"), [(-0.005, 1), (-0.02, 0), (5.005, 1), (5.02, 0), (7, 0), (8, 1)])
def test_places_within_a_range_count_with_a_hundredth_of_a_millimetre(z_mm, count):
    assert count_within([z_mm], [(0.0, 5.0), (7.5, 9.0)]) == count


@pytest.mark.parametrize(("places", "sizes"), [([2, 3, 4, 5], [8]), ([1, 2, 3, 4], [4, 4])])
def test_a_pass_that_overlaps_another_by_more_than_half_is_another_scan(places, sizes):
    first = [make_slice(z, AcquisitionNumber="1") for z in range(4)]
    second = [make_slice(z, AcquisitionNumber="2") for z in places]
    assert [len(part) for part in split_by_pass(second + first, "AcquisitionNumber")] == sizes


def test_numbers_come_in_their_order_and_before_words():
    assert sorted(["B70f", "10", "9", "", "B30f"], key=natural_order) == ["9", "10", "", "B30f", "B70f"]


def test_an_original_comes_before_more_slices_of_a_copy_and_those_before_pictures():
    original = [make_slice(z) for z in range(2)]
    larger = [make_slice(z, x_mm=90) for z in range(3)]
    copy = [make_slice(z, ImageType="DERIVED\\SECONDARY") for z in range(4)]
    dose = [make_slice(z, ImageType="ORIGINAL\\PRIMARY\\DOSE_INFO") for z in range(5)]
    assert [rank(part) for part in (original, copy, dose)] == [0, 1, 2]
    assert [len(part) for part in split_series(dose + copy + original + larger)] == [3, 2, 4, 5]


def test_files_of_one_frame_are_told_apart_and_those_of_many_are_not():
    for frames, sizes in (("1", [3, 2]), ("2", [5])):
        slices = [make_slice(z, x_mm=90 * (z > 2), NumberOfFrames=frames) for z in range(5)]
        assert [len(part) for part in split_series(slices)] == sizes


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"Rows": "7"}, "7 x 9 pixels, not 6 x 9"),
        ({"Columns": "8"}, "6 x 8 pixels, not 6 x 9"),
        ({"ImageOrientationPatient": "1\\0\\0\\0\\0.8\\-0.6"}, "another direction"),
        ({"PixelSpacing": "0.7\\0.5"}, "pixels of 0.7 x 0.5 mm, not 0.7 x 0.9 mm"),
        ({"AcquisitionNumber": "2"}, "AcquisitionNumber 2, not none, at the same places"),
        ({"x_mm": 7}, "shifted in the plane, begin at x 7.0, y 0.0 mm, not x 0.0, y 0.0 mm"),
        ({"PixelSpacing": ""}, "no PixelSpacing in the header"),
        ({"ImageType": "DERIVED\\SECONDARY"}, "ImageType DERIVED\\SECONDARY, made from another series"),
        ({"ImageType": "LOCALIZER"}, "ImageType LOCALIZER, no slices in HU"),
    ],
)
def test_what_sets_a_part_apart_is_told(change, told):
    assert tell_difference([make_slice(0, **change)], [make_slice(0), make_slice(5)]) == told


def test_two_kinds_of_copies_are_told_from_each_other():
    kinds = ["DERIVED\\SECONDARY\\MPR", "DERIVED\\SECONDARY\\REFORMATTED"]
    one, other = ([make_slice(0, ImageType=kind)] for kind in kinds)
    assert tell_difference(one, other) == f"ImageType {kinds[0]}, made from another series"
    assert tell_difference(other, one) == f"ImageType {kinds[1]}, made from another series"


def test_a_part_is_described_by_its_lowest_place_whatever_the_order():
    slices = [make_slice(z, x_mm=z) for z in (5.0, 2.5, 7.5)]
    assert describe_part(slices) == describe_part(slices[::-1])
    assert "2.5 0.0" in describe_part(slices)
    assert describe_part([make_slice(0, PixelSpacing="")]) == ""
