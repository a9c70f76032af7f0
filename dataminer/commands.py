"""Command lines that work as they stand, for hints."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path


def snakemake(
    projects: Sequence[str] = (), files: Iterable[Path] | None = None, *, dry_run: bool = False
) -> str:
    """Return the command that mines projects.

    Parameters
    ----------
    projects : sequence of str
        Which; none for those that the configuration names.
    files : iterable of Path, optional
        The configuration files, if the projects do not remember them yet.
    dry_run : bool
        Whether it only shows what would be done.
    """
    words = ["snakemake", *(["-n"] if dry_run else [])]
    named = list(files or ())
    if named:
        words += ["--configfile", *map(str, named)]
    if len(projects) == 1:
        words += ["--config", f"project={projects[0]}"]
    elif projects:
        words += ["--config", f"projects=[{','.join(projects)}]"]
    return shlex.join(words)


def dataminer(*words: str, files: Iterable[Path] | None = None) -> str:
    """Return a command of ``dataminer``, with the configuration files that it was given."""
    options = [part for file in files or () for part in ("--config", str(file))]
    return shlex.join(["dataminer", *words, *options])
