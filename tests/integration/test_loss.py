"""What is lost is counted, what may be smeared is marked, and no time stamp is trusted alone."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dataminer.config.models import ExtractConfig
from dataminer.frames.table import FRAMES_FILE, read_meta, read_table
from dataminer.stages.extract.loss.damage import find_loss
from dataminer.stages.extract.loss.packet_log import FrameRecord, PacketRecord, References
from dataminer.stages.extract.selection.bitstream import inspector
from dataminer.stages.extract.selection.picture_numbers import PictureNumbers
from dataminer.stages.extract.stage import extract
from tests.support import videos
from tests.support.lossy import (
    RATE,
    make_moving,
    restamp_pes,
    restamped,
    set_edit_list,
    without_packets,
)

EVERY = ExtractConfig(strategy="interval", every_frames=1, image_format="png")
GOP = 25  # frames, of all clips here


@dataclass
class Extracted:
    """What came of a video."""

    indices: list[int]
    times: list[float]
    damaged: set[float]
    pictures: dict[float, NDArray[np.uint8]]
    meta: dict[str, Any]

    @property
    def notes(self) -> dict[str, int]:
        return dict(self.meta["notes"])

    @property
    def gaps(self) -> list[float]:
        """Seconds between frames that follow each other."""
        return np.diff(self.times).round(3).tolist()


def extracted(video: Path, settings: ExtractConfig = EVERY, threads: int = 2) -> Extracted:
    out = video.parent / f"out{len(list(video.parent.iterdir()))}"
    out.mkdir()
    extract(video, out, "v", settings, threads=threads)
    rows = read_table(out / FRAMES_FILE).to_pylist()
    pictures = {}
    for row in rows:
        image = cv2.imread(str(out / row["file_name"]))
        assert image is not None
        pictures[row["pts_time"]] = np.asarray(image, np.uint8)
    return Extracted(
        indices=[row["frame_index"] for row in rows],
        times=[row["pts_time"] for row in rows],
        damaged={row["pts_time"] for row in rows if row["damaged"]},
        pictures=pictures,
        meta=read_meta(out / FRAMES_FILE),
    )


# ---------------------------------------------------------------------------- loss and damage


def x264(params: str) -> dict[str, Any]:
    params = f"scenecut=0:keyint={GOP}:min-keyint={GOP}:{params}"
    return {"codec": "libx264", "options": {"preset": "veryfast", "x264-params": params}}


def x265(params: str) -> dict[str, Any]:
    params = f"log-level=none:scenecut=0:keyint={GOP}:min-keyint={GOP}:{params}"
    return {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": params}}


VP8 = {"cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16", "b": "300k"}
VP9 = {"cpu-used": "8", "lag-in-frames": "16", "b": "300k"}
CODECS: dict[str, dict[str, Any]] = {
    "H.264": x264("bframes=0"),
    "H.264, B-frames": x264("bframes=3:b-adapt=0:b-pyramid=2"),
    "H.264, open GOP": x264("bframes=3:b-adapt=0:b-pyramid=2:open-gop=1"),
    "HEVC": x265("bframes=0:open-gop=0"),
    "HEVC, open GOP": x265("bframes=4:open-gop=1"),
    "MPEG-2": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "MPEG-4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "VP8": {"codec": "libvpx", "options": VP8},
    "VP9": {"codec": "libvpx-vp9", "options": VP9},
    "AV1": {"codec": "libsvtav1", "options": {"preset": "11"}},
    "intra only": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
}
LOSSES = [
    *(("H.264", suffix) for suffix in ("mkv", "mp4", "ts")),
    *(("H.264, B-frames", suffix) for suffix in ("mkv", "mp4", "ts")),
    ("H.264, open GOP", "mkv"),
    *(("HEVC", suffix) for suffix in ("mkv", "mp4")),
    ("HEVC, open GOP", "ts"),
    *(("MPEG-2", suffix) for suffix in ("mkv", "ts")),
    *((codec, "mkv") for codec in ("MPEG-4", "VP8", "VP9", "AV1", "intra only")),
]


def time_of_next_keyframe(video: Path, packet_index: int) -> float:
    """Return when the next keyframe after a packet, in decoding order, is shown."""
    with av.open(str(video)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    later = next(packet for packet in packets[packet_index + 1 :] if packet.is_keyframe)
    assert later.pts is not None
    return float(later.pts * later.time_base)


@pytest.mark.parametrize(("codec", "suffix"), LOSSES)
def test_no_smeared_frame_is_unmarked(codec: str, suffix: str, tmp_path: Path) -> None:
    whole = make_moving(tmp_path / f"whole.{suffix}", gop=GOP, **CODECS[codec])
    clean = extracted(whole)
    assert (clean.meta["warning"], clean.damaged) == (None, set())
    for number, dropped in enumerate([{30}, {31, 32}, {23}]):
        video = without_packets(whole, tmp_path / f"{number}.{suffix}", dropped)
        found = extracted(video)
        smeared = {
            time
            for time, picture in found.pictures.items()
            if time in clean.pictures and not np.array_equal(picture, clean.pictures[time])
        }
        assert smeared <= found.damaged, (dropped, found.meta["warning"])
        keyframe = time_of_next_keyframe(whole, max(dropped))
        assert all(time < keyframe for time in found.damaged)
        notes = found.notes
        lost = notes.get("lost_packets", 0) + notes.get("refused_packets", 0)
        if suffix != "mp4":  # whose frames are then stated to be shown for longer
            assert len(found.times) + lost + notes.get("missing_frames", 0) >= 100
        if smeared or lost:
            assert found.meta["warning"]


def test_what_gave_no_frame_is_counted(tmp_path: Path) -> None:
    whole = make_moving(tmp_path / "whole.mkv", gop=50, **x265("bframes=0:open-gop=0:keyint=50"))
    found = extracted(without_packets(whole, tmp_path / "a.mkv", {20}))
    assert found.notes == {"lost_packets": 29, "missing_frames": 1}
    assert found.meta["warning"] == (
        "29 packets gave no frame; 1 frame is missing where the time stamps leave a gap"
    )


def test_a_lost_picture_that_no_other_refers_to_damages_nothing(tmp_path: Path) -> None:
    whole = make_moving(tmp_path / "whole.mkv", **x264("bframes=2:b-adapt=0:b-pyramid=0"))
    with av.open(str(whole)) as container:
        inspect = inspector(container.streams.video[0])
        assert inspect
        packets = [packet for packet in container.demux(video=0) if packet.size]
        droppable = [i for i, packet in enumerate(packets) if inspect(memoryview(packet)).droppable]
        disposable = droppable[20]
    found = extracted(without_packets(whole, tmp_path / "a.mkv", {disposable}))
    assert found.notes == {"missing_frames": 1}


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("mpeg4", "mkv"), ("mpeg4", "ts"), ("mpeg4", "avi"), ("msmpeg4", "mkv"), ("flv", "flv")],
)
def test_what_comes_before_the_first_keyframe_is_damaged(
    codec: str, suffix: str, tmp_path: Path
) -> None:
    whole = make_moving(tmp_path / f"whole.{suffix}", codec, frames=60, gop=20)
    found = extracted(without_packets(whole, tmp_path / f"a.{suffix}", {0}))
    assert len(found.times) == 59
    assert sorted(found.damaged) == found.times[:19]
    assert found.notes["damaged_frames"] == 19


WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{codec} in mkv": ("a.mkv", made) for codec, made in CODECS.items()},
    "MPEG-2 in TS": ("a.ts", CODECS["MPEG-2"]),
    "MPEG-2 in PS": ("a.mpg", CODECS["MPEG-2"]),
    "MPEG-2, interlaced": (
        "a.ts",
        {"codec": "mpeg2video", "options": {"bf": "2", "flags": "+ildct+ilme"}},
    ),
    "MPEG-4 in AVI": ("a.avi", CODECS["MPEG-4"]),
    "H.264, interlaced": ("a.ts", x264("interlaced=1:bframes=2")),
    "VP9 in MP4": ("a.mp4", CODECS["VP9"]),
    "AV1 in MP4": ("a.mp4", CODECS["AV1"]),
    "WMV": ("a.wmv", {"codec": "wmv2"}),
    "FLV": ("a.flv", {"codec": "flv"}),
    "29.97 fps": ("a.mkv", {"rate": Fraction(30000, 1001)}),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("strategy", ["interval", "scene"])  # by plan; by decoding everything
def test_whole_videos_have_no_loss(kind: str, strategy: str, tmp_path: Path) -> None:
    name, made = WHOLE[kind]
    settings = ExtractConfig(strategy=strategy, every_frames=1, every_seconds=0.001)
    found = extracted(make_moving(tmp_path / name, frames=60, **made), settings)
    assert len(found.times) == 60
    assert (found.notes, found.damaged) == ({}, set())


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("bframes", ["0", "3"])
def test_recordings_of_variable_rate_lack_nothing(
    suffix: str, bframes: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    stamps = [40 * index for index in range(200) if rng.random() > 0.06]
    video = videos.make_video(
        tmp_path / f"a.{suffix}",
        pts=stamps,
        time_base=Fraction(1, 1000),
        options={"bf": bframes},
    )
    found = extracted(video, ExtractConfig())
    assert (found.meta["decoding"], found.notes) == ("planned", {})


def pause(index: int) -> int:
    """Return the milliseconds of frames between two of which one is shown for 30 s."""
    return 40 * index + 30_000 * (index >= 40)


def test_a_pause_damages_nothing(tmp_path: Path) -> None:
    whole = make_moving(tmp_path / "whole.mkv", "mpeg4", gop=GOP)
    found = extracted(restamped(whole, tmp_path / "a.mkv", pause))
    assert (found.notes, found.damaged) == ({"long_gaps": 1}, set())
    assert found.meta["warning"] is None
    both = extracted(without_packets(tmp_path / "a.mkv", tmp_path / "b.mkv", {80}))
    assert both.notes["missing_frames"] == 751
    assert both.damaged >= set(both.times[40:50])


def test_a_pause_in_h264_is_told_from_a_loss_by_its_frame_numbers(tmp_path: Path) -> None:
    whole = make_moving(tmp_path / "whole.mkv", frames=150, **x264("bframes=0:keyint=150"))
    assert extracted(restamped(whole, tmp_path / "a.mkv", pause)).notes == {}
    found = extracted(without_packets(whole, tmp_path / "b.mkv", range(40, 81)))
    assert found.notes["missing_frames"] == 41
    assert found.damaged == set(found.times[40:])


@pytest.mark.parametrize("codec", ["VP8", "VP9", "AV1", "MPEG-2", "H.264", "HEVC"])
def test_a_pause_is_no_loss_whatever_follows_it(codec: str, tmp_path: Path) -> None:
    without_b_frames = {"MPEG-2": {"codec": "mpeg2video"}}
    made = {**CODECS, **without_b_frames}[codec]
    whole = make_moving(tmp_path / "whole.mkv", gop=GOP, **made)
    for first in (40, 50):  # after any picture, and after a keyframe
        stamps = [40 * index + 30_000 * (index >= first) for index in range(200)]
        found = extracted(restamped(whole, tmp_path / f"{first}.mkv", stamps.__getitem__))
        assert (found.meta["warning"], found.damaged) == (None, set())


@pytest.mark.parametrize("codec", ["AV1", "MPEG-2 without B-frames"])
def test_a_short_pause_is_told_from_a_loss_by_numbers_of_pictures(
    codec: str, tmp_path: Path
) -> None:
    made = {**CODECS, "MPEG-2 without B-frames": {"codec": "mpeg2video"}}[codec]
    whole = make_moving(tmp_path / "whole.mkv", gop=GOP, **made)
    for length in (80, 400):
        stamps = [40 * index + length * (index >= 40) for index in range(200)]
        assert extracted(restamped(whole, tmp_path / "a.mkv", stamps.__getitem__)).notes == {}
    found = extracted(without_packets(whole, tmp_path / "b.mkv", {30}))
    assert found.notes["missing_frames"] == 1
    assert found.notes["damaged_frames"] > 10


@pytest.mark.parametrize("suffix", ["mpg", "mp4", "ts"])
@pytest.mark.parametrize("codec", ["MPEG-2", "MPEG-2 without B-frames"])
def test_numbers_of_pictures_tell_which_are_missing(
    codec: str, suffix: str, tmp_path: Path
) -> None:
    options = {"bf": "2"} if codec == "MPEG-2" else {}
    whole = make_moving(tmp_path / f"a.{suffix}", "mpeg2video", gop=GOP, options=options)
    clean = extracted(whole)
    assert clean.notes == {}
    sound = {picture.tobytes() for picture in clean.pictures.values()}
    for number, dropped in enumerate([{30}, {31}, {30, 31, 32, 33}, {25}]):
        found = extracted(without_packets(whole, tmp_path / f"{number}.{suffix}", dropped))
        smeared = {time for time, p in found.pictures.items() if p.tobytes() not in sound}
        assert smeared <= found.damaged
        assert len(found.damaged) <= len(smeared) + 1
        assert found.notes["missing_frames"] == len(dropped)


def test_a_lost_reference_shows_in_the_decoding_times_of_an_mp4(tmp_path: Path) -> None:
    """Its muxer states that the frame before it is shown for longer."""
    whole = make_moving(tmp_path / "a.mp4", gop=GOP, **CODECS["MPEG-4"])
    sound = {picture.tobytes() for picture in extracted(whole).pictures.values()}
    for number, dropped in enumerate([{31}, {31, 32}, {25}, {60, 61}]):
        found = extracted(without_packets(whole, tmp_path / f"{number}.mp4", dropped))
        smeared = {time for time, p in found.pictures.items() if p.tobytes() not in sound}
        assert smeared
        assert smeared <= found.damaged
        assert found.notes["missing_frames"]


def test_a_long_gap_in_a_broadcast_is_a_loss(tmp_path: Path) -> None:
    whole = make_moving(tmp_path / "whole.ts", "mpeg4", frames=150, gop=50)
    found = extracted(without_packets(whole, tmp_path / "a.ts", range(20, 80)))
    assert found.damaged == set(found.times[20:40])


EDITS: dict[str, tuple[tuple[int, float], ...]] = {
    "a cut": ((2000, 0), (2000, 4)),
    "two cuts": ((1500, 0), (1000, 2.5), (1000, 4.5)),
    "shown twice": ((2000, 0), (2000, 0)),
}


@pytest.mark.parametrize("kind", EDITS)
@pytest.mark.parametrize("bframes", [0, 2])
def test_parts_that_an_edit_list_cuts_or_repeats_lose_nothing(
    kind: str, bframes: int, tmp_path: Path
) -> None:
    video = make_moving(tmp_path / "a.mov", frames=150, **x264(f"bframes={bframes}:b-adapt=0"))
    with av.open(str(video)) as container:
        units = container.streams.video[0].time_base
    assert units
    delay = 0.08 if bframes else 0
    set_edit_list(video, [(length, int((begin + delay) / units)) for length, begin in EDITS[kind]])
    found = extracted(video)
    assert len(found.times) in (88, 100)
    assert (found.notes, found.damaged) == ({}, set())


@pytest.mark.parametrize("gap", [5, 50])
def test_gaps_before_the_first_and_after_the_last_frame_are_judged(gap: int) -> None:
    numbers = PictureNumbers()
    packets, frames = PacketRecord(numbers=numbers, second=1000), FrameRecord()
    for number in range(60):
        if number not in {gap, gap + 1}:
            packets.pts.append(40 * number)
            header = bytes([0, 0, 1, 0, number >> 2, (number & 3) << 6 | 2 << 3])
            numbers.add(memoryview(header))
    count = len(packets.pts)
    packets.points = bytearray([1, *bytes(count - 1)])
    packets.shown, packets.unreferenced = bytearray([1] * count), bytearray(count)
    frames.stamps = frames.times = array("q", range(40 * 12, 40 * 45, 40))
    frames.durations = array("q", [40]) * len(frames.times)
    frames.derived = frames.keys = bytearray(len(frames.times))
    loss = find_loss(packets, frames, References.UNCHECKED, is_complete=True)
    assert (loss.packets, loss.missing) == (count - len(frames.times), 2)


@pytest.mark.parametrize("is_point", [True, False])
def test_the_cost_of_finding_loss_grows_with_the_packets(is_point: bool) -> None:
    count, frames = 200_000, FrameRecord()
    packets = PacketRecord(pts=array("q", range(0, 40 * count, 40)))
    packets.points = bytearray([1, *[is_point] * (count - 1)])
    packets.shown, packets.unreferenced = bytearray([1] * count), bytearray(count)
    frames.times = array("q", packets.pts[count // 2 :])
    frames.stamps = array("q", frames.times)
    frames.durations = array("q", [40]) * (count // 2)
    frames.derived = frames.keys = bytearray(count // 2)
    begun = time.process_time()
    loss = find_loss(packets, frames, References.UNCHECKED, is_complete=True)
    assert time.process_time() - begun < 6  # seconds; minutes if it were the square
    assert loss.packets == count // 2
    assert len(loss.damaged) == (0 if is_point else count // 2)


@pytest.mark.parametrize(("codec", "suffix"), [("H.264", "h264"), ("HEVC", "hevc")])
def test_elementary_streams_need_no_stamps(codec: str, suffix: str, tmp_path: Path) -> None:
    found = extracted(make_moving(tmp_path / f"a.{suffix}", frames=50, **CODECS[codec]))
    assert (found.notes, found.meta["warning"]) == ({}, None)
    assert found.times == pytest.approx([index / RATE for index in range(50)], abs=0.001)


def test_stopping_early_loses_nothing(tmp_path: Path) -> None:
    video = make_moving(tmp_path / "a.ts", **x264("bframes=3:b-adapt=0:b-pyramid=2"))
    settings = ExtractConfig(strategy="scene", every_seconds=0.001, max_frames=20)
    assert extracted(video, settings).notes == {}


# ---------------------------------------------------------------------------- time stamps

SECOND = 90_000
TROUBLES: dict[str, tuple[Callable[[int], float], set[str]]] = {
    "resets": (lambda i: 1 + i % 50 / 25, {"joined_parts"}),
    "future": (lambda i: 1 + i / 25 + 45_000 * (i % 25 == 24), {"stray_stamps"}),
    "past": (lambda i: 40_000 + i / 25 - 30_000 * (i % 25 == 7), {"stray_stamps"}),
    "first": (lambda i: 1 + (i / 25 + 60_000 if i else 0), {"stray_stamps"}),
    "last": (lambda i: 1 + i / 25 + 45_000 * (i == 149), {"stray_stamps"}),
    "constant": (lambda i: 1, {"derived_stamps"}),
    "pairs": (lambda i: 1 + i // 2 * 2 / 25, {"derived_stamps"}),
    "back and forth": (
        lambda i: 1 + i / 25 + (0, 20_000, 100, 50_000, 300)[i // 30],
        {"joined_parts"},
    ),
}


def in_container(suffix: str, folder: Path, seconds: Callable[[int], float]) -> Path:
    """Make a clip of 150 frames with a keyframe every 25, with these time stamps."""
    made: dict[str, Any] = {"frames": 150, **x264("bframes=0")}
    if suffix == "ts":
        whole = make_moving(folder / f"a.{suffix}", **made)
        return restamp_pes(whole, lambda i: round(seconds(i) * SECOND))
    whole = make_moving(folder / "whole.mkv", **made)
    return restamped(whole, folder / f"a.{suffix}", lambda i: round(seconds(i) * 1000))


@pytest.mark.parametrize("suffix", ["ts", "mkv", "mp4"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_time_goes_on_whatever_the_stamps_are(trouble: str, suffix: str, tmp_path: Path) -> None:
    seconds, expected = TROUBLES[trouble]
    video = in_container(suffix, tmp_path, seconds)
    every = extracted(video)
    assert len(every.times) == 150
    assert set(every.gaps) <= {0.04, 0.039, 0.041}
    assert set(every.notes) == expected
    assert every.meta["warning"]
    sampled = extracted(video, ExtractConfig())
    assert 6 <= len(sampled.times) <= (6 if trouble != "back and forth" else 10)
    assert sampled.notes == every.notes


def test_a_rate_guessed_from_wrong_stamps_is_not_trusted(tmp_path: Path) -> None:
    video = in_container("ts", tmp_path, lambda i: 1 + i // 50 * 2)
    with av.open(str(video)) as container:
        guessed = container.streams.video[0].guessed_rate
        assert guessed and guessed < 2
    found = extracted(video)
    assert set(found.gaps) == {0.04}
    assert set(found.notes) == {"derived_stamps"}


@pytest.mark.parametrize(
    ("suffix", "codec", "box", "offset"),
    [("mp4", "libx264", b"mdhd", 16), ("avi", "mpeg4", b"strh", 32)],
)
def test_a_rate_that_no_video_has_is_not_believed(
    suffix: str, codec: str, box: bytes, offset: int, tmp_path: Path
) -> None:
    video = make_moving(tmp_path / f"a.{suffix}", codec, frames=150, options={"bf": "0"})
    data = bytearray(video.read_bytes())
    units = data.index(box) + offset  # per second
    data[units : units + 4] = (512_000_000).to_bytes(4, "big" if suffix == "mp4" else "little")
    video.write_bytes(data)
    found = extracted(video)
    assert found.times == pytest.approx([index / 25 for index in range(150)], abs=0.001)
    assert found.notes == {"derived_stamps": 149}


def test_each_part_of_joined_files_is_sampled(tmp_path: Path) -> None:
    part = make_moving(tmp_path / "part.ts", frames=48, **x264("bframes=3"))
    video = tmp_path / "a.ts"
    video.write_bytes(part.read_bytes() * 4)
    found = extracted(video, ExtractConfig())
    assert found.indices == [0, 25, 48, 73, 96, 121, 144, 169]
    assert (found.notes, found.damaged) == ({"joined_parts": 3}, set())
    assert extracted(video, ExtractConfig(every_seconds=60)).indices == [0, 48, 96, 144]
    limited = extracted(video, ExtractConfig(max_minutes=3 / 60))
    assert limited.indices == [0, 25, 48, 73]


@pytest.mark.parametrize(("frames", "joins"), [(10, 4), (1, 0)])
def test_short_joined_files_are_parts_without_damage(
    frames: int, joins: int, tmp_path: Path
) -> None:
    part = make_moving(tmp_path / "part.ts", frames=frames, **x264("bframes=0"))
    video = tmp_path / "a.ts"
    video.write_bytes(part.read_bytes() * 5)
    found = extracted(video)
    assert (len(found.times), found.damaged) == (5 * frames, set())
    assert found.notes.get("joined_parts", 0) == joins
    assert len(extracted(video, ExtractConfig(every_seconds=60)).times) == joins + 1


@pytest.mark.parametrize("codec", ["H.264, B-frames", "MPEG-2"])
def test_frames_in_asf_have_their_packets_times(codec: str, tmp_path: Path) -> None:
    found = extracted(make_moving(tmp_path / "a.asf", frames=50, **CODECS[codec]))
    assert found.notes == {}
    assert found.times == pytest.approx([index / RATE for index in range(50)], abs=0.001)


def test_frames_of_h264_in_avi_ascend(tmp_path: Path) -> None:
    found = extracted(make_moving(tmp_path / "a.avi", **x264("bframes=3")))
    assert len(found.times) == 100
    assert found.times == sorted(set(found.times))
    assert found.times[-1] - found.times[0] == pytest.approx(4, abs=0.2)
    assert set(found.notes) == {"derived_stamps"}
