"""What a job could not say itself: when it was killed, the run that started it says so.

A job that ends by itself gives its claim back, whatever went wrong. One that is killed (out of
memory, out of time, cancelled) leaves its row in a running status until the claim is stale. The
main process of its run hears of the end at once, through Snakemake's log records, so a
:class:`Mirror` listens to them there: ``onstart`` attaches it, which dry runs and the processes of
jobs skip. It knows the records by their fields and imports nothing of Snakemake.
"""

from __future__ import annotations

import logging
import queue
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg2.extensions import connection as Connection

from dataminer.config import MonitorConfig
from dataminer.db.connection import transaction
from dataminer.errors import NEXT_STEP, DataminerError, ErrorClass
from dataminer.sync import claims, projects
from dataminer.sync.claims import Claim
from dataminer.sync.stages import STAGES, Stage

log = logging.getLogger(__name__)

# as the profile's slurm-logdir places them; the number is the job's, %j
_SLURM_LOG = re.compile(r"/(?:rule|group)_[^/]+/(?:[^/]*/)*(\d+(?:_\d+)?)\.log$")
PATIENCE = 10.0  # seconds that the end of a run waits for what is still to be told

_DEFAULTS = MonitorConfig()
_LINGER_SECONDS = 4.0  # in which workers end whose job was killed
# of any project: whose claim it is, is looked at for each
_IN_STATUS = """
SELECT video_id FROM {table} WHERE video_id = ANY(%(videos)s) AND {status} = ANY(%(statuses)s)
"""

_STATUS = re.compile(r"died with <Signals\.(\w+): \d+>|returned non-zero (exit status \d+)")
# Slurm's words for how a job ended (`man sacct`, JOB STATE CODES). What is nobody's fault, or that
# of the batch as a whole, is no attempt of the video that was being worked on.
_STATES = {
    "OUT_OF_MEMORY": ErrorClass.OUT_OF_MEMORY,
    "TIMEOUT": ErrorClass.TIME_LIMIT,
    "DEADLINE": ErrorClass.TIME_LIMIT,
    "CANCELLED": ErrorClass.CANCELLED,
    "REVOKED": ErrorClass.CANCELLED,
    "NODE_FAIL": ErrorClass.NODE_FAIL,
    "BOOT_FAIL": ErrorClass.NODE_FAIL,
    "PREEMPTED": ErrorClass.NODE_FAIL,
}
_BLAMED = {ErrorClass.KILLED, ErrorClass.OUT_OF_MEMORY}
_ASK_SECONDS = 30
# slurmstepd's own lines in a job's log, without cgroups and with them
_OUT_OF_MEMORY = re.compile(
    r"slurmstepd.*(exceeded (job )?memory limit|oom.?kill|out of memory)", re.IGNORECASE
)
_LOG_END = 20_000  # bytes


@dataclass(frozen=True)
class Death:
    """How a job ended.

    Parameters
    ----------
    how : str
        For people: a signal, an exit status, a Slurm job and its state.
    slurm_job : str or None
        The job's number, where Slurm ran it.
    error_class : ErrorClass
        What kind of end that is.
    of_job : bool
        Whether the whole job ended: then nobody knows which of its videos was the cause.
    """

    how: str
    slurm_job: str | None = None
    error_class: ErrorClass = ErrorClass.KILLED
    of_job: bool = True


def give_back(
    rule: str,
    wildcards: Mapping[str, str],
    death: Death,
    settings: MonitorConfig = _DEFAULTS,
) -> bool:
    """Give back the claim that a job left when it died, and note in its row how that was.

    The attempt counts if the video's own worker was lost; of a whole job, see
    :func:`dataminer.sync.claims.release_killed`. A job that Slurm ends is warned first, and gives
    its claim back itself; then only the note is left to make.

    Only a claim whose holder is known to be dead: a process of this host that is no more, or that
    very Slurm job. Any other may be a retry, another run, or a process that outlived its job, and
    is left to the recovery of stale claims; so is one whose process id was given away again. The
    lease that was read fences the write, so a retry that claims in between is not disturbed.

    Parameters
    ----------
    rule : str
        The rule; those without rows are passed over.
    wildcards : Mapping
        The job's wildcards.
    death : Death
        How it ended.
    settings : MonitorConfig
        How often a suspect is tried.

    Returns
    -------
    bool
        Whether there was such a claim.
    """
    stage = STAGES.get(rule)
    if stage is None:
        return False
    key = _key(stage, wildcards)
    row = claims.look(stage, key)
    error = str(DataminerError(f"the job died: {death.how}", NEXT_STEP[death.error_class]))
    if row is not None and row.status == stage.released and death.slurm_job:
        claims.note(stage, key, row.lease, error=error, error_class=death.error_class)
    if row is None or row.status != stage.running or not _is_of(row.locked_by, death):
        return False
    held = Claim(stage, key, row.lease, attempts=0)
    if death.of_job and death.error_class in _BLAMED:
        return claims.release_killed(held, row, settings, death.how, death.error_class)
    return claims.release(held, error=error, error_class=death.error_class, counts=not death.of_job)


class Mirror(logging.Handler):
    """Hears of the jobs of one run, and gives back what dead ones held, on a thread of its own.

    Nothing here waits for the database, except :meth:`stop` for a few seconds, and no error leaves
    it: the first one is logged, as the run can do without.

    Parameters
    ----------
    members : callable
        The videos of a batch, by rule and batch.
    settings : MonitorConfig
        As for :func:`give_back`.
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
        self._jobs: dict[int, tuple[str, dict[str, str]]] = {}
        self._errors: dict[int | None, str] = {}
        self._complained = False

    def watch(self, logger: logging.Logger) -> None:
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
        self._jobs[record.jobid] = (record.rule_name, dict(record.wildcards or {}))

    def _on_finished(self, record: Any) -> None:
        self._jobs.pop(record.job_id, None)

    def _on_error(self, record: Any) -> None:
        # says how a local job ended; the job's own record follows from the same thread
        self._errors[record.thread] = str(record.msg)

    def _on_job_error(self, record: Any) -> None:
        said = self._errors.pop(record.thread, "")
        if record.jobid in self._jobs:
            death = _death_in_slurm(getattr(record, "log", ())) or _death(record.rule_msg or said)
            self._give_back(record.jobid, death)

    def _on_group_error(self, record: Any) -> None:
        # its jobs' own records follow, and say less
        death = _death_in_slurm(record.aux_logs)
        for job in record.job_error_info if death else ():
            if death and job["jobid"] in self._jobs:
                self._give_back(job["jobid"], death)

    def _give_back(self, job: int, death: Death) -> None:
        rule, wildcards = self._jobs[job]
        if "batch" not in wildcards:
            give_back(rule, wildcards, death, self._settings)
            return
        project = wildcards.get("project")
        name = f"{rule}/{project}" if project else rule
        videos = self._members(name, wildcards["batch"])
        left = _concerned(STAGES[rule], videos, death) if rule in STAGES else []
        until = time.monotonic() + _LINGER_SECONDS
        while left := [
            video_id
            for video_id in left
            if not give_back(rule, {**wildcards, "video_id": video_id}, death, self._settings)
        ]:
            if death.slurm_job or time.monotonic() > until:
                return
            time.sleep(_LINGER_SECONDS / 20)


# by the `event` of Snakemake's log records
_HEARD = {
    "job_info": Mirror._on_info,
    "job_finished": Mirror._on_finished,
    "error": Mirror._on_error,
    "job_error": Mirror._on_job_error,
    "group_error": Mirror._on_group_error,
}


def _concerned(stage: Stage, videos: Iterable[str], death: Death) -> list[str]:
    """Return the videos of a batch of which its end tells something: few, as a rule."""
    values = {
        "videos": list(videos),
        "statuses": [stage.running, *([stage.released] if death.slurm_job else [])],
    }

    def work(connection: Connection) -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute(claims.compose(cursor, _IN_STATUS, stage, ()), values)
            return [video_id for (video_id,) in cursor.fetchall()]

    return transaction(work, name="mirror", single=True)


def _death(said: str) -> Death:
    status = _STATUS.search(said)
    return Death(status[1] or status[2] if status else "its log tells no more")


def _death_in_slurm(logs: Iterable[str]) -> Death | None:
    """Tell how the Slurm job ended whose log is among these; None where there is none."""
    found = [(match[1], path) for path in logs if (match := _SLURM_LOG.search(str(path)))]
    if not found:
        return None
    number, path = found[-1]
    state = _state(number)
    if _OUT_OF_MEMORY.search(_end_of(Path(path))):
        # without cgroups, Slurm's accounting knows no more than that it killed the job
        state = "OUT_OF_MEMORY"
    error_class = _STATES.get(state, ErrorClass.KILLED)
    return Death(f"Slurm job {number} ended as {state}", number, error_class)


def _end_of(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_END))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _state(slurm_job: str) -> str:
    """Ask Slurm for the state of a job that has ended: its accounting, or else its controller."""
    asked = {
        "sacct": ["sacct", "-X", "-n", "-P", "-o", "State", "-j", slurm_job],
        "scontrol": ["scontrol", "-o", "show", "job", slurm_job],
    }
    for program, command in asked.items():
        try:
            told = subprocess.run(
                command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        state = re.search(r"JobState=(\w+)" if program == "scontrol" else r"(\w+)", told)
        if state:
            return state[1]
    return "FAILED"


def _is_of(owner: str | None, death: Death) -> bool:
    if death.slurm_job:
        return (owner or "").endswith(f":slurm-{death.slurm_job}")
    return claims.is_dead(owner)


def _key(stage: Stage, wildcards: Mapping[str, str]) -> dict[str, Any]:
    key: dict[str, Any] = {}
    if stage.table != "videos":
        key["project_id"] = projects.id_of(wildcards["project"])
    if stage.table != "projects":
        key["video_id"] = wildcards["video_id"]
    return key
