"""A project's files as its stages would leave them, of any size, without the work."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dataminer.config.models import FilterConfig
from dataminer.frames.arrays import make_table
from dataminer.frames.table import (
    CLUSTERS_FILE,
    CLUSTERS_SCHEMA,
    FRAMES_FILE,
    FRAMES_SCHEMA,
    frame_name,
    write_table,
)
from dataminer.report.data.facts import ProjectFacts, VideoFacts
from dataminer.report.data.gather import Findings
from dataminer.stages.filter.stage import first_failed
from dataminer.stages.filter.thresholds import METRIC_COLUMNS
from dataminer.store.layout import Store
from dataminer.urls import SourceUrl

NAMES = ("disc", "box", "triangle")
PER_GROUP = 4  # good frames that one represents


def make_project(
    store: Store,
    project: str,
    videos: int,
    frames: int,
    *,
    boxes: int = 2,
    seed: int = 0,
    notes: dict[str, int] | None = None,
) -> ProjectFacts:
    """Write all tables of a finished project, and return what the database would say.

    Of each video's frames about a fifth fail the filter, and one in ``PER_GROUP`` of the rest is
    unique. Pictures are left to :func:`draw_pictures`. Each video has ``notes``.
    """
    rng = np.random.default_rng(seed)
    ids = [f"video{number:05d}" for number in range(videos)]
    unique: list[tuple[str, int]] = []
    clusters: dict[str, list[Any]] = {field.name: [] for field in CLUSTERS_SCHEMA}
    for video_id in ids:
        good = _video(store, project, video_id, frames, rng, {} if notes is None else notes)
        for position, index in enumerate(good):
            kept = good[position - position % PER_GROUP]
            if index == kept:
                unique.append((video_id, index))
            distance = 0 if index == kept else position % 9
            seen = (None, "hash") if index == kept else (0.001 * distance, "thumbnail")
            values = (video_id, index, video_id, kept, distance, index, index, *seen)
            for column, value in zip(clusters.values(), values, strict=True):
                column.append(value)
    meta = {"settings": {"hash": "phash", "threshold": 8}}
    table = make_table(clusters, CLUSTERS_SCHEMA)
    write_table(store.dedup(project) / CLUSTERS_FILE, table, CLUSTERS_SCHEMA, meta, ready=True)
    _annotate(store, project, unique, boxes, rng)
    rows = (
        VideoFacts(
            video_id, SourceUrl(f"https://example.org/{video_id}"), None, "EXTRACTED", "FILTERED"
        )
        for video_id in ids
    )
    return ProjectFacts(project, "COMPLETE", tuple(rows))


def _video(
    store: Store,
    project: str,
    video_id: str,
    frames: int,
    rng: np.random.Generator,
    notes: dict[str, int],
) -> list[int]:
    columns: dict[str, Any] = {field.name: [None] * frames for field in FRAMES_SCHEMA}
    columns |= {
        "video_id": [video_id] * frames,
        "frame_index": list(range(frames)),
        "pts_time": [float(index) for index in range(frames)],
        "file_name": [frame_name(video_id, index, "jpg") for index in range(frames)],
        "width": [640] * frames,
        "height": [360] * frames,
        **{name: (0.1 + 0.5 * rng.random(frames)).tolist() for name in METRIC_COLUMNS},
        **{name: [0.0] * frames for name in ("flash", "border")},
        "sharpness": (0.3 * rng.random(frames)).tolist(),
        **{f"border_{side}": [0] * frames for side in ("left", "top", "right", "bottom")},
        **{name: list(range(frames)) for name in ("phash", "dhash")},
    }
    table, settings = make_table(columns, FRAMES_SCHEMA), FilterConfig()
    path = store.recipe(video_id, "r") / FRAMES_FILE
    write_table(path, table, FRAMES_SCHEMA, {"notes": notes}, ready=True)
    good = [int(index) for index in np.flatnonzero(first_failed(table, settings) < 0)]
    meta = {"settings": settings.model_dump(mode="json"), "passed": len(good)}
    folder = store.filtered(project, video_id)
    write_table(folder / FRAMES_FILE, table.slice(0, 0), FRAMES_SCHEMA, meta, ready=True)
    return good


def _annotate(
    store: Store,
    project: str,
    unique: list[tuple[str, int]],
    boxes: int,
    rng: np.random.Generator,
) -> None:
    images = [
        {"id": n, "file_name": frame_name(v, i, "jpg"), "width": 640, "height": 360}
        | {"video_id": v, "frame_index": i, "pts_time": float(i)}
        for n, (v, i) in enumerate(unique, start=1)
    ]
    found = [
        {"id": n, "image_id": 1 + n // boxes, "category_id": 1 + n % len(NAMES)}
        | {"bbox": [round(float(x), 2), 9.0, 10.0, 8.0], "score": round(0.3 + float(s) * 0.7, 4)}
        for n, (x, s) in enumerate(rng.random((boxes * len(unique), 2)) * (40, 1))
    ]
    dataset = {
        "info": {"model": "drawn.pt", "confidence": 0.3},
        "images": images,
        "annotations": found,
        "categories": [{"id": n, "name": name} for n, name in enumerate(NAMES, start=1)],
    }
    store.detect(project).mkdir(parents=True)
    (store.detect(project) / "annotations.json").write_text(json.dumps(dataset))


def draw_pictures(store: Store, found: Findings) -> int:
    """Write the pictures that a report shows, each as hard to compress as can be."""
    rng, drawn = np.random.default_rng(1), 0
    for path in _shown(store, found):
        if not path.exists():
            pixels = rng.integers(0, 256, (36, 64, 3), np.uint8)
            picture = Image.fromarray(pixels).resize((640, 360), Image.Resampling.NEAREST)
            out = io.BytesIO()
            picture.save(out, "JPEG")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(out.getvalue())
            drawn += 1
    return drawn


def _shown(store: Store, found: Findings) -> Iterator[Path]:
    assert found.merged
    assert found.objects
    groups = [*found.merged.largest, *found.merged.boldest]
    shots = [shot for group in groups for shot in (group.kept, *group.merged)]
    shots += [shot for strip in found.frames.dropped.values() for shot in strip]
    yield from (store.recipe(shot.video_id, "r") / shot.file_name for shot in shots)
    for example in found.objects.examples:
        yield store.detect(found.facts.project) / "images" / example.shot.file_name
