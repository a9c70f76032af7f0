"""Worker processes: one that crashes, hangs or eats memory costs its own task alone."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from dataminer.errors import ErrorClass
from dataminer.sync.claims.heartbeat import Interrupted
from dataminer.sync.workers import pool
from dataminer.sync.workers.tasks import Concurrent, Limits, Lost, Serial

GENEROUS = Limits(memory_bytes=10**10, blocked_seconds=60, idle_seconds=60)


def work(task: str) -> str:
    """Do what the task says."""
    if task == "crash":
        ctypes.string_at(0)
    elif task == "block":
        ctypes.PyDLL(None).sleep(60)  # keeps the interpreter from running
    elif task == "hang":
        time.sleep(60)
    elif task == "eat":
        held = []
        while True:
            held.append(b"x" * 10**7)
            time.sleep(0.001)
    elif task == "exit":
        os._exit(3)
    elif task == "raise":
        raise RuntimeError("a bug")
    elif task == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif task == "slow":
        for _ in range(10):
            time.sleep(0.8)
            logging.getLogger("x").warning("still at it")
    return f"{task} by {os.getpid()}"


def settle(task: str, lost: Lost) -> None:
    """Nothing to give back here."""


def ended(tasks: list[str], workers: int = 2, limits: Limits = GENEROUS) -> dict[str, object]:
    return dict(pool.run(tasks, Serial(work), workers=workers, limits=limits, settle=settle))


def test_each_worker_does_many_tasks() -> None:
    tasks = [f"task {number}" for number in range(20)]
    done = ended(tasks)
    assert list(map(str, done)) == sorted(done, key=tasks.index) or set(done) == set(tasks)
    assert {str(result).split(" by ")[0] for result in done.values()} == set(tasks)
    workers = {str(result).split(" by ")[1] for result in done.values()}
    assert len(workers) == 2 and str(os.getpid()) not in workers


@pytest.mark.parametrize(
    ("task", "error_class", "how"),
    [
        ("crash", ErrorClass.CRASHED, "crashed by SIGSEGV"),
        ("exit", ErrorClass.CRASHED, "ended with exit status 3"),
        ("raise", ErrorClass.CRASHED, "ended with exit status 1"),
        ("killed", ErrorClass.OUT_OF_MEMORY, "killed by SIGKILL"),
        ("block", ErrorClass.HUNG, "no sign of life for 2 s"),
        ("eat", ErrorClass.OUT_OF_MEMORY, "stopped: it used more than {limit:.0f} MB"),
    ],
)
def test_a_lost_worker_costs_its_own_task_alone(
    task: str, error_class: ErrorClass, how: str
) -> None:
    mine = psutil.Process().memory_info().rss  # a worker begins with it
    limits = Limits(memory_bytes=mine + 200 * 10**6, blocked_seconds=2, idle_seconds=60)
    tasks = ["a", "b", task, "c", "d", "e"]
    done = ended(tasks, limits=limits)
    lost = done.pop(task)
    assert isinstance(lost, Lost)
    assert lost.error_class is error_class
    assert how.format(limit=limits.memory_bytes / 2**20) in lost.how
    assert {str(result).split(" by ")[0] for result in done.values()} == set("abcde")


def test_what_makes_no_progress_is_stopped_and_what_is_slow_is_not() -> None:
    limits = Limits(memory_bytes=10**10, blocked_seconds=60, idle_seconds=5)
    done = ended(["hang", "slow"], limits=limits)
    assert isinstance(done["hang"], Lost)
    assert done["hang"].error_class is ErrorClass.HUNG
    assert str(done["slow"]).startswith("slow by")


def test_a_task_is_settled_by_another_worker_before_it_is_reported(tmp_path: Path) -> None:
    def note(task: str, lost: Lost) -> None:
        (tmp_path / task).write_text(lost.how)

    for task, lost in pool.run(["crash"], Serial(work), workers=1, limits=GENEROUS, settle=note):
        assert isinstance(lost, Lost)
        assert (tmp_path / task).read_text() == lost.how


def test_settling_that_fails_ends(tmp_path: Path) -> None:
    def fail(task: str, lost: Lost) -> None:
        ctypes.string_at(0)

    done = dict(pool.run(["crash", "a"], Serial(work), workers=1, limits=GENEROUS, settle=fail))
    assert isinstance(done["crash"], Lost)
    assert str(done["a"]).startswith("a by")


SCRIPT = r"""
import os, sys, time
from dataminer.sync.workers import pool
from dataminer.sync.workers.tasks import Limits, Serial
from dataminer.sync.claims.heartbeat import Interrupted, interruptible

def work(task):
    try:
        os.write(1, b"%d\n" % os.getpid())
        for _ in range(600):  # a signal between the interpreter's look and a long sleep would wait
            time.sleep(0.1)
    except Interrupted:
        time.sleep(1)  # as a claim is given back
        os.write(1, b"given back\n")
        raise

limits = Limits(10**10, 60, 60)
try:
    list(pool.run(["a", "b"], Serial(work), workers=2, limits=limits, settle=print))
except Interrupted:
    sys.exit(143)
"""


def begun(tmp_path: Path) -> tuple[subprocess.Popen[str], list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    return process, [int(process.stdout.readline()) for _ in range(2)]


@pytest.mark.parametrize("to_all", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_give_back_what_they_hold_when_asked_to_end(
    tmp_path: Path, number: signal.Signals, to_all: bool
) -> None:
    process, workers = begun(tmp_path)
    began = time.monotonic()
    (os.killpg if to_all else os.kill)(process.pid, number)
    out, _ = process.communicate(timeout=20)
    assert out.split("\n")[:2] == ["given back", "given back"]
    assert process.returncode == 143
    assert time.monotonic() - began < 10
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_workers_end_with_a_job_that_is_killed(tmp_path: Path) -> None:
    process, workers = begun(tmp_path)
    process.kill()
    process.communicate()
    until = time.monotonic() + 10
    while [pid for pid in workers if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_an_interrupt_in_this_process_ends_the_workers() -> None:
    running = pool.run(["hang"], Serial(work), workers=1, limits=GENEROUS, settle=settle)
    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        with pytest.raises(Interrupted):
            list(running)
    finally:
        signal.signal(signal.SIGALRM, before)


# ---- several at once -----------------------------------------------------------------------------


class Runner:
    """Does what the tasks say, four at a time."""

    def __init__(self) -> None:
        self.meeting = threading.Barrier(4)

    def run(self, task: str) -> str:
        """Do one."""
        if task.startswith("meet"):
            self.meeting.wait(20)
        if "stay" in task:
            time.sleep(60)
        return work(task.removeprefix("meet and "))

    def abort(self, reason: BaseException) -> None:
        """Nothing to give back here."""


class Doomed(Runner):
    """Is lost before it begins anything."""

    def __init__(self) -> None:
        time.sleep(0.5)  # in which it is given all that it takes, and does not hear of it
        ctypes.string_at(0)


def at_once(tasks: list[str], runner: type[Runner] = Runner) -> dict[str, object]:
    return dict(pool.run(tasks, Concurrent(runner, 4), workers=1, limits=GENEROUS, settle=settle))


def test_a_worker_runs_as_many_at_once_as_it_may() -> None:
    tasks = [f"meet {number}" for number in range(20)]
    done = at_once(tasks)
    assert {str(result).split(" by ")[0] for result in done.values()} == set(tasks)


def test_of_several_nobody_knows_which_was_the_cause() -> None:
    in_flight = ["meet and stay 1", "meet and stay 2", "meet and stay 3", "meet and crash"]
    done = at_once([*in_flight, *"defgh"])
    lost = {task: result for task, result in done.items() if isinstance(result, Lost)}
    assert lost.keys() == set(in_flight), "those that were not begun are done by another"
    assert {result.error_class for result in lost.values()} == {ErrorClass.CRASHED}
    assert {result.shared for result in lost.values()} == {True}
    assert {str(done[task]).split(" by ")[0] for task in "defgh"} == set("defgh")


def test_a_worker_that_is_lost_before_it_begins_is_not_lost_for_ever() -> None:
    done = at_once([*"abcdefgh"], Doomed)
    assert done.keys() == set("abcdefgh")
    assert all(isinstance(result, Lost) and result.shared for result in done.values())
