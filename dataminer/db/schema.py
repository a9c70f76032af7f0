"""Bring the database's tables to what this version needs."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import psycopg2

from dataminer.db.connection import connect, database_url
from dataminer.errors import DatabaseError

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0005"
LOCK = 0x646D696E  # "dmin": one migration at a time per database


def upgrade() -> str:
    """Apply the migrations that the database lacks; nothing when it is current.

    Returns
    -------
    str
        The revision now in place.

    Raises
    ------
    DatabaseError
        When the database is of a newer version than this one.
    """
    revision = current()
    if revision == HEAD:
        return revision
    if revision is not None and revision > HEAD:
        raise _too_new(revision)
    import sqlalchemy as sa
    from alembic import command

    driver_url = database_url().replace("postgresql://", "postgresql+psycopg2://", 1)
    engine = sa.create_engine(driver_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return HEAD


def current() -> str | None:
    """Return the revision of the database's tables, or None where there are none."""
    connection = connect(create=True)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT version_num FROM alembic_version")
            row = cursor.fetchone()
    except psycopg2.errors.UndefinedTable:
        return None
    finally:
        connection.close()
    return str(row[0]) if row else None


def _alembic() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("dataminer.db") / "migrations"))
    return config


def _too_new(revision: str) -> DatabaseError:
    return DatabaseError(
        f"the database's tables are of a newer dataminer (revision {revision})",
        "update dataminer, or name another database with DATABASE_URL",
    )
