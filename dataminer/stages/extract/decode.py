"""Decoding a video stream in presentation order: all of it, past what is broken, or as planned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dataminer.stages.extract.selection.bitstream import RandomAccessPoint
from dataminer.stages.extract.selection.plan import DecodePlan, SelectedFrame
from dataminer.stages.extract.selection.scan import NotPlannableError, Scan, VideoPacket
from dataminer.video.decoder import reject_damaged_packets, set_reorder_depth

_GIVE_UP_AFTER = 16  # reads in a row that fail: a cut-off MP4 fails once for each lost frame


@dataclass(frozen=True)
class DecodedFrame:
    """A frame in its place in presentation order."""

    index: int
    pts: int
    seconds: float
    """``pts`` in seconds to six decimals: what ffprobe prints as ``pts_time``."""
    is_key: bool
    frame: VideoFrame


def seconds_of(pts: int, time_base: Fraction) -> float:
    """Return a time stamp in seconds, as ``DecodedFrame.seconds`` says."""
    return float(f"{pts * float(time_base):.6f}")


@dataclass(frozen=True)
class DecodeSummary:
    """What a stream turned out to hold; see :class:`DecodeStats`."""

    frames: int
    packets: int
    seconds: float
    last_gap: float
    decode_errors: int = 0
    read_errors: int = 0
    damaged: int = 0
    guessed: int = 0
    last_error: str = ""


class DecodeStats:
    """What was met while a stream was decoded; grows while :func:`decode` runs.

    Attributes
    ----------
    frames : int
        Frames seen so far.
    packets : int
        Packets read so far.
    decode_errors : int
        Packets that the decoder refused.
    read_errors : int
        Failed reads of a packet.
    damaged : int
        Frames that the decoder gave out, but marked as damaged.
    guessed : int
        Frames whose presentation time stamp is missing or wrong.
    last_error : str
        What libav said last.
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
        self._corrector = _Corrector()
        self._usual = max(1, round(1 / (rate * time_base))) if rate else 1
        self._seconds_per_unit = float(time_base)
        self._first: int | None = None
        self._last: int | None = None
        self._gap = 0
        self._end = 0

    @property
    def seconds(self) -> float:
        """From when the first frame is shown until the last one's end."""
        return (self._end - (self._first or 0)) * self._seconds_per_unit

    @property
    def last_gap(self) -> float:
        """Seconds between the last two frames."""
        return self._gap * self._seconds_per_unit

    def account(self) -> DecodeSummary:
        """Return what was met up to now."""
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

    def take(self, frame: VideoFrame) -> DecodedFrame:
        """Count a frame, and give it its index and its time stamp."""
        pts = self._timestamp(frame)
        if self._first is None or self._last is None:
            self._first = pts
        else:
            self._gap = pts - self._last
        self._last = pts
        self._end = max(self._end, pts + (frame.duration or self._usual))
        self.damaged += frame.is_corrupt
        self.frames += 1
        seconds = seconds_of(pts, self.time_base)
        return DecodedFrame(self.frames - 1, pts, seconds, frame.key_frame, frame)

    def _timestamp(self, frame: VideoFrame) -> int:
        stamp = self._corrector.best(frame.pts, frame.dts)
        if stamp is None:
            step = frame.duration or self._usual
            stamp = 0 if self._last is None else self._last + step
        self.guessed += stamp != frame.pts
        return stamp


class _Corrector:
    """Chooses between the two time stamps of each frame, by which of them went wrong less often.

    This is ``guess_correct_pts`` of libavcodec/decode.c, whose result ffprobe prints as
    ``best_effort_timestamp`` and PyAV does not hand out. It matters for AVI, which has no
    presentation time stamps.
    """

    def __init__(self) -> None:
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faults = 0  # of pts, less those of dts

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


def decode(
    container: InputContainer, stream: VideoStream, tally: DecodeStats, check: Callable[[], None]
) -> Iterator[DecodedFrame]:
    """Decode every frame, in the order in which frames are shown.

    A packet that cannot be decoded is counted and left out; the frames after it still come.

    Parameters
    ----------
    container, stream
        From :func:`dataminer.video.opening.open_video`, at their beginning.
    tally : DecodeStats
        Takes up what was met on the way.
    check : callable
        Called with each packet; what it raises ends the work.

    Yields
    ------
    Shown
        One at a time; nothing holds on to those before.
    """
    for packet in _packets(container, stream, tally):
        check()
        try:
            frames = stream.decode(packet)
        except MemoryError:
            raise  # also libav's own: nothing is wrong with the packet
        except av.FFmpegError as error:
            tally.decode_errors += 1
            tally.last_error = error.strerror or str(error)
            continue
        for frame in frames:
            yield tally.take(frame)


def _packets(
    container: InputContainer, stream: VideoStream, tally: DecodeStats
) -> Iterator[Packet[VideoStream] | None]:
    """Read the stream's packets, then None, which makes the decoder give out what it holds."""
    failed = 0
    while failed < _GIVE_UP_AFTER:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    failed = 0
                    tally.packets += 1
                    yield packet
            break
        except IndexError:
            break  # PyAV 18 at the file's end, when a stream appeared on the way (MPEG-TS)
        except av.FFmpegError as error:
            failed += 1
            tally.read_errors += 1
            tally.last_error = error.strerror or str(error)
    yield None


def prepare(stream: VideoStream, found: Scan) -> None:
    """Tell the decoder what the packets' headers told, before its first frame."""
    set_reorder_depth(stream, found.reorder_depth)
    # at an open entry H.264 takes the leading pictures that are left out for damage
    if all(facts.entry is not RandomAccessPoint.OPEN for facts in found.facts):
        reject_damaged_packets(stream)


def decode_planned(
    packets: Iterable[tuple[int, VideoPacket]],
    stream: VideoStream,
    scan: Scan,
    plan: DecodePlan,
    check: Callable[[], None],
) -> Iterator[DecodedFrame]:
    """Decode what a plan asks for, and give out the wanted frames in presentation order.

    Parameters
    ----------
    packets : iterable of (int, Packet)
        Scanned ones with their places, in the same order; at least those at the plan's steps.
    stream : VideoStream
        Its decoder is used.
    scan, plan
        What is known of the packets, and what to do with each.
    check : callable
        Called with each packet; what it raises ends the work.

    Yields
    ------
    Shown
        The wanted frames.

    Raises
    ------
    NotPlannableError
        When anything but the expected frames comes out: the plan does not hold for this video.
    """
    gate = _OutputCheck(scan, plan.wanted, stream.time_base or Fraction(1, av.time_base))
    last = max(plan.flush_points, default=-1)
    for packet_index, packet in packets:
        check()
        if packet.pts != scan.pts[packet_index]:
            raise NotPlannableError("other packets came when they were read again")
        if plan.decoded[packet_index]:
            if packet_index not in plan.packets_without_output:
                gate.expect(packet_index)
            cut = _without(packet, plan.cuts[packet_index]) if packet_index in plan.cuts else packet
            yield from gate.checked(_sound_frames(stream, cut))
        if packet_index in plan.flush_points:
            yield from gate.checked(_sound_frames(stream, None))
            gate.end()
            stream.codec_context.flush_buffers()
        if packet_index == last:
            return
    raise NotPlannableError("fewer packets came when they were read again")


def _without(packet: VideoPacket, cuts: list[tuple[int, int]]) -> VideoPacket:
    """Return a packet without some of its bytes."""
    data, parts, position = bytes(packet), [], 0
    for begin, end in cuts:
        parts.append(data[position:begin])
        position = end
    left = cast(VideoPacket, Packet(b"".join([*parts, data[position:]])))
    left.pts, left.dts, left.duration = packet.pts, packet.dts, packet.duration
    left.time_base = packet.time_base
    return left


def _sound_frames(stream: VideoStream, packet: VideoPacket | None) -> list[VideoFrame]:
    try:
        return stream.decode(packet)
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise NotPlannableError(f"a packet could not be decoded ({error.strerror})") from error


class _OutputCheck:
    """Compares the frames that come out with those that are due, and lets the wanted ones pass."""

    def __init__(self, scan: Scan, wanted: list[SelectedFrame], time_base: Fraction) -> None:
        self._scan, self._time_base = scan, time_base
        self._wanted = {chosen.pts: chosen for chosen in wanted}
        self._due: set[int] = set()
        self._latest: int | None = None

    def expect(self, packet_index: int) -> None:
        """Note that the frame of a packet is due."""
        if self._scan.is_shown(packet_index):
            self._due.add(self._scan.pts[packet_index])

    def checked(self, frames: Iterable[VideoFrame]) -> Iterator[DecodedFrame]:
        """Yield those of some frames that are wanted."""
        for frame in frames:
            if frame.pts is None or frame.pts not in self._due:
                raise NotPlannableError("a frame came out that was not due")
            if frame.is_corrupt:
                raise NotPlannableError("a frame came out damaged")
            if self._latest is not None and frame.pts <= self._latest:
                raise NotPlannableError("frames came out in another order than they are shown")
            self._latest = frame.pts
            self._due.remove(frame.pts)
            chosen = self._wanted.get(frame.pts)
            if chosen:
                seconds = seconds_of(chosen.pts, self._time_base)
                yield DecodedFrame(chosen.index, chosen.pts, seconds, frame.key_frame, frame)

    def end(self) -> None:
        """Make sure that nothing is still due, once the decoder has given out all it held."""
        if self._due:
            raise NotPlannableError(f"{len(self._due)} packets gave no frame")
