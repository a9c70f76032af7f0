"""Geometry of frames: cropping, square pixels and rotation, in the order of players."""

from __future__ import annotations

import io
import itertools
import random
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dataminer.errors import ErrorClass, PermanentError
from dataminer.video.containers.clean_aperture import read_clean_aperture
from dataminer.video.containers.pixel_crop import read_pixel_crop
from dataminer.video.display.frame_ratio import ratio_of_frame
from dataminer.video.display.geometry import plausible_ratio
from dataminer.video.info import probe
from tests.support.cropped import add_clean_aperture, add_pixel_aspect, add_pixel_crop
from tests.support.patches import Extracted, patch_error, patches_picture

SIZE = WIDTH, HEIGHT = 160, 120
CENTRED = (120, 1, 80, 1, 0, 1, 0, 1)  # a clean aperture of 120x80


def ellipse(ratio: Fraction) -> NDArray[np.uint8]:
    """Draw what is a circle once pixels of this aspect ratio are square."""
    image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    axes = (round(36 / ratio), 36) if ratio > 1 else (36, round(36 * ratio))
    cv2.ellipse(image, (WIDTH // 2, HEIGHT // 2), axes, 0, 0, 360, (220, 220, 220), -1)
    return image


def clip(
    path: Path,
    image: NDArray[np.uint8],
    ratio: Fraction | None = None,
    turned: int = 0,
    length: int = 3,
) -> Path:
    frames = [av.VideoFrame.from_ndarray(image, format="rgb24") for _ in range(length)]
    codec = "mpeg2video" if path.suffix in (".mpg", ".vob") else "libx264"
    settings = {"sample_aspect_ratio": ratio} if ratio else {}
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=25, options={"crf": "4", "qscale": "2"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        stream.codec_context.max_b_frames = 0  # or AVI says not when frames are shown
        if turned:
            stream.set_display_rotation(-turned)
        for frame in frames:
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def shape_of_bright(image: NDArray[np.uint8]) -> tuple[int, int]:
    """Return width and height of what is bright."""
    rows, columns = np.nonzero(image[..., 1] > 130)
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


@pytest.mark.parametrize(
    ("suffix", "ratio"),
    [
        *itertools.product(("mp4", "mkv", "ts"), (Fraction(16, 11), Fraction(2), Fraction(3, 4))),
        *itertools.product(("mov", "mpg", "avi"), (Fraction(4, 3),)),  # MPEG-2 has few ratios
    ],
)
def test_a_circle_is_a_circle(tmp_path: Path, suffix: str, ratio: Fraction) -> None:
    video = clip(tmp_path / f"a.{suffix}", ellipse(ratio), ratio)
    got = Extracted(video, tmp_path / "out")
    width, height = shape_of_bright(got.image)
    assert abs(width - height) <= 2
    larger = (round(WIDTH * ratio), HEIGHT) if ratio > 1 else (WIDTH, round(HEIGHT / ratio))
    assert (got.row["width"], got.row["height"]) == larger
    assert got.row["sample_aspect_ratio"] == f"{ratio.numerator}:{ratio.denominator}"
    assert got.notes == {"squared": 1}
    assert got.warning is None
    assert (got.meta["video"]["width"], got.meta["video"]["height"]) == larger
    info = probe(video)
    assert (info.width, info.height) == larger
    stored = Extracted(video, tmp_path / "stored", geometry="stored")
    assert (stored.row["width"], stored.row["height"]) == SIZE
    assert stored.row["sample_aspect_ratio"] == f"{ratio.numerator}:{ratio.denominator}"
    assert not stored.notes


def test_square_pixels_are_not_mentioned(tmp_path: Path) -> None:
    for ratio in (None, Fraction(1)):
        video = clip(tmp_path / f"{ratio}.mp4".replace("/", "_"), patches_picture(), ratio)
        got = Extracted(video, tmp_path / f"out{ratio}")
        assert got.row["sample_aspect_ratio"] is None
        assert not got.notes
        assert got.image.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("ratio", "plausible"),
    [
        (Fraction(0), 1),
        (None, 1),
        (Fraction(1, 1000), 1),
        (Fraction(9), 1),
        (Fraction(8), 8),
        (Fraction(1, 8), Fraction(1, 8)),
        (Fraction(-4, 3), 1),
    ],
)
def test_absurd_ratios_are_ignored(ratio: Fraction | None, plausible: Fraction) -> None:
    assert plausible_ratio(ratio) == plausible


def test_the_containers_ratio_counts_more_than_the_codecs(tmp_path: Path) -> None:
    video = clip(tmp_path / "a.mp4", ellipse(Fraction(2)), Fraction(4, 3))
    data = video.read_bytes()
    at = data.index(b"pasp")
    video.write_bytes(data[: at + 4] + struct.pack(">2I", 2, 1) + data[at + 12 :])
    got = Extracted(video, tmp_path / "out")
    assert got.row["sample_aspect_ratio"] == "2:1"
    width, height = shape_of_bright(got.image)
    assert abs(width - height) <= 2


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_pixels_are_squared_before_they_are_turned(tmp_path: Path, turned: int) -> None:
    ratio = Fraction(4, 3)
    video = clip(tmp_path / "a.mp4", ellipse(ratio), ratio, turned)
    got = Extracted(video, tmp_path / "out")
    size = (213, 120) if turned == 180 else (120, 213)
    assert (got.row["width"], got.row["height"]) == size
    width, height = shape_of_bright(got.image)
    assert abs(width - height) <= 2
    info = probe(video)
    assert (info.width, info.height, info.rotation) == (*size, turned)
    stored = Extracted(video, tmp_path / "stored", geometry="stored")
    assert (stored.row["width"], stored.row["height"]) == SIZE


def framed_patches(box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return patches within left, top, right and bottom, and pink around them."""
    image = np.full((HEIGHT, WIDTH, 3), (250, 60, 250), np.uint8)
    left, top, right, bottom = box
    inner = WIDTH - left - right, HEIGHT - top - bottom
    image[top : HEIGHT - bottom, left : WIDTH - right] = patches_picture(*inner)
    return image


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize(
    ("values", "sides"),
    [
        (CENTRED, (20, 20, 20, 20)),
        ((120, 1, 80, 1, 10, 1, -10, 1), (30, 10, 10, 30)),
        ((240, 2, 160, 2, 0, 7, 0, 1), (20, 20, 20, 20)),
        ((150, 1, 120, 1, -5, 1, 0, 1), (0, 0, 10, 0)),
    ],
)
def test_the_clean_aperture_is_the_picture(
    tmp_path: Path, suffix: str, values: tuple[int, ...], sides: tuple[int, int, int, int]
) -> None:
    video = add_clean_aperture(clip(tmp_path / f"a.{suffix}", framed_patches(sides)), values)
    got = Extracted(video, tmp_path / "out")
    size = WIDTH - sides[0] - sides[2], HEIGHT - sides[1] - sides[3]
    assert (got.row["width"], got.row["height"]) == size
    assert patch_error(got.image) <= 6
    assert got.notes == {"cropped": 1}
    info = probe(video)
    assert (info.width, info.height) == size
    stored = Extracted(video, tmp_path / "stored", geometry="stored")
    assert (stored.row["width"], stored.row["height"]) == SIZE
    assert not stored.notes


def test_matroska_cropping_is_applied_to_the_track_that_was_chosen(tmp_path: Path) -> None:
    sides = (8, 12, 16, 20)
    video = add_pixel_crop(clip(tmp_path / "a.mkv", framed_patches(sides)), *sides)
    got = Extracted(video, tmp_path / "out")
    assert (got.row["width"], got.row["height"]) == (136, 88)
    assert patch_error(got.image) <= 6
    assert got.notes == {"cropped": 1}
    info = probe(video)
    assert (info.width, info.height) == (136, 88)


@pytest.mark.parametrize(
    "sides", [(WIDTH, 0, 0, 0), (80, 0, 80, 0), (0, 60, 0, 60), (0, 65535, 0, 0)]
)
def test_matroska_cropping_that_leaves_nothing_crops_nothing(
    tmp_path: Path, sides: tuple[int, int, int, int]
) -> None:
    """libav does not open such a file."""
    video = add_pixel_crop(clip(tmp_path / "a.mkv", patches_picture()), *sides)
    with pytest.raises(av.FFmpegError):
        av.open(str(video))
    before = video.read_bytes()
    got = Extracted(video, tmp_path / "out", strategy="interval", every_frames=1)
    assert len(got.rows) == 3
    assert (got.row["width"], got.row["height"]) == SIZE
    assert patch_error(got.image) <= 6
    assert not got.notes
    assert got.warning is None
    info = probe(video)
    assert (info.width, info.height) == SIZE
    assert video.read_bytes() == before


def test_cropping_comes_before_squaring_and_turning(tmp_path: Path) -> None:
    sides = (20, 20, 20, 20)
    video = clip(tmp_path / "a.mov", framed_patches(sides), turned=90)
    add_pixel_aspect(video, 4, 3)
    add_clean_aperture(video, CENTRED)
    got = Extracted(video, tmp_path / "out")
    assert (got.row["width"], got.row["height"]) == (80, 160)
    assert patch_error(np.asarray(np.rot90(got.image), np.uint8)) <= 6
    assert got.notes == {"squared": 1, "cropped": 1}


@pytest.mark.parametrize(
    "values",
    [
        (120, 0, 80, 1, 0, 1, 0, 1),
        (0, 1, 80, 1, 0, 1, 0, 1),
        (170, 1, 80, 1, 0, 1, 0, 1),
        (120, 1, 80, 1, 90, 1, 0, 1),
        (120, 1),
    ],
    ids=["denominator", "empty", "too wide", "outside", "short"],
)
def test_an_aperture_that_cannot_be_right_crops_nothing(
    tmp_path: Path, values: tuple[int, ...]
) -> None:
    video = add_clean_aperture(clip(tmp_path / "a.mov", patches_picture()), values)
    got = Extracted(video, tmp_path / "out")
    assert (got.row["width"], got.row["height"]) == SIZE
    assert not got.notes


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_broken_files_raise_nothing_unexpected(tmp_path: Path, suffix: str) -> None:
    video = clip(tmp_path / f"a.{suffix}", patches_picture())
    if suffix == "mp4":
        data = bytearray(add_clean_aperture(video, CENTRED).read_bytes())
    else:
        data = bytearray(add_pixel_crop(video, 8, 8, 8, 8).read_bytes())
    chance = random.Random(7)
    for _ in range(300):
        broken = bytearray(data[: chance.randrange(len(data))] if chance.random() < 0.3 else data)
        for _ in range(chance.randrange(1, 20)):
            if broken:
                broken[chance.randrange(len(broken))] = chance.choice((0, 1, 0x7F, 0xFF))
        file = io.BytesIO(bytes(broken))
        try:
            if suffix == "mp4":
                read_clean_aperture(file, 1)
            else:
                read_pixel_crop(file, 0)
        except (ValueError, struct.error):
            pass


def test_an_element_that_ends_beyond_the_one_around_it_crops_nothing(tmp_path: Path) -> None:
    video = add_pixel_crop(clip(tmp_path / "a.mkv", patches_picture()), 8, 8, 8, 8)
    data = video.read_bytes()
    right = b"\x54\xdd\x82"  # the last element of the video settings, and its size
    assert data.count(right) == 1
    file = io.BytesIO(data.replace(right, b"\x54\xdd\x83"))
    with pytest.raises(ValueError, match="broken"):
        read_pixel_crop(file, 0)


def test_square_pixels_may_exceed_the_limit(tmp_path: Path) -> None:
    video = clip(tmp_path / "a.mp4", ellipse(Fraction(2)), Fraction(2))
    with pytest.raises(PermanentError, match=r"extract\.max_megapixels") as raised:
        Extracted(video, tmp_path / "out", max_megapixels=0.03)
    assert raised.value.error_class is ErrorClass.UNSUPPORTED
    stored = Extracted(video, tmp_path / "stored", max_megapixels=0.03, geometry="stored")
    assert (stored.row["width"], stored.row["height"]) == SIZE


@pytest.mark.parametrize("strategy", ["interval", "scene"])
def test_a_ratio_that_changes_midway_is_followed(tmp_path: Path, strategy: str) -> None:
    """As in television, whose programmes change between 4:3 and 16:9."""
    parts = []
    for ratio in (Fraction(4, 3), Fraction(2)):
        part = clip(tmp_path / f"{ratio.numerator}.ts", ellipse(ratio), ratio, length=15)
        parts.append(part.read_bytes())
    video = tmp_path / "joined.ts"
    video.write_bytes(b"".join(parts))
    got = Extracted(video, tmp_path / "out", strategy=strategy, every_frames=1)
    assert {row["sample_aspect_ratio"] for row in got.rows} == {"4:3", "2:1"}
    for image in got.images:
        width, height = shape_of_bright(image)
        assert abs(width - height) <= 2


def test_a_cropping_for_frames_of_another_size_crops_nothing(tmp_path: Path) -> None:
    video = add_pixel_crop(clip(tmp_path / "a.mkv", patches_picture()), 8, 8, 8, 8)
    data = video.read_bytes()
    assert b"\xb0\x81\xa0" in data  # a width of 160
    video.write_bytes(data.replace(b"\xb0\x81\xa0", b"\xb0\x81\xaa", 1))
    got = Extracted(video, tmp_path / "out")
    assert "cropped" not in got.notes
    assert got.image.shape[0] == HEIGHT


@pytest.mark.parametrize(
    "ratio",
    [
        *(Fraction(64, 45), Fraction(160, 99), Fraction(10, 11), None, Fraction(8640, 6821)),
        *(Fraction(1001, 1000), Fraction(65534, 65535), Fraction(65535, 8192), Fraction(1, 8)),
    ],
)
@pytest.mark.parametrize("matrix", [2, 8])
def test_the_ratio_of_a_single_frame(tmp_path: Path, ratio: Fraction | None, matrix: int) -> None:
    video = clip(tmp_path / "a.ts", patches_picture(), ratio)
    with av.open(str(video)) as container:
        frame = next(container.decode(video=0))
    frame.colorspace = matrix
    assert plausible_ratio(ratio_of_frame(frame)) == (ratio or 1)


@pytest.mark.parametrize("suffix", ["ts", "mp4", "mov", "mkv"])
@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        (Fraction(8640, 6821), (203, 120)),
        (Fraction(1001, 1000), SIZE),
        (Fraction(6821, 8640), (160, 152)),
    ],
)
def test_the_table_has_the_exact_ratio(
    tmp_path: Path, suffix: str, ratio: Fraction, size: tuple[int, int]
) -> None:
    video = clip(tmp_path / f"a.{suffix}", patches_picture(), ratio)
    with av.open(str(video)) as container:
        stated = container.streams.video[0].sample_aspect_ratio  # Matroska states a size instead
    assert stated
    got = Extracted(video, tmp_path / "out")
    assert got.row["sample_aspect_ratio"] == f"{stated.numerator}:{stated.denominator}"
    assert suffix == "mkv" or stated == ratio
    assert (got.row["width"], got.row["height"]) == size
    assert got.notes == ({} if size == SIZE else {"squared": 1})
