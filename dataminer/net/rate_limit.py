"""Rate limits: sources, how often each may be asked, and the limiter that each request waits for.

A stage uses a :class:`RateLimiter` without knowing who applies the limits: PostgreSQL for all nodes
(:mod:`dataminer.sync.rate_limit.shared`), or this process alone (:class:`LocalRateLimiter`).
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
"""Seconds for which a permit may still be used after its time."""
TRANSIT_SECONDS = 1.0
"""Seconds by which the travel times of requests to a server may differ."""
MINUTE, HOUR = 60.0, 3600.0

YOUTUBE = "youtube"
_YOUTUBE_HOSTS = (
    "youtube.com",
    "youtu.be",
    "youtube-nocookie.com",
    "youtube.googleapis.com",
    "youtubei.googleapis.com",
    "ytimg.com",
    "www.google.com",  # where YouTube sends suspected robots
)
_YOUTUBE_MEDIA_HOSTS = ("googlevideo.com",)
_UNREADABLE = "unknown"
_PORTS = {"http": 80, "https": 443}
_MAX_NAME = 255  # the longest possible host name (RFC 1035)


class RequestKind(StrEnum):
    """Kinds of request, each with a limit of its own."""

    REQUEST = "request"
    MEDIA = "media"
    DOWNLOAD = "download"


@dataclass(frozen=True)
class Quota:
    """One limit of one source. A source pauses as a whole, and each kind of request has a limit."""

    source: str
    kind: RequestKind


class Paused(TransientError):
    """A source pauses, or its limit is exhausted, for longer than a job waits."""


class RateLimiter(Protocol):
    """Lets requests through one at a time, none of them too soon."""

    waited: float
    """Seconds spent waiting so far: not the fault of a server or network."""

    def download(self, url: str) -> None:
        """Wait until a download from the source of ``url`` may start."""

    def request(self, url: str) -> float:
        """Wait until ``url`` may be requested.

        Returns
        -------
        float
            When the permit expires, by :func:`time.monotonic`. After that, wait for a new one.
        """

    def refused(
        self,
        url: str,
        reason: str,
        retry_after: float | None,
        error_class: ErrorClass = ErrorClass.RATE_LIMIT,
    ) -> bool:
        """Record that a source refuses requests for now; return whether to ask it again."""

    def report_success(self) -> None:
        """Record that the sources asked through this limiter answer as they should."""


def quota_of(url: str, kind: RequestKind = RequestKind.REQUEST) -> Quota:
    """Return the quota of a request: of YouTube with all its hosts, or of one host and port."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower().rstrip("."), parts.port
    except ValueError:
        return Quota(_UNREADABLE, kind)
    if _within(host, _YOUTUBE_HOSTS):
        return Quota(YOUTUBE, kind)
    if _within(host, _YOUTUBE_MEDIA_HOSTS):
        return Quota(YOUTUBE, RequestKind.MEDIA if kind == RequestKind.REQUEST else kind)
    source = host if port in (None, _PORTS.get(parts.scheme)) else f"{host}:{port}"
    return Quota(source[:_MAX_NAME] or _UNREADABLE, kind)


def spacing(settings: BudgetConfig, quota: Quota) -> tuple[float, float]:
    """Return the least and the most seconds between two permits.

    The permits are spaced so that the server sees no more than the limit in any minute (any hour,
    for downloads). Some are used up to :data:`PERMIT_GRACE_SECONDS` late and travel up to
    :data:`TRANSIT_SECONDS` longer. Requests that arrive within W seconds therefore had permits
    within W plus both.
    """
    rates = settings.youtube if quota.source == YOUTUBE else settings.others
    if quota.kind == RequestKind.DOWNLOAD:
        least = max(
            (HOUR + PERMIT_GRACE_SECONDS + TRANSIT_SECONDS) / rates.downloads_per_hour,
            rates.sleep_interval,
        )
        return least, max(least, rates.max_sleep_interval)
    per_minute = rates.requests_per_minute
    if quota.kind == RequestKind.MEDIA:
        per_minute = settings.youtube.media_requests_per_minute
    seconds = (MINUTE + PERMIT_GRACE_SECONDS + TRANSIT_SECONDS) / per_minute
    return seconds, seconds


class LocalRateLimiter:
    """The limits, applied by this process alone: for use without a database.

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
        """Wait until a download may start."""
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
        """Leave the error to the caller: no other process depends on it."""
        return False

    def report_success(self) -> None:
        """Do nothing: no source is paused here."""

    def _wait(self, quota: Quota) -> float:
        least, most = spacing(self._settings, quota)
        now = time.monotonic()
        slot = max(now, self._last.get(quota, now - most) + random.uniform(least, most))
        self._last[quota] = slot
        time.sleep(slot - now)
        self.waited += slot - now
        return slot


def _within(host: str, domains: tuple[str, ...]) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)
