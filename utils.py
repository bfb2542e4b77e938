"""What other projects import from here: `segment_lung`, which makes training labels, and the check of a folder."""

from lungct.files import is_dir_path
from lungct.segmentation.threshold import segment_lung

__all__ = ["is_dir_path", "segment_lung"]
