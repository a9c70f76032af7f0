"""The outcome of a video's extraction: whether it was whole, and whether it is usable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataminer.config.models import ExtractConfig
from dataminer.errors import ErrorClass, PermanentError, TransientError
from dataminer.stages.extract.decode_stats import DecodeSummary
from dataminer.video.info import VideoInfo

_DECLARES_LENGTH = ("mov,", "matroska", "flv", "avi", "asf")  # elsewhere libav estimates it
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

    def table_meta(self, settings: ExtractConfig) -> dict[str, Any]:
        """Return what the frame table says about decoding; independent of time and place."""
        return {
            "settings": settings.model_dump(),
            "decoding": self.decoding,
            "source_frames": self.summary.frames,
            "decode_errors": self.summary.decode_errors,
            "truncated": self._truncation() is not None,
            "warning": self.warning(),
        }

    def warning(self) -> str | None:
        """Return everything a user should know about how the video was decoded."""
        summary = self.summary
        parts = [
            self.stopped or self._truncation(),
            _counted(summary.decode_errors, "packet", "could not be decoded"),
            _counted(summary.damaged, "frame", "came out damaged"),
            _counted(summary.guessed, "frame", "had no right time stamp: it was derived"),
        ]
        return "; ".join(text for text in parts if text) or None

    def check(self, video: Path, frame_count: int, max_error_share: float) -> None:
        """Raise an error if the result is not worth keeping, or if the disk is to blame."""
        summary, name = self.summary, video.name
        if summary.read_errors or self._truncation():
            check_readable_to_end(video)
        if frame_count and summary.decode_errors > summary.packets * max_error_share:
            raise PermanentError(
                f"{summary.decode_errors} of {summary.packets} packets of {name} could not be"
                f" decoded ({summary.last_error})",
                ErrorClass.CORRUPT,
            )
        if not frame_count:
            raise PermanentError(self._no_frames(name), ErrorClass.NO_FRAMES)

    def _truncation(self) -> str | None:
        """Describe how the stream ended too early; None if it did not or was stopped before."""
        info, summary = self.info, self.summary
        if self.stopped:
            return None
        declared = info.duration if info.container.startswith(_DECLARES_LENGTH) else None
        if declared:
            # without an error, the last frame may just be shown for longer than it declares
            slack = 0.0 if summary.read_errors else max(1.0, 0.002 * declared)
            if declared - summary.seconds > max(slack, 2 * summary.last_gap):
                return f"truncated: {summary.seconds:.1f} of {declared:.1f} s could be decoded"
        elif (
            info.declared_frames
            and summary.frames + summary.decode_errors < info.declared_frames * 0.98
        ):
            return f"truncated: {summary.frames} of {info.declared_frames} frames could be decoded"
        reads = _counted(summary.read_errors, "part", "of the file could not be read")
        return f"{reads} ({summary.last_error})" if reads else None

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


def _counted(count: int, noun: str, what: str) -> str | None:
    return f"{count} {noun}{'s' if count > 1 else ''} {what}" if count else None
