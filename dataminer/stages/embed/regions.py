"""Tables of what a detector found in the frames of a video: a row per object or line of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataminer.errors import DamagedFile
from dataminer.frames.table import read_model_output_meta, read_table, write_table
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.embed.pending import PendingVideo
from dataminer.stages.embed.prefetch import StoredFrame

FRAME_INDEX = pa.field("frame_index", pa.int32(), nullable=False)
"""The first column of each schema."""
Regions = NDArray[np.float32]
"""Of one frame, shape (k, c): a column per field of the schema, without the frame's index."""


def write_regions(
    video: PendingVideo,
    stage: str,
    schema: pa.Schema,
    found: Sequence[tuple[StoredFrame, Regions | None]],
    meta: Mapping[str, Any],
) -> tuple[int, int]:
    """Write the file of a video's regions; return the number of regions and of readable frames.

    Parameters
    ----------
    video, stage : PendingVideo, str
        The video and its file, which is replaced atomically; ``content`` or ``text``.
    schema : pa.Schema
        ``FRAME_INDEX``, and c columns more.
    found : sequence of tuple
        By frame; None for one that cannot be read.
    meta : Mapping
        The fingerprint of the ``model``, and whatever else belongs to the table.
    """
    readable = [(frame.frame_index, regions) for frame, regions in found if regions is not None]
    frames = [frame_index for frame_index, _ in readable]
    none = np.zeros((0, len(schema) - 1), np.float32)
    flat = np.concatenate([none, *(regions for _, regions in readable)])
    repeated = np.repeat(np.array(frames, np.int32), [len(regions) for _, regions in readable])
    columns = [
        pa.array(column.astype(field.type.to_pandas_dtype()), field.type)
        for column, field in zip([repeated, *flat.T], schema, strict=True)
    ]
    about = {
        "stage": stage,
        "version": VERSIONS[stage],
        **meta,
        "mark": video.output_fingerprint(stage, str(meta["model"])),
        # a frame without regions has no row above
        "frames": frames,
    }
    write_table(video.out, pa.Table.from_arrays(columns, schema=schema), schema, about)
    return len(flat), len(frames)


def read_regions(path: Path, schema: pa.Schema) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the metadata of a file of regions, with frames as an array, and its columns.

    Column ``frame`` is the index of a region's frame among those frames.

    Raises
    ------
    DamagedFile
        The file is not such a table.
    """
    meta, table = read_model_output_meta(path), read_table(path, schema=schema)
    if not {"frames", "mark"} <= meta.keys():
        raise DamagedFile(path, "it does not list its frames")
    frames = np.array(meta["frames"], np.int32)
    columns = {name: table[name].to_numpy() for name in schema.names}
    columns["frame"] = np.searchsorted(frames, columns[FRAME_INDEX.name])
    listed = np.isin(columns[FRAME_INDEX.name], frames)
    if (frames[1:] <= frames[:-1]).any() or not listed.all():
        raise DamagedFile(path, "it has regions of frames that it does not list")
    return {**meta, "frames": frames}, columns
