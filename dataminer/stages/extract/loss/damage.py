"""Which packets gave no frame, where frames are missing, and which frames may be damaged by it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np

from dataminer.stages.extract.loss.packet_log import (
    NO_STAMP,
    FrameRecord,
    PacketRecord,
    References,
)
from dataminer.stages.extract.selection.bitstream import RandomAccessPoint
from dataminer.stages.extract.timing.gaps import find_gaps, usual_step
from dataminer.video.decoder import MAX_REORDER_DEPTH

_MAX_DELAY = 16  # packets after a broken one until a decoder of several threads reports it
_JOIN_PACKETS = 3  # that libav's parser may hold when the packet counter jumps
_FIELD_SHARE = 0.75  # of the usual step; a packet so soon after another is its second field


@dataclass(frozen=True)
class Loss:
    """What is lost of a stream.

    Attributes
    ----------
    packets : int
        Packets that were due to be shown and gave no frame, although the decoder refused none.
    missing : int
        Frames that are missing where a constant rate leaves a gap, or at least the reference
        pictures that are.
    damaged : frozenset of int
        Indices of frames that may be damaged.
    long_gaps : int
        Gaps of a second or more that are pauses, or whole parts that are missing.
    """

    packets: int = 0
    missing: int = 0
    damaged: frozenset[int] = field(default_factory=frozenset)
    long_gaps: int = 0


def find_loss(
    packets: PacketRecord, frames: FrameRecord, references: References, *, is_complete: bool
) -> Loss:
    """Compare the packets of a stream with its frames.

    Pictures that refer to a lost or broken one, even by way of others, may be damaged.

    Parameters
    ----------
    packets, frames
        As recorded.
    references : References
        Whether a gap in time may leave pictures without those that they refer to.
    is_complete : bool
        Whether decoding went on to the stream's end; otherwise the last packets' frames are not
        expected.
    """
    sources, frameless = _match(packets, frames)
    _correct_points(packets, frames, sources)
    frameless = _due(packets, frames, sources, frameless, is_complete)
    readable = [index for index in frameless if index not in packets.unreadable]
    lost = min(len(readable), max(0, len(frameless) - len(packets.refused)))
    depth = _reorder_depth(sources)
    if packets.numbers:
        packets.orphans = packets.numbers.orphans()
    gaps, long_gaps = _judged_gaps(packets, frames, sources, frameless, references)
    damaged = set(frames.corrupt) | _broken_frames(packets, sources)
    if references is not References.NONE:
        spread = _Spread(packets, sources, depth)
        spread.after_packets(frameless if packets.refused else readable, frameless)
        spread.after_frames(frames.corrupt)
        if references is References.UNCHECKED:
            for frame in _unnumbered(packets, sources, gaps):
                spread.after_gap(frame)
            if not any(packets.points[:1]) and not any(frames.keys[:1]):
                spread.from_packet(0)
        damaged |= spread.frames()
    numbered = packets.numbers.missing() if packets.numbers else 0
    missing = max(gaps.total(), len(packets.orphans), numbered)
    return Loss(lost, missing, frozenset(damaged), long_gaps)


def _judged_gaps(
    packets: PacketRecord,
    frames: FrameRecord,
    sources: list[int],
    frameless: list[int],
    references: References,
) -> tuple[Counter[int], int]:
    """Return the gaps in which frames are missing, and how many may be pauses as well."""
    depth = _reorder_depth(sources)
    gaps = _gaps(packets, frames, frameless, depth)
    gaps -= _numbered(packets, sources, gaps)
    pauses = _pauses(packets, frames, gaps)
    if references is References.CHECKED:
        gaps -= _explained(packets, sources, gaps, pauses, depth)
    unknown = _may_be_pauses(packets, sources, gaps, pauses, references)
    return gaps - unknown, len(unknown)


def _match(packets: PacketRecord, frames: FrameRecord) -> tuple[list[int], list[int]]:
    """Find the packet of each frame (-1 if unknown), and the packets without a frame.

    An edit list may show a part twice, or hide packets whose time stamps others have, too.
    """
    waiting: defaultdict[int, deque[int]] = defaultdict(deque)
    for is_shown in (1, 0):
        for index, pts in enumerate(packets.pts):
            if packets.shown[index] == is_shown:
                waiting[pts].append(index)
    sources = []
    for stamp in frames.stamps:
        found = waiting.get(stamp)
        sources.append(found.popleft() if found else -1)
    return sources, sorted(index for left in waiting.values() for index in left)


def _correct_points(packets: PacketRecord, frames: FrameRecord, sources: list[int]) -> None:
    """Believe the decoder rather than the container: an AVI may call every packet a keyframe.

    Some decoders call no frame one, as of QuickTime Animation. If the container does neither, the
    first packet counts as one: nothing is known to be lost before it.
    """
    if not packets.has_declared_points:
        return
    if any(frames.keys):
        for source, is_key in zip(sources, frames.keys, strict=True):
            point = RandomAccessPoint.CLEAN if is_key else RandomAccessPoint.NONE
            if source >= 0:
                packets.points[source] = point
    elif not any(packets.points):
        packets.points[:1] = bytes([RandomAccessPoint.CLEAN])


def _reorder_depth(sources: list[int]) -> int:
    """Return how far the order of decoding is from that of presentation."""
    known = np.asarray([source for source in sources if source >= 0], np.int64)
    ranks = np.argsort(np.argsort(known))
    return int(np.abs(ranks - np.arange(len(ranks))).max(initial=0))


def _due(
    packets: PacketRecord,
    frames: FrameRecord,
    sources: list[int],
    frameless: list[int],
    is_complete: bool,
) -> list[int]:
    """Leave out the packets that give no frame by design, or not yet."""
    usual = usual_step(np.diff(np.asarray(frames.times)))
    last = max(sources, default=-1)
    last_stamp = frames.stamps[-1] if frames.stamps else NO_STAMP
    known = set(sources)
    skipped = _leading_pictures(packets, 0)  # what they refer to was never there
    due = []
    for index in frameless:
        pts = packets.pts[index]
        not_shown = not packets.shown[index] and index not in packets.unreadable
        if not_shown or index in skipped or pts == NO_STAMP:
            continue
        if not is_complete and (index >= last or pts >= last_stamp):
            continue
        distance = pts - packets.pts[index - 1] if index else usual
        if index - 1 in known and 0 <= distance < _FIELD_SHARE * usual:
            continue
        due.append(index)
    return due


def _gaps(
    packets: PacketRecord, frames: FrameRecord, frameless: list[int], reorder_depth: int
) -> Counter[int]:
    """Return how many frames are missing before a frame, besides those of known packets."""
    if sum(frames.derived) * 2 > len(frames.derived):
        return Counter()  # stamps that are mostly wrong have no meaning
    times, durations = np.asarray(frames.times), np.asarray(frames.durations)
    owners = np.arange(len(times))  # the frame at each time, or the next one
    if frames.times and frames.times == frames.stamps:
        lost = np.sort(np.asarray(packets.pts)[frameless])
        farthest = 2 * usual_step(np.diff(times)) * len(packets.pts)  # others are stray
        lost = lost[(lost >= times[0] - farthest) & (lost <= times[-1] + farthest)]
        positions = np.searchsorted(times, lost)
        times, durations = np.insert(times, positions, lost), np.insert(durations, positions, 0)
        owners = np.insert(owners, positions, positions)
    decoded = np.asarray(packets.dts) if frames.times == frames.stamps else None
    positions, counts = find_gaps(times, durations, reorder_depth, decoded)
    gaps: Counter[int] = Counter()
    for position, count in zip(positions.tolist(), counts.tolist(), strict=True):
        gaps[int(owners[position])] += count
    return gaps


def _pauses(packets: PacketRecord, frames: FrameRecord, gaps: Counter[int]) -> list[int]:
    """Return the frames before which the gap lasts for a second or longer."""
    usual = usual_step(np.diff(np.asarray(frames.times)))
    return [frame for frame, count in gaps.items() if count * usual >= packets.second > 0]


def _around(sources: list[int], frame: int) -> tuple[int, int]:
    """Return the packets of the frames before and after a gap; -1 if there is no such frame."""
    return sources[frame - 1] if frame else -1, sources[frame] if frame < len(sources) else -1


def _numbered(packets: PacketRecord, sources: list[int], gaps: Counter[int]) -> Counter[int]:
    """Return the gaps in which no picture is missing, by the pictures' own numbers."""
    numbers = packets.numbers or packets.hints
    explained: Counter[int] = Counter()
    for frame in gaps if numbers else ():
        before, after = _around(sources, frame)
        if numbers and min(before, after) >= 0 and numbers.follows(before, after):
            explained[frame] = gaps[frame]
    return explained


def _unnumbered(packets: PacketRecord, sources: list[int], gaps: Counter[int]) -> list[int]:
    """Return the gaps of which the pictures' own numbers do not tell what is missing there."""
    numbers = packets.numbers
    if numbers is None:
        return list(gaps)
    return [
        frame
        for frame in gaps
        if min(_around(sources, frame)) < 0
        or not numbers.are_of_one_group(*_around(sources, frame))
    ]


def _may_be_pauses(
    packets: PacketRecord,
    sources: list[int],
    gaps: Counter[int],
    pauses: list[int],
    references: References,
) -> Counter[int]:
    """Return the gaps of which nothing tells whether something is missing there.

    They are in formats that store what was encoded, and there are no shorter gaps, or what
    follows them begins with a keyframe.
    """
    left = [frame for frame in pauses if gaps[frame]]
    if not packets.may_pause or (references is not References.CHECKED and len(left) < len(gaps)):
        return Counter()
    orphans = sorted(packets.orphans)

    def lacks_nothing(frame: int) -> bool:
        first, last = sorted(_around(sources, frame))
        return bisect_right(orphans, last) == bisect_left(orphans, first)

    return Counter({frame: gaps[frame] for frame in left if lacks_nothing(frame)})


def _explained(
    packets: PacketRecord, sources: list[int], gaps: Counter[int], pauses: list[int], depth: int
) -> Counter[int]:
    """Return the gaps that are pauses: what follows refers to what comes before, and finds it."""
    explained: Counter[int] = Counter()
    orphans = set(packets.orphans)
    for frame in pauses:
        if not 0 < frame < len(sources) or min(sources[frame - 1 : frame + 1]) < 0:
            continue
        begin = min(sources[frame] - 2 * min(depth, MAX_REORDER_DEPTH), sources[frame - 1])
        around = range(max(0, begin) + 1, sources[frame] + 1)
        if not any(packets.points[i] or i in orphans for i in around):
            explained[frame] = gaps[frame]
    return explained


def _leading_pictures(packets: PacketRecord, point: int) -> range:
    """Return the packets that directly follow an open random access point, but are shown before."""
    end = point + 1
    if end <= len(packets.pts) and packets.points[point] == RandomAccessPoint.OPEN:
        while end < len(packets.pts) and packets.pts[end] < packets.pts[point]:
            end += 1
    return range(point + 1, end)


def _unexplained(refused: list[int], frameless: list[int]) -> list[int]:
    """Return the failures that no packet without a frame explains."""
    return [
        index
        for index in refused
        if bisect_right(frameless, index) == bisect_left(frameless, index - _MAX_DELAY)
    ]


def _broken_frames(packets: PacketRecord, sources: list[int]) -> set[int]:
    """Return the frames in which the decoder met damage, and those that are shown too late.

    Second fields belong to the frame of the packet before.
    """
    frames = {source: frame for frame, source in enumerate(sources) if source >= 0}
    found = [frames.get(index, frames.get(index - 1)) for index in packets.concealed]
    if packets.numbers:
        found += map(frames.get, packets.numbers.displaced())
    return {frame for frame in found if frame is not None}


def _incomplete(packets: PacketRecord) -> list[int]:
    """Return the incomplete packets, except those where recordings were joined.

    Where MPEG-TS files are joined, their packet counters jump, and libav calls one of the last
    packets before it incomplete.
    """
    return [index for index in packets.incomplete if not _is_before_jump(packets, index)]


def _is_before_jump(packets: PacketRecord, index: int) -> bool:
    following = range(index + 1, min(index + 1 + _JOIN_PACKETS, len(packets.pts)))
    return any(packets.points[i] and packets.pts[i] <= packets.pts[index] for i in following)


class _Spread:
    """Where damage begins, and the frames that it reaches."""

    def __init__(self, packets: PacketRecord, sources: list[int], reorder_depth: int) -> None:
        self._packets, self._sources, self._depth = packets, sources, reorder_depth
        self._points = [index for index, point in enumerate(packets.points) if point]
        self._point_frames = [
            (frame, source)
            for frame, source in enumerate(sources)
            if source >= 0 and packets.points[source]
        ]
        self._reached = np.zeros(len(packets.pts), bool)
        self._begins: dict[int, int] = {}  # of the damage before each random access point
        self._leading = cache(partial(_leading_pictures, packets))

    def after(self, index: int) -> None:
        """Let what follows a packet in decoding order be damaged, up to a random access point.

        After a leading picture, only the other leading ones of the same point are.
        """
        points_before = bisect_right(self._points, index)
        if points_before:
            leading = self._leading(self._points[points_before - 1])
            if index in leading:
                self._reached[index + 1 : leading.stop] = True
                return
        self.from_packet(index + 1)

    def from_packet(self, index: int) -> None:
        """Let the packets from one on be damaged, up to a random access point."""
        begin = max(0, index)
        rank = bisect_left(self._points, begin)
        end = self._points[rank] if rank < len(self._points) else len(self._reached)
        before = self._begins.get(rank, end)
        self._reached[begin:before] = True
        self._begins[rank] = min(begin, before)
        if rank < len(self._points):
            leading = self._leading(end)
            self._reached[leading.start : leading.stop] = True

    def after_packets(self, lost: list[int], frameless: list[int]) -> None:
        """Let what refers to lost or broken packets be damaged."""
        packets = self._packets
        for index in lost:
            if not packets.unreferenced[index]:
                self.after(index)
        for index in _unexplained(packets.refused, frameless):
            self.from_packet(index - _MAX_DELAY)
        for index in _incomplete(packets):
            for broken in range(index, min(index + 2, len(self._reached))):  # it may be the next
                self._reached[broken] = True
                self.from_packet(broken + 1)
        for index in packets.concealed:
            if not packets.unreferenced[index]:
                self.after(index)
        for index in packets.orphans:
            self.from_packet(index)

    def after_frames(self, broken: list[int]) -> None:
        """Let what refers to frames be damaged."""
        for source in (self._sources[frame] for frame in broken):
            if source >= 0 and not self._packets.unreferenced[source]:
                self.after(source)

    def after_gap(self, frame: int) -> None:
        """Let what refers to a missing picture be damaged: that before a frame.

        It was decoded after the random access point that is shown before it, and at most twice the
        depth of reordering before that frame.
        """
        source = self._sources[frame] if frame < len(self._sources) else -1
        if source >= 0:
            shown_before = bisect_left(self._point_frames, (frame, -1))
            point = self._point_frames[shown_before - 1][1] if shown_before else -1
            self.from_packet(max(point + 1, source - 2 * self._depth))

    def frames(self) -> set[int]:
        """Return the indices of the frames that are reached."""
        return {
            f for f, source in enumerate(self._sources) if source >= 0 and self._reached[source]
        }
