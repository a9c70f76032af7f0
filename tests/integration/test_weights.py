"""Weights fetched through ultralytics, which leaves the process as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dataminer.errors import ConfigError, ErrorClass, TransientError
from dataminer.vision.weights import fetch, quiet_ultralytics


class TestFetch:
    def test_an_unknown_name_fails_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigError, match=r"ultralytics publishes no weights named nothing\.pt"
        ) as caught:
            fetch("nothing.pt", tmp_path)
        assert str(tmp_path / "nothing.pt") in caught.value.hint

    def test_offline_fails_fast_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with quiet_ultralytics():
            pass  # the import is not what is timed
        monkeypatch.setenv("YOLO_OFFLINE", "1")
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens: refused
        started = time.monotonic()
        with pytest.raises(TransientError, match=r"cannot download yolo26n\.pt") as caught:
            fetch("yolo26n.pt", tmp_path / "models")
        assert time.monotonic() - started < 10
        assert caught.value.error_class is ErrorClass.NETWORK
        assert "models/yolo26n.pt" in caught.value.hint
        assert "detect.model" in caught.value.hint
        assert not list(tmp_path.rglob("*.pt"))

    def test_a_download_appears_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with quiet_ultralytics():
            from ultralytics.utils import downloads

        def download(file: Path, **_: object) -> str:
            assert file.name == "yolo26n.pt"
            file.write_bytes(b"weights")
            return str(file)

        monkeypatch.setattr(downloads, "attempt_download_asset", download)
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # github.com is not asked for
        folder = tmp_path / "it's here"
        assert fetch("yolo26n.pt", folder).read_bytes() == b"weights"
        assert [file.name for file in folder.iterdir()] == ["yolo26n.pt"]


def test_ultralytics_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    script = """
import os, sys
before = {k: v for k, v in os.environ.items()}
from dataminer.vision.weights import quiet_ultralytics
import torch
threads = torch.get_num_threads()
with quiet_ultralytics():
    from ultralytics import YOLO
    from ultralytics.utils import LOGGER, SETTINGS
    LOGGER.warning("no"); LOGGER.error("told")
    assert not SETTINGS["sync"]
changed = {k for k in os.environ if before.get(k) != os.environ[k]} | set(before) - set(os.environ)
assert not {k for k in changed if k.startswith(("YOLO", "ULTRA", "OMP", "CUBLAS"))}, changed
assert torch.get_num_threads() == threads
assert "torchvision" not in sys.modules
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("YOLO", "OMP"))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, "HOME": str(home), "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.strip() == "told"
    assert not [p for p in home.rglob("*") if "ltralytics" in p.name]
