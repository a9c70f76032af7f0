"""Batches of downloads side by side: a server that counts, faults, and what became of it all."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dataminer.db import connection
from dataminer.stages.download import stage
from dataminer.sync.claims import claim_end, execution
from dataminer.sync.claims.heartbeat import Interrupted
from tests.support.http_server import Reply


class Crowd:
    """Serves a file after a while, and knows how many ask for it at the same time."""

    def __init__(self, clip: Path, seconds: float) -> None:
        self._reply = Reply(200, clip.read_bytes(), "video/mp4")
        self._seconds = seconds
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def __call__(self, target: str) -> Reply:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self._seconds)
        with self._lock:
            self._now -= 1
        return self._reply


def inject(
    monkeypatch: pytest.MonkeyPatch, folder: Path, faults: dict[str, Callable[[], None]]
) -> Callable[[], list[tuple[str, int, float, float]]]:
    """Have the download of some videos come to a fault.

    Returns
    -------
    callable
        Records each attempt that came to an end: video, process, its begin and its end.
    """
    real = stage.download

    def download(url: object, out: Path, video_id: str, *rest: object, **more: object) -> object:
        began = time.monotonic()
        if video_id in faults:
            faults[video_id]()
        made = real(url, out, video_id, *rest, **more)  # type: ignore[arg-type]
        with (folder / "spans").open("a") as file:
            print(video_id, os.getpid(), began, time.monotonic(), file=file)
        return made

    def spans() -> list[tuple[str, int, float, float]]:
        lines = [line.split() for line in (folder / "spans").read_text().splitlines()]
        return [(v, int(pid), float(began), float(ended)) for v, pid, began, ended in lines]

    monkeypatch.setattr(stage, "download", download)
    return spans


def counted(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Callable[[], Counter[str]]:
    """Count the transactions on claims of all processes, by who asks."""
    real = connection.transaction

    def transaction(work: Callable[..., object], *rest: object, **more: object) -> object:
        frame = sys._getframe(1)
        if frame.f_code.co_name == "fetch_all" and frame.f_back:
            frame = frame.f_back
        with (folder / "asked").open("a") as file:
            print(frame.f_code.co_name, file=file)
        return real(work, *rest, **more)  # type: ignore[arg-type]

    for module in (execution, claim_end):
        monkeypatch.setattr(module, "transaction", transaction)
    return lambda: Counter((folder / "asked").read_text().split())


def forked(act: Callable[[], object]) -> int:
    """Do something in a process of its own, which ends as a job does; return its number."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        act()
        status = 0
    except Interrupted:
        status = 143
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    """Wait for a process; return its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
