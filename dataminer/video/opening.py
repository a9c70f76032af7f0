"""Opening a video file and choosing its video stream."""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream

from dataminer.errors import ErrorClass, PermanentError, TransientError, os_error_class
from dataminer.files.links import ABSENT_ERRNOS
from dataminer.files.masked import MaskedFile
from dataminer.video.containers.ebml import is_matroska
from dataminer.video.containers.encryption import encrypted_streams, has_encrypted_tracks
from dataminer.video.containers.pixel_crop import impossible_crops
from dataminer.video.file_kinds import (
    begins_like_image,
    first_bytes,
    reject_other_kinds,
    unreadable_kind,
)
from dataminer.video.first_frame import first_orientation, is_picture_sequence
from dataminer.video.libav_messages import captured_messages, failure_reason
from dataminer.video.limits import DEFAULT_LIMITS, FileLimits
from dataminer.video.streams import choose_film, moving_streams

_IMAGE_FORMATS = {"image2pipe"}  # and every demuxer whose name ends in _pipe
_IMAGE_BRANDS = {"avif", "mif1", "miaf", "heic", "heix", "heim", "heis"}  # still images in MP4
_IMAGE = "an image"
_TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}  # text art, which libav renders as video
# texts and names that lead to other files, which libav opens while it reads the header
_PLAYLISTS = {
    *("hls", "dash", "concat", "imf", "sdp", "rtsp", "webm_dash_manifest", "vobsub", "image2"),
    *("avisynth", "vapoursynth", "lavfi"),
}
# by default libav reads up to 5 s to learn each stream's pixel format, which is not needed here
_FAST_OPEN = {"analyzeduration": "1"}
_MAX_STREAMS = 256
# in interlaced video, fields of B-frames depend on how far libav's other threads are
_RACING = {"mpeg4"}
_INDEX_BYTES = 32  # per frame or audio sample, in libav's index of an MP4


@contextmanager
def open_video(
    path: Path,
    threads: int = 1,
    *,
    fast_open: bool = False,
    limits: FileLimits = DEFAULT_LIMITS,
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and choose its video stream; see :func:`dataminer.video.streams.choose_film`.

    Parameters
    ----------
    path, threads
        A file on a local disk, and the number of decoder threads.
    fast_open : bool
        Skip decoding the beginning of an MP4, from which libav learns the pixel format and the
        reorder depth; see :func:`dataminer.video.decoder.set_reorder_depth`.
    limits : FileLimits
        What the file may cost.

    Yields
    ------
    tuple of InputContainer and VideoStream

    Raises
    ------
    PermanentError
        MISSING_SOURCE, EMPTY, CORRUPT (cannot be opened, or is something else, such as a page),
        NO_VIDEO (audio, cover art or an image), UNSUPPORTED (encrypted, no decoder for its codec,
        or beyond a limit).
    TransientError
        PERMISSION, DISK.
    """
    _check_readable(path)
    with open_container(path, limits, fast_open) as container:
        stream = _choose_within_limits(container, path, limits)
        _discard_others(container, stream)
        stream.thread_count = threads
        if threads > 1 and stream.codec.canonical_name not in _RACING:
            stream.thread_type = "AUTO"  # by frames if the codec allows it, otherwise by slices
        yield container, stream


def _discard_others(container: InputContainer, stream: VideoStream) -> None:
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all  # audio is not even read


def _check_readable(path: Path) -> None:
    try:
        first = first_bytes(path)
    except IsADirectoryError:
        raise PermanentError(f"{path} is a folder, not a video", ErrorClass.NO_VIDEO) from None
    except OSError as error:
        if error.errno in ABSENT_ERRNOS:
            raise PermanentError(f"{path} is not there", ErrorClass.MISSING_SOURCE) from error
        message = f"{path} cannot be read: {error.strerror}"
        raise TransientError(message, os_error_class(error)) from error
    if not first:
        raise PermanentError(f"{path.name} is empty (0 bytes)", ErrorClass.EMPTY)
    reject_other_kinds(path, first)


def open_container(path: Path, limits: FileLimits, fast_open: bool = False) -> InputContainer:
    """Open a file with all of its streams; see :func:`open_video`."""
    container = limits.within_memory(path, _open_container, path, limits, fast_open)
    if fast_open and not _headers_suffice(container):
        container.close()
        container = limits.within_memory(path, _open_container, path, limits, False)
    return container


def _headers_suffice(container: InputContainer) -> bool:
    """Return whether a file opened fast declares its frame sizes and decoding times."""
    streams = container.streams.video
    has_sizes = all(s.codec_context and s.codec_context.width for s in streams)
    # libav derives decoding times of Matroska and MPEG-TS from the reorder depth
    return has_sizes and container.format.name.startswith("mov,")


def _open_container(path: Path, limits: FileLimits, fast_open: bool) -> InputContainer:
    # "file:" and the whitelists keep a name or a playlist from leading elsewhere
    source = f"file:{path}"
    try:
        return _open_source(source, path, limits, fast_open)
    except PermanentError:
        with path.open("rb") as file:
            crops = impossible_crops(file) if is_matroska(file) else []
        if not crops:
            raise
    return _open_source(MaskedFile(path, crops), path, limits, fast_open)


def _open_source(
    source: str | MaskedFile, path: Path, limits: FileLimits, fast_open: bool
) -> InputContainer:
    with captured_messages():
        try:
            return av.open(
                source,
                "r",
                options=limits.decoder_options | ({"skip_frame": "all"} if fast_open else {}),
                metadata_errors="replace",
                container_options={
                    "protocol_whitelist": "file",
                    "format_whitelist": _self_contained_formats(),
                    "max_streams": str(_MAX_STREAMS + 1),
                    **(_FAST_OPEN if fast_open else {}),
                },
            )
        except MemoryError as error:
            if isinstance(error, av.FFmpegError) and "max_streams" in failure_reason(error, path):
                raise _too_many_streams(path) from error
            raise
        except av.FFmpegError as error:
            raise _open_error(error, path) from error


@functools.cache
def _self_contained_formats() -> str:
    return ",".join(sorted(av.formats_available - _PLAYLISTS))


def _too_many_streams(path: Path) -> PermanentError:
    message = f"{path.name} has more than {_MAX_STREAMS} streams"
    hint = "copy its video stream into a file of its own"
    return PermanentError(message, ErrorClass.UNSUPPORTED, hint)


def _open_error(error: av.FFmpegError, path: Path) -> PermanentError:
    reason = failure_reason(error, path)
    first = first_bytes(path)
    if error.errno == errno.EINVAL and "whitelist" in reason:
        if begins_like_image(first):  # of this name, libav would look for others beside it
            return PermanentError(f"{path.name} is {_IMAGE}, not a video", ErrorClass.NO_VIDEO)
        message = f"{path.name} is a playlist or leads to other files like one, not a video"
        return PermanentError(message, ErrorClass.NO_VIDEO)
    if has_encrypted_tracks(path):
        return _encrypted(path)
    kind = unreadable_kind(first)
    if kind:
        return kind.error(path.name)
    return PermanentError(f"{path.name} cannot be opened: {reason}", ErrorClass.CORRUPT)


def _choose_within_limits(container: InputContainer, path: Path, limits: FileLimits) -> VideoStream:
    """Choose the video stream of a file that exceeds no limit, and limit its decoder."""
    if len(container.streams) > _MAX_STREAMS:
        raise _too_many_streams(path)
    # libav drops an index that does not fit into memory, without an error; an AVI's is not declared
    frames = 0 if container.format.name == "avi" else sum(s.frames for s in container.streams)
    if frames * _INDEX_BYTES > limits.max_memory_mb * 1e6:
        raise limits.memory_exceeded(path)
    stream = _choose_stream(container, path, limits)
    context = stream.codec_context
    limits.check_megapixels(context.width * context.height / 1e6, path.name)
    context.options = limits.decoder_options
    if not context.width:  # not declared, or libav refused what is declared
        _check_first_frame(path, limits)
    return stream


def _choose_stream(container: InputContainer, path: Path, limits: FileLimits) -> VideoStream:
    name, kind = path.name, _other_kind(container)
    if kind == _IMAGE and _is_sequence(path, limits):
        kind = None
    if kind:
        raise PermanentError(f"{name} is {kind}, not a video", ErrorClass.NO_VIDEO)
    moving = moving_streams(container)
    if not moving:
        what = "only a still picture" if container.streams.video else "no video stream"
        raise PermanentError(f"{name} has {what}", ErrorClass.NO_VIDEO)
    decodable = [s for s in moving if s.codec_context is not None]
    if not decodable:
        raise PermanentError(
            f"{name}: there is no decoder for its video codec",
            ErrorClass.UNSUPPORTED,
            "convert it to H.264, VP9 or AV1",
        )
    return choose_film(_readable(container, decodable, path), lambda: open_container(path, limits))


def _is_sequence(path: Path, limits: FileLimits) -> bool:
    def reopen() -> InputContainer:
        return open_container(path, limits)

    return limits.within_memory(path, is_picture_sequence, reopen, limits)


def _readable(
    container: InputContainer, streams: list[VideoStream], path: Path
) -> list[VideoStream]:
    """Return the streams that are not encrypted; raise an error if all of them are."""
    try:
        encrypted = encrypted_streams(path, container.format.name, streams)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise TransientError(message, os_error_class(error)) from error
    readable = [s for s in streams if s.index not in encrypted]
    if not readable:
        raise _encrypted(path)
    return readable


def _encrypted(path: Path) -> PermanentError:
    hint = "replace the file by a copy without encryption, then `dataminer retry --download VIDEO`"
    return PermanentError(f"{path.name} is encrypted", ErrorClass.DRM, hint)


def _other_kind(container: InputContainer) -> str | None:
    """Return what a file is that libav opens although it is not a video."""
    format_name = container.format.name
    if format_name in _TEXT_FORMATS:
        return "a text"
    brand = container.metadata.get("major_brand", "")
    if format_name.endswith("_pipe") or format_name in _IMAGE_FORMATS or brand in _IMAGE_BRANDS:
        return _IMAGE
    return None


def _check_first_frame(path: Path, limits: FileLimits) -> None:
    """Decode the first frame in a separate reader to make sure that it is not too large."""
    with open_container(path, limits) as container:
        stream = _choose_stream(container, path, limits)
        stream.codec_context.options = limits.decoder_options
        first_orientation(container, stream, path.name, limits)
