"""Deletion and forced stages, on hand-made stores and a real PostgreSQL."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dataminer.cli.main import app
from dataminer.config import MonitorConfig
from dataminer.errors import DataminerError
from dataminer.frames import CLUSTERS_FILE, FRAMES_FILE
from dataminer.store import Store
from dataminer.sync import claims, maintenance, orphans, projects, stages
from dataminer.sync.maintenance import carry_out, plan_project, plan_videos
from tests.support.postgres import execute
from tests.support.rows import Given
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


@pytest.fixture
def shared(whole):
    """A second project that uses one of the finished project's videos."""
    database, store = whole
    projects.add_videos("q", [Given("v1")])
    make_filtered(store, "q", "v1", (0,))
    sync(store)
    return database, store


def names(url: str, table: str) -> list[str]:
    column = {"projects": "name"}.get(table, "video_id")
    return [row[0] for row in execute(url, f"SELECT {column} FROM {table} ORDER BY 1")]


def partials(store: Store) -> list[Path]:
    return sorted(store.root.rglob("*.partial"))


# ---- delete-project


def test_a_project_without_its_files_can_be_brought_back(whole):
    database, store = whole
    before = listing(store)
    carry_out(plan_project(store, "p", files=False, videos=False), CALM)
    assert names(database, "projects") == []
    assert names(database, "videos") == sorted(VIDEOS)
    assert listing(store) == before
    sync(store, ["p"])
    assert stage(database) == "COMPLETE"


def test_a_project_with_its_files_leaves_the_videos(shared):
    database, store = shared
    central = [path for path in listing(store) if "/projects/p" not in path]
    plan = plan_project(store, "p", files=True, videos=False)
    assert any("projects/p: " in line and "MB" in line for line in plan.summary())
    carry_out(plan, CALM)
    assert names(database, "projects") == ["q"]
    assert list(listing(store)) == central
    assert sync(store).mends == []


def test_videos_that_another_project_uses_stay(shared):
    database, store = shared
    carry_out(plan_project(store, "p", files=True, videos=True), CALM)
    assert names(database, "videos") == ["v1"]
    assert store.frames("v1").is_dir()
    assert not store.frames("none").exists()
    assert not store.video("bad").exists()
    assert stage(database, "q") == "DEDUP_READY"


def test_an_unknown_project_and_a_path_are_refused(whole):
    _, store = whole
    for name in ("void", "../videos", "p/filtered", ".", ""):
        with pytest.raises(DataminerError):
            plan_project(store, name, files=True, videos=True)


# ---- delete-videos


def test_a_video_leaves_its_project_which_goes_back(whole):
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


def test_a_video_with_its_files(whole):
    database, store = whole
    carry_out(plan_videos(store, ["v1", "v1"], files=True, all_projects=False), CALM)
    assert names(database, "videos") == ["bad", "none"]
    assert not any(f("v1").exists() for f in (store.video, store.frames))
    assert partials(store) == []


def test_shared_videos_are_deleted_only_when_all_projects_are_meant(shared):
    database, store = shared
    with pytest.raises(DataminerError, match=r"v1 \(p, q\).*--all-projects"):
        plan_videos(store, ["v1"], files=True, all_projects=False)
    carry_out(plan_videos(store, ["v1"], files=True, all_projects=True), CALM)
    assert names(database, "videos") == ["bad", "none"]
    assert stage(database, "q") == "POPULATING"


def test_unknown_videos_and_paths_are_refused(whole):
    _, store = whole
    for name in ("void", "../frames", "a b", "v1/"):
        with pytest.raises(DataminerError):
            plan_videos(store, ["v1", name], files=True, all_projects=True)


# ---- what is in use, and what changed


@pytest.mark.parametrize("what", ["video", "member", "project"])
def test_nothing_is_deleted_under_a_live_claim(whole, what):
    database, store = whole
    project_id = projects.id_of("p")
    stage_of, key = {
        "video": (stages.EXTRACT, {"video_id": "v1"}),
        "member": (stages.FILTER, {"project_id": project_id, "video_id": "v1"}),
        "project": (stages.DEDUP, {"project_id": project_id}),
    }[what]
    assert claims.claim(stage_of, key, stale_seconds=60)
    before = (dump(database), listing(store))
    for plan in (
        plan_videos(store, ["v1"], files=True, all_projects=True),
        plan_project(store, "p", files=True, videos=True),
    ):
        with pytest.raises(DataminerError, match="is being worked on by"):
            carry_out(plan, CALM)
    assert (dump(database), listing(store)) == before


def test_a_claim_that_is_dead_is_not_in_the_way_and_writes_nothing_later(whole):
    database, store = whole
    held = claims.claim(stages.EXTRACT, {"video_id": "v1"}, stale_seconds=60)
    execute(
        database,
        "UPDATE videos SET heartbeat_at = now() - interval '1 hour' WHERE video_id = 'v1'",
    )
    carry_out(plan_videos(store, ["v1"], files=True, all_projects=False), CALM)
    assert held
    with pytest.raises(claims.LeaseLost):
        claims.finish(held, "EXTRACTED", {}, lambda: None)


def test_a_claim_is_in_the_way_until_it_was_silent_for_two_minutes(whole):
    database, store = whole
    assert claims.claim(stages.EXTRACT, {"video_id": "v1"}, stale_seconds=120)
    plan = plan_videos(store, ["v1"], files=True, all_projects=False)

    def delete_after(seconds: int) -> None:
        silent = f"heartbeat_at = now() - interval '{seconds} s'"
        execute(database, f"UPDATE videos SET {silent} WHERE video_id = 'v1'")
        carry_out(plan, CALM)

    for seconds in (31, 61):
        with pytest.raises(DataminerError, match="is being worked on by"):
            delete_after(seconds)
    delete_after(125)
    assert "v1" not in names(database, "videos")


def test_rows_that_came_in_meanwhile_stop_a_deletion(whole):
    database, store = whole
    plan = plan_videos(store, ["v1"], files=True, all_projects=False)
    projects.add_videos("q", [Given("v1")])
    before = (dump(database), listing(store))
    with pytest.raises(DataminerError, match="its rows changed meanwhile"):
        carry_out(plan, CALM)
    assert (dump(database), listing(store)) == before


def test_files_return_when_the_rows_could_not_be_deleted(whole, monkeypatch):
    database, store = whole
    plan = plan_project(store, "p", files=True, videos=True)
    before = (dump(database), list(listing(store)))
    real = maintenance.transaction

    def failing(work, **options):
        def then_fail(connection):
            cut = type("Cut", (), {"commit": lambda self: 1 / 0, "cursor": connection.cursor})
            return work(cut())

        return real(then_fail, **options)

    monkeypatch.setattr(maintenance, "transaction", failing)
    with pytest.raises(ZeroDivisionError):
        carry_out(plan, CALM)
    assert (dump(database), list(listing(store))) == before


def test_a_link_out_of_the_store_is_not_followed(whole, tmp_path):
    database, store = whole
    outside = tmp_path / "outside"
    store.frames("v1").rename(outside)
    store.frames("v1").symlink_to(outside)
    carry_out(plan_videos(store, ["v1"], files=True, all_projects=False), CALM)
    assert not store.frames("v1").is_symlink()
    assert len(list(outside.rglob("*.*"))) == 4
    (store.root / "projects").rename(tmp_path / "projects")
    (store.root / "projects").symlink_to(tmp_path / "projects")
    with pytest.raises(DataminerError, match="outside of the store"):
        carry_out(plan_project(store, "p", files=True, videos=False), CALM)
    assert names(database, "projects") == ["p"]


# ---- cleanup-orphans


def age(path: Path, hours: float) -> None:
    then = time.time() - hours * 3600
    for each in [*path.rglob("*"), path]:
        os.utime(each, (then, then))


def test_what_no_row_knows_is_found_and_deleted(whole):
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
    found = orphans.find(store)
    lost = {store.video("lost"), store.frames("lost"), store.filtered("p", "lost"), seen, older}
    assert set(found.folders) == {*lost, store.project("gone")}
    assert found.partials == (left,)
    assert found.videos == ()
    before = dump(database)
    assert len(orphans.delete_files(found)) == 7
    assert dump(database) == before
    assert young.exists() and known.exists()
    assert (store.root / "videos" / ".gitkeep").exists()
    again = orphans.find(store)
    assert (again.folders, again.partials) == ((), ())
    assert sync(store, deep=True).mends == []


def test_old_transfers_that_broke_off_are_deleted(whole):
    _, store = whole
    old, unknown, young = (
        store.video(name).with_name(f".{name}.{'0' * 12}.resume") for name in ("v1", "lost", "v2")
    )
    for folder in (old, unknown, young):
        folder.mkdir()
        (folder / "v.mp4.part").touch()
    age(old, 25)
    age(unknown, 25)
    found = orphans.find(store)
    assert set(found.partials) == {old, unknown}
    orphans.delete_files(found)
    assert young.exists()
    assert not old.exists()


@pytest.mark.parametrize("suffix", ["partial", "resume"])
def test_staging_of_a_held_row_stays_however_old(whole, suffix):
    _, store = whole
    left = store.video("v1").with_name(f".v1.0123456789ab.{suffix}")
    left.mkdir()
    age(left, 100)
    claims.claim(stages.DOWNLOAD, {"video_id": "v1"}, stale_seconds=60)
    assert orphans.find(store).partials == ()


def test_staging_inside_folders_that_stay_is_found(whole):
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
    found = orphans.find(store)
    assert set(found.partials) == set(left)
    assert len(orphans.delete_files(found)) == len(left)
    assert all(path.with_name("whole.json").exists() for path in left)
    claims.claim(stages.DOWNLOAD, {"video_id": "v1"}, stale_seconds=60)
    left[0].touch()
    age(left[0], 25)
    assert orphans.find(store).partials == ()


def test_an_orphan_that_got_a_row_meanwhile_stays(whole):
    _, store = whole
    make_download(store, "lost")
    found = orphans.find(store)
    projects.add_videos("p", [Given("lost")])
    assert orphans.delete_files(found) == []
    assert store.video("lost").is_dir()


def test_videos_of_no_project(whole):
    database, store = whole
    carry_out(plan_project(store, "p", files=True, videos=False), CALM)
    projects.add_videos("q", [Given("v1")])
    seen = store.content("yolo-0123", "none", "r")
    seen.parent.mkdir(parents=True)
    seen.touch()
    found = orphans.find(store)
    assert found.videos == ("bad", "none")
    orphans.delete_rows(found, CALM, files=True)
    assert not seen.exists()
    assert names(database, "videos") == ["v1"]
    assert not store.frames("none").exists()
    assert store.frames("v1").is_dir()


def test_an_empty_database_makes_no_orphans_of_everything(database, files):
    with pytest.raises(DataminerError, match=r"knows nothing.*dataminer sync"):
        orphans.find(files)


# ---- force-dedup, force-detect


def test_force_removes_what_snakemake_takes_for_whole(whole):
    database, store = whole
    maintenance.force(store, "p", "detect")
    assert stage(database) == "DETECT_READY"
    assert not (store.detect("p") / "annotations.json").exists()
    maintenance.force(store, "p", "dedup")
    assert stage(database) == "DEDUP_READY"
    assert not (store.dedup("p") / FRAMES_FILE).exists()
    assert (store.dedup("p") / CLUSTERS_FILE).exists()  # what was kept stays kept
    assert sync(store).mends == []
    maintenance.force(store, "p", "dedup", rebuild=True)
    assert stage(database) == "DEDUP_READY"
    assert not (store.dedup("p") / CLUSTERS_FILE).exists()
    assert sync(store).mends == []


def test_force_waits_for_no_live_job(whole):
    _, store = whole
    claims.claim(stages.DETECT, {"project_id": projects.id_of("p")}, stale_seconds=60)
    before = listing(store)
    with pytest.raises(DataminerError, match="is being worked on"):
        maintenance.force(store, "p", "dedup")
    assert listing(store) == before
    with pytest.raises(DataminerError, match="no project void"):
        maintenance.force(store, "void", "dedup")


# ---- the commands


def dataminer(store: Store, *arguments: str):
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
def test_without_a_terminal_nothing_is_deleted_unless_yes_is_said(whole, command):
    database, store = whole
    before = (dump(database), listing(store))
    refused = dataminer(store, *command)
    assert refused.exit_code == 1
    assert "say --yes" in str(refused.exception)
    assert "MB" in refused.output
    assert (dump(database), listing(store)) == before
    assert dataminer(store, *command, "--yes").exit_code == 0
    assert dump(database) != before[0]


def test_orphans_are_only_listed_unless_an_option_says_more(whole):
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


def test_sync_says_what_it_mended_and_when_there_was_nothing(whole):
    database, store = whole
    assert dataminer(store, "sync").output == "nothing to mend\n"
    make_download(store, "late")
    projects.add_videos("p", [Given("late")])
    dry = dataminer(store, "sync", "--dry-run")
    assert "videos late: PENDING -> DOWNLOADED" in dry.output
    assert "1 would be mended" in dry.output
    assert statuses(database)["late"] == ("PENDING", "PENDING")
    assert '"after": "DOWNLOADED"' in dataminer(store, "sync", "--json").output
    assert statuses(database)["late"] == ("DOWNLOADED", "PENDING")
