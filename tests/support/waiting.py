"""Waiting for what another process or thread shall come to."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait until a condition holds; False when it did not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait until a condition holds, which it must in time."""
    assert wait_for(condition, seconds), "it did not happen"
