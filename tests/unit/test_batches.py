"""How many videos of a batch are worked on at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataminer.sync.batches.batch_list import BatchList


@pytest.mark.parametrize(
    ("downloads", "sizes", "at_once"),
    [
        (8, {"a": 30}, {"a": 8}),
        (8, {"a": 3}, {"a": 3}),
        (8, {"a": 30, "b": 2}, {"a": 4, "b": 2}),
        (1, {"a": 30, "b": 2}, {"a": 1, "b": 1}),
        (8, {"a": 1, "b": 1}, {"a": 1, "b": 1}),
    ],
)
def test_the_slowest_download_of_a_batch_does_not_hold_up_the_others(
    downloads: int, sizes: dict[str, int], at_once: dict[str, int]
) -> None:
    batches = {name: [f"{name}{n}" for n in range(size)] for name, size in sizes.items()}
    listed = BatchList(Path("runs/r"), {"download": batches}, "me", 2, downloads)
    assert {name: listed.downloads_at_once("download", name) for name in sizes} == at_once


@pytest.mark.parametrize(("batches", "workers"), [(1, 2), (2, 1)])
def test_a_process_downloads_at_least_four_videos_at_once(batches: int, workers: int) -> None:
    members = {f"b{n}": [f"{n}-{video}" for video in range(300)] for n in range(batches)}
    listed = BatchList(Path("runs/r"), {"download": members}, "me", 4, 8)
    assert listed.workers("download", "b0") == workers
