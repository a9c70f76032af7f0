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
from dataminer.video.opening import open_video
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


def text(size: float, spacing: int) -> Picture:
    image = np.full((2 * HEIGHT, 2 * WIDTH), 235, np.uint8)
    for line in range(2 * HEIGHT // spacing):
        words = "The quick brown fox 0123456789 " * 3
        cv2.putText(image, words, (5, spacing * (line + 1)), 0, size, 10, 1, cv2.LINE_AA)
    return image.astype(np.float32)


Y, X = np.mgrid[: 2 * HEIGHT, : 2 * WIDTH]
LINES = {
    "staves": np.where(Y % 40 < 10, np.where(Y % 2, 235, 20), 235).astype(np.float32),
    "ruled": np.where(Y % 4, 220, 30).astype(np.float32),
    "blinds": np.where(Y % 6 < 3, 60, 190).astype(np.float32),
    "slanted": np.where((X + 7 * Y) % 23 < 3, 30, 220).astype(np.float32),
    "rings": np.asarray(
        128 + 127 * np.cos(((X - WIDTH) ** 2 + (Y - HEIGHT) ** 2) / 400), np.float32
    ),
    "ripples": np.asarray(128 + 90 * np.sin(Y * 1.3 + 8 * np.sin(X * 0.02)), np.float32),
    "moire": np.asarray(128 + 100 * np.sign(np.sin(X * 2.9) * np.sin(Y * 3.0)), np.float32),
    "checkered": np.where((X + Y) % 2, 200, 40).astype(np.float32),
    "woven": np.where((X // 2 + Y) % 2, 200, 40).astype(np.float32),
    "text": text(0.4, 16),
    "small text": text(0.3, 11),
}
Moments = Callable[[int], Picture]
"""What is there to be seen at each field's time."""


def panned(image: Picture, right: int, down: int) -> Moments:
    def moment(time: int) -> Picture:
        left, top = WIDTH // 2 + right * time, HEIGHT // 2 + down * time
        return image[top : top + HEIGHT, left : left + WIDTH]

    return moment


def moving(draw: Callable[..., Picture], right: int, down: int) -> Moments:
    return lambda time: draw(right * time, down * time)


def changing(before: Picture, after: Picture, at: int) -> Moments:
    return lambda time: before if time < at else after


def lit(time_lit: int, fields: int, rows: slice, columns: slice) -> Moments:
    def moment(time: int) -> Picture:
        image = scene()
        if time_lit <= time < time_lit + fields:
            image[rows, columns] = np.minimum(image[rows, columns] + 110, 255)
        return image

    return moment


def fading(image: Picture) -> Moments:
    levels = np.arange(2, 11, dtype=np.float32) / 12
    return lambda time: image[:HEIGHT, :WIDTH] * levels[time + 4]


def flashing(image: Picture) -> Moments:
    lit, unlit = np.minimum(image * np.float32(1.2), 255), image * np.float32(0.9)
    return lambda time: lit if time in (0, 1) else unlit


def turning_into(before: Picture, after: Picture) -> Moments:
    return lambda time: np.asarray(before + (after - before) * (4 + time) / 9, np.float32)


def with_ticker(background: Moments) -> Moments:
    strip = np.full((26, 2 * WIDTH), 30, np.uint8)
    words = "BREAKING NEWS 12345 market up again " * 2
    cv2.putText(strip, words, (5, 19), 0, 0.6, 230, 1, cv2.LINE_AA)

    def moment(time: int) -> Picture:
        image, left = background(time).copy(), 100 + 4 * time
        image[200:226] = strip[:, left : left + WIDTH]
        return image

    return moment


def film(moments: Moments) -> Moments:
    """Return what changes with every frame, not with every field."""
    return lambda time: moments(time // 2 * 2)


def interlaced(moments: Moments, *, bottom_first: bool = False) -> list[Picture]:
    frames = []
    for time in (-2, 0, 2):
        image = moments(time + bottom_first).copy()
        image[1::2] = moments(time + (not bottom_first))[1::2]
        frames.append(image)
    return frames


def progressive(moments: Moments) -> list[Picture]:
    return [moments(time) for time in (-2, 0, 2)]


def combed(frames: list[Picture], noise: float = 0) -> bool:
    chance = np.random.default_rng(9)
    noisy = [
        np.clip(image + chance.normal(0, noise, image.shape), 0, 255).astype(np.uint8)
        for image in frames
    ]
    return shows_combs(noisy[1], noisy[0], noisy[2])


EVERYWHERE, LAMP = slice(None), (slice(60, 80), slice(80, 104))
MOTION: dict[str, Moments] = {
    "to the right": moving(scene, 6, 0),
    "fast": moving(scene, 40, 0),
    "box to the right": moving(box, 6, 0),
    "box slowly": moving(box, 3, 0),
    "box fast": moving(box, 40, 0),
    "box down": moving(box, 0, 6),
    "box down slowly": moving(box, 0, 3),
    "box down fast": moving(box, 0, 14),
    "box aslant": moving(box, 7, 5),
    "pan": lambda time: scene(pan=8 * time + 40),
    "fast pan": lambda time: scene(pan=16 * time + 40),
    "rings": panned(LINES["rings"], 6, 0),
    "text": panned(LINES["text"], 6, 0),
    "fast text": panned(LINES["text"], 20, 0),
    "text that rolls": panned(LINES["text"], 0, 4),
    "slanted lines": panned(LINES["slanted"], 3, 2),
    "cut between fields": changing(scene(), OTHER, 1),
    "caption between fields": changing(LINES["text"][:HEIGHT, :WIDTH], OTHER, 1),
    "flash in the first field": lit(0, 1, EVERYWHERE, EVERYWHERE),
    "flash in the second field": lit(1, 1, EVERYWHERE, EVERYWHERE),
    "small lamp": lit(1, 1, *LAMP),
    "small lamp for longer": lit(1, 2, *LAMP),
}
INTERLACED_MOTION = MOTION | {
    "fade": fading(scene()),
    "cross-fade": turning_into(scene(), OTHER),
    "ticker": with_ticker(lambda _: scene()),
    "ticker over a page": with_ticker(lambda _: LINES["small text"][:HEIGHT, :WIDTH]),
    "ticker over lines": with_ticker(lambda _: LINES["ruled"][:HEIGHT, :WIDTH]),
    "ticker over film": with_ticker(film(lambda time: np.roll(scene(), 3 * time, 1))),
}
PROGRESSIVE_MOTION = MOTION | {
    f"{name} {right}, {down}": panned(image, right, down)
    for name, image in LINES.items()
    for right, down in ((0, 0), (1, 0), (6, 0), (0, 1), (0, 2), (0, 3), (3, 2))
    # lines as close as those of one field: what moves up or down looks like a flash in it
    if not down or name not in ("staves", "moire")
}
PROGRESSIVE_LIGHT = {f"fade of {name}": fading(image) for name, image in LINES.items()}
PROGRESSIVE_LIGHT |= {
    f"scene turning into {name}": turning_into(scene(), image[:HEIGHT, :WIDTH])
    for name, image in LINES.items()
}
PROGRESSIVE_LIGHT |= {
    f"flash on {name}": flashing(image[:HEIGHT, :WIDTH]) for name, image in LINES.items()
}
PROGRESSIVE_MOTION["ticker"] = with_ticker(lambda _: scene())


@pytest.mark.parametrize("noise", [0, 2, 5])
@pytest.mark.parametrize("bottom_first", [False, True], ids=["top", "bottom"])
@pytest.mark.parametrize("name", INTERLACED_MOTION)
def test_fields_of_different_moments_show_combs(
    name: str, bottom_first: bool, noise: float
) -> None:
    assert combed(interlaced(INTERLACED_MOTION[name], bottom_first=bottom_first), noise)


@pytest.mark.parametrize("noise", [0, 2, 5, 12])
@pytest.mark.parametrize("name", PROGRESSIVE_MOTION)
def test_whole_frames_show_none(name: str, noise: float) -> None:
    assert not combed(progressive(PROGRESSIVE_MOTION[name]), noise)


@pytest.mark.parametrize("noise", [0, 2, 5])
@pytest.mark.parametrize("name", PROGRESSIVE_LIGHT)
def test_brightness_that_changes_is_no_motion(name: str, noise: float) -> None:
    assert not combed(progressive(PROGRESSIVE_LIGHT[name]), noise)


@pytest.mark.parametrize("noise", [0, 5, 12, 25])
def test_noise_is_no_motion(noise: float) -> None:
    assert not combed([FLAT + 68] * 3, noise)
    assert not combed([scene()] * 3, noise)


def test_telecine_is_combed_in_two_of_five_frames() -> None:
    film = [scene(12 * time) for time in range(5)]
    fields = [film[index] for index in (0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4)]
    frames = []
    for first, second in zip(fields[::2], fields[1::2], strict=True):
        frames.append(first.copy())
        frames[-1][1::2] = second[1::2]
    found = [combed(frames[index - 1 : index + 2]) for index in range(1, 5)]
    assert found == [False, True, True, False]


def test_one_neighbour_is_enough_and_none_is_not() -> None:
    before, frame, after = (image.astype(np.uint8) for image in interlaced(MOTION["pan"]))
    assert shows_combs(frame, before, None)
    assert shows_combs(frame, None, after)
    assert not shows_combs(frame, None, None)
    whole = [image.astype(np.uint8) for image in progressive(MOTION["pan"])]
    assert not shows_combs(whole[1], whole[0], None)
    assert not shows_combs(whole[1], None, whole[2])


@pytest.mark.parametrize("size", [(16, 16), (20, 31), (1, 1), (640, 32), (17, 33)])
def test_any_size_is_examined(size: tuple[int, int]) -> None:
    width, height = size
    lines = np.zeros((height, width), np.uint8)
    lines[::2] = 200
    assert not shows_combs(lines, 200 - lines, lines)


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


@pytest.mark.parametrize("parity", ["tff", "bff"])
@pytest.mark.parametrize("pixels", PIXELS)
def test_one_field_is_kept_and_the_other_interpolated(pixels: str, parity: str) -> None:
    boxes = [coloured_box(left) for left in range(88, 119, 6)]
    order = slice(None, None, 1 if parity == "tff" else -1)
    pairs = [boxes[time : time + 2][order] for time in (0, 2, 4)]
    frames = [interlaced_frame(upper, lower, pixels) for upper, lower in pairs]
    before, frame, after = frames[0], frames[1], frames[2]
    frame.colorspace, frame.color_range = 6, 1
    deinterlacer = Deinterlacer()
    assert deinterlacer.is_combed(frame, (before, after))
    result = deinterlacer.deinterlaced(frame, parity)
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
    assert moments[0] < 1 < moments[1]
    before, after = (deinterlacer.deinterlaced(other, parity) for other in (before, after))
    assert not deinterlacer.is_combed(result, (before, after))


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
    for before, image, after in zip(got.images, got.images[1:], got.images[2:], strict=False):
        assert not shows_combs(image[..., 1], before[..., 1], after[..., 1])


@pytest.mark.parametrize(("codec", "suffix", "pixels"), CODECS)
def test_a_frame_is_the_same_whether_all_are_selected_or_few(
    tmp_path: Path, codec: str, suffix: str, pixels: str
) -> None:
    boxes = [coloured_box(20 + 3 * time) for time in range(60)]
    frames = [interlaced_frame(boxes[time], boxes[time + 1], pixels) for time in range(0, 60, 2)]
    video = clip(tmp_path / f"a.{suffix}", codec, frames, pixels, bottom_first=False)
    every = Extracted(video, tmp_path / "all", strategy="interval", every_frames=1)
    assert every.notes == {"deinterlaced": 30}
    few = Extracted(video, tmp_path / "few", strategy="interval", every_frames=7)
    assert few.notes == {"deinterlaced": 5}
    if codec == "libx264":
        assert few.meta["decoding"] == "planned"
    for image, same in zip(few.images, every.images[::7], strict=True):
        assert np.array_equal(image, same)
    limited = Extracted(
        video, tmp_path / "limited", every_frames=7, strategy="interval", max_frames=2
    )
    assert np.array_equal(limited.images[-1], every.images[7])


DECLARED = [
    ("mjpeg", "yuvj422p", "mov"),
    ("mjpeg", "yuvj422p", "mkv"),
    ("png", "rgb24", "mov"),
    ("jpeg2000", "yuv422p", "mov"),
    ("qtrle", "rgb24", "mov"),
]


@pytest.mark.parametrize(("codec", "pixels", "suffix"), DECLARED)
@pytest.mark.parametrize(("order", "first"), [("tt", 0), ("bb", 1)])
def test_the_file_may_say_that_fields_are_interlaced(
    tmp_path: Path, codec: str, pixels: str, suffix: str, order: str, first: int
) -> None:
    boxes = [coloured_box(20 + 6 * time) for time in range(12)]
    pairs = [boxes[time : time + 2][:: -1 if first else 1] for time in range(0, 12, 2)]
    frames = [interlaced_frame(upper, lower, pixels) for upper, lower in pairs]
    options = {"field_order": order}
    video = encode(tmp_path / f"a.{suffix}", frames, codec, pixels, options=options)
    got = Extracted(video, tmp_path / "out", strategy="interval", every_frames=1)
    assert got.notes == {"deinterlaced": 6}
    for index, image in enumerate(got.images):
        row = image[100].astype(int)
        left = int(np.flatnonzero(row[:, 2] > row[:, 0])[0])
        assert abs(left - (20 + 12 * index)) <= 1
    plain = encode(tmp_path / f"b.{suffix}", frames, codec, pixels)
    assert not Extracted(plain, tmp_path / "plain", strategy="interval", every_frames=1).notes


@pytest.mark.parametrize(("codec", "suffix", "pixels"), CODECS)
def test_what_is_only_flagged_stays_as_it_is(
    tmp_path: Path, codec: str, suffix: str, pixels: str
) -> None:
    still = patches_picture(WIDTH, HEIGHT)
    still[180:] = np.asarray(text(0.4, 16)[:60, :WIDTH, np.newaxis], np.uint8)
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
            np.repeat(np.asarray(image, np.uint8)[..., np.newaxis], 3, 2), format="rgb24"
        )
        for image in interlaced(MOTION["fast pan"])
    ]
    video = encode(tmp_path / "a.mkv", frames, "ffv1", "bgr0")
    got = Extracted(video, tmp_path / "out", strategy="interval", every_frames=1)
    assert not got.notes


def test_threads_change_nothing_in_interlaced_mpeg4(tmp_path: Path) -> None:
    frames = []
    for time in range(0, 48, 2):
        image = scene(2 * time, pan=time)
        image[1::2] = scene(2 * time + 2, pan=time + 1)[1::2]
        grey = av.VideoFrame.from_ndarray(np.asarray(image, np.uint8), format="gray")
        frames.append(grey.reformat(format="yuv420p"))
    options = {"flags": "+ildct+ilme", "bf": "2", "qscale": "3", "b": "8M"}
    video = encode(tmp_path / "a.mp4", frames, "mpeg4", options=options)
    decoded = []
    for threads in (1, 4):
        with open_video(video, threads) as (container, stream):
            decoded.append(np.stack([frame.to_ndarray() for frame in container.decode(stream)]))
    assert len(decoded[0]) == len(frames)
    assert np.array_equal(decoded[0], decoded[1])
