"""Cookies, proxy, user agent and the like: used as configured, told to nobody."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dataminer.config import load
from dataminer.config.models import DownloadConfig
from dataminer.errors import ConfigError, ErrorClass, StageError, TransientError
from dataminer.net import ytdlp_options
from dataminer.stages.download.stage import download
from tests.support.http_server import Reply, Server, serve
from tests.support.videos import make_video

ID = "clip-0123456789"
TOKEN = "MnQ-secret-po-token-0123456789"
COOKIES = """# Netscape HTTP Cookie File
127.0.0.1\tFALSE\t/\tFALSE\t2147483647\tSESSION\ts3cret-session
"""

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve() as running:
        running.add("/clip.mp4", make_video(tmp_path / "clip.mp4", frames=5))
        yield running


@pytest.fixture
def cookies(tmp_path: Path) -> Path:
    path = tmp_path / "cookies.txt"
    path.write_text(COOKIES)
    path.chmod(0o400)
    return path


def fetch(server: Server, folder: Path, **settings: Any) -> dict[str, Any]:
    folder.mkdir()
    configured = DownloadConfig(retries=0, **settings)
    return download(f"{server.url}/clip.mp4", folder, ID, configured).info


def test_cookies_are_sent_and_their_file_stays_as_it_is(
    server: Server, cookies: Path, tmp_path: Path
) -> None:
    before = (cookies.read_bytes(), cookies.stat())

    def one(number: int) -> dict[str, Any]:
        return fetch(server, tmp_path / str(number), cookies=str(cookies))

    with ThreadPoolExecutor(2) as pool:
        infos = list(pool.map(one, range(2)))
    assert server.headers["/clip.mp4"]["Cookie"] == "SESSION=s3cret-session"
    assert (cookies.read_bytes(), cookies.stat().st_mtime_ns) == (before[0], before[1].st_mtime_ns)
    assert "s3cret" not in json.dumps(infos)
    assert not [path for path in tmp_path.rglob("*") if path != cookies and "cookie" in path.name]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read"), (b"\xff\xfe", "is not text"), (b"not cookies\n", "cookies")],
)
def test_cookies_that_cannot_be_used(
    server: Server, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "c.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TransientError, match=reason) as caught:
        fetch(server, tmp_path / "out", cookies=str(path))
    assert caught.value.error_class is ErrorClass.COOKIES
    assert server.requests["/clip.mp4"] == 0


def test_the_user_agent(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path / "out", user_agent="dataminer-test/1")
    assert server.headers["/clip.mp4"]["User-Agent"] == "dataminer-test/1"


def test_a_proxy_is_used_and_its_password_told_to_nobody(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy")
    with serve() as proxy:
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.delenv("no_proxy")
        requested: list[str] = []

        def forward(target: str) -> Reply:
            requested.append(target)
            return Reply(502)

        proxy.add("/clip.mp4", forward)
        link = proxy.url.replace("//", "//ann:s3cret@")
        with pytest.raises(StageError) as caught:
            fetch(server, tmp_path / "out", proxy=link)
    assert requested == [f"{server.url}/clip.mp4"]
    assert "Proxy-Authorization" in proxy.headers["/clip.mp4"]
    assert server.requests["/clip.mp4"] == 0
    assert "s3cret" not in str(caught.value)


def test_a_proxy_that_is_away_is_named_without_its_password(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy")
    with pytest.raises(TransientError) as caught:
        fetch(server, tmp_path / "out", proxy="socks5://ann:s3cret@127.0.0.1:9")
    assert "s3cret" not in str(caught.value)
    assert caught.value.error_class is ErrorClass.NETWORK


@pytest.mark.parametrize("scheme", ["https", "ftp"])
def test_a_proxy_of_another_kind_is_refused_and_condemns_no_video(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    link = f"{scheme}://ann:s3cret@127.0.0.1:9"
    with pytest.raises(ConfigError, match="must begin with one of http://") as refused:
        load({"download": {"proxy": link}})
    assert "s3cret" not in str(refused.value)
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy")
    monkeypatch.setattr(
        ytdlp_options, "_clients", threading.local()
    )  # yt-dlp reads the environment once
    monkeypatch.setenv("http_proxy", link)
    with pytest.raises(TransientError, match="type of the proxy is not supported") as caught:
        fetch(server, tmp_path / "out")
    assert caught.value.error_class is ErrorClass.NETWORK
    assert "HTTPS_PROXY" in caught.value.hint
