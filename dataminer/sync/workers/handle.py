"""A worker process as its parent sees it: its tasks, its signs of life and its end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Generic

import psutil

from dataminer.errors import ErrorClass
from dataminer.sync.workers.process import PROGRESS, run_worker
from dataminer.sync.workers.tasks import Limits, Lost, Mode, R, Serial, Settle, T

_LONGEST_STEP = 1.0  # what the time between two checks counts as, at most


@dataclass(eq=False)
class WorkerHandle(Generic[T, R]):
    """A worker process, and what it was given to do."""

    pid: int
    results: Connection
    pulse: Connection
    begins_at_once: bool
    """Whether it begins a task as soon as it gets it; otherwise it sends a message first."""
    tasks: dict[T, Lost | None] = field(default_factory=dict)
    """Tasks to run, and tasks to settle: those whose own worker was lost."""
    begun: list[T] = field(default_factory=list)
    """The tasks that are running."""
    lost: Lost | None = None
    _checked: float = 0.0
    _quiet_seconds: float = 0.0
    _idle_seconds: float = 0.0
    _process: psutil.Process = field(init=False)

    def __post_init__(self) -> None:
        self._process = psutil.Process(self.pid)

    @classmethod
    def fork(
        cls, mode: Mode[T, R], settle: Settle[T], others: Iterable[Connection]
    ) -> WorkerHandle[T, R]:
        """Start a worker; it closes the connections to other workers, or they would never end."""
        results, its_results = Pipe()
        pulse, its_pulse = Pipe(duplex=False)
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                for end in (results, pulse, *others):
                    end.close()
                run_worker(its_results, its_pulse, mode, settle, parent)
            finally:
                os._exit(1)
        its_results.close()
        its_pulse.close()
        return cls(pid, results, pulse, isinstance(mode, Serial))

    @property
    def busy(self) -> bool:
        """Whether it has tasks."""
        return bool(self.tasks)

    def give(self, task: T, settling: Lost | None = None) -> None:
        """Send it a task to run, or one to settle."""
        if not self.busy:
            self._checked, self._quiet_seconds, self._idle_seconds = time.monotonic(), 0.0, 0.0
        self.tasks[task] = settling
        if self.begins_at_once and not settling:
            self.begun.append(task)
        with suppress(OSError):  # it has ended: the next poll finds that out
            self.results.send((task, settling))

    def read_pulse(self) -> None:
        """Read a sign of life."""
        try:
            sign = self.pulse.recv_bytes()
        except EOFError:
            return
        self._quiet_seconds = 0.0
        if sign == PROGRESS:
            self._idle_seconds = 0.0

    def read_message(self) -> Iterator[tuple[T, R | Lost]]:
        """Read that a task was begun, or its outcome, which is yielded."""
        task, *result = self.results.recv()
        if not result:
            self.begun.append(task)
            return
        lost = self.tasks.pop(task)
        if task in self.begun:
            self.begun.remove(task)
        yield task, lost or result[0]

    def read_last_messages(self) -> Iterator[tuple[T, R | Lost]]:
        """Read what it sent before it was killed."""
        with suppress(EOFError, OSError):
            while self.results.poll():
                yield from self.read_message()
        self.results.close()
        self.pulse.close()

    def exceeded(self, limits: Limits) -> Lost | None:
        """Return which limit the worker has exceeded."""
        now = time.monotonic()
        passed, self._checked = now - self._checked, now
        # after a longer step this process was suspended, and its workers with it
        self._quiet_seconds = self._quiet_seconds + passed if passed < _LONGEST_STEP else 0.0
        self._idle_seconds += min(passed, _LONGEST_STEP)
        if self._quiet_seconds > limits.blocked_seconds:
            how = f"stopped: it made no sign of life for {limits.blocked_seconds:.0f} s"
            return Lost(how, ErrorClass.HUNG)
        if self._idle_seconds > limits.idle_seconds:
            how = f"stopped: it made no progress for {limits.idle_seconds:.0f} s"
            return Lost(how, ErrorClass.HUNG)
        try:
            used = self._process.memory_info().rss
        except psutil.NoSuchProcess:
            return None  # the next poll finds out how it ended
        if used > limits.memory_bytes:
            how = f"stopped: it used more than {limits.memory_bytes / 2**20:.0f} MB of memory"
            return Lost(how, ErrorClass.OUT_OF_MEMORY)
        return None

    def reap(self) -> Lost:
        """Wait for a worker that has ended; return how it ended."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        if code == -signal.SIGKILL:
            how = "killed by SIGKILL, as the system does when memory runs out"
            return Lost(how, ErrorClass.OUT_OF_MEMORY)
        if code < 0:
            return Lost(f"crashed by {signal.Signals(-code).name}", ErrorClass.CRASHED)
        return Lost(f"ended with exit status {code}", ErrorClass.CRASHED)

    def kill(self) -> None:
        """Kill it, and the processes that it has started."""
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

    def request_end(self) -> None:
        """Interrupt a busy worker; an idle one ends once it has no connection."""
        if self.pid and self.busy:
            os.kill(self.pid, signal.SIGTERM)
        elif self.pid:
            self.results.close()

    def wait_for_end(self, until: float) -> None:
        """Wait until a moment of ``time.monotonic``, then kill it."""
        while self.pid and time.monotonic() < until:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.pid = 0
            else:
                time.sleep(0.02)
        self.kill()
        self.results.close()
        self.pulse.close()
