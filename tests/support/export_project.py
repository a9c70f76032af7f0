"""A finished project of a few small pictures with known boxes, without running any stage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from dataminer.formats.coco import coco_dataset, write_coco
from dataminer.frames.boxes import Box, LabelledImage
from dataminer.frames.images import FrameWriter
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, write_table
from dataminer.store.layout import Store
from tests.support.frame_rows import frame_row

NAMES = ["disc", "box: # 'of' \"all\""]
PROJECT = "birds"
# ids that readers have taken for options, for hidden files, for splits
VIDEOS = {
    "-dash_and_9": {
        "title": '=HYPERLINK("http://x.test","win")',
        "uploader": "@SUM(1+1)",
        "licence": "CC BY 4.0",
        "url": "https://x.test/1",
    },
    "__test": {"title": 'a, "b"\nc\u2028 <script>alert(1)</script> \ud800', "licence": "CC0"},
    "val-clip_test_1": {},
    "train": {"title": "Über 鳥", "upload_date": "20250102", "url": "https://x.test/2"},
    "Zz-9": {"title": "../../etc/passwd", "uploader": "Somebody"},
}
# texts that formats, readers and spreadsheets have taken for something else
ODD_TEXTS = (
    *("disc 😀", "𝒳𐍈", "\U0010ffff", "👨\u200d👩\u200d👧", "é", "e\u0301", "\ue000", "שלום"),
    *(
        "\u202eabc\u202c",
        "\x00",
        "a\x00b",
        "\x01\x1b[31mred\x1b[0m",
        "\x7f",
        "\x85",
        "\u2028",
        "\u2029",
    ),
    *(
        "\ufeffbom",
        "\ufffe",
        "\uffff",
        " leading",
        "trailing ",
        "\u3000",
        "\xa0",
        "tab\there",
        "\t",
    ),
    *(
        "line\nbreak",
        "a\rb",
        "a\r\nb",
        "\n",
        "\r",
        "'single'",
        '"double"',
        "'",
        "''",
        '"',
        "'=x",
        "`x`",
    ),
    *(
        "#hash",
        "a # b",
        "key: value",
        ":",
        "{{ jinja }}",
        "{% if %}",
        "{a: b}",
        "[1, 2]",
        "$HOME",
        "%d",
    ),
    *(
        "yes",
        "null",
        "~",
        "true",
        "1e3",
        "0x10",
        "017",
        "2024-01-01",
        "12:30",
        "NaN",
        "N/A",
        "None",
        "inf",
    ),
    *(
        "",
        "|",
        ">",
        "&a",
        "*a",
        "!tag",
        "- x",
        "? x",
        "<<",
        "---",
        "...",
        "=SUM(1)",
        "+1",
        "-1",
        "@at",
    ),
    *("a\\b", "\\u0041", "\\", "a,b", ";", "../x", "/etc/passwd", "n01440764", "long " * 20_000),
)
SIZE = (96, 64)
FRAMES = 4  # of each video; the last has no object


def make_project(
    root: Path,
    videos: Sequence[str] = tuple(VIDEOS),
    *,
    frame_store: str = "files",
    frames: int = FRAMES,
) -> tuple[Store, list[LabelledImage]]:
    """Make a store with a project that is deduplicated and annotated; returns its pictures."""
    store = Store(root)
    dedup, detect = store.dedup(PROJECT), store.detect(PROJECT)
    (detect / "images").mkdir(parents=True)
    dedup.mkdir()
    rows, images = [], []
    with FrameWriter(dedup, frame_store) as writer:  # type: ignore[arg-type]
        for number, video_id in enumerate(videos):
            for index in range(frames):
                image, data = draw(number, video_id, index, with_objects=index < frames - 1)
                location = writer.add(image.file_name, data)
                (detect / "images" / image.file_name).write_bytes(data)
                rows.append(_row(image) | known(video_id) | location._asdict())
                images.append(image)
    table = pa.Table.from_pylist(rows[::-1], schema=FRAMES_SCHEMA)
    write_table(dedup / FRAMES_FILE, table, FRAMES_SCHEMA, writer.meta)
    info = {"project": PROJECT, "model": "shapes.pt", "model_sha256": "0" * 64}
    found = coco_dataset(images, NAMES, info=info, videos=VIDEOS)
    write_coco(detect / "annotations.json", found)
    return store, images


def label_with(store: Store, names: Sequence[str]) -> dict[str, list[str]]:
    """Replace the project's objects: there is one of each class but the last.

    Returns the sorted class names on each picture; the last picture of each video has none.
    """
    path = store.detect(PROJECT) / "annotations.json"
    coco = json.loads(path.read_text())
    coco["categories"] = [{"id": n, "name": name} for n, name in enumerate(names, start=1)]
    images = [image for image in coco["images"] if image["frame_index"] < FRAMES - 1]
    on_image: dict[str, list[str]] = {image["file_name"]: [] for image in coco["images"]}
    coco["annotations"] = []
    for number, name in enumerate(names[:-1], start=1):
        image = images[number % len(images)]
        bbox = [1.0 + number % 50, 2.0 + number % 40, 5.0, 6.0]
        found = {"id": number, "image_id": image["id"], "category_id": number, "bbox": bbox}
        coco["annotations"].append(found | {"area": 30.0, "iscrowd": 0, "score": 0.5})
        on_image[image["file_name"]].append(name)
    path.write_text(json.dumps(coco))
    return {file_name: sorted(each) for file_name, each in on_image.items()}


def known(video_id: str) -> dict[str, str]:
    """Return what is known of a video, in text that UTF-8 can hold."""
    return {key: value.replace("\ud800", "?") for key, value in VIDEOS[video_id].items()}


def _row(image: LabelledImage) -> dict[str, Any]:
    size = {"width": image.width, "height": image.height}
    row = frame_row(image.video_id, image.frame_index, pts_time=image.pts_time, **size)
    return row | stored(image)


def stored(image: LabelledImage) -> dict[str, Any]:
    """Return how a frame was stored, as its row in the frame table says it."""
    is_hdr = image.video_id == "train"
    return {
        "damaged": image.frame_index == 1,
        "deinterlaced": image.video_id == "__test",
        "sample_aspect_ratio": "4:3" if image.video_id == "Zz-9" else None,
        "transfer": "smpte2084" if is_hdr else None,
        "primaries": "bt2020" if is_hdr else None,
        "matrix": "bt2020nc" if is_hdr else None,
        "bit_depth": 10 if is_hdr else 8,
    }


def draw(
    number: int, video_id: str, index: int, *, with_objects: bool
) -> tuple[LabelledImage, bytes]:
    """Draw one picture; returns what is on it and its bytes as JPEG."""
    width, height = SIZE if number % 2 else SIZE[::-1]
    rng = np.random.default_rng([number, index])
    picture = rng.integers(60, 120, (height, width, 3), np.uint8)
    boxes = []
    for kind in range(2 if with_objects else 0):
        x, y = (round(float(v), 1) for v in rng.uniform(2, 30, 2))
        cv2.rectangle(picture, (int(x), int(y)), (int(x) + 25, int(y) + 20), (255, 255, 40), -1)
        boxes.append(Box(kind, x, y, 25.0, 20.2, round(0.9 - kind / 4, 4)))
    name = f"{video_id}_{index:06d}.jpg"
    image = LabelledImage(name, width, height, video_id, index, index * 0.48, tuple(boxes))
    return image, cv2.imencode(".jpg", picture)[1].tobytes()
