"""Every command explains itself, with an example."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from typer.main import get_command

from dataminer.cli.main import app


def commands(
    command: click.Command, path: str = "dataminer"
) -> Iterator[tuple[str, click.Command]]:
    for name, child in getattr(command, "commands", {}).items():
        if getattr(child, "commands", None):
            yield from commands(child, f"{path} {name}")
        else:
            yield f"{path} {name}", child


@pytest.mark.parametrize(("path", "command"), list(commands(get_command(app))), ids=str)
def test_every_command_has_help_with_an_example_of_itself(path, command):
    assert "Example: " in (command.help or "")
    assert path in command.help
    for parameter in command.params:
        assert parameter.name == "help" or parameter.help
