"""Options that commands share, and the settings that follow from them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer

from dataminer.config import DEFAULT_FILE, Config, load_files
from dataminer.errors import ConfigError, DatabaseError
from dataminer.store.layout import Store
from dataminer.text import tell

Projects = Annotated[
    Optional[list[str]],
    typer.Option("--project", "-p", help="Only this project; may be given several times."),
]
ConfigFiles = Annotated[
    Optional[list[Path]],
    typer.Option(
        "--config",
        "--configfile",
        "-c",
        metavar="FILE",
        help=f"A configuration file to merge over {DEFAULT_FILE}, as with `snakemake"
        " --configfile`; may be given several times, later ones take precedence.",
        show_default="those of the project's last run",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def readings(
    files: Sequence[Path] | None, projects: list[str] | None = None, *, database: bool = True
) -> list[Config]:
    """Return the settings of projects, read from the files given or from those of their last run.

    Parameters
    ----------
    files : list of Path, optional
        As given with ``--config``.
    projects : list of str, optional
        As named on the command line; all projects if empty.
    database : bool
        Whether the command needs the database; otherwise it continues without one.

    Returns
    -------
    list of Config
        One per group of projects with the same files; each names its projects.

    Raises
    ------
    ConfigError
        If a file or a key is wrong. If no project is named, projects whose files cannot be read
        are skipped, with a line on stderr.
    """
    from dataminer.sync.config_files import by_files

    if files:
        return [load_files(files)]
    try:
        groups = by_files(projects or [])
    except DatabaseError as error:
        if database:
            raise
        _warn(f"the configuration files of the last run are not known: {error.message}")
        groups = {(): projects or []}
    found = (_of_group(used, names, skip=not projects) for used, names in groups.items())
    return [settings for settings in found if settings] or [load_files()]


def _of_group(files: Sequence[Path], projects: list[str], *, skip: bool) -> Config | None:
    """Read the settings of projects with the same files; None if they are wrong and skipped."""
    try:
        settings = load_files(files)
    except ConfigError as error:
        if not skip:
            raise
        _warn(f"skipped {_projects(projects)}: {error}")
        return None
    named = {"project": None, "projects": projects} if projects else {}
    return settings.model_copy(update=named)


def settings_of(
    files: Sequence[Path] | None, projects: list[str] | None = None, *, database: bool = True
) -> Config:
    """Return the settings that projects have in common, see :func:`readings`."""
    return in_common(readings(files, projects, database=database))


def in_common(found: list[Config]) -> Config:
    """Return the settings of projects that are in one store.

    If other settings differ, those with the longest stale threshold apply.

    Raises
    ------
    ConfigError
        If they are in several stores.
    """
    first = found[0]
    for other in found[1:]:
        if other.store_path != first.store_path:
            raise ConfigError(
                f"project {first.project_names[0]} has the store {first.store_path}, project"
                f" {other.project_names[0]} {other.store_path}",
                "name one with --project, or the configuration files with --config",
            )
    return max(found, key=lambda settings: settings.monitor.stale_threshold_minutes)


def of_store(settings: Config) -> list[str] | None:
    """Return the projects that are in the store of some settings; None if all are.

    A line on stderr names each that is not, or whose configuration files cannot be read.
    """
    from dataminer.sync.config_files import by_files, never_run

    mine, others = [*never_run()], list[str]()
    groups = {files: [n for n in names if n not in mine] for files, names in by_files().items()}
    for files, names in groups.items():
        try:
            store = load_files(files).store_path
            reason = f"{_projects(names)} in the store {store}"
        except ConfigError as error:
            store, reason = None, f"{_projects(names)}: {error}"
        if store == settings.store_path:
            mine += names
        elif names:
            others += names
            _warn(f"left alone: {reason}")
    return mine if others else None


def store_of(files: Sequence[Path] | None, projects: list[str] | None = None) -> Store:
    """Return the store that projects are in, see :func:`settings_of`."""
    return Store(settings_of(files, projects).store_path)


def paired(store: Store, *, dry_run: bool = False) -> Store:
    """Return a store once it is known to be the database's, before rows or files are changed.

    Parameters
    ----------
    store : Store
        The store.
    dry_run : bool
        Write nothing. Otherwise the database follows a store that has moved, with a message.

    Raises
    ------
    NotAPair
        If the two do not belong together.
    """
    from dataminer.sync.pairing.check import require_pair
    from dataminer.sync.pairing.settle import settle_pair

    if dry_run:
        require_pair(store)
    elif message := settle_pair(store):
        _warn(message)
    return store


def tell_strangers(found: Iterable[Config]) -> None:
    """Report on stderr the stores that do not belong to the database, for read-only commands."""
    from dataminer.db.connection import no_database
    from dataminer.sync.pairing.check import refuse_strangers
    from dataminer.sync.pairing.records import NotAPair

    for store in dict.fromkeys(settings.store_path for settings in found):
        try:
            refuse_strangers(Store(store))
        except NotAPair as error:
            if no_database():  # there is nothing to show
                raise
            _warn(str(error))


def leave_out(message: str) -> None:
    """Report a damaged file that a page leaves out."""
    _warn(f"left out: {message}")


def _projects(names: list[str]) -> str:
    return f"project{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _warn(line: str) -> None:
    tell(f"dataminer: {line}", sys.stderr)
