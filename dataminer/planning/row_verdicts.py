"""Verdicts on videos by their rows: the first reason counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from dataminer.db.enums import ProjectVideoStatus, VideoStatus
from dataminer.errors import TRANSIENT_CLASSES
from dataminer.planning.frame_choice import FrameChoice
from dataminer.planning.records import MemberRecord, VideoRecord
from dataminer.planning.request import PlanRequest
from dataminer.planning.verdicts import (
    BEFORE,
    BEGUN,
    DONE,
    FETCH_AGAIN,
    FORCED,
    KEPT,
    NEW,
    RETRIED,
    TRANSIENT,
    Verdict,
    VerdictState,
)
from dataminer.sync.claims import stage_rows

_V, _PV = VideoStatus, ProjectVideoStatus


class RowVerdicts:
    """Judges videos by their rows.

    Parameters
    ----------
    request : PlanRequest
        What is planned.
    frames : FrameChoice
        Which frames count.
    """

    def __init__(self, request: PlanRequest, frames: FrameChoice) -> None:
        self._records, self._forced = request.records, request.forced
        self._store, self._current = request.store, request.current
        self._frames = frames

    def download(self, row: VideoRecord) -> Verdict:
        """Return the verdict on a video's download."""
        return next(self._download(row), DONE)

    def extract(self, row: VideoRecord, download: Verdict) -> Verdict:
        """Return the verdict on a video's extraction, given that on its download."""
        return next(self._extract(row, download), DONE)

    def filter(self, project: str, video_id: str, row: MemberRecord, extract: Verdict) -> Verdict:
        """Return the verdict on a video's filter, given that on its extraction."""
        return next(self._filter(project, video_id, row, extract), DONE)

    def _download(self, row: VideoRecord) -> Iterator[Verdict]:
        if "download" in self._forced:
            yield Verdict(VerdictState.DUE, FORCED)
        if row.status == _V.PENDING and row.waits_until:
            yield Verdict(VerdictState.WAITING, f"until {row.waits_until}")
        if row.status == _V.DOWNLOADING:
            yield Verdict(VerdictState.DUE, BEGUN)
        if row.status == _V.PENDING or row.downloaded_with is None:
            again = row.downloaded_with == stage_rows.FETCH_AGAIN
            first = TRANSIENT if row.error_class in TRANSIENT_CLASSES else NEW
            retried = FETCH_AGAIN if again else RETRIED
            yield Verdict(VerdictState.DUE, retried if row.downloaded_with else first)
        if row.status == _V.FAILED and row.extracted_with is None:  # a downloaded video stays
            folder = partial(self._store.video, row.video_id)
            yield from self._outdated("download", row.downloaded_with, folder)
            yield Verdict(VerdictState.FAILED, str(row.error_class))

    def _extract(self, row: VideoRecord, download: Verdict) -> Iterator[Verdict]:
        if download.state is not VerdictState.DONE:
            yield download._replace(adopt=False)
        if "extract" in self._forced:
            yield Verdict(VerdictState.DUE, FORCED)
        if self._frames.has_chosen(row):
            yield DONE
        if row.status == _V.DOWNLOADED and row.waits_until:
            yield Verdict(VerdictState.WAITING, f"until {row.waits_until}")
        if row.status == _V.EXTRACTING:
            yield Verdict(VerdictState.DUE, BEGUN)
        if row.status not in (_V.EXTRACTED, _V.FAILED):
            yield Verdict(VerdictState.DUE, RETRIED if row.extracted_with else NEW)
        if row.extracted_with is None or row.extract_fingerprint is None:  # older than the columns
            yield Verdict(VerdictState.DUE, NEW)
        if not self._current.match("extract", row.extracted_with):
            yield from self._of_other_settings(row)
        if row.status == _V.FAILED:
            yield Verdict(VerdictState.FAILED, str(row.error_class))

    def _of_other_settings(self, row: VideoRecord) -> Iterator[Verdict]:
        """Yield the verdict on frames that were made with other settings."""
        if _source_is_gone(row):
            own = self._frames.exists(row.video_id, self._frames.recipe(row.video_id))
            yield DONE if own else Verdict(VerdictState.DONE, KEPT)
        chosen = self._frames.last_chosen(row.video_id)
        yield Verdict(VerdictState.DUE, self._frames_reason(row, chosen) if chosen else NEW)

    def _filter(
        self, project: str, video_id: str, row: MemberRecord, extract: Verdict
    ) -> Iterator[Verdict]:
        if extract.state is VerdictState.FAILED and row.status != _PV.FAILED:
            yield Verdict(VerdictState.DUE, BEFORE)
        if extract.state is not VerdictState.DONE:
            yield extract._replace(adopt=False)
        if "filter" in self._forced:
            yield Verdict(VerdictState.DUE, FORCED)
        if row.status == _PV.PENDING and row.waits_until:
            yield Verdict(VerdictState.WAITING, f"until {row.waits_until}")
        if row.status == _PV.FILTERING:
            yield Verdict(VerdictState.DUE, BEGUN)
        if row.status == _PV.PENDING or row.filtered_with is None or row.filtered_from is None:
            yield Verdict(VerdictState.DUE, RETRIED if row.filtered_with else NEW)
        folder = partial(self._store.filtered, project, video_id)
        yield from self._outdated("filter", row.filtered_with, folder)
        if row.filtered_from != self._frames.recipe(video_id) and extract.reason != KEPT:
            video = self._records.videos[video_id]
            yield Verdict(VerdictState.DUE, self._frames_reason(video, row.filtered_from))
        if row.status == _PV.FAILED:
            yield Verdict(VerdictState.FAILED, str(row.error_class))

    def _outdated(
        self, stage: str, recipe_id: str | None, folder: Callable[[], Path]
    ) -> Iterator[Verdict]:
        if recipe_id and not self._current.match(stage, recipe_id):
            yield Verdict(VerdictState.DUE, self._current.reason(stage, recipe_id, folder()))

    def _frames_reason(self, row: VideoRecord, recipe: str | None) -> str:
        """Return why frames of a video are out of date."""
        newest = recipe is None or recipe == row.extract_fingerprint
        if newest:
            folder = self._frames.newest_folder(row)
        else:
            folder = self._store.recipe(row.video_id, str(recipe))
        recipe_id = row.extracted_with if newest else recipe
        return self._current.reason("extract", str(recipe_id), folder)


def _source_is_gone(row: VideoRecord) -> bool:
    """Return whether a video's source is gone for good, so that there will be no other frames."""
    return row.status == _V.EXTRACTED and None not in (row.error_class, row.extract_fingerprint)
