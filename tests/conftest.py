"""A real PostgreSQL for the whole session, and a database of its own for each test."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from dataminer.db import embedded, schema

ROOT = Path(__file__).parents[1]

pytest_plugins = ["tests.browser_fixture", "tests.detector_fixture", "tests.siglip_fixture"]

# A shell's background jobs ignore Ctrl-C, and so would the programs that tests start and send it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: the others are done beside them."""
    longest = ("tests/slurm/", "tests/faults/test_runs.py")

    def place(item: pytest.Item) -> int:
        return next((n for n, part in enumerate(longest) if item.nodeid.startswith(part)), 9)

    items.sort(key=place)


@pytest.fixture(scope="module", autouse=True)
def leaks_at_home() -> Iterator[None]:
    """Whatever a module's tests left open is warned of here, not in a test of another module.

    yt-dlp leaves sockets to the garbage collector when it fails. Modules that drive it say so in
    their marks, which hold only while their own tests run.
    """
    yield
    gc.collect()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server: the one that DATAMINER_TEST_DATABASE_URL names, else our own."""
    given = os.environ.get("DATAMINER_TEST_DATABASE_URL")
    if given:
        yield given
        return
    home = tmp_path_factory.mktemp("postgres") / "home"
    yield embedded.start(home)
    embedded.stop(home)
    # as root the data lies elsewhere: the server's own user cannot enter pytest's folders
    shutil.rmtree(home.resolve())


@pytest.fixture(scope="session")
def template(server: str) -> str:
    """The name of a database with the tables in it, to make others from."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    execute(server, f"CREATE DATABASE {name}")
    before = os.environ.get("DATABASE_URL")
    os.environ["DATABASE_URL"] = named(server, name)
    try:
        schema.upgrade()
    finally:
        os.environ.pop("DATABASE_URL")
        if before is not None:
            os.environ["DATABASE_URL"] = before
    return name


@pytest.fixture
def database(server: str, template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a fresh database with the tables in it, which DATABASE_URL names."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    execute(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    monkeypatch.setenv("DATABASE_URL", named(server, name))
    yield named(server, name)
    drop(server, name)


def named(url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def execute(url: str, statement: str) -> list[tuple]:
    """Run one statement on a connection of its own, outside any transaction."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def drop(url: str, name: str) -> None:
    """Drop a database that sessions of ours may still be connected to.

    Not WITH (FORCE): while an autovacuum worker is at work there, which belongs to the superuser,
    that is refused. A plain DROP sends such a worker away by itself.
    """
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    execute(url, f"{end} AND usename = current_user AND pid <> pg_backend_pid()")
    execute(url, f"DROP DATABASE {name}")
