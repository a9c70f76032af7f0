"""Two runs of four download jobs each keep to one budget, and pause together."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import rows
from tests.support.http_server import Reply, Server, most_in_a_window, serve
from tests.support.paths import ROOT
from tests.support.postgres import execute
from tests.support.videos import make_video

_JOBS = 4
_TOLERANCE = 0.001  # a window's last moment counts for the next one


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=5)


def download_all(
    server: Server,
    clip: Any,
    folder: Path,
    paths: list[str],
    *,
    minute: float = 60.0,
    jobs: int = _JOBS,
    side_by_side: int | None = None,
    **budget: Any,
) -> None:
    """Download videos of a server with two runs at once, each with half of them."""
    videos = [f"v{number}" for number in range(len(paths))]
    for video_id, path in zip(videos, paths, strict=True):
        rows.add("p", video_id, url=server.add(path, clip))
    download = {"budget": budget, "retries": 0}
    runs = []
    for number in range(2):
        file = folder / f"run{number}.json"
        given: dict[str, Any] = {
            "store": str(folder / "data"),
            "download": download,
            "videos": videos[number::2],
        }
        given["side_by_side"] = side_by_side
        file.write_text(json.dumps(given))
        command = [
            sys.executable,
            "-m",
            "tests.support.download_group",
            str(jobs),
            str(minute),
            str(file),
        ]
        runs.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True))
    for run in runs:
        printed = run.communicate()[1]
        assert run.returncode == 0, printed


def states(database: str) -> list[tuple[Any, ...]]:
    statement = "SELECT status, max(attempts), count(*) FROM videos GROUP BY status"
    return execute(database, statement)


def test_eight_jobs_never_exceed_the_budget(database: str, clip: Path, tmp_path: Path) -> None:
    """30 requests in any 6 s: a minute of 6 s, so that the test need not last for minutes."""
    with serve() as server:
        rates = {"requests_per_minute": 30}
        # a request each for links to files; else a look at the first bytes, then all
        paths = [f"/{n}.mp4" if n % 4 < 2 else f"/{n}" for n in range(32)]
        download_all(server, clip, tmp_path, paths, minute=6.0, others=rates)
    assert states(database) == [("DOWNLOADED", 0, 32)]
    arrivals = [arrived for arrived, _, _ in server.log]
    assert len(arrivals) == 48
    assert most_in_a_window(arrivals, 6.0 - _TOLERANCE) <= 30


def test_fifty_side_by_side_never_exceed_the_budget(
    database: str, clip: Path, tmp_path: Path
) -> None:
    """Two batches of five workers each, which fetch five at once: 30 requests in any 3 s."""
    with serve() as server:
        rates = {"requests_per_minute": 30}
        paths = [f"/{n}.mp4" for n in range(42)]
        download_all(
            server, clip, tmp_path, paths, minute=3.0, jobs=5, side_by_side=25, others=rates
        )
    assert states(database) == [("DOWNLOADED", 0, 42)]
    arrivals = [arrived for arrived, _, _ in server.log]
    assert len(arrivals) == 42
    assert most_in_a_window(arrivals, 3.0 - _TOLERANCE) <= 30
    # and they are used: evenly spaced, 42 take seven seconds
    assert max(arrivals) - min(arrivals) < 20


class _Angry:
    """Serves a file, but for a while after the tenth request refuses everything."""

    def __init__(self, clip: Path) -> None:
        self._body = clip.read_bytes()
        self._lock = threading.Lock()
        self._count = 0
        self._until = 0.0

    def __call__(self, target: str) -> Reply:
        with self._lock:
            self._count += 1
            if self._count == 10:
                self._until = time.monotonic() + 3.0
            if time.monotonic() < self._until:
                return Reply(429, headers={"Retry-After": "4"})
        return Reply(200, self._body, "video/mp4")


def test_a_burst_of_429_pauses_all_and_condemns_none(
    database: str, clip: Path, tmp_path: Path
) -> None:
    """Of links that yt-dlp looks at first: each video needs two requests."""
    with serve() as server:
        download_all(server, _Angry(clip), tmp_path, [f"/{number}" for number in range(16)])
    assert states(database) == [("DOWNLOADED", 0, 16)]
    # the limiter was given each answer: no download was begun again for one
    stated = "SELECT strikes, reason, error_class FROM breakers"
    assert execute(database, stated) == [(0, "HTTP 429 Too Many Requests", "rate_limit")]
    begun = "SELECT permits FROM budgets WHERE lane = 'download'"
    assert execute(database, begun) == [(16,)]
    log = sorted(server.log)
    refused = [arrived for arrived, _, status in log if status == 429]
    assert 1 <= len(refused) <= 2 * _JOBS  # those that were on their way
    served = [path for arrived, path, status in log if status == 200 and arrived < refused[0]]
    after = [(arrived, path) for arrived, path, _ in log if arrived > refused[-1]]
    assert after[0][0] - refused[0] >= 4.0 - 0.05
    # one goes first: all that its video yet needs, before any other is asked for
    first = after[0][1]
    needs = 2 - served.count(first)
    assert [path for _, path in after[:needs]] == [first] * needs
