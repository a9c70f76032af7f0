"""What is changed in Snakemake and its plugins, and that all of it is in one place."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import snakemake_executor_plugin_slurm as slurm
from snakemake.io import _IOFile
from snakemake.persistence import FileBackupMixin
from snakemake.scheduling.job_scheduler import JobScheduler

from dataminer.errors import DataminerError
from dataminer.workflow import snakemake_compat
from dataminer.workflow.snakemake_compat import SnakemakeProcess
from tests.support.paths import ROOT

THE_PLACE = Path(snakemake_compat.__file__)
_IN_RULES = re.compile(r"^\s*(?:workflow|snakemake\w*)[.\[][^=(]*(?<![=!<>])=(?!=)|\bsetattr\(")


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the changes back after the test."""
    for name in ("backup_output", "restore_output"):
        monkeypatch.setattr(FileBackupMixin, name, getattr(FileBackupMixin, name))
    monkeypatch.setattr(_IOFile, "_local_inventory", _IOFile._local_inventory)
    monkeypatch.setattr(slurm, "query_job_status", slurm.query_job_status)
    monkeypatch.setattr(slurm.Executor, "sleep", slurm.Executor.sleep)
    monkeypatch.setattr(JobScheduler, "exit_gracefully", JobScheduler.exit_gracefully)


def changes(source: str) -> Iterator[int]:
    """Give the lines in which something of a Snakemake module is changed."""
    tree = ast.parse(source)
    names = {"workflow"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("snakemake"):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found = [alias for alias in node.names if alias.name.startswith("snakemake")]
            names |= {alias.asname or alias.name.partition(".")[0] for alias in found}
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "delattr"):
            targets = [ast.Attribute(node.args[0], "any", ast.Store())]
        yield from (node.lineno for target in targets if root_of(target) in names)  # type: ignore[attr-defined]


def root_of(target: ast.expr) -> str | None:
    """Return the name whose attribute or item is a target; None if a name itself is."""
    inner = target
    while isinstance(inner, ast.Attribute | ast.Subscript):
        inner = inner.value
    return inner.id if isinstance(inner, ast.Name) and inner is not target else None


def test_nothing_else_changes_snakemake() -> None:
    files = [*ROOT.glob("dataminer/**/*.py"), *ROOT.glob("scripts/*.py")]
    found = {str(path): [*changes(path.read_text("utf-8"))] for path in files}
    assert {path for path, lines in found.items() if lines} == {str(THE_PLACE)}
    for path in [ROOT / "Snakefile", *ROOT.glob("rules/*.smk")]:
        lines = [line for line in path.read_text("utf-8").splitlines() if _IN_RULES.search(line)]
        assert lines == [], path


@pytest.mark.parametrize(
    "source",
    [
        "import snakemake.x as s; s.y = 1",
        "from snakemake.x import Y; Y.z.w = 1",
        "import snakemake_executor_plugin_slurm; del snakemake_executor_plugin_slurm.x",
        "from snakemake import x; setattr(x, 'y', 1)",
        "def f(workflow): workflow.x['y'] = 1",
    ],
)
def test_a_change_is_seen(source: str) -> None:
    assert list(changes(source)) == [1]
    assert not list(changes("from snakemake import x; y = x; y = x.z(a=1)"))


def test_what_is_changed_must_look_as_it_did(
    restored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "query_job_status", lambda command, log, more: None)
    with pytest.raises(DataminerError, match=r"another query_job_status.*make install"):
        snakemake_compat.tell_lost_jobs()
    monkeypatch.setattr(slurm.Executor, "sleep", lambda executor, seconds: None)
    with pytest.raises(DataminerError, match="Executor has another sleep"):
        snakemake_compat.ask_in_proportion()
    monkeypatch.delattr(FileBackupMixin, "restore_output")
    with pytest.raises(DataminerError, match="FileBackupMixin has another restore_output"):
        snakemake_compat.keep_outputs()


@pytest.mark.parametrize(
    ("owner", "name", "change"),
    [
        (FileBackupMixin, "backup_output", snakemake_compat.keep_outputs),
        (_IOFile, "_local_inventory", snakemake_compat.plan_without_folders),
        (slurm, "query_job_status", snakemake_compat.tell_lost_jobs),
        (JobScheduler, "exit_gracefully", snakemake_compat.end_when_asked),
    ],
)
def test_a_change_of_what_has_another_name_now_is_an_error(
    owner: Any,
    name: str,
    change: Callable[[], None],
    restored: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(owner, name)
    with pytest.raises(DataminerError, match=rf"another {name}.*make install"):
        change()


def test_changes_of_two_workflows_of_one_process_are_made_once(restored: None) -> None:
    snakemake_compat.adapt()
    once = slurm.query_job_status, JobScheduler.exit_gracefully, _IOFile._local_inventory
    snakemake_compat.adapt()
    assert (
        slurm.query_job_status,
        JobScheduler.exit_gracefully,
        _IOFile._local_inventory,
    ) == once


def test_what_is_read_or_called_must_look_as_it_did(restored: None) -> None:
    notes = SimpleNamespace(cleanup_metadata=lambda target, more: None)
    other = SnakemakeProcess(
        SimpleNamespace(persistence=notes, register_resource=lambda resource: None)
    )
    with pytest.raises(DataminerError, match="another cleanup_metadata"):
        other.forget(["a"])
    with pytest.raises(DataminerError, match="another register_resource"):
        other.register_resource("downloads", 1)
    with pytest.raises(DataminerError, match=r"another config_settings\.config_args"):
        snakemake_compat.read_last(SimpleNamespace(), {}, None)
    snakemake_compat.ask_in_proportion()
    with pytest.raises(DataminerError, match="another workflow"):
        object.__new__(slurm.Executor).sleep().send(None)


def test_outputs_of_a_failed_job_stay(restored: None, tmp_path: Path) -> None:
    snakemake_compat.keep_outputs()
    result = tmp_path / "frames.parquet"
    result.write_text("whole")
    notes = FileBackupMixin()
    notes.backup_output(result)
    result.write_text("published by another run")
    assert notes.restore_output(result)
    assert result.read_text() == "published by another run"
    assert not notes.restore_output(tmp_path / "none")


def test_a_run_waits_for_no_second_look() -> None:
    scheduler = SimpleNamespace(job_rate_limiter=object())
    SnakemakeProcess(SimpleNamespace(scheduler=scheduler)).end_with_last_job()
    assert scheduler.job_rate_limiter is None
    other = SimpleNamespace(scheduler=SimpleNamespace())
    with pytest.raises(DataminerError, match=r"has another scheduler\.job_rate_limiter"):
        SnakemakeProcess(other).end_with_last_job()


def test_jobs_that_slurm_lost_fail(restored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    accounted: dict[str, str] | None = {
        "1": "RUNNING",
        "2": "CANCELLED by 1000",
        "3": "NODE_FAIL",
        "4": "PREEMPTED",
    }
    queued: dict[str, str] | None = {"1": "RUNNING", "3": "PENDING"}

    async def ask(command: str, logger: object) -> tuple[dict[str, str] | None, float]:
        return queued if command.startswith("squeue") else accounted, 0.5

    monkeypatch.setattr(slurm, "query_job_status", ask)
    snakemake_compat.tell_lost_jobs()

    def states() -> dict[str, str] | None:
        found: dict[str, str] | None
        found, seconds = asyncio.run(slurm.query_job_status("sacct", None))
        assert seconds == 0.5
        return found

    expected = {"1": "RUNNING", "2": "CANCELLED", "3": "NODE_FAIL"}
    assert states() == {**expected, "4": "CANCELLED"}
    queued = None  # Slurm does not answer: nothing is known to be lost
    assert states() == {**expected, "4": "PREEMPTED"}
    accounted = None
    assert states() is None


def test_pauses_grow_with_the_time_that_jobs_take(
    restored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    snakemake_compat.ask_in_proportion()
    settings = SimpleNamespace(init_seconds_before_status_checks=1)
    executor = object.__new__(slurm.Executor)
    executor.workflow = SimpleNamespace(executor_settings=settings)
    executor.wait = True

    def pause(until: int) -> float:
        """Pause once, where the plugin would do so for some seconds."""
        executor.next_seconds_between_status_checks = until
        before = float(clock.now)
        with suppress(StopIteration):
            executor.sleep().send(None)
        return float(clock.now) - before

    assert pause(1) == 1
    for _ in range(60):
        assert pause(11) <= 1.125 + clock.now / 8
    assert pause(180) == 180
    assert [pause(1) for _ in range(3)] == [90, 45, 22.5]  # jobs have ended
    assert [pause(1) for _ in range(5)][-1] == 1
    executor.wait = False  # the run ends
    assert pause(11) == 0


@pytest.mark.timeout(60)
def test_a_signal_ends_snakemake_while_it_does_what_no_other_thread_may(
    restored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    snakemake_compat.end_when_asked()
    scheduler = object.__new__(JobScheduler)
    lock, open_jobs = threading.Lock(), threading.Semaphore(0)
    parts = {"_lock": lock, "_open_jobs": open_jobs, "_user_kill": None}
    for name, value in parts.items():
        monkeypatch.setattr(scheduler, name, value, raising=False)
    before = signal.signal(signal.SIGTERM, scheduler.exit_gracefully)
    try:
        with lock:
            os.kill(os.getpid(), signal.SIGTERM)
        assert open_jobs.acquire(timeout=10)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert scheduler._user_kill == "graceful"
