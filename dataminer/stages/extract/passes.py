"""The two ways through a video: decoding as planned, or decoding everything."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

import av
from av.video.stream import VideoStream

from dataminer.config.models import ExtractConfig
from dataminer.stages.extract.decode import decode
from dataminer.stages.extract.decode_stats import DecodedFrame, DecodeStats, DecodeSummary
from dataminer.stages.extract.encode import FrameEncoder
from dataminer.stages.extract.extraction import Extraction
from dataminer.stages.extract.loss.damage import find_loss
from dataminer.stages.extract.loss.packet_log import PacketLog
from dataminer.stages.extract.outcome import ExtractOutcome
from dataminer.stages.extract.planned_decode import configure_decoder, decode_planned
from dataminer.stages.extract.scenes import CutDetector
from dataminer.stages.extract.selection.plan import (
    DecodePlan,
    add_neighbours,
    plan_decoding,
    select_frames,
)
from dataminer.stages.extract.selection.sampling import make_sampler
from dataminer.stages.extract.selection.scan import (
    NotPlannableError,
    Scan,
    VideoPacket,
    jump_limit,
    scan_packets,
    undamaged_packets,
)
from dataminer.stages.extract.timing.rates import declared_rate
from dataminer.video.decoder import decode_one_by_one
from dataminer.video.info import VideoInfo
from dataminer.video.libav_messages import decoder_messages

_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS of libavformat/avformat.h: elementary streams


def extract_planned(
    extraction: Extraction, encoder: FrameEncoder, *, neighbours: bool
) -> ExtractOutcome:
    """Extract the selected frames, decoding no more than they require.

    Parameters
    ----------
    neighbours : bool
        Whether this includes the frames before and after selected ones.

    Raises
    ------
    NotPlannableError
        If everything must be decoded instead.
    NeighboursNeededError
        If they are required, and ``neighbours`` is not set.
    """
    settings = extraction.settings
    if settings.strategy == "scene":
        raise NotPlannableError("cuts are found by looking at every frame")
    with extraction.open(fast_open=True) as (container, stream):
        info = extraction.describe(container, stream)
        scan = scan_packets(container, stream, extraction.check)
        if settings.strategy == "keyframe" and scan.keyframe_flags_differ:
            raise NotPlannableError("the container calls other frames keyframes than the codec")
        plan, outcome = plan_frames(scan, stream, info, settings, neighbours=neighbours)
        if scan.cached_packets is not None:
            configure_decoder(stream, scan)
            cached = ((index, scan.cached_packets[index]) for index in plan.packets)
            _encode_planned(extraction, encoder, info, stream, cached, scan=scan, plan=plan)
            return outcome
    with extraction.open(fast_open=True) as (container, stream):
        extraction.describe(container, stream)
        configure_decoder(stream, scan)
        packets = enumerate(scan.without_lost_references(undamaged_packets(container, stream)))
        _encode_planned(extraction, encoder, info, stream, packets, scan=scan, plan=plan)
        return outcome


def _encode_planned(
    extraction: Extraction,
    encoder: FrameEncoder,
    info: VideoInfo,
    stream: VideoStream,
    packets: Iterable[tuple[int, VideoPacket]],
    *,
    scan: Scan,
    plan: DecodePlan,
) -> None:
    with decoder_messages(stream) as messages:
        frames = decode_planned(
            packets, stream, scan, plan, check=extraction.check, messages=messages
        )
        extraction.encode(frames, info, encoder, has_neighbours=plan.has_neighbours)


def plan_frames(
    scan: Scan,
    stream: VideoStream,
    info: VideoInfo,
    settings: ExtractConfig,
    *,
    neighbours: bool = False,
) -> tuple[DecodePlan, ExtractOutcome]:
    """Select frames of a scanned video within the limits, and plan how to decode them."""
    time_base = stream.time_base or Fraction(1, av.time_base)
    order = shown = scan.presentation_order()
    stamps = [scan.pts[index] for index in order]
    stopped = None
    limit = stamps[0] + settings.max_minutes * 60 / time_base
    summary = _summarise(scan, stream, time_base)
    if stamps[-1] >= limit:
        order = order[: bisect_left(stamps, limit)]
        stopped = f"stopped at max_minutes = {settings.max_minutes:g}"
    selected = select_frames(scan, make_sampler(settings, time_base), order)
    if len(selected) > settings.max_frames:
        selected = selected[: settings.max_frames]
        stopped = f"stopped at max_frames = {settings.max_frames}"
    if neighbours:
        selected = add_neighbours(scan, selected, shown)
    plan = replace(plan_decoding(scan, selected), has_neighbours=neighbours)
    return plan, ExtractOutcome(info, summary, stopped)


def _summarise(scan: Scan, stream: VideoStream, time_base: Fraction) -> DecodeSummary:
    order = scan.presentation_order()
    stamps, last = [scan.pts[index] for index in order[-2:]], order[-1]
    usual = max(1, round(1 / (stream.guessed_rate * time_base))) if stream.guessed_rate else 1
    end = stamps[-1] + (scan.durations[last] or usual)
    gap = stamps[-1] - stamps[-2] if len(stamps) > 1 else 0
    seconds, last_gap = float((end - scan.pts[order[0]]) * time_base), float(gap * time_base)
    return DecodeSummary(
        len(order), len(scan.pts), seconds, float(end * time_base), last_gap, scan.position
    )


def extract_everything(
    extraction: Extraction, encoder: FrameEncoder, *, one_by_one: bool
) -> ExtractOutcome:
    """Decode every frame, past what is broken, and extract the selected ones.

    Parameters
    ----------
    extraction, encoder
        The video, and what takes its frames.
    one_by_one : bool
        Whether to decode packets one by one even if there are several threads, so that it is known
        which ones are damaged.

    Raises
    ------
    DamagedError
        If something is damaged and it is not known what.
    """
    with extraction.open() as (container, stream):
        info = extraction.describe(container, stream)
        if one_by_one:
            decode_one_by_one(stream)
        time_base = stream.time_base or Fraction(1, av.time_base)
        stats = DecodeStats(
            time_base,
            declared_rate(stream),
            jump_limit(container),
            has_stamps=not container.format.flags & _NO_TIMESTAMPS,
        )
        selector = _FrameSelector(extraction.settings, stats.time_base)
        log = PacketLog(stream)
        with decoder_messages(stream) as messages:
            decoded = decode(container, stream, stats, extraction.check, log, messages=messages)
            extraction.encode(selector.select(decoded), info, encoder, has_neighbours=True)
        is_complete = not (selector.stopped or encoder.full)
        extraction.check()
        loss = find_loss(log.packets, stats.record, log.references, is_complete=is_complete)
        encoder.damaged = loss.damaged
        return ExtractOutcome(info, stats.summary(loss), selector.stopped)


class _FrameSelector:
    """Selects among decoded frames within the limits."""

    def __init__(self, settings: ExtractConfig, time_base: Fraction) -> None:
        self._settings = settings
        self._sampler = make_sampler(settings, time_base)
        scenes = settings.strategy == "scene"
        self._cuts = CutDetector(settings.scene_threshold) if scenes else None
        self._max_units = settings.max_minutes * 60 / time_base
        self.stopped: str | None = None

    def select(self, frames: Iterable[DecodedFrame]) -> Iterator[tuple[DecodedFrame, bool]]:
        """Yield frames and whether they are selected.

        Afterwards ``stopped`` names the limit that ended it.
        """
        start, count = None, 0
        for frame in frames:
            start = frame.pts if start is None else start
            if frame.pts - start >= self._max_units:
                self.stopped = f"stopped at max_minutes = {self._settings.max_minutes:g}"
                yield frame, False
                return
            marked = self._cuts.starts_shot(frame.frame) if self._cuts else frame.is_key
            if not self._sampler.wants(frame.index, frame.pts, marked, frame.begins_part):
                yield frame, False
                continue
            if count == self._settings.max_frames:
                self.stopped = f"stopped at max_frames = {count}"
                yield frame, False
                return
            count += 1
            yield frame, True
