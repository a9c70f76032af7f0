"""Detections as one COCO file: pictures, boxes, and where every picture came from."""

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
) -> dict[str, Any]:
    """Arrange detections as COCO has them.

    Parameters
    ----------
    images : iterable of LabelledImage
        In any order; they are numbered from 1 in the order of video and frame.
    names : sequence of str
        Class names in the model's order; category ids begin at 1.
    info : mapping, optional
        What is known about the dataset as a whole.
    videos : mapping, optional
        By video_id, what is known of a video: title, uploader, licence, upload_date, url.

    Returns
    -------
    dict
        ``info``, ``licenses``, ``images``, ``annotations``, ``categories``; ``file_name`` is
        relative to the folder of images. Pictures without objects are there as well.

    Notes
    -----
    The format: https://cocodataset.org/#format-data. Beyond it, images carry ``video_id``,
    ``frame_index``, ``pts_time`` and the video's provenance; annotations carry ``score``.
    """
    ordered = sorted(images, key=lambda image: (image.video_id, image.frame_index, image.file_name))
    # `videos` may read a file for each look-up, and know more videos than these
    known = {
        video_id: _provenance({} if videos is None else videos.get(video_id, {}))
        for video_id in sorted({image.video_id for image in ordered})
    }
    licences = sorted({video["licence"] for video in known.values() if "licence" in video})
    licence_ids = {name: number for number, name in enumerate(licences, start=1)}
    return {
        "info": dict(info or {}),
        "licenses": [{"id": i, "name": name, "url": ""} for name, i in licence_ids.items()],
        "images": [
            _image(number, image, known[image.video_id], licence_ids)
            for number, image in enumerate(ordered, start=1)
        ],
        "annotations": _annotations(ordered),
        "categories": [
            {"id": number, "name": name, "supercategory": "object"}
            for number, name in enumerate(names, start=1)
        ],
    }


def _provenance(video: Mapping[str, Any]) -> dict[str, str]:
    """Pick what every image shall repeat; a licence may come in yt-dlp's spelling."""
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
    """Write a dataset as JSON, atomically, with one record a line so that `diff` can show changes.

    Parameters
    ----------
    path : Path
        The file to make.
    dataset : mapping
        As :func:`coco_dataset` gives it.
    """
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write("{\n")
        for place, (key, value) in enumerate(dataset.items()):
            ending = ",\n" if place < len(dataset) - 1 else "\n"
            file.write(f"{json.dumps(key)}: {_lines(value)}{ending}")
        file.write("}\n")


def _lines(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(record) for record in value) + "\n]"
