"""Names that break the rules are found; `make lint` checks our own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.names import broken_names, private_names

Build = Callable[[dict[str, str]], list[str]]


@pytest.fixture
def broken(tmp_path: Path) -> Build:
    """Return what is wrong with the names of some files."""

    def build(files: dict[str, str]) -> list[str]:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return broken_names(tmp_path)

    return build


@pytest.mark.parametrize(
    "text",
    [
        "gate = 1",
        "_gate = 1",
        "gates = 1",
        "GATE = 1",
        "self.gate = 1",
        "class Gate: pass",
        "class _Told: pass",
        "class State(Enum):\n    GATE = 1",
        "class Limit:\n    gate: int",
        "class Limit:\n    def gate(self): pass",
        "def gate(): pass",
        "async def gate(): pass",
        "def f(gate): pass",
        "def f(*gate): pass",
        "def f(**gate): pass",
        "lambda gate: 1",
        "for gate in x: pass",
        "(gate := 1)",
        "import x as gate",
        "try: pass\nexcept ValueError as gate: pass",
        "match x:\n    case Y() as gate: pass",
        "match x:\n    case [*gate]: pass",
        "match x:\n    case {**gate}: pass",
    ],
)
def test_a_private_word_is_found_wherever_it_is_a_name(text: str) -> None:
    assert len(list(private_names(text))) == 1


@pytest.mark.parametrize(
    "text", ["limiter = gate", "f(gate=1)", "versions = 1", "home = 1", "stage_name = 1"]
)
def test_other_names_pass(text: str) -> None:
    assert list(private_names(text)) == []


def test_the_message_says_what_is_said_instead(broken: Build) -> None:
    assert broken({"dataminer/net/one.py": "x = 1\ngate = 1\n", "demo/gate.py": ""}) == [
        "dataminer/net/one.py:2: gate is a private word (tools/private_words.txt): limiter",
        "demo/gate.py:1: gate is a private word (tools/private_words.txt): limiter",
    ]


def test_columns_and_keys_of_users_keep_their_names(broken: Build) -> None:
    assert broken({"dataminer/db/models.py": "place = 1\n"}) == []
    assert broken({"dataminer/store/documents.py": "place = 1\n"}) == []
    assert len(broken({"dataminer/config/models.py": "place = 1\n"})) == 1


def test_two_classes_with_one_name_are_found_wherever_they_are(broken: Build) -> None:
    files = {
        "dataminer/a/one.py": "class Row: pass\n",
        "dataminer/b/two.py": "def f():\n    class Row: pass\n",
        "scripts/three.py": "class Other: pass\n",
    }
    assert broken(files) == ["2 classes are called Row: dataminer/a/one.py:1, dataminer/b/two.py:2"]
