"""Masks as NIfTI, with the names of their values in the header.

Z slices, H rows, W columns.
"""

import gzip

import numpy as np

from lungct.masks.segments import WHOLE, Segment
from lungct.masks.volume import as_volume
from lungct.scans.geometry import Frame
from lungct.scans.nifti import RAS_TO_LPS

CARET = 30  # NIFTI_ECODE_CARET; TotalSegmentator writes the same under 0, where Connectome Workbench does not look
UNLABELLED = '<Label Key="0" Red="0" Green="0" Blue="0" Alpha="0"><![CDATA[???]]></Label>'  # as Workbench writes it


def nifti_bytes(labels: np.ndarray, frame: Frame, segments: tuple[Segment, ...] = WHOLE) -> bytes:
    """A mask (Z, H, W), bool or uint8, as the bytes of a .nii.gz (uint8) on the grid and in the axis order of its scan.

    segments: what its values are; SIDES for those of `split_left_right`

    Its places are in the space of those of the scan, such as MNI. Where a NIfTI file says nothing of its orientation,
    this one says nothing either: what a program takes for granted holds for both. A missing slice becomes an empty one.
    A tilted gantry makes a sheared affine, which NIfTI can say (sform). Raises LungError as `as_volume` does.
    """
    import nibabel  # here: DICOM users never need it

    volume, affine = as_volume(labels, frame, segments)
    image = nibabel.Nifti1Image(volume, RAS_TO_LPS @ affine if frame.nifti_code else None)
    voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if frame.nifti_code:
        unit = image.affine[:3, :3] / voxel_mm
        image.set_sform(image.affine, code=frame.nifti_code)
        is_straight = np.allclose(unit.T @ unit, np.eye(3), atol=1e-3)
        image.set_qform(image.affine, code=frame.nifti_code if is_straight else 0)
    else:
        image.header.set_zooms(voxel_mm)
    image.header.set_xyzt_units("mm")
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(CARET, label_table(segments).encode()))
    return gzip.compress(image.to_bytes(), compresslevel=3, mtime=0)


def label_table(segments: tuple[Segment, ...]) -> str:
    """Names and colours as the XML that Connectome Workbench and TotalSegmentator keep in a NIfTI header."""
    labels = [UNLABELLED]
    for segment in segments:
        red, green, blue = (f"{part / 255:.4f}" for part in segment.rgb)
        colour = f'Red="{red}" Green="{green}" Blue="{blue}" Alpha="1"'
        labels.append(f'<Label Key="{segment.value}" {colour}><![CDATA[{segment.name}]]></Label>')
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<CaretExtension><VolumeInformation Index="0"><LabelTable>\n'
        + "\n".join(labels)
        + "\n</LabelTable><StudyMetaDataLinkSet></StudyMetaDataLinkSet><VolumeType><![CDATA[Label]]></VolumeType>"
        "</VolumeInformation></CaretExtension>\n"
    )
