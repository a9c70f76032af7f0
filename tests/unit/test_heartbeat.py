"""How long a claim is held on to, by a clock that the test turns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from types import SimpleNamespace

import pytest

from dataminer.config import MonitorConfig
from dataminer.errors import DatabaseError
from dataminer.sync.claims import claims, heartbeat, stage_rows
from dataminer.sync.claims.claims import Claim

HELD = Claim(stage_rows.DOWNLOAD, {"video_id": "v"}, 1, 1)
BEATS, LOST, AWAY = "answered", "taken over", "away"
HOUR = 120  # beats of 30 seconds


class Clock:
    """Time that passes only while the heartbeat waits for its next beat."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.ended = False

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.ended

    def is_set(self) -> bool:
        return self.ended


def beat_until_the_end(
    monkeypatch: pytest.MonkeyPatch, settings: MonitorConfig, answers: Iterator[str]
) -> tuple[float, bool]:
    """Beat with these answers of the database; return the seconds it took, and whether it lost."""
    clock, killed = Clock(), []

    def beat(held: Claim) -> bool:
        assert held is HELD
        answer = next(answers, None)
        clock.ended = answer is None  # the work is done
        if answer == AWAY:
            raise DatabaseError("the database cannot be reached", "wait")
        return answer != LOST

    monkeypatch.setattr(claims, "beat", beat)
    monkeypatch.setattr(claims, "is_recorded", lambda held: False)
    monkeypatch.setattr(heartbeat, "time", clock)
    monkeypatch.setattr(heartbeat, "threading", SimpleNamespace(Event=lambda: clock))
    monkeypatch.setattr(
        heartbeat, "os", SimpleNamespace(getpid=int, kill=lambda *a: killed.append(a))
    )
    beating = heartbeat.Heartbeat(HELD, settings)
    beating.run()
    assert bool(killed) is beating.lost
    return clock.now - 5000.0, beating.lost


def of(*runs: tuple[int, str]) -> Iterator[str]:
    """So many answers of each kind."""
    return chain.from_iterable(repeat(answer, count) for count, answer in runs)


@pytest.mark.parametrize(
    ("minutes", "answers", "seconds"),
    [
        # each answer renews the time: hours of work outlive any one beat that fails
        (2, [(8 * HOUR, BEATS)], None),
        (2, [(HOUR, BEATS), (1, AWAY), (HOUR, BEATS)], None),
        (2, [(HOUR, BEATS), (5, AWAY), (1, BEATS), (5, AWAY), (1, BEATS)], None),
        # a database that is away has the time that every job gives it: three minutes
        (2, [(5, AWAY), (1, BEATS)], None),
        (2, [(6, AWAY)], 180),
        (2, [(HOUR, BEATS), (6, AWAY)], 3600 + 180),
        # with a longer stale time, eight tenths of that
        (10, [(HOUR, BEATS), (15, AWAY), (1, BEATS)], None),
        (10, [(HOUR, BEATS), (16, AWAY)], 3600 + 480),
        # a claim that somebody else has is lost at once
        (2, [(1, LOST)], 30),
        (2, [(HOUR, BEATS), (1, LOST)], 3600 + 30),
    ],
)
def test_a_claim_is_held_for_as_long_as_nobody_else_may_have_it(
    monkeypatch: pytest.MonkeyPatch,
    minutes: float,
    answers: list[tuple[int, str]],
    seconds: float | None,
) -> None:
    settings = MonitorConfig(stale_threshold_minutes=minutes)
    took, lost = beat_until_the_end(monkeypatch, settings, of(*answers))
    assert lost is (seconds is not None)
    if lost:
        assert took == seconds
