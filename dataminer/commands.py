"""Command lines that work as they stand, for hints."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from dataminer.urls import mask_text

_FORCE = ("-F", "--forceall", "-f", "--force")
_FORCE_RULES = ("-R", "--forcerun")
_CONFIG = ("-C", "--config")
_FILES = ("--configfile", "--configfiles")


def snakemake(
    projects: Sequence[str] = (),
    files: Iterable[Path] | None = None,
    *,
    dry_run: bool = False,
    forced: bool = False,
    without: Collection[str] = (),
) -> str:
    """Return the command that mines projects.

    In a run it is the command that was typed, changed by what is given here.

    Parameters
    ----------
    projects : sequence of str
        Which; none for those that the configuration names, or the command that was typed.
    files : iterable of Path, optional
        The configuration files, if the projects do not remember them yet.
    dry_run : bool
        Whether it only shows what would be done.
    forced : bool
        Whether results are made anew that the command that was typed makes anew.
    without : collection of str
        Targets of the command that was typed to leave out.
    """
    words = [word for word in _typed() if word not in without]
    named = [str(file) for file in files or ()]
    if not forced:
        words, targets = _split(words, _FORCE)
        # behind an option of any number of values they would be values
        words[1:1] = targets
        words, _ = _split(words, _FORCE_RULES)
    if dry_run:
        words.insert(1, "-n")
    if named:
        words = [*_split(words, _FILES)[0], "--configfile", *named]
    if projects:
        words, values = _split(words, _CONFIG)
        others = [value for value in values if not value.startswith(("project=", "projects="))]
        one = len(projects) == 1
        chosen = f"project={projects[0]}" if one else f"projects=[{','.join(projects)}]"
        words += ["--config", chosen, *others]
    return shlex.join(mask_text(word) if "://" in word else word for word in words)


def dataminer(*words: str, files: Iterable[Path] | None = None) -> str:
    """Return a command of ``dataminer``, with the configuration files that it was given."""
    options = [part for file in files or () for part in ("--config", str(file))]
    return shlex.join(["dataminer", *words, *options])


def _typed() -> list[str]:
    """Return the words of the command that began this run; no more than its name outside of one."""
    program, *words = sys.argv
    if Path(program).name != "snakemake":
        return ["snakemake"]
    found = shutil.which("snakemake")
    is_found = found is not None and Path(found).resolve() == Path(program).resolve()
    return ["snakemake" if is_found else program, *words]


def _split(words: Iterable[str], names: Collection[str]) -> tuple[list[str], list[str]]:
    """Return words without some options and what follows them, and what that was."""
    rest: list[str] = []
    values: list[str] = []
    inside = False
    for word in words:
        option, equals, value = word.partition("=")
        if word.startswith("-"):
            found = option in names
            inside = found and not equals
            if not found:
                rest.append(word)
            elif equals:
                values.append(value)
        else:
            (values if inside else rest).append(word)
    return rest, values
