"""Leaving the real-time priority that SVT-AV1 takes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def leave_real_time() -> None:
    """Undo what SVT-AV1 does when root runs it: it gives its caller real-time priority for good.

    Other threads, such as those of the next encoder, would hardly ever run.
    """
    for thread in Path("/proc/self/task").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.sched_getscheduler(int(thread.name)) == os.SCHED_FIFO:
                os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))
