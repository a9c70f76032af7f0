"""Settings: what is refused and how it is said, and the files that are generated from them."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from dataminer.config import Config, ExtractConfig, generate, load, load_file
from dataminer.errors import ConfigError
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
def test_wrong_config_is_refused_with_the_key_and_what_was_expected(values, parts):
    with pytest.raises(ConfigError) as caught:
        load(values)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "Next: " in message
    assert "\n" not in message


def test_all_errors_are_told_at_once():
    with pytest.raises(ConfigError, match=r"dedup\.threshold.*detect\.confidence"):
        load({"detect": {"confidence": 2}, "dedup": {"threshold": 99}})


def test_values_from_the_command_line_arrive_as_text():
    config = load({"project": 2024, "extract": {"every_seconds": "2.5", "every_frames": "7"}})
    assert config.project == "2024"
    assert config.extract.every_seconds == 2.5
    assert config.extract.every_frames == 7


def test_days_arrive_as_yaml_has_them():
    text = "input: {filters: {after: 2024-01-31, before: 20240202}}"
    filters = load(yaml.safe_load(text)).input.filters
    assert (filters.after, filters.before) == ("2024-01-31", "2024-02-02")
    assert load({"input": {"filters": {"after": "now-3months"}}}).input.filters.after


def test_projects_stand_in_for_project_and_repeat_nothing():
    assert load({"projects": ["b", "a", "b"]}).project_names == ["b", "a"]
    assert load({"project": "x"}).project_names == ["x"]


def test_only_settings_in_use_decide_a_result():
    def result(**settings):
        return ExtractConfig(**settings).result_settings()

    assert result(every_frames=3) == result(every_frames=9)
    assert result(strategy="interval", every_frames=3) != result(strategy="interval")
    assert result(image_format="png", quality=5) == result(image_format="png", quality=50)
    assert result(quality=5) != result(quality=50)
    detect = load({}).detect
    assert "batch" not in detect.result_settings()
    assert "device" not in detect.result_settings()


@pytest.mark.parametrize(
    ("text", "part"),
    [("project: [", "not valid YAML at line"), ("- a\n- b\n", "expected keys and values")],
)
def test_files_that_are_no_config(tmp_path: Path, text, part):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=part):
        load_file(file)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml cannot be read.*Next"):
        load_file(tmp_path / "nothing.yaml")


def test_the_default_file_and_the_schema_agree_with_the_models():
    default = yaml.safe_load(generate.default_yaml())
    assert load(default) == Config()
    jsonschema.validate(default, generate.schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"filter": {"min_sharpness": "abc"}}, generate.schema())


def test_the_schema_and_reference_in_the_repository_are_up_to_date():
    assert json.loads((ROOT / "config/config.schema.json").read_text()) == generate.schema()
    assert (ROOT / "config/README.md").read_text() == generate.reference()


def test_every_key_is_described():
    assert all("None" not in line.split("|")[4] for line in generate.reference().splitlines()[-30:])
