"""Settings of a stream's decoder, and the pixels of its frames."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.codec.context import ThreadType
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dataminer.errors import ErrorClass, PermanentError

_OWN_THREADS = {"libdav1d"}  # decoders that ignore the type of threads
MAX_REORDER_DEPTH = 16  # ITU-T H.264, E.2.1: max_num_reorder_frames


def set_reorder_depth(stream: VideoStream, depth: int) -> None:
    """Set how many frames may be decoded ahead of the next frame in presentation order.

    Only H.264 may leave that open, and then libav's decoder starts with too few.
    """
    if stream.codec.canonical_name == "h264":
        context = stream.codec_context
        context.reorder_depth = max(context.reorder_depth, min(depth, MAX_REORDER_DEPTH))


def reject_damaged_packets(stream: VideoStream) -> None:
    """Make the decoder fail at a damaged packet instead of concealing the damage.

    A frame's own damage flag may miss damage that another decoder thread has yet to find.
    """
    context = stream.codec_context
    context.options = {**context.options, "err_detect": "explode"}


def decode_one_by_one(stream: VideoStream) -> None:
    """Let threads only share the work on a packet."""
    if stream.codec_context.codec.name in _OWN_THREADS:
        stream.thread_count = 1
    stream.thread_type = "SLICE"


def decodes_several(stream: VideoStream) -> bool:
    """Return whether threads work on several packets at once."""
    context = stream.codec_context
    if context.thread_count == 1:
        return False
    return context.codec.name in _OWN_THREADS or bool(context.thread_type & ThreadType.FRAME)


def convert_frame(
    reformatter: VideoReformatter, frame: VideoFrame, **options: Any
) -> NDArray[np.uint8]:
    """Return a frame's pixels in another format or size.

    Parameters
    ----------
    reformatter : VideoReformatter
        Caches what conversions of equal frames share; used by one thread at a time.
    frame : VideoFrame
        As decoded.
    **options
        For :meth:`av.video.reformatter.VideoReformatter.reformat`.

    Raises
    ------
    PermanentError
        UNSUPPORTED if libav cannot convert such frames; some broken videos claim to have them.
    """
    return np.asarray(reformat(reformatter, frame, **options).to_ndarray(), np.uint8)


def convert_deep_frame(
    reformatter: VideoReformatter, frame: VideoFrame, **options: Any
) -> NDArray[np.uint16]:
    """Return a frame's pixels in a format of 16 bits per colour; see :func:`convert_frame`."""
    return np.asarray(reformat(reformatter, frame, **options).to_ndarray(), np.uint16)


def reformat(reformatter: VideoReformatter, frame: VideoFrame, **options: Any) -> VideoFrame:
    """Return a frame in another format or size; see :func:`convert_frame`."""
    try:
        return reformatter.reformat(frame, threads=1, **options)
    except MemoryError:
        raise
    except av.FFmpegError as error:
        what = f"{frame.width}x{frame.height} pixels of format {frame.format.name}"
        message = f"a frame of {what} cannot be converted ({error.strerror})"
        hint = "convert it to H.264 in yuv420p"
        raise PermanentError(message, ErrorClass.UNSUPPORTED, hint) from error
