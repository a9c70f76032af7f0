"""Searches, playlists and channels through yt-dlp's real machinery, from a loopback server."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataminer.config.models import DownloadConfig, InputConfig, ListFilters
from dataminer.errors import ErrorClass, TransientError
from dataminer.ingest import search
from dataminer.ingest.parse import Source, as_video_list
from dataminer.ingest.search import look_up
from dataminer.ingest.sources import Collected, collect
from dataminer.urls import SourceUrl
from tests.support import youtube_lists, youtube_server
from tests.support.http_server import Reply, Server, serve
from tests.support.youtube_lists import entries

QUICK = DownloadConfig(retries=0, socket_timeout=5)
ANY = ListFilters()
CHANNEL = "https://www.youtube.com/@someone"


# yt-dlp leaves files and sockets to the garbage collector when it fails
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running, youtube_server.installed(running):
        yield running


def searched(query: str, limit: int = 100, filters: ListFilters = ANY) -> list[Source | None]:
    return list(itertools.islice(look_up(search.search(query, filters), filters, QUICK), limit))


def listed(link: str, limit: int = 10_000, filters: ListFilters = ANY) -> list[Source | None]:
    found = as_video_list(link)
    assert found
    return list(itertools.islice(look_up(search.video_list_request(found), filters, QUICK), limit))


def ids(found: list[Source | None]) -> list[str | None]:
    return [source.video_id if source else None for source in found]


def gathered(**settings: object) -> tuple[Collected, list[str]]:
    lines: list[str] = []
    section = InputConfig.model_validate(settings)
    return collect(section, download=QUICK, progress=lines.append), lines


def test_results_come_in_order_with_what_the_page_says(server: Server) -> None:
    youtube_server.add_search(server, entries(3))
    found = searched("cats  on\nstairs")
    assert ids(found) == ["video000000", "video000001", "video000002"]
    assert found[1] == Source(
        "video000001",
        SourceUrl("https://www.youtube.com/watch?v=video000001"),
        "SEARCH",
        {
            "query": "cats on stairs",
            "rank": 2,
            "title": "Video 1",
            "duration": 2.0,
            "uploader": "Someone",
        },
    )


@pytest.mark.parametrize(("limit", "pages"), [(5, 1), (45, 3)])
def test_only_as_many_pages_as_needed_and_no_video_page(
    server: Server, limit: int, pages: int
) -> None:
    youtube_server.add_search(server, entries(100))
    assert len(searched("cats", limit)) == limit
    assert server.requests == {"/search": pages}


def test_unfinished_doubled_and_strange_entries_are_left_out(server: Server) -> None:
    odd: list[dict[str, Any]] = [
        {"id": "live0000000", "live_status": "is_live"},
        {"id": "soon0000000", "live_status": "is_upcoming"},
        {"id": "UC_a_channel_of_24_chars"},
        {"id": "../../../et"},
        {"id": "PL_11_chars", "url": "https://www.youtube.com/playlist?list=PL_11_chars"},
        {"id": "elsewhere00", "url": "https://evil.com/watch?v=elsewhere00"},
        {"id": "file0000000", "url": "file:///etc/passwd"},
        {"id": "broken00000", "url": "http://[::1"},
        {"id": None, "url": None},
    ]
    youtube_server.add_search(server, [*odd, *entries(2), *entries(2)])
    assert ids(searched("cats")) == [None] * 9 + ["video000000", "video000001", None, None]


def test_titles_lose_their_control_characters(server: Server) -> None:
    youtube_server.add_search(server, [{"id": "video000000", "title": "a\x00b\n\x1b[31mc\u202e"}])
    (found,) = searched("cats")
    assert found and found.source_info["title"] == "ab[31mc"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(status=429), ErrorClass.RATE_LIMIT),
        (Reply(status=500), ErrorClass.SERVER),
        (Reply(status=404), ErrorClass.NETWORK),
        (Reply(body=b"not json"), ErrorClass.NETWORK),
        (Reply(body=b'{"an": "object"}'), ErrorClass.NETWORK),
        (Reply(reset=True), ErrorClass.NETWORK),
    ],
)
def test_failures_are_transient(server: Server, reply: Reply, kind: ErrorClass) -> None:
    server.add("/search", reply)
    with pytest.raises(TransientError) as caught:
        searched("cats")
    assert caught.value.error_class is kind
    assert "\n" not in caught.value.message
    assert "report" not in caught.value.message


@pytest.mark.parametrize(
    ("error", "step"),
    [
        ("This video is private", "set download.cookies"),
        ("Sign in to confirm your age", "set download.cookies"),
        ("This video is not available in your country", "set download.proxy"),
        ("Read timed out", "run this command again"),
    ],
)
def test_the_next_step_is_one_for_a_list(server: Server, error: str, step: str) -> None:
    youtube_lists.add_lists(server, {"playlist?list=PL1": {"error": error}})
    found, _ = gathered(urls=["youtube.com/playlist?list=PL1"])
    (rejected,) = found.rejected
    assert rejected.hint.startswith(step) and rejected.hint.endswith("run this command again")
    assert "snakemake" not in rejected.hint and "resumes" not in rejected.hint


def test_the_rest_goes_on_after_a_list_that_failed(server: Server) -> None:
    def on_page(page: int) -> Reply | None:
        return Reply(status=429) if page == 2 else None

    youtube_lists.add_lists(server, {"@someone/videos": entries(100)}, on_page)
    youtube_server.add_search(server, entries(2, start=38))
    found, lines = gathered(
        urls=[f"{CHANNEL}/videos", "youtu.be/video000001", "youtube.com/playlist?list=none"],
        searches=["good", "void\0"],
    )
    assert [(r.text, r.origin) for r in found.rejected] == [
        ("void\\x00", "input.searches[1]"),
        (f"{CHANNEL}/videos", "input.urls[0]"),
        ("youtube.com/playlist?list=none", "input.urls[2]"),
    ]
    assert "429" in found.rejected[1].reason
    assert found.rejected[1].reason.endswith("; 40 videos were found before")
    assert "The playlist does not exist" in found.rejected[2].reason
    assert found.rejected[1].hint.startswith("wait an hour, then run this command again")
    assert found.rejected[2].hint == "check what is asked for, or run this command again"
    assert [s.source_info["origin"] for s in found.sources[:2]] == ["input.searches[0]"] * 2
    assert len(found.sources) == 40
    assert lines == ["search good: 2 videos"]


# ---- playlists and channels


def test_a_playlist_is_listed_page_by_page_and_says_whose_it_is(server: Server) -> None:
    youtube_lists.add_lists(server, {"playlist?list=PL1": entries(100, license="CC BY")})
    found = listed("youtube.com/playlist?list=PL1&index=3", 30)
    assert ids(found) == [f"video{i:06d}" for i in range(30)]
    assert server.requests == {"/list": 2}
    assert found[29] and found[29].source_type == "URL"
    assert found[29].source_info == {
        "playlist": "https://www.youtube.com/playlist?list=PL1",
        "rank": 30,
        "title": "Video 29",
        "duration": 30.0,
        "uploader": "Someone",
        "licence": "CC BY",
    }


def test_a_channel_without_a_tab_brings_all_its_uploads_each_once(server: Server) -> None:
    tabs: dict[str, Any] = {
        "@someone": {"tabs": ["videos", "streams", "shorts"]},
        "@someone/videos": entries(25),
        "@someone/streams": entries(2, start=24) + entries(1, start=90, live_status="is_live"),
        "@someone/shorts": [
            {"id": "short000000", "url": "https://www.youtube.com/shorts/short000000"}
        ],
    }
    youtube_lists.add_lists(server, tabs)
    found = [source for source in ids(listed(CHANNEL)) if source]
    assert found == [f"video{i:06d}" for i in range(26)] + ["short000000"]
    assert ids(listed(f"{CHANNEL}/shorts")) == ["short000000"]


@pytest.mark.parametrize("path", ["c/Name", "user/Name", "channel/UC1/videos", "@n/streams"])
def test_channels_of_every_kind(server: Server, path: str) -> None:
    youtube_lists.add_lists(server, {path: entries(2)})
    found = listed(f"youtube.com/{path}")
    assert len(found) == 2
    assert found[0] and found[0].source_info["channel"] == f"https://www.youtube.com/{path}"


def test_a_list_that_leads_elsewhere_is_followed_and_a_circle_ends(server: Server) -> None:
    lists: dict[str, list[youtube_lists.FlatEntry] | youtube_lists.FlatEntry] = {
        "c/Old": {"leads": CHANNEL},
        "@someone": entries(2),
        "c/Circle": {"leads": "https://www.youtube.com/c/Circle"},
        "c/Live": {"leads": "https://www.youtube.com/watch?v=video000007"},
    }
    youtube_lists.add_lists(server, lists)
    assert ids(listed("youtube.com/c/Old")) == ["video000000", "video000001"]
    assert ids(listed("youtube.com/c/Circle")) == [None]
    assert ids(listed("youtube.com/c/Live")) == ["video000007"]
    assert server.requests.keys() == {"/list"}


def test_lists_stand_wherever_links_stand(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    youtube_lists.add_lists(
        server, {"playlist?list=PL1": entries(30), "@someone/videos": entries(50, start=20)}
    )
    (tmp_path / "links.txt").write_text(f"# all\n{CHANNEL}/videos  # the channel\n")
    found, lines = gathered(
        urls=["youtube.com/playlist?list=PL1"],
        url_files=["links.txt"],
        max_videos_per_playlist=25,
    )
    assert len(found.sources) == 45
    assert found.sources[-1].source_info["origin"] == "links.txt:2"
    assert lines == [
        "playlist https://www.youtube.com/playlist?list=PL1: 25 videos,"
        " as many as input.max_videos_per_playlist allows",
        "links.txt: 1 lines",
        f"channel {CHANNEL}/videos: 25 videos, as many as input.max_videos_per_playlist allows",
    ]


# ---- filters


def test_youtube_filters_what_it_can_and_the_rest_is_checked(server: Server) -> None:
    requested: list[tuple[str, str | None]] = []

    def results(query: str, sp: str | None) -> list[youtube_lists.FlatEntry]:
        requested.append((query, sp))
        return entries(200)

    youtube_lists.add_results(server, results)
    found, lines = gathered(
        searches=["cats & dogs"],
        max_results_per_query=5,
        filters={"min_duration": 30, "max_duration": 32, "licence": "creative_commons"},
    )
    assert [s.source_info["duration"] for s in found.sources] == [30.0, 31.0, 32.0]
    assert set(requested) == {("cats & dogs", "EgYQARgEMAHwAQE=")}
    assert len(requested) == 3  # pages: ten times as many as are wanted, no more
    assert lines == ["search cats & dogs: 3 videos, 47 left out"]


def test_filters_hold_for_playlists_and_ages_are_asked_for(server: Server) -> None:
    dated = [*entries(1, upload_date="20230101"), *entries(1, start=1, upload_date="20240101")]
    youtube_lists.add_lists(server, {"playlist?list=PL1": [*dated, *entries(1, start=2)]})
    filters = ListFilters(after="2023-06-01")
    assert ids(listed("youtube.com/playlist?list=PL1", filters=filters)) == [
        None,
        "video000001",
        "video000002",
    ]


def test_yt_dlps_own_extractors_are_as_lazy_and_give_what_filters_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pages as YouTube's search answers them, through the real extractors of both kinds."""
    from yt_dlp.extractor.youtube._tab import YoutubeTabBaseInfoExtractor as Real

    calls: list[dict[str, object]] = []

    def video(number: int, **more: object) -> dict[str, object]:
        printed = {
            "videoId": f"video{number:06d}",
            "title": {"runs": [{"text": f"Video {number}"}]},
            "lengthText": {"simpleText": f"0:{number:02d}"},
            "ownerText": {"runs": [{"text": "Someone"}]},
            "publishedTimeText": {"simpleText": "3 years ago"},
            **more,
        }
        return {"videoRenderer": printed}

    def answer(self: object, *, query: dict[str, object], **_: object) -> dict[str, object]:
        calls.append(dict(query))
        live = {"thumbnailOverlays": [{"thumbnailOverlayTimeStatusRenderer": {"style": "LIVE"}}]}
        first = 10 * len(calls)
        shown = [video(first + i, **(live if i == 1 else {})) for i in range(10)]
        more = {"continuationEndpoint": {"continuationCommand": {"token": "next"}}}
        sections = [
            {"itemSectionRenderer": {"contents": shown}},
            {"continuationItemRenderer": more},
        ]
        if len(calls) > 1:
            action = {"appendContinuationItemsAction": {"continuationItems": sections}}
            return {"onResponseReceivedCommands": [action]}
        primary = {"sectionListRenderer": {"contents": sections}}
        return {"contents": {"twoColumnSearchResultsRenderer": {"primaryContents": primary}}}

    monkeypatch.setattr(Real, "_extract_response", answer)
    monkeypatch.setattr(Real, "_download_ytcfg", lambda *_, **__: {})
    filters = ListFilters(min_duration=12, licence="creative_commons")
    found = searched("cats", 15, filters)
    assert ids(found)[:4] == [None, None, "video000012", "video000013"]
    assert found[2] and found[2].source_info["duration"] == 12.0
    assert found[2].source_info["uploader"] == "Someone"
    assert ids(found)[10:12] == ["video000020", None]
    assert [call.get("params") for call in calls] == ["EgQQATAB8AEB"] * 2
    calls.clear()
    assert ids(searched("cats", 1, ListFilters(after="today-2years"))) == [None]
    assert ids(searched("cats", 1, ListFilters(before="today-2years"))) != [None]


def test_the_rig_is_found_by_subprocesses_only_where_it_is_asked_for() -> None:
    code = "from yt_dlp import YoutubeDL; from yt_dlp.extractor import gen_extractor_classes as g"
    code += "; YoutubeDL(); print(*sorted(c.__name__ for c in g() if c.__name__[:3] == 'Rig'))"
    rig = "RigYoutubeIE RigYoutubeSearchIE RigYoutubeSearchURLIE RigYoutubeTabIE"
    with serve() as running:
        for extra, expected in [(youtube_server.environment(running), rig), ({}, "")]:
            done = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, **extra},
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stdout.strip() == expected
