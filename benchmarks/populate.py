"""populate with 10,000 links: seconds, statements, and how a loop of INSERTs compares.

Ours is `dataminer populate` on a file of links: as a function of this process, and as a command
with all that it imports. The loop inserts the same rows on a kept connection, one statement per
row: in one transaction, and with a transaction per video. Statements are those that the client
sends, without BEGIN, COMMIT and SET.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg2
from claims import database_named, server
from psycopg2.extras import LoggingConnection

from dataminer.cli.ingest import populate_from
from dataminer.config import InputConfig
from dataminer.db import schema
from dataminer.db.connection import Session
from dataminer.ingest.sources import collect
from dataminer.sync.claims import projects

EXAMPLES = """
examples:
  python benchmarks/populate.py
  python benchmarks/populate.py --json
  python benchmarks/populate.py --links 100000
  DATABASE_URL=postgresql://me@server/postgres python benchmarks/populate.py

Without DATABASE_URL an embedded server of its own is made in a temporary folder. With one, a
database of its own is made on that server, and dropped at the end.
"""
LOOP = [
    "INSERT INTO videos (video_id, url, source_type, source_info) VALUES (%s, %s, 'URL', '{}')"
    " ON CONFLICT DO NOTHING",
    "INSERT INTO project_videos (project_id, video_id) SELECT project_id, %s FROM projects"
    " WHERE name = %s ON CONFLICT DO NOTHING",
]


@contextmanager
def fresh_database() -> Iterator[None]:
    """Make a database with tables, which DATABASE_URL names for the time."""
    with server() as url:
        name = f"benchmark_{uuid.uuid4().hex[:12]}"
        admin = psycopg2.connect(url)
        admin.autocommit = True
        admin.cursor().execute(f"CREATE DATABASE {name}")
        try:
            with mock.patch.dict(os.environ, DATABASE_URL=database_named(url, name)):
                schema.upgrade()
                yield
        finally:
            # populate keeps a connection spare for some seconds, which DROP would refuse for
            end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            admin.cursor().execute(f"{end} AND usename = current_user", (name,))
            admin.cursor().execute(f"DROP DATABASE {name}")
            admin.close()


@contextmanager
def counted() -> Iterator[list[str]]:
    """Collect the statements that this process sends for the time."""
    sent: list[str] = []
    connect = psycopg2.connect

    class Counting(LoggingConnection, Session):
        def filter(self, message: bytes, cursor: Any) -> None:
            text = bytes(message).decode(errors="replace")
            if not text.startswith("SET "):
                sent.append(text)

    def logged(*arguments: Any, **options: Any) -> Any:
        made = connect(*arguments, **{**options, "connection_factory": Counting})
        made.initialize(io.StringIO())
        return made

    with mock.patch.object(psycopg2, "connect", logged):
        yield sent


def seconds_of(work: Callable[[], object]) -> float:
    """Return the wall time of a call, whose output is not shown."""
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        work()
    return time.perf_counter() - began


def configure(folder: Path, project: str, links: int) -> Path:
    """Write a file of links and the configuration that names it; return the configuration."""
    file = folder / f"{project}.txt"
    lines = (f"https://www.youtube.com/watch?v={project}{n:010}\n" for n in range(links))
    file.write_text("".join(lines))
    config = folder / f"{project}.yaml"
    settings = {"project": project, "store": str(folder / "data")}
    config.write_text(json.dumps({**settings, "input": {"url_files": [str(file)]}}))
    return config


def insert_one_by_one(project: str, links: int, *, together: bool) -> None:
    """Insert videos as a loop over links does, in one transaction or in one each."""
    connection = psycopg2.connect(os.environ["DATABASE_URL"])
    connection.autocommit = not together
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO projects (name) VALUES (%s)", (project,))
        for n in range(links):
            video_id = f"{project}{n:010}"
            cursor.execute(LOOP[0], (video_id, f"https://www.youtube.com/watch?v={video_id}"))
            cursor.execute(LOOP[1], (video_id, project))
    if together:
        connection.commit()
    connection.close()


def measure(links: int, folder: Path) -> dict[str, float]:
    """Measure all ways, each with a project and videos of its own."""
    found: dict[str, float] = {}
    config = configure(folder, "a", links)
    with counted() as sent:
        found["seconds"] = seconds_of(lambda: populate_from([config]))
        found["statements"] = len(sent)
        sent.clear()
        found["again_seconds"] = seconds_of(lambda: populate_from([config]))
        found["again_statements"] = len(sent)
        sent.clear()
        found["dry_run_seconds"] = seconds_of(lambda: populate_from([config], dry_run=True))
        found["dry_run_statements"] = len(sent)
    command = [sys.executable, "-m", "dataminer.cli.main", "populate", "--config"]
    other = [*command, str(configure(folder, "b", links))]
    found["command_seconds"] = seconds_of(
        lambda: subprocess.run(other, check=True, capture_output=True)
    )
    configure(folder, "c", links)
    sources = collect(InputConfig(url_files=[str(folder / "c.txt")])).sources
    add = seconds_of(lambda: projects.add_videos("c", sources))
    for name, project, together in [("one_transaction", "d", True), ("transactions", "e", False)]:
        loop = seconds_of(lambda: insert_one_by_one(project, links, together=together))  # noqa: B023
        found[f"loop_{name}_vs_ours"] = loop / add
    return found


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Round to three digits that mean something."""
    return {name: float(f"{value:.3g}") for name, value in values.items()}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument("--links", type=int, default=10_000, help="default: 10,000")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the figures."""
    options = arguments()
    with tempfile.TemporaryDirectory() as name, fresh_database():
        found = {"links": options.links, **rounded(measure(options.links, Path(name)))}
    if options.json:
        json.dump(found, sys.stdout, indent=2)
        print()
        return
    for key, value in found.items():
        print(f"{key:32} {value:>12,.6g}")


if __name__ == "__main__":
    main()
