"""From a video to an export, as commands."""

from __future__ import annotations

import contextlib
import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import yaml

from demo.shapes import CLASSES, Shape, draw, photographs
from tests.support.site import Site

WIDTH, HEIGHT, PICTURES = 640, 360, 24
Objects = list[tuple[str, tuple[float, ...]]]  # corners by class


def drawn_video(path: Path) -> list[Objects]:
    """Make a video of pictures that the detector never saw, one a second."""
    rng, sources = np.random.default_rng(99), photographs()
    truth = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"crf": "20", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(PICTURES):
            source = sources[number % len(sources)]
            resized = cv2.resize(source, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            image = resized.astype(np.uint8, copy=False)
            objects: Objects = []
            for lane, kind in enumerate(CLASSES):
                x, y = WIDTH * (lane + 0.5) / 3 + rng.uniform(-8, 8), rng.uniform(80, 280)
                shape = Shape(kind, x, y, rng.uniform(50, 78), rng.uniform(-30, 30), number + lane)
                objects.append((kind, draw(image, shape)))
            truth.append(objects)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return truth


def mean_precision(exported: dict[str, Any], truth: list[Objects], scratch: Path) -> float:
    """Return mAP at an overlap of 0.5, as pycocotools has it."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    boxes = [
        (image["id"], CLASSES.index(kind) + 1, box)
        for image in exported["images"]
        for kind, box in truth[round(image["pts_time"])]
    ]
    planted = [
        {
            "id": number,
            "image_id": image_id,
            "category_id": category,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
        }
        for number, (image_id, category, (x1, y1, x2, y2)) in enumerate(boxes, start=1)
    ]
    scratch.write_text(json.dumps({**exported, "annotations": planted}))
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(scratch)
        scores = COCOeval(known, known.loadRes(exported["annotations"]), "bbox")
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    return float(scores.stats[1])


def test_what_was_drawn_is_in_the_export(site: Site, shapes_weights: Path) -> None:
    truth = drawn_video(site.folder / "drawn.mp4")
    site.configure(
        project="shapes",
        input={"files": ["drawn.mp4"]},
        extract={"every_seconds": 1.0},
        dedup={"hash": "phash", "threshold": 0},
        detect={"model": str(shapes_weights), "image_size": 320, "confidence": 0.05},
    )
    early = site.dataminer_here("export", "shapes", "-f", "coco", "--to", "out")
    assert early.returncode == 1
    assert "there is no project shapes" in early.stderr
    site.populate()
    site.mine()
    rows = site.rows("SELECT to_jsonb(p) FROM projects p")

    done = site.dataminer("export", "shapes", "-f", "coco", "-f", "yolo", "--to", "out")
    assert done.returncode == 0, done.stderr
    assert f"{PICTURES} images (train {PICTURES} from 1 video)" in done.stdout
    assert "all frames come from one video" in done.stderr
    exported = json.loads((site.folder / "out/coco/annotations/instances_train.json").read_text())
    assert len(exported["images"]) == PICTURES
    assert mean_precision(exported, truth, site.folder / "truth.json") >= 0.9
    names = yaml.safe_load((site.folder / "out/yolo/data.yaml").read_text())["names"]
    assert list(names.values()) == list(CLASSES)

    shown = site.dataminer("preview", "shapes", "--set", "filter.min_sharpness=0.2")
    assert shown.returncode == 0, shown.stderr
    assert f"{PICTURES} of {PICTURES} frames pass as configured" in shown.stdout
    assert (site.folder / "data/projects/shapes/report/preview/index.html").is_file()
    assert site.rows("SELECT to_jsonb(p) FROM projects p") == rows
