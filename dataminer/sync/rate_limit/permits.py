"""Permits that the rate limiters of one process share."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from dataminer.net.rate_limit import PERMIT_GRACE_SECONDS, Quota

_RECENT_SECONDS = 0.5  # the uses of a quota within this time give the size of its next lot


class PermitStock:
    """Permits that the rate limiters of one process request in lots, and use in turn.

    A lot has as many permits as the process has used in the last half second, so that hardly any
    lapse.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._quotas: dict[Quota, QuotaPermits] = {}

    def of(self, quota: Quota) -> QuotaPermits:
        """Return the permits of one quota."""
        with self._lock:
            return self._quotas.setdefault(quota, QuotaPermits())

    def clear(self, source: str) -> None:
        """Discard the permits of a source that refuses."""
        with self._lock:
            found = [permits for quota, permits in self._quotas.items() if quota.source == source]
        for permits in found:
            with permits.lock:  # a lot that is being requested arrives first
                permits.moments.clear()


@dataclass
class QuotaPermits:
    """The permits of one quota: their moments, and its recent uses."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    moments: deque[float] = field(default_factory=deque)
    _used: deque[float] = field(default_factory=lambda: deque(maxlen=100))

    def take(self) -> float | None:
        """Return the next moment that has not passed, if there is one."""
        now = time.monotonic()
        self._used.append(now)
        while self.moments:
            moment = self.moments.popleft()
            if moment > now - PERMIT_GRACE_SECONDS / 2:
                return moment
        return None

    @property
    def lot(self) -> int:
        """The number of permits to request at once."""
        since = time.monotonic() - _RECENT_SECONDS
        return max(1, sum(used > since for used in self._used))
