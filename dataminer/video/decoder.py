"""Settings of a stream's decoder, and the pixels of its frames."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.codec import Capabilities
from av.codec.context import ThreadType
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dataminer.errors import ErrorClass, PermanentError

_OWN_THREADS = {"libdav1d"}  # decoders that ignore the type of threads
CodeValues = NDArray[np.uint8] | NDArray[np.uint16]
# an assertion of swscale 9.5 fails for luma and alpha as 32-bit floats, which EXR has
_ABORTING = "yaf32"
_BAYER_LINES = 2  # of a pattern; another assertion needs them
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
    can_by_frames = context.codec.capabilities & Capabilities.frame_threads
    by_frames = can_by_frames and context.thread_type & ThreadType.FRAME
    return context.codec.name in _OWN_THREADS or bool(by_frames)


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
    check_convertible(frame)
    try:
        return reformatter.reformat(frame, threads=1, **options)
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise _not_convertible(frame, error.strerror or str(error)) from error


def check_convertible(frame: VideoFrame) -> None:
    """Raise an error if libav, instead of converting a frame, would abort the process.

    Raises
    ------
    PermanentError
        UNSUPPORTED.
    """
    name = frame.format.name
    is_one_line = frame.height < _BAYER_LINES and name.startswith("bayer")
    if is_one_line or name.startswith(_ABORTING):
        raise _not_convertible(frame, "libav has no conversion for it")


def _not_convertible(frame: VideoFrame, reason: str) -> PermanentError:
    what = f"{frame.width}x{frame.height} pixels of format {frame.format.name}"
    message = f"a frame of {what} cannot be converted ({reason})"
    return PermanentError(message, ErrorClass.UNSUPPORTED, "convert it to H.264 in yuv420p")


def read_plane(frame: VideoFrame, index: int) -> CodeValues:
    """Return the code values of a plane that holds one component of up to 16 bits.

    Returns
    -------
    ndarray of uint8 or uint16, (height, width)
        A view of the frame, if its byte order is the machine's.
    """
    plane = frame.planes[index]
    bits = next(part.bits for part in frame.format.components if part.plane == index)
    order = ">" if frame.format.is_big_endian else "<"
    stored = np.dtype("u1" if bits <= 8 else f"{order}u2")
    lines = np.frombuffer(memoryview(plane), stored).reshape(plane.height, -1)[:, : plane.width]
    if plane.line_size < 0:  # from the bottom to the top
        lines = lines[::-1]
    native: CodeValues = lines.astype(stored.newbyteorder("="), copy=False)
    return native
