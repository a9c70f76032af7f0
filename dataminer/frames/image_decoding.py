"""From the bytes of an image to its pixels, within limits."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dataminer.files.reading import open_file

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 178_000_000  # the most that the settings allow for a frame of a video
MAX_PIXELS_AT_ONCE = 170_000_000  # of decoded images in or waiting for a model: 512 MB
_SIGNATURES = (  # first and last bytes
    (b"\xff\xd8", b"\xff\xd9"),  # JPEG
    (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
    (b"RIFF", b""),  # WebP
)
_LONGEST_SIGNATURE = 8


@contextlib.contextmanager
def opencv_memory_errors() -> Iterator[None]:
    """Raise MemoryError if OpenCV runs out of memory."""
    import cv2

    try:
        yield
    except cv2.error as error:
        if getattr(error, "code", None) == cv2.Error.StsNoMem or "bad_alloc" in str(error):
            raise MemoryError(str(error)) from error
        raise


def decode_image(data: bytes, *, rgb: bool = False) -> NDArray[np.uint8]:
    """Decode an image.

    Parameters
    ----------
    data : bytes
        A file in any format that OpenCV reads.
    rgb : bool
        Whether red comes first; otherwise blue does.

    Returns
    -------
    ndarray of uint8, (height, width, 3)

    Raises
    ------
    ValueError
        It is no image, or OpenCV refuses its size.
    """
    import cv2

    colour = cv2.IMREAD_COLOR_RGB if rgb else cv2.IMREAD_COLOR
    try:
        with opencv_memory_errors():
            image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), colour) if data else None
    except cv2.error as error:
        raise ValueError(str(error)) from error
    if image is None:
        raise ValueError("not an image")
    return np.asarray(image, np.uint8)


@contextlib.contextmanager
def open_image(data: bytes) -> Iterator[ImageFile]:
    """Open an image with Pillow, which decodes it only in the body.

    ``Image.open`` is avoided, because ultralytics replaces it by a function that looks for
    packages.

    Parameters
    ----------
    data : bytes
        A file in one of the formats of frames.

    Raises
    ------
    ValueError
        It is no image, is damaged, or has more than ``MAX_PIXELS``; errors in the body as well.
    """
    from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    openers: tuple[Any, ...] = (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
    )
    formats = zip(_SIGNATURES, openers, strict=True)
    opener = next((opener for (start, _), opener in formats if data.startswith(start)), None)
    if opener is None:
        raise ValueError("not an image")
    try:
        with opener(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"it has {image.width} x {image.height} pixels")
            yield image
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error) as error:
        raise ValueError(f"damaged: {error}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error


def check_declared_pixels(data: bytes, max_pixels: int) -> None:
    """Raise ValueError if an image declares more than ``max_pixels``, or is no image."""
    with open_image(data) as image:
        if image.width * image.height > max_pixels:
            raise ValueError(f"it has {image.width} x {image.height} pixels, not {max_pixels}")


def is_complete_image(path: Path) -> bool:
    """Return whether the first and last bytes of a file are those of an image.

    Raises
    ------
    DamagedFile
        It is a link.
    """
    with open_file(path) as file:
        start = file.read(_LONGEST_SIGNATURE)
        file.seek(max(file.seek(0, os.SEEK_END) - _LONGEST_SIGNATURE, 0))
        end = file.read()
    return any(start.startswith(first) and end.endswith(last) for first, last in _SIGNATURES)
