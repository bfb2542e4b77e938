"""Which slices make one scan: by whom, which grid, which line, which pass; and what is no scan."""

import numpy as np
import pydicom
import pytest

from lungct import LungError
from lungct.phantom.lidc_tree import write_series
from lungct.scans.dicom import find_parts, find_series, open_series
from lungct.scans.headers import Header
from lungct.scans.lidc import LidcScan
from lungct.scans.series import describe_part, identifies, never_a_scan, patient_of, second_choice

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
