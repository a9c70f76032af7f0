"""Claims with 100,000 videos in the table, and the counters of a project with as many.

Ours against (a) one bare UPDATE by key on a kept connection, and (b) what a worker that polls does:
SELECT ... ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED, then UPDATE; (b) is measured on the
tables as dataminer makes them and also without the index that claims have. A cycle is a claim and
its end. Ours in batches keep a connection; by name, as jobs do, they open one each time ("short").
The counters: ours, one statement, against a program that fetches the rows, all at once or one by
one, and counts them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from dataminer.db import connection as database
from dataminer.db import schema
from dataminer.db.server import control
from dataminer.sync.claims import claim_end, claims, projects
from dataminer.sync.claims.stage_rows import DOWNLOAD

EXAMPLES = """
examples:
  python benchmarks/claims.py
  python benchmarks/claims.py --json
  python benchmarks/claims.py --videos 10000 --seconds 1
  DATABASE_URL=postgresql://me@server/postgres python benchmarks/claims.py

Without DATABASE_URL an embedded server of its own is made in a temporary folder. With one, a
database of its own is made on that server, and dropped at the end.
"""
FILL = """
INSERT INTO projects (name) VALUES ('p');
INSERT INTO videos (video_id, url, source_type, created_at)
    SELECT 'v' || n, 'https://example.org/' || n, 'URL', now() + n * interval '1 ms'
    FROM generate_series(1, {count}) n;
INSERT INTO project_videos (project_id, video_id) SELECT 1, video_id FROM videos;
"""
BARE = """
UPDATE videos SET status = 'DOWNLOADING', lease = lease + 1, attempts = attempts + 1,
    locked_by = 'me', locked_at = clock_timestamp(), heartbeat_at = clock_timestamp()
WHERE video_id = %s AND status = 'PENDING'
"""
POLL = """
SELECT video_id FROM videos WHERE status = 'PENDING'
ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""
DONE = """
UPDATE videos SET status = 'DOWNLOADED', video_path = 'x', locked_by = NULL, locked_at = NULL,
    heartbeat_at = NULL, attempts = 0 WHERE video_id = %s
"""
RECOUNT = """
SELECT v.status, pv.status, v.frame_count, pv.passed_frames
FROM project_videos pv JOIN videos v USING (video_id) WHERE pv.project_id = 1
"""
VIDEO_IDS = "SELECT video_id FROM project_videos WHERE project_id = 1"
ONE_ROW = f"{RECOUNT} AND pv.video_id = %s"
STORE = """
UPDATE projects SET total_videos = %s, videos_pending = %s, videos_downloaded = %s,
    videos_extracted = %s, videos_failed = %s, extracted_frames = %s, filtered_frames = %s
WHERE project_id = 1
"""
ONE_VIDEO = "UPDATE videos SET frame_count = coalesce(frame_count, 0) + 1 WHERE video_id = 'v1'"
Connection = Any


@contextmanager
def fresh_database(count: int) -> Iterator[Connection]:
    """Make a database with ``count`` videos, set DATABASE_URL, and give a kept connection."""
    with server() as url:
        name = f"benchmark_{uuid.uuid4().hex[:12]}"
        admin = psycopg2.connect(url)
        admin.autocommit = True
        admin.cursor().execute(f"CREATE DATABASE {name}")
        before = os.environ.get("DATABASE_URL")
        os.environ["DATABASE_URL"] = database_named(url, name)
        try:
            schema.upgrade()
            with closing(psycopg2.connect(os.environ["DATABASE_URL"])) as kept:
                kept.autocommit = True
                kept.cursor().execute(FILL.format(count=count))
                kept.cursor().execute("VACUUM ANALYZE")
                yield kept
        finally:
            os.environ.pop("DATABASE_URL")
            if before is not None:
                os.environ["DATABASE_URL"] = before
            # not WITH (FORCE), which is refused while an autovacuum worker is at work there
            admin.cursor().execute(f"DROP DATABASE {name}")
            admin.close()


@contextmanager
def server() -> Iterator[str]:
    """Give the URL of the server that DATABASE_URL names, or of an embedded one for the time."""
    if os.environ.get("DATABASE_URL"):
        yield database.database_url().reveal()
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "postgres"
        try:
            yield control.start(home)
        finally:
            control.stop(home)
            # as root the data lies elsewhere: the server's own user cannot enter a private folder
            shutil.rmtree(home.resolve())


def database_named(url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    rest, _, query = url.partition("?")
    return f"{rest.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


def rate(step: Callable[[], int], seconds: float) -> float:
    """Return how many of what a step counts are done a second."""
    step()
    done, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        done += step()
    return done / spent


def bare_claims(kept: Connection) -> Callable[[], int]:
    """One UPDATE by key, on a kept connection, each its own transaction."""
    cursor, numbers = kept.cursor(), itertools.count(1)

    def step() -> int:
        cursor.execute(BARE, (f"v{next(numbers)}",))
        assert cursor.rowcount == 1
        return 1

    return step


def bare_cycle(kept: Connection) -> Callable[[], int]:
    """The same, and a second UPDATE that ends the claim."""
    claim, cursor, numbers = bare_claims(kept), kept.cursor(), itertools.count(1)

    def step() -> int:
        claim()
        cursor.execute(DONE, (f"v{next(numbers)}",))
        return 1

    return step


def poll_claims(kept: Connection) -> Callable[[], int]:
    """What a worker that polls does to claim: SELECT ... SKIP LOCKED, UPDATE, COMMIT."""

    def step() -> int:
        with kept.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(POLL)
            cursor.execute(BARE, cursor.fetchone())
            cursor.execute("COMMIT")
        return 1

    return step


def poll_cycle(kept: Connection) -> Callable[[], int]:
    """The same, and an UPDATE that ends the claim."""

    def step() -> int:
        with kept.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(POLL)
            (video_id,) = cursor.fetchone()
            cursor.execute(BARE, (video_id,))
            cursor.execute("COMMIT")
            cursor.execute(DONE, (video_id,))
        return 1

    return step


def batch_claims(size: int) -> Callable[[], int]:
    """Ours, a number of new videos at once."""
    numbers = itertools.count(1)

    def step() -> int:
        assert len(claim_batch(numbers, size)) == size
        return size

    return step


def named_claims() -> Callable[[], int]:
    """Ours, by name, as a job of Snakemake claims: a connection of its own each time."""
    numbers = itertools.count(1)

    def step() -> int:
        assert named(next(numbers))
        return 1

    return step


def batch_cycle(size: int) -> Callable[[], int]:
    """Ours: claim a batch, finish each."""
    numbers = itertools.count(1)

    def step() -> int:
        for held in claim_batch(numbers, size):
            finish(held)
        return size

    return step


def claim_batch(numbers: Iterator[int], size: int) -> list[claims.Claim]:
    """Claim the next videos in one statement, as a worker that fetches several does."""
    new = claims.claim_new(f"v{number}" for number in itertools.islice(numbers, size))
    return [held for held, _ in new.values()]


def named_cycle() -> Callable[[], int]:
    """Ours, by name: claim on a connection of its own, finish on another."""
    numbers = itertools.count(1)

    def step() -> int:
        held = named(next(numbers))
        assert held
        forget_spare()
        finish(held)
        forget_spare()
        return 1

    return step


def named(number: int) -> claims.Claim | None:
    """Claim one video by name."""
    return claims.claim(DOWNLOAD, {"video_id": f"v{number}"}, stale_seconds=120)


def finish(held: claims.Claim) -> None:
    """Finish a claim, with nothing to publish."""
    claim_end.finish(held, "DOWNLOADED", {"video_path": "x"}, lambda: None)


def forget_spare() -> None:
    """Close the connection that waits for a next transaction, as jobs' processes do by ending."""
    while database._spares:
        database._spares.pop().connection.close()


def reset(kept: Connection, *, indexed: bool = True) -> None:
    """Put all videos back, and their table in order."""
    with kept.cursor() as cursor:
        cursor.execute("ALTER TABLE videos DISABLE TRIGGER transition")
        cursor.execute(
            "UPDATE videos SET status = 'PENDING', locked_by = NULL, locked_at = NULL,"
            " heartbeat_at = NULL, attempts = 0 WHERE status <> 'PENDING' OR attempts > 0"
        )
        cursor.execute("ALTER TABLE videos ENABLE TRIGGER transition")
        cursor.execute("DROP INDEX IF EXISTS ix_videos_claimable")
        if indexed:
            cursor.execute(
                "CREATE INDEX ix_videos_claimable ON videos (status, created_at)"
                " WHERE status IN ('PENDING', 'DOWNLOADED')"
            )
        cursor.execute("VACUUM ANALYZE videos")


def measure_claims(kept: Connection, seconds: float, rounds: int) -> dict[str, float]:
    """Measure every way to claim, in turns; the median of the rounds counts."""
    ways: dict[str, tuple[Callable[[], Callable[[], int]], bool]] = {
        "bare_claims": (lambda: bare_claims(kept), True),
        "poll_claims": (lambda: poll_claims(kept), True),
        "poll_no_index_claims": (lambda: poll_claims(kept), False),
        "ours_batch1_claims": (lambda: batch_claims(1), True),
        "ours_batch20_claims": (lambda: batch_claims(20), True),
        "ours_by_name_claims": (named_claims, True),
        "bare_cycles": (lambda: bare_cycle(kept), True),
        "poll_cycles": (lambda: poll_cycle(kept), True),
        "poll_no_index_cycles": (lambda: poll_cycle(kept), False),
        "ours_batch1_cycles": (lambda: batch_cycle(1), True),
        "ours_batch20_cycles": (lambda: batch_cycle(20), True),
        "ours_short_cycles": (named_cycle, True),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (way, indexed) in ways.items():
            reset(kept, indexed=indexed)
            rates[name].append(rate(way(), seconds))
            forget_spare()
    reset(kept)
    return {name: statistics.median(found) for name, found in rates.items()}


def recount(kept: Connection, rows: Callable[[Any], Iterable[Any]]) -> None:
    """Count a project's rows in Python, and store what comes out."""
    total = pending = downloaded = extracted = failed = frames = passed = 0
    with kept.cursor() as cursor:
        for status, in_project, frame_count, passed_frames in rows(cursor):
            total += 1
            pending += status in ("PENDING", "DOWNLOADING")
            downloaded += status in ("DOWNLOADED", "EXTRACTING", "EXTRACTED")
            failed += "FAILED" in (status, in_project)
            if status == "EXTRACTED":
                extracted += 1
                frames += frame_count or 0
            if in_project in ("FILTERED", "FILTERED_EMPTY"):
                passed += passed_frames or 0
        counted = (total, pending, downloaded, extracted, failed, frames, passed)
        cursor.execute(STORE, counted)


def all_at_once(cursor: Any) -> Iterable[Any]:
    """Fetch all rows with one query."""
    cursor.execute(RECOUNT)
    return cursor.fetchall()  # type: ignore[no-any-return]


def one_by_one(cursor: Any) -> Iterator[Any]:
    """Fetch each video's row with a query of its own, as a loop over objects does."""
    cursor.execute(VIDEO_IDS)
    for (video_id,) in cursor.fetchall():
        cursor.execute(ONE_ROW, (video_id,))
        yield cursor.fetchone()


def seconds_of(work: Callable[[], None], repeats: int) -> float:
    """Return the median wall time of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure_counters(kept: Connection, repeats: int) -> dict[str, float]:
    """Measure the counter refresh against the recount."""

    def changed(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            kept.cursor().execute(ONE_VIDEO)
            work()

        return run

    return {
        "refresh_seconds": seconds_of(changed(lambda: projects.refresh([1])), repeats),
        "recount_seconds": seconds_of(changed(lambda: recount(kept, all_at_once)), repeats),
        "recount_one_by_one_seconds": seconds_of(changed(lambda: recount(kept, one_by_one)), 1),
    }


def ratios(found: dict[str, float]) -> dict[str, float]:
    """Return ours over theirs; above 1 ours does more a second."""
    ours = ("batch1", "batch20")
    table = {
        f"{kind}_{name}_vs_{other}": found[f"ours_{name}_{kind}"] / found[f"{other}_{kind}"]
        for kind in ("claims", "cycles")
        for name in (*ours, "by_name" if kind == "claims" else "short")
        for other in ("bare", "poll", "poll_no_index")
    }
    for name in ("recount", "recount_one_by_one"):
        table[f"counters_{name}_vs_refresh"] = found[f"{name}_seconds"] / found["refresh_seconds"]
    return table


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Round to three digits that mean something."""
    return {name: float(f"{value:.3g}") for name, value in values.items()}


def print_table(found: dict[str, float], compared: dict[str, float], videos: int) -> None:
    """Print the figures for people."""
    print(f"{videos:,} videos in the table\n")
    for title, values in (("a second, or seconds", found), ("ours over theirs", compared)):
        print(title)
        for name, value in rounded(values).items():
            print(f"  {name:36} {value:>12,.6g}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, no table")
    parser.add_argument("--videos", type=int, default=100_000, help="rows (default: 100,000)")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each way and round")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is measured")
    return parser.parse_args()


def main() -> None:
    """Measure, and print the figures."""
    options = arguments()
    with fresh_database(options.videos) as kept:
        found = measure_counters(kept, repeats=5)
        found |= measure_claims(kept, options.seconds, options.rounds)
    compared = ratios(found)
    if options.json:
        json.dump({"videos": options.videos, **rounded(compared)}, sys.stdout, indent=2)
        print()
    else:
        print_table(found, compared, options.videos)


if __name__ == "__main__":
    main()
