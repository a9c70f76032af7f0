"""Projects and their videos as rows: add them, and keep counters and stages up to date."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from dataminer.db.connection import transaction
from dataminer.db.tables import NoTables
from dataminer.errors import DataminerError
from dataminer.sync.claims import statements
from dataminer.sync.claims.execution import PATIENCE, query
from dataminer.urls import SourceUrl

_PAGE = 10_000  # rows per statement
_COLUMNS = ("title", "uploader", "licence", "duration")  # of source_info; the rest stays there


class SourceRow(Protocol):
    """A video to add; :class:`dataminer.ingest.parse.Source` is one."""

    @property
    def video_id(self) -> str:
        """YouTube's own id, or a stable one made from the source."""

    @property
    def url(self) -> SourceUrl:
        """Its URL, or the absolute path of a local file."""

    @property
    def source_type(self) -> str:
        """One of :class:`dataminer.db.enums.SourceType`."""

    @property
    def source_info(self) -> dict[str, Any]:
        """Its origin: a list and its line, or a search and the rank in it.

        Title, uploader, licence and duration (in seconds) from a list of videos go into the columns
        of these names.
        """


@dataclass(frozen=True)
class Added:
    """What adding sources to a project changed.

    Parameters
    ----------
    given : int
        The number of sources, each counted once.
    new_to_project : int
        Those that the project did not have.
    new_to_store : int
        Those that no project had.
    """

    given: int
    new_to_project: int
    new_to_store: int


def add_videos(project: str, sources: Iterable[SourceRow]) -> Added:
    """Add sources to a project, which is made if it is new; known ones change nothing.

    Parameters
    ----------
    project : str
        The project's name.
    sources : iterable of SourceRow
        The sources. They are sorted here, so that two processes that add the same ones do not
        deadlock.
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


def known_videos(project: str, video_ids: Iterable[str]) -> dict[str, bool]:
    """Return which videos the database has; write nothing.

    Returns
    -------
    dict
        The known ones by id, with whether the project has them; empty if there are no tables.
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


def project_id_of(project: str, *, session: str = "dataminer") -> int:
    """Return a project's id.

    Parameters
    ----------
    project : str
        By name.
    session : str
        The name of the session, see :func:`dataminer.db.connection.connect`.

    Raises
    ------
    DataminerError
        If the database has no such project.
    """
    return _find_ids([project], session, PATIENCE)[project]


def ids_of(projects: Iterable[str]) -> dict[str, int]:
    """Return the ids of projects, by name.

    Raises
    ------
    DataminerError
        If the database does not have all of them.
    """
    return _find_ids(list(projects), "projects", 0.0)


def _find_ids(names: list[str], session: str, patience: float) -> dict[str, int]:
    rows = query(statements.PROJECT_IDS, {"names": names}, name=session, patience=patience)
    found = {name: project_id for project_id, name in rows}
    missing = sorted(set(names) - found.keys())
    if missing:
        raise DataminerError(
            f"there is no project {', '.join(missing)}", "`dataminer status` lists all projects"
        )
    return found


def refresh(project_ids: Iterable[int], *, refiltered: bool = False) -> None:
    """Recount projects and update their stages.

    Parameters
    ----------
    project_ids : iterable of int
        The projects.
    refiltered : bool
        Whether a video was just filtered: earlier results of dedup are then out of date.
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
    """Recount projects by name, as :func:`refresh`; unknown names are skipped."""

    def work(connection: Connection) -> None:
        with connection.cursor() as cursor:
            _refresh(cursor, list(_ids(cursor, list(names)).values()), refiltered=refiltered)

    transaction(work, patience=patience, name="refresh")


def _refresh(cursor: Cursor, project_ids: list[int], *, refiltered: bool) -> None:
    values = {"projects": project_ids, "refiltered": refiltered}
    cursor.execute(statements.LOCK_PROJECTS, values)
    cursor.execute(statements.REFRESH_PROJECTS, values)


def _ids(cursor: Cursor, names: list[str]) -> dict[str, int]:
    cursor.execute(statements.PROJECT_IDS, {"names": names})
    return {name: project_id for project_id, name in cursor.fetchall()}


def _insert(cursor: Cursor, statement: str, rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    found: list[Any] = execute_values(cursor, statement, rows, page_size=_PAGE, fetch=True)
    return found


def _row(source: SourceRow) -> tuple[Any, ...]:
    info = {key: value for key, value in source.source_info.items() if key not in _COLUMNS}
    columns = [source.source_info.get(key) for key in _COLUMNS]
    return (source.video_id, source.url.reveal(), source.source_type, json.dumps(info), *columns)


def _video_id(source: SourceRow) -> str:
    return source.video_id
