"""Settings: what is refused and how it is said, and the files that are generated from them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from dataminer.config import Config, ExtractConfig, generate, load, load_files
from dataminer.config.download import JS_RUNTIMES, PROXIES
from dataminer.config.models import PolicyConfig, Section
from dataminer.errors import ConfigError
from dataminer.provenance.fingerprints import VERSIONS, policy_id, recipe_id
from tests.support.paths import ROOT

WRONG = [
    ({"fliter": {}}, ["fliter: unknown key; did you mean `filter`?"]),
    ({"filter": {"min_sharpnes": 1}}, ["filter.min_sharpnes", "did you mean `min_sharpness`"]),
    ({"download": {"zzz": 1}}, ["download.zzz", "unknown key", "max_height"]),
    (
        {"filter": {"min_sharpness": "abc"}},
        ["filter.min_sharpness: must be a valid number", "'abc'"],
    ),
    ({"extract": {"every_frames": 2.5}}, ["extract.every_frames", "integer", "2.5"]),
    ({"extract": {"every_seconds": 0}}, ["extract.every_seconds", "greater than 0"]),
    ({"extract": {"strategy": "sometimes"}}, ["extract.strategy", "'time'", "'sometimes'"]),
    ({"detect": {"confidence": 7}}, ["detect.confidence: must be less than or equal to 1, got 7"]),
    ({"detect": {"image_size": 100}}, ["detect.image_size", "multiple of 32"]),
    ({"dedup": {"threshold": -1}}, ["dedup.threshold", "greater than or equal to 0"]),
    ({"input": {"urls": "https://x"}}, ["input.urls", "list"]),
    ({"input": {"filters": {"after": "soon"}}}, ["input.filters.after", "2024-01-31", "'soon'"]),
    ({"input": {"filters": {"before": "2024-02-31"}}}, ["input.filters.before", "2024-02-31"]),
    ({"input": {"filters": {"after": "today-2years; x"}}}, ["input.filters.after", "must be"]),
    (
        {"input": {"filters": {"after": "20240202", "before": "2024-02-01"}}},
        ["input.filters", "after must not be later than before"],
    ),
    (
        {"input": {"filters": {"min_duration": 9, "max_duration": 8}}},
        ["input.filters", "min_duration must not be above"],
    ),
    ({"input": {"filters": {"licence": "cc"}}}, ["input.filters.licence", "creative_commons"]),
    ({"input": {"max_videos_per_playlist": 0}}, ["max_videos_per_playlist", "greater than"]),
    ({"input": {"filters": {"duration": 1}}}, ["filters.duration", "unknown key"]),
    ({"filter": 3}, ["filter", "keys and values"]),
    ({"project": "a b"}, ["project", "letters, digits"]),
    ({"project": "../x"}, ["project", "letters, digits"]),
    ({"project": None}, ["name a project"]),
    (
        {"filter": {"min_brightness": 0.9, "max_brightness": 0.1}},
        ["filter", "min_brightness must be below max_brightness"],
    ),
    (
        {"monitor": {"heartbeat_seconds": 100, "stale_threshold_minutes": 2}},
        ["monitor", "at most half"],
    ),
]


@pytest.mark.parametrize(("values", "parts"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_config_is_refused_with_the_key_and_what_was_expected(
    values: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(values)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "Next: " in message
    assert "\n" not in message


def numbers(section: type[Section], *above: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of each setting that takes a number."""
    for name, field in section.model_fields.items():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, Section):
            yield from numbers(field.annotation, *above, name)
        elif re.search(r"\b(int|float)\b", str(field.annotation)):
            yield *above, name


@pytest.mark.parametrize("path", [*numbers(Config)], ids=".".join)
@pytest.mark.parametrize("given", [True, False])
def test_no_number_is_given_as_true_or_false(path: tuple[str, ...], given: bool) -> None:
    values: Any = given
    for name in reversed(path):
        values = {name: values}
    with pytest.raises(ConfigError, match=rf"^config: {'.'.join(path)}: must be .*, got {given}"):
        load(values)


def test_all_errors_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"dedup\.threshold.*detect\.confidence"):
        load({"detect": {"confidence": 2}, "dedup": {"threshold": 99}})


def test_values_from_the_command_line_arrive_as_text() -> None:
    config = load({"project": 2024, "extract": {"every_seconds": "2.5", "every_frames": "7"}})
    assert config.project == "2024"
    assert config.extract.every_seconds == 2.5
    assert config.extract.every_frames == 7


def test_days_arrive_as_yaml_has_them() -> None:
    text = "input: {filters: {after: 2024-01-31, before: 20240202}}"
    filters = load(yaml.safe_load(text)).input.filters
    assert (filters.after, filters.before) == ("2024-01-31", "2024-02-02")
    assert load({"input": {"filters": {"after": "now-3months"}}}).input.filters.after


def test_projects_stand_in_for_project_and_repeat_nothing() -> None:
    assert load({"projects": ["b", "a", "b"]}).project_names == ["b", "a"]
    assert load({"project": "x"}).project_names == ["x"]


RIGHT = [
    # bounds belong to what may be given
    {"detect": {"confidence": 0, "image_size": 32, "batch": 1, "jobs": 1000}},
    {"detect": {"confidence": 1, "image_size": 8192, "batch": 1024, "device": "cuda:7"}},
    {"dedup": {"threshold": 0, "similarity": 1}},
    {"dedup": {"threshold": 32, "similarity": 0.001}},
    {"extract": {"every_seconds": 86400, "quality": 1, "scene_threshold": 1}},
    {"extract": {"every_seconds": 0.001, "quality": 100, "max_error_share": 0}},
    {"filter": {"min_brightness": 0, "max_brightness": 1, "min_sharpness": 0, "max_black": 1}},
    {"filter": {"min_brightness": 0.96, "max_brightness": 0.97}},
    {"filter": {"semantic": {"prompts": {"positive": ["a"]}, "min_cosine": -1}}},
    {"filter": {"content": {"require": ["car|truck"], "confidence": 0.05, "min_size": 1}}},
    {"filter": {"text": {"max_area": 0, "confidence": 0.3, "image_size": 8192}}},
    {"filter": {"text": {"max_area": None, "confidence": 1, "image_size": 32}}},
    {"input": {"filters": {"after": "2024-02-01", "before": "2024-02-01"}}},
    {"input": {"filters": {"after": "today-2years", "before": "now-3days"}}},
    {"input": {"filters": {"min_duration": 8, "max_duration": 8, "licence": "any"}}},
    {"input": {"max_results_per_query": 1000, "max_videos_per_playlist": 100_000}},
    {"project": "A-1_b" + "x" * 58},
    {"project": None, "projects": ["a"]},
    # a claim may miss one beat
    {"monitor": {"heartbeat_seconds": 30, "stale_threshold_minutes": 1}},
    {"monitor": {"heartbeat_seconds": 3600, "stale_threshold_minutes": 120}},
    {"monitor": {"stale_threshold_minutes": 1440, "max_attempts": 1}},
    *({"download": {"proxy": f"{kind}://ann:pw@h:1"}} for kind in PROXIES),
    *({"download": {"js_runtimes": [name, f"{name}:/opt/{name}"]}} for name in JS_RUNTIMES),
    {"download": {"extractor_args": ["youtube:player_client=web,mweb;po_token=a=b", "x:y=z"]}},
    {"download": {"timeout_minutes": 10080, "min_bytes_per_second": 0, "retries": 0}},
    {"download": {"budget": {"first_pause_seconds": 60, "longest_pause_seconds": 60}}},
    {"download": {"budget": {"youtube": {"sleep_interval": 0, "max_sleep_interval": 0}}}},
    {"download": {"budget": {"others": {"sleep_interval": 9, "max_sleep_interval": 9}}}},
    {"download": {"budget": {"max_wait_minutes": 0}}},
    {"download": {"policy": {"min_duration": 0, "max_duration": 1, "max_size_mb": 0.1}}},
]


@pytest.mark.parametrize("values", RIGHT, ids=lambda value: str(value)[:60])
def test_what_the_bounds_allow_is_taken_as_it_is_given(values: dict[str, Any]) -> None:
    def within(given: Any, taken: Any) -> bool:
        if not isinstance(given, dict):
            return bool(given == taken)
        return all(within(value, taken[key]) for key, value in given.items())

    assert within(values, load(values).model_dump())


# what decides what comes out: a change has the stage run again
DECIDING = {
    "download": "max_height",
    "extract": "strategy every_seconds image_format quality max_frames max_minutes max_output_gb"
    " max_video_gb max_megapixels max_error_share geometry hdr crop_borders frame_store",
    "filter": "min_sharpness min_brightness max_brightness min_contrast min_entropy max_black"
    " max_blank max_border max_flash min_change damaged",
    "dedup": "method hash threshold min_object",
    "detect": "model prompts confidence image_size",
}


@pytest.mark.parametrize("section", DECIDING)
def test_each_setting_that_decides_has_its_stage_run_again(section: str) -> None:
    assert [*getattr(Config(), section).result_settings()] == DECIDING[section].split()


@pytest.mark.parametrize(
    ("section", "values", "used"),
    [
        ("extract", {"strategy": "interval"}, "every_frames"),
        ("extract", {"strategy": "scene"}, "every_seconds scene_threshold"),
        ("extract", {"strategy": "keyframe"}, ""),
        ("dedup", {"method": "embedding"}, "similarity"),
        ("dedup", {"method": "embedding", "model": "some/model"}, "model similarity"),
        ("dedup", {"method": "hash", "model": "some/model"}, "hash threshold min_object"),
        ("dedup", {"min_object": 0}, "hash threshold"),
        ("filter", {"content": {"exclude": ["car"]}}, "content"),
        ("filter", {"semantic": {"prompts": {"junk": ["blur"]}}}, "semantic"),
        ("filter", {"text": {"max_area": 1}}, "text"),
        ("filter", {"text": {"image_size": 320}}, ""),
    ],
)
def test_settings_decide_where_they_are_used(
    section: str,
    values: dict[str, Any],
    used: str,
) -> None:
    depending = {"every_frames", "every_seconds", "scene_threshold", "similarity"}
    depending |= {"hash", "threshold", "content", "semantic", "text", "model", "min_object"}
    decided = getattr(load({section: values}), section)
    assert depending & decided.result_settings().keys() == set(used.split())


def test_only_settings_in_use_decide_a_result() -> None:
    def result(**settings: Any) -> dict[str, Any]:
        return ExtractConfig(**settings).result_settings()

    assert result(every_frames=3) == result(every_frames=9)
    assert result(strategy="interval", every_frames=3) != result(strategy="interval")
    assert result(image_format="png", quality=5) == result(image_format="png", quality=50)
    assert result(quality=5) != result(quality=50)
    detect = load({}).detect
    assert "batch" not in detect.result_settings()
    assert "device" not in detect.result_settings()


def test_each_rule_of_a_policy_makes_it_another() -> None:
    rules: dict[str, Any] = {
        name: ["a"] for name in ("blocked_hashtags", "blocked_titles", "licences")
    }
    rules |= dict.fromkeys(("min_duration", "max_duration", "min_size_mb", "max_size_mb"), 1)
    assert rules.keys() == PolicyConfig.model_fields.keys()
    each = [{}, *({name: value} for name, value in rules.items())]
    policy_ids = [policy_id(PolicyConfig(**given)) for given in each]
    assert len(set(policy_ids)) == len(each)
    assert policy_ids == [policy_id(PolicyConfig(**given)) for given in each]


def test_results_are_told_apart_by_stage_version_and_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = {recipe_id(stage, {"a": 1}) for stage in VERSIONS}
    assert len(seen) == len(VERSIONS)
    monkeypatch.setitem(VERSIONS, "extract", VERSIONS["extract"] + 1)
    changed = {recipe_id("extract", settings) for settings in ({"a": 1}, {"a": 2}, {}, None)}
    assert len(changed) == 4 and not changed & seen
    assert recipe_id("extract", {"a": 1, "b": 2}) == recipe_id("extract", {"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("text", "part"),
    [("project: [", "not valid YAML at line"), ("- a\n- b\n", "expected keys and values")],
)
def test_files_that_are_no_config(tmp_path: Path, text: str, part: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=part):
        load_files([file])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml cannot be read.*Next"):
        load_files([tmp_path / "nothing.yaml"])


def test_the_default_file_and_the_schema_agree_with_the_models() -> None:
    default = yaml.safe_load(generate.default_yaml())
    assert load(default) == Config()
    jsonschema.validate(default, generate.schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"filter": {"min_sharpness": "abc"}}, generate.schema())


def test_the_schema_and_reference_in_the_repository_are_up_to_date() -> None:
    assert json.loads((ROOT / "config/config.schema.json").read_text()) == generate.schema()
    assert (ROOT / "config/README.md").read_text() == generate.reference()


def test_the_reference_is_a_table_of_four_columns() -> None:
    """An unescaped ``|`` would begin another cell, even in code."""
    table = [line for line in generate.reference().splitlines() if line.startswith("|")]
    assert {len(re.split(r"(?<!\\)\|", line)) - 2 for line in table} == {4}


def test_every_key_is_described() -> None:
    assert all("None" not in line.split("|")[4] for line in generate.reference().splitlines()[-30:])
