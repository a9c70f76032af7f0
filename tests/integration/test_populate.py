"""`populate` and `add-video` in this process: dry runs, statements, columns, hostile input."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg2.extras import LoggingConnection

from dataminer.cli.ingest import add_source, populate_from
from dataminer.db.connection import Session
from dataminer.errors import DataminerError
from dataminer.ingest import listing
from tests.support import videos, youtube_lists, youtube_server
from tests.support.http_server import Server, serve
from tests.support.paths import ROOT
from tests.support.postgres import execute

TABLES = ("projects", "videos", "project_videos")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # yt-dlp's, after a failure


@pytest.fixture(scope="module")
def youtube() -> Iterator[Server]:
    with serve() as running, youtube_server.installed(running):
        yield running


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(dry_run: bool = False, project: str = "p", **given_input: Any) -> tuple[str, str]:
    """Populate from a config file in the current folder; return what was said."""
    values = {"project": project, "input": given_input, "download": {"retries": 0}}
    Path("config.yaml").write_text(json.dumps(values))  # JSON is YAML, and may hold any character
    out, reported = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(reported):
        try:
            populate_from([Path("config.yaml")], dry_run=dry_run)
        except DataminerError as error:
            reported.write(f"{error}\n")
    return out.getvalue(), reported.getvalue()


def dump(database: str) -> list[list[tuple[Any, ...]]]:
    return [execute(database, f"SELECT to_jsonb(t) FROM {table} t ORDER BY 1") for table in TABLES]


def tree(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*") if path.name != "config.yaml")


def test_what_a_list_says_goes_into_the_columns(database: str, youtube: Server, here: Path) -> None:
    entry = {**youtube_lists.entries(1)[0], "license": "Creative Commons Attribution"}
    youtube_lists.add_lists(youtube, {"@someone": [entry, {"id": "unknown0000"}]})
    run(urls=["youtube.com/@someone"])
    columns = "video_id, source_type, title, uploader, licence, duration, source_info"
    origin = {"channel": "https://www.youtube.com/@someone", "origin": "input.urls[0]"}
    assert execute(database, f"SELECT {columns} FROM videos ORDER BY 1") == [
        ("unknown0000", "URL", None, None, None, None, {**origin, "rank": 2}),
        (
            "video000000",
            "URL",
            "Video 0",
            "Someone",
            "Creative Commons Attribution",
            1.0,
            {**origin, "rank": 1},
        ),
    ]


def test_a_dry_run_shows_each_source_and_writes_nothing(
    database: str, youtube: Server, here: Path
) -> None:
    youtube_server.add_search(youtube, youtube_lists.entries(2, start=11))
    run(urls=["youtu.be/aaaaaaaaaaa"])
    run(project="q", urls=["youtu.be/bbbbbbbbbbb"])
    Path("links.txt").write_text(
        "youtu.be/aaaaaaaaaaa\nyoutu.be/bbbbbbbbbbb\n# x\nhttp://u:s3cret@h/a.mp4?token=t0k\nnone\n"
    )
    before, files = dump(database), tree(here)
    wanted: dict[str, Any] = {"searches": ["cats"], "url_files": ["links.txt"]}
    out, reported = run(dry_run=True, **wanted)
    plain = [re.sub(" +", " ", line) for line in out.splitlines()]
    found = "https://www.youtube.com/watch?v="
    assert plain == [
        f"new video000011 input.searches[0] 0:00:12 {found}video000011 Video 11",
        f"new video000012 input.searches[0] 0:00:13 {found}video000012 Video 12",
        f"known aaaaaaaaaaa links.txt:1 {found}aaaaaaaaaaa",
        f"new to project bbbbbbbbbbb links.txt:2 {found}bbbbbbbbbbb",
        "new a-bc565481fd links.txt:4 http://h/a.mp4?token=...",
        "project p: 4 videos would be added, 1 known already (3 new to the store), 1 not used;"
        " nothing was written",
    ]
    assert "not used: links.txt line 5: none: no such file" in reported
    assert (dump(database), tree(here)) == (before, files)
    out, _ = run(**wanted)
    assert "project p: 4 videos added, 1 known already (3 new to the store), 1 not used" in out


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("", "(4 new to the store), 0 not used; there is no database yet, so all are new; nothing"),
        ("postgresql://nobody@127.0.0.1:1/none", "which of them are known is not clear: the"),
    ],
)
def test_a_dry_run_needs_no_database_and_makes_none(
    here: Path, monkeypatch: pytest.MonkeyPatch, url: str, printed: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("DATAMINER_PGDATA", str(here / "postgres"))
    out, reported = run(dry_run=True, urls=[f"youtu.be/{letter * 11}" for letter in "abcd"])
    assert printed in out
    assert {line.split()[0] for line in out.splitlines()[:4]} == {"?" if url else "new"}
    assert (reported, tree(here)) == ("", [])


def test_a_dry_run_in_a_database_without_tables(
    server: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", server)
    with mock.patch("dataminer.db.schema.upgrade", side_effect=AssertionError):
        out, _ = run(dry_run=True, urls=["youtu.be/aaaaaaaaaaa"])
    assert "1 video would be added, 0 known already (1 new to the store)" in out
    assert execute(server, "SELECT to_regclass('videos')") == [(None,)]


def test_add_video_takes_lists_with_the_bounds_of_the_config(
    database: str, youtube: Server, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    youtube_lists.add_lists(youtube, {"playlist?list=PL1": youtube_lists.entries(40)})
    config = {"input": {"max_videos_per_playlist": 5, "filters": {"min_duration": 3}}}
    Path("config.yaml").write_text(json.dumps(config))
    link = "youtube.com/playlist?list=PL1"
    for dry_run in (True, False):
        add_source(link, "fish", files=[Path("config.yaml")], dry_run=dry_run)
    printed = capsys.readouterr().out
    assert "project fish: 5 videos would be added" in printed
    assert "project fish: 5 videos added" in printed
    columns = "source_type, min(duration), max(duration)"
    rows = execute(database, f"SELECT {columns} FROM videos GROUP BY 1")
    assert rows == [("MANUAL", 3.0, 7.0)]
    with pytest.raises(DataminerError, match=r"PL2.*does not exist") as caught:
        add_source("youtube.com/playlist?list=PL2", "fish")
    assert "Next: check what is asked for" in str(caught.value)
    with pytest.raises(DataminerError, match=r"none\.yaml cannot be read"):
        add_source(link, "fish", files=[Path("none.yaml")])


# ---- many at once


class _Logged(LoggingConnection, Session):
    def filter(self, msg: bytes, curs: object) -> str:
        return bytes(msg).decode()[:40].split("(")[0]


class _Statements(list[str]):
    """What `LoggingConnection` writes to: a line a statement."""

    def write(self, line: str) -> None:
        self.append(line)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> _Statements:
    log = _Statements()
    connect = psycopg2.connect

    def logged(*args: Any, **kwargs: Any) -> _Logged:
        connection: _Logged = connect(*args, **{**kwargs, "connection_factory": _Logged})
        connection.initialize(log)
        return connection

    monkeypatch.setattr(psycopg2, "connect", logged)
    return log


def test_ten_thousand_links_take_as_many_statements_as_ten(
    database: str, here: Path, statements: _Statements
) -> None:
    counts = []
    for total in (1, 10, 10_000):  # the first run also asks whose tables these are
        statements.clear()
        Path("links.txt").write_text("".join(f"youtu.be/v{n:010}\n" for n in range(total)))
        out, _ = run(url_files=["links.txt"])
        counts.append(len([line for line in statements if not line.startswith("SET ")]))
    assert "9990 videos added, 10 known already" in out
    assert counts[1] == counts[2] <= 18, list(statements)
    assert execute(database, "SELECT total_videos FROM projects") == [(10_000,)]


# ---- hostile input

NASTY = [
    "../../../../etc/passwd",
    "-rf",
    "--exec=touch executed",
    "%(ext)s/%(title)s",
    "$(touch executed)",
    "`touch executed`",
    "'; touch executed; '",
    "'; DROP TABLE videos; --",
    "%s %(name)s {0} {table}",
    "\\'; SELECT pg_sleep(9)",
    "\x1b]0;owned\x07\x1b[2J\x1b[31m",
    "\u202egnp.exe\u2066",
    "\x9b31m",
    "a\r\nb\u2028c",
    "x\0y",
    "\ud800",
    "x" * 4096,
    "\u0301" * 4096,
    "[bold red]x[/bold red]",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "http://ann:s3cret@h/a.mp4",
    "http://169.254.169.254/latest/meta-data",
]
LINKS = ["https://www.youtube.com/watch?v={}", "youtube.com/@{}", "youtube.com/playlist?list={}"]
LINKS += ["http://h/{}", "youtube.com/results?search_query={}", "youtube:{}", "{}", "{0}.mp4"]

texts = st.sampled_from(NASTY) | st.text(max_size=30)
links = st.builds(str.format, st.sampled_from(LINKS), texts)
entries = st.fixed_dictionaries(
    {"id": texts | st.from_regex(r"[\w-]{11}", fullmatch=True)},
    optional={
        "url": links | st.none() | st.integers(),
        "title": texts | st.none() | st.lists(st.integers(), max_size=2),
        "channel": texts,
        "license": texts,
        "duration": st.floats() | texts | st.integers(-9, 10**400),
        "live_status": texts,
    },
)


def loud(text: str) -> list[str]:
    """Return what a terminal would do more with than show it, each with what stands before."""
    return [
        ascii(text[max(0, position - 30) : position + 1])
        for position, letter in enumerate(text)
        if not (letter.isprintable() or letter == "\n")
    ]


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(entries, max_size=6), st.lists(links, max_size=5), st.lists(texts, max_size=2))
@example([{"id": f"video{n:06}", "title": text} for n, text in enumerate(NASTY)], NASTY, NASTY)
@example([], [link.format(text) for link in LINKS for text in NASTY[3::4]], [])
@example([{"id": "video000000"}], [], ["x\0y"])
@example([{"id": "video000000"}], [], ["\ud800"])
def test_hostile_input_is_inert(
    database: str,
    youtube: Server,
    here: Path,
    found: list[dict[str, Any]],
    urls: list[str],
    queries: list[str],
) -> None:
    youtube_server.add_search(youtube, found)
    youtube_lists.add_lists(youtube, {})
    given_input: dict[str, Any] = {"urls": urls, "searches": queries, "files": queries}
    with mock.patch.object(
        listing, "find_videos", lambda *_: listing.FoundVideos([])
    ):  # `/` is a folder, too
        before, files = dump(database), tree(here)
        printed = "".join(run(dry_run=True, **given_input))
        assert dump(database) == before
        printed += "".join(run(**given_input))
    assert not loud(printed)
    assert "ann:s3cret@" not in printed
    assert tree(here) == files
    columns = "video_id, url, title, uploader, licence, duration, source_info"
    for video_id, url, *reported, seconds, info in execute(
        database, f"SELECT {columns} FROM videos"
    ):
        assert re.fullmatch(r"[A-Za-z0-9_-]{11,51}", video_id)
        assert re.match(r"https?://[a-z0-9.]+[/:]|https?://ann:s3cret@h/|/", url)
        assert all(text is None or (text.isprintable() and len(text) <= 500) for text in reported)
        assert seconds is None or 0 < seconds < 1e9
        assert not loud(json.dumps(info, ensure_ascii=False))


@pytest.mark.parametrize(
    "link",
    ["http://192.168.1.5/a.mp4", "http://localhost:8000/a.mp4", "http://[::1]/a.mp4"],
)
def test_a_private_address_that_the_user_names_is_taken(
    database: str, here: Path, link: str
) -> None:
    run(urls=[link])
    assert execute(database, "SELECT url FROM videos") == [(link,)]


def test_a_folder_of_hostile_names(database: str, here: Path) -> None:
    for name in NASTY:
        if "/" not in name and "\0" not in name and len(name) < 200 and "\ud800" not in name:
            videos.make_video(here / f"{name}.mp4", frames=2)
    files = tree(here)
    out, reported = run(files=["."])
    assert not loud(out + reported)
    assert tree(here) == files
    assert execute(database, "SELECT count(*) > 5 FROM videos") == [(True,)]


def test_the_benchmark_counts_statements(server: str, tmp_path: Path) -> None:
    program = str(ROOT / "benchmarks" / "populate.py")
    command = [sys.executable, program, "--links", "3", "--json"]
    environment = {**os.environ, "DATABASE_URL": server}
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    found = json.loads(done.stdout)
    assert found["statements"] > found["dry_run_statements"] > 0
