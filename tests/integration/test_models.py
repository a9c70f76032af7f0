"""``dataminer models``, with the real download from a server of our own."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dataminer.cli.main import app
from dataminer.errors import ConfigError, TransientError
from dataminer.vision.weights import quiet_ultralytics
from tests.support.http_server import Reply, Server, serve

BODY = bytes(range(256)) * 800  # ultralytics takes nothing below 100 kB for weights


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Let ultralytics download from a server of the test, in an empty working directory."""
    with quiet_ultralytics():
        from ultralytics.utils import downloads
    real = downloads.safe_download
    with serve() as server:

        def local(url: str, **options: Any) -> Any:
            return real(url=f"{server.url}/{url.rsplit('/', 1)[1]}", **options)

        monkeypatch.setattr(downloads, "safe_download", local)
        monkeypatch.setenv("https_proxy", server.url)  # so that github.com is not asked for
        monkeypatch.chdir(tmp_path)
        yield server


def dataminer(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["models", *arguments])


def test_weights_are_fetched_once_and_listed(publisher: Server, tmp_path: Path) -> None:
    publisher.add("/yolo26n.pt", Reply(body=BODY))
    publisher.add("/yolo26x.pt", Reply(body=BODY[::-1]))
    Path("config").mkdir()
    Path("config/config.yaml").write_text("detect: {model: yolo26x.pt}")
    named = dataminer("fetch", "yolo26n.pt", "--models", "m")
    assert (named.exit_code, named.stdout) == (0, "m/yolo26n.pt\n"), named.output
    assert "yolo26n.pt" in named.stderr and "100%" in named.stderr
    configured = dataminer("fetch", "--models", "m")
    assert configured.stdout == "m/yolo26x.pt\n", configured.output
    again = dataminer("fetch", "yolo26n.pt", "--models", "m")
    assert "exists already" in again.stderr and publisher.requests["/yolo26n.pt"] == 1
    listed = json.loads(dataminer("list", "--models", "m", "--json").stdout)
    assert [entry["name"] for entry in listed] == ["yolo26n.pt", "yolo26x.pt"]
    digests = [hashlib.sha256(body).hexdigest() for body in (BODY, BODY[::-1])]
    assert [entry["sha256"] for entry in listed] == digests
    assert {entry["bytes"] for entry in listed} == {len(BODY)}
    lines = dataminer("list", "--models", "m").stdout.splitlines()
    assert lines[0].split() == ["yolo26n.pt", "0.2", "MB", digests[0]]


def test_half_a_download_leaves_nothing(publisher: Server, tmp_path: Path) -> None:
    publisher.add("/yolo26n.pt", Reply(body=BODY, declared_length=len(BODY) + 9))
    done = dataminer("fetch", "yolo26n.pt")
    assert isinstance(done.exception, TransientError), done.output
    assert list(tmp_path.rglob("*.p*")) == []


def test_unknown_names_and_no_weights(publisher: Server) -> None:
    assert isinstance(dataminer("fetch", "none.pt").exception, ConfigError)
    done = dataminer("list")
    assert (done.exit_code, done.stdout) == (0, "") and "models fetch" in done.stderr


def test_a_network_that_swallows_everything_is_told_of_in_seconds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    attempts = []

    def never_answers(address: tuple[str, int], timeout: float) -> socket.socket:
        attempts.append((address, timeout))
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", never_answers)
    done = dataminer("fetch", "yolo26n.pt")
    assert isinstance(done.exception, TransientError)
    assert str(done.exception).startswith(
        "cannot download yolo26n.pt: this machine seems to be offline. Next: put the weights file"
    )
    assert attempts == [(("github.com", 443), 5.0)]
