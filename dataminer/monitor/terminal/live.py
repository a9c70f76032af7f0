"""The live view: reads the database regularly, and releases the claims of dead jobs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import psycopg2

from dataminer.config import Config, MonitorConfig
from dataminer.db.tables import NoTables
from dataminer.errors import DataminerError
from dataminer.monitor import status
from dataminer.monitor.console import console_of
from dataminer.monitor.progress.rates import Rate, paces
from dataminer.monitor.progress.run import RunProgress, Tracker, runs_at_work
from dataminer.store.layout import Store
from dataminer.sync.recovery import stale_claims
from dataminer.sync.recovery.stale_claims import Recovered

_KEPT = 5  # released claims that the view remembers
_SHARE = 0.1  # maximum share of time that a monitor spends on recounting


@dataclass(frozen=True)
class View:
    """The result of one update.

    Parameters
    ----------
    seen : Snapshot
        Projects, claims, failures.
    rates : dict
        The rate of each project.
    recovered : list of Recovered
        Claims that this monitor released, the latest first.
    settings : MonitorConfig
        When a heartbeat is late, and when a claim is stale.
    at : datetime
        When the database was read.
    read_only : bool
        Whether the monitor changes nothing.
    trouble : str or None
        Why the database could not be read since then.
    runs : list of RunProgress
        The progress of each current run, as its own terminal shows it.
    """

    seen: status.Snapshot
    rates: dict[str, Rate]
    recovered: list[Recovered]
    settings: MonitorConfig
    at: datetime
    read_only: bool = False
    trouble: str | None = None
    runs: list[RunProgress] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the snapshot's JSON, with ``rates`` by project, ``recovered`` and ``runs``."""
        from dataminer.monitor.terminal.block import words

        return {
            **self.seen.as_json(),
            "rates": {
                name: {key: value for key, value in asdict(rate).items() if key != "counters"}
                for name, rate in self.rates.items()
            },
            "recovered": [asdict(claim) for claim in self.recovered],
            "runs": [{**status.json_value(asdict(run)), "words": words(run)} for run in self.runs],
        }


class Monitor:
    """Reads the database for one view after the other.

    Parameters
    ----------
    names : iterable of str
        The projects to show; all if empty. Stale claims of all projects are released.
    settings : MonitorConfig
        When a claim is stale.
    read_only : bool
        Change nothing.
    configs : iterable of Config
        The settings to compare the videos of their projects with, see
        :func:`dataminer.monitor.status.snapshot`.
    store : Store, optional
        Where the reports of runs appear.
    """

    def __init__(
        self,
        names: Iterable[str],
        settings: MonitorConfig,
        *,
        read_only: bool = False,
        configs: Iterable[Config] = (),
        store: Store | None = None,
    ) -> None:
        self._names = list(names)
        self._configs = list(configs)
        self._store = store
        self._settings = settings
        self._read_only = read_only
        self._trackers: dict[Path, Tracker] = {}
        self._recovered: deque[Recovered] = deque(maxlen=_KEPT)
        self._heal_at = 0.0

    def read(self) -> View:
        """Release the claims of dead jobs, unless read-only, and return the current state.

        Raises
        ------
        DataminerError
            If the database cannot be read, or has no such project.
        """
        self._heal()
        seen = status.snapshot(self._names, self._configs)
        totals = {project["name"]: project["total_videos"] for project in seen.projects}
        rates = paces(totals)
        projects = [{**project, **rates[project["name"]].counters} for project in seen.projects]
        return View(
            replace(seen, projects=projects),
            rates,
            list(self._recovered),
            self._settings,
            datetime.now(UTC),
            self._read_only,
            runs=self._runs(),
        )

    def _runs(self) -> list[RunProgress]:
        at_work = {listed.path: (listed, began) for listed, began in runs_at_work(self._names)}
        self._trackers = {
            path: self._trackers.get(path) or Tracker(listed, began, self._store)
            for path, (listed, began) in at_work.items()
        }
        return [tracker.read() for tracker in self._trackers.values()]

    def _heal(self) -> None:
        began = time.monotonic()
        if self._read_only or began < self._heal_at:
            return
        try:
            found = stale_claims.heal(self._settings)
        except NoTables:
            return  # reading the state will report it
        self._recovered.extendleft(found)
        took = time.monotonic() - began
        self._heal_at = began + took / _SHARE


def print_view(view: View, file: IO[str], width: int | None = None) -> None:
    """Print one view."""
    from dataminer.monitor.terminal.panels import drawn

    console_of(file, width=width).print(drawn(view))


def run_live(monitor: Monitor, interval: float, file: IO[str]) -> None:
    """Show the view until Ctrl-C; the last one stays on the terminal.

    If the database does not answer, the view says so, and the monitor tries again.

    Raises
    ------
    DataminerError
        If the first update fails.
    """
    from rich.live import Live

    from dataminer.monitor.terminal.panels import drawn

    console, view = console_of(file), None
    try:
        view = monitor.read()
        with Live(drawn(view), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                view = next_view(monitor, view)
                live.update(drawn(view), refresh=True)
    except KeyboardInterrupt:
        if view:
            console.print(drawn(view))


def next_view(monitor: Monitor, before: View) -> View:
    """Update the view; if that fails, return the previous one with the reason."""
    try:
        return monitor.read()
    except (DataminerError, psycopg2.Error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return replace(before, trouble=reason)
