"""A limit on this process's memory while it reads what may ask for any amount."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from typing import TypeVar

import psutil

_T = TypeVar("_T")
_LIMIT_LOCK = threading.RLock()
_RESERVE_BYTES = 1 << 18


def within_memory(
    megabytes: float, function: Callable[..., _T], *args: object, **options: object
) -> _T:
    """Call a function that may allocate a limited amount of memory.

    The limit is the process's and applies to all its threads, so it is kept short and large. On
    systems that do not report or limit a process's memory, nothing is limited.

    Parameters
    ----------
    megabytes : float
        In addition to what the process uses now.
    function : callable
        Called with the other arguments.

    Raises
    ------
    MemoryError
        It needs more.
    """
    with _LIMIT_LOCK:
        before = resource.getrlimit(resource.RLIMIT_DATA)
        used = getattr(psutil.Process().memory_info(), "data", None)  # as Linux counts it
        if used is None:
            return function(*args, **options)
        limits = [used + int(megabytes * 1e6), *before]
        lowest = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
        # lifting the limit takes memory too, and a context manager's exit would need a frame
        reserve: bytearray | None = bytearray(_RESERVE_BYTES)
        try:
            resource.setrlimit(resource.RLIMIT_DATA, (lowest, before[1]))
            return function(*args, **options)
        finally:
            reserve = None  # noqa: F841
            resource.setrlimit(resource.RLIMIT_DATA, before)
