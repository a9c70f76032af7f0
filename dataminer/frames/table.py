"""The frame table, ``frames.parquet``: one row per frame, at every stage from extract on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataminer.errors import DamagedFile
from dataminer.files.links import StrPath
from dataminer.files.publishing import atomic_write
from dataminer.files.reading import is_plain_name, read_file
from dataminer.frames.parquet_footer import metadata_value
from dataminer.frames.table_checks import check_numbers, check_size, check_texts
from dataminer.store.documents import seen_meta, table_meta
from dataminer.urls import SourceUrl

FRAMES_FILE = "frames.parquet"
CLUSTERS_FILE = "clusters.parquet"
PROVENANCE = ("title", "uploader", "licence", "upload_date", "url")
"""What the source of a video says about it, repeated in the row of each frame.

See :func:`public_provenance` before any of it is published.
"""
_FILE_NAME = "file_name"
STILL = 0.02
"""A frame whose ``change`` is smaller shows the same as the frame it was compared with."""
_META_KEY = b"dataminer"
_MAX_BYTES = 2**31  # of a file; a million frames take 0.1 GB

_TEXTS = pa.dictionary(pa.int32(), pa.string())
PICTURE_FIELDS = (
    # whether something that the frame was decoded from is missing or broken: it may be smeared
    pa.field("damaged", pa.bool_()),
    # whether it was deinterlaced
    pa.field("deinterlaced", pa.bool_()),
    # of the pixels as stored, as 4:3; null if they are square
    pa.field("sample_aspect_ratio", _TEXTS),
    # of the video, as libav names them; null if the file does not say
    pa.field("transfer", _TEXTS),
    pa.field("primaries", _TEXTS),
    pa.field("matrix", _TEXTS),
    # of one colour of the decoded frame
    pa.field("bit_depth", pa.int32()),
)
"""What is known about how a frame was stored; null in tables of older versions."""

FRAMES_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        # 0-based position in the video's presentation order
        pa.field("frame_index", pa.int32(), nullable=False),
        # seconds; the container's presentation time stamp, as ffprobe's pts_time
        pa.field("pts_time", pa.float64(), nullable=False),
        pa.field("file_name", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("sharpness", pa.float32(), nullable=False),
        pa.field("brightness", pa.float32(), nullable=False),
        pa.field("contrast", pa.float32(), nullable=False),
        # metrics are defined in dataminer.stages.extract.quality.metrics
        pa.field("entropy", pa.float32(), nullable=False),
        pa.field("black", pa.float32(), nullable=False),
        pa.field("blank", pa.float32(), nullable=False),
        pa.field("flash", pa.float32(), nullable=False),
        pa.field("change", pa.float32(), nullable=False),
        pa.field("border", pa.float32(), nullable=False),
        # pixels of the decoded frame, even if extract cropped them
        pa.field("border_left", pa.int32(), nullable=False),
        pa.field("border_top", pa.int32(), nullable=False),
        pa.field("border_right", pa.int32(), nullable=False),
        pa.field("border_bottom", pa.int32(), nullable=False),
        pa.field("phash", pa.uint64(), nullable=False),
        pa.field("dhash", pa.uint64(), nullable=False),
        # where the image's bytes begin in the archive; null if it is a file of its own
        pa.field("byte_offset", pa.int64()),
        pa.field("byte_size", pa.int64()),
        *(pa.field(name, _TEXTS) for name in PROVENANCE),
        *PICTURE_FIELDS,
    ]
)

CHANGE_FIELDS = (
    # the share of the picture that changed: between a dropped frame and the one that represents it,
    # and between a kept frame and the one kept that resembles it most; null if only hashes, or
    # embeddings, were compared
    pa.field("changed", pa.float32()),
    # hash, thumbnail (of frames whose hashes are near) or embedding
    pa.field("decided_by", _TEXTS),
)
"""What dedup saw; null in tables of older versions."""

CLUSTERS_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("frame_index", pa.int32(), nullable=False),
        # the frame that represents this one in the dataset; the frame itself if it was kept
        pa.field("kept_video_id", pa.string(), nullable=False),
        pa.field("kept_frame_index", pa.int32(), nullable=False),
        # between the two: differing hash bits (the least of several kinds), or 1 - cosine
        pa.field("distance", pa.float32(), nullable=False),
        # of this frame, by which a later dedup recognises it
        pa.field("phash", pa.uint64()),
        pa.field("dhash", pa.uint64()),
        *CHANGE_FIELDS,
    ]
)

# older versions could not measure these on some frames
_METRICS = {field.name for field in FRAMES_SCHEMA if pa.types.is_float32(field.type)}


def frame_name(video_id: str, frame_index: int, image_format: str) -> str:
    """Return the file name of a frame; the video_id in it keeps names of videos apart."""
    return f"{video_id}_{frame_index:06d}.{image_format}"


def write_table(
    path: Path, table: pa.Table, schema: pa.Schema, meta: dict[str, Any], *, ready: bool = False
) -> None:
    """Write a table and its metadata atomically.

    Parameters
    ----------
    path : Path
        The Parquet file.
    table : pa.Table
        The rows; cast to ``schema``.
    schema : pa.Schema
        The columns of the file.
    meta : dict
        JSON values: the stage, its settings, its fingerprint, counts, warnings.
    ready : bool
        Whether the table has this schema and comes from
        :func:`dataminer.frames.arrays.make_table`. Such a table need not be cast, which saves the
        0.05 s of loading ``pyarrow.compute``.
    """
    packed = {_META_KEY: json.dumps(meta, sort_keys=True).encode()}
    if not ready:
        table = _encoded(table.select(schema.names), schema)
    table = table.replace_schema_metadata(packed)
    with atomic_write(path) as partial:
        # dictionaries of numbers would double the time of a small table, and save nothing
        texts = [field.name for field in schema if _is_text(field.type)]
        pq.write_table(table, partial, compression="zstd", use_dictionary=texts)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_dictionary(kind))


def _encoded(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Cast a table, with dictionaries in the order of its rows: equal rows give equal bytes."""
    for index, field in enumerate(schema):
        if pa.types.is_dictionary(field.type):
            plain = table[field.name].cast(field.type.value_type).combine_chunks()
            table = table.set_column(index, field.name, plain.dictionary_encode())
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
        Columns to read; by default all of ``schema`` or, without one, of the file.
    schema : pa.Schema, optional
        Types that the columns must have.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DamagedFile
        It cannot be read, lacks these columns, or names files outside of its folder.
    """
    if columns is None and schema is not None:
        columns = schema.names
    try:
        table = _decode(path, read_file(path, _MAX_BYTES), columns)
        _refuse_bytes(path, table, schema)
        if schema is not None:
            table = _cast(table, schema)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the machine's fault, not the file's
        raise DamagedFile(path, "it cannot be read as the table it should be") from None
    check_numbers(path, table)
    if schema is not None:
        _check_nulls(path, table, schema)
    names = table[_FILE_NAME].to_pylist() if _FILE_NAME in table.column_names else []
    if not all(map(is_plain_name, names)):
        reason = "it has file names that lead out of its folder, or are not plain file names"
        raise DamagedFile(path, reason)
    return table


def _decode(path: Path, data: bytes, columns: Sequence[str] | None) -> pa.Table:
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        check_size(path, data, file, columns)
        table = file.read(columns, use_threads=False)
    table = _with_later_columns(table, columns or ())
    check_texts(path, (c for c in table.columns if pa.types.is_dictionary(c.type)))
    table.validate(full=True)
    return table.select(columns or table.column_names)


def _with_later_columns(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Add the wanted columns, all null, that the table's version did not have yet."""
    for field in (*PICTURE_FIELDS, *CHANGE_FIELDS):
        if field.name in columns and field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    wanted = pa.schema([schema.field(name).with_nullable(True) for name in table.column_names])
    if table.schema.types == wanted.types:
        return table
    return table.cast(wanted)  # a table of another version; loads pyarrow.compute


def _refuse_bytes(path: Path, table: pa.Table, schema: pa.Schema | None) -> None:
    """Refuse bytes in columns that have none, such as those of texts."""
    expected = [] if schema is None else [f.name for f in schema if pa.types.is_binary(f.type)]
    for field in table.schema:
        if pa.types.is_binary(field.type) and field.name not in expected:
            raise DamagedFile(path, f"no table of a stage has values that are {field.type}")


def _check_nulls(path: Path, table: pa.Table, schema: pa.Schema) -> None:
    fields = (schema.field(name) for name in table.column_names)
    required = [field.name for field in fields if not field.nullable and field.name not in _METRICS]
    if empty := [name for name in required if table[name].null_count]:
        raise DamagedFile(path, f"it lacks values in {', '.join(empty)}")


def read_names(path: Path) -> list[str]:
    """Read the column ``file_name`` of a frame table."""
    names: list[str] = read_table(path, [_FILE_NAME], schema=FRAMES_SCHEMA)[_FILE_NAME].to_pylist()
    return names


def read_meta(path: StrPath) -> dict[str, Any]:
    """Read the metadata of a table, without its rows.

    Returns
    -------
    dict
        What was given to :func:`write_table`; empty if another program wrote the file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DamagedFile
        It is no table, or its metadata are not those of a stage.
    """
    return _checked_meta(path, table_meta)


def read_model_output_meta(path: StrPath) -> dict[str, Any]:
    """Read the metadata of a table of model outputs; see :func:`read_meta`."""
    return _checked_meta(path, seen_meta)


def _checked_meta(
    path: StrPath, check: Callable[[StrPath, bytes], dict[str, Any]]
) -> dict[str, Any]:
    value = metadata_value(path, _META_KEY)
    return {} if value is None else check(path, value)


def public_provenance(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return what may be published about a video's origin: no secrets and no local path.

    Parameters
    ----------
    provenance : mapping
        Values of the keys in ``PROVENANCE``, as far as they are known.

    Returns
    -------
    dict
        The keys that have a value. The ``url`` of a local file is its name.
    """
    texts = {key: str(provenance[key]) for key in PROVENANCE if provenance.get(key)}
    if "url" in texts:
        texts["url"] = SourceUrl(texts["url"]).public
    return texts
