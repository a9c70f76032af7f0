"""Stores made by hand, and what reconcile and the database make of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataminer.config import FilterConfig, MonitorConfig
from dataminer.errors import ErrorClass, PermanentError
from dataminer.files.hashing import fingerprint
from dataminer.formats.coco import coco_dataset, write_coco
from dataminer.formats.yolo import write_data_yaml, write_labels
from dataminer.frames.boxes import Box, LabelledImage
from dataminer.frames.table import (
    CLUSTERS_FILE,
    CLUSTERS_SCHEMA,
    FRAMES_FILE,
    FRAMES_SCHEMA,
    write_table,
)
from dataminer.store.layout import INFO_FILE, Store
from dataminer.sync.jobs import failures, results
from dataminer.sync.repair.reconcile import reconcile
from dataminer.sync.repair.report import Report
from tests.support.frame_rows import frame_row
from tests.support.postgres import execute

CALM = MonitorConfig()
SETTINGS = FilterConfig()
VIDEOS = ["bad", "none", "v1"]


def media(store: Store, video_id: str, content: bytes = b"abc") -> Path:
    """Add what a download left; returns the video."""
    folder = store.video(video_id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "x.mp4").write_bytes(content)
    info = {"video": "x.mp4", "size_bytes": len(content), "fingerprint": "m"}
    (folder / INFO_FILE).write_text(json.dumps(info))
    return folder / "x.mp4"


def make_download(store: Store, video_id: str) -> None:
    folder = store.video(video_id)
    folder.mkdir(parents=True)
    (folder / f"{video_id}.mp4").write_bytes(b"abc")
    info = {"video": f"{video_id}.mp4", "size_bytes": 3, "sha256": video_id, "fingerprint": "d"}
    url = f"https://example.org/{video_id}.mp4"
    (folder / "info.json").write_text(json.dumps({**info, "url": url, "title": "t"}))


def make_frames(
    folder: Path, video_id: str, indexes: tuple[int, ...], meta: dict[str, Any]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{video_id}_{index:06d}.jpg" for index in indexes]
    for name in names:
        (folder / name).write_bytes(name.encode())
    rows = [frame_row(video_id, index) for index in indexes]
    write_table(
        folder / FRAMES_FILE, pa.Table.from_pylist(rows, FRAMES_SCHEMA), FRAMES_SCHEMA, meta
    )


def frames_of(store: Store, video_id: str) -> Path:
    """The folder of a video's frames, which are of one recipe."""
    folder = store.frames(video_id)
    (found,) = [path.parent for path in folder.glob("[!.]*/frames.parquet")] or [folder / "none"]
    return found


def make_filtered(store: Store, project: str, video_id: str, passed: tuple[int, ...]) -> None:
    source = results.read_frames_meta(frames_of(store, video_id)) or {}
    made_from = fingerprint("filter", 1, SETTINGS.result_settings(), source.get("fingerprint"))
    meta = {"fingerprint": made_from, "version": 1, "settings": SETTINGS.model_dump(mode="json")}
    make_frames(store.filtered(project, video_id), video_id, passed, meta)


def make_video(store: Store, video_id: str, passed: tuple[int, ...] = (1, 2)) -> None:
    make_download(store, video_id)
    folder = store.recipe(video_id, f"e-{video_id}")
    make_frames(folder, video_id, (0, 1, 2), {"fingerprint": folder.name})
    make_filtered(store, "p", video_id, passed)


def make_failed(store: Store, video_id: str) -> None:
    """A video that could not be downloaded, and what passes that on."""
    error = PermanentError("gone", ErrorClass.REMOVED)
    frames = store.recipe(video_id, "e")
    for folder in (store.video(video_id), frames, store.filtered("p", video_id)):
        folder.mkdir(parents=True)
    failures.failed_info({"fingerprint": "d"})(store.video(video_id), error, error.error_class)
    failures.failed_frames({"fingerprint": "e"})(frames, error, error.error_class)
    failures.failed_frames({"fingerprint": "f"})(
        store.filtered("p", video_id), error, error.error_class
    )


def make_dataset(store: Store, project: str, videos: list[str]) -> None:
    """One unique frame, with one annotation."""
    inputs = [
        (name, (results.read_frames_meta(store.filtered(project, name)) or {}).get("fingerprint"))
        for name in sorted(videos)
    ]
    meta = {"fingerprint": fingerprint("dedup", 1, {"threshold": 8}, inputs), "version": 1}
    folder = store.dedup(project)
    make_frames(folder, "v1", (1,), {**meta, "settings": {"threshold": 8}})
    write_table(folder / CLUSTERS_FILE, CLUSTERS_SCHEMA.empty_table(), CLUSTERS_SCHEMA, meta)
    detect = store.detect(project)
    (detect / "images").mkdir(parents=True)
    os.link(folder / "v1_000001.jpg", detect / "images" / "v1_000001.jpg")
    name = "v1_000001.jpg"
    image = LabelledImage(name, 64, 48, "v1", 1, 1.0, (Box(0, 1.0, 2.0, 3.0, 4.0, 0.5),))
    write_labels(detect / "labels", [image])
    write_data_yaml(detect / "data.yaml", ["thing"])
    write_coco(detect / "annotations.json", coco_dataset([image], ["thing"]))


def sync(store: Store, names: list[str] | None = None, **options: bool) -> Report:
    return reconcile(store, names, CALM, **options)


def stage(url: str, project: str = "p") -> str:
    ((stage,),) = execute(url, f"SELECT project_stage FROM projects WHERE name = '{project}'")
    return str(stage)


def statuses(url: str) -> dict[str, tuple[str, str]]:
    rows = execute(
        url, "SELECT video_id, v.status, pv.status FROM videos v JOIN project_videos pv"
        " USING (video_id) ORDER BY 1"
    )  # fmt: skip
    return {row[0]: row[1:] for row in rows}


def listing(store: Store) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in sorted(store.root.rglob("*"))}


def dump(url: str) -> list[list[tuple[Any, ...]]]:
    tables = ("videos", "project_videos", "projects")
    return [execute(url, f"SELECT to_jsonb(t)::text FROM {table} t ORDER BY 1") for table in tables]
