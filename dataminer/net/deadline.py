"""Ends an attempt that takes too long, or whose bytes come too slowly, wherever it hangs."""

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

from dataminer.config.models import DownloadConfig
from dataminer.errors import ErrorClass, TransientError

_TICK = 0.5  # seconds between two looks at the clock


class DeadlineExceeded(BaseException):
    """Time is up. No Exception, of which yt-dlp catches and forgives many."""


@dataclass
class Stop:
    """Lets another thread end the attempts of this one.

    Parameters
    ----------
    reason : BaseException, optional
        What the attempts end with, once it is set.
    """

    reason: BaseException | None = None


_STOP: ContextVar[Stop | None] = ContextVar("stop", default=None)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let another thread end what this thread downloads in the block."""
    stop = Stop()
    token = _STOP.set(stop)
    try:
        yield stop
    finally:
        _STOP.reset(token)


def naps(seconds: float) -> Iterator[float]:
    """Divide a sleep, so that another thread can end it within half a second.

    Raises
    ------
    BaseException
        The reason that the other thread gave, see :func:`stoppable`.
    """
    stop = _STOP.get()
    while stop and seconds > _TICK:
        yield _TICK
        seconds -= _TICK
        if stop.reason:
            raise stop.reason
    yield seconds


class TransferDeadline:
    """The clock of one attempt: all of it, and the pace of its bytes.

    A system call may hang for as long as single bytes trickle in. In the main thread, a timer of
    the operating system interrupts it. In any other thread, where Python hears no signals, the
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
        self._mark: tuple[float, int] | None = None  # when the window began, with how many bytes
        self._bytes = 0
        self._connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch over the block.

        Raises
        ------
        TransientError
            TIMEOUT, when time was up.
        BaseException
            The reason that another thread gave, see :func:`stoppable`.
        """
        try:
            with self._timer() if _in_main_thread() else self._clock():
                yield
            self._raise_if_over()  # bytes whose number nobody declared seem to end where we cut
        except BaseException as error:
            if self._reason is None or not isinstance(error, DeadlineExceeded | Exception):
                raise
            raise self._reason from error

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

    def uses(self, connection: socket.socket) -> None:
        """Note a connection of the attempt."""
        with self._lock:
            self._connections.add(connection)

    def transfer_begins(self) -> None:
        """Expect bytes from now on."""
        self._mark = (time.monotonic(), self._bytes)

    def transfer_ends(self) -> None:
        """Expect no more bytes."""
        self._mark = None

    def rest(self, seconds: float) -> None:
        """Wait, unless time is up; no bytes come meanwhile."""
        self.transfer_ends()
        self.check()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _TICK))
            self.check()

    def saw(self, total: int) -> None:
        """Note how many bytes have come so far, and look at the clock."""
        least = self._settings.min_bytes_per_second * self._settings.rate_window_seconds
        if self._mark and not self._mark[1] <= total < self._mark[1] + least:
            self._mark = (time.monotonic(), total)
        self._bytes = total
        self.check()

    def check(self) -> None:
        """Raise :class:`DeadlineExceeded` when time is up."""
        if self._reason is None:
            self._reason = self._end()
        self._raise_if_over()

    def cut_if_over(self) -> None:
        """Shut down the connections when time is up; called by another thread."""
        if self._reason is None:
            self._reason = self._end()
        if self._reason is not None:
            with self._lock:
                connections = list(self._connections)
            for connection in connections:
                with suppress(OSError):  # not that of TLS, which the reading thread is in
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def _raise_if_over(self) -> None:
        if self._reason is not None:
            raise DeadlineExceeded(str(self._reason))

    def _end(self) -> BaseException | None:
        """Return why the attempt ends now; None if it goes on."""
        if self._stop and self._stop.reason:
            return self._stop.reason
        if self._paused_at is not None:
            return None
        now, settings = time.monotonic(), self._settings
        mark, window = self._mark, settings.rate_window_seconds
        if now - self._began > settings.timeout_minutes * 60:
            return _timeout(f"not done within timeout_minutes ({settings.timeout_minutes:g})")
        if mark and now - mark[0] > window and settings.min_bytes_per_second:
            least = settings.min_bytes_per_second
            return _timeout(f"slower than min_bytes_per_second ({least}) for {window:g} s")
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
        _CLOCK.watch(self)
        try:
            yield
        finally:
            _CLOCK.forget(self)


class _Clock:
    """A thread that looks at the watches of all others."""

    def __init__(self) -> None:
        self._watches: set[TransferDeadline] = set()
        self._lock = threading.Lock()
        self._never = threading.Event()
        self._runs = False

    def watch(self, watch: TransferDeadline) -> None:
        with self._lock:
            self._watches.add(watch)
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="clock", daemon=True).start()

    def forget(self, watch: TransferDeadline) -> None:
        with self._lock:
            self._watches.discard(watch)

    def _run(self) -> None:
        while True:
            self._never.wait(_TICK)
            with self._lock:
                watches = list(self._watches)
                if not watches:
                    self._runs = False
                    return
            for watch in watches:
                watch.cut_if_over()


_CLOCK = _Clock()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _timeout(message: str) -> TransientError:
    return TransientError(message, ErrorClass.TIMEOUT)
