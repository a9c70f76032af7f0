"""Cells of sound videos: every container with the codecs that it can hold."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from tests.support.matrix.cell import STEP, Cell
from tests.support.matrix.colour import Colour
from tests.support.matrix.encoding import SIZE, Clip, encode, encode_with_ffmpeg

NTSC, FILM = Fraction(30000, 1001), Fraction(24000, 1001)
_FULL, _BT709 = Colour(full=True), Colour(matrix="bt709")
_NO_STAMPS = frozenset({"derived_stamps"})

# container: encoders
_USUAL = {
    "mp4": ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "mpeg4", "mpeg2video", "mjpeg", "png"),
    "mov": ("libx264", "prores_ks", "dnxhd", "mjpeg", "qtrle", "rawvideo", "v210", "cfhd", "svq1"),
    "mkv": ("libx264", "libx265", "ffv1", "libvpx", "libvpx-vp9", "mpeg2video", "mpeg4", "mjpeg"),
    "webm": ("libvpx", "libvpx-vp9", "libsvtav1"),
    "avi": ("libx264", "mpeg4", "mjpeg", "huffyuv", "ffv1", "msmpeg4v2", "msmpeg4", "utvideo"),
    "ts": ("libx264", "libx265", "mpeg2video", "mpeg1video", "mpeg4"),
    "m2ts": ("libx264", "mpeg2video"),
    "mpg": ("mpeg1video", "mpeg2video"),
    "vob": ("mpeg2video",),
    "flv": ("libx264", "libx265", "libsvtav1", "flv", "flashsv"),
    "f4v": ("libx264",),
    "ismv": ("libx264",),
    "wmv": ("wmv1", "wmv2", "libx264"),
    "asf": ("msmpeg4",),
    "mxf": ("mpeg2video", "libx264", "dnxhd", "jpeg2000"),
    "nut": ("ffv1", "libx264"),
    "ogv": ("libvpx",),
    "3gp": ("h263", "libx264", "mpeg4"),
    "gif": ("gif",),
    "apng": ("apng",),
    "dv": ("dvvideo",),
    "y4m": ("wrapped_avframe",),
    "mjpeg": ("mjpeg",),
    "mpjpeg": ("mjpeg",),
    "ivf": ("libvpx-vp9", "libsvtav1"),
    "rm": ("rv10",),
    "swf": ("mjpeg",),
    "wtv": ("mpeg2video",),
    "m2v": ("mpeg2video",),
    "m4v": ("mpeg4",),
    "h264": ("libx264",),
    "hevc": ("libx265",),
    "obu": ("libsvtav1",),
}
# encoder: what differs from 4:2:0 in limited range
_SPECIAL: dict[str, Clip] = {
    "mjpeg": Clip(pixel_format="yuvj420p", colour=_FULL),
    "png": Clip(pixel_format="rgb24"),
    "apng": Clip(pixel_format="rgb24"),
    "prores_ks": Clip(pixel_format="yuv422p10le"),
    "cfhd": Clip(pixel_format="yuv422p10le"),
    "v210": Clip(pixel_format="yuv422p10le"),
    "jpeg2000": Clip(pixel_format="yuv422p"),
    "huffyuv": Clip(pixel_format="yuv422p"),
    "rawvideo": Clip(pixel_format="uyvy422"),
    "qtrle": Clip(pixel_format="rgb24"),
    "svq1": Clip(pixel_format="yuv410p"),
    "flashsv": Clip(pixel_format="bgr24"),
    "gif": Clip(pixel_format="bgr8"),
    # its decoder says BT.709
    "dnxhd": Clip(
        pixel_format="yuv422p",
        size=(1280, 720),
        options=(("b", "60M"), ("profile", "dnxhd")),
        frames=21,
        colour=_BT709,
    ),
    "dvvideo": Clip(size=(720, 576), frames=21),
    "h263": Clip(size=(176, 144)),
    "rv10": Clip(size=(176, 144)),
}
_WRONG_TAG = frozenset({"assumed_matrices"})  # libav's muxer writes that of red, green, blue
# pixels of 16:15 (PAL) and 12:11 (CIF), whatever they are told
_SHOWN = {"dvvideo": (768, 576), "h263": (192, 144)}


def cells() -> Iterator[Cell]:
    """Yield the cells of sound videos."""
    for container, encoders in _USUAL.items():
        for encoder in encoders:
            yield _plain(container, encoder)
    yield from _rates()
    yield from _by_ffmpeg()


def _plain(container: str, encoder: str) -> Cell:
    clip = replace(_SPECIAL.get(encoder, Clip()), codec=encoder)
    clip = replace(clip, container_format="mpjpeg" if container == "mpjpeg" else None)
    return Cell(
        "plain",
        container,
        encoder,
        "none",
        functools.partial(encode, clip=clip),
        numbers=tuple(range(0, clip.frames, 10)),
        size=_SHOWN.get(encoder, clip.size),
        converts=frozenset({"squared"} if encoder in _SHOWN else ()),
        may_warn=_WRONG_TAG if (container, encoder) == ("flv", "libsvtav1") else frozenset(),
    )


def _rates() -> Iterator[Cell]:
    """Yield cells of other rates, of variable rates, and of reordered frames."""
    for rate, containers in {
        NTSC: ("mp4", "mkv", "ts", "avi", "flv"),
        FILM: ("mp4", "mkv"),
        Fraction(60): ("mp4", "webm"),
        Fraction(5, 2): ("mp4", "mkv"),
    }.items():
        for container in containers:
            codec = "libvpx-vp9" if container == "webm" else "libx264"
            clip = Clip(codec=codec, rate=rate)
            times = tuple(float(index / rate) for index in range(clip.frames))
            yield _timed(clip, container, f"{float(rate):.4g} frames per second", times)
    for container, codec in {"mp4": "libx264", "mkv": "libvpx-vp9", "flv": "libx264"}.items():
        stamps = tuple(_variable(40))
        clip = Clip(codec=codec, stamps=stamps, time_base=Fraction(1, 1000))
        yield _timed(clip, container, "variable rate", tuple(s / 1000 for s in stamps))
    for container in ("mp4", "mov", "mkv", "ts", "flv", "nut"):
        clip = Clip(b_frames=2, options=(("x264-params", "b-adapt=0:bframes=2"),))
        yield _timed(clip, container, "B-frames", tuple(n / 25 for n in range(clip.frames)))
    clip = Clip(b_frames=2, options=(("x264-params", "b-adapt=0:bframes=2"),))
    yield _timed(clip, "avi", "B-frames", tuple(n / 25 for n in range(50)), may_warn=_NO_STAMPS)
    for container in ("mp4", "mkv"):
        clip = Clip(stamps=tuple(range(100, 150)))
        yield _timed(clip, container, "begins at 4 s", tuple(n / 25 for n in range(50)))


def _variable(frames: int) -> list[int]:
    lasting = (40, 20, 60, 33, 500, 40, 125, 10)
    stamps = [0]
    for index in range(frames - 1):
        stamps.append(stamps[-1] + lasting[index % len(lasting)])
    return stamps


def _timed(
    clip: Clip,
    container: str,
    trouble: str,
    times: tuple[float, ...],
    may_warn: frozenset[str] = frozenset(),
) -> Cell:
    """Make a cell whose frames are shown at given times; a frame is taken at each 0.4 s."""
    numbers, tick = [], 0.0
    for number, time in enumerate(times):
        if time >= tick - 1e-9:
            numbers.append(number)
            tick = STEP * (int((time + 1e-9) / STEP) + 1)
    return Cell(
        "plain",
        container,
        clip.codec,
        trouble,
        functools.partial(encode, clip=clip),
        numbers=tuple(numbers),
        seconds=tuple(times[number] for number in numbers),
        may_warn=may_warn,
    )


def _by_ffmpeg() -> Iterator[Cell]:
    """Yield cells whose videos the program ffmpeg makes, which is of another version."""
    arguments = {
        "ogv": ("-c:v", "libtheora", "-q:v", "10"),
        "mkv": ("-c:v", "libtheora", "-q:v", "10"),
        "mp4": ("-c:v", "libx264", "-qp", "8", "-pix_fmt", "yuv420p"),
        "webm": ("-c:v", "libvpx", "-b:v", "4M", "-crf", "4", "-deadline", "realtime"),
        "avi": ("-c:v", "mpeg4", "-q:v", "2", "-sws_flags", "accurate_rnd"),
        "mpg": ("-c:v", "mpeg2video", "-q:v", "1", "-dc", "10", "-bf", "2"),
        "ts": ("-c:v", "libx264", "-qp", "8", "-pix_fmt", "yuv420p", "-bf", "2"),
        "mxf": ("-c:v", "mpeg2video", "-q:v", "1", "-pix_fmt", "yuv422p"),
        "gxf": ("-c:v", "mpeg2video", "-q:v", "1", "-s", "720x576"),
        "mov": ("-c:v", "prores_ks", "-pix_fmt", "yuva444p10le"),
    }
    for container, given in arguments.items():
        yield Cell(
            "plain",
            container,
            f"{given[1]} (ffmpeg)",
            "none",
            functools.partial(_encode_with_ffmpeg, arguments=given),
            size=(720, 576) if "720x576" in given else SIZE,
        )


def _encode_with_ffmpeg(path: Path, arguments: tuple[str, ...]) -> Path:
    return encode_with_ffmpeg(path, Clip(pixel_format="rgb24"), *arguments)
