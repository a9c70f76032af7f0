"""Read each export with the library that people read it with."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from PIL import Image

Box = tuple[str, float, float, float, float]  # class, and x, y, width, height in pixels


class Seen(NamedTuple):
    """What a reader gives for one picture."""

    split: str
    pixels: bytes
    boxes: tuple[Box, ...]


Read = dict[str, Seen]  # by the frame's file name
Rows = list[dict[str, Any]]
_SPLIT = {"validation": "val"}


def seen(split: str, picture: Any, boxes: Any) -> Seen:
    rounded = ((str(name), *(round(float(v), 1) for v in box)) for name, box in boxes)
    return Seen(split, np.asarray(picture).tobytes(), tuple(sorted(rounded)))  # type: ignore[arg-type]


def pycocotools(folder: Path) -> Read:
    from pycocotools.coco import COCO

    read = {}
    for path in (folder / "annotations").iterdir():
        split = path.stem.removeprefix("instances_")
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(path)
        names = {key: category["name"] for key, category in coco.cats.items()}
        for image in coco.loadImgs(coco.getImgIds()):
            found = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
            boxes = [(names[each["category_id"]], each["bbox"]) for each in found]
            with Image.open(folder / split / image["file_name"]) as picture:
                read[image["file_name"]] = seen(split, picture, boxes)
    return read


def supervision_coco(folder: Path) -> Read:
    import supervision

    return {
        name: each
        for path in (folder / "annotations").iterdir()
        for name, each in _supervision(
            supervision.DetectionDataset.from_coco(
                str(folder / path.stem.removeprefix("instances_")), str(path)
            ),
            path.stem.removeprefix("instances_"),
        )
    }


def supervision_yolo(folder: Path) -> Read:
    import supervision

    return {
        name: each
        for split in (path.name for path in (folder / "images").iterdir())
        for name, each in _supervision(
            supervision.DetectionDataset.from_yolo(
                str(folder / "images" / split),
                str(folder / "labels" / split),
                str(folder / "data.yaml"),
            ),
            split,
        )
    }


def _supervision(dataset: Any, split: str) -> Iterator[tuple[str, Seen]]:
    for path, image, found in dataset:
        boxes = [
            (dataset.classes[kind], (x1, y1, x2 - x1, y2 - y1))
            for (x1, y1, x2, y2), kind in zip(found.xyxy, found.class_id, strict=True)
        ]
        yield Path(path).name, seen(split, image[..., ::-1], boxes)  # OpenCV's order of colours


def ultralytics(folder: Path) -> Read:
    from ultralytics.data.utils import check_det_dataset, img2label_paths

    data = check_det_dataset(folder / "data.yaml", autodownload=False)
    read = {}
    for split in ("train", "val", "test"):
        images = sorted(Path(data[split]).iterdir()) if data.get(split) else []
        for path, label in zip(images, img2label_paths([str(i) for i in images]), strict=True):
            with Image.open(path) as picture:
                boxes = [
                    (data["names"][int(line.split()[0])], _pixels(line, picture.size))
                    for line in Path(label).read_text().splitlines()
                ]
                read[path.name] = seen(split, picture, boxes)
    return read


def _pixels(line: str, size: tuple[int, int]) -> tuple[float, ...]:
    x, y, width, height = map(float, line.split()[1:])
    return (
        (x - width / 2) * size[0],
        (y - height / 2) * size[1],
        width * size[0],
        height * size[1],
    )


def webdataset(folder: Path) -> Read:
    import webdataset

    shards = sorted(str(path) for path in folder.glob("*.tar"))
    samples = (
        webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8").to_tuple("jpg", "json")
    )
    return {
        about["file_name"]: seen(
            about["split"],
            picture,
            zip(about["objects"]["names"], about["objects"]["bbox"], strict=True),
        )
        for picture, about in samples
    }


def datasets_webdataset(folder: Path) -> Read:
    import datasets

    read = {}
    for split, rows in datasets.load_dataset("webdataset", data_dir=str(folder)).items():
        for row in rows:
            about, found = row["json"], row["json"]["objects"]
            boxes = zip(found["names"], found["bbox"], strict=True)
            read[about["file_name"]] = seen(_SPLIT.get(split, split), row["jpg"], boxes)
    return read


def datasets_imagefolder(folder: Path) -> Read:
    import datasets

    read, names = {}, json.loads((folder / "dataminer.json").read_text())["classes"]
    for split, rows in datasets.load_dataset("imagefolder", data_dir=str(folder)).items():
        for row in rows:
            found = row["objects"]
            assert found["names"] == [names[kind] for kind in found["categories"]]
            boxes = zip(found["names"], found["bbox"], strict=True)
            read[row["frame"]] = seen(_SPLIT.get(split, split), row["image"], boxes)
    return read


def arrow_csv(folder: Path) -> Read:
    multiline = pyarrow.csv.ParseOptions(newlines_in_values=True)
    texts = pyarrow.csv.ConvertOptions(column_types={"name": pa.string()})
    tables = [
        pyarrow.csv.read_csv(
            folder / f"{name}.csv", parse_options=multiline, convert_options=texts
        ).to_pylist()
        for name in ("images", "objects")
    ]
    return _tables(folder, *tables)


def pandas_csv(folder: Path) -> Read:
    import pandas

    tables = [
        pandas.read_csv(folder / f"{name}.csv", dtype={"name": str}, keep_default_na=False)
        for name in ("images", "objects")
    ]
    return _tables(folder, *(table.to_dict("records") for table in tables))


def arrow_parquet(folder: Path) -> Read:
    tables = [
        pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("images", "objects")
    ]
    return _tables(folder, *tables, is_csv=False)


def _tables(folder: Path, images: Rows, objects: Rows, *, is_csv: bool = True) -> Read:
    boxes: dict[str, list[tuple[str, Any]]] = {}
    for row in objects:
        name = without_apostrophe(row["name"]) if is_csv else row["name"]
        box = [row[key] for key in ("x", "y", "box_width", "box_height")]
        boxes.setdefault(row["path"], []).append((name, box))
    read = {}
    for row in images:
        with Image.open(folder / row["path"]) as picture:
            read[row["file_name"]] = seen(row["split"], picture, boxes.get(row["path"], ()))
    return read


def without_apostrophe(text: str) -> str:
    """Return what a text in CSV is without the apostrophe that docs/export.md describes."""
    return text.removeprefix("'")


READERS = {
    pycocotools: "coco",
    supervision_coco: "coco",
    ultralytics: "yolo",
    supervision_yolo: "yolo",
    webdataset: "webdataset",
    datasets_webdataset: "webdataset",
    datasets_imagefolder: "imagefolder",
    arrow_csv: "csv",
    pandas_csv: "csv",
    arrow_parquet: "parquet",
}


def _cell(column: str, text: str) -> Any:
    if column in ("damaged", "deinterlaced"):
        return {"True": True, "False": False}[text]
    if column in ("frame_index", "pts_time"):
        return float(text)
    return without_apostrophe(text)


def provenance(folder: Path, kind: str) -> dict[str, dict[str, Any]]:
    """Return what an export says of each frame's origin, by its file name."""
    if kind == "coco":
        files = [json.loads(path.read_text()) for path in (folder / "annotations").iterdir()]
        return {image["file_name"]: image for each in files for image in each["images"]}
    if kind == "yolo":
        rows = [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]
        return {Path(row["path"]).name: row for row in rows}
    if kind == "imagefolder":
        files = [path.read_text() for path in sorted(folder.glob("*/metadata.jsonl"))]
        rows = [json.loads(line) for text in files for line in text.splitlines()]
        return {row["frame"]: row for row in rows}
    if kind == "webdataset":
        import tarfile

        found = {}
        for shard in folder.glob("*.tar"):
            with tarfile.open(shard) as archive:
                for member in archive:
                    if member.name.endswith(".json"):
                        row = json.load(archive.extractfile(member))  # type: ignore[arg-type]
                        found[row["file_name"]] = row
        return found
    if kind == "csv":
        with (folder / "images.csv").open(encoding="utf-8", newline="") as file:
            rows = [dict(row) for row in csv.DictReader(file)]
        return {row["file_name"]: {k: _cell(k, v) for k, v in row.items()} for row in rows}
    return {row["file_name"]: row for row in pq.read_table(folder / "images.parquet").to_pylist()}
