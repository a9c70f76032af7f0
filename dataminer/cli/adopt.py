"""``dataminer adopt``: join a store and a database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer

from dataminer import commands
from dataminer.cli.options import ConfigFiles
from dataminer.config import load_files
from dataminer.errors import DataminerError
from dataminer.store.layout import Store
from dataminer.text import tell


def register(app: typer.Typer) -> None:
    """Add the command to the ``dataminer`` command."""
    app.command()(adopt)


def adopt(
    store: Annotated[
        Optional[Path],
        typer.Argument(
            metavar="[STORE]", help="The store's folder.", show_default="that of the configuration"
        ),
    ] = None,
    *,
    undo: Annotated[
        bool, typer.Option("--undo", help="Restore what both were before they were joined.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only show what would be done.")
    ] = False,
    config: ConfigFiles = None,
) -> None:
    """Join a store and the database, even if either belonged to another one.

    A store works with one database only, and each remembers the other. The first run joins them.
    Later runs recognise a store that was moved and a database that was restored. Use this command
    if a database was lost, a store was copied, or a store was emptied on purpose. No file and no
    row is lost, and --undo reverts it.

    Example: dataminer adopt -n

    Example: dataminer adopt ../other/data

    Example: dataminer adopt --undo
    """
    from dataminer.sync.pairing import adoption

    settings = load_files(config or [])
    configured = Path(settings.store_path)
    other = store if store and store.resolve() != configured.resolve() else None
    if other:
        _refuse_missing(other)
    found = Store(store or configured)
    stale = settings.monitor.stale_threshold_minutes * 60
    if undo:
        for line in adoption.undo(found, stale_seconds=stale, dry_run=dry_run):
            tell(line)
        if dry_run:
            print("Nothing was changed. Next: rerun without -n")
        return
    done = adoption.adopt(found, stale_seconds=stale, dry_run=dry_run)
    for line in done.lines:
        tell(line)
    if not done.needed:
        return
    if dry_run:
        print("Nothing was changed. Next: rerun without -n; `--undo` reverts it")
        return
    if other:
        print(f"Next: set `store: {other}`. The configuration has {configured}")
    _print_next(done.projects, store, config, first="Then" if other else "Next")


def _refuse_missing(folder: Path) -> None:
    if not folder.is_dir():
        raise DataminerError(
            f"there is no folder {folder}", "check the path, or create the folder for a new store"
        )


def _print_next(
    projects: Sequence[str], store: Path | None, config: list[Path] | None, *, first: str
) -> None:
    names = [part for project in projects for part in ("--project", project)]
    command = commands.dataminer("sync", "-n", *names, files=config)
    print(f"{first}: `{command}` shows where rows and files disagree")
    undone = commands.dataminer("adopt", "--undo", *([str(store)] if store else []), files=config)
    print(f"`{undone}` reverts it")
