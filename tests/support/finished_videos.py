"""Finished videos without the work: rows, and files of next to nothing in the right order."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dataminer.config import Config
from dataminer.formats.coco import coco_dataset, write_coco
from dataminer.frames.table import (
    CLUSTERS_FILE,
    CLUSTERS_SCHEMA,
    FRAMES_FILE,
    FRAMES_SCHEMA,
    write_table,
)
from dataminer.provenance import fingerprints
from dataminer.provenance.fingerprints import recipe_id
from dataminer.store.layout import SHEET_FILE, Store
from dataminer.vision.weights import weights_sha256
from tests.support.postgres import execute
from tests.support.rows import force

BEGAN = 1_700_000_000
_INFO = b'{"video": "x", "size_bytes": 1}'


def add(url: str, project: str, videos: Iterable[str], duration: float | None = None) -> None:
    """Add videos to a project, to be done."""
    ids = ", ".join(f"('{video}')" for video in videos)
    length = "NULL" if duration is None else str(duration)
    execute(url, f"INSERT INTO projects (name) VALUES ('{project}') ON CONFLICT DO NOTHING")
    execute(
        url,
        f"INSERT INTO videos (video_id, url, source_type, duration) SELECT id, '/' || id, 'FILE',"
        f" {length} FROM (VALUES {ids}) v (id) ON CONFLICT DO NOTHING",
    )
    execute(
        url,
        "INSERT INTO project_videos (project_id, video_id) SELECT project_id, id FROM"
        f" (VALUES {ids}) v (id), projects WHERE name = '{project}'",
    )


def finish(url: str, root: Path, config: Config, project: str, videos: Iterable[str]) -> None:
    """Have all rows and the files of these videos say that the settings' results are there."""
    with_download = recipe_id("download", config.download.result_settings())
    with_extract = recipe_id("extract", config.extract.result_settings())
    with_filter = recipe_id("filter", config.filter.result_settings())
    force(
        url,
        "UPDATE videos SET status = 'EXTRACTED', video_path = 'x', frames_dir = 'x',"
        f" frame_count = 9, downloaded_with = '{with_download}', extracted_with = '{with_extract}',"
        " sha256 = video_id, extract_fingerprint = 'frames-of-' || video_id",
    )
    force(
        url,
        "UPDATE project_videos SET status = 'FILTERED', filtered_dir = 'x', passed_frames = 7,"
        f" filtered_with = '{with_filter}', filtered_from = 'frames-of-' || video_id,"
        " filter_fingerprint = 'filtered frames of ' || video_id",
    )
    table = _empty_table(root)
    for number, video in enumerate(videos):
        info, *tables = results(root, project, video)
        made = [(info.with_name("x"), b"x"), (info, _INFO), *((path, table) for path in tables)]
        for step, (file, content) in enumerate(made):
            make(file, BEGAN + 10 * number + step, content)


def finish_project(url: str, root: Path, config: Config, project: str) -> None:
    """Have the row and the files of a project of such videos say that its dataset is there."""
    ids = "SELECT video_id FROM project_videos JOIN projects USING (project_id)"
    videos = sorted(video for (video,) in execute(url, f"{ids} WHERE name = '{project}'"))
    filtered = [(video, f"filtered frames of {video}") for video in videos]
    unique = fingerprints.of_dedup(config.dedup.result_settings(), filtered)
    weights = weights_sha256(root.parent / config.detect.model)
    annotated = fingerprints.of_detect(config.detect.result_settings(), weights, unique)
    force(
        url,
        "UPDATE projects SET project_stage = 'COMPLETE', dedup_dir = 'x', detect_dir = 'x',"
        f" dedup_fingerprint = '{unique}', detect_fingerprint = '{annotated}'"
        f" WHERE name = '{project}'",
    )
    store = Store(root)
    make(store.detect(project) / "data.yaml", BEGAN)
    make(store.report(project) / SHEET_FILE, BEGAN, b"\xff\xd9")
    store.dedup(project).mkdir()
    for name, schema in ((FRAMES_FILE, FRAMES_SCHEMA), (CLUSTERS_FILE, CLUSTERS_SCHEMA)):
        meta = {"fingerprint": unique, "unique": 0}
        write_table(store.dedup(project) / name, schema.empty_table(), schema, meta)
    for folder in ("images", "labels"):
        (store.detect(project) / folder).mkdir()
    dataset = coco_dataset([], ["bird"], info={"fingerprint": annotated})
    write_coco(store.detect(project) / "annotations.json", dataset)
    page = fingerprints.of_report(fingerprints.result_settings(config), annotated)
    html = f'<meta name="{fingerprints.IN_PAGE}" content="{page}"></html>'
    (store.report(project) / "index.html").write_text(html)


def _empty_table(root: Path) -> bytes:
    path = root / "table"
    write_table(path, FRAMES_SCHEMA.empty_table(), FRAMES_SCHEMA, {"frames": 0})
    content = path.read_bytes()
    path.unlink()
    return content


def results(root: Path, project: str, video: str) -> tuple[Path, Path, Path]:
    """Return what download, extract and filter leave."""
    store = Store(root)
    return (
        store.video(video) / "info.json",
        store.recipe(video, f"frames-of-{video}") / "frames.parquet",
        store.filtered(project, video) / "frames.parquet",
    )


def make(file: Path, when: float, content: bytes = b"x") -> None:
    """Make a file that was last changed then."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (when, when))
