"""Sixteen processes on 2,000 rows, one of them killed every 200 ms: each row is done once."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg2
import pytest

from dataminer.config import MonitorConfig
from dataminer.files import publish_dir, staging_dir
from dataminer.sync import claims, projects
from dataminer.sync.claims import Claim, LeaseLost
from dataminer.sync.recover import recover_stale
from dataminer.sync.stages import DOWNLOAD
from tests.support.postgres import execute
from tests.support.rows import Given

WORKERS, ROWS = 16, 2000
STALE = 1.0  # seconds without a heartbeat
STALLS = 0.01  # share of rows whose worker sleeps past that, and comes back late
MONITOR = MonitorConfig(heartbeat_seconds=0.2, stale_threshold_minutes=STALE / 60)
KILL_EVERY = 0.2  # seconds
PATIENCE = 120  # seconds until the test gives up
# Dead in the middle of the row's transaction: none of it happened, or all of it.
LOG = """
CREATE TABLE accepted (video_id varchar, lease bigint);
CREATE FUNCTION log_accepted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO accepted VALUES (NEW.video_id, NEW.lease);
    RETURN NULL;
END $$;
CREATE TRIGGER log_accepted AFTER UPDATE OF status ON videos FOR EACH ROW
WHEN (NEW.status = 'DOWNLOADED') EXECUTE FUNCTION log_accepted();
"""
LEFT = "SELECT count(*) FROM videos WHERE status <> 'DOWNLOADED'"


def worker(url: str, store: Path, seed: int) -> None:
    """Work until nothing is left; when nothing is ready, see whether somebody has died."""
    chance = random.Random(seed)
    ask = asker(url)
    while ask(LEFT) != [(0,)]:
        held = claims.claim_batch(DOWNLOAD, chance.randint(1, 4))
        for one in held:
            time.sleep(STALE * 1.5 if chance.random() < STALLS else chance.uniform(0.005, 0.03))
            do(one, store)
        if not held and not recover_stale(MONITOR):
            time.sleep(0.2)


def asker(url: str) -> Callable[[str], list[tuple]]:
    """Return what asks the database, on one connection."""
    connection = psycopg2.connect(url)
    connection.autocommit = True

    def ask(question: str) -> list[tuple]:
        with connection.cursor() as cursor:
            cursor.execute(question)
            return cursor.fetchall()

    return ask


def do(held: Claim, store: Path) -> None:
    """Make a folder that says under which lease it was made, and publish it."""
    final = store / held.key["video_id"]
    with staging_dir(final) as staging:
        (staging / "lease").write_text(str(held.lease))
        columns = {"video_path": str(final)}
        try:
            claims.finish(held, "DOWNLOADED", columns, lambda: publish_dir(staging, final))
        except LeaseLost:
            (store / "late" / staging.name).touch()


@pytest.mark.slow
def test_nothing_is_lost_or_done_twice_while_processes_are_killed(database, tmp_path):
    projects.add_videos("p", [Given(f"v{n:04}") for n in range(ROWS)])
    execute(database, LOG)
    store = tmp_path / "store"
    (store / "late").mkdir(parents=True)
    kills, seconds = run_under_fire(database, store)
    accepted = execute(database, "SELECT video_id, lease FROM accepted")
    leases = dict(execute(database, "SELECT video_id, lease FROM videos"))
    published = {path.name: int((path / "lease").read_text()) for path in store.glob("v*")}
    times = Counter(video_id for video_id, _ in accepted)
    again = sum(lease > 1 for lease in leases.values())
    late = len(list((store / "late").glob("*")))
    print(
        f"\n{ROWS} rows, {WORKERS} processes, {kills} kills in {seconds:.1f} s:"
        f" {len(accepted)} accepted results, {max(times.values())} at most a row,"
        f" {again} rows claimed more than once (lease up to {max(leases.values())}),"
        f" {late} late results refused, {ROWS - len(published)} lost"
    )
    assert kills >= 10
    assert execute(database, LEFT) == [(0,)]
    assert set(times.values()) == {1}
    assert dict(accepted) == leases == published
    assert execute(database, "SELECT count(*) FROM videos WHERE locked_by IS NOT NULL") == [(0,)]


def run_under_fire(url: str, store: Path) -> tuple[int, float]:
    """Run the workers, killing one every so often; return how many were, and for how long."""
    context = multiprocessing.get_context("fork")
    chance = random.Random(0)
    seeds = iter(range(10_000))

    def started() -> multiprocessing.process.BaseProcess:
        process = context.Process(target=worker, args=(url, store, next(seeds)))
        process.start()
        return process

    workers = [started() for _ in range(WORKERS)]
    begun, kills, ask = time.monotonic(), 0, asker(url)
    try:
        while ask(LEFT) != [(0,)]:
            assert time.monotonic() - begun < PATIENCE, ask(LEFT)
            time.sleep(max(0.0, begun + (kills + 1) * KILL_EVERY - time.monotonic()))
            victim = chance.randrange(WORKERS)
            workers[victim].kill()  # SIGKILL
            workers[victim].join()
            workers[victim] = started()
            kills += 1
        for process in workers:
            process.join(30)
        return kills, time.monotonic() - begun
    finally:
        for process in workers:
            process.kill()
            process.join()
