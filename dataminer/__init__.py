"""dataminer: videos in, a clean, de-duplicated, annotated image dataset out."""

import os

__version__ = "0.4.0"

# NumPy, SciPy and OpenCV each bring an OpenBLAS that starts a thread a core when it is imported,
# and these spin for 0.1 s of CPU each; rules with more threads than one work by torch, which has
# its own
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# OpenCV reads this as it is imported, and then no picture that declares more pixels; as Pillow
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "178956970")
