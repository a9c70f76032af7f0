"""Names are held to tools/private_words.txt: no private word, and no two classes with one name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

PACKAGE = sorted(
    path
    for folder in ("dataminer", "scripts", "demo")
    for path in (ROOT / folder).rglob("*.py")
    # migrations stay as they ran; columns, and keys of files in stores, are what users have
    if "migrations" not in path.parts and path.name not in ("models.py", "documents.py")
)
WORDS = {
    line.split()[0]
    for line in (ROOT / "tools/private_words.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
}


def names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Give each name that a module gives to something, and its line."""
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


def private(text: str) -> list[tuple[str, int]]:
    """Return the names in a text that tools/private_words.txt lists."""
    found = names(ast.parse(text))
    return [(name, line) for name, line in found if name.strip("_") in WORDS]


def test_a_private_word_is_found_wherever_it_is_a_name() -> None:
    assert "gate" in WORDS
    for text in (
        "gate = 1",
        "_gate = 1",
        "self.gate = 1",
        "class Gate: pass",
        "def gate(): pass",
        "def f(gate): pass",
        "for gate in x: pass",
        "import x as gate",
    ):
        assert private(text), text
    assert not private("limiter = gate")


def test_no_name_is_a_private_word() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in PACKAGE
        for name, line in private(path.read_text("utf-8"))
    }
    assert found == set()


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, set[Path]] = defaultdict(set)
    for path in PACKAGE:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].add(path.relative_to(ROOT))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
