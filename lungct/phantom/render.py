"""A synthetic patient scanned: HU of each slice, and the truth.

Z slices, H rows, W columns.
"""

from dataclasses import dataclass

import numpy as np

from lungct.phantom.anatomy import (
    ABOVE_MM,
    AIR_HU,
    BELOW_MM,
    BLOOD,
    FAT,
    FLUID,
    FOAM,
    LIVER,
    MUSCLE,
    SHELL,
    Build,
    Organs,
    draw_build,
)
from lungct.phantom.tubes import (
    Tube,
    airway_tubes,
    bone_tubes,
    bowel_gas,
    draw_tube,
    pixel_coverage,
    vessel_tubes,
    wall_nodules,
)
from lungct.slices import middle_indices

THICK_MM = 3.5  # slices thicker than this are the mean of three planes


@dataclass(frozen=True)
class Patient:
    """A synthetic scan: ct_hu (Z, H, W) int16, lung (Z, H, W) bool, spacing_mm (slice, row, column)."""

    ct_hu: np.ndarray
    lung: np.ndarray
    spacing_mm: tuple[float, float, float]


def make_patient(
    seed: int,
    matrix: tuple[int, int] = (512, 512),
    slice_mm: float = 5.0,
    build: Build | None = None,
    middle: int | None = None,
) -> Patient:
    """Scan the patient of this seed, from the upper belly to the neck.

    matrix:   rows and columns; the field of view is square in mm along the columns
    slice_mm: distance and thickness of the slices
    build:    a patient of your own making instead of a random one
    middle:   only so many slices from the middle of the scan
    """
    build = build or draw_build(seed)
    rng = np.random.default_rng((build.seed, 1))
    pixel_mm = build.fov / matrix[1]
    x = (np.arange(matrix[1]) - (matrix[1] - 1) / 2) * pixel_mm + build.off_centre[0]
    y = (np.arange(matrix[0]) - (matrix[0] - 1) / 2) * pixel_mm + build.off_centre[1]
    z = np.arange(-BELOW_MM, build.height + ABOVE_MM, slice_mm)

    organs = Organs(build, x, y, z, rng)
    if middle is not None:
        z = z[[*middle_indices(len(z), middle)]]
    tubes = [*airway_tubes(build, rng), *bone_tubes(build), *bowel_gas(build, rng)]
    tubes += [*vessel_tubes(build, organs.depth_in_lung, rng), *wall_nodules(build, organs.depth_in_lung, rng)]
    ct_hu = np.empty((len(z), *matrix), np.int16)
    lung = np.empty(ct_hu.shape, bool)
    for k, z_mm in enumerate(z):
        planes = [z_mm] if slice_mm < THICK_MM else [z_mm - slice_mm / 3, z_mm, z_mm + slice_mm / 3]
        image = np.mean([render(build, organs, tubes, plane, slice_mm / len(planes)) for plane in planes], axis=0)
        ct_hu[k] = as_scanned(build, image, rng)
        lung[k] = true_lung(organs, tubes, z_mm) & (ct_hu[k] != build.padding)
    return Patient(ct_hu, lung, (float(slice_mm), pixel_mm, pixel_mm))


def render(build: Build, organs: Organs, tubes: list[Tube], z_mm: float, thickness_mm: float) -> np.ndarray:
    """HU of one plane without noise: (H, W) float32."""
    field = organs.plane(z_mm)
    pixel_mm = float(organs.x[1] - organs.x[0])
    image = table(build, organs.x, organs.y)
    blend(image, FAT, field["trunk"], pixel_mm)
    blend(image, MUSCLE, np.maximum(field["trunk"] + build.fat, -8 - field["cavity"]), pixel_mm)
    blend(image, FAT + 80, field["cavity"], pixel_mm)  # mediastinum: fat and nodes
    blend(image, LIVER + (FAT - LIVER) * field["offal"], np.maximum(field["belly"], field["cavity"]), pixel_mm)
    blend(image, BLOOD + build.contrast, field["blood"], pixel_mm)
    blend(image, 180, field["spine"], pixel_mm)
    blend(image, FLUID, field["fluid"], pixel_mm)
    down = -organs.y if build.prone else organs.y
    lung_hu = build.lung_hu + build.gradient_hu * (down / build.half_depth)[:, None] - 70 * field["dense"]
    lung_hu = np.maximum(lung_hu + (40 - lung_hu) * field["thick"], -985)
    blend(image, lung_hu, field["lung"], pixel_mm)
    for tube in tubes_near(tubes, z_mm, thickness_mm / 2):
        draw_tube(image, tube, field["lung"], organs.x, organs.y, z_mm, thickness_mm)
    return image


def tubes_near(tubes: list[Tube], z_mm: float, reach_mm: float) -> list[Tube]:
    """The tubes that a plane can meet."""
    return [t for t in tubes if t.low_mm - reach_mm < z_mm < t.high_mm + reach_mm]


def blend(image: np.ndarray, hu: float | np.ndarray, distance: np.ndarray, pixel_mm: float) -> None:
    """Lay a material over the image; a pixel at its edge gets its share of both."""
    image += (hu - image) * pixel_coverage(distance, pixel_mm)


def table(build: Build, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Air, and the table below the patient: a curved shell filled with foam."""
    rows = (-y if build.prone else y)[:, None]
    gap = rows - (build.half_depth + build.wall + 5) + (x[None] / 60) ** 2 * 2.2
    image = np.full((len(y), len(x)), AIR_HU, np.float32)
    image[(gap > 0) & (gap < 34)] = FOAM
    image[((gap > 0) & (gap < 2)) | ((gap > 32) & (gap < 34))] = SHELL
    return image


def true_lung(organs: Organs, tubes: list[Tube], z_mm: float) -> np.ndarray:
    """The lungs at one height, without trachea and main bronchi and their walls: (H, W) bool."""
    distance = organs.plane(z_mm)["lung"]
    lung = distance < 0
    for tube in tubes_near(tubes, z_mm, 0.0):
        if tube.cuts_lung:
            draw_tube(lung, tube, distance, organs.x, organs.y, z_mm, 0.0)
    return lung


def as_scanned(build: Build, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise, then padding: int16 HU as a scanner stores it."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.standard_normal(image.shape, np.float32), build.grain_px)
    image = np.clip(image + noise * (build.noise_hu / noise.std()), -1024, 3071)
    if build.padding is not None:
        v, u = np.ogrid[-1 : 1 : image.shape[0] * 1j, -1 : 1 : image.shape[1] * 1j]
        image[u * u + v * v > 1] = build.padding
    return np.rint(image).astype(np.int16)
