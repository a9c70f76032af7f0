"""Eight colour patches whose true colours are known, and clips of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from dataminer.config.models import ExtractConfig
from dataminer.frames.table import read_meta, read_table
from dataminer.stages.extract.stage import extract
from tests.support.matrix.pictures import PATCHES

WIDTH, HEIGHT = 160, 120


def patches_picture(width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Draw the patches: (height, width, 3), red, green, blue."""
    return np.asarray(cv2.resize(PATCHES, (width, height), interpolation=cv2.INTER_NEAREST))


def patch_error(image: NDArray[np.uint8]) -> float:
    """Return the largest difference to the true colours, of any component of any patch.

    Parameters
    ----------
    image : ndarray, (height, width, 3)
        Blue, green, red, of any size.
    """
    height, width = image.shape[:2]
    found = []
    for index in range(8):
        row, column = divmod(index, 4)
        y, x = int((row + 0.5) * height / 2), int((column + 0.5) * width / 4)
        area = image[y - 4 : y + 4, x - 4 : x + 4].reshape(-1, 3)
        found.append(np.median(area, axis=0)[::-1])
    return float(np.abs(np.array(found) - PATCHES.reshape(8, 3)).max())


def frame_of_planes(planes: list[NDArray[Any]], pixel_format: str) -> av.VideoFrame:
    """Return a frame with these planes, of bytes or 16-bit values."""
    height, width = planes[0].shape[:2]
    frame = av.VideoFrame(width, height, pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
        padded = np.zeros((plane.height, plane.line_size), np.uint8)
        padded[:, : rows.shape[1]] = rows
        plane.update(padded.tobytes())
    return frame


def encode(
    path: Path,
    frames: list[av.VideoFrame],
    codec: str,
    pixel_format: str | None = None,
    *,
    options: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    **stream_settings: Any,
) -> Path:
    """Encode frames at 25 per second.

    Parameters
    ----------
    tags : dict, optional
        ``color_trc``, ``color_primaries``, ``colorspace``, ``color_range`` of the stream.
    **stream_settings
        Attributes of the stream.
    """
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = pixel_format or frames[0].format.name
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        for name, value in stream_settings.items():
            setattr(stream, name, value)
        for index, frame in enumerate(frames):
            for name, value in (tags or {}).items():
                setattr(frame, name, value)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


class Extracted:
    """The first frame that extract gives, and what its table says."""

    def __init__(self, video: Path, out: Path, **settings: Any) -> None:
        out.mkdir()
        config = ExtractConfig(image_format="png", **settings)
        self.warning = extract(video, out, "v", config).warning
        table = read_table(out / "frames.parquet")
        self.meta = read_meta(out / "frames.parquet")
        self.notes: dict[str, int] = self.meta["notes"]
        self.rows: list[dict[str, Any]] = table.to_pylist()
        self.row = self.rows[0]
        self.images = [self._read(out / row["file_name"]) for row in self.rows]
        self.image = self.images[0]

    @staticmethod
    def _read(path: Path) -> NDArray[np.uint8]:
        image = cv2.imread(str(path))
        assert image is not None
        return np.asarray(image, np.uint8)
