"""The scores that a model gives the frames of a video, and the thresholds that each passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataminer.errors import DamagedFile
from dataminer.frames.table import read_table

SCORES_FILE = "scores.parquet"


@dataclass(frozen=True)
class FrameScores:
    """Scores of the n frames of a video that a model could read.

    Attributes
    ----------
    frame_index : ndarray of int32, shape (n,)
        The frames; one that is left out could not be read.
    scores : dict of str to ndarray of float32, shape (n,)
        By column name; NaN if a score is undefined.
    passes : dict of str to ndarray of bool, shape (n,)
        By :attr:`.thresholds.Threshold.rejects`, in the order of the filter.
    fingerprint : str
        Changes with anything that the scores were made from.
    """

    frame_index: NDArray[np.int32]
    scores: dict[str, NDArray[np.float32]]
    passes: dict[str, NDArray[np.bool_]]
    fingerprint: str

    def aligned_to(self, frame_index: NDArray[np.int32]) -> FrameScores:
        """Return the scores of these frames; one without scores has NaN and passes nothing."""
        order = np.argsort(self.frame_index, kind="stable")
        scored = self.frame_index[order]
        nearest = np.searchsorted(scored, frame_index).clip(max=max(len(scored) - 1, 0))
        has_scores = np.zeros(len(frame_index), np.bool_)
        if len(scored):
            has_scores = scored[nearest] == frame_index
        rows = order[nearest[has_scores]]
        scores, passes = {}, {}
        for name, values in self.scores.items():
            scores[name] = np.full(len(frame_index), np.nan, np.float32)
            scores[name][has_scores] = values[rows]
        for name, good in self.passes.items():
            passes[name] = np.zeros(len(frame_index), np.bool_)
            passes[name][has_scores] = good[rows]
        return FrameScores(frame_index, scores, passes, self.fingerprint)


def scores_schema(scores: Sequence[FrameScores]) -> pa.Schema:
    """Return the columns of ``scores.parquet`` for these scores."""
    return pa.schema(
        [
            pa.field("frame_index", pa.int32(), nullable=False),
            *(pa.field(name, pa.float32()) for each in scores for name in each.scores),
            # the first threshold that the frame failed; null if it passed
            pa.field("rejected", pa.dictionary(pa.int32(), pa.string())),
        ]
    )


def read_scores(path: Path) -> pa.Table:
    """Read ``scores.parquet``: ``frame_index``, ``rejected``, and columns of scores.

    Raises
    ------
    DamagedFile
        The file is not such a table.
    """
    table = read_table(path)
    index = table["frame_index"] if "frame_index" in table.column_names else None
    if index is None or index.type != pa.int32() or index.null_count:
        raise DamagedFile(path, "it does not say which frames its scores are of")
    return table
