"""The budget that all nodes share, and the breaker: who may ask a source for what, and when.

Each source has a row for each thing that is counted, with the moment of the latest permit. A
permit is the next moment, so many seconds after that one; it is taken with one UPDATE, and waited
for without a connection. Moments that nobody uses, a killed job's say, just pass.

A source that refuses opens its breaker: nothing is asked of it until the pause is over. Then one
job goes first. If it is refused too, the next pause is twice as long, or as long as the source
asks, if that is longer; if it gets what it asks for, all go on. The clock is the database's.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extras import RealDictCursor

from dataminer.config.models import BudgetConfig
from dataminer.db.connection import reading, transaction
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
from dataminer.sync.claims.claims import PATIENCE
from dataminer.sync.rate_limit import statements
from dataminer.text import clean
from dataminer.urls import masked_row

log = logging.getLogger(__name__)

AHEAD = 10.0  # seconds: moments further away are not taken, so that killed jobs leave few of them
POLL = 10.0  # seconds at most between two looks at a source that pauses or is busy
REMIND = 60.0  # seconds after which a log tells again what is waited for: else it seems to hang
RECHECK = 0.5  # seconds of waiting after which the source is looked at again
PROBE_SECONDS = 120.0  # without a word for so long, a job that goes first has lost its turn

_REFUSALS = {ErrorClass.RATE_LIMIT, ErrorClass.BOT_CHECK}

_MAX_REASON = 500  # characters
_RECENT = 0.5  # seconds whose use of a place tells how much of it is asked for at once
_LOT_SECONDS = 1.0  # so far ahead at most lie permits that nobody waits for yet

# ---- the gate ----------------------------------------------------------------------------------


class Stock:
    """Permits that the gates of one process share: asked for in lots, and used by whoever is next.

    As many at once as the process has used in the last half second, so that hardly any lapse.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shelves: dict[Quota, _Shelf] = {}

    def at(self, place: Quota) -> _Shelf:
        """Return the permits of one place."""
        with self._lock:
            return self._shelves.setdefault(place, _Shelf())

    def clear(self, source: str) -> None:
        """Throw away the permits of a source that refuses."""
        with self._lock:
            shelves = [shelf for place, shelf in self._shelves.items() if place.source == source]
        for shelf in shelves:
            with shelf.lock:  # what was asked for before comes first
                shelf.moments.clear()


@dataclass
class _Shelf:
    """The permits of one place: their moments, and the uses of it lately."""

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
        """How many permits to ask for."""
        since = time.monotonic() - _RECENT
        return max(1, sum(used > since for used in self._used))


@dataclass(frozen=True)
class _NoPermit:
    """Why there is no permit at this moment."""

    known: bool
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
        The limits; of runs that differ, the strictest counts.
    name : str
        What the database shows of this job.
    say : callable
        Is told what is waited for.
    stock : Stock, optional
        Permits that other gates of this process use as well.

    Raises
    ------
    Paused
        From any wait that would make this job wait for more than ``max_wait_minutes`` in all.
    TransientError
        INTERNAL, when the database cannot be asked: nothing is let through then.
    """

    def __init__(
        self,
        settings: BudgetConfig,
        *,
        name: str = "budget",
        say: Callable[[str], None] = log.info,
        stock: Stock | None = None,
    ) -> None:
        self._settings = settings
        self._stock = stock
        self._say = say
        self._name = name
        self._me = uuid.uuid4().hex
        self._first: set[str] = set()  # sources where this job goes first
        self._told: str | None = None
        self._told_at = 0.0
        self._asked = 0.0  # when the last statement was sent
        self._held = 0.0
        self.waited = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._first:  # it ended in another way: let the next one go first
            try:
                self._execute(statements.LEAVE, {"sources": sorted(self._first)})
            except TransientError as error:  # its turn ends by itself
                log.warning("%s", error)
            self._first.clear()

    def download(self, url: str) -> None:
        """Wait until a download may begin."""
        self._permit(quota_of(url, RequestKind.DOWNLOAD))

    def request(self, url: str) -> float:
        """Wait until a request may be made; return until when."""
        return self._permit(quota_of(url)) + PERMIT_GRACE_SECONDS

    def refused(
        self,
        url: str,
        reason: str,
        retry_after: float | None,
        error_class: ErrorClass = ErrorClass.RATE_LIMIT,
    ) -> bool:
        """Let the source pause for all; True, for the next permit waits until that is over."""
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
            A name that :func:`dataminer.net.rate_limit.quota_of` gives.
        reason : str
            What the source said.
        retry_after : float, optional
            For how many seconds it asks to be left alone.
        error_class : ErrorClass
            RATE_LIMIT or BOT_CHECK: what jobs end with that wait no longer.
        """
        values = {
            "source": source,
            "reason": clean(reason, _MAX_REASON),
            "retry_after": retry_after,
            "error_class": error_class,
            "first": self._settings.first_pause_seconds,
            "longest": self._settings.longest_pause_seconds,
        }
        if self._execute(statements.TRIP, values):
            self._say(f"{source} refuses ({reason}): all jobs leave it alone for a while")
        elif retry_after:
            self._execute(statements.LENGTHEN, values)
        if self._stock:
            self._stock.clear(source)
        self._first.discard(source)

    def report_success(self) -> None:
        """Close the breakers at which this job went first."""
        if self._first:
            self._execute(statements.PASS, {"sources": sorted(self._first)})
            self._say(f"{', '.join(sorted(self._first))}: gives what it is asked for again")
            self._first.clear()

    def _permit(self, place: Quota) -> float:
        """Wait for a permit of one place; return its moment, by :func:`time.monotonic`."""
        least, most = spacing(self._settings, place)
        values = {
            "source": place.source,
            "lane": place.lane,
            "least": least,
            "pause": random.uniform(least, most),
            "ahead": AHEAD,
            "lot": _LOT_SECONDS,
        }
        while True:
            self._stay_first(place.source)
            moment = self._next_moment(place, values)
            if moment is None:
                self._hold_back(place, values)
                continue
            wait = max(moment - time.monotonic(), 0.0)
            self._sleep(wait)
            if wait < RECHECK or not self._pauses(values):
                return moment

    def _next_moment(self, place: Quota, values: Mapping[str, Any]) -> float | None:
        """Return the moment of the next permit, from the stock or else from the database."""
        if self._stock is None or place.source in self._first:
            return next(iter(self._lot(values, 1)), None)
        shelf = self._stock.at(place)
        with shelf.lock:
            moment = shelf.take()
            if moment is None:
                shelf.moments.extend(self._lot(values, shelf.lot))
                moment = shelf.moments.popleft() if shelf.moments else None
            return moment

    def _lot(self, values: Mapping[str, Any], count: int) -> list[float]:
        """Ask for permits; return the moments of those that there are."""
        row = self._ask(statements.PERMIT, {**values, "count": count})
        if row is None:
            return []
        wait, step, given = row
        # or later, by as long as the answer was under way
        return [self._asked + max(wait, 0.0) + number * step for number in range(given)]

    def _stay_first(self, source: str) -> None:
        """Keep the turn of a job that goes first."""
        if source in self._first and not self._take_turn(source):
            self._first.discard(source)

    def _take_turn(self, source: str) -> bool:
        return bool(self._execute(statements.PROBE, {"source": source, "seconds": PROBE_SECONDS}))

    def _pauses(self, values: Mapping[str, Any]) -> bool:
        """Tell whether the source has refused meanwhile."""
        return (_NoPermit(*self._ask(statements.LOOK, values)).open or 0.0) > 0

    def _hold_back(self, place: Quota, values: Mapping[str, Any]) -> None:
        """Wait a little, or take the turn to go first: there was no permit."""
        state = _NoPermit(*self._ask(statements.LOOK, values))
        if state.open is not None and state.open > 0:
            line = f"{place.source} pauses until {state.until} UTC: {state.reason}"
            self._hold(line, state.open, state.error_class)
        elif not state.known:
            self._execute(statements.FIRST_PERMIT, values)
        elif state.open is not None and place.source not in self._first:
            if self._take_turn(place.source):
                self._first.add(place.source)
            else:
                line = f"{place.source} is asked by one job whether it answers: {state.reason}"
                self._hold(line, random.uniform(1.0, 3.0), state.error_class)
        else:
            away = max((state.busy or 0.0) - AHEAD, 1.0)
            self._hold(f"the budget of {place.source} is used up for now", away)

    def _hold(self, line: str, seconds: float, error_class: str | None = None) -> None:
        """Wait for a part of the time, unless all of it is more than this job waits."""
        if self._held + seconds > self._settings.max_wait_minutes * 60:
            raise _paused(line, ErrorClass(error_class or ErrorClass.RATE_LIMIT), seconds)
        now = time.monotonic()
        if line != self._told or now - self._told_at > REMIND:
            self._say(line)
            self._told, self._told_at = line, now
        part = seconds if seconds <= 1.0 else min(seconds, POLL) * random.uniform(0.5, 1.0)
        self._held += part
        self._sleep(part)

    def _sleep(self, seconds: float) -> None:
        for nap in deadline.naps(seconds):
            time.sleep(nap)
        self.waited += seconds

    def _execute(self, statement: str, values: Mapping[str, Any]) -> int:
        return int(self._run(lambda cursor: cursor.rowcount, statement, values))

    def _ask(self, statement: str, values: Mapping[str, Any]) -> Any:
        return self._run(lambda cursor: cursor.fetchone(), statement, values)

    def _run(self, read: Callable[[Any], Any], text: str, values: Mapping[str, Any]) -> Any:
        def work(connection: Connection) -> Any:
            with connection.cursor() as cursor:
                self._asked = time.monotonic()
                cursor.execute(text, {**values, "me": self._me})
                return read(cursor)

        try:
            return transaction(work, patience=PATIENCE, name=self._name, single=True)
        except (DatabaseError, psycopg2.Error) as error:
            message = f"the budget cannot be asked, so nothing is: {' '.join(str(error).split())}"
            raise TransientError(message, ErrorClass.INTERNAL) from error


def _paused(line: str, error_class: ErrorClass, seconds: float) -> Paused:
    hint = "run snakemake again later; `dataminer budget show` tells what pauses"
    if error_class is ErrorClass.BOT_CHECK:
        hint += "; download.cookies or another address help, see docs/youtube.md"
    paused = Paused(f"{line}; this job waits no longer", error_class, hint)
    paused.wait = seconds
    return paused


def within(
    settings: BudgetConfig,
    url: str,
    name: str,
    fetch: Callable[..., object],
    stock: Stock | None = None,
) -> None:
    """Fetch a video within the budget, and again after each pause that its source asks for.

    Parameters
    ----------
    settings : BudgetConfig
        The limits.
    url : str
        What is fetched.
    name : str
        What the database shows of this job.
    fetch : callable
        Fetches it, with the gate as ``gate``.
    stock : Stock, optional
        Permits that the downloads of this process share.

    Raises
    ------
    Paused
        When the source pauses for longer than this job waits.
    """
    with SharedRateLimiter(settings, name=name, stock=stock) as gate:
        while True:
            gate.download(url)
            try:
                fetch(gate=gate)
            except Paused:
                raise
            except TransientError as error:
                if not is_refusal(error):
                    raise
                gate.open_breaker(
                    quota_of(url).source, error.message, error_class=error.error_class
                )
            else:
                gate.report_success()
                return


def is_refusal(error: TransientError) -> bool:
    """Tell whether an error says that the source wants no more of anybody, for now."""
    return error.error_class in _REFUSALS


# ---- to look at, and to reset ------------------------------------------------------------------


def show() -> dict[str, list[dict[str, Any]]]:
    """Return what the database knows: ``pauses``, sources that refused, and ``budgets``."""
    parts = {}
    with reading("budget") as session, session.cursor(cursor_factory=RealDictCursor) as cursor:
        for name, query in (("pauses", statements.PAUSES), ("budgets", statements.BUDGETS)):
            cursor.execute(query)
            parts[name] = [masked_row(row) for row in cursor.fetchall()]
    return parts


def reset(source: str | None = None) -> list[str]:
    """Let all sources, or one, be asked again at once; return those that paused."""

    def work(connection: Connection) -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute(statements.RESET, {"source": source})
            sources = sorted(row[0] for row in cursor.fetchall())
            cursor.execute(statements.WAIT_NO_LONGER)
            return sources

    return transaction(work, name="budget")
