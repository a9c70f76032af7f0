"""Which source a link counts against, how far apart permits are, and the limiter of one process."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from dataminer.config.models import BudgetConfig, HostRates, YouTubeRates
from dataminer.net import rate_limit
from dataminer.net.rate_limit import (
    PERMIT_GRACE_SECONDS,
    TRANSIT_SECONDS,
    LocalRateLimiter,
    Quota,
    RequestKind,
    quota_of,
    spacing,
)
from tests.support.http_server import most_in_a_window


@pytest.mark.parametrize(
    ("url", "source", "lane"),
    [
        ("https://www.youtube.com/watch?v=aqz-KE-bpKQ", "youtube", RequestKind.REQUEST),
        ("https://youtu.be/aqz-KE-bpKQ", "youtube", RequestKind.REQUEST),
        ("https://youtubei.googleapis.com/youtubei/v1/player", "youtube", RequestKind.REQUEST),
        ("https://www.google.com/sorry/index", "youtube", RequestKind.REQUEST),
        ("https://rr3---sn-x.googlevideo.com/videoplayback", "youtube", RequestKind.MEDIA),
        ("https://notyoutube.com/x", "notyoutube.com", RequestKind.REQUEST),
        ("https://youtube.com.example/x", "youtube.com.example", RequestKind.REQUEST),
        ("https://user:pass@Host.Example./x", "host.example", RequestKind.REQUEST),
        ("http://host.example:80/x", "host.example", RequestKind.REQUEST),
        ("http://host.example:8080/x", "host.example:8080", RequestKind.REQUEST),
        ("https://host.example:99999/x", "unknown", RequestKind.REQUEST),
        ("http://[", "unknown", RequestKind.REQUEST),
    ],
)
def test_places(url: str, source: str, lane: RequestKind) -> None:
    assert quota_of(url) == Quota(source, lane)


def test_a_download_from_youtube_counts_by_itself() -> None:
    assert quota_of("https://youtu.be/x", RequestKind.DOWNLOAD) == Quota(
        "youtube", RequestKind.DOWNLOAD
    )


@given(
    per_minute=st.integers(1, 2000),
    delays=st.lists(st.floats(0, PERMIT_GRACE_SECONDS + TRANSIT_SECONDS), min_size=2, max_size=400),
)
@example(per_minute=30, delays=[PERMIT_GRACE_SECONDS + TRANSIT_SECONDS] + [0.0] * 59)
def test_no_window_of_a_minute_sees_more_whatever_the_delays(
    per_minute: int, delays: list[float]
) -> None:
    settings = BudgetConfig(others=HostRates(requests_per_minute=per_minute))
    apart, _ = spacing(settings, Quota("host.example", RequestKind.REQUEST))
    arrivals = sorted(index * apart + delay for index, delay in enumerate(delays))
    assert most_in_a_window(arrivals, 60.0 - 1e-6) <= per_minute


def test_media_and_downloads_of_youtube_have_limits_of_their_own() -> None:
    settings = BudgetConfig()
    assert spacing(settings, Quota("youtube", RequestKind.REQUEST))[0] == pytest.approx(62 / 30)
    assert spacing(settings, Quota("youtube", RequestKind.MEDIA))[0] == pytest.approx(62 / 120)
    least, most = spacing(settings, Quota("youtube", RequestKind.DOWNLOAD))
    assert least == pytest.approx(3602 / 240)
    assert most == 20.0
    assert spacing(settings, Quota("host.example", RequestKind.REQUEST))[0] == pytest.approx(
        62 / 600
    )


def test_the_limiter_of_one_process_spaces_requests_and_never_asks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: 50 + sum(slept), sleep=slept.append)
    monkeypatch.setattr(rate_limit, "time", clock)
    limiter = LocalRateLimiter(BudgetConfig(others=HostRates(requests_per_minute=620)))
    for _ in range(4):
        limiter.request("http://host.example/x")
    assert slept == pytest.approx([0, 0.1, 0.1, 0.1])
    assert limiter.waited == pytest.approx(0.3)
    limiter.request("http://other.example/x")
    assert not limiter.refused("http://host.example/x", "HTTP 429", 1.0)


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("ask", "count", "seconds", "most"),
    [
        # the defaults: downloads an hour, 10 to 20 seconds apart; requests a minute
        (lambda limiter: limiter.download("https://youtu.be/x"), 300, 3600, 240),
        (lambda limiter: limiter.request("https://youtu.be/x"), 70, 60, 30),
        (lambda limiter: limiter.request("https://r1.googlevideo.com/x"), 250, 60, 120),
        (lambda limiter: limiter.request("http://host.example/x"), 800, 60, 600),
    ],
    ids=["downloads", "pages", "media", "another host"],
)
def test_the_defaults_keep_their_rates_over_hours(
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[LocalRateLimiter], object],
    count: int,
    seconds: int,
    most: int,
) -> None:
    clock, begun = Clock(), []
    monkeypatch.setattr(rate_limit, "time", clock)
    limiter = LocalRateLimiter(BudgetConfig())
    for _ in range(count):
        ask(limiter)
        begun.append(clock.now)
    pauses = [later - sooner for sooner, later in pairwise(begun)]
    assert begun[0] == 1000.0, "the first need not wait"
    assert most_in_a_window(begun, seconds) <= most
    assert begun[-1] - begun[0] <= 1.35 * seconds * count / most, "and no slower than it must be"
    if most == 240:
        assert 15.0 <= min(pauses) < 16 and 19 < max(pauses) <= 20.0
    assert limiter.waited == pytest.approx(begun[-1] - begun[0])


@pytest.mark.parametrize(
    "rates",
    [
        {"requests_per_minute": 0},
        {"requests_per_minute": None},
        {"requests_per_minute": float("nan")},
        {"requests_per_minute": float("inf")},
        {"downloads_per_hour": -1},
        {"sleep_interval": 5, "max_sleep_interval": 1},
        {"request_per_minute": 30},
    ],
)
def test_a_wrong_limit_is_an_error_and_no_limit_less(
    rates: dict[str, int] | dict[str, None] | dict[str, Any],
) -> None:
    for kind in (HostRates, YouTubeRates):
        with pytest.raises(ValidationError):
            kind(**{"max_sleep_interval": 30.0, **rates})
