"""A batch's worker process: it attempts one video at a time, or downloads several at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import psycopg2

from dataminer.config import Config
from dataminer.errors import DatabaseError
from dataminer.files.publishing import remove_partials
from dataminer.provenance import recipes
from dataminer.store.layout import Store
from dataminer.sync.batches.batch import Attempt, Batch, Ending
from dataminer.sync.batches.call_combiner import CallCombiner
from dataminer.sync.batches.claim_keeper import SharedKeeper
from dataminer.sync.claims import claim_end, claims, projects
from dataminer.sync.claims.execution import PATIENCE
from dataminer.sync.claims.heartbeat import Interrupted
from dataminer.sync.jobs.download import ClaimedDownload, claim_downloads, download_video
from dataminer.sync.jobs.extract import extract_video
from dataminer.sync.jobs.filter import filter_video
from dataminer.sync.jobs.rule_log import log_video
from dataminer.sync.rate_limit.permits import PermitStock
from dataminer.sync.recovery import dead_jobs
from dataminer.sync.tasks.task import TaskOptions
from dataminer.sync.workers.tasks import Concurrent, Lost, Serial

log = logging.getLogger(__name__)

_REFRESH_SECONDS = 5.0  # between two recounts of a project, per worker
_END_SECONDS = 8.0  # that downloads have to end; less than a pool gives its workers
_POLL_SECONDS = 0.05


def recount(
    batch: Batch,
    videos: Sequence[str],
    patience: float = PATIENCE,
    *,
    refiltered: bool = True,
) -> None:
    """Recount the batch's project, or all projects of some of its videos."""
    if batch.project:
        projects.refresh_named([batch.project], refiltered=refiltered, patience=patience)
    else:
        projects.refresh_of_videos(videos, patience=patience)


@dataclass
class BatchWorker:
    """What a worker process does.

    Parameters
    ----------
    batch : Batch
        The batch.
    config : Config
        The settings.
    patient : bool
        Wait for a video that another run works on.
    threads : int
        How many threads one video may use.
    until : float
        The time after which no video is begun, in seconds since 1970.
    """

    batch: Batch
    config: Config
    patient: bool
    threads: int
    until: float
    _recounted: float = 0.0

    def mode(self, at_once: int) -> Serial[str, Attempt] | Concurrent[str, Attempt]:
        """Return how a worker attempts videos: several at once if these are downloads."""
        if at_once > 1:
            return Concurrent(partial(DownloadRunner, self), at_once)
        return Serial(self.attempt)

    def attempt(self, video_id: str) -> Attempt:
        """Attempt one video, if there is time for it."""
        if time.time() > self.until:
            return Attempt(Ending.NOT_READY)
        return self.run(video_id, self._job(video_id))

    def run(self, video_id: str, job: Callable[[], None]) -> Attempt:
        """Run the job of one video; return its outcome."""
        with log_video(video_id):
            try:
                job()
            except Interrupted as reason:
                log.info("stopped (%s): the next run takes it up", reason)
                raise
            except Exception as error:
                return Attempt.of_error(error)
            self._recount(video_id)
        return Attempt(Ending.DONE)

    def settle(self, video_id: str, lost: Lost) -> None:
        """Release the claim of a lost worker; count an attempt if it had no other video."""
        with log_video(video_id):
            self._remove_partials(video_id)  # before anybody else can work on it
            death = dead_jobs.Death(lost.how, error_class=lost.error_class, of_job=lost.shared)
            dead_jobs.give_back(self.batch.stage, self._wildcards(video_id), death)

    @property
    def options(self) -> TaskOptions:
        """How the jobs are done."""
        return TaskOptions(self.patient, self.batch.forced, self.threads)

    def _job(self, video_id: str) -> Callable[[], None]:
        options = self.options
        if project := self.batch.project:
            arguments = (self.config, project, video_id, options)
            return partial(filter_video, *arguments, project_id=self.batch.project_id)
        job = {"download": download_video, "extract": extract_video}[self.batch.stage]
        return partial(job, self.config, video_id, options)

    def _remove_partials(self, video_id: str) -> None:
        store = Store(self.config.store_path)
        if self.batch.stage == "extract":
            recipes.remove_partial_frames(store, video_id)
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
                recount(self.batch, [video_id])
            except (DatabaseError, psycopg2.Error) as error:
                log.warning("not counted now: %s", error)  # the end of the batch does it


class DownloadRunner:
    """Downloads several videos at once, each on a thread of a worker process."""

    def __init__(self, worker: BatchWorker) -> None:
        self._worker = worker
        self._config = worker.config
        self._keeper = SharedKeeper(worker.config.monitor)
        self._stock = PermitStock()
        self._claim = CallCombiner(self._claim_all)
        self._claimed: dict[str, ClaimedDownload] = {}
        self._running: set[str] = set()

    def run(self, video_id: str) -> Attempt:
        """Download one video."""
        if time.time() > self._worker.until:
            return Attempt(Ending.NOT_READY)
        self._running.add(video_id)
        try:
            job = partial(
                download_video,
                self._config,
                video_id,
                self._worker.options,
                keeper=self._keeper,
                stock=self._stock,
                claimed=self._claimed.pop(video_id) if self._claim(video_id) else None,
            )
            return self._worker.run(video_id, job)
        finally:
            self._running.discard(video_id)

    def abort(self, reason: BaseException) -> None:
        """Release all claims, because the worker must end."""
        self._keeper.stop(reason)
        until = time.monotonic() + _END_SECONDS
        while self._running and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
        store = Store(self._config.store_path)
        message, error_class = dead_jobs.interruption()
        for claim in claims.own_claims(list(self._running)):  # whose threads hang
            claim_end.release(claim, error=message, error_class=error_class, counts=False)
            remove_partials(store.video(claim.key["video_id"]))

    def _claim_all(self, videos: list[str]) -> list[str]:
        """Claim videos whose threads begin at the same time."""
        try:
            claimed = claim_downloads(self._config, videos)
        except (DatabaseError, psycopg2.Error, OSError) as error:
            log.warning("not claimed together: %s", error)  # each thread reports the cause
            return []
        self._claimed |= claimed
        return [video_id for video_id in videos if video_id in claimed]
