"""Which frames of a video count: those of the settings, or those that projects have chosen from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path

from dataminer.db.enums import VideoStatus
from dataminer.planning.records import MemberRecord, VideoRecord
from dataminer.planning.request import PlanRequest
from dataminer.provenance.recipes import older_tables
from dataminer.store.file_stats import times
from dataminer.sync.claims.stage_rows import FILTER
from dataminer.sync.jobs import results


class FrameChoice:
    """The recipes of the frames of each video.

    Parameters
    ----------
    request : PlanRequest
        What is planned.
    """

    def __init__(self, request: PlanRequest) -> None:
        self._records, self._store = request.records, request.store
        self._current = request.current
        self._recipes: dict[str, str] = {}
        self.sha256: dict[str, str | None] = {}
        """Of video files, as read from their info.json."""
        self.unrecorded: set[str] = set()
        """Videos with frames of the settings that no row records."""

    def recipe(self, video_id: str) -> str:
        """Return the recipe of the frames that the settings make."""
        if video_id not in self._recipes:
            row = self._records.videos[video_id]
            sha256 = partial(self._sha256_of, row)
            self._recipes[video_id] = self._current.frames_recipe(row, sha256)
        return self._recipes[video_id]

    def kept(self, video_id: str) -> dict[str, None]:
        """Return the recipes that projects continue with if no frames can be made any more."""
        chosen = [members[video_id].filtered_from for members in self._members_of(video_id)]
        newest = self._records.videos[video_id].extract_fingerprint
        existing = [recipe for recipe in chosen if recipe and self.exists(video_id, recipe)]
        if newest and (len(existing) < len(chosen) or not existing):
            existing.append(newest)
        return dict.fromkeys(existing)

    def exists(self, video_id: str, recipe: str) -> bool:
        """Return whether there are frames of a recipe."""
        return bool(results.read_frames_meta(self._store.recipe(video_id, recipe)))

    def last_chosen(self, video_id: str) -> str | None:
        """Return the recipe of the frames from which one of the projects has chosen before."""
        newest = self._records.videos[video_id].extract_fingerprint
        rows = (members[video_id] for members in self._members_of(video_id))
        return next((row.filtered_from or newest for row in rows if row.filtered_with), None)

    def has_chosen(self, row: VideoRecord) -> bool:
        """Return whether frames of the settings were made, and other ones after them."""
        if row.sha256 is None or not self._used:
            return False
        recipe = self.recipe(row.video_id)
        if recipe == row.extract_fingerprint or (row.video_id, recipe) not in self._used:
            return False
        self.unrecorded.add(row.video_id)
        return True

    def newest_folder(self, row: VideoRecord) -> Path:
        """Return the folder of the frames that were made last, whatever the settings."""
        if row.extract_fingerprint is None or row.video_id in self.older:
            return self._store.frames(row.video_id)
        return self._store.recipe(row.video_id, row.extract_fingerprint)

    @cached_property
    def older(self) -> dict[str, str]:
        """The folders of frames in the layout of versions without recipes, by video."""
        rows = self._records.videos.items()
        candidates = [v for v, row in rows if row.sha256 is None and row.downloaded_with]
        tables = [(v, path) for v in candidates for path in older_tables(self._store, v)]
        written = times([path for _, path in tables])
        return {
            v: str(path.parent) for (v, path), time in zip(tables, written, strict=True) if time
        }

    def _members_of(self, video_id: str) -> Iterator[Mapping[str, MemberRecord]]:
        return (rows for rows in self._records.members.values() if video_id in rows)

    @cached_property
    def _used(self) -> set[tuple[str, str | None]]:
        """Each video and recipe from which one of the projects has chosen."""
        rows = (row for members in self._records.members.values() for row in members.items())
        return {(v, row.filtered_from) for v, row in rows if row.status in FILTER.past}

    def _sha256_of(self, row: VideoRecord) -> str | None:
        """Return the SHA-256 of a video file; rows of older versions do not have it."""
        pending = row.status == VideoStatus.PENDING
        if row.sha256 is None and not pending and row.video_id not in self.sha256:
            info = results.read_info_or_none(self._store.video(row.video_id)) or {}
            self.sha256[row.video_id] = info.get("sha256")
        return self.sha256.get(row.video_id, row.sha256)


def path_template(folder: Callable[[str], Path], name: str) -> Callable[[str], str]:
    """Return a function that names a file of each video; as paths they take a third of a plan."""
    before, after = str(folder("\0") / name).split("\0")
    return lambda video_id: f"{before}{video_id}{after}"
