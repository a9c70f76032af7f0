"""Each command that a message names can be run as it stands."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import dataminer
from dataminer.cli.main import app
from dataminer.errors import NEXT_STEP, DataminerError, ErrorClass, PermanentError, advice
from dataminer.monitor import status
from dataminer.sync import config_files
from tests.support import rows
from tests.support.postgres import execute

# what stands in a message for something that is only known when it is printed
FILLED = {
    "VIDEO": "v1",
    "{missing[0]}": "v1",
    "{video_id}": "v1",
    "{request.video_id}": "v1",
    "{held.key['video_id']}": "v1",
    "PROJECT": "birds",
    "NAME": "birds",
    "{name}": "birds",
    "{own.name}": "birds",
    "{project}": "birds",
    "URL": "clip.mp4",
    "NUMBER": "5433",
    "{error.error_class}": "network",
    "{known}": "network",
    "{chosen}": " v1 --project birds",
}
PLACEHOLDER = re.compile(r"\{[^}]*\}+|\b[A-Z]{3,}\b")
# of other machines, of the network, or without an end
ONLY_READ = ("db", "models", "monitor")


def messages() -> Iterator[tuple[str, str]]:
    """Yield all text of the package that is no docstring, with where it stands."""
    folder = Path(dataminer.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text())
        passed = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        strings = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        passed |= {id(part) for string in strings for part in string.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (
                    p.value if isinstance(p, ast.Constant) else "{" + ast.unparse(p.value) + "}"  # type: ignore[attr-defined]
                    for p in node.values
                )
                yield str(path.relative_to(folder)), "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and id(node) not in passed:
                yield str(path.relative_to(folder)), str(node.value)


def named() -> list[str]:
    """Return the commands in messages, with what is only known later filled in."""
    found = set()
    for path, text in messages():
        if path.startswith("config/generate"):  # a page for people
            continue
        for command in re.findall(r"`(dataminer [^`]*)`", text):
            found.add(PLACEHOLDER.sub(lambda part: FILLED[part[0]], " ".join(command.split())))
    return sorted(found)


@pytest.fixture(scope="module")
def commands() -> list[str]:
    return named()


@pytest.fixture
def birds(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a video that failed, and the files of its last run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("project: other\n")
    (tmp_path / "birds.yaml").write_text("project: birds\nstore: nest\n")
    (tmp_path / "nest" / "projects" / "birds").mkdir(parents=True)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    fill(database)
    return tmp_path


def fill(database: str) -> None:
    """Have the database hold a project with a video that failed, and nothing else."""
    execute(database, "DELETE FROM project_videos; DELETE FROM videos; DELETE FROM projects")
    rows.add("birds", "v1", "v2")
    rows.failed("v1", {"error": str(PermanentError("x", ErrorClass.EMPTY)), "error_class": "empty"})
    config_files.remember(["birds"], ["birds.yaml"])


def test_the_messages_are_found(commands: list[str]) -> None:
    assert len(commands) > 30
    assert "dataminer retry --class private" in commands
    assert "dataminer delete-videos v1 --project birds" in commands


def test_a_command_in_a_message_is_well_formed(commands: list[str]) -> None:
    wrong = {}
    for command in commands:
        run: Any = get_command(app)
        _, *arguments = shlex.split(command)
        try:
            while hasattr(run, "commands"):
                run = run.commands[arguments.pop(0)]
            run.make_context(run.name, arguments)
        except Exception as error:  # a usage error, or no such command
            wrong[command] = error
    assert not wrong


def test_a_command_in_a_message_can_be_run(birds: Path, database: str, commands: list[str]) -> None:
    wrong = {}
    for command in commands:
        _, *words = shlex.split(command)
        if words[0] in ONLY_READ:
            continue
        fill(database)
        done = CliRunner().invoke(app, words)
        ended = done.exit_code == 0 or isinstance(done.exception, DataminerError)
        # the project has files of its own
        if done.exit_code == 2 or not ended or "--config FILE" in str(done.exception):
            wrong[command] = (done.exit_code, done.output, done.exception)
    assert not wrong


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_advice_names_the_project_that_is_to_be_run(error_class: ErrorClass) -> None:
    step = advice(error_class, "v1", ["birds"], failed=False)
    assert not re.search(r"(run|then) snakemake\b", step)
    if "snakemake" in NEXT_STEP[error_class]:
        assert "`snakemake --config project=birds`" in step
    assert "VIDEO" not in step and "PROJECT" not in step
    failed = advice(error_class, "v1", ["birds"], failed=True)
    assert f"retry --class {error_class}" in failed or not failed.startswith("once the cause")
    if "snakemake" in failed and error_class not in (ErrorClass.POLICY,):
        assert "dataminer retry" in failed, "what is FAILED is not tried again by a run"


def test_where_failures_are_shown_they_say_what_to_run(birds: Path, database: str) -> None:
    rows.failed("v2", {"error": "x. Next: run snakemake again", "error_class": "network"})
    seen = status.snapshot()
    reported = {row["video_id"]: row["error"] for row in seen.failures}
    assert reported["v2"].endswith("Next: run `snakemake --config project=birds` again")
    steps = {name: step for name, _, step in status.by_class(seen.failures, seen.to_retry)}
    assert steps["network"].startswith(
        "once the cause is gone, `dataminer retry --class network --project birds`"
    )
