"""Frames by recipe: they never change, projects share them, and they outlive their source."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataminer import planning
from dataminer.config import Config, load
from dataminer.errors import DataminerError, ErrorClass, PermanentError
from dataminer.frames.images import ARCHIVE_FILE, FrameReader
from dataminer.frames.table import FRAMES_FILE, read_meta, read_table, write_table
from dataminer.monitor import status
from dataminer.planning.verdicts import KEPT
from dataminer.provenance import recipes
from dataminer.stages.extract.outcome import ExtractOutcome
from dataminer.store.layout import Store
from dataminer.sync.claims import claim_end, projects, stage_rows
from dataminer.sync.deletion import orphans
from dataminer.sync.jobs import candidate_frames
from dataminer.sync.jobs.download import download_video
from dataminer.sync.jobs.extract import extract_video, link_frames
from dataminer.sync.jobs.failures import FramesLost
from dataminer.sync.jobs.filter import filter_video
from dataminer.sync.repair import reconcile, retry_command
from dataminer.sync.repair.record_results import record_results
from dataminer.sync.tasks.task import TaskOptions
from tests.support import rows, stores, videos
from tests.support.postgres import execute
from tests.support.rows import force

SELDOM, RARE, OFTEN = ({"every_seconds": seconds} for seconds in (2.0, 1.0, 0.5))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return Store(Path("data"))


@pytest.fixture
def clip(database: str, store: Store) -> Path:
    """A video of two seconds in projects p and q."""
    made = videos.make_video(Path("clip.mp4").absolute(), frames=50, size=(96, 64))
    rows.add("p", "v", url=str(made))
    rows.add("q", "v", url=str(made))
    return made


def config(project: str, extract: dict[str, Any], **more: Any) -> Config:
    settings = {"project": project, "extract": extract, "filter": {"min_sharpness": 0}}
    return load({**settings, **more})


def mine(project: str, extract: dict[str, Any], **more: Any) -> Config:
    """Make what a plan calls due of a project's video; return the configuration."""
    used = config(project, extract, **more)
    record_results(used)
    found = plan(used)
    for stage, job in (("download", download_video), ("extract", extract_video)):
        if found.due(stage):
            job(used, "v")
    if found.due("filter", project):
        filter_video(used, project, "v")
    projects.refresh_named(["p", "q"])
    return used


def plan(used: Config) -> planning.Plan:
    return planning.plan(used, used.project_names, upto="filter")


def due(used: Config) -> list[str]:
    """Return the stages that a plan calls due of the video."""
    found = plan(used)
    due_line = [stage for stage in ("download", "extract") if found.due(stage)]
    return due_line + ["filter" for project in used.project_names if found.due("filter", project)]


def times(folder: Path) -> list[float]:
    """Return when a folder's frames are shown; each image is there."""
    assert not FrameReader(folder).missing_images()
    shown: list[float] = read_table(folder / FRAMES_FILE)["pts_time"].to_pylist()
    return shown


def row(url: str, *columns: str) -> tuple[Any, ...]:
    found: tuple[Any, ...] = execute(url, f"SELECT {', '.join(columns)} FROM videos")[0]
    return found


def recipe_of(url: str, project: str) -> str:
    """Return from which frames a project has chosen."""
    query = "SELECT filtered_from FROM project_videos JOIN projects USING (project_id)"
    found: str = execute(url, f"{query} WHERE name = '{project}'")[0][0]
    return found


def source_is_gone(store: Store, clip: Path) -> None:
    clip.unlink()
    for media in store.video("v").glob("*.mp4"):
        media.unlink()


# ---- two projects ------------------------------------------------------------------------------


def test_each_project_has_frames_of_its_own_settings(
    database: str, store: Store, clip: Path
) -> None:
    p, q = mine("p", RARE), mine("q", OFTEN)
    assert times(store.filtered("p", "v")) == [0, 1]
    assert times(store.filtered("q", "v")) == [0, 0.52, 1, 1.52]
    made = {project: store.recipe("v", recipe_of(database, project)) for project in "pq"}
    assert times(made["p"]) == [0, 1]
    assert times(made["q"]) == [0, 0.52, 1, 1.52]
    assert row(database, "frames_dir", "frame_count") == (str(made["q"]), 4), "it names the newest"
    counts = "SELECT name, extracted_frames, filtered_frames FROM projects ORDER BY 1"
    assert execute(database, counts) == [("p", 2, 2), ("q", 4, 4)]
    assert (due(p), due(q)) == ([], [])
    assert not plan(p).to_adopt
    assert times(recipes.of_project(store, "p", "v")) == [0, 1]
    link = store.frames("v") / FRAMES_FILE
    assert link.readlink() == Path(made["q"].name, FRAMES_FILE), "and leads a person there"


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The notes of whatever is extracted next; a test changes them."""
    notes: dict[str, int] = {}
    monkeypatch.setattr(ExtractOutcome, "notes", property(lambda _: dict(notes)))
    return notes


def notes_of(project: str) -> dict[str, int]:
    return {note["kind"]: note["count"] for note in status.snapshot([project]).notes}


def test_each_project_counts_the_notes_of_its_own_frames(
    database: str, store: Store, clip: Path, noted: dict[str, int]
) -> None:
    noted |= {"torn_slices": 2, "tone_mapped": 2}
    mine("p", RARE)
    assert row(database, "notes") == ({"torn_slices": 2, "tone_mapped": 2},)
    noted |= {"torn_slices": 0, "tone_mapped": 4}
    extract_video(config("q", OFTEN), "v")
    assert notes_of("q") == {"tone_mapped": 4}, "of the newest frames until it has chosen"
    mine("q", OFTEN)
    assert notes_of("p") == {"torn_slices": 2, "tone_mapped": 2}
    assert notes_of("q") == {"tone_mapped": 4}
    assert read_meta(store.filtered("p", "v") / FRAMES_FILE)["notes"]["torn_slices"] == 2


def test_notes_follow_the_files(
    database: str, store: Store, clip: Path, noted: dict[str, int]
) -> None:
    noted |= {"lost_packets": 3}
    mine("p", RARE)
    for table in ("project_videos", "videos", "projects"):
        execute(database, f"DELETE FROM {table}")
    reconcile.reconcile(store, ["p"], stores.CALM)
    assert row(database, "status", "notes") == ("EXTRACTED", {"lost_packets": 3})
    assert execute(database, "SELECT source_notes FROM project_videos") == [({"lost_packets": 3},)]
    shutil.rmtree(store.frames("v"))
    reconcile.reconcile(store, ["p"], stores.CALM)
    assert row(database, "status", "warning", "notes") == ("DOWNLOADED", None, {})
    assert notes_of("p") == {}


def test_a_video_that_fails_later_has_no_notes(
    database: str, store: Store, clip: Path, noted: dict[str, int]
) -> None:
    noted |= {"lost_packets": 3}
    mine("p", RARE)
    assert row(database, "warning", "notes") == ("3 packets gave no frame", noted)
    mine("p", {**RARE, "max_megapixels": 0.001})
    assert row(database, "status", "warning", "notes") == ("FAILED", None, {})
    assert notes_of("p") == notes_of("q") == {}


def test_who_wants_the_same_shares_it(database: str, store: Store, clip: Path) -> None:
    mine("p", RARE)
    lease = row(database, "lease")
    q = config("q", RARE)
    assert due(q) == ["filter"]
    extract_video(q, "v")
    mine("q", RARE)
    assert row(database, "lease") == lease
    assert len(recipes.of_video(store, "v")) == 1
    assert not (store.frames("v") / FRAMES_FILE).exists(), "who has one sees where it is"
    mine("q", OFTEN)
    assert due(config("q", RARE)) == ["filter"], "the frames are there"
    mine("q", RARE)
    assert recipe_of(database, "p") == recipe_of(database, "q")


def test_what_another_project_makes_of_a_video_holds_nobody_up(
    database: str, store: Store, clip: Path
) -> None:
    p = mine("p", RARE)
    for stage in (stage_rows.EXTRACT, stage_rows.DOWNLOAD):
        held = rows.held(stage, video_id="v")
        assert due(p) == [], stage.name
        filter_video(p, "p", "v", TaskOptions(forced=True))
        claim_end.release(held, error="no answer", error_class="network", counts=False, wait=3600)
        assert due(p) == [], stage.name
        filter_video(p, "p", "v", TaskOptions(forced=True))
    assert times(store.filtered("p", "v")) == [0, 1]
    projects.refresh_named(["p"])
    assert execute(database, "SELECT videos_extracted, videos_pending FROM projects"
                   " WHERE name = 'p'") == [(1, 0)]  # fmt: skip


def test_a_failure_with_some_settings_is_none_with_others(
    database: str, store: Store, clip: Path
) -> None:
    p = mine("p", RARE)
    q = mine("q", {**RARE, "max_megapixels": 0.001})
    assert row(database, "status") == ("FAILED",)
    assert (due(p), due(q)) == ([], [])
    filter_video(p, "p", "v", TaskOptions(forced=True))
    found = "SELECT name, videos_failed, videos_extracted FROM projects ORDER BY 1"
    projects.refresh_named(["p", "q"])
    assert execute(database, found) == [("p", 0, 1), ("q", 1, 0)]
    mine("q", RARE)
    assert due(q) == ["filter"], "what failed is not tried again"


def test_status_counts_videos_of_other_settings_by_project(
    database: str, store: Store, clip: Path
) -> None:
    mine("p", RARE)
    mine("q", OFTEN)
    for project, settings, counted in (
        ("p", RARE, []),
        ("q", OFTEN, []),
        ("p", OFTEN, [{"project": "p", "stage": "extract", "videos": 1}]),
        ("q", RARE, [{"project": "q", "stage": "extract", "videos": 1}]),
    ):
        used = config(project, settings)
        assert status.snapshot([project], [used]).other_settings == counted


def test_a_plan_tells_of_a_second_set_of_frames(database: str, store: Store, clip: Path) -> None:
    mine("p", RARE)
    size = sum(path.stat().st_size for path in recipes.of_project(store, "p", "v").iterdir())
    found = plan(config("p", OFTEN))
    assert (found.second_frames.videos, found.second_frames.bytes) == (1, size)
    (line,) = [line for line in found.reasons() if "which stay" in line]
    assert line.startswith("extract: 1 due beside frames of other settings, which stay (about 0.0")
    assert plan(config("p", RARE)).second_frames.videos == 0


def test_reasons_are_about_what_the_project_has(database: str, store: Store, clip: Path) -> None:
    mine("p", RARE)
    assert plan(config("q", OFTEN)).videos["extract"]["v"].reason == "new", "q has none yet"
    mine("q", OFTEN)
    the_reason = plan(config("p", SELDOM)).videos["extract"]["v"].reason
    assert the_reason == "made with other settings: extract.every_seconds 1.0 -> 2.0"
    mine("p", SELDOM)
    the_reason = plan(config("p", RARE)).members["p"]["v"].reason
    assert the_reason == "made with other settings: extract.every_seconds 2.0 -> 1.0"


# ---- frames outlive their source ---------------------------------------------------------------


def test_new_settings_keep_the_frames_of_a_source_that_is_gone(
    database: str, store: Store, clip: Path
) -> None:
    mine("p", RARE)
    source_is_gone(store, clip)
    before = times(store.filtered("p", "v"))
    assert due(config("p", OFTEN)) == ["download", "extract", "filter"]
    p = mine("p", OFTEN)
    assert row(database, "status", "error_class", "frame_count") == (
        "EXTRACTED", "missing_source", 2,
    )  # fmt: skip
    assert times(store.filtered("p", "v")) == before
    found = plan(p)
    assert (due(p), found.videos["extract"]["v"].reason) == ([], KEPT)
    assert any("extract: 1 done with the frames that there are" in r for r in found.reasons())
    assert mine("q", RARE) and times(store.filtered("q", "v")) == before
    assert mine("q", OFTEN) and times(store.filtered("q", "v")) == before


def test_a_project_keeps_its_own_frames_not_those_of_another(
    database: str, store: Store, clip: Path
) -> None:
    mine("p", RARE)
    mine("q", OFTEN)
    source_is_gone(store, clip)
    p = mine("p", SELDOM)
    assert times(store.filtered("p", "v")) == [0, 1]
    assert (due(p), plan(p).frames) == ([], {"v": (recipe_of(database, "p"),)})
    p = mine("p", SELDOM, filter={"min_sharpness": 0, "max_brightness": 0.99})
    assert times(store.filtered("p", "v")) == [0, 1]
    p = mine("p", OFTEN)
    assert plan(p).videos["extract"]["v"].reason == "", "these are there"
    assert times(store.filtered("p", "v")) == [0, 0.52, 1, 1.52]


def test_a_project_without_frames_of_its_own_takes_those_that_there_are(
    database: str, store: Store, clip: Path
) -> None:
    mine("p", RARE)
    mine("q", OFTEN)
    source_is_gone(store, clip)
    mine("q", SELDOM)
    (recipes.of_project(store, "p", "v") / FRAMES_FILE).write_bytes(b"")
    assert due(config("p", RARE)) == [], "nothing needs them"
    p = mine("p", RARE, filter={"min_sharpness": 0, "max_brightness": 0.99})
    assert times(store.filtered("p", "v")) == [0, 0.52, 1, 1.52]
    assert due(p) == []


def test_what_another_project_cannot_have_costs_a_finished_one_nothing(
    database: str, store: Store, clip: Path
) -> None:
    """All but the filtered frames was deleted to save space."""
    p = mine("p", RARE)
    source_is_gone(store, clip)
    shutil.rmtree(store.frames("v"))
    assert due(p) == []
    mine("q", OFTEN)
    assert row(database, "status", "error_class") == ("FAILED", "missing_source")
    assert due(p) == []
    mine("p", RARE)
    assert times(store.filtered("p", "v")) == [0, 1]
    projects.refresh_named(["p", "q"])
    counts = (
        "SELECT name, videos_extracted, videos_failed, extracted_frames FROM projects ORDER BY 1"
    )
    assert execute(database, counts) == [("p", 1, 0, 2), ("q", 0, 1, 0)]


def test_a_refusal_of_another_project_is_none_of_this_one(
    database: str, store: Store, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermanentError("not for everybody", ErrorClass.POLICY)

    p = mine("p", RARE)
    for media in store.video("v").glob("*.mp4"):
        media.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("dataminer.stages.download.stage.download", refuse)
        mine("q", OFTEN)
    assert row(database, "status", "error_class") == ("FAILED", "policy")
    assert due(p) == []
    filter_video(p, "p", "v", TaskOptions(forced=True))
    assert times(store.filtered("p", "v")) == [0, 1]


def test_what_is_kept_stays_if_it_is_forced(database: str, store: Store, clip: Path) -> None:
    mine("p", RARE)
    source_is_gone(store, clip)
    for used in (config("p", RARE), p := config("p", OFTEN)):
        for job in (download_video, extract_video):
            job(used, "v", TaskOptions(forced=True))
        assert times(recipes.of_project(store, "p", "v")) == [0, 1]
    assert row(database, "status", "frame_count") == ("EXTRACTED", 2)
    (warning,) = status.snapshot(["p"], [p]).warnings
    assert warning["warning"].startswith("keeps its frames of other settings: ")
    assert "clip.mp4 is not there. Next: once that is fixed, `dataminer retry" in warning["warning"]
    assert status.snapshot(["p"], [config("p", RARE)]).warnings == []
    assert status.snapshot(["p"], [p]).other_settings == []
    assert status.snapshot(["p"], [p]).to_retry == []


def test_a_file_that_cannot_be_fetched_again_stays(database: str, store: Store, clip: Path) -> None:
    mine("p", RARE)
    clip.unlink()
    download_video(config("p", RARE), "v", TaskOptions(forced=True))
    assert row(database, "status", "error") == ("DOWNLOADED", None)
    p = mine("p", OFTEN)
    assert times(store.filtered("p", "v")) == [0, 0.52, 1, 1.52]
    assert due(p) == []


def test_what_was_kept_is_made_anew_once_its_source_is_back(
    database: str, store: Store, clip: Path
) -> None:
    mine("p", RARE)
    aside = clip.rename(clip.with_suffix(".aside"))
    source_is_gone(store, aside.rename(clip))
    p = mine("p", OFTEN)
    videos.make_video(clip, frames=50, size=(96, 64))
    assert due(p) == []
    (retried, *_) = retry_command.retry(store=store)
    assert (retried.video_id, retried.was) == ("v", "EXTRACTED")
    mine("p", OFTEN)
    assert row(database, "status", "error") == ("EXTRACTED", None)
    assert times(store.filtered("p", "v")) == [0, 0.52, 1, 1.52]


def test_a_source_that_is_gone_and_has_no_frames_is_failed(
    database: str, store: Store, clip: Path
) -> None:
    clip.unlink()
    download_video(config("p", RARE), "v")
    assert row(database, "status", "error_class") == ("FAILED", "missing_source")


def test_a_refusal_is_no_reason_to_keep_frames(
    database: str, store: Store, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermanentError("not for everybody", ErrorClass.POLICY)

    mine("p", RARE)
    monkeypatch.setattr("dataminer.stages.download.stage.download", refuse)
    download_video(config("p", RARE), "v", TaskOptions(forced=True))
    assert row(database, "status", "error_class") == ("FAILED", "policy")


def test_frames_that_are_lost_are_made_again_of_their_own_settings(
    database: str, store: Store, clip: Path
) -> None:
    p, q = mine("p", RARE), mine("q", OFTEN)
    lost = recipes.of_project(store, "p", "v")
    next(lost.glob("*.jpg")).unlink()
    shutil.rmtree(store.filtered("p", "v"))
    with pytest.raises(FramesLost):
        filter_video(p, "p", "v", TaskOptions(forced=True))
    assert due(p) == ["extract", "filter"]
    assert due(q) == []
    mine("p", RARE)
    assert times(lost) == [0, 1]


def a_day_later(*paths: Path) -> None:
    then = time.time() - 25 * 3600
    for path in (each for given in paths for each in (*given.rglob("*"), given)):
        os.utime(path, (then, then))


def test_frames_that_are_lost_and_not_the_newest_are_made_again(
    database: str, store: Store, clip: Path
) -> None:
    mine("p", RARE)
    mine("q", OFTEN)
    rows.add("p2", "v", url=str(clip))
    next(recipes.of_project(store, "p", "v").glob("*.jpg")).unlink()
    both = load({**config("p", RARE).model_dump(), "projects": ["p", "p2"], "project": None})
    with pytest.raises(FramesLost):
        filter_video(both, "p2", "v")
    assert plan(both).due("extract") == ["v"]
    extract_video(both, "v")
    filter_video(both, "p2", "v")
    assert due(both) == []
    assert times(store.filtered("p2", "v")) == [0, 1]


def test_a_damaged_table_that_is_not_the_newest_is_made_again(
    database: str, store: Store, clip: Path
) -> None:
    mine("p", RARE)
    mine("q", OFTEN)
    (recipes.of_project(store, "p", "v") / FRAMES_FILE).write_bytes(b"")
    other = {"min_sharpness": 0, "max_brightness": 0.99}
    p = mine("p", RARE, filter=other)
    assert due(p) == []
    assert times(recipes.of_project(store, "p", "v")) == [0, 1]


# ---- what no project uses ----------------------------------------------------------------------


def test_what_no_project_uses_is_found_and_deleted(database: str, store: Store, clip: Path) -> None:
    mine("p", RARE)
    mine("p", OFTEN)
    unused = [store.recipe("v", name) for name in recipes.of_video(store, "v")][1:]
    assert orphans.find_orphans(store).unused == (), "q has not chosen yet"
    mine("q", OFTEN)
    found = orphans.find_orphans(store)
    assert (found.unused, found.recent) == ((), (*unused,)), "a run may be about to choose from it"
    seen = store.embeddings("siglip-0123", "v", unused[0].name)
    seen.parent.mkdir(parents=True)
    seen.touch()
    a_day_later(unused[0], seen)
    found = orphans.find_orphans(store)
    assert found.unused == (*unused, seen)
    assert orphans.delete_files(found) == [*unused, seen]
    assert (due(config("p", OFTEN)), due(config("p", RARE))) == ([], ["extract", "filter"])
    assert reconcile.reconcile(store, None, stores.CALM, deep=True).repairs == []


def test_a_row_names_other_frames_once_those_it_names_are_deleted(
    database: str, store: Store, clip: Path, noted: dict[str, int]
) -> None:
    for number, settings in enumerate((RARE, OFTEN, RARE)):
        noted["lost_packets"] = number
        mine("p", settings)
    mine("q", RARE)
    assert row(database, "warning", "notes") == ("1 packet gave no frame", {"lost_packets": 1})
    newest = Path(row(database, "frames_dir")[0])
    assert times(newest) == [0, 0.52, 1, 1.52]
    a_day_later(newest)
    orphans.delete_files(orphans.find_orphans(store))
    left = store.recipe("v", recipe_of(database, "p"))
    assert row(database, "frames_dir", "frame_count") == (str(left), 2)
    assert row(database, "warning", "notes") == (None, {"lost_packets": 0})
    assert due(config("p", RARE)) == []


def test_what_an_older_dump_does_not_know_of_is_used_all_the_same(
    database: str, store: Store, clip: Path
) -> None:
    for project in "pq":
        mine(project, {**RARE, "frame_store": "tar"})
    before = recipe_of(database, "p")
    for project in "pq":
        mine(project, {**OFTEN, "frame_store": "tar"})
    execute(database, f"UPDATE project_videos SET filtered_from = '{before}'")
    a_day_later(store.frames("v"))
    assert orphans.find_orphans(store).unused == ()


def test_images_without_a_table_are_found(database: str, store: Store, clip: Path) -> None:
    for settings in (OFTEN, RARE):
        mine("p", settings)
        mine("q", settings)
    (folder,) = (store.recipe("v", name) for name in recipes.of_video(store, "v")[1:])
    (folder / FRAMES_FILE).unlink()
    a_day_later(folder)
    assert orphans.find_orphans(store).unused == (folder,)


# ---- the layout before recipes -----------------------------------------------------------------


def flatten(store: Store) -> None:
    """Have the frames lie as older versions left them, and the row know no more than then."""
    folder = store.frames("v")
    (recipe,) = (folder / name for name in recipes.of_video(store, "v"))
    recipe.rename(folder.with_name("aside"))
    folder.rmdir()
    folder.with_name("aside").rename(folder)
    for table in folder.parents[1].glob(f"projects/*/filtered/v/{FRAMES_FILE}"):
        meta = read_meta(table)
        if "archive" in meta:
            path = meta["archive"]["path"].replace(f"/{recipe.name}/", "/")
            meta["archive"]["path"] = path
            rows_of = read_table(table)
            write_table(table, rows_of, rows_of.schema, meta)


OLDER = "UPDATE videos SET sha256 = NULL"


@pytest.mark.parametrize("kind", ["files", "tar"])
def test_the_layout_before_recipes_is_taken_over(
    database: str, store: Store, clip: Path, kind: str
) -> None:
    settings = {**RARE, "frame_store": kind}
    mine("p", settings)
    flatten(store)
    execute(database, OLDER)
    images = {path.name: path.stat().st_ino for path in store.frames("v").iterdir()}
    p = config("p", settings)
    assert due(p) == []
    assert plan(p).to_adopt
    assert times(recipes.of_project(store, "p", "v")) == [0, 1], "readers find them meanwhile"
    record_results(p)
    (recipe,) = recipes.of_video(store, "v")
    folder = store.recipe("v", recipe)
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == images, "nothing copied"
    assert times(store.filtered("p", "v")) == [0, 1]
    assert (due(p), plan(p).to_adopt) == ([], False)
    assert row(database, "frames_dir", "sha256 IS NULL") == (str(folder), False)
    assert (store.frames("v") / ARCHIVE_FILE).is_symlink() is (kind == "tar")
    assert reconcile.reconcile(store, None, stores.CALM, deep=True).repairs == []


def _killed_at_first(store: Store) -> None:
    store.frames("v").rename(store.frames("v").with_name(".v.moving"))


def _killed_then(store: Store) -> None:
    _killed_at_first(store)
    store.frames("v").mkdir()


def _a_link_is_in_the_way(store: Store) -> None:
    store.frames("v").with_name(".v.moving").symlink_to(store.root)


@pytest.mark.parametrize("killed", [_killed_at_first, _killed_then, _a_link_is_in_the_way])
def test_a_takeover_that_was_killed_goes_on(
    database: str, store: Store, clip: Path, killed: Callable[[Store], None]
) -> None:
    mine("p", RARE)
    flatten(store)
    execute(database, OLDER)
    killed(store)
    p = config("p", RARE)
    assert due(p) == []
    mine("p", RARE)
    assert times(recipes.of_project(store, "p", "v")) == [0, 1]
    assert not list(store.frames("v").parent.glob(".*"))


def test_older_frames_of_other_settings_are_moved_as_well(
    database: str, store: Store, clip: Path
) -> None:
    mine("p", RARE)
    flatten(store)
    execute(database, OLDER)
    assert plan(config("p", OFTEN)).second_frames.videos == 1
    extract_video(config("p", OFTEN), "v")
    assert len(recipes.of_video(store, "v")) == 2
    mine("p", RARE)
    assert times(store.filtered("p", "v")) == [0, 1]
    assert row(database, "frame_count") == (4,)


@pytest.mark.parametrize("older", [b"", b"PAR1 no"])
def test_an_older_table_that_is_damaged_stops_nobody(
    database: str, store: Store, clip: Path, older: bytes
) -> None:
    mine("p", RARE)
    flatten(store)
    execute(database, OLDER)
    (store.frames("v") / FRAMES_FILE).write_bytes(older)
    p = mine("p", RARE, filter={"min_sharpness": 0, "max_brightness": 0.99})
    assert due(p) == []
    assert times(recipes.of_project(store, "p", "v")) == [0, 1]


def test_a_takeover_that_was_killed_before_it_moved_an_archive_goes_on(
    database: str, store: Store, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    settings = {**RARE, "frame_store": "tar"}
    mine("p", settings)
    flatten(store)
    execute(database, OLDER)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recipes, "write_link", die)
        record_results(config("p", settings))
    p = mine("p", settings)
    assert times(store.filtered("p", "v")) == [0, 1]
    assert due(p) == []


def test_older_videos_that_failed_as_downloads_stay_so(
    database: str, store: Store, clip: Path
) -> None:
    aside = clip.rename(clip.with_suffix(".aside"))
    p = config("p", RARE)
    download_video(p, "v")
    extract_video(p, "v")  # passes the failure on
    filter_video(p, "p", "v")
    before = plan(p).videos
    flatten(store)
    execute(database, OLDER)
    record_results(p)
    assert (plan(p).videos, plan(p).to_adopt) == (before, False)
    assert row(database, "extracted_with", "extract_fingerprint") == (None, None)
    aside.rename(clip)
    retry_command.retry(store=store)
    mine("p", RARE)
    assert times(store.filtered("p", "v")) == [0, 1]


def test_older_frames_of_a_row_that_waits_outlive_their_source(
    database: str, store: Store, clip: Path
) -> None:
    mine("p", RARE)
    flatten(store)
    execute(database, OLDER)
    force(database, "UPDATE videos SET status = 'PENDING', error = 'x', error_class = 'network'")
    source_is_gone(store, clip)
    p = mine("p", OFTEN)
    assert row(database, "status", "error_class") == ("EXTRACTED", "missing_source")
    assert times(store.filtered("p", "v")) == [0, 1]
    assert due(p) == []


def test_sync_has_nothing_to_say_of_older_frames(database: str, store: Store, clip: Path) -> None:
    mine("p", RARE)
    flatten(store)
    execute(database, OLDER)
    for deep in (False, True):
        assert reconcile.reconcile(store, None, stores.CALM, deep=deep).repairs == []


# ---- by name -----------------------------------------------------------------------------------


def test_who_asks_by_name_is_led_to_the_frames_of_the_settings(
    database: str, store: Store, clip: Path
) -> None:
    p = mine("p", RARE)
    link = store.frames("v") / FRAMES_FILE
    link_frames(p, "v")
    assert read_table(link).num_rows == 2
    mine("q", OFTEN)
    assert read_table(link).num_rows == 4
    link_frames(p, "v")
    assert read_table(link).num_rows == 2
    shutil.rmtree(store.frames("v"))
    row_now = candidate_frames.read_candidates("v", session="test")
    assert row_now
    assert candidate_frames.frames_of(p, "v", row_now)[1] is None
    with pytest.raises(DataminerError):
        filter_video(p, "p", "v", TaskOptions(forced=True))
