"""A job's batch: the videos of one stage, done in warm worker processes.

Frames are taken out and filtered one video after the other in each worker, downloads side by side.
"""

from __future__ import annotations

import gc
import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg2

from dataminer.config import Config
from dataminer.errors import (
    DatabaseError,
    DataminerError,
    ErrorClass,
    Kind,
    StageError,
    TransientError,
    UncheckedError,
    brief,
    kind_of,
    runnable,
)
from dataminer.files.publishing import remove_partials
from dataminer.provenance import recipes
from dataminer.store.layout import Store
from dataminer.sync.batches import pool
from dataminer.sync.batches.late_batches import LateBatches
from dataminer.sync.batches.planned import BatchList
from dataminer.sync.batches.together import Gathered, Together
from dataminer.sync.claims import claim_end, claims, projects, slurm
from dataminer.sync.claims.claims import LeaseLost
from dataminer.sync.claims.execution import PATIENCE
from dataminer.sync.claims.heartbeat import Interrupted
from dataminer.sync.claims.stage_rows import STAGES, StageRows
from dataminer.sync.jobs.download import ClaimedDownload, claim_downloads, download_video
from dataminer.sync.jobs.extract import extract_video
from dataminer.sync.jobs.failures import FramesLost, ModelOutputsLost, NotReady, SourceChanged
from dataminer.sync.jobs.filter import filter_video
from dataminer.sync.jobs.rule_log import log_video
from dataminer.sync.rate_limit.permits import PermitStock
from dataminer.sync.recovery import dead_jobs
from dataminer.sync.tasks.task import Busy, Deleted, TaskOptions
from dataminer.text import tell

log = logging.getLogger(__name__)

# How many times `monitor.retry_seconds` pass before what failed in passing is tried again; then the
# next run takes it up.
_PAUSES = (1, 5)
_REFRESH_SECONDS = 5.0  # between two recounts of a project, per worker
_END_SECONDS = 8.0  # that downloads have to end; less than a pool gives its workers
_LOOK_SECONDS = 0.05
_STAGE_MODULES = {
    "download": "dataminer.stages.download.stage",
    "extract": "dataminer.stages.extract.stage",
    "filter": "dataminer.stages.filter.stage",
}


class Ending(StrEnum):
    """How one attempt at one video ended, for the batch."""

    DONE = "done"  # recorded, a failure for good included
    NOT_READY = "not_ready"  # what comes before it waits for its next attempt
    BUSY = "busy"  # another run works on it
    PASSING = "passing"  # the network and the like: no attempt was counted
    PAUSED = "paused"  # the same, and it is known until when
    COUNTED = "counted"  # an attempt was counted, and there may be more
    ALONE = "alone"  # one of several whose worker was lost: no attempt was counted
    MEMORY = "memory"
    GONE = "gone"  # deleted meanwhile
    LOCAL = "local"  # this machine must change first


@dataclass(frozen=True)
class Attempt:
    """What became of one attempt."""

    ending: Ending
    said: str = ""


@dataclass(frozen=True)
class Batch:
    """What a job of a stage works through.

    Parameters
    ----------
    stage : str
        ``download``, ``extract`` or ``filter``.
    videos : sequence of str
        Which videos.
    project : str or None
        For which project they are filtered.
    forced : bool
        Make results anew, whatever there is.
    """

    stage: str
    videos: Sequence[str]
    project: str | None = None
    forced: bool = False

    @cached_property
    def project_id(self) -> int | None:
        """The project's number."""
        return projects.id_of(self.project) if self.project else None


def workers_here(threads: int, asked: int) -> int:
    """Return on how many videos a job works at once.

    Parameters
    ----------
    threads : int
        The job's threads, on this machine; 0 if it mostly waits.
    asked : int
        The cores that it asked Slurm for; negative if Slurm was not to be asked.

    Returns
    -------
    int
        In a Slurm job, the cores that it has, and no more than it asked for, as its memory is for
        so many. Else the threads.
    """
    has = slurm.own_cores()
    if has is None:
        return threads or max(asked, 1)
    return min(has, asked) if asked > 0 else has


def of_job(
    stage: str,
    config: Config,
    listed: Path,
    wildcards: Mapping[str, str],
    *,
    workers: int,
    memory_mb: int,
    downloads: int = 1,
) -> None:
    """Do what a job of a batch rule is for.

    Parameters
    ----------
    stage : str
        ``download``, ``extract`` or ``filter``.
    config : Config
        The settings.
    listed : Path
        The list of the run's batches.
    wildcards : Mapping
        The job's: ``batch`` and, for ``filter``, ``project``.
    workers, memory_mb, downloads : int
        As for :func:`perform`.

    Raises
    ------
    DataminerError
        As for :func:`perform`.
    """
    project = wildcards.get("project")
    rule = f"{stage}/{project}" if project else stage
    told = BatchList.read(listed)
    name = wildcards["batch"]
    batch = Batch(stage, told.videos(rule, name), project, stage in told.forced)
    late = LateBatches(told, rule, name)
    with late.begun():
        perform(
            batch,
            config,
            workers=workers,
            memory_mb=memory_mb,
            downloads=downloads,
            at_most=told.workers(rule, name),
            late=late,
        )


def perform(
    batch: Batch,
    config: Config,
    *,
    workers: int,
    memory_mb: int,
    downloads: int = 1,
    at_most: int = sys.maxsize,
    late: LateBatches | None = None,
) -> None:
    """Do a stage for each video of a batch, and let none of them stop the others.

    A worker takes one video at a time, or fetches several side by side. One that crashes, hangs or
    exceeds its share of the memory costs its own video an attempt, or none if there were several;
    the others go on. What failed in passing is tried again after a pause, while others are worked
    on; if nothing else is left, only a short pause is waited for. What failed otherwise is tried
    again at the end: what lost its worker together with others, alone; what another run worked on,
    after waiting for it; what cost an attempt, until it has a result or no attempts left; what ran
    out of memory, alone and with all the memory of the job. What was worked on when an earlier job
    was killed is tried alone, after the others. Then the job takes over videos that wait in late
    batches.

    Parameters
    ----------
    batch : Batch
        What to do.
    config : Config
        The settings.
    workers : int
        How many videos at once.
    memory_mb : int
        The job's memory; each worker may use its share.
    downloads : int
        How many videos all workers together fetch side by side.
    at_most : int
        How many workers the memory is for; further cores are for their threads.
    late : LateBatches, optional
        The other batches of the run.

    Raises
    ------
    DataminerError
        When videos are left that another attempt of this job may mend, or whoever runs it: with
        more memory, or with what this machine lacks.
    """
    at_once = 1
    if batch.stage == "download":
        workers = max(1, min(workers, at_most, downloads))
        at_once = max(1, downloads // workers)
    _BatchRun(batch, config, workers, memory_mb, at_once, at_most, late).all()


@dataclass
class _BatchRun:
    batch: Batch
    config: Config
    workers: int
    memory_mb: int
    at_once: int
    """How many videos a worker works on."""
    at_most: int = sys.maxsize
    """How many workers the memory is for."""
    late: LateBatches | None = None
    passing: Counter[str] = field(default_factory=Counter)
    """How often each video has failed in passing."""
    resting: dict[str, float] = field(default_factory=dict)
    """Until when each of them is not tried again, as a moment of ``time.monotonic``."""

    @property
    def _stage(self) -> StageRows:
        return STAGES[self.batch.stage]

    @cached_property
    def suspects(self) -> set[str]:
        """The videos that are tried alone."""
        if min(self.workers * self.at_once, len(self.batch.videos)) == 1:
            return set()
        return claims.suspects(self._stage, self.batch.videos)

    def all(self) -> None:
        import_module(_STAGE_MODULES[self.batch.stage])  # once, before the workers are forked
        gc.freeze()  # they share what is loaded, which a collection would copy
        gc.enable()
        left: dict[str, Attempt] = {}
        try:
            dead_jobs.resume_requeued_job(self._stage, self.batch.project_id, self.config.monitor)
            alone = self._left_alone()
            left = alone | self._round([v for v in self.batch.videos if v not in alone])
            for again in (self._alone, self._busy, self._passing, self._counted, self._memory):
                left = again(left)
            with suppress(DatabaseError, psycopg2.Error):  # its own videos are done
                self._help()
        except Interrupted:
            with suppress(DatabaseError, psycopg2.Error):
                dead_jobs.record_own_end(self.config.monitor)
            raise
        finally:
            with suppress(DatabaseError, psycopg2.Error):  # the end of the run counts, too
                done = len(left) < len(self.batch.videos)
                _recount(self.batch, self.batch.videos, patience=0, refiltered=done)
        self._tell(left)

    def _left_alone(self) -> dict[str, Attempt]:
        """Return the videos that are for a later run: they have killed their jobs too often."""
        found = claims.postponed(self._stage, self.batch.videos, self.batch.project_id)
        return {video_id: Attempt(Ending.PAUSED, error) for video_id, error in found.items()}

    # ---- rounds: each takes what is left, and returns what is left after it

    def _round(
        self,
        videos: Sequence[str],
        workers: int | None = None,
        at_once: int | None = None,
        *,
        patient: bool = False,
        forced: bool = True,
    ) -> dict[str, Attempt]:
        """Try each video, suspects last and alone."""
        together = [video_id for video_id in videos if video_id not in self.suspects]
        alone = [video_id for video_id in videos if video_id in self.suspects]
        at_once = at_once or self.at_once
        how = {"patient": patient, "forced": forced, "again": True}
        left = self._try(together, workers or self.workers, at_once, **how)
        return left | self._try(alone, 1, 1, **how)

    def _try(
        self,
        videos: Sequence[str],
        workers: int,
        at_once: int,
        *,
        patient: bool = False,
        forced: bool = False,
        again: bool = False,
        until: float = math.inf,
    ) -> dict[str, Attempt]:
        if not videos:
            return {}
        workers = min(workers, len(videos), self.at_most)
        monitor = self.config.monitor
        limits = pool.Limits(
            memory_bytes=self.memory_mb * 10**6 // workers,
            blocked_seconds=monitor.stale_threshold_minutes * 60 / 2,
            idle_seconds=monitor.no_progress_minutes * 60,
        )
        batch = replace(self.batch, forced=self.batch.forced and forced)
        worker = _Worker(batch, self.config, patient, self.workers // workers, until)
        left: dict[str, Attempt] = {}
        ended = pool.run(
            videos,
            worker.attempt,
            workers=workers,
            limits=limits,
            settle=worker.settle,
            crew=worker.crew if at_once > 1 else None,
            at_once=at_once,
            more=partial(self._rested, left),
        )
        with closing(ended):  # type: ignore[type-var]
            for video_id, result in ended:
                attempt = _of_lost(result) if isinstance(result, pool.Lost) else result
                left.pop(video_id, None)
                if attempt.ending is not Ending.DONE:
                    left[video_id] = attempt
                if again and attempt.ending is Ending.PASSING:
                    self._rest(video_id)
        return left

    def _rest(self, video_id: str) -> None:
        """Have a video that failed in passing tried again, if it is not for the next run."""
        times = self.passing[video_id]
        if times < len(_PAUSES):
            seconds = _PAUSES[times] * self.config.monitor.retry_seconds
            self.resting[video_id] = time.monotonic() + seconds
        self.passing[video_id] += 1

    def _rested(self, left: Container[str]) -> list[str]:
        """Take those of some videos whose pause is over."""
        now = time.monotonic()
        rested = [v for v, until in self.resting.items() if v in left and until <= now]
        for video_id in rested:
            del self.resting[video_id]
        return rested

    def _again(self, left: dict[str, Attempt], ending: Ending, **how: Any) -> dict[str, Attempt]:
        videos = [video for video, attempt in left.items() if attempt.ending is ending]
        others = {v: attempt for v, attempt in left.items() if attempt.ending is not ending}
        return {**others, **self._round(videos, **how)}

    def _alone(self, left: dict[str, Attempt]) -> dict[str, Attempt]:
        return self._again(left, Ending.ALONE, workers=1, at_once=1, patient=True)

    def _busy(self, left: dict[str, Attempt]) -> dict[str, Attempt]:
        # what another run has made meanwhile is new, if results were to be made anew
        return self._again(left, Ending.BUSY, patient=True, forced=False)

    def _passing(self, left: dict[str, Attempt]) -> dict[str, Attempt]:
        """Try again what rests for a short while only; nothing else is left to work on."""
        soon = time.monotonic() + self.config.monitor.retry_seconds
        waited_for = {v: until for v, until in self.resting.items() if until <= soon}
        if not waited_for:
            return left
        time.sleep(max(0.0, max(waited_for.values()) - time.monotonic()))
        rested = self._rested(waited_for)
        others = {v: attempt for v, attempt in left.items() if v not in rested}
        return {**others, **self._round(rested, patient=True)}

    def _counted(self, left: dict[str, Attempt]) -> dict[str, Attempt]:
        # after the last attempt, one more claim records that it was given up
        for _ in range(self.config.monitor.max_attempts):
            left = self._again(left, Ending.COUNTED, patient=True, at_once=1)
        return left

    def _memory(self, left: dict[str, Attempt]) -> dict[str, Attempt]:
        if self.workers == 1:
            return left  # they had all of it
        return self._again(left, Ending.MEMORY, workers=1, at_once=1, patient=True)

    def _help(self) -> None:
        """Take over videos that wait in late batches; their own jobs try again what fails."""
        if self.late is None or self.batch.forced:
            return
        tried: set[str] = set()
        while time.time() < self.late.until:
            waiting = self.late.videos(self._stage, self.batch.project_id)
            videos = [video_id for video_id in waiting if video_id not in tried]
            if not videos:
                return
            tried.update(videos)
            self._try(videos, self.workers, self.at_once, until=self.late.until)
            _recount(self.batch, videos)

    # ---- the end

    def _tell(self, left: dict[str, Attempt]) -> None:
        by_ending: dict[Ending, list[str]] = {}
        for video_id, attempt in left.items():
            said = runnable(attempt.said, video_id, self.config.project_names)
            by_ending.setdefault(attempt.ending, []).append(f"{video_id}: {brief(said)}")
        by_ending.pop(Ending.NOT_READY, None)  # the stage before has told of it
        for ending in (Ending.PASSING, Ending.PAUSED):
            for line in by_ending.pop(ending, ()):
                what, _, _ = line.partition(" Next: ")  # which the end of the run tells
                tell(f"dataminer: waits for the next run: {what}", sys.stderr)
        for line in by_ending.pop(Ending.GONE, ()):
            tell(f"dataminer: passed over: {line}", sys.stderr)
        lines = [line for lines in by_ending.values() for line in lines]
        if lines:
            more = f" (and {len(lines) - 1} more, see the log)" if len(lines) > 1 else ""
            raise DataminerError(f"{lines[0]}{more}")


def _recount(
    batch: Batch,
    videos: Sequence[str],
    patience: float = PATIENCE,
    *,
    refiltered: bool = True,
) -> None:
    if batch.project:
        projects.refresh_named([batch.project], refiltered=refiltered, patience=patience)
    else:
        projects.refresh_of_videos(videos, patience=patience)


def _of_lost(lost: pool.Lost) -> Attempt:
    if lost.shared:
        return Attempt(Ending.ALONE, lost.how)
    memory = lost.error_class is ErrorClass.OUT_OF_MEMORY
    return Attempt(Ending.MEMORY if memory else Ending.COUNTED, lost.how)


@dataclass
class _Worker:
    """What a worker process does."""

    batch: Batch
    config: Config
    patient: bool
    threads: int
    until: float
    _recounted: float = 0.0

    def crew(self) -> _Crew:
        """Return what fetches several videos at once."""
        return _Crew(self)

    def attempt(self, video_id: str) -> Attempt:
        """Try one video, if there is time for it."""
        if time.time() > self.until:
            return Attempt(Ending.NOT_READY)
        return self.perform(video_id, self._job(video_id))

    def perform(self, video_id: str, job: Callable[[], None]) -> Attempt:
        """Do the job of one video, and tell what became of it."""
        with log_video(video_id):
            try:
                job()
            except Interrupted as asked:
                log.info("stopped (%s): the next run takes it up", asked)
                raise
            except Exception as error:
                return _after(error)
            self._recount(video_id)
        return Attempt(Ending.DONE)

    def settle(self, video_id: str, lost: pool.Lost) -> None:
        """Give back the claim of a worker that was lost: an attempt, if it had no other video."""
        with log_video(video_id):
            self._remove_partials(video_id)  # before anybody else can work on it
            death = dead_jobs.Death(lost.how, error_class=lost.error_class, of_job=lost.shared)
            dead_jobs.give_back(self.batch.stage, self._wildcards(video_id), death)

    @property
    def manner(self) -> TaskOptions:
        """How it is done."""
        return TaskOptions(self.patient, self.batch.forced, self.threads)

    def _job(self, video_id: str) -> Callable[[], None]:
        manner = self.manner
        if project := self.batch.project:
            asked = (self.config, project, video_id, manner)
            return partial(filter_video, *asked, project_id=self.batch.project_id)
        job = {"download": download_video, "extract": extract_video}[self.batch.stage]
        return partial(job, self.config, video_id, manner)

    def _remove_partials(self, video_id: str) -> None:
        store = Store(self.config.store_path)
        if self.batch.stage == "extract":
            recipes.remove_partials(store, video_id)
        elif self.batch.project:
            remove_partials(store.filtered(self.batch.project, video_id))
        else:
            remove_partials(store.video(video_id))

    def _wildcards(self, video_id: str) -> dict[str, str]:
        of_project = {"project": self.batch.project} if self.batch.project else {}
        return {"video_id": video_id, **of_project}

    def _recount(self, video_id: str) -> None:
        now = time.monotonic()
        if now - self._recounted > _REFRESH_SECONDS:
            self._recounted = now
            try:
                _recount(self.batch, [video_id])
            except (DatabaseError, psycopg2.Error) as error:
                log.warning("not counted now: %s", error)  # the end of the batch does it


class _Crew:
    """Fetches several videos at once, each on a thread of a worker process."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker
        self._config = worker.config
        self._together = Together(worker.config.monitor)
        self._stock = PermitStock()
        self._claim = Gathered(self._claim_all)
        self._claimed: dict[str, ClaimedDownload] = {}
        self._doing: set[str] = set()

    def do(self, video_id: str) -> Attempt:
        """Fetch one video."""
        if time.time() > self._worker.until:
            return Attempt(Ending.NOT_READY)
        self._doing.add(video_id)
        try:
            job = partial(
                download_video,
                self._config,
                video_id,
                self._worker.manner,
                keeper=self._together,
                stock=self._stock,
                claimed=self._claimed.pop(video_id) if self._claim(video_id) else None,
            )
            return self._worker.perform(video_id, job)
        finally:
            self._doing.discard(video_id)

    def give_up(self, reason: BaseException) -> None:
        """Give back all claims, as the worker was asked to end."""
        self._together.stop(reason)
        until = time.monotonic() + _END_SECONDS
        while self._doing and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
        store = Store(self._config.store_path)
        said, error_class = dead_jobs.interruption()
        for one in claims.own_claims(list(self._doing)):  # whose threads hang
            claim_end.release(one, error=said, error_class=error_class, counts=False)
            remove_partials(store.video(one.key["video_id"]))

    def _claim_all(self, videos: list[str]) -> list[str]:
        """Claim videos whose threads begin at the same time."""
        try:
            claimed = claim_downloads(self._config, videos)
        except (DatabaseError, psycopg2.Error, OSError) as error:
            log.warning("not claimed together: %s", error)  # each says what is wrong
            return []
        self._claimed |= claimed
        return [video_id for video_id in videos if video_id in claimed]


def _after(error: Exception) -> Attempt:
    ending = _ending(error)
    if ending in (Ending.BUSY, Ending.NOT_READY):
        log.info("%s", error)
    elif isinstance(error, DataminerError):
        log.error("%s", error)
    else:
        log.exception("failed")
    named = isinstance(error, DataminerError)
    return Attempt(ending, str(error) if named else f"{type(error).__name__}: {error}")


def _ending(error: Exception) -> Ending:
    match error:
        case Busy() | LeaseLost():  # whoever took over makes the result
            ending = Ending.BUSY
        case FramesLost() | ModelOutputsLost() | SourceChanged():
            ending = Ending.PAUSED
        case Deleted():
            ending = Ending.GONE
        case NotReady():
            ending = Ending.NOT_READY
        case StageError(error_class=ErrorClass.OUT_OF_MEMORY):
            ending = Ending.MEMORY
        case TransientError(wait=float()):
            ending = Ending.PAUSED
        case UncheckedError() | StageError(error_class=ErrorClass.INTERNAL):
            ending = Ending.COUNTED
        case StageError() if kind_of(error.error_class) is Kind.TRANSIENT:
            ending = Ending.PASSING
        case DataminerError():
            ending = Ending.LOCAL
        case _:
            ending = Ending.COUNTED
    return ending
