"""Charts as SVG within the page: their colours are the page's, light or dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dataminer.report.html.markup import Html, join, tag

_WIDTH, _HEIGHT = 320.0, 132.0
_LEFT, _RIGHT, _TOP, _FLOOR = 6.0, 314.0, 22.0, 110.0
_BINS = 44
_STRETCH = 0.6  # a threshold is drawn where the axis need not grow by more than this for it
_FEWEST = 5  # bars on an axis of whole numbers
_WIDEST = 30.0
_LEVELS = 6


def histogram(
    kept: NDArray[np.floating] | NDArray[np.integer],
    dropped: NDArray[np.floating] | NDArray[np.integer] | None = None,
    *,
    label: str,
    limits: Mapping[str, float] | None = None,
    whole: bool = False,
    low: float | None = None,
    high: float | None = None,
) -> Html:
    """Draw how often which values come.

    Parameters
    ----------
    kept, dropped : ndarray, shape (n,)
        Values of what was kept, and of what was not, which is stacked on top.
    label : str
        What the chart shows, for those who do not see it.
    limits : mapping of str to float, optional
        Thresholds, by what to call them.
    whole : bool
        Values are whole numbers: one bar each, where there are few.
    low, high : float, optional
        Ends of the axis; unless given, where the values lie but for the last half percent.
    """
    parts = [kept] if dropped is None else [kept, dropped]
    everything = np.concatenate(parts)
    if not len(everything):
        return tag("p", "nothing to draw", class_="none")
    lower, upper = _ends(everything, limits or {}, low, high, whole)
    bins = min(_BINS, max(1, round(upper - lower))) if whole else _BINS
    edges = np.linspace(lower, upper, bins + 1)
    counts = [np.histogram(np.clip(part, lower, upper), edges)[0] for part in parts]
    tallest = max(int(np.sum(counts, axis=0).max()), 1)
    heights = [count * (_FLOOR - _TOP) / tallest for count in counts]
    drawn = [_columns(heights[0], np.zeros(bins), "kept")]
    if dropped is not None:
        drawn.append(_columns(heights[1], heights[0], "dropped"))
    return _svg(
        label,
        _WIDTH,
        _HEIGHT,
        *drawn,
        tag("path", d=f"M{_LEFT:g},{_FLOOR:g}H{_RIGHT:g}", class_="axis"),
        *_ticks(lower, upper, whole),
        *(_limit(name, value, lower, upper) for name, value in (limits or {}).items()),
    )


def _ends(
    values: NDArray[np.floating] | NDArray[np.integer],
    limits: Mapping[str, float],
    low: float | None,
    high: float | None,
    whole: bool,
) -> tuple[float, float]:
    if whole:
        first, last = float(values.min()), float(np.percentile(values, 99.5))
        return first - 0.5, float(np.ceil(max(last, first + _FEWEST - 1)) + 0.5)
    first, last = (float(edge) for edge in np.percentile(values, [0.5, 99.5]))
    reach = _STRETCH * (last - first)
    for value in limits.values():
        if first - reach <= value <= last + reach:
            first, last = min(first, value), max(last, value)
    first, last = (first if low is None else low), (last if high is None else high)
    return (first, last) if last > first else (first, first + 1)


def _columns(heights: NDArray[np.floating], below: NDArray[np.floating], kind: str) -> Html:
    step = (_RIGHT - _LEFT) / len(heights)
    gap = max(min(1.0, step / 5), step - _WIDEST)
    path = "".join(
        f"M{_LEFT + place * step + gap / 2:.1f},{_FLOOR - base:.1f}"
        f"h{step - gap:.1f}v{-height:.1f}h{gap - step:.1f}z"
        for place, (height, base) in enumerate(zip(heights, below, strict=True))
        if height > 0
    )
    return tag("path", d=path, class_=kind)


def _ticks(lower: float, upper: float, whole: bool) -> list[Html]:
    if whole:
        first, last = round(lower + 0.5), round(upper - 0.5)
        every = max(1, round((last - first) / 5))
        values = [float(value) for value in range(first, last + 1, every)]
    else:
        values = [lower, (lower + upper) / 2, upper]
    return [
        tag("text", short(value), x=x, y=_FLOOR + 15, text_anchor=_anchor(x))
        for value in values
        for x in [_LEFT + (value - lower) / (upper - lower) * (_RIGHT - _LEFT)]
    ]


def _anchor(x: float) -> str:
    """Where a text is held, so that it does not lead out of the chart."""
    return "start" if x < _LEFT + 10 else "end" if x > _RIGHT - 10 else "middle"


def _limit(name: str, value: float, lower: float, upper: float) -> Html:
    share = (value - lower) / (upper - lower)
    inside = 0 <= share <= 1
    x = _LEFT + min(max(share, 0.0), 1.0) * (_RIGHT - _LEFT)
    arrow = "" if inside else ("← " if share < 0 else " →")
    told = f"{arrow}{name} {short(value)}" if share < 0 else f"{name} {short(value)}{arrow}"
    anchor = "start" if x < _WIDTH / 3 else "end" if x > _WIDTH * 2 / 3 else "middle"
    line = tag("path", d=f"M{x:.1f},{_TOP - 6:g}V{_FLOOR:g}", class_="limit") if inside else None
    return join([line, tag("text", told, x=x, y=_TOP - 10, text_anchor=anchor, class_="limit")])


def funnel(steps: Sequence[tuple[str, int]], label: str) -> Html:
    """Draw how a number becomes smaller from step to step; each step is (name, how many)."""
    width, floor, room = 1000.0, 214.0, 150.0
    step = width / len(steps)
    column, most = step * 0.42, max((count for _, count in steps), default=0) or 1
    tops = [floor - max(room * count / most, 2.0 if count else 0.0) for _, count in steps]
    parts: list[Html] = []
    for place, ((name, count), top) in enumerate(zip(steps, tops, strict=True)):
        left = place * step + (step - column) / 2
        if place + 1 < len(steps):
            right, middle = left + column, left + column + (step - column) / 2
            following = tops[place + 1]
            band = (
                f"M{right:.1f},{top:.1f}C{middle:.1f},{top:.1f} {middle:.1f},{following:.1f} "
                f"{left + step:.1f},{following:.1f}V{floor}H{right:.1f}z"
            )
            parts.append(tag("path", d=band, class_="band"))
        height = floor - top
        parts.append(
            tag("rect", x=left, y=top, width=column, height=height, rx=3, class_=f"step s{place}")
        )
        centre = left + column / 2
        parts.append(_label(f"{count:,}", centre, top - 12, "big"))
        parts.append(_label(name, centre, floor + 24, "name"))
        if place:
            before = steps[place - 1][1]
            share = f"{count / before:.0%} of these" if before else ""
            parts.append(_label(share.replace("of these", "stay"), centre, floor + 44, "share"))
    return _svg(label, width, 264.0, *parts, class_="funnel")


def _label(told: str, x: float, y: float, kind: str) -> Html:
    return tag("text", told, x=x, y=y, text_anchor="middle", class_=kind)


def heat(
    x: NDArray[np.floating], y: NDArray[np.floating], label: str, *, upward: bool = False
) -> Html:
    """Draw where pairs of shares (0..1) lie, as a grid that is darker where there are more.

    ``y`` grows downward, as in a picture, or ``upward``, as in a diagram.
    """
    columns, rows = 32, 18
    grid, _, _ = np.histogram2d(y, x, bins=(rows, columns), range=((0, 1), (0, 1)))
    if upward:
        grid = grid[::-1]
    levels = np.ceil(_LEVELS * np.sqrt(grid / max(grid.max(), 1))).astype(int)
    cell = 10
    paths = []
    for level in range(1, _LEVELS + 1):
        cells = zip(*np.nonzero(levels == level), strict=True)
        path = "".join(f"M{c * cell},{r * cell}h{cell}v{cell}h-{cell}z" for r, c in cells)
        if path:
            paths.append(tag("path", d=path, class_=f"heat h{level}"))
    width, height = columns * cell, rows * cell
    frame = tag("rect", x=0, y=0, width=width, height=height, class_="mat")
    return _svg(label, float(width), float(height), frame, *paths)


def bars(rows: Iterable[tuple[str, float, str, str]], label: str) -> Html:
    """Draw a bar a row; each is (name, value, the value in words, kind).

    The kind gives the bar its colour: ``"bad"``, ``"rest"``, a colour in hexadecimal digits, or "".
    """
    listed = list(rows)
    most = max((value for _, value, _, _ in listed), default=0) or 1
    return tag(
        "dl",
        *(
            tag(
                "div",
                tag("dt", name),
                tag(
                    "dd",
                    _bar(max(value / most, 0.005), kind),
                    tag("b", told),
                ),
            )
            for name, value, told, kind in listed
        ),
        class_="bars",
        aria_label=label,
    )


def _bar(share: float, kind: str) -> Html:
    colour = kind if kind.startswith("#") else None
    full = tag("rect", width="100%", height="100%", rx=3, fill=colour)
    class_ = "bar" if colour else f"bar {kind}".strip()
    return tag("svg", full, width=f"{share:.2%}", class_=class_, aria_hidden="true")


def short(value: float) -> str:
    """Return a value with three digits that count."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _svg(label: str, width: float, height: float, *parts: Html, class_: str = "chart") -> Html:
    return tag(
        "svg",
        tag("title", label),
        *parts,
        viewbox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
        class_=class_,
    )
