"""What a job could not say itself: when it was killed, the run that started it says so.

A job that ends by itself gives its claim back, whatever went wrong. One that is killed (out of
memory, out of time, cancelled) leaves its row in a running status until the claim is stale. The
main process of its run hears of the end at once, through Snakemake's log records, so a
:class:`DeadJobListener` listens to them there: ``onstart`` attaches it, which dry runs and the
processes of jobs skip. It knows the records by their fields and imports nothing of Snakemake;
:mod:`dataminer.sync.claims.dead_jobs` acts on them.
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
from dataminer.sync.claims import claims
from dataminer.sync.claims.dead_jobs import Death, death_in_slurm, give_back, settle_slurm_job
from dataminer.sync.claims.stage_rows import STAGES, StageRows

log = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds that the end of a run waits for what is still to be told

_DEFAULTS = MonitorConfig()
_LINGER_SECONDS = 4.0  # in which workers end whose job was killed
_ANSWER_SECONDS = 5.0  # that the database may take until it looks at its clock
# of any project: whose claim it is, is looked at for each; what an earlier run left is none of it
_IN_STATUS = """
SELECT video_id FROM {table} WHERE video_id = ANY(%(videos)s) AND {status} = %(running)s
    AND locked_at > clock_timestamp() - make_interval(secs => %(seconds)s)
"""

_STATUS = re.compile(r"died with <Signals\.(\w+): \d+>|returned non-zero (exit status \d+)")


class DeadJobListener(logging.Handler):
    """Hears of the jobs of one run, and gives back what dead ones held, on a thread of its own.

    Nothing here waits for the database, except :meth:`stop` for a few seconds, and no error leaves
    it: the first one is logged, as the run can do without.

    Parameters
    ----------
    members : callable
        The videos of a batch, by rule and batch.
    settings : MonitorConfig
        As for :func:`dataminer.sync.claims.dead_jobs.give_back`.
    """

    def __init__(
        self,
        members: Callable[[str, str], Iterable[str]] = lambda rule, batch: (),
        settings: MonitorConfig = _DEFAULTS,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._members = members
        self._heard: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._listen, name="mirror", daemon=True)
        self._jobs: dict[int, tuple[str, dict[str, str], float]] = {}
        self._errors: dict[int | None, str] = {}
        self._complained = False

    def attach(self, logger: logging.Logger) -> None:
        """Listen to the logger of a run from now on."""
        if self._thread.ident is None:
            self._thread.start()
            logger.addHandler(self)

    def stop(self) -> None:
        """Tell what is still to be told, and end."""
        if self._thread.is_alive():
            self._heard.put(None)
            self._thread.join(timeout=PATIENCE)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record for the thread; called by the logger."""
        if getattr(record, "event", None) in _HEARD:
            self._heard.put(record)

    def _listen(self) -> None:
        while record := self._heard.get():
            try:
                _HEARD[getattr(record, "event", "")](self, record)
            except Exception as error:
                self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            log.warning("dataminer: the end of a killed job could not be recorded: %s", error)

    def _on_info(self, record: Any) -> None:
        wildcards = dict(record.wildcards or {})
        self._jobs[record.jobid] = record.rule_name, wildcards, record.created

    def _on_finished(self, record: Any) -> None:
        self._jobs.pop(record.job_id, None)

    def _on_error(self, record: Any) -> None:
        # says how a local job ended; the job's own record follows from the same thread
        self._errors[record.thread] = str(record.msg)

    def _on_job_error(self, record: Any) -> None:
        said = self._errors.pop(record.thread, "")
        if record.jobid not in self._jobs:
            return
        if death := death_in_slurm(getattr(record, "log", ())):
            settle_slurm_job(death, self._settings)
        else:
            self._give_back(record.jobid, _death(record.rule_msg or said))

    def _on_group_error(self, record: Any) -> None:
        # its jobs' own records follow, and say less
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
_HEARD = {
    "job_info": DeadJobListener._on_info,
    "job_finished": DeadJobListener._on_finished,
    "error": DeadJobListener._on_error,
    "job_error": DeadJobListener._on_job_error,
    "group_error": DeadJobListener._on_group_error,
}


def _in_work(stage: StageRows, videos: Iterable[str], seconds: float) -> list[str]:
    """Return the videos of a batch that were claimed in the seconds that it ran, and are held."""
    values = {
        "videos": list(videos),
        "running": stage.running,
        "seconds": seconds + _ANSWER_SECONDS,
    }
    rows = claims.fetched(stage, _IN_STATUS, values, name="mirror")
    return [video_id for (video_id,) in rows]


def _death(said: str) -> Death:
    status = _STATUS.search(said)
    return Death(status[1] or status[2] if status else "its log tells no more")
