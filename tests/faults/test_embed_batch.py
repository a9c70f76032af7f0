"""A batch that models look at: a video that brings them down is left alone, the others are seen."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dataminer.config import load
from dataminer.errors import DataminerError, ErrorClass, PermanentError
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.sync.batches import embed_batch

CONFIG = load({"project": "p"})
VIDEOS = ("a", "b", "c", "d")
FRAMES = {video: [Path()] for video in VIDEOS}


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a model that notes in a folder what it saw, and that some videos bring down."""

    def run_models(self: FrameModels, videos: Sequence[str], threads: int, progress: Any) -> None:
        for video in videos:
            if (tmp_path / f"{video}.crash").exists():
                ctypes.string_at(0)
            if (tmp_path / f"{video}.error").exists():
                raise PermanentError(f"{video} is damaged", ErrorClass.CORRUPT)
            (tmp_path / video).touch()

    monkeypatch.setattr(FrameModels, "run_models", run_models)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.suffix}


def test_all_are_seen_in_one_go(seen: Path) -> None:
    embed_batch.run_models(CONFIG, FRAMES, threads=1)
    assert names(seen) == {*VIDEOS}


@pytest.mark.parametrize(
    ("fault", "printed"),
    [("crash", "b: crashed by SIGSEGV"), ("error", "b: b is damaged")],
)
def test_a_video_that_brings_it_down_fails_alone(seen: Path, fault: str, printed: str) -> None:
    (seen / f"b.{fault}").touch()
    with pytest.raises(DataminerError, match=printed):
        embed_batch.run_models(CONFIG, FRAMES, threads=1)
    assert names(seen) == {"a", "c", "d"}


def test_a_machine_that_cannot_look_is_not_asked_for_each_video(seen: Path) -> None:
    for video in VIDEOS:
        (seen / f"{video}.error").touch()
    with pytest.raises(DataminerError, match=r"a: a is damaged.*\(and 2 more, see the log\)"):
        embed_batch.run_models(CONFIG, FRAMES, threads=1)
