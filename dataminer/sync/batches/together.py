"""What threads share that download at once: heartbeats, and statements for many videos."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import psycopg2

from dataminer.config import MonitorConfig
from dataminer.errors import DatabaseError
from dataminer.files.flushing import fsync_tree, fsync_trees
from dataminer.net.deadline import Stop, stoppable
from dataminer.sync.claims import claim_end, claims
from dataminer.sync.claims.claim_end import Result
from dataminer.sync.claims.claims import Claim, LeaseLost
from dataminer.sync.claims.execution import PATIENCE
from dataminer.sync.claims.heartbeat import SAFE_SHARE

log = logging.getLogger(__name__)

T = TypeVar("T")

_GATHER_SECONDS = 0.02  # that the first to ask waits for others


class Gathered(Generic[T]):
    """Does for many threads at once what each of them asks for.

    Parameters
    ----------
    do : callable
        Does it for all that were asked for; returns those for which it was done.
    """

    def __init__(self, do: Callable[[list[T]], Sequence[T]]) -> None:
        self._do = do
        self._turn = threading.Lock()
        self._asking = threading.Lock()
        self._asked: list[tuple[T, list[bool]]] = []

    def __call__(self, one: T) -> bool:
        """Have it done for one; return whether it was."""
        done: list[bool] = []
        with self._asking:
            self._asked.append((one, done))
        with self._turn:
            if not done:
                time.sleep(_GATHER_SECONDS)
                self._serve()
        return done[0]

    def _serve(self) -> None:
        with self._asking:
            asked, self._asked = self._asked, []
        found: Sequence[T] = ()
        try:
            found = self._do([one for one, _ in asked])
        finally:
            for one, done in asked:
                done.append(any(one is other for other in found))


class Together:
    """Keeps the claims of many threads alive, and records their results together.

    One :class:`dataminer.sync.tasks.task.Keeper` for all of them.

    Parameters
    ----------
    settings : MonitorConfig
        How often to beat, and after how long a claim is stale.
    """

    def __init__(self, settings: MonitorConfig) -> None:
        self._interval = settings.heartbeat_seconds
        stale = settings.stale_threshold_minutes * 60
        self._safe = max(stale * SAFE_SHARE, PATIENCE)
        self._lock = threading.Lock()
        self._held: dict[int, tuple[Claim, Stop]] = {}
        self._beating = False
        self._reason: BaseException | None = None
        self._finish = Gathered(_finished)
        self._flush = Gathered(_flushed)

    @contextmanager
    def kept_alive(self, held: Claim, settings: MonitorConfig) -> Iterator[None]:
        """Hold a claim alive for the block; if it is lost, downloads of this thread end."""
        with stoppable() as stop:
            with self._lock:
                if self._reason:
                    raise self._reason
                self._held[id(held)] = held, stop
                if not self._beating:
                    self._beating = True
                    threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
            try:
                yield
            finally:
                with self._lock:
                    self._held.pop(id(held), None)

    def flush(self, folder: Path) -> None:
        """Flush a folder to the disk, with those of other threads."""
        if not self._flush(folder):
            fsync_tree(folder)

    def finish(
        self,
        held: Claim,
        status: str,
        columns: Mapping[str, Any],
        publish: Callable[[], object],
        cost: Mapping[str, Any] | None = None,
    ) -> None:
        """Put a result in place and record it, with those of other threads.

        Raises
        ------
        LeaseLost
            As :func:`dataminer.sync.claims.claim_end.finish`.
        """
        if not self._finish(Result(held, status, columns, publish, cost)):
            claim_end.finish(held, status, columns, publish, cost)

    def stop(self, reason: BaseException) -> None:
        """End what all threads download, and what they would begin from now on."""
        with self._lock:
            self._reason = reason
            for _, stop in self._held.values():
                stop.reason = reason

    @property
    def held(self) -> list[Claim]:
        """The claims that are kept alive."""
        with self._lock:
            return [held for held, _ in self._held.values()]

    def _beat(self) -> None:
        answered = time.monotonic()
        while True:
            time.sleep(self._interval)
            held = self.held
            try:
                lost = [one for one in claims.beat_all(held) if not _lives(one)] if held else []
                answered = time.monotonic()
            except (DatabaseError, psycopg2.Error) as error:
                log.warning("heartbeat failed: %s", error)
                lost = held if time.monotonic() - answered > self._safe else []
            for one in lost:
                self._lose(one)

    def _lose(self, held: Claim) -> None:
        with self._lock:
            if id(held) in self._held:
                self._held[id(held)][1].reason = LeaseLost.of(held)


def _lives(held: Claim) -> bool:
    return claims.beat(held) or claims.is_recorded(held)


def _finished(results: list[Result]) -> list[Result]:
    try:
        return claim_end.finish_all(results)
    except Exception as error:  # of one of them, which then ends in it alone
        log.info("results are recorded one by one: %s", error)
        return []


def _flushed(folders: list[Path]) -> list[Path]:
    try:
        fsync_trees(folders)
    except OSError as error:
        log.info("folders are flushed one by one: %s", error)
        return []
    return folders
