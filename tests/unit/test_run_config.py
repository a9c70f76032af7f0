"""A run's configuration: names as they were typed, and no secret in what Snakemake writes down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config

from dataminer.config import load_files, load_job, load_run
from dataminer.errors import ConfigError

SECRETS = {
    "proxy": "http://ann:s3cret@proxy:3128",
    "extractor_args": ["youtube:po_token=web+s3cret"],
}


@pytest.fixture
def written(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("project: 2024_05", "202405"),
        ("project: 007", "7"),
        ("project: 0x1f", "31"),
        ("project: 2024-05-01", "datetime.date(2024, 5, 1)"),
        ("project: 0b11", "3"),
        ("project: yes", "True"),
        ("projects: [birds, 2024_05]", "202405"),
    ],
)
def test_a_name_that_yaml_reads_as_something_else_is_refused(
    written: Any, text: str, read: str
) -> None:
    path = written(text)
    name = yaml.load(text, yaml.BaseLoader).popitem()[1]
    name = name[-1] if isinstance(name, list) else name
    loads: list[Callable[[Path], object]] = [
        lambda p: load_files([p]),
        lambda p: load_run(yaml.safe_load(text), [p], None),
    ]
    for load in loads:
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert f"YAML reads {name} as {read}" in str(caught.value)
        assert f"'{name}'" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["project: '2024_05'", "project: 2024", "projects: ['007', 12]", "project: '2024-05-01'"],
)
def test_names_of_digits_work(written: Any, text: str) -> None:
    names = yaml.load(text, yaml.BaseLoader).popitem()[1]
    read = load_files([written(text)]).project_names
    assert read == (names if isinstance(names, list) else [names])


@pytest.mark.parametrize("name", ["2024_05", "007", "1e3", "0x1f", "12", "birds", "'007'", '"007"'])
def test_a_name_on_the_command_line_is_taken_as_it_was_typed(name: str) -> None:
    read = {"2024_05": 202405, "007": 7, "1e3": 1000.0, "12": 12}.get(name, name)
    values = {"project": read}
    settings = load_run(values, [], ["retries=3", f"project={name}"])
    assert settings.project_names == [name.strip("'\"")]
    assert values["project"] == name.strip("'\"")


def test_several_names_on_the_command_line_are_taken_as_they_were_typed() -> None:
    values: dict[str, Any] = {"projects": [202405, 7]}
    assert load_run(values, [], ["projects=[2024_05, 007]"]).project_names == ["2024_05", "007"]


def test_jobs_get_the_secrets_of_their_run_and_snakemake_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATAMINER_DOWNLOAD_SECRETS", "{}")
    links = ["http://ann:s3cret@h/a.mp4?token=s3cret"]
    values: dict[str, Any] = {
        "project": "p",
        "input": {"urls": links},
        "download": {"retries": 7, **SECRETS},
    }
    settings = load_run(values, [], None)
    assert settings.input.urls == links
    assert settings.download.proxy == SECRETS["proxy"]
    assert "s3cret" not in json.dumps(values)
    assert values["download"] == {"retries": 7}
    assert load_job(values).download == settings.download


@pytest.mark.parametrize("store", ["data/{x}", "a}b"])
def test_a_store_with_a_brace_is_refused(store: str) -> None:
    with pytest.raises(ConfigError, match=r"store: must contain no \{ or \}"):
        load_run({"project": "p", "store": store}, [], None)


@pytest.mark.parametrize(
    "download",
    [
        {"proxy": ["http://ann:s3cret@h"]},
        {"extractor_args": "youtube:po_token=s3cret"},
        {"extractor_args": ["s3cret"]},
    ],
)
def test_a_wrong_secret_is_not_repeated(download: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"download\.") as caught:
        load_run({"project": "p", "download": download}, [], None)
    assert "s3cret" not in str(caught.value)


def test_a_wrong_link_is_repeated_without_its_secret() -> None:
    wrong = {"urls": [["http://ann:s3cret@h/a.mp4?token=s3cret"]]}
    with pytest.raises(ConfigError, match=r"input\.urls\.0") as caught:
        load_run({"project": "p", "input": wrong}, [], None)
    assert "s3cret" not in str(caught.value)
    assert "got a list" in str(caught.value)


@pytest.mark.parametrize("text", ["config:\n  project: 2024_05", "config: {projects: [a, 007]}"])
def test_a_misread_name_in_a_profile_is_refused(written: Any, text: str) -> None:
    with pytest.raises(ConfigError, match="YAML reads"):
        load_run({"project": 1}, [], ["project=1"], [written(text)])


def test_a_profile_that_lists_its_arguments_gives_names_as_they_are(written: Any) -> None:
    path = written("config:\n  - project=2024_05\ncores: 2")
    assert load_run({"project": 1}, [], ["project=2024_05"], [path]).project_names == ["2024_05"]


def test_the_last_that_names_projects_decides(written: Any) -> None:
    several = written("projects: [p, '7']")
    values: dict[str, Any] = {"projects": ["p", "7"], "project": 7}
    assert load_run(values, [several], ["project=007"]).project_names == ["007"]
    assert load_run({"project": "a"}, [], ["projects=[b, c]"]).project_names == ["b", "c"]


def test_a_mapping_that_is_merged_in_names_projects(written: Any) -> None:
    assert load_files([written("<<: {projects: [a, b]}")]).project_names == ["a", "b"]
    with pytest.raises(ConfigError, match="YAML reads 2024_05 as 202405"):
        load_files([written("<<: {project: 2024_05}")])


def test_secrets_on_the_command_line_are_refused() -> None:
    with pytest.raises(ConfigError, match="do not belong on a command line") as caught:
        load_run({}, [], ["download={proxy: 'http://ann:s3cret@h'}"])
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"download": [{"extractor_args": ["youtube:po_token=s3cret"]}]},
        {"download": {"cookies": ["SID=s3cret"]}},
        {"download": {"cookies": 3, "cookies_from_browser": {"SID": "s3cret"}}},
        {"input": {"urls": [{"password": "s3cret"}]}},
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_run(values, [], None)
    assert "s3cret" not in str(caught.value)


LAYERS = [
    "project: a\ninput: {files: [x], max_results_per_query: 7}\n"
    "extract: {every_seconds: 2, quality: 80}",
    "extract: {quality: 90}\ndownload: {policy: {min_size_mb: 2}}",
    "extract: {quality: 70}\nstore: other\ndedup: {threshold: 3}",
]


@pytest.mark.parametrize("files", [[0, 1], [1, 0], [0, 1, 2], [2, 1, 0], [0, 0]])
def test_files_are_laid_over_each_other_as_snakemake_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[int]
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / f"{number}.yaml" for number in range(len(LAYERS))]
    for path, text in zip(paths, LAYERS, strict=True):
        path.write_text(text)
    given = [paths[number] for number in files]
    read: dict[str, Any] = {}
    for path in given:
        update_config(read, load_configfile(path))
    assert load_files(given) == load_run(read, given, None)


def test_the_default_file_lies_under_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config").mkdir()
    Path("config/config.yaml").write_text("project: birds\nstore: big\ninput: {files: [birds]}")
    Path("cats.yaml").write_text("project: cats\ninput: {urls: ['http://h/a.mp4']}")
    Path("more.yaml").write_text("input: {urls: ['http://h/a.mp4']}")
    settings = load_files([Path("cats.yaml")])
    assert (settings.project_names, settings.store) == (["cats"], "big")
    assert settings.input.files == []  # of the birds
    assert load_files([Path("more.yaml")]).input.files == ["birds"]
    assert load_files().project_names == ["birds"]
