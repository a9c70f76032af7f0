"""Claims of jobs that died unnoticed are given back, on a real PostgreSQL."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest

from dataminer.config import MonitorConfig
from dataminer.sync.claims import claim_end, claims, owners, projects, stage_rows
from dataminer.sync.claims.claims import LeaseLost
from dataminer.sync.recovery import stale_claims
from tests.support.postgres import execute
from tests.support.rows import add, downloaded, extracted, filtered, finished, held

STALE = MonitorConfig(heartbeat_seconds=0.01, stale_threshold_minutes=0.005)  # 0.3 s
CALM = MonitorConfig()


def silence(url: str, *tables: str) -> None:
    for table in tables:
        execute(
            url,
            f"UPDATE {table} SET heartbeat_at = now() - interval '10 min'"
            " WHERE locked_by IS NOT NULL",
        )


def locks(url: str, table: str, status: str = "status") -> list[tuple[Any, ...]]:
    columns = f"{status}, locked_by, locked_at, heartbeat_at, lease, attempts"
    return execute(url, f"SELECT {columns} FROM {table} ORDER BY 1")


def test_every_stage_falls_back_to_where_it_began(database: str) -> None:
    project = add("p", "a", "b", "c")
    held(stage_rows.DOWNLOAD, video_id="a")
    downloaded("b")
    held(stage_rows.EXTRACT, video_id="b")
    extracted("c")
    held(stage_rows.FILTER, project_id=project, video_id="c")
    silence(database, "videos", "project_videos")
    found = {claim.key: claim for claim in stale_claims.recover_stale(CALM)}
    assert {key: (claim.was, claim.becomes) for key, claim in found.items()} == {
        "a": ("DOWNLOADING", "PENDING"),
        "b": ("EXTRACTING", "DOWNLOADED"),
        "p/c": ("FILTERING", "PENDING"),
    }
    assert found["p/c"].table == "project_videos"
    assert found["a"].owner == owners.owner_name()
    assert 590 < found["a"].age < 700
    assert locks(database, "videos") == [
        ("DOWNLOADED", None, None, None, 2, 0),
        ("EXTRACTED", None, None, None, 2, 0),
        ("PENDING", None, None, None, 1, 0),
    ]
    ((error, error_class),) = execute(
        database, "SELECT error, error_class FROM videos WHERE video_id = 'a'"
    )
    assert error.startswith("job died unnoticed (last heartbeat 60")
    assert f" s ago on {owners.owner_name().split(':')[0]})" in error
    assert error_class == "killed"


@pytest.mark.parametrize(
    ("stage", "status", "columns", "was", "becomes"),
    [
        (stage_rows.DEDUP, "DETECT_READY", {"dedup_dir": "d"}, "DEDUPING", "DEDUP_READY"),
        (stage_rows.DETECT, "COMPLETE", {"detect_dir": "e"}, "DETECTING", "DETECT_READY"),
    ],
)
def test_a_project_whose_job_died_can_be_claimed_again(
    database: str,
    stage: stage_rows.StageRows,
    status: str,
    columns: dict[str, str],
    was: str,
    becomes: str,
) -> None:
    project = add("p", "a")
    extracted("a")
    filtered("a", project)
    projects.refresh([project])
    if stage is stage_rows.DETECT:
        finished(stage_rows.DEDUP, "DETECT_READY", {"dedup_dir": "d"}, project_id=project)
    held(stage, project_id=project)
    silence(database, "projects")
    (claim,) = stale_claims.recover_stale(CALM)
    assert (claim.table, claim.key, claim.was, claim.becomes) == ("projects", "p", was, becomes)
    finished(stage, status, columns, project_id=project)


def test_claims_that_beat_are_left_alone(database: str) -> None:
    add("p", "a")
    claim = held(stage_rows.DOWNLOAD, video_id="a")
    before = locks(database, "videos")
    assert stale_claims.recover_stale(CALM) == []
    assert locks(database, "videos") == before
    time.sleep(0.4)
    assert claims.beat(claim)
    assert stale_claims.recover_stale(STALE) == []


@pytest.mark.parametrize(
    ("minutes", "alive", "dead"),
    # a slow machine may take seconds between the rows' times and the look at them
    [(2, (0, 31, 61, 90), (121, 150, 3600)), (60, (121, 3000, 3540), (3601, 7200))],
)
def test_a_claim_is_dead_when_it_was_silent_for_the_stale_minutes(
    database: str,
    minutes: int,
    alive: tuple[int, int, int, int] | tuple[int, int, int],
    dead: tuple[int, int, int] | tuple[int, int],
) -> None:
    project = add("p", *(f"v{seconds}" for seconds in (*alive, *dead)))
    for seconds in (*alive, *dead):
        held(stage_rows.DOWNLOAD, video_id=f"v{seconds}")
        held(stage_rows.FILTER, project_id=project, video_id=f"v{seconds}")
    for table in ("videos", "project_videos"):
        execute(
            database,
            f"UPDATE {table} SET"
            " heartbeat_at = now() - make_interval(secs => substr(video_id, 2)::float)",
        )
    found = stale_claims.recover_stale(MonitorConfig(stale_threshold_minutes=minutes))
    assert {claim.key for claim in found} == {f"{of}v{s}" for of in ("", "p/") for s in dead}


def test_whoever_was_taken_for_dead_writes_nothing(database: str) -> None:
    add("p", "a")
    late = held(stage_rows.DOWNLOAD, video_id="a")
    silence(database, "videos")
    stale_claims.recover_stale(CALM)

    def never() -> None:
        raise AssertionError("published")

    assert not claims.beat(late)
    with pytest.raises(LeaseLost):
        claim_end.finish(late, "DOWNLOADED", {"video_path": "x"}, never)
    assert not claim_end.release(late, error="e", error_class="c", counts=True)
    assert locks(database, "videos") == [("PENDING", None, None, None, 1, 0)]


def test_recoveries_condemn_nobody_and_leave_a_suspect_alone_after_some(database: str) -> None:
    """The first job that dies makes it one: it may have died of another video."""
    add("p", "a")
    query = "SELECT kills, suspect, not_before > now() + interval '23 hours' FROM videos"
    for kills, waits in ((0, None), (1, None), (2, None), (3, True)):
        assert held(stage_rows.DOWNLOAD, video_id="a").attempts == 1
        silence(database, "videos")
        assert [claim.attempts for claim in stale_claims.recover_stale(CALM)] == [0]
        assert execute(database, query) == [(kills, True, waits)]


@pytest.mark.parametrize("suspect", [False, True])
def test_whoever_takes_over_makes_a_suspect_of_it(database: str, suspect: bool) -> None:
    add("p", "a")
    execute(database, f"UPDATE videos SET suspect = {suspect}")
    held(stage_rows.DOWNLOAD, video_id="a")
    silence(database, "videos")
    taken = held(stage_rows.DOWNLOAD, video_id="a")
    assert taken.attempts == 1
    assert execute(database, "SELECT kills FROM videos") == [(int(suspect),)]
    assert execute(database, "SELECT suspect FROM videos") == [(True,)]
    claim_end.finish(taken, "DOWNLOADED", {"video_path": "x"}, lambda: None)
    assert execute(database, "SELECT suspect FROM videos") == [(False,)]


def test_counters_follow_what_was_given_back(database: str) -> None:
    add("p", "a")
    add("q", "a")
    downloaded("a")
    held(stage_rows.EXTRACT, video_id="a")
    execute(database, "UPDATE projects SET videos_downloaded = 0")
    silence(database, "videos")
    stale_claims.recover_stale(CALM)
    counted = execute(database, "SELECT name, videos_downloaded FROM projects ORDER BY 1")
    assert counted == [("p", 1), ("q", 1)]


def test_a_row_that_somebody_has_locked_is_passed_over(database: str) -> None:
    add("p", "a", "b")
    held(stage_rows.DOWNLOAD, video_id="a")
    held(stage_rows.DOWNLOAD, video_id="b")
    silence(database, "videos")
    connection = psycopg2.connect(database)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM videos WHERE video_id = 'a' FOR UPDATE")
        started = time.monotonic()
        assert [claim.key for claim in stale_claims.recover_stale(CALM)] == ["b"]
        assert time.monotonic() - started < 5
        connection.rollback()  # closing alone, the server takes a moment to notice
    finally:
        connection.close()
    assert [claim.key for claim in stale_claims.recover_stale(CALM)] == ["a"]


def test_several_at_once_give_each_claim_back_once(database: str) -> None:
    add("p", *(f"v{n}" for n in range(50)))
    for n in range(50):
        held(stage_rows.DOWNLOAD, video_id=f"v{n}")
    silence(database, "videos")
    with ThreadPoolExecutor(8) as pool:
        found = [
            claim.key
            for claims_ in pool.map(lambda _: stale_claims.recover_stale(CALM), range(8))
            for claim in claims_
        ]
    assert sorted(found) == sorted(f"v{n}" for n in range(50))


def test_healing_moves_stages_on_without_any_stale_claim(database: str) -> None:
    project = add("p", "a")
    extracted("a")
    filtered("a", project)
    assert stale_claims.heal(CALM) == []
    assert execute(database, "SELECT project_stage, videos_extracted FROM projects") == [
        ("DEDUP_READY", 1)
    ]
