"""An overview image of a dataset: a grid of frames with their boxes."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from dataminer.errors import DamagedFile
from dataminer.files.publishing import atomic_write
from dataminer.files.reading import read_file
from dataminer.frames.image_decoding import check_declared_pixels, open_image
from dataminer.frames.result_files import result_file
from dataminer.store.documents import read_annotations
from dataminer.text import cut, inert

MOST_FRAMES = 48
_COLUMNS = 6
_CELL = (320, 180)  # pixels of a frame on the sheet
_GAP, _MARGIN, _CAPTION, _HEADER = 18, 36, 26, 64
_PAPER, _INK, _FAINT, _MAT = "#ffffff", "#1d1d1f", "#6e6e73", "#f0f0f2"
_LONGEST = 100  # characters of a text; a cell has room for fewer
# distinct on photographs, and dark enough for white text
COLOURS = ("#d1343b", "#2269c9", "#1f8a4c", "#b3620a", "#8a3ab9", "#0b7a8a", "#b02a78", "#5a6b1f")


@dataclass(frozen=True)
class _Page:
    images: Sequence[Mapping[str, Any]]
    boxes: Mapping[int, Sequence[Mapping[str, Any]]]
    names: Mapping[int, str]
    headline: str


def contact_sheet(detect_dir: Path, out: Path, *, most: int = MOST_FRAMES) -> int:
    """Draw frames of a dataset in a grid: boxes, class names and scores, video and time.

    Parameters
    ----------
    detect_dir : Path
        The output of the detect stage: ``annotations.json`` and ``images/``.
    out : Path
        The image to write, ``.png`` or ``.jpg``.
    most : int
        Maximum number of frames, spread evenly over the dataset.

    Returns
    -------
    int
        Number of frames on the sheet.

    Raises
    ------
    FileNotFoundError
        The folder contains no dataset.
    """
    page = _read(detect_dir / "annotations.json", most)
    sheet = _blank(len(page.images))
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 6), page.headline, _INK, _font(22))
    for number, image in enumerate(page.images):
        row, column = divmod(number, _COLUMNS)
        x = _MARGIN + column * (_CELL[0] + _GAP)
        y = _MARGIN + _HEADER - 12 + row * (_CELL[1] + _CAPTION + _GAP)
        sheet.paste(_cell(detect_dir / "images", image, page), (x, y))
        draw.text((x, y + _CELL[1] + 6), _caption(image), _FAINT, _font(14))
    with atomic_write(out) as partial:
        sheet.save(partial, quality=90)
    return len(page.images)


def _read(annotations: Path, most: int) -> _Page:
    dataset = read_annotations(annotations)
    boxes: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for annotation in dataset["annotations"]:
        boxes[annotation["image_id"]].append(annotation)
    images, found = dataset["images"], dataset["annotations"]
    chosen = spread(images, most)
    headline = f"{_count(len(images), 'frame')}, {_count(len(found), 'object')}"
    if project := dataset["info"].get("project"):
        headline = f"{_safe(project)}: {headline}"
    if len(chosen) < len(images):
        headline += f"; {len(chosen)} frames shown"
    names = {category["id"]: category["name"] for category in dataset["categories"]}
    return _Page(chosen, boxes, names, headline)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most ``most`` items, spread evenly, with the first and the last."""
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[0]]
    return [items[number * (len(items) - 1) // (most - 1)] for number in range(most)]


def _blank(frames: int) -> Image.Image:
    rows = max(1, -(-frames // _COLUMNS))
    width = 2 * _MARGIN + _COLUMNS * _CELL[0] + (_COLUMNS - 1) * _GAP
    height = 2 * _MARGIN + _HEADER - 12 + rows * (_CELL[1] + _CAPTION) + (rows - 1) * _GAP
    return Image.new("RGB", (width, height), _PAPER)


def _cell(folder: Path, image: Mapping[str, Any], page: _Page) -> Image.Image:
    """Return a frame, scaled to fit a cell, with its boxes; an empty cell if it is damaged."""
    cell = Image.new("RGB", _CELL, _MAT)
    try:
        with result_file(folder, image["file_name"], folder.parent) as path:
            data = read_file(path)
        check_declared_pixels(data, image["width"] * image["height"])
        with open_image(data) as source:
            frame = source.convert("RGB")
    except (ValueError, DamagedFile):
        return cell
    scale = min(_CELL[0] / frame.width, _CELL[1] / frame.height)
    size = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    frame = frame.resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(frame)
    # the highest score last, so that its label is on top
    for annotation in reversed(page.boxes.get(image["id"], [])):
        _draw_box(draw, annotation, page.names, scale)
    cell.paste(frame, ((_CELL[0] - size[0]) // 2, (_CELL[1] - size[1]) // 2))
    return cell


def _draw_box(
    draw: ImageDraw.ImageDraw, annotation: Mapping[str, Any], names: Mapping[int, str], scale: float
) -> None:
    x, y, width, height = (value * scale for value in annotation["bbox"])
    colour = COLOURS[(annotation["category_id"] - 1) % len(COLOURS)]
    draw.rectangle((x, y, max(x + width, x + 2), max(y + height, y + 2)), outline=colour, width=2)
    label = _safe(names[annotation["category_id"]])
    if "score" in annotation:
        label += f" {annotation['score']:.2f}"
    font = _font(12)
    left, _, right, _ = draw.textbbox((0, 0), label, font)
    room_x, room_y = draw.im.size
    label_x = max(0, min(x, room_x - (right - left) - 8))
    label_y = y - 16 if y >= 16 else min(y + height, room_y - 17)  # below if there is no room above
    draw.rectangle((label_x, label_y, label_x + right - left + 7, label_y + 16), fill=colour)
    draw.text((label_x + 4, label_y + 1), label, "#ffffff", font)


def _caption(image: Mapping[str, Any]) -> str:
    """Return a video's title and the time; its id if the font cannot show the title."""
    minutes, seconds = divmod(float(image["pts_time"]), 60)
    time = f"{int(minutes)}:{seconds:04.1f}"
    title = cut(str(image.get("title") or image["video_id"]), _LONGEST)
    name = title if _latin(title) else _safe(image["video_id"])
    font, room = _font(14), _CELL[0] - _font(14).getlength(f"  {time}")
    if font.getlength(name) > room:
        while name and font.getlength(f"{name}...") > room:
            name = name[:-1]
        name = f"{name.rstrip()}..."
    return f"{name}  {time}"


def _latin(text: str) -> bool:
    return text.isprintable() and all(ord(c) < 0x180 for c in unicodedata.normalize("NFC", text))


def _safe(text: Any) -> str:
    return inert(cut(str(text), _LONGEST))


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
