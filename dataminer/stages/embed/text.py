"""Text in the frames of many videos, and which frames it covers too much of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataminer.config.models import TextConfig
from dataminer.config.semantic import LEAST_TEXT_CONFIDENCE
from dataminer.errors import DamagedFile
from dataminer.frames.image_decoding import decode_image
from dataminer.provenance import fingerprints
from dataminer.stages.embed.pending import PendingVideo
from dataminer.stages.embed.prefetch import (
    StoredFrame,
    decode_ahead,
    rows_by_video,
    stored_frames,
)
from dataminer.stages.embed.regions import FRAME_INDEX, Regions, read_regions, write_regions
from dataminer.stages.filter.scores import FrameScores
from dataminer.stages.filter.thresholds import TEXT_THRESHOLDS, passes_by_reason
from dataminer.vision.errors import first_line
from dataminer.vision.scene_text import SceneTextDetector, require_rapidocr, text_weights
from dataminer.vision.weights import weights_sha256

# the corners of a region in order, as shares of the picture's width and height
_CORNERS = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")
TEXT_SCHEMA = pa.schema(
    [
        FRAME_INDEX,
        pa.field("confidence", pa.float32(), nullable=False),
        *(pa.field(name, pa.float32(), nullable=False) for name in _CORNERS),
    ]
)
_LINES = 1024  # across a picture, along which the area is measured
_Progress = Callable[[str], None]


def detector_fingerprint(settings: TextConfig) -> str:
    """Return the fingerprint of the text detector: its weights, and the size of its pictures.

    Raises
    ------
    PermanentError
        The weights are not in the wheel of rapidocr.
    """
    return fingerprints.of_content_model(weights_sha256(text_weights()), settings.image_size)


def find_text(
    videos: Sequence[PendingVideo], settings: TextConfig, *, threads: int, progress: _Progress
) -> int:
    """Find text in the frames of the videos that lack it, and return how many videos did.

    The model is loaded at most once.

    Parameters
    ----------
    videos : sequence of PendingVideo
        The videos' frames, and the files for their regions of text.
    settings : TextConfig
        Image size.
    threads : int
        Each reads, decodes and processes a frame of its own.
    progress : callable
        Gets a message per video.

    Raises
    ------
    ConfigError
        The libraries are not installed.
    PermanentError
        The weights are missing or damaged.
    TransientError
        A library cannot be imported.
    """
    require_rapidocr()
    model = detector_fingerprint(settings)
    pending = [video for video in videos if video.lacks_output("text", model)]
    if not pending:
        return 0
    detector = _load(settings)
    progress("loaded the text detector")
    found = _found(detector, stored_frames(pending), threads)
    for video, rows in rows_by_video(found, pending):
        count, readable = write_regions(video, "text", TEXT_SCHEMA, rows, {"model": model})
        progress(f"found {count} lines of text in {readable} frames of video {video.video_id}")
    return len(pending)


def _load(settings: TextConfig) -> SceneTextDetector:
    import cv2

    cv2.setNumThreads(1)  # OpenCV's own threads would compete with ours
    # all that any threshold can ask for is stored, so that other thresholds need no model
    return SceneTextDetector(text_weights(), settings.image_size, LEAST_TEXT_CONFIDENCE)


def _found(
    detector: SceneTextDetector, frames: Iterator[StoredFrame], threads: int
) -> Iterator[tuple[StoredFrame, Regions | None]]:
    """Yield the regions of frames in their order; None for one that cannot be read."""

    def regions(data: bytes) -> Regions:
        image = decode_image(data)
        try:
            text = detector.find(image)
        except ValueError as error:  # it would pass for a damaged image
            raise RuntimeError(f"the text detector failed: {first_line(error)}") from error
        return np.column_stack([text.scores, text.corners.reshape(-1, len(_CORNERS))])

    for item in decode_ahead(frames, regions, threads=threads, window=2 * threads):
        yield item.frame, item.value


def score_text(path: Path, settings: TextConfig) -> FrameScores:
    """Score a video's frames by the text in them, and apply the threshold.

    Parameters
    ----------
    path : Path
        A file that :func:`find_text` wrote.
    settings : TextConfig
        The thresholds.

    Returns
    -------
    FrameScores
        Column ``text_area``: the share of the picture that text covers.

    Raises
    ------
    DamagedFile
        The file is not such a table.
    """
    meta, columns = read_regions(path, TEXT_SCHEMA)
    corners = np.stack([columns[name] for name in _CORNERS], axis=1).reshape(-1, 4, 2)
    if np.isnan(corners).any():
        raise DamagedFile(path, "it has text without corners")
    areas = np.zeros(len(meta["frames"]), np.float32)
    chosen = columns["confidence"] >= np.float32(settings.confidence)
    for frame in np.unique(columns["frame"][chosen]):
        areas[frame] = covered_share(corners[chosen & (columns["frame"] == frame)])
    scores = {"text_area": areas}
    passes = passes_by_reason(TEXT_THRESHOLDS, settings, scores)
    return FrameScores(meta["frames"], scores, passes, str(meta["mark"]))


def covered_share(corners: NDArray[np.float32]) -> float:
    """Return the share of the picture that convex quadrilaterals cover together.

    What several cover counts once. Along each of 1,024 horizontal lines the length is exact.

    Parameters
    ----------
    corners : ndarray of float32, shape (k, 4, 2)
        Of k quadrilaterals, as in :class:`~dataminer.vision.scene_text.TextRegions`.
    """
    lines = (np.arange(_LINES) + 0.5) / _LINES
    x, y = np.moveaxis(corners.astype(np.float64)[..., np.newaxis], 2, 0)  # (k, 4, 1) each
    to_x, to_y = np.roll(x, -1, axis=1), np.roll(y, -1, axis=1)
    crosses = (y <= lines) != (to_y <= lines)
    height = np.where(crosses, to_y - y, 1.0)
    crossing = x + (lines - y) / height * (to_x - x)
    met = crosses.any(axis=1)
    left = np.where(met, np.where(crosses, crossing, np.inf).min(axis=1), 0.0).clip(0, 1)
    right = np.where(met, np.where(crosses, crossing, -np.inf).max(axis=1), 0.0).clip(0, 1)
    order = np.argsort(left, axis=0)
    left, right = np.take_along_axis(left, order, 0), np.take_along_axis(right, order, 0)
    reached = np.maximum.accumulate(right, axis=0)
    before = np.concatenate([np.zeros((1, _LINES)), reached[:-1]])
    return float((right - np.maximum(left, before)).clip(min=0).sum(axis=0).mean())
