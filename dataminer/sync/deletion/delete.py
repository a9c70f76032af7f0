"""Deletes rows and files as planned, never while somebody works on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from dataminer.config import MonitorConfig
from dataminer.db.connection import transaction
from dataminer.errors import DataminerError
from dataminer.store.trash import set_aside
from dataminer.sync.claims import statements
from dataminer.sync.claims.owners import is_dead
from dataminer.sync.deletion.plan import CHOSEN, Deletion

# ---- statements: values bound ------------------------------------------------------------------

_COUNT = """
SELECT count(*) FROM project_videos
WHERE id = ANY(%(members)s) OR project_id = ANY(%(projects)s) OR video_id = ANY(%(videos)s)
"""

# in the order in which `populate` writes, so that the two wait for each other at most
_LOCK = (
    """
SELECT video_id, locked_by, heartbeat_at >= clock_timestamp() - make_interval(secs => %(stale)s)
FROM videos WHERE video_id = ANY(%(locked)s) ORDER BY video_id FOR UPDATE
""",
    """
SELECT video_id, locked_by, heartbeat_at >= clock_timestamp() - make_interval(secs => %(stale)s)
FROM project_videos WHERE id = ANY(%(members)s) ORDER BY id FOR UPDATE
""",
    """
SELECT name, locked_by, heartbeat_at >= clock_timestamp() - make_interval(secs => %(stale)s)
FROM projects WHERE project_id = ANY(%(projects)s) OR project_id = ANY(%(recount)s)
ORDER BY project_id FOR UPDATE
""",
)

_DELETE = (
    "DELETE FROM project_videos WHERE id = ANY(%(members)s)",
    "DELETE FROM videos WHERE video_id = ANY(%(videos)s)",
    "DELETE FROM projects WHERE project_id = ANY(%(projects)s)",
)


def carry_out(deletion: Deletion, settings: MonitorConfig) -> None:
    """Delete rows and files together.

    Parameters
    ----------
    deletion : Deletion
        The plan.
    settings : MonitorConfig
        The age at which a claim is stale, and no obstacle.

    Raises
    ------
    DataminerError
        If a claim on one of the rows is live, or the rows have changed since; nothing was deleted
        then.
    """

    def work(connection: Connection) -> None:
        with connection.cursor() as cursor:
            _delete_rows(cursor, deletion, settings)
        with set_aside(deletion.folders):
            connection.commit()

    try:
        transaction(work, name="delete")
    except psycopg2.errors.ForeignKeyViolation as error:
        raise _changed(deletion) from error


def _delete_rows(cursor: Cursor, deletion: Deletion, settings: MonitorConfig) -> None:
    values: dict[str, Any] = {
        "projects": list(deletion.projects),
        "members": list(deletion.members),
        "videos": list(deletion.videos),
        "locked": [*deletion.videos, *deletion.kept],
        "recount": list(deletion.recount),
        "stale": settings.stale_threshold_minutes * 60,
    }
    for statement in _LOCK:
        cursor.execute(statement, values)
        _refuse_live(cursor.fetchall())
    cursor.execute(_COUNT, values)
    if cursor.fetchone() != (len(deletion.members),):
        raise _changed(deletion)
    if deletion.choice:
        choice = replace(deletion.choice, videos=(*deletion.videos, *deletion.kept))
        cursor.execute(CHOSEN, choice.values())
        if len(cursor.fetchall()) != len(choice.videos):
            raise _changed(deletion)
    for statement in _DELETE:
        cursor.execute(statement, values)
    recount = {"projects": values["recount"], "refiltered": True}
    cursor.execute(statements.REFRESH_PROJECTS, recount)


def _refuse_live(locked: list[tuple[str, str | None, bool | None]]) -> None:
    for name, owner, fresh in locked:
        if owner and fresh and not is_dead(owner):
            raise DataminerError(
                f"{name} is being worked on by {owner}, and nothing was deleted",
                "wait for it, or stop that run first",
            )


def _changed(deletion: Deletion) -> DataminerError:
    return DataminerError(
        f"{deletion.what}: its rows changed meanwhile, and nothing was deleted", "try again"
    )
