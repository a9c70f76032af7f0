"""What unit tests share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from dataminer import commands
from dataminer.workflow.snakemake_compat import note_command_line


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[str]], None]]:
    """Have this process be a run that was begun by a command line."""

    def begin(argv: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", argv)
        commands.begun_by(["snakemake"], {})
        note_command_line()

    yield begin
    commands.begun_by(["snakemake"], {})
