"""Programs that are run with ``python -m`` explain themselves, and refuse what they do not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import demo.__main__ as demo
from dataminer.config import generate
from tools import architecture, check_yt_dlp
from tools.prose import __main__ as prose

Program = Callable[[Sequence[str]], int]

every_program = pytest.mark.parametrize(
    ("name", "main"),
    [
        ("demo", demo.main),
        ("dataminer.config.generate", generate.main),
        ("tools.architecture", architecture.main),
        ("tools.check_yt_dlp", check_yt_dlp.main),
        ("tools.prose", prose.main),
    ],
)


@every_program
def test_help_is_shown_and_nothing_done(
    name: str, main: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m {name} [-h]")


@every_program
def test_a_mistyped_option_is_refused(
    name: str, main: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--chekc"])
    assert ended.value.code == 2
    assert f"python -m {name}: error: unrecognized arguments: --chekc" in capsys.readouterr().err


def test_the_demo_names_the_environment_that_must_be_activated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    activate = tmp_path / ".venv/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.touch()
    monkeypatch.setattr("sys.prefix", str(tmp_path / ".venv"))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    assert next(demo.next_commands()) == "source .venv/bin/activate"
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / ".venv"))
    assert next(demo.next_commands()).startswith("dataminer ")
