"""What a run does before its first job and after its last."""

from __future__ import annotations

import sys

from dataminer import commands
from dataminer.db.server.control import ensure_listening
from dataminer.db.server.supervisor import ServerSupervisor
from dataminer.monitor.progress.run import RunProgress, Tracker
from dataminer.monitor.terminal import summary
from dataminer.monitor.terminal.run_display import RunDisplay
from dataminer.process import connect_only
from dataminer.sync.config_files import remember
from dataminer.sync.recovery.dead_job_listener import DeadJobListener
from dataminer.sync.repair.run_hooks import bring_up_to_date
from dataminer.workflow.session import WorkflowSession, or_exit


class Hooks:
    """The functions for Snakemake's ``onstart``, ``onsuccess`` and ``onerror``.

    In between, claims of killed jobs are released, the embedded server is restarted if it crashes,
    and the progress of the run is shown.

    Parameters
    ----------
    session : WorkflowSession
        The main process.
    """

    def __init__(self, session: WorkflowSession) -> None:
        self._session = session
        snakemake = session.snakemake
        self._dead_jobs = DeadJobListener(
            lambda rule, batch: session.run.members.get(rule, {}).get(batch, ()),
            session.settings.monitor,
        )
        self._supervisor = ServerSupervisor()
        self._quiet = snakemake.quiet
        self._display = RunDisplay(
            lambda: Tracker.of_list(session.run.listed.path, session.store),
            verbose=snakemake.is_verbose,
            quiet=self._quiet,
            colours=snakemake.has_colours,
        )

    def start(self) -> None:
        """Update the database before the first job, and start following the run."""
        session = self._session
        if not session.snakemake.runs_here and (message := or_exit(ensure_listening)):
            print(f"dataminer: {message}", file=sys.stderr)
        self._bring_up_to_date()
        or_exit(session.refuse_unread)
        or_exit(remember, session.projects, session.snakemake.named_files)
        or_exit(session.snakemake.end_with_last_job)
        connect_only()  # a server that is stopped from now on stays stopped
        self._supervisor.begin()
        self._dead_jobs.listen_to(session.logger)
        if session.has_planned:
            self._display.start(session.logger)

    def end(self) -> None:
        """Update the database after the last job, however it ended, and print a summary."""
        session = self._session
        progress = self._display.stop()
        self._dead_jobs.stop()
        if session.has_planned:
            session.snakemake.forget(session.run.left())
        self._bring_up_to_date()
        if "all" not in self._quiet:
            outcome = self._outcome(progress)
            or_exit(summary.print_summary, session.projects, sys.stderr, session.store, outcome)
        self._supervisor.stop()

    def _bring_up_to_date(self) -> None:
        session = self._session
        or_exit(bring_up_to_date, session.projects, session.settings.monitor, session.store)

    def _outcome(self, progress: RunProgress | None) -> summary.RunOutcome:
        session = self._session
        is_whole = session.has_planned and not commands.makes_part()
        is_done = or_exit(session.run.is_done) if is_whole else None
        targets = tuple(sorted(session.snakemake.targets))
        return summary.RunOutcome(progress, is_done, targets, session.snakemake.other_folder)
