"""How an extraction ends: caps, deadlines, damage, broken disks, and any bytes at all."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from dataminer.config.models import ExtractConfig
from dataminer.errors import ErrorClass, PermanentError, StageError, TransientError
from dataminer.frames.table import FRAMES_FILE, read_meta, read_table
from dataminer.frames.thumbnails import THUMBNAILS_FILE
from dataminer.stages.extract import extraction as extraction_module
from dataminer.stages.extract.selection import scan as scan_module
from dataminer.stages.extract.stage import extract
from dataminer.video.decoder import convert_frame
from dataminer.video.info import probe
from tests.support import videos

EVERY: dict[str, Any] = {"strategy": "interval", "every_frames": 1}


def extracted(video: Path, threads: int = 1, **settings: Any) -> tuple[list[int], dict[str, Any]]:
    """Extract into a fresh folder; return the frames' indices and the table's metadata."""
    out = video.parent / f"out{len(list(video.parent.iterdir()))}"
    out.mkdir()
    extract(video, out, "v", ExtractConfig.model_validate(settings), threads=threads)
    table = read_table(out / FRAMES_FILE)
    names = set(table["file_name"].to_pylist())
    assert {path.name for path in out.iterdir()} == names | {FRAMES_FILE, THUMBNAILS_FILE}
    return table["frame_index"].to_pylist(), read_meta(out / FRAMES_FILE)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos.make_video(tmp_path_factory.mktemp("clip") / "a.mp4", frames=75)


@pytest.fixture
def video(clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(clip, tmp_path / "a.mp4"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_megapixels": 0.019}, "max_megapixels = 0.019"),
        ({"max_video_gb": 1e-6}, "max_video_gb = 1e-06"),
    ],
)
def test_what_is_too_large_is_refused(settings: dict[str, Any], words: str, video: Path) -> None:
    with pytest.raises(PermanentError, match=words) as caught:
        extracted(video, **settings)
    assert caught.value.error_class is ErrorClass.UNSUPPORTED


@pytest.mark.parametrize(("gigabytes", "taken"), [(99.9, True), (100.1, False)])
def test_the_default_takes_files_of_up_to_100_gb(
    gigabytes: float, taken: bool, video: Path
) -> None:
    os.truncate(video, round(gigabytes * 1e9))  # its end is a hole, of which nothing is read
    if taken:
        assert len(extracted(video)[0]) == 3
    else:
        with pytest.raises(PermanentError, match="max_video_gb = 100"):
            extracted(video)


@pytest.mark.parametrize("decoding", ["planned", "everything"])
def test_pictures_that_grow_on_the_way_stay_out(decoding: str, tmp_path: Path) -> None:
    small = videos.make_video(tmp_path / "1.ts", frames=50, size=(96, 64))
    large = videos.make_video(tmp_path / "2.ts", frames=50)
    video = tmp_path / "a.ts"
    video.write_bytes(small.read_bytes() + large.read_bytes())
    strategy: dict[str, Any] = {"every_seconds": 10} if decoding == "planned" else EVERY
    indices, meta = extracted(video, max_megapixels=0.01, **strategy)
    assert max(indices) < 50
    assert decoding == "planned" or meta["decode_errors"] > 0


@pytest.mark.parametrize("strategy", ["interval", "scene"])  # by plan; by decoding everything
@pytest.mark.parametrize("threads", [1, 3])
def test_caps_stop_a_video_and_say_so(strategy: str, threads: int, video: Path) -> None:
    wanted: dict[str, Any] = {"strategy": strategy, "every_frames": 1, "every_seconds": 0.001}
    indices, meta = extracted(video, threads, max_minutes=1 / 60, **wanted)
    assert (indices, meta["warning"]) == (list(range(25)), "stopped at max_minutes = 0.0166667")
    indices, meta = extracted(video, threads, max_frames=6, **wanted)
    assert (indices, meta["warning"]) == (list(range(6)), "stopped at max_frames = 6")
    indices, meta = extracted(video, threads, max_output_gb=5e-5, **wanted)
    assert 1 < len(indices) < 75
    assert meta["warning"] == "stopped at max_output_gb = 5e-05"
    sizes = [p.stat().st_size for p in video.parent.glob("out*/*.jpg") if p.parent.name[-1] == "4"]
    assert sum(sizes) <= 5e4
    assert not meta["truncated"]


@pytest.mark.parametrize("strategy", ["interval", "scene"])
def test_the_cap_on_minutes_counts_from_the_first_frame(strategy: str, tmp_path: Path) -> None:
    video = videos.make_video(tmp_path / "late.mkv", pts=range(20, 95))
    wanted: dict[str, Any] = {"strategy": strategy, "every_frames": 1, "every_seconds": 0.001}
    indices, meta = extracted(video, max_minutes=1 / 60, **wanted)
    assert (indices, meta["warning"]) == (list(range(25)), "stopped at max_minutes = 0.0166667")


def test_the_cap_on_output_leaves_the_same_frames_at_any_speed(video: Path) -> None:
    found = [extracted(video, n, max_output_gb=1e-4, **EVERY)[0] for n in (1, 2, 4)]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("strategy", ["time", "scene"])
def test_a_deadline_ends_the_work_for_now(strategy: str, video: Path) -> None:
    with pytest.raises(TransientError, match="within 1e-06 minutes") as caught:
        extracted(video, strategy=strategy, timeout_minutes=1e-6)
    assert caught.value.error_class is ErrorClass.TIMEOUT


@pytest.mark.parametrize("strategy", ["time", "scene"])
@pytest.mark.parametrize(("minutes", "done"), [(119, True), (121, False)])
def test_a_video_has_two_hours(
    strategy: str, minutes: float, done: bool, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = chain([1000.0], repeat(1000.0 + 60 * minutes))  # the work takes so long at once
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr(extraction_module, "time", clock)
    if done:
        assert extracted(video, strategy=strategy)[0]
    else:
        with pytest.raises(TransientError, match="not extracted within 120 minutes"):
            extracted(video, strategy=strategy)


@pytest.mark.parametrize("strategy", ["time", "scene"])  # by plan; by decoding everything
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_video_of_half_a_day_is_stopped_at_twelve_hours(
    strategy: str, suffix: str, tmp_path: Path
) -> None:
    minute = 60 * 25
    stamps = [0, minute, 719 * minute, 721 * minute, 722 * minute]
    video = videos.make_video(tmp_path / f"a.{suffix}", pts=stamps)
    assert probe(video).duration == pytest.approx(722 * 60, abs=61)
    indices, meta = extracted(video, strategy=strategy)
    assert (indices, meta["warning"]) == ([0, 1, 2], "stopped at max_minutes = 720")
    indices, meta = extracted(video, strategy=strategy, max_minutes=1440)
    assert (indices, meta["warning"]) == ([0, 1, 2, 3, 4], None)


def test_damage_above_a_share_fails_the_video(tmp_path: Path) -> None:
    whole = videos.faststart(tmp_path / "w.mp4", frames=100)
    video = videos.with_bad_packets(whole, tmp_path / "a.mp4", range(20, 60))
    indices, meta = extracted(video, **EVERY)
    assert len(indices) == 60
    assert meta["decode_errors"] == 40
    assert meta["decoding"].startswith("everything, because a packet holds no picture")
    with pytest.raises(PermanentError, match="40 of 100 packets") as caught:
        extracted(video, max_error_share=0.3, **EVERY)
    assert caught.value.error_class is ErrorClass.CORRUPT


def test_a_plan_that_fails_on_the_way_leaves_nothing_behind(tmp_path: Path) -> None:
    whole = videos.faststart(tmp_path / "w.mp4", frames=100)
    data = bytearray(whole.read_bytes())
    with av.open(str(whole)) as container:
        packet = [p for p in container.demux(video=0) if p.size][60]
    assert packet.pos
    slice_size = int.from_bytes(data[packet.pos : packet.pos + 4])
    begin, end = packet.pos + 6, packet.pos + 4 + slice_size  # its kind stays readable
    data[begin:end] = random.Random(0).randbytes(end - begin)
    video = tmp_path / "a.mp4"
    video.write_bytes(data)
    indices, meta = extracted(video, **EVERY)
    assert 60 < len(indices) <= 100
    assert meta["warning"]
    assert "could not be decoded" in meta["decoding"] or "came out" in meta["decoding"]
    (tmp_path / "tar").mkdir()
    archived = ExtractConfig.model_validate({**EVERY, "frame_store": "tar"})
    extract(video, tmp_path / "tar", "v", archived)
    written = {path.name for path in (tmp_path / "tar").iterdir()}
    assert written == {"frames.tar", FRAMES_FILE, THUMBNAILS_FILE}
    assert read_table(tmp_path / "tar" / FRAMES_FILE)["frame_index"].to_pylist() == indices


def test_frames_that_cannot_be_converted_say_so() -> None:
    frame = av.VideoFrame(16, 16, "yuv420p")
    with pytest.raises(PermanentError, match="format yuv420p cannot be converted") as caught:
        convert_frame(VideoReformatter(), frame, format="bayer_bggr8")
    assert caught.value.error_class is ErrorClass.UNSUPPORTED


def test_a_cut_off_video_is_marked(tmp_path: Path) -> None:
    whole = videos.faststart(tmp_path / "w.mp4", frames=100)
    _, meta = extracted(videos.cut_off(whole, tmp_path / "a.mp4", 0.6))
    assert meta["truncated"]
    assert meta["warning"].startswith("truncated: ")


def test_a_disk_that_fails_in_the_middle_is_not_taken_for_the_videos_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = videos.faststart(tmp_path / "w.mp4", frames=100)
    video = videos.cut_off(whole, tmp_path / "a.mp4", 0.6)  # what libav sees of it
    opened = Path.open

    class Failing(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def failing(self: Path, mode: str = "r", buffering: int = -1, *more: Any) -> Any:
        return Failing() if buffering == 0 else opened(self, mode, buffering, *more)

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(TransientError, match="cannot be read to its end") as caught:
        extracted(video)
    assert caught.value.error_class is ErrorClass.DISK


def test_packets_that_are_too_many_to_hold_are_read_again(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = extracted(video, every_seconds=0.3)
    monkeypatch.setattr(scan_module, "MAX_CACHED_BYTES", 1000)
    assert extracted(video, every_seconds=0.3) == held
    assert held[1]["decoding"] == "planned"


def test_frames_do_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    video = videos.make_video(tmp_path / "a.mp4", frames=75, gop=12, options={"bf": "3"})
    found = []
    for threads in (1, 2, 5):
        out = tmp_path / str(threads)
        out.mkdir()
        extract(video, out, "v", ExtractConfig(every_seconds=0.12), threads=threads)
        found.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert found[0] == found[1] == found[2]


# ---------------------------------------------------------------------------------------- scenes


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shots that move, 30, 45 and 25 frames long, the last of them fading out slowly."""
    path = tmp_path_factory.mktemp("shots") / "a.mp4"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=videos.RATE, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for index in range(100):
            image = videos.picture(index, 640, 480)
            if 30 <= index < 75:
                image = 255 - image
            elif index >= 75:
                image = (image[:, ::-1] * (1 - (index - 75) / 40)).astype(np.uint8)
                image[240:] //= 4
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def test_scenes_give_the_first_frame_of_each_shot_then_one_every_so_often(shots: Path) -> None:
    assert extracted(shots, strategy="scene", every_seconds=60)[0] == [0, 30, 75]
    assert extracted(shots, strategy="scene", every_seconds=0.8)[0] == [0, 20, 30, 50, 70, 75, 95]
    assert extracted(shots, strategy="scene", scene_threshold=1, every_seconds=60)[0] == [0]
    decoding = extracted(shots, strategy="scene")[1]["decoding"]
    assert decoding == "everything, because cuts are found by looking at every frame"


def test_steady_change_is_no_cut(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        stream: Any = output.add_stream("ffv1", rate=videos.RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(20):
            noise = rng.integers(0, 256, (48, 64, 3), np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        output.mux(stream.encode(None))
    # from the first to the second frame it sets in
    found, _ = extracted(tmp_path / "a.mkv", strategy="scene", every_seconds=60)
    assert found == [0, 1]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")
def test_cuts_are_those_of_ffmpegs_scene_score(shots: Path) -> None:
    command = ["ffmpeg", "-v", "error", "-i", str(shots), "-vf", "select='gt(scene,0.1)',showinfo"]
    done = subprocess.run(
        [*command, "-loglevel", "info", "-fps_mode", "passthrough", "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if "pts_time:" in line]
    theirs = [round(float(line.split("pts_time:")[1].split()[0]) * 25) for line in lines]
    assert theirs == extracted(shots, strategy="scene", every_seconds=60)[0][1:]


# ------------------------------------------------------------------------------------ robustness

TINY: dict[str, Any] = {"size": (64, 48), "frames": 20}
HEVC = {"x265-params": "log-level=none:open-gop=1:keyint=8:bframes=2", "preset": "ultrafast"}
FAST = {"deadline": "realtime", "cpu-used": "8"}
TINY_CLIPS: dict[str, dict[str, Any]] = {
    "a.mp4": {"options": {"bf": "2"}, "gop": 8},
    "fast.mp4": {"muxer": {"movflags": "faststart"}, "gop": 8},
    "fragments.mp4": {"muxer": {"movflags": "frag_keyframe+empty_moov"}},
    "a.mkv": {"options": {"bf": "2"}, "gop": 8},
    "a.ts": {"gop": 8},
    "hevc.mp4": {"codec": "libx265", "options": HEVC},
    "vp9.webm": {"codec": "libvpx-vp9", "options": FAST},
    "vp8.webm": {"codec": "libvpx", "options": FAST},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "11"}},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "a.flv": {"gop": 8},
}
SEEDS = 5 * 48  # each clip with each strategy five times
STRATEGIES = (
    {"every_seconds": 0.2},
    {"strategy": "keyframe"},
    {"strategy": "interval", "every_frames": 3},
    {"strategy": "scene", "every_seconds": 0.3},
)
ENDS = {
    ErrorClass.CORRUPT,
    ErrorClass.NO_VIDEO,
    ErrorClass.NO_FRAMES,
    ErrorClass.UNSUPPORTED,
}


def flipped(data: bytes, seed: int) -> bytes:
    """Change 1 to 100 bytes, in four of ten copies near the beginning, where the headers are."""
    rng = random.Random(seed)
    copy = bytearray(data)
    end = min(len(copy), 1500) if rng.random() < 0.4 else len(copy)
    for _ in range(rng.choice((1, 3, 10, 100))):
        copy[rng.randrange(end)] ^= rng.randrange(1, 256)
    return bytes(copy)


def try_seeds(folder: Path) -> Iterator[str]:
    """Extract from broken copies, and say how each ends; runs in a process of its own."""
    clips = [(name, (folder / name).read_bytes()) for name in TINY_CLIPS]
    for seed in range(SEEDS):
        name, data = clips[seed % len(clips)]
        video = folder / f"broken-{name}"
        video.write_bytes(flipped(data, seed))
        yield json.dumps([seed, name, _end(video, seed)])


def _end(video: Path, seed: int) -> str:
    out = video.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    settings = ExtractConfig.model_validate(STRATEGIES[seed // len(TINY_CLIPS) % 4])
    try:
        extract(video, out, "v", settings, threads=1 + seed % 2)
    except StageError as error:
        return f"{type(error).__name__} {error.error_class}"
    names = read_table(out / FRAMES_FILE)["file_name"].to_pylist()
    assert {path.name for path in out.iterdir()} == {FRAMES_FILE, THUMBNAILS_FILE, *names}
    assert all(cv2.imread(str(out / name)) is not None for name in names)
    return "frames"


def test_broken_copies_end_as_documented(tmp_path: Path) -> None:
    for name, options in TINY_CLIPS.items():
        videos.make_video(tmp_path / name, **TINY, **options)
    script = "import sys, pathlib; from tests.integration import test_extract_ends as t\n"
    script += "for line in t.try_seeds(pathlib.Path(sys.argv[1])): print(line, flush=True)"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (ends[-1:], done.stderr[-2000:])
    assert len(ends) == SEEDS
    documented = {"frames", *(f"PermanentError {kind}" for kind in ENDS)}
    assert [end for end in ends if end[2] not in documented] == []
    assert len({end[2] for end in ends}) > 3


def test_a_damaged_keyframe_is_noticed_whoever_decodes_it(tmp_path: Path) -> None:
    video = videos.make_video(tmp_path / "a.mp4", size=(640, 480), gop=8, options={"bf": "2"})
    with av.open(str(video)) as container:
        keys = [packet for packet in container.demux(video=0) if packet.is_keyframe]
        position, size = keys[2].pos, keys[2].size
    assert position
    data = bytearray(video.read_bytes())
    data[position + size // 2 : position + size // 2 + 20] = bytes(20)
    video.write_bytes(data)
    for threads in (1, *[2] * 8):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        result = extract(video, out, "v", ExtractConfig(strategy="keyframe"), threads=threads)
        assert "damaged" in (result.warning or "") or "decoded" in (result.warning or "")


MEASURE = r"""
import re, sys
from pathlib import Path
from dataminer.config.models import ExtractConfig
from dataminer.stages.extract.stage import extract
extract(Path(sys.argv[1]), Path(sys.argv[2]), "v", ExtractConfig(every_seconds=0.1), threads=2)
assert "pandas" not in sys.modules  # 60 MB and 0.3 s that Arrow spends to look at lists
# not getrusage, which counts what the parent had when it started this process
status = Path("/proc/self/status").read_text()
peak, libraries = (int(re.search(rf"{key}:\s+(\d+)", status)[1]) for key in ("VmHWM", "RssFile"))
print((peak - libraries) / 1024)
"""
# A job needs 400 MB at most: these, and the pages of its libraries. How many of those are mapped
# depends on the kernel's cache: 105 MB in one folder, 150 MB in a copy that was just installed.
OWN_MB = 295


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"preset": "ultrafast", "x264-params": "ref=4:bframes=3:b-adapt=0"}
    path = tmp_path_factory.mktemp("4k") / "a.ts"
    return videos.make_video(path, size=(3840, 2160), frames=20, options=options)


@pytest.mark.parametrize("frames_are", ["planned", "joined"])
def test_a_job_stays_below_400_mb_at_4k(frames_are: str, large: Path, tmp_path: Path) -> None:
    video = tmp_path / "a.ts"
    # joined, time starts again: everything is decoded
    video.write_bytes(large.read_bytes() * (2 if frames_are == "joined" else 1))
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", MEASURE, str(video), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert read_meta(tmp_path / "out" / FRAMES_FILE)["decoding"].startswith(
        "planned" if frames_are == "planned" else "everything"
    )
    assert 100 < float(done.stdout) < OWN_MB
