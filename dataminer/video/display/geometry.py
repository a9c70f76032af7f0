"""The geometry of frames, and of the stream that they belong to."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dataminer.video.containers.clean_aperture import read_clean_aperture
from dataminer.video.containers.cropping import Cropping
from dataminer.video.containers.pixel_crop import read_pixel_crop
from dataminer.video.display.frame_ratio import RATIO_ERROR, ratio_of_frame
from dataminer.video.display.orientation import Orientation

MAX_SAMPLE_ASPECT_RATIO = 8
"""Sample aspect ratios beyond it, or below its inverse, are taken as mistakes: pixels are square.

Anamorphic films have up to 2, and fields that are stored as frames half of that.
"""
_SQUARE = Fraction(1)
# containers that leave it to the codec
_WITHOUT_RATIO = {"mpegts", "mpeg", "mpegvideo", "m4v", "h264", "hevc", "vvc", "vc1", "obu"}


@dataclass(frozen=True)
class Geometry:
    """What is done to stored frames, in this order."""

    cropping: Cropping = field(default_factory=Cropping)
    sample_aspect_ratio: Fraction = _SQUARE
    """Width of a stored pixel by its height; frames are enlarged to make it 1."""
    orientation: Orientation = field(default_factory=Orientation)

    def displayed_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height at which frames of a stored size are displayed."""
        width, height = self._squared_size(*self._cropped_size(width, height))
        return (height, width) if self.orientation.transpose else (width, height)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring an image, (height, width, 3), from how it is stored to how it is displayed."""
        height, width = image.shape[:2]
        if self.cropping.applies_to(width, height):
            crop = self.cropping
            image = image[crop.top : height - crop.bottom, crop.left : width - crop.right]
            image = np.ascontiguousarray(image)
            height, width = image.shape[:2]
        size = self._squared_size(width, height)
        if size != (width, height):
            import cv2  # downloads only ask for the size and need not wait 0.2 s

            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        return self.orientation.apply(image)

    def _cropped_size(self, width: int, height: int) -> tuple[int, int]:
        if not self.cropping.applies_to(width, height):
            return width, height
        crop = self.cropping
        return width - crop.left - crop.right, height - crop.top - crop.bottom

    def _squared_size(self, width: int, height: int) -> tuple[int, int]:
        if self.sample_aspect_ratio > 1:
            return round(width * self.sample_aspect_ratio), height
        return width, round(height / self.sample_aspect_ratio)


class StreamGeometry:
    """The geometry of a stream's frames, while they are decoded.

    Parameters
    ----------
    path : Path
        The file.
    container, stream
        As opened, before any frame is decoded.
    """

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        self._stream = stream
        self._cropping = _read_cropping(path, container, stream)
        self._has_own_ratio = container.format.name not in _WITHOUT_RATIO
        self._container_ratio: Fraction | None = None
        self._first_ratio: Fraction | None = None
        self._has_begun = self._changes = False

    def of_frame(self, orientation: Orientation, frame: VideoFrame | None = None) -> Geometry:
        """Return the geometry of the frame that was decoded last; without one, of the first."""
        ratio = plausible_ratio(self._declared_ratio(frame))
        return Geometry(self._cropping, ratio, orientation)

    def _declared_ratio(self, frame: VideoFrame | None) -> Fraction | None:
        """Return the container's ratio; that of the codec, which may change, if it has none.

        libav takes over the codec's first ratio for the container if that has none, so that only
        another one is known to be the container's.
        """
        # of a frame that may be decoded later than this one
        ratio = self._stream.codec_context.sample_aspect_ratio
        if not self._has_begun:
            self._has_begun, declared = True, self._stream.sample_aspect_ratio
            # of most files, both are square, and need no look at a frame
            is_square = _are_equal(ratio, _SQUARE) and _are_equal(declared, _SQUARE)
            self._first_ratio = None if is_square else self._ratio_of(frame)
            if self._has_own_ratio and not _are_equal(declared, self._first_ratio):
                self._container_ratio = declared
        if self._container_ratio:
            return self._container_ratio
        self._changes = self._changes or not _are_equal(ratio, self._first_ratio)
        return self._ratio_of(frame) if self._changes else self._first_ratio

    def _ratio_of(self, frame: VideoFrame | None) -> Fraction | None:
        """Return the codec's ratio for a frame; without a frame, for the one decoded last."""
        latest = self._stream.codec_context.sample_aspect_ratio
        if frame is None:
            return latest
        with suppress(av.FFmpegError):  # of pixels that libav does not convert
            ratio = ratio_of_frame(frame)
            known = (latest, self._stream.sample_aspect_ratio)
            return next((r for r in known if r and abs(r - ratio) < RATIO_ERROR), ratio)
        return latest


def _are_equal(first: Fraction | None, second: Fraction | None) -> bool:
    """Return whether two ratios are the same; None means square."""
    return (first or _SQUARE) == (second or _SQUARE)


def plausible_ratio(ratio: Fraction | None) -> Fraction:
    """Return a declared sample aspect ratio; 1 if it is not declared, or absurd."""
    if not ratio or not 1 / MAX_SAMPLE_ASPECT_RATIO <= ratio <= MAX_SAMPLE_ASPECT_RATIO:
        return _SQUARE
    return ratio


def _read_cropping(path: Path, container: InputContainer, stream: VideoStream) -> Cropping:
    """Read which part of a stream's frames is the picture; what cannot be read crops nothing."""
    kind = container.format.name
    cropping = None
    with suppress(OSError, ValueError, struct.error), path.open("rb") as file:
        if kind.startswith("mov,"):
            cropping = read_clean_aperture(file, stream.id)
        elif kind.startswith("matroska"):
            indices = [other.index for other in container.streams.video]
            cropping = read_pixel_crop(file, indices.index(stream.index))
    return cropping or Cropping()
