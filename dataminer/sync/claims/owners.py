"""Who holds a claim: a process, named by its host, its number and its Slurm job."""

from __future__ import annotations

import os
import socket

from dataminer.sync.claims import slurm
from dataminer.sync.claims.stage_rows import StageRows


def owner_name() -> str:
    """Return who this process is: host, process id and, under Slurm, the job's id."""
    job = slurm.own_job()
    return f"{socket.gethostname()}:{os.getpid()}" + (f":slurm-{job}" if job else "")


def slurm_job_of(owner: str | None) -> str | None:
    """Return the number of the Slurm job that an owner's process belonged to."""
    return (owner or "").partition(":slurm-")[2] or None


def session_name(stage: StageRows) -> str:
    """Return the name of a session in `pg_stat_activity`: the stage, and the owner of its claims.

    A process uses one name for all its statements, as each change is a transaction of its own.
    """
    return f"{stage.name} {owner_name()}"


def is_dead(owner: str | None) -> bool:
    """Tell whether an owner was a process of this host that no longer exists.

    A process of this Slurm job on another host is dead, too, if the job was requeued: it goes on
    here. A wrong answer (two containers of one host name) only costs double work: whoever lost the
    lease writes nothing.
    """
    host, _, rest = (owner or "").partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname():
        return slurm.was_requeued() and slurm_job_of(owner) == slurm.own_job()
    if not pid.isdigit():
        return False
    import psutil  # which few processes need

    try:
        # a zombie counts as dead: in a container without init, nobody waits for it
        return psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
