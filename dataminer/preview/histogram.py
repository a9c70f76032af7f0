"""The distribution of a measure, with its threshold in it, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from dataminer.preview.measures import Measured
from dataminer.report.html.markup import render

_WIDTH, _HEIGHT = 1120, 200
_TOP, _BOTTOM, _SIDE = 30, 24, 8
_BINS = 80
_TICKS = 6


def histogram(measured: Measured) -> Markup:
    """Draw a distribution; heights are square roots of counts, so that few frames are visible too.

    Values beyond the outermost thousandth are in the bar at the end.
    """
    values = measured.values[~np.isnan(measured.values)]
    if not len(values):
        return Markup()
    low, high = _range(values, measured)
    lines = [_line("now", measured.limit, low, high)]
    if measured.limit != measured.tried:
        lines.append(_line("try", measured.tried, low, high))
    return render(
        "histogram",
        Path(__file__).with_name("templates"),
        width=_WIDTH,
        height=_HEIGHT,
        left=_SIDE,
        right=_WIDTH - _SIDE,
        base=_HEIGHT - _BOTTOM,
        bars=_bars(measured, values.clip(low, high), low, high),
        ticks=_ticks(low, high),
        lines=[line for line in lines if line],
    )


def _range(values: NDArray[np.float32], measured: Measured) -> tuple[float, float]:
    """Return the ends of the axis: they enclose all but outliers, and both thresholds."""
    ends = [float(end) for end in np.quantile(values, (0.001, 0.999))]
    ends += [limit for limit in (measured.limit, measured.tried) if limit is not None]
    low, high = min(ends), max(ends)
    room = (high - low) * 0.04 or max(abs(high) * 0.1, 0.01)
    return (max(low - room, 0.0) if low >= 0 else low - room), high + room


def _bars(
    measured: Measured, values: NDArray[np.float32], low: float, high: float
) -> list[dict[str, str]]:
    counts, edges = np.histogram(values, bins=_BINS, range=(low, high))
    heights = np.sqrt(counts) / np.sqrt(counts.max()) * (_HEIGHT - _TOP - _BOTTOM)
    width = (_WIDTH - 2 * _SIDE) / _BINS
    bars = []
    for column in np.flatnonzero(heights):
        height = max(float(heights[column]), 1.5)
        kept = _is_kept(measured, float(edges[column] + edges[column + 1]) / 2)
        bars.append(
            {
                "class": "keep" if kept else "drop",
                "x": f"{_SIDE + column * width + 0.5:.1f}",
                "y": f"{_HEIGHT - _BOTTOM - height:.1f}",
                "width": f"{width - 1:.1f}",
                "height": f"{height:.1f}",
            }
        )
    return bars


def _is_kept(measured: Measured, value: float) -> bool:
    limit = measured.tried
    if limit is None:
        return True
    return value >= limit if measured.threshold.least else value <= limit


def _x(value: float, low: float, high: float) -> float:
    return _SIDE + (value - low) / (high - low) * (_WIDTH - 2 * _SIDE)


def _line(kind: str, limit: float | None, low: float, high: float) -> dict[str, Any] | None:
    if limit is None:
        return None
    x = _x(limit, low, high)
    anchor = "start" if x < _WIDTH / 2 else "end"
    return {
        "class": kind,
        "x": f"{x:.1f}",
        "text": f"{'configured' if kind == 'now' else 'tried'}: {limit:.4g}",
        "text_x": f"{x + (5 if anchor == 'start' else -5):.1f}",
        "text_y": 12 if kind == "now" else 26,
        "anchor": anchor,
    }


def _ticks(low: float, high: float) -> list[dict[str, str]]:
    rough = (high - low) / _TICKS
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    ticks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    return [
        {"x": f"{_x(tick, low, high):.1f}", "text": f"{round(tick, 10) + 0.0:g}"}
        for tick in map(float, ticks)
        if _SIDE + 12 < _x(tick, low, high) < _WIDTH - _SIDE - 12 or tick == 0
    ]
