"""Images as metrics see them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dataminer.stages.extract.quality.metrics import to_working_size


def working_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image, blue first, in grey at the working size."""
    return to_working_size(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8))
