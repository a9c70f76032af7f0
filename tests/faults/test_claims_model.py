"""Random interleavings of several owners on a real PostgreSQL, compared with a small model.

The model knows one thing: which claim holds which row. From that and from the row as it stood
before, it says what each call must answer; every row is looked at before and after each call.

The same few stories each time; DATAMINER_TEST_STORIES=1000 has as many new ones told.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from dataminer.config import MonitorConfig
from dataminer.sync.claims import claim_end, claims, projects
from dataminer.sync.claims.claims import Claim, LeaseLost
from dataminer.sync.claims.owners import owner_name
from dataminer.sync.claims.stage_rows import KEYS, STAGES, StageRows, running_statuses
from dataminer.sync.claims.transitions import allowed, idle_before
from dataminer.sync.recovery.stale_claims import recover_stale

STALE = 60.0  # seconds; a test that takes so long between two steps fails by its time limit
MONITOR = MonitorConfig(stale_threshold_minutes=STALE / 60)
ROWS: dict[str, list[dict[str, Any]]] = {
    "videos": [{"video_id": "v1"}, {"video_id": "v2"}],
    "project_videos": [
        {"project_id": 1, "video_id": "v1"},
        {"project_id": 1, "video_id": "v2"},
    ],
    "projects": [{"project_id": 1}],
}
# what constraints ask of any status is there from the start: they are not what is tested here
SETUP = """
TRUNCATE projects, videos, project_videos RESTART IDENTITY;
INSERT INTO projects (name, dedup_dir, detect_dir) VALUES ('p', 'x', 'y');
INSERT INTO videos (video_id, url, source_type, video_path, frames_dir, frame_count)
    SELECT 'v' || n, 'u', 'URL', 'x', 'y', 1 FROM generate_series(1, 2) n;
INSERT INTO project_videos (project_id, video_id, filtered_dir)
    SELECT 1, video_id, 'x' FROM videos ORDER BY video_id;
"""
COLUMNS: dict[str, dict[str, Any]] = {
    "FAILED": {"error": "e", "error_class": "c"},
    "FILTERED": {"passed_frames": 1},
    "FILTERED_EMPTY": {"passed_frames": 0},
}
RowKey = tuple[str, tuple[Any, ...]]  # a table and a row's key


@dataclass(frozen=True)
class Seen:
    status: str
    lease: int
    attempts: int
    locked_by: str | None
    suspect: bool
    stale: bool


def row_key(held: Claim) -> RowKey:
    return held.stage.table, tuple(held.key.values())


def rows_of(stage_name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.sampled_from(ROWS[STAGES[stage_name].table]).map(lambda key: (stage_name, key))


OWNERS = st.sampled_from(["ann:1", "bob:2", "cy:3"])
STAGE_NAMES = st.sampled_from([*STAGES])
TARGETS = STAGE_NAMES.flatmap(rows_of)


class Owners(RuleBasedStateMachine):
    """Owners who claim, beat, stall and finish, and who do not know when they have lost."""

    held = Bundle("held")

    def __init__(self, connection: Any, counts: dict[str, int]) -> None:
        super().__init__()
        self._connection = connection
        self._counts = counts
        self._holder: dict[RowKey, Claim] = {}
        self._owner: dict[tuple[RowKey, int], str] = {}
        self._published: list[Claim] = []

    @initialize()
    def fresh(self) -> None:
        self._ask(SETUP)
        self._before = self._observe()

    # --- what owners do

    @rule(target=held, owner=OWNERS, wanted=TARGETS)
    def claim(self, owner: str, wanted: tuple[str, dict[str, Any]]) -> Any:
        return self._claim(owner, STAGES[wanted[0]], wanted[1])

    @rule(target=held, owner=OWNERS, one=held, again=st.booleans())
    def seize(self, owner: str, one: Claim, again: bool) -> Any:
        others = [stage for stage in STAGES.values() if stage.table == one.stage.table]
        return self._claim(owner, one.stage if again else others[0], dict(one.key))

    def _claim(self, owner: str, stage: StageRows, key: dict[str, Any]) -> Any:
        row = self._before[stage.table, tuple(key.values())]
        free = row.status in stage.idle
        over = row.status in running_statuses(stage.table) and row.stale
        self._be(owner)
        got = claims.claim(stage, key, stale_seconds=STALE)
        assert (got is not None) == (free or over), (row, got)
        if not got:
            return multiple()
        assert got.lease == row.lease + 1
        if row.status == "FAILED":
            expected = 1
        elif over:  # which of its job's videos ended it, nobody knows
            expected = max(row.attempts, 1)
        else:
            expected = row.attempts + 1
        assert got.attempts == expected
        self._take(got, owner)
        self._count("taken over" if over else "claimed")
        return got

    @rule(target=held, owner=OWNERS, videos=st.sets(st.sampled_from(["v1", "v2"]), min_size=1))
    def claim_new(self, owner: str, videos: set[str]) -> Any:
        row_keys = [("videos", (video_id,)) for video_id in videos]
        ready = {where for where in row_keys if self._before[where].status == "PENDING"}
        self._be(owner)
        got = [held for held, _ in claims.claim_new(videos).values()]
        assert {row_key(one) for one in got} == ready
        for one in got:
            self._take(one, owner)
            self._count("claimed in batches")
        return multiple(*got)

    @rule(one=held)
    def beat(self, one: Claim) -> None:
        assert claims.beat(one) == self._is_held(one)
        assert not (self._is_held(one) and self._observe()[row_key(one)].stale)

    @rule(one=held, data=st.data())
    def finish(self, one: Claim, data: st.DataObject) -> None:
        status = data.draw(st.sampled_from(one.stage.done))
        columns = COLUMNS.get(status, {})
        row = self._before[row_key(one)]
        if self._is_held(one):
            claim_end.finish(one, status, columns, lambda: self._published.append(one))
            assert self._observe()[row_key(one)].status == status
            del self._holder[row_key(one)]
            self._count("finished")
        elif (row.lease, row.status) == (one.lease, status):
            claim_end.finish(one, status, columns, self._never)  # the same answer once more
        else:
            with pytest.raises(LeaseLost):
                claim_end.finish(one, status, columns, self._never)
            assert self._observe() == self._before
            self._count("late results refused")

    @rule(one=held, counts=st.booleans(), error=st.sampled_from([None, "oops"]))
    def release(self, one: Claim, counts: bool, error: str | None) -> None:
        held = self._is_held(one)
        assert claim_end.release(one, error=error, error_class=error, counts=counts) == held
        row = self._observe()[row_key(one)]
        if held:
            assert row.status == one.stage.released
            assert row.attempts == (one.attempts if counts else max(one.attempts - 1, 0))
            del self._holder[row_key(one)]
            self._count("released")
        else:
            assert self._observe() == self._before

    # --- what befalls them

    @rule(one=held)
    def expire(self, one: Claim) -> None:
        matches = " AND ".join(f"{name} = %({name})s" for name in one.key)
        self._ask(
            f"UPDATE {one.stage.table} SET heartbeat_at = heartbeat_at - interval '1 hour'"
            f" WHERE {matches}",
            one.key,
        )

    @rule()
    def recover(self) -> None:
        lost = [one for where, one in self._holder.items() if self._before[where].stale]
        assert len(recover_stale(MONITOR)) == len(lost)
        for one in lost:
            where = row_key(one)
            assert self._observe()[where].locked_by is None
            del self._holder[where]
            # given back, and then perhaps moved on by the recount: two moves
            self._before[where] = replace(self._before[where], status=one.stage.released)
            self._count("recovered")

    @rule(table=st.sampled_from(["videos", "project_videos"]))
    def retry(self, table: str) -> None:
        back = list(idle_before(table, "PENDING"))
        self._ask(f"UPDATE {table} SET status = 'PENDING' WHERE status = ANY(%s)", (back,))

    @rule(refiltered=st.booleans())
    def refresh(self, refiltered: bool) -> None:
        projects.refresh([1], refiltered=refiltered)

    # --- what must always hold

    @invariant()
    def rows_say_who_holds_them(self) -> None:
        now = self._observe()
        for where, row in now.items():
            before, table = self._before[where], where[0]
            assert allowed(table, before.status, row.status), (where, before, row)
            assert row.lease >= before.lease
            assert row.attempts >= 0
            holder = self._holder.get(where)
            assert (row.status in running_statuses(table)) == (holder is not None)
            if holder:
                assert (row.status, row.lease) == (holder.stage.running, holder.lease)
                assert row.locked_by == self._owner[where, row.lease]
        self._before = now

    @invariant()
    def no_claim_published_twice(self) -> None:
        published = [(row_key(one), one.lease) for one in self._published]
        assert len(published) == len(set(published))

    # --- helpers

    def _is_held(self, one: Claim) -> bool:
        return self._holder.get(row_key(one)) is one

    def _take(self, got: Claim, owner: str) -> None:
        assert (row_key(got), got.lease) not in self._owner, "one lease, two owners"
        self._holder[row_key(got)] = got
        self._owner[row_key(got), got.lease] = owner

    def _be(self, owner: str) -> None:
        vars(claims)["owner_name"] = lambda: owner

    def _count(self, what: str) -> None:
        self._counts[what] = self._counts.get(what, 0) + 1

    @staticmethod
    def _never() -> None:
        raise AssertionError("published without the lease")

    def _observe(self) -> dict[RowKey, Seen]:
        seen: dict[RowKey, Seen] = {}
        columns = {stage.table: stage.status_column for stage in STAGES.values()}
        for table, names in KEYS.items():
            rows = self._ask(
                f"SELECT {columns[table]}, lease, attempts, locked_by, suspect,"
                f" coalesce(heartbeat_at < clock_timestamp() - make_interval(secs => {STALE}),"
                f" false), {', '.join(names)}"
                f" FROM {table}"
            )
            seen |= {(table, row[6:]): Seen(*row[:6]) for row in rows}
        return seen

    def _ask(self, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []


def test_no_interleaving_breaks_a_claim(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "owner_name", owner_name)  # put back at the end
    connection = psycopg2.connect(database)
    connection.autocommit = True
    counts: dict[str, int] = {}

    class Connected(Owners):
        def __init__(self) -> None:
            super().__init__(connection, counts)

    stories = os.environ.get("DATAMINER_TEST_STORIES")
    wanted = {"taken over", "late results refused", "recovered"}
    for turn in range(5):
        run_state_machine_as_test(
            Connected,
            settings=settings(
                max_examples=int(stories or 40),
                derandomize=not (stories or turn),
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
        if wanted <= counts.keys():
            break  # what hypothesis tries also depends on the modules that are loaded
    connection.close()
    print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    assert wanted <= counts.keys()
