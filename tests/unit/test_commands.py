"""Command lines in hints: in a run, they are the one that was typed."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dataminer import commands
from dataminer.errors import runnable
from dataminer.monitor.status import unbroken

Typed = Callable[..., None]


@pytest.fixture
def typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: Callable[[list[str]], None]
) -> Typed:
    """Have this process be a run that was begun by a command."""
    program = tmp_path / "bin" / "snakemake"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def begin(line: str, program: Path = program) -> None:
        begun([str(program), *shlex.split(line)])

    return begin


def test_outside_of_a_run_a_command_has_what_it_is_given() -> None:
    assert commands.snakemake() == "snakemake"
    assert commands.snakemake(["a"], dry_run=True) == "snakemake -n --config project=a"
    files = [Path("a b.yaml")]
    assert (
        commands.snakemake(["a", "b"], files)
        == "snakemake --configfile 'a b.yaml' --config 'projects=[a,b]'"
    )


def test_in_a_run_a_command_has_what_was_typed(typed: Typed) -> None:
    typed("--snakefile 'a b/Snakefile' -d site --configfile x.yaml -c2 only_filter -p")
    line = "--snakefile 'a b/Snakefile' --directory site --configfile x.yaml --cores 2"
    assert commands.snakemake() == f"snakemake only_filter {line} --printshellcmds"
    assert commands.snakemake(rest=True) == f"snakemake {line} --printshellcmds"
    assert commands.snakemake(["a"]).endswith("--printshellcmds --config project=a")


def test_a_project_takes_the_place_of_those_that_were_typed(typed: Typed) -> None:
    typed("-c2 only_filter --config projects=[a,b] store=d")
    assert commands.snakemake(["b"]) == "snakemake only_filter --cores 2 --config project=b store=d"
    typed("--config=project=a -c2 -- only_filter")
    assert commands.snakemake(["b"]) == "snakemake only_filter --cores 2 --config project=b"


@pytest.mark.parametrize(
    ("force", "long"),
    [
        ("-F", "--forceall"),
        ("-Fp", "--forceall --printshellcmds"),
        ("--forceal", "--forceall"),
        ("-f", "--force"),
        ("-R extract filter", "--forcerun extract filter"),
        ("-Rextract", "--forcerun extract"),
        ("--forcer=extract", "--forcerun extract"),
    ],
)
def test_what_was_made_anew_is_not_made_anew_once_more_unless_asked(
    typed: Typed, force: str, long: str
) -> None:
    typed(f"only_filter {force} -c2")
    left = " --printshellcmds" if "print" in long else ""
    assert commands.snakemake() == f"snakemake only_filter{left} --cores 2"
    assert commands.snakemake(forced=True) == f"snakemake only_filter {long} --cores 2"


def test_a_target_behind_any_option_stays_a_target(typed: Typed) -> None:
    typed("--quiet -F only_filter -c2")
    assert commands.snakemake() == "snakemake only_filter --quiet --cores 2"
    typed("-d only_filter only_filter -c2")
    assert commands.snakemake(rest=True) == "snakemake --directory only_filter --cores 2"


@pytest.mark.parametrize("part", ["--until download", "--omit-from filter", "--batch a=1/2", "-t"])
def test_the_rest_is_without_what_made_it_a_part(typed: Typed, part: str) -> None:
    typed("-c2")
    assert not commands.makes_part()
    typed(f"-c2 {part}")
    assert commands.makes_part()
    assert commands.snakemake(rest=True) == "snakemake --cores 2"


def test_a_dry_run_is_not_what_comes_next(typed: Typed) -> None:
    typed("-n -c2")
    assert commands.snakemake() == "snakemake --cores 2"
    assert commands.snakemake(["a"], dry_run=True) == "snakemake -n --cores 2 --config project=a"


def test_another_snakemake_than_that_of_the_path_is_named(typed: Typed) -> None:
    typed("-c2", Path(".venv/bin/snakemake"))
    assert commands.snakemake() == ".venv/bin/snakemake --cores 2"
    reported = runnable("x broke. Next: free space, then run snakemake again", "v", ["a"])
    step = unbroken(reported).splitlines()[1]
    assert step == "`.venv/bin/snakemake --cores 2 --config project=a` again"
    typed("-c2 -s x/Snakefile", Path("/lib/snakemake/__main__.py"))
    begun = shlex.join([sys.executable, "-m", "snakemake"])
    assert commands.snakemake() == f"{begun} --cores 2 --snakefile x/Snakefile"


def test_a_job_names_no_command_of_its_own(typed: Typed) -> None:
    typed("data/x --mode remote --cores 1", Path("/lib/snakemake/__main__.py"))
    assert commands.snakemake(["a"]) == "snakemake --config project=a"


def test_no_command_shows_what_lets_one_in(typed: Typed) -> None:
    typed("--config 'input={urls: [\"https://u:pw@host.example/a.mp4?token=abc\"]}'")
    assert "pw" not in commands.snakemake()
    assert "abc" not in commands.snakemake()
    typed("--config 'download={proxy: user:pw@host.example:80}' --slurm-jobname-prefix x")
    assert "pw" not in commands.snakemake()
    typed("--persistence-backend-db-url postgresql://me:pw@db.example/x")
    assert "pw" not in commands.snakemake()
