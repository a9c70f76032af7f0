"""A small YouTube on loopback, downloaded from by jobs of four processes: every way to fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dataminer.store.layout import Store
from dataminer.sync.jobs.results import judged_by
from tests.support import videos, youtube_server
from tests.support.http_server import Server, serve
from tests.support.paths import ROOT
from tests.support.site import Site
from tests.support.tube import (
    ATTEMPTS,
    REFUSING,
    SETTINGS,
    assert_failures_are_told,
    cases,
    ends,
    publish,
    video_id,
)

JOBS = 4


@pytest.fixture
def tube() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture
def refusing() -> Iterator[dict[str, Server]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(serve()) for name in REFUSING}


def attempt(site: Site, tube: Server) -> int:
    """Run the download job of each video that is due; return the status of the whole."""
    due = [row[0] for row in site.rows("SELECT video_id FROM videos WHERE status = 'PENDING'")]
    config = site.config()
    given = {key: config[key] for key in ("download", "monitor")}
    file = site.folder / "group.json"
    file.write_text(json.dumps({**given, "store": str(site.folder / "data"), "videos": due}))
    command = [sys.executable, "-m", "tests.support.download_group", str(JOBS), "60", str(file)]
    env = {**os.environ, **youtube_server.environment(tube), "DATABASE_URL": site.database}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, timeout=300).returncode


def test_every_way_to_fail(
    database: str, tube: Server, refusing: dict[str, Server], tmp_path: Path
) -> None:
    site = Site(tmp_path, database)
    clip = videos.make_video(tmp_path / "clip.mp4")
    all_cases = cases(clip, tmp_path)
    links = [publish(tube, name, case) for name, case in all_cases.items()]
    links += [refusing[name].add(f"/{name}", reply) for name, (reply, _) in REFUSING.items()]
    site.configure(
        project="tube",
        input={"urls": links},
        download=SETTINGS,
        monitor={"max_attempts": ATTEMPTS},
    )
    site.populate()
    for _ in range(ATTEMPTS):
        assert attempt(site, tube) > 0  # for what passes, and is still due
    ended = {name: case.ends for name, case in all_cases.items()}
    ended |= {name: end for name, (_, end) in REFUSING.items()}
    assert ends(site) == ended

    pages = {name: youtube_server.pages(tube)[video_id(name)] for name in all_cases}
    assert pages == {name: case.pages for name, case in all_cases.items()}
    files = {name: tube.requests[f"/{name}.mp4"] for name in all_cases}
    assert files == {name: case.files for name, case in all_cases.items()}
    assert [server.requests for server in refusing.values()] == [{f"/{n}": 1} for n in REFUSING]
    breakers = "SELECT source, strikes > 0, error_class FROM breakers"
    host = urlsplit(tube.url).netloc
    expected = [("youtube", False, "bot_check"), (host, False, "rate_limit")]
    for name, error_class in (("refuses", "rate_limit"), ("distrusts", "bot_check")):
        expected.append((urlsplit(refusing[name].url).netloc, True, error_class))
    assert sorted(site.rows(breakers)) == sorted(expected)
    assert re.fullmatch(r"bytes=\d\d+-", str(tube.ranges["/stalls.mp4"][1]))
    for name in ("good", "stalls", "cut", "late500", "busy", "bot"):
        folder = site.folder / "data" / "videos" / video_id(name)
        assert (folder / f"{folder.name}.mp4").read_bytes() == clip.read_bytes()
    assert_failures_are_told(site)
    # a new policy has the last word on what an older one refused, and on what is not there yet
    store, undecided = Store(tmp_path / "data"), ("FAILED policy", "FAILED unchecked", "PENDING")
    asked_again = {
        name for name in all_cases if judged_by(store.video(video_id(name)), "new") == "new"
    }
    assert asked_again == {
        name for name, case in all_cases.items() if case.ends.startswith(undecided)
    }
