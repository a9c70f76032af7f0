"""Whole input sections: link files, folders, searches, order, and doubles."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataminer.config.models import InputConfig
from dataminer.errors import ErrorClass, TransientError
from dataminer.ingest import listing, tables
from dataminer.ingest.parse import Source
from dataminer.ingest.search import ListRequest
from dataminer.ingest.sources import Collected, collect
from dataminer.urls import SourceUrl

ONE, TWO, THREE = "aqz-KE-bpKQ", "bbbbbbbbbbb", "ccccccccccc"

Looked = Generator[Source | None, None, None]


def read(folder: Path, content: bytes | str, **more: object) -> Collected:
    data = content if isinstance(content, bytes) else content.encode()
    (folder / "links.txt").write_bytes(data)
    settings = InputConfig(url_files=["links.txt"])
    return collect(settings, base=folder, look_up=offline, **more)  # type: ignore[arg-type]


def offline(request: ListRequest, *_: object) -> Looked:
    """Find one video for each word of a search; other lists are away."""
    if "query" not in request.info:
        raise TransientError(f"{request.name}: no network", ErrorClass.NETWORK)
    for rank, word in enumerate(request.info["query"].split(), start=1):
        yield Source(word * 11, SourceUrl("u"), request.source_type, {**request.info, "rank": rank})


def ids(collected: Collected) -> list[str]:
    return [source.video_id for source in collected.sources]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_link_file(tmp_path: Path) -> None:
    touch(tmp_path, "clip.mp4")
    collected = read(
        tmp_path,
        "# my links\n"
        "\n"
        f"https://youtu.be/{ONE}\n"
        f"   youtu.be/{TWO}   # a remark\n"
        f"https://youtu.be/{ONE}?t=3  # again\n"
        "   # indented remark\n"
        "clip.mp4\t# mine\n"
        "http://host/a.mp4#t=4\n"
        "https://www.youtube.com/@SomeOne\n"
        "no such thing\n",
    )
    assert ids(collected)[:2] == [ONE, TWO]
    assert [s.source_type for s in collected.sources] == ["URL", "URL", "FILE", "URL"]
    assert [s.source_info["origin"] for s in collected.sources] == [
        "links.txt:3",
        "links.txt:4",
        "links.txt:7",
        "links.txt:8",
    ]
    assert [(r.text, r.origin) for r in collected.rejected] == [
        ("https://www.youtube.com/@SomeOne", "links.txt line 9"),
        ("no such thing", "links.txt line 10"),
    ]
    assert "channel" in collected.rejected[0].reason
    assert "no network" in collected.rejected[0].reason


@pytest.mark.parametrize(
    "content",
    [
        f"youtu.be/{ONE}\r\nyoutu.be/{TWO}\r\n".encode(),
        f"youtu.be/{ONE}\ryoutu.be/{TWO}".encode(),
        f"youtu.be/{ONE}\nyoutu.be/{TWO}".encode(),
        b"\xef\xbb\xbf" + f"youtu.be/{ONE}\n\n\nyoutu.be/{TWO}\n".encode(),
        b"\xef\xbb\xbf" + f"# first\r\nyoutu.be/{ONE}\r\nyoutu.be/{TWO}\r\n\r\n".encode(),
        f"youtu.be/{ONE}\nyoutu.be/{TWO}\n".encode("utf-16"),
        f"\ufeffyoutu.be/{ONE}\nyoutu.be/{TWO}".encode("utf-16-be"),
        f"youtu.be/{ONE}\n# caf\u00e9 in Latin-1: ".encode()
        + b"\xe9\n"
        + f"youtu.be/{TWO}".encode(),
    ],
)
def test_encodings_and_ends_of_line(tmp_path: Path, content: bytes) -> None:
    collected = read(tmp_path, content)
    assert ids(collected) == [ONE, TWO]
    assert collected.rejected == []


def test_a_line_that_is_not_utf8_is_refused_alone(tmp_path: Path) -> None:
    collected = read(tmp_path, b"caf\xe9.mp4\nyoutu.be/" + ONE.encode() + b"  # \xe9\n")
    assert ids(collected) == [ONE]
    assert collected.rejected[0].origin == "links.txt line 1"
    assert "UTF-8" in collected.rejected[0].reason
    assert collected.rejected[0].text == "caf\\udce9.mp4"


def test_names_with_a_hash_sign(tmp_path: Path) -> None:
    touch(tmp_path, "take #3.mp4", "a.mp4")
    collected = read(tmp_path, "take #3.mp4\na.mp4 #3.mp4\n")
    assert [Path(s.url.reveal()).name for s in collected.sources] == ["take #3.mp4", "a.mp4"]


def test_paths_begin_at_the_link_file_then_at_the_base(tmp_path: Path) -> None:
    touch(tmp_path, "lists/both.mp4", "both.mp4", "only.mp4", "lists/down/x.mp4")
    (tmp_path / "lists" / "l.txt").write_text("both.mp4\nonly.mp4\n../only.mp4\ndown\nnone.mp4\n")
    collected = collect(InputConfig(url_files=["lists/l.txt"]), base=tmp_path)
    assert [os.path.relpath(s.url.reveal(), tmp_path) for s in collected.sources] == [
        "lists/both.mp4",
        "only.mp4",
        "lists/down/x.mp4",
    ]
    assert collected.sources[2].source_info["folder"] == str(tmp_path / "lists" / "down")
    assert [r.origin for r in collected.rejected] == ["lists/l.txt line 5"]


def test_link_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "movie.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    (tmp_path / "huge.txt").write_text("x" * 200)
    monkeypatch.setattr(listing, "MAX_BYTES", 100)
    given = ["gone.txt", "folder", "movie.mp4", "huge.txt", "a\0b", "http://host/list.txt", ""]
    collected = collect(InputConfig(url_files=given), base=tmp_path)
    assert collected.sources == []
    assert [r.origin for r in collected.rejected] == [
        f"input.url_files[{i}]" for i in range(len(given))
    ]
    for rejected, printed in zip(
        collected.rejected,
        ["no such file", "directory", "not a text", "larger", "control", "no such", "empty"],
        strict=True,
    ):
        assert printed in rejected.reason


def test_an_unreadable_link_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, column: str | None) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(tables, "read_table_of_links", refuse)
    collected = read(tmp_path, "")
    assert collected.rejected[0].reason == "cannot be read (Permission denied)"


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, "a.mp4")
    (tmp_path / "l.txt").write_text("~/a.mp4\n")
    collected = collect(InputConfig(url_files=["~/l.txt"], files=["~"]), base=Path("/nonexistent"))
    assert len(collected.sources) == 1
    assert collected.rejected == []


def test_folders(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "v/b.MP4",
        "v/a.mkv",
        "v/a/z.webm",
        "v/notes.txt",
        "v/.hidden.mp4",
        "v/.git/x.mp4",
        "v/a/.git/x.mp4",
        "w/.git/x.mp4",
        "v/deep/er/c.3gp",
        "v/noext",
        "w/readme.md",
    )
    lines: list[str] = []
    collected = collect(InputConfig(files=["v", "w"]), base=tmp_path, progress=lines.append)
    assert [os.path.relpath(s.url.reveal(), tmp_path / "v") for s in collected.sources] == [
        "a/z.webm",
        "a.mkv",
        "b.MP4",
        "deep/er/c.3gp",
    ]
    assert collected.sources[0].source_info == {
        "origin": "input.files[0]",
        "folder": str(tmp_path / "v"),
    }
    assert [(r.text, r.reason) for r in collected.rejected] == [
        ("w", "no video file in this folder")
    ]
    assert lines == [
        "v: 4 video files; left out 2 hidden folders, 1 .txt, 1 hidden, 1 without a suffix",
        "w: 0 video files; left out 1 .md, 1 hidden folder",
    ]


@pytest.mark.parametrize(
    "suffix",
    [
        ".insv",
        ".360",
        ".dv",
        ".mod",
        ".tod",
        ".m1v",
        ".h264",
        ".hevc",
        ".gif",
        ".265",
        ".y4m",
        ".nut",
        ".ivf",
        ".m2t",
        ".GIF",
    ],
)
def test_folders_of_cameras_and_raw_streams(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"a{suffix}")
    assert len(collect(InputConfig(files=["."]), base=tmp_path).sources) == 1


def test_what_a_folder_holds_besides_is_counted_by_its_ending(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", *(f"{i}.jpg" for i in range(3)), "x.\x1b[1m", "b.SRT", "c.srt")
    touch(tmp_path, *(f"x.{c}" for c in "abcdefghijk"))
    lines: list[str] = []
    collect(InputConfig(files=["."]), base=tmp_path, progress=lines.append)
    assert lines == [
        ".: 1 video files; left out 3 .jpg, 2 .srt, 1 .\\x1b[1m, 1 .a, 1 .b, 1 .c, 1 .d, 1 .e,"
        " 6 others"
    ]


def test_a_name_that_ends_in_a_space(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4 ", "b.MKV\u00a0", "c.jpg ")
    lines: list[str] = []
    collected = collect(InputConfig(files=["."]), base=tmp_path, progress=lines.append)
    assert [Path(s.url.reveal()).name for s in collected.sources] == ["a.mp4 ", "b.MKV\u00a0"]
    assert lines == [".: 2 video files; left out 1 .jpg"]


def test_hidden_folders_are_not_entered_but_what_leads_there_is(tmp_path: Path) -> None:
    touch(tmp_path, "v/.all/a.mp4", ".data/b.mp4")
    (tmp_path / "v" / "link").symlink_to(".all")
    lines: list[str] = []
    settings = InputConfig(files=["v"])
    collected = collect(settings, base=tmp_path, progress=lines.append)
    assert [Path(s.url.reveal()).name for s in collected.sources] == ["a.mp4"]
    assert lines == ["v: 1 video files; left out 1 hidden folder"]


def test_a_named_file_needs_no_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "noext", ".hidden")
    collected = collect(InputConfig(files=["noext", ".hidden"]), base=tmp_path)
    assert len(collected.sources) == 2


def test_links_between_folders_end(tmp_path: Path) -> None:
    touch(tmp_path, "v/a.mp4", "elsewhere/b.mp4")
    (tmp_path / "v" / "up").symlink_to(tmp_path / "v")
    (tmp_path / "v" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "v" / "broken.mp4").symlink_to(tmp_path / "gone.mp4")
    collected = collect(InputConfig(files=["v"]), base=tmp_path)
    assert [Path(s.url.reveal()).name for s in collected.sources] == ["a.mp4", "b.mp4"]
    assert [Path(r.text).name for r in collected.rejected] == ["broken.mp4"]


def test_the_store_is_not_scanned(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "data/videos/x/x.mp4")
    collected = collect(InputConfig(files=["."]), base=tmp_path, skip=tmp_path / "data")
    assert [Path(s.url.reveal()).name for s in collected.sources] == ["a.mp4"]


def test_an_unreadable_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "v/a.mp4", "v/closed/b.mp4")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    collected = collect(InputConfig(files=["v"]), base=tmp_path)
    assert len(collected.sources) == 1
    assert collected.rejected[0].text.endswith("closed")
    assert "Permission denied" in collected.rejected[0].reason


def test_strange_names_in_folders_are_refused_alone(tmp_path: Path) -> None:
    touch(tmp_path, "v/a.mp4", "v/two\nlines.mp4")
    (Path(os.fsdecode(bytes(tmp_path) + b"/v/caf\xe9.mp4"))).touch()
    collected = collect(InputConfig(files=["v"]), base=tmp_path)
    assert len(collected.sources) == 1
    assert len(collected.rejected) == 2
    assert all(r.text.isprintable() for r in collected.rejected)


def test_order_and_doubles(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "links.txt").write_text(f"youtu.be/{TWO}\nyoutu.be/{THREE}\na.mp4\n")

    def look_up(request: ListRequest, *_: object) -> Looked:
        for rank in range(1, 8):
            yield Source(ONE, SourceUrl("u"), "SEARCH", {**request.info, "rank": rank})
        raise AssertionError("more was asked for than is wanted")

    section = InputConfig(
        searches=["cats", "dogs"],
        urls=[f"youtu.be/{TWO}", f"youtube.com/shorts/{ONE}", "bad"],
        url_files=["links.txt"],
        files=["a.mp4", "."],
        max_results_per_query=7,
    )
    collected = collect(section, base=tmp_path, look_up=look_up)
    assert ids(collected)[:3] == [ONE, TWO, THREE]
    assert len(collected.sources) == 4
    assert [s.source_info for s in collected.sources] == [
        {"query": "cats", "rank": 1, "origin": "input.searches[0]"},
        {"origin": "input.urls[0]"},
        {"origin": "links.txt:2"},
        {"origin": "links.txt:3"},
    ]
    assert [(r.text, r.origin) for r in collected.rejected] == [("bad", "input.urls[2]")]
    assert collect(section, base=tmp_path, look_up=look_up) == collected


def test_a_search_that_fails_or_finds_nothing(tmp_path: Path) -> None:
    def look_up(request: ListRequest, *_: object) -> Looked:
        if request.info["query"] == "half":
            yield Source(ONE, SourceUrl("u"), "SEARCH", request.info)
        if request.info["query"] in {"down", "half"}:
            raise TransientError("the network is \x1b[31mdown", ErrorClass.NETWORK)
        if request.info["query"] == "filtered":
            yield None

    settings = InputConfig(searches=["down", "none", "half", "filtered"])
    collected = collect(settings, base=tmp_path, look_up=look_up)
    assert [r.reason for r in collected.rejected] == [
        "the network is \\x1b[31mdown",
        "found no video",
        "the network is \\x1b[31mdown; 1 videos were found before",
        "found no video that passes input.filters",
    ]
    assert ids(collected) == [ONE]


def test_a_file_of_searches(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(
        "# what to look for\n\na b\n  c #d   # a remark\n#e\nf\x07\n"
    )
    lines: list[str] = []
    settings = InputConfig(query_files=["words.txt", "gone.txt"])
    collected = collect(settings, base=tmp_path, look_up=offline, progress=lines.append)
    assert ids(collected) == ["a" * 11, "b" * 11, "c" * 11, "#d" * 11]
    assert collected.sources[3].source_info == {
        "query": "c #d",
        "rank": 2,
        "origin": "words.txt:4",
    }
    assert [(r.origin, r.reason.partition(" such")[0]) for r in collected.rejected] == [
        ("words.txt line 6", "contains control characters"),
        ("input.query_files[1]", "no"),
    ]
    assert lines == ["words.txt: 3 lines", "search a b: 2 videos", "search c #d: 2 videos"]


def test_a_list_says_how_far_it_is_and_what_ended_it(tmp_path: Path) -> None:
    def look_up(request: ListRequest, *_: object) -> Looked:
        for rank in range(1, 1000):
            yield Source(f"{rank:011}", SourceUrl("u"), "URL", {}) if rank % 2 else None

    lines: list[str] = []
    name = "playlist https://www.youtube.com/playlist?list=PL1"
    settings = InputConfig(urls=["youtube.com/playlist?list=PL1"], max_videos_per_playlist=120)
    assert len(collect(settings, look_up=look_up, progress=lines.append).sources) == 120
    assert lines == [
        f"{name}: 50 videos of 100 so far",
        f"{name}: 100 videos of 200 so far",
        f"{name}: 120 videos, 119 left out, as many as input.max_videos_per_playlist allows",
    ]


def test_a_search_that_filters_leave_little_of_ends(tmp_path: Path) -> None:
    looked = 0

    def look_up(request: ListRequest, *_: object) -> Looked:
        nonlocal looked
        while True:
            looked += 1
            yield None

    collect(InputConfig(searches=["cats"], max_results_per_query=5), look_up=look_up)
    assert looked == 50


def test_an_interrupt_keeps_what_was_found(tmp_path: Path) -> None:
    closed = False

    def look_up(request: ListRequest, *_: object) -> Looked:
        nonlocal closed
        try:
            yield Source(ONE, SourceUrl("u"), "URL", {})
            raise KeyboardInterrupt
        finally:
            closed = True

    settings = InputConfig(searches=["cats"], urls=[f"youtu.be/{TWO}"])
    collected = collect(settings, look_up=look_up)
    assert (ids(collected), collected.interrupted, closed) == ([ONE], True, True)


def test_nothing_given() -> None:
    assert collect(InputConfig()) == Collected([], [])


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_make_a_link_file(tmp_path: Path, content: bytes) -> None:
    with mock.patch.object(
        listing, "find_videos", lambda *_: listing.FoundVideos([])
    ):  # `/` is a folder, too
        collected = read(tmp_path, content)
    for rejected in collected.rejected:
        assert rejected.text.isprintable()
    assert len(collected.sources) + len(collected.rejected) <= len(content)
