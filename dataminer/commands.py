"""Command lines for hints, which work as shown."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dataminer.urls import HIDDEN, mask_text

_FORCE = ("--force", "--forceall", "--forcerun")
_PART = ("--batch", "--omit-from", "--touch", "--until")
_SECRET = ("key", "password", "secret", "token")


@dataclass
class _Run:
    """How this run was started; outside a run, how to start one."""

    program: tuple[str, ...] = ("snakemake",)
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)


_run = _Run()


def begun_by(program: Sequence[str], options: Mapping[str, Sequence[str]]) -> None:
    """Make commands repeat the options with which this run was started.

    Parameters
    ----------
    program : sequence of str
        The program as it was called.
    options : mapping of str to sequence of str
        Typed values by the long name of the option; targets under the empty string.
    """
    _run.program, _run.options = tuple(program), dict(options)


def snakemake(
    projects: Sequence[str] = (),
    files: Iterable[Path] | None = None,
    *,
    dry_run: bool = False,
    forced: bool = False,
    rest: bool = False,
) -> str:
    """Return the command that runs the workflow: in a run, the typed one, without secrets.

    Parameters
    ----------
    projects : sequence of str
        Projects to name instead of those in the typed command or the configuration.
    files : iterable of Path, optional
        The configuration files, if the projects do not remember them yet.
    dry_run : bool
        Whether the command only shows what would be done.
    forced : bool
        Whether the command keeps the options that force rules.
    rest : bool
        Whether the command makes everything, even if the typed one makes a part.
    """
    left_out = {"--dry-run", *(() if forced else _FORCE), *(("", *_PART) if rest else ())}
    options: dict[str, Sequence[str]] = {
        option: values for option, values in _run.options.items() if option not in left_out
    }
    if dry_run:
        options = {"-n": [], **options}
    if named := [str(file) for file in files or ()]:
        options["--configfile"] = named
    if projects:
        one = len(projects) == 1
        chosen = f"project={projects[0]}" if one else f"projects=[{','.join(projects)}]"
        values = options.pop("--config", ())
        others = [value for value in values if not value.startswith(("project=", "projects="))]
        options["--config"] = [chosen, *others]
    return _line(options)


def _line(options: dict[str, Sequence[str]]) -> str:
    # targets first: after an option with any number of values they would become values
    words = [*_run.program, *map(mask_text, options.pop("", ()))]
    for option, values in options.items():
        secret = any(part in option for part in _SECRET)
        words += [option, *(HIDDEN if secret else mask_text(value) for value in values)]
    return shlex.join(words)


def makes_part() -> bool:
    """Return whether this run makes only a part of its targets, or only touches files."""
    return not _run.options.keys().isdisjoint(_PART)


def dataminer(*words: str, files: Iterable[Path] | None = None) -> str:
    """Return a command of ``dataminer``, with the configuration files of the current one."""
    options = [part for file in files or () for part in ("--config", str(file))]
    return shlex.join(["dataminer", *words, *options])
