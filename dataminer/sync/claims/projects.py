"""Projects and their videos as rows: adding them, and keeping counters and stages in step."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_values

from dataminer.db.connection import transaction
from dataminer.db.tables import NoTables
from dataminer.errors import DataminerError
from dataminer.sync.claims import statements
from dataminer.sync.claims.claims import PATIENCE
from dataminer.urls import SourceUrl

_PAGE = 10_000  # rows a statement
_COLUMNS = ("title", "uploader", "licence", "duration")  # of source_info; the rest stays there


class SourceRow(Protocol):
    """A video to add; :class:`dataminer.ingest.sources.SourceRow` is one."""

    @property
    def video_id(self) -> str:
        """YouTube's own id, or a stable one made from the source."""

    @property
    def url(self) -> SourceUrl:
        """Where it is: a URL, or the absolute path of a local file."""

    @property
    def source_type(self) -> str:
        """One of :class:`dataminer.db.enums.SourceType`."""

    @property
    def source_info(self) -> dict[str, Any]:
        """Where it was named: a list and its line, a search and the rank in it.

        What a list of videos says of it (title, uploader, licence, duration in seconds) goes into
        the columns of these names.
        """


@dataclass(frozen=True)
class Added:
    """What adding sources to a project changed.

    Parameters
    ----------
    given : int
        Sources, each counted once.
    new_to_project : int
        How many of them the project did not have.
    new_to_store : int
        How many of them no project had.
    """

    given: int
    new_to_project: int
    new_to_store: int


def add_videos(project: str, sources: Iterable[SourceRow]) -> Added:
    """Add sources to a project, making the project where it is new; known ones change nothing.

    Parameters
    ----------
    project : str
        The project's name.
    sources : iterable of SourceRow
        What to add; sorted here, so that two who add the same ones do not lock each other out.
    """
    unique = sorted({source.video_id: source for source in sources}.values(), key=_video_id)

    def work(connection: Connection) -> Added:
        with connection.cursor() as cursor:
            cursor.execute(statements.ADD_PROJECT, {"name": project})
            project_id = _ids(cursor, [project])[project]
            new_videos = _insert(cursor, statements.ADD_VIDEOS, map(_row, unique))
            _insert(cursor, statements.NAME_VIDEOS, map(_row, unique))
            pairs = ((project_id, source.video_id) for source in unique)
            new_pairs = _insert(cursor, statements.ADD_PROJECT_VIDEOS, pairs)
            _refresh(cursor, [project_id], refiltered=False)
        return Added(len(unique), len(new_pairs), len(new_videos))

    return transaction(work, name=f"populate {project}")


def known(project: str, video_ids: Iterable[str]) -> dict[str, bool]:
    """Tell which videos the database has; writes nothing.

    Returns
    -------
    dict
        The known ones by id, with whether the project has them; empty where there are no tables.
    """
    values = {"project": project, "video_ids": list(video_ids)}

    def work(connection: Connection) -> dict[str, bool]:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute(statements.KNOWN_VIDEOS, values)
            return dict(cursor.fetchall())

    try:
        return transaction(work, name="populate --dry-run")
    except NoTables:
        return {}


def id_of(project: str, *, session: str = "dataminer") -> int:
    """Return a project's id.

    Parameters
    ----------
    project : str
        By name.
    session : str
        The name of the session that asks, see :func:`dataminer.db.connection.connect`.

    Raises
    ------
    DataminerError
        When the database has no such project.
    """

    def work(connection: Connection) -> dict[str, int]:
        with connection.cursor() as cursor:
            return _ids(cursor, [project])

    found = transaction(work, patience=PATIENCE, name=session, single=True)
    if project not in found:
        raise DataminerError(
            f"there is no project {project}", "`dataminer status` lists all projects"
        )
    return found[project]


def ids_of(projects: Iterable[str]) -> dict[str, int]:
    """Return the ids of projects, by name.

    Raises
    ------
    DataminerError
        When the database does not have all of them.
    """
    names = list(projects)

    def work(connection: Connection) -> dict[str, int]:
        with connection.cursor() as cursor:
            return _ids(cursor, names)

    found = transaction(work, name="projects")
    missing = sorted(set(names) - found.keys())
    if missing:
        raise DataminerError(
            f"there is no project {', '.join(missing)}", "`dataminer status` lists all projects"
        )
    return found


def refresh(project_ids: Iterable[int], *, refiltered: bool = False) -> None:
    """Recount projects and move their stages on.

    Parameters
    ----------
    project_ids : iterable of int
        Which projects.
    refiltered : bool
        A video's filter has just run: whatever dedup made before is out of date.
    """

    def work(connection: Connection) -> None:
        with connection.cursor() as cursor:
            _refresh(cursor, list(project_ids), refiltered=refiltered)

    transaction(work, patience=PATIENCE, name="refresh")


def refresh_of_videos(video_ids: Iterable[str], *, patience: float = PATIENCE) -> None:
    """Recount all projects that videos belong to; ``patience`` as for a transaction."""

    def work(connection: Connection) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statements.PROJECTS_OF_VIDEOS, {"video_ids": list(video_ids)})
            _refresh(cursor, [row[0] for row in cursor.fetchall()], refiltered=False)

    transaction(work, patience=patience, name="refresh")


def refresh_named(
    names: Iterable[str], *, refiltered: bool = False, patience: float = PATIENCE
) -> None:
    """Recount projects by name, as :func:`refresh`; names that are not known are passed over."""

    def work(connection: Connection) -> None:
        with connection.cursor() as cursor:
            _refresh(cursor, list(_ids(cursor, list(names)).values()), refiltered=refiltered)

    transaction(work, patience=patience, name="refresh")


def _refresh(cursor: Any, project_ids: list[int], *, refiltered: bool) -> None:
    values = {"projects": project_ids, "refiltered": refiltered}
    cursor.execute(statements.LOCK_PROJECTS, values)
    cursor.execute(statements.REFRESH_PROJECTS, values)


def _ids(cursor: Any, names: list[str]) -> dict[str, int]:
    cursor.execute(statements.PROJECT_IDS, {"names": names})
    return {name: project_id for project_id, name in cursor.fetchall()}


def _insert(cursor: Any, statement: str, rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    found: list[Any] = execute_values(cursor, statement, rows, page_size=_PAGE, fetch=True)
    return found


def _row(source: SourceRow) -> tuple[Any, ...]:
    info = {key: value for key, value in source.source_info.items() if key not in _COLUMNS}
    columns = [source.source_info.get(key) for key in _COLUMNS]
    return (source.video_id, source.url.reveal(), source.source_type, json.dumps(info), *columns)


def _video_id(source: SourceRow) -> str:
    return source.video_id
