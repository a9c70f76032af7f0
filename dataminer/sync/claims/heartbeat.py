"""Keep a claim alive while its task runs, and stop the task when the claim is lost."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psycopg2

from dataminer.config import MonitorConfig
from dataminer.errors import DatabaseError
from dataminer.sync.claims import claims
from dataminer.sync.claims.claims import Claim, LeaseLost
from dataminer.sync.claims.execution import PATIENCE

log = logging.getLogger(__name__)

# A holder that could not beat for this share of the stale time stops before others may take over.
# It waits at least as long as all jobs wait for a database that is away: until then, no other job
# can take over either. Two holders would only do the same work twice.
SAFE_SHARE = 0.8


class Interrupted(BaseException):
    """The process was asked to end (SIGTERM, Ctrl-C): give the claim back and exit."""


class Heartbeat(threading.Thread):
    """Beats in the background until stopped; a lost claim interrupts the main thread."""

    def __init__(self, held: Claim, settings: MonitorConfig) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._held = held
        self._interval = settings.heartbeat_seconds
        safe = settings.stale_threshold_minutes * 60 * SAFE_SHARE
        self._safe = max(safe, PATIENCE)
        self._ended = threading.Event()
        self.lost = False

    def run(self) -> None:
        """Beat; called by :meth:`start`."""
        answered = time.monotonic()
        while not self._ended.wait(self._interval):
            try:
                # a beat that comes between the record of the result and stop() has lost nothing
                alive = claims.beat(self._held) or claims.is_recorded(self._held)
            except (DatabaseError, psycopg2.Error) as error:
                log.warning("heartbeat failed: %s", error)
                if time.monotonic() - answered < self._safe:
                    continue
                alive = False
            if not alive and not self._ended.is_set():
                self.lost = True
                os.kill(os.getpid(), signal.SIGTERM)
                return
            answered = time.monotonic()

    def stop(self) -> None:
        """Beat no more."""
        self._ended.set()
        self.join(timeout=self._interval)


@contextmanager
def kept_alive(held: Claim, settings: MonitorConfig) -> Iterator[None]:
    """Keep a claim alive for the block.

    Raises
    ------
    LeaseLost
        If the claim was lost while the block ran.
    Interrupted
        If the process was asked to end.
    """
    heartbeat = Heartbeat(held, settings)
    with interruptible():
        heartbeat.start()
        try:
            yield
        except Interrupted:
            if heartbeat.lost:
                raise LeaseLost.of(held) from None
            raise
        finally:
            heartbeat.stop()


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM and SIGINT into :class:`Interrupted` in the main thread, for the block.

    Only the first signal does: a second one must not interrupt what the first one began. An inner
    block leaves the signals to the outer one, which lasts until claims are given back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    if all(isinstance(signal.getsignal(number), _InterruptOnce) for number in signals):
        yield
        return
    interrupt = _InterruptOnce()
    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _InterruptOnce:
    def __init__(self) -> None:
        self._done = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self._done:
            self._done = True
            raise Interrupted(signal.Signals(number).name)
