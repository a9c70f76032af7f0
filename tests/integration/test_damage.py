"""Pictures that a decoder fills in are marked: it tells of them in its log only."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import av
import av.logging
import numpy as np
import pytest

from dataminer.config.models import ExtractConfig
from dataminer.frames.table import FRAMES_FILE, read_meta, read_table
from dataminer.stages.extract.stage import extract
from dataminer.video.libav_messages import DecoderMessages, decoder_messages
from tests.support.lossy import make_moving
from tests.support.patches import Extracted, encode

GOP, BROKEN = 20, 30
CODECS: dict[str, dict[str, Any]] = {
    "libx264": {
        "options": {"preset": "veryfast", "x264-params": "bframes=0:scenecut=0:cabac=0:crf=8"}
    },
    "mpeg2video": {},
    "mpeg4": {},
    "msmpeg4": {},
    "h263p": {},
    "mjpeg": {"pix_fmt": "yuvj420p"},
    "prores_ks": {"pix_fmt": "yuv422p10le"},
    "ffv1": {"options": {"level": "3", "slicecrc": "1", "slices": "4"}},
}
INTRA = {"mjpeg", "prores_ks"}
SOUND = [
    *(("qtrle", "rgb24", "mov"), ("rpza", "rgb555le", "nut"), ("asv2", "yuv420p", "avi")),
    *(("cinepak", "rgb24", "avi"), ("zmbv", "bgr0", "avi"), ("flashsv", "bgr24", "nut")),
    *(("snow", "yuv420p", "nut"), ("svq1", "yuv410p", "mov"), ("h261", "yuv420p", "nut")),
    *(("wmv1", "yuv420p", "avi"), ("flv", "yuv420p", "avi"), ("magicyuv", "gbrp", "avi")),
    *(("png", "rgb24", "avi"), ("jpegls", "rgb24", "avi"), ("speedhq", "yuv422p", "nut")),
]
FILES = [
    ("libx264", "mp4"),
    ("libx264", "ts"),
    ("mpeg2video", "mkv"),
    ("mpeg2video", "ts"),
    ("mpeg4", "mkv"),
    ("mpeg4", "avi"),
    ("msmpeg4", "avi"),
    ("h263p", "avi"),  # which calls all its packets keyframes
    ("mjpeg", "mkv"),
    ("mjpeg", "avi"),
    ("prores_ks", "mov"),
    ("ffv1", "mkv"),
]
EVERY = ExtractConfig(strategy="interval", every_frames=1)


def with_broken_packet(source: Path, path: Path, seed: int) -> Path:
    """Copy a video, with random bytes in the middle of one packet."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(container.streams.video[0], opaque=True)
        for index, packet in enumerate(p for p in container.demux(video=0) if p.size):
            copy: Any = packet
            if index == BROKEN:
                data, count = bytearray(bytes(packet)), min(40, packet.size // 4)
                begin = len(data) // 2
                data[begin : begin + count] = Random(seed).randbytes(count)
                copy = av.Packet(bytes(data))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.duration, copy.is_keyframe = packet.duration, packet.is_keyframe
            copy.stream = stream
            output.mux(copy)
    return path


def damaged_frames(video: Path, threads: int) -> tuple[set[int], dict[str, int], str]:
    """Return the numbers of frames that are marked, the notes, and how it was decoded."""
    out = video.parent / f"out{len(list(video.parent.iterdir()))}"
    out.mkdir()
    extract(video, out, "v", EVERY, threads=threads)
    rows, meta = read_table(out / FRAMES_FILE).to_pylist(), read_meta(out / FRAMES_FILE)
    start = rows[0]["pts_time"]
    marked = {round((row["pts_time"] - start) * 25) for row in rows if row["damaged"]}
    return marked, meta["notes"], meta["decoding"]


@pytest.mark.parametrize(("codec", "suffix"), FILES)
def test_a_broken_packet_damages_its_frame_and_those_that_refer_to_it(
    codec: str, suffix: str, tmp_path: Path
) -> None:
    whole = make_moving(tmp_path / f"whole.{suffix}", codec, frames=60, gop=GOP, **CODECS[codec])
    assert damaged_frames(whole, 2)[:2] == (set(), {})
    for seed in range(2):
        video = with_broken_packet(whole, tmp_path / f"{seed}.{suffix}", seed)
        found = [damaged_frames(video, threads)[:2] for threads in (1, 2)]
        assert found[0] == found[1]  # also if several packets are decoded at once
        last = BROKEN if codec in INTRA else 2 * GOP - 1
        refused = found[0][1].get("refused_packets", 0)
        assert found[0][0] == set(range(BROKEN + refused, last + 1))
        assert found[0][1]["damaged_frames"] == last + 1 - BROKEN - refused


def test_a_plan_ends_if_the_decoder_reports_damage(tmp_path: Path) -> None:
    whole = make_moving(tmp_path / "whole.mkv", "mpeg2video", frames=60, gop=GOP)
    _, _, decoding = damaged_frames(whole, 2)
    assert decoding == "planned"
    video = with_broken_packet(whole, tmp_path / "a.mkv", 0)
    assert damaged_frames(video, 2)[2] == "everything, because the decoder reports damage"


@pytest.mark.parametrize("codec", ["mpeg4", "msmpeg4", "mjpeg", "ffv1", "libx264"])
def test_frames_after_lost_chunks_of_an_avi_are_shown_when_its_index_says(
    codec: str, tmp_path: Path
) -> None:
    whole = make_moving(tmp_path / "a.avi", codec, frames=60, gop=GOP, **CODECS.get(codec, {}))
    data = bytearray(whole.read_bytes())
    with av.open(str(whole)) as container:
        first, last = [p.pos for p in container.demux(video=0) if p.size][BROKEN : BROKEN + 6 : 5]
    assert first and last
    data[first - 8 : last - 8] = bytes(last - first)
    video = tmp_path / "b.avi"
    video.write_bytes(data)
    times = []
    for path in (whole, video):
        out = tmp_path / f"times-{path.stem}"
        out.mkdir()
        extract(path, out, "v", EVERY, threads=2)
        times.append([row["pts_time"] for row in read_table(out / FRAMES_FILE).to_pylist()])
    lost = range(BROKEN, 60 - len(times[1]) + BROKEN)
    assert 5 <= len(lost) <= 7
    assert times[1] == [time for index, time in enumerate(times[0]) if index not in lost]
    marked, notes, _ = damaged_frames(video, 2)
    assert notes["absent_frames"] + notes.get("refused_packets", 0) == len(lost)
    if codec not in INTRA:
        assert set(range(lost.stop, 2 * GOP)) <= marked


def test_only_errors_of_the_decoder_are_damage(tmp_path: Path) -> None:
    def tells(decoder: str, name: str, text: str) -> bool:
        return DecoderMessages(decoder, [(av.logging.ERROR, name, text)]).tell_damage()

    assert tells("ffv1", "ffv1", "slice CRC mismatch 39EBBB91!")
    assert not tells("ffv1", "swscaler", "something else")
    assert not tells("h264", "h264", "SEI type 195 size 888 truncated at 880")
    assert not tells("h264", "h264", "mmco: unref short failure")
    assert tells("mpeg2video", "mpeg2video", "invalid reference")
    level = av.logging.get_level()
    whole = make_moving(tmp_path / "a.mkv", "ffv1", frames=2)
    with av.open(str(whole)) as container:
        stream = container.streams.video[0]
        with decoder_messages(stream) as messages:
            for _ in range(2):
                av.logging.log(av.logging.ERROR, "ffv1", "the same")
                assert messages.tell_damage()  # although libav has logged the same before
            av.logging.log(av.logging.WARNING, "ffv1", "no error")
            assert not messages.tell_damage()
        assert av.logging.get_level() == level


@pytest.mark.parametrize(("codec", "pixels", "suffix"), SOUND)
def test_a_sound_video_is_not_damaged_whatever_its_decoder_says(
    tmp_path: Path, codec: str, pixels: str, suffix: str
) -> None:
    images = [np.full((144, 176, 3), 20 * index, np.uint8) for index in range(12)]
    for index, image in enumerate(images):
        image[40:80, 6 * index : 6 * index + 40] = (250, 120, 10)
    frames = [av.VideoFrame.from_ndarray(image, format="rgb24") for image in images]
    video = encode(tmp_path / f"a.{suffix}", frames, codec, pixels)
    got = Extracted(video, tmp_path / "out", strategy="interval", every_frames=1)
    assert (got.notes, len(got.images), got.warning) == ({}, 12, None)
