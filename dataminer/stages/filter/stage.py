"""Keep the frames of a video that are good enough, judged by what extract measured on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataminer.config.models import FilterConfig
from dataminer.errors import DamagedFile
from dataminer.frames.columns import make_array, numbers
from dataminer.frames.images import FrameReader
from dataminer.frames.result_files import missing_error
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, STILL, read_table, write_table
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.filter.scores import SCORES_FILE, FrameScores, scores_schema

VERSION = VERSIONS["filter"]
# by threshold, in FilterConfig's order, the column that it is held against
_JUDGED = {
    name: name.partition("_")[2]
    for name in FilterConfig.model_fields
    if name.startswith(("min_", "max_"))
}
THRESHOLDS = tuple(_JUDGED)
METRICS = tuple(dict.fromkeys(_JUDGED.values()))
_NAN = make_array([math.nan], pa.float32())[0]
_REPEATS = "min_change"  # the last one: of what stands still, the first good frame stays


@dataclass(frozen=True)
class FilterResult:
    """What became of the frames of one video.

    Attributes
    ----------
    passed : int
        Frames that were good enough.
    rejected : dict of str to int
        The others, by the threshold that each failed first, in the order of ``FilterConfig``.
    """

    passed: int
    rejected: dict[str, int]


def filter_frames(
    frames_dir: Path,
    out: Path,
    settings: FilterConfig,
    *,
    meta: dict[str, Any] | None = None,
    scores: Sequence[FrameScores] = (),
) -> FilterResult:
    """Link the frames of a video that pass every threshold, and write their table.

    No image is opened: what is judged are columns of the table. Images in an archive stay there,
    and the table tells where it is.

    Parameters
    ----------
    frames_dir : Path
        A folder of frames with its ``frames.parquet``; the table may have no rows.
    out : Path
        An existing empty folder, which the caller publishes.
    settings : FilterConfig
        The thresholds; a frame that was not measured (NaN or null) passes none of that metric.
    meta : dict, optional
        What else to note in the table's metadata: anything JSON can hold.
    scores : sequence of FrameScores
        What models said of the frames: held against those that pass all thresholds. With any,
        ``scores.parquet`` tells of each frame its scores and what it was rejected for.

    Returns
    -------
    FilterResult
        How many frames passed, and why the others did not.

    Raises
    ------
    PermanentError
        ``CORRUPT``: the table or the archive is damaged, or no frame table. ``MISSING_SOURCE``:
        the table, the archive, or an image that passed, is not there.
    """
    table = load_frames(frames_dir)
    names = (*THRESHOLDS, *(name for look in scores for name in look.passes))
    scores = [look.of(numbers(table["frame_index"])) for look in scores]
    failed = _first_failed_of(table, settings, scores)
    rejected = {name: int((failed == place).sum()) for place, name in enumerate(names)}
    passed = make_array(np.flatnonzero(failed < 0), pa.int64())
    kept = table.take(passed).sort_by("frame_index")
    reader = FrameReader(frames_dir)
    if reader.kind == "files":
        for name in kept["file_name"].to_pylist():
            reader.link(name, out / name)
    about = {
        **reader.archive_pointer(out),
        "stage": "filter",
        "version": VERSION,
        "settings": settings.result_settings(),
        "frames": table.num_rows,
        "passed": kept.num_rows,
        "rejected": rejected,
        "unmeasured": {metric: int(np.isnan(numbers(table[metric])).sum()) for metric in METRICS},
    }
    if scores:
        _write_scores(out / SCORES_FILE, scores, failed, names)
    write_table(out / FRAMES_FILE, kept, FRAMES_SCHEMA, {**(meta or {}), **about})
    return FilterResult(kept.num_rows, rejected)


def _first_failed_of(
    table: pa.Table, settings: FilterConfig, scores: Sequence[FrameScores]
) -> NDArray[np.int8]:
    """Go on from :func:`first_failed` with what models said, their settings numbered further."""
    failed = first_failed(table, settings)
    tests = [good for look in scores for good in look.passes.values()]
    for place, good in enumerate(tests, start=len(THRESHOLDS)):
        failed[(failed < 0) & ~good] = place
    return failed


def _write_scores(
    path: Path, scores: Sequence[FrameScores], failed: NDArray[np.int8], names: Sequence[str]
) -> None:
    frame_index = scores[0].frame_index
    order = np.argsort(frame_index, kind="stable")
    columns: dict[str, Any] = {"frame_index": pa.array(frame_index[order], pa.int32())}
    for look in scores:
        for name, values in look.scores.items():
            columns[name] = pa.array(values[order], pa.float32(), from_pandas=True)  # NaN: null
    reasons = [None if place < 0 else names[place] for place in failed[order]]
    columns["rejected"] = pa.array(reasons, pa.string()).dictionary_encode()
    schema = scores_schema(scores)
    write_table(path, pa.table(columns), schema, {"stage": "filter", "version": VERSION})


def judge(table: pa.Table, settings: FilterConfig) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Say which frames pass, and how many failed first at which threshold.

    Parameters
    ----------
    table : pa.Table
        A frame table of n rows, of one video.
    settings : FilterConfig
        The thresholds; a value on the threshold passes.

    Returns
    -------
    passes : ndarray of bool, shape (n,)
        True where every threshold is met.
    rejected : dict of str to int
        One entry a threshold, in the order of ``FilterConfig``, zeros included.
    """
    failed = first_failed(table, settings)
    rejected = {name: int((failed == place).sum()) for place, name in enumerate(THRESHOLDS)}
    return failed < 0, rejected


def first_failed(table: pa.Table, settings: FilterConfig) -> NDArray[np.int8]:
    """Say for each frame which threshold it failed first.

    Parameters
    ----------
    table : pa.Table
        A frame table of n rows, of one video.
    settings : FilterConfig
        The thresholds; a value on the threshold passes.

    Returns
    -------
    ndarray of int8, shape (n,)
        A place in ``THRESHOLDS``; -1 where every one is met.
    """
    failed = np.full(table.num_rows, -1, np.int8)
    for place, (name, metric) in enumerate(_JUDGED.items()):
        limit, values = getattr(settings, name), numbers(table[metric])
        # float32 like the column, so that a value equal to the limit is equal in the table too;
        # a comparison with NaN is false, so what was not measured does not pass
        if name == _REPEATS:
            good = (values >= np.float32(limit)) | ~_repeats(table, failed < 0)
            good &= ~np.isnan(values)
        elif name.startswith("min_"):
            good = values >= np.float32(limit)
        else:
            good = values <= np.float32(limit)
        failed[(failed < 0) & ~good] = place
    return failed


def _repeats(table: pa.Table, passes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which frames come after one that passes, in a run of frames that show the same.

    So a still picture is kept once, also where the first frame of it is too bad to be kept.
    """
    order = np.argsort(numbers(table["frame_index"]), kind="stable")
    run = np.cumsum(numbers(table["change"])[order] >= np.float32(STILL))
    good = passes[order]
    earlier: NDArray[np.int64] = np.cumsum(good) - good  # frames that pass, before each
    first = np.searchsorted(run, run)  # where each one's run begins
    repeats = np.empty(len(order), np.bool_)
    repeats[order] = earlier > earlier[first]
    return repeats


def load_frames(folder: Path) -> pa.Table:
    """Read the frame table of a folder and make sure that it can be trusted.

    Parameters
    ----------
    folder : Path
        Where ``frames.parquet`` lies; the table may have no rows.

    Returns
    -------
    pa.Table
        As ``FRAMES_SCHEMA`` says, without metadata. Metrics that are null there are NaN here;
        each file name comes once and names a file directly in the folder.

    Raises
    ------
    PermanentError
        ``MISSING_SOURCE`` where there is no table, ``CORRUPT`` where it is not a frame table.
    """
    path = folder / FRAMES_FILE
    try:
        table = read_table(path, schema=FRAMES_SCHEMA)
    except FileNotFoundError as error:
        raise missing_error(path, folder) from error
    names = table["file_name"]
    if pc.count_distinct(names).as_py() != len(names):
        raise DamagedFile(path, "it names a file twice")
    for metric in METRICS:
        place = table.schema.get_field_index(metric)
        table = table.set_column(place, metric, pc.fill_null(table[metric], _NAN))
    return table.cast(FRAMES_SCHEMA)
