"""What a pool of workers is given: limits, tasks and how several run at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from dataminer.config import MonitorConfig
from dataminer.errors import ErrorClass

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


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

    @classmethod
    def of(cls, settings: MonitorConfig, memory_bytes: int) -> Limits:
        """Return the limits that the settings give a worker of a job."""
        blocked_seconds = settings.stale_threshold_minutes * 60 / 2
        return cls(memory_bytes, blocked_seconds, settings.no_progress_minutes * 60)


@dataclass(frozen=True)
class Lost:
    """The outcome of a task whose worker ended before it.

    Parameters
    ----------
    how : str
        How the worker ended, for people.
    error_class : ErrorClass
        OUT_OF_MEMORY, HUNG or CRASHED.
    shared : bool
        Whether other tasks were running as well, so that any of them may be the cause.
    """

    how: str
    error_class: ErrorClass
    shared: bool = False


class TaskRunner(Protocol[T_contra, R_co]):
    """Runs several tasks at once in a worker, each on a thread."""

    def run(self, task: T_contra) -> R_co:
        """Run a task; called in one of the threads."""

    def abort(self, reason: BaseException) -> None:
        """Give back all tasks, because the worker must end; called in the main thread."""


@dataclass(frozen=True)
class Serial(Generic[T, R]):
    """A worker runs one task after the other."""

    run: Callable[[T], R]


@dataclass(frozen=True)
class Concurrent(Generic[T, R]):
    """A worker runs several tasks at once.

    Parameters
    ----------
    make_runner : callable
        Called once in each worker.
    count : int
        How many tasks at once.
    """

    make_runner: Callable[[], TaskRunner[T, R]]
    count: int


Mode = Serial[T, R] | Concurrent[T, R]
Settle = Callable[[T, Lost], object]
