"""Rate limits: sources, how often each may be asked, and the limiter that each request waits for.

A stage asks a :class:`RateLimiter` and does not know who keeps it: PostgreSQL for all nodes
(:mod:`dataminer.sync.rate_limit.shared`), or this process for itself (:class:`LocalRateLimiter`).
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from urllib.parse import urlsplit

from dataminer.config.models import BudgetConfig
from dataminer.errors import ErrorClass, TransientError

PERMIT_GRACE_SECONDS = 1.0
"""Seconds after its moment for which a permit may still be used."""
TRANSIT_SECONDS = 1.0
"""Seconds by which requests may differ in how long they are under way to the server."""
MINUTE, HOUR = 60.0, 3600.0

YOUTUBE = "youtube"
_YOUTUBE_HOSTS = (
    "youtube.com",
    "youtu.be",
    "youtube-nocookie.com",
    "youtube.googleapis.com",
    "youtubei.googleapis.com",
    "ytimg.com",
    "www.google.com",  # where YouTube sends those whom it takes for robots
)
_YOUTUBE_MEDIA_HOSTS = ("googlevideo.com",)
_UNREADABLE = "unknown"
_PORTS = {"http": 80, "https": 443}
_MAX_NAME = 255  # the longest name of a host that there is (RFC 1035)


class RequestKind(StrEnum):
    """What is counted by itself."""

    REQUEST = "request"
    MEDIA = "media"
    DOWNLOAD = "download"


@dataclass(frozen=True)
class Quota:
    """A line to stand in: a source, which pauses as a whole, and what is counted of it."""

    source: str
    lane: RequestKind


class Paused(TransientError):
    """A source pauses, or its budget is used up, for longer than a job waits."""


class RateLimiter(Protocol):
    """Lets requests through, one at a time and none too soon."""

    waited: float
    """Seconds spent waiting so far: no fault of a server or a network."""

    def download(self, url: str) -> None:
        """Wait until a download from the source of ``url`` may begin."""

    def request(self, url: str) -> float:
        """Wait until ``url`` may be asked for.

        Returns
        -------
        float
            Until when the permit holds, by :func:`time.monotonic`: later, ask again.
        """

    def refused(
        self,
        url: str,
        reason: str,
        retry_after: float | None,
        error_class: ErrorClass = ErrorClass.RATE_LIMIT,
    ) -> bool:
        """Take note that a source wants no more for now; tell whether to ask it again."""

    def report_success(self) -> None:
        """Take note that the sources asked through this gate give what they are asked for."""


def quota_of(url: str, lane: RequestKind = RequestKind.REQUEST) -> Quota:
    """Return what a request counts against: YouTube with all its hosts, or one host and port."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower().rstrip("."), parts.port
    except ValueError:
        return Quota(_UNREADABLE, lane)
    if _within(host, _YOUTUBE_HOSTS):
        return Quota(YOUTUBE, lane)
    if _within(host, _YOUTUBE_MEDIA_HOSTS):
        return Quota(YOUTUBE, RequestKind.MEDIA if lane == RequestKind.REQUEST else lane)
    named = host if port in (None, _PORTS.get(parts.scheme)) else f"{host}:{port}"
    return Quota(named[:_MAX_NAME] or _UNREADABLE, lane)


def spacing(settings: BudgetConfig, place: Quota) -> tuple[float, float]:
    """Return the least and the most seconds between two permits.

    So many permits, evenly spaced, that no window of a minute (an hour, for downloads) at the
    server sees more than the limit, though some are used :data:`PERMIT_GRACE_SECONDS` after others
    and travel :data:`TRANSIT_SECONDS` longer: arrivals within W seconds had their moments within
    W plus both.
    """
    rates = settings.youtube if place.source == YOUTUBE else settings.others
    if place.lane == RequestKind.DOWNLOAD:
        least = max(
            (HOUR + PERMIT_GRACE_SECONDS + TRANSIT_SECONDS) / rates.downloads_per_hour,
            rates.sleep_interval,
        )
        return least, max(least, rates.max_sleep_interval)
    per_minute = rates.requests_per_minute
    if place.lane == RequestKind.MEDIA:
        per_minute = settings.youtube.media_requests_per_minute
    seconds = (MINUTE + PERMIT_GRACE_SECONDS + TRANSIT_SECONDS) / per_minute
    return seconds, seconds


class LocalRateLimiter:
    """The limits, kept by this process for itself: for use without a database.

    Parameters
    ----------
    settings : BudgetConfig
        The limits.
    """

    def __init__(self, settings: BudgetConfig) -> None:
        self._settings = settings
        self._last: dict[Quota, float] = {}
        self.waited = 0.0

    def download(self, url: str) -> None:
        """Wait until a download may begin."""
        self._wait(quota_of(url, RequestKind.DOWNLOAD))

    def request(self, url: str) -> float:
        """Wait until a request may be made."""
        return self._wait(quota_of(url)) + PERMIT_GRACE_SECONDS

    def refused(
        self,
        url: str,
        reason: str,
        retry_after: float | None,
        error_class: ErrorClass = ErrorClass.RATE_LIMIT,
    ) -> bool:
        """Leave it to the caller, who has no others to speak for."""
        return False

    def report_success(self) -> None:
        """Nothing pauses here, so nothing goes on."""

    def _wait(self, place: Quota) -> float:
        least, most = spacing(self._settings, place)
        now = time.monotonic()
        slot = max(now, self._last.get(place, now - most) + random.uniform(least, most))
        self._last[place] = slot
        time.sleep(slot - now)
        self.waited += slot - now
        return slot


def _within(host: str, domains: tuple[str, ...]) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)
