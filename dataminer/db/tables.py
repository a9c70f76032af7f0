"""Whose tables a database contains, and of which version: checked before reading or writing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from dataminer.db.refusals import no_usage, quoted
from dataminer.errors import DatabaseError

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010")
HEAD = REVISIONS[-1]
VERSION_TABLE = "dataminer_version"
OLD_VERSION_TABLE = "alembic_version"  # until November 2026; any program that uses Alembic has one

# per table, columns whose combination no other program's table of that name has
_OURS = {
    "projects": {"project_id", "name", "project_stage", "lease", "heartbeat_at"},
    "videos": {"video_id", "url", "source_type", "status", "lease", "heartbeat_at"},
    "project_videos": {"id", "project_id", "video_id", "filtered_dir", "lease", "heartbeat_at"},
}
_LATER = ("budgets", "breakers", "dataminer_store")

# those that the session's search_path finds
_COLUMNS = """
SELECT c.relname::text, n.nspname::text, array_agg(a.attname::text)
FROM unnest(%(names)s::text[]) AS name
JOIN pg_class c ON c.oid = to_regclass(quote_ident(name))
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY 1, 2
"""
# those in one schema, whatever comes before it in the search_path
_VERSION_TABLES = """
SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = to_regnamespace(quote_ident(%s)) AND c.relname = ANY (%s)
    AND a.attname = 'version_num'
"""
# the search_path silently omits schemas that the role may not use
_CLOSED = """
SELECT n.nspname::text FROM unnest(string_to_array(current_setting('search_path'), ',')) AS part
JOIN pg_namespace n ON n.nspname = CASE btrim(part, ' "') WHEN '$user' THEN current_user
    ELSE btrim(part, ' "') END
WHERE NOT has_schema_privilege(n.oid, 'USAGE') AND %s = (
    SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = ANY (%s))
"""


@dataclass(frozen=True)
class Tables:
    """What a database contains under the names that dataminer uses.

    Parameters
    ----------
    revision : str or None
        The revision of dataminer's tables; None if there are none.
    foreign : sequence of str
        Tables of another program, with their schema, in place of dataminer's.
    version_table : str or None
        The table that contains their revision.
    schema : str or None
        The schema of dataminer's tables.
    """

    revision: str | None
    foreign: Sequence[str] = ()
    version_table: str | None = None
    schema: str | None = None

    @property
    def current(self) -> bool:
        """Whether there is nothing to do."""
        return self.revision == HEAD and self.version_table == VERSION_TABLE


class NoTables(DatabaseError):
    """The database has no tables yet."""

    def __init__(self) -> None:
        super().__init__(
            "the database has no tables yet",
            "create them with `dataminer populate` or `dataminer db init`",
        )


def find_tables(session: Connection) -> Tables:
    """Find out whose tables there are, without writing anything.

    Raises
    ------
    DatabaseError
        If they are dataminer's but cannot be used: this role may not use their schema, or their
        version is unknown.
    """
    with session.cursor() as cursor:
        cursor.execute(_COLUMNS, {"names": [*_OURS, *_LATER, VERSION_TABLE]})
        found = {name: (schema, set(columns)) for name, schema, columns in cursor.fetchall()}
        ours = all(columns <= found.get(name, ("", set()))[1] for name, columns in _OURS.items())
        if ours:
            schema = found["videos"][0]
            return Tables(*_version(session, schema), schema=schema)
        cursor.execute(_CLOSED, (len(_OURS), list(_OURS)))
        closed = cursor.fetchone()
        if closed:
            raise no_usage(quoted(session.info.user), quoted(closed[0]))
        cursor.execute("SELECT current_schema()")
        (here,) = cursor.fetchone() or (None,)
    names = (*_OURS, *_LATER, VERSION_TABLE)
    taken = [f"{here}.{name}" for name in names if found.get(name, ("",))[0] == here]
    return Tables(None, taken)


def _version(session: Connection, schema: str) -> tuple[str, tuple[()], str]:
    """Return the revision of dataminer's tables, and the table that contains it."""
    tables = [VERSION_TABLE, OLD_VERSION_TABLE]
    with session.cursor() as cursor:
        cursor.execute(_VERSION_TABLES, (schema, tables))
        there = {name for (name,) in cursor.fetchall()}
        for table in (table for table in tables if table in there):
            cursor.execute(f"SELECT version_num FROM {quoted(schema)}.{table}")
            revisions = {str(row[0]) for row in cursor.fetchall()}
            if table == OLD_VERSION_TABLE:  # in which other programs may have a row as well
                revisions &= set(REVISIONS)
            if len(revisions) == 1:
                return revisions.pop(), (), table
    raise DatabaseError(
        f"the version of dataminer's tables in schema {schema} is unknown",
        f"if this dataminer last used them, have their owner run CREATE TABLE IF NOT EXISTS"
        f" {quoted(schema)}.{VERSION_TABLE} (version_num varchar(32) PRIMARY KEY); INSERT INTO"
        f" {quoted(schema)}.{VERSION_TABLE} VALUES ('{HEAD}'); or restore them from a backup",
    )


def require_tables(session: Connection) -> str | None:
    """Return the schema of the tables; raise an error unless they are dataminer's and current.

    Raises
    ------
    NoTables
        If there are none yet.
    DatabaseError
        If they belong to another program, or to an older or a newer dataminer.
    """
    check(tables := find_tables(session))
    if tables.revision is None:
        raise NoTables
    if tables.revision != HEAD:
        raise DatabaseError(
            f"the database's tables are from an older dataminer (revision {tables.revision})",
            "upgrade them with `dataminer db upgrade`",
        )
    return tables.schema


def check(tables: Tables) -> None:
    """Raise an error if the tables must not be changed.

    Raises
    ------
    DatabaseError
        If they belong to another program, or to a newer dataminer.
    """
    if tables.foreign:
        raise DatabaseError(
            f"the database has another program's {', '.join(tables.foreign)}, where dataminer's"
            " own tables would be",
            "give dataminer a separate database (CREATE DATABASE dataminer, and name it in"
            " DATABASE_URL), or a separate schema (CREATE SCHEMA dataminer, and"
            " options=-csearch_path%3Ddataminer in the query of DATABASE_URL)",
        )
    if tables.revision is not None and tables.revision not in REVISIONS:
        raise DatabaseError(
            f"the database's tables are from a newer dataminer (revision {tables.revision})",
            "update dataminer, or name another database with DATABASE_URL",
        )
