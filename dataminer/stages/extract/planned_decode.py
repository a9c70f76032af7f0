"""Decoding only what a plan requires, and proving that the plan holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import cast

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dataminer.stages.extract.decode_stats import DecodedFrame, seconds_of
from dataminer.stages.extract.selection.bitstream import RandomAccessPoint
from dataminer.stages.extract.selection.plan import DecodePlan
from dataminer.stages.extract.selection.scan import (
    DamagedError,
    NotPlannableError,
    Scan,
    VideoPacket,
)
from dataminer.video.decoder import reject_damaged_packets, set_reorder_depth
from dataminer.video.libav_messages import DecoderMessages


def configure_decoder(stream: VideoStream, scan: Scan) -> None:
    """Pass on what the packets' headers say, before the first frame is decoded."""
    set_reorder_depth(stream, scan.reorder_depth)
    # an H.264 decoder takes omitted leading pictures of an open point for damage
    if all(facts.random_access is not RandomAccessPoint.OPEN for facts in scan.facts):
        reject_damaged_packets(stream)


def decode_planned(
    packets: Iterable[tuple[int, VideoPacket]],
    stream: VideoStream,
    scan: Scan,
    plan: DecodePlan,
    *,
    check: Callable[[], None],
    messages: DecoderMessages,
) -> Iterator[tuple[DecodedFrame, bool]]:
    """Decode what a plan requires; yield its frames as shown, and whether each is selected.

    Parameters
    ----------
    packets
        At least ``plan.packets`` with their indices, in the order of the scan.
    stream, scan, plan, check, messages
        The stream, the facts about its packets, and what to do with each; what is called with
        each; what the decoder logs.

    Raises
    ------
    NotPlannableError
        If the output differs from the plan, or is damaged.
    """
    output = _OutputCheck(scan, plan, stream.time_base or Fraction(1, av.time_base))
    last = max(plan.flush_points, default=-1)
    for index, packet in packets:
        check()
        if packet.pts != scan.pts[index]:
            raise NotPlannableError("other packets came when they were read again")
        if plan.decoded[index]:
            output.expect(index)
            kept = _without(packet, plan.cuts.get(index, ()))
            yield from output.selected(_decode(stream, kept, messages))
        if index in plan.flush_points:
            yield from output.all_selected(_decode(stream, None, messages))
            stream.codec_context.flush_buffers()
        if index == last:
            return
    raise NotPlannableError("fewer packets came when they were read again")


def _decode(
    stream: VideoStream, packet: VideoPacket | None, messages: DecoderMessages
) -> list[VideoFrame]:
    try:
        frames = stream.decode(packet)
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise DamagedError(f"a packet could not be decoded ({error.strerror})") from error
    if messages.tell_damage():
        raise DamagedError("the decoder reports damage")
    return frames


def _without(packet: VideoPacket, cuts: Sequence[tuple[int, int]]) -> VideoPacket:
    """Return a copy of a packet without some of its bytes, or the packet itself."""
    if not cuts:
        return packet
    data, parts, position = bytes(packet), [], 0
    for begin, end in cuts:
        parts.append(data[position:begin])
        position = end
    copy = cast(VideoPacket, Packet(b"".join([*parts, data[position:]])))
    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
    copy.time_base = packet.time_base
    return copy


class _OutputCheck:
    """Compares the frames that a decoder returns with the expected ones."""

    def __init__(self, scan: Scan, plan: DecodePlan, time_base: Fraction) -> None:
        self._scan, self._time_base = scan, time_base
        self._selected = {frame.pts: frame for frame in plan.selected}
        self._without_output = plan.packets_without_output
        self._expected: set[int] = set()
        self._latest: int | None = None

    def expect(self, packet_index: int) -> None:
        """Record that the decoder must return the frame of a packet."""
        if packet_index not in self._without_output and self._scan.is_shown(packet_index):
            self._expected.add(self._scan.pts[packet_index])

    def selected(self, frames: Iterable[VideoFrame]) -> Iterator[tuple[DecodedFrame, bool]]:
        """Check frames, and yield those of the plan."""
        for frame in frames:
            if frame.pts is None or frame.pts not in self._expected:
                raise NotPlannableError("a frame came out that was not due")
            if frame.is_corrupt:
                raise DamagedError("a frame came out damaged")
            if self._latest is not None and frame.pts <= self._latest:
                raise NotPlannableError("frames came out in another order than they are shown")
            self._latest = frame.pts
            self._expected.remove(frame.pts)
            selected = self._selected.get(frame.pts)
            if selected:
                seconds = seconds_of(selected.pts, self._time_base)
                yield (
                    DecodedFrame(selected.index, selected.pts, seconds, frame.key_frame, frame),
                    not selected.is_neighbour,
                )

    def all_selected(self, frames: Iterable[VideoFrame]) -> Iterator[tuple[DecodedFrame, bool]]:
        """Do as :meth:`selected`, and make sure that no frame is expected any more."""
        yield from self.selected(frames)
        if self._expected:
            raise NotPlannableError(f"{len(self._expected)} packets gave no frame")
