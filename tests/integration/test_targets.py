"""What a run has to see to: nothing that rows, settings and files say is finished."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dataminer import targets
from dataminer.config import load
from dataminer.errors import DataminerError
from dataminer.stages import made_with, policy_mark
from dataminer.targets import Targets
from tests.support import finished_videos
from tests.support.postgres import execute, fresh_database
from tests.support.rows import force

VIDEOS = ("a", "b", "c", "d")
STAGES = ("download", "extract", "filter")


@dataclass(frozen=True)
class Project:
    """A finished project `p` of four videos, of which `d` was filtered last."""

    url: str
    root: Path

    def targets(self, whole: bool = False, planned_whole: int = 0, **settings: Any) -> Targets:
        """Look at it anew, with these settings."""
        targets.members.cache_clear()
        config = load({"project": "p", "store": str(self.root), **settings})
        return Targets(config, whole=whole, planned_whole=planned_whole)

    def left(self, **settings: Any) -> dict[str, str]:
        """Return the videos with something left to do up to each stage."""
        found = self.targets(**settings)
        return {stage: "".join(found.left("p", stage)) for stage in STAGES}

    def result(self, stage: str, video: str) -> Path:
        """Return what a stage left of a video."""
        return finished_videos.results(self.root, "p", video)[STAGES.index(stage)]

    def table(self, video: str) -> str:
        """Return the filtered table of a video."""
        return str(self.result("filter", video))

    def set(self, statement: str) -> None:
        """Change rows by hand."""
        force(self.url, statement)


@pytest.fixture(scope="module")
def tables(server: str, template: str) -> Iterator[str]:
    """The URL of one database for this file, where making them took longer than the tests."""
    with fresh_database(server, template, "targets") as url:
        yield url


@pytest.fixture
def project(tables: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("DATABASE_URL", tables)
    execute(tables, "DELETE FROM projects; DELETE FROM videos")
    finished_videos.add(tables, "p", VIDEOS, duration=600)
    made = Project(tables, tmp_path)
    finished_videos.finish(tables, tmp_path, made.targets().config, "p", VIDEOS)
    return made


def lefts(download: str = "", extract: str = "", filter: str = "") -> dict[str, str]:
    return {"download": download, "extract": extract, "filter": filter}


def test_finished_videos_are_left_out(project: Project):
    assert project.left() == lefts()
    found = project.targets()
    assert (found.infos(["p"]), found.frames(["p"]), found.filtered(["p"])) == ([], [], [])


def test_a_video_that_joins_is_all_that_is_left(project: Project):
    finished_videos.add(project.url, "p", ["bb"])
    assert project.left() == lefts("bb", "bb", "bb")
    found = project.targets()
    assert found.infos(["p"]) == [str(project.result("download", "bb"))]
    assert found.frames(["p", "p"]) == [str(project.result("extract", "bb"))]
    assert found.filtered(["p", "p"]) == [project.table("bb")]


def test_no_settings_of_ours_or_a_small_project_leave_it_to_snakemake(project: Project):
    assert project.left(whole=True) == lefts("abcd", "abcd", "abcd")
    assert project.left(planned_whole=4) == lefts("abcd", "abcd", "abcd")
    assert project.left(planned_whole=3) == lefts()


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"download": {"max_height": 720}}, lefts("abcd", "abcd", "abcd")),
        ({"extract": {"quality": 80}}, lefts("", "abcd", "abcd")),
        ({"filter": {"min_contrast": 0.5}}, lefts("", "", "abcd")),
        ({"dedup": {"threshold": 2}, "download": {"retries": 1}}, lefts()),
    ],
    ids=["download", "extract", "filter", "no video's result"],
)
def test_changed_settings_bring_back_what_they_touch(project: Project, settings, left):
    assert project.left(**settings) == left


def test_local_files_do_not_mind_the_download_settings(project: Project):
    mark = made_with("download", None)
    project.set(f"UPDATE videos SET downloaded_with = '{mark}' WHERE video_id IN ('a', 'c')")
    assert project.left(download={"max_height": 720}) == lefts("bd", "bd", "bd")


def test_a_refusal_is_finished_for_the_policy_that_refused(project: Project):
    """Another policy may let the video in; other settings and other failures do not matter."""
    policy = {"max_duration": 100}
    config = load({"download": {"policy": policy}}).download
    mark = f"{made_with('download', config.result_settings())} {policy_mark(config.policy)}"
    refused = f"status = 'FAILED', extracted_with = NULL, downloaded_with = '{mark}', {ERROR}"
    project.set(f"UPDATE videos SET {refused} WHERE video_id = 'b'")
    assert project.left(download={"policy": policy}) == lefts()
    assert project.left(download={"policy": policy, "retries": 9}) == lefts()
    for other in ({}, {"max_duration": 101}, {**policy, "licences": ["CC0"]}):
        assert project.left(download={"policy": other}) == lefts("b", "b", "b")


@pytest.mark.parametrize(
    ("stage", "left"),
    [
        # as with Snakemake, what only led to a result that stands is not made for its own sake
        ("download", lefts("b", "", "")),
        ("extract", lefts("", "b", "")),
        ("filter", lefts("", "", "b")),
    ],
)
def test_a_file_that_is_gone_is_left(project: Project, stage, left):
    project.result(stage, "b").unlink()
    assert project.left() == left


@pytest.mark.parametrize(
    ("stage", "left"),
    [("download", lefts("", "b", "b")), ("extract", lefts("", "", "b")), ("filter", lefts())],
)
def test_what_came_before_a_newer_file_stands_and_what_follows_does_not(project, stage, left):
    finished_videos.make(project.result(stage, "b"), finished_videos.BEGAN + 1_000_000)
    assert project.left() == left


ERROR = "error = 'no bytes', error_class = 'empty'"


@pytest.mark.parametrize(
    ("statements", "left"),
    [
        ((f"videos SET status = 'FAILED', {ERROR}",), lefts()),
        ((f"project_videos SET status = 'FAILED', {ERROR}",), lefts()),
        (
            (
                f"videos SET status = 'FAILED', extracted_with = NULL, {ERROR}",
                f"project_videos SET status = 'FAILED', {ERROR}",
            ),
            lefts(),
        ),
        (("project_videos SET status = 'FILTERED_EMPTY', passed_frames = 0",), lefts()),
        (("project_videos SET status = 'PENDING'",), lefts("", "", "b")),
        (("project_videos SET filtered_with = NULL",), lefts("", "", "b")),
        (("videos SET extracted_with = NULL",), lefts("", "b", "b")),
        (("videos SET status = 'DOWNLOADED'",), lefts("", "b", "b")),
        (("videos SET status = 'PENDING'",), lefts("b", "b", "b")),
        (("videos SET downloaded_with = NULL",), lefts("b", "b", "b")),
    ],
    ids=lambda value: " and ".join(value) if isinstance(value, tuple) else "left",
)
def test_rows_say_what_is_finished_and_failed_is(project: Project, statements, left):
    for statement in statements:
        project.set(f"UPDATE {statement} WHERE video_id = 'b'")
    assert project.left() == left


def test_the_newest_finished_table_stands_for_the_others(project: Project):
    assert project.targets().inputs_of_dedup("p") == [project.table("d")]
    finished_videos.make(project.result("filter", "b"), finished_videos.BEGAN + 1_000_000)
    assert project.targets().inputs_of_dedup("p") == [project.table("b")]


def test_dedup_waits_for_what_is_left_too(project: Project):
    finished_videos.add(project.url, "p", ["aa"])
    project.result("filter", "c").unlink()
    expected = [project.table(video) for video in ("aa", "c", "d")]
    assert project.targets().inputs_of_dedup("p") == expected
    everything = [project.table(video) for video in ("a", "aa", "b", "c", "d")]
    assert project.targets(whole=True).inputs_of_dedup("p") == everything


@pytest.mark.parametrize(
    ("durations", "minutes", "most", "sizes"),
    [
        # ten minutes of video are estimated at 7
        ((600, 600, 600, 600), 14, 9, [2, 2]),
        ((600, 600, 600, 600), 13.9, 9, [1, 1, 1, 1]),
        ((600, 600, 600, 600), 1000, 3, [3, 1]),
        ((None, None, 600, 600), 21, 9, [3, 1]),
        ((60, 36_000, 60, 60), 14, 9, [1, 1, 2]),
    ],
    ids=["full", "just not", "most", "unknown", "one too long"],
)
def test_batches_respect_minutes_and_most(project: Project, durations, minutes, most, sizes):
    for video, seconds in zip(VIDEOS, durations, strict=True):
        project.set(f"UPDATE videos SET duration = {seconds or 'NULL'} WHERE video_id = '{video}'")
    numbers = project.targets(whole=True).batches(["p"], minutes, most)
    assert list(numbers) == list(VIDEOS)
    assert sorted(numbers.values()) == list(numbers.values())
    counted = [list(numbers.values()).count(number) for number in range(len(sizes))]
    assert counted == sizes


def test_batches_hold_only_what_is_left(project: Project):
    assert project.targets().batches(["p"], 60, 9) == {}
    project.result("filter", "c").unlink()
    assert project.targets().batches(["p"], 60, 9) == {"c": 0}


@pytest.mark.parametrize(
    ("stage", "seconds", "first"),
    [
        ("download", 600, 7),
        ("extract", 61, 3),
        ("filter", 36_000, 1),
        ("download", None, 7),
    ],
)
def test_retries_ask_for_more_but_not_for_what_stands(project, stage, seconds, first):
    project.set(f"UPDATE videos SET duration = {seconds or 'NULL'}")
    found = project.targets()
    found.left("p", stage)
    job = {"video_id": "a", "project": "p"}
    assert found.minutes(stage, job, 1) == first
    assert found.minutes(stage, job, 2) == 1
    project.result(stage, "a").unlink()
    assert [found.minutes(stage, job, attempt) for attempt in (1, 2, 3)] == [
        first,
        2 * first,
        3 * first,
    ]


def test_the_digest_changes_with_the_set_of_videos_alone(project: Project):
    def digest() -> str:
        targets.members.cache_clear()
        return targets.digest("p")

    before = digest()
    project.set("UPDATE videos SET status = 'DOWNLOADED' WHERE video_id = 'a'")
    assert digest() == before
    finished_videos.add(project.url, "p", ["e"])
    assert digest() != before
    execute(project.url, "DELETE FROM project_videos WHERE video_id = 'e'")
    assert digest() == before


def test_a_project_without_videos_says_what_to_do(project: Project):
    with pytest.raises(DataminerError, match="project q has no videos yet"):
        project.targets().left("q", "filter")


def seen(project: Project, videos: str, when: float) -> None:
    """Have a model's file of each of these videos there, last changed then."""
    for video in videos:
        finished_videos.make(project.root / "seen" / video, when)


def unseen(project: Project, models: tuple[Path, ...] = (), **options: Any) -> str:
    everyone = options.pop("everyone", False)
    found = project.targets(**options).unseen(
        ["p"], lambda video: [project.root / "seen" / video], models, everyone=everyone
    )
    return "".join(found)


def test_models_look_at_what_is_to_be_filtered_and_was_not_seen(project: Project):
    late = finished_videos.BEGAN + 1000
    assert unseen(project) == ""  # nothing is to be filtered
    assert unseen(project, planned_whole=4) == ""
    stricter = {"filter": {"min_contrast": 0.5}}
    assert unseen(project, **stricter) == "abcd"
    seen(project, "abc", late)
    assert unseen(project, **stricter) == "d"
    finished_videos.make(project.result("extract", "b"), late + 1)
    assert unseen(project, **stricter) == "bd"
    # frames that will be taken out anew, though what was seen of the old ones is younger
    assert unseen(project, extract={"quality": 80}) == "abcd"
    assert unseen(project, whole=True) == "abcd"


def test_models_look_again_when_their_files_are_newer_or_not_there_yet(project: Project):
    late = finished_videos.BEGAN + 1000
    stricter = {"filter": {"min_contrast": 0.5}}
    seen(project, "abcd", late)
    model = project.root / "model"
    assert unseen(project, (model,), **stricter) == "abcd"
    finished_videos.make(model, late - 1)
    assert unseen(project, (model,), **stricter) == ""
    finished_videos.make(model, late + 1)
    assert unseen(project, (model,), **stricter) == "abcd"


def test_a_later_stage_that_needs_it_has_models_look_at_every_video_but_failed_ones(
    project: Project,
):
    seen(project, "a", finished_videos.BEGAN + 1000)
    assert unseen(project, everyone=True) == "bcd"
    project.set(f"UPDATE videos SET status = 'FAILED', {ERROR} WHERE video_id = 'c'")
    assert unseen(project, everyone=True) == "bd"
