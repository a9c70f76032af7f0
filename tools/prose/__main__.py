"""Check the project's texts, comments, docstrings and messages: general rules, and own wordings.

``open.txt`` lists how many findings per file are still open. The check fails if a file has more, or
fewer: then ``--update`` lowers the number. It never raises one.
"""

from __future__ import annotations

import argparse
import json
import sys
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from proselint.checks import __register__ as general
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

from tools.prose import wordings
from tools.prose.texts import Text, prose

FILES = (
    *("*.md", "docs/*.md", "demo/*.md", "benchmarks/*.md", "config/*.md", "report/*.rst"),
    *("config/*.yaml", "profiles/*/*.yaml", "Snakefile", "rules/**/*.smk", "scripts/**/*.py"),
    *("dataminer/**/*.py", "demo/**/*.py", "docs/**/*.py", "benchmarks/**/*.py", "tools/**/*.py"),
)
SETTINGS = Path(__file__).with_name("proselint.json")
OPEN = Path(__file__).with_name("open.txt")
_SEPARATOR = "\n|\n"


class Finding(NamedTuple):
    """A place in a file, and what is wrong there."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def main(arguments: Sequence[str]) -> int:
    """Check all files of the working directory; return the number of problems."""
    parser = argparse.ArgumentParser("python -m tools.prose", description=__doc__)
    parser.add_argument("--update", action="store_true", help="lower the numbers in open.txt")
    update = parser.parse_args(arguments).update
    paths = sorted({path for pattern in FILES for path in Path().glob(pattern)})
    wordings_file = Path(wordings.__file__).relative_to(Path.cwd())
    found = find(text for path in paths if path != wordings_file for text in prose(path))
    count = Counter(finding.path for finding in found)
    known = read_open()
    if update:
        known = {path: min(known.get(path, 0), number) for path, number in count.items()}
        write_open({path: number for path, number in known.items() if number})
    problems = list(compare(found, known))
    for problem in problems:
        print(problem)
    return len(problems)


def compare(found: list[Finding], known: dict[str, int]) -> Iterator[str]:
    """Yield the findings of files with more than the known number, and files with fewer."""
    count = Counter(finding.path for finding in found)
    for finding in found:
        if count[finding.path] > known.get(finding.path, 0):
            yield str(finding)
    for path, number in known.items():
        if count[path] < number:
            yield (
                f"{path} has {count[path]} findings, and {OPEN.name} lists {number}."
                " Next: run `python -m tools.prose --update`"
            )


def find(texts: Iterable[Text]) -> list[Finding]:
    """Return what proselint finds in some texts, in the order of files and lines."""
    registry = CheckRegistry()
    registry.checks[:] = (*general, *wordings.__register__)
    return sorted(set(_findings(list(texts))))


def _findings(texts: list[Text]) -> Iterator[Finding]:
    # One text for all: each check costs a millisecond per text
    starts = list(accumulate((len(text.text + _SEPARATOR) for text in texts), initial=1))
    linted = LintFile("all", _SEPARATOR.join(text.text for text in texts))
    linted.quote_bounds = ()  # what is quoted is checked too, and quotes pair across texts
    for result, _ in linted.lint(json.loads(SETTINGS.read_text(encoding="utf-8"))):
        position = result.span[0]
        index = bisect(starts, position) - 1
        line = texts[index].line + linted.content.count("\n", starts[index], position)
        message = " ".join(f"{result.message} [{result.check_path}]".split())
        yield Finding(str(texts[index].path), line, message)


def read_open() -> dict[str, int]:
    """Return how many findings of a file are known, by its path."""
    lines = OPEN.read_text(encoding="utf-8").splitlines()
    return {path: int(number) for path, number in map(str.split, lines)}


def write_open(known: dict[str, int]) -> None:
    """Write the numbers of known findings."""
    lines = (f"{path} {number}\n" for path, number in sorted(known.items()))
    OPEN.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
