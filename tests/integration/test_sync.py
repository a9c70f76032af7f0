"""Claims, fences, results and counters, on a real PostgreSQL."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from dataminer.config import MonitorConfig
from dataminer.db import connection
from dataminer.db.connection import transaction
from dataminer.errors import DatabaseError, ErrorClass, PermanentError, TransientError
from dataminer.sync.claims import claim_end, claims, projects, stage_rows
from dataminer.sync.claims.claims import LeaseLost
from dataminer.sync.claims.heartbeat import Interrupted
from dataminer.sync.jobs import failures, results
from dataminer.sync.tasks import run as task_runner
from dataminer.sync.tasks.run import run_task
from dataminer.sync.tasks.task import SingleClaimKeeper, StageTask
from tests.support.postgres import execute
from tests.support.rows import Given, add, extracted, filtered, force
from tests.support.waiting import wait_for, wait_until

KEY = {"video_id": "v1"}
FAST = MonitorConfig(heartbeat_seconds=0.1, stale_threshold_minutes=0.01, max_attempts=2)
CALM = MonitorConfig()


@pytest.fixture
def video(database: str) -> str:
    projects.add_videos("p", [Given("v1")])
    return database


def row(
    url: str, columns: str = "status, lease, attempts, locked_by, error_class"
) -> tuple[Any, ...]:
    return execute(url, f"SELECT {columns} FROM videos WHERE video_id = 'v1'")[0]


def work(
    tmp_path: Path, make: Callable[[Path], None] | None = None, made_from: str = "m1"
) -> StageTask:
    """A download that writes one file, unless told otherwise."""

    def default(out: Path) -> None:
        (out / "v1.mp4").write_bytes(b"abc")
        info = {"video": "v1.mp4", "size_bytes": 3, "fingerprint": made_from, "title": "t"}
        (out / "info.json").write_text(json.dumps(info))

    return StageTask(
        stage=stage_rows.DOWNLOAD,
        key=KEY,
        final=tmp_path / "videos" / "v1",
        fingerprint=made_from,
        make=make or default,
        read=results.read_download,
        write_failure=failures.failed_info({"fingerprint": made_from}),
    )


def left_over(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "videos").glob(".*")]


def test_a_result_is_published_and_recorded(video: str, tmp_path: Path) -> None:
    outcome = run_task(work(tmp_path), CALM)
    assert outcome.status == "DOWNLOADED"
    status, path, title, lock = row(video, "status, video_path, title, locked_by")
    assert (status, title, lock) == ("DOWNLOADED", "t", None)
    assert Path(path).read_bytes() == b"abc"
    assert left_over(tmp_path) == []


def test_a_whole_result_of_the_same_fingerprint_is_left_alone(video: str, tmp_path: Path) -> None:
    run_task(work(tmp_path), CALM)
    file = tmp_path / "videos" / "v1" / "v1.mp4"
    before = file.stat().st_mtime_ns

    def never(out: Path) -> None:
        raise AssertionError("made again")

    run_task(work(tmp_path, never), CALM)
    assert file.stat().st_mtime_ns == before
    run_task(work(tmp_path, made_from="m2"), CALM)
    assert file.stat().st_mtime_ns > before
    file.unlink()
    run_task(work(tmp_path, made_from="m2"), CALM)
    assert file.exists()


def test_files_that_the_row_does_not_know_of_are_adopted(video: str, tmp_path: Path) -> None:
    run_task(work(tmp_path), CALM)
    execute(video, "UPDATE videos SET status = 'PENDING', video_path = NULL")
    file = tmp_path / "videos" / "v1" / "v1.mp4"
    before = file.stat().st_mtime_ns
    run_task(work(tmp_path), CALM)
    assert row(video, "status, video_path") == ("DOWNLOADED", str(file))
    assert file.stat().st_mtime_ns == before


def test_a_permanent_failure_is_a_result(video: str, tmp_path: Path) -> None:
    def fail(out: Path) -> None:
        (out / "half").write_text("x")
        raise PermanentError("no video stream", ErrorClass.NO_VIDEO)

    assert run_task(work(tmp_path, fail), CALM).status == "FAILED"
    assert row(video)[0] == "FAILED"
    assert row(video)[4] == "no_video"
    folder = tmp_path / "videos" / "v1"
    assert [path.name for path in folder.iterdir()] == ["info.json"]
    assert json.loads((folder / "info.json").read_text())["failure"]["error_class"] == "no_video"


def test_a_failed_video_is_tried_again_when_snakemake_asks(video: str, tmp_path: Path) -> None:
    def fail(out: Path) -> None:
        raise PermanentError("gone", ErrorClass.REMOVED)

    run_task(work(tmp_path, fail), CALM)
    assert run_task(work(tmp_path), CALM).status == "DOWNLOADED"
    assert row(video, "error, error_class") == (None, None)


def test_an_unexpected_error_ends_as_failed_after_max_attempts(video: str, tmp_path: Path) -> None:
    def fail(out: Path) -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        run_task(work(tmp_path, fail), FAST)
    assert row(video)[0] == "PENDING"
    assert run_task(work(tmp_path, fail), FAST).status == "FAILED"
    assert row(video, "error")[0].startswith("RuntimeError: boom. Next:")


def fail_often(tmp_path: Path, settings: MonitorConfig, error: Exception) -> list[str]:
    """Return the status after each of five attempts that end in an error, or fewer."""

    def fails(out: Path) -> None:
        raise error

    seen = []
    for _ in range(5):
        with suppress(TransientError):
            run_task(work(tmp_path, fails), settings)
        seen.append(row(os.environ["DATABASE_URL"], "status")[0])
        if seen[-1] == "FAILED":
            break
    return seen


def test_what_fails_in_passing_ends_after_attempts_over_some_hours(
    video: str, tmp_path: Path
) -> None:
    error = TransientError("no route", ErrorClass.NETWORK)
    assert fail_often(tmp_path, CALM, error) == ["PENDING"] * 5
    assert row(video, "failures, attempts, error, locked_by") == (5, 0, str(error), None)
    assert left_over(tmp_path) == []
    execute(video, "UPDATE videos SET failing_since = failing_since - interval '25 hours'")
    assert fail_often(tmp_path, CALM, error) == ["FAILED"]
    assert row(video, "error_class, failures, failing_since") == ("network", 0, None)
    assert "no route; given up after 6 attempts in 25 hours" in row(video, "error")[0]
    assert "`dataminer retry --class network`" in row(video, "error")[0]


def test_attempts_alone_count_if_no_hours_are_given(video: str, tmp_path: Path) -> None:
    at_once = CALM.model_copy(update={"give_up_hours": 0})
    error = TransientError("no route", ErrorClass.SERVER)
    assert fail_often(tmp_path, at_once, error) == ["PENDING", "PENDING", "FAILED"]


def went_on() -> TransientError:
    error = TransientError("not done within timeout_minutes", ErrorClass.TIMEOUT)
    error.progressed = True
    return error


@pytest.mark.parametrize(
    "error",
    [
        TransientError("asked too often", ErrorClass.RATE_LIMIT),
        TransientError("are you a robot", ErrorClass.BOT_CHECK),
        TransientError("no space", ErrorClass.DISK_FULL),
        went_on(),
    ],
    ids=lambda error: str(error.error_class),
)
def test_what_says_nothing_of_the_source_condemns_no_video(
    video: str, tmp_path: Path, error: Exception
) -> None:
    assert (
        fail_often(tmp_path, CALM.model_copy(update={"give_up_hours": 0}), error) == ["PENDING"] * 5
    )
    assert row(video, "failures, failing_since") == (0, None)


def test_a_project_is_complete_without_what_fails_in_passing(video: str, tmp_path: Path) -> None:
    project_id = add("p", "v2")
    extracted("v2")
    filtered("v2", project_id)
    projects.refresh([project_id])
    assert execute(video, "SELECT project_stage FROM projects") == [("FILTERING",)]
    fail_often(tmp_path, CALM, TransientError("no route", ErrorClass.NETWORK))
    projects.refresh_of_videos(["v1"])
    assert execute(video, "SELECT project_stage FROM projects") == [("DEDUP_READY",)]
    assert run_task(work(tmp_path), CALM).status == "DOWNLOADED"
    projects.refresh_of_videos(["v1"])
    assert execute(video, "SELECT project_stage FROM projects") == [("FILTERING",)]


def test_jobs_that_are_killed_never_condemn_a_video(video: str, tmp_path: Path) -> None:
    for _ in range(3 + FAST.max_attempts):
        assert claims.claim(stage_rows.DOWNLOAD, KEY, stale_seconds=0.05)
        time.sleep(0.1)
    assert row(video, "attempts, suspect, kills") == (1, True, 1 + FAST.max_attempts)
    time.sleep(0.7)  # stale
    error = TransientError("no route", ErrorClass.NETWORK)
    at_once = FAST.model_copy(update={"give_up_hours": 0})
    assert fail_often(tmp_path, at_once, error) == ["PENDING", "FAILED"]
    assert run_task(work(tmp_path), FAST).status == "DOWNLOADED"
    assert row(video, "attempts, suspect, kills, failures") == (0, False, 0, 0)


def test_a_video_whose_runs_were_killed_is_left_alone_after_some(
    video: str, tmp_path: Path
) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    force(
        video,
        "UPDATE videos SET status = 'DOWNLOADING', suspect = true, kills = 2, lease = 1,"
        f" locked_by = '{socket.gethostname()}:{child.pid}', locked_at = now(),"
        " heartbeat_at = now()",
    )
    with pytest.raises(TransientError, match="when 3 jobs were killed") as caught:
        run_task(work(tmp_path), CALM)
    assert caught.value.wait == 24 * 3600
    assert row(video, "status, kills, not_before > now() + interval '23 hours'") == (
        "PENDING",
        3,
        True,
    )


@pytest.mark.parametrize("error", [TimeoutError("no answer"), ConnectionResetError("reset")])
def test_what_fails_in_passing_below_the_stages_ends_too(
    video: str, tmp_path: Path, error: Exception
) -> None:
    at_once = CALM.model_copy(update={"give_up_hours": 0})
    assert fail_often(tmp_path, at_once, error) == ["PENDING", "PENDING", "FAILED"]


def test_what_was_given_up_says_how_the_last_attempt_ended(video: str, tmp_path: Path) -> None:
    for _ in range(FAST.max_attempts):
        held = claims.claim(stage_rows.DOWNLOAD, KEY, stale_seconds=60)
        assert held
        claim_end.release(held, error="killed", error_class="out_of_memory", counts=True)
    assert run_task(work(tmp_path, lambda out: None), FAST).status == "FAILED"
    assert row(video, "error_class") == ("out_of_memory",)
    assert "the last attempt: killed" in row(video, "error")[0]


def test_an_interrupted_job_gives_its_claim_back_without_counting(
    video: str, tmp_path: Path
) -> None:
    def asked_to_end(out: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    with pytest.raises(Interrupted):
        run_task(work(tmp_path, asked_to_end), CALM)
    assert row(video)[:1] + row(video)[2:4] == ("PENDING", 0, None)


def test_only_one_of_many_gets_the_claim(video: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        held = list(
            pool.map(lambda _: claims.claim(stage_rows.DOWNLOAD, KEY, stale_seconds=60), range(32))
        )
    assert sum(claim is not None for claim in held) == 1


def test_a_stale_claim_is_taken_over_and_the_late_one_changes_nothing(
    video: str, tmp_path: Path
) -> None:
    started, go_on = threading.Event(), threading.Event()
    late: list[BaseException] = []

    def slow(out: Path) -> None:
        started.set()
        go_on.wait(10)
        (out / "v1.mp4").write_bytes(b"late!")
        info = {"video": "v1.mp4", "size_bytes": 5, "fingerprint": "m1"}
        (out / "info.json").write_text(json.dumps(info))

    def holder() -> None:
        try:
            run_task(work(tmp_path, slow), CALM)
        except BaseException as error:
            late.append(error)

    thread = threading.Thread(target=holder)
    thread.start()
    assert started.wait(10)
    execute(video, "UPDATE videos SET heartbeat_at = now() - interval '1 hour'")
    run_task(work(tmp_path), CALM)
    go_on.set()
    thread.join(10)
    assert isinstance(late[0], LeaseLost)
    assert (tmp_path / "videos/v1/v1.mp4").read_bytes() == b"abc"
    assert row(video, "status, lease") == ("DOWNLOADED", 2)


class Waits(Exception):
    """Raised where a job would sleep."""


@pytest.mark.parametrize(("seconds", "taken"), [(0, False), (31, False), (61, False), (125, True)])
def test_only_a_claim_that_was_silent_for_two_minutes_is_taken_over(
    video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int, taken: bool
) -> None:
    slept = []

    def sleep(wait: float) -> None:
        slept.append(wait)
        raise Waits

    assert claims.claim(stage_rows.DOWNLOAD, KEY, stale_seconds=120)
    execute(video, f"UPDATE videos SET heartbeat_at = now() - interval '{seconds} s'")
    monkeypatch.setattr(task_runner, "time", SimpleNamespace(sleep=sleep))
    if taken:
        assert run_task(work(tmp_path), CALM).status == "DOWNLOADED"
        assert row(video, "status, lease") == ("DOWNLOADED", 2)
    else:
        with pytest.raises(Waits):
            run_task(work(tmp_path), CALM)
        assert row(video, "status, lease, attempts") == ("DOWNLOADING", 1, 1)
    assert bool(slept) is not taken


def test_who_waits_for_another_looks_again_ever_less_often(
    video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    held = claims.claim(stage_rows.DOWNLOAD, KEY, stale_seconds=120)
    assert held

    def sleep(wait: float) -> None:
        slept.append(wait)
        execute(video, "UPDATE videos SET heartbeat_at = now()")
        if sum(slept) > 100:
            claim_end.release(held, error=None, error_class=None, counts=False)

    monkeypatch.setattr(task_runner, "time", SimpleNamespace(sleep=sleep))
    assert run_task(work(tmp_path), CALM).status == "DOWNLOADED"
    assert slept[0] <= 0.2
    assert 7.5 <= slept[-1] <= max(slept) <= 15
    assert len(slept) < 20


def test_a_claim_whose_process_is_gone_is_not_waited_for(video: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    child = context.Process(
        target=claims.claim, args=(stage_rows.DOWNLOAD, KEY), kwargs={"stale_seconds": 60}
    )
    child.start()
    child.join()
    assert row(video)[0] == "DOWNLOADING"
    started = time.monotonic()
    assert run_task(work(tmp_path), CALM).status == "DOWNLOADED"
    assert time.monotonic() - started < 10


def test_a_job_that_lost_its_lease_is_stopped_by_its_heartbeat(video: str, tmp_path: Path) -> None:
    def slow(out: Path) -> None:
        execute(video, "UPDATE videos SET lease = lease + 1")
        time.sleep(20)

    started = time.monotonic()
    with pytest.raises(LeaseLost):
        run_task(work(tmp_path, slow), FAST)
    assert time.monotonic() - started < 10


def test_a_beat_just_after_the_result_was_recorded_ends_no_job(
    video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job still clears up by then; nobody took anything over."""
    finish, beat, late = claim_end.finish, claims.beat, []

    def watched(held: claims.Claim) -> bool:
        alive = beat(held)
        late.extend([held] if not alive else [])
        return alive

    def finish_and_clear_up(*arguments: Any) -> None:
        finish(*arguments)
        wait_until(lambda: len(late) >= 2)  # a claim taken for lost would have ended the job

    monkeypatch.setattr(claims, "beat", watched)
    monkeypatch.setattr(SingleClaimKeeper, "finish", staticmethod(finish_and_clear_up))
    assert run_task(work(tmp_path), FAST).status == "DOWNLOADED"
    assert row(video)[:4] == ("DOWNLOADED", 1, 0, None)


def test_the_second_of_two_waits_and_takes_the_result(video: str, tmp_path: Path) -> None:
    made = []

    def make(out: Path) -> None:
        made.append(1)
        time.sleep(0.5)
        work(tmp_path).make(out)

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda _: run_task(work(tmp_path, make), CALM), range(2)))
    assert [outcome.status for outcome in outcomes] == ["DOWNLOADED", "DOWNLOADED"]
    assert len(made) == 1


def test_a_result_that_came_while_it_was_looked_for_is_not_claimed(
    video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_task(work(tmp_path), CALM)
    before = row(video)
    real = claims.read_row
    seen: list[Any] = []

    def late(*args: Any) -> Any:
        # the first look is at the moment before the other one was done
        found: Any = real(*args)
        seen.append(found)
        return found if len(seen) > 1 else replace(found, status="DOWNLOADING", locked_by="x:1")

    monkeypatch.setattr(claims, "read_row", late)
    run_task(work(tmp_path), CALM)
    assert row(video) == before
    assert len(seen) == 2


def test_work_that_can_never_begin_says_so(video: str, tmp_path: Path) -> None:
    extract = StageTask(
        stage_rows.EXTRACT, KEY, tmp_path / "f", "m", lambda out: None, results.read_extract
    )
    with pytest.raises(Exception, match=r"cannot begin.*PENDING"):
        run_task(extract, CALM)


def test_adding_twice_adds_nothing(database: str) -> None:
    sources = [Given(f"v{n}") for n in range(2500)]
    first = projects.add_videos("p", sources + sources)
    assert (first.given, first.new_to_project, first.new_to_store) == (2500, 2500, 2500)
    again = projects.add_videos("p", sources)
    assert (again.new_to_project, again.new_to_store) == (0, 0)
    other = projects.add_videos("q", sources[:3])
    assert (other.new_to_project, other.new_to_store) == (3, 0)
    assert execute(
        database, "SELECT name, total_videos, videos_pending FROM projects ORDER BY 1"
    ) == [
        ("p", 2500, 2500),
        ("q", 3, 3),
    ]


STAGED = [
    # video status, project_video status -> stage
    ([("PENDING", "PENDING")], "POPULATING"),
    ([("DOWNLOADED", "PENDING"), ("PENDING", "PENDING")], "FILTERING"),
    ([("EXTRACTED", "FILTERED"), ("PENDING", "PENDING")], "FILTERING"),
    ([("EXTRACTED", "FILTERED"), ("FAILED", "FAILED")], "DEDUP_READY"),
    ([("EXTRACTED", "FILTERED_EMPTY")], "DEDUP_READY"),
    ([("FAILED", "FAILED"), ("FAILED", "FAILED")], "FILTERING"),
]


@pytest.mark.parametrize(("rows", "stage"), STAGED)
def test_stage_and_counters_follow_the_rows(
    database: str, rows: list[tuple[str, str]], stage: str
) -> None:
    projects.add_videos("p", [Given(f"v{n}") for n in range(len(rows))])
    for n, (video_status, in_project) in enumerate(rows):
        force(
            database,
            f"UPDATE videos SET status = '{video_status}', video_path = 'x', frames_dir = 'y',"
            f" frame_count = 7, error = 'e', error_class = 'c' WHERE video_id = 'v{n}'",
        )
        passed = {"FILTERED": "4", "FILTERED_EMPTY": "0"}.get(in_project, "NULL")
        force(
            database,
            f"UPDATE project_videos SET status = '{in_project}', filtered_dir = 'x',"
            f" passed_frames = {passed}, error = 'e', error_class = 'c' WHERE video_id = 'v{n}'",
        )
    projects.refresh_named(["p"])
    statuses = [video_status for video_status, _ in rows]
    in_projects = [status for _, status in rows]
    expected = (
        stage,
        len(rows),
        statuses.count("PENDING"),
        statuses.count("DOWNLOADED") + statuses.count("EXTRACTED"),
        statuses.count("EXTRACTED"),
        statuses.count("FAILED"),
        7 * statuses.count("EXTRACTED"),
        4 * in_projects.count("FILTERED"),
    )
    assert execute(
        database,
        "SELECT project_stage, total_videos, videos_pending, videos_downloaded, videos_extracted,"
        " videos_failed, extracted_frames, filtered_frames FROM projects",
    ) == [expected]


def test_a_refresh_that_changes_nothing_writes_nothing(database: str) -> None:
    projects.add_videos("p", [Given("v1")])
    before = execute(database, "SELECT xmin, updated_at FROM projects")
    projects.refresh_named(["p"])
    assert execute(database, "SELECT xmin, updated_at FROM projects") == before


def test_a_finished_project_goes_back_when_its_filter_ran_again(database: str) -> None:
    projects.add_videos("p", [Given("v1")])
    force(
        database,
        "UPDATE videos SET status = 'EXTRACTED', video_path = 'x', frames_dir = 'y',"
        " frame_count = 1; UPDATE project_videos SET status = 'FILTERED', filtered_dir = 'x',"
        " passed_frames = 1; UPDATE projects SET project_stage = 'COMPLETE', dedup_dir = 'd',"
        " detect_dir = 'e'",
    )
    project_id = projects.project_id_of("p")
    projects.refresh([project_id])
    assert execute(database, "SELECT project_stage FROM projects") == [("COMPLETE",)]
    projects.refresh([project_id], refiltered=True)
    assert execute(database, "SELECT project_stage FROM projects") == [("DEDUP_READY",)]


def session(connection: Connection) -> tuple[int, str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), current_setting('application_name')")
        ((pid, name),) = cursor
        return pid, name


def sessions(url: str, expected: int) -> bool:
    """Whether the database has so many sessions besides the one that asks, or soon will."""
    question = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    return wait_for(lambda: execute(url, question)[0][0] == expected, 15)


@pytest.fixture
def long_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep connections for longer than a busy machine takes from one transaction to the next."""
    monkeypatch.setattr(connection, "_SPARE_SECONDS", 600)


def test_a_connection_serves_the_next_transaction_under_its_own_name(
    database: str, long_spare: None
) -> None:
    first = transaction(session, name="one")
    second = transaction(session, name="two", keep=False)
    assert (first[1], second[1]) == ("one", "two")
    assert first[0] == second[0]
    assert transaction(session, keep=False)[0] != first[0]
    assert sessions(database, 0)


def test_an_idle_connection_is_given_up(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SPARE_SECONDS", 2)
    first = transaction(session)
    assert sessions(database, 1)
    assert sessions(database, 0)
    assert transaction(session)[0] != first[0]


def test_a_connection_that_died_meanwhile_is_replaced(database: str) -> None:
    first = transaction(session)
    execute(database, f"SELECT pg_terminate_backend({first[0]}, 5000)")
    assert transaction(session)[0] != first[0]


def test_threads_and_children_never_share_a_connection(database: str, long_spare: None) -> None:
    barrier = threading.Barrier(4)

    def together(connection: Connection) -> int:
        barrier.wait(60)
        return session(connection)[0]

    parent = transaction(session)[0]
    with ThreadPoolExecutor(4) as pool:
        assert len({*pool.map(lambda _: transaction(together), range(4))}) == 4
    parent = transaction(session)[0]
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=lambda: writer.send(transaction(session)[0]))
    child.start()
    assert reader.recv() != parent
    child.join()
    assert transaction(session)[0] == parent


def test_a_failed_transaction_keeps_no_connection(database: str) -> None:
    def fail(connection: Connection) -> None:
        session(connection)
        raise ValueError

    with pytest.raises(ValueError):
        transaction(fail)
    assert sessions(database, 0)


PASSING = ["08006", "40001", "53300", "55P03", "57P01"]
LASTING = ["22012", "42501", "55000"]


@pytest.mark.parametrize("state", PASSING + LASTING)
def test_what_passes_is_tried_again_and_what_lasts_is_not(database: str, state: str) -> None:
    tries = []

    def work(connection: Connection) -> Any:
        tries.append(state)
        with connection.cursor() as cursor:
            if len(tries) == 1:
                cursor.execute(f"DO $$ BEGIN RAISE 'now' USING ERRCODE = '{state}'; END $$")
            cursor.execute("SELECT 'done'")
            return cursor.fetchone()

    if state in LASTING:
        with pytest.raises((psycopg2.Error, DatabaseError), match="now"):
            transaction(work, patience=30)
        assert len(tries) == 1
    else:
        assert transaction(work, patience=30) == ("done",)
