"""Command lines in hints: in a run, they are the one that was typed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from dataminer import commands
from dataminer.errors import runnable
from dataminer.monitor.status import unbroken


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Have this process be a run that was begun by a command."""
    program = tmp_path / "bin" / "snakemake"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(program.parent))

    def begin(line: str, program: Path = program) -> None:
        monkeypatch.setattr(sys, "argv", [str(program), *shlex.split(line)])

    return begin


def test_outside_of_a_run_a_command_has_what_it_is_given():
    assert commands.snakemake() == "snakemake"
    assert commands.snakemake(["a"], dry_run=True) == "snakemake -n --config project=a"
    files = [Path("a b.yaml")]
    assert (
        commands.snakemake(["a", "b"], files)
        == "snakemake --configfile 'a b.yaml' --config 'projects=[a,b]'"
    )


def test_in_a_run_a_command_is_the_one_that_was_typed(typed):
    line = "--snakefile 'a b/Snakefile' -d site --configfile x.yaml -c2 only_filter"
    typed(line)
    assert commands.snakemake() == f"snakemake {line}"
    assert commands.snakemake(without=["only_filter"]) == f"snakemake {line[:-12]}"
    assert commands.snakemake(["a"]) == f"snakemake {line} --config project=a"


def test_a_project_takes_the_place_of_those_that_were_typed(typed):
    typed("-c2 only_filter --config projects=[a,b] store=d -p --config=x=1")
    assert (
        commands.snakemake(["b"]) == "snakemake -c2 only_filter -p --config project=b store=d x=1"
    )


@pytest.mark.parametrize(
    "force", ["-F", "--forceall", "-f", "-R extract filter", "--forcerun=extract"]
)
def test_what_was_made_anew_is_not_made_anew_once_more_unless_asked(typed, force):
    typed(f"only_filter {force} -c2")
    assert commands.snakemake() == "snakemake only_filter -c2"
    assert commands.snakemake(forced=True) == f"snakemake only_filter {force} -c2"


def test_a_target_behind_what_is_left_out_stays_a_target(typed):
    typed("--quiet -F only_filter -c2")
    assert commands.snakemake() == "snakemake only_filter --quiet -c2"
    assert commands.snakemake(["a"], forced=True).endswith("-F only_filter -c2 --config project=a")


def test_another_snakemake_than_that_of_the_path_is_named(typed):
    typed("-c2", Path(".venv/bin/snakemake"))
    assert commands.snakemake() == ".venv/bin/snakemake -c2"
    told = runnable("x broke. Next: free space, then run snakemake again", "v", ["a"])
    assert unbroken(told).splitlines()[1] == "`.venv/bin/snakemake -c2 --config project=a` again"


def test_no_command_shows_what_lets_one_in(typed):
    typed("--config 'input={urls: [\"https://u:pw@host.example/a.mp4?token=abc\"]}'")
    assert "pw" not in commands.snakemake()
    assert "abc" not in commands.snakemake()
