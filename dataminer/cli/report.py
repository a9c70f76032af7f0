"""``dataminer report``: a project's page, at any stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from dataminer.cli.options import ConfigFiles, leave_out, settings_of
from dataminer.report import REPORT_FILE
from dataminer.store import Store


def register(app: typer.Typer) -> None:
    """Add the command to the ``dataminer`` command."""
    app.command()(report)


def report(
    project: Annotated[str, typer.Argument(help="The project.")],
    output: Annotated[
        Optional[Path],
        typer.Option(
            "--output",
            "-o",
            help="The page to write.",
            show_default="the project's report/index.html in the store",
        ),
    ] = None,
    config: ConfigFiles = None,
) -> None:
    """Draw a project's report, of as much as there is of it: one page that needs no other file.

    The workflow draws it by itself when a project is complete.

    Example: dataminer report birds --output birds.html
    """
    from dataminer.sync import meeting
    from dataminer.sync.report import report as draw

    settings = settings_of(config, [project])
    store = Store(settings.store_path)
    meeting.refuse_strangers(store)
    out = output or store.report(project) / REPORT_FILE
    size = draw(settings, project, out, leave_out)
    print(f"{out}: {size / 1e6:.1f} MB. Next: open it in a browser")
