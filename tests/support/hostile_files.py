"""Small files that declare, or unpack to, what no machine should make room for."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from PIL import Image

SIDE = 16_000
_SMALL = (160, 120)
_VP8 = bytes.fromhex("3001009d012aa0007800") + bytes(50)


def png(side: int = SIDE, *, moving: bool = False) -> bytes:
    """Return a picture of 2 MB that takes 8 bytes a pixel: red, green, blue and alpha, 16 bits."""
    row = 1 + side * 8
    packer = zlib.compressobj(9)
    rows = bytes(row * 16)
    first = packer.compress(rows) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(rows) + packer.flush(zlib.Z_FULL_FLUSH)
    end = packer.flush()[:-4] + struct.pack(">HH", row * side % 65_521, 1)  # RFC 1950: Adler-32
    data = first + again * (side // 16 - 1) + end
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0))]
    if moving:
        parts += [(b"acTL", struct.pack(">II", 2, 0))]
        parts += [(b"fcTL", struct.pack(">IIIIIHHBB", 0, side, side, 0, 0, 1, 25, 0, 0))]
    parts += [(b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg(side: int = SIDE) -> bytes:
    """Return a small picture whose header declares a large one."""
    data = bytearray(_picture("JPEG"))
    frame = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, frame + 5, side, side)
    return bytes(data)


def gif(side: int = SIDE) -> bytes:
    """Return a moving picture of two small frames on a large canvas."""
    data = bytearray(_picture("GIF", save_all=True, append_images=[Image.new("L", _SMALL, 1)]))
    struct.pack_into("<HH", data, 6, side, side)
    return bytes(data)


def webp() -> bytes:
    """Return a picture of 16,000 x 16,000 that takes 34 bytes."""
    return bytes.fromhex("524946461a000000574542505650384c0e0000002f7ffe9f0f071011fd0f4444ff03")


def _picture(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("L", _SMALL).save(file, kind, **options)
    return file.getvalue()


def muxed(
    path: Path, codec: str, data: bytes, size: tuple[int, int] = _SMALL, *, frames: int = 3
) -> Path:
    """Write a video whose packets are pictures, and whose header declares some size."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "rgb24" if codec == "png" else "yuvj420p"
        for stamp in range(frames):
            packet = av.Packet(data)
            packet.stream, packet.is_keyframe = stream, True
            packet.pts = packet.dts = stamp
            packet.time_base = Fraction(1, 25)
            output.mux(packet)
    return path


# ---- Matroska (RFC 9559)


def _size(size: int) -> bytes:
    return struct.pack(">Q", size | 1 << 56)


def _element(number: str, data: bytes) -> bytes:
    return bytes.fromhex(number) + _size(len(data)) + data


def _number(number: str, value: int) -> bytes:
    return _element(number, value.to_bytes(max(1, (value.bit_length() + 7) // 8)))


def _track(number: int) -> bytes:
    size = _element("e0", _number("b0", _SMALL[0]) + _number("ba", _SMALL[1]))
    about = _number("d7", number) + _number("73c5", number) + _number("83", 1)
    return _element("ae", about + _element("86", b"V_VP8") + size)


def _attachment(number: int, name: bytes, kind: bytes, size: int) -> bytes:
    about = _element("466e", name) + _element("4660", kind) + _number("46ae", number)
    data = bytes.fromhex("465c") + _size(size)
    return bytes.fromhex("61a7") + _size(len(about) + len(data) + size) + about + data


def _parts(listed: bytes, more: int = 0, seconds: float = 1.0) -> tuple[bytes, bytes]:
    """Return a file's beginning and end; in between is room for so many bytes."""
    kind = _element("4282", b"matroska") + _number("4287", 4) + _number("4285", 2)
    length = _element("4489", struct.pack(">d", seconds * 1000))
    about = _element("1549a966", _number("2ad7b1", 1_000_000) + length)
    cluster = _element("1f43b675", _number("e7", 0) + _element("a3", b"\x81\0\0\x80" + _VP8))
    size = len(about) + len(listed) + more + len(cluster)
    head = _element("1a45dfa3", kind) + bytes.fromhex("18538067") + _size(size)
    return head + about + listed, cluster


def matroska(tracks: int = 1, *, seconds: float = 1.0) -> bytes:
    """Return a file with so many tracks, the first of them with a frame."""
    listed = _element("1654ae6b", b"".join(_track(number + 1) for number in range(tracks)))
    return b"".join(_parts(listed, seconds=seconds))


def attachments(path: Path, count: int, megabytes: int, *, cover: bool = False) -> Path:
    """Write a file with so many fonts or cover pictures, which are holes on the disk."""
    kind = (b"cover.png", b"image/png") if cover else (b"a.ttf", b"application/x-truetype-font")
    size = megabytes << 20
    heads = [_attachment(number + 1, *kind, size) for number in range(count)]
    listed = bytes.fromhex("1941a469") + _size(sum(map(len, heads)) + count * size)
    head, tail = _parts(
        _element("1654ae6b", _track(1)), len(listed) + sum(map(len, heads)) + count * size
    )
    with path.open("wb") as file:
        file.write(head + listed)
        for each in heads:
            file.write(each)
            file.seek(size, 1)
        file.write(tail)
    return path


# ---- QuickTime (ISO/IEC 14496-12)


def _box(kind: str, data: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(data), kind.encode()) + data


def _full(kind: str, *numbers: int, tail: bytes = b"", flags: int = 0) -> bytes:
    return _box(kind, struct.pack(f">I{len(numbers)}I", flags, *numbers) + tail)


def quicktime(
    samples: int = 100,
    *,
    edits: int = 0,
    runs: int = 1,
    scale: int = 1000,
    lasting: int = 1,
) -> bytes:
    """Return a file of some kB whose index lists so many samples of a byte each.

    Parameters
    ----------
    samples : int
        How many, in one entry of each table.
    edits : int
        How many times an edit list shows all of them.
    runs : int
        How many entries say how long samples last, all but the first of no sample.
    scale, lasting : int
        Units of time a second, and those of a sample.
    """
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    total = min(samples * lasting, 0x7FFFFFFF)
    head = struct.pack(">IH10x", 0x10000, 0x100) + matrix + bytes(24) + struct.pack(">I", 2)
    size = struct.pack(">II", _SMALL[0] << 16, _SMALL[1] << 16)
    entry = struct.pack(">I4s6xH16xHH", 86, b"jpeg", 1, *_SMALL)
    entry += struct.pack(">IIIH32xHh", 0x480000, 0x480000, 0, 1, 24, -1)
    table = _box(
        "stbl",
        _full("stsd", 1, tail=entry)
        + _full("stts", runs, samples, lasting, tail=bytes(8 * (runs - 1)))
        + _full("stsz", 1, samples)
        + _full("stsc", 1, 1, samples, 1)
        + _full("stco", 1, 40),
    )
    listed = struct.pack(">III", total, 0, 0x10000) * edits
    links = _box("dinf", _full("dref", 1, tail=_full("url ", flags=1)))
    media = _full("mdhd", 0, 0, scale, total, 0) + _full(
        "hdlr", 0, tail=b"vide" + bytes(12) + b"x\0"
    )
    media += _box("minf", _full("vmhd", 0, 0, flags=1) + links + table)
    track = _full("tkhd", 0, 0, 1, 0, total, tail=bytes(16) + matrix + size, flags=3)
    track += _box("edts", _full("elst", edits, tail=listed)) if edits else b""
    track += _box("mdia", media)
    movie = _full("mvhd", 0, 0, scale, total, tail=head) + _box("trak", track)
    kind = _box("ftyp", b"isom\0\0\2\0isommp41")
    return kind + _box("moov", movie) + _box("mdat", bytes(1000))
