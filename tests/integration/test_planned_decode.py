"""Planned decoding gives the frames of a full decode, whatever the stream is like."""

from __future__ import annotations

import json
import shutil
import subprocess
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
from dataminer.stages.extract.stage import extract
from tests.support import videos

pytestmark = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="no ffprobe")

FRAMES = 70
OPEN = "log-level=none:open-gop=1:keyint=15:min-keyint=15:bframes=4:b-pyramid=1:scenecut=0"
VP9 = {"deadline": "realtime", "cpu-used": "8"}
Maker = Callable[[Path], Path]


@dataclass(frozen=True)
class Kind:
    """A way to make a clip, and whether its decoding can be planned."""

    name: str
    options: dict[str, Any]
    refused: str = ""
    """What the reason for decoding everything says; empty where a plan is expected."""
    make: Callable[..., Path] = videos.make_video


def x264(options: str, name: str = "a.mp4", **more: Any) -> Kind:
    return Kind(name, {"options": {"preset": "veryfast", "x264-params": options}, **more})


def x265(options: str, name: str = "a.mp4", **more: Any) -> Kind:
    given = {"preset": "ultrafast", "x265-params": options}
    return Kind(name, {"codec": "libx265", "options": given, **more})


KINDS = {
    "constant rate": x264("keyint=12:bframes=3"),
    "variable rate": Kind("a.mp4", {}, make=videos.variable_rate),
    "rotated": x264("keyint=12", rotation=90),
    "sound": Kind("a.mp4", {}, make=videos.with_sound),
    "fragments": x264(
        "keyint=12:bframes=3", muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    ),
    "edit list": x264("keyint=12:bframes=3", shift=8),
    "open GOP": x264("open-gop=1:keyint=15:bframes=4:b-adapt=0:b-pyramid=2:scenecut=0"),
    "open GOP, no pyramid": x264("open-gop=1:keyint=15:bframes=4:b-adapt=0:b-pyramid=0:scenecut=0"),
    "open GOP, MPEG-TS": x264(
        "open-gop=1:keyint=15:bframes=4:b-adapt=0:b-pyramid=0:scenecut=0", "a.ts"
    ),
    "periodic intra refresh": x264("intra-refresh=1:keyint=20:bframes=2"),
    "order not declared": Kind("a.mp4", {}, make=videos.undeclared_order),
    "interlaced": x264("interlaced=1:keyint=12:bframes=2", pix_fmt="yuv420p"),
    "10 bit": x264("keyint=12:bframes=3", pix_fmt="yuv420p10le"),
    "Matroska": x264("keyint=12:bframes=3", "a.mkv"),
    "HEVC": x265("log-level=none:open-gop=0:keyint=15:bframes=3"),
    "HEVC, open GOP": x265(OPEN),
    "HEVC, open GOP, MPEG-TS": x265(OPEN, "a.ts"),
    "HEVC, temporal layers": x265(OPEN + ":temporal-layers=3"),
    "HEVC, leading pictures": x265("log-level=none:open-gop=0:keyint=15:bframes=3:radl=2", "a.mkv"),
    "odd size": Kind("a.webm", {"codec": "libvpx-vp9", "size": (161, 121), "options": VP9}),
    "VP9, alternate references": Kind(
        "a.webm",
        {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "lag-in-frames": "16", "b": "100k"}},
    ),
    "VP8, alternate references": Kind(
        "a.webm",
        {
            "codec": "libvpx",
            "size": (80, 64),
            "options": {"cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16", "b": "100k"},
        },
    ),
    "AV1": Kind("a.mp4", {"codec": "libsvtav1", "options": {"preset": "11"}}),
    "AV1, hidden pictures": Kind(
        "a.mkv", {"codec": "libsvtav1", "gop": 50, "options": {"preset": "9"}}
    ),
    "MPEG-2, open GOP": Kind("a.ts", {"codec": "mpeg2video", "options": {"bf": "2"}}),
    "MPEG-4": Kind("a.mp4", {"codec": "mpeg4", "options": {"bf": "2"}}),
    "intra only": Kind("a.mkv", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "no duration": Kind("a.mkv", {"gop": 12}, make=videos.live_matroska),
    "codec that tells nothing": Kind("a.mkv", {"codec": "ffv1"}, "tell too little"),
}
SETTINGS = {
    "every third of a second": ExtractConfig(every_seconds=1 / 3, image_format="png"),
    "every 1.3 seconds": ExtractConfig(every_seconds=1.3, image_format="png"),
    "every 11th": ExtractConfig(strategy="interval", every_frames=11, image_format="png"),
    "keyframes": ExtractConfig(strategy="keyframe", image_format="png"),
}


@dataclass(frozen=True)
class Reference:
    """A clip, when and with what picture ffmpeg's own programs and a plain loop show its frames."""

    video: Path
    times: list[float]
    keys: list[bool]
    pictures: list[NDArray[np.uint8]]


@pytest.fixture(scope="module", params=KINDS)
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    kind = KINDS[request.param]
    options = dict(kind.options)
    if kind.make in (videos.make_video, videos.with_sound):
        options.setdefault("frames", FRAMES)
    video = kind.make(tmp_path_factory.mktemp("clip") / kind.name, **options)
    probed = ffprobe(video)
    return Reference(video, *probed, plainly_decoded(video))


def ffprobe(video: Path) -> tuple[list[float], list[bool]]:
    """Ask ffprobe when frames are shown, and which are keyframes, in the order of their times."""
    entries = "frame=best_effort_timestamp_time,key_frame"
    command = ["ffprobe", "-v", "quiet", "-select_streams", "v:0", "-show_frames", "-of", "json"]
    done = subprocess.run(
        [*command, "-show_entries", entries, str(video)], capture_output=True, check=True
    )
    frames = json.loads(done.stdout)["frames"]
    times = [float(frame["best_effort_timestamp_time"]) for frame in frames]
    return times, [bool(frame["key_frame"]) for frame in frames]


def plainly_decoded(video: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(video)) as container:
        frames = container.decode(video=0)
        return [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in frames]


def chosen(reference: Reference, settings: ExtractConfig) -> list[int]:
    """Choose frames by what the settings say, from ffprobe's times alone."""
    positions = range(len(reference.times))
    if settings.strategy == "interval":
        return [position for position in positions if position % settings.every_frames == 0]
    if settings.strategy == "keyframe":
        return [position for position in positions if reference.keys[position]]
    found: list[int] = []
    step, tick = Fraction(str(settings.every_seconds)), Fraction(str(reference.times[0]))
    while tick <= reference.times[-1]:
        # ffprobe rounds to microseconds
        late = (p for p in positions if reference.times[p] >= float(tick) - 2e-6)
        found.append(next(late))
        tick += step
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_frames_are_those_of_a_full_decode(
    clip: Reference, settings: ExtractConfig, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kind = KINDS[request.node.callspec.params["clip"]]
    extract(clip.video, tmp_path, "v", settings)
    table = read_table(tmp_path / FRAMES_FILE)
    expected = chosen(clip, settings)
    assert table["frame_index"].to_pylist() == expected
    assert table["pts_time"].to_pylist() == [clip.times[position] for position in expected]
    for position, name in zip(expected, table["file_name"].to_pylist(), strict=True):
        image = cv2.imread(str(tmp_path / name))
        picture = clip.pictures[position]
        if kind.options.get("rotation") == 90:
            picture = np.asarray(cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE), np.uint8)
        assert image is not None and np.array_equal(image, picture), position
    meta = read_meta(tmp_path / FRAMES_FILE)
    assert meta["source_frames"] == len(clip.times)
    if kind.refused:
        assert kind.refused in meta["decoding"]
    elif settings.strategy != "keyframe":
        assert meta["decoding"] == "planned"
