"""A temporary failure holds nothing back, and ends; what is retried is tried."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataminer import planning
from dataminer.config import load_files
from tests.support import videos
from tests.support.http_server import Reply, Server, serve
from tests.support.site import Site, jobs, stage

HEALS = ("heals403", "heals500")
FOR_EVER = {"dead": "network", "refused": "network", "closed": "blocked"}


@pytest.fixture
def http() -> Iterator[Server]:
    with serve() as server:
        yield server


@pytest.fixture
def twenty(site: Site, http: Server, shapes_weights: Path) -> Site:
    """A project of fifteen files and of five links that do not work at present."""
    (site.folder / "clips").mkdir()
    for number in range(15):
        path = site.folder / "clips" / f"c{number:02}.mp4"
        videos.make_video(path, frames=5 + number, size=(160, 120))
    links = [
        "http://dead.invalid/dead.mp4",
        "http://127.0.0.1:9/refused.mp4",
        http.add("/closed.mp4", Reply(status=401)),
        http.add("/heals403.mp4", Reply(status=403)),
        http.add("/heals500.mp4", Reply(status=500)),
    ]
    site.configure(
        project="birds",
        input={"files": ["clips"], "urls": links},
        download={"retries": 0},
        monitor={"retry_seconds": 0.05, "give_up_hours": 2},
        detect={"model": str(shapes_weights), "image_size": 160},
        batch_videos=20,
    )
    site.populate()
    return site


def by_name(site: Site, columns: str) -> dict[str, list[Any]]:
    rows = site.rows(f"SELECT split_part(video_id, '-', 1), {columns} FROM videos")
    return {name: columns for name, *columns in rows}


def pass_hours(site: Site, hours: float) -> None:
    site.rows(f"UPDATE videos SET failing_since = failing_since - interval '{hours} hours'")


def test_links_that_fail_hold_nothing_back_and_end_after_the_hours(
    twenty: Site, http: Server
) -> None:
    done = twenty.mine()  # and so ends well
    assert stage(twenty, "birds") == "COMPLETE"
    # tried again once, and once more if others took long enough
    reported = by_name(twenty, "status, error_class, attempts, failures BETWEEN 2 AND 3")
    assert {name: row for name, row in reported.items() if row[0] != "EXTRACTED"} == {
        name: ["PENDING", FOR_EVER.get(name, row[1]), 0, True]
        for name, row in reported.items()
        if name in (*HEALS, *FOR_EVER)
    }
    for name in (*HEALS, *FOR_EVER):
        assert f"waits for the next run: {name}-" in done.stderr + done.stdout

    # two of them heal; the others are within the hours
    for name in HEALS:
        http.add(f"/{name}.mp4", twenty.folder / "clips" / f"c0{HEALS.index(name)}.mp4")
    pass_hours(twenty, 1)
    done = twenty.mine("only_filter")
    assert "download: 5 due (5 failed temporarily)" in done.stdout + done.stderr
    reported = by_name(twenty, "status")
    assert {name for name, (status,) in reported.items() if status == "PENDING"} == {*FOR_EVER}
    ((extracted,),) = twenty.rows("SELECT videos_extracted FROM projects")
    assert extracted == 17

    # the hours are over
    pass_hours(twenty, 1)
    twenty.mine()
    reported = by_name(twenty, "status, error_class")
    failed = {name: row[1] for name, row in reported.items() if row[0] == "FAILED"}
    assert failed == FOR_EVER
    assert stage(twenty, "birds") == "COMPLETE"
    ((error,),) = twenty.rows("SELECT error FROM videos WHERE video_id LIKE 'closed-%'")
    ends = r"given up after [5-7] attempts in 2 hours\. Next: once the cause is gone, `dataminer"
    assert re.search(ends, error)
    with twenty.inside():
        reasons = planning.plan(load_files(), ["birds"]).reasons()
    assert reasons == ["download: 3 failed (1 blocked, 2 network)"], "nothing is due"

    # each can be tried again, here in jobs of its own
    twenty.configure(**{**twenty.config(), "batch_videos": "auto"})
    requests = http.requests["/closed.mp4"]
    http.add("/closed.mp4", twenty.folder / "clips" / "c02.mp4")
    for name in ("network", "blocked"):
        assert twenty.dataminer_here("retry", "--class", name).returncode == 0
    reported = by_name(twenty, "status, failures, failing_since")
    assert all(reported[name] == ["PENDING", 0, None] for name in FOR_EVER)
    assert jobs(twenty.mine("only_filter"))["download"] == 3
    assert http.requests["/closed.mp4"] > requests
    reported = by_name(twenty, "status")
    assert [reported[name] for name in FOR_EVER] == [["PENDING"], ["PENDING"], ["EXTRACTED"]]
