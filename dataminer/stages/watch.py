"""Ends an attempt that takes too long, or whose bytes come too slowly, wherever it hangs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from dataminer.config.models import DownloadConfig
from dataminer.errors import ErrorClass, TransientError

_TICK = 0.5  # seconds between two looks at the clock


class Overdue(BaseException):
    """Time is up. No Exception, of which yt-dlp catches and forgives many."""


class Watch:
    """The clock of one attempt: all of it, and the pace of its bytes.

    A system call may hang for as long as single bytes trickle in, and so a timer of the operating
    system interrupts it; outside the main thread, where Python hears no signals, only
    :meth:`check` does, which is called for each block.

    Parameters
    ----------
    settings : DownloadConfig
        ``timeout_minutes``, ``min_bytes_per_second`` and ``rate_window_seconds``.
    """

    def __init__(self, settings: DownloadConfig) -> None:
        self._settings = settings
        self._began = time.monotonic()
        self._paused_at: float | None = None
        self._reason = ""
        self._mark: tuple[float, int] | None = None  # when the window began, with how many bytes
        self._bytes = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch over the block.

        Raises
        ------
        TransientError
            TIMEOUT, when time was up.
        """
        try:
            with self._timer():
                yield
        except BaseException as error:
            if not self._reason or not isinstance(error, Overdue | Exception):
                raise
            raise TransientError(self._reason, ErrorClass.TIMEOUT) from error

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock for the block, which has limits of its own: a request, a wait for one."""
        self._paused_at = time.monotonic()
        try:
            yield
        finally:
            lost = time.monotonic() - self._paused_at
            self._began += lost
            if self._mark:
                self._mark = (self._mark[0] + lost, self._mark[1])
            self._paused_at = None

    def transfer_begins(self) -> None:
        """Expect bytes from now on."""
        self._mark = (time.monotonic(), self._bytes)

    def transfer_ends(self) -> None:
        """Expect no more bytes."""
        self._mark = None

    def saw(self, total: int) -> None:
        """Note how many bytes have come so far, and look at the clock."""
        least = self._settings.min_bytes_per_second * self._settings.rate_window_seconds
        if self._mark and not self._mark[1] <= total < self._mark[1] + least:
            self._mark = (time.monotonic(), total)
        self._bytes = total
        self.check()

    def check(self) -> None:
        """Raise :class:`Overdue` when time is up."""
        if self._paused_at is not None:
            return
        now, settings = time.monotonic(), self._settings
        if now - self._began > settings.timeout_minutes * 60:
            self._end(f"not done within timeout_minutes ({settings.timeout_minutes:g})")
        slow = self._mark and now - self._mark[0] > settings.rate_window_seconds
        if slow and settings.min_bytes_per_second:
            window = settings.rate_window_seconds
            self._end(
                f"slower than min_bytes_per_second ({settings.min_bytes_per_second})"
                f" for {window:g} s"
            )

    def _end(self, reason: str) -> None:
        self._reason = reason
        raise Overdue(reason)

    @contextmanager
    def _timer(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def tick(number: int, frame: FrameType | None) -> None:
            self.check()

        before = signal.signal(signal.SIGALRM, tick)
        signal.setitimer(signal.ITIMER_REAL, _TICK, _TICK)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
