"""Taking frames out of a video in one pass: choose, decode what that takes, measure, encode."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
from av.container import InputContainer
from av.video.stream import VideoStream

from dataminer.config.models import ExtractConfig
from dataminer.errors import ErrorClass, PermanentError, TransientError
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.extract.decode import (
    DecodedFrame,
    DecodeStats,
    DecodeSummary,
    decode,
    decode_planned,
    prepare,
)
from dataminer.stages.extract.encode import FrameEncoder, give_back_large_buffers
from dataminer.stages.extract.scenes import CutFinder
from dataminer.stages.extract.selection.plan import DecodePlan, choose, make_plan
from dataminer.stages.extract.selection.sampling import make_sampler
from dataminer.stages.extract.selection.scan import NotPlannableError, Scan, scan, sound_packets
from dataminer.video.info import VideoInfo, as_displayed, describe
from dataminer.video.limits import FileLimits
from dataminer.video.opening import open_video
from dataminer.video.orientation import Orientation

VERSION = VERSIONS["extract"]

_REPORT_EVERY = 5.0  # seconds between two calls of progress
_DECLARES_LENGTH = ("mov,", "matroska", "flv", "avi", "asf")  # elsewhere libav estimates it
_LIKE_BAD_READS = {ErrorClass.CORRUPT, ErrorClass.NO_FRAMES, ErrorClass.NO_VIDEO}
_LARGE = 5e6  # pixels; each of a decoder's threads holds some pictures more
_THREADS_IF_LARGE = 2
_HUGE = 64e6  # bytes of a picture as decoded, which 8K has with more than 8 bits a colour
_READ_AT_ONCE = 4 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractResult:
    """What came of a video."""

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
    """Write the wanted frames of a video as images, and their table.

    The packets' time stamps are read first; then each group of pictures is decoded up to its last
    wanted frame, without pictures that no other is built on. Where that is not safe, all is
    decoded; the table's metadata says why, as ``decoding``. The frames and their pixels are those
    of a full decode, and the same input, settings, ``meta`` and ``source`` give the same
    bytes.

    Parameters
    ----------
    video : Path
        A video file in any format that libav reads.
    out : Path
        An existing, empty folder, which the caller publishes.
    video_id : str
        Goes into file names and the table.
    settings : ExtractConfig
        Which frames, in what image format, and how much at most.
    meta : dict, optional
        Goes into the table's metadata beside what this stage adds.
    source : mapping, optional
        What is known of where the video comes from; of it, title, uploader, licence, upload_date
        and url go into each row.
    threads : int
        For decoding, and with more than one, as many for turning pictures into files beside it.
    progress : callable, optional
        Called with one line of text every few seconds and at the end; what it raises ends the work.

    Raises
    ------
    PermanentError
        MISSING_SOURCE, EMPTY, CORRUPT, NO_VIDEO, UNSUPPORTED from opening the file; UNSUPPORTED
        when the file or its pictures are larger than the settings allow; CORRUPT when too great
        a share of its packets cannot be decoded; NO_FRAMES when nothing in it could be decoded,
        or nothing was wanted.
    TransientError
        DISK_FULL or PERMISSION when ``out`` takes no more; PERMISSION when ``video`` is closed;
        DISK when it cannot be read to its end; TIMEOUT after ``timeout_minutes``.
    """
    work = _Work(video, settings, threads, progress)
    cv2.setNumThreads(1)  # its own threads would stand in the way of ours
    give_back_large_buffers()
    try:
        encoder, ending = _frames(work, out, video_id)
        _judge(work, ending, encoder.count)
    except PermanentError as error:
        if error.error_class in _LIKE_BAD_READS:
            _read_through(video)
        raise
    known = _known(ending, settings, encoder.orientation)
    encoder.write_table({**(meta or {}), **known}, source or {})
    return ExtractResult(encoder.count, known["warning"])


@dataclass(frozen=True)
class _Ending:
    """What is known of a video when its last frame was taken."""

    info: VideoInfo
    account: DecodeSummary
    stopped: str | None
    """The cap that it was stopped at."""
    decoding: str = "planned"
    """Or that everything was decoded, and why."""


class _Work:
    """One video's extraction: its settings, its deadline, and who is told how far it is."""

    def __init__(
        self,
        video: Path,
        settings: ExtractConfig,
        threads: int,
        progress: Callable[[str], None] | None,
    ) -> None:
        self.video = video
        self.settings = settings
        self.limits = FileLimits("extract", settings.max_megapixels, settings.max_memory_mb)
        self.threads = threads
        self._progress = progress
        self._reported = time.monotonic()
        self._state = "reading the packets"
        self._deadline = self._reported + settings.timeout_minutes * 60

    def check(self) -> None:
        """Say now and then how far it is, and raise when the time is up."""
        now = time.monotonic()
        if now - self._reported > _REPORT_EVERY:
            self._report()
        if now > self._deadline:
            minutes = self.settings.timeout_minutes
            raise TransientError(
                f"{self.video.name} was not extracted within {minutes:g} minutes",
                ErrorClass.TIMEOUT,
                "raise extract.timeout_minutes, or give the job more threads",
            )

    def open(
        self, *, fast_open: bool = False
    ) -> AbstractContextManager[tuple[InputContainer, VideoStream]]:
        """Open the video within the limits; see :func:`dataminer.video.opening.open_video`."""
        return open_video(self.video, self.threads, fast_open=fast_open, limits=self.limits)

    def opened(self, container: InputContainer, stream: VideoStream) -> VideoInfo:
        """Describe a video, unless it is larger than the settings allow."""
        info = describe(container, stream, self.video.stat().st_size)
        if info.size_bytes > self.settings.max_video_gb * 1e9:
            what = f"{self.video.name} has {info.size_bytes / 1e9:.3g} GB, more"
            raise self.limits.exceeded(what, "max_video_gb", self.settings.max_video_gb)
        pixels = info.width * info.height
        if pixels > _LARGE:
            stream.thread_count = min(self.threads, _THREADS_IF_LARGE)
        if pixels * _bytes_per_pixel(stream) > _HUGE:
            stream.thread_count = 1
        return info

    def take(self, frames: Iterable[DecodedFrame], info: VideoInfo, encoder: FrameEncoder) -> None:
        """Hand frames on to the encoder for as long as it wants more, and say how far it is."""
        total = f" of {info.duration:.1f}" if info.duration else ""
        start = None
        for shown in frames:
            start = shown.seconds if start is None else start
            encoder.add(shown)
            self._state = f"at {shown.seconds - start:.1f}{total} s, {encoder.count} frames taken"
            if encoder.full:
                break
        self._report()

    def _report(self) -> None:
        self._reported = time.monotonic()
        if self._progress:
            self._progress(self._state)


def _bytes_per_pixel(stream: VideoStream) -> float:
    """Return what a pixel takes as decoded; some codecs do not say it before the first picture."""
    known = stream.codec_context.format
    return known.padded_bits_per_pixel / 8 if known else 1.5


def _frames(work: _Work, out: Path, video_id: str) -> tuple[FrameEncoder, _Ending]:
    """Take the wanted frames, by a plan where that is safe."""
    settings = work.settings
    decoding = "planned"
    try:
        with FrameEncoder(out, video_id, settings, work.threads) as encoder:
            ending = _extract_planned(work, encoder)
    except NotPlannableError as reason:
        decoding = f"everything, because {reason}"
    if decoding != "planned":  # not above, where the error keeps the first decoder's pictures
        log.info("%s: decoding %s", work.video.name, decoding)
        for image in out.iterdir():
            image.unlink()
        with FrameEncoder(out, video_id, settings, work.threads) as encoder:
            ending = replace(_extract_everything(work, encoder), decoding=decoding)
    if encoder.full:
        stopped = f"stopped at max_output_gb = {settings.max_output_gb:g}"
        ending = replace(ending, stopped=stopped)
    return encoder, ending


def _extract_planned(work: _Work, encoder: FrameEncoder) -> _Ending:
    """Take the wanted frames, decoding no more than they need."""
    settings = work.settings
    if settings.strategy == "scene":
        raise NotPlannableError("cuts are found by looking at every frame")
    with work.open(fast_open=True) as (container, stream):
        info = work.opened(container, stream)
        found = scan(container, stream, work.check)
        if settings.strategy == "keyframe" and found.flags_differ:
            raise NotPlannableError("the container calls other frames keyframes than the codec")
        plan, ending = _plan(found, stream, info, settings)
        if found.cached_packets is not None:
            prepare(stream, found)
            cached_packets = (
                (packet_index, found.cached_packets[packet_index]) for packet_index in plan.steps
            )
            work.take(
                decode_planned(cached_packets, stream, found, plan, work.check), info, encoder
            )
            return ending
    with work.open(fast_open=True) as (container, stream):
        work.opened(container, stream)
        prepare(stream, found)
        packets = enumerate(sound_packets(container, stream))
        work.take(decode_planned(packets, stream, found, plan, work.check), info, encoder)
        return ending


def _plan(
    found: Scan, stream: VideoStream, info: VideoInfo, settings: ExtractConfig
) -> tuple[DecodePlan, _Ending]:
    """Choose among the frames of a scanned video, up to the caps."""
    time_base = stream.time_base or Fraction(1, av.time_base)
    order = found.presentation()
    stamps = [found.pts[packet_index] for packet_index in order]
    usual = max(1, round(1 / (stream.guessed_rate * time_base))) if stream.guessed_rate else 1
    end = stamps[-1] + (found.last_duration or usual)
    gap = stamps[-1] - stamps[-2] if len(stamps) > 1 else 0
    account = DecodeSummary(
        len(order), len(found.pts), float((end - stamps[0]) * time_base), float(gap * time_base)
    )
    stopped = None
    most = stamps[0] + settings.max_minutes * 60 / time_base
    if stamps[-1] >= most:
        order = order[: bisect_left(stamps, most)]
        stopped = f"stopped at max_minutes = {settings.max_minutes:g}"
    wanted = choose(found, make_sampler(settings, time_base), order)
    if len(wanted) > settings.max_frames:
        wanted = wanted[: settings.max_frames]
        stopped = f"stopped at max_frames = {settings.max_frames}"
    return make_plan(found, wanted), _Ending(info, account, stopped)


def _extract_everything(work: _Work, encoder: FrameEncoder) -> _Ending:
    """Decode every frame there is, past what is broken, and take the wanted ones."""
    with work.open() as (container, stream):
        info = work.opened(container, stream)
        tally = DecodeStats(stream.time_base or Fraction(1, av.time_base), stream.guessed_rate)
        choice = _Choice(work.settings, tally.time_base)
        shown = decode(container, stream, tally, work.check)
        work.take(choice.wanted(shown), info, encoder)
        return _Ending(info, tally.account(), choice.stopped)


class _Choice:
    """Chooses among decoded frames, up to the caps."""

    def __init__(self, settings: ExtractConfig, time_base: Fraction) -> None:
        self._settings = settings
        self._sampler = make_sampler(settings, time_base)
        scenes = settings.strategy == "scene"
        self._cuts = CutFinder(settings.scene_threshold) if scenes else None
        self._most = settings.max_minutes * 60 / time_base
        self.stopped: str | None = None

    def wanted(self, frames: Iterable[DecodedFrame]) -> Iterator[DecodedFrame]:
        """Pass on the wanted ones; ``stopped`` says afterwards whether a cap cut them off."""
        start, taken = None, 0
        for shown in frames:
            start = shown.pts if start is None else start
            if shown.pts - start >= self._most:
                self.stopped = f"stopped at max_minutes = {self._settings.max_minutes:g}"
                return
            marked = self._cuts.begins_shot(shown.frame) if self._cuts else shown.is_key
            if not self._sampler.wants(shown.index, shown.pts, marked):
                continue
            if taken == self._settings.max_frames:
                self.stopped = f"stopped at max_frames = {taken}"
                return
            taken += 1
            yield shown


def _known(ending: _Ending, settings: ExtractConfig, turn: Orientation) -> dict[str, Any]:
    """Return what the table says about itself; nothing in it may depend on time or place."""
    return {
        "stage": "extract",
        "version": VERSION,
        "settings": settings.model_dump(),
        "video": asdict(as_displayed(ending.info, turn)),
        "decoding": ending.decoding,
        "source_frames": ending.account.frames,
        "decode_errors": ending.account.decode_errors,
        "truncated": _cut_short(ending) is not None,
        "warning": _warning(ending),
    }


def _judge(work: _Work, ending: _Ending, taken: int) -> None:
    """Raise where what came out is not worth keeping, or the disk is to blame."""
    account, name = ending.account, work.video.name
    if account.read_errors or _cut_short(ending):
        _read_through(work.video)
    if taken and account.decode_errors > account.packets * work.settings.max_error_share:
        raise PermanentError(
            f"{account.decode_errors} of {account.packets} packets of {name} could not be decoded"
            f" ({account.last_error})",
            ErrorClass.CORRUPT,
        )
    if not taken:
        raise PermanentError(_nothing(name, ending), ErrorClass.NO_FRAMES)


def _read_through(video: Path) -> None:
    """Make sure that a file that seems to be cut off or broken is not merely unreadable.

    libav takes an error of the disk within a packet for the end of the file.
    """
    try:
        with video.open("rb", buffering=0) as file:
            while file.read(_READ_AT_ONCE):
                pass
    except IsADirectoryError:
        return
    except OSError as error:
        message = f"{video} cannot be read to its end: {error.strerror}"
        raise TransientError(message, ErrorClass.DISK) from error


def _warning(ending: _Ending) -> str | None:
    """Say all that a user should know about how the video was decoded; None when all is well."""
    tally = ending.account
    found = [
        ending.stopped or _cut_short(ending),
        _several(tally.decode_errors, "packet", "could not be decoded"),
        _several(tally.damaged, "frame", "came out damaged"),
        _several(tally.guessed, "frame", "had no right time stamp: it was derived"),
    ]
    return "; ".join(text for text in found if text) or None


def _cut_short(ending: _Ending) -> str | None:
    """Say whether the stream ended before it should; of one that was stopped that is not known."""
    info, tally = ending.info, ending.account
    if ending.stopped:
        return None
    told = info.duration if info.container.startswith(_DECLARES_LENGTH) else None
    if told:
        # without an error, the last frame may just be shown for longer than it says
        slack = 0.0 if tally.read_errors else max(1.0, 0.002 * told)
        if told - tally.seconds > max(slack, 2 * tally.last_gap):
            return f"truncated: {tally.seconds:.1f} of {told:.1f} s could be decoded"
    elif info.declared_frames and tally.frames + tally.decode_errors < info.declared_frames * 0.98:
        return f"truncated: {tally.frames} of {info.declared_frames} frames could be decoded"
    reads = _several(tally.read_errors, "part", "of the file could not be read")
    return f"{reads} ({tally.last_error})" if reads else None


def _several(count: int, noun: str, what: str) -> str | None:
    return f"{count} {noun}{'s' if count > 1 else ''} {what}" if count else None


def _nothing(name: str, ending: _Ending) -> str:
    account = ending.account
    if ending.stopped:
        return f"nothing was taken of {name}: {ending.stopped}"
    if account.frames:
        return f"none of the {account.frames} frames of {name} is a keyframe"
    reason = f" ({account.last_error})" if account.last_error else ""
    return f"no frame of {name} could be decoded{reason}"
