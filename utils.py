"""What other projects import from here: the lung label maker, and the directory check that every step starts with."""

from lungct.files import is_dir_path
from lungct.segmentation.threshold import segment_lung

__all__ = ["is_dir_path", "segment_lung"]
