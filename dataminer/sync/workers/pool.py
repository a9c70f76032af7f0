"""Worker processes that run one task at a time, or several, and can be lost without the others.

The process that hands out the tasks has no threads and no connections. So it can fork at any time,
and no task can stop it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from multiprocessing.connection import wait
from typing import Generic

from dataminer.sync.claims.heartbeat import interruptible
from dataminer.sync.workers.handle import WorkerHandle
from dataminer.sync.workers.tasks import Concurrent, Limits, Lost, Mode, R, Settle, T

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2  # between two checks of the workers' memory
_GRACE_SECONDS = 15.0  # for workers to end after a request


def run(
    tasks: Iterable[T],
    mode: Mode[T, R],
    *,
    workers: int,
    limits: Limits,
    settle: Settle[T],
    more: Callable[[], Iterable[T]] = tuple,
) -> Generator[tuple[T, R | Lost], None, None]:
    """Run tasks in worker processes, each of which runs many.

    Parameters
    ----------
    tasks, mode : iterable, Serial or Concurrent
        Tasks in their order, and how a worker runs them; they and their results can be pickled.
    workers, limits : int, Limits
        The number of processes; one that exceeds a limit is killed and replaced.
    settle, more : callable
        Called in a worker with a task whose own worker was lost; returns further tasks to append.

    Yields
    ------
    tuple
        Each task with its outcome, as soon as it is known.

    Raises
    ------
    Interrupted
        If the process was asked to end; the workers have ended by then.
    """
    pool = _Pool[T, R](tasks, mode, settle, limits)
    with interruptible():
        try:
            pool.begin(workers)
            while pool.waiting or pool.busy():
                pool.waiting.extend(more())
                pool.hand_out()
                yield from pool.poll()
        finally:
            pool.end()


class _Pool(Generic[T, R]):
    def __init__(
        self, tasks: Iterable[T], mode: Mode[T, R], settle: Settle[T], limits: Limits
    ) -> None:
        self.waiting = deque(tasks)
        self._mode, self._settle, self._limits = mode, settle, limits
        # one more than at once, so that no thread waits for its next task
        self._tasks_per_worker = mode.count + 1 if isinstance(mode, Concurrent) else 1
        self._workers: list[WorkerHandle[T, R]] = []

    def begin(self, count: int) -> None:
        for _ in range(min(count, len(self.waiting))):
            self._fork()

    def busy(self) -> list[WorkerHandle[T, R]]:
        return [worker for worker in self._workers if worker.busy]

    def hand_out(self) -> None:
        """Give tasks to the workers, first to those that have the fewest."""
        while self.waiting:
            worker = min(self._workers, key=lambda worker: len(worker.tasks))
            if len(worker.tasks) >= self._tasks_per_worker:
                return
            worker.give(self.waiting.popleft())

    def poll(self) -> Iterator[tuple[T, R | Lost]]:
        """Wait a moment for messages; yield outcomes."""
        ends = [end for worker in self.busy() for end in (worker.results, worker.pulse)]
        ready = wait(ends, timeout=_POLL_SECONDS)
        for worker in self.busy():
            if worker.pulse in ready:
                worker.read_pulse()
            try:
                if worker.results in ready:
                    yield from worker.read_message()
                    continue
            except (EOFError, OSError):  # the latter if it ended before it received all its tasks
                worker.lost = worker.lost or worker.reap()
            worker.lost = worker.lost or worker.exceeded(self._limits)
            if worker.lost:
                yield from self._replace(worker, worker.lost)

    def end(self) -> None:
        for worker in self._workers:
            worker.request_end()
        until = time.monotonic() + _GRACE_SECONDS
        for worker in self._workers:
            worker.wait_for_end(until)
        self._workers.clear()

    def _replace(self, worker: WorkerHandle[T, R], lost: Lost) -> Iterator[tuple[T, R | Lost]]:
        worker.kill()
        yield from worker.read_last_messages()
        log.error("%s: %s", ", ".join(map(str, worker.begun)), lost.how)
        self._workers.remove(worker)
        fresh = self._fork()
        # if it began none of them, any may be the cause: it would be lost again and again
        begun = worker.begun or [task for task, settling in worker.tasks.items() if not settling]
        for task, was_settling in worker.tasks.items():
            if was_settling:  # nothing more can be done for it: its claim grows stale
                yield task, was_settling
            elif task in begun:
                fresh.give(task, replace(lost, shared=len(begun) > 1))
            else:
                self.waiting.appendleft(task)

    def _fork(self) -> WorkerHandle[T, R]:
        others = [end for worker in self._workers for end in (worker.results, worker.pulse)]
        worker = WorkerHandle[T, R].fork(self._mode, self._settle, others)
        self._workers.append(worker)
        return worker
