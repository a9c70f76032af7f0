"""Every request of yt-dlp waits for the limiter, and none goes to a forbidden address."""

from __future__ import annotations

import errno
import itertools
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from yt_dlp.socks import sockssocket

from dataminer.config.models import DownloadConfig
from dataminer.errors import ErrorClass, PermanentError, StageError, TransientError
from dataminer.net import addresses, ytdlp_handler, ytdlp_options
from dataminer.net.addresses import Scope
from dataminer.net.rate_limit import Paused
from dataminer.stages.download.stage import download
from tests.support.addresses import REGISTRY, addresses_in, is_public, spellings_of
from tests.support.http_server import Reply, Server, serve
from tests.support.videos import make_video

ID = "clip-0123456789"
QUICK = DownloadConfig(retries=0, socket_timeout=5)
PAGE = "<!doctype html><html><head><title>A page</title></head><body>{}</body></html>"
HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n%s\n#EXT-X-ENDLIST\n"
M3U8 = "application/vnd.apple.mpegurl"

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture
def inside() -> Iterator[Server]:
    """A second server, at an address that only those who are inside should see."""
    with serve() as running:
        yield running


@pytest.fixture
def tube(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The first server as ``tube.example``, whose address counts as public."""
    real, scope_of = socket.getaddrinfo, addresses.scope_of
    port = urlsplit(server.url).port

    def lookup(host: str, *args: Any, **kwargs: Any) -> Any:
        return real("127.0.0.1" if host == "tube.example" else host, *args, **kwargs)

    def scope(endpoint: tuple[Any, ...]) -> Scope:
        return Scope.PUBLIC if endpoint[1] == port else scope_of(endpoint)

    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(addresses, "scope_of", scope)
    return f"http://tube.example:{port}"


class Recorder:
    """A limiter that permits each request and records it; it allows a number of retries."""

    def __init__(self, again: int = 0) -> None:
        self.requested: list[str] = []
        self.refusals: list[tuple[str, str, float | None]] = []
        self.classes: list[ErrorClass] = []
        self.passes = 0
        self.waited = 0.0
        self._again = again

    def download(self, url: str) -> None:
        raise AssertionError("asked by those who call the stage")

    def request(self, url: str) -> float:
        self.requested.append(urlsplit(url).path)
        return time.monotonic() + 1.0

    def refused(
        self,
        url: str,
        reason: str,
        retry_after: float | None,
        error_class: ErrorClass = ErrorClass.RATE_LIMIT,
    ) -> bool:
        self.classes.append(error_class)
        self.refusals.append((urlsplit(url).path, reason, retry_after))
        return len(self.refusals) <= self._again

    def report_success(self) -> None:
        self.passes += 1


def fetch(url: str, out: Path, limiter: Any, retries: int = 0) -> None:
    download(url, out, ID, QUICK.model_copy(update={"retries": retries}), limiter=limiter)


def broken(clip: Path) -> Reply:
    """Return an answer whose body breaks off."""
    body = clip.read_bytes()
    return Reply(body=body[:2000], content_type="video/mp4", declared_length=len(body))


def refused(url: str, out: Path, limiter: Any = None, retries: int = 0) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        fetch(url, out, limiter or Recorder(), retries)
    assert caught.value.error_class is ErrorClass.UNSUPPORTED
    assert list(out.iterdir()) == []
    return caught.value


# ---- where requests may go ---------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", ["/v", "/v.mp4"])
def test_a_redirect_to_an_inner_address(
    server: Server, inside: Server, tube: str, clip: Path, tmp_path: Path, path: str, status: int
) -> None:
    target = inside.add("/secret.mp4", clip)
    server.add(path, Reply(status, headers={"Location": target}))
    error = refused(tube + path, tmp_path)
    assert "127.0.0.1" in error.message
    assert "loopback" in error.message
    assert inside.log == []


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:video/mp4;base64,AAAA", "gopher:x"],
)
@pytest.mark.parametrize(
    ("path", "status"), [*(("/v", status) for status in (301, 302, 303, 307, 308)), ("/v.mp4", 302)]
)
def test_a_redirect_to_another_scheme(
    server: Server, tmp_path: Path, location: str, path: str, status: int
) -> None:
    link = server.add(path, Reply(status, headers={"Location": location}))
    assert f"a {location.partition(':')[0]}: link" in refused(link, tmp_path).message


@pytest.mark.parametrize("path", ["/v", "/v.mp4"])
def test_a_redirect_to_a_metadata_service_even_from_inside(
    server: Server, tmp_path: Path, path: str
) -> None:
    link = server.add(path, Reply(302, headers={"Location": "http://169.254.169.254/latest"}))
    assert "forbidden" in refused(link, tmp_path).message


def hls(line: str, media: str = "part.ts") -> Reply:
    """Return a playlist with one more line."""
    body = HLS.replace(b"#EXTINF", f"{line}\n#EXTINF".encode()) % media.encode()
    return Reply(body=body, content_type=M3U8)


def xml(content_type: str, text: str) -> Reply:
    return Reply(body=f'<?xml version="1.0"?>{text}'.encode(), content_type=content_type)


# how what a link leads to may name something else
WAYS = {
    "redirect": lambda url: Reply(302, headers={"Location": url}),
    "page": lambda url: Reply(body=PAGE.format(f'<video src="{url}"></video>').encode()),
    "page's playlist": lambda url: Reply(
        body=PAGE.format(f'<video><source src="{url}.m3u8" type="{M3U8}"></video>').encode()
    ),
    "refresh": lambda url: Reply(
        body=f'<html><meta http-equiv="refresh" content="0; url={url}"></html>'.encode()
    ),
    "segment": lambda url: hls("#", url),
    "initialisation": lambda url: hls(f'#EXT-X-MAP:URI="{url}"'),
    "variant": lambda url: Reply(
        body=f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9000\n{url}\n".encode(), content_type=M3U8
    ),
    "mpd": lambda url: xml(
        "application/dash+xml",
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT4S"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="9" codecs="avc1">'
        f"<BaseURL>{url}/</BaseURL><SegmentList duration='2'>"
        '<Initialization sourceURL="i"/><SegmentURL media="a"/></SegmentList>'
        "</Representation></AdaptationSet></Period></MPD>",
    ),
    "feed": lambda url: xml(
        "application/rss+xml",
        '<rss version="2.0"><channel><title>t</title><item><title>i</title>'
        f'<enclosure url="{url}" type="video/mp4"/><link>{url}</link></item></channel></rss>',
    ),
}


def inner_hosts() -> st.SearchStrategy[str]:
    """Draw an address that is not public, in any spelling, as it stands in a URL."""
    drawn = st.sampled_from(sorted(REGISTRY)).flatmap(addresses_in).flatmap(spellings_of)
    inner = drawn.filter(lambda host: not any(is_public(endpoint) for endpoint in stands_for(host)))
    return inner.map(lambda host: f"[{host.replace('%', '%25')}]" if ":" in host else host)


def stands_for(host: str) -> list[str]:
    return [str(endpoint[0]) for *_, endpoint in socket.getaddrinfo(host, 80)]


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """List where this process connects to."""
    requested: list[Any] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: Any) -> None:
        requested.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", watched)
    return requested


@pytest.mark.parametrize("way", sorted(WAYS))
@settings(
    max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(host=inner_hosts())
def test_no_public_link_leads_to_a_special_address(
    server: Server, tube: str, connected: list[Any], tmp_path: Path, way: str, host: str
) -> None:
    part = b"G" + bytes(187)
    server.add("/part.ts", Reply(body=part * 9, content_type="video/mp2t"))
    server.add("/v", WAYS[way](f"http://{host}:8080/x"))
    with pytest.raises(StageError):
        fetch(f"{tube}/v", tmp_path, Recorder())
    assert server.log[-1][1] in {"/v", "/part.ts"}
    assert {endpoint[1] for endpoint in connected} == {urlsplit(server.url).port}
    assert list(tmp_path.iterdir()) == []


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(sorted(REGISTRY)).flatmap(addresses_in).filter(lambda a: not is_public(a)))
def test_no_name_leads_to_a_special_address_the_second_time(
    server: Server, tube: str, connected: list[Any], tmp_path: Path, address: str
) -> None:
    server.add("/v", Reply(302, headers={"Location": "/w.mp4"}))
    lookup, answers = socket.getaddrinfo, iter(["127.0.0.1"])

    def changing(host: str, port: Any, *args: Any, **kwargs: Any) -> Any:
        now = next(answers, address)
        return lookup(now, 9 if now == address else port, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", changing)
        assert "leads to" in refused(f"{tube}/v", tmp_path).message
    assert {endpoint[1] for endpoint in connected} == {urlsplit(server.url).port}


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(host=inner_hosts())
@example(host="0x7f.1")
@example(host="[::1]")
@example(host="[::ffff:169.254.169.254]")
def test_a_link_to_a_special_address_leads_there_if_a_video_can_be_there(
    tmp_path: Path, host: str
) -> None:
    requested = []

    def refuse(self: socket.socket, address: Any) -> None:
        requested.append(address)
        raise ConnectionRefusedError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(StageError):
        patch.setattr(socket.socket, "connect", refuse)
        fetch(f"http://{host}:8080/x.mp4", tmp_path, Recorder())
    given = stands_for(host.strip("[]").replace("%25", "%"))
    assert {endpoint[0] for endpoint in requested} <= set(given)
    assert bool(requested) is any(
        addresses.scope_of((endpoint,)) < Scope.FORBIDDEN for endpoint in given
    )


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"feed"}))
def test_a_link_to_an_inner_host_leads_to_no_other(
    server: Server, connected: list[Any], tmp_path: Path, way: str
) -> None:
    server.add("/part.ts", Reply(body=(b"G" + bytes(187)) * 9, content_type="video/mp2t"))
    link = server.add("/v", WAYS[way]("http://127.0.0.2:8080/x"))
    assert "127.0.0.2" in refused(link, tmp_path).message
    assert {endpoint[0] for endpoint in connected} == {"127.0.0.1"}


def test_a_playlist_whose_parts_lie_inside(
    server: Server, inside: Server, tube: str, tmp_path: Path
) -> None:
    part = make_video(tmp_path / "part.ts", container_format="mpegts")
    (tmp_path / "out").mkdir()
    target = inside.add("/part.ts", part)
    server.add("/list.m3u8", Reply(body=HLS % target.encode(), content_type=M3U8))
    refused(f"{tube}/list.m3u8", tmp_path / "out")
    assert inside.log == []


def test_a_page_whose_video_lies_inside(
    server: Server, inside: Server, tube: str, clip: Path, tmp_path: Path
) -> None:
    video = f'<video src="{inside.add("/clip.mp4", clip)}"></video>'
    server.add("/page", Reply(body=PAGE.format(video).encode()))
    refused(f"{tube}/page", tmp_path)
    assert inside.log == []


@pytest.mark.parametrize("path", ["/clip", "/clip.mp4"])
def test_a_name_that_turns_inside_between_two_requests(
    server: Server,
    inside: Server,
    tube: str,
    clip: Path,
    tmp_path: Path,
    monkeypatch: Any,
    path: str,
) -> None:
    """The second is for the file after a look at it, or for the rest of a file."""
    monkeypatch.setattr("dataminer.net.ytdlp_options.retry_delay", lambda n: 0.0)
    server.add(path, clip if path == "/clip" else broken(clip))
    inside.add(path, clip)
    lookup, looked_up = socket.getaddrinfo, []

    def rebinding(host: str, port: Any, *args: Any, **kwargs: Any) -> Any:
        looked_up.append(host)
        wanted = urlsplit(inside.url if len(looked_up) > 1 else server.url).port
        return lookup("127.0.0.1", wanted, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    refused(f"{tube}{path}", tmp_path, retries=1)
    assert looked_up == ["tube.example", "tube.example"]
    assert server.requests[path] == 1
    assert inside.log == []


def test_a_proxy_may_lie_inside_and_what_it_is_asked_for_may_not(
    server: Server, clip: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        ytdlp_options, "_clients", threading.local()
    )  # yt-dlp reads the environment once
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    server.add("/clip.mp4", clip)
    server.add("/v", Reply(302, headers={"Location": "http://10.0.0.1/clip.mp4"}))
    server.add("/v.mp4", Reply(302, headers={"Location": "http://10.0.0.1/clip.mp4"}))
    fetch("http://tube.invalid/clip.mp4", tmp_path, Recorder())
    assert server.requests["/clip.mp4"] == 1
    for path in tmp_path.iterdir():
        path.unlink()
    for name in ("v", "v.mp4"):
        assert "10.0.0.1" in refused(f"http://tube.invalid/{name}", tmp_path).message


SPELLED = {
    "https://%31%36%39.254.169.254/latest": "169.254.169.254",
    "http://%31%30.0.0.5:8080/": "10.0.0.5",
    "https://%5b::1%5d/": "::1",
    "http://127.0.0.1./": "127.0.0.1",
    "http://127\u30020\u30020\u30021/": "127.0.0.1",
    "http://tube.invalid\\@127.0.0.1/": "names no host",
    "http://[::1/": "something that is not a link",
}
BEHIND = [
    *(("http", location) for location in SPELLED),
    ("socks5", "https://%31%36%39.254.169.254/latest"),
    ("socks5h", "https://%31%36%39.254.169.254/latest"),
    (None, "http://127\u30020\u30020\u30021/"),
    (None, "http://[::1/"),
]


@pytest.mark.parametrize(("proxy", "location"), BEHIND)
def test_a_host_is_judged_as_it_is_read_behind_a_proxy_too(
    server: Server, tube: str, tmp_path: Path, monkeypatch: Any, proxy: str | None, location: str
) -> None:
    def by_socks(self: socket.socket, address: Any) -> None:
        assert address[0] == "tube.example"
        socket.socket.connect(self, ("127.0.0.1", urlsplit(server.url).port))

    monkeypatch.setattr(sockssocket, "connect", by_socks)
    server.add("/v", Reply(302, headers={"Location": location.encode().decode("latin-1")}))
    link = proxy and server.url.replace("http", proxy)
    settings = QUICK.model_copy(update={"proxy": link})
    with pytest.raises(PermanentError, match=re.escape(SPELLED[location])) as caught:
        download(f"{tube}/v", tmp_path, ID, settings, limiter=Recorder())
    assert caught.value.error_class is ErrorClass.UNSUPPORTED
    assert {path for _, path, _ in server.log} == {"/v"}


def test_a_redirect_to_a_host_in_letters_of_its_own(
    server: Server, tube: str, clip: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    lookup = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more, **options: lookup(
            "tube.example" if host == "xn--tb-xka.example" else host, *more, **options
        ),
    )
    target = tube.replace("tube", "t\u00fcb").encode().decode("latin-1")
    server.add("/v", Reply(302, headers={"Location": f"{target}/clip.mp4"}))
    server.add("/clip.mp4", clip)
    fetch(f"{tube}/v", tmp_path, Recorder())
    assert server.headers["/clip.mp4"]["Host"].startswith("xn--tb-xka.example:")


@pytest.mark.parametrize("first", ["127.0.0.2", "93.184.215.14"])
def test_of_a_name_s_addresses_the_open_ones_are_tried(
    server: Server, tube: str, clip: Path, tmp_path: Path, monkeypatch: Any, first: str
) -> None:
    """One of them is refused, or not to be reached."""
    lookup, connect = socket.getaddrinfo, socket.socket.connect

    def both(host: str, port: Any, *more: Any, **options: Any) -> Any:
        return lookup(first, 9, *more, **options) + lookup("127.0.0.1", port, *more, **options)

    def to_here(self: socket.socket, address: Any) -> None:
        if address[0] == "93.184.215.14":
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", both)
    monkeypatch.setattr(socket.socket, "connect", to_here)
    fetch(server.add("/clip.mp4", clip).replace("127.0.0.1", "tube.example"), tmp_path, Recorder())


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.ECONNREFUSED])
def test_a_name_of_which_only_a_closed_address_can_be_reached(
    tmp_path: Path, monkeypatch: Any, number: int
) -> None:
    lookup = socket.getaddrinfo

    def both(host: str, *more: Any, **options: Any) -> Any:
        return lookup("93.184.215.14", *more, **options) + lookup("10.0.0.5", *more, **options)

    def unreachable(self: socket.socket, address: Any) -> None:
        assert address[0] == "93.184.215.14"
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "getaddrinfo", both)
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    permanent = number == errno.ENETUNREACH
    with pytest.raises(PermanentError if permanent else TransientError) as caught:
        fetch("http://lab.example/clip.mp4", tmp_path, Recorder())
    assert ("10.0.0.5 itself" in caught.value.hint) is permanent


def test_an_inner_host_s_addresses_may_take_turns(
    server: Server, clip: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    lookup, turns = socket.getaddrinfo, itertools.cycle(["127.0.0.2", "127.0.0.1"])

    def in_turn(host: str, *more: Any, **options: Any) -> Any:
        return lookup(next(turns), *more, **options)

    connect = socket.socket.connect

    def to_server(self: socket.socket, address: Any) -> None:
        connect(self, ("127.0.0.1", address[1]))

    monkeypatch.setattr(socket, "getaddrinfo", in_turn)
    monkeypatch.setattr(socket.socket, "connect", to_server)
    server.add("/v", Reply(302, headers={"Location": "/clip.mp4"}))
    server.add("/clip.mp4", clip)
    port = urlsplit(server.url).port
    fetch(f"http://lab.example:{port}/v", tmp_path, Recorder(), retries=0)


def test_what_only_ffmpeg_could_fetch_is_refused(server: Server, tmp_path: Path) -> None:
    playlist = HLS.replace(b"#EXTINF", b'#EXT-X-KEY:METHOD=SAMPLE-AES,URI="k"\n#EXTINF') % b"p.ts"
    link = server.add("/list.m3u8", Reply(body=playlist, content_type=M3U8))
    assert "ffmpeg" in refused(link, tmp_path).message


@pytest.mark.parametrize(
    "reply",
    [
        Reply(302, headers={"Location": "/part.ts"}),
        Reply(body=PAGE.format('<video src="/part.ts"></video>').encode()),
        Reply(body=HLS % b"part.ts", content_type=M3U8),
    ],
    ids=["redirect", "page", "playlist"],
)
def test_what_lies_no_further_inside_than_the_link_is_fetched(
    server: Server, tube: str, tmp_path: Path, reply: Reply
) -> None:
    part = make_video(tmp_path / "part.ts", container_format="mpegts")
    (out := tmp_path / "out").mkdir()
    server.add("/part.ts", part)
    server.add("/v", reply)
    fetch(f"{tube}/v", out, Recorder())
    (video,) = out.glob(f"{ID}.*")
    assert video.read_bytes() == part.read_bytes()


# ---- who asks the limiter ----------------------------------------------------------------------


def test_each_request_asks_once_redirects_and_parts_included(
    server: Server, tmp_path: Path
) -> None:
    part = make_video(tmp_path / "part.ts", container_format="mpegts")
    (tmp_path / "out").mkdir()
    server.add("/part.ts", [Reply(302, headers={"Location": "/moved.ts"}), part])
    server.add("/moved.ts", part)
    playlist = HLS.replace(b"%s\n", b"%s\n#EXTINF:2,\n%s\n") % (b"part.ts", b"part.ts")
    target = server.add("/list.m3u8", Reply(body=playlist, content_type=M3U8))
    link = server.add("/short", Reply(301, headers={"Location": target}))
    limiter = Recorder()
    fetch(link, tmp_path / "out", limiter)
    assert limiter.requested == [path for _, path, _ in server.log]
    assert limiter.requested.count("/moved.ts") == 1
    assert limiter.requested.count("/part.ts") == 2
    assert limiter.passes >= 1


@pytest.mark.parametrize("path", ["/clip", "/clip.mp4"])
def test_yt_dlp_s_own_retries_ask_too(
    server: Server, clip: Path, tmp_path: Path, path: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("dataminer.net.ytdlp_options.retry_delay", lambda n: 0.0)
    first = clip if path == "/clip" else broken(clip)
    link = server.add(path, [first, Reply(reset=True), Reply(status=500), clip])
    limiter = Recorder()
    fetch(link, tmp_path, limiter, retries=3)
    assert limiter.requested == [path] * 4 == [path for _, path, _ in server.log]
    assert limiter.passes == (1 if path == "/clip" else 2)  # each answer with bytes of the video


@pytest.mark.parametrize(
    ("reply", "reason", "wait"),
    [
        (Reply(429), "HTTP 429 Too Many Requests", None),
        (Reply(429, headers={"Retry-After": "7"}), "HTTP 429 Too Many Requests", 7.0),
        (Reply(429, headers={"Retry-After": "soon"}), "HTTP 429 Too Many Requests", None),
        (Reply(429, headers={"Retry-After": "9" * 9}), "HTTP 429 Too Many Requests", 86400.0),
        (Reply(429, headers={"Retry-After": "3600"}), "HTTP 429 Too Many Requests", 3600.0),
        (Reply(503, headers={"Retry-After": "7"}), "HTTP 503 with Retry-After", 7.0),
        (Reply(403, b"no", headers={"Retry-After": "7"}), "HTTP 403 with Retry-After", 7.0),
        (Reply(403, b"<p>Confirm you're not a bot"), "HTTP 403, a check for robots", None),
        (
            Reply(403, b"<p>Confirm you're not a bot", headers={"Retry-After": "7"}),
            "HTTP 403, a check for robots",
            7.0,
        ),
    ],
)
@pytest.mark.parametrize("path", ["/clip", "/clip.mp4"])
def test_a_refusal_is_told_to_the_gate_and_asked_again_when_it_says_so(
    server: Server,
    clip: Path,
    tmp_path: Path,
    reply: Reply,
    reason: str,
    wait: float | None,
    path: str,
) -> None:
    is_probed_first = path == "/clip"
    link = server.add(path, [reply, *([clip] if is_probed_first else []), reply, clip])
    limiter = Recorder(again=2)
    fetch(link, tmp_path, limiter)
    assert limiter.refusals == [(path, reason, wait)] * 2
    robots = ErrorClass.BOT_CHECK if "robots" in reason else ErrorClass.RATE_LIMIT
    assert limiter.classes == [robots] * 2
    assert server.requests[path] == (4 if is_probed_first else 3)
    assert limiter.passes == 1


@pytest.mark.parametrize(
    ("seconds", "least", "most"),
    [(100, 80, 101), (2 * 3600, 7180, 7201), (-3600, 0, 0), (2 * 86400, 86400, 86400)],
)
def test_a_date_to_wait_for(
    server: Server, tmp_path: Path, seconds: float, least: float, most: float
) -> None:
    headers = {"Retry-After": formatdate(time.time() + seconds, usegmt=True)}
    limiter = Recorder()
    with pytest.raises(TransientError):
        fetch(server.add("/v", Reply(429, headers=headers)), tmp_path, limiter)
    ((_, _, wait),) = limiter.refusals
    assert wait is not None
    assert least <= wait <= most


@pytest.mark.parametrize("reply", [Reply(403, b"no"), Reply(404), Reply(410), Reply(503)])
@pytest.mark.parametrize("path", ["/v", "/v.mp4"])
def test_other_answers_are_no_refusal(
    server: Server, tmp_path: Path, reply: Reply, path: str
) -> None:
    limiter = Recorder(again=9)
    with pytest.raises(StageError):
        fetch(server.add(path, reply), tmp_path, limiter)
    assert (limiter.refusals, limiter.passes) == ([], 0)


def test_what_the_gate_says_reaches_the_caller(server: Server, clip: Path, tmp_path: Path) -> None:
    class Shut(Recorder):
        def request(self, url: str) -> float:
            raise Paused("youtube pauses", ErrorClass.BLOCKED)

    with pytest.raises(Paused, match="youtube pauses"):
        fetch(server.add("/clip.mp4", clip), tmp_path, Shut())
    assert server.log == []


def test_a_permit_that_came_too_late_is_asked_for_again(
    server: Server, clip: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    class Late(Recorder):
        def request(self, url: str) -> float:
            return super().request(url) - (1.5 if len(self.requested) % 2 else 0.0)

    recorder = Late()
    fetch(server.add("/clip", clip), tmp_path, recorder)
    assert len(server.log) == 2  # a look, and the file
    assert len(recorder.requested) == 4
    monkeypatch.setattr(
        ytdlp_handler, "_STALE", -1.0
    )  # each connection has become too old meanwhile
    (tmp_path / "again").mkdir()
    recorder = Late()
    fetch(server.add("/again.mp4", clip), tmp_path / "again", recorder)
    assert server.requests["/again.mp4"] == 1
    assert len(recorder.requested) == 2
    Late.request = lambda self, url: 0.0  # type: ignore[method-assign]
    with pytest.raises(TransientError, match="in time") as caught:
        fetch(server.add("/other.mp4", clip), tmp_path, Late())
    assert caught.value.error_class is ErrorClass.TIMEOUT
    assert server.requests["/other.mp4"] == 0
