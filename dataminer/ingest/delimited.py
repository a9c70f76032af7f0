"""Tables of delimited text: CSV, TSV and the like."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice

from dataminer.ingest.link_column import (
    LINK_NAMES,
    PATH_NAMES,
    Cell,
    Table,
    cell_of,
    choose_column,
    label_of,
    looks_like_source,
    plain_name,
)

_COMMA_SUFFIXES, _TAB_SUFFIXES = {".csv"}, {".tsv", ".tab"}
_DELIMITERS = ",;\t|"
_DELIMITER = re.compile(f"[{re.escape(_DELIMITERS)}]")
_COMMENT = re.compile(r"\s*#")
_REMARK = re.compile(r"\s*#[#\s]")
_AFTER_QUOTE = re.compile(r'"[^\S\t]+(?=[,;\t|]|$)')
_NO_END = "has an unclosed quotation mark, or a cell of more than 128 kB"
_SAMPLE = 100  # rows that determine the delimiter


@dataclass(frozen=True, slots=True)
class _Record:
    """The cells of a CSV row in the order of the columns, or why there are none."""

    number: int
    cells: Sequence[str]
    text: str
    reason: str = ""


def detect_delimiter(lines: list[str], kind: str, column: str | None) -> str | None:
    """Detect a table's delimiter from its first rows and its suffix; None means a list.

    If several are possible, the first row should name a known column, and then most rows should
    have the same number of cells.
    """
    if kind in _TAB_SUFFIXES:
        return "\t"
    column_names = {
        *LINK_NAMES,
        plain_name(column or LINK_NAMES[0]),
        *(PATH_NAMES if kind in _COMMA_SUFFIXES else ()),
    }
    headers: list[tuple[bool, float, int, int, str]] = []
    others: list[tuple[float, bool, int, str]] = []
    for order, delimiter in enumerate(_DELIMITERS):
        rows = (row for row in _rows(lines, 0, delimiter) if not _is_comment(row))
        sample = list(islice(rows, _SAMPLE))
        sound = [row for row in sample if not row.reason]
        first = sound[0].cells if sound else ()
        widths = Counter(len(row.cells) for row in sound)
        if len(first) > 1 and not any(map(looks_like_source, first)):
            whole = (cell for cell in first if not _DELIMITER.search(cell) or cell == column)
            named = not column_names.isdisjoint(map(plain_name, whole))
            even = widths[len(first)] / len(sample)
            headers.append((named, even, len(first), -order, delimiter))
        elif (width := _width(widths)) > 1 and not _in_links(sound, delimiter):
            others.append((widths[width] / len(sample), delimiter == "\t", -order, delimiter))
    if kind not in _COMMA_SUFFIXES:
        headers = [header for header in headers if header[0]]
        return max(headers)[-1] if headers else None
    if headers:
        return max(headers)[-1]
    return max(others)[-1] if others else ","


def _width(widths: Counter[int]) -> int:
    """Return the most frequent number of cells."""
    return max(widths, key=lambda width: (widths[width], width), default=0)


def _in_links(rows: list[_Record], delimiter: str) -> bool:
    """Return whether a delimiter is part of the link in most rows that have it: `/a;id=5`."""
    if delimiter not in ";|":
        return False
    after = [row.text.partition(delimiter)[2] for row in rows if delimiter in row.text]
    return sum("=" in text for text in after) * 2 >= len(after)


def _rows(lines: list[str], start: int, delimiter: str) -> Iterator[_Record]:
    """Yield the records that are not empty."""
    for row in _records(lines, start, delimiter):
        if row.reason or any(map(str.strip, row.cells)):
            yield row


def read_delimited(lines: list[str], start: int, delimiter: str, column: str | None) -> Table:
    """Read a table from its lines, starting at one of them."""
    rows = list(_rows(lines, start, delimiter))
    sound = [row for row in rows if not row.reason and not _is_comment(row)]
    names = None
    if sound and not any(map(looks_like_source, sound[0].cells)):
        rows.remove(sound[0])
        names = [cell.strip() for cell in sound[0].cells]
    width = len(names) if names else _width(Counter(len(row.cells) for row in sound))
    sources = (
        index
        for row in sound
        for index, cell in enumerate(_fitted(row, width).cells)
        if looks_like_source(cell)
    )
    # without a sound row, each line gives its reason
    index = choose_column(names, sources, column) if sound or column else 0
    label = label_of(names, index)
    used = (row for row in rows if not _is_comment(row) or _is_row(row, width, index))
    return Table(label, "line", [_csv_cell(_fitted(row, width), index, label) for row in used])


def _csv_cell(row: _Record, index: int, label: str) -> Cell:
    if row.reason:
        return Cell(row.number, row.text, row.reason)
    value = row.cells[index] if index < len(row.cells) else None
    return cell_of(row.number, value, row.cells, label)


def _is_comment(row: _Record) -> bool:
    return _COMMENT.match(row.text) is not None


def _is_row(row: _Record, width: int, index: int) -> bool:
    """Return whether what looks like a comment is a row whose first cell starts with `#`."""
    return len(row.cells) == width and looks_like_source(row.cells[index])


def _fitted(row: _Record, width: int) -> _Record:
    """Reject a possible comment, and a row with more cells than columns: one cell was split."""
    if _REMARK.match(row.text):
        reason = "starts like a comment: quote its first cell if it is a row"
        return _Record(row.number, (), row.text, reason)
    if row.reason or not any(map(str.strip, row.cells[width:])):
        return replace(row, cells=row.cells[:width])
    reason = f"has {len(row.cells)} cells, but the table has {width}: quote the cell that was split"
    return _Record(row.number, (), row.text, reason)


def _records(lines: list[str], start: int, delimiter: str) -> Iterator[_Record]:
    """Parse lines as CSV; a line that is not is rejected, and parsing continues at the next."""
    while start < len(lines):
        for cells, end in _parsed(lines, start, lines[start], delimiter):
            if end > start + 1 and _COMMENT.match(lines[start]):
                start += 1  # whatever its quotation mark means
                break
            yield _Record(start + 1, cells, lines[start])
            start = end
        else:
            if start == len(lines):
                return
            repaired = _AFTER_QUOTE.sub('"', lines[start])
            found = next(_parsed(lines, start, repaired, delimiter), None)
            if found:
                yield _Record(start + 1, found[0], lines[start])
            elif delimiter == "\t":  # many programs write it without quoting
                yield _Record(start + 1, lines[start].split("\t"), lines[start])
            elif not _COMMENT.match(lines[start]):
                yield _Record(start + 1, (), lines[start], _NO_END)
            start = found[1] if found else start + 1


def _parsed(
    lines: list[str], start: int, first: str, delimiter: str
) -> Iterator[tuple[list[str], int]]:
    """Yield the cells of records and the index after each, up to one that is not CSV."""
    rest = (f"{lines[index]}\n" for index in range(start + 1, len(lines)))
    text = chain([f"{first}\n"], rest)
    reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
    with suppress(csv.Error):
        for cells in reader:
            yield cells, start + reader.line_num
