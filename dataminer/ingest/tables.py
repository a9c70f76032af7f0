"""Tables with a column of links or paths: CSV, TSV, JSON Lines and Parquet."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any

from dataminer.ingest import listing, youtube
from dataminer.ingest.listing import VIDEO_SUFFIXES, read_text, significant, split_lines
from dataminer.ingest.parse import printable
from dataminer.text import cut

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
_DELIMITER = re.compile(f"[{re.escape(_DELIMITERS)}]")
_DECLARED = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # Excel's first line
_COMMENT = re.compile(r"\s*#")
_REMARK = re.compile(r"\s*#[#\s]")
_AFTER_QUOTE = re.compile(r'"[^\S\t]+(?=[,;\t|]|$)')
_NO_END = "has a quotation mark that does not end, or a cell of more than 128 kB"
_SHOWN_COLUMNS = 20
_SAMPLE = 100  # rows that tell the delimiter
_SHOWN_TYPE = 40
_BATCH = 1000  # rows of Parquet at a time


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class _Row:
    """A CSV row's cells in the order of the columns, or why there are none."""

    number: int
    cells: Sequence[str]
    text: str
    reason: str = ""


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
    delimiter = declared[1] if declared else _delimiter(lines, kind, wanted)
    if delimiter is None:
        return Table("", "line", [Cell(number, line) for number, line in significant(lines)])
    start = lines.index(first) + 1 if declared else 0
    return _delimited(lines, start, delimiter, wanted)


# ---- what the kinds of table have in common


def _label(names: Sequence[str] | None, index: int) -> str:
    return f"`{printable(names[index])}`" if names else f"{index + 1}"


def _cell(number: int, value: Any, cells: Iterable[Any], label: str) -> Cell:
    if isinstance(value, str) and value.strip():
        return Cell(number, value)
    filled = islice((cell for cell in cells if cell not in (None, "")), _SHOWN_COLUMNS)
    what = "no text" if value not in (None, "") and not isinstance(value, str) else "empty"
    return Cell(number, ", ".join(map(_shown, filled)), f"its column {label} is {what}")


def _shown(value: Any) -> str:
    """Show a value of JSON; of one that holds others, which may be deep, no more than its type."""
    if isinstance(value, list):
        return "[...]"
    return "{...}" if isinstance(value, dict) else str(value)


def _choose(
    names: Sequence[str] | None,
    sources: Iterable[int],
    wanted: str | None,
    described: Sequence[str] | None = None,
) -> int:
    """Return the column of links: the one that is wanted, else by its name, else by its cells.

    `sources` yields, for each cell that looks like a link, the place of its column.
    """
    if wanted is not None:
        return _find(names, wanted, described)
    plain = [_plain(name) for name in names or ()]
    named = [plain.index(known) for known in _LINKS if known in plain]
    if named:
        return named[0]
    counts = Counter(sources)
    most = [index for index, count in counts.items() if count == max(counts.values())]
    if len(most) == 1:
        return most[0]
    paths = [plain.index(known) for known in _PATHS if known in plain]
    if paths and (not most or paths[0] in most):
        return paths[0]
    problem = "more than one column of links" if most else "no column of links"
    first = "name the columns in a first line, and " if names is None else ""
    listed = _listed(described or names)
    raise ValueError(f"has {problem}: {first}name it in {COLUMN_SETTING}{listed}")


def _find(names: Sequence[str] | None, wanted: str, described: Sequence[str] | None = None) -> int:
    if names is None:
        raise ValueError(f"names no columns in its first line, and {COLUMN_SETTING} is {wanted!r}")
    for key in (str.strip, str.casefold, _plain):
        found = [key(name) for name in names]
        if key(wanted) and key(wanted) in found:
            return found.index(key(wanted))
    listed = _listed(described or names)
    raise ValueError(f"has no column {wanted!r}, which {COLUMN_SETTING} names{listed}")


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


def _delimiter(lines: list[str], kind: str, wanted: str | None) -> str | None:
    """Tell by its first rows, and its ending, what parts a table's cells; None for a list.

    Of several, it is one under which the first row names a known column, then one under which most
    rows have equally many cells.
    """
    if kind in _TABS:
        return "\t"
    known = {*_LINKS, _plain(wanted or _LINKS[0]), *(_PATHS if kind in _COMMAS else ())}
    headers: list[tuple[bool, float, int, int, str]] = []
    others: list[tuple[float, bool, int, str]] = []
    for order, delimiter in enumerate(_DELIMITERS):
        rows = (row for row in _rows(lines, 0, delimiter) if not _is_comment(row))
        sample = list(islice(rows, _SAMPLE))
        sound = [row for row in sample if not row.reason]
        first = sound[0].cells if sound else ()
        widths = Counter(len(row.cells) for row in sound)
        if len(first) > 1 and not any(map(_is_source, first)):
            whole = (cell for cell in first if not _DELIMITER.search(cell) or cell == wanted)
            named = not known.isdisjoint(map(_plain, whole))
            even = widths[len(first)] / len(sample)
            headers.append((named, even, len(first), -order, delimiter))
        elif (width := _width(widths)) > 1 and not _in_links(sound, delimiter):
            others.append((widths[width] / len(sample), delimiter == "\t", -order, delimiter))
    if kind not in _COMMAS:
        headers = [header for header in headers if header[0]]
        return max(headers)[-1] if headers else None
    if headers:
        return max(headers)[-1]
    return max(others)[-1] if others else ","


def _width(widths: Counter[int]) -> int:
    """Return how many cells most rows have."""
    return max(widths, key=lambda width: (widths[width], width), default=0)


def _in_links(rows: list[_Row], delimiter: str) -> bool:
    """Tell whether a delimiter that links hold too belongs to most of them: `/a;id=5`."""
    if delimiter not in ";|":
        return False
    after = [row.text.partition(delimiter)[2] for row in rows if delimiter in row.text]
    return sum("=" in text for text in after) * 2 >= len(after)


def _rows(lines: list[str], start: int, delimiter: str) -> Iterator[_Row]:
    """Yield the records that say something."""
    for row in _records(lines, start, delimiter):
        if row.reason or any(map(str.strip, row.cells)):
            yield row


def _delimited(lines: list[str], start: int, delimiter: str, wanted: str | None) -> Table:
    rows = list(_rows(lines, start, delimiter))
    sound = [row for row in rows if not row.reason and not _is_comment(row)]
    names = None
    if sound and not any(map(_is_source, sound[0].cells)):
        rows.remove(sound[0])
        names = [cell.strip() for cell in sound[0].cells]
    width = len(names) if names else _width(Counter(len(row.cells) for row in sound))
    sources = (
        index
        for row in sound
        for index, cell in enumerate(_fitted(row, width).cells)
        if _is_source(cell)
    )
    # without a sound row, each line says why
    index = _choose(names, sources, wanted) if sound or wanted else 0
    label = _label(names, index)
    kept = (row for row in rows if not _is_comment(row) or _is_row(row, width, index))
    return Table(label, "line", [_csv_cell(_fitted(row, width), index, label) for row in kept])


def _csv_cell(row: _Row, index: int, label: str) -> Cell:
    if row.reason:
        return Cell(row.number, row.text, row.reason)
    value = row.cells[index] if index < len(row.cells) else None
    return _cell(row.number, value, row.cells, label)


def _is_comment(row: _Row) -> bool:
    return _COMMENT.match(row.text) is not None


def _is_row(row: _Row, width: int, index: int) -> bool:
    """Tell whether what begins like a comment is a row whose first cell begins with `#`."""
    return len(row.cells) == width and _is_source(row.cells[index])


def _fitted(row: _Row, width: int) -> _Row:
    """Refuse what may be a comment, and a row with more cells than columns: one was cut in two."""
    if _REMARK.match(row.text):
        reason = "begins like a comment: put its first cell into quotation marks if it is a row"
        return _Row(row.number, (), row.text, reason)
    if row.reason or not any(map(str.strip, row.cells[width:])):
        return replace(row, cells=row.cells[:width])
    reason = f"has {len(row.cells)} cells, and the table {width}: quote the cell that holds more"
    return _Row(row.number, (), row.text, reason)


def _records(lines: list[str], start: int, delimiter: str) -> Iterator[_Row]:
    """Parse lines as CSV; a line that is none is refused, and the next one begins anew."""
    while start < len(lines):
        for cells, end in _parsed(lines, start, lines[start], delimiter):
            if end > start + 1 and _COMMENT.match(lines[start]):
                start += 1  # whatever quotation mark is in it
                break
            yield _Row(start + 1, cells, lines[start])
            start = end
        else:
            if start == len(lines):
                return
            mended = _AFTER_QUOTE.sub('"', lines[start])
            found = next(_parsed(lines, start, mended, delimiter), None)
            if found:
                yield _Row(start + 1, found[0], lines[start])
            elif delimiter == "\t":  # which many programs write without quoting
                yield _Row(start + 1, lines[start].split("\t"), lines[start])
            elif not _COMMENT.match(lines[start]):
                yield _Row(start + 1, (), lines[start], _NO_END)
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
    """Read the lines anew for each question: what they hold takes more memory than the text."""
    names = list(dict.fromkeys(key for *_, value in _objects(lines) for key in value)) or None
    places = {name: place for place, name in enumerate(names or ())}
    sources = (
        places[key]
        for *_, value in _objects(lines)
        for key, cell in value.items()
        if _is_source(cell)
    )
    index = _choose(names, sources, wanted) if names or wanted else 0
    label = _label(names, index)
    cells: list[Cell] = []
    for number, line, value in _values(lines):
        if names and isinstance(value, dict):
            if value:
                found = _value_of(value, names[index])
                cells.append(_cell(number, found, value.values(), label))
        elif isinstance(value, str) and not names:
            cells.append(_cell(number, value, [value], label))
        else:
            cells.append(Cell(number, line, "is no JSON object" if names else "is no JSON text"))
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
    """Return a row's value of a column, which another row may spell otherwise: `URL`, `url`."""
    if name in row:
        return row[name]
    plain = _plain(name)
    return next((value for key, value in row.items() if plain and _plain(key) == plain), None)


# ---- Parquet


def _parquet(path: Path, wanted: str | None) -> Table:
    import pyarrow as pa

    try:
        return _parquet_table(path, wanted)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        reason = printable(str(error).partition("\n")[0])
        raise ValueError(f"cannot be read as Parquet ({reason})") from None


def _parquet_table(path: Path, wanted: str | None) -> Table:
    import pyarrow.parquet as pq

    with path.open("rb") as source:
        file = pq.ParquetFile(source)
        schema = file.schema_arrow
        unfit = _unfit(file)
        texts = [each.name for each in schema if _is_text(each.type) and each.name not in unfit]
        kinds = [unfit.get(each.name, str(each.type)) for each in schema]
        # as a dictionary, a value that rows repeat is in memory once
        file = pq.ParquetFile(source, read_dictionary=texts)
        name = _parquet_column(file, schema.names, kinds, texts, wanted)
        label = _label([name], 0)
        values = (value for batch in _batches(file, [name]) for value in batch[0])
        rows = islice(enumerate(values, start=1), listing.MAX_LINES + 1)
        cells = [_cell(row, value, [value], label) for row, value in rows]
    if len(cells) > listing.MAX_LINES:
        raise ValueError(f"has more than {listing.MAX_LINES:,} rows: split it")
    return Table(label, "row", cells)


def _unfit(file: Any) -> dict[str, str]:
    """Tell which columns cannot be read by their name, or in little memory, and why."""
    paths = Counter(column.path for column in file.schema)
    sizes: Counter[str] = Counter()
    for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            sizes[chunk.path_in_schema] += chunk.total_uncompressed_size
    most = listing.MAX_BYTES
    large = {path: f"more than {most // 2**20} MB" for path, size in sizes.items() if size > most}
    return large | {path: "more than once" for path, count in paths.items() if count > 1}


def _parquet_column(
    file: Any, names: list[str], kinds: list[str], texts: list[str], wanted: str | None
) -> str:
    """Return the name of the column of links, one of `texts`."""
    columns = zip(names, kinds, strict=True)
    described = [f"{name} ({cut(kind, _SHOWN_TYPE)})" for name, kind in columns]
    if wanted is None:
        first = next(_batches(file, texts), [])
        sources = (
            place for place, column in enumerate(first) for cell in column if _is_source(cell)
        )
        return texts[_choose(texts, sources, None, described)]
    index = _find(names, wanted, described)
    if names[index] not in texts:
        raise ValueError(f"has no readable links in column {printable(described[index])}")
    return names[index]


def _batches(file: Any, names: list[str]) -> Iterator[list[list[str | None]]]:
    """Yield the texts of columns, some rows at a time."""
    for batch in file.iter_batches(_BATCH, columns=names):
        yield [_decoded(batch.column(batch.schema.names.index(name))) for name in names]


def _decoded(column: Any) -> list[str | None]:
    used = column.indices.unique()
    texts = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
    return [texts[index] for index in column.indices.to_pylist()]


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(
        check(kind) for check in (pa.types.is_string, pa.types.is_large_string, _is_string_view)
    )


def _is_string_view(kind: Any) -> bool:
    return str(kind) == "string_view"
