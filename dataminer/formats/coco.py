"""Detections as one COCO file: images, boxes, and the source of each image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataminer.files.publishing import atomic_write
from dataminer.frames.boxes import LabelledImage, sort
from dataminer.frames.table import public_provenance


def coco_dataset(
    images: Iterable[LabelledImage],
    names: Sequence[str],
    *,
    info: Mapping[str, Any] | None = None,
    videos: Mapping[str, Mapping[str, Any]] | None = None,
    stored: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Arrange detections in the COCO format, https://cocodataset.org/#format-data.

    Parameters
    ----------
    images : iterable of LabelledImage
        In any order; they are numbered from 1 in the order of video and frame.
    names : sequence of str
        Class names in the model's order; category ids begin at 1.
    info : mapping, optional
        Metadata of the dataset.
    videos : mapping, optional
        By video_id: title, uploader, licence, upload_date, url, as far as they are known.
    stored : mapping, optional
        By file name: how the frame was stored.

    Returns
    -------
    dict
        Images without objects are included. Beyond the format, images have ``video_id``,
        ``frame_index``, ``pts_time``, provenance and ``stored``; annotations have ``score``.
    """
    ordered = sorted(images, key=lambda image: (image.video_id, image.frame_index, image.file_name))
    provenance = _provenance_of(ordered, {} if videos is None else videos)
    licences = sorted({video["licence"] for video in provenance.values() if "licence" in video})
    licence_ids = {name: number for number, name in enumerate(licences, start=1)}
    return {
        "info": dict(info or {}),
        "licenses": [{"id": i, "name": name, "url": ""} for name, i in licence_ids.items()],
        "images": _images(ordered, provenance, licence_ids, stored or {}),
        "annotations": _annotations(ordered),
        "categories": _categories(names),
    }


def _images(
    images: Sequence[LabelledImage],
    provenance: Mapping[str, Mapping[str, str]],
    licence_ids: Mapping[str, int],
    stored: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    return [
        {
            **_image(number, image, provenance[image.video_id], licence_ids),
            **stored.get(image.file_name, {}),
        }
        for number, image in enumerate(images, start=1)
    ]


def _categories(names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"id": number, "name": name, "supercategory": "object"}
        for number, name in enumerate(names, start=1)
    ]


def _provenance_of(
    images: Iterable[LabelledImage], videos: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, str]]:
    # `videos` may read a file per query, and have more videos than these
    video_ids = sorted({image.video_id for image in images})
    return {video_id: _provenance(videos.get(video_id, {})) for video_id in video_ids}


def _provenance(video: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys that every image repeats; a licence may have yt-dlp's spelling."""
    return public_provenance({"licence": video.get("license"), **video})


def _image(
    number: int, image: LabelledImage, video: Mapping[str, str], licence_ids: Mapping[str, int]
) -> dict[str, Any]:
    licence = {"license": licence_ids[video["licence"]]} if "licence" in video else {}
    return {
        "id": number,
        "file_name": image.file_name,
        "width": image.width,
        "height": image.height,
        "video_id": image.video_id,
        "frame_index": image.frame_index,
        "pts_time": round(image.pts_time, 6),
        **video,
        **licence,
    }


def _annotations(images: Sequence[LabelledImage]) -> list[dict[str, Any]]:
    owned = [
        (number, box) for number, image in enumerate(images, start=1) for box in sort(image.boxes)
    ]
    return [
        {
            "id": number,
            "image_id": image_id,
            "category_id": box.category + 1,
            "bbox": [box.x, box.y, box.width, box.height],
            "area": round(box.width * box.height, 2),
            "iscrowd": 0,
            "score": box.score,
        }
        for number, (image_id, box) in enumerate(owned, start=1)
    ]


def write_coco(path: Path, dataset: Mapping[str, Any]) -> None:
    """Write a dataset as JSON, atomically, with one record per line so that `diff` shows changes.

    Parameters
    ----------
    path : Path
        The file to make.
    dataset : mapping
        As :func:`coco_dataset` returns it.
    """
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write("{\n")
        for number, (key, value) in enumerate(dataset.items(), start=1):
            ending = ",\n" if number < len(dataset) else "\n"
            file.write(f"{json.dumps(key)}: {_lines(value)}{ending}")
        file.write("}\n")


def _lines(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(record) for record in value) + "\n]"
