"""Threads that download at once share heartbeats, and statements for many videos."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from dataminer.config import MonitorConfig
from dataminer.errors import DatabaseError
from dataminer.files.flushing import fsync_tree, fsync_trees
from dataminer.net.deadline import Stop, stoppable
from dataminer.sync.batches.call_combiner import CallCombiner
from dataminer.sync.claims import claim_end, claims
from dataminer.sync.claims.claim_end import Result
from dataminer.sync.claims.claims import Claim, LeaseLost
from dataminer.sync.claims.execution import PATIENCE
from dataminer.sync.claims.heartbeat import SAFE_SHARE

log = logging.getLogger(__name__)


class SharedKeeper:
    """Keeps the claims of many threads alive, and records their results together.

    It is the :class:`dataminer.sync.tasks.task.Keeper` of all of them.

    Parameters
    ----------
    settings : MonitorConfig
        The interval of heartbeats, and the age at which a claim is stale.
    """

    def __init__(self, settings: MonitorConfig) -> None:
        self._interval = settings.heartbeat_seconds
        stale = settings.stale_threshold_minutes * 60
        self._safe_seconds = max(stale * SAFE_SHARE, PATIENCE)
        self._lock = threading.Lock()
        self._claims: dict[int, tuple[Claim, Stop]] = {}
        self._beating = False
        self._reason: BaseException | None = None
        self._finish = CallCombiner(_finish_all)
        self._flush = CallCombiner(_flush_all)

    @contextmanager
    def kept_alive(self, claim: Claim, settings: MonitorConfig) -> Iterator[None]:
        """Keep a claim alive for the block; if it is lost, downloads of this thread end."""
        with stoppable() as stop:
            with self._lock:
                if self._reason:
                    raise self._reason
                self._claims[id(claim)] = claim, stop
                if not self._beating:
                    self._beating = True
                    threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
            try:
                yield
            finally:
                with self._lock:
                    self._claims.pop(id(claim), None)

    def flush(self, folder: Path) -> None:
        """Flush a folder to the disk, with those of other threads."""
        if not self._flush(folder):
            fsync_tree(folder)

    def finish(
        self,
        claim: Claim,
        status: str,
        columns: Mapping[str, Any],
        publish: Callable[[], object],
        cost: Mapping[str, Any] | None = None,
    ) -> None:
        """Put a result in place and record it, with those of other threads.

        Raises
        ------
        LeaseLost
            See :func:`dataminer.sync.claims.claim_end.finish`.
        """
        if not self._finish(Result(claim, status, columns, publish, cost)):
            claim_end.finish(claim, status, columns, publish, cost)

    def stop(self, reason: BaseException) -> None:
        """End the downloads of all threads, and those that they would begin from now on."""
        with self._lock:
            self._reason = reason
            for _, stop in self._claims.values():
                stop.reason = reason

    @property
    def live_claims(self) -> list[Claim]:
        """The claims that are kept alive."""
        with self._lock:
            return [claim for claim, _ in self._claims.values()]

    def _beat(self) -> None:
        answered = time.monotonic()
        while True:
            time.sleep(self._interval)
            live = self.live_claims
            try:
                lost = (
                    [claim for claim in claims.beat_all(live) if not _is_live(claim)]
                    if live
                    else []
                )
                answered = time.monotonic()
            except (DatabaseError, psycopg2.Error) as error:
                log.warning("heartbeat failed: %s", error)
                lost = live if time.monotonic() - answered > self._safe_seconds else []
            for claim in lost:
                self._lose(claim)

    def _lose(self, claim: Claim) -> None:
        with self._lock:
            if id(claim) in self._claims:
                self._claims[id(claim)][1].reason = LeaseLost.of(claim)


def _is_live(claim: Claim) -> bool:
    return claims.beat(claim) or claims.is_recorded(claim)


def _finish_all(results: list[Result]) -> list[Result]:
    try:
        return claim_end.finish_all(results)
    except Exception as error:  # of one of them; alone, the others succeed
        log.info("results are recorded one by one: %s", error)
        return []


def _flush_all(folders: list[Path]) -> list[Path]:
    try:
        fsync_trees(folders)
    except OSError as error:
        log.info("folders are flushed one by one: %s", error)
        return []
    return folders
