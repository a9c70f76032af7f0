"""All access to internals of Snakemake and its Slurm plugin: what is read, what is changed.

Each change checks that the function it replaces still has the signature for which the change was
written. Each read checks that the attribute exists. An incompatible new version therefore causes a
clear error.
"""

from __future__ import annotations

import asyncio
import getpass
import inspect
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import snakemake_executor_plugin_slurm as slurm
from snakemake.cli import get_argument_parser, get_profile_dir
from snakemake.common.configfile import load_configfile
from snakemake.io import IOFile, _IOFile
from snakemake.io import ancient as _ancient
from snakemake.persistence import FileBackupMixin
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake.utils import update_config

from dataminer import commands
from dataminer.config import project_names
from dataminer.errors import DataminerError
from dataminer.files.links import ABSENT_ERRNOS
from dataminer.permissions import user_name
from dataminer.sync.config_files import files_of

# the jobs in Slurm's queue, in the format in which the plugin queries states
_QUEUE = "squeue --noheader --me --format='%i|%T'"

_LONGEST_PAUSE = 180.0  # seconds, as in the plugin


def adapt() -> None:
    """Apply all changes.

    Raises
    ------
    DataminerError
        If the code to change differs from that for which the change was written.
    """
    keep_outputs()
    plan_without_folders()
    tell_lost_jobs()
    ask_in_proportion()
    end_when_asked()
    name_user()


def keep_outputs() -> None:
    """Leave outputs of failed jobs as they are.

    If a job fails, Snakemake restores its ``update`` outputs or deletes them. Outputs of dataminer
    are published atomically, and another run may have published them in the meantime: they stay.
    """

    def backup_output(persistence: Any, path: Path) -> None:
        return None

    def restore_output(persistence: Any, path: Path) -> bool:
        return path.exists()

    _replace(FileBackupMixin, "backup_output", backup_output, ["self", "path"])
    _replace(FileBackupMixin, "restore_output", restore_output, ["self", "path"])


def plan_without_folders() -> None:
    """Let Snakemake plan a run if a file or a loop of links is in place of a folder.

    Snakemake lists folders in advance, to avoid checking each file, and treats a folder as empty
    only if nothing exists at its path.
    """
    listed = _current(_IOFile, "_local_inventory", ["self", "cache"])

    async def inventory(file: Any, cache: Any) -> None:
        try:
            await listed(file, cache)
        except OSError as error:
            if error.errno not in ABSENT_ERRNOS:
                raise

    _replace(_IOFile, "_local_inventory", inventory, ["self", "cache"])


def tell_lost_jobs() -> None:
    """Let jobs fail that Slurm ended by preemption or with their node, and does not requeue.

    The plugin leaves these states to Slurm, and waits forever. It also waits forever after a state
    with a suffix, such as "CANCELLED by 1000". docs/slurm-plugin.md reports both.
    """
    ask = _current(slurm, "query_job_status", ["command", "logger"])

    async def settled(command: str, logger: Any) -> tuple[dict[str, str] | None, float]:
        states, seconds = await ask(command, logger)
        if states is None:
            return None, seconds
        found = {job: state.partition(" ")[0] for job, state in states.items()}
        ended = {job for job, state in found.items() if state in ("PREEMPTED", "NODE_FAIL")}
        if ended:
            # a requeued job is still in the queue, under the same number
            queued, _ = await ask(_QUEUE, logger)
            lost = ended - queued.keys() if queued is not None else set()
            found.update(dict.fromkeys(lost, "CANCELLED"))
        return found, seconds

    _replace(slurm, "query_job_status", settled, ["command", "logger"])


def ask_in_proportion() -> None:
    """Let the pauses between two status checks of Slurm's jobs grow with the jobs' run times.

    The plugin adds ten seconds to its pause after each check that finds no ended job, so a job of
    twelve seconds is found to have ended after half a minute. A run ends only after its last pause.
    Here, a pause is an eighth longer than the previous one, or half as long after a job has ended,
    and the end of the run interrupts it. The first pause is the plugin's
    ``init-seconds-before-status-checks``, the longest its three minutes.
    """
    pauses: WeakKeyDictionary[Any, float] = WeakKeyDictionary()

    async def sleep(executor: Any) -> None:
        first = _read(executor, "workflow.executor_settings.init_seconds_before_status_checks")
        between = _read(executor, "next_seconds_between_status_checks")
        ended = between <= first  # as the plugin marks it
        pause = pauses.get(executor, first) * (1 / 2 if ended else 9 / 8)
        pauses[executor] = pause = min(max(pause, first), _LONGEST_PAUSE)
        until = time.monotonic() + pause
        while _read(executor, "wait") and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.5))

    _replace(slurm.Executor, "sleep", sleep, ["self"])


def end_when_asked() -> None:
    """Let SIGTERM end Snakemake at any time.

    Its handler waits for a lock that the interrupted code may already have, for example when a job
    has just ended: then the process waits for itself forever. ``scancel`` ends a job of the process
    and signals the process at the same moment.
    """
    exit_gracefully = _current(JobScheduler, "exit_gracefully", ["self", "args"])

    def ask(scheduler: Any, *signal: Any) -> None:
        threading.Thread(target=exit_gracefully, args=(scheduler,), daemon=True).start()

    _replace(JobScheduler, "exit_gracefully", ask, ["self", "args"])


def name_user() -> None:
    """Use the number as the name of a user without an entry in the system, as in containers.

    Snakemake and its Slurm plugin query the user's name, and fail with a KeyError without one.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        os.environ["LOGNAME"] = user_name(os.getuid())


class SnakemakeProcess:
    """What is read from Snakemake's workflow object, which is not a stable interface.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
        The Snakefile's ``workflow`` object.

    Raises
    ------
    DataminerError
        By each attribute that this version of Snakemake does not have.
    """

    def __init__(self, workflow: Any) -> None:
        self._workflow = workflow

    def _read(self, path: str) -> Any:
        return _read(self._workflow, path)

    def _method(self, path: str, parameters: list[str]) -> Any:
        owner, _, name = path.rpartition(".")
        return _current(self._read(owner) if owner else self._workflow, name, parameters)

    @property
    def is_main(self) -> bool:
        """Whether this process plans, and is not a job."""
        return bool(self._read("is_main_process"))

    @property
    def runs_here(self) -> bool:
        """Whether jobs run on this machine; also true of a dry run."""
        return bool(self._read("local_exec"))

    @property
    def is_dry_run(self) -> bool:
        """Whether this is a dry run."""
        return bool(self._read("dryrun"))

    @property
    def folder(self) -> Path:
        """The folder of the Snakefile."""
        return Path(self._read("basedir"))

    @property
    def main_file(self) -> str:
        """The Snakefile."""
        return str(self._read("main_snakefile"))

    @property
    def other_folder(self) -> Path | None:
        """The folder of ``--directory``."""
        found = self._read("overwrite_workdir")
        return None if found is None else Path(found)

    @property
    def files(self) -> list[Path]:
        """The configuration files, the Snakefile's own among them."""
        return list(self._read("configfiles"))

    @property
    def named_files(self) -> list[Path]:
        """The files of ``--configfile``, and those that :func:`read_last` added."""
        return list(self._read("config_settings.configfiles"))

    def add_file(self, file: Path) -> None:
        """Note a configuration file as one of ``--configfile``."""
        for files in (self._read("configfiles"), self._read("config_settings.configfiles")):
            files.append(file)

    def override(self, config: dict[str, Any]) -> None:
        """Set the values of ``--config`` in a configuration."""
        update_config(config, self._read("config_settings.overwrite_config"))

    @property
    def config_arguments(self) -> Any:
        """The values of ``--config``, as they were typed."""
        return self._read("config_settings.config_args")

    @property
    def targets(self) -> set[str]:
        """The requested rules or files."""
        return set(self._read("dag_settings.targets"))

    @property
    def forced_rules(self) -> set[str]:
        """The rules of ``--forcerun``."""
        return set(self._read("dag_settings.forcerun"))

    @property
    def forces_all(self) -> bool:
        """Whether ``--forceall`` was given."""
        return bool(self._read("dag_settings.forceall"))

    @property
    def cores(self) -> int:
        """The cores of this machine for this run."""
        return int(self._read("cores") or 1)

    @property
    def is_verbose(self) -> bool:
        """Whether ``--verbose`` was given."""
        return bool(self._read("output_settings.verbose"))

    @property
    def has_colours(self) -> bool:
        """Whether output may be coloured."""
        return not self._read("output_settings.nocolor")

    @property
    def quiet(self) -> set[str]:
        """What ``--quiet`` silences."""
        return {str(part) for part in self._read("output_settings.quiet") or ()}

    @property
    def deployment_methods(self) -> set[Any]:
        """Those of ``--software-deployment-method``."""
        return set(self._read("deployment_settings.deployment_method"))

    @property
    def group_components(self) -> list[int]:
        """The maximum number of jobs per group, from ``--group-components``."""
        return list(self._read("group_settings.group_components").values())

    def limit(self, resource: str) -> int | None:
        """Return the limit of a resource for the whole run; None if there is none."""
        found = self._read("global_resources")
        return found[resource].value if resource in found else None

    def register_resource(self, name: str, value: int) -> None:
        """Set the limit of a resource for the whole run."""
        self._method("register_resource", ["name", "value"])(name, value)

    def end_with_last_job(self) -> None:
        """Let a run end together with its last job.

        Snakemake limits how many jobs it starts per second: after each start it checks again a
        second later, and does not end before that check. Here, cores or the profile's ``jobs``
        limit the jobs.
        """
        self._read("scheduler.job_rate_limiter")
        workflow = self._workflow
        workflow.scheduler.job_rate_limiter = None

    def forget(self, paths: Iterable[str]) -> None:
        """Delete Snakemake's records of files that no run will request again.

        It keeps a record of each output, even of deleted ones: one file per job and run.
        """
        clean_up = self._method("persistence.cleanup_metadata", ["target"])
        for path in paths:
            clean_up(IOFile(path))


def profile_files() -> list[str]:
    """Return the files of the requested profiles."""
    named = os.environ.get("SNAKEMAKE_PROFILE", "").split(",")
    for option in ("--profile", "--workflow-profile"):
        named += [value for word, value in pairwise(sys.argv) if word == option]
        named += [word.partition("=")[2] for word in sys.argv if word.startswith(f"{option}=")]
    found = [get_profile_dir(name) for name in named if name not in ("", "none")]
    return [str(entry[1]) for entry in found if entry]


def read_last(workflow: Any, config: dict[str, Any], logger: Any) -> None:
    """Read the files that a run's projects were last run with, as if ``--configfile`` named them.

    Raises
    ------
    ConfigError
        If the projects were last run with different files, or a file is missing or names other
        projects.
    """
    process = SnakemakeProcess(workflow)
    arguments = process.config_arguments
    names = project_names(config, arguments)
    for file in files_of(names, typed=bool(project_names({}, arguments))):
        logger.info(f"dataminer: reads {file}, as in the last run of {' and '.join(names)}")
        update_config(config, load_configfile(file))
        process.override(config)
        process.add_file(file.absolute())


def ancient(path: str) -> str:
    """Return an input whose age does not cause a job to run."""
    marked: str = _ancient(path)
    return marked


def options_of(words: Sequence[str]) -> dict[str, list[str]]:
    """Return the options of a Snakemake command line, with their values as typed.

    Parameters
    ----------
    words : sequence of str
        The command line, without the program.

    Returns
    -------
    dict of str to list of str
        By the long name of the option; targets under the empty string.
    """
    found: dict[str, list[str]] = {}
    parser = get_argument_parser()
    read = _current(parser, "_get_values", ["action", "arg_strings"])

    def note(action: Any, values: list[str]) -> Any:
        named = action.option_strings[0] if action.option_strings else ""
        typed = [value for value in values if value != "--"]
        if named or typed:
            found[named] = typed
        return read(action, values)

    parser._get_values = note
    parser.parse_known_args(list(words))
    return found


def note_command_line() -> None:
    """Let hints name the command that started this run, also in the processes of its jobs."""
    program, *words = sys.argv
    path = Path(program)
    if "--mode" in words:
        return
    if path.name == "snakemake":
        found = shutil.which("snakemake")
        is_found = found is not None and Path(found).resolve() == path.resolve()
        commands.begun_by(["snakemake" if is_found else program], options_of(words))
    elif path.match("snakemake/__main__.py"):
        commands.begun_by([sys.executable, "-m", "snakemake"], options_of(words))


def _replace(owner: Any, name: str, function: Callable[..., Any], parameters: list[str]) -> None:
    if not _is_replaced(_current(owner, name, parameters)):
        setattr(owner, name, function)


def _current(owner: Any, name: str, parameters: list[str]) -> Any:
    """Return a function, if it has the parameters for which this module was written."""
    found = getattr(owner, name, None)
    if _is_replaced(found):
        return found
    if found is None or list(inspect.signature(found).parameters) != parameters:
        raise _other_version(owner, name)
    return found


def _is_replaced(function: Any) -> bool:
    """Whether a function is of this module, because of another workflow in this process."""
    return getattr(function, "__module__", None) == __name__


def _read(owner: Any, path: str) -> Any:
    try:
        return attrgetter(path)(owner)
    except AttributeError:
        raise _other_version(owner, path) from None


def _other_version(owner: Any, name: str) -> DataminerError:
    return DataminerError(
        f"this version of {getattr(owner, '__name__', type(owner).__name__)} has another {name}",
        "install the versions that dataminer was made for: make install",
    )
