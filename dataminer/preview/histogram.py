"""How a measure is distributed, with its threshold in it, as SVG."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataminer.preview.measures import Measured

_WIDTH, _HEIGHT = 1120, 200
_TOP, _BOTTOM, _SIDE = 30, 24, 8
_BINS = 80
_TICKS = 6


def histogram(measured: Measured) -> str:
    """Draw a distribution; heights are square roots of counts, so that few frames are seen too.

    Values beyond the outermost thousandth are in the bar at the end.
    """
    values = measured.values[~np.isnan(measured.values)]
    if not len(values):
        return ""
    low, high = _range(values, measured)
    counts, edges = np.histogram(values.clip(low, high), bins=_BINS, range=(low, high))
    limit = measured.tried
    heights = np.sqrt(counts) / np.sqrt(counts.max()) * (_HEIGHT - _TOP - _BOTTOM)
    bars = "".join(
        _bar(i, float(height), _is_kept(measured, float(edges[i] + edges[i + 1]) / 2, limit))
        for i, height in enumerate(heights)
        if height
    )
    lines = _line("now", measured.limit, low, high)
    if measured.limit != measured.tried:
        lines += _line("try", measured.tried, low, high)
    base = _HEIGHT - _BOTTOM
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="distribution">{bars}'
        f'<line class="axis" x1="{_SIDE}" x2="{_WIDTH - _SIDE}" y1="{base}" y2="{base}"/>'
        f"{_axis(low, high)}{lines}</svg>"
    )


def _range(values: NDArray[np.float32], measured: Measured) -> tuple[float, float]:
    """Return from where to where to draw: all but outliers, and both thresholds."""
    ends = [float(end) for end in np.quantile(values, (0.001, 0.999))]
    ends += [limit for limit in (measured.limit, measured.tried) if limit is not None]
    low, high = min(ends), max(ends)
    room = (high - low) * 0.04 or max(abs(high) * 0.1, 0.01)
    return (max(low - room, 0.0) if low >= 0 else low - room), high + room


def _is_kept(measured: Measured, value: float, limit: float | None) -> bool:
    if limit is None:
        return True
    return value >= limit if measured.threshold.least else value <= limit


def _bar(place: int, height: float, kept: bool) -> str:
    width = (_WIDTH - 2 * _SIDE) / _BINS
    height = max(height, 1.5)
    return (
        f'<rect class="{"keep" if kept else "drop"}" x="{_SIDE + place * width + 0.5:.1f}"'
        f' y="{_HEIGHT - _BOTTOM - height:.1f}" width="{width - 1:.1f}" height="{height:.1f}"/>'
    )


def _x(value: float, low: float, high: float) -> float:
    return _SIDE + (value - low) / (high - low) * (_WIDTH - 2 * _SIDE)


def _line(kind: str, limit: float | None, low: float, high: float) -> str:
    if limit is None:
        return ""
    x = _x(limit, low, high)
    anchor = "start" if x < _WIDTH / 2 else "end"
    side = 5 if anchor == "start" else -5
    y = 12 if kind == "now" else 26
    label = f"{'configured' if kind == 'now' else 'tried'}: {limit:.4g}"
    return (
        f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text class="{kind}" x="{x + side:.1f}" y="{y}" text-anchor="{anchor}">{label}</text>'
    )


def _axis(low: float, high: float) -> str:
    rough = (high - low) / _TICKS
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    ticks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    return "".join(
        f'<text x="{_x(float(tick), low, high):.1f}" y="{_HEIGHT - 7}" text-anchor="middle">'
        f"{round(float(tick), 10) + 0.0:g}</text>"
        for tick in ticks
        if _SIDE + 12 < _x(float(tick), low, high) < _WIDTH - _SIDE - 12 or tick == 0
    )
