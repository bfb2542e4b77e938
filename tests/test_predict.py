"""A network to lungs: batches, precision, pixels of another size, and what is no volume."""

import warnings
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from conftest import small_patient

from lungct import LungError
from lungct.evaluation.metrics import dice
from lungct.masks.read_dicom import read_dicom_label
from lungct.phantom.lidc_tree import write_series
from lungct.predict import (
    Predictor,
    Segmentation,
    for_prediction,
    has_slices_last,
    predict_in_body,
    predict_slices,
    predict_with_doubt,
    read_ct,
    segment,
    segment_file,
    segment_volume,
)
from lungct.scans.dicom import find_series, open_series
from lungct.scans.lidc import LidcScan
from lungct.segmentation.body import find_body
from lungct.weights import Model, integer_scale

CPU = torch.device("cpu")
SPACING_MM = (5.0, 3.0, 4.0)
MODEL = Model(width=4, depth=2, patch=2, normalise=True, window_hu=(-1000, 600), pixel_mm=0.8)


def test_prediction_does_not_depend_on_the_batch_and_keeps_odd_shapes():
    torch.manual_seed(1)
    network = MODEL.build().eval()
    ct_hu = np.random.default_rng(1).integers(-1024, 1000, (11, 37, 50)).astype(np.int16)
    whole = predict_slices(network, ct_hu, MODEL.window_hu)
    single = np.concatenate([predict_slices(network, ct_hu[z : z + 1], MODEL.window_hu) for z in range(11)])
    assert whole.shape == ct_hu.shape
    assert (whole == single).mean() > 0.999


def test_bfloat16_gives_nearly_the_same():
    torch.manual_seed(2)
    network = MODEL.build().eval()
    ct_hu = np.random.default_rng(1).integers(-1024, 1000, (2, 40, 52)).astype(np.int16)
    full, half = (predict_slices(for_prediction(network, CPU, amp), ct_hu, MODEL.window_hu) for amp in (False, True))
    assert (full == half).mean() > 0.95


@pytest.mark.parametrize(
    ("ct_mm", "zoom"), [(0.8, 1), (0.6, 1), (1.1, 1), (1.6, 2), (3.0, 4), (0.4, 1 / 2), (0.25, 1 / 3)]
)
def test_pixels_of_another_size_are_brought_near_the_trained_one_by_whole_factors(ct_mm, zoom):
    assert integer_scale(ct_mm, 0.8) == zoom


class Threshold(torch.nn.Module):
    """Stands for a network: air is lung. Notes how large the slices are that it sees."""

    def __init__(self):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(-0.256))  # -405 HU, half-way
        self.seen = []

    def forward(self, image):
        self.seen.append(tuple(image.shape[-2:]))
        return self.level - image


@pytest.mark.parametrize(("zoom", "seen"), [(1, (36, 54)), (2, (72, 108)), (1 / 3, (12, 18))])
def test_a_resized_slice_gives_the_mask_of_the_slice(zoom, seen):
    ct_hu = np.full((3, 36, 54), 40, np.int16)
    ct_hu[:, 9:27, 12:36] = -850
    network = Threshold()
    lung = predict_slices(network, ct_hu, MODEL.window_hu, zoom)
    assert np.count_nonzero(lung != (ct_hu < -405)) <= 4 * len(ct_hu)  # the four corners
    assert network.seen == [seen]


class Unsure(torch.nn.Module):
    """Stands for a network: lung is what is darker than tissue and not as the room; of foam it is not sure."""

    multiple = 4

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(10.0))

    def forward(self, image):
        lung = torch.where(image < -0.6, self.weight, torch.where(image < -0.1, 0.2 * self.weight, -self.weight))
        return torch.where(image < -0.99, -self.weight, lung)


def test_blocks_are_unsure_where_no_pixel_that_is_looked_at_is_sure():
    ct_hu = np.full((9, 18, 32), 40, np.int16)
    ct_hu[8, 4:12, 8:21] = -500  # a logit of 2, which is a probability of 0.88; blocks of 4
    lung, unsure = predict_with_doubt(Unsure(), ct_hu, MODEL.window_hu)
    assert unsure.shape == (9, 4, 8)
    assert np.argwhere(unsure).tolist() == [[8, row, col] for row in (1, 2) for col in (2, 3, 4)]
    np.testing.assert_array_equal(lung, ct_hu < 0)
    ct_hu[8, 5, 8:21] = ct_hu[8, 4:12, 9] = 40  # sure pixels, in rows and columns that nobody looks at
    np.testing.assert_array_equal(predict_with_doubt(Unsure(), ct_hu, MODEL.window_hu)[1], unsure)
    assert predict_with_doubt(Unsure(), ct_hu, MODEL.window_hu, zoom=2)[1].shape == (9, 9, 16)


def test_doubt_is_counted_in_cm2_of_the_trunk_alone():
    """Foam that holds five by five blocks of 16 mm in the trunk, in three of twelve slices, and foam in the room."""
    ct_hu = np.full((12, 80, 100), -1000, np.int16)
    ct_hu[:, 20:, 5:95] = 40
    ct_hu[:3] = -1000
    for z in (4, 5, 10):
        ct_hu[z, 30:53, 30:53] = ct_hu[z, :12, 30:50] = -500
    predictor = Predictor(Unsure(), replace(MODEL, pixel_mm=4.0), {}, CPU, False)
    found = segment_volume(ct_hu, (5.0, 4.0, 4.0), predictor)
    assert found.unsure_cm2.tolist() == pytest.approx([0] * 4 + [64] * 2 + [0] * 4 + [64, 0])


class Seeing(Unsure):
    """Takes bone for lung, too, and notes how large the slices are that it sees."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, image):
        self.seen.append(tuple(image.shape))
        return torch.where(image > 0.9, self.weight, super().forward(image))


NEAR, TRUNK = (8, 1, 68, 132), (8, 1, 91, 162)


@pytest.mark.parametrize(
    ("bone", "seen", "is_found"),
    [
        (np.s_[9, 55, 60], [NEAR, TRUNK], True),  # there is no air in the second batch
        (np.s_[3, 45, 60], [NEAR, TRUNK], True),
        (np.s_[3, 32, 60], [NEAR, TRUNK, TRUNK], True),  # at the edge of what is near
        (np.s_[3, 31, 60], [NEAR, TRUNK], False),  # not seen
        (np.s_[3, 98, 140], [NEAR, TRUNK], True),  # on the other side, at the back
    ],
)
def test_a_network_sees_what_is_near_air_and_the_whole_trunk_where_its_lung_does_not_end_there(bone, seen, is_found):
    ct_hu = np.full((16, 100, 200), -1000, np.int16)
    ct_hu[:, 20:, 30:170] = 40
    ct_hu[2:6, 50:66, 50:80] = -850
    expected = ct_hu == -850
    expected[bone] = is_found
    ct_hu[bone] = 600
    predictor, spacing_mm = Predictor(Seeing(), replace(MODEL, pixel_mm=2.0), {}, CPU, False), (5.0, 2.0, 2.0)
    lung, _ = predict_in_body(ct_hu, spacing_mm, predictor, find_body(ct_hu, spacing_mm))
    assert predictor.network.seen == seen
    inside = np.s_[:, 20:, 30:170]
    np.testing.assert_array_equal(lung[inside], expected[inside])


def test_what_a_network_sees_fits_it_after_resizing():
    """66 rows and 132 columns near air, filled up to multiples of 8 and seen at half their number."""
    ct_hu = np.full((8, 100, 200), -1000, np.int16)
    ct_hu[:, 20:, 30:170] = 40
    ct_hu[2:6, 50:66, 50:80] = -850
    predictor, spacing_mm = Predictor(Seeing(), replace(MODEL, pixel_mm=4.0), {}, CPU, False), (5.0, 2.0, 2.0)
    predict_in_body(ct_hu, spacing_mm, predictor, find_body(ct_hu, spacing_mm))
    assert predictor.network.seen == [(8, 1, 36, 68)]


class Failing(Unsure):
    def __init__(self, error: Exception):
        super().__init__()
        self.error = error

    def forward(self, image):
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind"),
    [(torch.OutOfMemoryError("CUDA out of memory."), MemoryError), (RuntimeError("size mismatch"), RuntimeError)],
)
def test_a_gpu_without_memory_is_told_like_a_computer_without(error, kind):
    ct_hu = np.full((2, 80, 100), 40, np.int16)
    with pytest.raises(kind):
        segment_volume(ct_hu, (5.0, 4.0, 4.0), Predictor(Failing(error), MODEL, {}, CPU, False))


@pytest.mark.filterwarnings("error")
def test_a_read_only_volume_is_predicted_without_a_warning():
    torch.set_warn_always(True)
    ct_hu = np.full((3, 36, 54), -850, np.int16)
    ct_hu.flags.writeable = False
    try:
        assert predict_slices(Threshold(), ct_hu, MODEL.window_hu).all()
    finally:
        torch.set_warn_always(False)


def test_segment_takes_a_volume_and_its_spacing_and_gives_the_lungs():
    patient = small_patient(3)
    lung = segment(patient.ct_hu, patient.spacing_mm)
    assert lung.dtype == bool
    assert dice(lung, patient.lung) > 0.97
    np.testing.assert_array_equal(segment(patient.ct_hu.astype(np.float64), patient.spacing_mm), lung)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_segment_takes_padding_for_air_as_all_other_ways_to_a_mask_do(dtype, monkeypatch):
    seen, found = [], Segmentation(np.zeros((1, 1, 4), bool), np.zeros(1))
    monkeypatch.setattr("lungct.predict.segment_volume", lambda ct_hu, *_: seen.append(ct_hu) or found)
    with pytest.warns(UserWarning, match="not HU"):
        segment(np.array([[[-3024, -1025, 0, 3072]]], dtype), SPACING_MM, "no predictor is used")
    assert (seen[0].tolist(), seen[0].dtype) == ([[[-1024, -1024, 0, 3071]]], np.int16)


@pytest.mark.parametrize(
    ("ct_hu", "spacing_mm", "told"),
    [
        (np.zeros((4, 5)), SPACING_MM, "give a volume in HU"),
        (np.zeros((0, 4, 5)), SPACING_MM, "give a volume in HU"),
        (np.zeros((2, 4, 5), complex), SPACING_MM, "give a volume in HU"),
        (np.full((2, 4, 5), np.nan), SPACING_MM, "holds NaN"),
        (np.zeros((2, 4, 5)), (1.0, 2.0), "row and column spacing in mm"),
        (np.zeros((2, 4, 5)), (1.0, 0.0, 2.0), "row and column spacing in mm"),
    ],
)
def test_segment_tells_what_is_no_volume_or_no_spacing(ct_hu, spacing_mm, told):
    with pytest.raises(LungError, match=told):
        segment(ct_hu, spacing_mm)


def test_segment_warns_where_the_values_cannot_be_hu():
    patient = small_patient(3)
    ct_hu = patient.ct_hu[16:20].astype(np.float32)
    with pytest.warns(UserWarning, match="looks like z-scores, values from .*, not HU"):
        segment((ct_hu - ct_hu.mean()) / ct_hu.std(), patient.spacing_mm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segment(ct_hu, patient.spacing_mm)


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "last"),
    [
        *(((208, 208, 57), (0.7, 0.7, 2.5), True), ((57, 208, 208), (2.5, 0.7, 0.7), False)),
        *(((208, 176, 57), (0.7, 0.7, 2.5), False), ((208, 208, 57), (2.5, 0.7, 0.7), False)),
        *(((208, 208, 208), (1, 1, 1), False), ((208, 208, 208), (0.7, 0.7, 1), True)),
    ],
)
def test_a_volume_as_nibabel_has_it_is_known_by_its_square_slices(shape, spacing_mm, last):
    assert has_slices_last(shape, spacing_mm) == last


def test_segment_warns_of_slices_that_are_last():
    patient = small_patient(3)
    ct_hu, spacing_mm = patient.ct_hu[16:20, :176, 16:192], patient.spacing_mm
    with pytest.warns(UserWarning, match=r"ct_hu \(176, 176, 4\) seems to have its slices last: give \(slices, rows"):
        segment(ct_hu.T, spacing_mm[::-1])


def test_read_ct_takes_the_largest_series_of_a_folder_or_a_file_of_any_axis_order(tmp_path):
    ct_hu = np.random.default_rng(4).integers(-1000, 1000, (5, 12, 16)).astype(np.int16)
    write_series(tmp_path / "dicom/large", LidcScan("A", "1.2", "1.2.1"), ct_hu, (2.5, 0.7, 0.9))
    write_series(tmp_path / "dicom/small", LidcScan("A", "1.2", "1.2.2"), ct_hu[:2], (2.5, 0.7, 0.9))
    stored = ct_hu[:, ::-1, ::-1]  # axes to the head, front and right
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)[[2, 1, 0, 3]]), tmp_path / "ct.nii")
    for path, spacing_mm in ((tmp_path / "dicom", (2.5, 0.7, 0.9)), (str(tmp_path / "ct.nii"), (1, 1, 1))):
        found, frame = read_ct(path)
        np.testing.assert_array_equal(found, ct_hu)
        assert found.dtype == np.int16
        assert frame.spacing_mm == pytest.approx(spacing_mm)


def test_segment_file_writes_the_mask_that_it_returns_on_the_grid_of_the_ct(tmp_path):
    patient = small_patient(3)
    ct_hu, spacing_mm = patient.ct_hu[14:22], patient.spacing_mm
    affine = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1.0])
    affine[:3, 3] = 100.25, 90.5, -300
    nibabel.save(nibabel.Nifti1Image(ct_hu.T, affine), tmp_path / "ct.nii.gz")
    write_series(tmp_path / "dicom", LidcScan("A", "1.2", "1.2.1"), ct_hu, spacing_mm)
    lung = segment_file(tmp_path / "ct.nii.gz", tmp_path / "out" / "lung.nii.gz")
    assert dice(lung, patient.lung[14:22]) > 0.95
    segment_file(str(tmp_path / "ct.nii.gz"), str(tmp_path / "lung.nii"))
    segment_file(tmp_path / "ct.nii.gz", tmp_path / "lung_sides.nii.gz")
    for name in ("out/lung.nii.gz", "lung.nii", "lung_sides.nii.gz"):
        image = nibabel.load(tmp_path / name)
        np.testing.assert_array_equal(image.affine, nibabel.load(tmp_path / "ct.nii.gz").affine)
        np.testing.assert_array_equal(np.asarray(image.dataobj).T > 0, lung)
    assert set(np.unique(np.asarray(image.dataobj))) == {0, 1, 2}
    in_dicom = segment_file(tmp_path / "dicom", tmp_path / "lung.seg.dcm")
    (files,) = find_series(tmp_path / "dicom").values()
    np.testing.assert_array_equal(read_dicom_label(tmp_path / "lung.seg.dcm", open_series(files))[0], in_dicom)


def test_segment_file_warns_where_right_or_left_is_a_guess(tmp_path, recwarn):
    """Of the columns of one lung: its place says that it is the left, and without one it is a guess."""
    patient = small_patient(3)
    half = patient.ct_hu.shape[2] // 2
    ct_hu, (slice_mm, row_mm, col_mm) = patient.ct_hu[14:22, :, half:], patient.spacing_mm
    affine = np.diag([-col_mm, -row_mm, slice_mm, 1])
    for x_mm, values, text in (
        (-20, {0, 2}, "one lung only, right or left by its place in the scanner"),
        (0, None, "one lung only, right or left is a guess"),
    ):
        affine[0, 3] = x_mm
        nibabel.save(nibabel.Nifti1Image(ct_hu.T, affine), tmp_path / "ct.nii")
        segment_file(tmp_path / "ct.nii", tmp_path / "lung.nii.gz")
        assert not [one for one in recwarn if "lung only" in str(one.message)]
        with pytest.warns(UserWarning, match=f"lung_sides.nii.gz: {text}"):
            segment_file(tmp_path / "ct.nii", tmp_path / "lung_sides.nii.gz")
        found = set(np.unique(np.asarray(nibabel.load(tmp_path / "lung_sides.nii.gz").dataobj)).tolist())
        assert found == values if values else len(found) == 2


def test_segment_file_tells_what_it_cannot_write_before_it_reads(tmp_path):
    with pytest.raises(LungError, match=r"a\.txt: its ending is of no format"):
        segment_file(tmp_path / "nowhere", tmp_path / "a.txt")
    with pytest.raises(LungError, match="nowhere does not exist"):
        segment_file(tmp_path / "nowhere", tmp_path / "a.nii.gz")
    patient = small_patient(3)
    nibabel.save(nibabel.Nifti1Image(patient.ct_hu[16:18].T, np.diag([-3.0, -3, 6, 1])), tmp_path / "ct.nii")
    (tmp_path / "link.nii").symlink_to("ct.nii")
    for name in ("ct.nii", "link.nii"):
        with pytest.raises(LungError, match=rf"{name} is the CT itself"):
            segment_file(tmp_path / "ct.nii", tmp_path / name)
    with pytest.raises(LungError, match=r"DICOM files of its scan, and it is ct\.nii"):
        segment_file(tmp_path / "ct.nii", tmp_path / "a.seg.dcm")
    assert not (tmp_path / "a.seg.dcm").exists()
    grey = np.clip((patient.ct_hu[16:18] + 1024) / 12, 0, 255).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(grey.T, np.diag([-3.0, -3, 6, 1])), tmp_path / "grey.nii")
    with pytest.warns(UserWarning, match=r"grey\.nii looks like 8-bit grey levels, not HU"):
        segment_file(tmp_path / "grey.nii", tmp_path / "a.nii")


def test_what_is_unusual_about_the_files_is_a_warning_of_python(tmp_path):
    patient = small_patient(3)
    write_series(tmp_path / "ct", LidcScan("A", "1.2", "1.2.1"), patient.ct_hu[14:24], patient.spacing_mm)
    write_series(tmp_path / "ct/other", LidcScan("A", "1.2", "1.2.1"), patient.ct_hu[14:16], (6, 3.0, 3.0))
    (tmp_path / "ct/1-005.dcm").unlink()
    gap = f"{tmp_path / 'ct'}: slices missing in 1 place: gap of 12 mm after slice 3"
    for warns, told in (
        (lambda: read_ct(tmp_path / "ct"), ["2 slices left out: pixels of", gap]),
        (
            lambda: segment_file(tmp_path / "ct", tmp_path / "a.nii"),
            ["2 slices left out: pixels of", gap, f"{tmp_path / 'a.nii'}: 1 missing slice empty in the .nii.gz"],
        ),
    ):
        with pytest.warns(UserWarning, match="slices missing in 1 place") as caught:
            warns()
        assert all(text in str(one.message) for text, one in zip(told, caught, strict=True))
        assert {one.filename for one in caught} == {__file__}


def test_read_ct_tells_where_there_is_no_ct(tmp_path):
    (tmp_path / "words.txt").write_text("none")
    for path, told in ((tmp_path, "holds no CT in DICOM"), (tmp_path / "nowhere", "does not exist")):
        with pytest.raises(LungError, match=told):
            read_ct(path)
    with pytest.raises(LungError, match=r"words\.txt: give a \.nii\.gz.* file, or the folder"):
        read_ct(tmp_path / "words.txt")
