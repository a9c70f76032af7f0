"""Tables with a column of links or paths: CSV, TSV, JSON Lines and Parquet."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePath
from typing import Any

from dataminer.ingest import youtube
from dataminer.ingest.listing import VIDEO_SUFFIXES, read_text, significant, split_lines
from dataminer.ingest.parse import printable

COLUMN_SETTING = "input.url_column"
_LINKS = (  # how a column of links may be called, the surest first; letters and digits only
    *("videourl", "videolink", "videouri", "youtubeurl", "youtubelink", "url", "link", "uri"),
    *("href", "urls", "links", "mediaurl", "contenturl", "downloadurl", "fileurl", "sourceurl"),
    "webpageurl",
)
_PATHS = ("path", "file", "filename", "filepath", "videopath", "videofile", "video", "source")
_COMMAS, _TABS = {".csv"}, {".tsv", ".tab"}
_JSON_LINES, _PARQUET = {".jsonl", ".ndjson"}, {".parquet", ".pq"}
_DELIMITERS = ",;\t|"
_DECLARED = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # Excel's first line
_COMMENT = re.compile(r"\s*#")
_REMARK = re.compile(r"\s*#[#\s]")
_AFTER_QUOTE = re.compile(r'"[^\S\t]+(?=[,;\t|]|$)')
_NO_END = "has a quotation mark that does not end, or a cell of more than 128 kB"
_SHOWN_COLUMNS = 20


@dataclass(frozen=True)
class Cell:
    """What stands in the column of links.

    Attributes
    ----------
    number : int
        Of its line, or of its row where there are no lines; from 1.
    text : str
        The link or path; of what cannot be used, as much as helps to find it.
    reason : str
        Why it cannot be used; empty if it can.
    """

    number: int
    text: str
    reason: str = ""


@dataclass(frozen=True)
class Table:
    """A column of links or paths.

    Attributes
    ----------
    column : str
        What it is called, to people; empty for a list, which has one link on each line.
    unit : str
        What is counted: `line` or `row`.
    cells : list of Cell
        In order; empty rows are left out.
    """

    column: str
    unit: str
    cells: list[Cell]


@dataclass(frozen=True)
class _Row:
    """A row's cells in the order of the columns, or why there are none."""

    number: int
    cells: Sequence[Any]
    reason: str = ""
    text: str = ""


def read(path: Path, wanted: str | None = None) -> Table:
    """Read a table with a column of links, or a list of them.

    Parameters
    ----------
    path : Path
        Its ending tells what it is: ``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``. A text of
        another ending is a table if its first line names columns, one of them of links, or is a
        JSON object; else it is a list.
    wanted : str, optional
        The column; by default it is found by its name or by what it holds.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is not what its ending says, or the column is not there or not clear.
    """
    kind = path.suffix.lower()
    if kind in _PARQUET:
        return _parquet(path, wanted)
    lines = split_lines(read_text(path))
    first = next((line for _, line in significant(lines)), "")
    if kind in _JSON_LINES or _is_object(first):
        return _json_lines(lines, wanted)
    if kind == ".json":
        raise ValueError("is JSON but not JSON Lines: write one object per line")
    declared = _DECLARED.fullmatch(first)
    delimiter = declared[1] if declared else _delimiter(first, kind, wanted)
    if delimiter is None:
        return Table("", "line", [Cell(number, line) for number, line in significant(lines)])
    start = lines.index(first) + 1 if declared else 0
    return _delimited(lines, start, delimiter, wanted)


# ---- what the kinds of table have in common


def _table(rows: list[_Row], names: Sequence[str] | None, index: int) -> Table:
    label = f"`{printable(names[index])}`" if names else f"{index + 1}"
    return Table(label, "line", [_cell(row, index, label) for row in rows])


def _cell(row: _Row, index: int, label: str) -> Cell:
    if row.reason:
        return Cell(row.number, row.text, row.reason)
    value = row.cells[index] if index < len(row.cells) else None
    if isinstance(value, str) and value.strip():
        return Cell(row.number, value)
    shown = ", ".join(str(cell) for cell in row.cells if cell not in (None, ""))
    what = "no text" if value not in (None, "") and not isinstance(value, str) else "empty"
    return Cell(row.number, shown, f"its column {label} is {what}")


def _says_something(row: _Row) -> bool:
    return any(cell is not None and str(cell).strip() for cell in row.cells)


def _choose(rows: list[_Row], names: Sequence[str] | None, wanted: str | None) -> int:
    """Return the column of links: the one that is wanted, else by its name, else by its cells."""
    if wanted is not None:
        return _find(names, wanted)
    plain = [_plain(name) for name in names or ()]
    named = [plain.index(known) for known in _LINKS if known in plain]
    if named:
        return named[0]
    counts = Counter(
        index for row in rows for index, cell in enumerate(row.cells) if _is_source(cell)
    )
    most = [index for index, count in counts.items() if count == max(counts.values())]
    if len(most) == 1:
        return most[0]
    paths = [plain.index(known) for known in _PATHS if known in plain]
    if paths and (not most or paths[0] in most):
        return paths[0]
    if not names and all(row.reason for row in rows):
        return 0  # each line says why
    problem = "more than one column of links" if most else "no column of links"
    first = "" if names else "name the columns in a first line, and "
    raise ValueError(f"has {problem}: {first}name it in {COLUMN_SETTING}{_listed(names)}")


def _find(names: Sequence[str] | None, wanted: str) -> int:
    if names is None:
        raise ValueError(f"names no columns in its first line, and {COLUMN_SETTING} is {wanted!r}")
    for key in (str.strip, str.casefold, _plain):
        found = [key(name) for name in names]
        if key(wanted) and key(wanted) in found:
            return found.index(key(wanted))
    raise ValueError(f"has no column {wanted!r}, which {COLUMN_SETTING} names{_listed(names)}")


def _listed(names: Sequence[str] | None) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _SHOWN_COLUMNS else ""
    return f"; its columns are {', '.join(map(printable, names[:_SHOWN_COLUMNS]))}{more}"


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _is_source(value: Any) -> bool:
    """Tell whether a cell looks like a link, or like the path of a video."""
    if not isinstance(value, str):
        return False
    text = value.strip()
    if re.match(r"https?://|youtube:", text, re.IGNORECASE) or youtube.with_scheme(text):
        return True
    return PurePath(text).suffix.lower() in VIDEO_SUFFIXES


# ---- CSV


def _delimiter(first: str, kind: str, wanted: str | None) -> str | None:
    """Tell by its first line, and its ending, what parts a table's cells; None for a list."""
    if kind in _TABS:
        return "\t"
    header = [
        (len(cells), -_DELIMITERS.index(delimiter), delimiter)
        for delimiter in _DELIMITERS
        if len(cells := _split(first, delimiter)) > 1 and not any(map(_is_source, cells))
    ]
    if kind in _COMMAS:
        return max(header)[2] if header else next((d for d in "\t," if d in first), _rare(first))
    sure = {*_LINKS, _plain(wanted or _LINKS[0])}
    known = [each for each in header if {*map(_plain, _split(first, each[2]))} & sure]
    return max(known)[2] if known else None


def _rare(first: str) -> str:
    """Return what parts a table without a header: `;` or `|`, unless it may belong to the link."""
    for delimiter in ";|":
        _, found, rest = first.partition(delimiter)
        if found and "=" not in rest:
            return delimiter
    return ","


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return []


def _delimited(lines: list[str], start: int, delimiter: str, wanted: str | None) -> Table:
    rows = [row for row in _records(lines, start, delimiter) if row.reason or _says_something(row)]
    sound = [row for row in rows if not row.reason and not _is_comment(row)]
    names = None
    if sound and not any(map(_is_source, sound[0].cells)):
        rows.remove(sound[0])
        names = [cell.strip() for cell in sound[0].cells]
    widths = Counter(len(row.cells) for row in sound)
    width = len(names) if names else max(widths, key=lambda n: (widths[n], n), default=0)
    index = _choose([_fitted(row, width) for row in sound], names, wanted)
    kept = [row for row in rows if not _is_comment(row) or _is_row(row, width, index)]
    return _table([_fitted(row, width) for row in kept], names, index)


def _is_comment(row: _Row) -> bool:
    return _COMMENT.match(row.text) is not None


def _is_row(row: _Row, width: int, index: int) -> bool:
    """Tell whether what begins like a comment is a row whose first cell begins with `#`."""
    return len(row.cells) == width and _is_source(row.cells[index])


def _fitted(row: _Row, width: int) -> _Row:
    """Refuse what may be a comment, and a row with more cells than columns: one was cut in two."""
    if _REMARK.match(row.text):
        reason = "begins like a comment: put its first cell into quotation marks if it is a row"
        return _Row(row.number, (), reason, row.text)
    if row.reason or not any(map(str.strip, row.cells[width:])):
        return replace(row, cells=row.cells[:width])
    reason = f"has {len(row.cells)} cells, and the table {width}: quote the cell that holds more"
    return _Row(row.number, (), reason, row.text)


def _records(lines: list[str], start: int, delimiter: str) -> Iterator[_Row]:
    """Parse lines as CSV; a line that is none is refused, and the next one begins anew."""
    while start < len(lines):
        for cells, end in _parsed(lines, start, lines[start], delimiter):
            if end > start + 1 and _COMMENT.match(lines[start]):
                start += 1  # whatever quotation mark is in it
                break
            yield _Row(start + 1, cells, text=lines[start])
            start = end
        else:
            if start == len(lines):
                return
            mended = _AFTER_QUOTE.sub('"', lines[start])
            found = next(_parsed(lines, start, mended, delimiter), None)
            if found:
                yield _Row(start + 1, found[0], text=lines[start])
            elif delimiter == "\t":  # which many programs write without quoting
                yield _Row(start + 1, lines[start].split("\t"), text=lines[start])
            elif not _COMMENT.match(lines[start]):
                yield _Row(start + 1, (), _NO_END, lines[start])
            start = found[1] if found else start + 1


def _parsed(
    lines: list[str], start: int, first: str, delimiter: str
) -> Iterator[tuple[list[str], int]]:
    """Yield the cells of records, and the place behind each, up to one that is no CSV."""
    rest = (f"{lines[place]}\n" for place in range(start + 1, len(lines)))
    text = chain([f"{first}\n"], rest)
    reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
    with suppress(csv.Error):
        for cells in reader:
            yield cells, start + reader.line_num


# ---- JSON Lines


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _json_lines(lines: list[str], wanted: str | None) -> Table:
    values: list[tuple[int, str, Any]] = []
    for number, line in significant(lines):
        try:
            values.append((number, line, json.loads(line)))
        except (ValueError, RecursionError):
            values.append((number, line, None))
    names = list(dict.fromkeys(key for *_, value in values for key in _keys(value)))
    rows = [_json_row(*each, names) for each in values if each[2] != {}]
    return _table(rows, names or None, _choose(rows, names or None, wanted))


def _keys(value: Any) -> list[str]:
    return list(value) if isinstance(value, dict) else []


def _json_row(number: int, line: str, value: Any, names: list[str]) -> _Row:
    if isinstance(value, dict):
        return _Row(number, [value.get(name) for name in names])
    if isinstance(value, str) and not names:
        return _Row(number, [value])
    return _Row(number, (), "is no JSON object" if names else "is no JSON text", line)


# ---- Parquet


def _parquet(path: Path, wanted: str | None) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = [field.name for field in file.schema_arrow if _is_text(field.type)]
            index = _choose(_first_rows(file, names), names, wanted)
            column = file.read([names[index]]).column(0).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        reason = printable(str(error).partition("\n")[0])
        raise ValueError(f"cannot be read as Parquet ({reason})") from None
    rows = [_Row(number, [value]) for number, value in enumerate(column, start=1)]
    return replace(_table(rows, [names[index]], 0), unit="row")


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(
        check(kind) for check in (pa.types.is_string, pa.types.is_large_string, _is_string_view)
    )


def _is_string_view(kind: Any) -> bool:
    return str(kind) == "string_view"


def _first_rows(file: Any, names: list[str]) -> list[_Row]:
    batch = next(file.iter_batches(batch_size=1000, columns=names), None)
    return [_Row(0, list(row.values())) for row in batch.to_pylist()] if batch else []
