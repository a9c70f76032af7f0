"""Tables with a column of links or paths: CSV, TSV, JSON Lines and Parquet."""

from __future__ import annotations

import re
from pathlib import Path

from dataminer.ingest.delimited import detect_delimiter, read_delimited
from dataminer.ingest.json_lines import is_json_object, read_json_lines
from dataminer.ingest.link_column import Cell, Table
from dataminer.ingest.listing import read_text, significant, split_lines
from dataminer.ingest.parquet import read_parquet

_JSON_LINES_SUFFIXES, _PARQUET_SUFFIXES = {".jsonl", ".ndjson"}, {".parquet", ".pq"}
_DECLARED_DELIMITER = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # Excel's first line


def read_table_of_links(path: Path, column: str | None = None) -> Table:
    """Read a table with a column of links, or a list of them.

    Parameters
    ----------
    path : Path
        Its suffix determines its format: ``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``. A text with
        another suffix is a table if its first line names columns, one of them of links, or is a
        JSON object; otherwise it is a list.
    column : str, optional
        The column of links; by default it is found by its name or its content.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If its content does not match its suffix, or the column is missing or unclear.
    """
    kind = path.suffix.lower()
    if kind in _PARQUET_SUFFIXES:
        return read_parquet(path, column)
    lines = split_lines(read_text(path))
    first = next((line for _, line in significant(lines)), "")
    if kind in _JSON_LINES_SUFFIXES or is_json_object(first):
        return read_json_lines(lines, column)
    if kind == ".json":
        raise ValueError("is JSON but not JSON Lines: write one object per line")
    declared = _DECLARED_DELIMITER.fullmatch(first)
    delimiter = declared[1] if declared else detect_delimiter(lines, kind, column)
    if delimiter is None:
        return Table("", "line", [Cell(number, line) for number, line in significant(lines)])
    start = lines.index(first) + 1 if declared else 0
    return read_delimited(lines, start, delimiter, column)
