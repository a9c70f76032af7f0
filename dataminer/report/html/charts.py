"""Charts as SVG inside the page; their colours are the page's, light or dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from dataminer.report.html.markup import render

_WIDTH, _HEIGHT = 320, 132
_LEFT, _RIGHT, _TOP, _FLOOR = 6.0, 314.0, 22.0, 110.0
_BINS = 44
_STRETCH = 0.6  # the axis grows by at most this share of its length to include a threshold
_FEWEST = 5  # bars on an axis of whole numbers
_WIDEST = 30.0
_LEVELS = 6

_Numbers = NDArray[np.number[Any]]


def histogram(
    kept: _Numbers,
    dropped: _Numbers | None = None,
    *,
    label: str,
    limits: Mapping[str, float] | None = None,
    whole: bool = False,
    low: float | None = None,
    high: float | None = None,
) -> Markup:
    """Draw how often each value occurs.

    Parameters
    ----------
    kept, dropped : ndarray, shape (n,)
        Values of what was kept, and of what was not, which is stacked on top.
    label : str
        What the chart shows, for screen readers.
    limits : mapping of str to float, optional
        Thresholds by name.
    whole : bool
        Values are whole numbers: one bar each if there are few.
    low, high : float, optional
        Ends of the axis. By default it spans all values but the outermost half percent.
    """
    parts = [kept] if dropped is None else [kept, dropped]
    values = np.concatenate(parts)
    if not len(values):
        return Markup('<p class="none">nothing to draw</p>')
    axis = _Axis(*_ends(values, limits or {}, low, high, whole))
    return render(
        "histogram",
        label=label,
        width=_WIDTH,
        height=_HEIGHT,
        series=_series(parts, axis, whole),
        axis=f"M{_LEFT:g},{_FLOOR:g}H{_RIGHT:g}",
        ticks=_ticks(axis, whole),
        limits=[_limit(name, value, axis) for name, value in (limits or {}).items()],
    )


@dataclass(frozen=True)
class _Axis:
    lower: float
    upper: float

    def share(self, value: float) -> float:
        """Return where a value lies between the ends, from 0 to 1."""
        return (value - self.lower) / (self.upper - self.lower)

    def x(self, value: float) -> float:
        return _LEFT + self.share(value) * (_RIGHT - _LEFT)


def _ends(
    values: _Numbers,
    limits: Mapping[str, float],
    low: float | None,
    high: float | None,
    whole: bool,
) -> tuple[float, float]:
    if whole:
        first, last = float(values.min()), float(np.percentile(values, 99.5))
        return first - 0.5, float(np.ceil(max(last, first + _FEWEST - 1)) + 0.5)
    first, last = (float(edge) for edge in np.percentile(values, [0.5, 99.5]))
    most_growth = _STRETCH * (last - first)
    for value in limits.values():
        if first - most_growth <= value <= last + most_growth:
            first, last = min(first, value), max(last, value)
    first, last = (first if low is None else low), (last if high is None else high)
    return (first, last) if last > first else (first, first + 1)


def _series(parts: Sequence[_Numbers], axis: _Axis, whole: bool) -> list[dict[str, Any]]:
    bins = min(_BINS, max(1, round(axis.upper - axis.lower))) if whole else _BINS
    edges = np.linspace(axis.lower, axis.upper, bins + 1)
    counts = [np.histogram(np.clip(part, axis.lower, axis.upper), edges)[0] for part in parts]
    tallest = max(int(np.sum(counts, axis=0).max()), 1)
    drawn, below = [], np.zeros(bins)
    for kind, count in zip(("kept", "dropped"), counts, strict=False):
        heights = count * (_FLOOR - _TOP) / tallest
        drawn.append({"kind": kind, "path": _columns(heights, below)})
        below = heights
    return drawn


def _columns(heights: NDArray[np.floating], below: NDArray[np.floating]) -> Markup:
    step = (_RIGHT - _LEFT) / len(heights)
    gap = max(min(1.0, step / 5), step - _WIDEST)
    return Markup(
        "".join(
            f"M{_LEFT + column * step + gap / 2:.1f},{_FLOOR - base:.1f}"
            f"h{step - gap:.1f}v{-height:.1f}h{gap - step:.1f}z"
            for column, (height, base) in enumerate(zip(heights, below, strict=True))
            if height > 0
        )
    )


def _ticks(axis: _Axis, whole: bool) -> list[dict[str, Any]]:
    if whole:
        first, last = round(axis.lower + 0.5), round(axis.upper - 0.5)
        every = max(1, round((last - first) / 5))
        values = [float(value) for value in range(first, last + 1, every)]
    else:
        values = [axis.lower, (axis.lower + axis.upper) / 2, axis.upper]
    return [
        {"text": short(value), "x": x, "y": _FLOOR + 15, "anchor": _anchor(x)}
        for value in values
        for x in [axis.x(value)]
    ]


def _anchor(x: float) -> str:
    """Return which end of a text is at ``x``, so that it stays inside the chart."""
    return "start" if x < _LEFT + 10 else "end" if x > _RIGHT - 10 else "middle"


def _limit(name: str, value: float, axis: _Axis) -> dict[str, Any]:
    share = axis.share(value)
    inside = 0 <= share <= 1
    x = _LEFT + min(max(share, 0.0), 1.0) * (_RIGHT - _LEFT)
    words = f"{name} {short(value)}"
    return {
        "line": f"M{x:.1f},{_TOP - 6:g}V{_FLOOR:g}" if inside else None,
        "text": words if inside else f"← {words}" if share < 0 else f"{words} →",
        "x": x,
        "y": _TOP - 10,
        "anchor": "start" if x < _WIDTH / 3 else "end" if x > _WIDTH * 2 / 3 else "middle",
    }


def funnel(steps: Sequence[tuple[str, int]], label: str) -> Markup:
    """Draw how a number shrinks from step to step; each step is (name, count)."""
    width, height, floor, room = 1000, 264, 214.0, 150.0
    step = width / len(steps)
    column, most = step * 0.42, max((count for _, count in steps), default=0) or 1
    tops = [floor - max(room * count / most, 2.0 if count else 0.0) for _, count in steps]
    drawn = []
    for index, ((name, count), top) in enumerate(zip(steps, tops, strict=True)):
        left = index * step + (step - column) / 2
        before = steps[index - 1][1] if index else 0
        drawn.append(
            {
                "name": name,
                "count": count,
                "share": f"{count / before:.0%} stay" if before else "",
                "left": left,
                "top": top,
                "width": column,
                "height": floor - top,
                "centre": left + column / 2,
                **{"count_y": top - 12, "name_y": floor + 24, "share_y": floor + 44},
                "band": _band(left + column, left + step, top, tops[index + 1], floor)
                if index + 1 < len(steps)
                else None,
            }
        )
    return render("funnel_chart", label=label, width=width, height=height, steps=drawn)


def _band(left: float, right: float, top: float, following: float, floor: float) -> str:
    """Return the area that leads from a step to the following one."""
    middle = (left + right) / 2
    return (
        f"M{left:.1f},{top:.1f}C{middle:.1f},{top:.1f} {middle:.1f},{following:.1f} "
        f"{right:.1f},{following:.1f}V{floor}H{left:.1f}z"
    )


def heat(
    x: NDArray[np.floating], y: NDArray[np.floating], label: str, *, upward: bool = False
) -> Markup:
    """Draw how many pairs of shares (0..1) each cell of a grid has: more are darker.

    ``y`` grows downward, as in a picture, or ``upward``, as in a diagram.
    """
    columns, rows, cell = 32, 18, 10
    grid, _, _ = np.histogram2d(y, x, bins=(rows, columns), range=((0, 1), (0, 1)))
    if upward:
        grid = grid[::-1]
    levels = np.ceil(_LEVELS * np.sqrt(grid / max(grid.max(), 1))).astype(int)
    paths = []
    for level in range(1, _LEVELS + 1):
        cells = zip(*np.nonzero(levels == level), strict=True)
        path = "".join(f"M{c * cell},{r * cell}h{cell}v{cell}h-{cell}z" for r, c in cells)
        if path:
            paths.append((level, Markup(path)))
    size = {"width": columns * cell, "height": rows * cell}
    return render("heat_map", label=label, levels=paths, **size)


def bars(rows: Iterable[tuple[str, float, str, str]], label: str) -> Markup:
    """Draw one bar per row; each row is (name, value, the value in words, kind).

    The kind gives the bar its colour: ``"bad"``, ``"rest"``, a colour in hexadecimal digits, or "".
    """
    listed = list(rows)
    most = max((value for _, value, _, _ in listed), default=0) or 1
    drawn = []
    for name, value, words, kind in listed:
        fill = kind if kind.startswith("#") else None
        width = f"{max(value / most, 0.005):.2%}"
        class_ = "bar" if fill else f"bar {kind}".strip()
        drawn.append({"name": name, "words": words, "width": width, "class": class_, "fill": fill})
    return render("bars", label=label, rows=drawn)


def short(value: float) -> str:
    """Return a value with three significant digits."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
