"""One text to one source: YouTube's spellings, plain links, paths, and hostile strings."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dataminer.config.models import InputConfig
from dataminer.errors import ConfigError
from dataminer.ingest import listing, youtube
from dataminer.ingest.parse import InputError, Source, _make_id, as_video_list, parse
from dataminer.ingest.sources import collect
from dataminer.urls import SourceUrl

ID_PATTERN = re.compile(r"[A-Za-z0-9_-]+")
ID = "aqz-KE-bpKQ"
WATCH_PAGE = f"https://www.youtube.com/watch?v={ID}"

VIDEOS = [
    f"https://www.youtube.com/watch?v={ID}",
    f"http://www.youtube.com/watch?v={ID}",
    f"HTTPS://WWW.YouTube.COM/watch?v={ID}",
    f"https://youtube.com/watch?v={ID}",
    f"https://m.youtube.com/watch?v={ID}",
    f"https://music.youtube.com/watch?v={ID}",
    f"https://gaming.youtube.com/watch?v={ID}",
    f"https://www.youtube.com:443/watch?v={ID}",
    f"www.youtube.com/watch?v={ID}",
    f"youtube.com/watch?v={ID}",
    f"//www.youtube.com/watch?v={ID}",
    f"https://www.youtube.com/watch?app=desktop&v={ID}",
    f"https://www.youtube.com/watch?v={ID}&t=42s&list=PL123&index=3",
    f"youtube.com/watch?list=PLxyz&v={ID}",
    f"https://m.youtube.com/watch?list=PLxyz&v={ID}",
    f"https://www.youtube.com/watch?feature=share&amp;v={ID}",
    f"https://www.youtube.com/watch?s=tuff;v={ID}",
    f"https://www.youtube.com/watch/?v={ID}",
    f"https://www.youtube.com//watch?v={ID}",
    f"https://www.youtube.com/watch/{ID}",
    f"https://www.youtube.com/?v={ID}",
    f"https://www.youtube.com/#/watch?v={ID}",
    f"https://www.youtube.com/watch#!v={ID}",
    f"https://www.youtube.com/watch_popup?v={ID}",
    f"https://www.youtube.com/watch%3Fv%3D{ID}",
    f"https://www.youtube.com/attribution_link?a=x&u=%2Fwatch%3Fv%3D{ID}%26feature%3Dshare",
    f"https://www.youtube.com/signin?next=%2Fwatch%3Fv%3D{ID}",
    f"https://consent.youtube.com/m?continue=https%3A%2F%2Fwww.youtube.com%2Fwatch%3Fv%3D{ID}",
    f"https://youtu.be/{ID}",
    f"http://youtu.be/{ID}?si=Abc_123&t=9",
    f"youtu.be/{ID}",
    f"youtu.be/{ID}/",
    f"https://youtu.be/watch?v={ID}",
    f"https://www.youtube.com/shorts/{ID}",
    f"https://youtube.com/shorts/{ID}?feature=share",
    f"https://www.youtube.com/embed/{ID}?autoplay=1",
    f"https://www.youtube-nocookie.com/embed/{ID}",
    f"youtube-nocookie.com/embed/{ID}",
    f"https://www.youtubekids.com/watch?v={ID}",
    f"https://www.youtube.com/live/{ID}?feature=shared",
    f"https://www.youtube.com/v/{ID}?version=3",
    f"https://www.youtube.com/v/{ID}&hl=en",
    f"https://www.youtube.com/e/{ID}",
    f"https://youtube.googleapis.com/v/{ID}",
    f"https://www.youtube.com/watch?v={ID}).",
    f"https://youtu.be/{ID}, which is good",
    f"https://www.youtube.com/watch?v={ID}#t=30",
    f"https://www.youtube.com/watch?v={ID}%20x",
    f"https://user:pw@www.youtube.com/watch?v={ID}",
    f"  https://youtu.be/{ID}\t\n",
    f"youtube:{ID}",
    f"YouTube: {ID}",
]


@pytest.mark.parametrize("text", VIDEOS)
def test_youtube_in_all_spellings(text: str) -> None:
    assert parse(text) == Source(ID, SourceUrl(WATCH_PAGE), "URL", {})


def test_yt_dlp_reads_the_same_ids() -> None:
    from yt_dlp.extractor.youtube import YoutubeIE

    links = [text for text in VIDEOS if text.startswith("http") and "@" not in text]
    read = {text: YoutubeIE.get_temp_id(text) for text in links}
    assert sum(found is not None for found in read.values()) >= 25
    for text, found in read.items():
        assert found in {ID, None}, text


LISTS = [
    ("https://www.youtube.com/playlist?list=PL1-_x", "playlist?list=PL1-_x"),
    ("youtube.com/playlist?feature=share&list=PL1#x", "playlist?list=PL1"),
    ("https://m.youtube.com/playlist?list=PL1&v=aqz-KE-bpKQ", "playlist?list=PL1"),
    ("https://music.youtube.com/playlist?list=OLAK5uy_abc", "playlist?list=OLAK5uy_abc"),
    ("https://www.youtube.com/watch?list=PL1", "playlist?list=PL1"),
    ("https://www.youtube.com/embed/videoseries?list=PL1", "playlist?list=PL1"),
    ("https://www.youtube.com/@SomeOne", "@SomeOne"),
    ("www.youtube.com/@SomeOne/?sub=1", "@SomeOne"),
    ("https://www.youtube.com/@SomeOne/featured", "@SomeOne"),
    ("https://www.youtube.com/@some.one-1/videos", "@some.one-1/videos"),
    ("https://www.youtube.com/@SomeOne/Shorts", "@SomeOne/shorts"),
    ("https://www.youtube.com/@SomeOne/streams", "@SomeOne/streams"),
    ("https://www.youtube.com/@ひと/videos", "@%E3%81%B2%E3%81%A8/videos"),
    ("https://www.youtube.com/@%E3%81%B2%E3%81%A8", "@%E3%81%B2%E3%81%A8"),
    ("youtube.com/channel/UCsXVk37bltHxD1rDPwtNM8Q", "channel/UCsXVk37bltHxD1rDPwtNM8Q"),
    ("https://www.youtube.com/channel/UC1/videos?view=0", "channel/UC1/videos"),
    ("https://www.youtube.com/c/Kurz%20gesagt%3F/videos", None),
    ("https://www.youtube.com/c/Kurzgesagt", "c/Kurzgesagt"),
    ("https://www.youtube.com/User/LinusTechTips/videos", "user/LinusTechTips/videos"),
    (
        "https://www.youtube.com/results?search_query=two+cats&sp=EgIwAQ%253D%253D",
        "results?search_query=two+cats&sp=EgIwAQ%253D%253D",
    ),
    ("https://www.youtube.com/results?q=cats", "results?search_query=cats"),
    # none of them is a list that can be named in full
    ("https://www.youtube.com/watch?v=aqz-KE-bpKQ&list=PL1", None),
    ("https://youtu.be/aqz-KE-bpKQ?list=PL1", None),
    ("https://www.youtube.com/playlist?list=", None),
    ("https://www.youtube.com/playlist?list=../x", None),
    ("https://www.youtube.com/playlist?list=%00PL1", None),
    ("https://www.youtube.com/@SomeOne/playlists", None),
    ("https://www.youtube.com/@SomeOne/live", None),
    ("https://www.youtube.com/@", None),
    ("https://www.youtube.com/@a%20b", None),
    ("https://www.youtube.com/channel/", None),
    ("https://www.youtube.com/results?search_query=", None),
    ("https://www.youtube.com/feed/trending", None),
    ("https://youtube.com.evil.com/@SomeOne", None),
    ("https://evil.com/playlist?list=PL1", None),
    ("/playlist?list=PL1", None),
    ("@SomeOne", None),
]


@pytest.mark.parametrize(("text", "path"), LISTS)
def test_lists_in_all_spellings(text: str, path: str | None) -> None:
    found = as_video_list(text)
    assert (found and found.url) == (path and f"https://www.youtube.com/{path}")


def test_yt_dlp_takes_the_links_of_lists_for_lists() -> None:
    from yt_dlp.extractor.youtube import YoutubeIE, YoutubeSearchURLIE, YoutubeTabIE

    for text, _ in LISTS:
        found = as_video_list(text)
        if found is not None:
            taker = YoutubeSearchURLIE if found.kind == "search page" else YoutubeTabIE
            assert taker.suitable(found.url), found
            assert not YoutubeIE.suitable(found.url)


@pytest.mark.parametrize("video_id", ["-dash-first", "_under-----", "00000000000", "hello-world"])
def test_ids_of_any_look_are_kept(video_id: str) -> None:
    assert parse(f"https://youtu.be/{video_id}").video_id == video_id
    assert parse(f"youtube:{video_id}").video_id == video_id


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("https://www.youtube.com/playlist?list=PLrAXtmErZgOei", "playlist"),
        (f"https://www.youtube.com/playlist?list=PL1&v={ID}", "playlist"),
        ("https://www.youtube.com/watch?list=PLrAXtmErZgOei", "playlist"),
        ("https://www.youtube.com/embed/videoseries?list=PLrAXtmErZgOei", "playlist"),
        ("https://www.youtube.com/@SomeOne", "channel"),
        ("https://www.youtube.com/@SomeOne/videos", "channel"),
        ("youtube.com/channel/UCsXVk37bltHxD1rDPwtNM8Q", "channel"),
        ("https://www.youtube.com/c/Kurzgesagt", "channel"),
        ("https://www.youtube.com/user/LinusTechTips", "channel"),
        ("https://www.youtube.com/embed/live_stream?channel=UC1", "channel"),
        ("https://www.youtube.com/results?search_query=cats", "search page"),
        ("https://music.youtube.com/search?q=cats", "search page"),
        ("https://www.youtube.com/clip/UgkxXYZ", "clip"),
        ("https://www.youtube.com/", "names no video"),
        ("https://www.youtube.com", "names no video"),
        ("youtu.be", "names no video"),
        ("https://youtu.be/", "names no video"),
        ("https://www.youtube.com/watch", "names no video"),
        ("https://www.youtube.com/about/press", "names no video"),
        (f"https://www.youtube.com/watch?v={ID}x", "11 letters"),
        (f"https://youtu.be/{ID}extra", "11 letters"),
        (f"https://youtu.be/{ID}-", "11 letters"),
        (f"https://youtu.be/{ID}é", "11 letters"),
        (f"https://www.youtube.com/shorts/{ID[:10]}", "11 letters"),
        ("https://www.youtube.com/watch?v=", "11 letters"),
        ("https://www.youtube.com/watch?v=%00%00%00%00%00%00%00%00%00%00%00", "11 letters"),
        ("youtube:short", "11-character"),
        (f"youtube:{ID}x", "11-character"),
        (ID, f"write `youtube:{ID}`"),
        ("hello-world", "write `youtube:hello-world`"),
        ("file:///etc/passwd", "`file://` is not supported"),
        ("FILE:///etc/passwd", "is not supported"),
        ("file:/etc/passwd", "`file:` is not supported"),
        ("ftp://host/a.mp4", "`ftp://` is not supported"),
        ("rtsp://host/a", "is not supported"),
        ("youtube://x", "is not supported"),
        ("ytsearch5:cats", "is not supported"),
        ("data:video/mp4;base64,AAAA", "is not supported"),
        ("javascript:alert(1)", "is not supported"),
        ("http:/one-slash.com/a.mp4", "not a complete link"),
        ("https:///no-host.mp4", "not a valid link"),
        ("http://", "not a valid link"),
        ("http://[::1/a.mp4", "not a valid link"),
        ("http://host:port/a.mp4", "not a valid link"),
        ("http://host:99999/a.mp4", "not a valid link"),
        ("http://ho st/a.mp4", "space"),
        ("http://ho%20st/a.mp4", "not a valid link"),
        ("http://host/a b.mp4", "space"),
        ("example.com/a.mp4", "https://"),
        ("no/such/file.mp4", "no such file"),
        ("/no/such/file.mp4", "no such file"),
        ("/etc/passwd/x.mp4", "no such file"),
        ("~nobody-of-that-name/x.mp4", "no such file"),
        ("/", "is a folder"),
        ("/dev/null", "not a regular file"),
        ("", "is empty"),
        (" \t\n ", "is empty"),
        ("a\nb.mp4", "control characters"),
        ("a\0.mp4", "control characters"),
        ("https://youtu.be/aqz-KE-bpKQ\0", "control characters"),
        ("https://h/a\r\nHost: evil", "control characters"),
        ("\x1b[31m", "control characters"),
        ("a" * 5000, "longer than"),
        ("a" * 4000, "cannot be accessed"),
        ("a/" * 2000, "no such file"),
        ("\ud800.mp4", "not UTF-8"),
        ("caf\udce9.mp4", "not UTF-8"),
    ],
)
def test_what_is_refused_and_how(text: str, printed: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert printed in caught.value.reason
    assert isinstance(caught.value, ConfigError)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    str(caught.value).encode()


def test_passwords_are_not_said() -> None:
    with pytest.raises(InputError) as caught:
        parse("https://ann:s3cret@youtube.com/playlist?list=1")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(InputError) as caught:
        parse("http://ann:s3cret@ho\uff0fst:x/a.mp4")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "url", "slug"),
    [
        ("https://host/a.mp4", "https://host/a.mp4", "a"),
        ("HTTPS://HOST:443/a.mp4#t=3", "https://host/a.mp4", "a"),
        ("http://host:80", "http://host/", "video"),
        ("http://host:8080/x/My%20clip.webm", "http://host:8080/x/My%20clip.webm", "My-clip"),
        ("http://host/get?id=1&b=%2F", "http://host/get?id=1&b=%2F", "get"),
        ("http://host./a.mp4", "http://host/a.mp4", "a"),
        ("http://[::1]:80/a.mp4", "http://[::1]/a.mp4", "a"),
        ("https://bücher.de/é.mp4", "https://xn--bcher-kva.de/%C3%A9.mp4", "e"),
        ("http://host/%2e%2e%2f..%2fetc%00.mp4", "http://host/%2e%2e%2f..%2fetc%00.mp4", "etc"),
        ("http://host/%(ext)s", "http://host/%(ext)s", "ext-s"),
        ("http://host/日本.mp4", "http://host/%E6%97%A5%E6%9C%AC.mp4", "video"),
        # other hosts, whatever they look like
        (f"https://youtube.com.evil.com/watch?v={ID}", None, "watch"),
        (f"https://evil.com/youtube.com/watch?v={ID}", None, "watch"),
        (f"https://youtube.com@evil.com/{ID}", None, ID),
        (f"https://notyoutube.com/watch?v={ID}", None, "watch"),
        ("https://vimeo.com/76979871", None, "76979871"),
    ],
)
def test_plain_links(text: str, url: str | None, slug: str) -> None:
    source = parse(text)
    assert source.source_type == "URL"
    assert url is None or source.url.reveal() == url
    assert source.video_id.rpartition("-")[0] == slug
    assert parse(source.url.reveal()) == source


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://h/a.mp4", "HTTP://H:80/a.mp4#x", True),
        ("http://h/a.mp4", "http://u:p@h/a.mp4", True),
        ("https://bücher.de/a.mp4", "https://xn--bcher-kva.de/a.mp4", True),
        ("http://h/a.mp4", "https://h/a.mp4", False),
        ("http://h/a.mp4", "http://h/A.mp4", False),
        ("http://h/a.mp4?x=1", "http://h/a.mp4?x=2", False),
        ("http://h/a.mp4", "http://h:81/a.mp4", False),
    ],
)
def test_what_makes_a_link_the_same(one: str, other: str, same: bool) -> None:
    assert (parse(one).video_id == parse(other).video_id) is same


def test_ids_never_change() -> None:
    assert parse("https://example.com/a/clip.mp4?x=1").video_id == "clip-62b076bae3"
    assert _make_id("My clip", "/data/My clip.mp4") == "My-clip-8e37c1ad6b"


def test_user_and_password_stay_in_the_link() -> None:
    assert parse("http://ann:s3cret@H:80/a.mp4").url.reveal() == "http://ann:s3cret@h/a.mp4"


def test_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tmp_path / "My Ümläut clip!.MP4"
    clip.touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(clip)
    source = parse(str(clip))
    assert source.url.reveal() == str(clip.resolve())
    assert source.source_type == "FILE"
    assert source.video_id.startswith("My-Umlaut-clip-")
    assert len(source.video_id) == len("My-Umlaut-clip-") + 10
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for same in [
        clip.name,
        f"./{clip.name}",
        f"folder/../{clip.name}",
        f"~/{clip.name}",
        "link",
    ]:
        assert parse(same) == source
    assert parse(clip.name, base=tmp_path) == source
    assert parse(f"../{clip.name}", base=tmp_path / "folder") == source


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("a", "a"),
        ("-x.mp4", "x"),
        ("--output=evil.mp4", "output-evil"),
        ("%(ext)s.mp4", "ext-s"),
        ("'; DROP TABLE videos;--.mp4", "DROP-TABLE-videos"),
        ("$(touch x).mp4", "touch-x"),
        ("日本語.mp4", "video"),
        ("\u202egnp.mp4", "gnp"),
        ("ＦｕｌｌＷｉｄｔｈ.mp4", "FullWidth"),
        ("x" * 200 + ".mp4", "x" * 40),
        ("a" * 39 + " b.mp4", "a" * 39),
        ("hello-world", "hello-world"),
        ("con:nul.mp4", "con-nul"),
        (" lead and trail .mp4", "lead-and-trail"),
    ],
)
def test_names_of_files(tmp_path: Path, name: str, slug: str) -> None:
    (tmp_path / name).touch()
    source = parse(f"{tmp_path}/{name}")
    assert source.video_id.rpartition("-")[0] == slug
    assert ID_PATTERN.fullmatch(source.video_id)


def test_strange_things_on_disk(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "gone.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    evil = tmp_path / "two\nlines.mp4"
    evil.touch()
    (tmp_path / "to_evil.mp4").symlink_to(evil)
    for name in ["circle", "broken.mp4", "pipe.mp4", "to_evil.mp4", "."]:
        with pytest.raises(InputError):
            parse(name, base=tmp_path)


def test_a_file_with_the_look_of_an_id_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "hello-world").touch()
    assert parse("hello-world", base=tmp_path).source_type == "FILE"


hostile = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="./\\:?&=#%@[]v-_aZ0\0\n\r\t ~\u202e\ud800é", max_size=60),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(
            [
                "https://youtu.be/",
                "https://www.youtube.com/watch?v=",
                "youtube.com/",
                "youtube:",
                "http://h/",
                "http://",
                "http://h/%",
                "//",
                "~",
                "/tmp/",
                "../",
            ]
        ),
        st.sampled_from(["", ID, "../", "%00", "%(ext)s", "-"]),
        st.text(max_size=40),
    ),
)


@given(hostile)
@example("http://h/\udcff")
@example("http://\u2100.com/")
@example("http://h" + "x" * 4000)
@example("http://" + "ü" * 100 + ".de/")
@example("https://youtu.be/" + "A" * 4000)
@example("http://a%0d%0a/")
def test_hostile_texts_give_a_clean_id_or_a_clean_refusal(text: str) -> None:
    try:
        source = parse(text, base=Path("/nonexistent"))
    except InputError as error:
        assert "\n" not in str(error)
        str(error).encode()
        return
    assert ID_PATTERN.fullmatch(source.video_id)
    assert 11 <= len(source.video_id) <= 51
    assert not any(c in source.url.reveal() for c in "\n\r\0\t")
    if len(source.video_id) == 11:
        assert source.url.reveal() == youtube.WATCH_URL.format(source.video_id)
    elif source.source_type == "URL":
        assert urlsplit(source.url.reveal()).scheme in {"http", "https"}
        assert parse(source.url.reveal()) == source


def iter_nothing() -> Generator[None, None, None]:
    yield from ()


@given(st.lists(hostile, max_size=5))
def test_collect_loses_nothing(texts: list[str]) -> None:
    with mock.patch.object(
        listing, "find_videos", lambda *_: listing.FoundVideos([])
    ):  # `/` is a folder, too
        settings = InputConfig(urls=texts)
        collected = collect(settings, base=Path("/nonexistent"), look_up=lambda *_: iter_nothing())
    assert len(collected.rejected) + len(collected.sources) <= len(texts)
    assert bool(texts) is bool(collected.rejected or collected.sources)
    for rejected in collected.rejected:
        assert rejected.text.isprintable()
        assert rejected.reason


@given(st.text(min_size=1, max_size=80))
def test_slugs(name: str) -> None:
    made = _make_id(name, "key")
    assert ID_PATTERN.fullmatch(made)
    assert 12 <= len(made) <= 51
    assert not made.startswith("-")
