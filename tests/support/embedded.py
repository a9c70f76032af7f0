"""The embedded server from outside: asked, killed and cleared away."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import psycopg2

from dataminer.db import embedded
from dataminer.db._pgaccount import STATE_DIR
from dataminer.errors import DatabaseError
from tests.support.waiting import wait_until


def clean_up(home: Path) -> None:
    """Stop what a test started, and remove what lies outside of its own folder."""
    found = home.resolve()
    (found / "host.json").unlink(missing_ok=True)
    with suppress(DatabaseError):
        embedded.stop(home)
    last = embedded.status(home)
    assert last.state in ("absent", "stopped")
    if last.socket_dir:
        shutil.rmtree(last.socket_dir, ignore_errors=True)
    if found.parent == STATE_DIR:
        shutil.rmtree(found)


def query(url: str, sql: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def pid_of(home: Path) -> int:
    pid = embedded.status(home).pid
    assert pid is not None
    return pid


def kill_server(home: Path) -> None:
    os.kill(pid_of(home), signal.SIGKILL)
    wait_until(lambda: embedded.status(home).state == "stopped")
