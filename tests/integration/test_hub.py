"""Models of the Hugging Face Hub, fetched from a server of our own that speaks as the hub does."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dataminer.cli.main import app
from dataminer.errors import ConfigError, ErrorClass, PermanentError, TransientError
from dataminer.vision.hub import fetch_snapshot, folder_sha256, is_hub_id, snapshot_folder
from dataminer.vision.weights import fetch, to_fetch, weights_path
from tests.support.http_server import Server, refused_url, serve
from tests.support.hub import FILES, MODEL, publish

pytest.importorskip("huggingface_hub")
OTHERS = {"pytorch_model.bin": b"pickle", "run.py": b"print()", "onnx/config.json": b"{}"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.chdir(tmp_path)
        yield server


def test_names() -> None:
    assert is_hub_id("google/owlv2-base-patch16-ensemble")
    assert not any(map(is_hub_id, ("yolo26n.pt", "own/mine.pt", "/a/b", "./a", "a/b/c", "../x")))
    assert weights_path("google/owl") == Path("models/google--owl")
    assert to_fetch("google/owl", Path("m")) == snapshot_folder("google/owl", Path("m"))


def test_a_folder_that_is_there_is_taken_as_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("own/owl", "models/birds--owl"):
        Path(folder).mkdir(parents=True)
        Path(folder, "config.json").write_text("{}")
    assert weights_path("own/owl") == to_fetch("own/owl") == Path("own/owl")
    assert fetch(MODEL) == fetch("birds--owl") == Path("models/birds--owl")


def test_the_model_of_dedup_is_fetched_if_it_is_in_use(hub: Server, tmp_path: Path) -> None:
    publish(hub, FILES)
    (tmp_path / "mine.pt").write_bytes(b"weights")
    config = tmp_path / "config.yaml"

    def fetched(**dedup: str) -> Result:
        config.write_text(json.dumps({"detect": {"model": "mine.pt"}, "dedup": dedup}))
        return CliRunner().invoke(app, ["models", "fetch", "--config", str(config)])

    assert fetched(method="hash", model=MODEL).stdout == "mine.pt\n"
    done = fetched(method="embedding", model=MODEL)
    assert done.stdout == "mine.pt\nmodels/birds--owl\n", done.output
    error = fetched(method="embedding", model="./nowhere").exception
    assert isinstance(error, ConfigError) and "dedup.model: there is no folder" in str(error)


def test_a_model_is_fetched_whole_and_once(hub: Server) -> None:
    publish(hub, FILES | OTHERS)
    got = CliRunner().invoke(app, ["models", "fetch", MODEL])
    assert (got.exit_code, got.stdout) == (0, "models/birds--owl\n"), got.output
    folder = Path("models/birds--owl")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == FILES
    assert [path.name for path in Path("models").iterdir()] == [folder.name]
    requested = hub.requests.total()
    again = CliRunner().invoke(app, ["models", "fetch", MODEL])
    assert "exists already" in again.stderr and hub.requests.total() == requested
    (listed,) = json.loads(CliRunner().invoke(app, ["models", "list", "--json"]).stdout)
    by_hand = "sha256sum * | sha256sum"
    printed = subprocess.run(by_hand, shell=True, cwd=folder, capture_output=True, text=True).stdout
    assert listed["sha256"] == folder_sha256(folder) == printed.split()[0]
    assert (listed["name"], listed["bytes"]) == ("birds--owl", sum(map(len, FILES.values())))


def test_a_model_without_safetensors_leaves_nothing(hub: Server) -> None:
    publish(hub, {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    with pytest.raises(PermanentError, match="safetensors"):
        fetch_snapshot(MODEL)
    assert list(Path("models").iterdir()) == []


def test_an_unknown_model(hub: Server) -> None:
    with pytest.raises(ConfigError, match="no public model birds/owl"):
        fetch_snapshot(MODEL)
    assert list(Path("models").iterdir()) == []


@pytest.mark.parametrize("how", ["refused", "told"])
def test_offline_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", refused_url().removesuffix("/clip.mp4"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if how == "told" else "0")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waited"))
    with pytest.raises(TransientError, match="seems to be offline") as caught:
        fetch_snapshot(MODEL, tmp_path / "models")
    assert caught.value.error_class is ErrorClass.NETWORK
    assert str(tmp_path / "models/birds--owl") in caught.value.hint
    assert list(tmp_path.iterdir()) == []
