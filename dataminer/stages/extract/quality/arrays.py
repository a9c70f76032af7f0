"""Kinds of images that are measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GreyImage = NDArray[np.uint8]
"""(height, width)."""
BgrImage = NDArray[np.uint8]
"""(height, width, 3): blue, green, red, as OpenCV orders them."""
