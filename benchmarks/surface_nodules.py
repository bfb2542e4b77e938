"""Nodules and masses painted in three dimensions onto the surface of real lungs that a network was not trained on.

Run     python -m benchmarks.surface_nodules     after `python -m benchmarks.accuracy`, whose networks it takes
"""

from dataclasses import dataclass

import edt
import numpy as np
from scipy import ndimage

from benchmarks.real import ReferenceScan, named_folder, references
from benchmarks.report import table, write_section
from lungct.predict import Predictor, load_predictor, predict_in_body
from lungct.segmentation.body import find_body
from lungct.segmentation.cleanup import clean_volume
from lungct.segmentation.threshold import segment_lung
from lungct.slices import clip_ct
from weights.recipe import FOLDS, fold_weights

DIAMETERS_MM = (45, 30, 20, 14, 10, 8, 6)  # the large ones first, while there is room
EACH = 4  # of a diameter in a scan, where they fit
APART_MM = 12  # between two of them
DEPTH = (0.1, 0.8)  # of the middle below the surface, in radii
NODULE_HU, NOISE_HU, BLUR_MM = (-10, 60), 18, 1.2  # of its edge
NORMAL_MM = 6  # over so much, the surface is smoothed before its direction is taken
SEED, TRIES = 1, 400
WHOLE = 0.97  # share that is to be inside
PLACES = ("at the side", "at the back", "in front", "at the mediastinum", "at diaphragm or apex")
HEAD = ("painted", "number", "inside by the network alone", "in the mask", f"{WHOLE:.0%} or more of it", "in the label")


@dataclass(frozen=True)
class Nodule:
    """A painted nodule: its place of PLACES, its diameter, its voxels (flat indices of the volume)."""

    place: str
    diameter_mm: float
    voxels: np.ndarray


class Surface:
    """Points on the surface of a lung, (Z, H, W) bool, and which way is outwards there."""

    def __init__(self, lung: np.ndarray, spacing_mm: tuple[float, float, float], rng: np.random.Generator):
        self.mm, self.rng = np.array(spacing_mm), rng
        depth_mm = edt.edt(lung, anisotropy=spacing_mm)
        self.points = np.argwhere((depth_mm > 0) & (depth_mm <= max(spacing_mm)))
        smooth = ndimage.gaussian_filter(lung.astype(np.float32), NORMAL_MM / self.mm)
        self.inwards = np.stack(np.gradient(smooth, *spacing_mm))
        self.middle = np.argwhere(lung).mean(axis=0)

    def pick(self) -> tuple[np.ndarray, np.ndarray, str]:
        """A point in mm, the direction inwards, and its place."""
        point = self.points[self.rng.integers(len(self.points))]
        inwards = self.inwards[(slice(None), *point)]
        inwards = inwards / max(np.linalg.norm(inwards), 1e-6)
        up, back, left = -inwards
        if abs(up) > max(abs(back), abs(left)):
            return point * self.mm, inwards, PLACES[4]
        if abs(back) > abs(left):
            return point * self.mm, inwards, PLACES[1 if back > 0 else 2]
        return point * self.mm, inwards, PLACES[0 if (left > 0) == (point[2] > self.middle[2]) else 3]


def paint_nodules(scan: ReferenceScan) -> tuple[np.ndarray, list[Nodule]]:
    """The CT of a scan, int16 (Z, H, W), with nodules at its lungs' surface, and these."""
    rng = np.random.default_rng(SEED)
    ct_hu, spacing_mm = clip_ct(scan.ct_hu), scan.frame.spacing_mm
    surface, nodules, spheres = Surface(scan.lung, spacing_mm, rng), [], []
    for diameter_mm in np.repeat(DIAMETERS_MM, EACH):
        radius = diameter_mm / 2
        for _ in range(TRIES):
            point, inwards, place = surface.pick()
            middle = point + inwards * radius * rng.uniform(*DEPTH)
            if all(np.linalg.norm(middle - other) > radius + size + APART_MM for other, size in spheres):
                voxels = paint(ct_hu, scan.lung, middle, radius, spacing_mm, rng)
                nodules.append(Nodule(place, diameter_mm, voxels))
                spheres.append((middle, radius))
                break
    return ct_hu, nodules


def paint(
    ct_hu: np.ndarray, lung: np.ndarray, middle: np.ndarray, radius: float, spacing_mm: tuple, rng: np.random.Generator
) -> np.ndarray:
    """Paint what of an ellipsoid lies in the lung into ct_hu; returns its voxels, flat indices."""
    axes = radius * rng.uniform(0.75, 1.15, 3)
    first = [max(0, int((at - 1.3 * radius) / mm)) for at, mm in zip(middle, spacing_mm, strict=True)]
    last = [int((at + 1.3 * radius) / mm) + 2 for at, mm in zip(middle, spacing_mm, strict=True)]
    box = tuple(slice(a, min(b, size)) for a, b, size in zip(first, last, lung.shape, strict=True))
    grid = np.ogrid[box]
    far = np.sqrt(sum(((g * mm - m) / a) ** 2 for g, mm, m, a in zip(grid, spacing_mm, middle, axes, strict=True)))
    share = np.clip(0.5 - (far - 1) * radius / BLUR_MM, 0, 1) * lung[box]
    tissue = rng.uniform(*NODULE_HU) + rng.normal(0, NOISE_HU, share.shape)
    denser = np.maximum(ct_hu[box], (1 - share) * ct_hu[box] + share * tissue)
    ct_hu[box] = np.where(share > 0, denser, ct_hu[box])
    inside = np.zeros(lung.shape, bool)
    inside[box] = share >= 0.5
    return np.flatnonzero(inside)


def judge(scan: ReferenceScan, predictor: Predictor) -> list[tuple[Nodule, float, float, float]]:
    """(nodule, share inside by the network alone, in the mask, in the label) of a scan."""
    spacing_mm = scan.frame.spacing_mm
    ct_hu, nodules = paint_nodules(scan)
    body = find_body(ct_hu, spacing_mm)
    raw, _ = predict_in_body(ct_hu, spacing_mm, predictor, body)
    masks = raw, clean_volume(raw, ct_hu, spacing_mm, body), segment_lung(ct_hu, spacing_mm)
    return [(one, *(float(mask.ravel()[one.voxels].mean()) for mask in masks)) for one in nodules if len(one.voxels)]


def row(name: str, judged: list[tuple[Nodule, float, float, float]]) -> tuple:
    if not judged:
        return name, 0, *[""] * (len(HEAD) - 2)
    raw, mask, label = np.array([shares for _, *shares in judged]).T
    return (
        name,
        len(judged),
        f"{raw.mean():.2f}",
        f"{mask.mean():.2f}",
        f"{np.mean(mask >= WHOLE):.0%}",
        f"{label.mean():.2f}",
    )


def main() -> None:
    """Judge all references by the network of their fold; write the table."""
    real = named_folder(__doc__)
    if real is None:
        return
    judged = []
    for fold, sources in enumerate(FOLDS):
        predictor = load_predictor(fold_weights(fold, real), "cpu")
        for scan in references(real, sources):
            judged += judge(scan, predictor)
            print(f"{scan.name}: {len(judged)} nodules so far", flush=True)
    rows = [row("all", judged)]
    for diameter_mm in sorted(DIAMETERS_MM):
        rows.append(row(f"{diameter_mm} mm", [one for one in judged if one[0].diameter_mm == diameter_mm]))
    for place in PLACES:
        rows.append(row(place, [one for one in judged if one[0].place == place]))
    lines = table(HEAD, rows)
    lines += ["", "Means over nodules of the share of their voxels that is inside. Ellipsoids on the surface of"]
    lines += ["the seven reference lungs, random places, predicted by the network of a training without the scan."]
    write_section("Nodules on the surface of the lungs", lines)


if __name__ == "__main__":
    main()
