"""Projects mined by the real workflow, on real files, with the real database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataminer.frames import FRAMES_FILE, read_meta
from tests.support import videos
from tests.support.site import Site, counters, jobs, recount, stage

PER_VIDEO = {"download": 5, "extract": 5, "filter": 5}


def test_one_run_completes_a_project_with_unusable_videos(first_run):
    site, done = first_run
    assert jobs(done) == {**PER_VIDEO, "dedup": 1, "detect": 1, "report": 1, "all": 1}
    assert stage(site, "birds") == "COMPLETE"
    assert counters(site, "birds") == recount(site, "birds")
    failed = dict(
        site.rows(
            "SELECT split_part(video_id, '-', 1), error_class FROM videos WHERE status = 'FAILED'"
        )
    )
    assert failed == {"empty": "empty", "audio": "no_video"}
    errors = [row[0] for row in site.rows("SELECT DISTINCT error FROM videos WHERE error <> ''")]
    assert len(errors) == 2
    assert all("Next: " in error for error in errors)
    assert "empty" in done.stderr
    assert "FAILED" in done.stderr
    assert site.rows("SELECT count(*) FROM project_videos WHERE status = 'FAILED'") == [(2,)]


def test_a_cut_off_video_yields_the_frames_before_the_cut_and_says_so(first_run):
    site, _ = first_run
    ((cut, warning, status),) = site.rows(
        "SELECT frame_count, warning, status FROM videos WHERE video_id LIKE 'cut-%'"
    )
    ((whole,),) = site.rows("SELECT frame_count FROM videos WHERE video_id LIKE 'cars-%'")
    assert status == "EXTRACTED"
    assert 1 < cut < whole
    assert "truncated" in warning
    assert warning[:20] in site.dataminer("status").stdout


def test_every_rule_leaves_a_log_and_a_benchmark(first_run):
    site, _ = first_run
    for rule, count in {**PER_VIDEO, "dedup": 1, "detect": 1, "report": 1}.items():
        assert len(list((site.folder / "logs" / rule).rglob("*.log"))) == count
        assert len(list((site.folder / "logs/benchmarks" / rule).rglob("*.tsv"))) == count


def test_status_tells_people_and_programs(first_run):
    site, _ = first_run
    table = site.dataminer("status").stdout
    assert "birds" in table
    assert "COMPLETE" in table
    told = json.loads(site.dataminer("status", "--json").stdout)
    assert told["projects"][0]["stage"] == "COMPLETE"
    assert {failure["error_class"] for failure in told["failures"]} == {"empty", "no_video"}
    assert told["claims"] == []
    missing = site.dataminer("status", "--project", "fish")
    assert missing.returncode == 1
    assert "there is no project fish" in missing.stderr


def test_the_contact_sheet_is_a_picture(first_run):
    import cv2

    site, _ = first_run
    sheet = cv2.imread(str(site.folder / "data/projects/birds/report/contact_sheet.jpg"))
    assert min(sheet.shape[:2]) > 200


def test_the_report_tells_what_became_of_everything(first_run):
    site, _ = first_run
    page = (site.folder / "data/projects/birds/report/index.html").read_text()
    total, *_, extracted, passed, unique, objects = counters(site, "birds")
    assert f"{extracted:,} extracted, {passed:,} good enough, {unique:,} unique" in page
    assert f"{objects:,} objects in" in page
    assert f"{total:,} videos, results of" in page
    for failure in ("empty", "no_video"):
        assert f"<code>{failure}</code>" in page
    for rule in ("download", "extract", "filter", "dedup", "detect"):
        assert f"<td>{rule}</td>" in page
    assert "could not be read" not in page


def test_a_second_project_downloads_and_extracts_nothing_anew(mined: Site):
    config = mined.config()
    config["project"] = "fish"
    config["input"] = {"files": [config["input"]["files"][0]]}
    mined.configure(**config)
    assert mined.dataminer("populate").returncode == 0
    central = {**mined.listing("data/videos"), **mined.listing("data/frames")}
    done = mined.mine()
    assert jobs(done) == {"filter": 1, "dedup": 1, "detect": 1, "report": 1, "all": 1}
    assert {**mined.listing("data/videos"), **mined.listing("data/frames")} == central
    assert stage(mined, "fish") == stage(mined, "birds") == "COMPLETE"
    assert counters(mined, "fish") == recount(mined, "fish")
    assert counters(mined, "birds") == recount(mined, "birds")


def test_a_video_added_later_runs_its_own_chain_and_dedup_and_detect(mined: Site, tmp_path: Path):
    late = videos.make_video(tmp_path / "late.mp4", frames=60, size=(320, 240))
    assert mined.dataminer("add-video", str(late), "--project", "birds").returncode == 0
    assert stage(mined, "birds") == "FILTERING"
    before = mined.listing("data/frames")
    kept = set(mined.listing("data/projects/birds/dedup"))
    done = mined.mine()
    assert jobs(done) == {
        "download": 1,
        "extract": 1,
        "filter": 1,
        "dedup": 1,
        "detect": 1,
        "report": 1,
        "all": 1,
    }
    after = mined.listing("data/frames")
    assert {path: after[path] for path in before} == before
    assert kept <= set(mined.listing("data/projects/birds/dedup"))
    judged = read_meta(mined.folder / "data/projects/birds/dedup" / FRAMES_FILE)["judged"]
    assert mined.rows(
        f"SELECT count(*) FROM project_videos WHERE passed_frames = {judged}"
        " AND video_id LIKE 'late-%'"
    ) == [(1,)], "only what is new is compared"
    assert stage(mined, "birds") == "COMPLETE"
    assert counters(mined, "birds") == recount(mined, "birds")
    assert mined.rows("SELECT source_type FROM videos WHERE video_id LIKE 'late-%'") == [
        ("MANUAL",)
    ]


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("filter", "min_brightness", 0.2, {"filter": 5, "dedup": 1, "detect": 1, "report": 1}),
        ("dedup", "threshold", 2, {"dedup": 1, "detect": 1, "report": 1}),
        ("detect", "confidence", 0.9, {"detect": 1, "report": 1}),
        ("detect", "batch", 3, {}),
        ("monitor", "max_attempts", 5, {}),
        ("extract", "every_frames", 7, {}),
        (
            "extract",
            "every_seconds",
            2.0,
            {"extract": 5, "filter": 5, "dedup": 1, "detect": 1, "report": 1},
        ),
    ],
)
def test_a_changed_setting_reruns_what_it_touches(mined: Site, section, key, value, expected):
    config = mined.config()
    config[section] = {**config.get(section, {}), key: value}
    mined.configure(**config)
    planned = jobs(mined.snakemake("-n"))
    planned.pop("all", None)
    assert planned == expected


def test_a_stricter_filter_passes_fewer_frames_and_leaves_the_videos_alone(mined: Site):
    config = mined.config()
    config["filter"] = {"min_sharpness": 10}
    mined.configure(**config)
    central = {**mined.listing("data/videos"), **mined.listing("data/frames")}
    mined.mine()
    assert {**mined.listing("data/videos"), **mined.listing("data/frames")} == central
    assert mined.rows("SELECT status, count(*) FROM project_videos GROUP BY 1 ORDER BY 1") == [
        ("FAILED", 2),
        ("FILTERED_EMPTY", 3),
    ]
    assert stage(mined, "birds") == "COMPLETE"
    assert counters(mined, "birds") == recount(mined, "birds")


def test_a_project_of_failed_videos_only_ends_with_a_sentence(site: Site, footage, shapes_weights):
    site.configure(
        project="none",
        input={"files": [str(footage / "empty.mp4"), str(footage / "audio.m4a")]},
        detect={"model": str(shapes_weights)},
    )
    site.dataminer("populate")
    done = site.snakemake("-c2", "--retries", "0")
    assert done.returncode != 0
    assert "all 2 videos of project none failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert stage(site, "none") == "FILTERING"
    assert counters(site, "none")[:5] == (2, 0, 0, 0, 2)


def test_targets_stop_after_any_stage(site: Site, footage):
    site.configure(project="part", input={"files": [str(footage / "cars.mp4")]})
    site.dataminer("populate")
    done = {"only_download": 1}
    for target, rule in [
        ("only_download", "download"),
        ("only_extract", "extract"),
        ("only_filter", "filter"),
        ("only_dedup", "dedup"),
    ]:
        done = jobs(site.mine(target))
        assert done == {rule: 1, target: 1}
    assert stage(site, "part") == "DETECT_READY"


def test_several_projects_in_one_run(mined: Site, footage):
    config = mined.config()
    config.pop("project")
    config["projects"] = ["one", "two"]
    config["input"] = {"files": [str(footage / "cars.mp4")]}
    mined.configure(**config)
    mined.dataminer("populate")
    assert jobs(mined.mine()) == {"filter": 2, "dedup": 2, "detect": 2, "report": 2, "all": 1}
    assert [stage(mined, name) for name in ("one", "two")] == ["COMPLETE", "COMPLETE"]
    again = mined.snakemake("-n", "--config", "projects=[one,two]")
    assert jobs(again) == {}
