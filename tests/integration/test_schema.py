"""Migrations, models and constraints, on a real PostgreSQL."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module

import psycopg2
import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from snakemake.persistence.db import LockORM

from dataminer.db import models, schema
from dataminer.db.tables import HEAD
from dataminer.errors import DatabaseError
from tests.support.postgres import execute, fresh_database
from tests.support.waiting import wait_until

_COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, column_default
FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'dataminer_version'
ORDER BY 1, 2
"""
_CONSTRAINTS = """
SELECT conrelid::regclass::text, contype, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'dataminer_version'
ORDER BY 1, 2, 3
"""
_INDEXES = """
SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'dataminer_version'
ORDER BY 1
"""


def test_migrations_make_what_the_models_say(server: str, database: str) -> None:
    assert LockORM.metadata is not models.Project.metadata
    with fresh_database(server, prefix="models") as url:
        engine = sa.create_engine(
            url.replace("postgresql://", "postgresql+psycopg2://", 1), poolclass=sa.NullPool
        )
        models.Project.metadata.create_all(engine)
        for question in (_COLUMNS, _CONSTRAINTS, _INDEXES):
            assert execute(database, question) == execute(url, question)


IMPOSSIBLE = [
    "UPDATE videos SET status = 'DOWNLOADING'",
    "UPDATE videos SET locked_by = 'me', locked_at = now(), heartbeat_at = now()",
    "UPDATE videos SET status = 'DOWNLOADING', locked_by = 'me'",
    "UPDATE videos SET status = 'DOWNLOADED'",
    "UPDATE videos SET status = 'EXTRACTED', video_path = 'x'",
    "UPDATE videos SET status = 'EXTRACTED', video_path = 'x', frames_dir = 'y', frame_count = 0",
    "UPDATE videos SET status = 'EXTRACTED', video_path = 'x', frames_dir = 'y'",
    "UPDATE videos SET status = 'FAILED'",
    "UPDATE videos SET status = 'GONE'",
    "UPDATE videos SET video_id = '../etc'",
    "UPDATE project_videos SET status = 'FILTERED', filtered_dir = 'x', passed_frames = 0",
    "UPDATE project_videos SET status = 'FILTERED', filtered_dir = 'x'",
    "UPDATE project_videos SET status = 'FILTERED_EMPTY', filtered_dir = 'x', passed_frames = 3",
    "UPDATE project_videos SET status = 'FILTERING'",
    "UPDATE projects SET project_stage = 'DEDUPING'",
    "UPDATE projects SET project_stage = 'COMPLETE', dedup_dir = 'x'",
    "UPDATE projects SET project_stage = 'DETECT_READY'",
    "UPDATE projects SET videos_failed = -1",
    "UPDATE projects SET name = 'a/b'",
    "INSERT INTO project_videos (project_id, video_id) VALUES (1, 'v1')",
]


@pytest.fixture(scope="module")
def rows(server: str, template: str) -> Iterator[str]:
    """A row in each table of one database, for all that is refused there."""
    with fresh_database(server, template, "impossible") as url:
        execute(url, "INSERT INTO videos (video_id, url, source_type) VALUES ('v1', 'u', 'URL')")
        execute(url, "INSERT INTO projects (name) VALUES ('p')")
        execute(url, "INSERT INTO project_videos (project_id, video_id) VALUES (1, 'v1')")
        for table in ("videos", "project_videos", "projects"):  # the constraints alone
            execute(url, f"ALTER TABLE {table} DISABLE TRIGGER transition")
        yield url


@pytest.mark.parametrize("statement", IMPOSSIBLE)
def test_what_is_impossible_cannot_be_written(rows: str, statement: str) -> None:
    with pytest.raises(psycopg2.IntegrityError):
        execute(rows, statement)


def test_times_are_the_servers_own_in_utc(database: str) -> None:
    execute(database, "INSERT INTO videos (video_id, url, source_type) VALUES ('v1', 'u', 'URL')")
    execute(database, "UPDATE videos SET title = 'x'")
    ((created, updated, now),) = execute(
        database,
        "SET timezone = 'UTC'; SELECT created_at, updated_at, clock_timestamp() FROM videos",
    )
    assert created < updated < now
    assert created.utcoffset().total_seconds() == 0


def test_upgrade_is_repeatable_and_refuses_a_newer_database(database: str) -> None:
    assert schema.upgrade() == HEAD == schema.current()
    execute(database, "UPDATE dataminer_version SET version_num = '9999'")
    with pytest.raises(DatabaseError, match="newer dataminer"):
        schema.upgrade()


def test_two_first_runs_make_the_tables_one_after_the_other(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database"
        " WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
    )
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    with fresh_database(server, prefix="first") as url:
        monkeypatch.setenv("DATABASE_URL", url)
        runs = [context.Process(target=lambda: results.put(schema.upgrade())) for _ in range(2)]
        with closing(psycopg2.connect(url)) as held:
            held.cursor().execute("SELECT pg_advisory_xact_lock(%s)", (schema.LOCK,))
            for run in runs:
                run.start()
            wait_until(lambda: execute(url, waiting) == [(len(runs),)], 30)
        for run in runs:
            run.join()
        assert [run.exitcode for run in runs] == [0, 0]
        assert [results.get() for _ in runs] == [HEAD] * 2


def test_notes_come_and_go_with_their_revision(database: str) -> None:
    execute(database, "INSERT INTO videos (video_id, url, source_type) VALUES ('v1', 'u', 'URL')")
    migrations = import_module("dataminer.db.migrations.versions.0010_notes")
    engine = sa.create_engine(
        database.replace("postgresql://", "postgresql+psycopg2://", 1), poolclass=sa.NullPool
    )
    columns = "SELECT column_name FROM information_schema.columns WHERE column_name LIKE '%notes'"
    for step, expected in (
        (migrations.downgrade, []),
        (migrations.upgrade, [("notes",), ("source_notes",)]),
    ):
        with (
            engine.begin() as connection,
            Operations.context(MigrationContext.configure(connection)),
        ):
            step()
        assert sorted(execute(database, columns)) == expected
    assert execute(database, "SELECT notes, url FROM videos") == [({}, "u")]
