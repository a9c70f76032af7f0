"""The frame table: one row a frame, in ``frames.parquet``, at every stage from extract on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dataminer.errors import DamagedFile
from dataminer.files import StrPath, atomic_write, is_plain_name, open_file, read_file
from dataminer.store.documents import seen_meta, table_meta
from dataminer.text import cut
from dataminer.urls import SourceUrl

FRAMES_FILE = "frames.parquet"
CLUSTERS_FILE = "clusters.parquet"
PROVENANCE = ("title", "uploader", "licence", "upload_date", "url")
"""What is known of a frame's video; see :func:`public_provenance` before any of it leaves."""
"""What a video's source says of it, as far as it does; repeated in the row of each frame."""
_FILE_NAME = "file_name"
STILL = 0.02
"""A frame whose ``change`` is less shows the same as the one that it was compared with."""
_META_KEY = b"dataminer"
# a key and the beginning of its value, in Thrift's compact protocol: two binaries, fields 1 and 2
_KEY_IN_FOOTER = b"\x18" + bytes([len(_META_KEY)]) + _META_KEY + b"\x18"
MOST_ROWS = 2**24
"""The most rows of a table: sixteen times the million frames of a large project."""
MOST_VALUES = 2**28
"""The most values that are read of a table: 2 GB of numbers. Frames have 31 each."""
MOST_TEXT = 2**32
"""The most bytes of texts: names and provenance of a million frames have less than 4 kB each."""
_LARGEST = 2**31
_LONGEST_NAME = 100  # characters of a column's
_MOST_FILE = 2**31  # bytes; a million frames take 0.1 GB
_WIDEST = 2  # bytes of a value of fixed size that has no type of its own: float16
_MOST_FOOTER = 2**26  # bytes; that of boxes names each frame
_TAIL = 2**14  # footers of our tables are a few thousand bytes
_AFTER_FOOTER = 8  # bytes: the footer's size, and "PAR1"

FRAMES_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        # 0-based place in the video's presentation order
        pa.field("frame_index", pa.int32(), nullable=False),
        # seconds, the container's own presentation time stamp: ffprobe's pts_time
        pa.field("pts_time", pa.float64(), nullable=False),
        pa.field("file_name", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("sharpness", pa.float32(), nullable=False),
        pa.field("brightness", pa.float32(), nullable=False),
        pa.field("contrast", pa.float32(), nullable=False),
        # these and those above: dataminer.stages.extract.quality.metrics says what each one is
        pa.field("entropy", pa.float32(), nullable=False),
        pa.field("black", pa.float32(), nullable=False),
        pa.field("blank", pa.float32(), nullable=False),
        pa.field("flash", pa.float32(), nullable=False),
        pa.field("change", pa.float32(), nullable=False),
        pa.field("border", pa.float32(), nullable=False),
        # pixels of the decoded picture, also where extract cut them away
        pa.field("border_left", pa.int32(), nullable=False),
        pa.field("border_top", pa.int32(), nullable=False),
        pa.field("border_right", pa.int32(), nullable=False),
        pa.field("border_bottom", pa.int32(), nullable=False),
        pa.field("phash", pa.uint64(), nullable=False),
        pa.field("dhash", pa.uint64(), nullable=False),
        # where the image's bytes begin in the archive; null where it is a file of its own
        pa.field("byte_offset", pa.int64()),
        pa.field("byte_size", pa.int64()),
        *(pa.field(name, pa.dictionary(pa.int32(), pa.string())) for name in PROVENANCE),
    ]
)

CLUSTERS_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("frame_index", pa.int32(), nullable=False),
        # the frame that stands for this one in the dataset; itself where it was kept
        pa.field("kept_video_id", pa.string(), nullable=False),
        pa.field("kept_frame_index", pa.int32(), nullable=False),
        # between the two: bits in which hashes differ (of several kinds the least), or 1 - cosine
        pa.field("distance", pa.float32(), nullable=False),
        # of this frame: by them a later dedup knows it again
        pa.field("phash", pa.uint64()),
        pa.field("dhash", pa.uint64()),
    ]
)


# nobody could measure these of some frames of older versions
_MEASURED = {field.name for field in FRAMES_SCHEMA if pa.types.is_float32(field.type)}


def frame_name(video_id: str, frame_index: int, image_format: str) -> str:
    """Return the file name of a frame; it carries the video_id, so that no two videos collide."""
    return f"{video_id}_{frame_index:06d}.{image_format}"


def make_table(columns: Mapping[str, Sequence[Any] | NDArray[Any]], schema: pa.Schema) -> pa.Table:
    """Make a table of texts and numbers, without loading pandas.

    ``pa.table`` and ``pa.array`` load it wherever it is installed, to ask whether their values are
    of its types: 0.3 s and 60 MB of each job.

    Parameters
    ----------
    columns : mapping of str to sequence or ndarray
        Values, None among them where they may be, for each column of ``schema``.
    schema : pa.Schema
        Texts, dictionaries of texts and numbers.
    """
    arrays = [make_array(columns[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column of numbers, without nulls; ``to_numpy`` would load pandas."""
    return np.from_dlpack(column.combine_chunks())


def make_array(values: Sequence[Any] | NDArray[Any], kind: pa.DataType) -> pa.Array:
    """Make one column of a table, as :func:`make_table` does."""
    if pa.types.is_dictionary(kind):  # not dictionary_encode, which loads pyarrow.compute
        texts = [value for value in dict.fromkeys(values) if value is not None]
        places = [None if value is None else texts.index(value) for value in values]
        return pa.DictionaryArray.from_arrays(
            make_array(places, kind.index_type), make_array(texts, kind.value_type)
        )
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and _is_number(kind):
        data = [pa.py_buffer(values.astype(kind.to_pandas_dtype()))]
        return pa.Array.from_buffers(kind, len(values), [None, *data])  # no None among numbers
    known = [value is not None for value in values]
    validity = None if all(known) else pa.py_buffer(np.packbits(known, bitorder="little"))
    if pa.types.is_string(kind):
        texts = [(value or "").encode() for value in values]
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        data = [pa.py_buffer(ends), pa.py_buffer(b"".join(texts))]
    else:
        numbers = [0 if value is None else value for value in values]
        data = [pa.py_buffer(np.array(numbers, np.dtype(kind.to_pandas_dtype())))]
    return pa.Array.from_buffers(kind, len(values), [validity, *data])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def write_table(
    path: Path, table: pa.Table, schema: pa.Schema, meta: dict[str, Any], *, ready: bool = False
) -> None:
    """Write a table and what is known about it as a whole, atomically.

    Parameters
    ----------
    path : Path
        The Parquet file.
    table : pa.Table
        The rows; cast to ``schema``.
    schema : pa.Schema
        The columns the file shall have.
    meta : dict
        Anything JSON can hold: the stage, its settings, its fingerprint, counts, warnings.
    ready : bool
        Whether the table is as :func:`make_table` made it: then it is not cast, which takes 0.05 s
        to load ``pyarrow.compute``.
    """
    packed = {_META_KEY: json.dumps(meta, sort_keys=True).encode()}
    if not ready:
        table = _encoded(table.select(schema.names), schema)
    table = table.replace_schema_metadata(packed)
    with atomic_write(path) as partial:
        # of numbers, dictionaries take half the time of a small table, and save nothing
        texts = [field.name for field in schema if not pa.types.is_primitive(field.type)]
        pq.write_table(table, partial, compression="zstd", use_dictionary=texts)


def _encoded(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Cast a table, with dictionaries in the order of its rows: equal rows give equal bytes."""
    for place, field in enumerate(schema):
        if pa.types.is_dictionary(field.type):
            plain = table[field.name].cast(field.type.value_type).combine_chunks()
            table = table.set_column(place, field.name, plain.dictionary_encode())
    return table.cast(schema)


def read_table(
    path: Path, columns: Sequence[str] | None = None, *, schema: pa.Schema | None = None
) -> pa.Table:
    """Read a table that :func:`write_table` wrote.

    Parameters
    ----------
    path : Path
        The Parquet file.
    columns : sequence of str, optional
        Which to read; all of ``schema`` or, without one, of the file.
    schema : pa.Schema, optional
        What the columns must be.

    Raises
    ------
    FileNotFoundError
        There is none.
    DamagedFile
        It cannot be read, or has not these columns, or names files outside of its folder.
    """
    if columns is None and schema is not None:
        columns = schema.names
    data = read_file(path, _MOST_FILE)
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            _refuse_bomb(path, data, file, columns)
            table = file.read(columns, use_threads=False)
        _refuse_long_texts(path, (c for c in table.columns if pa.types.is_dictionary(c.type)))
        table.validate(full=True)
        table = table.select(columns or table.column_names)
        if schema is not None:
            table = _of_types(table, schema)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the machine's fault, not the file's
        raise DamagedFile(path, "it cannot be read as the table that it should be") from None
    _refuse_odd_numbers(path, table)
    if schema is not None:
        _refuse_gaps(path, table, schema)
    names = table[_FILE_NAME].to_pylist() if _FILE_NAME in table.column_names else []
    if not all(map(is_plain_name, names)):
        raise DamagedFile(
            path, "it has file names that lead out of its folder, or are no plain ones"
        )
    return table


def read_names(path: Path) -> list[str]:
    """Read the column ``file_name`` of a frame table."""
    names: list[str] = read_table(path, [_FILE_NAME], schema=FRAMES_SCHEMA)[_FILE_NAME].to_pylist()
    return names


def _refuse_bomb(
    path: Path, data: bytes, file: pq.ParquetFile, columns: Sequence[str] | None
) -> None:
    """Refuse, before it is decoded, what takes more memory than any table of a stage."""
    meta, values = file.metadata, 0
    groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
    for place in range(meta.num_columns):
        leaf = meta.schema.column(place)
        name, _, inner = leaf.path.partition(".")
        if columns is not None and name not in columns:
            continue
        values += sum(group.column(place).num_values for group in groups)
        text = leaf.physical_type == "BYTE_ARRAY"
        if (text and inner) or leaf.length > _WIDEST:
            raise DamagedFile(path, f"no table of a stage has values as those of {name}")
    rows = sum(group.num_rows for group in groups)
    if rows > MOST_ROWS or values > MOST_VALUES:
        raise DamagedFile(path, f"it has {rows:,} rows, more than any table of a stage")
    texts = [
        field.name
        for field in file.schema_arrow
        if (columns is None or field.name in columns)
        and not (pa.types.is_primitive(field.type) or pa.types.is_nested(field.type))
        and not pa.types.is_dictionary(field.type)
    ]
    if texts:  # one may be there once, and in each row
        packed = pq.ParquetFile(pa.BufferReader(data), metadata=meta, read_dictionary=texts)
        parts = (packed.read_row_group(n, texts, use_threads=False) for n in range(len(groups)))
        _refuse_long_texts(path, (column for part in parts for column in part.columns))


def _refuse_long_texts(path: Path, columns: Iterable[pa.ChunkedArray]) -> None:
    size = 0
    for column in columns:
        kind = column.type
        if not (pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type)):
            raise DamagedFile(path, f"no table of a stage has values that are {kind}")
        size += sum(map(_bytes_of, column.chunks))
        if size > MOST_TEXT:
            raise DamagedFile(path, "it has longer texts than any table of a stage")


def _bytes_of(texts: pa.DictionaryArray) -> int:
    """Return how many bytes texts take without their dictionary, and ``pyarrow.compute``."""
    known, places = texts.dictionary, texts.indices
    if not len(known):
        return 0
    ends = np.frombuffer(known.buffers()[1], np.int32)[known.offset :][: len(known) + 1]
    return int(np.diff(ends).astype(np.int64).take(_raw(places), mode="clip").sum())


def _of_types(table: pa.Table, schema: pa.Schema) -> pa.Table:
    wanted = pa.schema([schema.field(name).with_nullable(True) for name in table.column_names])
    if table.schema.types == wanted.types:
        return table
    return table.cast(wanted)  # loads pyarrow.compute, for a table of another version


def _refuse_gaps(path: Path, table: pa.Table, schema: pa.Schema) -> None:
    fields = (schema.field(name) for name in table.column_names)
    needed = [field.name for field in fields if not field.nullable and field.name not in _MEASURED]
    if empty := [name for name in needed if table[name].null_count]:
        raise DamagedFile(path, f"it lacks values in {', '.join(empty)}")


def _refuse_odd_numbers(path: Path, table: pa.Table) -> None:
    """Refuse what is infinite, or beyond pixels, seconds and scores; measures may be unknown."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_floating(column.type):
            values = np.concatenate([_raw(chunk) for chunk in column.chunks] or [np.zeros(0)])
            if (np.abs(values) > _LARGEST).any() or (name == "pts_time" and np.isnan(values).any()):
                raise DamagedFile(path, f"its column {cut(name, _LONGEST_NAME)} has odd numbers")


def _raw(numbers: pa.Array) -> NDArray[Any]:
    """Return numbers as they are in memory, where those that are not there may be anything."""
    kind = numbers.type.to_pandas_dtype()
    if not len(numbers):
        return np.zeros(0, kind)
    return np.frombuffer(numbers.buffers()[1], kind)[numbers.offset :][: len(numbers)]


def read_meta(path: StrPath) -> dict[str, Any]:
    """Read what is known about a table as a whole, without its rows.

    Returns
    -------
    dict
        What was given to :func:`write_table`; empty for a Parquet file of somebody else's.

    Raises
    ------
    FileNotFoundError
        There is none.
    DamagedFile
        It is no table, or does not say what a stage wrote.
    """
    return _meta(path, table_meta)


def read_seen_meta(path: StrPath) -> dict[str, Any]:
    """Read what is known about a table of what a model saw; see :func:`read_meta`."""
    return _meta(path, seen_meta)


def _meta(path: StrPath, checked: Callable[[StrPath, bytes], dict[str, Any]]) -> dict[str, Any]:
    footer = _footer(path)
    found = footer.rfind(_KEY_IN_FOOTER)
    if found < 0:
        return {}
    size, start = _varint(footer, found + len(_KEY_IN_FOOTER))
    return checked(path, footer[start : start + size])


def _footer(path: StrPath) -> bytes:
    """Read the end of a Parquet file, where its metadata are.

    By hand, as https://parquet.apache.org/docs/file-format/ has it: plans read the metadata of
    thousands of tables, and pyarrow takes ten times as long, to build their schemas as well.
    """
    with open_file(path) as file:
        length = file.seek(0, os.SEEK_END)
        tail = os.pread(file.fileno(), _TAIL, max(length - _TAIL, 0))
        size, magic = int.from_bytes(tail[-_AFTER_FOOTER:-4], "little"), tail[-4:]
        if magic != b"PAR1" or size > min(length - _AFTER_FOOTER, _MOST_FOOTER):
            raise DamagedFile(path, "it is no Parquet file, or was cut off")
        whole = size + _AFTER_FOOTER
        if whole > len(tail):
            tail = os.pread(file.fileno(), whole, length - whole)
        return tail[-whole:-_AFTER_FOOTER]


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """Read a number of variable length; return it, and where it ends."""
    number = 0
    for place, byte in enumerate(data[start:]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, start + place + 1
    return 0, len(data)  # cut off: nothing is no JSON


def public_provenance(known: Mapping[str, Any]) -> dict[str, str]:
    """Return what may leave this machine of a video's origin: no secrets, and no local path.

    Parameters
    ----------
    known : mapping
        With the keys of ``PROVENANCE``, as far as they are known.

    Returns
    -------
    dict
        The keys that have a value. A local file's ``url`` is its name.
    """
    texts = {key: str(known[key]) for key in PROVENANCE if known.get(key)}
    if "url" in texts:
        texts["url"] = SourceUrl(texts["url"]).public
    return texts
