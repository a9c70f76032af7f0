"""What a process knows about Slurm: its own job, and the states of others."""

from __future__ import annotations

import os
import re
import subprocess
from datetime import datetime

_QUERY_SECONDS = 30
_FINAL_STATES = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REQUEUED",
        "REVOKED",
        "TIMEOUT",
    }
)


def own_job() -> str | None:
    """Return the number of the Slurm job that this process belongs to; None if it is in none."""
    return os.environ.get("SLURM_JOB_ID") or None


def was_requeued() -> bool:
    """Tell whether this process belongs to a Slurm job that has been started more than once."""
    return own_job() is not None and os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def own_cores() -> int | None:
    """Return how many cores this process's Slurm job has; None if it is in none."""
    has = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE")
    return int(has) if has else None


def run_time(job: str) -> tuple[float, float] | None:
    """Return when a job began and when Slurm ends it, in seconds since 1970; None if unknown."""
    times = _query("squeue", "--noheader", "--format=%S %e", "--job", job).split()
    try:
        began, ends = (datetime.fromisoformat(time).timestamp() for time in times)
    except ValueError:
        return None
    return began, ends


def state(job: str) -> str | None:
    """Return how a job ended last, in Slurm's word; None if it has not ended, or is unknown.

    The accounting answers, or else the controller. In the accounting, a job that was requeued has
    an end of its own for each time it was started.
    """
    states = _query("sacct", "-X", "-D", "-n", "-P", "-o", "State", "-j", job)
    if not states:
        states = " ".join(
            re.findall(r"JobState=(\w+)", _query("scontrol", "-o", "show", "job", job))
        )
    ends = [word for word in states.split() if word in _FINAL_STATES]
    return ends[-1] if ends else None


def queued() -> set[str] | None:
    """Return the numbers of all jobs in Slurm's queue; None if it does not answer."""
    # the heading distinguishes an empty queue from no answer
    heading, *jobs = _query("squeue", "--format=%A").split() or [""]
    return set(jobs) if heading else None


def _query(*command: str) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
