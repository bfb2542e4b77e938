"""Each stage compared with the first version and R231, side by side on this machine: prepare, train, predict.

Run     python -m benchmarks.stages
"""

import os
from functools import partial

import numpy as np
import torch

from benchmarks.data import whole_scan
from benchmarks.peers import first_label, first_network, first_step, r231_network
from benchmarks.report import WORK, medians_s, multiply_adds, multiply_adds_g_s, table, write_section
from lungct.device import pick_amp
from lungct.files import npy_bytes, replace_file
from lungct.parallel import run_parallel
from lungct.predict import for_prediction, predict_slices
from lungct.scans import lidc
from lungct.scans.find import Job, LidcSeries, open_largest
from lungct.segmentation.threshold import segment_lung
from lungct.settings import default_values, make_record
from lungct.slices import HU_WINDOW
from lungct.training.distributed import Processes
from lungct.training.trainer import Trainer, TrainSettings
from lungct.weights import Model
from prepare_lung_image import PrepareOptions, Task, prepare_scan
from UNet_nn import UNet

ROUNDS = 3
SLICES = 250
MANY = 24  # scans, on all processors
CPU = torch.device("cpu")


class Noise:
    """Stands for a SliceSet of 512x512 slices: what is in them does not change the time of a step."""

    def __init__(self, slices: int):
        rng = np.random.default_rng(1)
        self.ct = rng.integers(-1024, 400, (slices, 512, 512)).astype(np.int16)
        self.lung = self.ct < -600

    def __len__(self) -> int:
        return len(self.ct)

    def read(self, numbers: np.ndarray, *_, **__) -> tuple[np.ndarray, np.ndarray]:
        return self.ct[numbers], self.lung[numbers]


def prepare_patient(rounds: int) -> dict[str, float]:
    """Seconds for ten slices and their lungs from a scan of 250, alone and as one of many; for the lungs of a slice."""
    root = WORK / "scan"
    who = whole_scan(root, SLICES)
    lidc.write_conf(WORK / "pylidc.conf", str(root))
    lidc.use_config(WORK / "pylidc.conf")
    pylidc = lidc.load_pylidc()
    out = WORK / "prepared"

    def first() -> None:
        scan = pylidc.query(pylidc.Scan).filter(pylidc.Scan.series_instance_uid == who.series_uid).first()
        volume = scan.to_volume(verbose=False)
        start = (volume.shape[2] - 10) // 2
        for k in range(start, start + 10):
            ct_hu = volume[:, :, k].astype(np.float64)
            replace_file(out / "first" / f"{k}_ct.npy", npy_bytes(ct_hu))
            replace_file(out / "first" / f"{k}_lung.npy", npy_bytes(ct_hu * first_label(ct_hu)))

    scan = open_largest(root)
    ct_hu, pixel_mm = scan.read()[SLICES // 2], scan.frame.spacing_mm[1:]
    series = LidcSeries((root / who.patient_id / who.study_uid / who.series_uid,), who)
    tasks = [Task(Job(who.patient_id, f"scan{n}", series), None, "") for n in range(MANY)]
    options = PrepareOptions(out / "ct", out / "lung", labels=None, slices=10, any_values=False)
    functions = {
        "first": first,
        "first label": lambda: first_label(ct_hu.astype(np.float64)),
        "label": lambda: segment_lung(ct_hu, pixel_mm),
        "alone": lambda: prepare_scan(tasks[0], options),
        "many": lambda: list(
            run_parallel(partial(prepare_scan, options=options), tasks, os.cpu_count(), out / "errors.log")
        ),
    }
    times = medians_s(functions, rounds)
    return {**times, "many": times["many"] / MANY}


def train_slice(rounds: int) -> dict[str, float]:
    """Seconds a slice of 512x512 for forward, backward and update, by what and in batches of how many."""
    settings = make_record(TrainSettings, default_values(), WORK)
    model = Model(settings.width, settings.depth, settings.patch, True, HU_WINDOW, 0.75)
    trainer = Trainer(settings, model, Noise(8), Noise(8), CPU, Processes())
    first = first_network()
    adam = torch.optim.Adam(first.parameters(), lr=1e-4)
    images, targets = trainer.make_batch(np.arange(8), (1, 2))
    plain = images.contiguous()

    def ours(size: int, amp: bool) -> None:
        trainer.progress.amp = amp
        trainer.step(images[:size], targets[:size], 0)

    quicker = pick_amp("auto", CPU)

    def whole() -> None:
        trainer.progress.amp = quicker
        trainer.step(*trainer.make_batch(np.arange(4), (1, 2)), 0)

    functions = {
        "first": (4, lambda: first_step(first, adam, plain[:4], targets[:4])),
        "float32": (4, lambda: ours(4, False)),
        "bfloat16": (4, lambda: ours(4, True)),
        "float32 by 8": (8, lambda: ours(8, False)),
        "bfloat16 by 8": (8, lambda: ours(8, True)),
        "whole": (4, whole),
    }
    times = medians_s({name: function for name, (_, function) in functions.items()}, rounds)
    return {name: seconds / functions[name][0] for name, seconds in times.items()}


def predict_slice(rounds: int) -> dict[str, float]:
    """Seconds a slice for the network alone, in the batches that each uses."""
    ct_hu = Noise(24).ct
    ours = {name: for_prediction(UNet(), CPU, amp) for name, amp in (("float32", False), ("bfloat16", True))}
    first, r231 = first_network().eval(), r231_network().eval()
    large, small = torch.rand(4, 1, 512, 512) * 2 - 1, torch.rand(20, 1, 256, 256)

    @torch.inference_mode()
    def peer(network: torch.nn.Module, image: torch.Tensor) -> None:
        network(image)

    functions = {
        "first": (4, lambda: peer(first, large)),
        "R231": (20, lambda: peer(r231, small)),
        "float32": (24, lambda: predict_slices(ours["float32"], ct_hu, HU_WINDOW)),
        "bfloat16": (24, lambda: predict_slices(ours["bfloat16"], ct_hu, HU_WINDOW)),
    }
    predict_slices(ours["bfloat16"], ct_hu, HU_WINDOW)
    times = medians_s({name: function for name, (_, function) in functions.items()}, rounds)
    return {name: seconds / functions[name][0] for name, seconds in times.items()}


def compare_rows(peer_s: dict[str, float], ours_s: dict[str, float]) -> list[tuple]:
    """A row per task: what, compared with, its time, our time, ratio, target."""
    named = (
        (f"preprocess one patient: ten slices and labels from a scan of {SLICES} slices", "prepare", "prepare", 15),
        (f"the same, as one of {MANY} in step 2, on all processors, start included", "prepare", "prepare many", ""),
        ("labels, one slice of 512x512 (target: under 8 ms)", "label", "label", ""),
        ("train, per slice: forward, backward, update; batches of 4", "train", "train", 450),
        ("the same in batches of 8", "train", "train by 8", ""),
        ("the same in batches of 4, with augmentation", "train", "train with augmentation", 350),
        ("predict, per slice, network only", "predict", "predict", 300),
        ("the same", "predict R231", "predict", 80),
    )
    rows = []
    for name, peer, own, target in named:
        with_what = "R231" if "R231" in peer else "first version"
        ratio = f"**{peer_s[peer] / ours_s[own]:.0f}**"
        rows.append((name, with_what, ms(peer_s[peer]), ms(ours_s[own]), ratio, target))
    return rows


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds < 0.1 else f"{seconds * 1e3:,.0f} ms"


def limits(train: dict[str, float], predict: dict[str, float]) -> list[str]:
    """How far the network's time is from what its multiply-adds need, in both precisions."""
    image = torch.zeros(1, 1, 512, 512)
    peers = first_network().eval(), r231_network().eval()
    counts = multiply_adds(peers[0], image), multiply_adds(peers[1], image[..., :256, :256])
    ours = multiply_adds(UNet().eval(), image)
    rows = []
    for kind in ("float32", "bfloat16"):
        rate = multiply_adds_g_s(getattr(torch, kind))
        least_s = ours / rate / 1e9
        cells = f"{rate:.0f}", ms(least_s), ms(predict[kind]), ms(3 * least_s), ms(train[kind])
        rows.append((kind, *cells))
    head = (
        "precision",
        "multiply-adds per second, 1e9",
        "forward: minimum",
        "measured",
        "training step: minimum",
        "measured",
    )
    others = f"first version {counts[0] / 1e9:.0f}e9, R231 {counts[1] / 1e9:.0f}e9"
    return [f"Multiply-adds per slice: {others}, ours {ours / 1e9:.2f}e9.", "", *table(head, rows)]


def main() -> None:
    """Measure all, write the section."""
    WORK.mkdir(parents=True, exist_ok=True)
    prepare, train, predict = prepare_patient(ROUNDS), train_slice(ROUNDS), predict_slice(ROUNDS)
    peer_s = {
        "prepare": prepare["first"],
        "label": prepare["first label"],
        "train": train["first"],
        "predict": predict["first"],
        "predict R231": predict["R231"],
    }
    ours_s = {
        "prepare": prepare["alone"],
        "prepare many": prepare["many"],
        "label": prepare["label"],
        "train": min(train["float32"], train["bfloat16"]),
        "train by 8": min(train["float32 by 8"], train["bfloat16 by 8"]),
        "train with augmentation": train["whole"],
        "predict": min(predict["float32"], predict["bfloat16"]),
    }
    lines = table(("task", "compared with", "its time", "our time", "ratio", "target"), compare_rows(peer_s, ours_s))
    lines += [
        "",
        f"Medians of {ROUNDS} rounds; in each round all candidates are timed one after the other. First version",
        "and R231 run in float32 and in PyTorch's default memory order, our network in the faster precision, as with",
        "`amp = auto`.",
        "",
    ]
    lines += limits(train, predict)
    lines += [
        "",
        "Minimum: the time for the multiply-adds at the rate of a large convolution; for a training step,",
        "three times that.",
    ]
    write_section("Single stages, compared with the first version and R231", lines)


if __name__ == "__main__":
    main()
