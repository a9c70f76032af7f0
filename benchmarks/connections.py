"""Hundreds of jobs at once on one embedded server: the connections they open, and what fails.

Each process does what a job of a compute node does with the database, over TCP: look, claim, beat
while it works, finish, refresh. All begin at the same moment. Its work is a sleep.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg2

from dataminer.config import MonitorConfig
from dataminer.db import schema
from dataminer.db.server import control
from dataminer.db.server.network import ListenSettings
from dataminer.sync.claims import claim_end, claims, projects
from dataminer.sync.claims.heartbeat import kept_alive
from dataminer.sync.claims.stage_rows import DOWNLOAD

EXAMPLES = """
examples:
  python benchmarks/connections.py
  python benchmarks/connections.py --jobs 500 --work 30 --json

An embedded server of its own is made in a temporary folder, and listens on 127.0.0.1.
"""
FILL = """
INSERT INTO projects (name) VALUES ('p');
INSERT INTO videos (video_id, url, source_type)
    SELECT 'v' || n, 'https://example.org/' || n, 'URL' FROM generate_series(1, {count}) n;
INSERT INTO project_videos (project_id, video_id) SELECT 1, video_id FROM videos;
"""
OPEN = (
    "SELECT count(*) FROM pg_stat_activity WHERE usename = 'dataminer' AND pid <> pg_backend_pid()"
)


@contextmanager
def server(count: int) -> Iterator[str]:
    """Give the URL of a listening server whose database has ``count`` videos."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "postgres"
        try:
            url = control.listen(home, ListenSettings(addresses="127.0.0.1"))
            os.environ["DATABASE_URL"] = url
            schema.upgrade()
            with closing(psycopg2.connect(url)) as session, session:
                session.cursor().execute(FILL.format(count=count))
            yield url
        finally:
            control.stop(home)


def job(video_id: str, work: float, begin: Any, outcomes: Any) -> None:
    """Do one job's transactions, and tell what became of it, in seconds."""
    key, waits = {"video_id": video_id}, []
    refused = count_refusals()

    def timed(call: Any, *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        result = call(*args, **kwargs)
        waits.append(time.perf_counter() - began)
        return result

    begin.wait()
    try:
        timed(claims.read_row, DOWNLOAD, key)
        held = timed(claims.claim, DOWNLOAD, key, stale_seconds=600)
        with kept_alive(held, MonitorConfig(heartbeat_seconds=2)):
            time.sleep(work)
        timed(claim_end.finish, held, "DOWNLOADED", {"video_path": "x"}, lambda: None)
        timed(projects.refresh_of_videos, [video_id])
        outcomes.put((None, max(waits), refused[0]))
    except BaseException as error:
        outcomes.put((repr(error), 0.0, refused[0]))


def count_refusals() -> list[int]:
    """Count the connections that the server refuses to this process."""
    count, real = [0], psycopg2.connect

    def connect(*args: Any, **kwargs: Any) -> Any:
        try:
            return real(*args, **kwargs)
        except psycopg2.OperationalError:
            count[0] += 1
            raise

    mock.patch.object(psycopg2, "connect", connect).start()
    return count


def sample(url: str, seen: list[int], ended: threading.Event) -> None:
    """Note every 50 ms how many sessions are open."""
    with closing(psycopg2.connect(url)) as session:
        session.autocommit = True
        cursor = session.cursor()
        while not ended.wait(0.05):
            cursor.execute(OPEN)
            seen += [count for (count,) in cursor]


def measure(count: int, work: float) -> dict[str, float]:
    """Run a number of jobs at once; return counts and seconds."""
    with server(count) as url:
        context = multiprocessing.get_context("fork")
        begin, outcomes = context.Event(), context.Queue()
        names = [f"v{number}" for number in range(1, count + 1)]
        jobs = [context.Process(target=job, args=(name, work, begin, outcomes)) for name in names]
        for process in jobs:
            process.start()
        seen: list[int] = []
        ended = threading.Event()
        sampler = threading.Thread(target=sample, args=(url, seen, ended))
        sampler.start()
        time.sleep(1)
        begin.set()
        began = time.perf_counter()
        results = [outcomes.get() for _ in jobs]
        spent = time.perf_counter() - began
        for process in jobs:
            process.join()
        ended.set()
        sampler.join()
        with closing(psycopg2.connect(url)) as session, session.cursor() as cursor:
            cursor.execute("SHOW max_connections")
            ((limit,),) = cursor
            cursor.execute("SELECT count(*) FROM videos WHERE status = 'DOWNLOADED'")
            ((done,),) = cursor
    for failure in {error for error, _, _ in results if error}:
        print(failure)
    busy = [number for number in seen if number] or [0]
    return {
        "jobs": count,
        "max_connections": int(limit),
        "failed": count - done,
        "refused": sum(refused for _, _, refused in results),
        "open_median": statistics.median(busy),
        "open_max": max(seen, default=0),
        "longest_wait_s": round(max(wait for _, wait, _ in results), 2),
        "seconds": round(spent, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=300, help="jobs at once")
    parser.add_argument("--work", type=float, default=10, help="seconds that a job works")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    chosen = parser.parse_args()
    figures = measure(chosen.jobs, chosen.work)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:<16} {value}")


if __name__ == "__main__":
    main()
