"""Ends a download attempt that takes too long or is too slow, wherever it hangs."""

from __future__ import annotations

import signal
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import NamedTuple

from dataminer.config.models import DownloadConfig
from dataminer.errors import ErrorClass, TransientError

_TICK = 0.5  # seconds between two checks of the clock


class DeadlineExceeded(BaseException):
    """Time is up. Not an Exception, because yt-dlp catches and ignores many of those."""


@dataclass
class Stop:
    """Lets another thread end the attempts of this one.

    Parameters
    ----------
    reason : BaseException, optional
        The error that the attempts end with, once it is set.
    """

    reason: BaseException | None = None


_STOP: ContextVar[Stop | None] = ContextVar("stop", default=None)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let another thread end the downloads of this thread within the block."""
    stop = Stop()
    token = _STOP.set(stop)
    try:
        yield stop
    finally:
        _STOP.reset(token)


def stoppable_sleeps(seconds: float) -> Iterator[float]:
    """Divide a sleep into short ones, so that another thread can end it within half a second.

    Raises
    ------
    BaseException
        The reason set by the other thread, see :func:`stoppable`.
    """
    stop = _STOP.get()
    while stop and seconds > _TICK:
        yield _TICK
        seconds -= _TICK
        if stop.reason:
            raise stop.reason
    yield seconds


class _RateWindow(NamedTuple):
    """When a measurement of the transfer rate began, and after how many bytes."""

    start: float
    bytes: int


class TransferDeadline:
    """The limits of one attempt: its duration, and its transfer rate.

    A system call may hang for as long as single bytes trickle in. In the main thread, a timer of
    the operating system interrupts it. In any other thread, where Python delivers no signals, the
    attempt's connections are shut down instead.

    Parameters
    ----------
    settings : DownloadConfig
        ``timeout_minutes``, ``min_bytes_per_second`` and ``rate_window_seconds``.
    """

    def __init__(self, settings: DownloadConfig) -> None:
        self._settings = settings
        self._stop = _STOP.get()
        self._began = time.monotonic()
        self._paused_at: float | None = None
        self._reason: BaseException | None = None
        self._window: _RateWindow | None = None
        self._bytes = 0
        self._connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Apply the limits to the block.

        Raises
        ------
        TransientError
            TIMEOUT, if a limit was exceeded.
        BaseException
            The reason set by another thread, see :func:`stoppable`.
        """
        try:
            with self._timer() if _in_main_thread() else self._clock():
                yield
            self._raise_if_over()  # an answer of undeclared length seems to end where we cut it
        except BaseException as error:
            if self._reason is None or not isinstance(error, DeadlineExceeded | Exception):
                raise
            raise self._reason from error

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock for the block, which has limits of its own: a request, or a wait."""
        self._paused_at = time.monotonic()
        try:
            yield
        finally:
            pause = time.monotonic() - self._paused_at
            self._began += pause
            if self._window:
                self._window = self._window._replace(start=self._window.start + pause)
            self._paused_at = None

    def add_connection(self, connection: socket.socket) -> None:
        """Register a connection of the attempt."""
        with self._lock:
            self._connections.add(connection)

    def transfer_begins(self) -> None:
        """Expect bytes from now on."""
        self._window = _RateWindow(time.monotonic(), self._bytes)

    def transfer_ends(self) -> None:
        """Expect no more bytes."""
        self._window = None

    def sleep(self, seconds: float) -> None:
        """Wait, while no bytes are expected, unless time is up."""
        self.transfer_ends()
        self.check()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _TICK))
            self.check()

    def received(self, total: int) -> None:
        """Record how many bytes have been received so far, and check the limits."""
        least = self._settings.min_bytes_per_second * self._settings.rate_window_seconds
        if self._window and not self._window.bytes <= total < self._window.bytes + least:
            self._window = _RateWindow(time.monotonic(), total)
        self._bytes = total
        self.check()

    def check(self) -> None:
        """Raise :class:`DeadlineExceeded` if time is up."""
        if self._reason is None:
            self._reason = self._end()
        self._raise_if_over()

    def cut_if_over(self) -> None:
        """Shut down the connections if time is up; called by another thread."""
        if self._reason is None:
            self._reason = self._end()
        if self._reason is not None:
            with self._lock:
                connections = list(self._connections)
            for connection in connections:
                with suppress(OSError):  # not TLS's own shutdown: the other thread is reading
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def _raise_if_over(self) -> None:
        if self._reason is not None:
            raise DeadlineExceeded(str(self._reason))

    def _end(self) -> BaseException | None:
        """Return why the attempt ends now; None if it continues."""
        if self._stop and self._stop.reason:
            return self._stop.reason
        if self._paused_at is not None:
            return None
        now, settings, window = time.monotonic(), self._settings, self._window
        least, seconds = settings.min_bytes_per_second, settings.rate_window_seconds
        if now - self._began > settings.timeout_minutes * 60:
            return _timeout(f"not done within timeout_minutes ({settings.timeout_minutes:g})")
        if window and now - window.start > seconds and least:
            return _timeout(f"slower than min_bytes_per_second ({least}) for {seconds:g} s")
        return None

    @contextmanager
    def _timer(self) -> Iterator[None]:
        def tick(number: int, frame: FrameType | None) -> None:
            self.check()

        before = signal.signal(signal.SIGALRM, tick)
        signal.setitimer(signal.ITIMER_REAL, _TICK, _TICK)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    @contextmanager
    def _clock(self) -> Iterator[None]:
        _CLOCK.add(self)
        try:
            yield
        finally:
            _CLOCK.discard(self)


class _Clock:
    """A thread that checks the deadlines of all other threads."""

    def __init__(self) -> None:
        self._deadlines: set[TransferDeadline] = set()
        self._lock = threading.Lock()
        self._never = threading.Event()
        self._runs = False

    def add(self, deadline: TransferDeadline) -> None:
        with self._lock:
            self._deadlines.add(deadline)
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="clock", daemon=True).start()

    def discard(self, deadline: TransferDeadline) -> None:
        with self._lock:
            self._deadlines.discard(deadline)

    def _run(self) -> None:
        while True:
            self._never.wait(_TICK)
            with self._lock:
                deadlines = list(self._deadlines)
                if not deadlines:
                    self._runs = False
                    return
            for deadline in deadlines:
                deadline.cut_if_over()


_CLOCK = _Clock()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _timeout(message: str) -> TransientError:
    return TransientError(message, ErrorClass.TIMEOUT)
