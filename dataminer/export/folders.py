"""Writers of the formats that are folders of images with a few files beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataminer.export.dataset import STORED, Dataset
from dataminer.export.job import ExportJob
from dataminer.export.records import objects, origin, write_csv, write_jsonl
from dataminer.formats.coco import coco_dataset, write_coco
from dataminer.formats.yolo import write_labels, write_split_yaml
from dataminer.frames.boxes import LabelledImage
from dataminer.frames.table import FRAMES_SCHEMA, PROVENANCE

_TEXTS = [pa.field(name, pa.string()) for name in PROVENANCE]
_BOX = ("x", "y", "box_width", "box_height")
IMAGES_SCHEMA = pa.schema(
    [
        # relative to the folder of the table
        pa.field("path", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("file_name", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("frame_index", pa.int32(), nullable=False),
        pa.field("pts_time", pa.float64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        *_TEXTS,
    ]
)
STORED_SCHEMA = pa.schema(
    [
        pa.field(name, pa.bool_() if kind == pa.bool_() else pa.string(), nullable=False)
        for name, kind in ((name, FRAMES_SCHEMA.field(name).type) for name in STORED)
    ]
)
OBJECTS_SCHEMA = pa.schema(
    [
        *(IMAGES_SCHEMA.field(name) for name in ("path", "split", "file_name", "video_id")),
        pa.field("category", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in _BOX),  # pixels
    ]
)


def write_coco_folder(job: ExportJob) -> None:
    """Write COCO in the layout of COCO itself: ``SPLIT/``, ``annotations/instances_SPLIT.json``."""
    dataset = job.dataset
    for split in job.division.used:
        images = job.put_images(split, job.out / split)
        info = {"project": dataset.project, "split": split, **dataset.info}
        made = coco_dataset(
            images, dataset.names, info=info, videos=dataset.videos, stored=dataset.stored
        )
        write_coco(job.out / "annotations" / f"instances_{split}.json", made)


def write_yolo_folder(job: ExportJob) -> None:
    """Write YOLO: ``images/SPLIT``, ``labels/SPLIT``, ``data.yaml`` and ``images.jsonl``."""
    rows = []
    for split in job.division.used:
        images = job.put_images(split, job.out / "images" / split)
        if job.dataset.labelled:
            write_labels(job.out / "labels" / split, images)
        rows += [
            {"path": f"images/{split}/{image.file_name}", **origin(image, job.dataset)}
            for image in images
        ]
    write_split_yaml(job.out / "data.yaml", job.dataset.names, job.division.used)
    write_jsonl(job.out / "images.jsonl", rows)


def write_imagefolder(job: ExportJob) -> None:
    """Write Hugging Face's imagefolder: ``SPLIT/`` with images and their metadata.

    Images are numbered, because readers infer a split from a name that contains a word such as
    `test`. The metadata is JSON lines; if only some splits have objects it is Parquet, because JSON
    has no type for the items of an empty list.
    """
    number = 0
    splits = {split: job.images_of(split) for split in job.division.used}
    typed = len({any(image.boxes for image in images) for images in splits.values()}) > 1
    for split, images in splits.items():
        (job.out / split).mkdir()
        rows = []
        for image in images:
            number += 1
            name = f"{number:09d}.{image.file_name.rpartition('.')[2]}"
            job.images.put(image.file_name, job.out / split / name)
            rows.append(_described(name, image, job.dataset))
        if typed:
            pq.write_table(_metadata(rows), job.out / split / "metadata.parquet")
        else:
            # a row with objects first: readers infer the types from the first rows
            rows.sort(key=lambda row: not row.get("objects", {}).get("bbox"))
            write_jsonl(job.out / split / "metadata.jsonl", rows)


def _described(name: str, image: LabelledImage, dataset: Dataset) -> dict[str, Any]:
    row = {"file_name": name, "frame": image.file_name, **origin(image, dataset)}
    return {**row, "objects": objects(image, dataset)} if dataset.labelled else row


def _metadata(rows: list[dict[str, Any]]) -> pa.Table:
    lists = {"bbox": pa.list_(pa.float64()), "categories": pa.int64(), "names": pa.string()}
    lists["scores"] = pa.float64()
    kind = pa.struct([pa.field(name, pa.list_(value)) for name, value in lists.items()])
    values = pa.array([row.pop("objects") for row in rows], kind)
    return pa.Table.from_pylist(rows).append_column("objects", values)


def write_csv_tables(job: ExportJob) -> None:
    """Write ``images.csv`` and, if there are labels, ``objects.csv``, beside ``images/``."""
    images, found = _tables(job)
    write_csv(job.out / "images.csv", _images_schema(job.dataset).names, images)
    if job.dataset.labelled:
        write_csv(job.out / "objects.csv", OBJECTS_SCHEMA.names, found)


def write_parquet_tables(job: ExportJob) -> None:
    """Write the tables of :func:`write_csv_tables` as Parquet."""
    images, found = _tables(job)
    tables = {"images": (images, _images_schema(job.dataset))}
    if job.dataset.labelled:
        tables["objects"] = (found, OBJECTS_SCHEMA)
    for name, (rows, schema) in tables.items():
        table = pa.Table.from_pylist(rows, schema=schema)
        pq.write_table(table, job.out / f"{name}.parquet", compression="zstd")


def _images_schema(dataset: Dataset) -> pa.Schema:
    return pa.schema([*IMAGES_SCHEMA, *(STORED_SCHEMA if dataset.stored else ())])


def _tables(job: ExportJob) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Fill ``images/``, and return a row per image and a row per object."""
    images, found = [], []
    for split in job.division.used:
        for image in job.put_images(split, job.out / "images" / split):
            image_row = {
                "path": f"images/{split}/{image.file_name}",
                "split": split,
                "file_name": image.file_name,
            }
            images.append({**image_row, **origin(image, job.dataset)})
            found += [{**image_row, **row} for row in _object_rows(image, job.dataset)]
    return images, found


def _object_rows(image: LabelledImage, dataset: Dataset) -> Iterator[dict[str, Any]]:
    for box in image.boxes:
        yield {
            "video_id": image.video_id,
            "category": box.category,
            "name": dataset.names[box.category],
            "score": box.score,
            **dict(zip(_BOX, (box.x, box.y, box.width, box.height), strict=True)),
        }
