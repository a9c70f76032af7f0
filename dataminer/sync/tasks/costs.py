"""The costs of work on one video or project, measured by the process that does it."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_KIB = 1024
# ru_maxrss: KiB on Linux, bytes on macOS (getrusage(2))
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else _KIB


@contextmanager
def measured(folder: Path) -> Iterator[dict[str, Any]]:
    """Measure a block that fills a folder.

    Parameters
    ----------
    folder : Path
        Its files are measured at the end.

    Yields
    ------
    dict
        Filled at the end: ``seconds`` (wall time), ``cpu_seconds`` (of this process and its child
        processes that have ended; in a thread beside the main one, of the thread), ``peak_mb``
        (resident memory of the process), ``bytes``, and ``ended_at`` in seconds since 1970.
    """
    cost: dict[str, Any] = {}
    if _in_main_thread():
        _reset_peak()
    began, cpu = time.monotonic(), _cpu_seconds()
    yield cost
    cost["seconds"] = round(time.monotonic() - began, 3)
    cost["cpu_seconds"] = round(_cpu_seconds() - cpu, 3)
    cost["peak_mb"] = round(_peak_bytes() / 1e6, 1)
    cost["bytes"] = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
    cost["ended_at"] = round(time.time(), 3)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _cpu_seconds() -> float:
    if not _in_main_thread():
        return time.thread_time()
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _reset_peak() -> None:
    """Reset the peak of the resident memory that the system records: proc(5), clear_refs."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return


def _peak_bytes() -> float:
    """Return the peak since :func:`_reset_peak`, or since the start if the system lacks that."""
    try:
        with open("/proc/self/status") as file:
            peak = next(line for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
    return float(peak.split()[1]) * _KIB
