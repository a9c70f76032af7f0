"""Interlaced frames: combs are found and deinterlaced; everything else stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dataminer.stages.extract.picture.combs import shows_combs
from dataminer.stages.extract.picture.deinterlacing import Deinterlacer
from tests.support.patches import Extracted, encode, patches_picture

WIDTH, HEIGHT = 320, 240
Picture = NDArray[np.float32]


def texture(seed: int, width: int, height: int, spread: float) -> Picture:
    chance = np.random.default_rng(seed)
    coarse = cv2.GaussianBlur(chance.normal(128, spread * 4, (height, width)), (0, 0), 5)
    fine = cv2.GaussianBlur(chance.normal(0, spread, (height, width)), (0, 0), 1.5)
    return np.asarray(np.clip(coarse + fine, 0, 255), np.float32)


BACKGROUND = texture(1, WIDTH + 100, HEIGHT, 40)
OTHER = texture(2, WIDTH, HEIGHT, 40)
OBJECT = np.clip(texture(3, 70, 60, 60) + 60, 0, 255)
FLAT = np.full((HEIGHT, WIDTH), 60, np.float32)


def scene(right: int = 0, down: int = 0, pan: int = 0) -> Picture:
    image = BACKGROUND[:, pan : pan + WIDTH].copy()
    image[60 + down : 120 + down, 80 + right : 150 + right] = OBJECT
    return image


def box(right: int = 0, down: int = 0) -> Picture:
    image = FLAT.copy()
    image[60 + down : 120 + down, 80 + right : 150 + right] = 200
    return image


def woven(first: Picture, second: Picture) -> Picture:
    image = first.copy()
    image[1::2] = second[1::2]
    return image


def noisy(image: Picture, spread: float) -> NDArray[np.uint8]:
    noise = np.random.default_rng(9).normal(0, spread, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def with_lines(light: float, dark: float, image: Picture) -> Picture:
    image = image.copy()
    image[100:160:2, 50:200] = light
    image[101:160:2, 50:200] = dark
    return image


def darker_lines() -> Picture:
    image = scene()
    image[1::2] *= 0.5
    return image


def page() -> Picture:
    image = np.full((HEIGHT, WIDTH), 235, np.uint8)
    for line in range(14):
        cv2.putText(image, "The quick brown fox 0123456789", (5, 14 + 16 * line), 0, 0.4, 10, 1)
    return image.astype(np.float32)


def staves() -> Picture:
    image = np.full((HEIGHT, WIDTH), 235, np.float32)
    for line in range(5):
        image[100 + 2 * line] = 20
    return image


def rings() -> Picture:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray(128 + 127 * np.cos((x**2 + y**2) / 400), np.float32)


def checkered() -> Picture:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.where((x + y) % 2, 200, 40).astype(np.float32)


MOTION: dict[str, Callable[[], Picture]] = {
    "to the right": lambda: woven(scene(), scene(6)),
    "fast": lambda: woven(scene(), scene(40)),
    "pan": lambda: woven(scene(), scene(pan=8)),
    "fast pan": lambda: woven(scene(), scene(pan=30)),
    "cut": lambda: woven(scene(), OTHER),
    "box to the right": lambda: woven(box(), box(6)),
    "box slowly": lambda: woven(box(), box(3)),
    "box fast": lambda: woven(box(), box(40)),
    "box down": lambda: woven(box(), box(0, 6)),
    "box down fast": lambda: woven(box(), box(0, 14)),
    "box aslant": lambda: woven(box(), box(7, 5)),
    "lines elsewhere": lambda: with_lines(220, 30, woven(box(0, -50), box(6, -50))),
}
STILL: dict[str, Callable[[], Picture]] = {
    "scene": scene,
    "box": box,
    "lines": lambda: with_lines(220, 30, scene()),
    "lines on a plain": lambda: with_lines(220, 60, FLAT),
    "lines all over": lambda: woven(FLAT, FLAT + 120),
    "every other line darker": darker_lines,
    "page of text": page,
    "staves": staves,
    "rings": rings,
    "checkered": checkered,
    "noise": lambda: np.asarray(noisy(FLAT + 68, 40), np.float32),
}


@pytest.mark.parametrize("noise", [0, 2, 5])
@pytest.mark.parametrize("name", MOTION)
def test_fields_of_different_moments_show_combs(name: str, noise: float) -> None:
    assert shows_combs(noisy(MOTION[name](), noise))


@pytest.mark.parametrize("noise", [0, 2, 5])
@pytest.mark.parametrize("name", STILL)
def test_a_still_picture_shows_none(name: str, noise: float) -> None:
    assert not shows_combs(noisy(STILL[name](), noise))


@pytest.mark.parametrize("size", [(16, 16), (20, 31), (1, 1), (640, 32)])
def test_any_size_is_examined(size: tuple[int, int]) -> None:
    width, height = size
    lines = np.zeros((height, width), np.uint8)
    lines[::2] = 200
    assert not shows_combs(lines)


def coloured_box(left: int) -> NDArray[np.uint8]:
    image = np.full((HEIGHT, WIDTH, 3), (40, 60, 160), np.uint8)
    image[60:140, left : left + 70] = (230, 200, 40)
    return image


def interlaced_frame(first: NDArray[np.uint8], second: NDArray[np.uint8], pixels: str) -> Any:
    """Weave two pictures, each of which is subsampled on its own, as cameras do."""
    fields = [
        av.VideoFrame.from_ndarray(np.ascontiguousarray(image[line::2]), format="rgb24").reformat(
            format=pixels
        )
        for line, image in enumerate((first, second))
    ]
    frame = av.VideoFrame(WIDTH, HEIGHT, pixels)
    for plane, *parts in zip(frame.planes, *(field.planes for field in fields), strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        for line, part in enumerate(parts):
            data = np.frombuffer(part, np.uint8).reshape(part.height, part.line_size)
            size = min(part.line_size, plane.line_size)
            rows[line::2, :size] = data[:, :size]
        plane.update(rows.tobytes())
    return frame


PIXELS = ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "nv12", "gray"]


@pytest.mark.parametrize("pixels", PIXELS)
def test_one_field_is_kept_and_the_other_interpolated(pixels: str) -> None:
    frame = interlaced_frame(coloured_box(100), coloured_box(106), pixels)
    frame.colorspace, frame.color_range = 6, 1
    deinterlacer = Deinterlacer()
    assert deinterlacer.is_combed(frame)
    result = deinterlacer.deinterlaced(frame)
    assert (result.colorspace, result.color_range) == (6, 1)
    reformatter = VideoReformatter()
    image = reformatter.reformat(result, format="bgr24").to_ndarray().astype(int)
    moments = []
    for left in (100, 106):
        whole = av.VideoFrame.from_ndarray(coloured_box(left), format="rgb24")
        whole = whole.reformat(format=pixels)
        whole.colorspace, whole.color_range = 6, 1
        truth = VideoReformatter().reformat(whole, format="bgr24").to_ndarray().astype(int)
        moments.append(float(np.abs(image - truth)[64:136].mean()))
    assert min(moments) < 1 < max(moments)
    assert not deinterlacer.is_combed(result)


def clip(path: Path, codec: str, frames: list[Any], pixels: str, bottom_first: bool) -> Path:
    parity = "bff" if bottom_first else "tff"
    options = {
        "libx264": {"x264-params": f"{parity}=1", "crf": "10"},
        "mpeg2video": {"flags": "+ildct+ilme", "qscale": "2", "b": "8M"},
        "prores_ks": {"flags": "+ildct"},
    }
    return encode(path, frames, codec, pixels, options=options[codec])


CODECS = [
    ("libx264", "mp4", "yuv420p"),
    ("libx264", "ts", "yuv420p"),
    ("libx264", "mkv", "yuv420p10le"),
    ("mpeg2video", "mpg", "yuv420p"),
    ("mpeg2video", "ts", "yuv422p"),
    ("prores_ks", "mov", "yuv422p10le"),
]


@pytest.mark.parametrize(("codec", "suffix", "pixels"), CODECS)
@pytest.mark.parametrize("bottom_first", [False, True], ids=["top", "bottom"])
def test_interlaced_video_is_deinterlaced_and_said(
    tmp_path: Path, codec: str, suffix: str, pixels: str, bottom_first: bool
) -> None:
    frames = [
        interlaced_frame(coloured_box(20 + 12 * i), coloured_box(26 + 12 * i), pixels)
        for i in range(8)
    ]
    video = clip(tmp_path / f"a.{suffix}", codec, frames, pixels, bottom_first)
    got = Extracted(video, tmp_path / "out", strategy="interval", every_frames=2)
    assert got.notes == {"deinterlaced": 4}
    assert got.warning is None
    assert all(row["deinterlaced"] for row in got.rows)
    for index, image in enumerate(got.images):
        row = image[100].astype(int)
        columns = np.flatnonzero(row[:, 2] > row[:, 0])
        assert columns[0] in range(20 + 24 * index - 2, 20 + 24 * index + 9)
        assert not shows_combs(image[..., 1])


@pytest.mark.parametrize(("codec", "suffix", "pixels"), CODECS)
def test_what_is_only_flagged_stays_as_it_is(
    tmp_path: Path, codec: str, suffix: str, pixels: str
) -> None:
    still = patches_picture(WIDTH, HEIGHT)
    still[180:] = np.asarray(page()[:60, :, np.newaxis], np.uint8)
    frames = [
        av.VideoFrame.from_ndarray(still, format="rgb24").reformat(format=pixels) for _ in range(4)
    ]
    video = clip(tmp_path / f"a.{suffix}", codec, frames, pixels, bottom_first=False)
    got = Extracted(video, tmp_path / "out", strategy="interval", every_frames=1)
    assert not got.notes
    assert not any(row["deinterlaced"] for row in got.rows)
    with av.open(str(video)) as container:
        for image, frame in zip(got.images, container.decode(video=0), strict=True):
            assert frame.interlaced_frame
            plain = VideoReformatter().reformat(frame, format="bgr24", threads=1).to_ndarray()
            assert np.array_equal(image, plain)


def test_progressive_video_is_never_examined(tmp_path: Path) -> None:
    frames = [
        av.VideoFrame.from_ndarray(
            np.repeat(np.asarray(MOTION["fast pan"](), np.uint8)[..., np.newaxis], 3, 2),
            format="rgb24",
        )
    ]
    video = encode(tmp_path / "a.mkv", frames, "ffv1", "bgr0")
    assert not Extracted(video, tmp_path / "out").notes
