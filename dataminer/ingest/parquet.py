"""Tables of Parquet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from dataminer.ingest import listing
from dataminer.ingest.link_column import (
    Table,
    cell_of,
    choose_column,
    find_column,
    label_of,
    looks_like_source,
)
from dataminer.ingest.parse import printable
from dataminer.text import cut

_MAX_TYPE = 40
_BATCH = 1000  # rows at a time


def read_parquet(path: Path, column: str | None) -> Table:
    """Read a table.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not Parquet, has too many rows, or the column is missing or unclear.
    """
    import pyarrow as pa

    try:
        return _parquet_table(path, column)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        reason = printable(str(error).partition("\n")[0])
        raise ValueError(f"cannot be read as Parquet ({reason})") from None


def _parquet_table(path: Path, column: str | None) -> Table:
    import pyarrow.parquet as pq

    with path.open("rb") as source:
        file = pq.ParquetFile(source)
        schema = file.schema_arrow
        unfit = _unfit(file)
        texts = [each.name for each in schema if _is_text(each.type) and each.name not in unfit]
        kinds = [unfit.get(each.name, str(each.type)) for each in schema]
        # a dictionary has repeated values in memory only once
        file = pq.ParquetFile(source, read_dictionary=texts)
        name = _parquet_column(file, schema.names, kinds, texts, column)
        label = label_of([name], 0)
        values = (value for batch in _batches(file, [name]) for value in batch[0])
        rows = islice(enumerate(values, start=1), listing.MAX_LINES + 1)
        cells = [cell_of(row, value, [value], label) for row, value in rows]
    if len(cells) > listing.MAX_LINES:
        raise ValueError(f"has more than {listing.MAX_LINES:,} rows: split it")
    return Table(label, "row", cells)


def _unfit(file: Any) -> dict[str, str]:
    """Return the columns that cannot be read by name, or in little memory, and why."""
    paths = Counter(column.path for column in file.schema)
    sizes: Counter[str] = Counter()
    for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            sizes[chunk.path_in_schema] += chunk.total_uncompressed_size
    most = listing.MAX_BYTES
    large = {path: f"more than {most // 2**20} MB" for path, size in sizes.items() if size > most}
    return large | {path: "more than once" for path, count in paths.items() if count > 1}


def _parquet_column(
    file: Any, names: list[str], kinds: list[str], texts: list[str], column: str | None
) -> str:
    """Return the name of the column of links, which is one of `texts`."""
    columns = zip(names, kinds, strict=True)
    described = [f"{name} ({cut(kind, _MAX_TYPE)})" for name, kind in columns]
    if column is None:
        first = next(_batches(file, texts), [])
        sources = (
            index for index, cells in enumerate(first) for cell in cells if looks_like_source(cell)
        )
        return texts[choose_column(texts, sources, None, described)]
    index = find_column(names, column, described)
    if names[index] not in texts:
        raise ValueError(f"has no readable links in column {printable(described[index])}")
    return names[index]


def _batches(file: Any, names: list[str]) -> Iterator[list[list[str | None]]]:
    """Yield the texts of columns in batches of rows."""
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
