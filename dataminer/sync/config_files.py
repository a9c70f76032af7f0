"""The names of the configuration files that each project was last run with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from psycopg2.extensions import connection as Connection

from dataminer import commands
from dataminer.config import DEFAULT_FILE, project_names, read_config_file
from dataminer.db import tables
from dataminer.db.connection import no_database, reading, transaction
from dataminer.errors import ConfigError

_SINCE = "0008"  # the revision of the tables
_REMEMBER = """
UPDATE projects SET workdir = %(workdir)s, configfiles = %(files)s::jsonb
WHERE name = ANY(%(names)s)
    AND (workdir, configfiles) IS DISTINCT FROM (%(workdir)s::varchar, %(files)s::jsonb)
    AND NOT (%(only_first)s AND configfiles IS NOT NULL)
"""
_LAST = """
SELECT name, workdir, configfiles FROM projects
WHERE name = ANY(%(names)s) OR %(names)s = '{}' ORDER BY name COLLATE "C"
"""
_OF_VIDEOS = """
SELECT DISTINCT name COLLATE "C" FROM projects JOIN project_videos USING (project_id)
WHERE video_id = ANY(%(videos)s) ORDER BY 1
"""


def remember(
    projects: Iterable[str], files: Iterable[Path | str], *, only_first: bool = False
) -> None:
    """Record the files that projects are run with, besides `DEFAULT_FILE`.

    Parameters
    ----------
    projects : iterable of str
        Their names; those without a row are skipped.
    files : iterable of Path or str
        As given with ``--configfile``.
    only_first : bool
        Whether to leave existing records alone.
    """
    values = {
        "names": list(projects),
        "workdir": str(Path.cwd()),
        "files": json.dumps([str(file) for file in _recorded(files)]),
        "only_first": only_first,
    }

    def work(connection: Connection) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_REMEMBER, values)

    transaction(work, name="run")


def are_remembered(projects: Iterable[str], files: Iterable[Path | str]) -> bool:
    """Return whether projects were last run with exactly these files."""
    return set(by_files(projects, lost=True)) <= {_recorded(files)}


def by_files(names: Iterable[str] = (), *, lost: bool = False) -> dict[tuple[Path, ...], list[str]]:
    """Return projects by the files that they were last run with, besides `DEFAULT_FILE`.

    If the folder of a file was moved, the file is searched in the working directory.

    Parameters
    ----------
    names : iterable of str
        The projects, with or without rows; none for all that have one.
    lost : bool
        Whether files of named projects may be gone; those of others always may.

    Raises
    ------
    ConfigError
        If a file of a named project is gone.
    """
    names = list(names)
    last = _last_of(names)
    found: dict[tuple[Path, ...], list[str]] = {}
    for name in names or last:
        files = last.get(name) or ()
        for missing in (file for file in files if names and not lost and not file.exists()):
            raise ConfigError(
                f"project {name} was last run with {missing}, which is gone",
                f"name its files with --configfile ({DEFAULT_FILE} for that one alone)",
            )
        found.setdefault(files, []).append(name)
    return found


def files_of(names: Iterable[str], *, typed: bool) -> tuple[Path, ...]:
    """Return the files that projects were last run with, if all have the same.

    Parameters
    ----------
    names : iterable of str
        The projects.
    typed : bool
        Whether the command line names the projects, whatever the files say; otherwise
        `DEFAULT_FILE` names them.

    Raises
    ------
    ConfigError
        If they differ, or one is gone or names other projects.
    """
    names = list(names)
    groups = by_files(names) if names else {}
    if len(groups) > 1:
        runs = "; ".join(f"{' and '.join(of)} with {_list(files)}" for files, of in groups.items())
        raise ConfigError(
            f"these projects were last run with different configuration files: {runs}",
            "name one project at a time, or the files with --configfile",
        )
    files = next(iter(groups), ())
    for file in files if not typed else ():
        others = project_names(read_config_file(file))
        if others and others != names:
            raise ConfigError(
                f"project {' and '.join(names)} was last run with {file}, which names project"
                f" {' and '.join(others)}",
                f"name the project, as in `{commands.snakemake(names)}`, or the files with"
                " --configfile",
            )
    return files


def never_run() -> set[str]:
    """Return the projects without a record: they have not run since versions that keep one."""
    return {name for name, files in _last_of([]).items() if files is None}


def _last_of(names: list[str]) -> dict[str, tuple[Path, ...] | None]:
    if no_database():
        return {}
    rows: list[tuple[str, str | None, list[str] | None]] = []
    with reading("configfiles", check=False) as session, session.cursor() as cursor:
        if (tables.find_tables(session).revision or "") >= _SINCE:
            cursor.execute(_LAST, {"names": names})
            rows = cursor.fetchall()
    return {
        name: None if files is None else tuple(_found(Path(workdir or ""), file) for file in files)
        for name, workdir, files in rows
    }


def runs_of(
    projects: Iterable[str], files: Iterable[Path] | None = None, *, videos: Iterable[str] = ()
) -> list[str]:
    """Return the commands that mine projects, one per group that shares its files.

    Parameters
    ----------
    projects : iterable of str
        Their names; none for those that have one of ``videos``.
    files : iterable of Path, optional
        The files to use instead of those that each project was last run with.
    videos : iterable of str
        The ids of the videos.
    """
    names, used = list(projects) or projects_with(videos), list(files or ())
    if used:
        return [commands.snakemake(names, used)]
    return [commands.snakemake(group) for group in by_files(names).values()] if names else []


def _recorded(files: Iterable[Path | str]) -> tuple[Path, ...]:
    """Return the record of files: all but the default one, which is always read."""
    default = DEFAULT_FILE.resolve()
    paths = [Path.cwd() / file for file in files]
    return tuple(shortest(path) for path in paths if path.resolve() != default)


def shortest(path: Path) -> Path:
    """Return a path relative to the working directory, if it is below that."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def projects_with(videos: Iterable[str]) -> list[str]:
    """Return the projects that have any of some videos."""
    with reading("configfiles") as session, session.cursor() as cursor:
        cursor.execute(_OF_VIDEOS, {"videos": list(videos)})
        return [name for (name,) in cursor.fetchall()]


def _found(workdir: Path, file: str) -> Path:
    original = workdir / file
    moved = not original.exists() and Path(file).exists()
    return shortest(Path(file) if moved else original)


def _list(files: tuple[Path, ...]) -> str:
    return " and ".join(map(str, files or (DEFAULT_FILE,)))
