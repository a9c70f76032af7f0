"""A project's dataset as it is exported: images, their boxes, and their sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    read_table,
)
from dataminer.store.documents import read_annotations
from dataminer.store.layout import ANNOTATIONS_FILE, Store
from dataminer.text import whole_characters

IMAGES_FOLDER = "images"
STORED = ("damaged", "deinterlaced", "sample_aspect_ratio", "transfer", "primaries")
"""What exports say of how the video has a frame, by which whoever trains may select frames.

The matrix and the bit depth are left out: images are RGB of eight bits, whatever these are.
"""
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
    stored : dict
        By file name: the columns ``STORED`` of the frame table, with unknown texts empty; has all
        images, or none if it is not known of each.
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
    stored: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
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
    unique, damaged = _unique_frames(store, project)
    stored, unknown = _stored(unique, images)
    return Dataset(
        project=project,
        folder=store.detect(project) / IMAGES_FOLDER,
        images=images,
        names=tuple(map(whole_characters, classes)),
        videos=_videos(coco["images"]),
        labelled=True,
        stored=stored,
        info={key: coco["info"][key] for key in _MODEL_KEYS if key in coco["info"]},
        notes=(*damaged, *_behind(project, unique, images), *_replaced(classes), *unknown),
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
        names = [*columns, *PROVENANCE, *STORED]
        rows = read_table(path, names, schema=FRAMES_SCHEMA).to_pylist()
    except FileNotFoundError:
        raise _nothing_yet(store, project, "unique frames") from None
    except DamagedFile as error:
        raise _cannot_be_read(
            path, "a frame table", error, f"`dataminer force-dedup {project}`"
        ) from error
    images = _ordered(LabelledImage(**{key: row[key] for key in columns}) for row in rows)
    _refuse_empty(project, images)
    stored, notes = _stored(rows, images)
    return Dataset(
        project=project,
        folder=store.dedup(project),
        images=images,
        names=(),
        videos=_videos(rows),
        labelled=False,
        stored=stored,
        notes=notes,
    )


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


def _unique_frames(store: Store, project: str) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return names of the unique frames and how they were stored; if that is damaged, a note."""
    path = store.dedup(project) / FRAMES_FILE
    try:
        rows = read_table(path, ["file_name", *STORED], schema=FRAMES_SCHEMA).to_pylist()
    except FileNotFoundError:
        return [], ()
    except DamagedFile as error:
        return [], (f"{error.message}. Next: `{commands.snakemake([project])}`",)
    return rows, ()


def _behind(
    project: str, unique: Iterable[Mapping[str, Any]], images: Iterable[LabelledImage]
) -> tuple[str, ...]:
    """Return a note if some unique frames are not annotated."""
    names = {row["file_name"] for row in unique}
    if missing := len(names - {each.file_name for each in images}):
        left_out = f"{missing:,} unique frames are not annotated yet, and left out"
        return (f"{left_out}. Next: `{commands.snakemake([project])}`",)
    return ()


def _stored(
    rows: Iterable[Mapping[str, Any]], images: Sequence[LabelledImage]
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """Return how each image was stored, by file name; nothing and a note if some are unknown."""
    known = {
        row["file_name"]: {key: "" if row[key] is None else row[key] for key in STORED}
        for row in rows
        if None not in (row["damaged"], row["deinterlaced"])
    }
    if unknown := sum(image.file_name not in known for image in images):
        columns = f"{', '.join(STORED[:-1])} and {STORED[-1]}"
        return {}, (f"{columns} are left out: they are not known of {unknown:,} of the frames",)
    return {image.file_name: known[image.file_name] for image in images}, ()


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
