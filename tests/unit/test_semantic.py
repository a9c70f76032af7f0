"""Settings of the semantic filter, and what it says without its libraries."""

from __future__ import annotations

from typing import Any

import pytest

from dataminer.config import load
from dataminer.config.models import FilterConfig, SemanticConfig
from dataminer.errors import ConfigError
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.vision import checkpoint as checkpoints


def test_without_the_libraries_the_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoints, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"make semantic.*--editable '\.\[semantic\]'"):
        checkpoints.require_transformers()


@pytest.mark.parametrize(
    ("settings", "printed"),
    [
        ({"prompts": {"negative": ["a"]}}, "need a positive one to compare with"),
        ({"prompts": {"positive": ["a"]}}, "alone reject nothing"),
        ({"prompts": {"junk": ["a"]}, "min_score": 0.5}, "need a positive prompt"),
        ({"prompts": {"junk": [" "]}}, "at least 1 character"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], printed: str) -> None:
    with pytest.raises(ValueError, match=printed):
        SemanticConfig.model_validate(settings)


def test_a_project_without_prompts_has_the_settings_that_it_had() -> None:
    plain = FilterConfig()
    assert not plain.semantic.on and not plain.content.on
    assert "semantic" not in plain.result_settings() and "content" not in plain.result_settings()
    assert "videos_per_job" not in plain.result_settings()
    requested = FilterConfig.model_validate({"semantic": {"prompts": {"junk": ["blur"]}}})
    assert requested.result_settings().keys() - plain.result_settings().keys() == {"semantic"}
    assert "batch" not in requested.result_settings()["semantic"]


def test_one_process_looks_at_so_many_videos_as_the_settings_say() -> None:
    semantic = {"model": "some/model", "prompts": {"junk": ["blur"]}}
    made_models = FrameModels.of(load({"filter": {"videos_per_job": 2, "semantic": semantic}}))
    assert list(made_models.batches(["a", "b", "c"])) == [("a", "b"), ("c",)]
