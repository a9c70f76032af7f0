"""How far a run is, from its list of batches and from rows."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from dataminer.config import MonitorConfig
from dataminer.monitor.progress.run import RunProgress, Tracker
from dataminer.monitor.progress.stage import StageProgress
from dataminer.monitor.terminal import live
from dataminer.monitor.terminal.block import plain
from dataminer.store.layout import Store
from dataminer.sync.batches.batch_list import BatchList
from dataminer.sync.claims import claim_end, projects, stage_rows
from dataminer.sync.claims.owners import owner_name
from tests.support.postgres import execute
from tests.support.rows import add, downloaded, extracted, failed, filtered, finished, held

VIDEOS = [f"v{n}" for n in range(6)]
CORRUPT = {"error": "x cannot be opened. Next: replace it", "error_class": "corrupt"}


def planned(folder: Path, *videos: str, stage: str = "") -> BatchList:
    """Return the list of a run that plans videos, at one stage or at all."""
    rules = [stage] if stage else ["download", "extract", "filter/p"]
    members = {rule: {"b": list(videos or VIDEOS)} for rule in rules}
    due = {} if stage == "download" else {"p": ["dedup", "detect", "report"]}  # only_download
    return BatchList(folder, members, owner_name(), 2, datasets=due, projects=["p"])


def by_name(progress: RunProgress) -> dict[str, StageProgress]:
    return {stage.name: stage for stage in progress.stages}


def counts(progress: RunProgress) -> dict[str, tuple[int, int, int, int]]:
    """Return of each stage how many are done, failed, being worked on, and left."""
    found = by_name(progress).values()
    return {stage.name: (stage.done, stage.failed, stage.running, stage.left) for stage in found}


@pytest.fixture
def project(database: str) -> int:
    return add("p", *VIDEOS)


def test_what_was_planned_is_counted_by_stage(database: str, project: int, tmp_path: Path) -> None:
    tracker = Tracker(planned(tmp_path), time.time())
    assert counts(tracker.read()) == dict.fromkeys(("download", "extract", "filter"), (0, 0, 0, 6))
    for video in ("v0", "v1"):
        extracted(video, frames=70)
    filtered("v0", project, passed=40)
    downloaded("v2")
    held(stage_rows.EXTRACT, video_id="v2")
    failed("v3")
    downloaded("v4")
    finished(stage_rows.EXTRACT, "FAILED", CORRUPT, video_id="v4")
    claim_end.release(
        held(stage_rows.DOWNLOAD, video_id="v5"), error="x", error_class="network", counts=False
    )
    found = Tracker(planned(tmp_path), time.time() - 60).read()
    assert counts(found) == {
        "download": (4, 1, 0, 1),
        "extract": (2, 2, 1, 2),
        "filter": (1, 2, 0, 3),
    }
    assert by_name(found)["extract"].size == 140
    assert by_name(found)["filter"].size == 40
    assert found.failures == {"corrupt": 1, "empty": 1}
    assert found.to_retry == {"network": 1}
    assert found.datasets["dedup"] == {"waiting": 1, "running": 0, "done": 0}
    assert found.idle_seconds is None


def test_a_run_that_goes_on_sees_each_change(database: str, project: int, tmp_path: Path) -> None:
    tracker = Tracker(planned(tmp_path), time.time() - 1)
    for done in range(3):
        assert by_name(tracker.read(force=True))["download"].done == done
        downloaded(f"v{done}")


def test_what_is_made_anew_counts_once_it_is_made(
    database: str, project: int, tmp_path: Path
) -> None:
    for video in VIDEOS:
        extracted(video)
    execute(database, "ALTER TABLE videos DISABLE TRIGGER USER")
    execute(database, "UPDATE videos SET updated_at = now() - interval '1 hour'")
    execute(database, "ALTER TABLE videos ENABLE TRIGGER USER")
    columns = {"frames_dir": "y", "frame_count": 7}
    finished(stage_rows.EXTRACT, "EXTRACTED", columns, video_id="v0")
    found = Tracker(planned(tmp_path, stage="extract"), time.time() - 60).read()
    assert counts(found) == {"extract": (1, 0, 0, 5)}


def test_a_video_that_failed_before_and_is_not_tried_again_is_lost_to_filter(
    database: str, project: int, tmp_path: Path
) -> None:
    failed("v0")
    listed = planned(tmp_path, *VIDEOS[1:])
    members = {**listed.members, "filter/p": {"b": [*VIDEOS[1:], "v0"]}}
    listed = replace(listed, members=members)
    found = Tracker(listed, time.time() + 60).read()
    assert counts(found)["filter"] == (0, 1, 0, 5)


def test_rates_and_time_left_come_from_the_results(
    database: str, project: int, tmp_path: Path
) -> None:
    now = time.time()
    for n in range(3):
        claim_end.finish(
            held(stage_rows.DOWNLOAD, video_id=f"v{n}"), "DOWNLOADED", {"video_path": "x"},
            lambda: None, {"seconds": 20, "bytes": 1000, "ended_at": now - 40 + 20 * n},
        )  # fmt: skip
    (stage,) = Tracker(planned(tmp_path, stage="download"), now - 70).read().stages
    assert stage.size == 3000
    assert stage.per_minute == pytest.approx(3, rel=0.1)
    assert stage.size_per_second == pytest.approx(50, rel=0.1)
    assert stage.left_seconds == pytest.approx(60, rel=0.1)
    execute(
        database,
        "INSERT INTO breakers (source, strikes, open_until, reason)"
        " VALUES ('s', 1, now() + interval '1 hour', 'r')",
    )
    found = Tracker(planned(tmp_path, stage="download"), now - 70).read()
    assert found.stages[0].left_seconds is None, "nobody knows how long a source refuses"
    assert found.left_seconds is None
    assert [pause["source"] for pause in found.pauses] == ["s"]


def test_bytes_move_while_a_file_comes(
    database: str, project: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dataminer.monitor.progress.rates._LEAST", 1e-9
    )  # seconds before a rate is shown
    part = tmp_path / "videos" / f".v0.{1:012x}.resume" / "v0.mp4.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(4000))  # an earlier attempt's
    held(stage_rows.DOWNLOAD, video_id="v0")
    cost = {"seconds": 20, "bytes": 100, "ended_at": time.time()}
    claim_end.finish(
        held(stage_rows.DOWNLOAD, video_id="v1"),
        "DOWNLOADED",
        {"video_path": "x"},
        lambda: None,
        cost,
    )
    tracker = Tracker(planned(tmp_path, stage="download"), time.time() - 60, Store(tmp_path))
    blind = Tracker(planned(tmp_path, stage="download"), time.time() - 60)
    (stage,) = tracker.read().stages
    assert (stage.size, stage.coming) == (100, 4000)
    assert stage.size_per_second == 0, "what ended says nothing of a much larger file"
    part.write_bytes(bytes(9000))
    (stage,) = tracker.read(force=True).stages
    assert stage.coming == 9000
    part.write_bytes(bytes(10_000))
    (stage,) = tracker.read(force=True).stages
    assert stage.coming == 10_000
    assert stage.size_per_second > 100
    (unseen,) = blind.read().stages
    assert unseen.coming == 0
    assert unseen.size_per_second == pytest.approx(5, rel=0.5)
    assert unseen.per_minute == pytest.approx(stage.per_minute, rel=0.5), "videos are not bytes"
    assert unseen.left_seconds
    assert stage.left_seconds is None, "nobody knows how large it is, but larger than what ended"
    other = Tracker(planned(tmp_path, "v1", stage="download"), 0.0, Store(tmp_path))
    assert other.read().stages[0].coming == 0


@pytest.mark.parametrize(("seconds", "is_known"), [(30, True), (60, False)])
def test_a_download_that_takes_longer_than_all_before_has_no_time_left(
    database: str, project: int, tmp_path: Path, seconds: int, is_known: bool
) -> None:
    cost = {"seconds": 20, "bytes": 1000, "ended_at": time.time()}
    claim_end.finish(
        held(stage_rows.DOWNLOAD, video_id="v1"),
        "DOWNLOADED",
        {"video_path": "x"},
        lambda: None,
        cost,
    )
    held(stage_rows.DOWNLOAD, video_id="v0")
    execute(
        database,
        f"UPDATE videos SET locked_at = now() - interval '{seconds} s' WHERE video_id = 'v0'",
    )
    (stage,) = Tracker(planned(tmp_path, stage="download"), time.time() - 60).read().stages
    assert (stage.left_seconds is not None) is is_known


def test_what_waits_for_another_attempt_takes_no_time_now(
    database: str, project: int, tmp_path: Path
) -> None:
    claim_end.release(
        held(stage_rows.DOWNLOAD, video_id="v0"), error="x", error_class="network", counts=False
    )
    listed = planned(tmp_path, "v0")
    found = Tracker(listed, time.time() - 60).read()
    assert counts(found) == dict.fromkeys(("download", "extract", "filter"), (0, 0, 0, 1))
    assert [stage.left_seconds for stage in found.stages] == [0, 0, 0]
    assert found.to_retry == {"network": 1}
    assert plain(found).startswith("download 0 of 1; extract 0 of 1; filter 0 of 1; ")


def test_what_failed_before_is_no_failure_of_the_run_though_its_row_was_touched(
    database: str, project: int, tmp_path: Path
) -> None:
    other = add("q", "v0")
    for one in (project, other):
        extracted("v0")
        claim = held(stage_rows.FILTER, video_id="v0", project_id=one)
        claim_end.finish(claim, "FAILED", CORRUPT, lambda: None, {})
    listed = BatchList(tmp_path, {"filter/p": {"b": ["v0"]}}, owner_name(), 2, projects=["p", "q"])
    found = Tracker(listed, time.time() - 60).read()
    assert counts(found) == {"filter": (0, 1, 0, 0)}
    assert found.failures == {"corrupt": 1}
    listed = BatchList(tmp_path, {"filter/p": {"b": ["v1"]}}, owner_name(), 2, projects=["p", "q"])
    assert Tracker(listed, time.time() - 60).read().failures == {}
    listed = replace(listed, members={**listed.members, "extract": {"b": ["v0"]}})
    assert Tracker(listed, time.time() - 60).read().failures == {}


def test_datasets_follow_their_project(database: str, project: int, tmp_path: Path) -> None:
    for video in VIDEOS:
        extracted(video)
        filtered(video, project)
    projects.refresh([project])
    tracker = Tracker(planned(tmp_path), time.time() - 60, Store(tmp_path))
    claim = held(stage_rows.DEDUP, project_id=project)
    assert tracker.read().datasets["dedup"]["running"] == 1
    cost = {"seconds": 1, "ended_at": time.time()}
    columns = {"dedup_dir": "d", "unique_frames": 3}
    claim_end.finish(claim, "DETECT_READY", columns, lambda: None, cost)
    report = Store(tmp_path).report("p") / "index.html"
    report.parent.mkdir(parents=True)
    report.touch()
    found = tracker.read(force=True).datasets
    assert {name: counts["done"] for name, counts in found.items()} == {
        "dedup": 1,
        "detect": 0,
        "report": 1,
    }


def test_where_the_database_is_away_the_numbers_stay(
    database: str, project: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloaded("v0")
    tracker = Tracker(planned(tmp_path), time.time() - 60)
    before = tracker.read()
    with monkeypatch.context() as away:
        away.setenv("DATABASE_URL", "postgresql://u:secret@127.0.0.1:9/none")
        lost = tracker.read(force=True)
        fresh = Tracker(planned(tmp_path), time.time()).read()
    assert lost.stages == before.stages
    assert lost.seconds > before.seconds
    assert "cannot be reached" in (lost.trouble or "")
    assert "secret" not in (lost.trouble or "")
    assert fresh.trouble and fresh.stages[0].total == 6
    assert tracker.read().trouble is None, "it is asked again at once"


def test_the_monitor_shows_the_same_numbers_as_the_run(
    database: str, project: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(".snakemake", "dataminer", "20260101-000000-abcdef")
    folder.mkdir(parents=True)
    planned(folder).write()
    downloaded("v0")
    live_monitor = live.Monitor(["p"], MonitorConfig(), read_only=True)
    own = Tracker.of_list(folder / "batches.json")
    assert own
    (run,) = live_monitor.read().runs
    assert (run.projects, run.stages) == (["p"], own.read().stages)
    assert (
        live.Monitor(["p"], MonitorConfig()).read().as_json()["runs"][0]["words"]["projects"] == "p"
    )
    ended = BatchList(folder, {}, f"{owner_name().partition(':')[0]}:999999999", 2, projects=["p"])
    ended.write()
    assert live_monitor.read().runs == []
    assert Tracker.of_list(tmp_path / "none.json") is None
