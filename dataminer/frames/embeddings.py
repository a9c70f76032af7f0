"""Embeddings of frames: one file per video and model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataminer.errors import DamagedFile
from dataminer.files.hashing import fingerprint
from dataminer.frames.table import read_model_output_meta, read_table, write_table

Vectors = NDArray[np.float16]


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of n frames by one model.

    Attributes
    ----------
    video_ids : tuple of str, length n
        The video of each frame.
    frame_index : ndarray of int32, shape (n,)
        Its position in the video.
    vectors : ndarray of float16, shape (n, d)
        Unit vectors up to rounding to half precision, so that products are cosines.
    """

    video_ids: tuple[str, ...]
    frame_index: NDArray[np.int32]
    vectors: Vectors

    def __len__(self) -> int:
        return len(self.frame_index)


def model_key(model: str, *settings: Any) -> str:
    """Return the folder name of one model's outputs: readable, and different for each model.

    Parameters
    ----------
    model : str
        As in the configuration: a name on the hub, a folder or a file.
    *settings
        Whatever else changes the outputs.
    """
    last = re.sub(r"[^A-Za-z0-9_.-]+", "-", model.rstrip("/").rpartition("/")[2]).strip(".-")
    return f"{last[:60] or 'model'}-{fingerprint(model, *settings)[:8]}"


def write_embeddings(
    path: Path, video_id: str, frame_index: NDArray[np.int32], vectors: Vectors, meta: Any
) -> None:
    """Write the embeddings of one video's frames atomically; equal input gives equal bytes.

    Parameters
    ----------
    path : Path
        ``Store.embeddings(model_key, video_id)``; its folder is created.
    video_id : str
        The video.
    frame_index : ndarray of int32, shape (n,)
        Which frames, ascending.
    vectors : ndarray of float16, shape (n, d)
        Unit vectors; n may be 0.
    meta : dict
        JSON values, including the model's fingerprint; the dimension is added.
    """
    count, dimension = vectors.shape
    schema = _schema(dimension)
    flat = pa.array(np.ascontiguousarray(vectors, np.float16).reshape(-1))
    table = pa.table(
        {
            "video_id": pa.DictionaryArray.from_arrays(
                pa.array(np.zeros(count, np.int32)), pa.array([video_id])
            ),
            "frame_index": pa.array(np.asarray(frame_index, np.int32)),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, dimension),
        },
        schema=schema,
    )
    write_table(path, table, schema, {**meta, "dimension": dimension}, ready=True)


def _schema(dimension: int) -> pa.Schema:
    return pa.schema(
        [
            pa.field("video_id", pa.dictionary(pa.int32(), pa.string()), nullable=False),
            pa.field("frame_index", pa.int32(), nullable=False),
            pa.field("embedding", pa.list_(pa.float16(), dimension), nullable=False),
        ]
    )


def read_embeddings(path: Path) -> Embeddings:
    """Read the embeddings of one video's frames.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DamagedFile
        The file is not one that :func:`write_embeddings` wrote.
    """
    try:
        dimension = read_model_output_meta(path)["dimension"]
        table = read_table(path, schema=_schema(dimension))
        flat = table["embedding"].combine_chunks().flatten()
        vectors = flat.to_numpy(zero_copy_only=False).reshape(table.num_rows, dimension)
        video_ids = tuple(table["video_id"].to_pylist())
    except (KeyError, ValueError) as error:
        raise DamagedFile(path, "it cannot be read as embeddings") from error
    return Embeddings(video_ids, table["frame_index"].to_numpy(), vectors)
