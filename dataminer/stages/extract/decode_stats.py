"""Decoded frames, and counts of what was met while a stream was decoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from av import FFmpegError
from av.video.frame import VideoFrame

from dataminer.stages.extract.loss.damage import Loss
from dataminer.stages.extract.loss.packet_log import FrameRecord
from dataminer.stages.extract.picture.deinterlacing import Neighbours
from dataminer.stages.extract.timing.decoding_times import DecodingTimes
from dataminer.stages.extract.timing.timeline import STORED, JumpLimit, Placed, TimeLine

_CORRECTED_SECONDS = 1  # imprecise stamps step back by less; longer steps are jumps
_MAX_WAITING_BYTES = 24 << 20  # of decoded frames whose time depends on later ones
_LARGE_FRAME_BYTES = 8 << 20  # of a frame, for which none later is awaited


@dataclass(frozen=True)
class DecodedFrame:
    """A frame with its position in presentation order."""

    index: int
    pts: int
    """Its place on the video's time line: its time stamp, unless that is not to be trusted."""
    seconds: float
    """``pts`` in seconds to six decimals: what ffprobe prints as ``pts_time``."""
    is_key: bool
    frame: VideoFrame
    begins_part: bool = False
    """Whether time stamps began again at it: it is the first frame of another recording."""
    neighbours: Neighbours = (None, None)
    """The frames shown before and after it; see :mod:`.neighbours`."""


def seconds_of(pts: int, time_base: Fraction) -> float:
    """Return a time stamp in seconds; see ``DecodedFrame.seconds``."""
    return float(f"{pts * float(time_base):.6f}")


@dataclass(frozen=True)
class DecodeSummary:
    """The counts of a stream; see :class:`DecodeStats`."""

    frames: int
    packets: int
    seconds: float
    """From the start of the first frame to the end of the last one."""
    end: float
    """The latest time that is stamped on a frame, plus its duration."""
    last_gap: float
    position: int = 0
    """Where the last packet begins in the file, in bytes; 0 if that is unknown."""
    decode_errors: int = 0
    read_errors: int = 0
    lost: int = 0
    missing: int = 0
    long_gaps: int = 0
    damaged: int = 0
    derived: int = 0
    stray: int = 0
    joined: int = 0
    last_error: str = ""

    @property
    def notes(self) -> dict[str, int]:
        """The counts of what was lost or mended, by the keys of ``NOTE_KINDS``."""
        return {
            "refused_packets": self.decode_errors,
            "lost_packets": self.lost,
            "missing_frames": self.missing,
            "long_gaps": self.long_gaps,
            "unread_parts": self.read_errors,
            "damaged_frames": self.damaged,
            "derived_stamps": self.derived,
            "stray_stamps": self.stray,
            "joined_parts": self.joined,
        }


class DecodeStats:
    """Counts of what is met while a stream is decoded.

    Parameters
    ----------
    time_base : Fraction
        Seconds of one unit of the stream's time stamps.
    rate : Fraction or None
        Frames per second, as declared.
    limit : JumpLimit
        How far time may step forward from one frame to the next.
    has_stamps : bool
        Whether the format has time stamps, so that frames without right ones are counted.

    Attributes
    ----------
    frames : int
        Frames placed on the time line so far.
    packets : int
        Packets read so far.
    position : int
        Where the last one begins in the file, in bytes; 0 if that is unknown.
    decode_errors : int
        Packets that the decoder refused.
    read_errors : int
        Failed reads of a packet.
    record : FrameRecord
        The frames on the time line.
    last_error : str
        libav's last error message.
    """

    def __init__(
        self,
        time_base: Fraction,
        rate: Fraction | None,
        limit: JumpLimit = STORED,
        *,
        has_stamps: bool = True,
    ) -> None:
        self.time_base = time_base
        self._has_stamps = has_stamps
        self.frames = 0
        self.packets = 0
        self.position = 0
        self.decode_errors = 0
        self.read_errors = 0
        self.last_error = ""
        self.record = FrameRecord()
        self._corrected: deque[bool] = deque()  # for each frame that is not placed yet
        self._corrector = _TimestampCorrector(round(_CORRECTED_SECONDS / time_base))
        self._line: TimeLine[VideoFrame] = TimeLine(time_base, rate, limit)
        self._seconds_per_unit = float(time_base)
        self._shift: int | None = None  # of the first frame's own stamp
        self._first: int | None = None
        self._last: int | None = None
        self._gap = 0
        self._end = 0
        self._stamped_end = 0

    @property
    def seconds(self) -> float:
        """Seconds from the start of the first frame to the end of the last one."""
        return (self._end - (self._first or 0)) * self._seconds_per_unit

    @property
    def last_gap(self) -> float:
        """Seconds between the last two frames."""
        return self._gap * self._seconds_per_unit

    def summary(self, loss: Loss) -> DecodeSummary:
        """Return the counts so far, and those of what is lost."""
        return DecodeSummary(
            frames=self.frames,
            packets=self.packets,
            seconds=self.seconds,
            end=self._stamped_end * self._seconds_per_unit,
            last_gap=self.last_gap,
            position=self.position,
            decode_errors=self.decode_errors,
            read_errors=self.read_errors,
            lost=loss.packets,
            missing=loss.missing,
            long_gaps=loss.long_gaps,
            damaged=len(loss.damaged),
            derived=sum(self.record.derived) if self._has_stamps else 0,
            stray=self._line.stray,
            joined=self._line.joined,
            last_error=self.last_error,
        )

    def refuse(self, error: FFmpegError) -> None:
        """Count a packet that the decoder refused."""
        self.decode_errors += 1
        self.last_error = error.strerror or str(error)

    def add(self, frame: VideoFrame, times: DecodingTimes | None = None) -> Iterator[DecodedFrame]:
        """Count a frame; yield those that have their place on the time line now.

        Parameters
        ----------
        frame : VideoFrame
            The next one in presentation order.
        times : DecodingTimes, optional
            When it is shown, if its own time stamps are not to be used.
        """
        stamp = times.next(frame) if times else None
        if times is None or stamp is None:
            stamp = self._corrector.best(frame.pts, frame.dts)
            is_corrected = stamp is not None and stamp != frame.pts
        else:
            shift = None if frame.pts is None else frame.pts - stamp
            self._shift = shift if self._shift is None else self._shift
            # equal shifts only move the whole video
            is_corrected = not times.are_stated and shift != self._shift
        if not self._corrected and not self.frames:
            size = frame.width * frame.height * frame.format.padded_bits_per_pixel // 8
            is_large = size > _LARGE_FRAME_BYTES
            self._line.limit_waiting(1 if is_large else _MAX_WAITING_BYTES // max(size, 1))
        self._corrected.append(is_corrected)
        return map(self._decoded, self._line.add(frame, stamp, is_key=frame.key_frame))

    def finish(self) -> Iterator[DecodedFrame]:
        """Yield the frames that are left, after the last one was added."""
        return map(self._decoded, self._line.finish())

    def _decoded(self, placed: Placed[VideoFrame]) -> DecodedFrame:
        frame, pts = placed.item, placed.time
        is_derived = self._corrected.popleft() or placed.is_derived
        if self._first is None or self._last is None:
            self._first = pts
        else:
            self._gap = pts - self._last
        self._last = pts
        duration = frame.duration or self._line.usual_step
        self._end = pts + duration
        self._stamped_end = max(self._stamped_end, (frame.pts or 0) + duration)
        self.record.add(frame, pts, is_derived)
        self.frames += 1
        return DecodedFrame(
            index=self.frames - 1,
            pts=pts,
            seconds=seconds_of(pts, self.time_base),
            is_key=frame.key_frame,
            frame=frame,
            begins_part=placed.begins_part,
        )


class _TimestampCorrector:
    """Chooses between the two time stamps of a frame: the one that was wrong less often so far.

    This is ``guess_correct_pts`` of libavcodec/decode.c, whose result ffprobe prints as
    ``best_effort_timestamp`` and PyAV does not expose. It matters for AVI, which has no
    presentation time stamps. Steps back by more than ``limit`` units do not count, nor do decoding
    time stamps that are as far away: jumps are closed by the time line.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faults = 0  # of pts, minus those of dts

    def best(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None and self._last_dts is not None:
            self._faults -= 0 <= self._last_dts - dts < self._limit
        if pts is not None and self._last_pts is not None:
            self._faults += 0 <= self._last_pts - pts < self._limit
        self._last_dts = pts if dts is None else dts
        self._last_pts = dts if pts is None else pts
        if pts is not None and (self._faults <= 0 or dts is None or abs(pts - dts) > self._limit):
            return pts
        return dts
