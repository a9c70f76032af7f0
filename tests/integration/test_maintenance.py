"""Deletion and forced stages, on hand-made stores and a real PostgreSQL."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection
from typer.testing import CliRunner, Result

from dataminer.cli.main import app
from dataminer.config import MonitorConfig
from dataminer.db.connection import transaction
from dataminer.errors import DataminerError
from dataminer.frames.table import CLUSTERS_FILE, FRAMES_FILE
from dataminer.store import trash
from dataminer.store.layout import Store
from dataminer.sync.claims import claim_end, claims, projects, stage_rows
from dataminer.sync.deletion import delete, orphans
from dataminer.sync.deletion.delete import carry_out
from dataminer.sync.deletion.plan import plan_project, plan_videos, select_videos
from dataminer.sync.pairing.settle import settle_pair
from dataminer.sync.repair.redo import redo
from dataminer.sync.repair.retry_command import Choice
from tests.support.postgres import execute
from tests.support.rows import Given, force, versions
from tests.support.stores import (
    VIDEOS,
    dump,
    listing,
    make_download,
    make_filtered,
    make_video,
    stage,
    statuses,
    sync,
)

CALM = MonitorConfig()
rename = os.rename


@pytest.fixture
def shared(whole: tuple[str, Store]) -> tuple[str, Store]:
    """A second project that uses one of the finished project's videos."""
    database, store = whole
    projects.add_videos("q", [Given("v1")])
    make_filtered(store, "q", "v1", (0,))
    sync(store)
    return database, store


def names(url: str, table: str) -> list[str]:
    column = {"projects": "name"}.get(table, "video_id")
    return [row[0] for row in execute(url, f"SELECT {column} FROM {table} ORDER BY 1")]


def members(url: str, project: str) -> list[str]:
    found = execute(
        url,
        "SELECT video_id FROM project_videos JOIN projects USING (project_id)"
        f" WHERE name = '{project}' ORDER BY 1",
    )
    return [row[0] for row in found]


def partials(store: Store) -> list[Path]:
    return sorted(store.root.rglob("*.partial"))


# ---- delete-project


def test_a_project_without_its_files_can_be_brought_back(whole: tuple[str, Store]) -> None:
    database, store = whole
    before = listing(store)
    carry_out(plan_project(store, "p", files=False, videos=False), CALM)
    assert names(database, "projects") == []
    assert names(database, "videos") == sorted(VIDEOS)
    assert listing(store) == before
    sync(store, ["p"])
    assert stage(database) == "COMPLETE"


def test_a_project_with_its_files_leaves_the_videos(shared: tuple[str, Store]) -> None:
    database, store = shared
    central = [path for path in listing(store) if "/projects/p" not in path]
    plan = plan_project(store, "p", files=True, videos=False)
    assert any("projects/p: " in line and "MB" in line for line in plan.summary())
    carry_out(plan, CALM)
    assert names(database, "projects") == ["q"]
    assert list(listing(store)) == central
    assert sync(store).repairs == []


def test_videos_that_another_project_uses_stay(shared: tuple[str, Store]) -> None:
    database, store = shared
    carry_out(plan_project(store, "p", files=True, videos=True), CALM)
    assert names(database, "videos") == ["v1"]
    assert store.frames("v1").is_dir()
    assert not store.frames("none").exists()
    assert not store.video("bad").exists()
    assert stage(database, "q") == "DEDUP_READY"


def test_an_unknown_project_and_a_path_are_refused(whole: tuple[str, Store]) -> None:
    _, store = whole
    for name in ("void", "../videos", "p/filtered", ".", ""):
        with pytest.raises(DataminerError):
            plan_project(store, name, files=True, videos=True)


# ---- delete-videos


def test_a_video_leaves_its_project_which_goes_back(whole: tuple[str, Store]) -> None:
    database, store = whole
    carry_out(plan_videos(store, ["none"], files=False, all_projects=False), CALM)
    assert names(database, "videos") == names(database, "project_videos") == ["bad", "v1"]
    assert stage(database) == "DEDUP_READY"
    assert execute(database, "SELECT total_videos, extracted_frames FROM projects") == [(2, 3)]
    assert store.frames("none").is_dir()
    assert not store.filtered("p", "none").exists(), "or sync would bring the row back"
    sync(store)
    assert names(database, "videos") == ["bad", "v1"]
    assert stage(database) == "DEDUP_READY"


def test_a_video_with_its_files(whole: tuple[str, Store]) -> None:
    database, store = whole
    carry_out(plan_videos(store, ["v1", "v1"], files=True, all_projects=False), CALM)
    assert names(database, "videos") == ["bad", "none"]
    assert not any(f("v1").exists() for f in (store.video, store.frames))
    assert partials(store) == []


def test_shared_videos_are_deleted_only_when_all_projects_are_meant(
    shared: tuple[str, Store],
) -> None:
    database, store = shared
    with pytest.raises(DataminerError, match=r"v1 \(p, q\).*--all-projects"):
        plan_videos(store, ["v1"], files=True, all_projects=False)
    carry_out(plan_videos(store, ["v1"], files=True, all_projects=True), CALM)
    assert names(database, "videos") == ["bad", "none"]
    assert stage(database, "q") == "POPULATING"


def test_unknown_videos_and_paths_are_refused(whole: tuple[str, Store]) -> None:
    database, store = whole
    before = (dump(database), listing(store))
    for name in ("void", "../frames", "a b", "v1/", ""):
        refused = dataminer(store, "delete-videos", "v1", name, "--files", "--yes")
        assert f"there is no video {name}" in str(refused.exception)
    with pytest.raises(DataminerError, match="is not an id"):
        plan_videos(store, ["../frames"], files=True)
    assert (dump(database), listing(store)) == before


# ---- delete-videos: out of some projects only


def exact(store: Store, *folders: Path) -> dict[Path, tuple[Any, ...]]:
    """Return inode, time and content of all files in folders."""
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    stats = {path: path.stat() for path in files}
    return {p: (s.st_ino, s.st_mtime_ns, s.st_nlink, p.read_bytes()) for p, s in stats.items()}


def rows_of(url: str, project: str) -> list[list[tuple[Any, ...]]]:
    """Return the rows of a project, and those of the videos that it has."""
    of = f"(SELECT project_id FROM projects WHERE name = '{project}')"
    videos = f"(SELECT video_id FROM project_videos WHERE project_id = {of})"
    return [
        execute(url, f"SELECT t::text, xmin FROM projects t WHERE project_id = {of}"),
        execute(url, f"SELECT t::text, xmin FROM project_videos t WHERE project_id = {of}"),
        execute(url, f"SELECT t::text, xmin FROM videos t WHERE video_id IN {videos}"),
    ]


@pytest.mark.parametrize("options", [(), ("--files",)])
def test_a_video_leaves_one_project_and_the_other_does_not_notice(
    shared: tuple[str, Store], options: tuple[str, ...]
) -> None:
    database, store = shared
    others = (store.project("q"), store.video("v1"), store.frames("v1"))
    before = (rows_of(database, "q"), exact(store, *others))
    done = dataminer(store, "delete-videos", "v1", "--project", "p", *options, "--yes")
    assert done.exit_code == 0, done.exception
    assert "video v1 out of project p: rows: 1 of project_videos\n" in done.output
    assert "stays, for other projects and for later: video v1" in done.output
    assert (rows_of(database, "q"), exact(store, *others)) == before
    assert not store.filtered("p", "v1").exists()
    assert members(database, "p") == ["bad", "none"]
    assert stage(database) == "DEDUP_READY"
    assert partials(store) == []


def test_a_video_that_was_taken_out_comes_back_only_when_it_is_added(
    shared: tuple[str, Store],
) -> None:
    database, store = shared
    carry_out(plan_videos(store, ["v1"], out_of=["p"], files=False), CALM)
    for deep in (False, True):
        sync(store, deep=deep)
        sync(store, ["p"], deep=deep)
        assert members(database, "p") == ["bad", "none"]
    assert stage(database) == "DEDUP_READY"
    projects.add_videos("p", [Given("v1")])
    assert members(database, "p") == ["bad", "none", "v1"]


def test_with_files_what_no_other_project_uses_goes_altogether(shared: tuple[str, Store]) -> None:
    database, store = shared
    plan = plan_videos(store, ["v1", "none"], out_of=["p"], files=True)
    assert (plan.videos, plan.kept) == (("none",), ("v1",))
    carry_out(plan, CALM)
    assert names(database, "videos") == ["bad", "v1"]
    assert not any(f("none").exists() for f in (store.video, store.frames))
    assert all(f("v1").exists() for f in (store.video, store.frames))


def test_without_files_a_video_stays_though_no_project_has_it(whole: tuple[str, Store]) -> None:
    database, store = whole
    before = exact(store, store.video("none"), store.frames("none"))
    carry_out(plan_videos(store, ["none"], out_of=["p"], files=False), CALM)
    assert members(database, "p") == ["bad", "v1"]
    assert names(database, "videos") == sorted(VIDEOS)
    assert exact(store, store.video("none"), store.frames("none")) == before
    assert orphans.find_orphans(store).videos == ("none",)


def test_out_of_several_projects_at_once(shared: tuple[str, Store]) -> None:
    database, store = shared
    carry_out(plan_videos(store, ["v1"], out_of=["p", "q"], files=True), CALM)
    assert names(database, "videos") == ["bad", "none"]
    assert not store.frames("v1").exists()
    assert stage(database, "q") == "POPULATING"


def test_out_of_a_project_that_does_not_have_it_or_is_not_there(shared: tuple[str, Store]) -> None:
    database, store = shared
    settle_pair(store)
    before = (dump(database), listing(store))
    with pytest.raises(
        DataminerError, match=r"not in project q: none\. Next: `dataminer why none`"
    ):
        plan_videos(store, ["v1", "none"], out_of=["q"], files=True)
    for chosen in (["v1"], ["--status", "FAILED"]):
        refused = dataminer(store, "delete-videos", *chosen, "-p", "void", "--yes")
        assert "there is no project void" in str(refused.exception)
    assert (dump(database), listing(store)) == before


@pytest.mark.parametrize("what", ["video", "member", "project"])
def test_what_is_worked_on_does_not_leave_a_project(shared: tuple[str, Store], what: str) -> None:
    database, store = shared
    project_id = projects.project_id_of("p")
    worked_on: dict[str, tuple[stage_rows.StageRows, dict[str, Any]]] = {
        "video": (stage_rows.EXTRACT, {"video_id": "v1"}),
        "member": (stage_rows.FILTER, {"project_id": project_id, "video_id": "v1"}),
        "project": (stage_rows.DEDUP, {"project_id": project_id}),
    }
    stage_of, key = worked_on[what]
    assert claims.claim(stage_of, key, stale_seconds=60)
    before = (dump(database), listing(store))
    with pytest.raises(DataminerError, match="is being worked on by"):
        carry_out(plan_videos(store, ["v1"], out_of=["p"], files=True), CALM)
    assert (dump(database), listing(store)) == before


def test_a_dataset_goes_with_the_last_video_that_it_can_be_made_of(
    shared: tuple[str, Store],
) -> None:
    """Its frames are links: what is deleted must not stay in it, and no run makes it again."""
    database, store = shared
    assert (store.dedup("p") / FRAMES_FILE).exists()
    carry_out(plan_videos(store, ["none"], out_of=["p"], files=False), CALM)
    assert (store.dedup("p") / FRAMES_FILE).exists()
    carry_out(plan_videos(store, ["v1"], out_of=["p"], files=False), CALM)
    assert members(database, "p") == ["bad"]
    assert not store.dedup("p").exists() and not store.detect("p").exists()
    assert store.frames("v1").exists() and store.filtered("q", "v1").exists()


def test_work_of_one_project_does_not_hold_up_the_other(shared: tuple[str, Store]) -> None:
    database, store = shared
    key = {"project_id": projects.project_id_of("q"), "video_id": "v1"}
    assert claims.claim(stage_rows.FILTER, key, stale_seconds=60)
    carry_out(plan_videos(store, ["v1"], out_of=["p"], files=True), CALM)
    assert (members(database, "p"), members(database, "q")) == (["bad", "none"], ["v1"])


@pytest.mark.parametrize(("at", "there"), [("commit", True), ("remove", False)])
def test_killed_between_rows_and_files(
    shared: tuple[str, Store], monkeypatch: pytest.MonkeyPatch, at: str, there: bool
) -> None:
    """What lies aside is of no row: sync makes nothing of it, and the other project is whole."""
    database, store = shared
    before = (rows_of(database, "q"), exact(store, store.video("v1"), store.frames("v1")))
    plan = plan_videos(store, ["v1"], out_of=["p"], files=True)
    if os.fork() == 0:
        if at == "commit":  # the folder is aside, the rows are as before
            monkeypatch.setattr(os, "rename", lambda *paths: (rename(*paths), os._exit(9)))
        else:
            monkeypatch.setattr(trash, "remove", lambda path: os._exit(9))
        try:
            carry_out(plan, CALM)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 9
    assert ("v1" in members(database, "p")) is there
    left = partials(store)
    assert left
    sync(store)
    assert ("v1" in members(database, "p")) is there
    for folder in left:
        age(folder, 25)
    assert orphans.find_orphans(store).partials == tuple(left)
    carry_out(plan_videos(store, ["v1"], out_of=["p"], files=True), CALM) if there else None
    assert members(database, "p") == ["bad", "none"]
    assert (rows_of(database, "q"), exact(store, store.video("v1"), store.frames("v1"))) == before


# ---- delete-videos: which


def test_the_only_beginning_of_an_id_will_do(whole: tuple[str, Store]) -> None:
    database, store = whole
    assert dataminer(store, "delete-videos", "b", "no", "--yes").exit_code == 0
    assert names(database, "videos") == ["v1"]


def test_a_beginning_of_several_ids_is_refused_with_all_of_them(whole: tuple[str, Store]) -> None:
    database, store = whole
    projects.add_videos("p", [Given("v12"), Given("v13")])
    before = (dump(database), listing(store))
    refused = dataminer(store, "delete-videos", "none", "v", "--yes")
    assert "several videos begin with v: v1, v12, v13" in str(refused.exception)
    assert "did you mean none?" in str(dataminer(store, "delete-videos", "nune").exception)
    assert (dump(database), listing(store)) == before
    assert dataminer(store, "delete-videos", "v1", "--yes").exit_code == 0
    assert names(database, "videos") == ["bad", "none", "v12", "v13"]


def chosen(projects: list[str], **others: list[str]) -> list[str]:
    choice = {"videos": (), "classes": (), **{name: tuple(v) for name, v in others.items()}}
    return select_videos(Choice(tuple(projects), **choice))


def test_videos_by_status_and_class(whole: tuple[str, Store]) -> None:
    projects.add_videos("p", [Given("new")])
    for videos, states, classes, found in (
        ([], ["FAILED"], [], ["bad"]),
        ([], ["FILTERED_EMPTY"], [], ["none"]),
        ([], ["PENDING"], [], ["new"]),
        ([], ["EXTRACTED"], [], ["none", "v1"]),
        ([], ["FAILED", "PENDING"], [], ["bad", "new"]),
        ([], [], ["removed"], ["bad"]),
        ([], [], ["removed", "network"], ["bad"]),
        ([], [], ["network"], []),
        ([], ["FAILED"], ["removed"], ["bad"]),
        ([], ["PENDING"], ["removed"], []),
        (["bad", "v1"], ["FAILED"], [], ["bad"]),
        (["v1"], [], ["removed"], []),
    ):
        for named in ([], ["p"]):
            assert chosen(named, videos=videos, statuses=states, classes=classes) == found


def test_what_was_chosen_and_is_no_longer_so_stays(whole: tuple[str, Store]) -> None:
    """A video that waited when the user was asked may have been mined when the answer came."""
    database, store = whole
    projects.add_videos("p", [Given("new"), Given("late")])
    choice = Choice(("p",), (), (), ("PENDING",))
    plan = plan_videos(store, select_videos(choice), files=True, choice=choice)
    assert plan.videos == ("late", "new")
    make_video(store, "late")
    sync(store)
    before = (dump(database), listing(store))
    with pytest.raises(DataminerError, match="its rows changed meanwhile"):
        carry_out(plan, CALM)
    assert (dump(database), listing(store)) == before


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        (["--status", "failed", "--status", "PENDING"], {"bad", "new"}),
        (["--class", "removed", "--files"], {"bad"}),
        (["n", "--status", "filtered_empty"], None),
        (["none", "--class", "removed"], set()),
    ],
)
def test_those_that_were_chosen_are_deleted_and_no_others(
    whole: tuple[str, Store], options: list[str], gone: set[str] | None
) -> None:
    database, store = whole
    projects.add_videos("p", [Given("new")])
    done = dataminer(store, "delete-videos", *options, "--yes")
    assert done.exit_code == (1 if gone is None else 0)  # two begin with n
    assert set(names(database, "videos")) == {"bad", "new", "none", "v1"} - (gone or set())
    assert gone != set() or done.output == "no such videos: nothing to delete\n"


def test_places_in_other_projects_do_not_count(shared: tuple[str, Store]) -> None:
    database, store = shared
    projects.add_videos("q", [Given("none")])  # PENDING there, FILTERED_EMPTY in p
    options = ("--status", "FILTERED_EMPTY", "--yes")
    nothing = dataminer(store, "delete-videos", "--project", "q", *options)
    assert nothing.output == "no such videos: nothing to delete\n"
    refused = dataminer(store, "delete-videos", *options)
    assert "used by several projects: none (p, q). Next: add --project NAME" in str(
        refused.exception
    )
    assert dataminer(store, "delete-videos", "--project", "p", *options).exit_code == 0
    assert (members(database, "p"), members(database, "q")) == (["bad", "v1"], ["none", "v1"])


@pytest.mark.parametrize("state", ["FAILED", "PENDING", "EXTRACTED"])
def test_a_video_of_which_a_project_has_frames_has_not_failed_there(
    whole: tuple[str, Store], state: str
) -> None:
    """Its source is gone, or fails now: what the project made of it is good."""
    database, _ = whole
    projects.add_videos("q", [Given("v1")])
    force(
        database,
        f"UPDATE videos SET status = '{state}', error = 'gone', error_class = 'removed'"
        " WHERE video_id = 'v1'",
    )
    assert chosen(["p"], classes=["removed"]) == ["bad"]
    assert chosen(["p"], statuses=["FAILED", "PENDING"]) == ["bad"]
    there = [] if state == "EXTRACTED" else ["v1"]
    assert chosen(["q"], classes=["removed"]) == there


@pytest.mark.parametrize(
    "arguments", [(), ("--project", "p"), ("--files", "--all-projects"), ("--yes",)]
)
def test_nothing_said_is_no_way_to_delete_all(
    whole: tuple[str, Store], arguments: tuple[str, ...]
) -> None:
    database, store = whole
    before = (dump(database), listing(store))
    refused = dataminer(store, "delete-videos", *arguments)
    assert refused.exit_code == 2
    assert "dataminer delete-videos --status FAILED --project birds" in refused.output
    assert (dump(database), listing(store)) == before


def test_options_that_make_no_sense_are_usage_errors(whole: tuple[str, Store]) -> None:
    _, store = whole
    for options in (("v1", "--project", "p", "--all-projects"), ("--status", "BROKEN")):
        assert dataminer(store, "delete-videos", *options).exit_code == 2


def test_a_dry_run_shows_all_and_writes_nothing(shared: tuple[str, Store]) -> None:
    database, store = shared
    before = (versions(database), listing(store))
    for options in (["none", "--files"], ["--status", "FAILED"], ["v1", "-p", "p", "--files"]):
        shown = dataminer(store, "delete-videos", *options, "--dry-run", "--yes")
        assert shown.exit_code == 0
        assert shown.output.endswith("Nothing was deleted. Next: rerun without --dry-run\n")
        assert "1 of project_videos" in shown.output
        assert "MB" in shown.output
    assert (versions(database), listing(store)) == before


@pytest.mark.parametrize("names_given", [["v1", "none", "bad"], ["v1", "none"]])
def test_a_project_without_frames_counts_no_unique_ones(
    whole: tuple[str, Store], names_given: list[str]
) -> None:
    database, store = whole
    counted = "SELECT unique_frames, annotations FROM projects"
    assert execute(database, counted) == [(1, 1)]
    done = dataminer(store, "delete-videos", *names_given, "--yes")
    emptied = len(names_given) == 3
    assert ("Next: `dataminer delete-project p --files`" in done.output) is emptied
    assert stage(database) == ("POPULATING" if emptied else "FILTERING")
    assert execute(database, counted) == [(0, 0)]
    sync(store)
    assert execute(database, counted) == [(0, 0)]


# ---- what is in use, and what changed


@pytest.mark.parametrize("what", ["video", "member", "project"])
def test_nothing_is_deleted_under_a_live_claim(whole: tuple[str, Store], what: str) -> None:
    database, store = whole
    project_id = projects.project_id_of("p")
    worked_on: dict[str, tuple[stage_rows.StageRows, dict[str, Any]]] = {
        "video": (stage_rows.EXTRACT, {"video_id": "v1"}),
        "member": (stage_rows.FILTER, {"project_id": project_id, "video_id": "v1"}),
        "project": (stage_rows.DEDUP, {"project_id": project_id}),
    }
    stage_of, key = worked_on[what]
    assert claims.claim(stage_of, key, stale_seconds=60)
    before = (dump(database), listing(store))
    for plan in (
        plan_videos(store, ["v1"], files=True, all_projects=True),
        plan_project(store, "p", files=True, videos=True),
    ):
        with pytest.raises(DataminerError, match="is being worked on by"):
            carry_out(plan, CALM)
    assert (dump(database), listing(store)) == before


def test_a_claim_that_is_dead_is_not_in_the_way_and_writes_nothing_later(
    whole: tuple[str, Store],
) -> None:
    database, store = whole
    held = claims.claim(stage_rows.EXTRACT, {"video_id": "v1"}, stale_seconds=60)
    execute(
        database,
        "UPDATE videos SET heartbeat_at = now() - interval '1 hour' WHERE video_id = 'v1'",
    )
    carry_out(plan_videos(store, ["v1"], files=True, all_projects=False), CALM)
    assert held
    with pytest.raises(claims.LeaseLost):
        claim_end.finish(held, "EXTRACTED", {}, lambda: None)


def test_a_claim_is_in_the_way_until_it_was_silent_for_two_minutes(
    whole: tuple[str, Store],
) -> None:
    database, store = whole
    assert claims.claim(stage_rows.EXTRACT, {"video_id": "v1"}, stale_seconds=120)
    plan = plan_videos(store, ["v1"], files=True, all_projects=False)

    def delete_after(seconds: int) -> None:
        silence = f"heartbeat_at = now() - interval '{seconds} s'"
        execute(database, f"UPDATE videos SET {silence} WHERE video_id = 'v1'")
        carry_out(plan, CALM)

    for seconds in (31, 61):
        with pytest.raises(DataminerError, match="is being worked on by"):
            delete_after(seconds)
    delete_after(125)
    assert "v1" not in names(database, "videos")


def test_rows_that_came_in_meanwhile_stop_a_deletion(whole: tuple[str, Store]) -> None:
    database, store = whole
    plan = plan_videos(store, ["v1"], files=True, all_projects=False)
    projects.add_videos("q", [Given("v1")])
    before = (dump(database), listing(store))
    with pytest.raises(DataminerError, match="its rows changed meanwhile"):
        carry_out(plan, CALM)
    assert (dump(database), listing(store)) == before


def test_files_return_when_the_rows_could_not_be_deleted(
    whole: tuple[str, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, store = whole
    plan = plan_project(store, "p", files=True, videos=True)
    before = (dump(database), list(listing(store)))

    def failing(work: Callable[[Any], Any], **options: Any) -> Any:
        def then_fail(connection: Connection) -> Any:
            cut = type("Cut", (), {"commit": lambda self: 1 / 0, "cursor": connection.cursor})
            return work(cut())

        return transaction(then_fail, **options)

    monkeypatch.setattr(delete, "transaction", failing)
    with pytest.raises(ZeroDivisionError):
        carry_out(plan, CALM)
    assert (dump(database), list(listing(store))) == before


def test_a_link_out_of_the_store_is_not_followed(whole: tuple[str, Store], tmp_path: Path) -> None:
    database, store = whole
    outside = tmp_path / "outside"
    store.frames("v1").rename(outside)
    store.frames("v1").symlink_to(outside)
    carry_out(plan_videos(store, ["v1"], files=True, all_projects=False), CALM)
    assert not store.frames("v1").is_symlink()
    assert len(list(outside.rglob("*.*"))) == 4
    store.project("p").rename(outside / "p")
    store.project("p").symlink_to(outside / "p")
    before = sorted(outside.rglob("*"))
    with pytest.raises(DataminerError, match="is a link, which is not followed"):
        plan_videos(store, ["none"], files=True)
    carry_out(plan_project(store, "p", files=True, videos=False), CALM)
    assert names(database, "projects") == []
    assert not store.project("p").is_symlink()
    assert sorted(outside.rglob("*")) == before


def test_a_project_goes_from_where_the_folder_of_all_leads_to(
    whole: tuple[str, Store], tmp_path: Path
) -> None:
    _, store = whole
    (store.root / "projects").rename(tmp_path / "projects")
    (store.root / "projects").symlink_to(tmp_path / "projects")
    carry_out(plan_project(store, "p", files=True, videos=False), CALM)
    assert not list((tmp_path / "projects").iterdir())


# ---- cleanup-orphans


def age(path: Path, hours: float) -> None:
    then = time.time() - hours * 3600
    for each in [*path.rglob("*"), path]:
        os.utime(each, (then, then))


def test_what_no_row_knows_is_found_and_deleted(whole: tuple[str, Store]) -> None:
    database, store = whole
    make_video(store, "lost")
    make_filtered(store, "gone", "v1", (0,))
    models = store.embeddings("siglip-0123", "lost", "r").parents[1]
    seen, older, known = (models / name for name in ("lost", "lost.parquet", "v1"))
    for folder in (seen, known):
        folder.mkdir(parents=True)
        (folder / "e-v1.parquet").touch()
    older.touch()
    (store.root / "videos" / ".gitkeep").touch()
    left = store.frames("v1").with_name(".v1.0123456789ab.partial")
    young = store.frames("v1").with_name(".v1.ba9876543210.partial")
    for folder, hours in ((left, 24.1), (young, 23.5)):
        folder.mkdir()
        (folder / "x").touch()
        age(folder, hours)
    found = orphans.find_orphans(store)
    lost = {store.video("lost"), store.frames("lost"), store.filtered("p", "lost"), seen, older}
    assert set(found.folders) == {*lost, store.project("gone")}
    assert found.partials == (left,)
    assert found.videos == ()
    before = dump(database)
    assert len(orphans.delete_files(found)) == 7
    assert dump(database) == before
    assert young.exists() and known.exists()
    assert (store.root / "videos" / ".gitkeep").exists()
    again = orphans.find_orphans(store)
    assert (again.folders, again.partials) == ((), ())
    assert sync(store, deep=True).repairs == []


def test_old_transfers_that_broke_off_are_deleted(whole: tuple[str, Store]) -> None:
    _, store = whole
    old, unknown, young = (
        store.video(name).with_name(f".{name}.{'0' * 12}.resume") for name in ("v1", "lost", "v2")
    )
    for folder in (old, unknown, young):
        folder.mkdir()
        (folder / "v.mp4.part").touch()
    age(old, 25)
    age(unknown, 25)
    found = orphans.find_orphans(store)
    assert set(found.partials) == {old, unknown}
    orphans.delete_files(found)
    assert young.exists()
    assert not old.exists()


@pytest.mark.parametrize("suffix", ["partial", "resume"])
def test_staging_of_a_held_row_stays_however_old(whole: tuple[str, Store], suffix: str) -> None:
    _, store = whole
    left = store.video("v1").with_name(f".v1.0123456789ab.{suffix}")
    left.mkdir()
    age(left, 100)
    claims.claim(stage_rows.DOWNLOAD, {"video_id": "v1"}, stale_seconds=60)
    assert orphans.find_orphans(store).partials == ()


def test_staging_inside_folders_that_stay_is_found(whole: tuple[str, Store]) -> None:
    """A job that was killed left it beside what it was about to become."""
    _, store = whole
    project = store.project("p")
    folders = {
        "a video's": store.video("v1"),
        "a report's": project / "report",
        "a shard's": project / "detect_shards",
        "prompts'": store.root / "prompts" / "siglip-0123",
        "an older version's": store.root / "batches",
    }
    left = [folder / f".{'0' * 12}.partial.json" for folder in folders.values()]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        age(path, 25)
        path.with_name("whole.json").touch()
        path.with_name(f".{'1' * 12}.partial.json").touch()
    found = orphans.find_orphans(store)
    assert set(found.partials) == set(left)
    assert len(orphans.delete_files(found)) == len(left)
    assert all(path.with_name("whole.json").exists() for path in left)
    claims.claim(stage_rows.DOWNLOAD, {"video_id": "v1"}, stale_seconds=60)
    left[0].touch()
    age(left[0], 25)
    assert orphans.find_orphans(store).partials == ()


def test_an_orphan_that_got_a_row_meanwhile_stays(whole: tuple[str, Store]) -> None:
    _, store = whole
    make_download(store, "lost")
    found = orphans.find_orphans(store)
    projects.add_videos("p", [Given("lost")])
    assert orphans.delete_files(found) == []
    assert store.video("lost").is_dir()


def test_videos_of_no_project(whole: tuple[str, Store]) -> None:
    database, store = whole
    carry_out(plan_project(store, "p", files=True, videos=False), CALM)
    projects.add_videos("q", [Given("v1")])
    outputs = [store.content("yolo-0123", "none", "r"), store.text("rapidocr-0123", "none", "r")]
    for seen in outputs:
        seen.parent.mkdir(parents=True)
        seen.touch()
    found = orphans.find_orphans(store)
    assert found.videos == ("bad", "none")
    orphans.delete_rows(found, CALM, files=True)
    assert not any(seen.exists() for seen in outputs)
    assert names(database, "videos") == ["v1"]
    assert not store.frames("none").exists()
    assert store.frames("v1").is_dir()


def test_an_empty_database_makes_no_orphans_of_everything(database: str, files: Store) -> None:
    with pytest.raises(DataminerError, match=r"database is empty.*dataminer sync"):
        orphans.find_orphans(files)


# ---- force-dedup, force-detect


def test_force_removes_what_snakemake_takes_for_whole(whole: tuple[str, Store]) -> None:
    database, store = whole
    redo(store, "p", "detect")
    assert stage(database) == "DETECT_READY"
    assert not (store.detect("p") / "annotations.json").exists()
    redo(store, "p", "dedup")
    assert stage(database) == "DEDUP_READY"
    assert not (store.dedup("p") / FRAMES_FILE).exists()
    assert (store.dedup("p") / CLUSTERS_FILE).exists()  # what was kept stays kept
    assert sync(store).repairs == []
    redo(store, "p", "dedup", rebuild=True)
    assert stage(database) == "DEDUP_READY"
    assert not (store.dedup("p") / CLUSTERS_FILE).exists()
    assert sync(store).repairs == []


def test_force_waits_for_no_live_job(whole: tuple[str, Store]) -> None:
    _, store = whole
    claims.claim(stage_rows.DETECT, {"project_id": projects.project_id_of("p")}, stale_seconds=60)
    before = listing(store)
    with pytest.raises(DataminerError, match="is being worked on"):
        redo(store, "p", "dedup")
    assert listing(store) == before
    with pytest.raises(DataminerError, match="no project void"):
        redo(store, "void", "dedup")


# ---- the commands


def dataminer(store: Store, *arguments: str) -> Result:
    config = store.root.parent / "config.yaml"
    config.write_text(f"project: p\nstore: {store.root}\n")
    return CliRunner().invoke(app, [*arguments, "--config", str(config)])


@pytest.mark.parametrize(
    "command",
    [
        ("delete-project", "p", "--files"),
        ("delete-videos", "v1"),
        ("force-dedup", "p"),
        ("force-detect", "p"),
    ],
)
def test_without_a_terminal_nothing_is_deleted_unless_yes_is_said(
    whole: tuple[str, Store], command: tuple[str, str, str] | tuple[str, str]
) -> None:
    database, store = whole
    settle_pair(store)
    before = (dump(database), listing(store))
    refused = dataminer(store, *command)
    assert refused.exit_code == 1
    assert "add --yes" in str(refused.exception)
    assert "MB" in refused.output
    assert (dump(database), listing(store)) == before
    assert dataminer(store, *command, "--yes").exit_code == 0
    assert dump(database) != before[0]


def test_orphans_are_only_listed_unless_an_option_says_more(whole: tuple[str, Store]) -> None:
    _, store = whole
    assert "no orphans" in dataminer(store, "cleanup-orphans").output
    make_download(store, "lost")
    listed = dataminer(store, "cleanup-orphans", "--yes")
    assert listed.exit_code == 0
    assert "lost: 2 files" in listed.output
    assert "--files" in listed.output
    assert store.video("lost").is_dir()
    assert "deleted 1 folders" in dataminer(store, "cleanup-orphans", "--files", "--yes").output
    assert not store.video("lost").exists()


def test_sync_says_what_it_mended_and_when_there_was_nothing(whole: tuple[str, Store]) -> None:
    database, store = whole
    assert dataminer(store, "sync").output == "nothing to repair\n"
    make_download(store, "late")
    projects.add_videos("p", [Given("late")])
    dry = dataminer(store, "sync", "--dry-run")
    assert "videos late: PENDING -> DOWNLOADED" in dry.output
    assert "1 would be repaired" in dry.output
    assert statuses(database)["late"] == ("PENDING", "PENDING")
    assert '"after": "DOWNLOADED"' in dataminer(store, "sync", "--json").output
    assert statuses(database)["late"] == ("DOWNLOADED", "PENDING")
