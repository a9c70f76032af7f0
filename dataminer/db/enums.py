"""The states of sources, videos, videos in projects, and projects."""

from __future__ import annotations

from enum import StrEnum


class SourceType(StrEnum):
    """How a video came into the database."""

    SEARCH = "SEARCH"
    URL = "URL"
    FILE = "FILE"
    MANUAL = "MANUAL"


class VideoStatus(StrEnum):
    """The status of a video for all projects: download, then extract."""

    PENDING = "PENDING"
    DOWNLOADING = "DOWNLOADING"
    DOWNLOADED = "DOWNLOADED"
    EXTRACTING = "EXTRACTING"
    EXTRACTED = "EXTRACTED"
    FAILED = "FAILED"


class ProjectVideoStatus(StrEnum):
    """The status of a video in one project: filter."""

    PENDING = "PENDING"
    FILTERING = "FILTERING"
    FILTERED = "FILTERED"
    FILTERED_EMPTY = "FILTERED_EMPTY"
    FAILED = "FAILED"


class ProjectStatus(StrEnum):
    """The stage of a project: its videos, then dedup, then detect."""

    POPULATING = "POPULATING"
    FILTERING = "FILTERING"
    DEDUP_READY = "DEDUP_READY"
    DEDUPING = "DEDUPING"
    DETECT_READY = "DETECT_READY"
    DETECTING = "DETECTING"
    COMPLETE = "COMPLETE"
