"""Which images a COCO file and YOLO's ``data.yaml`` name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dataminer.errors import DataminerError

_Error = Callable[[str, str], DataminerError]
"""Makes an error of a reason and the next step."""

_TRIED = 50  # images by which the folder of a COCO file's images is found
_SPLITS = ("train", "val", "test")


def coco_images(path: Path, error: _Error) -> list[Path]:
    """Return the images of a COCO file.

    They are looked for beside the file, in a folder ``images`` there, in the folder above it, and
    in those named after the split, as ``val`` for ``annotations/instances_val.json``.

    Parameters
    ----------
    path : Path
        The file.
    error : callable
        Makes the error to raise if it cannot be read, or if images are missing.
    """
    try:
        images = json.loads(path.read_bytes())["images"]
        names = [str(image["file_name"]).replace("\\", "/") for image in images]
    except (ValueError, KeyError, TypeError, RecursionError):
        reason = "cannot be read as a COCO file: it has no list `images` with a `file_name` each"
        raise error(reason, "name the annotation file of a COCO dataset, or its images") from None
    names = list(dict.fromkeys(names))
    folder = max(_image_folders(path), key=lambda each: _count_present(each, names[:_TRIED]))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        reason = f"names {len(names):,} images, of which {len(missing):,} are missing"
        step = f"put them below {folder}, or name the folder of the images instead"
        raise error(f"{reason}: {missing[0]}", step)
    return [folder / name for name in names]


def _image_folders(path: Path) -> list[Path]:
    """Return the folders in which the images of a COCO file may be, likely ones first."""
    above, split = path.parent.parent, re.sub(r"^[a-z_]*_", "", path.stem)
    beside = [path.parent, path.parent / "images"]
    by_split = [above / split, above / "images" / split, path.parent / split]
    return [*beside, *by_split, above, above / "images"]


def _count_present(folder: Path, names: Sequence[str]) -> int:
    return sum((folder / name).is_file() for name in names)


def yolo_sources(path: Path, error: _Error) -> Iterator[Path]:
    """Yield the folders and images that a ``data.yaml`` of ultralytics names for its splits.

    Parameters
    ----------
    path : Path
        The file. Paths in it are relative to its ``path``, and that to the file.
    error : callable
        Makes the error to raise if it cannot be read, or names what is missing.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_bytes())
        root = path.parent / str(data.get("path") or "")
        named = [entry for split in _SPLITS for entry in _entries(data.get(split))]
    except (yaml.YAMLError, AttributeError, ValueError):
        raise error("cannot be read as YOLO's data.yaml", "name the images' folder") from None
    for entry in dict.fromkeys(named):
        found = _resolve(root, path.parent, entry)
        if found is None:
            reason = f"names {entry}, which is missing below {root}"
            raise error(reason, "correct the file, or name the images' folders instead")
        if found.suffix.lower() == ".txt":
            yield from _listed(found)
        else:
            yield found


def _entries(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def _resolve(root: Path, folder: Path, entry: str) -> Path | None:
    """Return the path of a split; as for ultralytics, ``../`` may be one too many."""
    tried = (root / entry, root / entry.removeprefix("../"), folder / entry)
    return next((path for path in tried if path.exists()), None)


def _listed(path: Path) -> Iterator[Path]:
    """Yield the images of a text file, one a line."""
    for line in path.read_text("utf-8", "surrogateescape").splitlines():
        if line.strip():
            yield path.parent / line.strip()
