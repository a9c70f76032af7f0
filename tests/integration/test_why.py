"""One video's story: what it says, for people and programs, and for ids that do not exist."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from dataminer.errors import DataminerError, ErrorClass, PermanentError, advice
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, write_table
from dataminer.monitor import story
from dataminer.monitor.terminal import story_text
from dataminer.store.layout import Store
from dataminer.sync.claims import owners, stage_rows
from dataminer.sync.jobs import failures
from tests.support.frame_rows import frame_row
from tests.support.postgres import execute
from tests.support.rows import EMPTY, add, downloaded, extracted, failed, filtered, finished, held
from tests.support.stores import media


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


def text(reported: story.VideoStory) -> str:
    out = io.StringIO()
    story_text.print_story(reported, out)
    return out.getvalue()


def words(reported: story.VideoStory) -> str:
    return " ".join(text(reported).split())


def table(store_folder: Path, *video_ids: str) -> None:
    rows = [frame_row(name, number) for number, name in enumerate(video_ids)]
    store_folder.mkdir(parents=True)
    write_table(
        store_folder / FRAMES_FILE, pa.Table.from_pylist(rows, FRAMES_SCHEMA), FRAMES_SCHEMA, {}
    )


def test_a_failed_video_says_why_and_what_next(database: str, store: Store, tmp_path: Path) -> None:
    add("birds", "vid", source_info={"list": "links.txt", "line": 7}, url="/x/[bold]y[/].mp4")
    failed("vid")
    logs = tmp_path / "logs"
    (logs / "download").mkdir(parents=True)
    (logs / "download" / "vid.log").write_text(
        "".join(f"line {n}\n" for n in range(50)) + "2026 ERROR x.mp4 has no bytes\n"
    )
    (logs / "extract").mkdir()
    (logs / "extract" / "vid.log").write_text("fine\n")
    reported = story.story("vid", store, logs)
    seen = words(reported)
    assert "vid FAILED" in seen
    assert "/x/[bold]y[/].mp4 (FILE)" in seen, "a stranger's text is not markup"
    assert "named in line 7, list links.txt" in seen
    assert "error x.mp4 has no bytes. [empty, permanent]" in seen
    assert "next replace the file" in seen
    assert "in project birds" in seen
    assert "PENDING (the project: " in seen
    assert "frames none made yet" in seen
    assert "2026 ERROR x.mp4 has no bytes" in seen
    assert "line 49" in seen
    assert "line 3 " not in seen
    assert f"✓ {logs}/extract/vid.log" in text(reported)


def test_what_is_damaged_is_named(database: str, store: Store, tmp_path: Path) -> None:
    add("birds", "vid")
    extracted("vid")
    info = store.video("vid") / "info.json"
    info.parent.mkdir(parents=True)
    info.write_text("{")
    store.frames("vid").parent.mkdir()
    store.frames("vid").symlink_to(tmp_path)
    reported = story.story("vid", store)
    link, document = reported.files["damaged"]
    assert link == f"{store.frames('vid')} is damaged: it is a link, which is not followed"
    assert document.startswith(f"{info} is damaged: it is not JSON")
    assert "damaged" in words(reported)


def test_the_latest_failing_log_is_shown(database: str, store: Store, tmp_path: Path) -> None:
    add("birds", "vid")
    for rule, when in (("download", 100), ("extract", 50)):
        folder = tmp_path / "logs" / rule
        folder.mkdir(parents=True)
        (folder / "vid.log").write_text(f"Traceback of {rule}\n")
        os.utime(folder / "vid.log", (when, when))
    seen = text(story.story("vid", store, tmp_path / "logs"))
    assert "Traceback of download" in seen
    assert "Traceback of extract" not in seen


def test_the_files_that_are_there_are_counted(database: str, store: Store) -> None:
    for name in ("p", "q"):
        project = add(name, "vid", "other")
    extracted("vid", frames=3)
    filtered("vid", project, passed=2)
    file = media(store, "vid")
    table(store.recipe("vid", "m"), "vid", "vid", "vid")
    table(store.filtered("q", "vid"), "vid", "vid")
    table(store.dedup("q"), "other", "vid")
    reported = story.story("vid", store)
    assert reported.files == {
        "video": str(file),
        "video_bytes": 3,
        "frames": {str(store.recipe("vid", "m")): 3},
        "damaged": [],
    }
    assert [(row["project"], row["filtered"], row["unique"]) for row in reported.projects] == [
        ("p", None, None),
        ("q", 2, 1),
    ]
    assert reported.next_step is None


def test_what_was_converted_and_left_out_is_told(database: str, store: Store) -> None:
    project = add("birds", "vid")
    warning = "truncated: 1.0 of 2.0 s could be decoded; 7 packets gave no frame"
    noted = {"truncated": 1, "lost_packets": 7, "tone_mapped": 25, "torn_slices": 3}
    extracted("vid", extract_fingerprint="new", warning=warning, notes=noted)
    older = {"lost_packets": 1, "deinterlaced": 25}
    filtered("vid", project, recipe="old", source_notes=older)
    folder = store.filtered("birds", "vid")
    folder.mkdir(parents=True)
    meta = {"rejected": {"damaged": 2, "min_sharpness": 11, "max_black": 0}}
    write_table(folder / FRAMES_FILE, FRAMES_SCHEMA.empty_table(), FRAMES_SCHEMA, meta)
    reported = story.story("vid", store)
    newest, of_project = words(reported).split("in project birds")
    assert f"warning {warning}" in newest
    assert (
        "noted 3 torn slices (a kind that this version does not know);"
        " 25 frames were tone-mapped from HDR" in newest
    )
    assert "noted 1 packet gave no frame; 25 frames were deinterlaced passed 0" in of_project
    assert "left out 11 min_sharpness, 2 damaged" in of_project
    as_json = json.loads(json.dumps(reported.as_json()))
    assert as_json["video"]["notes"] == noted
    assert as_json["projects"][0]["source_notes"] == older
    assert as_json["projects"][0]["rejected"] == {"min_sharpness": 11, "damaged": 2}


def test_who_holds_it_is_told(database: str, store: Store) -> None:
    add("p", "vid")
    downloaded("vid")
    held(stage_rows.EXTRACT, video_id="vid")
    seen = words(story.story("vid", store))
    assert f"held by {owners.owner_name()} since 20" in seen
    assert "last heartbeat 0 s ago" in seen


def test_programs_get_everything(database: str, store: Store) -> None:
    add("p", "vid")
    failed("vid", {**EMPTY, "error": "bare"})
    results_folder = store.recipe("vid", "m")
    results_folder.mkdir(parents=True)
    failures.failed_frames({"fingerprint": "m"})(
        results_folder, DataminerError("e"), ErrorClass.EMPTY
    )
    reported = json.loads(json.dumps(story.story("vid", store).as_json()))
    assert reported["video"]["status"] == "FAILED"
    assert reported["video"]["created_at"].startswith("20")
    assert reported["next_step"] == advice("empty", "vid", ["p"])
    assert reported["projects"][0]["project"] == "p"
    assert reported["files"]["frames"] == {str(results_folder): 0}
    assert f"next {advice('empty', 'vid', ['p'])}" in words(story.story("vid", store))


def test_the_command_that_takes_it_out_names_the_projects(database: str, store: Store) -> None:
    error = PermanentError("/x/y.mp4 is not there", ErrorClass.MISSING_SOURCE)
    columns = {"error": str(error), "error_class": error.error_class}
    for name in ("birds", "fish"):
        project = add(name, "vid-0123456789")
    failed("vid-0123456789", columns)
    key = {"project_id": project, "video_id": "vid-0123456789"}
    finished(stage_rows.FILTER, "FAILED", columns, **key)
    reported = story.story("vid-0123456789", store)
    command = "`dataminer delete-videos vid-0123456789 --project"
    assert f"{command} birds --project fish`" in text(reported)
    assert f"{command} fish`" in text(reported)
    assert reported.next_step and reported.next_step.endswith(f"{command} birds --project fish`")
    birds, fish = reported.as_json()["projects"]
    assert (birds["next_step"], birds["error"]) == (None, None)
    assert fish["error"].endswith(f"{command} fish`")


def test_looking_changes_nothing(database: str, store: Store) -> None:
    add("p", "vid")
    before = execute(database, "SELECT v::text, xmin FROM videos v")
    story.story("vid", store)
    assert execute(database, "SELECT v::text, xmin FROM videos v") == before


def test_an_id_or_its_only_beginning_finds_it(database: str) -> None:
    add("p", "cars-1a2b", "cars-1a", "bottles-99", "a_b", "axb")
    assert story.find_video("cars-1a2b") == "cars-1a2b"
    assert story.find_video("cars-1a") == "cars-1a", "a whole id wins over a beginning"
    assert story.find_video("bot") == "bottles-99"
    assert story.find_video("a_") == "a_b", "no character is a wildcard"
    with pytest.raises(DataminerError, match="several videos begin with cars: cars-1a, cars-1a2b"):
        story.find_video("cars")


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("cras-1a2b", "did you mean cars-1a2b"),
        ("bottlse", "did you mean bottles-99?"),
        ("1A2B", "did you mean cars-1a2b?"),
        ("%", "`dataminer status`"),
        ("", "`dataminer status`"),
    ],
)
def test_an_unknown_id_gets_near_ones(database: str, given: str, hint: str) -> None:
    add("p", "cars-1a2b", "bottles-99")
    with pytest.raises(DataminerError) as caught:
        story.find_video(given)
    assert "there is no video" in str(caught.value)
    assert hint in str(caught.value)
