"""Links that are given again with another signature: whose they are, and what is tried next."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dataminer.cli.ingest import add_source, populate_from
from dataminer.config import load
from dataminer.errors import DataminerError, ErrorClass, TransientError
from dataminer.ingest.parse import _make_id, parse
from dataminer.store.layout import INFO_FILE, Store
from dataminer.sync.claims import claim_end, claims, owners, stage_rows
from dataminer.sync.jobs import failures
from dataminer.sync.jobs.download import download_video
from dataminer.sync.repair import renewal
from dataminer.sync.repair.reconcile import reconcile
from dataminer.urls import SourceUrl
from tests.support.http_server import File, Reply, Server, serve
from tests.support.postgres import execute
from tests.support.rows import (
    add,
    downloaded,
    extracted,
    failed,
    filtered,
    finished,
    force,
    held,
    versions,
)
from tests.support.signed import SIGNATURES, signed
from tests.support.stores import CALM
from tests.support.stores import make_video as make_stored
from tests.support.videos import make_video

LINK = "https://h.example/a/clip.mp4"
ID = parse(LINK).video_id
GONE = {"error": "clip.mp4: HTTP Error 404", "error_class": "removed"}

# yt-dlp leaves files and sockets to the garbage collector when it fails
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(here: Path) -> Store:
    return Store(here / "data")


@pytest.fixture
def http() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_video(tmp_path / "source.mp4", frames=10, size=(96, 64))


def old(project: str, link: str) -> str:
    """Add a link as the version before did, which made the id of all of it."""
    video_id = _make_id("clip", link)
    add(project, video_id, url=link, source_type="URL")
    return video_id


def rows(database: str) -> dict[str, str]:
    return dict(execute(database, "SELECT video_id, url FROM videos"))


def state(database: str, video_id: str = ID) -> tuple[Any, ...]:
    columns = "status, attempts, error_class, not_before"
    return execute(database, f"SELECT {columns} FROM videos WHERE video_id = '{video_id}'")[0]


def give(*links: str, dry_run: bool = False, projects: tuple[str, ...] = ("p",)) -> None:
    """Populate projects from links."""
    values = {"projects": list(projects), "input": {"urls": list(links)}}
    Path("list.yaml").write_text(json.dumps(values))
    populate_from([Path("list.yaml")], dry_run=dry_run)


@pytest.mark.parametrize("service", SIGNATURES)
def test_the_new_link_takes_the_place_of_the_old(
    database: str, here: Path, capsys: pytest.CaptureFixture[str], service: str
) -> None:
    for number in (1, 2):
        give(signed(LINK, number, service))
    out = capsys.readouterr().out
    assert "1 link renewed\nproject p: 0 videos added, 1 known already" in out
    assert out.count("renewed") == 1
    assert rows(database) == {ID: signed(LINK, 2, service)}
    add_source(signed(LINK, 3, service), "q")
    out = capsys.readouterr().out
    assert "1 link renewed\nproject q: 1 video added, 0 known already (0 new to the store)" in out
    assert rows(database) == {ID: signed(LINK, 3, service)}


@pytest.mark.parametrize("number", [1, 2])
def test_a_row_of_an_older_version_is_found(
    database: str, here: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    video_id, other = old("p", signed(LINK, 1)), old("p", signed(f"{LINK}?id=2", 1))
    give(signed(LINK, number))
    assert rows(database) == {
        video_id: signed(LINK, number),
        other: signed(f"{LINK}?id=2", 1),
    }
    assert "0 videos added, 1 known already" in capsys.readouterr().out
    give(LINK)
    assert len(rows(database)) == 2
    assert rows(database)[video_id] == signed(LINK, number), "which has no new signature"


def test_a_row_with_user_and_password_is_found(database: str, here: Path) -> None:
    video_id = old("p", signed("https://me:p@ss@h.example/a/clip.mp4", 1))
    give(signed(LINK, 2))
    assert rows(database) == {video_id: signed(LINK, 2)}


def test_of_two_rows_of_one_object_each_project_keeps_its_own(
    database: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = old("p", signed(LINK, 1)), old("q", signed(LINK, 2))
    give(signed(LINK, 3), projects=("p", "q", "r"))
    assert rows(database) == dict.fromkeys((one, two), signed(LINK, 3))
    members = execute(
        database,
        "SELECT name, array_agg(video_id::text) FROM project_videos JOIN projects"
        " USING (project_id) GROUP BY 1",
    )
    assert sorted(members) == [("p", [one]), ("q", [two]), ("r", [one])]
    assert "2 links renewed" in capsys.readouterr().out


def test_a_link_without_a_signature_changes_nothing(
    database: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give(LINK, "youtu.be/aaaaaaaaaaa")
    before = rows(database)
    give(LINK.replace("//", "//u:p@"), "youtu.be/aaaaaaaaaaa")
    assert rows(database) == before
    assert "renewed" not in capsys.readouterr().out


def test_a_dry_run_says_what_would_be_renewed(
    database: str, here: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    video_id = old("p", signed(LINK, 1))
    failed(video_id, GONE)
    before = versions(database)
    links = [signed(LINK, 2), signed(f"{LINK}?id=2", 2)]
    give(*links, dry_run=True)
    out = capsys.readouterr().out
    renewed, new = [re.split("  +", line) for line in out.splitlines()[:2]]
    assert (renewed[0], new[0]) == ("known", "new")
    assert renewed[-1] == "(its new link)"
    assert video_id in renewed
    assert "(its new link)" not in new
    assert out.endswith("1 link would be renewed\n")
    assert "1 video would be added, 1 known already (1 new to the store)" in out
    assert versions(database) == before
    assert not store.root.exists()
    assert "=s" not in out


def test_a_video_that_waits_need_not_wait_any_longer(database: str, here: Path) -> None:
    give(signed(LINK, 1))
    claim = held(stage_rows.DOWNLOAD, video_id=ID)
    claim_end.release(claim, error="HTTP 403", error_class="blocked", counts=True, wait=999)
    assert state(database)[3] is not None
    give(signed(LINK, 1))
    assert state(database)[3] is not None
    give(signed(LINK, 2))
    assert state(database) == ("PENDING", 0, None, None)


@pytest.mark.parametrize("error_class", ["removed", "blocked", "unsupported", "network", "server"])
def test_a_download_that_failed_is_tried_again(
    database: str, here: Path, store: Store, capsys: pytest.CaptureFixture[str], error_class: str
) -> None:
    give(signed(LINK, 1), projects=("p", "q"))
    failed(ID, {**GONE, "error_class": error_class})
    store.video(ID).mkdir(parents=True)
    error = DataminerError("gone")
    failures.failed_info({"fingerprint": "m"})(store.video(ID), error, ErrorClass(error_class))
    columns = {"error": "gone", "error_class": error_class}
    (project_id,) = execute(database, "SELECT project_id FROM projects WHERE name = 'q'")[0]
    finished(stage_rows.FILTER, "FAILED", columns, video_id=ID, project_id=project_id)
    give(signed(LINK, 2))
    assert "1 link renewed; 1 video that had failed will be tried again" in capsys.readouterr().out
    assert state(database) == ("PENDING", 0, None, None)
    assert not (store.video(ID) / INFO_FILE).exists()
    assert execute(database, "SELECT DISTINCT status FROM project_videos") == [("PENDING",)]
    assert execute(database, "SELECT sum(videos_failed) FROM projects") == [(0,)]


@pytest.mark.parametrize("error_class", ["corrupt", "policy", "no_video", "killed", "disk_full"])
def test_what_no_signature_mends_stays_failed(database: str, here: Path, error_class: str) -> None:
    give(signed(LINK, 1))
    failed(ID, {**GONE, "error_class": error_class})
    before = state(database)
    give(signed(LINK, 2))
    assert state(database) == before
    assert rows(database) == {ID: signed(LINK, 2)}


def test_what_was_made_stays(database: str, here: Path) -> None:
    names = ["downloaded", "extracted", "broken"]
    links = [LINK.replace("clip", name) for name in names]
    give(*(signed(link, 1) for link in links))
    ids = [parse(link).video_id for link in links]
    downloaded(ids[0])
    extracted(ids[1])
    filtered(ids[1], *execute(database, "SELECT project_id FROM projects")[0])
    downloaded(ids[2])
    columns = {**GONE, "error_class": "unsupported", "extracted_with": "m"}
    finished(stage_rows.EXTRACT, "FAILED", columns, video_id=ids[2])
    before = {video_id: state(database, video_id) for video_id in ids}
    give(*(signed(link, 2) for link in links))
    assert {video_id: state(database, video_id) for video_id in ids} == before
    assert set(rows(database).values()) == {signed(link, 2) for link in links}


def test_what_somebody_works_on_is_left_alone(database: str, here: Path) -> None:
    give(signed(LINK, 1))
    claim = held(stage_rows.DOWNLOAD, video_id=ID)
    give(signed(LINK, 2))
    assert rows(database) == {ID: signed(LINK, 2)}
    assert claims.beat(claim)
    claim_end.finish(claim, "DOWNLOADED", {"video_path": "x"}, lambda: None)
    assert rows(database) == {ID: signed(LINK, 2)}


def test_a_failure_in_a_dataset_that_is_being_made_waits_for_it(
    database: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give(signed(LINK, 1), LINK.replace("clip", "good"))
    failed(ID, GONE)
    force(database, "UPDATE projects SET project_stage = 'DEDUP_READY'")
    (project_id,) = execute(database, "SELECT project_id FROM projects")[0]
    claim = held(stage_rows.DEDUP, project_id=project_id)
    give(signed(LINK, 2))
    captured = capsys.readouterr()
    assert f"not renewed: {ID}: {owners.owner_name()} works on a dataset" in captured.err
    assert "renewed" not in captured.out
    assert (state(database)[0], rows(database)[ID]) == ("FAILED", signed(LINK, 1))
    claim_end.release(claim, error=None, error_class=None, counts=False)
    give(signed(LINK, 2))
    assert "1 link renewed; 1 video that had failed" in capsys.readouterr().out
    assert (state(database)[0], rows(database)[ID]) == ("PENDING", signed(LINK, 2))


def test_more_links_than_one_transaction_takes(
    database: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    links = [f"https://h.example/get?id={n}" for n in range(1200)]
    give(*(signed(link, 1) for link in links))
    give(*(signed(link, 2) for link in links))
    assert "1200 links renewed" in capsys.readouterr().out
    assert set(rows(database).values()) == {signed(link, 2) for link in links}


def test_a_row_that_was_made_from_files_is_found(database: str, here: Path, store: Store) -> None:
    """Older versions masked the values of a signature in `info.json`, and kept its names."""
    video_id = old("p", signed(LINK, 1))
    make_stored(store, video_id)
    info = store.video(video_id) / INFO_FILE
    masked = f"{LINK}?X-Amz-Date=1&X-Amz-Credential=...&X-Amz-Signature=..."
    info.write_text(json.dumps({**json.loads(info.read_text()), "url": masked}))
    execute(database, "DELETE FROM project_videos; DELETE FROM videos")
    reconcile(store, ["p"], CALM)
    assert rows(database) == {video_id: masked}
    before = state(database, video_id)
    give(signed(LINK, 2))
    assert rows(database) == {video_id: signed(LINK, 2)}
    assert state(database, video_id) == before
    assert before[0] == "DOWNLOADED"


# ---- through a server


def gated(clip: Path, refusal: Reply, works: int = 2) -> Any:
    """Return what serves a clip to one signature, and refuses all others."""

    def answer(target: str) -> Reply:
        good = f"X-Amz-Signature=s{works}" in target
        return File(clip, '"1"').reply({}) if good else refusal

    return answer


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_the_new_signature_is_the_one_that_is_tried_next(
    database: str, here: Path, store: Store, http: Server, clip: Path, status: int
) -> None:
    link = http.add("/clip.mp4", gated(clip, Reply(status)))
    config = load({"project": "p", "store": str(store.root), "download": {"retries": 0}})
    give(signed(link, 1))
    (video_id,) = rows(database)
    with suppress(TransientError):
        download_video(config, video_id)
    assert state(database, video_id)[0] in ("PENDING", "FAILED")
    give(signed(link, 2))
    download_video(config, video_id)
    assert state(database, video_id) == ("DOWNLOADED", 0, None, None)
    info = json.loads((store.video(video_id) / INFO_FILE).read_text())
    assert info["url"] == info["webpage_url"] == link
    requested = http.requests["/clip.mp4"]
    give(signed(link, 3))
    download_video(config, video_id)
    assert http.requests["/clip.mp4"] == requested, "it is there"


@pytest.mark.parametrize("status", [403, 404])
def test_a_signature_that_comes_during_an_attempt_that_fails_is_tried_by_it(
    database: str, here: Path, store: Store, http: Server, clip: Path, status: int
) -> None:
    def answer(target: str) -> Reply:
        if "X-Amz-Signature=s2" in target:
            return File(clip, '"1"').reply({})
        renewal.renew({video_id: SourceUrl(signed(link, 2))}, store)
        return Reply(status)

    link = http.add("/clip.mp4", answer)
    video_id = parse(link).video_id
    give(signed(link, 1))
    config = load({"project": "p", "store": str(store.root), "download": {"retries": 0}})
    download_video(config, video_id)
    assert state(database, video_id) == ("DOWNLOADED", 0, None, None)


def test_a_signature_that_comes_during_an_attempt_that_succeeds_costs_nothing(
    database: str, here: Path, store: Store, http: Server, clip: Path
) -> None:
    def answer(target: str) -> Reply:
        renewal.renew({video_id: SourceUrl(signed(link, 2))}, store)
        return File(clip, '"1"').reply({})

    link = http.add("/clip.mp4", answer)
    video_id = parse(link).video_id
    give(signed(link, 1))
    config = load({"project": "p", "store": str(store.root), "download": {"retries": 0}})
    download_video(config, video_id)
    assert state(database, video_id)[0] == "DOWNLOADED"
    assert rows(database) == {video_id: signed(link, 2)}
    assert http.requests["/clip.mp4"] == 1
    repairs = reconcile(store, ["p"], CALM, deep=True).repairs
    assert [each for each in repairs if each.table != "projects"] == []
