"""Videos that a job takes over from late batches of its run, once its own are done.

It takes them only from batches that have begun and are late, and only those that still wait there.
Each video is claimed like any other, so its own batch finds it done, or waits for it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dataminer.sync.batches.batch_list import BatchList, done_file
from dataminer.sync.claims import slurm
from dataminer.sync.claims.execution import fetch_all
from dataminer.sync.claims.stage_rows import StageRows

log = logging.getLogger(__name__)

_LEAST_SECONDS = 2.0  # that any batch is expected to take
_RESERVE = 1 / 4  # share of its run time that a job leaves for videos it has begun, and its end

# unfinished videos, and whether each only waits: a video that failed is left to its own batch
_UNFINISHED = """
SELECT video_id, {status} = %(released)s AND NOT suspect AND attempts = 0 AND failures = 0
    AND coalesce(not_before, '-infinity') < clock_timestamp()
FROM {table}
WHERE video_id = ANY(%(videos)s) AND {status} IN (%(released)s, %(running)s)
    AND (%(project_id)s IS NULL OR to_jsonb({table}) ->> 'project_id' = %(project_id)s::text)
"""


@dataclass(frozen=True)
class LateBatches:
    """The other batches of a job's rule.

    Parameters
    ----------
    batches : BatchList
        The batches of the run.
    rule, batch : str
        The rule and the batch of the job.
    """

    batches: BatchList
    rule: str
    batch: str

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Mark the job's batch as begun, for the block and for the jobs of other batches."""
        file = self._begun_file(self.batch)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        try:
            yield
        finally:
            file.unlink(missing_ok=True)

    @cached_property
    def until(self) -> float:
        """The time after which the job begins no more videos, in seconds since 1970.

        That is the end of its time under Slurm, less a reserve for videos that it has begun.
        """
        job = slurm.own_job()
        if job is None:
            return math.inf
        began, ends = slurm.run_time(job) or (0.0, 0.0)
        return ends - (ends - began) * _RESERVE

    def videos(self, stage: StageRows, project_id: int | None) -> list[str]:
        """Return videos that wait in late batches, the last ones of each batch first."""
        found = []
        pace = self._pace  # before anything else: videos that are taken over do not count
        for name, videos in self.batches.members[self.rule].items():
            seconds = self._seconds(name)
            if name == self.batch or seconds is None:
                continue
            unfinished = _unfinished(stage, videos, project_id)
            waiting = [video for video in reversed(videos) if unfinished.get(video)]
            expected = max(_LEAST_SECONDS, pace * len(videos))
            if waiting and is_late(1 - len(unfinished) / len(videos), seconds / expected):
                log.info("batch %s is late: %d of its videos wait", name, len(waiting))
                found += waiting
        return found

    @cached_property
    def _pace(self) -> float:
        """How many seconds the job took per video of its own batch."""
        own = self.batches.members[self.rule][self.batch]
        return (self._seconds(self.batch) or 0.0) / len(own)

    def _seconds(self, batch: str) -> float | None:
        """Return how long a batch has been worked on; None if nobody works on it."""
        try:
            return time.time() - self._begun_file(batch).stat().st_mtime
        except FileNotFoundError:
            return None

    def _begun_file(self, batch: str) -> Path:
        return Path(done_file(self.batches.folder, self.rule, batch)).with_suffix(".begun")


def is_late(done: float, elapsed: float) -> bool:
    """Return whether a batch is late.

    Parameters
    ----------
    done : float
        The share of its videos that is done.
    elapsed : float
        How long it has been worked on, as a share of its expected time at the pace of another
        batch.

    Returns
    -------
    bool
        Whether it has done less than half of what it should have by now, or takes more than twice
        its time. A batch that has just begun is not late.
    """
    return elapsed > 2 or (elapsed >= 1 / 4 and done < min(elapsed, 1) / 2)


def _unfinished(stage: StageRows, videos: object, project_id: int | None) -> dict[str, bool]:
    values = {
        "videos": videos,
        "project_id": project_id,
        "released": stage.released,
        "running": stage.running,
    }
    return dict(fetch_all(_UNFINISHED, stage, values))
