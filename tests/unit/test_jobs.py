"""What Snakemake's jobs are given."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dataminer.config import load
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.store.layout import Store
from dataminer.vision import checkpoint as checkpoints
from dataminer.workflow.jobs import Jobs

PROMPTS = {"model": "some/model", "prompts": {"junk": ["blur"]}}


def jobs(*, is_main: bool = True, deployment: tuple[str, ...] = ()) -> Jobs:
    """Return the jobs of a run with a semantic filter."""
    settings = load({"filter": {"semantic": PROMPTS}})
    session: Any = SimpleNamespace(
        is_main=is_main,
        settings=settings,
        store=Store(settings.store_path),
        frame_models=FrameModels.of(settings),
        snakemake=SimpleNamespace(deployment_methods=set(deployment)),
    )
    return Jobs(session)


@pytest.fixture
def sought(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the libraries that have been looked for."""
    names: list[str] = []

    def observe(name: str) -> object:
        names.append(name)
        return find_spec("json")

    monkeypatch.setattr(checkpoints, "find_spec", observe)
    return names


def test_a_run_looks_once_for_what_the_model_needs(sought: list[str]) -> None:
    run = jobs()
    files = [run.model_files(None) for _ in range(3)]
    assert files == [[str(Path("models/some--model/config.json"))]] * 3
    assert sought == ["torch", "transformers"]
    jobs().checkpoint()
    assert sought == ["torch", "transformers"] * 2


@pytest.mark.parametrize("where", [{"is_main": False}, {"deployment": ("conda",)}], ids=str)
def test_only_a_process_that_runs_models_here_looks_for_it(
    sought: list[str], where: dict[str, Any]
) -> None:
    assert jobs(**where).checkpoint()
    assert sought == []


def test_a_run_without_it_ends_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="torch and transformers cannot be found here"):
        jobs().checkpoint()
