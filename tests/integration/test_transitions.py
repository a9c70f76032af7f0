"""The table of transitions against the stages, and against the database's triggers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from dataminer.db.enums import ProjectStatus, ProjectVideoStatus, VideoStatus
from dataminer.sync.claims import projects
from dataminer.sync.claims.stage_rows import STAGES, running_statuses
from dataminer.sync.claims.transitions import MAY_FOLLOW, allowed, idle_before
from tests.support.postgres import execute, fresh_database
from tests.support.rows import Given, forced

STATUSES = {
    "videos": [*VideoStatus],
    "project_videos": [*ProjectVideoStatus],
    "projects": [*ProjectStatus],
}
COLUMN = {stage.table: stage.status_column for stage in STAGES.values()}
# what no stage does: rows sent back, and a project that follows its videos
BY_HAND = {
    "videos": {
        *itertools.product(("DOWNLOADED", "EXTRACTED", "FAILED"), ("PENDING",)),
        *itertools.product(("EXTRACTED", "FAILED"), ("DOWNLOADED",)),
    },
    "project_videos": set(
        itertools.product(("FILTERED", "FILTERED_EMPTY", "FAILED"), ("PENDING",))
    ),
    "projects": {
        *itertools.permutations(("POPULATING", "FILTERING", "DEDUP_READY"), 2),
        *itertools.product(
            ("DETECT_READY", "COMPLETE"), ("POPULATING", "FILTERING", "DEDUP_READY")
        ),
        ("COMPLETE", "DETECT_READY"),
    },
}
# what the constraints ask of any status, so that only the trigger can refuse
FILLED = {
    "videos": "video_path = 'x', frames_dir = 'y', frame_count = 1, error = 'e', error_class = 'c'",
    "project_videos": "filtered_dir = 'x', error = 'e', error_class = 'c'",
    "projects": "dedup_dir = 'x', detect_dir = 'y'",
}


def pairs(table: str) -> set[tuple[str, str]]:
    return {
        (str(before), str(after))
        for before, follows in MAY_FOLLOW[table].items()
        for after in follows
    }


def of_stages(table: str) -> set[tuple[str, str]]:
    running = running_statuses(table)
    moves = set(itertools.permutations(running, 2))  # taken over
    for stage in STAGES.values():
        if stage.table == table:
            moves |= {(idle, stage.running) for idle in (*stage.idle, stage.released)}
            moves |= {(stage.running, after) for after in (*stage.done, stage.released)}
    return {(str(before), str(after)) for before, after in moves}


@pytest.mark.parametrize("table", STATUSES)
def test_the_table_is_what_stages_do_and_what_may_be_sent_back(table: str) -> None:
    assert [*MAY_FOLLOW[table]] == STATUSES[table]
    assert pairs(table) == of_stages(table) | BY_HAND[table]
    assert not of_stages(table) & BY_HAND[table]


@pytest.fixture(scope="module")
def rows(server: str, template: str) -> Iterator[Connection]:
    """A session with one row in each table, for all pairs of states."""
    with fresh_database(server, template, "moves") as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        projects.add_videos("p", [Given("v1")])
        with closing(psycopg2.connect(url)) as session:
            session.autocommit = True
            yield session


def write(table: str, status: str, lease: int) -> str:
    """Return the assignments that put a row in a status, with all that constraints ask."""
    running = status in running_statuses(table)
    lock = "'me', now(), now()" if running else "NULL, NULL, NULL"
    values = f"{COLUMN[table]} = '{status}', lease = {lease}, {FILLED[table]}"
    if table == "project_videos":
        values += f", passed_frames = {int(status == 'FILTERED')}"
    return f"UPDATE {table} SET (locked_by, locked_at, heartbeat_at) = ({lock}), {values}"


def goes(session: Connection, table: str, before: tuple[str, int], after: tuple[str, int]) -> bool:
    with session.cursor() as cursor:
        cursor.execute(forced(write(table, *before)))
        try:
            cursor.execute(write(table, *after))
        except psycopg2.errors.CheckViolation as error:
            assert error.diag.constraint_name == f"transition_{table}"
            return False
        assert cursor.rowcount == 1
        return True


@pytest.mark.parametrize("table", STATUSES)
def test_the_database_allows_these_moves_and_no_other(rows: Connection, table: str) -> None:
    running = running_statuses(table)
    for before, after in itertools.product(STATUSES[table], repeat=2):
        lease = 6 if after in running else 5
        assert goes(rows, table, (before, 5), (after, lease)) == allowed(table, before, after), (
            before,
            after,
        )


@pytest.mark.parametrize("table", STATUSES)
def test_every_change_of_hands_moves_the_lease_as_it_must(rows: Connection, table: str) -> None:
    running = running_statuses(table)
    for before, after in sorted(pairs(table)):
        assert not goes(rows, table, (before, 5), (after, 4)), (before, after)
        assert goes(rows, table, (before, 5), (after, 5)) == (after not in running)
        kept = before in running and after not in running
        assert goes(rows, table, (before, 5), (after, 6)) == (not kept), (before, after)
    for status in STATUSES[table]:
        assert goes(rows, table, (status, 5), (status, 6))
        assert not goes(rows, table, (status, 5), (status, 4))


def test_a_refusal_says_what_and_why(database: str) -> None:
    projects.add_videos("p", [Given("v1")])
    with pytest.raises(psycopg2.errors.CheckViolation) as caught:
        execute(database, "UPDATE videos SET status = 'EXTRACTED'")
    assert "videos may not go from PENDING with lease 0 to EXTRACTED" in str(caught.value)
    assert "key: v1" in str(caught.value)
    assert caught.value.pgcode == "23514"


def test_where_a_row_may_be_sent_back_from() -> None:
    assert idle_before("videos", "PENDING") == ("DOWNLOADED", "EXTRACTED", "FAILED")
    assert idle_before("projects", "DETECT_READY") == ("COMPLETE",)
    assert not allowed("videos", "PENDING", "GONE")
    assert not allowed("videos", "GONE", "GONE")
