"""Colours through whole files: what encoders and containers say about them, and the table."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from numpy.typing import NDArray
from PIL import Image

from dataminer.stages.extract.picture.tone_mapping import declared_peak
from tests.support.drawn_colours import BT2020, HLG, PQ, hdr_signal, quantised, to_yuv, ycgco
from tests.support.patches import Extracted, encode, frame_of_planes, patch_error, patches_picture
from tests.support.real_time import leave_real_time

DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)"
HDR_NAMES = {PQ: "smpte2084", HLG: "arib-std-b67"}


def subsampled(planes: list[NDArray[Any]]) -> list[NDArray[Any]]:
    luma, *chroma = planes
    return [luma, *(np.ascontiguousarray(plane[::2, ::2]) for plane in chroma)]


def hdr_frames(transfer: int, white: float = 203.0) -> list[av.VideoFrame]:
    planes = subsampled(quantised(to_yuv(hdr_signal(transfer, white), BT2020), 10))
    return [frame_of_planes(planes, "yuv420p10le") for _ in range(3)]


def hdr_tags(transfer: int) -> dict[str, int]:
    return {
        "color_trc": transfer,
        "color_primaries": BT2020,
        "colorspace": BT2020,
        "color_range": 1,
    }


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("libx265", "mp4", {"x265-params": "log-level=none:crf=8"}),
        ("libx265", "mkv", {"x265-params": "log-level=none:crf=8"}),
        ("libx265", "ts", {"x265-params": "log-level=none:crf=8"}),
        ("libx264", "mov", {"crf": "4", "preset": "ultrafast"}),
        ("libsvtav1", "mp4", {"crf": "8", "preset": "12", "svtav1-params": "tune=0"}),
        ("ffv1", "mkv", {}),
    ],
)
def test_hdr_video_becomes_sdr(
    tmp_path: Path, transfer: int, codec: str, suffix: str, options: dict[str, str]
) -> None:
    video = encode(
        tmp_path / f"a.{suffix}",
        hdr_frames(transfer),
        codec,
        options=options,
        tags=hdr_tags(transfer),
    )
    got = Extracted(video, tmp_path / "out")
    assert patch_error(got.image) <= 12
    assert got.notes == {"tone_mapped": 1}
    assert got.warning is None
    assert got.row["transfer"] == HDR_NAMES[transfer]
    assert (got.row["primaries"], got.row["matrix"]) == ("bt2020", "bt2020nc")
    assert got.row["bit_depth"] == 10
    kept = Extracted(video, tmp_path / "kept", hdr="keep")
    assert patch_error(kept.image) > 30
    assert kept.row["transfer"] == HDR_NAMES[transfer]
    assert not kept.notes


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("libx265", "mp4", {"x265-params": "log-level=none:crf=8"}),
        ("libx265", "mkv", {"x265-params": "log-level=none:crf=8"}),
        ("prores_ks", "mov", {}),
    ],
)
def test_hdr_that_only_the_container_declares(
    tmp_path: Path, transfer: int, codec: str, suffix: str, options: dict[str, str]
) -> None:
    frames = hdr_frames(transfer)
    if codec == "prores_ks":
        planes = quantised(to_yuv(hdr_signal(transfer, 203.0), BT2020), 10)
        half = [planes[0], *(np.ascontiguousarray(plane[:, ::2]) for plane in planes[1:])]
        frames = [frame_of_planes(half, "yuv422p10le") for _ in range(3)]
    bare = encode(tmp_path / f"bare.{suffix}", frames, codec, options=options)
    video = tmp_path / f"a.{suffix}"
    with av.open(str(bare)) as source, av.open(str(video), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for name, value in hdr_tags(transfer).items():
            setattr(stream.codec_context, name, value)
        for packet in source.demux():
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    with av.open(str(video)) as container:
        assert next(container.decode(video=0)).color_trc == 2  # the decoder forgets it
    got = Extracted(video, tmp_path / "out")
    assert patch_error(got.image) <= 12
    assert got.notes == {"tone_mapped": 1}
    assert got.row["transfer"] == HDR_NAMES[transfer]


@pytest.mark.parametrize(
    ("parameters", "peak", "white"),
    [
        ("max-cll=1000,400", 1000, 203),
        ("max-cll=4000,400", 4000, 203),
        ("max-cll=100,50", 100, 100),
        (f"master-display={DISPLAY}L(40000000,50)", 4000, 203),
        (f"master-display={DISPLAY}L(1000000,50)", 100, 100),
    ],
    ids=["content 1000", "content 4000", "content 100", "display 4000", "display 100"],
)
def test_the_declared_peak_decides_about_highlights(
    tmp_path: Path, parameters: str, peak: float, white: float
) -> None:
    options = {"x265-params": f"log-level=none:crf=8:hdr10=1:{parameters}"}
    frames = hdr_frames(PQ, white)
    video = encode(tmp_path / "a.mp4", frames, "libx265", options=options, tags=hdr_tags(PQ))
    with av.open(str(video)) as container:
        assert declared_peak(next(container.decode(video=0))) == peak
    assert patch_error(Extracted(video, tmp_path / "out").image) <= 12


def test_the_mapping_is_the_same_for_every_frame(tmp_path: Path) -> None:
    """However bright the rest of the picture: otherwise it would flicker."""
    signal = hdr_signal(PQ)
    images = []
    for corner in (0.0, 1.0):
        signal = signal.copy()
        signal[-8:, -8:] = corner
        planes = subsampled(quantised(to_yuv(signal, BT2020), 10))
        frames = [frame_of_planes(planes, "yuv420p10le")]
        video = encode(tmp_path / f"{corner}.mkv", frames, "ffv1", tags=hdr_tags(PQ))
        images.append(Extracted(video, tmp_path / f"out{corner}").image[:100])
    assert np.array_equal(images[0], images[1])


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_a_rare_matrix_is_decoded_by_its_tag(tmp_path: Path, codec: str) -> None:
    planes = quantised(ycgco(patches_picture() / 255), 8)
    frames = [frame_of_planes(planes, "yuv444p")]
    options = {"crf": "4"} if codec == "libx264" else {}
    tags = {"colorspace": 8, "color_range": 1}
    video = encode(tmp_path / "a.mkv", frames, codec, options=options, tags=tags)
    got = Extracted(video, tmp_path / "out")
    assert patch_error(got.image) <= 3
    assert got.row["matrix"] == "ycgco"
    assert got.warning is None


@pytest.mark.parametrize(
    ("codec", "full"),
    [
        *(("libvpx-vp9", False), ("libsvtav1", False), ("libx265", False), ("mpeg2video", False)),
        *(("ffv1", True), ("libx264", True), ("mpeg4", True)),
    ],
)
def test_the_containers_range_counts_if_the_codec_says_none(
    tmp_path: Path, codec: str, full: bool
) -> None:
    planes = quantised(to_yuv(patches_picture() / 255, 6), 8, full=full)
    frames = [frame_of_planes(subsampled(planes), "yuv420p") for _ in range(3)]
    options = {"crf": "4", "qscale": "1", "x265-params": "log-level=none:crf=4"}
    plain = encode(tmp_path / "plain.mkv", frames, codec, options=options)
    if codec == "libsvtav1":
        leave_real_time()
    video = tmp_path / "a.mkv"
    copy = ["ffmpeg", "-v", "error", "-i", str(plain), "-c", "copy", "-color_range", "pc"]
    subprocess.run([*copy, str(video)], check=True)
    with av.open(str(video)) as container:
        assert container.streams.video[0].codec_context.color_range == 2 or codec == "mpeg2video"
    got = Extracted(video, tmp_path / "out")
    assert patch_error(got.image) <= 6
    assert not got.notes


@pytest.mark.parametrize("matrix", [3, 18, 77])
def test_a_reserved_matrix_of_h264_counts_as_no_tag(tmp_path: Path, matrix: int) -> None:
    frame = av.VideoFrame.from_ndarray(patches_picture(1280, 720), format="rgb24")
    tags = {"colorspace": 1, "color_range": 1}
    options = {"crf": "4"}
    frames = [frame.reformat(format="yuv420p")]
    plain = encode(tmp_path / "plain.mp4", frames, "libx264", options=options, tags=tags)
    images = []
    for number in (2, matrix):
        video = tmp_path / f"{number}.mp4"
        change = ["-bsf:v", f"h264_metadata=matrix_coefficients={number}"]
        copy = ["ffmpeg", "-v", "error", "-i", str(plain), "-c", "copy", *change, str(video)]
        subprocess.run(copy, check=True)
        got = Extracted(video, tmp_path / f"out{number}")
        assert got.row["matrix"] is None
        assert not got.notes
        images.append(got.image)
    assert np.array_equal(images[0], images[1])


def test_a_rare_matrix_beside_transparency(tmp_path: Path) -> None:
    planes = quantised(ycgco(patches_picture() / 255), 8)
    opacity = np.full_like(planes[0], 255)
    opacity[:60] = 0
    frames = [frame_of_planes([*planes, opacity], "yuva444p")]
    video = encode(tmp_path / "a.mkv", frames, "ffv1", tags={"colorspace": 8, "color_range": 1})
    got = Extracted(video, tmp_path / "out")
    assert not got.image[:60].any()
    assert got.image[70:].any()
    assert (got.row["matrix"], got.notes) == ("ycgco", {"flattened": 1})


def test_a_rare_matrix_that_cannot_be_right_is_said(tmp_path: Path) -> None:
    frames = [
        av.VideoFrame.from_ndarray(patches_picture(), format="rgb24").reformat(format="yuv420p")
        for _ in range(3)
    ]
    options = {"crf": "4"}
    video = encode(tmp_path / "a.mp4", frames, "libx264", options=options, tags={"colorspace": 10})
    for strategy in ("time", "scene"):
        got = Extracted(video, tmp_path / strategy, strategy=strategy)
        assert patch_error(got.image) <= 3
        assert got.row["matrix"] == "bt2020c"
        assert got.warning == "1 frame has a colour matrix that was assumed"


@pytest.mark.parametrize(
    ("codec", "pixels", "suffix", "bits"),
    [
        ("prores_ks", "yuva444p10le", "mov", 12),
        ("qtrle", "argb", "mov", 8),
        ("png", "rgba", "mov", 8),
        ("ffv1", "bgra", "mkv", 8),
        ("ffv1", "yuva420p", "mkv", 8),
        ("utvideo", "gbrap", "avi", 8),
        ("gif", "pal8", "gif", 8),
    ],
)
def test_transparent_video_shows_black(
    tmp_path: Path, codec: str, pixels: str, suffix: str, bits: int
) -> None:
    rgba = np.dstack([patches_picture(), np.full((120, 160), 255, np.uint8)])
    opaque = encode_rgba(tmp_path / f"opaque.{suffix}", rgba, codec, pixels)
    got = Extracted(opaque, tmp_path / "opaque")
    assert patch_error(got.image) <= 4
    assert "flattened" not in got.notes
    rgba[:60, :, 3] = 0
    clear = encode_rgba(tmp_path / f"clear.{suffix}", rgba, codec, pixels)
    got = Extracted(clear, tmp_path / "clear")
    assert not got.image[4:56].any()
    assert got.image[70:].any()
    assert got.notes == {"flattened": 1}
    assert got.row["bit_depth"] == bits


def encode_rgba(path: Path, rgba: NDArray[np.uint8], codec: str, pixels: str) -> Path:
    if codec == "gif":
        images = [Image.fromarray(rgba, "RGBA") for _ in range(2)]
        images[0].save(path, save_all=True, append_images=images[1:], duration=100, disposal=2)
        return path
    frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pixels)
    return encode(path, [frame], codec, pixels)


@pytest.mark.parametrize(
    ("codec", "pixels", "suffix"),
    [
        ("rawvideo", "rgb24", "nut"),
        ("qtrle", "rgb24", "mov"),
        ("libx264rgb", "bgr24", "mp4"),
        ("ffv1", "gbrp10le", "mkv"),
        ("ffv1", "rgb48le", "mkv"),
        ("v210", "yuv422p10le", "mov"),
        ("mjpeg", "yuvj420p", "avi"),
        ("mjpeg", "yuvj444p", "mov"),
        ("libx264", "yuvj420p", "mp4"),
        ("dnxhd", "yuv422p10le", "mov"),
        ("rawvideo", "uyvy422", "mov"),
        ("rawvideo", "yuv410p", "nut"),
        ("huffyuv", "yuv422p", "avi"),
    ],
)
def test_formats_and_ranges_through_files(
    tmp_path: Path, codec: str, pixels: str, suffix: str
) -> None:
    size = (1280, 720) if codec == "dnxhd" else (160, 120)
    picture = patches_picture(*size)
    matrix = Colorspace.ITU709 if codec == "dnxhd" else Colorspace.ITU601  # as the header says
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame = frame.reformat(format=pixels, dst_colorspace=matrix)
    lossy = {"crf": "1"} if codec.startswith("libx264") else {"qscale": "1"}
    options = {"profile": "dnxhr_hqx"} if codec == "dnxhd" else lossy
    video = encode(tmp_path / f"a.{suffix}", [frame], codec, pixels, options=options)
    got = Extracted(video, tmp_path / "out")
    assert patch_error(got.image) <= 5
    assert not got.notes


def test_bars_are_found_after_the_file_is_cropped_and_squared(tmp_path: Path) -> None:
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[:, 20:140] = cv2.resize(patches_picture(), (120, 120), interpolation=0)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    got = Extracted(tmp_path / "a.mp4", tmp_path / "out", crop_borders=True)
    assert abs(got.row["width"] - 240) <= 4
    assert got.row["height"] == 120
    assert patch_error(got.image) <= 6
