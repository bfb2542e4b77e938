"""Formats in which masks leave for other programs.

Z slices, H rows, W columns.
"""

import gzip

import numpy as np

from lungct import LungError

MOST_OFF = 0.25  # of a slice's distance, between its place and the one that NIfTI gives it
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI counts to the right and to the front


def nifti_bytes(
    mask: np.ndarray, corners_mm: np.ndarray, axes: np.ndarray, spacing_mm: tuple[float, float, float]
) -> bytes:
    """A mask or labels (Z, H, W) as the bytes of a .nii.gz (uint8) that lies where its scan lies.

    The other arguments are as `Scan` has them. A missing slice becomes an empty one. A tilted gantry makes a sheared
    frame, which NIfTI can say (sform). Raises LungError where the slices are not equally spaced: it cannot say that.
    """
    import nibabel

    z_mm = corners_mm[:, 2]
    places = np.rint((z_mm - z_mm[0]) / spacing_mm[0]).astype(int)
    step_mm = np.array([0, 0, spacing_mm[0]])
    if len(places) > 1:
        step_mm = (corners_mm[-1] - corners_mm[0]) / places[-1]
    if len(set(places)) < len(places) or np.abs(z_mm - z_mm[0] - places * step_mm[2]).max() > MOST_OFF * spacing_mm[0]:
        raise LungError("slices at unequal distances cannot be a NIfTI file; use --save npy")
    volume = np.zeros((places[-1] + 1, *mask.shape[1:]), np.uint8)
    volume[places] = mask
    frame = np.eye(4)
    frame[:3] = np.column_stack([axes[0] * spacing_mm[2], axes[1] * spacing_mm[1], step_mm, corners_mm[0]])
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0), RAS_TO_LPS @ frame)
    unit = frame[:3, :3] / np.linalg.norm(frame[:3, :3], axis=0)
    image.set_sform(image.affine, code="scanner")
    image.set_qform(image.affine, code="scanner" if np.allclose(unit.T @ unit, np.eye(3), atol=1e-3) else "unknown")
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=3, mtime=0)
