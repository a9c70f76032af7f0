"""A process of Snakemake that has read the Snakefile: its settings, and the plan of a run.

The main process plans. Each job is a process that reads the Snakefile again, and asks for nothing
that only the plan knows.
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
from dataminer.permissions import explain, try_to_write
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

_MOST_VIDEOS = 200  # that a job of a cluster holds, unless the profile's group-components say less

_T = TypeVar("_T")


def or_exit(function: Callable[..., _T], *args: object) -> _T:
    """Call a function; end the process with one sentence if it cannot go on."""
    try:
        return function(*args)
    except DataminerError as error:
        sys.exit(f"dataminer: {error}")
    except psycopg2.Error as error:
        sys.exit(f"dataminer: {last_words(error)}")
    except OSError as error:
        if (known := explain(error)) is None:
            raise
        sys.exit(f"dataminer: {known}")


class WorkflowSession:
    """One process of Snakemake that has read the Snakefile.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
        As the Snakefile knows it.
    config : dict
        Snakemake's configuration; the files of the last run are read into it if none is named.
    logger : logging.Logger
        Snakemake's.
    """

    def __init__(self, workflow: Any, config: dict[str, Any], logger: logging.Logger) -> None:
        adapt()
        note_command_line()
        self.snakemake = SnakemakeProcess(workflow)
        self.logger = logger
        self.is_main = self.snakemake.is_main
        let_jobs_import(self.snakemake.folder)
        if self.is_main:  # Snakemake itself ends in a traceback without it
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
                self._unread = error  # raised by a run: --unlock and --lint go on
        self.settings: Config = or_exit(self._load, config)
        self.store = Store(self.settings.store_path)
        self.projects = self.settings.project_names
        self.frame_models = FrameModels.of(self.settings)
        # so many downloads at once, in all jobs together, unless the profile allows others
        if self.snakemake.limit("downloads") is None:
            most = self.settings.download.concurrent_downloads
            self.snakemake.register_resource("downloads", most)

    def _refuse_braces(self) -> None:
        if set("{}") & set(str(self.snakemake.folder)):
            sys.exit(
                f"dataminer: the path {self.snakemake.folder} has a brace, which Snakemake takes"
                " for a wildcard. Next: move dataminer to a folder without braces in its path"
            )

    def _load(self, config: dict[str, Any]) -> Config:
        # those of the command line lie over the Snakefile's own, and come before it in the list
        files, named = self.snakemake.files, self.snakemake.named_files
        arguments = self.snakemake.config_arguments
        return load_run(config, sorted(files, key=named.__contains__), arguments, profile_files())

    def refuse_unread(self) -> None:
        """Raise what kept the files of the last run from being read."""
        if self._unread:
            raise self._unread

    # ---- the plan: asked of the database by the process that plans, when it plans -------------

    @cached_property
    def run(self) -> Run:
        """What this run makes; Snakemake knows its options only once the Snakefile is read."""
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
                "dataminer: the store has moved: the paths in the database will follow it"
            )
        for line in or_exit(lambda: [*found.reasons()]):
            self.logger.info(f"dataminer: {line}")
        return found

    @property
    def has_planned(self) -> bool:
        """Whether there is a plan: not if files were asked for by name."""
        return "run" in vars(self)

    def _cluster(self) -> Cluster | None:
        """How large a cluster's jobs are, as its profile says; None if jobs run on this machine."""
        minutes = self.snakemake.limit("job_minutes")
        if minutes is None:  # not `local_exec`, which a dry run is, too
            return None
        slots = self.snakemake.limit("job_slots")
        most = min(self.snakemake.group_components, default=_MOST_VIDEOS)
        return Cluster(minutes, 1 if slots is None else int(slots), most)
