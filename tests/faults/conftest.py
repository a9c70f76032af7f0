"""Runs that tests may kill, and the folders they run in."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.postgres import fresh_database
from tests.support.runs import Run
from tests.support.site import Site

Start = Callable[..., Run]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start runs; whatever is left of them is killed in the end."""
    runs: list[Run] = []

    def begin(site: Site, *arguments: str, **environment: str) -> Run:
        runs.append(Run(site, *arguments, **environment))
        return runs[-1]

    yield begin
    for run in runs:
        run.signal(signal.SIGKILL)
        run.process.wait()


@pytest.fixture
def new_site(server: str, template: str, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Make working directories; each with a database of its own unless one is named."""
    with ExitStack() as made:

        def make(name: str, database: str | None = None) -> Site:
            folder = tmp_path / name
            folder.mkdir()
            if database is None:
                database = made.enter_context(fresh_database(server, template, "site"))
            return Site(folder, database)

        yield make
