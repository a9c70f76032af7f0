"""Decoded frames, and counts of what was met while a stream was decoded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from av.video.frame import VideoFrame


@dataclass(frozen=True)
class DecodedFrame:
    """A frame with its position in presentation order."""

    index: int
    pts: int
    seconds: float
    """``pts`` in seconds to six decimals: what ffprobe prints as ``pts_time``."""
    is_key: bool
    frame: VideoFrame
    damaged: bool = False
    """Whether something it was decoded from is missing or broken."""


def seconds_of(pts: int, time_base: Fraction) -> float:
    """Return a time stamp in seconds; see ``DecodedFrame.seconds``."""
    return float(f"{pts * float(time_base):.6f}")


@dataclass(frozen=True)
class DecodeSummary:
    """The counts of a stream; see :class:`DecodeStats`."""

    frames: int
    packets: int
    seconds: float
    last_gap: float
    decode_errors: int = 0
    read_errors: int = 0
    damaged: int = 0
    guessed: int = 0
    last_error: str = ""

    @property
    def notes(self) -> dict[str, int]:
        """The counts of what was lost or mended, by the keys of ``NOTE_KINDS``."""
        return {
            "refused_packets": self.decode_errors,
            "unread_parts": self.read_errors,
            "damaged_frames": self.damaged,
            "derived_stamps": self.guessed,
        }


class DecodeStats:
    """Counts of what is met while a stream is decoded.

    Attributes
    ----------
    frames : int
        Frames decoded so far.
    packets : int
        Packets read so far.
    decode_errors : int
        Packets that the decoder refused.
    read_errors : int
        Failed reads of a packet.
    damaged : int
        Frames that the decoder marked as damaged.
    guessed : int
        Frames whose presentation time stamp is missing or wrong.
    last_error : str
        libav's last error message.
    """

    def __init__(self, time_base: Fraction, rate: Fraction | None) -> None:
        self.time_base = time_base
        self.frames = 0
        self.packets = 0
        self.decode_errors = 0
        self.read_errors = 0
        self.damaged = 0
        self.guessed = 0
        self.last_error = ""
        self._corrector = _TimestampCorrector()
        self._usual_duration = max(1, round(1 / (rate * time_base))) if rate else 1
        self._seconds_per_unit = float(time_base)
        self._first: int | None = None
        self._last: int | None = None
        self._gap = 0
        self._end = 0

    @property
    def seconds(self) -> float:
        """Seconds from the start of the first frame to the end of the last one."""
        return (self._end - (self._first or 0)) * self._seconds_per_unit

    @property
    def last_gap(self) -> float:
        """Seconds between the last two frames."""
        return self._gap * self._seconds_per_unit

    def summary(self) -> DecodeSummary:
        """Return the counts so far."""
        return DecodeSummary(
            self.frames,
            self.packets,
            self.seconds,
            self.last_gap,
            self.decode_errors,
            self.read_errors,
            self.damaged,
            self.guessed,
            self.last_error,
        )

    def add(self, frame: VideoFrame) -> DecodedFrame:
        """Count a frame, and give it its index and its time stamp."""
        pts = self._timestamp(frame)
        if self._first is None or self._last is None:
            self._first = pts
        else:
            self._gap = pts - self._last
        self._last = pts
        self._end = max(self._end, pts + (frame.duration or self._usual_duration))
        self.damaged += frame.is_corrupt
        self.frames += 1
        seconds = seconds_of(pts, self.time_base)
        damaged = bool(frame.is_corrupt)
        return DecodedFrame(self.frames - 1, pts, seconds, frame.key_frame, frame, damaged)

    def _timestamp(self, frame: VideoFrame) -> int:
        stamp = self._corrector.best(frame.pts, frame.dts)
        if stamp is None:
            step = frame.duration or self._usual_duration
            stamp = 0 if self._last is None else self._last + step
        self.guessed += stamp != frame.pts
        return stamp


class _TimestampCorrector:
    """Chooses between the two time stamps of a frame: the one that was wrong less often so far.

    This is ``guess_correct_pts`` of libavcodec/decode.c, whose result ffprobe prints as
    ``best_effort_timestamp`` and PyAV does not expose. It matters for AVI, which has no
    presentation time stamps.
    """

    def __init__(self) -> None:
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faults = 0  # of pts, minus those of dts

    def best(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None and self._last_dts is not None:
            self._faults -= dts <= self._last_dts
        if pts is not None and self._last_pts is not None:
            self._faults += pts <= self._last_pts
        self._last_dts = pts if dts is None else dts
        self._last_pts = dts if pts is None else pts
        if pts is not None and (self._faults <= 0 or dts is None):
            return pts
        return dts
