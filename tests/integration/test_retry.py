"""What failed goes back, rows and files, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dataminer.config import load
from dataminer.errors import DataminerError, ErrorClass, TransientError
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, write_table
from dataminer.monitor import status
from dataminer.store.layout import INFO_FILE, Store
from dataminer.sync.claims import claim_end, owners, projects, stage_rows
from dataminer.sync.jobs import failures
from dataminer.sync.jobs.download import download_video
from dataminer.sync.repair.reconcile import reconcile
from dataminer.sync.repair.retry_command import fetch_again, retry
from tests.support.http_server import Reply, serve
from tests.support.postgres import execute
from tests.support.rows import (
    EMPTY,
    add,
    downloaded,
    extracted,
    failed,
    filtered,
    finished,
    held,
)
from tests.support.stores import media
from tests.support.videos import make_video

ERROR = DataminerError("x.mp4 has no bytes", "replace the file")
PV_COLUMNS = {"error": "no frame", "error_class": "no_frames"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


def statuses(url: str, table: str = "videos") -> dict[str, tuple[Any, ...]]:
    columns = "video_id, status, attempts, error, error_class"
    return {row[0]: row[1:] for row in execute(url, f"SELECT {columns} FROM {table}")}


def failure_files(store: Store, video_id: str, *names: str, info: bool = True) -> list[Path]:
    """Write what a failed video leaves: in the store, and in the projects that are named."""
    folders = [store.recipe(video_id, "m"), *(store.filtered(name, video_id) for name in names)]
    for folder in (store.video(video_id), *folders):
        folder.mkdir(parents=True, exist_ok=True)
    if info:
        failures.failed_info({"fingerprint": "m"})(store.video(video_id), ERROR, ErrorClass.EMPTY)
    for folder in folders:
        failures.failed_frames({"fingerprint": "m"})(folder, ERROR, ErrorClass.EMPTY)
    tables = [folder / FRAMES_FILE for folder in folders]
    return [store.video(video_id) / INFO_FILE, *tables] if info else tables


def fail_in_project(project_id: int, video_id: str) -> None:
    key = {"project_id": project_id, "video_id": video_id}
    finished(stage_rows.FILTER, "FAILED", PV_COLUMNS, **key)


def test_a_failed_download_goes_back_to_pending_with_its_files(database: str, store: Store) -> None:
    project = add("p", "bad", "good")
    failed("bad")
    finished(stage_rows.FILTER, "FAILED", EMPTY, project_id=project, video_id="bad")
    extracted("good")
    files = failure_files(store, "bad", "p")
    kept = [media(store, "good")]
    for folder in (store.recipe("good", "m"), store.filtered("p", "good")):
        folder.mkdir(parents=True)
        write_table(folder / FRAMES_FILE, FRAMES_SCHEMA.empty_table(), FRAMES_SCHEMA, {})
        kept.append(folder / FRAMES_FILE)
    rows = retry(store=store)
    assert [(row.video_id, row.project, row.was, row.becomes) for row in rows] == [
        ("bad", None, "FAILED", "PENDING"),
        ("bad", "p", "FAILED", "PENDING"),
    ]
    assert {path for row in rows for path in row.removed} == set(files)
    assert not any(path.exists() for path in files)
    assert all(path.exists() for path in kept)
    assert statuses(database)["bad"] == ("PENDING", 0, None, None)
    assert statuses(database, "project_videos")["bad"] == ("PENDING", 0, None, None)
    assert statuses(database)["good"][0] == "EXTRACTED"
    assert execute(database, "SELECT videos_failed, videos_pending FROM projects") == [(0, 1)]


def test_a_dry_run_tells_the_same_and_changes_nothing(database: str, store: Store) -> None:
    project = add("p", "bad")
    failed("bad")
    fail_in_project(project, "bad")
    files = failure_files(store, "bad", "p")
    before = execute(database, "SELECT v::text, pv::text FROM videos v, project_videos pv")
    reported = retry(store=store, dry_run=True)
    assert execute(database, "SELECT v::text, pv::text FROM videos v, project_videos pv") == before
    assert all(path.exists() for path in files)
    assert retry(store=store) == reported


def fail_in_extract(video_id: str, path: Path) -> None:
    downloaded(video_id, str(path))
    columns = {"error": "cannot be decoded", "error_class": "corrupt"}
    finished(stage_rows.EXTRACT, "FAILED", columns, video_id=video_id)


def test_a_video_that_failed_in_extract_keeps_its_media_file(database: str, store: Store) -> None:
    add("p", "v", url="http://h/x.mp4")
    file = media(store, "v")
    fail_in_extract("v", file)
    (table,) = failure_files(store, "v", info=False)
    (row,) = retry(store=store)
    assert (row.becomes, row.removed) == ("DOWNLOADED", (table,))
    assert file.exists()
    assert statuses(database)["v"] == ("DOWNLOADED", 0, None, None)


def test_without_its_media_file_it_is_downloaded_again(database: str, store: Store) -> None:
    add("p", "v", url="http://h/x.mp4")
    file = media(store, "v")
    fail_in_extract("v", file)
    file.unlink()
    (row,) = retry(store=store)
    assert row.becomes == "PENDING"
    assert row.removed == (store.video("v") / INFO_FILE,)


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_local_source_that_was_replaced_is_taken_anew(
    database: str, store: Store, tmp_path: Path, change: str
) -> None:
    source = tmp_path / "source.mp4"
    source.write_bytes(b"abc")
    add("p", "v", url=str(source))
    file = media(store, "v")
    fail_in_extract("v", file)
    info = store.video("v") / INFO_FILE
    (row,) = retry(store=store, dry_run=True)
    assert row.becomes == "DOWNLOADED"
    if change == "size":
        source.write_bytes(b"abcdef")
        os.utime(source, (1, 1))
    else:
        os.utime(source, ns=(info.stat().st_mtime_ns + 1,) * 2)
    (row,) = retry(store=store)
    assert (row.becomes, row.removed) == ("PENDING", (info,))


def test_a_filter_that_failed_alone_is_tried_alone(database: str, store: Store) -> None:
    project = add("p", "v")
    extracted("v")
    fail_in_project(project, "v")
    before = statuses(database)
    (row,) = retry(store=store)
    assert (row.project, row.was, row.becomes) == ("p", "FAILED", "PENDING")
    assert statuses(database) == before
    assert statuses(database, "project_videos")["v"] == ("PENDING", 0, None, None)


def test_errors_in_passing_are_cleared_where_they_stand(database: str, store: Store) -> None:
    add("p", "v", "w")
    claim_end.release(
        held(stage_rows.DOWNLOAD, video_id="v"), error="boom", error_class="internal", counts=True
    )
    (row,) = retry(store=store)
    assert (row.was, row.becomes, row.error) == ("PENDING", "PENDING", "boom")
    assert statuses(database)["v"] == ("PENDING", 0, None, None)


def test_what_is_held_is_left_alone(database: str, store: Store) -> None:
    project = add("p", "v", "w")
    for video_id in ("v", "w"):
        failed(video_id)
        fail_in_project(project, video_id)
    files = failure_files(store, "v", "p")
    held(stage_rows.DOWNLOAD, video_id="v")
    before = statuses(database)["v"]
    rows = retry(store=store)
    assert {row.video_id for row in rows if row.held_by} == {"v"}
    assert all(row.held_by == owners.owner_name() for row in rows if row.video_id == "v")
    assert statuses(database)["v"] == before
    assert statuses(database, "project_videos")["v"][0] == "FAILED"
    assert all(path.exists() for path in files)
    assert statuses(database)["w"][0] == "PENDING"


def test_a_dataset_in_the_making_keeps_its_videos(database: str, store: Store) -> None:
    project = add("p", "v", "w")
    extracted("w")
    filtered("w", project)
    failed("v")
    fail_in_project(project, "v")
    projects.refresh([project])
    held(stage_rows.DEDUP, project_id=project)
    rows = retry(store=store)
    assert len(rows) == 2
    assert all(row.held_by for row in rows)
    assert statuses(database)["v"][0] == "FAILED"


def test_choices_by_project_video_and_class(database: str, store: Store) -> None:
    add("p", "a", "b", "c")
    add("q", "c", "d")
    for video_id in ("a", "c", "d"):
        failed(video_id)
    failed("b", {"error": "gone", "error_class": "removed"})

    def chosen(**choice: list[str]) -> list[str]:
        return [row.video_id for row in retry(**choice, store=store, dry_run=True)]

    assert chosen() == ["a", "b", "c", "d"]
    assert chosen(projects=["q"]) == ["c", "d"]
    assert chosen(error_classes=["removed"]) == ["b"]
    assert chosen(videos=["a", "d"]) == ["a", "d"]
    assert chosen(projects=["p"], videos=["d"]) == []
    with pytest.raises(DataminerError, match="there is no project r"):
        chosen(projects=["p", "r"])


def test_another_projects_rows_and_files_stay(database: str, store: Store) -> None:
    for name in ("p", "q"):
        project = add(name, "v")
    failed("v")
    fail_in_project(project, "v")  # in q
    failure_files(store, "v", "p", "q")
    retry(projects=["p"], store=store)
    assert (store.filtered("q", "v") / FRAMES_FILE).exists()
    assert not (store.filtered("p", "v") / FRAMES_FILE).exists()
    assert execute(database, "SELECT status FROM project_videos ORDER BY project_id") == [
        ("PENDING",),
        ("FAILED",),
    ]
    assert execute(database, "SELECT name, videos_pending FROM projects ORDER BY 1") == [
        ("p", 1),
        ("q", 1),
    ]


def test_more_than_a_page_is_retried(
    database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataminer.sync.repair.retry_command._PAGE", 3)
    names = [f"v{n}" for n in range(8)]
    add("p", *names)
    for name in names:
        failed(name)
    assert [row.video_id for row in retry(store=store)] == names
    assert {row[0] for row in statuses(database).values()} == {"PENDING"}
    assert retry(store=store) == []


def test_a_video_is_fetched_again_only_if_that_is_asked_for(
    database: str, store: Store, tmp_path: Path
) -> None:
    """Whatever the settings are, and whatever is there; what is there stays until then."""
    clip = make_video(tmp_path / "clip.mp4", frames=10, size=(96, 64))
    config = load({"project": "p", "store": str(store.root)})
    other = load({"project": "p", "store": str(store.root), "download": {"max_height": 720}})
    with serve() as http:
        add("p", "v", url=http.add("/clip.mp4", clip))
        download_video(config, "v")
        requested, before = http.requests["/clip.mp4"], store.video("v").stat().st_ino
        download_video(other, "v")
        assert http.requests["/clip.mp4"] == requested
        (kept,) = status.snapshot(configs=[other]).other_settings
        assert kept == {"project": "p", "stage": "download", "videos": 1}
        assert status.snapshot(configs=[config]).other_settings == []

        assert fetch_again(["v"], dry_run=True) == {"v": "DOWNLOADED"}
        assert statuses(database)["v"][0] == "DOWNLOADED"
        assert fetch_again(["v"]) == {"v": "DOWNLOADED"}
        assert reconcile(store, ["p"], other.monitor, deep=True).repairs == []
        assert statuses(database)["v"] == ("PENDING", 0, None, None)
        http.add("/clip.mp4", Reply(503))
        with pytest.raises(TransientError):
            download_video(other, "v")
        assert store.video("v").stat().st_ino == before, "what there is stays until then"
        http.add("/clip.mp4", clip)
        download_video(other, "v")
        assert store.video("v").stat().st_ino != before
        assert statuses(database)["v"] == ("DOWNLOADED", 0, None, None)
        assert status.snapshot(configs=[other]).other_settings == []
        requested = http.requests["/clip.mp4"]
        download_video(config, "v")
        assert http.requests["/clip.mp4"] == requested


def test_what_somebody_works_on_is_not_fetched_again(database: str, store: Store) -> None:
    add("p", "v", "w")
    held(stage_rows.DOWNLOAD, video_id="v")
    assert fetch_again(["w", "v"]) == {"v": None, "w": "PENDING"}
    assert statuses(database)["v"][0] == "DOWNLOADING"
