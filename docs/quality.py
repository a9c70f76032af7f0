"""Draw docs/quality.jpg: what the default thresholds of the quality filter take, and what not."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dataminer.config.models import FilterConfig
from dataminer.frames.table import FRAMES_SCHEMA
from dataminer.stages.extract.quality.metrics import measure, table_columns
from dataminer.stages.filter.stage import first_failed
from dataminer.stages.filter.thresholds import METRIC_COLUMNS, QUALITY_NAMES

Picture = NDArray[np.uint8]
# one frame to judge, or it in its place between others: (frames, which of them)
Sample = tuple[str, Sequence[Picture], int]

_LINES, _WIDTH = 360, 540
_CELL = (270, 180)
_GAP, _MARGIN, _SIDE, _CAPTION = 14, 30, 150, 64
_LOOSE: dict[str, float] = {name: float(name[:3] == "max") for name in QUALITY_NAMES}
_PAPER, _INK, _FAINT, _GOOD, _BAD = "#ffffff", "#1d1d1f", "#6e6e73", "#1f8a4c", "#d1343b"


def photograph(name: str) -> Picture:
    """Load one of scikit-image's photographs at the working size: all are CC0 or NASA's."""
    spec = importlib.util.find_spec("skimage")
    assert spec and spec.origin
    image = cv2.imread(str(Path(spec.origin).parent / "data" / name))
    assert image is not None
    scale = max(_LINES / image.shape[0], _WIDTH / image.shape[1])
    large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    top, left = (large.shape[0] - _LINES) // 2, (large.shape[1] - _WIDTH) // 2
    return np.asarray(large[top : top + _LINES, left : left + _WIDTH], np.uint8)


def lit(image: Picture, gain: float, offset: float = 0) -> Picture:
    """Change the light."""
    changed: Picture = np.clip(image * float(gain) + offset, 0, 255).astype(np.uint8)
    return changed


def noisy(image: Picture, deviation: float) -> Picture:
    """Add noise with a standard deviation in grey levels."""
    noise = np.random.default_rng(0).normal(0, deviation, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def blurred(image: Picture, sigma: float) -> Picture:
    """Blur as a lens that is out of focus."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def swept(image: Picture, pixels: int) -> Picture:
    """Blur as a camera that turns."""
    return np.asarray(cv2.filter2D(image, -1, np.full((1, pixels), 1 / pixels)), np.uint8)


def level(value: int) -> Picture:
    """Fill a picture with one grey level."""
    return np.full((_LINES, _WIDTH, 3), value, np.uint8)


def written(background: int, ink: int, text: str, size: float) -> Picture:
    """Write grey text on grey."""
    image = level(background)
    cv2.putText(image, text, (150, 190), 0, size, (ink, ink, ink), 2, cv2.LINE_AA)
    return image


def framed(image: Picture, across: int, down: int) -> Picture:
    """Scale a picture into black bars of the given widths at each side."""
    small = cv2.resize(
        image, (_WIDTH - 2 * across, _LINES - 2 * down), interpolation=cv2.INTER_AREA
    )
    made = level(0)
    made[down : _LINES - down, across : _WIDTH - across] = small
    return made


def rows() -> dict[str, list[Sample]]:
    """Return the samples of each threshold, from good to bad."""
    cat, cup, person = (photograph(f"{name}.png") for name in ("chelsea", "coffee", "astronaut"))
    rocket, stars = photograph("rocket.jpg"), photograph("hubble_deep_field.jpg")

    def alone(text: str, image: Picture) -> Sample:
        return text, [image], 0

    moved = person.copy()
    moved[150:170, 60:80] = (40, 40, 220)
    return {
        "min_sharpness": [
            alone("as it is", cat),
            alone("noise, and dimmed", noisy(lit(cat, 0.4), 5)),
            alone("blurred by 1 pixel", blurred(cat, 1)),
            alone("blurred by 3 pixels", blurred(cat, 3)),
            alone("blurred by 3, and noise", noisy(blurred(cat, 3), 8)),
            alone("a sweep of 30 pixels", swept(cat, 30)),
        ],
        "min_brightness, max_black": [
            alone("as it is", rocket),
            alone("half the light", lit(rocket, 0.5)),
            alone("stars", stars),
            alone("a tenth of the light", lit(rocket, 0.1)),
            alone("a fade to black", lit(person, 0.06)),
            alone("black, with noise", noisy(level(2), 3)),
        ],
        "max_brightness": [
            alone("as it is", cup),
            alone("much light", lit(cup, 1.6, 40)),
            alone("a slide", written(245, 20, "Chapter 1", 1.5)),
            alone("nearly blown out", lit(cup, 1, 190)),
            alone("blown out", lit(cup, 3, 200)),
            alone("white", level(255)),
        ],
        "min_contrast, min_entropy, max_blank": [
            alone("as it is", person),
            alone("haze", lit(person, 0.3, 120)),
            alone("a title", written(40, 220, "The end", 1.2)),
            alone("thick haze", lit(person, 0.06, 140)),
            alone("a slate, with noise", noisy(level(90), 3)),
            alone("one colour", level(130)),
        ],
        "max_border": [
            alone("no bars", rocket),
            alone("letterbox", framed(rocket, 0, 45)),
            alone("pillarbox", framed(rocket[:, 165:375], 165, 0)),
            alone("both", framed(rocket, 70, 60)),
            alone("upright in wide", framed(rocket[:, 170:370], 185, 10)),
            alone("a stamp", framed(rocket, 160, 110)),
        ],
        "max_flash": [
            ("a cut to another shot, and back", [cat, cup, cat], 1),
            ("a slide for one frame", [cat, written(245, 20, "Chapter 1", 1.5), cat], 1),
            ("more light", [cat, lit(cat, 1.2), cat], 1),
            ("light goes on and stays", [cat, lit(cat, 1.8, 70), lit(cat, 1.8, 70)], 1),
            ("a flash", [cat, lit(cat, 1.6, 50), cat], 1),
            ("a strong flash", [cat, lit(cat, 2.5, 90), cat], 1),
        ],
        "min_change": [
            ("another shot", [cat, person], 1),
            ("the camera moved by 3 pixels", [person, np.roll(person, 3, axis=1)], 1),
            ("a small red box came", [person, moved], 1),
            ("a little more light", [person, lit(person, 1.03)], 1),
            ("the same, other noise", [person, noisy(person, 4)], 1),
            ("the same", [person, person], 1),
        ],
    }


def judged(sample: Sample, thresholds: Sequence[str]) -> tuple[str, list[str]]:
    """Return the values that a row is about, and the thresholds that reject it."""
    _, frames, which = sample
    columns = table_columns([measure(frame) for frame in frames])
    blank_row = {field.name: 0 for field in FRAMES_SCHEMA if not field.nullable}
    table = [
        {
            **blank_row,
            **{name: columns[name][index].item() for name in METRIC_COLUMNS},
            **{"video_id": "", "file_name": "", "frame_index": index},
        }
        for index in range(which + 1)
    ]
    rejecting = []
    for name, default in FilterConfig().model_dump(include=set(QUALITY_NAMES)).items():
        only = FilterConfig.model_validate(_LOOSE | {name: default})
        if first_failed(pa.Table.from_pylist(table, FRAMES_SCHEMA), only)[which] >= 0:
            rejecting.append(name)
    metrics = dict.fromkeys(name.partition("_")[2] for name in thresholds)
    values = ", ".join(f"{name} {columns[name][which]:.3f}" for name in metrics)
    return values, rejecting


def _verdict(rejecting: Sequence[str]) -> str:
    more = f" and {len(rejecting) - 2} more" if len(rejecting) > 2 else ""
    return ", ".join(rejecting[:2]) + more or "kept"


def draw(out: Path) -> None:
    """Write the gallery: a row a threshold, from good to bad, with values and verdicts."""
    gallery = rows()
    columns = max(map(len, gallery.values()))
    width = 2 * _MARGIN + _SIDE + columns * (_CELL[0] + _GAP)
    height = 2 * _MARGIN + len(gallery) * (_CELL[1] + _CAPTION + _GAP)
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    font: Callable[[int], Any] = ImageFont.load_default
    defaults = FilterConfig().model_dump(include=set(QUALITY_NAMES))
    for line, (title, samples) in enumerate(gallery.items()):
        y = _MARGIN + line * (_CELL[1] + _CAPTION + _GAP)
        names = title.split(", ")
        for index, name in enumerate(names):
            pen.text((_MARGIN, y + 44 * index), name, _INK, font(16))
            pen.text((_MARGIN, y + 20 + 44 * index), f"{defaults[name]:g}", _FAINT, font(16))
        for index, sample in enumerate(samples):
            x = _MARGIN + _SIDE + index * (_CELL[0] + _GAP)
            values, rejecting = judged(sample, names)
            picture = Image.fromarray(np.ascontiguousarray(sample[1][sample[2]][..., ::-1]))
            sheet.paste(picture.resize(_CELL, Image.Resampling.LANCZOS), (x, y))
            frame = _BAD if rejecting else _GOOD
            box = (x - 3, y - 3, x + _CELL[0] + 2, y + _CELL[1] + 2)
            pen.rectangle(box, outline=frame, width=3)
            pen.text((x, y + _CELL[1] + 5), sample[0], _INK, font(14))
            pen.text((x, y + _CELL[1] + 23), values, _FAINT, font(13))
            pen.text((x, y + _CELL[1] + 40), _verdict(rejecting), frame, font(13))
    sheet.save(out, quality=75, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=Path("docs/quality.jpg"))
    draw(parser.parse_args().out)
