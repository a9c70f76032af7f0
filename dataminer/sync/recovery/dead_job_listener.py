"""Notice killed jobs through Snakemake's log records, and give back what they held.

A job that ends by itself gives its claim back, whatever went wrong. A job that is killed (out of
memory, out of time, cancelled) leaves its row in a running status until the claim is stale. The
main process of the run learns of the end at once, so ``onstart`` attaches a
:class:`DeadJobListener` there; dry runs and the processes of jobs skip ``onstart``. The listener
knows the records by their fields and imports nothing of Snakemake;
:mod:`dataminer.sync.recovery.dead_jobs` acts on them.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from dataminer.config import MonitorConfig
from dataminer.sync.claims.execution import fetch_all
from dataminer.sync.claims.stage_rows import STAGES, StageRows
from dataminer.sync.recovery.dead_jobs import (
    Death,
    death_in_slurm,
    give_back,
    settle_slurm_job,
)

log = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds that the end of a run waits for records that are still to be handled

_DEFAULTS = MonitorConfig()
_LINGER_SECONDS = 4.0  # within which the workers of a killed job end
_ANSWER_SECONDS = 5.0  # within which the database reads its clock
# in any project, as the owner of each claim is checked later; claims of earlier runs are excluded
_CLAIMED_SINCE = """
SELECT video_id FROM {table} WHERE video_id = ANY(%(videos)s) AND {status} = %(running)s
    AND locked_at > clock_timestamp() - make_interval(secs => %(seconds)s)
"""

_STATUS = re.compile(r"died with <Signals\.(\w+): \d+>|returned non-zero (exit status \d+)")


class DeadJobListener(logging.Handler):
    """Follows the jobs of one run, and gives back what dead ones held, on a thread of its own.

    Nothing here waits for the database, except :meth:`stop` for a few seconds. No error leaves it,
    as the run can do without: the first one is logged.

    Parameters
    ----------
    members : callable
        Returns the videos of a batch, by rule and batch.
    settings : MonitorConfig
        As for :func:`dataminer.sync.recovery.dead_jobs.give_back`.
    """

    def __init__(
        self,
        members: Callable[[str, str], Iterable[str]] = lambda rule, batch: (),
        settings: MonitorConfig = _DEFAULTS,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._members = members
        self._records: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._handle_records, name="dead jobs", daemon=True)
        self._jobs: dict[int, tuple[str, dict[str, str], float]] = {}
        self._errors: dict[int | None, str] = {}
        self._warned = False

    def listen_to(self, logger: logging.Logger) -> None:
        """Attach to the logger of a run."""
        if self._thread.ident is None:
            self._thread.start()
            logger.addHandler(self)

    def stop(self) -> None:
        """Handle the remaining records, and end."""
        if self._thread.is_alive():
            self._records.put(None)
            self._thread.join(timeout=PATIENCE)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record for the thread; called by the logger."""
        if getattr(record, "event", None) in _HANDLERS:
            self._records.put(record)

    def _handle_records(self) -> None:
        while record := self._records.get():
            try:
                _HANDLERS[getattr(record, "event", "")](self, record)
            except Exception as error:
                self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning("dataminer: the end of a killed job could not be recorded: %s", error)

    def _on_info(self, record: Any) -> None:
        wildcards = dict(record.wildcards or {})
        self._jobs[record.jobid] = record.rule_name, wildcards, record.created

    def _on_finished(self, record: Any) -> None:
        self._jobs.pop(record.job_id, None)

    def _on_error(self, record: Any) -> None:
        # how a local job ended; the job's own record follows from the same thread
        self._errors[record.thread] = str(record.msg)

    def _on_job_error(self, record: Any) -> None:
        message = self._errors.pop(record.thread, "")
        if record.jobid not in self._jobs:
            return
        if death := death_in_slurm(getattr(record, "log", ())):
            settle_slurm_job(death, self._settings)
        else:
            self._give_back(record.jobid, _death(record.rule_msg or message))

    def _on_group_error(self, record: Any) -> None:
        # the records of its jobs follow, with less detail
        if death := death_in_slurm(record.aux_logs):
            settle_slurm_job(death, self._settings)

    def _give_back(self, job: int, death: Death) -> None:
        rule, wildcards, began = self._jobs[job]
        if "batch" not in wildcards:
            give_back(rule, wildcards, death, self._settings)
            return
        project = wildcards.get("project")
        name = f"{rule}/{project}" if project else rule
        videos = self._members(name, wildcards["batch"])
        left = _in_work(STAGES[rule], videos, time.time() - began) if rule in STAGES else []
        until = time.monotonic() + _LINGER_SECONDS
        while left := [
            video_id
            for video_id in left
            if not give_back(rule, {**wildcards, "video_id": video_id}, death, self._settings)
        ]:
            if time.monotonic() > until:
                return
            time.sleep(_LINGER_SECONDS / 20)


# by the `event` of Snakemake's log records
_HANDLERS = {
    "job_info": DeadJobListener._on_info,
    "job_finished": DeadJobListener._on_finished,
    "error": DeadJobListener._on_error,
    "job_error": DeadJobListener._on_job_error,
    "group_error": DeadJobListener._on_group_error,
}


def _in_work(stage: StageRows, videos: Iterable[str], seconds: float) -> list[str]:
    """Return the videos of a batch that were claimed while it ran, and are still held."""
    values = {
        "videos": list(videos),
        "running": stage.running,
        "seconds": seconds + _ANSWER_SECONDS,
    }
    rows = fetch_all(_CLAIMED_SINCE, stage, values, name="dead jobs")
    return [video_id for (video_id,) in rows]


def _death(message: str) -> Death:
    status = _STATUS.search(message)
    return Death(status[1] or status[2] if status else "its log has no details")
