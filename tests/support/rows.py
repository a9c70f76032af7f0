"""Rows in any state, reached by the moves that jobs make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dataminer.sync.claims import claim_end, claims, projects, stage_rows
from dataminer.sync.claims.claims import Claim
from dataminer.urls import SourceUrl
from tests.support.postgres import execute

TABLES = ("videos", "project_videos", "projects")
EMPTY = {"error": "x.mp4 has no bytes. Next: replace the file", "error_class": "empty"}


@dataclass(frozen=True)
class Given:
    """A video that a user gives."""

    video_id: str
    url: Any = "/x.mp4"
    source_type: str = "FILE"
    source_info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", SourceUrl(self.url))


def force(url: str, statement: str) -> None:
    """Set up a state by hand, whatever steps lead to it otherwise."""
    execute(url, forced(statement))


def forced(statement: str) -> str:
    """Return statements that write what no step may."""
    off = "".join(f"ALTER TABLE {table} DISABLE TRIGGER transition; " for table in TABLES)
    on = "".join(f"; ALTER TABLE {table} ENABLE TRIGGER transition" for table in TABLES)
    return off + statement + on


def add(project: str, *video_ids: str, **source: Any) -> int:
    """Add videos to a project, and return its id."""
    projects.add_videos(project, [Given(video_id, **source) for video_id in video_ids])
    return projects.project_id_of(project)


def held(stage: stage_rows.StageRows, **key: Any) -> Claim:
    """Claim a row, which must be free."""
    claim = claims.claim(stage, key, stale_seconds=60)
    assert claim
    return claim


def finished(stage: stage_rows.StageRows, status: str, columns: dict[str, Any], **key: Any) -> None:
    """Do a stage's work on a row."""
    claim_end.finish(held(stage, **key), status, columns, lambda: None)


def downloaded(video_id: str, path: str = "x") -> None:
    finished(stage_rows.DOWNLOAD, "DOWNLOADED", {"video_path": path}, video_id=video_id)


def extracted(video_id: str, frames: int = 7, **columns: Any) -> None:
    downloaded(video_id)
    columns = {"frames_dir": "y", "frame_count": frames, **columns}
    finished(stage_rows.EXTRACT, "EXTRACTED", columns, video_id=video_id)


def filtered(
    video_id: str, project_id: int, passed: int = 4, recipe: str | None = None, **columns: Any
) -> None:
    columns = {"filtered_dir": "z", "passed_frames": passed, "filtered_from": recipe, **columns}
    key = {"project_id": project_id, "video_id": video_id}
    finished(stage_rows.FILTER, "FILTERED", columns, **key)


def failed(video_id: str, columns: dict[str, Any] = EMPTY) -> None:
    finished(stage_rows.DOWNLOAD, "FAILED", columns, video_id=video_id)


def versions(url: str) -> list[list[tuple[Any, ...]]]:
    """Return all rows, and which transaction wrote each."""
    return [
        execute(url, f"SELECT t::text, xmin FROM {table} t ORDER BY 1")
        for table in ("projects", "videos", "project_videos")
    ]


def silence(url: str) -> None:
    """Have all claims look as if their jobs had died an hour ago."""
    execute(
        url,
        "UPDATE videos SET heartbeat_at = now() - interval '1 hour' WHERE locked_by IS NOT NULL",
    )
