"""Finished videos without the work: rows, and empty files in the right order."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dataminer.config import Config
from dataminer.stages import made_with
from dataminer.store import Store
from tests.support.postgres import execute
from tests.support.rows import force

BEGAN = 1_700_000_000


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
    with_download = made_with("download", config.download.result_settings())
    with_extract = made_with("extract", config.extract.result_settings())
    with_filter = made_with("filter", config.filter.result_settings())
    force(
        url,
        "UPDATE videos SET status = 'EXTRACTED', video_path = 'x', frames_dir = 'x',"
        f" frame_count = 9, downloaded_with = '{with_download}', extracted_with = '{with_extract}'",
    )
    force(
        url,
        "UPDATE project_videos SET status = 'FILTERED', filtered_dir = 'x', passed_frames = 7,"
        f" filtered_with = '{with_filter}'",
    )
    for number, video in enumerate(videos):
        for step, file in enumerate(results(root, project, video)):
            make(file, BEGAN + 10 * number + step)


def results(root: Path, project: str, video: str) -> tuple[Path, Path, Path]:
    """Return what download, extract and filter leave."""
    store = Store(root)
    return (
        store.video(video) / "info.json",
        store.frames(video) / "frames.parquet",
        store.filtered(project, video) / "frames.parquet",
    )


def make(file: Path, when: float) -> None:
    """Make an empty file that was last changed then."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    os.utime(file, (when, when))
