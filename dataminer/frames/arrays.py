"""Columns and tables in Arrow's format, made without loading pandas or ``pyarrow.compute``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def make_table(columns: Mapping[str, Sequence[Any] | NDArray[Any]], schema: pa.Schema) -> pa.Table:
    """Make a table of texts and numbers, without loading pandas.

    ``pa.table`` and ``pa.array`` load it if it is installed, to check for its types: 0.3 s and
    60 MB per job.

    Parameters
    ----------
    columns : mapping of str to sequence or ndarray
        The values of each column of ``schema``; None in nullable columns only.
    schema : pa.Schema
        With columns of texts, dictionaries of texts, numbers and truth values.
    """
    arrays = [make_array(columns[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column of numbers, without nulls; ``to_numpy`` would load pandas."""
    return np.from_dlpack(column.combine_chunks())


def truths(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Return a column of truth values; nulls are false."""
    return np.array([value is True for value in column.to_pylist()], np.bool_)


def make_array(values: Sequence[Any] | NDArray[Any], kind: pa.DataType) -> pa.Array:
    """Make one column of a table; see :func:`make_table`."""
    if pa.types.is_dictionary(kind):  # not dictionary_encode, which loads pyarrow.compute
        texts = [value for value in dict.fromkeys(values) if value is not None]
        indices = [None if value is None else texts.index(value) for value in values]
        return pa.DictionaryArray.from_arrays(
            make_array(indices, kind.index_type), make_array(texts, kind.value_type)
        )
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and _is_number(kind):
        data = [pa.py_buffer(values.astype(kind.to_pandas_dtype()))]
        return pa.Array.from_buffers(kind, len(values), [None, *data])  # no None among numbers
    valid = [value is not None for value in values]
    validity = None if all(valid) else pa.py_buffer(np.packbits(valid, bitorder="little"))
    if pa.types.is_string(kind):
        texts = [(value or "").encode() for value in values]
        offsets = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        data = [pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))]
    elif pa.types.is_boolean(kind):
        data = [pa.py_buffer(np.packbits([bool(value) for value in values], bitorder="little"))]
    else:
        filled = [0 if value is None else value for value in values]
        data = [pa.py_buffer(np.array(filled, np.dtype(kind.to_pandas_dtype())))]
    return pa.Array.from_buffers(kind, len(values), [validity, *data])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def values_in_memory(numbers: pa.Array) -> NDArray[Any]:
    """Return numbers as they are in memory; the values of nulls are undefined."""
    kind = numbers.type.to_pandas_dtype()
    if not len(numbers):
        return np.zeros(0, kind)
    return np.frombuffer(numbers.buffers()[1], kind)[numbers.offset :][: len(numbers)]
