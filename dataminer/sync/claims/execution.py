"""Execute statements on the rows of a stage: identifiers are put in, values are bound."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from dataminer.db.connection import transaction
from dataminer.sync.claims.owners import session_name
from dataminer.sync.claims.stage_rows import KEYS, StageRows

PATIENCE = 180.0  # seconds that a job waits for the database to come back


def query(
    text: str, values: Mapping[str, Any], *, name: str, patience: float = PATIENCE
) -> list[tuple[Any, ...]]:
    """Execute one statement without identifiers of a stage, and return its rows.

    Parameters
    ----------
    text, values : str, Mapping
        The statement, and the values to bind.
    name, patience : str, float
        As for :func:`dataminer.db.connection.transaction`.
    """

    def work(connection: Connection) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(text, values)
            return list(cursor.fetchall())

    return transaction(work, patience=patience, name=name, single=True)


def execute(
    text: str,
    stage: StageRows,
    key: Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    count: bool = False,
    patience: float = 0.0,
    keep: bool = True,
) -> Any:
    """Execute one statement on one row.

    Parameters
    ----------
    text, stage : str, StageRows
        The statement, and whose identifiers are put in, see :func:`compose`.
    key, values : Mapping
        The row's key columns, and the other values to bind.
    count : bool
        Return the number of rows instead of the first one.
    patience, keep : float, bool
        As for :func:`dataminer.db.connection.transaction`.
    """

    def work(connection: Connection) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(compose(cursor, text, stage, key), {**key, **values})
            return cursor.rowcount if count else cursor.fetchone()

    name = session_name(stage)
    return transaction(work, patience=patience, name=name, keep=keep, single=True)


def fetch_all(
    text: str,
    stage: StageRows,
    values: Mapping[str, Any],
    *,
    name: str | None = None,
    patience: float = 0.0,
    keep: bool = True,
) -> list[tuple[Any, ...]]:
    """Execute one statement on any rows, and return what it returns.

    Parameters
    ----------
    text, stage : str, StageRows
        The statement, and whose identifiers are put in, see :func:`compose`.
    values : Mapping
        The values to bind.
    name : str, optional
        The session's name in `pg_stat_activity`; by default, that of the stage.
    patience, keep : float, bool
        As for :func:`dataminer.db.connection.transaction`.
    """

    def work(connection: Connection) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(compose(cursor, text, stage, ()), values)
            return list(cursor.fetchall())

    name = name or session_name(stage)
    return transaction(work, patience=patience, name=name, keep=keep, single=True)


def compose(
    cursor: Cursor, text: str, stage: StageRows, key: Iterable[str], columns: Iterable[str] = ()
) -> str:
    """Put a stage's identifiers and the columns to set into a statement; values stay bound.

    Parameters
    ----------
    cursor : Cursor
        What will execute it.
    text : str
        One of :mod:`dataminer.sync.claims.statements`.
    stage : StageRows
        The stage.
    key : iterable of str
        The columns that name its row, bound by their names.
    columns : iterable of str
        What else is set, bound as ``column_NAME``.
    """
    parts = (text, stage, tuple(key), tuple(columns))
    if parts not in _composed:
        _composed[parts] = _compose(*parts).as_string(cursor)
    return _composed[parts]


def adapt(value: Any) -> Any:
    """Return the value of a column in the form in which it is bound."""
    return json.dumps(value) if isinstance(value, dict) else value


_composed: dict[tuple[Any, ...], str] = {}  # composing takes as long as executing


def _compose(
    text: str, stage: StageRows, key: tuple[str, ...], columns: tuple[str, ...]
) -> sql.Composed:
    matches = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in key
    ]
    assignments = [
        sql.SQL(", {} = {}").format(sql.Identifier(name), sql.Placeholder(f"column_{name}"))
        for name in columns
    ]
    return sql.SQL(text).format(
        table=sql.Identifier(stage.table),
        status=sql.Identifier(stage.status_column),
        made=sql.Identifier(stage.made) if stage.made else sql.SQL("NULL"),
        key=sql.SQL(" AND ").join(matches),
        keys=sql.SQL(", ").join(map(sql.Identifier, KEYS[stage.table])),
        columns=sql.Composed(assignments),
    )
