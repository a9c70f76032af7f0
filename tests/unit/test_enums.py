"""The statuses are those of the design."""

from __future__ import annotations

from dataminer.db.enums import ProjectStatus, ProjectVideoStatus, SourceType, VideoStatus


def test_enums_are_those_of_the_design() -> None:
    assert [*SourceType] == ["SEARCH", "URL", "FILE", "MANUAL"]
    assert [*VideoStatus] == [
        "PENDING", "DOWNLOADING", "DOWNLOADED", "EXTRACTING", "EXTRACTED", "FAILED",
    ]  # fmt: skip
    assert [*ProjectVideoStatus] == [
        "PENDING", "FILTERING", "FILTERED", "FILTERED_EMPTY", "FAILED",
    ]  # fmt: skip
    assert [*ProjectStatus] == [
        "POPULATING", "FILTERING", "DEDUP_READY", "DEDUPING", "DETECT_READY", "DETECTING",
        "COMPLETE",
    ]  # fmt: skip
