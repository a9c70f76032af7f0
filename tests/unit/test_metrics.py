from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import cv2
import imagehash
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dataminer.config.models import FilterConfig
from dataminer.frames.table import FRAMES_SCHEMA, PICTURE_FIELDS, STILL
from dataminer.stages.extract.quality.arrays import GreyImage
from dataminer.stages.extract.quality.borders import Borders, find_borders
from dataminer.stages.extract.quality.hashes import HashPixels, dhashes, phashes
from dataminer.stages.extract.quality.metrics import (
    FrameMetrics,
    brightness_and_contrast,
    hash_grey,
    measure,
    table_columns,
    to_working_size,
)
from dataminer.stages.extract.quality.sharpness import sharpness
from dataminer.stages.filter.stage import first_failed
from dataminer.stages.filter.thresholds import METRIC_COLUMNS, QUALITY_NAMES
from demo.shapes import photographs
from tests.support.frame_rows import frame_row
from tests.support.videos import REAL_FOOTAGE, picture
from tests.support.working_grey import working_grey


def scene(width: int = 640, height: int = 360, seed: int = 0) -> GreyImage:
    """Draw a sharp picture with edges of all kinds: filled shapes, lines and letters."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 110, np.uint8)
    for _ in range(40):
        x, y = (int(v) for v in rng.integers(0, (width, height)))
        colour = tuple(int(v) for v in rng.integers(0, 255, 3))
        cv2.circle(image, (x, y), int(rng.integers(5, 40)), colour, -1)
        cv2.putText(image, "abc", (y, x % height), 0, 1.0, colour, 2)
    return image


def uniform(level: int, width: int = 1280, height: int = 720) -> GreyImage:
    return np.full((height, width, 3), level, np.uint8)


def failures(images: list[GreyImage], bounds: FilterConfig) -> dict[str, int]:
    """Say which thresholds the frames of a video fail, and how many of them do."""
    columns = table_columns([measure(image) for image in images])
    rows = pa.Table.from_pylist([frame_row("v", n) for n in range(len(images))], FRAMES_SCHEMA)
    for name in METRIC_COLUMNS:
        position = rows.schema.get_field_index(name)
        rows = rows.set_column(position, name, pa.array(columns[name], pa.float32()))
    failed = first_failed(rows, bounds)
    return dict(Counter(QUALITY_NAMES[number] for number in np.sort(failed[failed >= 0])))


def passes(image: GreyImage, bounds: FilterConfig) -> bool:
    return not failures([image], bounds)


def noisy(image: GreyImage, deviation: float, seed: int = 0) -> GreyImage:
    noise = np.random.default_rng(seed).normal(0, deviation, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def at_360(image: GreyImage) -> GreyImage:
    """Scale a picture down to 360 lines, where noise that is added stays at its full size."""
    scale = 360 / min(image.shape[:2])
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def blurred(image: GreyImage, sigma: float) -> GreyImage:
    """Blur by ``sigma`` pixels at 360 lines."""
    scale = max(1.0, min(image.shape[:2]) / 360)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma * scale), np.uint8)


def test_hashes_are_those_of_imagehash() -> None:
    rng = np.random.default_rng(0)
    images = [scene(), scene(1920, 1080, 1), scene(270, 480, 2), picture(3), uniform(7)]
    images += [scene(20, 9), np.tile(picture(3), (1, 2, 1))[:, ::-1]]
    images += [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(20)]
    images += photographs()
    columns = table_columns([measure(image) for image in images])
    for position, image in enumerate(images):
        grey = Image.fromarray(hash_grey(working_grey(image)))
        assert f"{columns['phash'][position]:016x}" == str(imagehash.phash(grey))
        assert f"{columns['dhash'][position]:016x}" == str(imagehash.dhash(grey))


def test_hashes_do_not_depend_on_who_else_is_in_the_batch() -> None:
    rng = np.random.default_rng(1)
    pixels = [HashPixels.of(rng.integers(0, 256, (36, 64), np.uint8)) for _ in range(1100)]
    for hashes in (phashes, dhashes):
        assert hashes(pixels).tolist() == [int(hashes([each])[0]) for each in pixels]
        assert hashes([]).shape == (0,)
        assert hashes([]).dtype == np.uint64


@pytest.mark.parametrize(
    ("size", "working"),
    [
        ((1920, 1080), (360, 640)),
        ((1080, 1920), (640, 360)),
        ((640, 360), (360, 640)),
        ((160, 120), (120, 160)),
        ((161, 121), (121, 161)),
        ((2000, 365), (360, 1973)),
    ],
)
def test_shorter_side_becomes_360_and_is_never_enlarged(
    size: tuple[int, int], working: tuple[int, int]
) -> None:
    assert working_grey(scene(*size)).shape == working


@pytest.mark.parametrize("lines", [1080, 1442, 2160, 2880, 719, 480])
def test_steps_on_the_way_to_360_lines_change_no_more_than_rounding(lines: int) -> None:
    grey = np.asarray(cv2.cvtColor(scene(lines * 4 // 3, lines), cv2.COLOR_BGR2GRAY), np.uint8)
    small = to_working_size(grey)
    height, width = small.shape
    direct = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    assert min(small.shape) == 360
    assert np.abs(small.astype(int) - direct).mean() < 0.6


def test_light_is_mean_and_deviation_between_black_and_white() -> None:
    grey = working_grey(scene())
    assert brightness_and_contrast(grey) == pytest.approx((grey.mean() / 255, grey.std() / 255))
    half = np.zeros((100, 100), np.uint8)
    half[:50] = 255
    assert brightness_and_contrast(half) == (0.5, 0.5)


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_flat_frames_show_nothing(level: int) -> None:
    found = measure(uniform(level))
    assert (found.sharpness, found.contrast, found.entropy, found.blank) == (0, 0, 0, 1)
    assert found.brightness == pytest.approx(level / 255)
    assert found.black == (level < 26)
    assert found.borders == Borders()


def test_black_and_entropy_count_pixels() -> None:
    image = uniform(200, 640, 360)
    image[:, :160] = 25
    image[:, 160:320] = 26
    found = measure(image)
    assert found.black == 0.25
    assert found.entropy == pytest.approx(1.5)
    assert found.blank == 1 - 6 / 32  # around the one step that is seen
    turned = measure(np.ascontiguousarray(image.transpose(1, 0, 2)))
    assert turned.blank == found.blank


def test_sharpness_hardly_changes_with_light_size_or_noise() -> None:
    for photograph in photographs()[:4]:
        image = at_360(photograph)
        whole = sharpness(working_grey(image))
        assert 0.13 < whole < 1.3
        for changed in ((image * 0.4).astype(np.uint8), image // 2 + 100, noisy(image, 5)):
            assert sharpness(working_grey(changed)) == pytest.approx(whole, rel=0.1)
        turned = np.asarray(cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE), np.uint8)
        assert sharpness(working_grey(turned)) == pytest.approx(whole, rel=0.05)
        larger = cv2.resize(photograph, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
        assert measure(np.asarray(larger, np.uint8)).sharpness == pytest.approx(whole, rel=0.25)


def test_blur_takes_sharpness_away_step_by_step_also_under_noise() -> None:
    for image in map(at_360, photographs()[:4]):
        for deviation in (0, 8):
            frames = [noisy(blurred(image, sigma), deviation) for sigma in (0.01, 1, 2, 4)]
            found = [sharpness(working_grey(frame)) for frame in frames]
            assert found == sorted(found, reverse=True)
            assert found[-1] < found[0] / 10


@pytest.mark.parametrize("axis", [0, 1])
def test_a_sweep_of_the_camera_blurs_though_lines_along_it_stay(axis: int) -> None:
    kernel = np.full((1, 25) if axis else (25, 1), 1 / 25)
    for image in map(at_360, photographs()[:4]):
        swept = np.asarray(cv2.filter2D(image, -1, kernel), np.uint8)
        assert measure(swept).sharpness < measure(image).sharpness / 2


@pytest.mark.parametrize("level", [0, 16, 128, 255])
@pytest.mark.parametrize("deviation", [1, 3, 10])
def test_noise_alone_is_not_sharp(level: int, deviation: float) -> None:
    grey = noisy(np.full((360, 640), level, np.uint8), deviation, seed=level)
    assert sharpness(grey) < 0.01


def test_pictures_with_one_direction_or_few_pixels_have_a_sharpness() -> None:
    stripes = np.tile((np.arange(640) // 20 % 2 * 200).astype(np.uint8), (360, 1))
    assert sharpness(stripes) == sharpness(np.ascontiguousarray(stripes.T)) > 0.1
    assert all(sharpness(noisy(stripes, 12, seed)) > 0.1 for seed in range(8))
    assert measure(scene(8, 5)).sharpness == 0
    assert measure(scene(1, 1)).brightness > 0


@pytest.mark.parametrize(
    ("size", "bars"),
    [
        ((1280, 720), (0, 90, 0, 90)),
        ((1280, 720), (160, 0, 161, 0)),
        ((1280, 720), (437, 0, 437, 0)),  # 9:16 within 16:9
        ((640, 360), (40, 30, 41, 33)),
        ((1920, 1080), (0, 1, 0, 1)),
        ((720, 1280), (0, 437, 0, 438)),
    ],
)
def test_borders_are_found_to_the_pixel(
    size: tuple[int, int], bars: tuple[int, int, int, int]
) -> None:
    borders = Borders(*bars)
    picture = scene(*size)
    framed = np.zeros_like(picture)
    borders.crop(framed)[:] = borders.crop(picture)
    for dirt in (0, 2):
        found = measure(noisy(framed, dirt))
        assert found.borders == borders
    found = measure(framed)
    inner = measure(np.ascontiguousarray(borders.crop(picture)))
    for name in ("sharpness", "brightness", "contrast", "entropy", "black", "blank"):
        assert getattr(found, name) == getattr(inner, name)
    assert inner.borders == Borders()
    assert found.border == pytest.approx(1 - borders.crop(picture).size / picture.size)
    hashes = table_columns([found, inner])
    assert len(set(hashes["phash"].tolist())) == len(set(hashes["dhash"].tolist())) == 1


def one_bar(image: GreyImage) -> None:
    image[:90] = 0


def unequal_bars(image: GreyImage) -> None:
    image[:90] = image[-20:] = 0


def subtitles(image: GreyImage) -> None:
    image[:90] = image[-90:] = 0
    cv2.putText(image, "and then he said", (300, 690), 0, 2.0, (255, 255, 255), 3)


def night(image: GreyImage) -> None:
    image[:] = image * np.clip(np.arange(720) / 700, 0, 1)[:, None, None] ** 3 * 0.3


def vignette(image: GreyImage) -> None:
    across, down = (1 - np.linspace(-1, 1, side) ** 2 for side in (1280, 720))
    image[:] = image * np.outer(down, across)[..., None]


def stars(image: GreyImage) -> None:
    for band in (image[:90], image[-90:]):
        band[:] = 0
        band[::2, ::41] = 200


def nearly_black(image: GreyImage) -> None:
    image[:] = 0
    image[340:360, 600:640] = 255


@pytest.mark.parametrize(
    "spoil", [one_bar, unequal_bars, stars, night, vignette, nearly_black], ids=lambda f: f.__name__
)
def test_dark_pictures_have_no_borders(spoil: Callable[[GreyImage], None]) -> None:
    image = scene(1280, 720)
    spoil(image)
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    assert find_borders(grey) == Borders()


def test_a_bar_ends_where_subtitles_begin() -> None:
    image = scene(1280, 720)
    subtitles(image)
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    assert find_borders(grey) == Borders()  # 90 lines above, fewer than half of that below


def columns_of(images: list[GreyImage]) -> dict[str, list[float]]:
    found = table_columns([measure(image) for image in images])
    return {name: values.tolist() for name, values in found.items()}


def test_a_flash_is_told_from_a_cut() -> None:
    one, other = (at_360(image)[:360, :480] for image in photographs()[:2])
    lit = np.clip(one * 1.8 + 70, 0, 255).astype(np.uint8)
    flash = columns_of([one, lit, one])["flash"]
    assert flash[0] == flash[2] == 0
    assert flash[1] > FilterConfig().max_flash
    limit = FilterConfig().max_flash / 2
    white = np.full_like(one, 250)
    white[100:200, 100:300] = 20  # a slide, shown for one frame
    for shown in ([one, one, one], [one, other, one], [one, white, one], [one, lit, lit, one]):
        assert max(columns_of(shown)["flash"]) < limit
    assert columns_of([lit, one])["flash"] == [0, 0]


def test_change_is_held_against_the_last_frame_that_was_new() -> None:
    image = at_360(photographs()[0])
    moved = image.copy()
    moved[100:110, 200:215] ^= 255
    change = columns_of([image, image, noisy(image, 4), moved, moved, image])["change"]
    assert change[0] == 1
    assert change[1] == 0
    assert change[2] < FilterConfig().min_change
    assert change[3] > STILL
    assert change[4] == 0
    assert change[5] == change[3]


def test_slow_change_adds_up() -> None:
    images = [uniform(level, 64, 48) for level in range(60, 120, 2)]
    change = columns_of(images)["change"]
    assert sum(value >= STILL for value in change) == 10  # each third of 30


def test_columns_are_those_of_the_table() -> None:
    found = table_columns([measure(scene())])
    identity_columns = {
        "video_id",
        "frame_index",
        "pts_time",
        "file_name",
        "width",
        "height",
        "byte_offset",
    }
    unmeasured = identity_columns | {
        "byte_size",
        "title",
        "uploader",
        "licence",
        "upload_date",
        "url",
        *(field.name for field in PICTURE_FIELDS),
    }
    assert set(found) == set(FRAMES_SCHEMA.names) - unmeasured
    assert {len(values) for values in found.values()} == {1}
    assert all(len(values) == 0 for values in table_columns([]).values())


def test_measuring_is_pure() -> None:
    image = scene()
    before = image.copy()
    first: FrameMetrics = measure(image)
    assert np.array_equal(image, before)
    again = measure(image)
    assert first.sharpness == again.sharpness
    assert np.array_equal(first.cells.square, again.cells.square)


def test_default_bounds_tell_good_frames_from_bad() -> None:
    bounds = FilterConfig()
    for image in map(at_360, photographs()):
        assert passes(image, bounds)
        assert passes(noisy(image, 8), bounds)
        assert failures([blurred(image, 3)], bounds) == {"min_sharpness": 1}
        assert failures([noisy(blurred(image, 3), 8)], bounds) == {"min_sharpness": 1}
        assert not passes((image * 0.05).astype(np.uint8), bounds)
    for level in (0, 16, 128, 235, 255):
        assert not passes(uniform(level), bounds)
        assert not passes(noisy(uniform(level, 640, 360), 2), bounds)


def test_bounds_that_take_any_let_pass_what_their_threshold_rejects() -> None:
    text = uniform(255, 640, 360)
    cv2.putText(text, "Chapter 1", (200, 180), 0, 1.0, (0, 0, 0), 2)
    assert failures([text], FilterConfig()) in ({}, {"max_brightness": 1})
    stamp = np.zeros((720, 1280, 3), np.uint8)
    stamp[180:540, 320:960] = scene(640, 360)
    assert failures([stamp], FilterConfig(max_border=0.5)) == {"max_border": 1}
    assert failures([scene(), scene()], FilterConfig()) == {"min_change": 1}
    assert failures([scene(), scene()], FilterConfig(min_change=0)) == {}


@pytest.mark.skipif(not REAL_FOOTAGE.is_dir(), reason="no real footage beside the repository")
@pytest.mark.parametrize("name", ["bottle-detection.mp4", "car-detection.mp4"])
def test_default_bounds_on_real_footage(name: str) -> None:
    import av

    with av.open(str(REAL_FOOTAGE / name)) as container:
        frames = [f for i, f in enumerate(container.decode(video=0)) if i % 20 == 0]
    images = [np.asarray(f.to_ndarray(format="bgr24"), np.uint8) for f in frames]
    assert set(failures(images, FilterConfig())) <= {"min_change"}
    blurry = failures([blurred(image, 3) for image in images], FilterConfig(min_change=0))
    assert blurry == {"min_sharpness": len(images)}
