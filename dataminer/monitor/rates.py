"""How fast a stage goes: the one measure for runs, ``dataminer monitor`` and its page.

Rows say when each result came and how long it took. A rate is taken over time in which somebody
worked. A pause, a suspended machine or a wait for a source is no such time, so it slows nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dataminer.db.connection import transaction

WINDOW = 600.0  # seconds of work that a rate is taken over
BRIDGED = 60.0  # seconds between two results that still count as work: a job starts, and the like
_LEAST = 5.0  # seconds of work before which a rate says nothing
ALIVE = 300.0  # seconds: a claim with an older heartbeat is no sign of work

# A row that is not held was last touched when it ended.
_PROGRESS = """
SELECT p.name, pv.status, coalesce((pv.costs->'filter'->>'ended_at')::float, t.updated) AS ended,
    coalesce((pv.costs->'filter'->>'seconds')::float, 0) AS seconds,
    coalesce(clock_timestamp() - pv.heartbeat_at < make_interval(secs => %(alive)s), false),
    coalesce(clock_timestamp() - v.heartbeat_at < make_interval(secs => %(alive)s), false),
    greatest(t.updated, extract(epoch FROM v.updated_at)::float),
    extract(epoch FROM clock_timestamp())::float
FROM projects p JOIN project_videos pv USING (project_id) JOIN videos v USING (video_id),
    LATERAL (SELECT extract(epoch FROM pv.updated_at)::float AS updated) t
"""
_THROUGH = ("FILTERED", "FILTERED_EMPTY", "FAILED")


@dataclass(frozen=True)
class Ended:
    """One result of a stage.

    Parameters
    ----------
    at : float
        When it came, in seconds since 1970.
    seconds : float
        How long it took; 0 if nobody knows.
    work : float
        How much it was, in whatever unit.
    size : float
        Its bytes, or its frames.
    """

    at: float
    seconds: float = 0.0
    work: float = 1.0
    size: float = 0.0


@dataclass(frozen=True)
class Speed:
    """How fast a stage goes, per second of work; zeros if nobody works.

    Parameters
    ----------
    results, work, size : float
        Of :class:`Ended`.
    """

    results: float = 0.0
    work: float = 0.0
    size: float = 0.0


@dataclass(frozen=True)
class Rate:
    """A project's pace.

    Parameters
    ----------
    through : int
        Videos whose filter has ended, failed ones included.
    filtered : int
        Those of them that were filtered.
    per_minute : float
        Videos that got through per minute, over the last ten minutes of work at most; 0 if nobody
        works.
    eta_seconds : float or None
        Until the last video is through; None if that is not known.
    """

    through: int
    filtered: int
    per_minute: float
    eta_seconds: float | None


def speed(results: Iterable[Ended], now: float, *, at_work: bool, idle: bool = False) -> Speed:
    """Measure how fast results come, over the last ten minutes of work.

    Parameters
    ----------
    results : iterable of Ended
        The results of a stage.
    now : float
        The time, in seconds since 1970.
    at_work : bool
        Whether somebody works on another result of this stage at this moment.
    idle : bool
        Whether nobody works on anything: then nothing is known of the future.
    """
    latest = sorted(results, key=lambda result: result.at, reverse=True)
    if idle or not latest:
        return Speed()
    active, low = 0.0, latest[0].at
    if at_work:
        # what is being made may take as long as what was made: until then it lowers no rate
        longest = max(BRIDGED, *(result.seconds for result in latest))
        active = min(max(now - low, 0.0), longest)
    count, work, size = 0, 0.0, 0.0
    for result in latest:
        gap = low - result.at
        active += gap if 0 < gap <= BRIDGED else 0.0
        low = min(low, result.at)
        begin = result.at - result.seconds
        active += max(low - begin, 0.0)
        low = min(low, begin)
        count, work, size = count + 1, work + result.work, size + result.size
        if active >= WINDOW:
            break
    if active < _LEAST:
        return Speed()
    return Speed(count / active, work / active, size / active)


def overlap(stages: Iterable[Iterable[Ended]]) -> float:
    """Return how far stages run at the same time: 1 if one after the other, else less.

    Parameters
    ----------
    stages : iterable of iterable of Ended
        The results of each stage; those of the last ten minutes are compared.
    """
    found = [list(results) for results in stages]
    latest = max((result.at for results in found for result in results), default=0.0)
    recent = [[r for r in results if r.at > latest - WINDOW] for results in found]
    apart = sum(map(_covered, recent))
    return _covered([r for results in recent for r in results]) / apart if apart else 1.0


def _covered(results: list[Ended]) -> float:
    """Return the seconds in which at least one of these results was being made."""
    covered, low = 0.0, math.inf
    for result in sorted(results, key=lambda result: result.at, reverse=True):
        begin, end = result.at - result.seconds, min(low, result.at)
        covered += max(end - begin, 0.0)
        low = min(low, begin)
    return covered


def paces(totals: dict[str, int]) -> dict[str, Rate]:
    """Return the rate of each project; ``totals`` has the number of its videos."""
    by_project = defaultdict[str, list[tuple[Any, ...]]](list)
    for name, *row in transaction(_rows, name="monitor", keep=False):
        by_project[name].append(tuple(row))
    return {name: _rate(by_project[name], total) for name, total in totals.items()}


def _rate(rows: list[tuple[Any, ...]], total: int) -> Rate:
    ended = [Ended(at, took) for status, at, took, *_ in rows if status in _THROUGH]
    filtered = sum(status in _THROUGH[:2] for status, *_ in rows)
    now = max((row[-1] for row in rows), default=0.0)
    filters, others = any(row[3] for row in rows), any(row[4] for row in rows)
    touched = max((row[5] for row in rows), default=0.0)
    idle = not filters and not others and now - touched > BRIDGED
    results = speed(ended, now, at_work=filters, idle=idle).results
    left = max(total - len(ended), 0)
    return Rate(len(ended), filtered, 60 * results, left / results if results and left else None)


def _rows(connection: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(_PROGRESS, {"alive": ALIVE})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows
