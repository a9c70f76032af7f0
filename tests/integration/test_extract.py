from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import imagehash
import numpy as np
import pytest
from PIL import Image

from dataminer.config.models import ExtractConfig
from dataminer.errors import ErrorClass, PermanentError, StageError, TransientError
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, read_meta, read_table
from dataminer.frames.thumbnails import THUMBNAILS_FILE, read_thumbnails
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.extract import encode as encode_module
from dataminer.stages.extract import extraction as extraction_module
from dataminer.stages.extract.decode import decode
from dataminer.stages.extract.decode_stats import DecodeStats
from dataminer.stages.extract.quality.metrics import hash_grey, measure
from dataminer.stages.extract.stage import ExtractResult, extract
from dataminer.video.info import probe, read_headers
from dataminer.video.opening import open_video
from tests.support import videos
from tests.support.working_grey import working_grey

EVERY = ExtractConfig(strategy="interval", every_frames=1)
FAST_VP9 = {"deadline": "realtime", "cpu-used": "8"}
needs_ffprobe = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="no ffprobe")
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")

Row = dict[str, Any]
Maker = Callable[[Path], Path]


class Outcome:
    """A finished extraction: its result, rows, metadata and folder."""

    def __init__(self, video: Path, settings: ExtractConfig, **options: Any) -> None:
        self.out = video.parent / f"out{len(list(video.parent.iterdir()))}"
        self.out.mkdir()
        self.result: ExtractResult = extract(video, self.out, "vid", settings, **options)
        self.rows: list[Row] = read_table(self.out / FRAMES_FILE).to_pylist()
        self.meta = read_meta(self.out / FRAMES_FILE)

    def __getitem__(self, column: str) -> list[Any]:
        return [row[column] for row in self.rows]

    def image(self, position: int) -> np.ndarray[Any, Any]:
        data = np.fromfile(self.out / self.rows[position]["file_name"], np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert image is not None
        return image

    def bytes(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.out.iterdir()}


def shown_times(video: Path) -> list[float]:
    """Ask ffprobe when each frame is shown, in the order in which frames are shown."""
    entries = "frame=pts_time,best_effort_timestamp_time"
    command = ["ffprobe", "-v", "quiet", "-select_streams", "v:0", "-show_frames", "-of", "json"]
    done = subprocess.run(
        [*command, "-show_entries", entries, str(video)], capture_output=True, check=True
    )
    frames = json.loads(done.stdout)["frames"]
    return [float(f.get("pts_time") or f["best_effort_timestamp_time"]) for f in frames]


def open_gop(path: Path) -> Path:
    return videos.make_video(path, options={"x264-params": "open-gop=1:keyint=12:bframes=3"})


def offset(path: Path) -> Path:
    return videos.make_video(path, pts=range(25, 75))


def edit_list(path: Path) -> Path:
    return videos.make_video(path, shift=8)


def rotated(path: Path) -> Path:
    return videos.make_video(path, rotation=90)


def ten_bit(path: Path) -> Path:
    return videos.make_video(path, pix_fmt="yuv420p10le")


def odd_size(path: Path) -> Path:
    return videos.make_video(path, codec="libvpx-vp9", size=(161, 121), options=FAST_VP9, frames=25)


def interlaced(path: Path) -> Path:
    return videos.make_video(path, options={"x264-params": "interlaced=1"})


def vp9(path: Path) -> Path:
    return videos.make_video(path, codec="libvpx-vp9", options=FAST_VP9)


def av1(path: Path) -> Path:
    return videos.make_video(path, codec="libsvtav1", options={"preset": "10"}, frames=30)


def fragmented(path: Path) -> Path:
    return videos.make_video(path, muxer={"movflags": "frag_keyframe+empty_moov"})


KINDS: dict[str, tuple[str, Maker]] = {
    "constant rate": ("a.mp4", videos.make_video),
    "variable rate": ("a.mp4", videos.variable_rate),
    "rotated": ("a.mp4", rotated),
    "live Matroska": ("a.mkv", videos.live_matroska),
    "open GOP": ("a.mp4", open_gop),
    "start offset": ("a.mp4", offset),
    "edit list": ("a.mp4", edit_list),
    "fragmented": ("a.mp4", fragmented),
    "transport stream": ("a.ts", videos.make_video),
    "10 bit": ("a.mp4", ten_bit),
    "odd size": ("a.webm", odd_size),
    "interlaced": ("a.mp4", interlaced),
    "VP9": ("a.webm", vp9),
    "AV1": ("a.mp4", av1),
}


@needs_ffprobe
@pytest.mark.parametrize("kind", KINDS)
def test_frames_and_times_are_those_of_ffprobe(kind: str, tmp_path: Path) -> None:
    name, make = KINDS[kind]
    video = make(tmp_path / name)
    times = shown_times(video)
    every = Outcome(video, EVERY)
    assert every.result == ExtractResult(len(times), None)
    assert every["pts_time"] == times
    assert every["frame_index"] == list(range(len(times)))
    assert every.meta["source_frames"] == len(times)

    timed = Outcome(video, ExtractConfig(every_seconds=0.5))
    expected, tick = [], times[0]
    for index, time in enumerate(times):
        if time >= tick - 1e-9:
            expected.append((index, time))
            tick += 0.5 * (1 + (time - tick + 1e-9) // 0.5)
    assert list(zip(timed["frame_index"], timed["pts_time"], strict=True)) == expected


@needs_ffprobe
@pytest.mark.skipif(not videos.REAL_FOOTAGE.is_dir(), reason="no real footage")
@pytest.mark.parametrize("name", ["bottle-detection.mp4", "car-detection.mp4"])
def test_real_footage(name: str, tmp_path: Path) -> None:
    video = tmp_path / name
    video.symlink_to(videos.REAL_FOOTAGE / name)
    times = shown_times(video)
    found = Outcome(video, ExtractConfig())
    assert found.result.warning is None
    assert found.meta["source_frames"] == len(times)
    assert found["pts_time"] == [times[i] for i in found["frame_index"]]
    assert [int(t) for t in found["pts_time"]] == list(range(len(found.rows)))


def test_avi_without_presentation_times_gets_times_in_order(tmp_path: Path) -> None:
    video = videos.make_video(tmp_path / "a.avi", options={"bf": "2"})
    found = Outcome(video, EVERY)
    assert found.result.frame_count == 50
    assert found["pts_time"] == sorted(found["pts_time"])
    assert 1.9 < found["pts_time"][-1] - found["pts_time"][0] < 2.1
    assert "time stamp" in str(found.result.warning)


def test_the_table_tells_what_is_in_the_folder(tmp_path: Path) -> None:
    video = videos.make_video(tmp_path / "a.mp4")
    found = Outcome(video, ExtractConfig(), meta={"fingerprint": "f", "stage": "?"})
    table = read_table(found.out / FRAMES_FILE)
    assert table.schema.remove_metadata() == FRAMES_SCHEMA
    assert found["file_name"] == ["vid_000000.jpg", "vid_000025.jpg"]
    assert {p.name for p in found.out.iterdir()} == {
        *(FRAMES_FILE, THUMBNAILS_FILE),
        *found["file_name"],
    }
    stored = read_thumbnails(found.out / THUMBNAILS_FILE)
    assert stored.frame_index.tolist() == found["frame_index"]
    assert found.meta == {
        "fingerprint": "f",
        "stage": "extract",
        "version": VERSIONS["extract"],
        "settings": ExtractConfig().model_dump(),
        "video": {
            "codec": "h264",
            "width": 160,
            "height": 120,
            "rotation": 0,
            "average_rate": 25.0,
            "duration": 2.0,
            "declared_frames": 50,
            "size_bytes": video.stat().st_size,
            "container": "mov,mp4,m4a,3gp,3g2,mj2",
            "stream_index": 0,
            "video_streams": 1,
        },
        "decoding": "planned",
        "source_frames": 50,
        "frames": 2,
        "decode_errors": 0,
        "truncated": False,
        "notes": {},
        "warning": None,
    }


def test_columns_are_measured_on_the_picture_before_it_is_encoded(tmp_path: Path) -> None:
    video = videos.make_video(tmp_path / "a.mp4")
    found = Outcome(video, ExtractConfig(image_format="png"))
    for position, row in enumerate(found.rows):
        image = found.image(position)  # lossless: the very same picture
        measured = measure(np.asarray(image, np.uint8))
        assert (row["width"], row["height"]) == (160, 120)
        assert row["sharpness"] == pytest.approx(measured.sharpness)
        assert row["brightness"] == pytest.approx(measured.brightness)
        assert row["contrast"] == pytest.approx(measured.contrast)
        grey = Image.fromarray(hash_grey(working_grey(np.asarray(image, np.uint8))))
        assert f"{row['phash']:016x}" == str(imagehash.phash(grey))
        assert f"{row['dhash']:016x}" == str(imagehash.dhash(grey))


@pytest.mark.parametrize("image_format", ["jpg", "png", "webp"])
def test_image_formats(image_format: str, tmp_path: Path) -> None:
    video = videos.make_video(tmp_path / "a.mp4", frames=1)
    settings = ExtractConfig.model_validate({"image_format": image_format})
    found = Outcome(video, settings)
    assert found["file_name"] == [f"vid_000000.{image_format}"]
    drawn = videos.picture(0)[..., ::-1].astype(int)
    assert np.abs(found.image(0).astype(int) - drawn).mean() < 6
    magic = {"jpg": b"\xff\xd8\xff", "png": b"\x89PNG", "webp": b"RIFF"}[image_format]
    assert (found.out / found["file_name"][0]).read_bytes().startswith(magic)


def test_quality_changes_the_size(tmp_path: Path) -> None:
    video = videos.make_video(tmp_path / "a.mp4", frames=1)
    sizes = [
        (o.out / o["file_name"][0]).stat().st_size
        for o in (Outcome(video, ExtractConfig(quality=q)) for q in (30, 95))
    ]
    assert sizes[0] < sizes[1] * 0.7


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv444p", "yuv420p10le"])
def test_colours_come_out_right(pix_fmt: str, tmp_path: Path) -> None:
    options = {"crf": "5"}
    video = videos.make_video(tmp_path / "a.mp4", pix_fmt=pix_fmt, frames=1, options=options)
    image = Outcome(video, ExtractConfig(image_format="png")).image(0)
    for colour, x in ((videos.RED, 20), (videos.GREEN, 140)):
        assert np.abs(image[15, x, ::-1].astype(int) - colour).max() < 12


CORNERS = {  # counter-clockwise degrees, mirrored: where red and green come to lie
    (0, False): ("top left", "top right"),
    (90, False): ("bottom left", "top left"),
    (180, False): ("bottom right", "bottom left"),
    (270, False): ("top right", "bottom right"),
    (0, True): ("top right", "top left"),
}


@pytest.mark.parametrize(("degrees", "mirrored"), CORNERS)
def test_pictures_have_the_orientation_in_which_they_are_displayed(
    degrees: int, mirrored: bool, tmp_path: Path
) -> None:
    video = videos.make_video(
        tmp_path / "a.mp4", rotation=degrees, mirrored=mirrored, frames=3, options={"crf": "5"}
    )
    found = Outcome(video, ExtractConfig(image_format="png"))
    info = probe(video)
    size = (120, 160) if degrees in (90, 270) else (160, 120)
    assert (info.width, info.height) == size == (found["width"][0], found["height"][0])
    assert info.rotation == -degrees % 360
    image = found.image(0)
    assert (image.shape[1], image.shape[0]) == size
    for colour, corner in zip((videos.RED, videos.GREEN), CORNERS[degrees, mirrored], strict=True):
        y = 10 if corner.startswith("top") else -10
        x = 10 if corner.endswith("left") else -10
        assert np.abs(image[y, x, ::-1].astype(int) - colour).max() < 12


@needs_ffmpeg
@pytest.mark.parametrize(("degrees", "mirrored"), [*CORNERS, (90, True), (180, True), (270, True)])
def test_orientation_agrees_with_ffmpeg(degrees: int, mirrored: bool, tmp_path: Path) -> None:
    video = videos.make_video(
        tmp_path / "a.mp4", rotation=degrees, mirrored=mirrored, frames=1, options={"crf": "5"}
    )
    theirs = tmp_path / "theirs.png"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", video, "-frames:v", "1", str(theirs)], check=True
    )
    wanted = cv2.imread(str(theirs))
    assert wanted is not None
    image = Outcome(video, ExtractConfig(image_format="png")).image(0)
    assert image.shape == wanted.shape
    assert np.abs(image.astype(int) - wanted).mean() < 3


@pytest.mark.parametrize("strategy", ["time", "interval", "keyframe"])
def test_the_same_input_gives_the_same_bytes(strategy: str, tmp_path: Path) -> None:
    video = videos.make_video(tmp_path / "a.mp4")
    settings = ExtractConfig.model_validate({"strategy": strategy, "every_frames": 7})
    found = [
        Outcome(video, settings, meta={"a": 1}, threads=threads, progress=progress).bytes()
        for threads, progress in ((1, None), (1, lambda line: None), (2, None))
    ]
    assert found[0] == found[1] == found[2]


def test_keyframes(tmp_path: Path) -> None:
    options = {"sc_threshold": "0", "x264-params": "scenecut=0"}
    video = videos.make_video(tmp_path / "a.mp4", gop=12, options=options)
    found = Outcome(video, ExtractConfig(strategy="keyframe"))
    assert found["frame_index"] == [0, 12, 24, 36, 48]


def test_max_frames_stops_and_says_so(tmp_path: Path) -> None:
    video = videos.make_video(tmp_path / "a.mp4")
    settings = EVERY.model_copy(update={"max_frames": 7})
    found = Outcome(video, settings)
    assert found.result == ExtractResult(7, "stopped at max_frames = 7")
    assert found["frame_index"] == list(range(7))
    just = Outcome(video, EVERY.model_copy(update={"max_frames": 50}))
    assert just.result == ExtractResult(50, None)


@pytest.mark.parametrize("strategy", ["time", "scene"])
def test_progress_is_told_and_may_end_the_work(
    strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction_module, "_REPORT_EVERY", 0.0)
    video = videos.make_video(tmp_path / "a.mp4", frames=75)
    settings = ExtractConfig.model_validate({"strategy": strategy})
    lines: list[str] = []
    Outcome(video, settings, progress=lines.append)
    assert "at 1.0 of 3.0 s, 2 frames taken" in lines
    assert lines[-1] == "at 2.0 of 3.0 s, 3 frames taken"

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Outcome(video, settings, progress=stop)


@needs_ffprobe
@pytest.mark.parametrize(
    ("name", "make", "part"),
    [("a.mp4", videos.faststart, 0.6), ("a.mkv", videos.make_video, 0.5)],
)
def test_a_cut_off_file_gives_the_frames_before_the_cut(
    name: str, make: Callable[..., Path], part: float, tmp_path: Path
) -> None:
    whole = make(tmp_path / name, frames=100)
    video = videos.cut_off(whole, tmp_path / f"cut-{name}", part)
    found = Outcome(video, EVERY)
    times = shown_times(video)
    assert 10 < len(times) < 90
    assert found["pts_time"] == times
    assert str(found.result.warning).startswith("truncated: ")
    assert "of 4.0 s could be decoded" in str(found.result.warning)
    assert found.meta["warning"] == found.result.warning


def test_a_matroska_with_no_duration_is_not_called_truncated(tmp_path: Path) -> None:
    video = videos.live_matroska(tmp_path / "a.mkv")
    info = probe(video)
    assert (info.duration, info.declared_frames) == (None, None)
    assert Outcome(video, ExtractConfig()).result.warning is None


def test_bad_packets_do_not_end_the_video(tmp_path: Path) -> None:
    whole = videos.faststart(tmp_path / "a.mp4", frames=100)
    video = videos.with_bad_packets(whole, tmp_path / "bad.mp4", [20, 50, 51])
    found = Outcome(video, EVERY)
    assert found.meta["decode_errors"] == 3
    assert found.result.frame_count == 97
    assert str(found.result.warning).startswith("3 packets could not be decoded; ")
    # up to the next of the keyframes, which come every 12
    damaged = [row["pts_time"] * 25 for row in found.rows if row["damaged"]]
    assert found.meta["notes"] == {"refused_packets": 3, "damaged_frames": len(damaged)}
    assert damaged
    assert all(16 <= frame < 24 or 46 <= frame < 60 for frame in damaged)
    assert found["pts_time"][-1] == 3.96


@needs_ffprobe
def test_noise_in_the_middle_does_not_end_the_video(tmp_path: Path) -> None:
    whole = videos.faststart(tmp_path / "a.mp4", frames=100)
    video = videos.with_noise(whole, tmp_path / "bad.mp4", 0.5, 0.7)
    found = Outcome(video, EVERY)
    assert found.result.frame_count == len(shown_times(video))
    assert found["pts_time"][-1] == 3.96
    assert "packets could not be decoded" in str(found.result.warning)


def test_quiet_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = videos.faststart(tmp_path / "a.mp4", frames=100)
    capfd.readouterr()
    Outcome(videos.with_noise(whole, tmp_path / "bad.mp4", 0.5, 0.7), EVERY)
    with pytest.raises(PermanentError):
        probe(videos.cut_off(whole, tmp_path / "cut.mp4", 0.01))
    assert capfd.readouterr() == ("", "")


def empty(folder: Path) -> Path:
    (folder / "a.mp4").touch()
    return folder / "a.mp4"


def cut_before_index(folder: Path) -> Path:
    return videos.cut_off(videos.make_video(folder / "w.mp4"), folder / "a.mp4", 0.6)


def junk(folder: Path) -> Path:
    (folder / "a.webm").write_bytes(bytes(range(256)) * 40)
    return folder / "a.webm"


def image_called_video(folder: Path) -> Path:
    return videos.image_file(folder / "a.jpg").rename(folder / "a.mp4")


def playlist(folder: Path) -> Path:
    videos.make_video(folder / "b.ts")
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nb.ts\n#EXT-X-ENDLIST\n"
    (folder / "a.m3u8").write_text(text)
    return folder / "a.m3u8"


def avif(folder: Path) -> Path:
    return videos.make_video(folder / "a.avif", codec="libsvtav1", frames=1)


def text(folder: Path) -> Path:
    (folder / "a.txt").write_text("\x1b[31m some text\n" * 100)
    return folder / "a.txt"


def undecodable(folder: Path) -> Path:
    whole = videos.faststart(folder / "w.mp4")
    return videos.with_bad_packets(whole, folder / "a.mp4", range(50))


FAILURES: dict[str, tuple[ErrorClass, str, Maker]] = {
    "not there": (ErrorClass.MISSING_SOURCE, "is not there", lambda d: d / "a.mp4"),
    "zero bytes": (ErrorClass.EMPTY, "0 bytes", empty),
    "index lost": (ErrorClass.CORRUPT, "cut off before its index", cut_before_index),
    "junk": (ErrorClass.CORRUPT, "cannot be opened", junk),
    "folder": (ErrorClass.NO_VIDEO, "folder", lambda d: d),
    "audio only": (ErrorClass.NO_VIDEO, "video stream", lambda d: videos.audio_only(d / "a.m4a")),
    "cover art": (
        ErrorClass.NO_VIDEO,
        "still picture",
        lambda d: videos.audio_only(d / "a.mp4", cover=True),
    ),
    "JPEG": (ErrorClass.NO_VIDEO, "image", image_called_video),
    "PNG": (ErrorClass.NO_VIDEO, "image", lambda d: videos.image_file(d / "a.png")),
    "AVIF": (ErrorClass.NO_VIDEO, "image", avif),
    "text": (ErrorClass.NO_VIDEO, "text", text),
    "playlist": (ErrorClass.NO_VIDEO, "playlist", playlist),
    "no frame": (ErrorClass.NO_FRAMES, "no frame", undecodable),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_permanent_failures_say_why(kind: str, tmp_path: Path) -> None:
    error_class, words, make = FAILURES[kind]
    video = make(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(PermanentError, match=words) as caught:
        extract(video, out, "vid", ExtractConfig())
    assert caught.value.error_class is error_class


def test_a_closed_file_is_not_the_videos_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = videos.make_video(tmp_path / "a.mp4", frames=1)

    def closed(self: Path, *args: Any, **options: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(TransientError) as caught:
        probe(video)
    assert caught.value.error_class is ErrorClass.PERMISSION


@pytest.mark.parametrize(
    ("number", "error_class"),
    [
        (errno.ENOSPC, ErrorClass.DISK_FULL),
        (errno.EDQUOT, ErrorClass.DISK_FULL),
        (errno.EROFS, ErrorClass.PERMISSION),
    ],
)
@pytest.mark.parametrize("what", ["image", "table"])
def test_a_full_disk_is_not_the_videos_fault(
    number: int, error_class: ErrorClass, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = videos.make_video(tmp_path / "a.mp4", frames=1)

    def full(*args: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    if what == "image":
        monkeypatch.setattr(Path, "write_bytes", full)
    else:
        monkeypatch.setattr(encode_module, "write_table", full)
    with pytest.raises(StageError) as caught:
        Outcome(video, ExtractConfig())
    assert isinstance(caught.value, TransientError)
    assert caught.value.error_class is error_class


def test_the_stream_with_most_pixels_is_taken(tmp_path: Path) -> None:
    video = tmp_path / "a.mkv"
    with av.open(str(video), "w") as output:
        streams: list[Any] = []
        for size in ((80, 60), (160, 120), (96, 64)):
            stream: Any = output.add_stream("libx264", rate=videos.RATE)
            stream.width, stream.height = size
            streams.append(stream)
        for stream in streams:
            drawn = videos.picture(0, stream.width, stream.height)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(drawn, format="rgb24")))
        for stream in streams:
            output.mux(stream.encode(None))
    found = Outcome(video, ExtractConfig())
    assert found["width"] == [160]
    assert probe(video).width == 160


def test_joined_streams_start_anew_and_may_change_size(tmp_path: Path) -> None:
    first = videos.make_video(tmp_path / "1.ts", frames=75)
    second = videos.make_video(tmp_path / "2.ts", frames=75, size=(96, 64))
    video = tmp_path / "a.ts"
    video.write_bytes(first.read_bytes() + second.read_bytes())
    found = Outcome(video, ExtractConfig())
    assert found["frame_index"] == [0, 25, 50, 75, 100, 125]
    assert found["width"] == [160] * 3 + [96] * 3


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_sound_is_left_unread(suffix: str, tmp_path: Path) -> None:
    video = videos.with_sound(tmp_path / f"a.{suffix}")
    with open_video(video) as (container, stream):
        assert {other.type for other in container.streams} == {"audio", "video"}
        stream_indexes = [packet.stream_index for packet in container.demux() if packet.size]
        count = stream_indexes.count(stream.index)
    assert count == 50
    assert len(stream_indexes) - count < 5  # read while it was opened, of 33


def test_a_glance_tells_what_a_longer_look_does(tmp_path: Path) -> None:
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    clips = [
        videos.make_video(tmp_path / "a.mp4"),
        videos.make_video(tmp_path / "b.mp4", muxer=fragments),
        videos.variable_rate(tmp_path / "c.mp4"),
        videos.undeclared_order(tmp_path / "d.mp4"),
        videos.with_sound(tmp_path / "e.mp4"),
    ]
    for clip in clips:
        reported = []
        for fast in (True, False):
            with open_video(clip, fast_open=fast) as (container, stream):
                rates = stream.guessed_rate, stream.time_base
                reported.append((read_headers(container, stream, 1), rates))
        assert reported[0] == reported[1], clip


def test_a_stream_that_appears_on_the_way_does_not_trip_it(tmp_path: Path) -> None:
    class Tripping:
        """A container as PyAV 18's is then: an IndexError comes after the last packet."""

        def __init__(self, container: Any) -> None:
            self._container = container
            self.format = container.format

        def demux(self, stream: Any) -> Any:
            yield from (p for p in self._container.demux(stream) if p.size)
            raise IndexError("list index out of range")

    with open_video(videos.make_video(tmp_path / "a.ts")) as (container, stream):
        assert stream.time_base is not None
        stats = DecodeStats(stream.time_base, stream.guessed_rate)
        tripping: Any = Tripping(container)
        assert len(list(decode(tripping, stream, stats, lambda: None))) == 50


def test_odd_file_names_are_taken_literally(tmp_path: Path) -> None:
    video = videos.make_video(tmp_path / "a:b %d.mp4")  # neither a protocol nor a pattern
    assert probe(video).codec == "h264"
    assert Outcome(video, ExtractConfig()).result.frame_count == 2
