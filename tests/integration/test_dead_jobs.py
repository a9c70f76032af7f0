"""What a run tells the database of its killed jobs, from log records like Snakemake's."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dataminer.config import MonitorConfig
from dataminer.errors import ErrorClass
from dataminer.sync.claims import claims, owners, stage_rows
from dataminer.sync.recovery import dead_job_listener, dead_jobs
from dataminer.sync.recovery.dead_job_listener import DeadJobListener
from dataminer.sync.recovery.dead_jobs import Death, give_back
from tests.support.postgres import execute

GONE = Death("SIGKILL")
VIDEO = {"video_id": "v"}


@pytest.fixture
def rows(database: str) -> str:
    execute(database, "INSERT INTO projects (name, dedup_dir) VALUES ('birds', 'd')")
    execute(
        database,
        "INSERT INTO videos (video_id, url, source_type, video_path)"
        " VALUES ('v', '/v.mp4', 'FILE', '/v.mp4')",
    )
    execute(database, "INSERT INTO project_videos (project_id, video_id) VALUES (1, 'v')")
    return database


@pytest.fixture
def dead() -> str:
    """The name of an owner that is no more."""
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    return f"{socket.gethostname()}:{int(process.stdout)}"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.Logger("run", logging.INFO)  # not one of the tree: nothing leaks
    yield made
    for handler in list(made.handlers):
        made.removeHandler(handler)


def claim_row(database: str, owner: str, status: str = "DOWNLOADING") -> None:
    execute(
        database,
        f"UPDATE videos SET status = '{status}', locked_by = '{owner}', lease = lease + 1,"
        " attempts = attempts + 1, locked_at = now(), heartbeat_at = now()",
    )


def video(database: str) -> tuple[Any, ...]:
    return execute(database, "SELECT status, locked_by, attempts, error_class FROM videos")[0]


def test_the_claim_of_a_dead_process_is_given_back_and_condemns_nobody(
    rows: str, dead: str
) -> None:
    """The first time it may have been another video of its batch; then it is tried alone."""
    waits = "SELECT suspect, kills, not_before > now() + interval '23 hours' FROM videos"
    for kills in range(3):
        claim_row(rows, dead)
        assert give_back("download", VIDEO, GONE)
        assert video(rows) == ("PENDING", None, 0, "killed")
        assert execute(rows, waits) == [(True, kills, None)]
    ((error,),) = execute(rows, "SELECT error FROM videos")
    assert error.startswith("the job died: SIGKILL. Next: run snakemake again")
    assert not give_back("download", VIDEO, GONE)
    claim_row(rows, dead)
    assert give_back("download", VIDEO, GONE)
    assert execute(rows, waits) == [(True, 3, True)]
    ((error,),) = execute(rows, "SELECT error FROM videos")
    assert error.endswith("(mem_mb in the profile), then `dataminer retry --video v`")
    assert claims.postponed(stage_rows.DOWNLOAD, ["v"], None) == {"v": error}


@pytest.mark.parametrize(
    ("rule", "table", "status", "running", "released"),
    [
        ("extract", "videos", "status", "EXTRACTING", "DOWNLOADED"),
        ("filter", "project_videos", "status", "FILTERING", "PENDING"),
        ("dedup", "projects", "project_stage", "DEDUPING", "DEDUP_READY"),
        ("detect", "projects", "project_stage", "DETECTING", "DETECT_READY"),
    ],
)
def test_every_stage(
    rows: str, dead: str, rule: str, table: str, status: str, running: str, released: str
) -> None:
    execute(rows, f"ALTER TABLE {table} DISABLE TRIGGER USER")  # the way to this status
    execute(
        rows,
        f"UPDATE {table} SET {status} = '{running}', locked_by = '{dead}', lease = 1,"
        " locked_at = now(), heartbeat_at = now()",
    )
    execute(rows, f"ALTER TABLE {table} ENABLE TRIGGER USER")
    assert give_back(rule, {"project": "birds", "video_id": "v"}, GONE)
    assert execute(rows, f"SELECT {status}, error_class FROM {table}") == [(released, "killed")]


@pytest.mark.parametrize(
    "owner",
    [
        f"{socket.gethostname()}:{os.getpid()}",  # it lives: a retry, or it outlived its job
        "elsewhere:1",
        f"{socket.gethostname()}:{os.getpid()}:slurm-7",
    ],
    ids=["alive", "elsewhere", "alive on Slurm"],
)
def test_when_in_doubt_the_claim_stays(rows: str, owner: str) -> None:
    claim_row(rows, owner)
    assert not give_back("download", VIDEO, GONE)
    assert video(rows) == ("DOWNLOADING", owner, 1, None)


def test_another_stage_or_rule_is_left_alone(rows: str, dead: str) -> None:
    claim_row(rows, dead)
    assert not give_back("extract", VIDEO, GONE)
    assert not give_back("weights", {"weights": "yolo26n.pt"}, GONE)
    assert not give_back("download", {"video_id": "unknown"}, GONE)
    assert video(rows)[0] == "DOWNLOADING"


def tell(logger: logging.Logger, event: str, text: str = "", **fields: Any) -> None:
    logger.error(text, extra={"event": event, **fields})


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have Slurm's accounting say of any job that it ended in a state."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def set_answer(state: str, program: str = "sacct") -> None:
        (tmp_path / program).write_text(f"#!/bin/sh\necho '{state}'\n")
        (tmp_path / program).chmod(0o755)

    return set_answer


def slurm_log(number: int, job: str = "rule_download") -> str:
    return f"/home/me/logs/slurm/{job}/v/{number}.log"


@pytest.mark.parametrize(
    ("state", "error_class", "attempts"),
    [
        ("OUT_OF_MEMORY", "out_of_memory", 0),
        ("FAILED", "killed", 0),
        ("TIMEOUT", "time_limit", 0),
        ("CANCELLED by 1000", "cancelled", 0),
        ("NODE_FAIL", "node_fail", 0),
        ("PREEMPTED", "node_fail", 0),
    ],
)
def test_what_slurm_ended_shows_as_what_it_was(
    rows: str, logger: logging.Logger, ended: Any, state: str, error_class: str, attempts: int
) -> None:
    ended(state)
    watching = DeadJobListener()
    watching.listen_to(logger)
    tell(logger, "job_info", jobid=3, rule_name="download", wildcards=VIDEO)
    claim_row(rows, "node1:99:slurm-12")
    tell(logger, "job_error", jobid=3, log=["logs/download/v.log", slurm_log(1)], rule_msg=None)
    tell(logger, "job_error", jobid=3, log=["logs/download/v.log", slurm_log(12)], rule_msg=None)
    watching.stop()
    assert video(rows) == ("PENDING", None, attempts, error_class)
    ((error,),) = execute(rows, "SELECT error FROM videos")
    assert f"Slurm job 12 ended as {state.split(maxsplit=1)[0]}" in error


@pytest.mark.parametrize(("hours", "status"), [(0, "PENDING"), (1, "DOWNLOADING")])
def test_of_a_batch_what_it_claimed_itself_is_told_of(
    rows: str, dead: str, logger: logging.Logger, hours: int, status: str
) -> None:
    """What an earlier run left may have had another cause."""
    watching = DeadJobListener(lambda rule, batch: ["v"])
    watching.listen_to(logger)
    tell(logger, "job_info", jobid=3, rule_name="download", wildcards={"batch": "v"})
    claim_row(rows, dead)
    execute(rows, f"UPDATE videos SET locked_at = now() - interval '{hours} h'")
    tell(logger, "job_error", jobid=3, rule_name="download", rule_msg=None)
    watching.stop()
    assert video(rows)[0] == status


def test_a_group_tells_it_of_what_was_begun(
    rows: str, logger: logging.Logger, ended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended("JobId=12 JobName=x JobState=TIMEOUT Reason=TimeLimit", program="scontrol")
    ended("not set up; exit 1' >&2; exit 1; echo '")
    execute(
        rows,
        "INSERT INTO videos (video_id, url, source_type) VALUES ('held', '/h', 'FILE'),"
        " ('stopped', '/s', 'FILE'), ('waits', '/w', 'FILE'), ('goes-on', '/g', 'FILE')",
    )
    claim_row(rows, "node1:99:slurm-12")
    release(rows, "waits")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    error, error_class = dead_jobs.interruption()
    assert error_class == "cancelled"
    assert "Slurm job 12" in str(error)
    release(rows, "stopped", error)
    monkeypatch.delenv("SLURM_JOB_ID")
    assert dead_jobs.interruption() == (None, None)
    execute(rows, "UPDATE videos SET locked_by = 'node2:1:slurm-13' WHERE video_id = 'goes-on'")
    watching = DeadJobListener()
    watching.listen_to(logger)
    names = ["held", "stopped", "waits", "goes-on"]
    for number, name in enumerate(names):
        tell(logger, "job_info", jobid=number, rule_name="download", wildcards={"video_id": name})
    job_errors = [{"jobid": number, "log": []} for number in range(len(names))]
    log = slurm_log(12, "group_download-00000_download")
    tell(logger, "group_error", groupid="download-00000", aux_logs=[log], job_error_info=job_errors)
    watching.stop()
    found = execute(rows, "SELECT video_id, status, attempts, error_class FROM videos")
    assert sorted(found)[:-1] == [
        ("goes-on", "DOWNLOADING", 1, None),
        ("held", "PENDING", 0, "time_limit"),
        ("stopped", "PENDING", 0, "time_limit"),
        ("v", "PENDING", 0, "time_limit"),
    ]
    # it was not begun
    assert ("waits", "PENDING", 0, None) in found


def release(database: str, video_id: str, error: str | None = None) -> None:
    printed = f"'{error}'" if error else "NULL"
    execute(
        database,
        "UPDATE videos SET status = 'PENDING', locked_by = NULL, locked_at = NULL,"
        f" heartbeat_at = NULL, attempts = 0, error = {printed} WHERE video_id = '{video_id}'",
    )


def test_a_requeued_job_goes_on_at_once(
    rows: str, ended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number holds what it held before, on whichever node that was."""
    ended("PREEMPTED' && echo 'RUNNING")
    claim_row(rows, "node1:99:slurm-12")
    settings = MonitorConfig()
    dead_jobs.resume_requeued_job(stage_rows.DOWNLOAD, None, settings)  # not in a Slurm job
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    dead_jobs.resume_requeued_job(stage_rows.DOWNLOAD, None, settings)
    assert not owners.is_dead("node1:99:slurm-12")
    assert video(rows)[0] == "DOWNLOADING"
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert not owners.is_dead("node1:99:slurm-12")  # a job may have several nodes
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    dead_jobs.resume_requeued_job(stage_rows.EXTRACT, None, settings)
    assert video(rows)[0] == "DOWNLOADING"
    assert owners.is_dead("node1:99:slurm-12")
    execute(rows, f"UPDATE videos SET locked_by = '{owners.owner_name()}'")  # it lives
    dead_jobs.resume_requeued_job(stage_rows.DOWNLOAD, None, settings)
    assert video(rows)[0] == "DOWNLOADING"
    execute(rows, "UPDATE videos SET locked_by = 'node1:99:slurm-12'")
    dead_jobs.resume_requeued_job(stage_rows.DOWNLOAD, None, settings)
    assert video(rows) == ("PENDING", None, 0, "node_fail")
    row = execute(rows, "SELECT suspect, error FROM videos")[0]
    assert (row[0], "Slurm job 12 ended as PREEMPTED" in row[1]) == (False, True)


def test_a_later_run_asks_slurm_for_jobs_that_ended(rows: str, ended: Any) -> None:
    claim_row(rows, "node1:99:slurm-12")
    ended("not set up' >&2; exit 1; echo '", program="squeue")
    assert dead_jobs.settle_ended(MonitorConfig()) == []  # nothing is known
    ended("JOBID\n12", program="squeue")
    ended("TIMEOUT")
    assert dead_jobs.settle_ended(MonitorConfig()) == []  # it is in the queue
    assert video(rows)[0] == "DOWNLOADING"
    ended("JOBID", program="squeue")
    printed = "download of v: given back, as Slurm job 12 ended as TIMEOUT"
    assert dead_jobs.settle_ended(MonitorConfig()) == [printed]
    assert video(rows) == ("PENDING", None, 0, "time_limit")
    assert dead_jobs.settle_ended(MonitorConfig()) == []


@pytest.mark.parametrize(
    "line",
    [
        "slurmstepd-vm: error: StepId=6.batch exceeded memory limit (2 > 1), being killed",
        "slurmstepd: error: Detected 1 oom_kill event in StepId=6.batch.",
    ],
)
def test_a_memory_kill_is_known_from_the_log_where_accounting_tells_no_more(
    tmp_path: Path, ended: Any, line: str
) -> None:
    ended("FAILED")
    log = tmp_path / "rule_extract" / "v" / "6.log"
    log.parent.mkdir(parents=True)
    log.write_text("x" * 50_000 + "\n")
    assert dead_jobs.death_in_slurm([str(log)]) == Death("Slurm job 6 ended as FAILED", "6")
    log.write_text("x" * 50_000 + f"\n{line}\n")
    death = dead_jobs.death_in_slurm([str(log)])
    assert death == Death("Slurm job 6 ended as OUT_OF_MEMORY", "6", ErrorClass.OUT_OF_MEMORY)


def test_a_run_goes_on_without_the_database(
    monkeypatch: pytest.MonkeyPatch, logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> bool:
        raise OSError("no database")

    monkeypatch.setattr(dead_job_listener, "give_back", away)
    watching = DeadJobListener()
    watching.listen_to(logger)
    for jobid in range(3):
        tell(logger, "job_info", jobid=jobid, rule_name="download", wildcards=VIDEO)
        tell(logger, "job_error", jobid=jobid, rule_name="download", rule_msg=None)
    tell(logger, "job_error", jobid=9)  # nothing is known of it
    watching.stop()
    assert len(caplog.records) == 1
    assert "no database" in caplog.text


def test_a_database_that_hangs_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, logger: logging.Logger
) -> None:
    monkeypatch.setattr(dead_job_listener, "give_back", lambda *_: time.sleep(2))
    monkeypatch.setattr(dead_job_listener, "PATIENCE", 0.1)
    watching = DeadJobListener()
    watching.listen_to(logger)
    began = time.monotonic()
    tell(logger, "job_info", jobid=1, rule_name="download", wildcards=VIDEO)
    tell(logger, "job_error", jobid=1, rule_name="download", rule_msg=None)
    watching.stop()
    assert time.monotonic() - began < 1
