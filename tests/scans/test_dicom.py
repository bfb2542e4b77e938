"""Scans from DICOM: order, HU, orientation, and what is odd about them."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest

from lungct import LungError
from lungct.phantom.lidc_tree import write_series, write_xray
from lungct.scans.dicom import find_parts, find_series, find_series_folders, open_series
from lungct.scans.hu import PADDING_HU
from lungct.scans.lidc import LidcScan

WHO = LidcScan("LIDC-IDRI-0001", "1.2.3", "1.2.3.4")
SPACING_MM = (2.5, 0.7, 0.9)


@pytest.fixture
def ct_hu() -> np.ndarray:
    return np.random.default_rng(1).integers(-1024, 2000, (5, 24, 32)).astype(np.int16)


def open_folder(folder):
    (files,) = find_series(folder).values()
    return open_series(files)


def test_series_is_sorted_and_in_hu(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    scan = open_folder(tmp_path)
    np.testing.assert_array_equal(scan.read(), ct_hu)
    np.testing.assert_array_equal(scan.read([3]), ct_hu[3:4])
    assert scan.frame.spacing_mm == SPACING_MM
    assert (scan.patient_id, len(scan), scan.frame.shape, scan.warnings) == ("LIDC-IDRI-0001", 5, (24, 32), ())


def test_prone_slices_are_turned(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu[:, ::-1, ::-1], SPACING_MM, ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
    np.testing.assert_array_equal(open_folder(tmp_path).read(), ct_hu)


def test_slices_of_a_patient_on_the_side_are_turned_with_their_spacing(tmp_path, ct_hu):
    lying = ct_hu.transpose(0, 2, 1)[:, ::-1]
    orientation = [0, 1, 0, -1, 0, 0]
    spacing_mm = (2.5, 0.9, 0.7)
    write_series(tmp_path, WHO, lying, spacing_mm, ImageOrientationPatient=orientation)
    scan = open_folder(tmp_path)
    np.testing.assert_array_equal(scan.read(), ct_hu)
    assert scan.frame.spacing_mm == SPACING_MM
    assert scan.frame.shape == (24, 32)


def test_duplicate_and_missing_slices_are_told(tmp_path, ct_hu):
    write_series(tmp_path / "a", WHO, ct_hu, SPACING_MM)
    (tmp_path / "a" / "1-003.dcm").unlink()
    (tmp_path / "a" / "copy.dcm").write_bytes((tmp_path / "a" / "1-002.dcm").read_bytes())
    scan = open_folder(tmp_path)
    np.testing.assert_array_equal(scan.read(), ct_hu[[0, 1, 3, 4]])
    assert "1 slice at a place already taken left out" in scan.warnings
    assert "slices missing in 1 place: gap of 5 mm after slice 1" in scan.warnings


@pytest.mark.parametrize("numbers", [(2, 7), (7, 2), (9, 10)])
def test_of_two_slices_at_one_place_the_lowest_instance_number_is_kept(tmp_path, ct_hu, numbers):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    first, second = tmp_path / "1-003.dcm", tmp_path / "0-again.dcm"
    for path, number, hu in ((second, numbers[1], -300), (first, numbers[0], -700)):
        dataset = pydicom.dcmread(first)
        dataset.InstanceNumber, dataset.SOPInstanceUID = number, f"1.2.9.{number}"
        stored = np.full((24, 32), hu - int(dataset.RescaleIntercept), np.int16)
        dataset.PixelData = stored.tobytes()
        dataset.save_as(path)
    kept_hu = -700 if numbers[0] < numbers[1] else -300
    assert np.unique(open_folder(tmp_path).read([2])).tolist() == [kept_hu]


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
def test_of_slices_at_one_place_the_lowest_instance_number_is_kept(tmp_path, ct_hu, numbers):
    """A hundredth of a millimetre is one place, more are two."""
    for name, number in zip("ab", numbers, strict=True):
        write_series(tmp_path / name, WHO, ct_hu[:1] * number, SPACING_MM)
        dataset = pydicom.dcmread(tmp_path / name / "1-001.dcm")
        dataset.InstanceNumber = number
        dataset.save_as(tmp_path / name / "1-001.dcm")
    np.testing.assert_array_equal(open_folder(tmp_path).read(), ct_hu[:1])
    dataset.ImagePositionPatient[2] += 0.05
    dataset.save_as(tmp_path / "b" / "1-001.dcm")
    assert len(find_parts(next(iter(find_series(tmp_path).values())))[0]) == 2


def move(folder, z_mm: list[float]) -> None:
    for path, z in zip(sorted(folder.glob("*.dcm")), z_mm, strict=True):
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient[2] = z
        dataset.save_as(path)


@pytest.mark.parametrize(
    ("z_mm", "warnings"),
    [
        ([0, 2.5, 5, 7.5, 10.24], ()),
        ([0, 2.5, 5, 7.5, 10.26], ("unequal slice spacing, 2.50 to 2.76 mm",)),
        ([0, 2.5, 5, 7.5, 11.24], ("unequal slice spacing, 2.50 to 3.74 mm",)),
        ([0, 2.5, 5, 7.5, 11.26], ("slices missing in 1 place: gap of 3.76 mm after slice 3",)),
    ],
)
def test_steps_that_differ_by_a_tenth_are_told(tmp_path, ct_hu, z_mm, warnings):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    move(tmp_path, z_mm)
    assert open_folder(tmp_path).warnings == warnings


@pytest.mark.parametrize(("thickness", "slice_mm"), [("0.05", 0.05), ("20", 20), ("0.04", 5), ("21", 5)])
def test_a_single_slice_is_as_thick_as_it_says_where_that_can_be(tmp_path, ct_hu, thickness, slice_mm):
    write_series(tmp_path, WHO, ct_hu[:1], SPACING_MM, SliceThickness=thickness)
    scan = open_folder(tmp_path)
    assert scan.frame.spacing_mm[0] == slice_mm
    told = f"a single slice of SliceThickness {thickness}: taken as 5 mm thick"
    assert scan.warnings == (() if float(thickness) == slice_mm else (told,))


def test_a_single_slice_that_does_not_say_how_thick_it_is_is_told(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu[:1], SPACING_MM, SliceThickness="")
    assert open_folder(tmp_path).warnings == ("a single slice of SliceThickness unknown: taken as 5 mm thick",)


@pytest.mark.parametrize(("cosine", "sine"), [(0.81, 0.5864), (0.79, 0.6131)])
def test_a_gantry_tilts_by_less_than_37_degrees(tmp_path, ct_hu, cosine, sine):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM, ImageOrientationPatient=[1, 0, 0, 0, cosine, -sine])
    if cosine > 0.8:
        assert len(open_folder(tmp_path)) == 5
    else:
        with pytest.raises(LungError, match="not axial"):
            open_folder(tmp_path)


def test_the_first_pixel_of_prone_slices_is_at_the_other_corner(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM, ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
    first = pydicom.dcmread(tmp_path / "1-001.dcm").ImagePositionPatient
    found = open_folder(tmp_path).frame.corners_mm
    np.testing.assert_allclose(found[0, :2], [first[0] - 31 * 0.9, first[1] - 23 * 0.7])


@pytest.mark.parametrize("kept_bytes", [0, 200, 380])  # nothing, within its own tags, just before the modality
def test_a_file_that_is_cut_off_before_its_modality_is_no_other_kind_of_image(tmp_path, ct_hu, kept_bytes):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    path = tmp_path / "1-005.dcm"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    unreadable = []
    (files,) = find_series(tmp_path, unreadable=unreadable).values()
    assert len(files) == 4
    assert len(unreadable) == 1
    assert str(unreadable[0]).startswith(str(path))


def test_a_table_of_contents_is_passed_over(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    path = tmp_path / "1-005.dcm"
    (tmp_path / "DICOMDIR").write_bytes(path.read_bytes()[:380])
    path.unlink()
    unreadable = []
    (files,) = find_series(tmp_path, unreadable=unreadable).values()
    assert (len(files), unreadable) == (4, [])


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of the bits that are not used
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("bits", [12, 13, 15])
def test_bits_that_are_not_stored_do_not_count(tmp_path, signed, bits):
    """They may hold an overlay, or no copy of the sign."""
    dirty = np.random.default_rng(3).integers(0, 2**16, (24, 32)).astype("<u2")
    tags = {"PixelRepresentation": signed, "BitsStored": bits, "HighBit": bits - 1, "PixelData": dirty.tobytes()}
    write_series(tmp_path, WHO, np.zeros((1, 24, 32), np.int16), SPACING_MM, RescaleIntercept=0, **tags)
    value = dirty.astype(int) % 2**bits
    expected = np.where(signed and value >= 2 ** (bits - 1), value - 2**bits, value)
    np.testing.assert_array_equal(open_folder(tmp_path).read()[0], expected)


def test_damaged_pixels_are_told_with_their_file(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    scan = open_folder(tmp_path)
    whole = (tmp_path / "1-002.dcm").read_bytes()
    (tmp_path / "1-002.dcm").write_bytes(whole[:-100])
    with pytest.raises(LungError, match=r"1-002\.dcm: cannot decode the pixels"):
        scan.read()
    small = tmp_path / "small"
    write_series(small, WHO, ct_hu[:, :20], SPACING_MM)
    (tmp_path / "1-002.dcm").write_bytes((small / "1-002.dcm").read_bytes())
    with pytest.raises(LungError, match=r"1-002\.dcm: 20 x 32 pixels, but its header says \(24, 32\)"):
        scan.read()


def test_a_damaged_file_is_raised_or_noted_and_the_others_are_found(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    (tmp_path / "1-001.dcm").write_bytes((tmp_path / "1-001.dcm").read_bytes()[:153])
    with pytest.raises(LungError, match=r"1-001\.dcm: cannot read its header"):
        find_series(tmp_path)
    unreadable = []
    (files,) = find_series(tmp_path, unreadable=unreadable).values()
    assert len(files) == 4
    assert ["1-001.dcm" in str(error) for error in unreadable] == [True]


def test_slices_of_many_frames_that_do_not_say_where_are_refused(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    (files,) = find_series(tmp_path).values()
    files[1][1].values["NumberOfFrames"] = "1"
    assert len(open_series(files)) == 5
    files[1][1].values["NumberOfFrames"] = "2"
    with pytest.raises(LungError, match="multi-frame file that does not say where its frames lie"):
        open_series(files)


def test_slice_spacing_is_the_usual_step_where_a_slice_is_missing(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    (tmp_path / "1-003.dcm").unlink()
    assert open_folder(tmp_path).frame.spacing_mm == SPACING_MM  # and not 5 mm, the longest


def test_xray_and_other_files_are_left_alone(tmp_path, ct_hu):
    write_series(tmp_path / "ct", WHO, ct_hu, SPACING_MM)
    write_xray(tmp_path / "dx", WHO)
    (tmp_path / "LICENSE.txt").write_text("words")
    assert list(find_series(tmp_path)) == [("LIDC-IDRI-0001", "1.2.3", "1.2.3.4")]


@pytest.mark.parametrize("layout", ["1.2.3/1.2.3.4", "01-01-2000-NA/3000000-NA"])
def test_series_folder_is_found_in_both_layouts(tmp_path, ct_hu, layout):
    write_xray(tmp_path / "01-01-2000-NA" / "1000000-NA", WHO)
    write_series(tmp_path / layout, WHO, ct_hu, SPACING_MM)
    assert find_series_folders(tmp_path, "1.2.3.4") == (tmp_path / layout,)
    assert find_series_folders(tmp_path, "9.9") == ()


def test_all_folders_of_a_series_are_found(tmp_path, ct_hu):
    for folder in ("0/0", "1.2.3/1.2.3.4", "9/9"):
        write_series(tmp_path / folder, WHO, ct_hu, SPACING_MM)
    write_series(tmp_path / "9/9", replace(WHO, series_uid="9.9"), ct_hu[:1], SPACING_MM)  # in the place of its first
    found = find_series_folders(tmp_path, "1.2.3.4")
    assert found == (tmp_path / "0/0", tmp_path / "1.2.3/1.2.3.4", tmp_path / "9/9")


def test_sagittal_slices_are_refused(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    with pytest.raises(LungError, match="not axial"):
        open_folder(tmp_path)


def test_missing_tags_are_named_with_their_file(tmp_path, ct_hu):
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    ((path, header), *rest) = next(iter(find_series(tmp_path).values()))
    del header.values["PixelSpacing"]
    with pytest.raises(LungError, match=r"1-001\.dcm: no PixelSpacing"):
        open_series([(path, header), *rest])


@pytest.mark.parametrize(
    ("along_table", "slice_mm"),
    [(False, 2.5), (True, 2.5 * 12 / 13)],
    ids=["oblique stack", "tilted gantry"],
)
def test_slices_are_as_far_apart_as_their_planes(tmp_path, ct_hu, along_table, slice_mm):
    down = np.array([0, 12, 5]) / 13  # 23 degrees
    step = np.array([0, 0, 2.5]) if along_table else 2.5 * np.cross([1, 0, 0], down)
    write_series(tmp_path, WHO, ct_hu, SPACING_MM, ImageOrientationPatient=[1, 0, 0, *down.round(10).tolist()])
    for k, path in enumerate(sorted(tmp_path.glob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient = (k * step).round(8).tolist()
        dataset.save_as(path)
    frame = open_folder(tmp_path).frame
    np.testing.assert_allclose(frame.spacing_mm, (slice_mm, *SPACING_MM[1:]), atol=1e-6)
    np.testing.assert_allclose(frame.extents_mm, slice_mm, atol=1e-6)  # the product of a voxel's sides is its volume


OUTSIDE, BONE_HU = np.s_[:, :3], 3000


@pytest.mark.parametrize(
    ("stored", "vr", "value", "limit", "hu"),
    [
        (32767, "SS", 32767, None, PADDING_HU),
        (32767, "US", 32767, None, PADDING_HU),
        (32000, "SS", 31000, 32767, PADDING_HU),
        (32000, "SS", 32767, 31000, PADDING_HU),
        (31000, "SS", 32767, None, 31000 - 1024),  # not what the header names
        (32767, "SS", 31000, None, 32767 - 1024),
        (32767, "SS", None, None, 32767 - 1024),
        (32767, "SS", None, 32767, 32767 - 1024),  # the limit alone says nothing
        (4095, "SS", 4095, None, PADDING_HU),  # 3071 HU, where CT is clipped
        (4094, "SS", 4094, None, 3070),  # may be bone
        (1024, "SS", 1024, None, 0),  # and this water
        (0, "SS", 0, None, -1024),
        (-2000, "SS", -2000, None, -3024),  # low padding is left as it is
        (-2000, "US", 63536, None, -3024),
    ],
)
def test_padding_as_dense_as_no_tissue_becomes_padding_below_air(tmp_path, ct_hu, stored, vr, value, limit, hu):
    ct_hu[OUTSIDE] = stored - 1024
    ct_hu[0, 10, 10] = BONE_HU
    write_series(tmp_path, WHO, ct_hu, SPACING_MM)
    for path in tmp_path.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        for tag, number in (("PixelPaddingValue", value), ("PixelPaddingRangeLimit", limit)):
            if number is not None:
                dataset.add_new(tag, vr, number)
        dataset.save_as(path)
    expected = ct_hu.copy()
    expected[OUTSIDE] = hu
    np.testing.assert_array_equal(open_folder(tmp_path).read(), expected)
