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
from dataminer.sync import configfiles
from tests.support import rows

# what stands in a message for something that is only known when it is printed
FILLED = {
    "VIDEO": "v1",
    "{strangers[0]}": "v1",
    "{video_id}": "v1",
    "{held.key['video_id']}": "v1",
    "PROJECT": "birds",
    "NAME": "birds",
    "{name}": "birds",
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


@pytest.fixture
def birds(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a video that failed, and the files of its last run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("project: other\n")
    (tmp_path / "birds.yaml").write_text("project: birds\nstore: nest\n")
    (tmp_path / "nest" / "projects" / "birds").mkdir(parents=True)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    rows.add("birds", "v1", "v2")
    rows.failed("v1", {"error": str(PermanentError("x", ErrorClass.EMPTY)), "error_class": "empty"})
    configfiles.remember(["birds"], ["birds.yaml"])
    return tmp_path


def test_the_messages_are_found() -> None:
    found = named()
    assert len(found) > 30
    assert "dataminer retry --class private" in found
    assert "dataminer delete-videos v1 --project birds" in found


@pytest.mark.parametrize("command", named())
def test_a_command_in_a_message_can_be_run(birds: Path, command: str) -> None:
    _, *words = shlex.split(command)
    run: Any = get_command(app)
    arguments = list(words)
    while hasattr(run, "commands"):
        run = run.commands[arguments.pop(0)]
    run.make_context(run.name, arguments)  # raises a usage error
    if words[0] in ONLY_READ:
        return
    done = CliRunner().invoke(app, words)
    assert done.exit_code != 2, done.output
    assert done.exit_code == 0 or isinstance(done.exception, DataminerError), done.output
    assert "--config FILE" not in str(done.exception), "the project has files of its own"


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
    told = {row["video_id"]: row["error"] for row in seen.failures}
    assert told["v2"].endswith("Next: run `snakemake --config project=birds` again")
    steps = {name: step for name, _, step in status.by_class(seen.failures, seen.to_retry)}
    assert steps["network"].startswith(
        "once the cause is gone, `dataminer retry --class network --project birds`"
    )
