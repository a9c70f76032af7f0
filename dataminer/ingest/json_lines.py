"""Tables of JSON Lines: an object per line, or a list of texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dataminer.ingest.link_column import (
    Cell,
    Table,
    cell_of,
    choose_column,
    label_of,
    looks_like_source,
    plain_name,
)
from dataminer.ingest.listing import significant


def is_json_object(line: str) -> bool:
    """Return whether a line is a JSON object."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def read_json_lines(lines: list[str], column: str | None) -> Table:
    """Read a table; lines are parsed several times, because their values take more memory."""
    names = list(dict.fromkeys(key for *_, value in _objects(lines) for key in value)) or None
    indices = {name: index for index, name in enumerate(names or ())}
    sources = (
        indices[key]
        for *_, value in _objects(lines)
        for key, cell in value.items()
        if looks_like_source(cell)
    )
    index = choose_column(names, sources, column) if names or column else 0
    label = label_of(names, index)
    cells: list[Cell] = []
    for number, line, value in _values(lines):
        if names and isinstance(value, dict):
            if value:
                found = _value_of(value, names[index])
                cells.append(cell_of(number, found, value.values(), label))
        elif isinstance(value, str) and not names:
            cells.append(cell_of(number, value, [value], label))
        else:
            kind = "object" if names else "string"
            cells.append(Cell(number, line, f"is not a JSON {kind}"))
    return Table(label, "line", cells)


def _values(lines: list[str]) -> Iterator[tuple[int, str, Any]]:
    for number, line in significant(lines):
        try:
            yield number, line, json.loads(line)
        except (ValueError, RecursionError):
            yield number, line, None


def _objects(lines: list[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    return (each for each in _values(lines) if isinstance(each[2], dict))


def _value_of(row: dict[str, Any], name: str) -> Any:
    """Return a row's value of a column, which rows may spell differently: `URL`, `url`."""
    if name in row:
        return row[name]
    plain = plain_name(name)
    return next((value for key, value in row.items() if plain and plain_name(key) == plain), None)
