"""Weights to lungs: the window, and files that are not what they should be."""

import json
import pickle

import numpy as np
import pytest
import torch
from conftest import ROOT, small_patient

from lungct import LungError
from lungct.device import pick_amp, pick_device
from lungct.evaluation.metrics import dice
from lungct.predict import for_prediction, integer_scale, predict_slices, segment
from lungct.weights import Model, checksum, load_weights, model_card, normalise

CPU = torch.device("cpu")
SPACING_MM = (5.0, 3.0, 4.0)
MODEL = Model(width=4, depth=2, patch=2, normalise=True, window_hu=(-1000, 600), pixel_mm=0.8)


def save(tmp_path, content: bytes | None = None, **card):
    path = tmp_path / "unet_model.pth"
    if content is None:
        torch.save(MODEL.build().state_dict(), path)
    else:
        path.write_bytes(content)
    card = {**model_card(MODEL, sha256=checksum(path)), **card}
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


def test_window_maps_its_ends_to_minus_one_and_one():
    hu = torch.tensor([-3000, -1000, -200, 600, 3000], dtype=torch.int16)
    assert normalise(hu, (-1000, 600)).tolist() == [-1, -1, 0, 1, 1]


def test_weights_are_read_back(tmp_path):
    path = save(tmp_path)
    network, model, _ = load_weights(path)
    assert model == MODEL
    assert not network.training


def test_shipped_weights_are_whole_small_and_say_what_they_were_trained_on():
    path = ROOT / "weights" / "lung_unet.pth"
    network, model, card = load_weights(path)
    assert path.stat().st_size < 8e6
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(1.95e6, rel=0.01)
    assert 0.5 < model.pixel_mm < 1
    assert not set(card["patients"]["train"]) & set(card["patients"]["val"])


def test_missing_weights_say_what_to_run(tmp_path):
    with pytest.raises(LungError, match=r"train first: python Lung_segmentation\.py"):
        load_weights(tmp_path / "unet_model.pth")


def test_weights_of_another_training_are_told(tmp_path):
    path = save(tmp_path, sha256="0" * 64)
    with pytest.raises(LungError, match="checksum"):
        load_weights(path)


def test_weights_of_another_network_are_told(tmp_path):
    path = save(tmp_path, model={**model_card(MODEL)["model"], "width": 8})
    with pytest.raises(LungError, match="no weights of this network"):
        load_weights(path)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"no zip", pickle.dumps(Evil())], ids=["empty", "text", "code"])
def test_files_that_are_no_weights_are_told_and_not_run(tmp_path, content, capsys):
    path = save(tmp_path, content)
    with pytest.raises(LungError, match="damaged, or not a file of tensors alone"):
        load_weights(path)
    assert "code ran" not in capsys.readouterr().out


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


def test_devices_and_precision():
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(LungError, match="there is"):
        pick_device("tpu")
    assert pick_amp("on", CPU)
    assert not pick_amp("off", CPU)
    with pytest.raises(LungError, match="choose auto, on or off"):
        pick_amp("perhaps", CPU)


@pytest.mark.parametrize(
    ("capabilities", "amp"), [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False)]
)
def test_precision_follows_the_processors_units(monkeypatch, capabilities, amp):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert pick_amp("auto", CPU) is amp


def test_segment_takes_a_volume_and_its_spacing_and_gives_the_lungs():
    patient = small_patient(3)
    lung = segment(patient.ct_hu, patient.spacing_mm)
    assert lung.dtype == bool
    assert dice(lung, patient.lung) > 0.97
    np.testing.assert_array_equal(segment(patient.ct_hu.astype(np.float64), patient.spacing_mm), lung)


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
