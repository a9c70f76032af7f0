"""The pauses and budgets of all sources: show them, and reset the breakers."""

from __future__ import annotations

from typing import Any

from psycopg2.extensions import connection as Connection
from psycopg2.extras import RealDictCursor

from dataminer.db.connection import reading, transaction
from dataminer.sync.rate_limit import statements
from dataminer.urls import masked_row


def read_budget() -> dict[str, list[dict[str, Any]]]:
    """Return ``pauses``, the sources that refused, and ``budgets``, as the database has them."""
    parts = {}
    with reading("budget") as session, session.cursor(cursor_factory=RealDictCursor) as cursor:
        for name, query in (("pauses", statements.PAUSES), ("budgets", statements.BUDGETS)):
            cursor.execute(query)
            parts[name] = [masked_row(row) for row in cursor.fetchall()]
    return parts


def reset(source: str | None = None) -> list[str]:
    """Let requests to all sources, or one, begin at once; return those that paused."""

    def work(connection: Connection) -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute(statements.RESET, {"source": source})
            sources = sorted(row[0] for row in cursor.fetchall())
            cursor.execute(statements.WAIT_NO_LONGER)
            return sources

    return transaction(work, name="budget")
