"""Gives failed videos another chance: reverts rows, and removes files that record failures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import RealDictCursor

from dataminer.db.connection import transaction
from dataminer.db.enums import ProjectVideoStatus, VideoStatus
from dataminer.files.links import lstat_or_none
from dataminer.files.publishing import remove_file
from dataminer.frames.table import FRAMES_FILE
from dataminer.provenance import recipes
from dataminer.store.layout import ANNOTATIONS_FILE, INFO_FILE, Store
from dataminer.sync.claims import projects as project_rows
from dataminer.sync.claims.stage_rows import FETCH_AGAIN
from dataminer.sync.claims.statements import PROJECTS_OF_VIDEOS
from dataminer.sync.jobs import results
from dataminer.urls import SourceUrl

DictRow = dict[str, Any]

_PAGE = 500  # videos per transaction: their files are removed while their rows are locked

# ---- statements --------------------------------------------------------------------------------

_CANDIDATES = """
SELECT DISTINCT video_id COLLATE "C"
FROM project_videos pv JOIN projects p USING (project_id) JOIN videos v USING (video_id)
WHERE (%(all_projects)s OR p.name = ANY(%(names)s))
    AND (%(all_videos)s OR video_id = ANY(%(videos)s))
    AND ((v.error IS NOT NULL AND (%(all_classes)s OR v.error_class = ANY(%(classes)s)))
        OR (pv.error IS NOT NULL AND (%(all_classes)s OR pv.error_class = ANY(%(classes)s))))
ORDER BY 1
"""

# NO KEY: adding the video to another project need not wait
_LOCK_VIDEOS = """
SELECT video_id, url, status, error, error_class, video_path, locked_by FROM videos
WHERE video_id = ANY(%(videos)s) ORDER BY video_id COLLATE "C" FOR NO KEY UPDATE SKIP LOCKED
"""

_LOCK_PAIRS = """
SELECT pv.id, p.project_id, p.name AS project, pv.video_id, pv.status, pv.error, pv.error_class,
    coalesce(pv.locked_by, p.locked_by) AS locked_by
FROM project_videos pv JOIN projects p USING (project_id)
WHERE pv.video_id = ANY(%(videos)s) AND (%(all_projects)s OR p.name = ANY(%(names)s))
ORDER BY p.project_id, pv.id FOR NO KEY UPDATE
"""

_RESET_VIDEOS = """
UPDATE videos v SET status = m.becomes, attempts = 0, not_before = NULL,
    failures = 0, failing_since = NULL, kills = 0, error = NULL, error_class = NULL
FROM unnest(%(videos)s::text[], %(becomes)s::text[]) AS m (video_id, becomes)
WHERE v.video_id = m.video_id AND v.locked_by IS NULL
"""

_RESET_PAIRS = """
UPDATE project_videos pv SET status = m.becomes, attempts = 0, not_before = NULL,
    failures = 0, failing_since = NULL, kills = 0, error = NULL, error_class = NULL
FROM unnest(%(pairs)s::int[], %(becomes)s::text[]) AS m (id, becomes)
WHERE pv.id = m.id AND pv.locked_by IS NULL
"""

_FETCH_AGAIN = """
UPDATE videos v SET status = 'PENDING', downloaded_with = %(again)s, attempts = 0,
    not_before = NULL, failures = 0, failing_since = NULL, kills = 0,
    error = NULL, error_class = NULL
FROM (SELECT video_id, status FROM videos WHERE video_id = ANY(%(videos)s) FOR NO KEY UPDATE) was
WHERE v.video_id = was.video_id AND v.locked_by IS NULL
RETURNING v.video_id, was.status
"""


@dataclass(frozen=True)
class Retried:
    """A row that is tried again, or that would be but is held.

    Parameters
    ----------
    video_id : str
        The video.
    project : str or None
        The project whose filter of it is tried again; None for the video itself.
    was, becomes : str
        Its status before and after.
    error_class, error : str or None
        Why it had failed.
    held_by : str or None
        Who works on it, so that it was left alone.
    removed : tuple of Path
        The files that recorded its failure, and the tables of the dataset made without it.
    """

    video_id: str
    project: str | None
    was: str
    becomes: str
    error_class: str | None
    error: str | None
    held_by: str | None = None
    removed: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Choice:
    """Which rows the user has selected; an empty tuple selects all.

    Parameters
    ----------
    projects, videos, classes, statuses : tuple of str
        Project names, video ids, error classes and statuses.
    """

    projects: tuple[str, ...]
    videos: tuple[str, ...]
    classes: tuple[str, ...]
    statuses: tuple[str, ...] = ()

    def values(self) -> DictRow:
        """Return the values that a statement binds."""
        return {
            "names": list(self.projects),
            "all_projects": not self.projects,
            "videos": list(self.videos),
            "all_videos": not self.videos,
            "classes": list(self.classes),
            "all_classes": not self.classes,
            "statuses": list(self.statuses),
            "all_statuses": not self.statuses,
        }

    def wants(self, row: DictRow) -> bool:
        """Return whether a row has failed in a selected class."""
        return row["error"] is not None and (not self.classes or row["error_class"] in self.classes)


def retry(
    projects: Iterable[str] = (),
    videos: Iterable[str] = (),
    error_classes: Iterable[str] = (),
    *,
    store: Store,
    dry_run: bool = False,
) -> list[Retried]:
    """Let the next run of snakemake retry failures; return them by video, its own row first.

    A downloaded video whose media file still equals its source goes back to DOWNLOADED, any other
    to PENDING. Rows that somebody works on are left alone.

    Parameters
    ----------
    projects, videos, error_classes : iterable of str
        Which; none for all. Other projects keep their rows and files until their own next run.
    store : Store
        The store of the files.
    dry_run : bool
        Change nothing.

    Raises
    ------
    DataminerError
        If a named project does not exist.
    """
    choice = Choice(tuple(projects), tuple(videos), tuple(map(str, error_classes)))
    project_rows.ids_of(choice.projects)
    found = transaction(lambda connection: _candidates(connection, choice), name="retry")
    retried: list[Retried] = []
    affected: set[int] = set()
    for start in range(0, len(found), _PAGE):
        page = partial(_page, page=found[start : start + _PAGE], choice=choice, store=store)
        rows, of_projects = transaction(partial(page, dry_run=dry_run), name="retry")
        retried += rows
        affected |= of_projects
    if affected and not dry_run:
        project_rows.refresh(sorted(affected))
    return retried


def retry_within(
    connection: Connection, videos: list[str], error_classes: Iterable[str], store: Store
) -> tuple[list[Retried], set[int]]:
    """Retry videos within a transaction that has locked their rows, see :func:`retry`.

    Returns
    -------
    list of Retried, set of int
        The projects, by id, must be recounted after the transaction.
    """
    choice = Choice((), tuple(videos), tuple(map(str, error_classes)))
    return _page(connection, videos, choice, store, dry_run=False)


def fetch_again(videos: Iterable[str], *, dry_run: bool = False) -> dict[str, str | None]:
    """Let the next run of snakemake download videos again, even if their files exist.

    Their files stay until then. Videos that somebody works on are left alone.

    Parameters
    ----------
    videos : iterable of str
        The videos.
    dry_run : bool
        Change nothing.

    Returns
    -------
    dict of str to str or None
        The previous status of each video; None if somebody works on it.
    """
    wanted = sorted(set(videos))

    def work(connection: Connection) -> dict[str, str]:
        with connection.cursor() as cursor:
            cursor.execute(_FETCH_AGAIN, {"videos": wanted, "again": FETCH_AGAIN})
            found = dict(cursor.fetchall())
        if dry_run:
            connection.rollback()
        return found

    found = transaction(work, name="retry")
    if found and not dry_run:
        project_rows.refresh_of_videos(sorted(found))
    return {video_id: found.get(video_id) for video_id in wanted}


def _candidates(connection: Connection, choice: Choice) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(_CANDIDATES, choice.values())
        return [row[0] for row in cursor.fetchall()]


def _page(
    connection: Connection, page: list[str], choice: Choice, store: Store, dry_run: bool
) -> tuple[list[Retried], set[int]]:
    """Reset one page of videos; remove files first, while nobody else can claim the rows.

    If the process dies in between, the rows are still FAILED, and a run may claim them as well.
    """
    with connection.cursor(cursor_factory=RealDictCursor) as cursor:
        cursor.execute(_LOCK_VIDEOS, {"videos": page})
        locked = [dict(row) for row in cursor.fetchall()]
        values = {**choice.values(), "videos": [row["video_id"] for row in locked]}
        cursor.execute(_LOCK_PAIRS, values)
        pairs: dict[str, list[DictRow]] = {}
        for row in cursor.fetchall():
            pairs.setdefault(row["video_id"], []).append(dict(row))
        retries = [
            _VideoRetry(video, pairs.get(video["video_id"], []), choice, store) for video in locked
        ]
        retried = [row for each in retries for row in each.rows()]
        moving = [each for each in retries if not each.held_by]
        if not dry_run:
            for path in {path for row in retried for path in row.removed}:
                remove_file(path)
            _reset(cursor, moving)
        reset = [each.video["video_id"] for each in moving]
        cursor.execute(PROJECTS_OF_VIDEOS, {"video_ids": reset})
        affected = {row["project_id"] for row in cursor.fetchall()}
    return retried, affected


def _reset(cursor: Cursor, retries: list[_VideoRetry]) -> None:
    videos = [each for each in retries if each.retries_video]
    values = {
        "videos": [each.video["video_id"] for each in videos],
        "becomes": [each.video_becomes for each in videos],
    }
    cursor.execute(_RESET_VIDEOS, values)
    pairs = [pair for each in retries for pair in each.pairs]
    becomes = [_pair_becomes(pair) for pair in pairs]
    cursor.execute(_RESET_PAIRS, {"pairs": [pair["id"] for pair in pairs], "becomes": becomes})


class _VideoRetry:
    """What changes for one video, its places in projects, and its files."""

    def __init__(self, video: DictRow, pairs: list[DictRow], choice: Choice, store: Store) -> None:
        self.video = video
        self.store = store
        self.all_pairs = pairs
        self.retries_video = choice.wants(video)
        # a video's failure is also that of its places in projects
        self.pairs = [
            pair
            for pair in pairs
            if choice.wants(pair) or (self.retries_video and self._has_failed(pair))
        ]
        self.reusable = _reusable(video, store)

    def _has_failed(self, pair: DictRow) -> bool:
        folder = self.store.filtered(pair["project"], pair["video_id"])
        return pair["error"] is not None or any(_failed_table(folder))

    @property
    def held_by(self) -> str | None:
        """Who works on the video, its filter, or a dataset that it is part of."""
        rows = (self.video, *self.all_pairs)
        return next((row["locked_by"] for row in rows if row["locked_by"]), None)

    @property
    def video_becomes(self) -> str:
        """The video's new status."""
        status = str(self.video["status"])
        if status != VideoStatus.FAILED:
            return status
        return VideoStatus.DOWNLOADED if self.reusable else VideoStatus.PENDING

    def rows(self) -> Iterator[Retried]:
        """Yield the rows that are retried."""
        if self.retries_video:
            removed = tuple(self._video_files())
            yield self._retried(self.video, None, self.video_becomes, removed)
        for pair in self.pairs:
            removed = tuple(self._pair_files(pair["project"]))
            yield self._retried(pair, pair["project"], _pair_becomes(pair), removed)

    def _retried(
        self, row: DictRow, project: str | None, becomes: str, removed: tuple[Path, ...]
    ) -> Retried:
        return Retried(
            video_id=row["video_id"],
            project=project,
            was=row["status"],
            becomes=row["status"] if self.held_by else becomes,
            error_class=row["error_class"],
            error=row["error"],
            held_by=self.held_by,
            removed=() if self.held_by else removed,
        )

    def _video_files(self) -> Iterator[Path]:
        info = self.store.video(self.video["video_id"]) / INFO_FILE
        if self.video["status"] == VideoStatus.FAILED and not self.reusable and lstat_or_none(info):
            yield info
        video_id = self.video["video_id"]
        for recipe in recipes.of_video(self.store, video_id):
            yield from _failed_table(self.store.recipe(video_id, recipe))
        yield from _failed_table(self.store.frames(video_id))  # in the layout without recipes

    def _pair_files(self, project: str) -> Iterator[Path]:
        removed = list(_failed_table(self.store.filtered(project, self.video["video_id"])))
        yield from removed
        if removed:
            # Snakemake looks for missing inputs only of a missing target
            targets = (
                self.store.dedup(project) / FRAMES_FILE,
                self.store.detect(project) / ANNOTATIONS_FILE,
            )
            yield from (path for path in targets if lstat_or_none(path))


def _pair_becomes(pair: DictRow) -> str:
    failed = pair["status"] == ProjectVideoStatus.FAILED
    return ProjectVideoStatus.PENDING if failed else str(pair["status"])


def _failed_table(folder: Path) -> Iterator[Path]:
    if "failure" in (results.read_frames_meta(folder) or {}):
        yield folder / FRAMES_FILE


def _reusable(video: DictRow, store: Store) -> bool:
    """Return whether the media file exists, and still equals a local source."""
    folder = store.video(video["video_id"])
    outcome = results.read_download(folder)
    if outcome is None or outcome.status != VideoStatus.DOWNLOADED or not video["video_path"]:
        return False
    url = SourceUrl(video["url"])
    if not url.is_path:
        return True
    try:
        source, info = Path(url.reveal()).stat(), (folder / INFO_FILE).stat()
    except OSError:
        return True
    whole = outcome.columns["video_path"].stat().st_size
    return source.st_size == whole and source.st_mtime_ns <= info.st_mtime_ns
