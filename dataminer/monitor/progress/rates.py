"""The rate of a stage: one measure for runs, ``dataminer monitor`` and its page.

Rows say when each result was made and how long it took. A rate is measured only over time in which
a job worked, so pauses, suspended machines and waits for a source do not lower it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any

from dataminer.db.connection import transaction

WINDOW = 600.0  # seconds of work over which a rate is measured
BRIDGED = 60.0  # seconds between two results that still count as work, such as the start of a job
_LEAST = 5.0  # seconds of work that a rate needs to be meaningful
_FREAK = 10.0  # times the usual duration for a length: a longer one means that the machine slept
ALIVE = 300.0  # seconds: a claim with an older heartbeat does not count as work

_COUNTS = """
SELECT p.name, count(*) FILTER (WHERE pv.status IN ('FILTERED', 'FILTERED_EMPTY', 'FAILED')),
    count(*) FILTER (WHERE pv.status IN ('FILTERED', 'FILTERED_EMPTY')),
    coalesce(bool_or(pv.heartbeat_at > since.alive), false),
    coalesce(bool_or(v.heartbeat_at > since.alive), false),
    coalesce(extract(epoch FROM max(greatest(pv.updated_at, v.updated_at))), 0)::float,
    extract(epoch FROM clock_timestamp())::float,
    count(*) FILTER (WHERE v.status IN ('PENDING', 'DOWNLOADING')) AS videos_pending,
    count(*) FILTER (WHERE v.status IN ('DOWNLOADED', 'EXTRACTING', 'EXTRACTED'))
        AS videos_downloaded,
    count(*) FILTER (WHERE v.status = 'EXTRACTED') AS videos_extracted,
    count(*) FILTER (WHERE v.status = 'FAILED' OR pv.status = 'FAILED') AS videos_failed,
    coalesce(sum(v.frame_count) FILTER (WHERE v.status = 'EXTRACTED'), 0)::bigint
        AS extracted_frames,
    coalesce(sum(pv.passed_frames) FILTER (WHERE pv.status IN ('FILTERED', 'FILTERED_EMPTY')), 0)
        ::bigint AS filtered_frames
FROM projects p JOIN project_videos pv USING (project_id) JOIN videos v USING (video_id),
    (SELECT clock_timestamp() - make_interval(secs => %(alive)s) AS alive) since
WHERE p.name = ANY(%(names)s) GROUP BY p.name
"""
# A row that is not claimed was last changed when it ended. The latest rows are enough for a rate.
_ENDED = """
SELECT name, ended, seconds FROM (
    SELECT p.name, t.ended, coalesce((pv.costs->'filter'->>'seconds')::float, 0) AS seconds,
        row_number() OVER (PARTITION BY p.name ORDER BY t.ended DESC) AS place
    FROM projects p JOIN project_videos pv USING (project_id), LATERAL (SELECT
        coalesce((pv.costs->'filter'->>'ended_at')::float, extract(epoch FROM pv.updated_at)::float)
            AS ended) t
    WHERE p.name = ANY(%(names)s) AND pv.status IN ('FILTERED', 'FILTERED_EMPTY', 'FAILED')) r
WHERE place <= 1000
"""


@dataclass(frozen=True)
class Ended:
    """A result of a stage.

    Parameters
    ----------
    at : float
        When it was made, in seconds since 1970.
    seconds : float
        How long it took; 0 if unknown.
    work : float
        The amount of work, in any unit.
    size : float
        Its bytes or frames.
    """

    at: float
    seconds: float = 0.0
    work: float = 1.0
    size: float = 0.0


@dataclass(frozen=True)
class Speed:
    """The rate of a stage per second of work; zeros if no job works.

    Parameters
    ----------
    results, work, size : float
        See :class:`Ended`.
    """

    results: float = 0.0
    work: float = 0.0
    size: float = 0.0


@dataclass(frozen=True)
class Rate:
    """A project's rate.

    Parameters
    ----------
    through : int
        Videos whose filter has ended, including failed ones.
    filtered : int
        Those of them that were filtered successfully.
    per_minute : float
        Videos finished per minute, over at most the last ten minutes of work; 0 if no job works.
    eta_seconds : float or None
        Seconds until the last video is finished; None if unknown.
    counters : dict
        Current counters of the project's videos: those in the project's row may lag behind.
    """

    through: int
    filtered: int
    per_minute: float
    eta_seconds: float | None
    counters: dict[str, int] = field(default_factory=dict)


def speed(results: Iterable[Ended], now: float, *, at_work: bool, idle: bool = False) -> Speed:
    """Measure the rate of results over the last ten minutes of work.

    Parameters
    ----------
    results : iterable of Ended
        The results of a stage.
    now : float
        The time, in seconds since 1970.
    at_work : bool
        Whether a job works on another result of this stage at the moment.
    idle : bool
        Whether no job works on anything: then the future rate is unknown.
    """
    latest = sorted(_awake(list(results)), key=lambda result: result.at, reverse=True)
    if idle or not latest:
        return Speed()
    active, low = 0.0, latest[0].at
    if at_work:
        # current work may take as long as the last results did: until then it lowers no rate
        longest = max(BRIDGED, *(result.seconds for result in latest))
        active = min(max(now - low, 0.0), longest)
    return _measured(latest, active, low)


def flow(results: Iterable[Ended], under_way: Iterable[Ended], now: float) -> float:
    """Measure the size per second of results and of current work so far; 0 if unknown.

    Parameters
    ----------
    results : iterable of Ended
        The results of a stage.
    under_way : iterable of Ended
        What others have received in the last ten minutes, as if they had ended now.
    now : float
        The time, in seconds since 1970.
    """
    parts = list(under_way)
    # they ran in parallel: combined into one, all of them count
    seconds = max((part.seconds for part in parts), default=0.0)
    size = sum(part.size for part in parts)
    if seconds < _LEAST:
        return 0.0
    latest = sorted(_awake(list(results)), key=lambda result: result.at, reverse=True)
    return _measured([Ended(now, seconds, size=size), *latest], 0.0, now).size


def _measured(latest: list[Ended], active: float, low: float) -> Speed:
    """Measure rates over the last ten minutes of work, of which some are known to be over."""
    count, work, size = 0, 0.0, 0.0
    for result in latest:
        if active < WINDOW:
            gap = low - result.at
            active += gap if 0 < gap <= BRIDGED else 0.0
            low = min(low, result.at)
            begin = result.at - result.seconds
            active += max(low - begin, 0.0)
            low = min(low, begin)
        elif result.at <= low:  # other results were made in parallel with those
            break
        count, work, size = count + 1, work + result.work, size + result.size
    if active < _LEAST:
        return Speed()
    return Speed(count / active, work / active, size / active)


def _awake(results: list[Ended]) -> list[Ended]:
    """Return results without the time for which their job was stopped.

    A job does not notice that it was stopped and continued, or that its file system was hanging:
    its result seems to take many times as long as any other.
    """
    each = [result.seconds / result.work for result in results if result.seconds]
    if not each:
        return results
    usual = _FREAK * median(each)
    return [
        replace(result, seconds=min(result.seconds, max(usual * result.work, _LEAST)))
        for result in results
    ]


def overlap(stages: Iterable[Iterable[Ended]]) -> float:
    """Return how much stages overlap: 1 if they run one after the other, less if in parallel.

    Parameters
    ----------
    stages : iterable of iterable of Ended
        The results per stage; those of the last ten minutes are compared.
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
    counts, ended = transaction(partial(_rows, names=list(totals)), name="monitor", keep=False)
    results = defaultdict[str, list[Ended]](list)
    for name, at, seconds in ended:
        results[name].append(Ended(at, seconds))
    none = (0, 0, False, False, 0.0, 0.0)
    return {
        name: _rate(total, results[name], *counts.get(name, (none, {})))
        for name, total in totals.items()
    }


def _rate(
    total: int, results: list[Ended], counts: tuple[Any, ...], counters: dict[str, int]
) -> Rate:
    through, filtered, at_filter, at_work, touched, now = counts
    idle = not at_filter and not at_work and now - touched > BRIDGED
    found = speed(results, now, at_work=at_filter, idle=idle).results
    left = max(total - through, 0)
    eta = left / found if found and left else None
    return Rate(through, filtered, 60 * found, eta, counters)


def _rows(
    connection: Any, names: list[str]
) -> tuple[dict[str, tuple[tuple[Any, ...], dict[str, int]]], list[tuple[str, float, float]]]:
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, {"alive": ALIVE, "names": names})
        counters = [column.name for column in cursor.description][7:]
        counts = {
            row[0]: (row[1:7], dict(zip(counters, row[7:], strict=True)))
            for row in cursor.fetchall()
        }
        cursor.execute(_ENDED, {"names": names})
        return counts, cursor.fetchall()
