"""A bound on the memory of this process while it reads what may ask for any amount."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from typing import TypeVar

import psutil

_T = TypeVar("_T")
_BOUNDING = threading.RLock()
_RESERVE = 1 << 18  # bytes


def within_memory(
    megabytes: float, work: Callable[..., _T], *args: object, **options: object
) -> _T:
    """Call a function that may take so much more memory, and no more.

    One limit holds for all threads of a process, so it is kept short and large. On systems that do
    not tell or limit a process's memory, nothing is limited.

    Parameters
    ----------
    megabytes : float
        Counted from what the process has taken now.
    work : callable
        Called with the other arguments.

    Raises
    ------
    MemoryError
        It took more.
    """
    with _BOUNDING:
        before = resource.getrlimit(resource.RLIMIT_DATA)
        taken = getattr(psutil.Process().memory_info(), "data", None)  # as Linux counts it
        if taken is None:
            return work(*args, **options)
        most = [taken + int(megabytes * 1e6), *before]
        least = min(limit for limit in most if limit != resource.RLIM_INFINITY)
        # to lift the limit takes memory too; a context manager's end would take a frame besides
        reserve: bytearray | None = bytearray(_RESERVE)
        try:
            resource.setrlimit(resource.RLIMIT_DATA, (least, before[1]))
            return work(*args, **options)
        finally:
            reserve = None  # noqa: F841
            resource.setrlimit(resource.RLIMIT_DATA, before)
