"""What the end of a run says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dataminer.monitor.progress import Progress, StageProgress
from dataminer.monitor.status import Snapshot
from dataminer.monitor.summary import summary
from dataminer.store import Store

LATER = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
PROGRESS = Progress(
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


def test_a_finished_project_says_what_failed_and_where_everything_is(store):
    failures = [row("clip017", "empty"), row("clip101", "corrupt"), row("clip102", "corrupt")]
    pause = {
        "source": "youtube",
        "reason": "it asks to sign in",
        "open_until": datetime(2030, 1, 2, 14, 30, tzinfo=UTC),
        "seconds_left": 60.0,
    }
    lines = summary(seen(failures=failures, pauses=[pause]), store, PROGRESS)
    assert (
        "\n".join(lines)
        == """
This run took 12 min: 198 downloaded (1.2 GB), 198 extracted (31,200 frames),
198 filtered (15,023 frames).

birds: COMPLETE, 198 of 200 videos extracted, 2 failed
  frames    31,200 taken out, 15,023 good, 2 unique; 2 objects
  failed    2 corrupt, for example: clip101.mp4 broke. Next: replace the file,
            or check the link, and
            dataminer retry --download clip101 --download clip102
            (this one cannot be decoded)
  failed    1 empty: clip017.mp4 broke. Next: replace the file, which has no
            bytes, or check the link, then
            dataminer retry --class empty --project birds
  pauses    youtube until 2030-01-02 14:30:00 UTC, then one job goes first: it
            asks to sign in
  report    data/projects/birds/report/index.html
  dataset   data/projects/birds/dedup,
            data/projects/birds/detect/annotations.json
  export    dataminer export birds --format yolo --to exports/birds
"""
    )


def test_a_project_that_waits_says_until_when_and_how_it_goes_on(store):
    waiting = [row("a", "network", not_before=LATER), row("b", "network")]
    unfinished = project(
        stage="FILTERING", videos_extracted=0, videos_failed=0, extracted_frames=0,
        dedup_dir=None, detect_dir=None,
    )  # fmt: skip
    text = "\n".join(summary(seen(projects=[unfinished], to_retry=waiting), store))
    assert "birds: FILTERING, 0 of 200 videos extracted\n" in text
    assert f"  waits     2 videos until {LATER:%Y-%m-%d %H:%M:%S} UTC, network, for " in text
    assert "            broke. Next: run\n            snakemake --config project=birds\n" in text
    assert "  go on     snakemake --config project=birds" in text
    assert "export" not in text
    assert "took" not in text


def test_unlabelled_frames_are_exported_as_such(store):
    text = "\n".join(summary(seen(projects=[project(detect_dir=None)]), store))
    assert "export birds --format imagefolder --frames-only --to exports/birds" in text
    assert "annotations.json" not in text


def test_each_project_has_a_section_of_its_own(store):
    cats = row("clip7", "empty", project="cats")
    text = "\n".join(summary(seen(projects=[project(), project("cats")], failures=[cats]), store))
    birds, _, rest = text.partition("\ncats: COMPLETE")
    assert "empty" not in birds
    assert "  failed    1 empty: clip7" in rest
