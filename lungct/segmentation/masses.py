"""Nodules and masses that are attached to the wall of a lung by a narrow neck.

Z slices, h and w rows and columns of the coarse grid.
"""

import cc3d
import edt
import numpy as np
from scipy import ndimage

from lungct.segmentation.morphology import add_margin, bounding_box

NECK_RADII_MM = (4, 6, 8, 11)
LUNG_CONTACT = 0.65  # of the surface of a mass; hilar vessels and vertebrae that a neck sets apart have 0.6 or less
EDGE_MM = 1.0


def find_masses(aerated: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Tissue that narrow necks part from the rest of the body, and that lung surrounds: bool, same shape.

    aerated: bool (Z, h, w), lung as far as there is air in it
    Tissue at the first and the last slice is left out: what lies beyond is not known.
    """
    masses = np.zeros(aerated.shape, bool)
    if len(aerated) < 3 or not aerated.any():
        return masses
    box = bounding_box(aerated, spacing_mm, margin_mm=2 * max(NECK_RADII_MM))
    lung = aerated[box]
    depth_mm = edt.edt(~lung, anisotropy=spacing_mm)
    found = masses[box]
    for radius_mm in NECK_RADII_MM:
        core = cc3d.connected_components(depth_mm > radius_mm, connectivity=6)
        at_face = face_labels(core)
        for number, inner in enumerate(ndimage.find_objects(core), start=1):
            if number not in at_face:
                outer = add_margin(inner, core.shape, spacing_mm, radius_mm + EDGE_MM)
                found[outer] |= grow_core(core[outer] == number, core[outer] == 0, lung[outer], radius_mm, spacing_mm)
    return masses


def face_labels(label: np.ndarray) -> set[int]:
    """The numbers that touch a face of the volume."""
    faces = (np.take(label, end, axis) for axis in range(3) for end in (0, -1))
    return set(np.concatenate([np.unique(face) for face in faces]).tolist())


def grow_core(core: np.ndarray, free: np.ndarray, lung: np.ndarray, radius_mm: float, spacing_mm: tuple) -> np.ndarray:
    """A core grown back to its surface, bool, all of the same shape; nothing where too little of that is lung.

    free: what is not of another core either
    """
    to_core, to_others = (edt.edt(mask, anisotropy=spacing_mm) for mask in (~core, core | free))
    grown = ~lung & (to_core <= radius_mm + EDGE_MM) & (to_core < to_others)
    around = ndimage.binary_dilation(grown) & ~grown
    return grown & (np.mean(lung[around]) >= LUNG_CONTACT)
