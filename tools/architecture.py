"""The house in figures: its rooms, what they import, and the rules that hold for them.

A room is a folder of the package. Without an option, it prints the table of
``docs/architecture.md``.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from itertools import pairwise
from pathlib import Path

from tools.names import ROOT, broken_names

PACKAGE = "dataminer"
PAGE = ROOT / "docs" / "architecture.md"
MOST_FILES = 12
MOST_LINES = 40
KNOWN_TO_NO_STAGE = ("db", "sync", "planning", "workflow", "monitor", "cli")
BEGIN, END = "<!-- table: python -m tools.architecture --write -->", "<!-- end of table -->"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Room:
    """One folder of the package.

    Parameters
    ----------
    name : str
        Dotted, without the package; empty for the package itself.
    purpose : str
        The first line of its docstring.
    files : int
        Modules side by side, with ``__init__.py``.
    lines : int
        Of all of them.
    functions : dict of str to int
        Lines of each function, without the signature for a command.
    public, documented : int
        Public names, and those with a docstring.
    imports : dict of str to str
        Names of other rooms, also those that are imported within functions, and the first file
        that imports each.
    """

    name: str
    purpose: str = ""
    files: int = 0
    lines: int = 0
    functions: dict[str, int] = field(default_factory=dict)
    public: int = 0
    documented: int = 0
    imports: dict[str, str] = field(default_factory=dict)


def read_rooms(root: Path = ROOT) -> dict[str, Room]:
    """Return the rooms of the package by name; migrations are a record, and no room."""
    paths = [*(root / PACKAGE).rglob("*.py")]
    modules = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
        if "migrations" not in path.parts
    }
    rooms: dict[str, Room] = {}
    for module, path in modules.items():
        room = rooms.setdefault(_room_of(module, path), Room(_room_of(module, path)))
        text = path.read_text("utf-8")
        tree = ast.parse(text)
        room.files += 1
        room.lines += text.count("\n")
        if path.name == "__init__.py":
            room.purpose = (ast.get_docstring(tree) or "").partition("\n")[0]
        where = str(path.relative_to(root))
        lengths = _lengths(tree)
        room.functions |= {f"{where}:{line}: {name}": length for line, name, length in lengths}
        names = [*_public(tree)]
        room.public += len(names)
        room.documented += sum(ast.get_docstring(node) is not None for node in names)
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for imported in _imported(tree, package, modules):
            room.imports.setdefault(_room_of(imported, modules[imported]), where)
    for room in rooms.values():
        room.imports.pop(room.name, None)
    return rooms


def _room_of(module: str, path: Path) -> str:
    room = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return room.removeprefix(PACKAGE).removeprefix(".")


def _lengths(tree: ast.AST, within: str = "") -> Iterator[tuple[int, str, int]]:
    """Yield each function's line, its name within classes and functions, and its length."""
    for node in ast.iter_child_nodes(tree):
        name = within
        if isinstance(node, ast.ClassDef | Function):
            name = f"{within}.{node.name}".lstrip(".")
        if isinstance(node, Function):
            first = node.body[0].lineno if _is_command(node) else node.lineno
            yield node.lineno, name, (node.end_lineno or first) - first + 1
        yield from _lengths(node, name)


def _is_command(node: Function) -> bool:
    """Whether a function is a command of typer: its parameters are its help."""
    arguments = [*node.args.args, *node.args.kwonlyargs]
    notes = [ast.unparse(one.annotation) for one in arguments if one.annotation]
    return any("typer." in note for note in notes)


def _public(tree: ast.Module) -> Iterator[ast.ClassDef | Function]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                inner = (one for one in node.body if isinstance(one, Function))
                yield from (one for one in inner if not one.name.startswith("_"))


def _imported(tree: ast.Module, package: str, modules: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules that a module of a package imports, also those that it loads by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value in modules and node.value != PACKAGE:
                yield node.value
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found = whole if whole in modules else base
                if found in modules and found != PACKAGE:  # that only tells the version
                    yield found


def broken_rules(rooms: Mapping[str, Room]) -> list[str]:
    """Return a line for each rule of the house that does not hold."""
    found = []
    try:
        TopologicalSorter({room.name: room.imports for room in rooms.values()}).prepare()
    except CycleError as error:
        circle = error.args[1]
        files = [rooms[one].imports[other] for other, one in pairwise(circle)]
        names = " <- ".join(name or PACKAGE for name in circle)
        found.append(f"rooms import each other in a circle: {names} ({', '.join(files)})")
    for room in rooms.values():
        if room.files > MOST_FILES:
            found.append(
                f"{_shown(room)} has {room.files} files side by side, more than {MOST_FILES}"
            )
        for name, length in room.functions.items():
            if length > MOST_LINES:
                found.append(f"{name} has {length} lines, more than {MOST_LINES}")
        if not room.purpose:
            found.append(f"{_shown(room)} does not say what it is for")
        for other, file in room.imports.items():
            if _top(room.name) == "stages" and _top(other) in KNOWN_TO_NO_STAGE:
                found.append(f"{file} imports {other}, which a stage must not import")
    return found


def _top(room: str) -> str:
    return room.partition(".")[0]


def table(rooms: Mapping[str, Room]) -> str:
    """Return the table, from the top of the house to its ground."""
    order = [
        *TopologicalSorter({room.name: room.imports for room in rooms.values()}).static_order()
    ]
    rows = ["| room | what it is for | files | lines | longest function | documented | imports |"]
    rows.append("|---|---|--:|--:|--:|--:|---|")
    for room in (rooms[name] for name in reversed(order)):
        share = f"{100 * room.documented // room.public} %" if room.public else ""
        longest = max(room.functions.values(), default=0)
        imports = ", ".join(f"`{name or PACKAGE}`" for name in sorted(room.imports))
        lines = f"{round(room.lines, -2) or 50:,}"  # so that not every change is one of this table
        cells = [
            f"`{_shown(room)}`",
            room.purpose,
            room.files,
            lines,
            longest or "",
            share,
            imports,
        ]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def _shown(room: Room) -> str:
    return f"{PACKAGE}/{room.name.replace('.', '/')}".rstrip("/")


STOPS = (  # of one video, from a link to a picture of a dataset
    "ingest",
    "planning",
    "workflow",
    "sync.batches",
    "sync.jobs",
    "stages.download",
    "stages.extract",
    "stages.embed",
    "stages.filter",
    "stages.dedup",
    "stages.detect",
    "report.html",
    "export",
)


def picture(rooms: Mapping[str, Room]) -> str:
    """Return the rooms as a graph, each above what it imports; the way of a video is numbered.

    An import is left out if another way leads there.
    """
    lines = [
        "digraph {",
        'node [shape=box, style="filled,rounded", fillcolor=white, '
        'fontname="Helvetica", fontsize=12, margin="0.12,0.06"];',
        "edge [color=gray60, arrowsize=0.6]; ranksep=0.45; nodesep=0.18;",
    ]
    rooms = {name: room for name, room in rooms.items() if room.functions}
    for room in rooms.values():
        number = f"{STOPS.index(room.name) + 1}  " if room.name in STOPS else ""
        colour = ', fillcolor="#cfe8d5"' if number else ""
        lines.append(f'"{room.name}" [label="{number}{room.name or PACKAGE}"{colour}];')
    for room in rooms.values():
        beyond = set().union(*(_all_below(rooms, name) for name in room.imports))
        lines += (
            f'"{room.name}" -> "{name}";'
            for name in sorted(rooms.keys() & room.imports.keys() - beyond)
        )
    return "\n".join([*lines, "}"])


def _all_below(rooms: Mapping[str, Room], name: str) -> set[str]:
    below = set(rooms[name].imports) if name in rooms else set()
    return below.union(*(_all_below(rooms, one) for one in below))


def in_page(text: str) -> str:
    """Return the page with the present table in it."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{table(read_rooms())}\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    """Print the table, put it into its page, or check the rules and the page."""
    parser = argparse.ArgumentParser("python -m tools.architecture", description=__doc__)
    one_of = parser.add_mutually_exclusive_group()
    one_of.add_argument("--write", action="store_true", help="put the table into its page")
    one_of.add_argument("--check", action="store_true", help="check the rules and the page")
    one_of.add_argument("--dot", action="store_true", help="print the picture for graphviz")
    chosen = parser.parse_args(arguments)
    rooms = read_rooms()
    if chosen.write:
        PAGE.write_text(in_page(PAGE.read_text("utf-8")), "utf-8")
    elif chosen.check:
        found = [*broken_rules(rooms), *broken_names()]
        if not found and in_page(page := PAGE.read_text("utf-8")) != page:
            found = [
                "docs/architecture.md is out of date: run python -m tools.architecture --write"
            ]
        print("\n".join(found) or "the house is in order")
        return len(found) > 0
    else:
        print(picture(rooms) if chosen.dot else table(rooms))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
