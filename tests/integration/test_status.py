"""What `dataminer status` shows, on a real PostgreSQL."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dataminer import planning
from dataminer.cli.main import app
from dataminer.config import load
from dataminer.errors import DatabaseError, DataminerError, ErrorClass, PermanentError
from dataminer.monitor import status
from dataminer.sync.claims import claim_end, claims, projects, stage_rows
from tests.support import rows
from tests.support.postgres import fresh_database
from tests.support.rows import Given


def shown(*names: str) -> str:
    out = io.StringIO()
    status.print_status(names, out)
    return out.getvalue()


def test_a_database_without_tables_is_no_traceback(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database(server, prefix="bare") as url:
        monkeypatch.setenv("DATABASE_URL", url)
        with pytest.raises(DataminerError, match="has no videos yet"):
            planning.plan(load({}), ["p"])
        with pytest.raises(DatabaseError, match="no tables yet"):
            status.snapshot()


def test_an_empty_database_says_how_to_begin(database: str) -> None:
    assert "then `dataminer populate`" in shown()


def test_claims_failures_and_retries_are_shown_with_their_reasons(database: str) -> None:
    projects.add_videos("p", [Given("busy"), Given("dead"), Given("later")])
    claims.claim(stage_rows.DOWNLOAD, {"video_id": "busy"}, stale_seconds=60)
    rows.failed("dead", {"error": "no [bold]video[/] stream", "error_class": "no_video"})
    held = claims.claim(stage_rows.DOWNLOAD, {"video_id": "later"}, stale_seconds=60)
    assert held
    claim_end.release(held, error="connection refused", error_class="network", counts=False)
    projects.refresh_named(["p"])
    text = shown("p")
    assert "DOWNLOADING" in text
    assert "no [bold]video[/] stream" in text, "a stranger's text is not markup"
    assert "connection refused" in text
    seen = json.loads(json.dumps(status.snapshot().as_json()))
    assert [entry["video_id"] for entry in seen["failures"]] == ["dead"]
    assert [entry["video_id"] for entry in seen["to_retry"]] == ["later"]
    assert seen["claims"][0]["what"] == "busy"
    assert seen["claims"][0]["heartbeat_age"] < 60
    (project,) = seen["projects"]
    assert (project["videos_pending"], project["videos_failed"]) == (2, 1)


def test_what_takes_failed_videos_out_can_be_copied_and_run(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("birds", "fish"):
        projects.add_videos(name, [Given("gone-0123456789"), Given("-a"), Given("whole")])
    error = PermanentError("/x/y.mp4 is not there", ErrorClass.MISSING_SOURCE)
    for video_id in ("gone-0123456789", "-a"):
        rows.failed(video_id, {"error": str(error), "error_class": error.error_class})
    (of_class, *of_videos) = re.findall(r"`dataminer (delete-videos [^`\n]*)`", shown("birds"))
    assert of_class == "delete-videos --class missing_source --project birds"
    assert sorted(of_videos) == [
        "delete-videos --project birds -- -a",
        "delete-videos gone-0123456789 --project birds",
    ]
    ((_, count, step),) = status.by_class(status.snapshot().failures, [])
    assert count == 2
    assert step.endswith("--class missing_source --project birds --project fish`")
    (failure,) = [f for f in status.snapshot(["fish"]).failures if f["video_id"] == "-a"]
    assert "`dataminer delete-videos --project fish -- -a`" in failure["error"]
    for command, gone in ((of_videos[0], 1), (of_class, 2)):
        done = CliRunner().invoke(app, shlex.split(command.replace("videos", "videos --yes")))
        assert done.exit_code == 0, done.exception
        counts = {p["name"]: p["total_videos"] for p in status.snapshot().projects}
        assert counts == {"birds": 3 - gone, "fish": 3}


def test_many_failures_are_cut_short_for_people_and_whole_for_programs(database: str) -> None:
    projects.add_videos("p", [Given(f"v{n}") for n in range(30)])
    for n in range(30):
        rows.failed(f"v{n}")
    assert "the latest 10 of 30" in shown()
    assert len(status.snapshot().failures) == 30


class TestNotes:
    """What was lost, mended or converted, per project."""

    @pytest.fixture(autouse=True)
    def _projects(self, database: str) -> None:
        birds = rows.add("birds", "a", "b", "c", "d")
        rows.add("fish", "a", "e")
        rows.extracted("a", extract_fingerprint="new", notes={"tone_mapped": 300, "truncated": 1})
        rows.extracted("b", extract_fingerprint="b", notes={"tone_mapped": 40, "lost_packets": 7})
        rows.extracted("c", notes={"lost_packets": 1, "torn_slices": 2**62})
        rows.extracted("e", notes={"torn_slices": 2**62, "squared": 0})
        # from older frames than those that the video's row is about
        rows.filtered("a", birds, recipe="old", source_notes={"deinterlaced": 5})
        rows.filtered("b", birds, recipe="b", source_notes={"tone_mapped": 40, "lost_packets": 7})

    def test_are_summed_over_the_frames_that_a_project_chose_from(self) -> None:
        seen = json.loads(json.dumps(status.snapshot().as_json()))["notes"]
        assert [(n["project"], n["kind"], n["count"], n["videos"]) for n in seen] == [
            ("birds", "lost_packets", 8, 2),
            ("birds", "torn_slices", 2**62, 1),
            ("birds", "tone_mapped", 40, 1),
            ("birds", "deinterlaced", 5, 1),
            ("fish", "truncated", 1, 1),
            ("fish", "torn_slices", 2**62, 1),
            ("fish", "tone_mapped", 300, 1),
        ]
        assert [n["is_warning"] for n in seen[:4]] == [True, True, False, False]
        assert seen[0]["text"] == "packets gave no frame"

    def test_are_shown_in_words_with_numbers(self) -> None:
        text = shown("birds")
        assert "Lost, mended or converted while frames were extracted" in text
        assert re.search(r"│ +8 │ packets gave no frame +│ +2 │", text)
        assert re.search(r"│ +40 │ frames were tone-mapped from HDR +│ +1 │", text)
        assert "torn slices (a kind that this version does not know)" in text
        assert "fish" not in text

    def test_of_a_video_without_frames_do_not_count(self, database: str) -> None:
        rows.force(database, "UPDATE videos SET status = 'DOWNLOADED' WHERE video_id = 'e'")
        assert {n["kind"] for n in status.snapshot(["fish"]).notes} == {"truncated", "tone_mapped"}


def test_without_notes_there_is_no_table(database: str) -> None:
    rows.add("p", "v")
    rows.extracted("v")
    assert status.snapshot().notes == []
    assert "converted" not in shown()
