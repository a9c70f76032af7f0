"""Rows in any state, reached by the moves that jobs make."""

from __future__ import annotations

from typing import Any

from dataminer.sync import claims, projects, stages
from dataminer.sync.claims import Claim
from tests.integration.test_sync import Given

EMPTY = {"error": "x.mp4 has no bytes. Next: replace the file", "error_class": "empty"}


def add(project: str, *video_ids: str, **source: Any) -> int:
    """Add videos to a project, and return its id."""
    projects.add_videos(project, [Given(video_id, **source) for video_id in video_ids])
    return projects.id_of(project)


def held(stage: stages.Stage, **key: Any) -> Claim:
    """Claim a row, which must be free."""
    claim = claims.claim(stage, key, stale_seconds=60)
    assert claim
    return claim


def finished(stage: stages.Stage, status: str, columns: dict[str, Any], **key: Any) -> None:
    """Do a stage's work on a row."""
    claims.finish(held(stage, **key), status, columns, lambda: None)


def downloaded(video_id: str, path: str = "x") -> None:
    finished(stages.DOWNLOAD, "DOWNLOADED", {"video_path": path}, video_id=video_id)


def extracted(video_id: str, frames: int = 7) -> None:
    downloaded(video_id)
    columns = {"frames_dir": "y", "frame_count": frames}
    finished(stages.EXTRACT, "EXTRACTED", columns, video_id=video_id)


def filtered(video_id: str, project_id: int, passed: int = 4) -> None:
    columns = {"filtered_dir": "z", "passed_frames": passed}
    key = {"project_id": project_id, "video_id": video_id}
    finished(stages.FILTER, "FILTERED", columns, **key)


def failed(video_id: str, columns: dict[str, Any] = EMPTY) -> None:
    finished(stages.DOWNLOAD, "FAILED", columns, video_id=video_id)
