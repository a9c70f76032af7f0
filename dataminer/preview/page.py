"""The preview as one HTML page that needs nothing else: no script, no other host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from dataminer import commands
from dataminer.config.models import FilterConfig
from dataminer.config.section import set_descriptions
from dataminer.files.publishing import atomic_write
from dataminer.preview.histogram import histogram
from dataminer.preview.measures import Measured, Preview
from dataminer.preview.strips import Cutter, StripFrame
from dataminer.report.html.markup import render
from dataminer.report.html.style import policy, read_asset
from dataminer.stages.filter.thresholds import REPEATS, Flags
from dataminer.text import cut

_TEMPLATES = Path(__file__).with_name("templates")
_CSS = read_asset(Path(__file__).with_name("preview.css"))
_LONGEST = 200  # characters of a title


def write_page(path: Path, preview: Preview) -> None:
    """Write the page, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(_page(preview), encoding="utf-8")


def _page(preview: Preview) -> Markup:
    fails = preview.matrix(tried=True)
    first = np.where(fails.any(axis=0), fails.argmax(axis=0), -1)
    fail_first = [int((first == number).sum()) for number in range(len(fails))]
    passing = preview.frames - sum(fail_first)
    css = _CSS + _widths([passing, *fail_first], preview.frames)
    videos = f"{len(preview.videos):,}"
    if len(preview.videos) < preview.all_videos:
        videos += f" of the {preview.all_videos:,}"
    changed = any(each.limit != each.tried for each in preview.measured)
    return render(
        "page",
        _TEMPLATES,
        project=preview.project,
        policy=Markup(policy(css, js="")),
        css=Markup(css),
        frames=preview.frames,
        videos=videos,
        configured=_passing(preview.matrix(tried=False)),
        tried=_passing(fails) if changed else None,
        unread=preview.unread,
        bar=_bar(preview, passing, fail_first),
        bar_share=_percent(passing, preview.frames) if passing < preview.frames else "",
        command=commands.snakemake([preview.project]),
        thresholds=_thresholds(preview, fails, fail_first),
    )


def _passing(fails: Flags) -> dict[str, Any]:
    """Return how many frames pass all thresholds, and their share."""
    count = int((~fails.any(axis=0)).sum())
    return {"count": count, "share": _percent(count, fails.shape[1])}


def _bar(preview: Preview, passing: int, fail_first: list[int]) -> list[dict[str, Any]]:
    """Return one bar of all frames: those that pass, then those that fail each threshold first."""
    names = [each.threshold.rejects for each in preview.measured]
    parts = zip(["pass", *names], [passing, *fail_first], strict=True)
    return [
        {
            "class": f"part{number}" if number else "part0 kept",
            "title": f"{name}: {count:,}",
            "wide": count > 0.12 * preview.frames,
        }
        for number, (name, count) in enumerate(parts)
        if count
    ]


def _widths(parts: list[int], frames: int) -> str:
    """Return the widths of the bar's parts as rules: the policy forbids style attributes."""
    return "".join(
        f".part{number} {{ width: {100 * count / frames:.3f}%; }}\n"
        for number, count in enumerate(parts)
        if count
    )


def _thresholds(preview: Preview, fails: Flags, fail_first: list[int]) -> list[dict[str, Any]]:
    cutter = Cutter(preview)
    alone = fails & (fails.sum(axis=0) == 1)
    return [
        _threshold(measured, first, int(only.sum()), cutter)
        for measured, first, only in zip(preview.measured, fail_first, alone, strict=True)
    ]


def _threshold(measured: Measured, first: int, only: int, cutter: Cutter) -> dict[str, Any]:
    changed, strips = measured.limit != measured.tried, cutter.strips(measured)
    threshold = measured.threshold
    return {
        "name": threshold.rejects,
        "description": _description(threshold.name),
        "is_flag": threshold.is_flag,
        "limit": threshold.setting(measured.limit),
        "tried": threshold.setting(measured.tried) if changed else "",
        "counts": [int(measured.tried_fails.sum()), first, only],
        "fails": _limit(measured, measured.limit, measured.fails),
        "tried_fails": _limit(measured, measured.tried, measured.tried_fails),
        "only": only,
        "last": threshold.name == REPEATS,
        "unmeasured": int(np.isnan(measured.values).sum()),
        "histogram": Markup() if threshold.is_flag else histogram(measured),
        "kept": [_figure(frame) for frame in strips.kept],
        "rejected": [_figure(frame) for frame in strips.rejected],
    }


def _limit(measured: Measured, limit: float | None, fails: Flags) -> str:
    threshold = measured.threshold
    setting = threshold.setting(limit)
    if limit is None:
        return setting
    count = int(np.sum(fails))
    sign = "" if threshold.is_flag else "at least " if threshold.least else "at most "
    return f"{sign}{setting}: {count:,} fail ({_percent(count, len(fails))})"


def _figure(frame: StripFrame) -> dict[str, Any]:
    minutes, seconds = divmod(frame.seconds, 60)
    return {
        "picture": frame.picture,
        "value": f"{frame.value:.4g}",
        "time": f"{int(minutes)}:{seconds:04.1f}",
        "name": cut(frame.title or frame.video_id, _LONGEST),
    }


def _description(name: str) -> str:
    """Return the description of a threshold in the settings."""
    set_descriptions(FilterConfig)
    model: object = FilterConfig
    description = ""
    for part in name.split("."):
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return ""
        model, description = field.annotation, field.description or ""
    return description.replace("`", "")


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f} %" if 0 < share < 10 else f"{share:.0f} %"
