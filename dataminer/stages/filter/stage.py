"""Keep the frames of a video that are good enough, judged by the metrics that extract stored."""

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
from dataminer.frames.arrays import make_array, numbers
from dataminer.frames.images import FrameReader
from dataminer.frames.result_files import missing_error
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, STILL, read_table, write_table
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.filter.scores import SCORES_FILE, FrameScores, scores_schema
from dataminer.stages.filter.thresholds import (
    METRIC_COLUMNS,
    QUALITY_NAMES,
    QUALITY_THRESHOLDS,
    REPEATS,
)

_NAN = make_array([math.nan], pa.float32())[0]


@dataclass(frozen=True)
class FilterResult:
    """The outcome for the frames of one video.

    Attributes
    ----------
    passed : int
        Frames that passed every threshold.
    rejected : dict of str to int
        The other frames, by the first threshold that each failed, in the order of ``FilterConfig``.
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

    No image is opened. Images in an archive stay there, and the new table names the archive.

    Parameters
    ----------
    frames_dir : Path
        A folder of frames with its ``frames.parquet``; the table may have no rows.
    out : Path
        An existing empty folder, which the caller publishes.
    settings : FilterConfig
        The thresholds; a frame that was not measured (NaN or null) fails all of that metric.
    meta : dict, optional
        More metadata for the table: anything that JSON can hold.
    scores : sequence of FrameScores
        Of models; ``scores.parquet`` lists them. Their thresholds apply after those of the metrics.

    Raises
    ------
    PermanentError
        ``CORRUPT`` or ``MISSING_SOURCE``: the table, the archive or an image.
    """
    table = load_frames(frames_dir)
    scores = [each.aligned_to(numbers(table["frame_index"])) for each in scores]
    rejections = _rejections(table, settings, scores)
    passed = table.take(rejections.passing()).sort_by("frame_index")
    archive = _link_images(passed, frames_dir, out)
    _write_scores(out / SCORES_FILE, scores, rejections)
    result = FilterResult(passed.num_rows, rejections.counts())
    summary = {**(meta or {}), **archive, **_summary(table, settings, result)}
    write_table(out / FRAMES_FILE, passed, FRAMES_SCHEMA, summary)
    return result


@dataclass(frozen=True)
class _Rejections:
    """The first threshold that each frame failed.

    Attributes
    ----------
    reasons : tuple of str
        Of the thresholds that apply, in their order.
    first_failed : ndarray of int8, shape (n,)
        An index into ``reasons``; -1 if the frame passes.
    """

    reasons: tuple[str, ...]
    first_failed: NDArray[np.int8]

    def passing(self) -> pa.Array:
        """Return the rows of the frames that pass."""
        return make_array(np.flatnonzero(self.first_failed < 0), pa.int64())

    def counts(self) -> dict[str, int]:
        """Return the number of frames by reason, zeros included."""
        return {
            reason: int((self.first_failed == number).sum())
            for number, reason in enumerate(self.reasons)
        }


def _rejections(
    table: pa.Table, settings: FilterConfig, scores: Sequence[FrameScores]
) -> _Rejections:
    """Apply the thresholds of the metrics, then those of the models."""
    failed = first_failed(table, settings)
    by_models = {reason: good for each in scores for reason, good in each.passes.items()}
    for number, good in enumerate(by_models.values(), start=len(QUALITY_THRESHOLDS)):
        failed[(failed < 0) & ~good] = number
    return _Rejections((*QUALITY_NAMES, *by_models), failed)


def _link_images(passed: pa.Table, frames_dir: Path, out: Path) -> dict[str, Any]:
    """Link images that are files; return the metadata that leads to those in an archive."""
    reader = FrameReader(frames_dir)
    if reader.kind == "files":
        for name in passed["file_name"].to_pylist():
            reader.link(name, out / name)
    return reader.archive_pointer(out)


def _summary(table: pa.Table, settings: FilterConfig, result: FilterResult) -> dict[str, Any]:
    return {
        "stage": "filter",
        "version": VERSIONS["filter"],
        "settings": settings.result_settings(),
        "frames": table.num_rows,
        "passed": result.passed,
        "rejected": result.rejected,
        "unmeasured": {
            metric: int(np.isnan(numbers(table[metric])).sum()) for metric in METRIC_COLUMNS
        },
    }


def _write_scores(path: Path, scores: Sequence[FrameScores], rejections: _Rejections) -> None:
    if not scores:
        return
    frame_index = scores[0].frame_index
    order = np.argsort(frame_index, kind="stable")
    columns: dict[str, Any] = {"frame_index": pa.array(frame_index[order], pa.int32())}
    for each in scores:
        for name, values in each.scores.items():
            columns[name] = pa.array(values[order], pa.float32(), from_pandas=True)  # NaN: null
    rejected = [
        None if number < 0 else rejections.reasons[number]
        for number in rejections.first_failed[order]
    ]
    columns["rejected"] = pa.array(rejected, pa.string()).dictionary_encode()
    schema = scores_schema(scores)
    write_table(path, pa.table(columns), schema, {"stage": "filter", "version": VERSIONS["filter"]})


def first_failed(table: pa.Table, settings: FilterConfig) -> NDArray[np.int8]:
    """Return for each frame the first threshold of the frame table that it failed.

    Parameters
    ----------
    table : pa.Table
        A frame table of n rows, of one video.
    settings : FilterConfig
        The thresholds.

    Returns
    -------
    ndarray of int8, shape (n,)
        An index into ``QUALITY_THRESHOLDS``; -1 if the frame passes them all.
    """
    failed = np.full(table.num_rows, -1, np.int8)
    for number, threshold in enumerate(QUALITY_THRESHOLDS):
        limit = threshold.limit(settings)
        if limit is None:
            continue
        values = threshold.values(table)
        good = ~threshold.fails(values, limit)
        if threshold.name == REPEATS:
            good |= ~_repeats_good_frame(table, failed < 0)
            good &= ~np.isnan(values)
        failed[(failed < 0) & ~good] = number
    return failed


def _repeats_good_frame(table: pa.Table, passes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which frames follow one that passes, in a run of frames that show the same.

    So a still picture is kept once, even if its first frame is too bad to be kept.
    """
    order = np.argsort(numbers(table["frame_index"]), kind="stable")
    run = np.cumsum(numbers(table["change"])[order] >= np.float32(STILL))
    good = passes[order]
    earlier: NDArray[np.int64] = np.cumsum(good) - good  # frames that pass, before each
    first = np.searchsorted(run, run)  # the start of each one's run
    repeats = np.empty(len(order), np.bool_)
    repeats[order] = earlier > earlier[first]
    return repeats


def load_frames(folder: Path) -> pa.Table:
    """Read the frame table of a folder and check that it can be trusted.

    Parameters
    ----------
    folder : Path
        The folder of ``frames.parquet``; the table may have no rows.

    Returns
    -------
    pa.Table
        With the columns of ``FRAMES_SCHEMA`` and no metadata. Metrics that are null in the file are
        NaN; each file name occurs once and names a file directly in the folder.

    Raises
    ------
    PermanentError
        ``MISSING_SOURCE`` if there is no table, ``CORRUPT`` if it is not a frame table.
    """
    path = folder / FRAMES_FILE
    try:
        table = read_table(path, schema=FRAMES_SCHEMA)
    except FileNotFoundError as error:
        raise missing_error(path, folder) from error
    names = table["file_name"]
    if pc.count_distinct(names).as_py() != len(names):
        raise DamagedFile(path, "it names a file twice")
    for metric in METRIC_COLUMNS:
        column = table.schema.get_field_index(metric)
        table = table.set_column(column, metric, pc.fill_null(table[metric], _NAN))
    return table.cast(FRAMES_SCHEMA)
