"""The source and the objects of an image, as every export lists them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from dataminer.export.dataset import Dataset
from dataminer.frames.boxes import LabelledImage
from dataminer.frames.table import PROVENANCE

SOURCES_FILE = "sources.csv"
# a spreadsheet takes such text for a formula, which may fetch or run something
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
# an apostrophe that was there is distinguished from an added one by adding another
_PREFIXED = (*_FORMULA, "'")


def origin(image: LabelledImage, dataset: Dataset) -> dict[str, Any]:
    """Return an image's video, its provenance and how it was stored; unknown texts are empty.

    All images of a dataset have the same keys, with values of one type: readers infer columns from
    a few rows.
    """
    video = dataset.videos.get(image.video_id, {})
    return {
        "video_id": image.video_id,
        "frame_index": image.frame_index,
        "pts_time": round(float(image.pts_time), 6),
        "width": image.width,
        "height": image.height,
        **{key: video.get(key, "") for key in PROVENANCE},
        **dataset.stored.get(image.file_name, {}),
    }


def objects(image: LabelledImage, dataset: Dataset) -> dict[str, list[Any]]:
    """Return an image's objects as lists of equal length, the highest score first.

    Returns
    -------
    dict
        ``bbox``: x, y, width, height in pixels, as floats; ``categories``: 0-based classes;
        ``names`` of the classes; ``scores`` in 0..1.
    """
    return {
        "bbox": [[float(v) for v in (b.x, b.y, b.width, b.height)] for b in image.boxes],
        "categories": [box.category for box in image.boxes],
        "names": [dataset.names[box.category] for box in image.boxes],
        "scores": [float(box.score) for box in image.boxes],
    }


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV.

    Text that looks like a formula, or starts with an apostrophe, gets a leading apostrophe.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(_LineFeeds(file), columns, lineterminator=_LineFeeds.ENDING)
        writer.writeheader()
        for row in rows:
            writer.writerow({column: _cell(column, row[column]) for column in columns})


class _LineFeeds:
    """Ends each line with LF, while the writer quotes any text that has a CR or a LF."""

    ENDING = "\r\n"

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> None:
        """Write the text of one row."""
        self._file.write(line.removesuffix(self.ENDING) + "\n")


def _cell(column: str, value: Any) -> Any:
    # ids and file names have only letters, digits, - and _, and must stay as they are for joins
    free = isinstance(value, str) and column not in ("video_id", "file_name")
    return f"'{value}" if free and value.startswith(_PREFIXED) else value


def write_sources(path: Path, dataset: Dataset, split_of: Mapping[str, str]) -> None:
    """Write one row per video: its uploader, licence, split and number of images.

    An attribution can be written from it.
    """
    counts: dict[str, int] = dict.fromkeys(split_of, 0)
    for image in dataset.images:
        counts[image.video_id] += 1
    rows = (
        {
            "video_id": video_id,
            "split": split_of[video_id],
            "images": count,
            **{key: dataset.videos.get(video_id, {}).get(key, "") for key in PROVENANCE},
        }
        for video_id, count in sorted(counts.items())
    )
    write_csv(path, ["video_id", "split", "images", *PROVENANCE], rows)
