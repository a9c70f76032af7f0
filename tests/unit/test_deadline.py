"""When an attempt at a download is ended, by a clock that the test turns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from dataminer.config.models import DownloadConfig
from dataminer.errors import ErrorClass, TransientError
from dataminer.net import deadline
from dataminer.net.deadline import TransferDeadline

DEFAULTS = DownloadConfig()  # an hour; at least 1,000 bytes a second over a minute
MINUTE = 60.0


class Attempt:
    """A transfer, second by second."""

    def __init__(self, settings: DownloadConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.deadline, self.total = TransferDeadline(settings), 0

    def bytes_come(self, seconds: float, rate: int) -> None:
        for _ in range(round(seconds)):
            self.now += 1
            self.total += rate
            self.deadline.received(self.total)

    def nothing_comes(self, seconds: float) -> None:
        self.now += seconds
        self.deadline.check()

    def waits(self, seconds: float) -> None:
        """A request, or the budget, has it wait."""
        with self.deadline.paused():
            self.nothing_comes(seconds)


def ends(
    settings: DownloadConfig, monkeypatch: pytest.MonkeyPatch, act: Callable[[Attempt], None]
) -> str:
    """Return why an attempt was ended, or nothing."""
    attempt = Attempt(settings, monkeypatch)
    try:
        with attempt.deadline.running():
            attempt.deadline.transfer_begins()
            act(attempt)
    except TransientError as error:
        assert error.error_class is ErrorClass.TIMEOUT
        return error.message.partition(" (")[0]
    return ""


TIMED_OUT, SLOW = "not done within timeout_minutes", "slower than min_bytes_per_second"


def in_bursts(attempt: Attempt) -> None:
    """A minute's worth of bytes all at once, each minute."""
    for _ in range(59):
        attempt.bytes_come(1, 60_000)
        attempt.nothing_comes(58)


def waits_for_the_budget(attempt: Attempt) -> None:
    for _ in range(4):
        attempt.waits(29 * MINUTE)
        attempt.bytes_come(14 * MINUTE, 1000)


def waits_before_it_ends(attempt: Attempt) -> None:
    attempt.bytes_come(59 * MINUTE, 1000)
    attempt.waits(29 * MINUTE)
    attempt.bytes_come(2 * MINUTE, 1000)


def waits_in_a_slow_minute(attempt: Attempt) -> None:
    attempt.bytes_come(40, 100)
    attempt.waits(10 * MINUTE)
    attempt.bytes_come(25, 100)


def between_two_parts(attempt: Attempt) -> None:
    attempt.deadline.transfer_ends()
    attempt.nothing_comes(59 * MINUTE)


def begins_anew(attempt: Attempt) -> None:
    attempt.bytes_come(MINUTE, 5000)
    attempt.nothing_comes(50)
    attempt.total = 0  # the server gave another file: all of it is fetched again
    attempt.bytes_come(50, 100)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda a: a.bytes_come(59 * MINUTE, 1000), ""),
        (lambda a: a.bytes_come(61 * MINUTE, 1_000_000), TIMED_OUT),
        (lambda a: a.bytes_come(59 * MINUTE, 960), SLOW),
        (lambda a: a.nothing_comes(59), ""),
        (lambda a: a.nothing_comes(61), SLOW),
        (in_bursts, ""),
        (waits_for_the_budget, ""),
        (waits_before_it_ends, TIMED_OUT),
        (waits_in_a_slow_minute, SLOW),
        (between_two_parts, ""),
        (begins_anew, ""),
    ],
)
@pytest.mark.parametrize("main", [True, False], ids=["main thread", "another"])
def test_an_attempt_has_an_hour_and_bytes_a_pace(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[Attempt], None], reason: str, main: bool
) -> None:
    if main:
        found = ends(DEFAULTS, monkeypatch, act)
    else:
        reported: list[str] = []
        thread = threading.Thread(target=lambda: reported.append(ends(DEFAULTS, monkeypatch, act)))
        thread.start()
        thread.join()
        (found,) = reported
    assert found == reason


@pytest.mark.parametrize(
    ("settings", "act", "reason"),
    [
        ({"min_bytes_per_second": 0}, lambda a: a.nothing_comes(59 * MINUTE), ""),
        ({"min_bytes_per_second": 0}, lambda a: a.nothing_comes(61 * MINUTE), TIMED_OUT),
        ({"timeout_minutes": 1440}, lambda a: a.bytes_come(600 * MINUTE, 1000), ""),
        ({"rate_window_seconds": 600}, lambda a: a.nothing_comes(599), ""),
        ({"rate_window_seconds": 600}, lambda a: a.nothing_comes(601), SLOW),
        ({"min_bytes_per_second": 10_000}, lambda a: a.bytes_come(2 * MINUTE, 9_000), SLOW),
    ],
)
def test_the_settings_have_their_units(
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, float],
    act: Callable[[Attempt], None],
    reason: str,
) -> None:
    assert ends(DownloadConfig.model_validate(settings), monkeypatch, act) == reason
