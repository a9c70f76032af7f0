"""Opening a video file, choosing its stream, and saying what it is and which way up."""

from __future__ import annotations

import errno
import functools
import re
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import av
import av.logging
import numpy as np
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dataminer.errors import ErrorClass, PermanentError, TransientError, os_error_class
from dataminer.files import NOWHERE
from dataminer.memory import within_memory

_T = TypeVar("_T")
_NOT_SHOWN = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_IMAGES = {"image2pipe"}  # and every demuxer whose name ends in _pipe
_IMAGE_BRANDS = {"avif", "mif1", "miaf", "heic", "heix", "heim", "heis"}  # MP4's still pictures
_TEXTS = {"tty", "bin", "xbin", "adf", "idf"}  # text art, which libav draws as video
# texts and names that stand for other files, which libav opens while it reads the header
_PLAYLISTS = {
    *("hls", "dash", "concat", "imf", "sdp", "rtsp", "webm_dash_manifest", "vobsub", "image2"),
    *("avisynth", "vapoursynth", "lavfi"),
}
_PROBE_PACKETS = 64  # how far to look for a first frame to learn the orientation from
_MOST_REORDERED = 16  # ITU-T H.264, E.2.1: max_num_reorder_frames
# libav reads on until it knows each stream's format, here the pixels' that it never decodes: 5 s
_AT_A_GLANCE = {"analyzeduration": "1"}
_OPENING = threading.Lock()
_MOST_STREAMS = 256
_INDEX_BYTES = 32  # of a frame or a piece of sound, in libav's index of an MP4
_LONGEST = 366 * 86400.0  # seconds; a file that declares more says nothing of its length
_REFUSED_SIZE = re.compile(r"Picture size (\d+)x(\d+) exceeds")  # libavutil/imgutils.c
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


@dataclass(frozen=True)
class FileLimits:
    """What a file may cost before its first frame is decoded.

    Parameters
    ----------
    section : str
        The section of the configuration that these limits stand in, for errors.
    max_megapixels : float
        Pixels of a picture, as declared; the decoder refuses larger ones that come undeclared.
    max_memory_mb : float
        Memory for all that must be read to know the file: index, attachments, a first picture.
    """

    section: str = "download"
    max_megapixels: float = 100.0
    max_memory_mb: float = 256.0

    @property
    def decoder_options(self) -> dict[str, str]:
        """What a decoder must be told."""
        return {"max_pixels": str(int(self.max_megapixels * 1e6))}

    def check(self, megapixels: float, name: str) -> None:
        """Refuse a file whose pictures are too large."""
        if megapixels > self.max_megapixels:
            what = f"{name} has {megapixels:.3g} megapixels, more"
            raise self.refused(what, "max_megapixels", self.max_megapixels)

    def too_costly(self, path: Path) -> PermanentError:
        """Return an error about a file that takes too much memory."""
        what = f"{path.name} takes more MB of memory"
        return self.refused(what, "max_memory_mb", self.max_memory_mb)

    def within_memory(self, path: Path, work: Callable[..., _T], *args: Any) -> _T:
        """Call a function that may take so much more memory for a file, whatever it declares.

        libav makes room for what an index, an attachment or a picture is said to need: gigabytes
        for a file of a few kB. Not for decoding, where libav takes a lack of memory for damage.

        Raises
        ------
        PermanentError
            UNSUPPORTED if it takes more.
        """
        try:
            return within_memory(self.max_memory_mb, work, *args)
        except MemoryError as error:
            raise self.too_costly(path) from error

    def refused(self, what: str, setting: str, most: float) -> PermanentError:
        """Return an error about a file that is beyond a limit of this section."""
        name = f"{self.section}.{setting}"
        also = f", extract.{setting}" if name == "download.max_megapixels" else ""
        return PermanentError(
            f"{what} than {name} = {most:g}",
            ErrorClass.UNSUPPORTED,
            f"if you trust the file, raise {name}{also} and mem_mb of rule {self.section}, then"
            " `dataminer retry --class unsupported`",
        )


DEFAULT_LIMITS = FileLimits()


@dataclass(frozen=True)
class Orientation:
    """How stored pictures are turned for display: transposed first, then flipped."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def degrees(self) -> int:
        """The turn in degrees clockwise, leaving a mirroring out of account."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn a picture, (height, width, 3), from how it is stored to how it is displayed."""
        import cv2  # 0.2 s that downloads, which only ask how a picture is turned, need not wait

        if self.transpose:
            image = np.asarray(cv2.transpose(image), np.uint8)
        if self.flip_x or self.flip_y:
            code = -1 if self.flip_x and self.flip_y else int(self.flip_x)
            image = np.asarray(cv2.flip(image, code), np.uint8)
        return image


_TURNS = {  # by degrees counter-clockwise, as libav counts
    90: Orientation(transpose=True, flip_y=True),
    180: Orientation(flip_x=True, flip_y=True),
    270: Orientation(transpose=True, flip_x=True),
}


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself, before all of it is decoded."""

    codec: str
    width: int
    """Pixels as displayed, after rotation."""
    height: int
    """Pixels as displayed, after rotation."""
    rotation: int
    """Degrees clockwise by which stored pictures are turned for display: 0, 90, 180 or 270."""
    average_rate: float | None
    """Frames a second."""
    duration: float | None
    """Seconds, as declared; None where the file does not say (live Matroska)."""
    declared_frames: int | None
    """Frames as declared; None where the file does not say."""
    size_bytes: int
    container: str
    """libav's name of the format, such as ``mov,mp4,m4a,3gp,3g2,mj2``."""


def probe(path: Path, limits: FileLimits = DEFAULT_LIMITS) -> VideoInfo:
    """Say what a video file is; decodes its first frame at most.

    Parameters
    ----------
    path : Path
        A file on a local disk.
    limits : FileLimits
        What the file may cost. A first frame that takes more memory is not decoded.

    Raises
    ------
    PermanentError
        As :func:`open_video`.
    TransientError
        As :func:`open_video`.
    """
    return limits.within_memory(path, _probe, path, limits)


def _probe(path: Path, limits: FileLimits) -> VideoInfo:
    with open_video(path, fast_open=True, limits=limits) as (container, stream):
        info = describe(container, stream, path.stat().st_size)
        if info.average_rate:
            return displayed(info, _first_orientation(container, stream, path.name, limits))
    with open_video(path, limits=limits) as (container, stream):
        info = describe(container, stream, path.stat().st_size)
        return displayed(info, _first_orientation(container, stream, path.name, limits))


@contextmanager
def open_video(
    path: Path,
    threads: int = 1,
    *,
    fast_open: bool = False,
    limits: FileLimits = DEFAULT_LIMITS,
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and choose its video stream: the one with most pixels, never cover art.

    Parameters
    ----------
    path : Path
        A file on a local disk; playlists that lead to other files are refused.
    threads : int
        Decoder threads.
    glance : bool
        Spare reading and decoding the beginning of an MP4, which libav does to learn of H.264 what
        the headers may not say: the format of its pixels, and how far its pictures are reordered.
        For who reads all packets first, see :func:`reorders`.
    limits : FileLimits
        What the file may cost.

    Yields
    ------
    tuple of InputContainer and VideoStream
        Ready to be demuxed and decoded; closed at the end. Only this stream's packets come.

    Raises
    ------
    PermanentError
        MISSING_SOURCE (not there), EMPTY (no bytes), CORRUPT (cannot be opened), NO_VIDEO
        (audio, cover art or an image), UNSUPPORTED (no decoder for its codec, or beyond a limit).
    TransientError
        PERMISSION (not readable for this user), DISK (the disk refused).
    """
    _check_readable(path)
    container = _open(path, limits, fast_open)
    if fast_open and not _says_all(container):
        container.close()
        container = _open(path, limits)
    try:
        if len(container.streams) > _MOST_STREAMS:
            raise _too_many_streams(path)
        # an index for which there was no memory is left out without an error
        if sum(s.frames for s in container.streams) * _INDEX_BYTES > limits.max_memory_mb * 1e6:
            raise limits.too_costly(path)
        stream = _choose_stream(container, path.name)
        limits.check(stream.codec_context.width * stream.codec_context.height / 1e6, path.name)
        stream.codec_context.options = limits.decoder_options
        if not stream.codec_context.width:  # nothing declares it, or libav refused what does
            _look_at_first(path, limits)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all  # sound is not even read
        stream.thread_count = threads
        if threads > 1:
            stream.thread_type = "AUTO"  # by frames where the codec allows, else by slices
        yield container, stream
    finally:
        container.close()


def reorders(stream: VideoStream, depth: int) -> None:
    """Tell the decoder by how many places its pictures come before they are shown, at most.

    Only H.264 may leave that open, and then libav's decoder starts with too few.
    """
    if stream.codec.canonical_name == "h264":
        context = stream.codec_context
        context.reorder_depth = max(context.reorder_depth, min(depth, _MOST_REORDERED))


def refuse_damage(stream: VideoStream) -> None:
    """Have the decoder refuse a damaged packet, instead of mending its frame.

    What a frame says of its damage may lack what another thread of the decoder has yet to meet.
    """
    context = stream.codec_context
    context.options = {**context.options, "err_detect": "explode"}


def describe(container: InputContainer, stream: VideoStream, size_bytes: int) -> VideoInfo:
    """Collect what the headers say; sizes are as stored, see :func:`displayed`."""
    return VideoInfo(
        codec=stream.codec.name,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        rotation=0,
        average_rate=float(stream.average_rate) if stream.average_rate else None,
        duration=_declared_duration(container, stream),
        declared_frames=stream.frames or None,
        size_bytes=size_bytes,
        container=container.format.name,
    )


def displayed(info: VideoInfo, orientation: Orientation) -> VideoInfo:
    """Turn what :func:`describe` found to how the pictures are displayed."""
    width, height = info.width, info.height
    if orientation.transpose:
        width, height = height, width
    return replace(info, width=width, height=height, rotation=orientation.degrees)


def orientation_of(frame: VideoFrame) -> Orientation:
    """Return how a decoded frame must be turned, from its display matrix.

    The matrix (a b u, c d v, x y w, in row order; libavutil/display.h) takes a stored point
    (x, y) to (a x + c y, b x + d y). Turns by other than right angles are not known in
    practice; they count as the nearest right angle.
    """
    try:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that libav knows and PyAV does not
        return _TURNS.get(frame.rotation % 360, Orientation())
    if matrix is None:
        return Orientation()
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(flip_x=a < 0, flip_y=d < 0)


def converted(
    reformatter: VideoReformatter, frame: VideoFrame, **options: Any
) -> NDArray[np.uint8]:
    """Return a frame's pixels in another format or size.

    Parameters
    ----------
    reformatter : VideoReformatter
        Keeps what conversions of equal frames share; for one thread at a time.
    frame : VideoFrame
        As decoded.
    **options
        For :meth:`av.video.reformatter.VideoReformatter.reformat`.

    Raises
    ------
    PermanentError
        UNSUPPORTED when libav cannot convert such frames; some broken videos claim to have them.
    """
    try:
        return np.asarray(reformatter.reformat(frame, threads=1, **options).to_ndarray(), np.uint8)
    except MemoryError:
        raise
    except av.FFmpegError as error:
        what = f"{frame.width}x{frame.height} pixels of format {frame.format.name}"
        message = f"a frame of {what} cannot be converted ({error.strerror})"
        hint = "convert it to H.264 in yuv420p"
        raise PermanentError(message, ErrorClass.UNSUPPORTED, hint) from error


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb") as file:
            first = file.read(1)
    except IsADirectoryError:
        raise PermanentError(f"{path} is a folder, not a video", ErrorClass.NO_VIDEO) from None
    except OSError as error:
        if error.errno in NOWHERE:
            raise PermanentError(f"{path} is not there", ErrorClass.MISSING_SOURCE) from error
        message = f"{path} cannot be read: {error.strerror}"
        raise TransientError(message, os_error_class(error)) from error
    if not first:
        raise PermanentError(f"{path.name} is empty (0 bytes)", ErrorClass.EMPTY)


def _says_all(container: InputContainer) -> bool:
    """Say whether a file opened at a glance tells sizes, and when its packets are decoded."""
    streams = container.streams.video
    known = all(s.codec_context and s.codec_context.width for s in streams)
    # of Matroska and MPEG-TS, libav derives decoding times from how far pictures are reordered
    return known and container.format.name.startswith("mov,")


def _open(path: Path, limits: FileLimits, fast_open: bool = False) -> InputContainer:
    return limits.within_memory(path, _opened, path, limits, fast_open)


def _look_at_first(path: Path, limits: FileLimits) -> None:
    """Decode a first frame, in a reader of its own, to see that it is not too large."""
    with _open(path, limits) as container:
        stream = _choose_stream(container, path.name)
        stream.codec_context.options = limits.decoder_options
        _first_orientation(container, stream, path.name, limits)


def _opened(path: Path, limits: FileLimits, fast_open: bool) -> InputContainer:
    with _last_error_kept():
        glances = _AT_A_GLANCE if fast_open else {}
        try:
            # "file:" and the whitelists keep a name or a playlist from leading elsewhere
            return av.open(
                f"file:{path}",
                options=limits.decoder_options | ({"skip_frame": "all"} if fast_open else {}),
                metadata_errors="replace",
                container_options={
                    "protocol_whitelist": "file",
                    "format_whitelist": _formats(),
                    "max_streams": str(_MOST_STREAMS + 1),
                    **glances,
                },
            )
        except MemoryError as error:
            if isinstance(error, av.FFmpegError) and "max_streams" in _reason(error, path):
                raise _too_many_streams(path) from error
            raise
        except av.FFmpegError as error:
            reason = _reason(error, path)
            if error.errno == errno.EINVAL and "whitelist" in reason:
                message = f"{path.name} is a playlist or leads to other files like one, not a video"
                raise PermanentError(message, ErrorClass.NO_VIDEO) from error
            message = f"{path.name} cannot be opened: {reason}"
            raise PermanentError(message, ErrorClass.CORRUPT) from error


@functools.cache
def _formats() -> str:
    """Name the formats whose files are whole by themselves."""
    return ",".join(sorted(av.formats_available - _PLAYLISTS))


def _too_many_streams(path: Path) -> PermanentError:
    message = f"{path.name} has more than {_MOST_STREAMS} streams"
    hint = "copy its video stream into a file of its own"
    return PermanentError(message, ErrorClass.UNSUPPORTED, hint)


@contextmanager
def _last_error_kept() -> Iterator[None]:
    """Let exceptions carry libav's own words, with nothing on stderr.

    Only while a file is opened, which libav does in one thread: its log takes Python's global
    lock, and a decoder's threads that log while they are joined would wait for ever. One file at a
    time, as level and last error are the process's.
    """
    with _OPENING:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.PANIC)
        try:
            yield
        finally:
            av.logging.set_level(level)


def _reason(error: av.FFmpegError, path: Path) -> str:
    """Return the last line that libav logged about an error, else the error's own text."""
    text = _logged(error) or error.strerror or "unknown error"
    if text == "moov atom not found":
        with path.open("rb") as file:
            if file.read(8)[4:] == b"ftyp":
                text += ": the file was cut off before its index"
    return text


def _logged(error: av.FFmpegError) -> str:
    log: Any = error.log  # (level, who, text), whatever PyAV's stubs say
    return log[-1].strip() if log else ""


def _choose_stream(container: InputContainer, name: str) -> VideoStream:
    other = _other_kind(container)
    if other:
        raise PermanentError(f"{name} is {other}, not a video", ErrorClass.NO_VIDEO)
    shown = [s for s in container.streams.video if not s.disposition & _NOT_SHOWN]
    if not shown:
        what = "only a still picture" if container.streams.video else "no video stream"
        raise PermanentError(f"{name} has {what}", ErrorClass.NO_VIDEO)
    decodable = [s for s in shown if s.codec_context is not None]
    if not decodable:
        raise PermanentError(
            f"{name}: there is no decoder for its video codec",
            ErrorClass.UNSUPPORTED,
            "convert it to H.264, VP9 or AV1",
        )
    return max(decodable, key=lambda s: (s.codec_context.width * s.codec_context.height, -s.index))


def _other_kind(container: InputContainer) -> str | None:
    """Say what a file is that libav opens, and that is no video all the same."""
    kind = container.format.name
    if kind in _TEXTS:
        return "a text"
    brand = container.metadata.get("major_brand", "")
    if kind.endswith("_pipe") or kind in _IMAGES or brand in _IMAGE_BRANDS:
        return "an image"
    return None


def _declared_duration(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return plausible_duration(float(stream.duration * stream.time_base))
    # Matroska: the track's own length, where audio may go on for longer
    clock = _CLOCK.match(stream.metadata.get("DURATION", ""))
    if clock:
        hours, minutes, seconds = clock.groups()
        return plausible_duration(int(hours) * 3600 + int(minutes) * 60 + float(seconds))
    if container.duration is not None:
        return plausible_duration(container.duration / av.time_base)
    return None


def plausible_duration(seconds: object) -> float | None:
    """Return a duration that a stranger declared; None unless it is one of up to a year."""
    if not isinstance(seconds, int | float) or not 0 <= seconds <= _LONGEST:
        return None
    return seconds


def _first_orientation(
    container: InputContainer, stream: VideoStream, name: str, limits: FileLimits
) -> Orientation:
    """Say how the first frame is turned; see that it is no larger than the limits allow."""
    with _last_error_kept(), suppress(av.FFmpegError, IndexError, MemoryError):
        for _, packet in zip(range(_PROBE_PACKETS), container.demux(stream), strict=False):
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                limits.check(_refused_megapixels(error), name)
                continue
            for frame in frames:
                return orientation_of(frame)
    return Orientation()  # what cannot be read is for the decoding pass to judge


def _refused_megapixels(error: av.FFmpegError) -> float:
    """Return how large a picture is that the decoder refused for its size; 0 for other errors."""
    found = _REFUSED_SIZE.search(_logged(error))
    return int(found[1]) * int(found[2]) / 1e6 if found else 0.0
