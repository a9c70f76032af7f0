"""What Snakemake and its Slurm plugin have no setting for: every change to them is here.

Each one checks that what it replaces looks as it did when it was written, so that a new version of
theirs ends in a sentence and not in silence.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import snakemake_executor_plugin_slurm as slurm
from snakemake.common.configfile import load_configfile
from snakemake.io import IOFile
from snakemake.persistence import FileBackupMixin
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake.utils import update_config

from dataminer.config import names_in
from dataminer.errors import DataminerError
from dataminer.sync.configfiles import files_of


def adapt(workflow: Any) -> None:
    """Make all changes, for one workflow.

    Raises
    ------
    DataminerError
        When something is not as it was when its change was written.
    """
    keep_outputs()
    tell_lost_jobs()
    end_when_asked()
    if "job_minutes" in workflow.global_resources:
        # `cores: all` of the default profile is about the machine that this runs on, a login node
        workflow.global_resources["_cores"] = sys.maxsize


def keep_outputs() -> None:
    """Leave outputs of failed jobs as they are.

    When a job fails, Snakemake puts its ``update`` outputs back as they were, or deletes them. Here
    they appear whole or not at all, and may be what another run has published meanwhile: they stay.
    """

    def backup_output(persistence: Any, path: Path) -> None:
        return None

    def restore_output(persistence: Any, path: Path) -> bool:
        return path.exists()

    _replace(FileBackupMixin, "backup_output", backup_output, ["self", "path"])
    _replace(FileBackupMixin, "restore_output", restore_output, ["self", "path"])


def tell_lost_jobs() -> None:
    """Have jobs that Slurm ended by a preemption or a dead node, and does not requeue, fail.

    The plugin leaves these states to Slurm, and waits for ever; so it does on a state with an
    addition, such as "CANCELLED by 1000".
    """
    lost: Counter[str] = Counter()
    ask = slurm.query_job_status

    async def plain(command: str, logger: Any) -> tuple[dict[str, str] | None, float]:
        states, seconds = await ask(command, logger)
        found = {job: state.partition(" ")[0] for job, state in (states or {}).items()}
        for job, state in found.items():
            lost[job] = lost[job] + 1 if state in ("PREEMPTED", "NODE_FAIL") else 0
            if lost[job] > 3:
                found[job] = "CANCELLED"
        return (None if states is None else found), seconds

    _replace(slurm, "query_job_status", plain, ["command", "logger"])


def end_when_asked() -> None:
    """Have SIGTERM end Snakemake whatever it is doing.

    Its handler waits for a lock that the interrupted code may hold, as it does when a job has just
    ended: then the process waits for itself, for ever. ``scancel`` ends the job of a process and
    asks the process to end in the same moment.
    """
    exit_gracefully = JobScheduler.exit_gracefully

    def ask(scheduler: Any, *signal: Any) -> None:
        threading.Thread(target=exit_gracefully, args=(scheduler,), daemon=True).start()

    _replace(JobScheduler, "exit_gracefully", ask, ["self", "args"])


def end_with_last_job(workflow: Any) -> None:
    """Let a run on one machine end when its last job does.

    Snakemake limits how many jobs it starts per second: after each start it looks again a second
    later, and stays for that look. Local jobs are limited by cores.

    Raises
    ------
    DataminerError
        When the scheduler has no such limit any more.
    """
    if not workflow.local_exec:
        return
    if not hasattr(workflow.scheduler, "job_rate_limiter"):
        raise _other_version(workflow.scheduler, "job_rate_limiter")
    workflow.scheduler.job_rate_limiter = None


def read_last(workflow: Any, config: dict[str, Any], logger: Any) -> None:
    """Read the files that a run's projects were last run with, as if ``--configfile`` named them.

    Raises
    ------
    ConfigError
        When the projects were last run with different ones, or one is not there any more, or names
        other projects.
    """
    arguments = workflow.config_settings.config_args
    names = names_in(config, arguments)
    for file in files_of(names, typed=bool(names_in({}, arguments))):
        logger.info(f"dataminer: reads {file}, as in the last run of {' and '.join(names)}")
        update_config(config, load_configfile(file))
        update_config(config, workflow.config_settings.overwrite_config)
        for files in (workflow.configfiles, workflow.config_settings.configfiles):
            files.append(file.absolute())


def forget(workflow: Any, paths: Iterable[str]) -> None:
    """Have Snakemake forget files that it will never be asked for again.

    It keeps a note of each output, also of those that it deletes: one file per job and run.
    """
    for path in paths:
        workflow.persistence.cleanup_metadata(IOFile(path))


def _replace(owner: Any, name: str, function: Callable[..., Any], parameters: list[str]) -> None:
    found = getattr(owner, name, None)
    if getattr(found, "__module__", None) == __name__:
        return  # by another workflow in this process
    if found is None or list(inspect.signature(found).parameters) != parameters:
        raise _other_version(owner, name)
    setattr(owner, name, function)


def _other_version(owner: Any, name: str) -> DataminerError:
    return DataminerError(
        f"this version of {getattr(owner, '__name__', type(owner).__name__)} has another {name}",
        "install the versions that dataminer was made for: make install",
    )
