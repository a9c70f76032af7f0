"""Extracting frames from a video: select, decode what that takes, measure, encode.

The packets' time stamps are read first. Then each group of pictures is decoded up to its last
selected frame, without pictures that no other refers to. If that is not safe, all is decoded, and
the table's metadata give the reason as ``decoding``. Either way the frames and their pixels are
those of a full decode.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2

from dataminer.config.models import ExtractConfig
from dataminer.errors import ErrorClass, PermanentError, TransientError, os_error_class
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.extract.encode import FrameEncoder, return_large_buffers
from dataminer.stages.extract.extraction import Extraction
from dataminer.stages.extract.neighbours import NeighboursNeededError
from dataminer.stages.extract.outcome import ExtractOutcome, check_readable_to_end
from dataminer.stages.extract.passes import extract_everything, extract_planned
from dataminer.stages.extract.selection.scan import DamagedError, NotPlannableError
from dataminer.stages.extract.truncation import Shortfall, find_shortfall
from dataminer.video.info import as_displayed

_MAY_BE_DISK_ERRORS = {ErrorClass.CORRUPT, ErrorClass.NO_FRAMES, ErrorClass.NO_VIDEO}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractResult:
    """The result of a video."""

    frame_count: int
    warning: str | None
    """What a user should know about a video that was not extracted as a whole."""


def extract(
    video: Path,
    out: Path,
    video_id: str,
    settings: ExtractConfig,
    *,
    meta: dict[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    threads: int = 1,
    progress: Callable[[str], None] | None = None,
) -> ExtractResult:
    """Write the selected frames of a video as images, and their table.

    Equal input, settings, ``meta`` and ``source`` give equal bytes.

    Parameters
    ----------
    video, out : Path
        A video file, and an existing, empty folder.
    video_id, settings
        The name in files and table; which frames, in what format, and how much at most.
    meta, source : mapping, optional
        Added to the table's metadata; what is known about the video's origin.
    threads : int
        For decoding; if more than one, as many again encode images.
    progress : callable, optional
        See :class:`Extraction`.

    Raises
    ------
    StageError
        As :func:`open_video`, and: CORRUPT, NO_FRAMES, DISK, DISK_FULL, PERMISSION, TIMEOUT.
    """
    extraction = Extraction(video, settings, threads, progress)
    encoder, outcome = _extract_usable(extraction, out, video_id)
    encoder.write_table({**(meta or {}), **_table_meta(outcome, encoder, settings)}, source or {})
    return ExtractResult(encoder.count, outcome.warning())


def _table_meta(
    outcome: ExtractOutcome, encoder: FrameEncoder, settings: ExtractConfig
) -> dict[str, Any]:
    return {
        "stage": "extract",
        "version": VERSIONS["extract"],
        "video": asdict(as_displayed(outcome.info, encoder.geometry)),
        **outcome.table_meta(settings),
    }


def _extract_usable(
    extraction: Extraction, out: Path, video_id: str
) -> tuple[FrameEncoder, ExtractOutcome]:
    """Extract the selected frames; raise an error if the result is not worth keeping."""
    video, max_error_share = extraction.video, extraction.settings.max_error_share
    cv2.setNumThreads(1)  # OpenCV's own threads would compete with ours
    return_large_buffers()
    try:
        encoder, outcome = _extract_frames(extraction, out, video_id)
        outcome.check(video, encoder.count, max_error_share)
    except PermanentError as error:
        if error.error_class in _MAY_BE_DISK_ERRORS:
            check_readable_to_end(video)
        raise
    return encoder, outcome


def _extract_frames(
    extraction: Extraction, out: Path, video_id: str
) -> tuple[FrameEncoder, ExtractOutcome]:
    """Extract the selected frames: as planned if possible, else by decoding everything."""
    settings, outcome = extraction.settings, None
    neighbours, decoding, one_by_one = False, "planned", False
    while outcome is None:
        for image in out.iterdir():  # of a way that failed
            image.unlink()
        try:
            with FrameEncoder(out, video_id, settings, extraction.threads) as encoder:
                if decoding == "planned":
                    outcome = extract_planned(extraction, encoder, neighbours=neighbours)
                else:
                    outcome = extract_everything(extraction, encoder, one_by_one=one_by_one)
        # nothing else in the handlers: the error keeps the decoder's frames alive
        except NeighboursNeededError:
            neighbours = True
        except NotPlannableError as reason:
            one_by_one = isinstance(reason, DamagedError)
            decoding = f"everything, because {reason}" if decoding == "planned" else decoding
    if decoding != "planned":
        log.info("%s: decoded %s", extraction.video.name, decoding)
    if encoder.full:
        stopped = f"stopped at max_output_gb = {settings.max_output_gb:g}"
        outcome = replace(outcome, stopped=stopped)
    shortfall = Shortfall() if outcome.stopped else _find_shortfall(extraction, outcome)
    outcome = replace(outcome, decoding=decoding, picture_notes=encoder.notes)
    return encoder, replace(outcome, shortfall=shortfall)


def _find_shortfall(extraction: Extraction, outcome: ExtractOutcome) -> Shortfall:
    try:
        return find_shortfall(extraction, outcome.info, outcome.summary)
    except OSError as error:
        message = f"{extraction.video} cannot be read: {error.strerror}"
        raise TransientError(message, os_error_class(error)) from error
