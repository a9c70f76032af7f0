"""Plain links to video files: one request each, with the same result as through yt-dlp."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yt_dlp.extractor._extractors as extractors
from yt_dlp.extractor.generic import GenericIE

from dataminer.config.models import DownloadConfig
from dataminer.errors import ErrorClass, PermanentError, StageError, TransientError
from dataminer.net import addresses, ytdlp_options
from dataminer.net.deadline import stoppable
from dataminer.stages.download import plain
from dataminer.stages.download.stage import download
from tests.support.downloads import ID, QUICK, fails, fetch, names
from tests.support.http_server import File, Reply, Server, serve
from tests.support.videos import audio_only, make_video

HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\npart.ts\n#EXT-X-ENDLIST\n"
M3U8 = "application/vnd.apple.mpegurl"
PAGE = b'<html><head><title>A page</title></head><video src="/real.mp4"></video></html>'
OCTETS = "application/octet-stream"

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("clips")
    part = make_video(folder / "part.ts", container_format="mpegts")
    return {
        "clip": make_video(folder / "clip.mp4").read_bytes(),
        "part": part.read_bytes(),
        "sound": audio_only(folder / "sound.mp4").read_bytes(),
    }


def outcome(link: str, out: Path) -> dict[str, Any]:
    """Return what a download comes to: `info.json`, or the error."""
    try:
        info = fetch(link, out).info
    except StageError as error:
        assert names(out) == []
        return {"class": error.error_class, "type": type(error), "hint": error.hint}
    assert names(out) == sorted([info["video"], "info.json"])
    assert (out / info["video"]).stat().st_size == info["size_bytes"]
    return {key: value for key, value in info.items() if key != "downloaded_at"}


def moved(to: str) -> Reply:
    return Reply(302, headers={"Location": to})


def video(body: bytes, content_type: str = "video/mp4", **headers: str) -> Reply:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(body=body, content_type=content_type, headers=more)


# a link's path, and what is served: by a name of the clips, with its type and more headers
CASES: list[tuple[str, str, str, dict[str, str]]] = [
    ("/a/Some.clip.mp4", "clip", "video/mp4", {"Last_Modified": "Mon, 01 Jan 2024 23:30:00 GMT"}),
    ("/a.webm", "clip", "video/webm", {}),
    ("/a.mov", "clip", "video/quicktime", {}),
    ("/A.MP4", "clip", "VIDEO/MP4; charset=utf-8", {}),
    ("/a.avi", "clip", "video/mp4", {}),
    ("/a.mp4", "clip", OCTETS, {}),
    ("/A.MP4", "clip", OCTETS, {}),
    ("/a.mp4", "clip", "text/plain", {}),
    ("/a.mp4", "clip", "text/html", {}),
    ("/a.mp4", "clip", "", {}),
    ("/a.ogv", "clip", "application/ogg", {}),
    ("/a.mp4", "clip", "video/mp4,video/mp4", {}),
    ("/a.mp4", "clip", M3U8, {}),
    ("/a.mp4", "clip", "video/f4m", {}),
    ("/a.mp4", "sound", "audio/mp4", {}),
    ("/a.mp4", "sound", "video/mp4", {}),
    ("/a.mp4", "clip", "video/mp4", {"Last_Modified": "rubbish"}),
    ("/b%C3%A9%20a%2Fc.mp4?token=abc&v=1.5#t=3", "clip", "video/mp4", {}),
    ("/é x.mp4", "clip", "video/mp4", {}),
    ("/Mixed%c3%a4.mp4", "clip", "video/mp4", {}),
    ("/x/../d/a.mp4", "clip", "video/mp4", {}),
    ("/.mp4/a.mp4", "clip", "video/mp4", {}),
]


@pytest.mark.parametrize(("path", "body", "content_type", "headers"), CASES)
def test_info_is_what_yt_dlp_would_say(
    server: Server,
    clips: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: str,
    content_type: str,
    headers: dict[str, str],
) -> None:
    requested = path.partition("?")[0].replace("/x/../", "/").replace("é x", "%C3%A9%20x")
    server.add(requested, video(clips[body], content_type, **headers))
    same_for_both(server.url + path, tmp_path, monkeypatch)


def same_for_both(link: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (one := folder / "one").mkdir()
    (two := folder / "two").mkdir()
    found = outcome(link, one)
    monkeypatch.setattr(plain, "suffix_of", lambda url: None)
    assert found == outcome(link, two)


@pytest.mark.parametrize(
    ("target", "content_type", "headers"),
    [
        ("/real.webm", "video/webm", {}),
        ("/get?id=7", "video/mp4", {}),
        ("/get?id=7", OCTETS, {}),
        ("/get", "video/x-matroska", {"Content_Disposition": 'attachment; filename="a.mkv"'}),
        ("/", "video/mp4", {}),
    ],
)
def test_what_a_redirect_leads_to_names_the_file(
    server: Server,
    clips: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    content_type: str,
    headers: dict[str, str],
) -> None:
    path = target.partition("?")[0]
    server.add(path, video(clips["clip"], content_type, **headers))
    link = server.add("/short.mp4", moved(target)).replace("//", "//ann:s3cret@")
    same_for_both(link, tmp_path, monkeypatch)
    assert server.requests == {"/short.mp4": 2, path: 1 + 3}  # with yt-dlp's


# ---- one request ---------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["video/mp4", OCTETS, ""])
def test_each_byte_is_sent_once(
    server: Server, clips: dict[str, bytes], out: Path, content_type: str
) -> None:
    link = server.add("/clip.mp4", video(clips["clip"], content_type))
    assert fetch(link, out).video.read_bytes() == clips["clip"]
    assert server.requests == {"/clip.mp4": 1}
    assert server.ranges["/clip.mp4"] == [None]
    assert server.headers["/clip.mp4"]["Accept-Encoding"] == "identity"


def test_a_compressed_answer(server: Server, clips: dict[str, bytes], out: Path) -> None:
    reply = video(gzip.compress(clips["clip"]), OCTETS, Content_Encoding="gzip")
    assert fetch(server.add("/clip.mp4", reply), out).video.read_bytes() == clips["clip"]
    assert server.requests == {"/clip.mp4": 1}


@pytest.mark.parametrize(
    ("policy", "kind"),
    [
        ({"blocked_titles": ["^Holi"]}, ErrorClass.POLICY),
        ({"max_duration": 5}, ErrorClass.UNCHECKED),
        ({"licences": ["CC0"]}, ErrorClass.POLICY),
        ({"max_size_mb": 0.001}, ErrorClass.POLICY),
        ({"min_size_mb": 1}, ErrorClass.POLICY),
    ],
)
@pytest.mark.parametrize("content_type", ["video/mp4", OCTETS])
def test_the_policy_is_judged_before_the_bytes(
    server: Server, out: Path, policy: dict[str, Any], kind: ErrorClass, content_type: str
) -> None:
    """Of the body 600 bytes come, and then no more: nobody waits for them."""
    body = b"\1" * 600
    reply = Reply(body=body, content_type=content_type, declared_length=500_000, stop_after=600)
    settings = DownloadConfig.model_validate({"retries": 0, "policy": policy})
    began = time.monotonic()
    assert fails(server.add("/Holiday.mp4", reply), out, settings=settings).error_class is kind
    assert time.monotonic() - began < 3
    assert server.requests == {"/Holiday.mp4": 1}


def test_the_title_that_the_policy_judges_is_that_of_the_file_led_to(
    server: Server, clips: dict[str, bytes], out: Path
) -> None:
    server.add("/forbidden.mp4", video(clips["clip"]))
    link = server.add("/short.mp4", moved("/forbidden.mp4"))
    policy = {"blocked_titles": ["forbidden"]}
    settings = DownloadConfig.model_validate({"retries": 0, "policy": policy})
    assert fails(link, out, settings=settings).error_class is ErrorClass.POLICY


def test_the_rest_of_a_file_of_no_known_type_behind_a_redirect(
    server: Server, tmp_path: Path
) -> None:
    """Its beginning, which would tell what it is, does not come again."""
    path = make_video(tmp_path / "clip.unknown", container_format="mp4", frames=500)
    half = path.stat().st_size // 2
    link = server.add("/clip.mp4", moved("/get"))
    server.add("/get", [File(path, '"1"', stop_after=half), File(path, '"1"')])
    (out := tmp_path / "out").mkdir()
    (keep := tmp_path / "keep").mkdir()
    slow = DownloadConfig(retries=0, socket_timeout=0.3, min_bytes_per_second=50)
    with pytest.raises(TransientError):
        download(link, out, ID, slow, partial_folder=keep)
    result = download(link, out, ID, slow, partial_folder=keep)
    assert result.video.read_bytes() == path.read_bytes()
    assert result.video.suffix == ".video"
    first, rest = server.ranges["/get"]
    assert first is None
    assert 0 < int(str(rest).removeprefix("bytes=").removesuffix("-")) <= half


# ---- what is no file -----------------------------------------------------------------------------


def test_a_page_is_asked_for_once_and_its_video_once(
    server: Server, clips: dict[str, bytes], out: Path
) -> None:
    server.add("/real.mp4", video(clips["clip"]))
    info = fetch(server.add("/page.mp4", Reply(body=PAGE)), out).info
    assert (info["title"], info["video"]) == ("A page (1)", f"{ID}.mp4")
    assert server.requests == {"/page.mp4": 1, "/real.mp4": 1}


def test_the_video_of_a_page_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", frames=500)
    half = path.stat().st_size // 2
    link = server.add("/page.mp4", Reply(body=PAGE))
    server.add("/real.mp4", [File(path, '"1"', stop_after=half), File(path, '"1"')])
    (out := tmp_path / "out").mkdir()
    (keep := tmp_path / "keep").mkdir()
    slow = DownloadConfig(retries=0, socket_timeout=0.3, min_bytes_per_second=50)
    with pytest.raises(TransientError):
        download(link, out, ID, slow, partial_folder=keep)
    assert (
        download(link, out, ID, slow, partial_folder=keep).video.read_bytes() == path.read_bytes()
    )
    assert server.ranges["/real.mp4"][0] is None
    assert str(server.ranges["/real.mp4"][1]).startswith("bytes=")
    assert server.requests == {"/page.mp4": 2, "/real.mp4": 2}


def test_an_answer_that_an_extractor_does_not_ask_for_is_not_taken_for_the_file(
    server: Server, clips: dict[str, bytes], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a site serves its page to those who do not say where they come from."""

    def extract(extractor: Any, url: str) -> dict[str, Any]:
        one = {"url": url, "format_id": "f", "ext": "mp4", "http_headers": {"Referer": "here"}}
        return {"id": "1", "title": "T", "formats": [one]}

    monkeypatch.setattr(GenericIE, "_real_extract", extract)
    link = server.add("/clip.mp4", [Reply(body=PAGE), video(clips["clip"])])
    assert fetch(link, out).video.read_bytes() == clips["clip"]
    assert server.headers["/clip.mp4"]["Referer"] == "here"


@pytest.mark.parametrize("content_type", [M3U8, "text/plain"])
def test_a_playlist_by_the_name_of_a_file(
    server: Server, clips: dict[str, bytes], out: Path, content_type: str
) -> None:
    server.add("/part.ts", video(clips["part"], "video/mp2t"))
    link = server.add("/list.mp4", Reply(body=HLS, content_type=content_type))
    assert fetch(link, out).video.read_bytes() == clips["part"]
    assert server.requests["/part.ts"] == 1


def test_a_sound_by_the_name_of_a_file(server: Server, clips: dict[str, bytes], out: Path) -> None:
    error = fails(server.add("/clip.mp4", video(clips["sound"], "audio/mp4")), out)
    assert (type(error), error.error_class) == (PermanentError, ErrorClass.NO_VIDEO)
    assert error.message.endswith("has no video stream")
    assert server.requests == {"/clip.mp4": 1}


def test_links_that_an_extractor_of_yt_dlp_takes_are_left_to_it() -> None:
    """But where a page is there anyway, which is handed over to the extractor."""
    pages = {"ArchiveOrg", "PicartoVod", "Wikimedia"}
    found = set()
    for name, extractor in vars(extractors).items():
        tests = getattr(extractor, "_TESTS", None) or [getattr(extractor, "_TEST", None) or {}]
        links = [test.get("url", "") for test in tests]
        if name.endswith("IE") and any(map(plain.suffix_of, links)):
            found.add(name.removesuffix("IE"))
    assert found - {"Generic"} <= pages


@pytest.mark.parametrize(
    ("link", "suffix"),
    [
        ("https://h.example/a/B.WebM?x=1#y", "webm"),
        ("https://i.imgur.com/abc.mp4", None),
        ("https://www.dropbox.com/s/a/b.mp4?dl=1", None),
        ("https://notdropbox.com/b.mp4", "mp4"),
        ("https://h.example/a.m3u8", None),
        ("https://h.example/a.ts", None),
        ("https://h.example/.mp4", None),
        ("https://h.example/a.mp4/", None),
        ("https://h.example/get?file=a.mp4", None),
        ("https://[::1/a.mp4", None),
    ],
)
def test_which_links_are_plain(link: str, suffix: str | None) -> None:
    assert plain.suffix_of(link) == suffix


# ---- in threads ----------------------------------------------------------------------------------


def in_a_thread(act: Callable[[], Any], seconds: float = 20.0) -> BaseException | None:
    """Run something in a thread of its own; return what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive()
    return raised[0] if raised else None


TRICKLING: dict[str, tuple[str, dict[str, Any]]] = {
    "typed": ("video/mp4", {}),
    "octets": (OCTETS, {}),
    # which ends where its connection does
    "of no declared length": ("video/mp4", {"declared_length": -1}),
    # and here between two blocks, so that nothing seems to be missing
    "silent": ("video/mp4", {"declared_length": -1, "stop_after": 2048, "trickle": 0.0}),
}


@pytest.mark.parametrize("kind", TRICKLING)
@pytest.mark.parametrize("limit", ["pace", "deadline"])
def test_bytes_that_trickle_in_are_ended_by_the_clock(
    server: Server, clips: dict[str, bytes], out: Path, limit: str, kind: str
) -> None:
    content_type, more = TRICKLING[kind]
    reply = Reply(body=clips["clip"], content_type=content_type, **{"trickle": 0.02, **more})
    link = server.add("/clip.mp4", reply)
    limits: dict[str, Any] = {"min_bytes_per_second": 0, "timeout_minutes": 1 / 60}
    if limit == "pace":
        limits = {"min_bytes_per_second": 1000, "rate_window_seconds": 1}
    settings = DownloadConfig.model_construct(**{**dict(DownloadConfig()), **limits, "retries": 3})
    began = time.monotonic()
    error = in_a_thread(lambda: download(link, out, ID, settings))
    assert time.monotonic() - began < 5
    assert isinstance(error, TransientError)
    assert error.error_class is ErrorClass.TIMEOUT
    assert ("min_bytes_per_second" if limit == "pace" else "timeout_minutes") in str(error)
    assert names(out) == []
    assert server.requests["/clip.mp4"] == 1


@pytest.mark.parametrize("kind", [*TRICKLING, "late", "resting"])
@pytest.mark.parametrize("path", ["/clip.mp4", "/clip"])
def test_another_thread_ends_an_attempt(
    server: Server, clips: dict[str, bytes], out: Path, path: str, kind: str
) -> None:
    content_type, more = TRICKLING.get(kind, ("video/mp4", {}))
    reply = Reply(body=clips["clip"], content_type=content_type, **{"trickle": 0.02, **more})
    replies = [reply] if path == "/clip.mp4" else [video(clips["clip"]), reply]
    if kind == "late":
        replies[-1] = Reply(delay=30)
    elif kind == "resting":  # for two seconds before the third try
        replies[-1] = replace(video(clips["clip"][:2000]), declared_length=6000)
        replies.append(Reply(reset=True))
    link = server.add(path, list(replies))
    reason = RuntimeError("enough") if kind == "typed" else KeyboardInterrupt("enough")
    stops, times = [], []
    began = threading.Event()

    def act() -> None:
        with stoppable() as stop:
            stops.append(stop)
            began.set()
            try:
                download(link, out, ID, DownloadConfig(retries=3))
            finally:
                times.append(time.monotonic())

    def set_reason() -> None:
        began.wait()
        while server.requests[path] < len(replies):
            time.sleep(0.01)
        time.sleep(0.3)
        times.append(time.monotonic())
        stops[0].reason = reason

    setter = threading.Thread(target=set_reason)
    setter.start()
    assert in_a_thread(act) is reason
    setter.join()
    assert times[1] - times[0] < 2.5
    assert names(out) == []
    # and the next attempt of the thread that was not stopped is not
    server.add(path, video(clips["clip"]))
    assert fetch(link, out).video.exists()


# ---- one yt-dlp for many links -------------------------------------------------------------------


def made() -> Any:
    """Return this thread's ``YoutubeDL``."""
    return getattr(ytdlp_options._clients, "last", (None, None))[1]


def test_a_thread_has_one_and_another_its_own(
    server: Server, clips: dict[str, bytes], out: Path
) -> None:
    link = server.add("/clip.mp4", video(clips["clip"]))
    fetch(link, out)
    first = made()
    fetch(link, out)
    assert made() is first is not None
    others: list[Any] = []

    def fetch_there() -> None:
        fetch(link, out)
        others.append(made())

    assert in_a_thread(fetch_there) is None
    assert others[0] not in (None, first)
    assert made() is first
    fetch(link, out, settings=QUICK.model_copy(update={"user_agent": "other/1"}))
    assert made() is not first
    assert server.headers["/clip.mp4"]["User-Agent"] == "other/1"


def test_an_error_has_the_next_link_begin_with_a_new_one(
    server: Server, clips: dict[str, bytes], out: Path
) -> None:
    link = server.add("/clip.mp4", video(clips["clip"]))
    fetch(link, out)
    first = made()
    (other := out / "other").mkdir()
    fails(server.add("/gone.mp4", Reply(404)), other)
    assert made() is None
    fetch(link, other)
    assert made() is not first


def test_nothing_of_a_link_is_left_for_the_next(
    server: Server, clips: dict[str, bytes], out: Path
) -> None:
    """Each has its own warnings, progress, limiter and policy."""

    class Limiter:
        def __init__(self) -> None:
            self.requested: list[str] = []

        def request(self, url: str) -> float:
            self.requested.append(url)
            return time.monotonic() + 5

        def report_success(self) -> None:
            pass

    links = [server.add(f"/{name}", video(clips["clip"], OCTETS)) for name in ("a", "b.mp4", "c")]
    printed: list[list[str]] = [[], [], []]
    limiters = [Limiter(), Limiter(), Limiter()]
    for link, lines, limiter in zip(links, printed, limiters, strict=True):
        fetch(link, out, progress=lines.append, limiter=limiter)
    warned = [sum(line.startswith("yt-dlp: ") for line in lines) for lines in printed]
    assert warned == [2, 0, 2]  # of a file that its answer does not call a video
    assert [lines[-1] for lines in printed] == ["downloaded 0.0 MB"] * 3
    assert [limiter.requested for limiter in limiters] == [
        [links[0]] * 2,
        [links[1]],
        [links[2]] * 2,
    ]
    policy = {"blocked_titles": ["^a$"]}
    strict = DownloadConfig.model_validate({**QUICK.model_dump(), "policy": policy})
    for settings, link, refused in [
        (strict, links[1], False),
        (strict, links[0], True),
        (QUICK, links[0], False),
    ]:
        if refused:
            (empty := out / "empty").mkdir()
            assert fails(link, empty, settings=settings).error_class is ErrorClass.POLICY
        else:
            fetch(link, out, settings=settings)


def test_a_link_to_a_private_place_does_not_open_it_for_the_next(
    server: Server, clips: dict[str, bytes], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is of a public host, as far as anybody can know, and leads inside."""
    from dataminer.net import addresses

    real = addresses.scope_of
    with serve() as public:
        port = int(public.url.rpartition(":")[2])

        def scope(address: tuple[Any, ...]) -> Any:
            return addresses.Scope.PUBLIC if address[1] == port else real(address)

        monkeypatch.setattr(addresses, "scope_of", scope)
        inside = server.add("/clip.mp4", video(clips["clip"]))
        fetch(inside, out)
        first = made()
        link = public.add("/a.mp4", moved(inside))
        (empty := out / "empty").mkdir()
        error = fails(link.replace("127.0.0.1", "localhost"), empty)
        assert first is not None
        assert error.error_class is ErrorClass.UNSUPPORTED
        assert "loopback" in error.message
        assert server.requests == {"/clip.mp4": 1}


def test_cookies_and_passwords_stay_with_their_host(
    server: Server, clips: dict[str, bytes], out: Path
) -> None:
    link = server.add("/clip.mp4", video(clips["clip"], Set_Cookie="s=1; Path=/"))
    fetch(link.replace("//", "//ann:s3cret@"), out)
    first = made()
    with serve() as other:
        # cookies know no ports: another host is another name
        named = other.url.replace("127.0.0.1", "localhost")
        other.add("/clip.mp4", video(clips["clip"]))
        fetch(f"{named}/clip.mp4", out)
        assert made() is first
        assert {"Cookie", "Authorization"}.isdisjoint(other.headers["/clip.mp4"])
    fetch(link, out)
    assert "Authorization" not in server.headers["/clip.mp4"]


@pytest.mark.parametrize("path", ["/short.mp4", "/short"])
def test_a_redirect_takes_no_password_to_another_host(
    server: Server, clips: dict[str, bytes], out: Path, path: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(addresses, "scope_of", lambda address: addresses.Scope.PUBLIC)
    with serve() as other:
        seen: list[str | None] = []

        def answer(target: str) -> Reply:
            seen.append(other.headers["/clip.mp4"].get("Authorization"))
            return video(clips["clip"])

        target = other.add("/clip.mp4", answer).replace("127.0.0.1", "localhost")
        link = server.add(path, moved(target)).replace("//", "//ann:s3cret@")
        fetch(link, out)
        assert server.headers[path]["Authorization"].startswith("Basic ")
        assert set(seen) == {None}
    (again := out / "again").mkdir()
    server.add("/clip.mp4", video(clips["clip"]))
    fetch(server.add("/near.mp4", moved("/clip.mp4")).replace("//", "//ann:s3cret@"), again)
    assert server.headers["/clip.mp4"]["Authorization"].startswith("Basic ")
