"""What makes a predicted pair of lungs worth a look, a few words each, with the slices.

Z slices, H rows, W columns; row 0 is the front, column 0 the patient's right, slice 0 the lowest.
"""

from collections.abc import Iterator

import cc3d
import numpy as np

from lungct.evaluation.disagreement import find_disagreement
from lungct.evaluation.left_out import find_left_out
from lungct.evaluation.metrics import litres
from lungct.masks.sides import ONE_LUNG, doubt_sides, side_columns, smaller_side_share
from lungct.scans.geometry import Middle, picture_middle
from lungct.scans.hu import check_hu_range
from lungct.segmentation.body import Body, find_body
from lungct.segmentation.morphology import distance_mm, grow_slices, large_pieces
from lungct.slices import slice_pixels

USUAL_LITRES = (2.0, 8.0)  # of an adult, breathed in or out
USUAL_CM2 = (60, 400)  # of both lungs in a slice, on average, where the scan ends in them; in ten scans 116 to 255
UNEQUAL, UNEQUAL_IN_PART = 0.3, 0.15  # share of the smaller side; in six whole scans 0.41 and more,
MIN_EXTENT_MM = 70  # in parts of so much 0.24 and more, and in smaller ones any
LOW = 0.1  # share of the lungs that lies below a piece that is taken for gas under the diaphragm
STEP_MM = 3.0  # about so far apart are the rows and columns that are looked at
END_SHARE = 0.05  # of the largest area: so much in the first or last slice means that the scan ends in the lung
CUT_ONCE, CUT_TWICE = "the scan ends in the lung", "the scan begins and ends in the lung"  # say nothing of the mask
JUMP, JUMP_MM = 1 / 3, (0.15, 0.05)  # of a lung's area, from slice to slice, and what it may be at a distance in mm;
# in seven reference scans and every second to tenth of their slices at most 0.25 at 2.5 mm, 0.36 at 5, 0.55 at 10
LARGE_SHARE = 0.4  # of a lung's largest area; smaller slices, at base and apex, change faster
MISSED_ML, MISSED_HU = 50, (-930, -500)  # of lung-like tissue outside the mask, its blurred rim taken off
MISSED_RIM_MM = 3.2  # width of that rim
MISSED_DEPTH_MM = 20  # median depth under the skin; air trapped by what lies on the chest has 12
UNSURE_SHARE = 0.04  # of the lung's area, where the network is unsure (benchmarks/flags.py)
UNSURE_PART = (0.05, 0.95)  # quantiles of that area, between which the slices lie that are named
THICK_MM = 8.5  # between slices; what is averaged over more has no edge at the diaphragm


def find_flags(
    ct_hu: np.ndarray,
    sides: np.ndarray,
    spacing_mm: tuple[float, float, float],
    extents_mm: np.ndarray | None = None,
    unsure_cm2: np.ndarray | None = None,
    body: Body | None = None,
    middle: Middle | None = None,
) -> list[str]:
    """What is unusual about a mask, a phrase each.

    ct_hu:      (Z, H, W) in HU
    sides:      (Z, H, W) uint8, the right lung 1 and the left 2, as `split_left_right` gives it
    extents_mm: (Z,) as `litres` takes it
    unsure_cm2: (Z,) as `Segmentation` of lungct/predict.py has it
    body:       of the same CT, where it was looked for already
    middle:     of the patient, by which right and left were told apart; that of the picture where none is given
    """
    lung, middle = sides > 0, middle or picture_middle(sides.shape[2])
    flags = [f"looks like {fault}, not HU"] if (fault := check_hu_range(ct_hu)) else []
    if not lung.any():
        return [*flags, "no lung found"]
    area_cm2 = slice_pixels(lung) * spacing_mm[1] * spacing_mm[2] / 100
    if unsure_cm2 is not None:
        flags += name_doubt(area_cm2, unsure_cm2)
    if len(lung) > 1 and spacing_mm[0] > THICK_MM:
        flags.append(f"thick slices, {spacing_mm[0]:.1f} mm apart")
    rows, cols = (max(1, round(STEP_MM / mm)) for mm in spacing_mm[1:])
    coarse = np.ascontiguousarray(lung[:, ::rows, ::cols])
    flags += name_size(area_cm2, litres(lung, spacing_mm, extents_mm), spacing_mm[0])
    columns = side_columns(sides[:, ::rows])
    doubt = doubt_sides(columns, spacing_mm[2], middle)
    flags += doubt or name_unequal(smaller_side_share(columns), area_cm2, spacing_mm[0])
    if has_piece_below_lung(coarse):
        flags.append("gas below the diaphragm taken for lung")
    flags += [
        f"the area of a lung changes by {part:.0%} from slice {z} to {z + 1}"
        for z, part in find_jumps(coarse, spacing_mm[0])
    ]
    body = body or find_body(ct_hu, spacing_mm)
    lung = lung[:, :: body.steps[0], :: body.steps[1]]
    for what, found in (
        ("of lung-like tissue", find_missed),
        ("of dense tissue between lung and chest wall", find_left_out),
    ):
        flags += [f"{ml:.0f} ml {what} not in the mask, slices {low} to {high}" for ml, low, high in found(lung, body)]
    flags += [
        f"network and segment_lung disagree about {ml:.0f} ml, slices {low} to {high}"
        for ml, low, high in find_disagreement(lung, body)
    ]
    return flags


def unsure_share(lung: np.ndarray, unsure_cm2: np.ndarray, spacing_mm: tuple[float, float, float]) -> float | None:
    """The area where the network was unsure, (Z,), over that of its mask (Z, H, W) bool; None where that is empty."""
    mask_cm2 = np.count_nonzero(lung) * spacing_mm[1] * spacing_mm[2] / 100
    return float(unsure_cm2.sum() / mask_cm2) if mask_cm2 else None


def name_doubt(area_cm2: np.ndarray, unsure_cm2: np.ndarray) -> Iterator[str]:
    """Where the network was unsure, if it was more so than in usual scans; both (Z,)."""
    if unsure_cm2.sum() > UNSURE_SHARE * area_cm2.sum():
        low, high = np.searchsorted(np.cumsum(unsure_cm2) / unsure_cm2.sum(), UNSURE_PART)
        yield f"network unsure, most in slice {unsure_cm2.argmax()} (slices {low} to {high})"


def find_ends(area_cm2: np.ndarray, slice_mm: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Of the area in each slice, (Z,): (which slices count, bool (Z,); whether the first and last do; mm of them)."""
    inside = area_cm2 > END_SHARE * area_cm2.max()
    return inside, inside[[0, -1]], np.count_nonzero(inside) * slice_mm


def name_size(area_cm2: np.ndarray, volume: float, slice_mm: float) -> Iterator[str]:
    """What is unusual about the size of the lungs, area_cm2 (Z,), volume in litres, as far as the scan holds them."""
    inside, is_cut, extent_mm = find_ends(area_cm2, slice_mm)
    if is_cut.any() and len(area_cm2) > 1:
        yield CUT_TWICE if is_cut.all() else CUT_ONCE
    mean_cm2 = area_cm2[inside].mean()
    if not is_cut.any() and not USUAL_LITRES[0] <= volume <= USUAL_LITRES[1]:
        yield f"volume outside the usual {USUAL_LITRES[0]:g} to {USUAL_LITRES[1]:g} litres"
    if is_cut.any() and extent_mm >= MIN_EXTENT_MM and not USUAL_CM2[0] <= mean_cm2 <= USUAL_CM2[1]:
        yield f"{mean_cm2:.0f} cm2 of lung a slice, outside the usual {USUAL_CM2[0]} to {USUAL_CM2[1]}"


def name_unequal(share: float, area_cm2: np.ndarray, slice_mm: float) -> Iterator[str]:
    """What is unusual about the share of the smaller side, where the scan holds enough of the lungs; area_cm2 (Z,)."""
    _, is_cut, extent_mm = find_ends(area_cm2, slice_mm)
    if is_cut.any() and (extent_mm < MIN_EXTENT_MM or share >= UNEQUAL_IN_PART):
        return
    if share < ONE_LUNG:
        yield "one lung only"
    elif share < UNEQUAL:
        yield f"the smaller lung has only {share:.0%} of the volume"


def has_piece_below_lung(lung: np.ndarray) -> bool:
    """Whether a piece of its own lies below nearly all of the largest piece."""
    label, count = cc3d.connected_components(lung, connectivity=26, return_N=True)
    if count < 2:
        return False
    by_slice = np.stack([np.bincount(slice_.ravel(), minlength=count + 1)[1:] for slice_ in label])  # (Z, count)
    largest = int(by_slice.sum(0).argmax())
    below = np.cumsum(by_slice[:, largest]) / by_slice[:, largest].sum()
    tops = [np.flatnonzero(by_slice[:, number])[-1] for number in range(count) if number != largest]
    return any(below[top] < LOW for top in tops)


def find_jumps(lung: np.ndarray, slice_mm: float) -> list[tuple[int, float]]:
    """(slice, part) where the area in one half of the picture changes much to the next slice, where it is large."""
    limit = max(JUMP, JUMP_MM[0] + JUMP_MM[1] * slice_mm)
    columns = np.count_nonzero(lung, axis=(0, 1))
    middle = int(np.searchsorted(np.cumsum(columns), columns.sum() / 2))
    found: dict[int, float] = {}
    for half in (lung[..., :middle], lung[..., middle:]):
        area = np.count_nonzero(half, axis=(1, 2))
        larger = np.maximum(area[1:], area[:-1])
        change = np.abs(np.diff(area)) / np.maximum(larger, 1)
        inside = np.logical_or.accumulate(area > 0)[:-1] & np.logical_or.accumulate(area[::-1] > 0)[::-1][1:]
        for z in np.flatnonzero((change > limit) & inside & (larger > LARGE_SHARE * area.max())).tolist():
            found[z] = max(found.get(z, 0), float(change[z]))
    return sorted(found.items())


def find_missed(lung: np.ndarray, body: Body) -> Iterator[tuple[float, int, int]]:
    """(ml, first slice, last slice) of each large piece in the trunk that is like lung and not in the mask.

    lung: bool (Z, h, w), on the grid of the body
    """
    like_lung = body.air & body.hull & (body.coarse_hu > MISSED_HU[0]) & (body.coarse_hu < MISSED_HU[1])
    seen = ~like_lung | lung
    for _ in range(max(1, round(MISSED_RIM_MM / body.spacing_mm[2]))):
        seen = grow_slices(seen)
    for ml, box, piece in large_pieces(~seen, body.spacing_mm, MISSED_ML, connectivity=6):
        depth_mm = distance_mm(body.hull[box[0]], body.spacing_mm)
        if np.median(depth_mm[(slice(None), *box[1:])][piece]) > MISSED_DEPTH_MM:
            yield ml, box[0].start, box[0].stop - 1
