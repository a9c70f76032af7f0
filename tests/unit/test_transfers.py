"""What has come of downloads under way, from their files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dataminer.monitor.progress.rates import WINDOW, Ended, flow
from dataminer.monitor.progress.transfers import STILL, Transfers
from dataminer.monitor.terminal.run_display import EACH_LINE


def attempt(store: Path, video: str, size: int, number: int = 0) -> Path:
    """Have a download write so many bytes."""
    folder = store / f".{video}.{number:012x}.resume"
    folder.mkdir(exist_ok=True)
    (folder / ".state.json").write_text("{}")
    with (folder / f"{video}.mp4.part").open("wb") as file:
        file.truncate(size)
    return folder


def test_what_is_there_already_counts_and_what_came_since_is_the_rate(tmp_path: Path) -> None:
    transfers = Transfers(tmp_path)
    attempt(tmp_path, "a", 5000)
    attempt(tmp_path, "b", 9000)
    for now, size in ((100.0, 5000), (102.0, 6000), (104.0, 7000)):
        attempt(tmp_path, "a", size)
        transfers.read(["a"], now)
    assert transfers.size == 7000, "b is not being downloaded"
    assert transfers.under_way == [Ended(104.0, 4.0, size=2000)]


def test_a_transfer_that_stands_still_slows_no_rate_for_long(tmp_path: Path) -> None:
    transfers = Transfers(tmp_path)
    for now, size in ((0.0, 0), (10.0, 1000), (10.0 + STILL, 1000)):
        attempt(tmp_path, "a", size)
        transfers.read(["a"], now)
    assert transfers.under_way == [Ended(10.0 + STILL, 10.0 + STILL, size=1000)]
    transfers.read(["a"], 200.0)
    assert (transfers.under_way, transfers.size) == ([], 1000)
    attempt(tmp_path, "a", 1500)
    transfers.read(["a"], 300.0)
    assert transfers.under_way == [Ended(300.0, 0.0, size=0)]
    attempt(tmp_path, "a", 1800)
    transfers.read(["a"], 302.0)
    assert transfers.under_way == [Ended(302.0, 2.0, size=300)]


def test_looks_of_a_run_whose_output_is_a_file_measure_too(tmp_path: Path) -> None:
    transfers = Transfers(tmp_path)
    for number in range(3):
        attempt(tmp_path, "a", 1000 * number)
        transfers.read(["a"], 10.0 + 2 * EACH_LINE * number)
    assert transfers.under_way == [Ended(250.0, 4 * EACH_LINE, size=2000)]


def test_a_transfer_that_begins_anew_is_measured_from_there(tmp_path: Path) -> None:
    transfers = Transfers(tmp_path)
    for now, size in ((0.0, 5000), (2.0, 100), (4.0, 300)):
        attempt(tmp_path, "a", size)
        transfers.read(["a"], now)
    assert transfers.under_way == [Ended(4.0, 2.0, size=200)]


def test_of_a_long_transfer_the_last_ten_minutes_count(tmp_path: Path) -> None:
    transfers = Transfers(tmp_path)
    for minute in range(30):
        attempt(tmp_path, "a", 10 * minute)
        transfers.read(["a"], 60.0 * minute)
    assert transfers.under_way == [Ended(29 * 60.0, WINDOW, size=100)]


def test_a_file_that_is_put_in_place_counts_until_its_row_says_so(tmp_path: Path) -> None:
    transfers = Transfers(tmp_path)
    folder = attempt(tmp_path, "a", 500)
    transfers.read(["a"], 0.0)
    shutil.rmtree(folder)
    transfers.read(["a"], 2.0)
    assert transfers.size == 500
    transfers.read([], 4.0)
    assert transfers.size == 0


def test_a_transfer_that_another_attempt_took_over_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataminer.monitor.progress.transfers._SHARE", 1e9)  # list it at each look
    transfers = Transfers(tmp_path)
    folder = attempt(tmp_path, "a", 500)
    transfers.read(["a"], 0.0)
    folder.rename(tmp_path / f".a.{7:012x}.resume")
    transfers.read(["a"], 2.0)
    attempt(tmp_path, "a", 900, number=7)
    transfers.read(["a"], 4.0)
    assert transfers.size == 900


@pytest.mark.parametrize("folder", [None, Path("/nowhere/at/all")])
def test_of_a_store_that_cannot_be_seen_nothing_is_known(folder: Path | None) -> None:
    transfers = Transfers(folder)
    transfers.read(["a"], 0.0)
    assert (transfers.size, transfers.under_way) == (0, [])


def test_parts_that_come_side_by_side_all_count() -> None:
    parts = [Ended(100.0, 10.0, size=500), Ended(100.0, 4.0, size=100)]
    assert flow([], parts, 100.0) == 60.0
    assert flow([Ended(90.0, 20.0, size=900)], parts, 100.0) == 50.0
    assert flow([Ended(90.0, 20.0, size=900)], [], 100.0) == 0.0
    assert flow([Ended(90.0, 20.0, size=900)], [Ended(100.0, 0.0, size=0)], 100.0) == 0.0
    long = [Ended(100.0, WINDOW, size=6000), Ended(100.0, WINDOW, size=6000)]
    assert flow([Ended(90.0, 20.0, size=900)], long, 100.0) == (12_000 + 900) / WINDOW
