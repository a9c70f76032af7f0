"""Processes that share rows while one after another is killed: each row must be done once."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psycopg2

from dataminer.config import MonitorConfig
from dataminer.files.publishing import publish_dir, staging_dir
from dataminer.sync.claims import claim_end, claims, projects
from dataminer.sync.claims.claims import Claim, LeaseLost
from dataminer.sync.recovery.stale_claims import recover_stale
from tests.support.postgres import execute
from tests.support.rows import Given

STALE = 1.0  # seconds without a heartbeat
MONITOR = MonitorConfig(heartbeat_seconds=0.2, stale_threshold_minutes=STALE / 60)
PATIENCE = 120  # seconds without an end until a storm is given up
# Dead in the middle of the row's transaction: none of it happened, or all of it.
_LOG = """
CREATE TABLE accepted (video_id varchar, lease bigint);
CREATE FUNCTION log_accepted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO accepted VALUES (NEW.video_id, NEW.lease);
    RETURN NULL;
END $$;
CREATE TRIGGER log_accepted AFTER UPDATE OF status ON videos FOR EACH ROW
WHEN (NEW.status = 'DOWNLOADED') EXECUTE FUNCTION log_accepted();
"""
_LEFT = "SELECT count(*) FROM videos WHERE status <> 'DOWNLOADED'"
_READY = "SELECT video_id FROM videos WHERE status = 'PENDING' ORDER BY random() LIMIT {}"
_HELD = "SELECT count(*) FROM videos WHERE locked_by IS NOT NULL"
Ask = Callable[[str], list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Storm:
    """How hard it blows.

    Parameters
    ----------
    rows, workers : int
        Rows to begin with, and processes that work on them.
    least_kills : int
        More rows come for as long as fewer workers have been killed.
    kill_every : float
        Seconds between two kills.
    stalls : float
        Share of rows whose worker sleeps past the stale threshold, and comes back late.
    """

    rows: int
    workers: int
    least_kills: int
    kill_every: float
    stalls: float = 0.0


@dataclass(frozen=True)
class Aftermath:
    """What a storm left.

    Parameters
    ----------
    kills : int
        Workers killed.
    seconds : float
        How long it took.
    accepted : list of tuple
        Video and lease of each result that was recorded.
    leases : dict
        By video, the lease of its row.
    published : dict
        By video, the lease under which the folder was made that lies in place.
    late : int
        Results that were refused.
    open_claims : int
        Rows that still say who holds them.
    """

    kills: int
    seconds: float
    accepted: list[tuple[str, int]]
    leases: dict[str, int]
    published: dict[str, int]
    late: int
    open_claims: int

    @property
    def most_accepted(self) -> int:
        """The most results that were recorded for one row."""
        return max(Counter(video_id for video_id, _ in self.accepted).values())

    @property
    def claimed_again(self) -> int:
        """How many rows were claimed more than once."""
        return sum(lease > 1 for lease in self.leases.values())


def rage(url: str, store: Path, storm: Storm) -> Aftermath:
    """Let a storm rage over the database that DATABASE_URL names, too.

    One worker is always late: it is not killed, and comes back once its row is another's.
    """
    execute(url, _LOG)
    (store / "late").mkdir(parents=True)
    _add(storm.rows, 0)
    kills, seconds = _run(url, store, storm)
    return Aftermath(
        kills=kills,
        seconds=seconds,
        accepted=execute(url, "SELECT video_id, lease FROM accepted"),
        leases=dict(execute(url, "SELECT video_id, lease FROM videos")),
        published={path.name: int((path / "lease").read_text()) for path in store.glob("v*")},
        late=len(list((store / "late").glob("*"))),
        open_claims=execute(url, _HELD)[0][0],
    )


def _run(url: str, store: Path, storm: Storm) -> tuple[int, float]:
    """Run the workers, killing one every so often; return how many were, and for how long."""
    context = multiprocessing.get_context("fork")
    chance = random.Random(0)
    seeds = iter(range(1_000_000))
    processes: list[BaseProcess] = []

    def started(target: Callable[..., None], *arguments: object) -> BaseProcess:
        process = context.Process(target=target, args=(url, store, *arguments))
        process.start()
        processes.append(process)
        return process

    def work() -> BaseProcess:
        return started(_work, next(seeds), storm.stalls)

    begun, kills, given = time.monotonic(), 0, storm.rows
    with _asking(url) as ask:
        try:
            sleeper = started(_come_late)
            while ask(_HELD) == [(0,)]:
                assert sleeper.is_alive()
                time.sleep(0.01)
            workers = [work() for _ in range(storm.workers)]
            while (left := ask(_LEFT)[0][0]) or kills < storm.least_kills:
                assert time.monotonic() - begun < PATIENCE, f"{left} rows are left"
                if left < 10 * storm.workers and kills < storm.least_kills:
                    _add(10 * storm.workers, given)
                    given += 10 * storm.workers
                time.sleep(storm.kill_every)
                victim = chance.randrange(storm.workers)
                workers[victim].kill()  # SIGKILL
                workers[victim].join()
                workers[victim] = work()
                kills += 1
            (store / "over").touch()
            for process in (sleeper, *workers):
                process.join(30)
                assert process.exitcode == 0
        finally:
            for process in processes:
                process.kill()
                process.join()
    return kills, time.monotonic() - begun


def _add(count: int, first: int) -> None:
    projects.add_videos("p", [Given(f"v{n:05}") for n in range(first, first + count)])


def _work(url: str, store: Path, seed: int, stalls: float) -> None:
    """Work until the storm is over; when nothing is ready, see whether somebody has died."""
    chance = random.Random(seed)
    while not (store / "over").exists():
        held = _claim(url, chance.randint(1, 4))
        for one in held:
            time.sleep(STALE * 1.5 if chance.random() < stalls else chance.uniform(0.005, 0.03))
            _do(one, store)
        if not held and not recover_stale(MONITOR):
            time.sleep(0.1)


def _claim(url: str, count: int) -> list[Claim]:
    ready = [video_id for (video_id,) in execute(url, _READY.format(count))]
    return [held for held, _ in claims.claim_new(ready).values()]


def _come_late(url: str, store: Path) -> None:
    """Claim a row, and come back with a result once somebody else has the row."""
    (held,) = _claim(url, 1)
    lease = f"SELECT lease FROM videos WHERE video_id = '{held.key['video_id']}'"
    with _asking(url) as ask:
        while ask(lease) == [(held.lease,)]:
            time.sleep(0.05)
    _do(held, store)


@contextmanager
def _asking(url: str) -> Iterator[Ask]:
    """Give what asks the database, on one connection."""
    connection = psycopg2.connect(url)
    connection.autocommit = True

    def ask(question: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(question)
            return cursor.fetchall()

    try:
        yield ask
    finally:
        connection.close()


def _do(held: Claim, store: Path) -> None:
    """Make a folder that says under which lease it was made, and publish it."""
    final = store / held.key["video_id"]
    with staging_dir(final) as staging:
        (staging / "lease").write_text(str(held.lease))
        columns = {"video_path": str(final)}
        try:
            claim_end.finish(held, "DOWNLOADED", columns, lambda: publish_dir(staging, final))
        except LeaseLost:
            (store / "late" / staging.name).touch()
