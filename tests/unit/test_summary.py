"""What the end of a run says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dataminer.monitor.progress.run import RunProgress
from dataminer.monitor.progress.stage import StageProgress
from dataminer.monitor.status import Snapshot
from dataminer.monitor.terminal.summary import RunOutcome, summary
from dataminer.store.layout import Store

DONE = RunOutcome(done=True)
LEFT = RunOutcome(done=False)
PAUSE = {
    "source": "youtube",
    "reason": "it asks to sign in",
    "open_until": datetime(2030, 1, 2, 14, 30, tzinfo=UTC),
    "seconds_left": 60.0,
}
LATER = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
PROGRESS = RunProgress(
    projects=["birds"],
    seconds=754.0,
    stages=[
        StageProgress("download", 200, 198, 2, size=1_234_567_890),
        StageProgress("extract", 200, 198, 2, size=31_200),
        StageProgress("filter", 200, 198, 2, size=15_023),
    ],
    datasets={},
)


def project(name: str = "birds", **values: Any) -> dict[str, Any]:
    columns = ("videos_failed", "unique_frames", "annotations")
    return {
        "name": name,
        "stage": "COMPLETE",
        "total_videos": 200,
        "videos_extracted": 198,
        "extracted_frames": 31_200,
        "filtered_frames": 15_023,
        "dedup_dir": "d",
        "detect_dir": "e",
        "error": None,
        **dict.fromkeys(columns, 2),
        **values,
    }


def row(video_id: str, error_class: str, **values: Any) -> dict[str, Any]:
    named = {"project": "birds", "video_id": video_id, "error_class": error_class}
    return {**named, "error": f"{video_id}.mp4 broke. Next: x", "not_before": None, **values}


def seen(**parts: Any) -> Snapshot:
    names = ("failures", "to_retry", "warnings", "claims", "pauses")
    empty: dict[str, Any] = {name: [] for name in names}
    return Snapshot(**{"projects": [project()], **empty, **parts})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with a finished project, seen from its folder."""
    monkeypatch.chdir(tmp_path)
    store = Store(Path("data"))
    for folder in (store.dedup("birds"), store.detect("birds"), store.report("birds")):
        folder.mkdir(parents=True)
    (store.detect("birds") / "annotations.json").touch()
    (store.report("birds") / "index.html").touch()
    return store


def test_a_finished_project_says_what_failed_and_where_everything_is(store: Store) -> None:
    failures = [row("clip017", "empty"), row("clip101", "corrupt"), row("clip102", "corrupt")]
    outcome = RunOutcome(PROGRESS, done=True)
    lines = summary(seen(failures=failures, pauses=[PAUSE]), store, outcome)
    assert (
        "\n".join(lines)
        == """
This run took 12 min: 198 downloaded (1.2 GB), 198 extracted (31,200 frames),
198 filtered (15,023 frames).

birds: COMPLETE, 198 of 200 videos extracted, 2 failed
  frames    31,200 extracted, 15,023 good, 2 unique; 2 objects
  failed    2 corrupt, for example: clip101.mp4 broke. Next: replace the file,
            or check the link, and
            dataminer retry --download clip101 --download clip102
            (this one cannot be decoded)
  failed    1 empty: clip017.mp4 broke. Next: x
  report    data/projects/birds/report/index.html
  dataset   data/projects/birds/dedup,
            data/projects/birds/detect/annotations.json
  export    dataminer export birds --format yolo --to exports/birds
"""
    )


def note(text: str, count: int, videos: int, *, is_warning: bool = True) -> dict[str, Any]:
    named = {"project": "birds", "text": text, "is_warning": is_warning}
    return {**named, "count": count, "videos": videos}


def test_what_the_warnings_are_about_is_named(store: Store) -> None:
    warnings = [{"project": "birds", "video_id": f"clip{n}", "warning": "…"} for n in range(4)]
    lost = note("packets gave no frame", 1234, 2)
    converted = note("frames were deinterlaced", 50, 9, is_warning=False)
    text = "\n".join(summary(seen(warnings=warnings, notes=[lost, converted]), store, DONE))
    assert (
        "  look at   4 videos with a warning (1,234 packets gave no frame):\n"
        "            dataminer status --project birds\n" in text
    )
    more = [note("video ends early", 1, 1), note("packets are broken", 3, 3), note("x", 1, 1)]
    kinds = {"warnings": warnings, "notes": [lost, *more]}
    text = " ".join("\n".join(summary(seen(**kinds), store, DONE)).split())
    assert "(3 packets are broken; 1,234 packets gave no frame; 2 more kinds): dataminer" in text
    text = "\n".join(summary(seen(warnings=warnings, notes=[converted]), store, DONE))
    assert "4 videos with a warning:\n" in text


def test_a_project_that_waits_says_until_when_and_how_it_goes_on(store: Store) -> None:
    waiting = [row("a", "network", not_before=LATER), row("b", "network")]
    unfinished = project(
        stage="FILTERING", videos_extracted=0, videos_failed=0, extracted_frames=0,
        dedup_dir=None, detect_dir=None,
    )  # fmt: skip
    text = "\n".join(summary(seen(projects=[unfinished], to_retry=waiting), store, LEFT))
    assert "birds: FILTERING, 0 of 200 videos extracted\n" in text
    assert f"  waits     2 videos until {LATER:%Y-%m-%d %H:%M:%S} UTC, network, for " in text
    assert "            broke.\n  report " in text
    text = "\n".join(summary(seen(projects=[unfinished], to_retry=waiting), store, RunOutcome()))
    assert "            broke. Next: run\n            snakemake --config project=birds\n" in text
    # which is not all that is to be done
    killed = [row("a", "killed")]
    text = "\n".join(summary(seen(projects=[unfinished], to_retry=killed), store, LEFT))
    assert "dataminer retry --class killed" in text
    text = "\n".join(summary(seen(projects=[unfinished], to_retry=waiting), store, LEFT))
    assert "export" not in text
    assert "took" not in text


def test_unlabelled_frames_are_exported_as_such(store: Store) -> None:
    text = "\n".join(summary(seen(projects=[project(detect_dir=None)]), store, DONE))
    assert "export birds --format imagefolder --frames-only --to exports/birds" in text
    assert "annotations.json" not in text


def test_each_project_has_a_section_of_its_own(store: Store) -> None:
    cats = row("clip7", "empty", project="cats")
    both = seen(projects=[project(), project("cats")], failures=[cats])
    text = "\n".join(summary(both, store, DONE))
    birds, _, rest = text.partition("\ncats: COMPLETE")
    assert "empty" not in birds
    assert "  failed    1 empty: clip7" in rest


def unfinished(name: str = "birds") -> dict[str, Any]:
    return project(name, stage="DEDUP_READY", dedup_dir=None, detect_dir=None)


def test_one_failure_has_its_own_next_step(store: Store) -> None:
    own = row("clip017", "empty") | {"error": "v is empty. Next: open the link in a browser"}
    text = "\n".join(summary(seen(failures=[own]), store, DONE))
    assert "  failed    1 empty: clip017: v is empty. Next: open the link in a browser\n" in text


@pytest.mark.parametrize(("outcome", "reported"), [(LEFT, True), (DONE, False)])
def test_pauses_are_told_if_something_waits_for_them(
    store: Store, outcome: RunOutcome, reported: bool
) -> None:
    text = "\n".join(summary(seen(pauses=[PAUSE]), store, outcome))
    assert ("  pauses    youtube until" in text) is reported
    over = PAUSE | {"seconds_left": 0.0}
    assert "pauses" not in "\n".join(summary(seen(pauses=[over]), store, outcome))


def test_what_several_projects_share_is_told_once(store: Store) -> None:
    both = seen(projects=[project(), unfinished("cats")], pauses=[PAUSE])
    lines = summary(both, store, LEFT)
    assert lines[-6:] == [
        "",
        "All projects:",
        "  pauses    youtube until 2030-01-02 14:30:00 UTC, then one job goes first: it",
        "            asks to sign in",
        "  go on     snakemake",
        "",
    ]
    assert "\n".join(lines).count("youtube") == 1


def test_a_target_that_was_reached_is_done_and_the_rest_is_an_option(
    store: Store, begun: Callable[[list[str]], None]
) -> None:
    begun(["/a/snakemake", "-c2", "only_filter", "-s", "x/Snakefile"])
    outcome = RunOutcome(done=True, targets=("only_filter",))
    assert summary(seen(projects=[unfinished()]), store, outcome)[-3:] == [
        "  done      only_filter, as asked. The rest:",
        "            /a/snakemake --cores 2 --snakefile x/Snakefile",
        "",
    ]
    outcome = RunOutcome(done=False, targets=("only_filter",))
    assert summary(seen(projects=[unfinished()]), store, outcome)[-2:] == [
        "  go on     /a/snakemake only_filter --cores 2 --snakefile x/Snakefile",
        "",
    ]


def test_after_files_by_name_the_rest_is_an_option(
    store: Store, begun: Callable[[list[str]], None]
) -> None:
    begun(["/a/snakemake", "data/frames/v/frames.parquet", "-c2"])
    outcome = RunOutcome(targets=("data/frames/v/frames.parquet",))
    assert summary(seen(projects=[unfinished()]), store, outcome)[-2] == (
        "  rest      /a/snakemake --cores 2"
    )
    assert "  rest" not in "\n".join(summary(seen(), store, outcome))


@pytest.mark.parametrize(
    ("left_seconds", "force"), [(60.0, " --forceall"), (None, " --forceall"), (0.0, "")]
)
def test_what_a_run_was_making_anew_is_made_anew_again_only_if_it_was_cut_short(
    store: Store, begun: Callable[[list[str]], None], left_seconds: float | None, force: str
) -> None:
    begun(["/a/snakemake", "-F"])
    stage = StageProgress("filter", 200, 198, left_seconds=left_seconds)
    outcome = RunOutcome(replace(PROGRESS, stages=[stage]), done=False)
    assert summary(seen(), store, outcome)[-2] == f"  go on     /a/snakemake{force}"
    # all that it was to make again is there, as it was
    text = "\n".join(summary(seen(), store, replace(outcome, done=True)))
    assert ("  go on     /a/snakemake --forceall" in text) is bool(force)


def test_what_a_run_made_in_another_folder_is_found_from_where_it_was_begun(store: Store) -> None:
    outcome = RunOutcome(done=True, folder=Path("../site"))
    text = "\n".join(summary(seen(), store, outcome))
    assert "  report    ../site/data/projects/birds/report/index.html\n" in text
    assert "  dataset   ../site/data/projects/birds/dedup,\n            ../site/data/pr" in text
    assert "  folder    ../site: run commands of dataminer there\n" in text
