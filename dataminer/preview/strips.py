"""Frames on both sides of a threshold, as small pictures."""

from __future__ import annotations

import base64
import io
from collections import Counter
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL.Image import Resampling

from dataminer.errors import PermanentError
from dataminer.frames.image_decoding import open_image
from dataminer.frames.images import FrameReader
from dataminer.frames.table import PROVENANCE
from dataminer.preview.measures import Measured, Preview
from dataminer.stages.filter.thresholds import Flags

FRAMES = 6  # of a strip
_SIZE = (256, 160)  # pixels
_QUALITY = 74
_CANDIDATES = 600
_APART = 2.0  # seconds between two frames of a video in one strip


@dataclass(frozen=True)
class StripFrame:
    """A frame of a strip; its picture is a data URI, empty if it cannot be read."""

    picture: Markup
    video_id: str
    title: str
    seconds: float
    value: float


@dataclass(frozen=True)
class Strips:
    """The frames nearest to a threshold, the nearest first."""

    kept: tuple[StripFrame, ...]
    rejected: tuple[StripFrame, ...]


class Cutter:
    """Makes strips; reads a picture once even if it is in several of them."""

    def __init__(self, preview: Preview) -> None:
        self._preview = preview
        self._failing = preview.matrix(tried=True).sum(axis=0)
        self._pictures: dict[int, Markup] = {}

    def strips(self, measured: Measured) -> Strips:
        """Return the frames just above and just below a threshold; of a flag, those that have it.

        If some frames pass all other thresholds, only those are returned.
        """
        if measured.threshold.is_flag:
            return Strips((), self._frames(measured, measured.values > 0))
        if measured.tried is None:
            return Strips((), ())
        fails = measured.tried_fails
        others = self._failing - fails > 0
        sides = []
        for side in (~fails, fails):
            candidates = side & ~np.isnan(measured.values)
            decided = candidates & ~others
            sides.append(self._frames(measured, decided if decided.any() else candidates))
        return Strips(*sides)

    def _frames(self, measured: Measured, candidates: Flags) -> tuple[StripFrame, ...]:
        rows = np.flatnonzero(candidates)
        distance = np.abs(measured.values[rows] - np.float32(measured.tried or 0.0))
        nearest = rows[np.argsort(distance, kind="stable")[:_CANDIDATES]]
        return tuple(self._frame(int(row), measured) for row in self._unlike(nearest))

    def _unlike(self, rows: NDArray[np.int64]) -> list[int]:
        """Choose the first rows that are not all from one moment of one video, if possible."""
        chosen: list[tuple[int, str, float]] = []
        per_video: Counter[str] = Counter()
        left = []
        for row in rows.tolist():
            video, index = self._preview.locate(row)
            seconds = float(video.frames["pts_time"][index].as_py())
            near = any(v == video.video_id and abs(s - seconds) < _APART for _, v, s in chosen)
            if near or per_video[video.video_id] >= FRAMES // 3:
                left.append(row)
                continue
            chosen.append((row, video.video_id, seconds))
            per_video[video.video_id] += 1
            if len(chosen) == FRAMES:
                break
        taken = [row for row, _, _ in chosen]
        taken += left[: FRAMES - len(taken)]
        order = {row: rank for rank, row in enumerate(rows.tolist())}
        return sorted(taken, key=order.__getitem__)

    def _frame(self, row: int, measured: Measured) -> StripFrame:
        video, index = self._preview.locate(row)
        frames = video.frames
        if row not in self._pictures:
            with FrameReader(video.folder) as reader:
                self._pictures[row] = _picture(reader, frames["file_name"][index].as_py())
        return StripFrame(
            picture=self._pictures[row],
            video_id=video.video_id,
            title=frames[PROVENANCE[0]][index].as_py() or "",
            seconds=float(frames["pts_time"][index].as_py()),
            value=float(measured.values[row]),
        )


def _picture(reader: FrameReader, name: str) -> Markup:
    """Return a small picture as a data URI; empty if the image is missing or damaged."""
    try:
        with open_image(reader.read_checked(name)) as image:
            image.draft("RGB", _SIZE)  # a JPEG is decoded at a fraction of its size
            small = image.convert("RGB")
    except (PermanentError, OSError, ValueError):
        return Markup()
    small.thumbnail(_SIZE, Resampling.BILINEAR)
    packed = io.BytesIO()
    small.save(packed, "JPEG", quality=_QUALITY)
    return Markup(f"data:image/jpeg;base64,{base64.b64encode(packed.getvalue()).decode()}")
