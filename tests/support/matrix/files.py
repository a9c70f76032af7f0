"""Cells of whole files: which stream is the film, where files end, and what is no video."""

from __future__ import annotations

import functools
import gzip
import io
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition
from PIL import Image as PilImage

from dataminer.errors import ErrorClass
from tests.support.matrix.cell import TEN_APART, Cell, Refusal, Result
from tests.support.matrix.encoding import RATE, Clip, add_stream, encode, packets
from tests.support.matrix.packets import cut_off, muxed
from tests.support.matrix.pictures import picture

_SAMPLES = 1024  # of a packet of sound
_TRUNCATED = frozenset({"truncated"})
_AT_THE_END = frozenset({"refused_packets", "unread_parts", "damaged_frames", "lost_packets"})
_FILM = Clip()
_LARGE = (320, 240)
_STILL = Clip("mjpeg", "yuvj420p", size=_LARGE, frames=1, first=2000)
_FASTSTART = (("movflags", "faststart"),)
# for each container a codec of sound, and its sample rate
_SOUND = {
    "mp4": ("aac", 44100),
    "mov": ("pcm_s16le", 48000),
    "mkv": ("aac", 44100),
    "webm": ("libopus", 48000),
    "flv": ("aac", 44100),
    "avi": ("pcm_s16le", 48000),
    "wmv": ("wmav2", 44100),
    "ts": ("aac", 44100),
    "mpg": ("mp2", 44100),
    "mxf": ("pcm_s16le", 48000),
    "nut": ("aac", 44100),
}
_PICTURES = {
    "webm": Clip("libvpx-vp9"),
    "wmv": Clip("wmv2"),
    "mpg": Clip("mpeg2video"),
    "vob": Clip("mpeg2video"),
    "mxf": Clip("mpeg2video"),
    "avi": Clip("mpeg4"),
    "ogv": Clip("libvpx"),
}


def cells() -> Iterator[Cell]:
    """Yield the cells of whole files."""
    yield from _choices()
    yield from _ends()
    yield from _one_picture()
    yield from _no_videos()
    yield from _encrypted()


# ----------------------------------------------------------------------------------- which stream


def _choices() -> Iterator[Cell]:
    for container in ("mp4", "mov", "mkv", "ts", "avi"):
        still = replace(_STILL, codec="mpeg2video", pixel_format="yuv420p")
        still = still if container == "ts" else _STILL
        yield _choice(container, "a larger still of one frame, not marked", (_FILM, still))
        yield _choice(container, "a larger still first, not marked", (still, _FILM))
    large = Clip(size=_LARGE, first=2000)
    for container in ("mp4", "mkv"):
        marked = (Disposition.default, Disposition(0))
        trouble = "a larger film that is not the default"
        yield _choice(container, trouble, (_FILM, large), dispositions=marked)
        both = (Disposition.default, Disposition.default)
        right: dict[str, Any] = {"numbers": tuple(2000 + n for n in TEN_APART), "size": _LARGE}
        yield _choice(
            *(container, "two films, both default", (_FILM, large)), dispositions=both, **right
        )
        cover = (Disposition.default, Disposition.attached_pic)
        yield _choice(*(container, "a larger cover, marked", (_FILM, _STILL)), dispositions=cover)
        preview = replace(_STILL, frames=2, rate=Fraction(1))
        yield _choice(container, "larger previews, one each second", (_FILM, preview))
    large_ts: dict[str, Any] = {"numbers": tuple(2000 + n for n in TEN_APART), "size": _LARGE}
    yield _choice("ts", "two films", (_FILM, large), **large_ts)


def _choice(
    container: str,
    trouble: str,
    clips: tuple[Clip, ...],
    dispositions: tuple[Any, ...] = (),
    **right: Any,
) -> Cell:
    make = functools.partial(_make_streams, clips=clips, dispositions=dispositions)
    return Cell("stream", container, clips[0].codec, trouble, make, **right)


def _make_streams(path: Path, clips: tuple[Clip, ...], dispositions: tuple[Any, ...]) -> Path:
    parts = [
        encode(path.with_name(f"part{index}{path.suffix}"), clip)
        for index, clip in enumerate(clips)
    ]
    return muxed(path, *parts, dispositions=dispositions)


# ------------------------------------------------------------------------------------------- ends


def _ends() -> Iterator[Cell]:
    for container in ("flv", "mkv", "mp4", "mov", "avi", "ts", "wmv", "webm", "mpg", "mxf", "nut"):
        yield _sounding(container, "10 s of sound", 10.0)
    for container in ("flv", "mkv", "mp4", "avi", "wmv"):
        yield _sounding(container, "1 s of sound", 1.0)
    for container in (
        *("avi", "wmv", "mkv", "webm", "flv", "mp4", "mov", "mxf", "ts", "ogv", "nut", "mpg"),
    ):
        for part in (0.5, 0.8):
            yield _cut(container, part)
    for container in ("flv", "mkv", "mp4", "avi", "wmv"):
        yield _cut(container, 0.4, seconds_of_sound=2.4)
    clip = Clip(frames=_FILM.frames)
    yield Cell(
        *("ends", "mp4", "libx264", "half of a file whose index is at its end"),
        functools.partial(_make_cut, clip=clip, part=0.5, sound=0.0),
        refused=Refusal(ErrorClass.CORRUPT, "cut off before its index"),
    )


def _clip_for(container: str) -> Clip:
    clip = _PICTURES.get(container, Clip())
    return replace(clip, muxer=_FASTSTART) if container in ("mp4", "mov") else clip


def _sounding(container: str, trouble: str, seconds: float) -> Cell:
    clip = _clip_for(container)
    make = functools.partial(with_sound, clip=clip, seconds=seconds)
    return Cell("ends", container, clip.codec, f"2 s of pictures, {trouble}", make)


def with_sound(path: Path, clip: Clip, seconds: float) -> Path:
    """Encode a clip with a tone."""
    codec, rate = _SOUND[path.suffix[1:]]
    with av.open(str(path), "w", container_options=dict(clip.muxer)) as output:
        video = add_stream(output, clip)
        audio: Any = output.add_stream(codec, rate=rate, layout="mono", bit_rate=64_000)
        timed = [*packets(clip, video), *_tone(audio, rate, seconds)]
        for packet in sorted(timed, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return path


def _tone(stream: Any, rate: int, seconds: float) -> Iterator[Any]:
    samples = (8000 * np.sin(np.arange(int(rate * seconds)) * 0.05)).astype(np.int16)
    for begin in range(0, len(samples), _SAMPLES):
        part = samples[None, begin : begin + _SAMPLES]
        frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, begin
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _cut(container: str, part: float, seconds_of_sound: float = 0.0) -> Cell:
    clip = replace(_clip_for(container), frames=100)
    trouble = f"the first {part:.0%} of a file"
    if seconds_of_sound:
        trouble += ", sound that goes on for longer"
    # NUT declares no length: only that its last packet is not whole can be known
    declares = container != "nut"
    return Cell(
        *("ends", container, clip.codec, trouble),
        functools.partial(_make_cut, clip=clip, part=part, sound=seconds_of_sound),
        numbers=None,
        error=None,
        warns=_TRUNCATED if declares else frozenset(),
        some_of=frozenset() if declares else _TRUNCATED | _AT_THE_END,
        may_warn=_AT_THE_END,
        check=functools.partial(_is_beginning, part=part),
    )


def _make_cut(path: Path, clip: Clip, part: float, sound: float) -> Path:
    seconds = clip.frames / RATE + sound
    return cut_off(with_sound(path, clip, seconds) if sound else encode(path, clip), part)


def _is_beginning(cell: Cell, result: Result, part: float) -> None:
    """See that all that is there came, and only the last frame may be unreadable."""
    count = len(result.numbers)
    assert result.numbers[: count - 1] == list(range(0, 10 * (count - 1), 10))
    assert 10 * part * 0.5 <= count < 10


# ------------------------------------------------------------------------------------ one picture


def _one_picture() -> Iterator[Cell]:
    for container in ("mp4", "mkv", "ts", "avi", "webm", "flv", "mov", "ogv", "wmv", "mxf", "nut"):
        clip = replace(_PICTURES.get(container, Clip()), frames=1)
        yield Cell(
            *("one picture", container, clip.codec, "a single frame"),
            functools.partial(encode, clip=clip),
            numbers=(0,),
        )
    for settings in ({"strategy": "keyframe"}, {"strategy": "interval"}, {"strategy": "scene"}):
        yield Cell(
            *("one picture", "mp4", "libx264", f"a single frame, strategy {settings['strategy']}"),
            functools.partial(encode, clip=Clip(frames=1)),
            numbers=(0,),
            settings=settings,
        )


# --------------------------------------------------------------------------------- what is no video


def _no_videos() -> Iterator[Cell]:
    files: dict[str, tuple[str, bytes, ErrorClass, str]] = {
        "an HTML page": (
            *("mp4", b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n"),
            *(ErrorClass.CORRUPT, "HTML page.*download it again"),
        ),
        "a page after empty lines": (
            *("mkv", b"\n\n  <html><body>Forbidden</body></html>"),
            *(ErrorClass.CORRUPT, "HTML page.*download it again"),
        ),
        "a page in UTF-16 without a byte order mark": (
            *("mp4", "<html><body>Forbidden</body></html>".encode("utf-16-le")),
            *(ErrorClass.CORRUPT, "HTML page.*download it again"),
        ),
        "JSON": ("mp4", b'{"error": "forbidden"}', ErrorClass.CORRUPT, "JSON"),
        "XML": (
            *("mp4", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'),
            *(ErrorClass.CORRUPT, "XML"),
        ),
        "PDF": ("mp4", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(500), ErrorClass.CORRUPT, "PDF"),
        "a ZIP archive": ("mp4", _zip(), ErrorClass.CORRUPT, "ZIP"),
        "gzip": ("mp4", gzip.compress(bytes(5000)), ErrorClass.CORRUPT, "gzip"),
        "a Git LFS pointer": (
            *("mp4", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"),
            *(ErrorClass.CORRUPT, "LFS"),
        ),
        "zeros": ("mp4", bytes(100_000), ErrorClass.CORRUPT, "zeros"),
        "nothing": ("mp4", b"", ErrorClass.EMPTY, "empty"),
        "a PNG": ("mp4", _image(".png"), ErrorClass.NO_VIDEO, "image"),
        "a JPEG": ("avi", _image(".jpg"), ErrorClass.NO_VIDEO, "image"),
        "a playlist": (
            *("mp4", b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:9,\nhttp://localhost/a.ts\n"),
            *(ErrorClass.NO_VIDEO, "playlist"),
        ),
        "an animated WebP": ("webp", _webp(), ErrorClass.UNSUPPORTED, "WebP"),
    }
    for what, (suffix, data, error_class, message) in files.items():
        yield Cell(
            *("no video", suffix, "none", f"{what} of this name"),
            functools.partial(_write, data=data),
            refused=Refusal(error_class, message),
        )


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _zip() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("video.mp4", bytes(1000))
    return target.getvalue()


def _image(suffix: str) -> bytes:
    return bytes(cv2.imencode(suffix, picture(0))[1])


def _webp() -> bytes:
    images = [PilImage.fromarray(picture(number)) for number in range(0, 20, 5)]
    target = io.BytesIO()
    images[0].save(target, "WEBP", save_all=True, append_images=images[1:], duration=200)
    return target.getvalue()


# -------------------------------------------------------------------------------------- encryption


def _encrypted() -> Iterator[Cell]:
    for container in ("mp4", "mov"):
        yield Cell(
            *("encrypted", container, "libx264", "Common Encryption"),
            _make_encrypted,
            refused=Refusal(ErrorClass.DRM, "encrypted"),
        )


def _make_encrypted(path: Path) -> Path:
    clear = encode(path.with_name("clear.mp4"), Clip())
    keys = ("-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb")
    identifier = ("-encryption_kid", "a7e61c373e219033c21091fa607bf3b8")
    command = ["ffmpeg", "-v", "error", "-i", str(clear), "-c", "copy"]
    scheme = ("-encryption_scheme", "cenc-aes-ctr")
    subprocess.run([*command, *scheme, *keys, *identifier, "-y", str(path)], check=True)
    return path
