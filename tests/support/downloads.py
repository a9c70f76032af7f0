"""The download stage, run and expected to fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dataminer.config.models import DownloadConfig
from dataminer.errors import StageError
from dataminer.stages.download.stage import DownloadResult, download

ID = "clip-0123456789"
QUICK = DownloadConfig(retries=0, socket_timeout=5)
PAGE = b"<!doctype html><html><head><title>A page</title></head><body>Hello</body></html>"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fetch(url: str | Path, out: Path, **more: Any) -> DownloadResult:
    return download(str(url), out, ID, more.pop("settings", QUICK), **more)


def fails(url: str | Path, out: Path, **more: Any) -> StageError:
    """Expect an error in one clean sentence, and nothing left behind."""
    with pytest.raises(StageError) as caught:
        fetch(url, out, **more)
    message = caught.value.message
    assert len(message) < 450
    for noise in ("\n", "\x1b", "ERROR", "report this", "caused by", "Traceback", "  "):
        assert noise not in message
    assert names(out) == []
    return caught.value
