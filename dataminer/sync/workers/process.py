"""The inside of a worker process: runs tasks, and sends signs of life and of progress."""

from __future__ import annotations

import contextvars
import ctypes
import logging
import os
import queue
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from dataminer.sync.claims.heartbeat import Interrupted, interruptible
from dataminer.sync.workers.tasks import Concurrent, Mode, R, Serial, Settle, T

log = logging.getLogger(__name__)

ALIVE, PROGRESS = b".", b"+"
"""Signs that a worker sends: it runs; it has also logged something."""

_PULSE_SECONDS = 1.0  # between two signs
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_worker(
    results: Connection, pulse: Connection, mode: Mode[T, R], settle: Settle[T], parent: int
) -> None:
    """Run tasks until there are no more; never returns to the code that forked."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    _die_with(parent)
    progress = _ProgressHandler()
    logging.getLogger().addHandler(progress)
    threading.Thread(target=_send_pulse, args=(pulse, progress), daemon=True).start()
    try:
        if isinstance(mode, Concurrent):
            _serve_concurrently(results, mode, settle)
        else:
            _serve_one_by_one(results, mode, settle)
    except EOFError:
        os._exit(0)
    except Interrupted:
        os._exit(128 + signal.SIGTERM)
    except BaseException:
        log.exception("the worker ends")
        os._exit(1)


def _serve_one_by_one(results: Connection, mode: Serial[T, R], settle: Settle[T]) -> None:
    while True:
        task, lost = results.recv()
        with interruptible():
            result = mode.run(task) if lost is None else settle(task, lost)
        results.send((task, result))


def _serve_concurrently(results: Connection, mode: Concurrent[T, R], settle: Settle[T]) -> None:
    runner, sending = mode.make_runner(), threading.Lock()
    ready: queue.SimpleQueue[T] = queue.SimpleQueue()

    def send(*message: Any) -> None:
        with sending:
            results.send(message)

    def run_tasks() -> None:
        try:
            while True:
                task = ready.get()
                send(task)
                send(task, runner.run(task))
        except Interrupted:
            return  # the main thread gives everything back
        except BaseException:
            log.exception("the worker ends")
            os._exit(1)

    for _ in range(mode.count):
        # with the log context of the main thread
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run_tasks,), daemon=True).start()
    with interruptible():
        try:
            while True:
                task, lost = results.recv()
                if lost:
                    send(task, settle(task, lost))
                else:
                    ready.put(task)
        except Interrupted as reason:
            runner.abort(reason)
            raise


class _ProgressHandler(logging.Handler):
    """Notes that something was logged since the last sign."""

    moved = False

    def emit(self, record: logging.LogRecord) -> None:
        self.moved = True


def _send_pulse(pulse: Connection, progress: _ProgressHandler) -> None:
    while True:
        time.sleep(_PULSE_SECONDS)
        moved, progress.moved = progress.moved, False
        try:
            pulse.send_bytes(PROGRESS if moved else ALIVE)
        except OSError:  # the parent is gone
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _die_with(parent: int) -> None:
    """Have the system kill this process when its parent ends, if the system can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
