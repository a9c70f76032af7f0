"""Videos that lack packets, or whose time stamps are wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT, RATE = 160, 128, 25
_PES_START = b"\0\0\1\xe0"  # of a video stream's packets in MPEG-TS and MPEG-PS


def moving_texture(index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Draw a texture that moves by some pixels per frame, so that no two frames are equal."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    texture = np.kron(coarse, np.ones((8, 8, 1), np.uint8)).astype(np.uint8)
    return np.ascontiguousarray(np.roll(texture, (2 * index, 3 * index), (0, 1)))


def make_moving(
    path: Path,
    codec: str = "libx264",
    *,
    frames: int = 100,
    gop: int = 25,
    rate: Fraction = Fraction(RATE),
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
) -> Path:
    """Encode a clip of :func:`moving_texture`."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        stream.gop_size = gop
        stream.codec_context.time_base = 1 / rate
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(moving_texture(index), format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def without_packets(source: Path, path: Path, dropped: Collection[int]) -> Path:
    """Copy a video without some of its packets, counted in decoding order from 0."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(container.streams.video[0], opaque=True)
        for index, packet in enumerate(p for p in container.demux(video=0) if p.size):
            if index not in dropped:
                packet.stream = stream
                output.mux(packet)
    return path


def restamped(source: Path, path: Path, stamp: Callable[[int], int]) -> Path:
    """Copy a video without B-frames, with other presentation time stamps.

    Parameters
    ----------
    source, path : Path
        The video; its copy in MP4, Matroska or FLV.
    stamp : callable
        Takes a frame's index, and returns its time stamp in milliseconds, less ten seconds.
    """
    # no edit list, which would cut frames off
    options = {"use_editlist": "0"} if path.suffix == ".mp4" else {}
    with (
        av.open(str(source)) as container,
        av.open(str(path), "w", container_options=options) as output,
    ):
        stream = output.add_stream_from_template(container.streams.video[0], opaque=True)
        for index, packet in enumerate(p for p in container.demux(video=0) if p.size):
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts, packet.dts, packet.duration = 10_000 + stamp(index), 40 * index, 40
            output.mux(packet)
    return path


def restamp_pes(path: Path, stamp: Callable[[int], int]) -> Path:
    """Overwrite the time stamps of an MPEG-TS or MPEG-PS file without B-frames.

    Parameters
    ----------
    path : Path
        The file.
    stamp : callable
        Takes a frame's index, and returns its time stamp in units of 1/90000 s.
    """
    data = bytearray(path.read_bytes())
    position, index = data.find(_PES_START), 0
    while position >= 0:
        if data[position + 7] & 0x80:  # a presentation time stamp; the decoding one follows it
            for field in range(data[position + 7] >> 6 & 1, -1, -1):
                _write_stamp(data, position + 9 + 5 * field, stamp(index))
            index += 1
        position = data.find(_PES_START, position + 4)
    path.write_bytes(data)
    return path


def _write_stamp(data: bytearray, position: int, value: int) -> None:
    """Write a time stamp of 33 bits (ISO/IEC 13818-1, 2.4.3.7), and keep what is around them."""
    parts = value >> 30 & 7, value >> 15 & 0x7FFF, value & 0x7FFF
    data[position] = data[position] & 0xF0 | parts[0] << 1 | 1
    for number, part in enumerate(parts[1:]):
        begin = position + 1 + 2 * number
        data[begin : begin + 2] = (part << 1 | 1).to_bytes(2)


def set_edit_list(path: Path, edits: Collection[tuple[int, int]]) -> Path:
    """Replace the edit list of a MOV's only track (Apple, QuickTime File Format, "Edit atoms").

    Parameters
    ----------
    path : Path
        The file, whose sample table stands after its samples.
    edits : collection of (int, int)
        The milliseconds that a part is shown for, and where it begins, in the track's units.
    """
    data = bytearray(path.read_bytes())
    begin = data.find(b"edts") - 4
    old_size = int.from_bytes(data[begin : begin + 4])
    entries = b"".join(struct.pack(">iihh", *edit, 1, 0) for edit in edits)
    listed = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    box = struct.pack(">I4s", 8 + len(listed), b"edts") + listed
    for outer in (b"moov", b"trak"):
        at = data.rfind(outer, 0, begin) - 4
        size = int.from_bytes(data[at : at + 4]) + len(box) - old_size
        data[at : at + 4] = size.to_bytes(4)
    data[begin : begin + old_size] = box
    path.write_bytes(data)
    return path
