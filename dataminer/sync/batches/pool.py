"""Worker processes that do one task at a time, or several, and can be lost without the others.

The process that hands out the tasks has no threads and no connections, so it can fork at any time,
and nothing that a task does can stop it.
"""

from __future__ import annotations

import contextvars
import ctypes
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar

import psutil

from dataminer.errors import ErrorClass
from dataminer.sync.claims.heartbeat import Interrupted, interruptible

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
    shared : bool
        Whether other tasks were being done as well: nobody knows which of them was the cause.
    """

    how: str
    error_class: ErrorClass
    shared: bool = False


class Crew(Protocol[T, R]):  # type: ignore[misc]
    """Does several tasks at once in a worker, each on a thread."""

    def do(self, task: T) -> R:
        """Do a task; called in one of the threads."""

    def give_up(self, reason: BaseException) -> None:
        """Give back all tasks, as the worker was asked to end; called in the main thread."""


def run(
    tasks: Iterable[T],
    work: Callable[[T], R],
    *,
    workers: int,
    limits: Limits,
    settle: Callable[[T, Lost], object],
    crew: Callable[[], Crew[T, R]] | None = None,
    at_once: int = 1,
    more: Callable[[], Iterable[T]] = tuple,
) -> Iterator[tuple[T, R | Lost]]:
    """Do tasks in worker processes, each of which does many.

    Parameters
    ----------
    tasks : iterable
        What to do, in this order; each can be pickled.
    work : callable
        Does one task in a worker; what it returns can be pickled.
    workers : int
        How many processes work.
    limits : Limits
        A worker that exceeds one is killed and replaced.
    settle : callable
        Called in a worker with a task whose own worker was lost.
    crew : callable, optional
        Makes what does several tasks at once in a worker, instead of ``work``.
    at_once : int
        How many tasks a worker does at once, if there is a crew.
    more : callable
        Returns what is to be done as well, after the tasks that wait; asked until all are done.

    Yields
    ------
    tuple
        Each task with what became of it, as soon as it is known.

    Raises
    ------
    Interrupted
        When the process was asked to end; the workers have ended by then.
    """
    serve = _Crewed(crew, at_once) if crew else work
    pool = _Pool[T, R](tasks, serve, settle, limits)
    with interruptible():
        try:
            pool.begin(workers)
            while pool.waiting or pool.busy():
                pool.waiting.extend(more())
                pool.hand_out()
                yield from pool.look()
        finally:
            pool.end()


@dataclass(frozen=True)
class _Crewed(Generic[T, R]):
    """How a worker does several tasks at once."""

    make: Callable[[], Crew[T, R]]
    at_once: int


class _Pool(Generic[T, R]):
    def __init__(
        self,
        tasks: Iterable[T],
        work: Callable[[T], R] | _Crewed[T, R],
        settle: Callable[[T, Lost], object],
        limits: Limits,
    ) -> None:
        self.waiting = deque(tasks)
        self._work, self._settle, self._limits = work, settle, limits
        # of a crew nobody waits for the next task
        self._most = work.at_once + 1 if isinstance(work, _Crewed) else 1
        self._workers: list[_Worker[T, R]] = []

    def begin(self, count: int) -> None:
        for _ in range(min(count, len(self.waiting))):
            self._fork()

    def busy(self) -> list[_Worker[T, R]]:
        return [worker for worker in self._workers if worker.busy]

    def hand_out(self) -> None:
        """Give tasks to the workers, first to those that have the fewest."""
        while self.waiting:
            worker = min(self._workers, key=lambda worker: len(worker.tasks))
            if len(worker.tasks) >= self._most:
                return
            worker.give(self.waiting.popleft())

    def look(self) -> Iterator[tuple[T, R | Lost]]:
        """Wait for news, for a moment; yield what has ended."""
        ends = [end for worker in self.busy() for end in (worker.results, worker.pulse)]
        ready = wait(ends, timeout=_LOOK_SECONDS)
        for worker in self.busy():
            if worker.pulse in ready:
                worker.hear()
            try:
                if worker.results in ready:
                    yield from worker.news()
                    continue
            except (EOFError, OSError):  # the latter if it ended before it heard of all its tasks
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
        worker.kill()
        yield from worker.last_news()
        log.error("%s: %s", ", ".join(map(str, worker.begun)), lost.how)
        self._workers.remove(worker)
        fresh = self._fork()
        # if it got to none of them, any may be the cause: it would be lost again and again
        begun = worker.begun or [task for task, settling in worker.tasks.items() if not settling]
        for task, was_settling in worker.tasks.items():
            if was_settling:  # nothing more can be done for it: its claim grows stale
                yield task, was_settling
            elif task in begun:
                fresh.give(task, replace(lost, shared=len(begun) > 1))
            else:
                self.waiting.appendleft(task)

    def _fork(self) -> _Worker[T, R]:
        others = [end for worker in self._workers for end in (worker.results, worker.pulse)]
        worker = _Worker.fork(self._work, self._settle, others)
        worker.begins_at_once = not isinstance(self._work, _Crewed)
        self._workers.append(worker)
        return worker


@dataclass(eq=False)
class _Worker(Generic[T, R]):
    """A worker, as the process that hands out tasks sees it."""

    pid: int
    results: Connection
    pulse: Connection
    tasks: dict[T, Lost | None] = field(default_factory=dict)
    """What it was given: a task to do, or one whose own worker was lost."""
    begun: list[T] = field(default_factory=list)
    """The tasks that are being done."""
    begins_at_once: bool = True
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
        work: Callable[[T], R] | _Crewed[T, R],
        settle: Callable[[T, Lost], object],
        of_others: Iterable[Connection],
    ) -> _Worker[T, R]:
        results, its_results = Pipe()
        pulse, its_pulse = Pipe(duplex=False)
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
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

    @property
    def busy(self) -> bool:
        return bool(self.tasks)

    def give(self, task: T, settling: Lost | None = None) -> None:
        if not self.busy:
            self._looked, self._silent, self._unmoved = time.monotonic(), 0.0, 0.0
        self.tasks[task] = settling
        if self.begins_at_once and not settling:
            self.begun.append(task)
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

    def news(self) -> Iterator[tuple[T, R | Lost]]:
        """Hear that a task was begun or, which is yielded, what became of it."""
        task, *result = self.results.recv()
        if not result:
            self.begun.append(task)
            return
        lost = self.tasks.pop(task)
        if task in self.begun:
            self.begun.remove(task)
        yield task, lost or result[0]

    def last_news(self) -> Iterator[tuple[T, R | Lost]]:
        """Hear what it said before it was killed."""
        with suppress(EOFError, OSError):
            while self.results.poll():
                yield from self.news()
        self.results.close()
        self.pulse.close()

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
        self.results.close()
        self.pulse.close()


# ---- in the worker -----------------------------------------------------------------------------


def _serve(
    results: Connection,
    pulse: Connection,
    work: Callable[[T], R] | _Crewed[T, R],
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
    try:
        if isinstance(work, _Crewed):
            _serve_many(results, work, settle)
        else:
            _serve_one_by_one(results, work, settle)
    except EOFError:
        os._exit(0)
    except Interrupted:
        os._exit(128 + signal.SIGTERM)
    except BaseException:
        log.exception("the worker ends")
        os._exit(1)


def _serve_one_by_one(
    results: Connection, work: Callable[[T], R], settle: Callable[[T, Lost], object]
) -> None:
    while True:
        task, lost = results.recv()
        with interruptible():
            done = work(task) if lost is None else settle(task, lost)
        results.send((task, done))


def _serve_many(
    results: Connection, crewed: _Crewed[T, R], settle: Callable[[T, Lost], object]
) -> None:
    crew, sending = crewed.make(), threading.Lock()
    ready: queue.SimpleQueue[T] = queue.SimpleQueue()

    def tell(*news: Any) -> None:
        with sending:
            results.send(news)

    def serve() -> None:
        try:
            while True:
                task = ready.get()
                tell(task)
                tell(task, crew.do(task))
        except Interrupted:
            return  # the main thread gives everything back
        except BaseException:
            log.exception("the worker ends")
            os._exit(1)

    for _ in range(crewed.at_once):
        # with what the main thread knows of its log
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(serve,), daemon=True).start()
    with interruptible():
        try:
            while True:
                task, lost = results.recv()
                if lost:
                    tell(task, settle(task, lost))
                else:
                    ready.put(task)
        except Interrupted as asked:
            crew.give_up(asked)
            raise


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
