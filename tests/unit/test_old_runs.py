"""What runs leave that have ended, and which of their logs stay."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

import pytest

from dataminer.monitor.story import _logs_of
from dataminer.sync.batches.batch_list import BatchList
from dataminer.sync.batches.old_runs import remove_old
from dataminer.sync.claims.owners import owner_name

FIRST, SECOND, THIRD, NOW = (f"2026010{day}-120000-abcdef" for day in range(1, 5))
_MOMENTS = itertools.count(1)  # when files were written, one after the other
NOBODY = f"{socket.gethostname()}:{2**22 + 1}"  # above any process id


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The folders of three runs that have ended, and of one that begins."""
    folder = tmp_path / "runs"
    for name in (FIRST, SECOND, THIRD):
        BatchList(folder / name, {}, NOBODY, 1).write()
    (folder / NOW).mkdir()
    return folder


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    for name in (FIRST, SECOND, THIRD, NOW):
        write(folder / "batches" / f"{name}.log")
    return folder


def write(path: Path, *videos: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"2026-01-01 12:00:00,000 INFO {video}: claimed the video" for video in videos]
    path.write_text("\n".join(lines))
    moment = next(_MOMENTS)
    os.utime(path, (moment, moment))
    return path


def left(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_only_runs_at_work_keep_their_folders(runs: Path, logs: Path) -> None:
    BatchList(runs / SECOND, {}, owner_name(), 1).write()
    remove_old(runs, logs)
    assert {folder.name for folder in runs.iterdir()} == {SECOND, NOW}


def test_a_run_at_work_keeps_the_folders_that_its_jobs_are_about_to_write_to(
    runs: Path, logs: Path
) -> None:
    BatchList(runs / SECOND, {}, owner_name(), 1).write()
    for name in (FIRST, SECOND):
        (logs / "download" / name).mkdir(parents=True)
    remove_old(runs, logs)
    assert [folder.name for folder in (logs / "download").iterdir()] == [SECOND]


@pytest.mark.parametrize("stage", ["download", "extract", "embed", "filter/birds"])
def test_a_log_goes_once_each_of_its_videos_has_a_newer_one(
    runs: Path, logs: Path, stage: str
) -> None:
    write(logs / stage / FIRST / "x.log", "a", "b")
    write(logs / stage / FIRST / "y.log", "c")
    write(logs / stage / SECOND / "x.log", "a")
    write(logs / stage / SECOND / "z.log")
    write(logs / stage / THIRD / "x.log", "a", "c")
    write(logs / stage / "a.log", "a")  # a video's own
    remove_old(runs, logs)
    assert left(logs) == {
        f"{stage}/{FIRST}/x.log",  # the only one of b
        f"{stage}/{THIRD}/x.log",
        f"{stage}/a.log",
        f"batches/{FIRST}.log",
        f"batches/{THIRD}.log",
        f"batches/{NOW}.log",
    }
    assert not (logs / stage / SECOND).exists()
    found = {video: [path.parent.name for path in _logs_of(video, logs / stage)] for video in "abc"}
    assert found == {"a": [THIRD, Path(stage).name], "b": [FIRST], "c": [THIRD]}


def test_logs_of_the_last_run_and_of_runs_at_work_stay(runs: Path, logs: Path) -> None:
    BatchList(runs / FIRST, {}, owner_name(), 1).write()
    for run in (FIRST, SECOND, THIRD):
        write(logs / "extract" / run / "none.log")
        write(logs / "extract" / run / "some.log", "a")
    write(logs / "extract" / NOW / "some.log", "a")
    remove_old(runs, logs)
    of_batches = {
        f"extract/{run}/{name}.log" for run in (FIRST, THIRD) for name in ("none", "some")
    }
    of_runs = {f"batches/{run}.log" for run in (FIRST, THIRD, NOW)}
    assert left(logs) == {*of_batches, *of_runs, f"extract/{NOW}/some.log"}
