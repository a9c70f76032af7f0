"""Files that end early are called truncated, and whole files are not."""

from __future__ import annotations

import io
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import av
import pytest

from dataminer.config.models import ExtractConfig
from dataminer.errors import PermanentError
from dataminer.frames.table import FRAMES_FILE, read_meta
from dataminer.stages.extract.stage import extract
from dataminer.video.containers import asf, boxes, ebml, mpeg
from dataminer.video.containers.chunked import zeros_begin
from dataminer.video.containers.ends import read_file_end, read_indexed_start
from tests.support.lossy import make_moving, without_packets

PICTURES = ["-f", "lavfi", "-i", "testsrc2=s=96x64:d=3:r=25"]
H264, MPEG4 = ["-c:v", "libx264", "-g", "25", "-c:a", "aac"], ["-c:v", "mpeg4", "-c:a", "mp2"]
MPEG1 = ["-c:v", "mpeg1video", "-c:a", "mp2"]
WEBM = ["-c:v", "libvpx", "-deadline", "realtime", "-g", "25", "-c:a", "libopus"]
FORMATS: dict[str, list[str]] = {
    "faststart.mp4": [*H264, "-movflags", "faststart"],
    "fragments.mp4": [*H264, "-movflags", "frag_keyframe+empty_moov"],
    "faststart.mov": [*H264, "-movflags", "faststart"],
    "a.mkv": H264,
    "a.webm": WEBM,
    "live.webm": [*WEBM, "-live", "1"],
    "a.avi": MPEG4,
    "a.wmv": ["-c:v", "wmv2", "-c:a", "wmav2"],
    "a.ts": H264,
    "a.mpg": MPEG1,
    "a.vob": ["-c:v", "mpeg2video", "-c:a", "mp2"],
    "a.flv": H264,
    "a.ogv": ["-c:v", "libtheora", "-c:a", "libvorbis"],
    "a.nut": H264,
    "a.mxf": ["-c:v", "mpeg2video", "-c:a", "pcm_s16le", "-ar", "48000"],
    "a.gif": [],
    "a.apng": ["-plays", "0"],
}
PIPED = {"live.webm": "webm", "a.flv": "flv", "a.avi": "avi", "a.wmv": "asf", "a.mxf": "mxf"}
NO_SOUND = {"a.gif", "a.apng"}


def encode(path: Path, *more: str, sound: float = 0) -> Path:
    tone = ["-f", "lavfi", "-i", f"sine=d={sound}"] if sound else []
    command = ["ffmpeg", "-v", "error", *PICTURES, *tone, *FORMATS[path.name], *more]
    subprocess.run([*command, str(path)], check=True)
    return path


def pipe(path: Path) -> Path:
    """Make a file whose muxer could never go back to write sizes and lengths."""
    command = ["ffmpeg", "-v", "error", *PICTURES, *FORMATS[path.name], "-f", PIPED[path.name]]
    with path.open("wb") as file:
        subprocess.run([*command, "-"], check=True, stdout=file)
    return path


def warning_of(video: Path, **settings: Any) -> str:
    out = video.parent / f"out{len(list(video.parent.iterdir()))}"
    out.mkdir()
    return extract(video, out, "v", ExtractConfig.model_validate(settings)).warning or ""


def cut(video: Path, part: float) -> Path:
    """Copy the first part of a file; not up to a packet's end, which cannot be told from a whole.

    Packets of MPEG have 188 and 2048 bytes.
    """
    data = video.read_bytes()
    size = int(len(data) * part)
    size -= 7 if size % 188 == 0 or size % 2048 == 0 else 0
    copy = video.with_name(f"cut{int(part * 100)}{video.suffix}")
    copy.write_bytes(data[:size])
    return copy


@pytest.mark.parametrize(
    ("name", "sound"),
    [(name, sound) for name in FORMATS for sound in (0, 3) if not (sound and name in NO_SOUND)],
)
def test_a_file_is_truncated_if_and_only_if_it_was_cut(
    name: str, sound: float, tmp_path: Path
) -> None:
    video = encode(tmp_path / name, sound=sound)
    assert warning_of(video) == ""
    for part in (0.1, 0.33, 0.5, 0.75, 0.95):
        try:
            assert warning_of(cut(video, part)).startswith("truncated: "), part
        except PermanentError as error:
            assert part <= 0.33, error  # so little that there is no frame in it


@pytest.mark.parametrize("name", PIPED)
def test_a_file_that_was_written_to_a_pipe_is_truncated_if_it_was_cut(
    name: str, tmp_path: Path
) -> None:
    video = pipe(tmp_path / name)
    assert "truncated" not in warning_of(video)
    assert warning_of(cut(video, 0.6)).startswith("truncated: ")


@pytest.mark.parametrize("name", ["faststart.mp4", "a.mkv", "a.avi", "a.wmv", "a.ts", "a.flv"])
def test_uneven_rates_are_no_truncation(name: str, tmp_path: Path) -> None:
    few = "select='lt(mod(n\\,7)\\,3)+eq(n\\,74)'"
    video = encode(tmp_path / name, "-vf", few, "-fps_mode", "vfr", sound=3)
    assert "truncated" not in warning_of(video)


@pytest.mark.parametrize("name", ["a.flv", "a.mkv", "faststart.mp4"])
def test_a_late_first_picture_of_an_uneven_rate_is_no_truncation(name: str, tmp_path: Path) -> None:
    slow = "select='eq(mod(n\\,24)\\,0)+gt(n\\,70)'"  # B-frames delay the first by two seconds
    video = encode(tmp_path / name, "-vf", slow, "-fps_mode", "vfr", "-bf", "2")
    assert warning_of(video) == ""


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in {"a.apng"}])
@pytest.mark.parametrize("strategy", ["time", "interval", "scene", "keyframe"])
def test_one_picture_gives_one_frame_without_a_warning(
    name: str, strategy: str, tmp_path: Path
) -> None:
    video = encode(tmp_path / name, "-frames:v", "1")
    out = tmp_path / "out"
    out.mkdir()
    result = extract(video, out, "v", ExtractConfig.model_validate({"strategy": strategy}))
    assert (result.frame_count, result.warning) == (1, None)


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in NO_SOUND])
def test_longer_sound_is_no_truncation(name: str, tmp_path: Path) -> None:
    video = encode(tmp_path / name, sound=8)
    assert warning_of(video) == ""


@pytest.mark.parametrize("name", ["a.flv", "a.mkv", "a.avi", "a.wmv", "a.ogv"])
def test_longer_sound_that_is_cut_with_the_pictures_is_truncated(name: str, tmp_path: Path) -> None:
    video = encode(tmp_path / name, sound=8)
    assert warning_of(cut(video, 0.3)).startswith("truncated: ")


def test_the_warning_names_what_came_and_of_how_much(tmp_path: Path) -> None:
    video = cut(encode(tmp_path / "a.avi"), 0.5)
    words = warning_of(video).split()
    assert words[0] == "truncated:"
    assert (words[2:5], words[4]) == (["of", "75", "frames"], "frames")
    assert 20 < int(words[1]) < 60
    video = cut(encode(tmp_path / "a.wmv"), 0.5)
    words = warning_of(video).split()
    assert words[2:5] == ["of", "3.0", "s"]
    assert 0.5 < float(words[1]) < 2.5


def test_zeros_after_the_end_are_no_truncation(tmp_path: Path) -> None:
    for name in ("a.flv", "a.avi", "a.mpg", "a.ogv", "a.mkv", "a.gif", "faststart.mp4"):
        video = encode(tmp_path / name)
        with video.open("ab") as file:
            file.write(bytes(50))
        assert "truncated" not in warning_of(video), name


def test_a_joined_transport_stream_is_whole(tmp_path: Path) -> None:
    for name in ("a.ts", "a.mpg", "a.vob"):
        video = encode(tmp_path / name)
        video.write_bytes(video.read_bytes() * 2)
        assert "truncated" not in warning_of(video), name


def zero(video: Path, start: float, end: float = 1.0) -> Path:
    """Copy a file with zeros in place of a part of it, as of a download that was not finished."""
    data = bytearray(video.read_bytes())
    begin, stop = int(len(data) * start), int(len(data) * end)
    data[begin:stop] = bytes(stop - begin)
    copy = video.with_name(f"zeros{int(start * 100)}-{int(end * 100)}{video.suffix}")
    copy.write_bytes(data)
    return copy


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in {"a.apng"}])
def test_zeros_in_place_of_the_end_are_truncation(name: str, tmp_path: Path) -> None:
    video = encode(tmp_path / name, "-s", "192x128")
    for part in (0.5, 0.8):
        try:
            warning = warning_of(zero(video, part))
        except PermanentError:
            continue  # too many packets of zeros: an error says so
        assert re.search("truncated: |packets could not be decoded", warning), part


def test_more_zeros_after_the_end_are_no_truncation(tmp_path: Path) -> None:
    for name in ("a.flv", "a.avi", "a.mpg", "a.wmv", "a.mkv", "a.webm", "a.gif", "faststart.mp4"):
        video = encode(tmp_path / name)
        with video.open("ab") as file:
            file.write(bytes(4096))
        assert "truncated" not in warning_of(video), name


def without_last_cluster(video: Path) -> Path:
    """Copy a Matroska file with a Void element in place of its last cluster (RFC 8794)."""
    data = bytearray(video.read_bytes())
    begin = data.rindex(b"\x1f\x43\xb6\x75")
    width = 9 - data[begin + 4].bit_length()
    length = int.from_bytes(data[begin + 4 : begin + 4 + width]) & ((1 << 7 * width) - 1)
    rest = 4 + width + length - 9
    data[begin : begin + 9] = b"\xec\x01" + rest.to_bytes(7)
    copy = video.with_name("short" + video.suffix)
    copy.write_bytes(data)
    return copy


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_a_short_loss_at_the_end_of_matroska_is_known_by_its_statistics(
    name: str, tmp_path: Path
) -> None:
    counted = ["-metadata:s:v", "NUMBER_OF_FRAMES=75", "-cluster_time_limit", "500"]
    video = encode(tmp_path / name, "-bf", "0", *counted)
    assert warning_of(video) == ""
    assert re.match(r"truncated: 2\.\d of 3\.0 s", warning_of(without_last_cluster(video)))
    video.unlink()
    date = ["-metadata:s:v", "_STATISTICS_WRITING_DATE_UTC=2020-01-01 00:00:00"]
    video = encode(tmp_path / name, "-bf", "0", *counted, *date)  # of another file
    assert warning_of(without_last_cluster(video)) == ""


def test_the_hole_at_a_sparse_files_end_is_not_read(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"x" * 5000 + bytes(100))
    with video.open("r+b") as file:
        file.truncate(1 << 42)  # it would take an hour
        assert file.read(3) == b"xxx"
        assert zeros_begin(file, 1 << 42) == 5000
    assert zeros_begin(io.BytesIO(b"x" * 10 + bytes(2000)), 2010) == 10


@pytest.mark.parametrize("name", ["a.ts", "fragments.mp4", "a.mpg", "a.vob"])
def test_whole_packets_before_zeros_are_no_truncation(name: str, tmp_path: Path) -> None:
    video = encode(tmp_path / name, "-s", "192x128", "-bf", "0")
    data = video.read_bytes()
    for count in (1 << 10, len(data) // 8):
        video.write_bytes(data + bytes(count))
        assert "truncated" not in warning_of(video), count
    for part in range(500, 540, 13):  # within packets, wherever they begin
        data = data[: len(data) - (9 if name == "a.mpg" else part)]
        video.write_bytes(data.rstrip(b"\0") + bytes(len(data) // 8))
        assert "truncated" in warning_of(video), part


def test_a_short_loss_at_the_end_is_truncation_if_frames_are_declared(tmp_path: Path) -> None:
    video = encode(tmp_path / "faststart.mp4", "-bf", "0")
    data = bytearray(video.read_bytes())
    sizes = data.index(b"stsz") + 16  # of all frames, after their number
    assert int.from_bytes(data[sizes - 4 : sizes]) == 75
    data[sizes + 4 * 60] = 0xF8  # a frame of 4 GB
    video.write_bytes(data)
    assert warning_of(video).startswith("truncated: 2.4 of 3.0 s")


@pytest.mark.parametrize("seek", ["0.5", "1.3"])
def test_edit_lists_are_no_truncation(seek: str, tmp_path: Path) -> None:
    video, start = encode(tmp_path / "faststart.mp4", "-bf", "2", sound=3), ["-ss", seek]
    for name, options in {"tail.mp4": start, "part.mov": [*start, "-t", "1"]}.items():
        command = ["ffmpeg", "-v", "error", *options, "-i", str(video), "-c", "copy"]
        subprocess.run([*command, str(tmp_path / name)], check=True)
        assert "truncated" not in warning_of(tmp_path / name), name


@pytest.mark.parametrize("sound", [0, 3])
@pytest.mark.parametrize("codec", ["libtheora", "libvpx"])
def test_pages_that_are_lost_are_counted(codec: str, sound: float, tmp_path: Path) -> None:
    quick = ["-deadline", "realtime"] if codec == "libvpx" else []
    options = ["-s", "320x240", "-c:v", codec, *quick, "-page_duration", "100000"]
    video = encode(tmp_path / "a.ogv", *options, sound=sound)
    assert warning_of(video) == ""
    assert "1 part of the file could not be read" in warning_of(zero(video, 0.4, 0.6))
    data = bytearray(video.read_bytes())
    pages = [match.start() for match in re.finditer(b"OggS", data)]
    serial = data[14:18]  # the pictures' stream begins first
    last = [page for page in pages if data[page + 14 : page + 18] == serial][-1]
    data[last + 200] ^= 1
    video.write_bytes(data)
    assert warning_of(video).startswith("truncated: ")


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg", "ffv1", "libx264"])
def test_chunks_that_an_avi_declares_and_lacks_are_counted(codec: str, tmp_path: Path) -> None:
    video = encode(tmp_path / "a.avi", "-c:v", codec, sound=3)
    assert re.search(r"(^|; )\d+ frames are declared, but", warning_of(zero(video, 0.4, 0.6)))
    assert re.match(r"truncated: \d+ of 75 frames ", warning_of(zero(video, 0.6)))


def test_empty_chunks_of_an_avi_are_not_missed(tmp_path: Path) -> None:
    few = "select='lt(mod(n\\,7)\\,3)+eq(n\\,74)'"
    video = encode(tmp_path / "a.avi", "-vf", few, "-fps_mode", "vfr")
    assert b"00dc\0\0\0\0" in video.read_bytes()
    assert "declared" not in warning_of(video)
    assert "are declared, but not" in warning_of(zero(video, 0.4, 0.6))


def without_start(video: Path, first: int, last: int) -> Path:
    """Copy a file whose packets of pictures from one to another are zeros, with their headers."""
    with av.open(str(video)) as file:
        positions = [packet.pos or 0 for packet in file.demux(video=0) if packet.size]
    copy, data = video.with_name(f"late{video.suffix}"), bytearray(video.read_bytes())
    begin = positions[first] - 8
    data[begin : positions[last]] = bytes(positions[last] - begin)
    copy.write_bytes(data)
    return copy


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_a_lost_beginning_is_counted_if_an_index_names_it(name: str, tmp_path: Path) -> None:
    video = encode(tmp_path / name)
    assert warning_of(without_start(video, 0, 40)).startswith("50 frames are missing")
    late = tmp_path / f"of{video.suffix}"
    command = ["ffmpeg", "-v", "error", "-ss", "1", "-copyts", "-i", str(video), "-c", "copy"]
    subprocess.run([*command, str(late)], check=True)
    assert warning_of(late) == ""  # it rightly begins at 1 s


def test_a_lost_first_fragment_is_counted(tmp_path: Path) -> None:
    video = encode(tmp_path / "fragments.mp4")
    data = bytearray(video.read_bytes())
    at = data.index(b"moof")
    data[at : at + 4] = b"free"
    video.write_bytes(data)
    assert warning_of(video).startswith("25 frames are missing")


CONTAINERS = {
    "faststart.mp4": "mov,mp4",
    "fragments.mp4": "mov,mp4",
    "a.mkv": "matroska,webm",
    "live.webm": "matroska,webm",
    "a.avi": "avi",
    "a.wmv": "asf",
    "a.ts": "mpegts",
    "a.mpg": "mpeg",
    "a.flv": "flv",
    "a.ogv": "ogg",
    "a.nut": "nut",
    "a.mxf": "mxf",
    "a.gif": "gif",
    "a.apng": "apng",
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_readers_of_containers_take_any_bytes(name: str, tmp_path: Path) -> None:
    data = encode(tmp_path / name, "-t", "0.5").read_bytes()
    rng = random.Random(name)
    video = tmp_path / "any"
    for _ in range(150):
        broken = bytearray(data[: rng.choice([len(data), rng.randrange(1, len(data))])])
        for _ in range(rng.randrange(1, 40)):
            start = int(len(broken) * rng.choice([rng.random(), rng.random() ** 8]))
            noise = rng.choice([b"\xff" * 8, bytes(8), rng.randbytes(8)])[: rng.randrange(1, 9)]
            broken[start : start + len(noise)] = noise
        video.write_bytes(broken)
        assert read_file_end(video, CONTAINERS[name]).is_cut in {True, False, None}
        assert (read_indexed_start(video, CONTAINERS[name], 0) or 0.0) >= 0
        with video.open("rb") as file:
            size = len(broken)
            for read in (boxes.encrypted_track_ids, ebml.encrypted_track_positions):
                assert len(read(file, size)) <= 256
            header = asf.read_header(file, size)
            assert header is None or header.encrypted in {True, False}
            assert mpeg.transport_is_scrambled(file, size, 0x100) in {True, False}
            assert mpeg.program_is_scrambled(file, size) in {True, False}


@pytest.mark.parametrize("suffix", ["nut", "flv", "wmv", "mkv"])
def test_a_late_start_without_an_index_is_noted(suffix: str, tmp_path: Path) -> None:
    codec = {"flv": "flv", "wmv": "wmv2"}.get(suffix, "mpeg4")
    whole = make_moving(tmp_path / f"a.{suffix}", codec, frames=100, gop=25)
    late = without_packets(whole, tmp_path / f"b.{suffix}", range(50))
    if suffix == "mkv":  # without its index
        data = late.read_bytes()
        late.write_bytes(data.replace(b"\x1c\x53\xbb\x6b", b"\x1c\x53\xbb\x6c"))
    notes: list[dict[str, int]] = []
    for video in (whole, late):
        out = tmp_path / f"out{len(notes)}"
        out.mkdir()
        result = extract(video, out, "v", ExtractConfig())
        assert result.warning is None
        notes.append(read_meta(out / FRAMES_FILE)["notes"])
    assert notes == [{}, {"late_start": 2}]
