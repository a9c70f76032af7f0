"""Projects mined by the real workflow, on real files, with the real database."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from dataminer.config import load
from dataminer.planning import plan
from dataminer.sync.jobs import results
from tests.support import videos
from tests.support.site import Site, counters, jobs, recount, stage

PER_VIDEO = {"download": 4, "extract": 4, "filter": 4}
PROJECT = {"dedup": 1, "detect": 1, "report": 1, "all": 1}


def test_one_run_completes_a_project_with_an_unusable_video(
    first_run: tuple[Site, CompletedProcess[str]],
) -> None:
    site, done = first_run
    assert jobs(done) == {**PER_VIDEO, **PROJECT}
    assert stage(site, "birds") == "COMPLETE"
    assert counters(site, "birds") == recount(site, "birds")
    failed = dict(
        site.rows(
            "SELECT split_part(video_id, '-', 1), error_class FROM videos WHERE status = 'FAILED'"
        )
    )
    assert failed == {"audio": "no_video"}
    ((error,),) = site.rows("SELECT error FROM videos WHERE error <> ''")
    assert "Next: " in error
    assert "no_video" in done.stderr
    assert "FAILED" in done.stderr
    assert site.rows("SELECT count(*) FROM project_videos WHERE status = 'FAILED'") == [(1,)]


def test_a_cut_off_video_yields_the_frames_before_the_cut_with_a_warning(
    first_run: tuple[Site, CompletedProcess[str]],
) -> None:
    site, _ = first_run
    ((cut, warning, status),) = site.rows(
        "SELECT frame_count, warning, status FROM videos WHERE video_id LIKE 'cut-%'"
    )
    ((whole,),) = site.rows("SELECT frame_count FROM videos WHERE video_id LIKE 'cars-%'")
    assert status == "EXTRACTED"
    assert 1 < cut < whole
    assert "truncated" in warning


def test_every_rule_leaves_a_log_and_a_dataset_its_benchmarks(
    first_run: tuple[Site, CompletedProcess[str]],
) -> None:
    site, _ = first_run
    for rule, count in PER_VIDEO.items():
        assert len(list((site.folder / "logs" / rule).rglob("*-*/*.log"))) == count
    for rule in ("dedup", "detect", "report"):
        assert (site.folder / "logs" / rule / "birds.log").is_file()
        assert (site.folder / "logs/benchmarks" / rule / "birds.tsv").is_file()
    # videos with something to tell have a log of their own
    (own,) = (site.folder / "logs" / "download").glob("*.log")
    assert own.name.startswith("audio-")
    assert "no video stream" in own.read_text()


def test_status_tells_people_and_programs_and_changes_nothing(
    first_run: tuple[Site, CompletedProcess[str]],
) -> None:
    site, _ = first_run
    before = site.dump(), site.listing()
    table = site.dataminer("status").stdout
    assert "birds" in table
    assert "COMPLETE" in table
    ((warning,),) = site.rows("SELECT warning FROM videos WHERE warning IS NOT NULL")
    assert "truncated" in warning
    assert warning[:20] in table
    reported = json.loads(site.dataminer("status", "--json").stdout)
    assert reported["projects"][0]["stage"] == "COMPLETE"
    assert {failure["error_class"] for failure in reported["failures"]} == {"no_video"}
    assert reported["claims"] == []
    missing = site.dataminer("status", "--project", "fish")
    assert missing.returncode == 1
    assert "there is no project fish" in missing.stderr
    assert (site.dump(), site.listing()) == before


def test_the_contact_sheet_is_a_picture(first_run: tuple[Site, CompletedProcess[str]]) -> None:
    import cv2

    site, _ = first_run
    sheet = cv2.imread(str(site.folder / "data/projects/birds/report/contact_sheet.jpg"))
    assert sheet is not None
    assert min(sheet.shape[:2]) > 200


def test_the_report_tells_what_became_of_everything(
    first_run: tuple[Site, CompletedProcess[str]],
) -> None:
    site, _ = first_run
    page = (site.folder / "data/projects/birds/report/index.html").read_text()
    total, *_, extracted, passed, unique, objects = counters(site, "birds")
    assert f"{extracted:,} extracted, {passed:,} good enough, {unique:,} unique" in page
    assert f"{objects:,} objects in" in page
    assert f"{total:,} videos, results of" in page
    assert "<code>no_video</code>" in page
    for rule in ("download", "extract", "filter", "dedup", "detect"):
        assert f"<td>{rule}</td>" in page
    assert "could not be read" not in page


def test_another_project_of_the_same_run_downloads_and_extracts_nothing_again(mined: Site) -> None:
    config = mined.config()
    cars = config["input"]["files"][0]
    mined.configure(**{**config, "project": "fish", "input": {"files": [cars]}})
    mined.populate()
    mined.configure(**config)
    central = {**mined.listing("data/videos"), **mined.listing("data/frames")}
    done = mined.mine("--config", "projects=[birds,fish]")
    assert jobs(done) == {"filter": 1, **PROJECT}
    assert {**mined.listing("data/videos"), **mined.listing("data/frames")} == central
    for project in ("birds", "fish"):
        assert stage(mined, project) == "COMPLETE"
        assert counters(mined, project) == recount(mined, project)


@pytest.mark.parametrize(
    ("changes", "expected", "printed"),
    [
        ({"dedup": {"threshold": 2}}, PROJECT, "dedup of project birds: due (made with other"),
        (
            {"detect": {"confidence": 0.9}},
            {"detect": 1, "report": 1, "all": 1},
            "detect of project birds: due (made with other settings: detect.confidence 0.",
        ),
        (
            {"extract": {"every_seconds": 2.0}},
            {"extract": 3, "filter": 3, **PROJECT},
            "dedup of project birds: due (after filter)",
        ),
        # what decides no result
        (
            {
                "detect": {"batch": 3},
                "monitor": {"max_attempts": 5},
                "extract": {"every_frames": 7},
            },
            {},
            "failed",
        ),
    ],
    ids=["dedup", "detect", "extract", "none"],
)
def test_a_changed_setting_reruns_what_it_touches(
    mined: Site,
    changes: dict[str, dict[str, float]],
    expected: dict[str, int],
    printed: str,
) -> None:
    config = mined.config()
    for section, values in changes.items():
        config[section] = {**config.get(section, {}), **values}
    mined.configure(**config)
    planned = mined.snakemake("-n")
    assert jobs(planned) == expected
    assert printed in planned.stdout


def cut(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])


READ = {"dedup": results.read_dedup, "detect": results.read_detect}
DAMAGED: list[tuple[str, Callable[[Path], object]]] = [
    ("dedup", lambda folder: cut(folder / "frames.parquet", 0.9)),
    ("dedup", lambda folder: cut(folder / "clusters.parquet", 0)),
    ("dedup", lambda folder: min(folder.glob("*.jpg")).unlink()),
    ("detect", lambda folder: cut(folder / "annotations.json", 0.01)),
    ("detect", lambda folder: cut(folder / "annotations.json", 0.5)),
    ("detect", lambda folder: shutil.rmtree(folder / "labels")),
    ("detect", lambda folder: min((folder / "images").iterdir()).unlink()),
    ("detect", lambda folder: (folder / "data.yaml").unlink()),
]


def test_a_damaged_dataset_is_due(mined: Site, tmp_path: Path) -> None:
    project = mined.folder / "data" / "projects" / "birds"
    with mined.inside():
        config = load(mined.config())
        assert plan(config, ["birds"]).reasons()[0].startswith("download: 1 failed")
        changed = {"extract": {"every_seconds": 2.0}, "dedup": {"threshold": 2}}
        printed = plan(load({**mined.config(), **changed}), ["birds"]).reasons()
        after = "dedup of project birds: due (after filter, made with other settings: dedup.thresh"
        assert any(line.startswith(after) for line in printed)
        for name, damage in DAMAGED:
            whole = tmp_path / "whole"
            shutil.copytree(project / name, whole)
            damage(project / name)
            assert plan(config, ["birds"]).reasons()[0] == f"{name} of project birds: due (lost)"
            assert READ[name](project / name) is None, "its job would have nothing to do"
            shutil.rmtree(project / name)
            whole.rename(project / name)
    cut(project / "dedup" / "frames.parquet", 0.9)
    assert jobs(mined.snakemake("-n")) == PROJECT


def test_a_stricter_filter_passes_fewer_frames_and_leaves_the_videos_alone(mined: Site) -> None:
    config = mined.config()
    config["filter"] = {"min_sharpness": 10}
    mined.configure(**config)
    central = {**mined.listing("data/videos"), **mined.listing("data/frames")}
    assert jobs(mined.mine()) == {"filter": 3, **PROJECT}
    assert {**mined.listing("data/videos"), **mined.listing("data/frames")} == central
    assert mined.rows("SELECT status, count(*) FROM project_videos GROUP BY 1 ORDER BY 1") == [
        ("FAILED", 1),
        ("FILTERED_EMPTY", 3),
    ]
    assert stage(mined, "birds") == "COMPLETE"
    assert counters(mined, "birds") == recount(mined, "birds")


def test_a_project_of_failed_videos_only_ends_with_a_sentence(mined: Site, footage: Path) -> None:
    failing = {"files": [str(footage / "audio.m4a")]}
    mined.configure(**{**mined.config(), "project": "none", "input": failing})
    mined.populate()
    done = mined.snakemake("-c2", "--retries", "0")
    assert done.returncode != 0
    assert "all 1 videos of project none failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"none\W+FILTERING\W", done.stderr), "a run that failed shows the status too"
    assert stage(mined, "none") == "FILTERING"
    assert counters(mined, "none")[:5] == (1, 0, 0, 0, 1)


def test_a_target_stops_after_its_stage(site: Site, tmp_path: Path) -> None:
    """The other targets are made by the tests of the tube, of models and of `sync`."""
    clip = videos.make_video(tmp_path / "clip.mp4", frames=5)
    site.configure(project="part", input={"files": [str(clip)]})
    site.populate()
    planned = site.snakemake("-n", "only_extract")
    assert jobs(planned) == {"download": 1, "extract": 1, "only_extract": 1}
