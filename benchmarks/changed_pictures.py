"""Pairs of pictures between which something of interest changed, for near_duplicates.py.

Objects are pasted from other photographs, or drawn, into a photograph, where they appear, move or
leave. Pages, slides and terminal screens are set by code. Both pictures of a pair are compressed
and get noise of their own, as frames of a video do. Everything is the same each time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
Random = np.random.Generator

SHARES = (0.01, 0.02, 0.03, 0.05)
"""Of the picture, that an object covers."""
CHANGES = ("appears", "moves", "leaves")
SOURCES = ("pasted", "drawn")
CONTRASTS = ("no", "low", "high")
TEXT_KINDS = ("page", "slide", "terminal screen")
TEXT_PAIRS = 200
_CONTRAST = {"no": 0.0, "low": 25.0, "high": 90.0}  # grey levels between an object and its position
_NOISE, _QUALITY = 1.5, 90  # grey levels; of JPEG
_LETTERS = "etaoinshrdlcumwfgypbvk"


class Change(NamedTuple):
    """Two pictures that differ.

    Parameters
    ----------
    one, other : Picture
        The pictures.
    kind : str
        What changed.
    groups : tuple of str
        The figures that this pair counts for.
    share : float
        The share of the picture that the object covers; 0 if it is no object.
    """

    one: Picture
    other: Picture
    kind: str
    groups: tuple[str, ...]
    share: float = 0.0


# ---- objects -------------------------------------------------------------------------------------


def object_changes(
    photographs: Sequence[Picture], shares: Sequence[float] = SHARES
) -> Iterator[Change]:
    """Yield an object of each size, source and contrast that appears, moves and leaves."""
    cases = itertools.product(shares, SOURCES, CONTRASTS, CHANGES)
    for number, case in enumerate(cases):
        for position, background in enumerate(photographs):
            random = np.random.default_rng([number, position])
            other = photographs[
                (position + 1 + int(random.integers(len(photographs) - 1))) % len(photographs)
            ]
            yield _object_change(background, other, case, random)


def _object_change(
    background: Picture, photograph: Picture, case: tuple[float, str, str, str], random: Random
) -> Change:
    share, source, contrast, change = case
    mask = _blob(background.shape[:2], share, random)
    texture = (
        _cut(photograph, mask.shape, random) if source == "pasted" else _drawn(mask.shape, random)
    )
    first, second = _positions(background.shape[:2], mask.shape, random)
    put = _put(background, texture, mask, first, contrast)
    match change:
        case "appears":
            pair = background, put
        case "leaves":
            pair = put, background
        case _:
            pair = put, _put(background, texture, mask, second, contrast)
    one, other = (as_frame(each, random) for each in pair)
    kind = f"object {change}, {source}, {contrast} contrast"
    return Change(one, other, kind, (f"kept_object_{share * 100:.0f}pct",), share)


def _blob(size: tuple[int, int], share: float, random: Random) -> NDArray[np.float32]:
    """Return the soft mask of an object of that share of a picture: an ellipse or a box, turned."""
    area = share * size[0] * size[1]
    stretch = float(random.uniform(0.5, 2.0))
    across, down = np.sqrt(area * stretch), np.sqrt(area / stretch)
    side = int(1.6 * max(across, down)) + 4
    mask = np.zeros((side, side), np.float32)
    centre, angle = (side / 2, side / 2), float(random.uniform(0, 180))
    if random.integers(2):
        box = cv2.boxPoints((centre, (across, down), angle)).astype(np.int32)
        cv2.fillConvexPoly(mask, box, 1.0, cv2.LINE_AA)
    else:
        wide = (across * 2 / np.sqrt(np.pi), down * 2 / np.sqrt(np.pi))
        cv2.ellipse(mask, (centre, wide, angle), 1.0, -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.8), np.float32)


def _cut(photograph: Picture, size: tuple[int, ...], random: Random) -> NDArray[np.float32]:
    """Cut out a part of a photograph, four times as large as the object, and shrink it."""
    height, width = photograph.shape[:2]
    side = min(2 * size[0], height, width)
    top, left = int(random.integers(height - side + 1)), int(random.integers(width - side + 1))
    part = photograph[top : top + side, left : left + side]
    return cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)


def _drawn(size: tuple[int, ...], random: Random) -> NDArray[np.float32]:
    """Draw something of two colours."""
    colours = random.uniform(0, 255, (2, 3))
    drawn = np.full((*size, 3), colours[0], np.float32)
    edge = int(random.integers(size[0] // 4, 3 * size[0] // 4))
    drawn[:edge] = 0.7 * colours[0] + 0.3 * colours[1]
    return drawn


def _positions(
    size: tuple[int, int], part: tuple[int, ...], random: Random
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Choose two positions in a picture, at least half an object apart."""
    room = size[0] - part[0], size[1] - part[1]
    while True:
        (top, left), (lower, righter) = random.integers(0, [room, room])
        if max(abs(top - lower), abs(left - righter)) >= part[0] / 2:
            return (int(top), int(left)), (int(lower), int(righter))


def _put(
    background: Picture,
    texture: NDArray[np.float32],
    mask: NDArray[np.float32],
    position: tuple[int, int],
    contrast: str,
) -> Picture:
    """Put an object into a picture, its mean grey so much from that of what it covers."""
    made = background.astype(np.float32)
    part = made[
        position[0] : position[0] + mask.shape[0], position[1] : position[1] + mask.shape[1]
    ]
    weight = mask[..., None]
    covered = float((part.mean(axis=2) * mask).sum() / mask.sum())
    own = float((texture.mean(axis=2) * mask).sum() / mask.sum())
    step = _CONTRAST[contrast] * (1 if covered < 128 else -1)
    texture = np.clip(texture - own + covered + step, 0, 255)
    part[:] = weight * texture + (1 - weight) * part
    return np.clip(made, 0, 255).astype(np.uint8)


def as_frame(picture: Picture, random: Random) -> Picture:
    """Return a picture with noise, compressed: as another frame of a video shows it."""
    noisy = picture + _NOISE * random.standard_normal(picture.shape, np.float32)
    packed = cv2.imencode(
        ".jpg", np.clip(noisy, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)


# ---- text ----------------------------------------------------------------------------------------

_SIZE = (960, 540)


def text_changes(pairs: int = TEXT_PAIRS) -> Iterator[Change]:
    """Yield pairs of different pages, slides and terminal screens of one style each."""
    writers: dict[str, Callable[[Random, Random], Picture]] = {
        "page": _page,
        "slide": _slide,
        "terminal screen": _terminal,
    }
    for number, (kind, write) in enumerate(writers.items()):
        for pair in range(pairs):
            pictures = []
            for side in (0, 1):
                style, text = (
                    np.random.default_rng([9, number, pair]),
                    np.random.default_rng([10, number, pair, side]),
                )
                pictures.append(as_frame(write(style, text), text))
            yield Change(pictures[0], pictures[1], f"another {kind}", ("kept_pages",))


def _words(text: Random, count: int) -> str:
    lengths = text.integers(2, 10, count)
    positions = np.minimum(text.exponential(7, int(lengths.sum())), len(_LETTERS) - 1).astype(int)
    letters = iter(positions)
    return " ".join("".join(_LETTERS[next(letters)] for _ in range(n)) for n in lengths)


@lru_cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _page(style: Random, text: Random) -> Picture:
    """Set a page of a document: a heading, and paragraphs of ragged lines."""
    ink, paper = int(style.integers(0, 60)), int(style.integers(225, 256))
    size, left = int(style.integers(13, 22)), int(style.integers(30, 120))
    image = Image.new("RGB", _SIZE, (paper,) * 3)
    draw = ImageDraw.Draw(image)
    draw.text((left, 18), _words(text, 3), (ink,) * 3, _font(size + 8))
    y, line = 60, round(size * 1.5)
    width = _SIZE[0] - 2 * left
    while y < _SIZE[1] - line:
        lines = int(style.integers(3, 8))
        for number in range(lines):
            if y >= _SIZE[1] - line:
                break
            full = width if number < lines - 1 else width * float(style.uniform(0.2, 0.9))
            words = _words(text, max(1, int(full / (3.2 * size))))
            while draw.textlength(words, _font(size)) > full and " " in words:
                words = words.rpartition(" ")[0]
            draw.text((left, y), words, (ink,) * 3, _font(size))
            y += line
        y += line // 2
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])


def _slide(style: Random, text: Random) -> Picture:
    """Set a slide of a talk: a title and bullets, dark on light or the other way round."""
    dark = bool(style.integers(2))
    ground = tuple(int(each) for each in style.integers(*((0, 60) if dark else (200, 256)), 3))
    ink = (240, 240, 240) if dark else (20, 20, 20)
    size, gap = int(style.integers(16, 30)), int(style.integers(40, 62))
    image = Image.new("RGB", _SIZE, ground)
    draw = ImageDraw.Draw(image)
    if style.integers(2):
        draw.rectangle((0, 0, _SIZE[0], 84), tuple(int(each) // 2 + 60 for each in ground))
    draw.text((40, 26), _words(text, 3), ink, _font(size + 14))
    bullets = int(style.integers(4, 8))
    for number in range(bullets):
        y = 110 + number * gap
        draw.ellipse((56, y + size // 3, 64, y + size // 3 + 8), ink)
        draw.text((80, y), _words(text, int(style.integers(3, 8))), ink, _font(size))
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])


def _terminal(style: Random, text: Random) -> Picture:
    """Set a terminal: lines of letters in columns, some indented, light on dark."""
    size = int(style.integers(13, 20))
    wide, line = round(size * 0.6), round(size * 1.25)
    ink = tuple(int(each) for each in style.integers(150, 256, 3))
    image = Image.new("RGB", _SIZE, (int(style.integers(0, 40)),) * 3)
    draw = ImageDraw.Draw(image)
    for y in range(4, _SIZE[1] - line, line):
        indent = 4 * int(style.integers(0, 4))
        words = " " * indent + _words(text, int(style.integers(2, 14)))
        for column, letter in enumerate(words[: (_SIZE[0] - 10) // wide]):
            draw.text((5 + column * wide, y), letter, ink, _font(size))
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])


# ---- footage -------------------------------------------------------------------------------------

# What can be seen, by the second, listed by hand. Seconds of one list show the same things; what
# is in no list shows something of its own (a hand, a car elsewhere). Left out are seconds in which
# less than 1% of the picture differs from a list.
FOOTAGE: dict[str, tuple[int, tuple[tuple[int, ...], ...], tuple[int, ...]]] = {
    "bottle-detection.mp4": (
        39,
        (
            (0, 1, 2, 3, 4, 5, 14, 15, 29, 30, 37, 38),  # three bottles
            (8, 9, 10, 11, 25, 26, 27),  # without the left one
            (18, 19, 20, 21),  # the right one alone
            (33, 34),  # without the right one
        ),
        (),
    ),
    "car-detection.mp4": (
        30,
        ((0, 1, 2, 3, 4, 9, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 25, 28, 29),),  # no car
        (19,),
    ),
}


def footage_changes(folder: Path) -> Iterator[Change]:
    """Yield all pairs of seconds of a video that show different things."""
    for name, (seconds, lists, left_out) in FOOTAGE.items():
        pictures = _every_second(folder / name, seconds)
        shown = {second: number for number, listed in enumerate(lists) for second in listed}
        for one, other in itertools.combinations(range(seconds), 2):
            first, second = shown.get(one, -1 - one), shown.get(other, -1 - other)
            if first != second and not {one, other} & set(left_out):
                kind = f"still camera, {name.removesuffix('.mp4')}"
                yield Change(pictures[one], pictures[other], kind, ("kept_footage",))


def _every_second(video: Path, seconds: int) -> list[Picture]:
    pictures: list[Picture] = []
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= len(pictures):
                pictures.append(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8))
            if len(pictures) == seconds:
                break
    return pictures
