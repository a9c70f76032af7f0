"""Detections as YOLO text labels, and the data.yaml that ultralytics trains from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from dataminer.files.publishing import atomic_write
from dataminer.frames.boxes import Box, LabelledImage, sort


def label_lines(image: LabelledImage) -> str:
    """Return a picture's label file: class, centre x, centre y, width, height, all over the size.

    Parameters
    ----------
    image : LabelledImage
        A picture and its boxes in pixels.

    Returns
    -------
    str
        One line an object, classes 0-based, six decimals; empty where there is none.
    """
    return "".join(_line(box, image) for box in sort(image.boxes))


def _line(box: Box, image: LabelledImage) -> str:
    x, y = (box.x + box.width / 2) / image.width, (box.y + box.height / 2) / image.height
    width, height = box.width / image.width, box.height / image.height
    return f"{box.category} {x:.6f} {y:.6f} {width:.6f} {height:.6f}\n"


def label_size(category: int) -> int:
    """Return the bytes of the line of a box: shares of a picture are as long as each other."""
    return len(f"{category}\n") + 4 * len(f" {0:.6f}")


def write_labels(folder: Path, images: Iterable[LabelledImage]) -> None:
    """Write one label file a picture, named as the picture.

    Parameters
    ----------
    folder : Path
        Made if it is not there; it belongs beside ``images/`` and is called ``labels``.
    images : iterable of LabelledImage
        Pictures without objects get an empty file: they are examples of nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        (folder / image.file_name).with_suffix(".txt").write_text(label_lines(image))


def write_data_yaml(path: Path, names: Sequence[str]) -> None:
    """Write the file that ultralytics reads a dataset from, wherever the folder lies.

    Parameters
    ----------
    path : Path
        ``data.yaml``, in the folder that holds ``images/`` and ``labels/``.
    names : sequence of str
        Class names in the model's order.
    """
    _write(path, data_yaml(names))


def data_yaml(names: Sequence[str]) -> str:
    """Return what :func:`write_data_yaml` writes."""
    return _yaml(["train: images", "val: images"], names)


def write_split_yaml(path: Path, names: Sequence[str], splits: Sequence[str]) -> None:
    """Write ``data.yaml`` for a folder that holds ``images/SPLIT`` and ``labels/SPLIT``.

    Parameters
    ----------
    path : Path
        The file to make.
    names : sequence of str
        Class names in the model's order.
    splits : sequence of str
        Those that there are; ultralytics asks for a val, and where there is none gets train.
    """
    lines = [f"{split}: images/{split}" for split in splits]
    if "val" not in splits:
        lines += ["# nothing is held out: scores on val are scores on train", "val: images/train"]
    _write(path, _yaml(lines, names))


def _yaml(lines: Sequence[str], names: Sequence[str]) -> str:
    # no `path:`, because a relative one would be looked for under the working directory;
    # without it ultralytics takes the folder that this file lies in
    lines = [*lines, "names:" if names else "names: {}"]
    # a JSON string is a YAML string, whatever is in the name
    lines += [f"  {number}: {json.dumps(name)}" for number, name in enumerate(names)]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")
