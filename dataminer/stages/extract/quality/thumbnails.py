"""The thumbnail of a frame, made while the frame is in memory."""

from __future__ import annotations

import cv2
import numpy as np

from dataminer.frames.thumbnails import HEIGHT, PARTS, WIDTH, Thumbnail
from dataminer.stages.extract.quality.arrays import BgrImage, GreyImage

_QUALITY = 75  # of JPEG: about a kilobyte, and errors below those of compressed video
_UPRIGHT = 1.15  # height to width; no usual ratio is near it, so that copies agree
_SAMPLES = 2  # a side: four pixels of the frame for one of colour


def make_thumbnail(image: BgrImage, grey: GreyImage) -> Thumbnail:
    """Reduce a frame to a thumbnail.

    Parameters
    ----------
    image : ndarray of uint8, (height, width, 3)
        Without black bars.
    grey : ndarray of uint8, (h, w)
        The same, reduced to less than twice the size of a thumbnail: all pixels count for
        brightness, while colour is sampled.

    Returns
    -------
    Thumbnail
        Equal pixels give equal bytes.
    """
    upright = image.shape[0] > _UPRIGHT * image.shape[1]
    width, height = (HEIGHT, WIDTH) if upright else (WIDTH, HEIGHT)
    chroma = (width // 2, height // 2)  # JPEG halves colour anyway
    samples = (_SAMPLES * chroma[0], _SAMPLES * chroma[1])
    colours = cv2.resize(image, samples, interpolation=cv2.INTER_NEAREST)
    colours = cv2.resize(colours, chroma, interpolation=cv2.INTER_AREA)
    planes = cv2.cvtColor(colours, cv2.COLOR_BGR2YCrCb)
    planes = cv2.resize(planes, (width, height), interpolation=cv2.INTER_NEAREST)
    planes[:, :, 0] = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(planes, cv2.COLOR_YCrCb2BGR), options)[1]
    parts = (width // 6, height // 6)
    means = cv2.resize(planes, parts, interpolation=cv2.INTER_AREA).reshape(PARTS, 3)
    return Thumbnail(jpeg.tobytes(), np.ascontiguousarray(means.T, np.uint8))
