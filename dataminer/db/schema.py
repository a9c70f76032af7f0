"""Upgrade the database's tables to the schema of this version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from psycopg2.extensions import connection as Connection

from dataminer.db.connection import connect, explained
from dataminer.db.refusals import OWN_SCHEMA, UTF8, quoted, read_only
from dataminer.db.tables import HEAD, OLD_VERSION_TABLE, VERSION_TABLE, Tables, check, find_tables
from dataminer.errors import DatabaseError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from alembic.config import Config

LOCK = 0x646D696E  # "dmin": one migration at a time per database

_CONNECTED_TO = """
SELECT current_user, current_database(), current_schema(), current_setting('server_encoding'),
    current_setting('transaction_read_only')::bool,
    has_schema_privilege(current_schema(), 'CREATE')
"""

_GRANTED = """
SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type
FROM pg_class, aclexplode(relacl) WHERE oid = to_regclass(:table) AND grantee <> relowner
"""


def upgrade() -> str:
    """Apply the missing migrations; does nothing if the tables are current.

    Returns
    -------
    str
        The revision now in place.

    Raises
    ------
    DatabaseError
        If the tables belong to a newer version or to another program, or cannot be created.
    """
    session = connect(create=True, check=False)
    try:
        with explained():
            found = find_tables(session)
            check(found)
            if found.current or (found.revision == HEAD and not _may_move(session, found)):
                return HEAD
            _refuse_unfit(session, found)
    finally:
        session.close()
    _migrate()
    return HEAD


def current() -> str | None:
    """Return the revision of dataminer's tables, or None if there are none."""
    session = connect(create=True, check=False)
    try:
        with explained():
            return find_tables(session).revision
    finally:
        session.close()


def _refuse_unfit(session: Connection, found: Tables) -> None:
    with session.cursor() as cursor:
        cursor.execute(_CONNECTED_TO)
        ((role, database, schema, encoding, only_read, may_create),) = cursor.fetchall()
    role, database = quoted(role), quoted(database)
    if only_read:
        raise read_only(f"database {database} by role {role}", role, database)
    if found.revision is not None:
        return
    own = OWN_SCHEMA.format(role=role, database=database)
    if schema is None or schema.startswith("pg_temp"):
        raise DatabaseError(
            f"no schema of the search_path of role {role} exists in database {database}",
            f"have an administrator run {own}",
        )
    if not may_create:
        raise DatabaseError(
            f"role {role} may not create tables in schema {schema} of database {database}",
            f"have an administrator run GRANT CREATE ON SCHEMA {quoted(schema)} TO {role}; or"
            f" {own}",
        )
    if encoding not in ("UTF8", "SQL_ASCII"):  # titles may be in any language
        raise DatabaseError(
            f"database {database} has the encoding {encoding}, which cannot hold all titles",
            f"have another one created: {UTF8}",
        )


def _may_move(session: Connection, found: Tables) -> bool:
    """Whether the role may rename the version table; otherwise another role will."""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE')"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = %s",
            (found.schema, found.version_table),
        )
        ((may,),) = cursor.fetchall()
        return bool(may)


def _migrate() -> None:
    import sqlalchemy as sa
    from alembic import command

    engine = sa.create_engine(
        "postgresql+psycopg2://", creator=lambda: connect(check=False), poolclass=sa.NullPool
    )
    with _unwrapped(), engine.begin() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        session: Any = connection.connection.driver_connection
        found = find_tables(session)  # Another run may have been faster
        check(found)
        if found.schema:  # The search_path may now begin with a schema that was created since
            connection.execute(
                sa.text("SELECT set_config('search_path', quote_ident(:name), true)"),
                {"name": found.schema},
            )
        if found.version_table == OLD_VERSION_TABLE:
            _move_version(connection, found.revision)
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _move_version(connection: sa.Connection, revision: str | None) -> None:
    """Move the revision out of the table that all programs with Alembic use by default."""
    import sqlalchemy as sa

    rows = connection.execute(sa.text(f"SELECT version_num FROM {OLD_VERSION_TABLE}")).all()
    if len(rows) == 1:
        for change in (
            f"ALTER TABLE {OLD_VERSION_TABLE} RENAME TO {VERSION_TABLE}",
            f"ALTER INDEX IF EXISTS {OLD_VERSION_TABLE}_pkc RENAME TO {VERSION_TABLE}_pkc",
        ):
            connection.execute(sa.text(change))
        return
    connection.execute(
        sa.text(f"CREATE TABLE {VERSION_TABLE} (version_num varchar(32) PRIMARY KEY)")
    )
    connection.execute(
        sa.text(f"INSERT INTO {VERSION_TABLE} VALUES (:revision)"), {"revision": revision}
    )
    for who, what in connection.execute(sa.text(_GRANTED), {"table": OLD_VERSION_TABLE}).all():
        connection.execute(sa.text(f"GRANT {what} ON {VERSION_TABLE} TO {who}"))


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Explain the server's refusals under SQLAlchemy as well."""
    import sqlalchemy as sa

    try:
        yield
    except sa.exc.DBAPIError as error:
        if error.orig is None:
            raise
        with explained():
            raise error.orig from None


def _alembic() -> Config:
    from alembic.config import Config

    config = Config()
    folder = str(files("dataminer.db") / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))  # it interpolates
    return config
