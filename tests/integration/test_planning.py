"""What is left to do: nothing that rows, settings and files call finished, and why the rest is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dataminer import planning
from dataminer.config import Config, load
from dataminer.db import tables as our_tables
from dataminer.errors import DataminerError
from dataminer.planning import Plan
from dataminer.provenance.fingerprints import policy_id, recipe_id
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.sync.repair import retry_command
from tests.support import finished_videos
from tests.support.postgres import execute, fresh_database
from tests.support.rows import force

VIDEOS = ("a", "b", "c", "d")
STAGES = ("download", "extract", "filter")
ERROR = "error = 'no bytes', error_class = 'empty'"


@dataclass(frozen=True)
class Project:
    """A finished project `p` of four videos."""

    url: str
    root: Path

    def config(self, **settings: Any) -> Config:
        return load({"project": "p", "store": str(self.root), **settings})

    def plan(self, upto: str = "filter", forced: tuple[str, ...] = (), **settings: Any) -> Plan:
        """Look at it with these settings."""
        return planning.plan(self.config(**settings), ["p"], upto=upto, forced=forced)

    def due(self, **how: Any) -> dict[str, str]:
        """Return the videos with something to do in each stage."""
        return due(self.plan(**how))

    def result(self, stage: str, video: str) -> Path:
        """Return what a stage left of a video."""
        return finished_videos.results(self.root, "p", video)[STAGES.index(stage)]

    def set(self, statement: str) -> None:
        """Change rows by hand."""
        force(self.url, statement)


def due(plan: Plan) -> dict[str, str]:
    found = {stage: "".join(plan.due(stage)) for stage in ("download", "extract")}
    return found | {"filter": "".join(plan.due("filter", "p"))}


@pytest.fixture(scope="module")
def tables(server: str, template: str) -> Iterator[str]:
    """The URL of one database for this file, where making them took longer than the tests."""
    with fresh_database(server, template, "planning") as url:
        yield url


@pytest.fixture
def project(tables: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("DATABASE_URL", tables)
    execute(tables, "DELETE FROM projects; DELETE FROM videos")
    finished_videos.add(tables, "p", VIDEOS, duration=600)
    made = Project(tables, tmp_path)
    finished_videos.finish(tables, tmp_path, made.config(), "p", VIDEOS)
    return made


def stages(download: str = "", extract: str = "", filter: str = "") -> dict[str, str]:
    return {"download": download, "extract": extract, "filter": filter}


def test_nothing_is_left_of_finished_videos(project: Project) -> None:
    plan = project.plan()
    assert due(plan) == stages()
    assert plan.reasons() == []
    assert not plan.to_adopt


def test_a_video_that_joins_is_all_that_is_left(project: Project) -> None:
    finished_videos.add(project.url, "p", ["bb"])
    plan = project.plan()
    assert due(plan) == stages("bb", "bb", "bb")
    assert plan.reasons() == [
        "download: 1 due (1 new)",
        "extract: 1 due (1 new)",
        "filter for project p: 1 due (1 new)",
    ]


def test_of_twenty_thousand_videos_in_a_moved_store_the_new_one_is_left(project: Project) -> None:
    many = [f"m{number:05d}" for number in range(20_000)]
    finished_videos.add(project.url, "p", many, duration=600)
    finished_videos.finish(project.url, project.root, project.config(), "p", ())
    for video in many:
        finished_videos.make(project.result("filter", video), finished_videos.BEGAN)
    finished_videos.add(project.url, "p", ["new"])
    (project.root / "projects").rename(project.root / "elsewhere")
    (project.root / "moved").mkdir()
    (project.root / "elsewhere").rename(project.root / "moved" / "projects")
    plan = project.plan(store=str(project.root / "moved"))
    assert due(plan) == stages("new", "new", "new")
    assert not plan.to_adopt
    assert plan.reasons() == [
        "download: 1 due (1 new)",
        "extract: 1 due (1 new)",
        "filter for project p: 1 due (1 new)",
    ]


def test_a_target_asks_for_its_own_stages_only(project: Project) -> None:
    finished_videos.add(project.url, "p", ["bb"])
    assert list(project.plan("download").videos) == ["download"]
    assert list(project.plan("extract").videos) == ["download", "extract"]
    assert project.plan("extract").members == {}


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"extract": {"quality": 80}}, stages("", "abcd", "abcd")),
        ({"filter": {"min_contrast": 0.5}}, stages("", "", "abcd")),
        ({"dedup": {"threshold": 2}, "download": {"retries": 1, "max_height": 720}}, stages()),
    ],
    ids=["extract", "filter", "no video's result"],
)
def test_changed_settings_bring_back_what_they_touch(
    project: Project, settings: dict[str, Any], left: dict[str, str]
) -> None:
    plan = project.plan(**settings)
    assert due(plan) == left
    of_stages = [line for line in plan.reasons() if " due (" in line]
    assert all("4 made with other settings" in line for line in of_stages)


@pytest.mark.parametrize(
    ("forced", "left"),
    [
        ("download", stages("abcd", "abcd", "abcd")),
        ("extract", stages("", "abcd", "abcd")),
        ("filter", stages("", "", "abcd")),
    ],
)
def test_what_is_forced_is_made_anew_and_what_follows(
    project: Project, forced: str, left: dict[str, str]
) -> None:
    assert project.due(forced=(forced,)) == left


def test_only_a_download_that_failed_is_tried_again_with_other_settings(project: Project) -> None:
    """A local file never is: it is taken as it is."""
    failed = f"status = 'FAILED', extracted_with = NULL, {ERROR}"
    project.set(f"UPDATE videos SET {failed} WHERE video_id IN ('a', 'b')")
    project.set(f"UPDATE project_videos SET status = 'FAILED', {ERROR} WHERE video_id < 'c'")
    downloaded_with = recipe_id("download", None)
    project.set(
        f"UPDATE videos SET downloaded_with = '{downloaded_with}' WHERE video_id IN ('a', 'c')"
    )
    assert project.due(download={"max_height": 720}) == stages("b", "b", "b")
    assert project.due() == stages()


def test_a_video_is_fetched_again_if_that_is_asked_for(project: Project) -> None:
    assert retry_command.fetch_again(["b"], dry_run=True) == {"b": "EXTRACTED"}
    assert project.due() == stages()
    assert retry_command.fetch_again(["b", "c"]) == {"b": "EXTRACTED", "c": "EXTRACTED"}
    plan = project.plan()
    assert due(plan) == stages("bc", "bc", "bc")
    assert "download: 2 due (2 to be fetched again)" in plan.reasons()


def test_a_refusal_is_finished_for_the_policy_that_refused(project: Project) -> None:
    """Another policy may let the video in; other settings and other failures do not matter."""
    policy = {"max_duration": 100}
    config = load({"download": {"policy": policy}}).download
    downloaded_with = (
        f"{recipe_id('download', config.result_settings())} {policy_id(config.policy)}"
    )
    refused = (
        f"status = 'FAILED', extracted_with = NULL, downloaded_with = '{downloaded_with}', {ERROR}"
    )
    project.set(f"UPDATE videos SET {refused} WHERE video_id = 'b'")
    project.set(f"UPDATE project_videos SET status = 'FAILED', {ERROR} WHERE video_id = 'b'")
    assert project.due(download={"policy": policy}) == stages()
    assert project.due(download={"policy": policy, "retries": 9}) == stages()
    for other in ({}, {"max_duration": 101}, {**policy, "licences": ["CC0"]}):
        assert project.due(download={"policy": other}) == stages("b", "b", "b")


def test_what_is_gone_is_due_if_something_needs_it(project: Project) -> None:
    for stage in STAGES:
        project.result(stage, "b").unlink()
    plan = project.plan()
    assert due(plan) == stages("b", "b", "b")
    assert plan.reasons()[0] == "download: 1 due (1 lost)"
    for stage, left in (
        ("download", stages()),
        ("extract", stages()),
        ("filter", stages("", "", "c")),
    ):
        result = project.result(stage, "c")
        aside = result.rename(result.with_name("aside"))
        assert {name: ids.replace("b", "") for name, ids in project.due().items()} == left
        aside.rename(result)
    project.result("extract", "c").unlink()
    assert project.due(filter={"min_contrast": 0.5}) == stages("b", "bc", "abcd")


def test_what_is_left_of_a_failure_is_made_again_if_it_is_gone(project: Project) -> None:
    """Rows and files agree then, and dedup finds a table of each video."""
    project.set(f"UPDATE videos SET status = 'FAILED', {ERROR} WHERE video_id = 'b'")
    project.set(f"UPDATE project_videos SET status = 'FAILED', {ERROR} WHERE video_id = 'b'")
    project.result("filter", "b").unlink()
    assert project.due() == stages("", "", "b")


def test_files_that_are_newer_than_their_rows_are_looked_at(project: Project) -> None:
    """The rows came back with an older dump; these files do not say what they were made with."""
    project.result("filter", "b").touch()
    project.result("extract", "b").touch()
    project.result("extract", "c").touch()  # nothing needs it
    plan = project.plan()
    assert due(plan) == stages("", "b", "b")
    assert plan.reasons() == [
        "extract: 1 due (1 replaced since its row was written)",
        "filter for project p: 1 due (1 replaced since its row was written)",
    ]


def test_a_video_that_failed_is_compared_by_no_embeddings(project: Project) -> None:
    """Those of another time may be there."""
    by_model: dict[str, Any] = {"dedup": {"method": "embedding"}}
    (project.root / "embeddings" / FrameModels.of(project.config(**by_model)).key / "b").mkdir(
        parents=True
    )
    project.set(f"UPDATE videos SET status = 'FAILED', {ERROR} WHERE video_id = 'b'")
    project.set(
        f"UPDATE project_videos SET status = 'FAILED', filtered_from = NULL, {ERROR}"
        " WHERE video_id = 'b'"
    )
    assert project.plan("dedup", **by_model).is_due("p", "dedup")


@pytest.mark.parametrize(("upto", "stage"), [("download", "download"), ("extract", "extract")])
def test_a_target_looks_for_its_own_results(project: Project, upto: str, stage: str) -> None:
    project.result(stage, "b").unlink()
    assert project.plan(upto).due(stage) == ["b"]


def test_a_media_file_that_is_gone_is_fetched_again_if_frames_are_due(project: Project) -> None:
    (project.result("download", "b").with_name("x")).unlink()
    assert project.due() == stages()
    assert project.due(extract={"quality": 80}) == stages("b", "abcd", "abcd")


@pytest.mark.parametrize(
    ("statements", "left"),
    [
        (
            (
                f"videos SET status = 'FAILED', {ERROR}",
                f"project_videos SET status = 'FAILED', {ERROR}",
            ),
            stages(),
        ),
        # its failure is passed on to the project
        ((f"videos SET status = 'FAILED', {ERROR}",), stages("", "", "b")),
        ((f"project_videos SET status = 'FAILED', {ERROR}",), stages()),
        (
            (
                f"videos SET status = 'FAILED', extracted_with = NULL, {ERROR}",
                f"project_videos SET status = 'FAILED', {ERROR}",
            ),
            stages(),
        ),
        (("project_videos SET status = 'FILTERED_EMPTY', passed_frames = 0",), stages()),
        (("project_videos SET status = 'PENDING'",), stages("", "", "b")),
        (("project_videos SET filtered_with = NULL",), stages("", "", "b")),
        (("project_videos SET filtered_from = 'other'",), stages("", "", "b")),
        (("videos SET extract_fingerprint = 'other'",), stages("", "b", "b")),
        (("videos SET extracted_with = NULL",), stages("", "b", "b")),
        (("videos SET status = 'DOWNLOADED'",), stages("", "b", "b")),
        (("videos SET status = 'PENDING'",), stages("b", "b", "b")),
        (("videos SET downloaded_with = NULL",), stages("b", "b", "b")),
    ],
    ids=lambda value: " and ".join(value) if isinstance(value, tuple) else "left",
)
def test_rows_say_what_is_finished_and_failed_is(
    project: Project, statements: tuple[str, ...], left: dict[str, str]
) -> None:
    for statement in statements:
        project.set(f"UPDATE {statement} WHERE video_id = 'b'")
    if left["download"]:
        project.result("download", "b").unlink()  # else its row takes it up
    assert project.due() == left


def test_what_failed_is_told_of_once_and_last(project: Project) -> None:
    finished_videos.add(project.url, "p", ["bb"])
    for table in ("videos", "project_videos"):
        project.set(f"UPDATE {table} SET status = 'FAILED', {ERROR} WHERE video_id = 'b'")
    project.set(f"UPDATE project_videos SET status = 'FAILED', {ERROR} WHERE video_id = 'c'")
    assert project.plan(upto="dedup").reasons() == [
        "download: 1 due (1 new)",
        "extract: 1 due (1 new)",
        "filter for project p: 1 due (1 new)",
        "dedup of project p: due (after filter)",
        "extract: 1 failed (1 empty)",
        "filter for project p: 1 failed (1 empty)",
    ]


def test_what_waits_is_not_due_and_nothing_that_follows(project: Project) -> None:
    later = "not_before = clock_timestamp() + interval '1 hour'"
    project.set(f"UPDATE videos SET status = 'PENDING', {later} WHERE video_id = 'b'")
    project.result("download", "b").unlink()
    plan = project.plan()
    assert due(plan) == stages()
    (reported,) = plan.reasons()
    assert reported.startswith("download: 1 waiting (1 until ")
    project.set("UPDATE videos SET not_before = clock_timestamp()")
    assert project.due() == stages("b", "b", "b")


def test_rows_of_the_tables_before_are_read_as_they_are(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run brings no tables up to date."""
    monkeypatch.setattr(our_tables, "find_tables", lambda session: our_tables.Tables("0005"))
    plan = project.plan()
    assert due(plan) == stages("", "abcd", "abcd")  # their empty files do not tell either


def test_suspects_are_named(project: Project) -> None:
    project.set("UPDATE videos SET suspect = true WHERE video_id = 'b'")
    project.set("UPDATE project_videos SET suspect = true WHERE video_id = 'c'")
    assert project.plan().suspects == {"b", "c"}


def test_a_project_without_videos_says_what_to_do(project: Project) -> None:
    with pytest.raises(DataminerError, match="project q has no videos yet"):
        planning.plan(project.config(), ["p", "q"])


def test_an_archive_that_is_gone_is_needed(project: Project) -> None:
    """Filtered tables point into it, and dedup reads from there."""
    tar = {"extract": {"frame_store": "tar"}}
    finished_videos.finish(project.url, project.root, project.config(**tar), "p", VIDEOS)
    for video in VIDEOS[1:]:
        archive = project.result("extract", video).with_name("frames.tar")
        finished_videos.make(archive, finished_videos.BEGAN)
    assert project.due(**tar) == stages("", "a", "a")
