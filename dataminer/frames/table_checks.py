"""Checks of tables that others may have written: their size, their texts and their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataminer.errors import DamagedFile
from dataminer.frames.arrays import values_in_memory
from dataminer.text import cut

MAX_ROWS = 2**24
"""Sixteen times the million frames of a large project."""
MAX_VALUES = 2**28
"""Values that are read of a table: 2 GB of numbers. Frames have 31 each."""
MAX_TEXT_BYTES = 2**32
"""Names and provenance of a million frames have less than 4 kB each."""
_MAX_NUMBER = 2**31
_MAX_NAME_LENGTH = 100  # characters of a column's name in a message
_MAX_FIXED_SIZE = 2  # bytes of a fixed-size value without a type of its own: float16


def check_size(
    path: Path, data: bytes, file: pq.ParquetFile, columns: Sequence[str] | None
) -> None:
    """Refuse a table, before it is decoded, that needs more memory than any table of a stage.

    Parameters
    ----------
    path : Path
        The file, for messages.
    data : bytes
        Its content.
    file : pq.ParquetFile
        The same, opened.
    columns : sequence of str, optional
        Those that will be read; all by default.

    Raises
    ------
    DamagedFile
        It is too large.
    """
    _check_values(path, file.metadata, columns)
    texts = [
        field.name
        for field in file.schema_arrow
        if (columns is None or field.name in columns)
        and not (pa.types.is_primitive(field.type) or pa.types.is_nested(field.type))
        and not pa.types.is_dictionary(field.type)
    ]
    if texts:  # a text may be stored once and repeated in each row
        packed = pq.ParquetFile(
            pa.BufferReader(data), metadata=file.metadata, read_dictionary=texts
        )
        groups = range(file.metadata.num_row_groups)
        parts = (packed.read_row_group(n, texts, use_threads=False) for n in groups)
        check_texts(path, (column for part in parts for column in part.columns))


def _check_values(path: Path, meta: pq.FileMetaData, columns: Sequence[str] | None) -> None:
    values = 0
    groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
    for index in range(meta.num_columns):
        leaf = meta.schema.column(index)
        name, _, inner = leaf.path.partition(".")
        if columns is not None and name not in columns:
            continue
        values += sum(group.column(index).num_values for group in groups)
        is_text = leaf.physical_type == "BYTE_ARRAY"
        if (is_text and inner) or leaf.length > _MAX_FIXED_SIZE:
            raise DamagedFile(path, f"no table of a stage has values like those of {name}")
    rows = sum(group.num_rows for group in groups)
    if rows > MAX_ROWS or values > MAX_VALUES:
        raise DamagedFile(path, f"it has {rows:,} rows, more than any table of a stage")


def check_texts(path: Path, columns: Iterable[pa.ChunkedArray]) -> None:
    """Refuse columns of texts or bytes, read as dictionaries, longer than those of any stage."""
    size = 0
    for column in columns:
        kind = column.type
        if not (pa.types.is_dictionary(kind) and _is_text(kind.value_type)):
            raise DamagedFile(path, f"no table of a stage has values that are {kind}")
        size += sum(map(_decoded_size, column.chunks))
        if size > MAX_TEXT_BYTES:
            raise DamagedFile(path, "it has longer texts than any table of a stage")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


def _decoded_size(texts: pa.DictionaryArray) -> int:
    """Return the bytes that texts need without their dictionary; ``pyarrow.compute`` is slow."""
    words, indices = texts.dictionary, texts.indices
    if not len(words):
        return 0
    offsets = np.frombuffer(words.buffers()[1], np.int32)[words.offset :][: len(words) + 1]
    lengths = np.diff(offsets).astype(np.int64)
    return int(lengths.take(values_in_memory(indices), mode="clip").sum())


def check_numbers(path: Path, table: pa.Table) -> None:
    """Refuse numbers that are infinite or too large for pixels, seconds or scores.

    Metrics may be unknown (NaN); time stamps may not.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_floating(column.type):
            chunks = [values_in_memory(chunk) for chunk in column.chunks]
            values = np.concatenate(chunks or [np.zeros(0)])
            unknown_time = name == "pts_time" and np.isnan(values).any()
            if unknown_time or (np.abs(values) > _MAX_NUMBER).any():
                raise DamagedFile(
                    path, f"its column {cut(name, _MAX_NAME_LENGTH)} has implausible numbers"
                )
