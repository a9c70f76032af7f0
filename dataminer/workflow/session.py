"""A Snakemake process that has read the Snakefile: its settings, and the plan of a run.

The main process plans. Each job is a process that reads the Snakefile again, and does not need the
plan.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import psycopg2

from dataminer.config import Config, load_run
from dataminer.db.refusals import last_words
from dataminer.errors import DataminerError
from dataminer.permissions import explain_os_error, try_to_write
from dataminer.process import connect_only, let_jobs_import
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.store.layout import Store
from dataminer.sync.pairing.check import PairingStep
from dataminer.workflow.run import Cluster, Run, forced, upto
from dataminer.workflow.snakemake_compat import (
    SnakemakeProcess,
    adapt,
    note_command_line,
    profile_files,
    read_last,
)

_MOST_VIDEOS = 200  # videos per cluster job, unless the profile's group-components set fewer

_T = TypeVar("_T")


def or_exit(function: Callable[..., _T], *args: object) -> _T:
    """Call a function; end the process with one sentence if the function fails."""
    try:
        return function(*args)
    except DataminerError as error:
        sys.exit(f"dataminer: {error}")
    except psycopg2.Error as error:
        sys.exit(f"dataminer: {last_words(error)}")
    except OSError as error:
        if (known := explain_os_error(error)) is None:
            raise
        sys.exit(f"dataminer: {known}")


class WorkflowSession:
    """A Snakemake process that has read the Snakefile.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
        The Snakefile's ``workflow`` object.
    config : dict
        Snakemake's configuration; it is read from the last run's files if none are given.
    logger : logging.Logger
        Snakemake's logger.
    """

    def __init__(self, workflow: Any, config: dict[str, Any], logger: logging.Logger) -> None:
        adapt()
        note_command_line()
        self.snakemake = SnakemakeProcess(workflow)
        self.logger = logger
        self.is_main = self.snakemake.is_main
        let_jobs_import(self.snakemake.folder)
        if self.is_main:  # without it, Snakemake itself fails with a traceback
            or_exit(try_to_write, Path(".snakemake"))
        else:
            connect_only()
        self._refuse_braces()
        self.named_files = list(self.snakemake.named_files)
        self._unread: Exception | None = None
        if self.is_main and not self.named_files:
            try:
                read_last(workflow, config, logger)
            except (DataminerError, psycopg2.Error) as error:
                self._unread = error  # raised only by a run: --unlock and --lint continue
        self.settings: Config = or_exit(self._load, config)
        self.store = Store(self.settings.store_path)
        self.projects = self.settings.project_names
        self.frame_models = FrameModels.of(self.settings)
        # parallel downloads in all jobs together, unless the profile sets another number
        if self.snakemake.limit("downloads") is None:
            most = self.settings.download.concurrent_downloads
            self.snakemake.register_resource("downloads", most)

    def _refuse_braces(self) -> None:
        if set("{}") & set(str(self.snakemake.folder)):
            sys.exit(
                f"dataminer: the path {self.snakemake.folder} has a brace, which Snakemake parses"
                " as a wildcard. Next: move dataminer to a folder without braces in its path"
            )

    def _load(self, config: dict[str, Any]) -> Config:
        # those of the command line override the Snakefile's own, but precede it in the list
        files, named = self.snakemake.files, self.snakemake.named_files
        arguments = self.snakemake.config_arguments
        return load_run(config, sorted(files, key=named.__contains__), arguments, profile_files())

    def refuse_unread(self) -> None:
        """Raise the error that prevented reading the files of the last run."""
        if self._unread:
            raise self._unread

    # ---- the plan: read from the database by the process that plans, when it plans ------------

    @cached_property
    def run(self) -> Run:
        """The plan of this run; Snakemake knows its options only after reading the Snakefile."""
        or_exit(self.refuse_unread)
        found = Run(
            self.settings,
            upto=upto(self.snakemake.targets),
            forced=forced(self.snakemake.forced_rules, everything=self.snakemake.forces_all),
            cores=self.snakemake.cores,
            cluster=self._cluster(),
            files=self.named_files or None,
        )
        if or_exit(lambda: found.pairing_step) is PairingStep.FOLLOW and self.snakemake.is_dry_run:
            self.logger.info(
                "dataminer: the store has moved: the paths in the database will be updated"
            )
        for line in or_exit(lambda: [*found.reasons()]):
            self.logger.info(f"dataminer: {line}")
        return found

    @property
    def has_planned(self) -> bool:
        """Whether there is a plan: there is none if files were requested by name."""
        return "run" in vars(self)

    def _cluster(self) -> Cluster | None:
        """The size of cluster jobs from the profile; None if jobs run on this machine."""
        minutes = self.snakemake.limit("job_minutes")
        if minutes is None:  # not `local_exec`, which is also true of a dry run
            return None
        slots = self.snakemake.limit("job_slots")
        most = min(self.snakemake.group_components, default=_MOST_VIDEOS)
        return Cluster(minutes, 1 if slots is None else int(slots), most)
