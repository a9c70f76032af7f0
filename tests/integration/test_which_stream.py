"""The video stream that is taken, the files that are none, and those that are encrypted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from dataminer.config.models import ExtractConfig
from dataminer.errors import ErrorClass, PermanentError
from dataminer.frames.table import FRAMES_FILE, read_meta, read_table
from dataminer.stages.extract.stage import extract
from dataminer.video.info import probe
from tests.support import videos

FILM, STILL = (96, 64), (320, 240)
CODECS = {"avi": "mpeg4", "webm": "libvpx"}


def make_tracks(
    path: Path, *tracks: tuple[tuple[int, int], int, int], default: int | None = None
) -> Path:
    """Make a file of several video streams.

    Parameters
    ----------
    path : Path
        Its suffix chooses the container.
    *tracks
        The size of each stream's pictures, their number, and for how many 25ths of a second each
        is shown.
    default : int, optional
        The only stream that has the default flag; otherwise, all have it.
    """
    rate = Fraction(1, videos.RATE)
    codec = CODECS.get(path.suffix[1:], "libx264")
    with av.open(str(path), "w") as output:
        packets: list[Any] = []
        for index, (size, frames, step) in enumerate(tracks):
            stream: Any = output.add_stream(codec, rate=videos.RATE)
            stream.width, stream.height = size
            stream.pix_fmt, stream.codec_context.time_base = "yuv420p", rate
            stream.disposition = av.stream.Disposition(int(default in {None, index}))
            for number in range(frames):
                frame = av.VideoFrame.from_ndarray(videos.picture(number, *size), format="rgb24")
                frame.pts, frame.time_base = number * step, rate
                packets += stream.encode(frame)
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            output.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "ts", "avi"])
def test_the_film_is_taken_and_not_a_larger_still_beside_it(suffix: str, tmp_path: Path) -> None:
    for name, tracks in {
        "a": [(STILL, 1, 1), (FILM, 50, 1)],
        "b": [(FILM, 50, 1), (STILL, 1, 1)],
    }.items():
        video = make_tracks(tmp_path / f"{name}.{suffix}", *tracks)
        info = probe(video)
        assert (info.width, info.height) == FILM
        assert (info.stream_index, info.video_streams) == (int(name == "a"), 2)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_the_film_is_taken_and_not_larger_slides_beside_it(suffix: str, tmp_path: Path) -> None:
    video = make_tracks(tmp_path / f"a.{suffix}", (STILL, 4, 25), (FILM, 100, 1))
    (tmp_path / "out").mkdir()
    extract(video, tmp_path / "out", "v", ExtractConfig())
    assert read_table(tmp_path / "out" / FRAMES_FILE)["width"].to_pylist() == [FILM[0]] * 4
    found = read_meta(tmp_path / "out" / FRAMES_FILE)["video"]
    assert (found["stream_index"], found["video_streams"]) == (1, 2)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(("default", "width"), [(0, 96), (1, 320)])
def test_of_two_films_the_default_one_is_taken(
    suffix: str, default: int, width: int, tmp_path: Path
) -> None:
    video = make_tracks(tmp_path / f"a.{suffix}", (FILM, 30, 1), (STILL, 30, 1), default=default)
    assert probe(video).width == width


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_of_equal_films_the_larger_one_is_taken(suffix: str, tmp_path: Path) -> None:
    video = make_tracks(tmp_path / f"a.{suffix}", (FILM, 30, 1), (STILL, 30, 1))
    assert probe(video).width == STILL[0]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_of_stills_alone_the_largest_gives_one_frame(suffix: str, tmp_path: Path) -> None:
    video = make_tracks(tmp_path / f"a.{suffix}", (FILM, 1, 1), (STILL, 1, 1))
    (tmp_path / "out").mkdir()
    assert extract(video, tmp_path / "out", "v", ExtractConfig()).frame_count == 1
    assert read_table(tmp_path / "out" / FRAMES_FILE)["width"].to_pylist() == [STILL[0]]


def test_a_sequence_of_avif_pictures_gives_all_of_them(tmp_path: Path) -> None:
    drawn = [Image.fromarray(videos.picture(index, *FILM)) for index in range(6)]
    video = tmp_path / "a.avif"
    drawn[0].save(video, save_all=True, append_images=drawn[1:], duration=1000)
    (tmp_path / "out").mkdir()
    assert extract(video, tmp_path / "out", "v", ExtractConfig()).frame_count == 6


# ------------------------------------------------------------------------- what is not a video

PAGE = b"<!DOCTYPE html>\n<html><body>Sign in</body></html>"
OTHERS: dict[str, tuple[bytes, str, str]] = {
    "page": (PAGE, "an HTML page", "download it again"),
    "page after a comment": (b"\xef\xbb\xbf <!-- x -->\n" + PAGE, "an HTML page", "again"),
    "page in UTF-16": (PAGE.decode().encode("utf-16"), "an HTML page", "download it again"),
    "XML": (b'<?xml version="1.0"?><Error/>', "an XML text", "download it again"),
    "JSON": (b'{"error": "not found"}', "a JSON text", "download it again"),
    "text": (b"just some text\n", "a text", "download it again"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS", "git lfs pull"),
    "torrent": (b"d8:announce20:udp://tracker.example4:info", "a torrent", "it leads to"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3" + bytes(99), "a PDF", "download it again"),
    "ZIP": (b"PK\3\4\x14\0\0\0" + bytes(200), "a ZIP archive", "unpack it"),
    "gzip": (b"\x1f\x8b\x08\0" + bytes(200), "a gzip archive", "unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(200), "a 7z archive", "unpack it"),
    "RAR": (b"Rar!\x1a\x07\x01\0" + bytes(200), "a RAR archive", "unpack it"),
    "tar": (b"a.mp4".ljust(257, b"\0") + b"ustar\x0000" + bytes(248), "a tar archive", "unpack it"),
    "macOS": (b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(100), "attributes that macOS", "remove it"),
    "zeros": (bytes(300_000), "a file of zeros", "let its download finish"),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_what_is_not_a_video_is_called_what_it_is(kind: str, suffix: str, tmp_path: Path) -> None:
    data, words, step = OTHERS[kind]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    with pytest.raises(PermanentError, match=words) as caught:
        probe(path)
    assert caught.value.error_class is ErrorClass.CORRUPT
    assert step in caught.value.hint
    assert "moov" not in str(caught.value)


def test_an_animated_webp_is_called_one_and_a_still_an_image(tmp_path: Path) -> None:
    drawn = [Image.fromarray(videos.picture(index, *FILM)) for index in range(3)]
    drawn[0].save(tmp_path / "a.webp", save_all=True, append_images=drawn[1:])
    drawn[0].save(tmp_path / "b.webp")
    with pytest.raises(PermanentError, match="is an animated WebP") as caught:
        probe(tmp_path / "a.webp")
    assert caught.value.error_class is ErrorClass.UNSUPPORTED
    assert "convert it" in caught.value.hint
    with pytest.raises(PermanentError, match="is an image, not a video"):
        probe(tmp_path / "b.webp")


# ------------------------------------------------------------------------------------ encryption


def common_encryption(folder: Path, suffix: str = "mp4", *options: str) -> Path:
    path = folder / f"encrypted.{suffix}"
    scheme = ["-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "76a6c65c5ea762046bd749a2"]
    scheme[-1] += "e632ccbb"
    scheme += ["-encryption_kid", "a7e61c373e219033c21091fa607bf3b8"]
    source = videos.make_video(folder / "clear.mp4")
    command = ["ffmpeg", "-v", "error", "-i", str(source), "-c", "copy", *options, *scheme]
    subprocess.run([*command, str(path)], check=True)
    return path


def fragments(folder: Path) -> Path:
    return common_encryption(folder, "mp4", "-movflags", "frag_keyframe+empty_moov")


def scrambled_transport(folder: Path) -> Path:
    data = bytearray(videos.make_video(folder / "clear.ts").read_bytes())
    for start in range(0, len(data), 188):
        if int.from_bytes(data[start + 1 : start + 3]) & 0x1FFF == 0x100:
            data[start + 3] |= 0x80
            body = start + 4 + (1 + data[start + 4] if data[start + 3] & 0x20 else 0)
            data[body : start + 188] = bytes(b ^ 0x5A for b in data[body : start + 188])
    (folder / "a.ts").write_bytes(data)
    return folder / "a.ts"


def encrypted_matroska(folder: Path) -> Path:
    """Add the encoding to the track's entry: its size, and those around it, grow by as much."""
    data = videos.make_video(folder / "clear.mkv").read_bytes()
    encodings = bytes.fromhex("6d80 8e 6240 8b 5033 81 01 5035 84 47e1 81 05".replace(" ", ""))
    tracks = data.index(bytes.fromhex("1654ae6b"), 200)  # past the list of positions
    entry = data.index(b"\xae", tracks + 12)
    out = bytearray(data)
    for start, id_bytes in ((entry, 1), (tracks, 4)):
        width = 9 - out[start + id_bytes].bit_length()
        at = slice(start + id_bytes, start + id_bytes + width)
        size = int.from_bytes(out[at]) + len(encodings)
        out[at] = size.to_bytes(width)
    width = 9 - data[entry + 1].bit_length()
    size = int.from_bytes(data[entry + 1 : entry + 1 + width]) & (1 << 7 * width) - 1
    out[entry + 1 + width + size : entry + 1 + width + size] = encodings
    segment = data.index(bytes.fromhex("18538067")) + 4
    out[segment : segment + 8] = b"\x01" + b"\xff" * 7  # of unknown size
    (folder / "a.mkv").write_bytes(out)
    return folder / "a.mkv"


def protected_asf(folder: Path) -> Path:
    """Add an object of content encryption to the header."""
    data = videos.make_video(folder / "clear.wmv", codec="wmv2").read_bytes()
    added = bytes.fromhex("fbb31122 23bdd211 b4b700a0 c955fc6e".replace(" ", ""))
    added += (24 + 16).to_bytes(8, "little") + bytes(16)
    size, count = int.from_bytes(data[16:24], "little"), int.from_bytes(data[24:28], "little")
    head = data[:16] + (size + len(added)).to_bytes(8, "little")
    head += (count + 1).to_bytes(4, "little") + data[28:30]
    (folder / "a.wmv").write_bytes(head + added + data[30:])
    return folder / "a.wmv"


def scrambled_program(folder: Path) -> Path:
    data = bytearray(videos.make_video(folder / "clear.vob", codec="mpeg2video").read_bytes())
    start = -1
    while (start := data.find(b"\0\0\1\xe0", start + 1)) >= 0:
        data[start + 6] |= 0x10
    (folder / "a.vob").write_bytes(data)
    return folder / "a.vob"


ENCRYPTED: dict[str, Callable[[Path], Path]] = {
    "MP4": common_encryption,
    "fragments": fragments,
    "Matroska": encrypted_matroska,
    "transport stream": scrambled_transport,
    "program stream": scrambled_program,
    "ASF": protected_asf,
}


@pytest.mark.parametrize("kind", ENCRYPTED)
def test_encrypted_videos_are_called_so_and_their_copies_in_clear_are_not(
    kind: str, tmp_path: Path
) -> None:
    video = ENCRYPTED[kind](tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(PermanentError, match="is encrypted") as caught:
        extract(video, tmp_path / "out", "v", ExtractConfig())
    assert caught.value.error_class is ErrorClass.DRM
    assert "without encryption" in caught.value.hint
    clear = next(tmp_path.glob("clear.*"))
    assert extract(clear, tmp_path / "out", "v", ExtractConfig()).frame_count == 2
