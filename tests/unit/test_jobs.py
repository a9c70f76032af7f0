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


def jobs(*, is_main: bool = True, deployment: tuple[str, ...] = (), **sections: Any) -> Jobs:
    """Return the jobs of a run with a semantic filter, unless other settings are given."""
    settings = load(sections or {"filter": {"semantic": PROMPTS}})
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


COMPARES = {"method": "embedding", "model": "other/model"}


@pytest.mark.parametrize(
    ("sections", "prompts", "all_models"),
    [
        ({"filter": {"semantic": PROMPTS}}, ["some"], ["some"]),
        ({"filter": {"semantic": PROMPTS}, "dedup": COMPARES}, ["some"], ["some", "other"]),
        ({"dedup": COMPARES}, [], ["other"]),
        ({"filter": {"semantic": {"model": "./nowhere"}}, "dedup": COMPARES}, [], ["other"]),
        ({"dedup": {**COMPARES, "method": "hash"}}, [], []),
        ({"dedup": {**COMPARES, "model": "./nowhere", "method": "hash"}}, [], []),
    ],
    ids=str,
)
def test_jobs_read_the_models_in_use(
    sought: list[str], sections: dict[str, Any], prompts: list[str], all_models: list[str]
) -> None:
    def files(owners: list[str]) -> list[str]:
        return [f"models/{owner}--model/config.json" for owner in owners]

    run = jobs(**sections)
    assert run.checkpoint() == files(prompts)
    assert run.model_files(None) == files(all_models)
    models = FrameModels.of(load(sections))
    assert models.memory_mb == (9000 if len(all_models) == 2 else 6000)
    assert not models.on_gpu


def test_the_device_of_the_filter_is_that_of_dedup() -> None:
    models = FrameModels.of(load({"dedup": COMPARES, "filter": {"semantic": {"device": "cuda"}}}))
    assert models.on_gpu


def test_a_run_without_what_dedup_needs_ends_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SystemExit, match=r"dedup\.model: there is no folder \./nowhere"):
        jobs(dedup={**COMPARES, "model": "./nowhere"}).checkpoint()
    monkeypatch.setattr(checkpoints, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"dedup compares embeddings.*set dedup\.method to hash"):
        jobs(dedup=COMPARES).checkpoint()


def test_prompts_for_a_model_without_a_text_tower_end_the_run_at_once(
    sought: list[str], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "dinov3_vit"}')
    semantic = {**PROMPTS, "model": str(tmp_path)}
    with pytest.raises(SystemExit, match=r"dinov3_vit.*set filter\.semantic\.model to a SigLIP"):
        jobs(filter={"semantic": semantic}).checkpoint()
    assert jobs(dedup={**COMPARES, "model": str(tmp_path)}).checkpoint() == []


def test_without_a_model_of_its_own_dedup_has_the_paths_that_it_had() -> None:
    """Of the versions before the setting: a store is not embedded anew by an update."""
    by_default = FrameModels.of(load({"dedup": {"method": "embedding"}}))
    known = "data/embeddings/siglip2-base-patch16-224-d9907f6d/v/r.parquet"
    assert str(by_default.embedded("v", "r")) == str(by_default.embeddings("v", "r")) == known
    semantic = {"semantic": {"model": "some/model"}}
    named = FrameModels.of(load({"dedup": {"method": "embedding"}, "filter": semantic}))
    assert str(named.embedded("v", "r")) == "data/embeddings/model-8fdee8ec/v/r.parquet"
    assert "model" not in load({"dedup": {"method": "embedding"}}).dedup.result_settings()
