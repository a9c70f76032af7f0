"""Which configuration files count: those named, those of a project's last run, the default one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataminer.cli.options import of_store, readings, settings_of
from dataminer.config import DEFAULT_FILE
from dataminer.errors import ConfigError, DatabaseError
from dataminer.sync.config_files import by_files, files_of, remember, runs_of
from tests.support.postgres import execute
from tests.support.rows import add

SECRET = "http://ann:s3cret@proxy:3128"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a default configuration, and others beside it."""
    monkeypatch.chdir(tmp_path)
    files: dict[str | Path, str] = {
        DEFAULT_FILE: "project: birds\nextract: {every_seconds: 2, quality: 80}",
        "cats.yaml": "project: cats\nextract: {every_seconds: 0.5}\n"
        f"download: {{proxy: {SECRET}}}",
        "more.yaml": "extract: {quality: 90}",
        "elsewhere.yaml": "store: other",
    }
    for name, text in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    return tmp_path


def test_a_project_remembers_the_names_of_its_files_and_nothing_they_say(
    database: str, here: Path
) -> None:
    add("cats", "v1")
    remember(["cats", "unknown"], [here / "cats.yaml", "more.yaml", DEFAULT_FILE])
    assert by_files(["cats"]) == {(Path("cats.yaml"), Path("more.yaml")): ["cats"]}
    settings = settings_of(None, ["cats"])
    assert (settings.extract.every_seconds, settings.extract.quality) == (0.5, 90)
    assert "s3cret" not in str(execute(database, "SELECT p::text FROM projects p"))
    remember(["cats"], ["more.yaml"], only_first=True)
    assert files_of(["cats"], typed=True) == (Path("cats.yaml"), Path("more.yaml"))
    remember(["cats"], ["config/../config/config.yaml"])
    assert files_of(["cats"], typed=True) == ()


def test_files_that_are_named_count_and_not_those_of_the_last_run(
    database: str, here: Path
) -> None:
    add("cats", "v1")
    remember(["cats"], ["cats.yaml"])
    settings = settings_of([Path("more.yaml")], ["cats"])
    assert (settings.extract.every_seconds, settings.extract.quality) == (2, 90)


def test_a_folder_that_has_moved_is_no_reason_to_forget(
    database: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("cats", "v1")
    remember(["cats"], ["cats.yaml"])
    (here / "sub").mkdir()
    monkeypatch.chdir(here / "sub")
    assert files_of(["cats"], typed=True) == (here / "cats.yaml",)
    (here / "cats.yaml").rename("cats.yaml")
    assert files_of(["cats"], typed=True) == (Path("cats.yaml"),)
    Path("cats.yaml").unlink()
    with pytest.raises(ConfigError, match=r"cats was last run with .*cats\.yaml, which is gone"):
        settings_of(None, ["cats"])


def test_projects_with_different_files_are_not_run_as_one(database: str, here: Path) -> None:
    add("cats", "v1")
    add("dogs", "v1", "v2")
    remember(["cats"], ["cats.yaml"])
    reported = r"cats with cats\.yaml; dogs with config/config\.yaml"
    for typed in (True, False):
        with pytest.raises(ConfigError, match=reported):
            files_of(["cats", "dogs"], typed=typed)
    assert settings_of(None, ["cats", "dogs"]).store == "data"
    assert runs_of([], videos=["v1"]) == [
        "snakemake --config project=cats",
        "snakemake --config project=dogs",
    ]
    assert runs_of([], videos=["v2"]) == ["snakemake --config project=dogs"]
    assert runs_of(["cats", "dogs"], [Path("more.yaml")]) == [
        "snakemake --configfile more.yaml --config 'projects=[cats,dogs]'"
    ]
    remember(["dogs"], ["elsewhere.yaml"])
    with pytest.raises(ConfigError, match="cats has the store data, project dogs other"):
        settings_of(None)
    assert [each.project_names for each in readings(None)] == [["cats"], ["dogs"]]


def test_projects_of_another_store_are_left_alone(
    database: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for project, files in (("birds", []), ("cats", ["cats.yaml"]), ("dogs", ["elsewhere.yaml"])):
        add(project, f"{project}-1")
        remember([project], files)
    assert of_store(settings_of([Path("more.yaml")])) == ["birds", "cats"]
    assert "left alone: project dogs in the store other" in capsys.readouterr().err
    assert of_store(settings_of([Path("elsewhere.yaml")])) == ["dogs"]
    assert "left alone: project birds in the store data" in capsys.readouterr().err
    Path("cats.yaml").unlink()
    assert of_store(settings_of(None, ["birds"])) == ["birds"]
    assert "left alone: project cats: cats.yaml cannot be read" in capsys.readouterr().err
    remember(["cats", "dogs"], [])
    assert of_store(settings_of(None)) is None


def test_settings_of_several_projects_are_those_that_call_a_claim_stale_last(
    database: str, here: Path
) -> None:
    Path("calm.yaml").write_text("monitor: {stale_threshold_minutes: 7}")
    for project, files in (("birds", []), ("cats", ["calm.yaml"])):
        add(project, "v1")
        remember([project], files)
    assert settings_of(None).monitor.stale_threshold_minutes == 7


def test_a_file_that_names_other_projects_is_not_taken_for_those_of_the_default_one(
    database: str, here: Path
) -> None:
    add("birds", "v1")
    remember(["birds"], ["cats.yaml"])  # as with `--configfile cats.yaml --config project=birds`
    assert files_of(["birds"], typed=True) == (Path("cats.yaml"),)
    with pytest.raises(ConfigError, match=r"with cats\.yaml, which names project cats"):
        files_of(["birds"], typed=False)


def test_lost_files_of_one_project_do_not_hide_the_others(
    database: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add("cats", "v1")
    add("dogs", "v2")
    remember(["cats"], ["cats.yaml"])
    Path("cats.yaml").unlink()
    assert [each.project_names for each in readings(None)] == [["dogs"]]
    assert "skipped project cats: cats.yaml cannot be read" in capsys.readouterr().err


def test_what_needs_no_database_goes_on_without_one(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert settings_of(None, ["birds"], database=False).extract.every_seconds == 2
    assert "files of the last run are not known: the database at" in capsys.readouterr().err
    with pytest.raises(DatabaseError):
        settings_of(None, ["birds"])


def test_a_database_that_is_not_there_or_older_remembers_nothing(
    database: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("cats", "v1")
    execute(database, "ALTER TABLE projects DROP workdir, DROP configfiles")
    execute(database, "UPDATE dataminer_version SET version_num = '0007'")
    assert settings_of(None, ["cats"]).extract.every_seconds == 2
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("DATAMINER_PGDATA", str(here / "none"))
    assert settings_of(None, ["cats"]).extract.every_seconds == 2
    assert not (here / "none").exists()
