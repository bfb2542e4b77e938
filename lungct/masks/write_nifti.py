"""Masks as NIfTI, with the names of their values in the header.

Z slices, H rows, W columns.
"""

import gzip
import io

import numpy as np

from lungct.masks.segments import WHOLE, Segment
from lungct.masks.volume import as_volume
from lungct.scans.geometry import Frame
from lungct.scans.nifti import RAS_TO_LPS

CARET = 30  # NIFTI_ECODE_CARET; TotalSegmentator writes the same under 0, where Connectome Workbench does not look
ROUNDING = 1e-3  # in the cosines of axes at right angles, as DICOM files have them
UNLABELLED = '<Label Key="0" Red="0" Green="0" Blue="0" Alpha="0"><![CDATA[???]]></Label>'  # as Workbench writes it


def nifti_bytes(labels: np.ndarray, frame: Frame, segments: tuple[Segment, ...] = WHOLE) -> bytes:
    """A mask (Z, H, W), bool or uint8, as the bytes of a .nii.gz (uint8) on the grid and in the axis order of its scan.

    segments: what its values are; SIDES for those of `split_left_right`

    The mask of a NIfTI file takes over all that the header says of its place (nifti_forms.py), and nothing where it
    says nothing: where a program puts the one it puts the other. A missing slice becomes an empty one. A tilted gantry
    makes a sheared affine, which NIfTI can say (sform). Raises LungError as `as_volume` does.
    """
    import nibabel  # here: DICOM users never need it

    from lungct.scans.nifti_forms import copy_forms, is_straight

    volume, affine = as_volume(labels, frame, segments)
    affine = RAS_TO_LPS @ affine
    if frame.nifti_forms:
        image = nibabel.Nifti1Image(volume, None)
        copy_forms(image.header, frame.nifti_forms, affine[:3, 3])
    else:
        image = nibabel.Nifti1Image(volume, affine)
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=int(is_straight(affine, ROUNDING)))
        image.header.set_xyzt_units("mm")
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(CARET, label_table(segments).encode()))
    return gzip.compress(image.to_bytes(), compresslevel=3, mtime=0)


def nifti_flags(frame: Frame, content: bytes, ending: str) -> list[str]:
    """What to say of a .nii.gz that `nifti_bytes` made, a phrase each."""
    import nibabel

    from lungct.scans.nifti_forms import needs_shear

    header = nibabel.Nifti1Header.from_fileobj(gzip.GzipFile(fileobj=io.BytesIO(content)), check=False)
    if not needs_shear(header):
        return []
    return [f"the {ending} is sheared as the gantry was tilted: SimpleITK, 3D Slicer and ITK-SNAP do not open it"]


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
