"""Every command explains itself, with an example."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from dataminer.cli.main import app


def commands(command: object, path: str = "dataminer") -> Iterator[tuple[str, TyperCommand]]:
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            yield from commands(child, f"{path} {name}")
    else:
        assert isinstance(command, TyperCommand)
        yield path, command


@pytest.mark.parametrize(("path", "command"), list(commands(get_command(app))), ids=str)
def test_every_command_has_help_with_an_example_of_itself(path: str, command: TyperCommand) -> None:
    reported = command.help or ""
    assert "Example: " in reported
    assert path in reported
    for parameter in command.params:
        assert parameter.name == "help" or getattr(parameter, "help", None)
