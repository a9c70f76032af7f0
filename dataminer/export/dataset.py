"""A project's dataset as it is exported: images, their boxes, and their sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataminer import commands
from dataminer.errors import DamagedFile, DataminerError
from dataminer.frames.boxes import Box, LabelledImage, sort
from dataminer.frames.table import (
    FRAMES_FILE,
    FRAMES_SCHEMA,
    PROVENANCE,
    public_provenance,
    read_names,
    read_table,
)
from dataminer.store.documents import read_annotations
from dataminer.store.layout import ANNOTATIONS_FILE, Store
from dataminer.text import whole_characters

IMAGES_FOLDER = "images"
_MODEL_KEYS = ("model", "model_sha256", "confidence", "image_size", "description")


@dataclass(frozen=True)
class Dataset:
    """Images of a project, in the order of video and frame.

    Attributes
    ----------
    project : str
        Its name.
    folder : Path
        The folder of the images, or of a frame table that leads to their archive.
    images : tuple of LabelledImage
        Boxes are ordered by score, the highest first.
    names : tuple of str
        Classes, indexed by ``Box.category``; empty if nothing is labelled.
    videos : dict
        By video_id: title, uploader, licence, upload_date, url, as far as they are known.
    labelled : bool
        Whether a detector has processed the images.
    info : dict
        The origin of the labels: the model, its checksum, its least score.
    notes : tuple of str
        Messages for the user, if the dataset may be incomplete.
    """

    project: str
    folder: Path
    images: tuple[LabelledImage, ...]
    names: tuple[str, ...]
    videos: Mapping[str, Mapping[str, str]]
    labelled: bool
    info: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_labelled(store: Store, project: str) -> Dataset:
    """Read a project's annotated images.

    Raises
    ------
    DataminerError
        There is no such project, or it has no annotations or no images.
    """
    path = store.detect(project) / ANNOTATIONS_FILE
    try:
        coco = read_annotations(path)
        images, classes = _images(coco), [each["name"] for each in _categories(coco)]
    except FileNotFoundError:
        raise _nothing_yet(store, project, "annotations") from None
    except (KeyError, DamagedFile) as error:
        raise _cannot_be_read(
            path, "annotations", error, f"`dataminer force-detect {project}`"
        ) from error
    _refuse_empty(project, images)
    return Dataset(
        project=project,
        folder=store.detect(project) / IMAGES_FOLDER,
        images=images,
        names=tuple(map(whole_characters, classes)),
        videos=_videos(coco["images"]),
        labelled=True,
        info={key: coco["info"][key] for key in _MODEL_KEYS if key in coco["info"]},
        notes=_behind(store, project, images) + _replaced(classes),
    )


def load_unlabelled(store: Store, project: str) -> Dataset:
    """Read a project's unique frames, whether or not a detector has processed them.

    Raises
    ------
    DataminerError
        There is no such project, or it has no unique frames.
    """
    path = store.dedup(project) / FRAMES_FILE
    columns = ["file_name", "width", "height", "video_id", "frame_index", "pts_time"]
    try:
        rows = read_table(path, [*columns, *PROVENANCE], schema=FRAMES_SCHEMA).to_pylist()
    except FileNotFoundError:
        raise _nothing_yet(store, project, "unique frames") from None
    except DamagedFile as error:
        raise _cannot_be_read(
            path, "a frame table", error, f"`dataminer force-dedup {project}`"
        ) from error
    images = _ordered(LabelledImage(**{key: row[key] for key in columns}) for row in rows)
    _refuse_empty(project, images)
    folder = store.dedup(project)
    return Dataset(project, folder, images, (), _videos(rows), labelled=False)


def _categories(coco: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return sorted(coco["categories"], key=lambda category: int(category["id"]))


def _images(coco: Mapping[str, Any]) -> tuple[LabelledImage, ...]:
    numbers = {category["id"]: number for number, category in enumerate(_categories(coco))}
    boxes: dict[int, list[Box]] = {image["id"]: [] for image in coco["images"]}
    for found in coco["annotations"]:
        x, y, width, height = map(float, found["bbox"])
        box = Box(numbers[found["category_id"]], x, y, width, height, float(found["score"]))
        boxes[found["image_id"]].append(box)
    return _ordered(
        LabelledImage(
            file_name=image["file_name"],
            width=image["width"],
            height=image["height"],
            video_id=image["video_id"],
            frame_index=image["frame_index"],
            pts_time=float(image["pts_time"]),
            boxes=tuple(sort(boxes[image["id"]])),
        )
        for image in coco["images"]
    )


def _ordered(images: Iterable[LabelledImage]) -> tuple[LabelledImage, ...]:
    return tuple(sorted(images, key=lambda image: (image.video_id, image.frame_index)))


def _videos(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return the provenance of each video, from its first row."""
    videos: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["video_id"] not in videos:
            videos[row["video_id"]] = {
                k: whole_characters(v) for k, v in public_provenance(row).items()
            }
    return dict(sorted(videos.items()))


def _behind(store: Store, project: str, images: Iterable[LabelledImage]) -> tuple[str, ...]:
    """Return a note if some unique frames are not annotated."""
    try:
        unique = read_names(store.dedup(project) / FRAMES_FILE)
    except FileNotFoundError:
        return ()
    except DamagedFile as error:
        return (f"{error.message}. Next: `{commands.snakemake([project])}`",)
    if missing := len(set(unique) - {each.file_name for each in images}):
        left_out = f"{missing:,} unique frames are not annotated yet, and left out"
        return (f"{left_out}. Next: `{commands.snakemake([project])}`",)
    return ()


def _replaced(classes: Iterable[str]) -> tuple[str, ...]:
    """Return a note for each class whose name is no valid Unicode."""
    return tuple(
        f"class {number} is exported as {whole_characters(name)!r}: `?` replaces a half of a"
        " character (a lone surrogate), which no file can hold"
        for number, name in enumerate(classes)
        if name != whole_characters(name)
    )


def _cannot_be_read(path: Path, what: str, error: Exception, step: str) -> DataminerError:
    reason = error.message if isinstance(error, DamagedFile) else f"{path} lacks {error}"
    return DataminerError(f"{reason}: it cannot be read as {what}", step)


def _nothing_yet(store: Store, project: str, what: str) -> DataminerError:
    if not store.project(project).is_dir():
        return DataminerError(
            f"there is no project {project} under {store.root}",
            "`dataminer status` lists the projects; `--config FILE` names another store",
        )
    step = f"`{commands.snakemake([project])}`"
    if what == "annotations" and (store.dedup(project) / FRAMES_FILE).is_file():
        step += ", or --frames-only for its unique frames without annotations"
    return DataminerError(f"project {project} has no {what} yet", step)


def _refuse_empty(project: str, images: tuple[LabelledImage, ...]) -> None:
    if not images:
        raise DataminerError(
            f"project {project} has no frame to export: none of its frames passed the filter",
            f"`dataminer preview {project}` shows which threshold rejects how many",
        )
