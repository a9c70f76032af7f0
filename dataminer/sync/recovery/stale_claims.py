"""Give back claims without a heartbeat, whose jobs died unnoticed, for the next run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from dataminer.config import MonitorConfig
from dataminer.db.connection import transaction
from dataminer.errors import ErrorClass
from dataminer.sync.claims import projects
from dataminer.sync.claims.claim_end import pause_of_killed
from dataminer.sync.claims.stage_rows import STAGES

# ---- statements: identifiers in braces, values bound -------------------------------------------

# The lease stays: its holder, if alive, finds the row no longer running and writes nothing. The
# attempt does not count; a suspect that was killed too often is postponed. A row that is locked at
# this moment is alive, or is being taken over.
_RECOVER = """
WITH stale AS (
    SELECT {id} AS id, {status} AS was, locked_by,
        extract(epoch FROM clock_timestamp() - heartbeat_at)::float AS age
    FROM {table}
    WHERE {status} = ANY(%(running)s)
        AND heartbeat_at < clock_timestamp() - make_interval(secs => %(stale)s)
    ORDER BY {id} FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE {table} t SET
    {status} = (%(released)s::text[])[array_position(%(running)s::text[], s.was::text)],
    locked_by = NULL, locked_at = NULL, heartbeat_at = NULL, error_class = %(error_class)s,
    attempts = greatest(attempts - 1, 0), suspect = true,
    kills = kills + suspect::int,
    not_before = CASE WHEN suspect AND kills + 1 >= %(max_attempts)s AND %(waits)s
        THEN clock_timestamp() + make_interval(secs => %(pause)s) END,
    error = 'job died unnoticed (last heartbeat ' || round(s.age) || ' s ago on '
        || split_part(s.locked_by, ':', 1) || '). Next: run snakemake again'
FROM stale s WHERE t.{id} = s.id
RETURNING {key}, s.was, t.{status}, s.locked_by, s.age, t.attempts
"""

_AFFECTED = """
SELECT project_id FROM project_videos WHERE video_id = ANY(%(videos)s)
UNION SELECT project_id FROM projects WHERE name = ANY(%(names)s)
"""

_ALL_PROJECTS = "SELECT project_id FROM projects"

# by table: its key, and how a row is named
_TABLES = {
    "videos": ("video_id", "t.video_id"),
    "project_videos": (
        "id",
        "(SELECT p.name FROM projects p WHERE p.project_id = t.project_id) || '/' || t.video_id",
    ),
    "projects": ("project_id", "t.name"),
}


@dataclass(frozen=True)
class Recovered:
    """A claim that was given back for its dead holder.

    Parameters
    ----------
    table : str
        The table of the row.
    key : str
        The video, ``project/video``, or the project.
    was, becomes : str
        Its status before and now.
    owner : str
        The former holder: host, process and Slurm job.
    age : float
        Seconds since the last heartbeat, by the database's clock.
    attempts : int
        The number of attempts since the last result.
    """

    table: str
    key: str
    was: str
    becomes: str
    owner: str
    age: float
    attempts: int

    def __str__(self) -> str:
        return (
            f"{self.key}: {self.was} -> {self.becomes}, attempt {self.attempts},"
            f" {self.owner} silent for {self.age:.0f} s"
        )


def recover_stale(settings: MonitorConfig, *, patience: float = 0.0) -> list[Recovered]:
    """Give back all claims without a heartbeat for longer than the stale threshold.

    Safe at any time and from several processes at once. The monitor calls it, and so does the start
    of each run.

    Parameters
    ----------
    settings : MonitorConfig
        Its ``stale_threshold_minutes`` counts, by the database's clock.
    patience : float
        Seconds to wait for a database that is away.

    Returns
    -------
    list of Recovered
        What was given back; its projects have been recounted.
    """
    found = [
        claim
        for table in _TABLES
        for claim in transaction(
            partial(_recover, table=table, settings=settings),
            patience=patience,
            name="recover",
        )
    ]
    if found:
        affected = transaction(lambda c: _affected(c, found), patience=patience, name="recover")
        projects.refresh(affected)
    return found


def heal(settings: MonitorConfig) -> list[Recovered]:
    """Give back stale claims, then recount all projects and update their stages.

    Returns
    -------
    list of Recovered
        What was given back.
    """
    found = recover_stale(settings)
    projects.refresh(transaction(_all_projects, name="refresh"))
    return found


def _recover(connection: Connection, table: str, settings: MonitorConfig) -> list[Recovered]:
    identifier, key = _TABLES[table]
    stages = [stage for stage in STAGES.values() if stage.table == table]
    query = sql.SQL(_RECOVER).format(
        table=sql.Identifier(table),
        id=sql.Identifier(identifier),
        status=sql.Identifier(stages[0].status_column),
        key=sql.SQL(key),
    )
    values = {
        "running": [stage.running for stage in stages],
        "released": [stage.released for stage in stages],
        "stale": settings.stale_threshold_minutes * 60,
        "error_class": ErrorClass.KILLED,
        "max_attempts": settings.max_attempts,
        "pause": pause_of_killed(settings),
        "waits": table != "projects",
    }
    return [Recovered(table, *row) for row in _fetch_all(connection, query, values)]


def _affected(connection: Connection, found: Iterable[Recovered]) -> list[int]:
    videos = [claim.key for claim in found if claim.table == "videos"]
    names = [claim.key.partition("/")[0] for claim in found if claim.table != "videos"]
    return [row[0] for row in _fetch_all(connection, _AFFECTED, {"videos": videos, "names": names})]


def _all_projects(connection: Connection) -> list[int]:
    return [row[0] for row in _fetch_all(connection, _ALL_PROJECTS, {})]


def _fetch_all(connection: Connection, query: Any, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()
