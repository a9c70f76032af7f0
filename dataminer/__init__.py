"""dataminer: videos in, a clean, de-duplicated, annotated image dataset out."""

__version__ = "0.1.0"
