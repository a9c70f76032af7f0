"""The progress of a run: how much of its plan is done, and how long the rest takes.

The plan is the run's list of batches; the results are in rows. Therefore the run, a ``dataminer
monitor`` beside it and its page show the same numbers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg2

from dataminer.db.connection import reading
from dataminer.errors import DataminerError
from dataminer.monitor.progress.rates import ALIVE, BRIDGED, overlap
from dataminer.monitor.progress.rows import (
    NOW,
    PAIRS,
    PROJECTS,
    VIDEOS,
    TrackedPair,
    TrackedVideo,
    waits,
)
from dataminer.monitor.progress.stage import StageCount, StageProgress, remaining_seconds
from dataminer.monitor.progress.transfers import Transfers
from dataminer.report import REPORT_FILE
from dataminer.store.layout import Store
from dataminer.sync.batches.batch_list import BATCHES_FILE, BatchList
from dataminer.sync.claims.owners import is_dead
from dataminer.sync.claims.stage_rows import STAGES
from dataminer.sync.pairing.database import workdirs
from dataminer.sync.rate_limit.statements import PAUSES
from dataminer.urls import masked_row

_SINCE_SLACK = 120.0  # seconds: a row is written before its files are in place, committed later
_CLOCK_SLACK = 5.0  # seconds by which the clocks of a file server and this machine may differ
_SHARE, _LONGEST = 0.05, 60.0  # maximum share of time for queries; maximum seconds to wait
_KEEP_SECONDS = 7 * 24 * 3600  # of a list from another machine, whose run may have ended


@dataclass(frozen=True)
class RunProgress:
    """The progress of a run.

    Parameters
    ----------
    projects : list of str
        The projects of the run.
    seconds : float
        Seconds since the run began.
    stages : list of StageProgress
        The stages for videos, in order.
    datasets : dict of str to dict
        For ``dedup``, ``detect`` and ``report``: how many projects are ``waiting``, ``running`` and
        ``done``.
    failures, to_retry : dict of str to int
        Per class, how many videos failed permanently, and how many wait for another attempt.
    pauses : list of dict
        Sources that refuse requests: ``source``, ``reason``, ``open_until``, ``seconds_left``.
    left_seconds : float or None
        Remaining time of all stages for videos; None if unknown.
    idle_seconds : float or None
        How long no job has been working; None if one is.
    trouble : str or None
        Why the database could not be read since then.
    """

    projects: list[str]
    seconds: float
    stages: list[StageProgress]
    datasets: dict[str, dict[str, int]]
    failures: dict[str, int] = field(default_factory=dict)
    to_retry: dict[str, int] = field(default_factory=dict)
    pauses: list[dict[str, Any]] = field(default_factory=list)
    left_seconds: float | None = None
    idle_seconds: float | None = None
    trouble: str | None = None

    @property
    def work(self) -> int:
        """The share of all stages' work that is done, in percent."""
        ended = sum(stage.total - stage.left for stage in self.stages)
        total = sum(stage.total for stage in self.stages)
        return 100 * ended // total if total else 0


def _plan(listed: BatchList) -> dict[str, dict[str, frozenset[str]]]:
    """Return the planned videos of a run by stage and project ("" for stages without one)."""
    found: dict[str, dict[str, frozenset[str]]] = {}
    for rule, batches in listed.members.items():
        stage, _, project = rule.partition("/")
        videos = frozenset(video for batch in batches.values() for video in batch)
        found.setdefault(stage, {})[project] = videos
    return found


class Tracker:
    """Tracks the progress of one run.

    Parameters
    ----------
    listed : BatchList
        The run's plan.
    began : float
        When its list was written, in seconds since 1970 by this machine's clock.
    store : Store or None
        The store of reports and videos; None if unknown.
    """

    def __init__(self, listed: BatchList, began: float, store: Store | None = None) -> None:
        self._planned, self._datasets = _plan(listed), dict(listed.datasets)
        self._folder, self._members = listed.folder, listed.members
        self.projects = sorted(listed.projects)
        self._began, self._store = began, store
        self._transfers = Transfers(store.root / "videos" if store else None)
        self._videos: dict[str, TrackedVideo] = {}
        self._pairs: dict[tuple[str, str], TrackedPair] = {}
        self._since = 0.0
        self._latest: RunProgress | None = None
        self._ask_at = 0.0

    @classmethod
    def of_list(cls, path: Path, store: Store | None = None) -> Tracker | None:
        """Track the run with this list of batches; None until it is written."""
        try:
            return cls(BatchList.read(path), path.stat().st_mtime, store)
        except FileNotFoundError:
            return None

    def read(self, *, force: bool = False) -> RunProgress:
        """Read the progress from the database; if it does not answer, the numbers stay.

        Parameters
        ----------
        force : bool
            Query even if the last query was recent and slow.
        """
        began = time.monotonic()
        if not self._latest or force or self._latest.trouble or began >= self._ask_at:
            try:
                self._latest = self._read()
            except (DataminerError, psycopg2.Error, OSError) as error:
                before = self._latest or self.judge(time.time(), time.time(), {}, [])
                reason = " ".join(str(error).split()) or type(error).__name__
                self._latest = replace(before, trouble=reason)
            took = time.monotonic() - began
            self._ask_at = began + took + min(took / _SHARE, _LONGEST)
        # the elapsed time is always current
        return replace(self._latest, seconds=max(time.time() - self._began, self._latest.seconds))

    def _read(self) -> RunProgress:
        values = {"names": self.projects, "since": self._since, "alive": ALIVE}
        with reading("progress") as session, session.cursor() as cursor:
            cursor.execute(NOW)
            ((database_now,),) = cursor.fetchall()
            cursor.execute(VIDEOS, values)
            self._videos |= {row[0]: TrackedVideo(*row) for row in cursor.fetchall()}
            cursor.execute(PAIRS, values)
            self._pairs |= {(row[0], row[1]): TrackedPair(*row) for row in cursor.fetchall()}
            cursor.execute(PROJECTS, values)
            projects = {name: tuple(row) for name, *row in cursor.fetchall()}
            cursor.execute(PAUSES)
            columns = [column.name for column in cursor.description or ()]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        self._since = database_now - _SINCE_SLACK
        wall = time.time()
        # when the run began, by the database's clock
        began = self._began + database_now - wall
        self._transfers.read(self._downloading(), database_now)
        return self.judge(database_now, began, projects, [masked_row(row) for row in rows])

    def judge(
        self,
        now: float,
        began: float,
        projects: Mapping[str, tuple[Any, ...]],
        pauses: list[dict[str, Any]],
    ) -> RunProgress:
        """Return the progress of the run, from the rows read so far."""
        since = began - _CLOCK_SLACK
        counts = [
            *self._of_videos("download", since),
            *self._of_videos("extract", since),
            *self._of_embed(),
            *self._of_pairs(since),
        ]
        datasets = self._of_projects(projects, since)
        busy = any(c.running for c in counts) or any(d["running"] for d in datasets.values())
        quiet = max(now - max([began, *(row.updated for row in self._rows())]), 0.0)
        idle = not busy and quiet > BRIDGED
        stages = [counted.progress(now, idle=idle) for counted in counts]
        if pauses:  # it is unknown how long a source refuses
            stages = [
                replace(stage, left_seconds=None)
                if stage.name == "download" and stage.left_seconds != 0
                else stage
                for stage in stages
            ]
        failures, to_retry = self._failures(since)
        return RunProgress(
            self.projects,
            max(now - began, 0.0),
            stages,
            datasets,
            failures,
            to_retry,
            pauses,
            remaining_seconds(stages, overlap(counted.ended for counted in counts)),
            quiet if idle else None,
        )

    def _rows(self) -> Iterator[TrackedVideo | TrackedPair]:
        yield from self._videos.values()
        yield from self._pairs.values()

    # ---- the stages -------------------------------------------------------------------------

    def _of_videos(self, name: str, since: float) -> Iterator[StageCount]:
        planned = self._videos_of(name)
        if not planned:
            return
        stage, counted = STAGES[name], StageCount(name, len(planned))
        if name == "download":
            counted.coming, counted.under_way = self._transfers.size, self._transfers.under_way
        for video_id in planned:
            row = self._videos.get(video_id)
            counted.note_duration(video_id, row)
            if row is None or row.updated < since:
                counted.left.append(video_id)
                continue
            # with a file, it was extract that failed
            failed = row.status == "FAILED" and (name == "extract" or not row.has_file)
            if failed:
                here = row.has_file == (name == "extract")
                counted.add_failure(video_id, row.updated if here else None)
            elif row.status in stage.past or row.status == "FAILED":
                counted.add_result(video_id, *row.cost(name), since)
            elif not waits(row, since):
                counted.left.append(video_id)
                if row.at_work and row.status == stage.running:
                    counted.running += 1
                    if name == "download" and row.begun is not None:
                        counted.begun.append(row.begun)
        yield counted

    def _downloading(self) -> list[str]:
        running = STAGES["download"].running
        rows = (self._videos[v] for v in self._videos_of("download") if v in self._videos)
        return [row.video_id for row in rows if row.at_work and row.status == running]

    def _of_pairs(self, since: float) -> Iterator[StageCount]:
        planned = self._planned.get("filter", {})
        counted = StageCount("filter", sum(map(len, planned.values())))
        if not counted.total:
            return
        stage = STAGES["filter"]
        for project, video_id in ((p, v) for p, videos in planned.items() for v in videos):
            video, row = self._videos.get(video_id), self._pairs.get((project, video_id))
            counted.note_duration(video_id, video)
            if row is None or row.updated < since:
                row = None
            if row and row.status in stage.past:
                counted.add_result(video_id, row.filtered_at, row.filter_seconds, row.passed, since)
            elif row and row.status == "FAILED":
                counted.add_failure(video_id, row.updated)
            elif video and video.status == "FAILED" and self._is_lost(video, since):
                counted.add_failure(video_id, None)
            elif not any(waits(r, since) for r in (video, row)):
                counted.left.append(video_id)
                counted.running += bool(row and row.at_work and row.status == stage.running)
        yield counted

    def _is_planned(self, row: TrackedVideo | TrackedPair) -> bool:
        """Return whether this run works on the video of a row."""
        if isinstance(row, TrackedPair):
            return row.video_id in self._planned.get("filter", {}).get(row.project, ())
        return any(row.video_id in self._videos_of(stage) for stage in ("download", "extract"))

    def _videos_of(self, stage: str) -> frozenset[str]:
        return self._planned.get(stage, {}).get("", frozenset())

    def _is_lost(self, video: TrackedVideo, since: float) -> bool:
        """Return whether a failure is final: it happened in this run, or is not retried."""
        return video.updated >= since or not self._is_planned(video)

    def _of_embed(self) -> Iterator[StageCount]:
        """Count the videos that models were run on: their jobs write marker files, not rows."""
        batches = self._members.get("embed", {})
        counted = StageCount("embed", sum(map(len, batches.values())))
        if not counted.total:
            return
        filters = self._planned.get("filter", {})
        through = {
            video_id
            for (project, video_id), row in self._pairs.items()
            if video_id in filters.get(project, ()) and row.status in STAGES["filter"].past
        }
        for batch, videos in batches.items():
            # a marker file is deleted once nothing needs it
            if through.issuperset(videos) or (self._folder / "embed" / f"{batch}.done").exists():
                counted.done += len(videos)
            else:
                counted.left += videos
        yield counted

    def _of_projects(
        self, projects: Mapping[str, tuple[Any, ...]], since: float
    ) -> dict[str, dict[str, int]]:
        found: dict[str, Counter[str]] = {}
        for project, due in sorted(self._datasets.items()):
            status, *ended = projects.get(project, ("", None, None))
            for name, at in zip(("dedup", "detect"), ended, strict=True):
                if name in due:
                    running = status == STAGES[name].running
                    state = "running" if running else "done" if (at or 0) >= since else "waiting"
                    found.setdefault(name, Counter())[state] += 1
            if "report" in due:
                state = "done" if self._is_reported(project, since) else "waiting"
                found.setdefault("report", Counter())[state] += 1
        states = ("waiting", "running", "done")
        return {name: {state: counts[state] for state in states} for name, counts in found.items()}

    def _is_reported(self, project: str, since: float) -> bool:
        if self._store is None:
            return False
        try:
            return (self._store.report(project) / REPORT_FILE).stat().st_mtime >= since
        except OSError:
            return False

    def _failures(self, since: float) -> tuple[dict[str, int], dict[str, int]]:
        failed: dict[str, str] = {}
        to_retry: dict[str, str] = {}
        for row in self._rows():
            if not self._is_planned(row):
                continue
            if row.status == "FAILED" and row.has_error and row.updated >= since:
                failed.setdefault(row.video_id, row.error_class or "")
            elif waits(row, since):
                to_retry.setdefault(row.video_id, row.error_class or "")
        return _sorted_counts(failed.values()), _sorted_counts(to_retry.values())


def _sorted_counts(classes: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(classes).items(), key=lambda item: (-item[1], item[0])))


# ---- current runs ------------------------------------------------------------------------------


def runs_at_work(names: Iterable[str] = ()) -> list[tuple[BatchList, float]]:
    """Return the batch lists of the current runs of some projects, each with its time.

    Only runs whose working folder is visible on this machine are found.

    Parameters
    ----------
    names : iterable of str
        The projects; none for all.
    """
    wanted = set(names)
    with reading("progress") as session, session.cursor() as cursor:
        folders = workdirs(cursor)
    found = []
    for folder in folders:
        for path in Path(folder).glob(f".snakemake/dataminer/*/{BATCHES_FILE}"):
            try:
                listed, began = BatchList.read(path), path.stat().st_mtime
            except (OSError, ValueError, TypeError):  # removed just now, or of another version
                continue
            others = wanted and wanted.isdisjoint(listed.datasets)
            old = time.time() - began > _KEEP_SECONDS
            if not (others or old or is_dead(listed.owner)):
                found.append((listed, began))
    return found
