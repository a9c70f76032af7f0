"""How fast projects go, and when they will be through."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from dataminer.db.connection import transaction

WINDOW = 600.0  # seconds that a rate is taken over
_OWN = 30.0  # seconds of own looks that are worth more than the rows' times

# A video is through a project when its filter has ended, one way or another. A row that is not held
# was last touched when it ended.
_PROGRESS = """
SELECT p.name,
    count(*) FILTER (WHERE pv.status IN ('FILTERED', 'FILTERED_EMPTY', 'FAILED')) AS through,
    count(*) FILTER (WHERE pv.status IN ('FILTERED', 'FILTERED_EMPTY')) AS filtered,
    count(r.ended), coalesce(extract(epoch FROM clock_timestamp() - min(r.ended)), 0)::float
FROM projects p LEFT JOIN project_videos pv USING (project_id)
LEFT JOIN LATERAL (
    SELECT pv.updated_at AS ended
    WHERE pv.status IN ('FILTERED', 'FILTERED_EMPTY', 'FAILED')
        AND pv.updated_at > clock_timestamp() - make_interval(secs => %(window)s)
) r ON true
GROUP BY p.name
"""


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
        Videos that got through in a minute, over the last ten at most.
    eta_seconds : float or None
        Until the last video is through; None while that cannot be told.
    """

    through: int
    filtered: int
    per_minute: float
    eta_seconds: float | None


class Pace:
    """Measures rates between its own looks; before those say enough, from the rows' times."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, dict[str, int]]] = deque()

    def look(self, totals: dict[str, int], *, now: float | None = None) -> dict[str, Rate]:
        """Look at the database and return each project's rate.

        Parameters
        ----------
        totals : dict
            The number of videos of each project to return.
        now : float or None
            The time, in seconds of a monotonic clock.
        """
        rows = transaction(_progress, name="monitor")
        now = time.monotonic() if now is None else now
        self._remember(now, {name: row[0] for name, row in rows.items()})
        return {
            name: self._rate(name, total, rows[name])
            for name, total in totals.items()
            if name in rows
        }

    def _remember(self, now: float, through: dict[str, int]) -> None:
        self._looks.append((now, through))
        while self._looks[0][0] < now - WINDOW:
            self._looks.popleft()

    def _rate(self, name: str, total: int, row: tuple[int, int, int, float]) -> Rate:
        through, filtered, recent, seconds = row
        (first, before), (last, _) = self._looks[0], self._looks[-1]
        if last - first >= _OWN and name in before:
            recent, seconds = through - before[name], last - first
        per_minute = 60 * max(recent, 0) / max(seconds, 1.0)
        left = max(total - through, 0)
        eta = 60 * left / per_minute if per_minute and left else None
        return Rate(through, filtered, per_minute, eta)


def _progress(connection: Any) -> dict[str, tuple[int, int, int, float]]:
    with connection.cursor() as cursor:
        cursor.execute(_PROGRESS, {"window": WINDOW})
        return {name: tuple(row) for name, *row in cursor.fetchall()}
