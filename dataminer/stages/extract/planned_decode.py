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
from dataminer.stages.extract.selection.plan import DecodePlan, SelectedFrame
from dataminer.stages.extract.selection.scan import NotPlannableError, Scan, VideoPacket
from dataminer.video.decoder import reject_damaged_packets, set_reorder_depth


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
    check: Callable[[], None],
) -> Iterator[tuple[DecodedFrame, bool]]:
    """Decode what a plan requires; yield its frames as shown, and whether each is selected.

    Parameters
    ----------
    packets : iterable of (int, Packet)
        At least ``plan.packets`` with their indices, in the order of the scan.
    stream, scan, plan
        The stream, the facts about its packets, and what to do with each.
    check : callable
        Called with each packet; an exception from it ends decoding.

    Raises
    ------
    NotPlannableError
        If the decoder's output differs from the plan.
    """
    output = _OutputCheck(scan, plan.selected, stream.time_base or Fraction(1, av.time_base))
    last = max(plan.flush_points, default=-1)
    for index, packet in packets:
        check()
        if packet.pts != scan.pts[index]:
            raise NotPlannableError("other packets came when they were read again")
        if plan.decoded[index]:
            if index not in plan.packets_without_output:
                output.expect(index)
            yield from output.selected(_decode(stream, packet, plan.cuts.get(index, ())))
        if index in plan.flush_points:
            yield from output.selected(_decode(stream, None))
            output.check_complete()
            stream.codec_context.flush_buffers()
        if index == last:
            return
    raise NotPlannableError("fewer packets came when they were read again")


def _decode(
    stream: VideoStream, packet: VideoPacket | None, cuts: Sequence[tuple[int, int]] = ()
) -> list[VideoFrame]:
    try:
        return stream.decode(_without(packet, cuts) if packet is not None and cuts else packet)
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise NotPlannableError(f"a packet could not be decoded ({error.strerror})") from error


def _without(packet: VideoPacket, cuts: Sequence[tuple[int, int]]) -> VideoPacket:
    """Return a copy of a packet without some of its bytes."""
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

    def __init__(self, scan: Scan, selected: list[SelectedFrame], time_base: Fraction) -> None:
        self._scan, self._time_base = scan, time_base
        self._selected = {frame.pts: frame for frame in selected}
        self._expected: set[int] = set()
        self._latest: int | None = None

    def expect(self, packet_index: int) -> None:
        """Record that the decoder must return the frame of a packet."""
        if self._scan.is_shown(packet_index):
            self._expected.add(self._scan.pts[packet_index])

    def selected(self, frames: Iterable[VideoFrame]) -> Iterator[tuple[DecodedFrame, bool]]:
        """Check frames, and yield those of the plan."""
        for frame in frames:
            if frame.pts is None or frame.pts not in self._expected:
                raise NotPlannableError("a frame came out that was not due")
            if frame.is_corrupt:
                raise NotPlannableError("a frame came out damaged")
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

    def check_complete(self) -> None:
        """Make sure that the flushed decoder has returned every expected frame."""
        if self._expected:
            raise NotPlannableError(f"{len(self._expected)} packets gave no frame")
