"""Worker processes that do one task at a time, and can be lost without the others.

The process that hands out the tasks has no threads and no connections, so it can fork at any time,
and nothing that a task does can stop it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import psutil

from dataminer.errors import ErrorClass
from dataminer.sync.heartbeat import Interrupted, interruptible

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_LOOK_SECONDS = 0.2  # between two looks at the workers' memory
_PULSE_SECONDS = 1.0  # between two signs of life of a worker
_LONGEST_STEP = 1.0  # what one look counts at most
_GRACE_SECONDS = 15.0  # for workers that were asked to end
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ALIVE, _MOVED = b".", b"+"


@dataclass(frozen=True)
class Limits:
    """What one worker may use before it is stopped.

    Parameters
    ----------
    memory_bytes : int
        Resident memory.
    blocked_seconds : float
        Time without any sign of life: its interpreter does not run.
    idle_seconds : float
        Time without progress: it writes nothing to its log.
    """

    memory_bytes: int
    blocked_seconds: float
    idle_seconds: float


@dataclass(frozen=True)
class Lost:
    """What became of a task whose worker ended before it.

    Parameters
    ----------
    how : str
        For people.
    error_class : ErrorClass
        OUT_OF_MEMORY, HUNG or CRASHED.
    """

    how: str
    error_class: ErrorClass


def run(
    tasks: Iterable[T],
    work: Callable[[T], R],
    *,
    workers: int,
    limits: Limits,
    settle: Callable[[T, Lost], object],
) -> Iterator[tuple[T, R | Lost]]:
    """Do tasks in worker processes, each of which does many.

    Parameters
    ----------
    tasks : iterable
        What to do, in this order; each can be pickled.
    work : callable
        Does one task in a worker; what it returns can be pickled.
    workers : int
        How many tasks are done at once.
    limits : Limits
        A worker that exceeds one is killed and replaced.
    settle : callable
        Called in a worker with a task whose own worker was lost.

    Yields
    ------
    tuple
        Each task with what became of it, as soon as it is known.

    Raises
    ------
    Interrupted
        When the process was asked to end; the workers have ended by then.
    """
    waiting, pool = deque(tasks), _Pool[T, R](work, settle, limits)
    with interruptible():
        try:
            pool.begin(min(workers, len(waiting)))
            while waiting or pool.busy():
                for worker in pool.idle():
                    if waiting:
                        worker.give(waiting.popleft())
                yield from pool.look()
        finally:
            pool.end()


class _Pool(Generic[T, R]):
    def __init__(
        self, work: Callable[[T], R], settle: Callable[[T, Lost], object], limits: Limits
    ) -> None:
        self._work, self._settle, self._limits = work, settle, limits
        self._workers: list[_Worker[T, R]] = []

    def begin(self, count: int) -> None:
        for _ in range(count):
            self._fork()

    def busy(self) -> list[_Worker[T, R]]:
        return [worker for worker in self._workers if worker.busy]

    def idle(self) -> list[_Worker[T, R]]:
        return [worker for worker in self._workers if not worker.busy]

    def look(self) -> Iterator[tuple[T, R | Lost]]:
        """Wait for news, for a moment; yield what has ended."""
        ends = [end for worker in self.busy() for end in (worker.results, worker.pulse)]
        ready = wait(ends, timeout=_LOOK_SECONDS)
        for worker in self.busy():
            if worker.pulse in ready:
                worker.hear()
            try:
                if worker.results in ready:
                    yield worker.finished()
                    continue
            except EOFError:
                worker.lost = worker.lost or worker.how_it_ended()
            worker.lost = worker.lost or worker.over(self._limits)
            if worker.lost:
                yield from self._replace(worker, worker.lost)

    def end(self) -> None:
        for worker in self._workers:
            worker.ask_to_end()
        until = time.monotonic() + _GRACE_SECONDS
        for worker in self._workers:
            worker.wait_for_end(until)
        self._workers.clear()

    def _replace(self, worker: _Worker[T, R], lost: Lost) -> Iterator[tuple[T, R | Lost]]:
        log.error("%s: %s", worker.task, lost.how)
        worker.kill()
        self._workers.remove(worker)
        task, was_settling = worker.task, worker.settling
        fresh = self._fork()
        if was_settling:  # nothing more can be done for it: its claim grows stale
            yield task, was_settling
        else:
            fresh.give(task, settling=lost)

    def _fork(self) -> _Worker[T, R]:
        others = [end for worker in self._workers for end in (worker.results, worker.pulse)]
        worker = _Worker.fork(self._work, self._settle, others)
        self._workers.append(worker)
        return worker


@dataclass(eq=False)
class _Worker(Generic[T, R]):
    """A worker, as the process that hands out tasks sees it."""

    pid: int
    results: Connection
    pulse: Connection
    busy: bool = False
    task: Any = None
    settling: Lost | None = None
    lost: Lost | None = None
    _looked: float = 0.0
    _silent: float = 0.0
    _unmoved: float = 0.0
    _process: psutil.Process = field(init=False)

    def __post_init__(self) -> None:
        self._process = psutil.Process(self.pid)

    @classmethod
    def fork(
        cls,
        work: Callable[[T], R],
        settle: Callable[[T, Lost], object],
        of_others: Iterable[Connection],
    ) -> _Worker[T, R]:
        results, its_results = Pipe()
        pulse, its_pulse = Pipe(duplex=False)
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                for end in (
                    results,
                    pulse,
                    *of_others,
                ):  # else none of them would see the other end close
                    end.close()
                _serve(its_results, its_pulse, work, settle, parent)
            finally:
                os._exit(1)
        its_results.close()
        its_pulse.close()
        return cls(pid, results, pulse)

    def give(self, task: T, settling: Lost | None = None) -> None:
        self.task, self.settling, self.busy = task, settling, True
        self._looked, self._silent, self._unmoved = time.monotonic(), 0.0, 0.0
        with suppress(OSError):  # it has ended: the next look finds that out
            self.results.send((task, settling))

    def hear(self) -> None:
        try:
            sign = self.pulse.recv_bytes()
        except EOFError:
            return
        self._silent = 0.0
        if sign == _MOVED:
            self._unmoved = 0.0

    def finished(self) -> tuple[T, R | Lost]:
        result = self.results.recv()
        task, self.busy = self.task, False
        return task, self.settling or result

    def over(self, limits: Limits) -> Lost | None:
        """Tell which limit the worker has exceeded."""
        now = time.monotonic()
        passed, self._looked = now - self._looked, now
        # after a longer step this process was suspended, and its workers with it
        self._silent = self._silent + passed if passed < _LONGEST_STEP else 0.0
        self._unmoved += min(passed, _LONGEST_STEP)
        if self._silent > limits.blocked_seconds:
            how = f"stopped: it made no sign of life for {limits.blocked_seconds:.0f} s"
            return Lost(how, ErrorClass.HUNG)
        if self._unmoved > limits.idle_seconds:
            how = f"stopped: it made no progress for {limits.idle_seconds:.0f} s"
            return Lost(how, ErrorClass.HUNG)
        try:
            used = self._process.memory_info().rss
        except psutil.NoSuchProcess:
            return None  # the next look finds out how it ended
        if used > limits.memory_bytes:
            how = f"stopped: it used more than {limits.memory_bytes / 2**20:.0f} MB of memory"
            return Lost(how, ErrorClass.OUT_OF_MEMORY)
        return None

    def how_it_ended(self) -> Lost:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        if code == -signal.SIGKILL:
            how = "killed by SIGKILL, as the system does when memory runs out"
            return Lost(how, ErrorClass.OUT_OF_MEMORY)
        if code < 0:
            return Lost(f"crashed by {signal.Signals(-code).name}", ErrorClass.CRASHED)
        return Lost(f"ended with exit status {code}", ErrorClass.CRASHED)

    def kill(self) -> None:
        if self.pid:
            for process in [*self._children(), self._process]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            os.waitpid(self.pid, 0)
            self.pid = 0
        self.results.close()
        self.pulse.close()

    def _children(self) -> list[psutil.Process]:
        try:
            return list(self._process.children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    def ask_to_end(self) -> None:
        if self.pid and self.busy:
            os.kill(self.pid, signal.SIGTERM)
        elif self.pid:
            self.results.close()

    def wait_for_end(self, until: float) -> None:
        while self.pid and time.monotonic() < until:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.pid = 0
            else:
                time.sleep(0.02)
        self.kill()


# ---- in the worker -----------------------------------------------------------------------------


def _serve(
    results: Connection,
    pulse: Connection,
    work: Callable[[T], R],
    settle: Callable[[T, Lost], object],
    parent: int,
) -> None:
    """Do tasks until there are no more; never returns to what forked."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    _end_with(parent)
    progress = _Progress()
    logging.getLogger().addHandler(progress)
    threading.Thread(target=_beat, args=(pulse, progress), daemon=True).start()
    while True:
        try:
            task, lost = results.recv()
        except EOFError:
            os._exit(0)
        try:
            with interruptible():
                done = work(task) if lost is None else settle(task, lost)
        except Interrupted:
            os._exit(128 + signal.SIGTERM)
        except BaseException:
            log.exception("the worker ends")
            os._exit(1)
        results.send(done)


class _Progress(logging.Handler):
    """Notes that something was logged since the last look."""

    moved = False

    def emit(self, record: logging.LogRecord) -> None:
        self.moved = True


def _beat(pulse: Connection, progress: _Progress) -> None:
    while True:
        time.sleep(_PULSE_SECONDS)
        moved, progress.moved = progress.moved, False
        try:
            pulse.send_bytes(_MOVED if moved else _ALIVE)
        except OSError:  # nobody hands out tasks any more
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _end_with(parent: int) -> None:
    """Have this process killed when the one that forked it ends, where the system can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
