"""The thresholds of ``filter``: the column and the limit of each, and which values pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataminer.config.models import FilterConfig
from dataminer.config.section import Section
from dataminer.frames.arrays import numbers, truths

Values = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Threshold:
    """One threshold of the filter.

    Attributes
    ----------
    name : str
        Its key in the configuration, below ``filter``.
    rejects : str
        The reason that `filter` writes for frames that fail it.
    column : str
        The column that it limits, in the frame table or in ``scores.parquet``.
    least : bool
        Whether it is a minimum; otherwise it is a maximum.
    strict : bool
        Whether a value equal to the threshold fails.
    needs : str
        A setting of the same section; if it is empty, the filter skips the threshold.
    is_flag : bool
        Whether the column has truth values, and the setting is ``drop`` or ``keep``. A frame of
        which nobody knows is good.
    """

    name: str
    rejects: str
    column: str
    least: bool
    strict: bool = False
    needs: str = ""
    is_flag: bool = False

    def limit(self, settings: FilterConfig) -> float | None:
        """Return its value, 0 for ``drop``; None if it or its section is off."""
        value: Any = settings
        for part in self.name.split("."):
            if not getattr(value, "on", True):
                return None
            value = getattr(value, part)
        if self.is_flag:
            return 0.0 if value == "drop" else None
        return None if value is None else float(value)

    def setting(self, limit: float | None) -> str:
        """Return a value of :meth:`limit` as the configuration has it, in four digits."""
        if self.is_flag:
            return "keep" if limit is None else "drop"
        return "off" if limit is None else f"{limit:.4g}"

    def values(self, table: pa.Table) -> Values:
        """Return its column of a frame table; truth values as 0 and 1."""
        column = table[self.column]
        read = truths if self.is_flag else numbers
        return read(column).astype(np.float32, copy=False)

    def fails(self, values: Values, limit: float) -> Flags:
        """Return which values fail; a value that was not measured (NaN) always does."""
        bound = np.float32(limit)  # float32 like the column, so that equal values stay equal
        good: Flags
        if self.least:
            good = values > bound if self.strict else values >= bound
        else:
            good = values < bound if self.strict else values <= bound
        return ~good


def _threshold(name: str, column: str, needs: str = "") -> Threshold:
    return Threshold(name, name, column, name.rpartition(".")[2].startswith("min_"), needs=needs)


# each in the order of the filter: the first threshold that a frame fails is the reason
_METRIC_THRESHOLDS = tuple(
    _threshold(name, name.partition("_")[2])
    for name in FilterConfig.model_fields
    if name.startswith(("min_", "max_"))
)
QUALITY_THRESHOLDS = (
    # a smeared frame may well be sharp, so that this reason comes before those of the metrics
    Threshold("damaged", "damaged", "damaged", least=False, is_flag=True),
    *_METRIC_THRESHOLDS,
)
SEMANTIC_THRESHOLDS = (
    _threshold("semantic.min_score", "score"),
    _threshold("semantic.min_cosine", "positive_cosine"),
    _threshold("semantic.min_margin", "margin", needs="prompts.negative"),
    _threshold("semantic.max_junk", "junk", needs="prompts.junk"),
)
_CONFIDENCE = "content.confidence"
CONTENT_THRESHOLDS = (
    Threshold(_CONFIDENCE, "content.require", "required", least=True, needs="require"),
    Threshold(
        _CONFIDENCE, "content.exclude", "excluded", least=False, strict=True, needs="exclude"
    ),
)
TEXT_THRESHOLDS = (_threshold("text.max_area", "text_area"),)
MODEL_THRESHOLDS = (*SEMANTIC_THRESHOLDS, *CONTENT_THRESHOLDS, *TEXT_THRESHOLDS)
QUALITY_NAMES = tuple(each.name for each in QUALITY_THRESHOLDS)
METRIC_COLUMNS = tuple(dict.fromkeys(each.column for each in _METRIC_THRESHOLDS))
REPEATS = "min_change"
"""The last quality threshold: in a run of frames that show the same, the first good one passes."""


def passes_by_reason(
    thresholds: Iterable[Threshold], section: Section, scores: Mapping[str, Values]
) -> dict[str, Flags]:
    """Return which frames pass each threshold that is on, by the reason for a rejection.

    Parameters
    ----------
    thresholds : iterable of Threshold
        Of one section.
    section : Section
        Its settings.
    scores : mapping of str to ndarray of float32, shape (n,)
        By column name.
    """
    passes = {}
    for each in thresholds:
        limit = getattr(section, each.name.rpartition(".")[2])
        if limit is not None and (not each.needs or attrgetter(each.needs)(section)):
            passes[each.rejects] = ~each.fails(scores[each.column], limit)
    return passes
