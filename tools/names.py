"""Checks names against a list: no private word, and no two classes with one name.

``python -m tools.architecture --check`` runs this too.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("dataminer", "scripts", "demo", "tools", "benchmarks", "docs", "tests")
# columns, and keys of files in stores, are names that users rely on
OF_USERS = ("dataminer/db/models.py", "dataminer/store/documents.py")
LIST = ROOT / "tools" / "private_words.txt"


@cache
def private_words() -> Mapping[str, str]:
    """Return the private words of the list, each with its replacement."""
    lines = (line.split(maxsplit=1) for line in LIST.read_text("utf-8").splitlines())
    return {line[0]: line[1] for line in lines if line and not line[0].startswith("#")}


def replacement_of(name: str) -> str | None:
    """Return the replacement of a name; None if it is no private word.

    A word of the list in lower case is private in any case, and with an s.
    """
    words = private_words()
    bare = name.strip("_")
    lower = bare.lower()
    return words.get(bare) or words.get(lower) or words.get(lower.removesuffix("s"))


def given_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield each name that a module gives to something, and its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, node.lineno
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name, node.lineno
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest, node.lineno


def private_names(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each private word that a text gives to something."""
    for name, line in given_names(ast.parse(text)):
        if replacement_of(name):
            yield line, name


def broken_names(root: Path = ROOT) -> list[str]:
    """Return a line for each name that is a private word, or that two classes have."""
    texts = {
        str(path.relative_to(root)): path.read_text("utf-8")
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*.py"))
        if "migrations" not in path.parts  # they stay as they ran
    }
    return [*_private(texts), *_twice(texts)]


def _private(texts: Mapping[str, str]) -> Iterator[str]:
    for file, text in texts.items():
        found = [] if file in OF_USERS else [*private_names(text)]
        if replacement_of(Path(file).stem):
            found.append((1, Path(file).stem))
        for line, name in sorted(set(found)):
            better = replacement_of(name)
            yield f"{file}:{line}: {name} is a private word (tools/private_words.txt): {better}"


def _twice(texts: Mapping[str, str]) -> Iterator[str]:
    classes: dict[str, list[str]] = defaultdict(list)
    for file, text in texts.items():
        if file.startswith(("benchmarks/", "docs/", "tests/")):  # each is by itself
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(f"{file}:{node.lineno}")
    for name, found in classes.items():
        if len(found) > 1:
            yield f"{len(found)} classes are called {name}: {', '.join(found)}"
