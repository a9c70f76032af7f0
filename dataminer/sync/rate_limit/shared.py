"""The rate limiter that all jobs of all nodes share, kept in the database.

Each quota has a row with the moment of its latest permit. The next permit is a fixed time after
that; one UPDATE takes it, and the job waits for its moment without a connection. Moments that
nobody uses, for instance those of a killed job, just pass.

A source that refuses opens its breaker: nothing is requested from it until the pause is over. Then
one job probes it. If it is refused too, the next pause is twice as long, or as long as the source
asks for, if that is longer; if it succeeds, all jobs continue. All times are by the clock of the
database.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import psycopg2
from psycopg2.extensions import connection as Connection

from dataminer.config.models import BudgetConfig
from dataminer.db.connection import transaction
from dataminer.errors import DatabaseError, ErrorClass, TransientError
from dataminer.net import deadline
from dataminer.net.rate_limit import (
    PERMIT_GRACE_SECONDS,
    Paused,
    Quota,
    RequestKind,
    quota_of,
    spacing,
)
from dataminer.sync.claims.execution import PATIENCE
from dataminer.sync.rate_limit import statements
from dataminer.sync.rate_limit.permits import PermitStock
from dataminer.text import clean

log = logging.getLogger(__name__)

AHEAD = 10.0  # seconds: later moments are not taken, so that killed jobs leave few of them
POLL = 10.0  # seconds at most between two checks of a source that pauses or is busy
REMIND = 60.0  # seconds after which a log repeats what a job waits for: else it seems to hang
RECHECK = 0.5  # seconds: after a longer wait, the source is checked again
PROBE_SECONDS = 120.0  # a job that gives no sign for this long has lost its turn to probe

_REFUSALS = {ErrorClass.RATE_LIMIT, ErrorClass.BOT_CHECK}

_MAX_REASON = 500  # characters
_LOT_SECONDS = 1.0  # permits for which nobody waits yet are at most this far ahead


@dataclass(frozen=True)
class _NoPermit:
    """Why there is no permit at this moment."""

    exists: bool
    busy: float | None
    open: float | None
    until: str | None
    reason: str | None
    error_class: str | None


class SharedRateLimiter:
    """The :class:`dataminer.net.rate_limit.RateLimiter` that all jobs of all nodes share.

    Parameters
    ----------
    settings : BudgetConfig
        The limits. If several runs use different limits, the strictest of the last five minutes
        applies.
    name : str
        The name of this job's sessions in the database.
    report : callable
        Called with a message about what is waited for.
    stock : PermitStock, optional
        Permits that other limiters of this process use as well.

    Raises
    ------
    Paused
        By any wait that would exceed ``max_wait_minutes`` for this job in all.
    TransientError
        INTERNAL, if the database does not answer: then no request is allowed.
    """

    def __init__(
        self,
        settings: BudgetConfig,
        *,
        name: str = "budget",
        report: Callable[[str], None] = log.info,
        stock: PermitStock | None = None,
    ) -> None:
        self._settings = settings
        self._stock = stock
        self._report = report
        self._name = name
        self._me = uuid.uuid4().hex
        self._probed: set[str] = set()  # sources that this job probes
        self._last_message: str | None = None
        self._last_message_at = 0.0
        self._sent_at = 0.0  # when the last statement was sent
        self._held_back = 0.0
        self.waited = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._probed:  # it ended in another way: let the next job probe
            try:
                self._execute(statements.END_PROBE, {"sources": sorted(self._probed)})
            except TransientError as error:  # its turn ends by itself
                log.warning("%s", error)
            self._probed.clear()

    def download(self, url: str) -> None:
        """Wait until a download may begin."""
        self._wait_for_permit(quota_of(url, RequestKind.DOWNLOAD))

    def request(self, url: str) -> float:
        """Wait until a request may be made; return until when."""
        return self._wait_for_permit(quota_of(url)) + PERMIT_GRACE_SECONDS

    def refused(
        self,
        url: str,
        reason: str,
        retry_after: float | None,
        error_class: ErrorClass = ErrorClass.RATE_LIMIT,
    ) -> bool:
        """Pause the source for all jobs; return True, as the next permit waits for the end."""
        self.open_breaker(quota_of(url).source, reason, retry_after, error_class)
        return True

    def open_breaker(
        self,
        source: str,
        reason: str,
        retry_after: float | None = None,
        error_class: ErrorClass = ErrorClass.RATE_LIMIT,
    ) -> None:
        """Open a source's breaker.

        Parameters
        ----------
        source : str
            A name from :func:`dataminer.net.rate_limit.quota_of`.
        reason : str
            The message of the source.
        retry_after : float, optional
            The pause in seconds that the source asks for.
        error_class : ErrorClass
            RATE_LIMIT or BOT_CHECK: the error of jobs that do not wait so long.
        """
        values = {
            "source": source,
            "reason": clean(reason, _MAX_REASON),
            "retry_after": retry_after,
            "error_class": error_class,
            "first": self._settings.first_pause_seconds,
            "longest": self._settings.longest_pause_seconds,
        }
        if self._execute(statements.OPEN_BREAKER, values):
            self._report(f"{source} refuses ({reason}): all jobs leave it alone for a while")
        elif retry_after:
            self._execute(statements.EXTEND_PAUSE, values)
        if self._stock:
            self._stock.clear(source)
        self._probed.discard(source)

    def report_success(self) -> None:
        """Close the breakers of the sources that this job probes."""
        if self._probed:
            self._execute(statements.CLOSE_BREAKERS, {"sources": sorted(self._probed)})
            self._report(f"{', '.join(sorted(self._probed))}: answers requests again")
            self._probed.clear()

    # ---- permits

    def _wait_for_permit(self, quota: Quota) -> float:
        """Wait for a permit of one quota; return its moment, by :func:`time.monotonic`."""
        least, most = spacing(self._settings, quota)
        values = {
            "source": quota.source,
            "lane": quota.kind,
            "least": least,
            "pause": random.uniform(least, most),
            "ahead": AHEAD,
            "lot": _LOT_SECONDS,
        }
        while True:
            self._keep_probing(quota.source)
            moment = self._next_moment(quota, values)
            if moment is None:
                self._handle_no_permit(quota, values)
                continue
            wait = max(moment - time.monotonic(), 0.0)
            self._sleep(wait)
            if wait < RECHECK or not self._is_paused(values):
                return moment

    def _next_moment(self, quota: Quota, values: Mapping[str, Any]) -> float | None:
        """Return the moment of the next permit, from the stock or else from the database."""
        if self._stock is None or quota.source in self._probed:
            return next(iter(self._fetch_lot(values, 1)), None)
        permits = self._stock.of(quota)
        with permits.lock:
            moment = permits.take()
            if moment is None:
                permits.moments.extend(self._fetch_lot(values, permits.lot))
                moment = permits.moments.popleft() if permits.moments else None
            return moment

    def _fetch_lot(self, values: Mapping[str, Any], count: int) -> list[float]:
        """Request permits; return the moments of those that are granted."""
        row = self._query(statements.TAKE_PERMITS, {**values, "count": count})
        if row is None:
            return []
        wait, step, granted = row
        # measured from when the statement was sent: late by as long as the answer took, never early
        return [self._sent_at + max(wait, 0.0) + number * step for number in range(granted)]

    # ---- pauses

    def _keep_probing(self, source: str) -> None:
        """Keep this job's turn to probe a source."""
        if source in self._probed and not self._begin_probe(source):
            self._probed.discard(source)

    def _begin_probe(self, source: str) -> bool:
        values = {"source": source, "seconds": PROBE_SECONDS}
        return bool(self._execute(statements.BEGIN_PROBE, values))

    def _is_paused(self, values: Mapping[str, Any]) -> bool:
        """Tell whether the source has refused meanwhile."""
        return (_NoPermit(*self._query(statements.READ_QUOTA, values)).open or 0.0) > 0

    def _handle_no_permit(self, quota: Quota, values: Mapping[str, Any]) -> None:
        """Wait for a while, or take the turn to probe the source."""
        state = _NoPermit(*self._query(statements.READ_QUOTA, values))
        if state.open is not None and state.open > 0:
            message = f"{quota.source} pauses until {state.until} UTC: {state.reason}"
            self._hold_back(message, state.open, state.error_class)
        elif not state.exists:
            self._execute(statements.ADD_QUOTA, values)
        elif state.open is not None and quota.source not in self._probed:
            if self._begin_probe(quota.source):
                self._probed.add(quota.source)
            else:
                message = f"one job checks whether {quota.source} answers again: {state.reason}"
                self._hold_back(message, random.uniform(1.0, 3.0), state.error_class)
        else:
            excess = max((state.busy or 0.0) - AHEAD, 1.0)
            self._hold_back(f"the budget of {quota.source} is used up for now", excess)

    def _hold_back(self, message: str, seconds: float, error_class: str | None = None) -> None:
        """Wait for a part of the time, unless all of it is longer than this job waits."""
        if self._held_back + seconds > self._settings.max_wait_minutes * 60:
            raise _paused(message, ErrorClass(error_class or ErrorClass.RATE_LIMIT), seconds)
        now = time.monotonic()
        if message != self._last_message or now - self._last_message_at > REMIND:
            self._report(message)
            self._last_message, self._last_message_at = message, now
        part = seconds if seconds <= 1.0 else min(seconds, POLL) * random.uniform(0.5, 1.0)
        self._held_back += part
        self._sleep(part)

    def _sleep(self, seconds: float) -> None:
        for nap in deadline.stoppable_sleeps(seconds):
            time.sleep(nap)
        self.waited += seconds

    # ---- statements

    def _execute(self, statement: str, values: Mapping[str, Any]) -> int:
        return int(self._run(lambda cursor: cursor.rowcount, statement, values))

    def _query(self, statement: str, values: Mapping[str, Any]) -> Any:
        return self._run(lambda cursor: cursor.fetchone(), statement, values)

    def _run(self, read: Callable[[Any], Any], text: str, values: Mapping[str, Any]) -> Any:
        def work(connection: Connection) -> Any:
            with connection.cursor() as cursor:
                self._sent_at = time.monotonic()
                cursor.execute(text, {**values, "me": self._me})
                return read(cursor)

        try:
            return transaction(work, patience=PATIENCE, name=self._name, single=True)
        except (DatabaseError, psycopg2.Error) as error:
            reason = " ".join(str(error).split())
            message = f"the budget cannot be read, so no request is made: {reason}"
            raise TransientError(message, ErrorClass.INTERNAL) from error


def _paused(message: str, error_class: ErrorClass, seconds: float) -> Paused:
    hint = "run snakemake again later; `dataminer budget show` lists what pauses"
    if error_class is ErrorClass.BOT_CHECK:
        hint += "; download.cookies or another address help, see docs/youtube.md"
    paused = Paused(f"{message}; this job waits no longer", error_class, hint)
    paused.wait = seconds
    return paused


def fetch_within_limits(
    settings: BudgetConfig,
    url: str,
    name: str,
    fetch: Callable[[SharedRateLimiter], object],
    stock: PermitStock | None = None,
) -> None:
    """Fetch a video within the rate limits, again after each pause that its source asks for.

    Parameters
    ----------
    settings : BudgetConfig
        The limits.
    url, name : str
        The link, and the name of this job's sessions in the database.
    fetch : callable
        Fetches the video, given the rate limiter.
    stock : PermitStock, optional
        The permits that the downloads of this process share.

    Raises
    ------
    Paused
        If the source pauses for longer than this job waits.
    """
    with SharedRateLimiter(settings, name=name, stock=stock) as limiter:
        while True:
            limiter.download(url)
            try:
                fetch(limiter)
            except Paused:
                raise
            except TransientError as error:
                if not is_refusal(error):
                    raise
                source = quota_of(url).source
                limiter.open_breaker(source, error.message, error_class=error.error_class)
            else:
                limiter.report_success()
                return


def is_refusal(error: TransientError) -> bool:
    """Tell whether an error means that the source refuses all requests for now."""
    return error.error_class in _REFUSALS
