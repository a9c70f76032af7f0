"""Perceptual hashes of many images at once, equal to imagehash's on the same pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dct

from dataminer.stages.extract.quality.arrays import GreyImage

_SIDE = 32  # pixels of the cosine transform's input
_LOW = 8  # the lowest frequencies on each axis give the bits
_BATCH = 512  # images transformed at once: 4 MB of doubles


@dataclass(frozen=True)
class HashPixels:
    """All that the hashes of an image need: a kilobyte.

    Attributes
    ----------
    square : ndarray of uint8, (32, 32)
    strip : ndarray of uint8, (8, 9)
    """

    square: GreyImage
    strip: GreyImage

    @classmethod
    def of(cls, grey: GreyImage) -> HashPixels:
        """Reduce a grey image as imagehash does: Lanczos, by Pillow, to 32x32 and to 9x8.

        Parameters
        ----------
        grey : ndarray of uint8, (height, width)
        """
        image = Image.fromarray(grey)
        return cls(_resized(image, _SIDE, _SIDE), _resized(image, _LOW + 1, _LOW))


def phashes(pixels: Sequence[HashPixels]) -> NDArray[np.uint64]:
    """Return the 64-bit perceptual hash of each image.

    A bit is set if one of the lowest 8x8 coefficients of the discrete cosine transform is above
    their median: ``imagehash.phash``, after N. Krawetz, "Looks Like It", hackerfactor.com, 2011.

    Returns
    -------
    ndarray of uint64, (n,)
        Numbers whose hexadecimal digits are those of ``str(imagehash.phash(...))``.
    """
    batches = [_low_frequencies(pixels[n : n + _BATCH]) for n in range(0, len(pixels), _BATCH)]
    if not batches:
        return np.empty(0, np.uint64)
    low = np.concatenate(batches)
    return _packed(low > np.median(low, axis=(1, 2), keepdims=True))


def dhashes(pixels: Sequence[HashPixels]) -> NDArray[np.uint64]:
    """Return the 64-bit difference hash of each image.

    A bit is set if a pixel of the 9x8 image is brighter than its left neighbour:
    ``imagehash.dhash``, after N. Krawetz, "Kind of Like That", hackerfactor.com, 2013.

    Returns
    -------
    ndarray of uint64, (n,)
    """
    if not pixels:
        return np.empty(0, np.uint64)
    strips = np.stack([each.strip for each in pixels])
    return _packed(strips[:, :, 1:] > strips[:, :, :-1])


def _resized(image: Image.Image, width: int, height: int) -> GreyImage:
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS), np.uint8)


def _low_frequencies(pixels: Sequence[HashPixels]) -> NDArray[np.float64]:
    squares = np.stack([each.square for each in pixels]).astype(np.float64)
    # the same calls as imagehash's; a product with 8 cosines would round differently, and the
    # coefficients of symmetric images are rounding errors only
    return np.asarray(dct(dct(squares, axis=1), axis=2)[:, :_LOW, :_LOW], np.float64)


def _packed(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    eight = np.packbits(bits.reshape(len(bits), 64), axis=1)
    return eight.view(">u8").ravel().astype(np.uint64)
