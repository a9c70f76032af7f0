"""The rounds of attempts in which a job works through its batch."""

from __future__ import annotations

import gc
import math
import sys
import time
from collections import Counter
from collections.abc import Container, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib import import_module
from typing import Any

import psycopg2

from dataminer.config import Config
from dataminer.errors import DatabaseError, DataminerError, brief, runnable
from dataminer.sync.batches.batch import Attempt, Batch, Ending
from dataminer.sync.batches.late_batches import LateBatches
from dataminer.sync.batches.worker import BatchWorker, recount
from dataminer.sync.claims import claims
from dataminer.sync.claims.heartbeat import Interrupted
from dataminer.sync.claims.stage_rows import STAGES, StageRows
from dataminer.sync.recovery import dead_jobs
from dataminer.sync.tasks import retry_rule
from dataminer.sync.workers import pool
from dataminer.sync.workers.tasks import Limits, Lost
from dataminer.text import tell

_STAGE_MODULES = {
    "download": "dataminer.stages.download.stage",
    "extract": "dataminer.stages.extract.stage",
    "filter": "dataminer.stages.filter.stage",
}


@dataclass(frozen=True)
class Resources:
    """What a job may use.

    Parameters
    ----------
    workers : int
        How many videos at once.
    memory_mb : int
        The job's memory; each worker may use its share.
    downloads : int
        How many videos all workers together download at once.
    max_workers : int
        For how many workers the memory is sized; further cores are for their threads.
    """

    workers: int
    memory_mb: int
    downloads: int = 1
    max_workers: int = sys.maxsize


@dataclass
class BatchRounds:
    """Attempts each video of a batch until none can make progress, and lets none stop the others.

    A worker attempts one video at a time, or downloads several at once. If it crashes, hangs or
    exceeds its share of the memory, its own video loses an attempt, or none if it had several; the
    others go on. A transient failure is retried after a pause, while other videos are worked on; if
    nothing else is left, the job waits for short pauses only. Other failures are retried at the
    end: videos that lost their worker together with others, alone; videos that another run worked
    on, after waiting for it; videos that lost an attempt, until they have a result or no attempts
    left; videos that ran out of memory, alone and with all the memory of the job. Videos that were
    being worked on when an earlier job was killed are attempted alone, after the others. In the
    end, the job takes over videos that wait in late batches.
    """

    batch: Batch
    config: Config
    resources: Resources
    late: LateBatches | None = None
    """The other batches of the run."""
    _left: dict[str, Attempt] = field(default_factory=dict)
    """The videos without a result so far."""
    _transient_failures: Counter[str] = field(default_factory=Counter)
    """How often each video has failed that way."""
    _paused_until: dict[str, float] = field(default_factory=dict)
    """When each of them is attempted again, as a moment of ``time.monotonic``."""

    @cached_property
    def _workers(self) -> int:
        given = self.resources
        if self.batch.stage == "download":
            return max(1, min(given.workers, given.max_workers, given.downloads))
        return given.workers

    @cached_property
    def _at_once(self) -> int:
        """How many videos a worker works on."""
        if self.batch.stage == "download":
            return max(1, self.resources.downloads // self._workers)
        return 1

    @property
    def _stage(self) -> StageRows:
        return STAGES[self.batch.stage]

    @cached_property
    def _suspects(self) -> set[str]:
        """The videos that are attempted alone."""
        if min(self._workers * self._at_once, len(self.batch.videos)) == 1:
            return set()
        return claims.suspects(self._stage, self.batch.videos)

    def run(self) -> None:
        """Work through the batch.

        Raises
        ------
        DataminerError
            If videos are left that need another attempt of this job, or a change by whoever runs
            it: more memory, or what this machine lacks.
        """
        import_module(_STAGE_MODULES[self.batch.stage])  # once, before the workers are forked
        gc.freeze()  # workers share loaded objects, which a collection would copy
        gc.enable()
        try:
            dead_jobs.resume_requeued_job(self._stage, self.batch.project_id, self.config.monitor)
            self._all_rounds()
            with suppress(DatabaseError, psycopg2.Error):  # its own videos are done
                self._help_late_batches()
        except Interrupted:
            with suppress(DatabaseError, psycopg2.Error):
                dead_jobs.record_own_end(self.config.monitor)
            raise
        finally:
            with suppress(DatabaseError, psycopg2.Error):  # the end of the run counts, too
                done = len(self._left) < len(self.batch.videos)
                recount(self.batch, self.batch.videos, patience=0, refiltered=done)
        self._report(self._left)

    # ---- rounds: each takes what is left, and returns what is left after it

    def _all_rounds(self) -> None:
        left_alone = self._left_alone()
        videos = [video_id for video_id in self.batch.videos if video_id not in left_alone]
        self._left = left_alone | self._round(videos)
        for retry in (
            self._retry_shared_losses,
            self._retry_busy,
            self._retry_paused,
            self._retry_counted,
            self._retry_memory,
        ):
            self._left = retry(self._left)

    def _left_alone(self) -> dict[str, Attempt]:
        """Return the videos for a later run: they have killed their jobs too often."""
        found = claims.postponed(self._stage, self.batch.videos, self.batch.project_id)
        return {video_id: Attempt(Ending.PAUSED, error) for video_id, error in found.items()}

    def _round(
        self,
        videos: Sequence[str],
        workers: int | None = None,
        at_once: int | None = None,
        *,
        patient: bool = False,
        forced: bool = True,
    ) -> dict[str, Attempt]:
        """Attempt each video, suspects last and alone."""
        together = [video_id for video_id in videos if video_id not in self._suspects]
        alone = [video_id for video_id in videos if video_id in self._suspects]
        at_once = at_once or self._at_once
        how = {"patient": patient, "forced": forced, "retry": True}
        left = self._attempt(together, workers or self._workers, at_once, **how)
        return left | self._attempt(alone, 1, 1, **how)

    def _attempt(
        self,
        videos: Sequence[str],
        workers: int,
        at_once: int,
        *,
        patient: bool = False,
        forced: bool = False,
        retry: bool = False,
        until: float = math.inf,
    ) -> dict[str, Attempt]:
        """Attempt each video once; with ``retry``, again after transient failures."""
        if not videos:
            return {}
        workers = min(workers, len(videos), self.resources.max_workers)
        batch = replace(self.batch, forced=self.batch.forced and forced)
        worker = BatchWorker(batch, self.config, patient, self._workers // workers, until)
        left: dict[str, Attempt] = {}
        outcomes = pool.run(
            videos,
            worker.mode(at_once),
            workers=workers,
            limits=Limits.of(self.config.monitor, self.resources.memory_mb * 10**6 // workers),
            settle=worker.settle,
            more=partial(self._take_resumed, left),
        )
        with closing(outcomes):
            for video_id, outcome in outcomes:
                attempt = Attempt.of_lost(outcome) if isinstance(outcome, Lost) else outcome
                left.pop(video_id, None)
                if attempt.ending is not Ending.DONE:
                    left[video_id] = attempt
                if retry and attempt.ending is Ending.TRANSIENT:
                    self._pause(video_id)
        return left

    def _pause(self, video_id: str) -> None:
        """Schedule a retry of a transient failure, unless the next run is to make it."""
        failures = self._transient_failures[video_id]
        pause = retry_rule.pause_before_retry(failures, self.config.monitor)
        if pause is not None:
            self._paused_until[video_id] = time.monotonic() + pause
        self._transient_failures[video_id] += 1

    def _take_resumed(self, among: Container[str]) -> list[str]:
        """Take those of some videos whose pause is over."""
        now = time.monotonic()
        resumed = [v for v, until in self._paused_until.items() if v in among and until <= now]
        for video_id in resumed:
            del self._paused_until[video_id]
        return resumed

    def _retry(self, left: dict[str, Attempt], ending: Ending, **how: Any) -> dict[str, Attempt]:
        videos = [video for video, attempt in left.items() if attempt.ending is ending]
        others = {v: attempt for v, attempt in left.items() if attempt.ending is not ending}
        return {**others, **self._round(videos, **how)}

    def _retry_shared_losses(self, left: dict[str, Attempt]) -> dict[str, Attempt]:
        return self._retry(left, Ending.SHARED_LOSS, workers=1, at_once=1, patient=True)

    def _retry_busy(self, left: dict[str, Attempt]) -> dict[str, Attempt]:
        # a result that another run has just made is new enough for a forced batch, too
        return self._retry(left, Ending.BUSY, patient=True, forced=False)

    def _retry_paused(self, left: dict[str, Attempt]) -> dict[str, Attempt]:
        """Retry videos whose pause is short; nothing else is left to work on."""
        soon = time.monotonic() + self.config.monitor.retry_seconds
        short = {v: until for v, until in self._paused_until.items() if until <= soon}
        if not short:
            return left
        time.sleep(max(0.0, max(short.values()) - time.monotonic()))
        resumed = self._take_resumed(short)
        others = {v: attempt for v, attempt in left.items() if v not in resumed}
        return {**others, **self._round(resumed, patient=True)}

    def _retry_counted(self, left: dict[str, Attempt]) -> dict[str, Attempt]:
        # after the last attempt, one more claim records that the video was given up
        for _ in range(self.config.monitor.max_attempts):
            left = self._retry(left, Ending.COUNTED, patient=True, at_once=1)
        return left

    def _retry_memory(self, left: dict[str, Attempt]) -> dict[str, Attempt]:
        if self._workers == 1:
            return left  # they had all of it
        return self._retry(left, Ending.MEMORY, workers=1, at_once=1, patient=True)

    def _help_late_batches(self) -> None:
        """Take over videos that wait in late batches; their own jobs retry failures."""
        if self.late is None or self.batch.forced:
            return
        attempted: set[str] = set()
        while time.time() < self.late.until:
            waiting = self.late.videos(self._stage, self.batch.project_id)
            videos = [video_id for video_id in waiting if video_id not in attempted]
            if not videos:
                return
            attempted.update(videos)
            self._attempt(videos, self._workers, self._at_once, until=self.late.until)
            recount(self.batch, videos)

    # ---- the end

    def _report(self, left: dict[str, Attempt]) -> None:
        by_ending: dict[Ending, list[str]] = {}
        for video_id, attempt in left.items():
            message = runnable(attempt.message, video_id, self.config.project_names)
            by_ending.setdefault(attempt.ending, []).append(f"{video_id}: {brief(message)}")
        by_ending.pop(Ending.NOT_READY, None)  # the earlier stage has reported it
        for ending in (Ending.TRANSIENT, Ending.PAUSED):
            for line in by_ending.pop(ending, ()):
                what, _, _ = line.partition(" Next: ")  # which the end of the run prints
                tell(f"dataminer: waits for the next run: {what}", sys.stderr)
        for line in by_ending.pop(Ending.DELETED, ()):
            tell(f"dataminer: skipped: {line}", sys.stderr)
        lines = [line for lines in by_ending.values() for line in lines]
        if lines:
            more = f" (and {len(lines) - 1} more, see the log)" if len(lines) > 1 else ""
            raise DataminerError(f"{lines[0]}{more}")
