"""Command lines that work as they stand, for hints."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from dataminer.urls import HIDDEN, mask_text

_FORCE = ("--force", "--forceall", "--forcerun")
_PART = ("--batch", "--omit-from", "--touch", "--until")
_SECRET = ("key", "password", "secret", "token")


def snakemake(
    projects: Sequence[str] = (),
    files: Iterable[Path] | None = None,
    *,
    dry_run: bool = False,
    forced: bool = False,
    rest: bool = False,
) -> str:
    """Return the command that mines projects.

    In a run it has what was typed, but for ``-n``, and for what lets one in; changed by what is
    given here.

    Parameters
    ----------
    projects : sequence of str
        Which; none for those that the configuration names, or that were typed.
    files : iterable of Path, optional
        The configuration files, if the projects do not remember them yet.
    dry_run : bool
        Whether it only shows what would be done.
    forced : bool
        Whether results are made anew that the command that was typed makes anew.
    rest : bool
        Whether all is made, where the command that was typed makes a part.
    """
    program, typed = _typed()
    left_out = {"--dry-run", *(() if forced else _FORCE), *(("", *_PART) if rest else ())}
    options = {option: values for option, values in typed.items() if option not in left_out}
    if dry_run:
        options = {"-n": [], **options}
    if named := [str(file) for file in files or ()]:
        options["--configfile"] = named
    if projects:
        one = len(projects) == 1
        chosen = f"project={projects[0]}" if one else f"projects=[{','.join(projects)}]"
        values = options.pop("--config", [])
        others = [value for value in values if not value.startswith(("project=", "projects="))]
        options["--config"] = [chosen, *others]
    # targets first: behind options of any number of values they would be values
    words = [*program, *map(mask_text, options.pop("", []))]
    for option, values in options.items():
        secret = any(part in option for part in _SECRET)
        words += [option, *(HIDDEN if secret else mask_text(value) for value in values)]
    return shlex.join(words)


def makes_part() -> bool:
    """Tell whether this run makes a part of its targets, or only touches files."""
    return not _typed()[1].keys().isdisjoint(_PART)


def dataminer(*words: str, files: Iterable[Path] | None = None) -> str:
    """Return a command of ``dataminer``, with the configuration files that it was given."""
    options = [part for file in files or () for part in ("--config", str(file))]
    return shlex.join(["dataminer", *words, *options])


def _typed() -> tuple[list[str], dict[str, list[str]]]:
    """Return how this run was begun: the program, and its options; nothing outside of a run."""
    program, *words = sys.argv
    path = Path(program)
    if "--mode" in words:  # a job, which its run has begun
        return ["snakemake"], {}
    if path.name == "snakemake":
        found = shutil.which("snakemake")
        is_found = found is not None and Path(found).resolve() == path.resolve()
        return ["snakemake" if is_found else program], _options(tuple(words))
    if path.match("snakemake/__main__.py"):
        return [sys.executable, "-m", "snakemake"], _options(tuple(words))
    return ["snakemake"], {}


@cache
def _options(words: tuple[str, ...]) -> dict[str, list[str]]:
    from dataminer.snakemake_compat import options_of

    return options_of(words)
