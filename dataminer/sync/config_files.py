"""The configuration files that each project was last run with: their names, never what they say."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from psycopg2.extensions import connection as Connection

from dataminer import commands
from dataminer.config import DEFAULT_FILE, names_in, read_file
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
    """Note the files that projects are run with, besides `DEFAULT_FILE`.

    Parameters
    ----------
    projects : iterable of str
        Which; those that the database does not know are passed over.
    files : iterable of Path or str
        As given with ``--configfile``.
    only_first : bool
        Whether to leave alone what is noted already.
    """
    values = {
        "names": list(projects),
        "workdir": str(Path.cwd()),
        "files": json.dumps([str(file) for file in _noted(files)]),
        "only_first": only_first,
    }

    def work(connection: Connection) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_REMEMBER, values)

    transaction(work, name="run")


def are_remembered(projects: Iterable[str], files: Iterable[Path | str]) -> bool:
    """Whether projects were last run with these files, and no others."""
    return set(by_files(projects, lost=True)) <= {_noted(files)}


def by_files(names: Iterable[str] = (), *, lost: bool = False) -> dict[tuple[Path, ...], list[str]]:
    """Return projects by the files that they were last run with, besides `DEFAULT_FILE`.

    A file whose folder has been moved is looked for in the working directory.

    Parameters
    ----------
    names : iterable of str
        The projects, also such as the database does not know; none for all that it knows.
    lost : bool
        Whether files may be gone; those of projects that are not named always may.

    Raises
    ------
    ConfigError
        When a file of a project that was named is not there any more.
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
    """Return the files that projects were last run with, if these are the same for all of them.

    Parameters
    ----------
    names : iterable of str
        The projects.
    typed : bool
        Whether the command line names them, whatever the files name. Otherwise `DEFAULT_FILE` does.

    Raises
    ------
    ConfigError
        When they are not the same, or one is not there any more or names other projects.
    """
    names = list(names)
    groups = by_files(names) if names else {}
    if len(groups) > 1:
        told = "; ".join(f"{' and '.join(of)} with {_told(files)}" for files, of in groups.items())
        raise ConfigError(
            f"these projects were last run with different configuration files: {told}",
            "name one project at a time, or the files with --configfile",
        )
    files = next(iter(groups), ())
    for file in files if not typed else ():
        others = names_in(read_file(file))
        if others and others != names:
            raise ConfigError(
                f"project {' and '.join(names)} was last run with {file}, which names project"
                f" {' and '.join(others)}",
                f"name the project, as in `{commands.snakemake(names)}`, or the files with"
                " --configfile",
            )
    return files


def never_run() -> set[str]:
    """Return the projects that were not run since their files are noted."""
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
    """Return the commands that mine projects, one for those that share their files.

    Parameters
    ----------
    projects : iterable of str
        Which; none for those that have one of ``videos``.
    files : iterable of Path, optional
        Those to use, rather than the ones that each project was last run with.
    videos : iterable of str
        Ids of videos.
    """
    names, used = list(projects) or projects_with(videos), list(files or ())
    if used:
        return [commands.snakemake(names, used)]
    return [commands.snakemake(group) for group in by_files(names).values()] if names else []


def _noted(files: Iterable[Path | str]) -> tuple[Path, ...]:
    """Return what is noted of files that are given: not the default one, which is always read."""
    default = DEFAULT_FILE.resolve()
    paths = [Path.cwd() / file for file in files]
    return tuple(shortest(path) for path in paths if path.resolve() != default)


def shortest(path: Path) -> Path:
    """Return a path as it is named from the working directory, if it lies below that."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def projects_with(videos: Iterable[str]) -> list[str]:
    """Return the projects that have one of some videos."""
    with reading("configfiles") as session, session.cursor() as cursor:
        cursor.execute(_OF_VIDEOS, {"videos": list(videos)})
        return [name for (name,) in cursor.fetchall()]


def _found(workdir: Path, file: str) -> Path:
    there = workdir / file
    return shortest(there if there.exists() or not Path(file).exists() else Path(file))


def _told(files: tuple[Path, ...]) -> str:
    return " and ".join(map(str, files or (DEFAULT_FILE,)))
