"""What a model's look at a video's frames says of each: scores, and which settings it passes."""

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
    """Scores of the n frames of a video that a model could see.

    Attributes
    ----------
    frame_index : ndarray of int32, shape (n,)
        Which frames; one that is left out could not be read.
    scores : dict of str to ndarray of float32, shape (n,)
        By column name; NaN where a score means nothing.
    passes : dict of str to ndarray of bool, shape (n,)
        By the name of the setting, in the order in which they are held against a frame.
    mark : str
        What changes when anything that the scores were made from does.
    """

    frame_index: NDArray[np.int32]
    scores: dict[str, NDArray[np.float32]]
    passes: dict[str, NDArray[np.bool_]]
    mark: str

    def of(self, frame_index: NDArray[np.int32]) -> FrameScores:
        """Return the look at these frames; one that was not seen has NaN and passes nothing."""
        order = np.argsort(self.frame_index, kind="stable")
        known = self.frame_index[order]
        place = np.searchsorted(known, frame_index).clip(max=max(len(known) - 1, 0))
        seen = known[place] == frame_index if len(known) else np.zeros(len(frame_index), np.bool_)
        rows = order[place[seen]]
        scores, passes = {}, {}
        for name, values in self.scores.items():
            scores[name] = np.full(len(frame_index), np.nan, np.float32)
            scores[name][seen] = values[rows]
        for name, good in self.passes.items():
            passes[name] = np.zeros(len(frame_index), np.bool_)
            passes[name][seen] = good[rows]
        return FrameScores(frame_index, scores, passes, self.mark)


def scores_schema(scores: Sequence[FrameScores]) -> pa.Schema:
    """Return the columns of ``scores.parquet`` for these scores."""
    return pa.schema(
        [
            pa.field("frame_index", pa.int32(), nullable=False),
            *(pa.field(name, pa.float32()) for look in scores for name in look.scores),
            # the setting that the frame failed first, of quality or of a look; null where it passed
            pa.field("rejected", pa.dictionary(pa.int32(), pa.string())),
        ]
    )


def read_scores(path: Path) -> pa.Table:
    """Read ``scores.parquet``: ``frame_index``, ``rejected``, and columns of scores.

    Raises
    ------
    DamagedFile
        It is something else.
    """
    table = read_table(path)
    index = table["frame_index"] if "frame_index" in table.column_names else None
    if index is None or index.type != pa.int32() or index.null_count:
        raise DamagedFile(path, "it does not say which frames its scores are of")
    return table
