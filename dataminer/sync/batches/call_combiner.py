"""Many threads make the same call; one of them makes it for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

_COMBINE_SECONDS = 0.02  # that the first caller waits for others


class CallCombiner(Generic[T]):
    """Combines the calls of many threads into one.

    Parameters
    ----------
    call : callable
        Takes the arguments of all callers; returns those for which it succeeded.
    """

    def __init__(self, call: Callable[[list[T]], Sequence[T]]) -> None:
        self._call = call
        self._turn = threading.Lock()
        self._queue_lock = threading.Lock()
        self._queue: list[tuple[T, list[bool]]] = []

    def __call__(self, argument: T) -> bool:
        """Make the call for one argument; return whether it succeeded."""
        outcome: list[bool] = []
        with self._queue_lock:
            self._queue.append((argument, outcome))
        with self._turn:
            if not outcome:
                time.sleep(_COMBINE_SECONDS)
                self._serve()
        return outcome[0]

    def _serve(self) -> None:
        with self._queue_lock:
            queue, self._queue = self._queue, []
        succeeded: Sequence[T] = ()
        try:
            succeeded = self._call([argument for argument, _ in queue])
        finally:
            for argument, outcome in queue:
                outcome.append(any(argument is other for other in succeeded))
