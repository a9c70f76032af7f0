"""Small clips of every kind that the tests need, made through PyAV in a fraction of a second."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import cv2
import numpy as np
from numpy.typing import NDArray

from tests.support.paths import ROOT

WIDTH, HEIGHT, RATE = 160, 120, 25
RED, GREEN, BLUE = (230, 20, 20), (20, 200, 20), (20, 20, 230)
REAL_FOOTAGE = ROOT.parent / "shared" / "data"


def picture(index: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Draw frame ``index``: a ramp, a box that moves, a red and a green upper corner.

    Returns
    -------
    ndarray of uint8, (height, width, 3)
        Red, green, blue.
    """
    ramp = np.linspace(40, 200, width, dtype=np.uint8)
    image = np.repeat(np.tile(ramp, (height, 1))[..., None], 3, axis=2)
    left = 10 + 3 * index % max(1, width - 40)
    image[height // 2 : height // 2 + 20, left : left + 24] = 255
    image[: height // 4, : width // 4] = RED
    image[: height // 4, -(width // 4) :] = GREEN
    return np.ascontiguousarray(image)


def make_video(
    path: Path,
    *,
    pts: Iterable[int] | None = None,
    frames: int = 50,
    time_base: Fraction = Fraction(1, RATE),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    rotation: float = 0,
    mirrored: bool = False,
    gop: int = 12,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    shift: int = 0,
    target: Any = None,
    container_format: str | None = None,
) -> Path:
    """Encode a clip of :func:`picture` frames.

    Parameters
    ----------
    path : Path
        Its suffix chooses the container, unless ``container_format`` does.
    pts : iterable of int, optional
        Time stamp of each frame in ``time_base``; else 0 to ``frames`` - 1.
    rotation : float
        Counter-clockwise degrees for the display matrix.
    shift : int
        Units of ``time_base`` taken off every packet's time stamps after encoding.
    target : file-like, optional
        Written to instead of ``path``.
    """
    stamps = list(range(frames)) if pts is None else list(pts)
    with av.open(
        target or str(path), "w", format=container_format, container_options=muxer or {}
    ) as output:
        stream: Any = output.add_stream(codec, rate=RATE, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.gop_size = gop
        stream.codec_context.time_base = time_base
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        for index, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24")
            frame.pts, frame.time_base = stamp, time_base
            _mux(output, stream.encode(frame), shift, time_base)
        _mux(output, stream.encode(None), shift, time_base)
    return path


def _mux(output: Any, packets: list[Any], shift: int, time_base: Fraction) -> None:
    for packet in packets:
        if shift:
            units = int(shift * time_base / packet.time_base)
            packet.pts -= units
            packet.dts -= units
        output.mux(packet)


def variable_rate(path: Path, frames: int = 40) -> Path:
    """Make a clip in milliseconds whose frames last from 20 to 500 ms."""
    lasting = [40, 20, 60, 33, 500, 40, 125, 10]
    stamps = [0]
    for index in range(frames - 1):
        stamps.append(stamps[-1] + lasting[index % len(lasting)])
    return make_video(path, pts=stamps, time_base=Fraction(1, 1000), options={"bf": "0"})


class _Pipe:
    """A target that cannot be sought in, like a pipe: the muxer can never go back."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def close(self) -> None:
        self._file.close()


def with_sound(path: Path, **options: Any) -> Path:
    """Make a clip of two seconds, and mux a tone between its pictures; the tone comes first."""
    parts = [
        audio_only(path.with_name("tone.m4a"), 2.0),
        make_video(path.with_name("silent.mp4"), **options),
    ]
    with contextlib.ExitStack() as files, av.open(str(path), "w") as output:
        packets: list[tuple[Fraction, av.Packet[Any]]] = []
        for part in parts:
            source = files.enter_context(av.open(str(part)))
            stream = output.add_stream_from_template(source.streams[0])
            for packet in source.demux():
                if packet.size:
                    assert packet.dts is not None
                    packet.stream = stream
                    packets.append((packet.dts * packet.time_base, packet))
        for _, packet in sorted(packets, key=lambda timed: timed[0]):
            output.mux(packet)
    return path


def live_matroska(path: Path, **options: Any) -> Path:
    """Make a Matroska file that states neither its duration nor its number of frames."""
    target = _Pipe(path)
    muxer = {"live": "1"}
    make_video(path, target=target, container_format="matroska", muxer=muxer, **options)
    target.close()
    return path


def faststart(path: Path, **options: Any) -> Path:
    """Make an MP4 whose index comes first, so that its beginning plays when its end is lost."""
    return make_video(path, muxer={"movflags": "faststart"}, **options)


def cut_off(source: Path, path: Path, part: float) -> Path:
    """Copy the first ``part`` (0 to 1) of a file's bytes."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    return path


def with_noise(source: Path, path: Path, begin: float, end: float) -> Path:
    """Copy a file with the bytes of a stretch (0 to 1) turned into noise."""
    data = bytearray(source.read_bytes())
    first, last = int(len(data) * begin), int(len(data) * end)
    data[first:last] = np.random.default_rng(0).bytes(last - first)
    path.write_bytes(data)
    return path


def with_bad_packets(source: Path, path: Path, which: Iterable[int]) -> Path:
    """Copy a file with the payload of some packets, counted in file order, overwritten by 0xFF."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        for index in which:
            packet = packets[index]
            assert packet.pos is not None
            data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(data)
    return path


def audio_only(path: Path, seconds: float = 1.0, cover: bool = False) -> Path:
    """Make a file with a tone and no video; with ``cover``, with a picture attached."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("aac", rate=16000, layout="mono")
        art: Any = None
        if cover:
            art = output.add_stream("mjpeg", rate=1)
            art.width, art.height, art.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            art.disposition = av.stream.Disposition.attached_pic
            output.mux(art.encode(av.VideoFrame.from_ndarray(picture(0), format="rgb24")))
            output.mux(art.encode(None))
        tone = (8000 * np.sin(np.arange(int(16000 * seconds)) * 0.17)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(tone[None, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def image_file(path: Path) -> Path:
    """Write one picture in the format of the suffix, whatever the file is called later."""
    done, data = cv2.imencode(path.suffix, picture(0)[..., ::-1])
    assert done
    path.write_bytes(data.data)
    return path


def jpeg() -> bytes:
    """Return a small picture."""
    return bytes(cv2.imencode(".jpg", np.full((64, 64, 3), 90, np.uint8))[1])


def undeclared_order(path: Path) -> Path:
    """Make H.264 that does not say how far its pictures are reordered, as cameras' is.

    In an MP4 of fragments, whose header does not tell it either.
    """
    params = "keyint=30:bframes=4:b-adapt=0:b-pyramid=2:scenecut=0"
    options = {"preset": "veryfast", "x264-params": params}
    make_video(path, frames=70, options=options, muxer={"movflags": "frag_keyframe+empty_moov"})
    data = path.read_bytes()
    begin = data.index(b"avcC") + 12  # past the configuration's header and the length
    size = int.from_bytes(data[begin - 2 : begin])
    bits = "".join(f"{byte:08b}" for byte in data[begin : begin + size])
    without = bits[: _restriction(bits)] + "01"  # no restriction; where the parameter set ends
    parameters = int(without.ljust(len(bits), "0"), 2).to_bytes(size)
    path.write_bytes(data[:begin] + parameters + data[begin + size :])
    return path


def _restriction(bits: str) -> int:
    """Find where the bitstream restriction begins that ends a parameter set (H.264, E.1.1)."""
    end = bits.rindex("1")
    for start in range(end - 4, end - 80, -1):
        numbers: list[int] = []
        at = start + 2
        while at < end and len(numbers) < 6:
            zeros = bits.index("1", at) - at
            numbers.append(int(bits[at + zeros : at + 2 * zeros + 1], 2) - 1)
            at += 2 * zeros + 1
        # bits and bytes without limit, vectors of some length, some pictures reordered
        usual = (
            len(numbers) == 6
            and numbers[:2] == [0, 0]
            and 8 <= numbers[2] == numbers[3]
            and numbers[4] > 0
        )
        if bits[start : start + 2] == "11" and at == end and usual:
            return start
    raise AssertionError("x264 did not write what it usually does")
