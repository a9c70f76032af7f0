"""Transfers that break off, are too slow or change under our hands, against a real server."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dataminer.config.models import DownloadConfig
from dataminer.errors import ErrorClass, PermanentError, StageError, TransientError
from dataminer.net import deadline
from dataminer.stages.download.stage import DownloadResult, download
from tests.support.http_server import File, Reply, Server, serve
from tests.support.signed import SIGNATURES, signed
from tests.support.videos import make_video
from tests.support.waiting import wait_for

ID = "clip-0123456789"
QUICK = DownloadConfig(retries=0, socket_timeout=5, min_bytes_per_second=500)  # small blocks
ONE = '"state-1"'
# of a link to a file, asked for once; and of one that yt-dlp looks at before it fetches the file
PLAIN, LOOKED_AT = "/clip.mp4", "/clip"
MONDAY, TUESDAY = "Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT"

# yt-dlp leaves files and sockets to the garbage collector when it fails
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of a megabyte, of which most is a box that players pass over."""
    path = make_video(tmp_path_factory.mktemp("clips") / "clip.mp4")
    noise = bytes(range(256)) * 4096
    with path.open("ab") as file:
        file.write((len(noise) + 8).to_bytes(4, "big") + b"free" + noise)
    return path


@pytest.fixture(scope="module")
def other(clip: Path) -> Path:
    """Another video of the same size."""
    path = clip.with_name("other.mp4")
    path.write_bytes(clip.read_bytes().replace(bytes(range(256)), bytes(range(255, -1, -1))))
    return path


def fetch(url: str, store: Path, settings: DownloadConfig = QUICK) -> DownloadResult:
    out = store / ".attempt"
    out.mkdir(parents=True, exist_ok=True)
    return download(url, out, ID, settings, partial_folder=store)


def folders(store: Path) -> list[Path]:
    return sorted(store.glob(f".{ID}.*.resume"))


def kept(store: Path) -> int:
    return sum(part.stat().st_size for folder in folders(store) for part in folder.glob("*.part"))


def looked_at(path: str, clip: Path) -> list[Any]:
    """Return what is served before the file itself."""
    return [] if path == PLAIN else [clip]


def broken_off(
    server: Server,
    clip: Path,
    store: Path,
    *,
    after: int | None = None,
    query: str = "",
    path: str = PLAIN,
    **printed: Any,
) -> tuple[str, int]:
    """Have a first attempt break off in the middle; return the link and what is there."""
    stall = File(clip, stop_after=after or clip.stat().st_size // 2, **printed)
    link = server.add(path, [*looked_at(path, clip), stall])
    with pytest.raises(TransientError) as caught:
        fetch(link + query, store, QUICK.model_copy(update={"socket_timeout": 0.3}))
    assert caught.value.error_class is ErrorClass.TIMEOUT
    server.add(path, File(clip, **printed))
    return link, kept(store)


def start_and_kill(link: str, store: Path, enough: int) -> None:
    """Fetch in a process of its own; kill -9 it when so many bytes are there."""
    code = (
        "import sys; from pathlib import Path; from tests.integration.test_resume import fetch;"
        "fetch(sys.argv[1], Path(sys.argv[2]))"
    )
    job = subprocess.Popen([sys.executable, "-c", code, link, str(store)])
    try:
        assert wait_for(lambda: kept(store) >= enough, 60)
    finally:
        job.send_signal(signal.SIGKILL)
        job.wait()


def test_kill_9_in_the_middle_costs_the_rest_only(
    server: Server, clip: Path, tmp_path: Path
) -> None:
    half = clip.stat().st_size // 2
    stall = File(clip, ONE, stop_after=half)
    link = server.add("/clip.mp4", [stall, File(clip, ONE)])
    start_and_kill(link, tmp_path, half - 64 * 1024)
    there = kept(tmp_path)
    assert half - 64 * 1024 <= there <= half
    result = fetch(link, tmp_path)
    assert server.ranges["/clip.mp4"][-1] == f"bytes={there}-"
    assert server.headers["/clip.mp4"]["If-Range"] == ONE
    assert server.requests["/clip.mp4"] == 2
    assert result.video.read_bytes() == clip.read_bytes()
    assert folders(tmp_path) == []


@pytest.mark.parametrize(
    ("printed", "now", "requested"),
    [
        ({"etag": ONE}, {"etag": ONE}, ["rest"]),
        ({"last_modified": MONDAY}, {"last_modified": MONDAY}, ["rest"]),
        # answered with all of it
        ({"etag": ONE}, {"etag": '"state-2"'}, ["rest"]),
        ({"etag": ONE, "last_modified": MONDAY}, {"last_modified": TUESDAY}, ["rest"]),
        # a server that does not know If-Range answers with the rest of another file
        ({"etag": ONE}, {"etag": '"state-2"', "knows_if_range": False}, ["rest", None]),
        # where nothing tells one state from another, they are never stitched together
        ({}, {}, [None]),
        ({"etag": 'W/"weak"'}, {"etag": 'W/"weak"'}, [None]),
    ],
)
@pytest.mark.parametrize("path", [PLAIN, LOOKED_AT])
def test_only_the_same_file_is_gone_on_with(
    server: Server,
    clip: Path,
    other: Path,
    tmp_path: Path,
    printed: dict[str, Any],
    now: dict[str, Any],
    requested: list[str | None],
    path: str,
) -> None:
    link, there = broken_off(server, clip, tmp_path, path=path, **printed)
    assert there > 0
    served = clip if printed == now and requested == ["rest"] else other
    probes = looked_at(path, clip)
    server.add(path, [*probes, File(served, **now)])
    before = len(server.ranges[path]) + len(probes)
    assert fetch(link, tmp_path).video.read_bytes() == served.read_bytes()
    expected = [f"bytes={there}-" if wanted else None for wanted in requested]
    assert server.ranges[path][before:] == expected


@pytest.mark.parametrize("path", [PLAIN, LOOKED_AT])
def test_a_file_that_became_shorter_is_fetched_anew(
    server: Server, clip: Path, tmp_path: Path, path: str
) -> None:
    link, there = broken_off(server, clip, tmp_path, path=path, etag=ONE)
    short = make_video(tmp_path / "short.mp4", frames=10)
    server.add(path, [*looked_at(path, short), File(short, '"new"', knows_if_range=False)])
    assert fetch(link, tmp_path).video.read_bytes() == short.read_bytes()
    # the range lies behind the end (416), and so all of it is asked for
    assert server.ranges[path][-2:] == [f"bytes={there}-", None]


def test_another_link_begins_anew(server: Server, clip: Path, tmp_path: Path) -> None:
    broken_off(server, clip, tmp_path, etag=ONE)
    link = server.add("/moved.mp4", File(clip, ONE))
    assert fetch(link, tmp_path).video.read_bytes() == clip.read_bytes()
    assert server.ranges["/moved.mp4"][-1] is None


@pytest.mark.parametrize(
    ("path", "service", "status"),
    [
        *((PLAIN, name, 403) for name in SIGNATURES),
        (PLAIN, "google", 400),
        (PLAIN, "azure", 404),
        (LOOKED_AT, "s3", 403),
        (LOOKED_AT, "azure", 404),
    ],
)
def test_a_new_signature_goes_on_where_the_old_one_stopped(
    server: Server, clip: Path, tmp_path: Path, path: str, service: str, status: int
) -> None:
    query = signed("?id=1", 1, service)
    link, there = broken_off(server, clip, tmp_path, etag=ONE, query=query, path=path)
    new = signed(f"{link}?id=1", 2, service)
    server.add(path, Reply(status))
    with pytest.raises(StageError):
        fetch(link + query, tmp_path)
    server.add(path, [*looked_at(path, clip), File(clip, ONE)])
    assert fetch(new, tmp_path).video.read_bytes() == clip.read_bytes()
    assert server.ranges[path][-1] == f"bytes={there}-"


@pytest.mark.parametrize("query", ["", "?id=2", "?id=1&versionId=1"])
def test_a_new_signature_of_another_object_begins_anew(
    server: Server, clip: Path, tmp_path: Path, query: str
) -> None:
    link, _ = broken_off(server, clip, tmp_path, etag=ONE, query=signed("?id=1", 1))
    server.add("/clip.mp4", File(clip, ONE))
    assert fetch(signed(link + query, 2), tmp_path).video.read_bytes() == clip.read_bytes()
    assert server.ranges["/clip.mp4"][-1] is None


def test_three_attempts_fetch_each_byte_once(server: Server, clip: Path, tmp_path: Path) -> None:
    size = clip.stat().st_size
    link, first = broken_off(server, clip, tmp_path, etag=ONE, after=size // 4)
    server.add("/clip.mp4", File(clip, ONE, stop_after=size // 4))
    with pytest.raises(TransientError):
        fetch(link, tmp_path, QUICK.model_copy(update={"socket_timeout": 0.3}))
    second = kept(tmp_path)
    assert first < second < size
    server.add("/clip.mp4", File(clip, ONE))
    assert fetch(link, tmp_path).video.read_bytes() == clip.read_bytes()
    assert server.ranges["/clip.mp4"] == [None, f"bytes={first}-", f"bytes={second}-"]


def test_a_paused_job_that_wakes_up_writes_where_nobody_reads(
    server: Server, clip: Path, tmp_path: Path
) -> None:
    link, there = broken_off(server, clip, tmp_path, etag=ONE)
    (folder,) = folders(tmp_path)
    (part,) = folder.glob("*.part")
    with part.open("ab") as zombie:
        fcntl.flock(zombie, fcntl.LOCK_EX)  # as yt-dlp holds what it writes
        server.add("/clip.mp4", File(clip, ONE, stop_after=100_000))
        with pytest.raises(TransientError):
            fetch(link, tmp_path, QUICK.model_copy(update={"socket_timeout": 0.3}))
        zombie.write(b"\0" * 5000)
        zombie.flush()
        server.add("/clip.mp4", File(clip, ONE))
        assert fetch(link, tmp_path).video.read_bytes() == clip.read_bytes()
    assert int(str(server.ranges["/clip.mp4"][-1]).strip("bytes=-")) > there


def test_a_job_that_lost_its_folder_ends(server: Server, clip: Path, tmp_path: Path) -> None:
    """What was taken over cannot be written to by its name."""
    half = clip.stat().st_size // 2
    server.add("/clip.mp4", File(clip, ONE))

    def take_over(target: str) -> Reply:
        (folder,) = folders(tmp_path)
        folder.rename(folder.with_name(f".{ID}.{'0' * 12}.resume"))
        return File(clip, ONE).reply({"Range": f"bytes={half}-"})

    link = server.add("/clip.mp4", [File(clip, ONE, stop_after=half), take_over])
    once_more = QUICK.model_copy(update={"socket_timeout": 0.3, "retries": 1})
    with pytest.raises(TransientError):
        fetch(link, tmp_path, once_more)
    assert [folder.name for folder in folders(tmp_path)] == [f".{ID}.{'0' * 12}.resume"]


def test_a_job_that_lost_its_folder_before_the_answer_makes_no_other(
    server: Server, clip: Path, tmp_path: Path
) -> None:
    def taken_over(target: str) -> Reply:
        (folder,) = folders(tmp_path)
        folder.rmdir()
        return File(clip, ONE).reply({})

    link = server.add("/clip.mp4", taken_over)
    with pytest.raises(TransientError):
        fetch(link, tmp_path)
    assert folders(tmp_path) == []


def test_a_job_that_lost_its_claim_deletes_nothing_of_the_new_one(
    server: Server, clip: Path, tmp_path: Path
) -> None:
    new = tmp_path / f".{ID}.{'0' * 12}.resume"

    def taken_over(target: str) -> Reply:
        (folder,) = folders(tmp_path)
        folder.rename(new)
        return Reply(410)

    link = server.add("/clip.mp4", taken_over)
    with pytest.raises(PermanentError):
        fetch(link, tmp_path)
    assert folders(tmp_path) == [new]


@pytest.mark.parametrize("limit", ["pace", "deadline"])
def test_bytes_that_trickle_in_are_not_waited_for(
    server: Server, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """The clock moves on by 25 s with each byte of the body."""
    now, wait = [0.0], server.stopping.wait

    def tick(seconds: float) -> bool:
        now[0] += 25
        return wait(seconds)

    monkeypatch.setattr(server.stopping, "wait", tick)
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(deadline, "_TICK", 0.05)
    link = server.add("/clip.mp4", File(clip, ONE, trickle=0.05))
    limits: dict[str, Any] = {}  # the defaults: 1,000 bytes a second over a minute
    if limit == "deadline":
        limits = {"min_bytes_per_second": 0, "timeout_minutes": 2}
    with pytest.raises(TransientError) as caught:
        fetch(link, tmp_path, DownloadConfig(retries=9, **limits))
    assert caught.value.error_class is ErrorClass.TIMEOUT
    assert ("min_bytes_per_second" if limit == "pace" else "timeout_minutes") in str(caught.value)
    assert now[0] < 25 * 500, "it waited for a whole block"
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert server.requests["/clip.mp4"] == 1


def test_a_request_does_not_count_against_the_deadline(
    server: Server, clip: Path, tmp_path: Path
) -> None:
    """It has its own, and a budget that the fleet shares may make it wait."""
    link = server.add("/clip.mp4", replace(File(clip, ONE).reply({}), delay=2.0))
    assert fetch(link, tmp_path, DownloadConfig(timeout_minutes=1 / 60)).video.exists()


def test_a_full_disk_leaves_what_came(
    server: Server, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yt_dlp.downloader.http import HttpFD

    real, opened = HttpFD.sanitize_open, []

    class Full:
        """A file on a disk with room for some blocks."""

        def __init__(self, file: Any) -> None:
            self.file, self.room = file, 20

        def write(self, block: bytes) -> None:
            self.room -= 1
            if self.room < 0:
                raise OSError(28, "No space left on device")
            self.file.write(block)

        def close(self) -> None:
            self.file.close()

    def full(self: Any, name: str, mode: str) -> tuple[Any, str]:
        file, name = real(self, name, mode)
        opened.append(Full(file))
        return opened[-1], name

    link = server.add("/clip.mp4", File(clip, ONE))
    with monkeypatch.context() as patch:
        patch.setattr(HttpFD, "sanitize_open", full)
        with pytest.raises(TransientError) as caught:
            fetch(link, tmp_path)
    opened[0].close()
    assert caught.value.error_class is ErrorClass.DISK_FULL
    there = kept(tmp_path)
    assert there > 0
    assert fetch(link, tmp_path).video.read_bytes() == clip.read_bytes()
    assert server.ranges["/clip.mp4"][-1] == f"bytes={there}-"


def test_what_fails_for_good_leaves_nothing(server: Server, clip: Path, tmp_path: Path) -> None:
    link, _ = broken_off(server, clip, tmp_path, etag=ONE)
    server.add("/clip.mp4", Reply(status=410))
    with pytest.raises(PermanentError):
        fetch(link, tmp_path)
    assert folders(tmp_path) == []


@pytest.mark.parametrize("state", [b"", b"[]", b"{}", b"\xff\0", b'{"etag": 1, "size": "x"}'])
def test_a_damaged_note_begins_anew(
    server: Server, clip: Path, tmp_path: Path, state: bytes
) -> None:
    folder = tmp_path / f".{ID}.{'a' * 12}.resume"
    folder.mkdir()
    (folder / f"{ID}.mp4.part").write_bytes(b"rubbish")
    (folder / ".state.json").write_bytes(state)
    link = server.add("/clip.mp4", File(clip, ONE))
    assert fetch(link, tmp_path).video.read_bytes() == clip.read_bytes()


def test_the_note_does_not_tell_the_link(server: Server, clip: Path, tmp_path: Path) -> None:
    link = server.add("/clip.mp4", File(clip, ONE, stop_after=300_000))
    with pytest.raises(TransientError):
        fetch(f"{link}?token=s3cret", tmp_path, QUICK.model_copy(update={"socket_timeout": 0.3}))
    (folder,) = folders(tmp_path)
    note = (folder / ".state.json").read_text()
    assert json.loads(note)["etag"] == ONE
    assert "s3cret" not in note
    assert "clip.mp4" not in note


def test_of_several_left_the_longest_is_taken(server: Server, clip: Path, tmp_path: Path) -> None:
    link, there = broken_off(server, clip, tmp_path, etag=ONE)
    short = tmp_path / f".{ID}.{'f' * 12}.resume"
    short.mkdir()
    (short / f"{ID}.mp4.part").write_bytes(b"short")
    others = tmp_path / f".{ID}x.{'f' * 12}.resume"  # of another video
    others.mkdir()
    fetch(link, tmp_path)
    assert server.ranges["/clip.mp4"][-1] == f"bytes={there}-"
    assert folders(tmp_path) == []
    assert os.path.isdir(others)
