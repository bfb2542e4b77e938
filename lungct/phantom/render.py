"""A synthetic patient scanned: HU of each slice, and the lungs that are known to be there.

Z slices, H rows, W columns.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from lungct.phantom.anatomy import (
    ABOVE_MM,
    AIR_HU,
    BELOW_MM,
    BLOOD_HU,
    CONSOLIDATED_HU,
    FAT_HU,
    FLUID_HU,
    LIVER_HU,
    MEDIASTINUM_HU,
    MUSCLE_HU,
    SPINE_HU,
    TABLE_FOAM_HU,
    TABLE_SHELL_HU,
    Build,
    Fields,
    Organs,
    draw_build,
)
from lungct.phantom.bowel import bowel_tubes
from lungct.phantom.tubes import (
    Plane,
    Tube,
    airway_tubes,
    bone_tubes,
    covered_share,
    cut_tube,
    draw_tube,
    nodule_tubes,
    vessel_tubes,
)
from lungct.slices import CT_RANGE_HU, middle_indices

THICK_SLICE_MM = 3.5  # slices from this thickness on are the mean of three planes
MUSCLE_OVERLAP_MM = 8  # into the rib cage, where what fills that covers it: no gap between the two
TABLE_GAP_MM, TABLE_MM, TABLE_SHELL_MM = 5, 34, 2
EMPHYSEMA_HU, DARKEST_LUNG_HU = 70, -985  # lower by so much where all is lost; never darker than


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
    pixel_mm = build.fov_mm / matrix[1]
    x_mm = (np.arange(matrix[1]) - (matrix[1] - 1) / 2) * pixel_mm + build.off_centre_mm[0]
    y_mm = (np.arange(matrix[0]) - (matrix[0] - 1) / 2) * pixel_mm + build.off_centre_mm[1]
    heights_mm = np.arange(-BELOW_MM, build.height_mm + ABOVE_MM, slice_mm)

    organs = Organs(build, x_mm, y_mm, heights_mm, rng)
    if middle is not None:
        heights_mm = heights_mm[[*middle_indices(len(heights_mm), middle)]]
    tubes = all_tubes(build, organs, rng)
    ct_hu = np.empty((len(heights_mm), *matrix), np.int16)
    lung = np.empty(ct_hu.shape, bool)
    for k, z_mm in enumerate(heights_mm):
        planes_mm = [z_mm] if slice_mm < THICK_SLICE_MM else [z_mm - slice_mm / 3, z_mm, z_mm + slice_mm / 3]
        planes = [plane_hu(build, organs, tubes, plane_mm, slice_mm / len(planes_mm)) for plane_mm in planes_mm]
        ct_hu[k] = scanner_hu(build, np.mean(planes, axis=0), rng)
        lung[k] = true_lung(organs, tubes, z_mm) & (ct_hu[k] != build.padding_hu)
    return Patient(ct_hu, lung, (float(slice_mm), pixel_mm, pixel_mm))


def all_tubes(build: Build, organs: Organs, rng: np.random.Generator) -> list[Tube]:
    """The tubes of a patient in the order in which they are drawn: a later one covers an earlier one."""
    tubes = [*airway_tubes(build, rng), *bone_tubes(build), *bowel_tubes(build, rng)]
    tubes += vessel_tubes(build, organs.depth_in_lung_mm, rng)
    tubes += nodule_tubes(build, organs.depth_in_lung_mm, rng)
    return tubes


def plane_hu(build: Build, organs: Organs, tubes: list[Tube], z_mm: float, thickness_mm: float) -> np.ndarray:
    """HU of one plane without noise: (H, W) float32."""
    fields = organs.fields_at(z_mm)
    plane = Plane(organs.x_mm, organs.y_mm, z_mm, thickness_mm, fields.lung)
    image = empty_table_hu(build, organs.x_mm, organs.y_mm)
    materials = [
        (FAT_HU, fields.trunk),
        (MUSCLE_HU, np.maximum(fields.trunk + build.fat_mm, -MUSCLE_OVERLAP_MM - fields.cavity)),
        (MEDIASTINUM_HU, fields.cavity),
        (LIVER_HU + (FAT_HU - LIVER_HU) * fields.bowel_fat, np.maximum(fields.belly, fields.cavity)),
        (BLOOD_HU + build.contrast_hu, fields.blood),
        (SPINE_HU, fields.spine),
        (FLUID_HU, fields.fluid),
        (lung_hu(build, fields, organs.y_mm), fields.lung),
    ]
    for hu, distance_mm in materials:
        fill(image, hu, distance_mm, plane.pixel_mm)
    for tube in tubes_at(tubes, z_mm, thickness_mm / 2):
        draw_tube(image, tube, plane)
    return image


def empty_table_hu(build: Build, x_mm: np.ndarray, y_mm: np.ndarray) -> np.ndarray:
    """Air, and the table on which the patient lies, a curved shell filled with foam: (H, W) float32."""
    down = (-y_mm if build.prone else y_mm)[:, None]
    depth = down - (build.half_depth_mm + build.wall_mm + TABLE_GAP_MM) + (x_mm[None] / 60) ** 2 * 2.2
    image = np.full((len(y_mm), len(x_mm)), AIR_HU, np.float32)
    image[(depth > 0) & (depth < TABLE_MM)] = TABLE_SHELL_HU
    image[(depth >= TABLE_SHELL_MM) & (depth <= TABLE_MM - TABLE_SHELL_MM)] = TABLE_FOAM_HU
    return image


def lung_hu(build: Build, fields: Fields, y_mm: np.ndarray) -> np.ndarray:
    """HU of the lung without its vessels, whether a pixel is in it or not: (H, W)."""
    down = -y_mm if build.prone else y_mm
    hu = build.lung_hu + build.gradient_hu * (down / build.half_depth_mm)[:, None] - EMPHYSEMA_HU * fields.emphysema
    return np.maximum(hu + (CONSOLIDATED_HU - hu) * fields.consolidation, DARKEST_LUNG_HU)


def fill(image_hu: np.ndarray, hu: float | np.ndarray, distance_mm: np.ndarray, pixel_mm: float) -> None:
    """Fill an organ with a material, in place; a pixel at its edge gets its share of both."""
    image_hu += (hu - image_hu) * covered_share(distance_mm, pixel_mm)


def tubes_at(tubes: list[Tube], z_mm: float, reach_mm: float) -> list[Tube]:
    """The tubes of which a part lies at this height, or within `reach_mm` of it."""
    return [t for t in tubes if t.low_mm - reach_mm < z_mm < t.high_mm + reach_mm]


def true_lung(organs: Organs, tubes: list[Tube], z_mm: float) -> np.ndarray:
    """The lungs at one height, without trachea and main bronchi and their walls: (H, W) bool."""
    distance_mm = organs.lung_at(z_mm)
    lung = distance_mm < 0
    plane = Plane(organs.x_mm, organs.y_mm, z_mm, 0.0, distance_mm)
    for tube in tubes_at(tubes, z_mm, 0.0):
        if tube.cuts_lung:
            cut_tube(lung, tube, plane)
    return lung


def scanner_hu(build: Build, image_hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """HU (H, W) as a scanner stores them, int16: with noise, and with padding outside the reconstruction circle."""
    noise = gaussian_filter(rng.standard_normal(image_hu.shape, np.float32), build.grain_px)
    image_hu = np.clip(image_hu + noise * (build.noise_hu / noise.std()), *CT_RANGE_HU)
    if build.padding_hu is not None:
        v, u = np.ogrid[-1 : 1 : image_hu.shape[0] * 1j, -1 : 1 : image_hu.shape[1] * 1j]
        image_hu[u * u + v * v > 1] = build.padding_hu
    return np.rint(image_hu).astype(np.int16)
