"""Numbered pictures, encoded by PyAV into any container and codec, or by the program ffmpeg."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from tests.support.matrix.colour import Colour, code_planes, is_planar
from tests.support.matrix.pictures import Image, picture
from tests.support.real_time import leave_real_time

RATE = 25
FRAMES = 50
SIZE = (160, 120)
# the best of the blocks that can be coded: the quickest one smears bits of the counter
_LOSSY = {"flags": "+qscale", "global_quality": str(2 * 118), "mbd": "rd"}  # 118: FF_QP2LAMBDA
_X264 = {"preset": "ultrafast", "qp": "8"}
_VPX = {"deadline": "realtime", "cpu-used": "8", "crf": "4", "b": "4M"}
X265_PARAMS = "log-level=none:qp=8:pools=none"
_X265 = {"preset": "ultrafast", "x265-params": X265_PARAMS}
OPTIONS: Mapping[str, Mapping[str, str]] = {
    "libx264": _X264,
    "libx264rgb": _X264,
    "libx265": _X265,
    "libvpx": _VPX,
    "libvpx-vp9": _VPX,
    "libsvtav1": {"preset": "12", "crf": "8", "svtav1-params": "lp=1"},
    "mjpeg": {"flags": "+qscale", "global_quality": "236"},
    **dict.fromkeys(
        (
            *("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4", "msmpeg4v2", "wmv1", "wmv2", "flv"),
            *("h263", "rv10", "svq1", "amv", "speedhq", "snow"),
        ),
        _LOSSY,
    ),
}
"""What each encoder is given, to be fast and close to the picture."""


@dataclass(frozen=True)
class Clip:
    """A video to encode; equal clips give equal bytes."""

    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    size: tuple[int, int] = SIZE
    frames: int = FRAMES
    rate: Fraction = Fraction(RATE)
    stamps: tuple[int, ...] = ()
    """The time stamp of each frame in ``time_base``; else one after another."""
    time_base: Fraction | None = None
    first: int = 0
    """The number of the first picture."""
    gop: int = 12
    b_frames: int = 0
    aspect: Fraction | None = None
    """Of the pixels, as the codec says it."""
    rotation: float = 0
    """Counter-clockwise degrees for the display matrix."""
    mirrored: bool = False
    colour: Colour = field(default_factory=Colour)
    tags: tuple[int | None, int | None, int | None, int | None] = (None, None, None, None)
    """Numbers of H.273 for range (libav's), primaries, transfer and matrix."""
    options: tuple[tuple[str, str], ...] = ()
    muxer: tuple[tuple[str, str], ...] = ()
    container_format: str | None = None
    draw: Callable[[int, int, int], Image] = picture
    """Called with number, width and height."""
    prepare: Callable[[Any, Any], None] | None = None
    """Called with container and stream before the header is written."""
    alpha: Callable[[int, int, int], Image] | None = None
    """Draws the alpha plane, (height, width); opaque without it."""


def encode(path: Path, clip: Clip) -> Path:
    """Encode a clip; the suffix of the path chooses the container, unless the clip does."""
    with av.open(
        str(path), "w", format=clip.container_format, container_options=dict(clip.muxer)
    ) as output:
        stream = add_stream(output, clip)
        for packet in packets(clip, stream):
            output.mux(packet)
    return path


def add_stream(output: Any, clip: Clip) -> Any:
    """Add the stream of a clip to an output."""
    options = {**OPTIONS.get(clip.codec, {}), **dict(clip.options)}
    stream = output.add_stream(clip.codec, rate=clip.rate, options=options)
    stream.width, stream.height = clip.size
    stream.pix_fmt = clip.pixel_format
    context = stream.codec_context
    context.thread_count = 1  # the processes of a test run share few cores
    context.gop_size = clip.gop
    context.max_b_frames = clip.b_frames
    context.time_base = clip.time_base or 1 / clip.rate
    if clip.aspect:
        context.sample_aspect_ratio = clip.aspect
    names = ("color_range", "color_primaries", "color_trc", "colorspace")
    for name, value in zip(names, clip.tags, strict=True):
        if value is not None:
            setattr(context, name, value)
    if clip.rotation or clip.mirrored:
        stream.set_display_rotation(clip.rotation, hflip=clip.mirrored)
    if clip.prepare:
        clip.prepare(output, stream)
    return stream


def packets(clip: Clip, stream: Any) -> Iterable[Any]:
    """Encode the frames of a clip for a stream of an open output."""
    for frame in [*frames(clip), None]:
        encoded = stream.encode(frame)
        if clip.codec == "libsvtav1":
            leave_real_time()
        yield from encoded


def frames(clip: Clip) -> Iterable[VideoFrame]:
    """Draw the frames of a clip."""
    stamps = clip.stamps or tuple(range(clip.frames))
    for index, stamp in enumerate(stamps):
        frame = _frame(clip, clip.first + index)
        frame.pts = stamp
        frame.time_base = clip.time_base or 1 / clip.rate
        yield frame


def _frame(clip: Clip, number: int) -> VideoFrame:
    width, height = clip.size
    if not is_planar(clip.pixel_format):
        return _packed_frame(clip, number)
    frame = VideoFrame(width, height, clip.pixel_format)
    planes = list(_planes(clip.draw, number, width, height, clip.colour, clip.pixel_format))
    if clip.alpha:
        peak = 2 ** frame.format.components[0].bits - 1
        opacity = clip.alpha(number, width, height) / 255 * peak
        planes[-1] = np.rint(opacity).astype(np.uint16)
    for plane, values in zip(frame.planes, planes, strict=True):
        _fill(plane, values, frame.format.components[0].bits)
    names = ("color_range", "color_primaries", "color_trc", "colorspace")
    for name, value in zip(names, clip.tags, strict=True):
        if value is not None:
            setattr(frame, name, value)
    return frame


def _packed_frame(clip: Clip, number: int) -> VideoFrame:
    """Draw a frame in a format that libav converts to; transparency is drawn as RGBA."""
    layout = VideoFormat(clip.pixel_format, *clip.size)
    if not (layout.is_rgb or layout.has_palette):
        half_lines = layout.chroma_height() < clip.size[1]
        planar = "yuv420p" if half_lines else "yuv422p"
        frame = _frame(replace(clip, pixel_format=planar), number)
        return frame.reformat(format=clip.pixel_format)
    image = clip.draw(number, *clip.size)
    opacity = clip.alpha(number, *clip.size) if clip.alpha else np.full(image.shape[:2], 255)
    colours = np.dstack([image, opacity.astype(np.uint8)])
    frame = VideoFrame.from_ndarray(colours, format="rgba")
    return frame if clip.pixel_format == "rgba" else frame.reformat(format=clip.pixel_format)


@functools.lru_cache(maxsize=400)
def _planes(
    draw: Callable[[int, int, int], Image],
    number: int,
    width: int,
    height: int,
    colour: Colour,
    pixel_format: str,
) -> tuple[NDArray[np.uint16], ...]:
    return tuple(code_planes(draw(number, width, height), colour, pixel_format))


def _fill(plane: Any, values: NDArray[np.uint16], bits: int) -> None:
    typed = values.astype(np.uint8 if bits <= 8 else "<u2")
    padded = np.zeros((plane.height, plane.line_size), np.uint8)
    rows = typed.view(np.uint8).reshape(values.shape[0], -1)
    padded[: rows.shape[0], : rows.shape[1]] = rows
    plane.update(padded)


def encode_with_ffmpeg(path: Path, clip: Clip, *arguments: str) -> Path:
    """Encode a clip's pictures with the program ffmpeg; it gets them in the clip's format."""
    width, height = clip.size
    raw = b"".join(_raw(frame) for frame in frames(clip))
    source = ["-f", "rawvideo", "-pix_fmt", clip.pixel_format, "-s", f"{width}x{height}"]
    command = ["ffmpeg", "-v", "error", *source, "-r", str(clip.rate), "-i", "-", *arguments]
    subprocess.run([*command, "-y", str(path)], input=raw, check=True, capture_output=True)
    return path


def _raw(frame: VideoFrame) -> bytes:
    bits = frame.format.components[0].bits
    size = (bits + 7) // 8 * (3 if frame.format.name == "rgb24" else 1)
    lines = [
        np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width * size]
        for plane in frame.planes
    ]
    return b"".join(part.tobytes() for part in lines)
