"""Detections as YOLO text labels, and the data.yaml that ultralytics trains from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from dataminer.files.publishing import atomic_write
from dataminer.frames.boxes import Box, LabelledImage, sort
from dataminer.text import whole_characters

_NOT_ASCII = re.compile("[^ -~]")


def label_lines(image: LabelledImage) -> str:
    """Return an image's label file: class, centre x, centre y, width, height, relative to its size.

    Parameters
    ----------
    image : LabelledImage
        An image and its boxes in pixels.

    Returns
    -------
    str
        One line per object, classes 0-based, six decimals; empty if there is no object.
    """
    return "".join(_line(box, image) for box in sort(image.boxes))


def _line(box: Box, image: LabelledImage) -> str:
    x, y = (box.x + box.width / 2) / image.width, (box.y + box.height / 2) / image.height
    width, height = box.width / image.width, box.height / image.height
    return f"{box.category} {x:.6f} {y:.6f} {width:.6f} {height:.6f}\n"


def label_size(category: int) -> int:
    """Return the bytes of a box's line; its four numbers always have the same length."""
    return len(f"{category}\n") + 4 * len(f" {0:.6f}")


def write_labels(folder: Path, images: Iterable[LabelledImage]) -> None:
    """Write one label file per image, with the name of the image.

    Parameters
    ----------
    folder : Path
        Created if necessary; it is called ``labels`` and lies beside ``images/``.
    images : iterable of LabelledImage
        Images without objects get an empty file: they are negative examples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        (folder / image.file_name).with_suffix(".txt").write_text(label_lines(image))


def write_data_yaml(path: Path, names: Sequence[str]) -> None:
    """Write the file from which ultralytics reads a dataset, wherever its folder is.

    Parameters
    ----------
    path : Path
        ``data.yaml``, in the folder that holds ``images/`` and ``labels/``.
    names : sequence of str
        Class names in the model's order.
    """
    _write(path, data_yaml(names))


def data_yaml(names: Sequence[str]) -> str:
    """Return the text of ``data.yaml``."""
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
        The splits that exist. ultralytics needs a val split; if there is none, it gets train.
    """
    lines = [f"{split}: images/{split}" for split in splits]
    if "val" not in splits:
        lines += ["# nothing is held out: scores on val are scores on train", "val: images/train"]
    _write(path, _yaml(lines, names))


def _yaml(lines: Sequence[str], names: Sequence[str]) -> str:
    # no `path:`, because ultralytics would resolve a relative one under the working directory;
    # without it, ultralytics uses the folder of this file
    lines = [*lines, "names:" if names else "names: {}"]
    lines += [f"  {number}: {_quoted(name)}" for number, name in enumerate(names)]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return a text as a YAML string in ASCII, which is read alike in every encoding.

    It is a JSON string, except for characters beyond U+FFFF: JSON escapes each as two surrogates,
    which YAML refuses (https://yaml.org/spec/1.2.2/#57-escaped-characters).
    """
    return _NOT_ASCII.sub(_escape, json.dumps(whole_characters(text), ensure_ascii=False))


def _escape(character: re.Match[str]) -> str:
    code = ord(character[0])
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")
