"""Give back what dead jobs held, and record in the rows of their videos how they died.

Before Slurm kills a job, it asks it to end: the workers give their claims back with the reason of
:func:`interruption`, and the job asks Slurm why (:func:`record_own_end`). If a job is killed at
once, its run notices (:mod:`dataminer.sync.recovery.dead_job_listener`), or the job itself if Slurm
starts it again (:func:`resume_requeued_job`), or the next run asks Slurm (:func:`settle_ended`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataminer.config import MonitorConfig
from dataminer.errors import NEXT_STEP, DataminerError, ErrorClass
from dataminer.sync.claims import claim_end, claims, owners, projects, slurm
from dataminer.sync.claims.claims import Claim
from dataminer.sync.claims.execution import fetch_all
from dataminer.sync.claims.stage_rows import KEYS, STAGES, StageRows

# as the profile's slurm-logdir places them; the number is the job's, %j
_SLURM_LOG = re.compile(r"/(?:rule|group)_[^/]+/(?:[^/]*/)*(\d+(?:_\d+)?)\.log$")
_DEFAULTS = MonitorConfig()
# Slurm's words for how a job ended (`man sacct`, JOB STATE CODES). An end that no video caused, or
# the batch as a whole, is no attempt of the video that was being worked on.
ERROR_CLASS_BY_STATE = {
    "OUT_OF_MEMORY": ErrorClass.OUT_OF_MEMORY,
    "TIMEOUT": ErrorClass.TIME_LIMIT,
    "DEADLINE": ErrorClass.TIME_LIMIT,
    "CANCELLED": ErrorClass.CANCELLED,
    "REVOKED": ErrorClass.CANCELLED,
    "NODE_FAIL": ErrorClass.NODE_FAIL,
    "BOOT_FAIL": ErrorClass.NODE_FAIL,
    "PREEMPTED": ErrorClass.NODE_FAIL,
    "REQUEUED": ErrorClass.NODE_FAIL,
}
_BLAMED_ON_VIDEO = {ErrorClass.KILLED, ErrorClass.OUT_OF_MEMORY}
# the lines of slurmstepd in a job's log, without cgroups and with them
_OUT_OF_MEMORY = re.compile(
    r"slurmstepd.*(exceeded (job )?memory limit|oom.?kill|out of memory)", re.IGNORECASE
)
_LOG_END = 20_000  # bytes
_SESSION = "dead jobs"

# ---- statements: identifiers in braces, values bound -------------------------------------------

# what a Slurm job holds, and what it gave back on being asked to end
_OF_SLURM_JOB = """
SELECT {keys} FROM {table}
WHERE ({status} = %(running)s AND split_part(locked_by, ':slurm-', 2) = %(job)s)
    OR ({status} = %(released)s AND starts_with(error, %(stopped)s))
ORDER BY {keys}
"""

_HOLDERS = """
SELECT split_part(locked_by, ':slurm-', 2) FROM {table}
WHERE {status} = %(running)s AND locked_by LIKE '%%:slurm-%%'
"""


@dataclass(frozen=True)
class Death:
    """How a job ended.

    Parameters
    ----------
    how : str
        In words: a signal, an exit status, or a Slurm job and its state.
    slurm_job : str or None
        The job's number, if Slurm ran it.
    error_class : ErrorClass
        The kind of end.
    of_job : bool
        Whether the whole job ended: then it is unknown which of its videos was the cause.
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
    """Give back the claim that a job left when it died, and record how; return whether it left one.

    The attempt counts if only the video's worker was lost; if the whole job died, see
    :func:`dataminer.sync.claims.claim_end.release_killed`. If a Slurm job gave the claim back on
    being asked to end, only the reason is recorded.

    The holder must be known to be dead: a process of this host that no longer exists, or that very
    Slurm job. Any other holder may be a retry, another run, or a process that outlived its job: the
    recovery of stale claims decides. The lease that was read fences the write, so that a retry that
    claims in between is not disturbed.

    Parameters
    ----------
    rule, wildcards : str, Mapping
        The job's rule and wildcards; rules without rows are skipped.
    death : Death
        How it ended.
    settings : MonitorConfig
        How often a suspect is tried.
    """
    stage = STAGES.get(rule)
    return stage is not None and _settle(stage, _key_of(stage, wildcards), death, settings)


def _key_of(stage: StageRows, wildcards: Mapping[str, str]) -> dict[str, Any]:
    """Return the row that a job's wildcards name."""
    key: dict[str, Any] = {}
    if stage.table != "videos":
        key["project_id"] = projects.project_id_of(wildcards["project"])
    if stage.table != "projects":
        key["video_id"] = wildcards["video_id"]
    return key


def _settle(
    stage: StageRows, key: Mapping[str, Any], death: Death, settings: MonitorConfig
) -> bool:
    row = claims.read_row(stage, key)
    if row is None:
        return False
    error = str(DataminerError(f"the job died: {death.how}", NEXT_STEP[death.error_class]))
    if row.status == stage.released and _was_stopped(row.error, death.slurm_job):
        claim_end.note(stage, key, row.lease, error=error, error_class=death.error_class)
    if row.status != stage.running or not _is_of(row.locked_by, death):
        return False
    held = Claim(stage, key, row.lease, attempts=0)
    if death.of_job and death.error_class in _BLAMED_ON_VIDEO:
        return claim_end.release_killed(held, row, settings, death.how, death.error_class)
    return claim_end.release(
        held, error=error, error_class=death.error_class, counts=not death.of_job
    )


def _is_of(owner: str | None, death: Death) -> bool:
    if death.slurm_job:
        return owners.slurm_job_of(owner) == death.slurm_job
    return owners.is_dead(owner)


# ---- jobs of Slurm


def interruption() -> tuple[str | None, ErrorClass | None]:
    """Return the error and its class for claims given back because their process is asked to end.

    Both are None outside of Slurm. A Slurm job ends for a reason, which Slurm is asked for later.
    """
    job = slurm.own_job()
    if not job:
        return None, None
    return f"{_stopped_with(job)} run snakemake again", ErrorClass.CANCELLED


def _stopped_with(job: str) -> str:
    return f"stopped with Slurm job {job}. Next:"


def _was_stopped(error: str | None, job: str | None) -> bool:
    return bool(job) and (error or "").startswith(_stopped_with(str(job)))


def settle_slurm_job(death: Death, settings: MonitorConfig = _DEFAULTS) -> list[str]:
    """Give back all claims of a Slurm job that has ended, and record why in the rows it held.

    Parameters
    ----------
    death : Death
        How it ended.
    settings : MonitorConfig
        How often a suspect is tried.

    Returns
    -------
    list of str
        The stage and the video or project of each claim that was given back.
    """
    given_back = []
    for stage in STAGES.values():
        for key in _held(stage, str(death.slurm_job)):
            if _settle(stage, key, death, settings):
                given_back.append(f"{stage.name} of {key.get('video_id', 'a project')}")
    return given_back


def record_own_end(settings: MonitorConfig) -> None:
    """Record why this Slurm job is ending, in the rows that it gave back on being asked to end."""
    job = slurm.own_job()
    if job and (state := slurm.state(job)):
        settle_slurm_job(_died(job, state), settings)


def resume_requeued_job(stage: StageRows, project_id: int | None, settings: MonitorConfig) -> None:
    """Give back what this Slurm job held before Slurm requeued it.

    What a live process of the job holds stays: it may be working on another batch.

    Parameters
    ----------
    stage, project_id : StageRows, int or None
        The stage that the job runs now, and for which project.
    settings : MonitorConfig
        How often a suspect is tried.
    """
    job = slurm.own_job()
    held = [key for key in _held(stage, job) if key.get("project_id") == project_id] if job else []
    left = [key for key in held if _is_left(claims.read_row(stage, key))]
    if job and left:
        death = _died(job, slurm.state(job) or "REQUEUED")
        for key in left:
            _settle(stage, key, death, settings)


def _is_left(row: claims.RowState | None) -> bool:
    return row is not None and (row.locked_by is None or owners.is_dead(row.locked_by))


def settle_ended(settings: MonitorConfig) -> list[str]:
    """Give back what Slurm jobs hold that have ended; jobs that Slurm does not know are skipped.

    Returns
    -------
    list of str
        What was given back, and how its job ended.
    """
    jobs = {job for stage in STAGES.values() for job in _holders(stage)}
    queued = slurm.queued() if jobs else None
    if queued is None:
        return []
    states = {job: slurm.state(job) for job in sorted(jobs - queued)}
    # an unknown job may be another user's, or another cluster's
    deaths = [_died(job, state) for job, state in states.items() if state]
    return [
        f"{what}: given back, as {death.how}"
        for death in deaths
        for what in settle_slurm_job(death, settings)
    ]


def death_in_slurm(logs: Iterable[str]) -> Death | None:
    """Return how the Slurm job ended whose log is among these; None if there is none."""
    found = [(match[1], path) for path in logs if (match := _SLURM_LOG.search(str(path)))]
    if not found:
        return None
    number, path = found[-1]
    if _OUT_OF_MEMORY.search(_end_of(Path(path))):
        # without cgroups, Slurm's accounting only knows that the job was killed
        return _died(number, "OUT_OF_MEMORY")
    return _died(number, slurm.state(number) or "FAILED")


def _died(job: str, state: str) -> Death:
    error_class = ERROR_CLASS_BY_STATE.get(state, ErrorClass.KILLED)
    return Death(f"Slurm job {job} ended as {state}", job, error_class)


def _end_of(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_END))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _held(stage: StageRows, job: str) -> Iterator[dict[str, Any]]:
    names = KEYS[stage.table]
    values = {
        "running": stage.running,
        "released": stage.released,
        "job": job,
        "stopped": _stopped_with(job),
    }
    for row in fetch_all(_OF_SLURM_JOB, stage, values, name=_SESSION):
        yield dict(zip(names, row, strict=True))


def _holders(stage: StageRows) -> list[str]:
    rows = fetch_all(_HOLDERS, stage, {"running": stage.running}, name=_SESSION)
    return [job for (job,) in rows]
