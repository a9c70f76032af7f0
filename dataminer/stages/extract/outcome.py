"""The outcome of a video's extraction: whether it was whole, and whether it is usable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataminer.config.models import ExtractConfig
from dataminer.errors import ErrorClass, PermanentError, TransientError
from dataminer.frames.notes import warnings
from dataminer.stages.extract.decode_stats import DecodeSummary
from dataminer.stages.extract.truncation import Shortfall
from dataminer.video.info import VideoInfo

_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class ExtractOutcome:
    """What is known about a video once its frames are extracted."""

    info: VideoInfo
    summary: DecodeSummary
    stopped: str | None
    """The limit that ended the extraction."""
    decoding: str = "planned"
    """Or that everything was decoded, and why."""
    picture_notes: Mapping[str, int] = field(default_factory=dict)
    """Counts of what was converted, by the keys of ``NOTE_KINDS``."""
    shortfall: Shortfall = field(default_factory=Shortfall)
    """What the file says it has, and did not give."""

    def table_meta(self, settings: ExtractConfig) -> dict[str, Any]:
        """Return what the frame table says about decoding; independent of time and place."""
        return {
            "settings": settings.model_dump(),
            "decoding": self.decoding,
            "source_frames": self.summary.frames,
            "decode_errors": self.summary.decode_errors,
            "truncated": self.shortfall.truncated is not None,
            "notes": self.notes,
            "warning": self.warning(),
        }

    @property
    def notes(self) -> dict[str, int]:
        """Counts of what was lost, mended or converted, by the keys of ``NOTE_KINDS``."""
        truncated = int(bool(self.shortfall.truncated))
        counts = Counter({**self.summary.notes, **self.picture_notes, "truncated": truncated})
        counts.update(self.shortfall.notes)
        # an AVI says how many frames are missing in all its gaps
        counts["missing_frames"] = max(0, counts["missing_frames"] - counts["absent_frames"])
        return {name: count for name, count in counts.items() if count}

    def warning(self) -> str | None:
        """Return everything a user should know about how the video was decoded."""
        parts = [self.stopped or self.shortfall.truncated, *warnings(self.notes)]
        return "; ".join(text for text in parts if text) or None

    def check(self, video: Path, frame_count: int, max_error_share: float) -> None:
        """Raise an error if the result is not worth keeping, or if the disk is to blame."""
        summary, name = self.summary, video.name
        if summary.read_errors or self.shortfall != Shortfall():
            check_readable_to_end(video)
        if frame_count and summary.decode_errors > summary.packets * max_error_share:
            raise PermanentError(
                f"{summary.decode_errors} of {summary.packets} packets of {name} could not be"
                f" decoded ({summary.last_error})",
                ErrorClass.CORRUPT,
            )
        if not frame_count:
            raise PermanentError(self._no_frames(name), ErrorClass.NO_FRAMES)

    def _no_frames(self, name: str) -> str:
        summary = self.summary
        if self.stopped:
            return f"no frame was extracted from {name}: {self.stopped}"
        if summary.frames:
            return f"none of the {summary.frames} frames of {name} is a keyframe"
        reason = f" ({summary.last_error})" if summary.last_error else ""
        return f"no frame of {name} could be decoded{reason}"


def check_readable_to_end(video: Path) -> None:
    """Make sure that a file that seems to be cut off or broken is not merely unreadable.

    libav takes a disk error within a packet for the end of the file.
    """
    try:
        with video.open("rb", buffering=0) as file:
            while file.read(_CHUNK_BYTES):
                pass
    except IsADirectoryError:
        return
    except OSError as error:
        message = f"{video} cannot be read to its end: {error.strerror}"
        raise TransientError(message, ErrorClass.DISK) from error
