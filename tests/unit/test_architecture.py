"""The rules of the house fail on houses that break them; `make lint` checks our own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.architecture import broken_rules, read_rooms

Build = Callable[[dict[str, str]], list[str]]


@pytest.fixture
def broken(tmp_path: Path) -> Build:
    """Return the rules that a house of some files breaks."""

    def build(files: dict[str, str]) -> list[str]:
        for name, text in files.items():
            path = tmp_path / "dataminer" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            for folder in (path.parent, tmp_path / "dataminer"):
                if not (folder / "__init__.py").exists():
                    (folder / "__init__.py").write_text('"""A room."""\n', "utf-8")
        return broken_rules(read_rooms(tmp_path))

    return build


def test_imports_that_lead_downward_are_in_order(broken: Build) -> None:
    assert broken({"a/one.py": "from dataminer.b.two import x\n", "b/two.py": "x = 1\n"}) == []


@pytest.mark.parametrize(
    "back",
    [
        "from dataminer.a import one\n",
        "import dataminer.a.one\n",
        "def f():\n    from dataminer.a.one import y\n",
        "if TYPE_CHECKING:\n    from dataminer.a.one import y\n",
        "from ..a import one\n",
        "from ..a.one import y\n",
        "from importlib import import_module\nimport_module('dataminer.a.one')\n",
        "__import__('dataminer.a.one')\n",
    ],
)
def test_a_circle_is_found_wherever_the_import_is(broken: Build, back: str) -> None:
    (line,) = broken({"a/one.py": "from dataminer.b.two import x\n", "b/two.py": back})
    assert line in (
        "rooms import each other in a circle: a <- b <- a (dataminer/b/two.py, dataminer/a/one.py)",
        "rooms import each other in a circle: b <- a <- b (dataminer/a/one.py, dataminer/b/two.py)",
    )


def test_a_room_of_many_files_is_a_hall(broken: Build) -> None:
    files = {f"a/m{number}.py": "" for number in range(11)}
    assert broken(files) == []
    assert broken(files | {"a/more.py": ""}) == [
        "dataminer/a has 13 files side by side, more than 12"
    ]


def test_a_long_function_is_found_but_not_a_commands_help(broken: Build) -> None:
    body = "    pass\n" * 39
    assert broken({"a/one.py": f"def f():\n{body}"}) == []
    assert broken({"a/one.py": f"def f():\n{body}    pass\n"}) == [
        "dataminer/a/one.py:1: f has 41 lines, more than 40"
    ]
    options = "".join(f"    o{number}: Annotated[str, typer.Option()],\n" for number in range(9))
    assert broken({"a/one.py": f"def f(\n{options}):\n{body}    pass\n"}) == []
    assert broken({"a/one.py": f"def f(\n{options}):\n{body}    pass\n    pass\n"}) != []


def test_a_long_function_is_found_beside_a_short_one_of_its_name(broken: Build) -> None:
    body = "        pass\n" * 40
    text = f"class A:\n    async def f(self):\n{body}\nclass B:\n    def f(self):\n        pass\n"
    assert broken({"a/one.py": text}) == ["dataminer/a/one.py:2: A.f has 41 lines, more than 40"]


def test_a_stage_knows_neither_database_nor_workflow(broken: Build) -> None:
    files = {"db/connection.py": "x = 1\n", "files/one.py": "x = 1\n"}
    text = "from dataminer.files.one import x\n"
    assert broken({**files, "stages/filter/stage.py": text}) == []
    late = f"{text}def f():\n    from dataminer.db import connection\n"
    assert broken({**files, "stages/filter/stage.py": late}) == [
        "dataminer/stages/filter/stage.py imports db, which a stage must not import"
    ]


def test_a_room_says_what_it_is_for(broken: Build) -> None:
    assert broken({"a/__init__.py": ""}) == ["dataminer/a does not say what it is for"]
