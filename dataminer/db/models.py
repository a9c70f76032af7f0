"""The tables. Migrations create them; a test compares the two."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from dataminer.db.enums import ProjectStatus, ProjectVideoStatus, SourceType, VideoStatus

RUNNING_VIDEO = (VideoStatus.DOWNLOADING, VideoStatus.EXTRACTING)
RUNNING_PROJECT = (ProjectStatus.DEDUPING, ProjectStatus.DETECTING)


def _enum(kind: type[StrEnum], name: str) -> Any:
    return sa.Enum(kind, name=name, native_enum=False, create_constraint=True, length=32)


def _now(nullable: bool = False) -> Any:
    return Field(
        default=None,
        sa_type=sa.DateTime(timezone=True),  # type: ignore[call-overload]
        nullable=nullable,
        sa_column_kwargs={} if nullable else {"server_default": sa.text("clock_timestamp()")},
    )


def _object() -> Any:
    return Field(
        default_factory=dict,
        sa_type=JSONB,
        nullable=False,
        sa_column_kwargs={"server_default": sa.text("'{}'::jsonb")},
    )


def _count() -> Any:
    return Field(default=0, ge=0, nullable=False, sa_column_kwargs={"server_default": sa.text("0")})


def _check(text: str, name: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(text, name=name)


def _listed(members: tuple[StrEnum, ...]) -> str:
    return ", ".join(f"'{member}'" for member in members)


def _lock_check(table: str, status: str, running: tuple[StrEnum, ...]) -> sa.CheckConstraint:
    """A row is locked exactly while a job works on it."""
    return _check(
        f"({status} IN ({_listed(running)})) = (locked_by IS NOT NULL)"
        " AND (locked_by IS NULL) = (heartbeat_at IS NULL)"
        " AND (locked_by IS NULL) = (locked_at IS NULL)",
        f"ck_{table}_locked_while_running",
    )


class _Model(SQLModel, registry=registry()):
    """Separate metadata: Snakemake registers tables of its own in SQLModel's."""


class _Claimable(_Model):
    """Which job works on a row, since when, and how the last attempts ended."""

    error: str | None = None
    error_class: str | None = None
    attempts: int = _count()
    lease: int = Field(
        default=0,
        sa_type=sa.BigInteger,
        nullable=False,
        sa_column_kwargs={"server_default": sa.text("0")},
    )
    locked_by: str | None = None
    locked_at: datetime | None = _now(nullable=True)
    heartbeat_at: datetime | None = _now(nullable=True)
    created_at: datetime = _now()
    updated_at: datetime = _now()
    not_before: datetime | None = _now(nullable=True)
    failures: int = _count()
    failing_since: datetime | None = _now(nullable=True)
    kills: int = _count()
    suspect: bool = Field(
        default=False, nullable=False, sa_column_kwargs={"server_default": sa.text("false")}
    )
    costs: dict[str, Any] = _object()


class Project(_Claimable, table=True):
    """A dataset and its counters, which follow the rows of its videos."""

    __tablename__ = "projects"
    __table_args__ = (
        _lock_check("projects", "project_stage", RUNNING_PROJECT),
        _check("name ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$'", "ck_projects_name"),
        _check(
            "project_stage NOT IN ('DETECT_READY', 'DETECTING', 'COMPLETE')"
            " OR dedup_dir IS NOT NULL",
            "ck_projects_dedup_dir",
        ),
        _check("project_stage <> 'COMPLETE' OR detect_dir IS NOT NULL", "ck_projects_detect_dir"),
        _check(
            "least(total_videos, videos_pending, videos_downloaded, videos_extracted,"
            " videos_failed, extracted_frames, filtered_frames, unique_frames, annotations) >= 0",
            "ck_projects_counters",
        ),
    )

    project_id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    project_stage: ProjectStatus = Field(
        default=ProjectStatus.POPULATING,
        sa_type=_enum(ProjectStatus, "ck_projects_project_stage"),
        sa_column_kwargs={"server_default": "POPULATING"},
    )
    total_videos: int = _count()
    videos_pending: int = _count()
    videos_downloaded: int = _count()
    videos_extracted: int = _count()
    videos_failed: int = _count()
    extracted_frames: int = _count()
    filtered_frames: int = _count()
    unique_frames: int = _count()
    annotations: int = _count()
    dedup_dir: str | None = None
    detect_dir: str | None = None
    dedup_fingerprint: str | None = None
    detect_fingerprint: str | None = None
    workdir: str | None = None
    configfiles: list[str] | None = Field(default=None, sa_type=JSONB)


class Video(_Claimable, table=True):
    """A source, one row for all projects, with the paths of its file and its frames."""

    __tablename__ = "videos"
    __table_args__ = (
        _lock_check("videos", "status", RUNNING_VIDEO),
        _check("video_id ~ '^[A-Za-z0-9_-]{1,64}$'", "ck_videos_video_id"),
        _check(
            "status NOT IN ('DOWNLOADED', 'EXTRACTING', 'EXTRACTED') OR video_path IS NOT NULL",
            "ck_videos_video_path",
        ),
        _check(
            # a comparison with NULL is neither true nor false, and passes a CHECK
            "status <> 'EXTRACTED' OR (frames_dir IS NOT NULL AND coalesce(frame_count, 0) > 0)",
            "ck_videos_frames",
        ),
        _check(
            "status <> 'FAILED' OR (error IS NOT NULL AND error_class IS NOT NULL)",
            "ck_videos_reason",
        ),
        sa.Index(
            "ix_videos_claimable",
            "status",
            "created_at",
            postgresql_where=sa.text("status IN ('PENDING', 'DOWNLOADED')"),
        ),
        sa.Index(
            "ix_videos_running",
            "video_id",
            postgresql_where=sa.text("status IN ('DOWNLOADING', 'EXTRACTING')"),
        ),
    )

    video_id: str = Field(primary_key=True)
    url: str
    source_type: SourceType = Field(sa_type=_enum(SourceType, "ck_videos_source_type"))
    source_info: dict[str, Any] = _object()
    title: str | None = None
    uploader: str | None = None
    licence: str | None = None
    duration: float | None = None
    video_path: str | None = None
    frames_dir: str | None = None
    frame_count: int | None = Field(default=None, ge=0)
    warning: str | None = None
    notes: dict[str, int] = _object()
    downloaded_with: str | None = None
    sha256: str | None = None
    extracted_with: str | None = None
    extract_fingerprint: str | None = None
    status: VideoStatus = Field(
        default=VideoStatus.PENDING,
        sa_type=_enum(VideoStatus, "ck_videos_status"),
        sa_column_kwargs={"server_default": "PENDING"},
    )


class ProjectVideo(_Claimable, table=True):
    """The state of a video in one project."""

    __tablename__ = "project_videos"
    __table_args__ = (
        sa.UniqueConstraint("project_id", "video_id", name="uq_project_videos"),
        _lock_check("project_videos", "status", (ProjectVideoStatus.FILTERING,)),
        _check(
            "status <> 'FILTERED' OR (filtered_dir IS NOT NULL AND coalesce(passed_frames, 0) > 0)",
            "ck_project_videos_filtered",
        ),
        _check(
            "status <> 'FILTERED_EMPTY'"
            " OR (filtered_dir IS NOT NULL AND coalesce(passed_frames, -1) = 0)",
            "ck_project_videos_filtered_empty",
        ),
        _check(
            "status <> 'FAILED' OR (error IS NOT NULL AND error_class IS NOT NULL)",
            "ck_project_videos_reason",
        ),
        sa.Index("ix_project_videos_video_id", "video_id"),
        sa.Index(
            "ix_project_videos_claimable",
            "status",
            "created_at",
            postgresql_where=sa.text("status = 'PENDING'"),
        ),
        sa.Index(
            "ix_project_videos_running",
            "id",
            postgresql_where=sa.text("status = 'FILTERING'"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    project_id: int = Field(foreign_key="projects.project_id", ondelete="CASCADE")
    video_id: str = Field(foreign_key="videos.video_id")
    filtered_dir: str | None = None
    passed_frames: int | None = Field(default=None, ge=0)
    filtered_with: str | None = None
    filtered_from: str | None = None
    filter_fingerprint: str | None = None
    source_frames: int | None = Field(default=None, ge=0)
    source_notes: dict[str, int] = _object()
    status: ProjectVideoStatus = Field(
        default=ProjectVideoStatus.PENDING,
        sa_type=_enum(ProjectVideoStatus, "ck_project_videos_status"),
        sa_column_kwargs={"server_default": "PENDING"},
    )


class PairedStore(_Model, table=True):
    """The store that the database belongs to; one row, or none.

    See :mod:`dataminer.sync.pairing.records`.

    It holds the store's path, with which the paths in rows begin, the inode of its folder, and
    where the database was at that time.
    """

    __tablename__ = "dataminer_store"
    __table_args__ = (_check("one", "ck_dataminer_store_one"),)

    one: bool = Field(
        default=True, primary_key=True, sa_column_kwargs={"server_default": sa.text("true")}
    )
    token: str
    path: str
    root: str
    inode: int = Field(sa_type=sa.BigInteger)
    place: str


class Budget(_Model, table=True):
    """The request counts of one source, and when it was last used."""

    __tablename__ = "budgets"
    __table_args__ = (
        _check("lane IN ('request', 'media', 'download')", "ck_budgets_lane"),
        _check("spacing > 0 AND permits >= 0", "ck_budgets_limits"),
    )

    source: str = Field(primary_key=True)
    lane: str = Field(primary_key=True)
    spacing: float
    latest_at: datetime = _now()
    stated_at: datetime = _now()
    permits: int = Field(
        default=0,
        sa_type=sa.BigInteger,
        nullable=False,
        sa_column_kwargs={"server_default": sa.text("0")},
    )


class Breaker(_Model, table=True):
    """A source that refused requests; after its pause, one job tries it first.

    The pause lasts from ``opened_at`` to ``open_until``.
    """

    __tablename__ = "breakers"
    __table_args__ = (
        _check("strikes >= 0 AND (strikes > 0) = (open_until IS NOT NULL)", "ck_breakers_open"),
        _check("(probe_by IS NULL) = (probe_until IS NULL)", "ck_breakers_probe"),
        _check("error_class IN ('rate_limit', 'bot_check')", "ck_breakers_error_class"),
    )

    source: str = Field(primary_key=True)
    strikes: int
    opened_at: datetime = _now()
    open_until: datetime | None = _now(nullable=True)
    reason: str
    probe_by: str | None = None
    probe_until: datetime | None = _now(nullable=True)
    error_class: str = Field(
        default="rate_limit", sa_column_kwargs={"server_default": "rate_limit"}
    )
