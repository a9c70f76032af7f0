"""The table of frames that were left out: ``excluded.parquet``, beside ``clusters.parquet``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataminer.errors import DamagedFile
from dataminer.frames.table import read_meta, read_table

EXCLUDED_FILE = "excluded.parquet"
EXCLUDED_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("frame_index", pa.int32(), nullable=False),
        # of this frame, by which a later dedup recognises it
        pa.field("phash", pa.uint64()),
        pa.field("dhash", pa.uint64()),
        # the entry of dedup.exclude
        pa.field("excluded_by", pa.string(), nullable=False),
        # the nearest picture, relative to the entry; for one in an archive, that of the archive
        pa.field("reference", pa.string(), nullable=False),
        # its name in the archive; null for a file of its own
        pa.field("member", pa.string()),
        # whether the frame shows the picture's mirror image
        pa.field("mirrored", pa.bool_(), nullable=False),
        # differing hash bits between the two, the least of several kinds
        pa.field("distance", pa.float32(), nullable=False),
        # the share of the picture that changed; null if thumbnails were not compared
        pa.field("changed", pa.float32()),
    ]
)


def read_excluded(folder: Path | None, expected: Mapping[str, Any] = {}) -> pa.Table | None:
    """Read which frames an earlier dedup left out.

    Parameters
    ----------
    folder : Path or None
        The folder of the earlier result, if there is one; it need not exist.
    expected : mapping
        The metadata of a result whose verdicts still apply.

    Returns
    -------
    pa.Table or None
        With the columns of ``EXCLUDED_SCHEMA``; None if there is no such result.
    """
    if folder is None:
        return None
    path = folder / EXCLUDED_FILE
    try:
        meta = read_meta(path)
        if any(meta.get(key) != value for key, value in expected.items()):
            return None
        return read_table(path, schema=EXCLUDED_SCHEMA)
    except (FileNotFoundError, DamagedFile):
        return None  # all frames are compared again
