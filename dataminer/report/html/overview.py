"""The report's sections on videos: funnel, counts, failures, costs, settings."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from dataminer import commands
from dataminer.errors import ErrorClass, advice, kind_of
from dataminer.report.data.costs import Cost
from dataminer.report.data.facts import Video
from dataminer.report.data.gather import Findings
from dataminer.report.html import charts
from dataminer.report.html.markup import Html, join, tag, text
from dataminer.text import cut

_ROWS = 200  # of a table; of a larger project the rest is counted
_PAGE = 15
_LONGEST_LINK, _LONGEST_REASON = 500, 500  # characters


def section(key: str, title: str, lead: Any, *parts: Any) -> Html:
    """Return a section of the page, to be reached by its key."""
    return tag("section", tag("h2", title), tag("p", lead, class_="lead"), *parts, id=key)


def table(headings: list[str], rows: list[list[Any]], numeric: Collection[int] = ()) -> Html:
    """Return a table; columns of ``numeric`` are set to the right."""

    def cells(name: str, row: list[Any]) -> list[Html]:
        return [tag(name, cell, class_="n" if n in numeric else None) for n, cell in enumerate(row)]

    head = tag("thead", tag("tr", *cells("th", headings)))
    body = tag("tbody", *(tag("tr", *cells("td", row)) for row in rows), data_page=_PAGE)
    return tag("div", tag("table", head, body), class_="tablebox")


def duration(seconds: float) -> str:
    """Tell a duration."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


def tiles(found: Findings) -> Html:
    """Return the numbers at the top."""
    facts, frames = found.facts, found.frames
    failed = facts.failures.total()
    objects = found.objects
    given: list[tuple[str, str, str, str | None]] = [
        ("videos", f"{len(facts.videos):,}", f"{facts.downloaded:,} downloaded", None),
        (
            "failed",
            f"{failed:,}",
            "see their reasons" if failed else "none",
            "bad" if failed else None,
        ),
        ("frames", f"{sum(frames.extracted.values()):,}", "taken out", None),
        ("unique", f"{found.merged.unique:,}" if found.merged else "–", "after dedup", None),
        (
            "objects",
            f"{len(objects.boxes):,}" if objects else "–",
            f"in {int((objects.per_frame > 0).sum()):,} frames" if objects else "not detected yet",
            None,
        ),
        ("machine time", _machine(found.costs), "of all jobs, CPU", None),
    ]
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", value, tag("small", more)), class_=kind)
            for name, value, more, kind in given
        ),
        class_="tiles",
    )


def _machine(costs: list[Cost]) -> str:
    return duration(sum(cost.cpu_seconds for cost in costs)) if costs else "–"


def funnel(found: Findings) -> Html:
    """Return what became of the frames, step by step."""
    frames, objects = found.frames, found.objects
    steps = [
        ("extracted", sum(frames.extracted.values())),
        ("good enough", sum(frames.passed.values())),
        ("unique", found.merged.unique if found.merged else 0),
        ("with objects", int((objects.per_frame > 0).sum()) if objects else 0),
    ]
    told = ", ".join(f"{count:,} {name}" for name, count in steps)
    lead = (
        "From all frames that were taken out of the videos to those that something was found in."
        " What is unique stands for everything that looks the same."
    )
    unfinished = _unfinished(found)
    return section("funnel", "Funnel", lead, charts.funnel(steps, f"Frames: {told}"), unfinished)


def not_run(found: Findings, stages: str) -> str:
    """Say that something is not there yet, with the command that makes it."""
    have = "have" if " and " in stages else "has"
    return f"{stages} {have} not run yet. Next: `{commands.snakemake([found.facts.project])}`"


def _unfinished(found: Findings) -> Html | None:
    open_ = [
        name for name, part in (("dedup", found.merged), ("detect", found.objects)) if not part
    ]
    notes = []
    if open_:
        notes.append(not_run(found, " and ".join(open_).capitalize()))
    if found.damaged:
        more = f", and {len(found.damaged) - 1:,} more files" if len(found.damaged) > 1 else ""
        step = commands.snakemake([found.facts.project])
        notes.append(f"Left out: {cut(found.damaged[0], _LONGEST_REASON)}{more}. Next: `{step}`")
    notes += [
        f"The frames of {count:,} videos were taken out with other settings:"
        f" {cut(differ, _LONGEST_REASON)}."
        for differ, count in sorted(found.frames.other_settings.items())
    ]
    return join(tag("p", note, class_="warn") for note in notes) if notes else None


# ---- videos ------------------------------------------------------------------------------------


def videos(found: Findings) -> Html:
    """Return how many frames each video gave."""
    frames, objects = found.frames, found.objects
    extracted = np.array(list(frames.extracted.values()), np.int64)
    passed = np.array(list(frames.passed.values()), np.int64)
    unique = np.array(list(objects.images.values()), np.int64) if objects else None
    plots = [
        _plot("frames of a video", "as extracted", extracted),
        _plot("good frames of a video", "after the filter", passed),
    ]
    if unique is not None:
        plots.append(_plot("unique frames of a video", "after dedup", unique))
    listed = sorted(found.facts.videos, key=lambda v: -frames.extracted.get(v.video_id, 0))
    rows = [_video_row(video, found) for video in listed[:_ROWS]]
    more = _rest(len(listed))
    return section(
        "videos",
        "Videos",
        "How many frames each video gave, and what became of them; the longest first.",
        tag("div", *plots, class_="grid"),
        table(
            ["video", "status", "frames", "good", "unique", "objects"], rows, numeric={2, 3, 4, 5}
        ),
        more,
    )


def _plot(name: str, more: str, counts: np.ndarray[Any, Any]) -> Html:
    label = f"{name}: {len(counts):,} videos"
    chart = charts.histogram(counts, label=label, whole=True)
    return tag("figure", tag("figcaption", tag("b", name), f" {more}"), chart)


def _video_row(video: Video, found: Findings) -> list[Any]:
    objects = found.objects
    counts = [found.frames.extracted.get(video.video_id), found.frames.passed.get(video.video_id)]
    if objects:
        counts += [objects.images.get(video.video_id, 0), objects.per_video[video.video_id]]
    numbers = ["–" if count is None else f"{count:,}" for count in counts]
    status = tag(
        "span", "failed" if video.failed else video.member_status.lower().replace("_", " ")
    )
    if video.failed:
        status = tag("span", f"failed: {video.error_class or 'unknown'}", class_="bad")
    warning = (
        tag("small", tag("br"), cut(video.warning, _LONGEST_REASON)) if video.warning else None
    )
    return [join([named(video), warning]), status, *numbers, *["–"] * (4 - len(numbers))]


def named(video: Video) -> Html:
    """Return a video's title, linked to its source where that is on the web, and its id."""
    title: Any = video.name
    url = str(video.url)
    # a link with a part of it masked leads nowhere
    if video.url.is_whole and len(url) < _LONGEST_LINK and url.startswith(("https://", "http://")):
        title = tag("a", title, href=url, rel="noopener noreferrer")
    if video.name == video.video_id:
        return text(title)
    return join([title, tag("br"), tag("small", video.video_id)])


def _rest(count: int) -> Html | None:
    if count <= _ROWS:
        return None
    return tag(
        "p", f"{_ROWS} of {count:,} are listed; one's story: dataminer why VIDEO", class_="faint"
    )


# ---- failures ----------------------------------------------------------------------------------


def failures(found: Findings) -> Html:
    """Return why videos failed, by class, and what to do."""
    failed = [video for video in found.facts.videos if video.failed]
    if not failed:
        return section("failures", "Failures", "No video failed.")
    project = found.facts.project
    by_class = [
        [tag("code", name), _kind(name), f"{count:,}", _next_step(name, f"--class {name}", project)]
        for name, count in found.facts.failures.most_common()
    ]
    rows = [
        [named(video), tag("code", video.error_class), *_reason(video, project)] for video in failed
    ]
    return section(
        "failures",
        "Failures",
        "A failed video is data, not a stop: the rest of the project went on without it.",
        table(["class", "kind", "videos", "next step"], by_class, numeric={2}),
        tag("h3", "Each of them"),
        table(["video", "class", "what happened", "next step"], rows[:_ROWS]),
        _rest(len(rows)),
    )


def _kind(name: str) -> str:
    return str(kind_of(ErrorClass(name))) if name in list(ErrorClass) else ""


def _next_step(name: str, which: str, project: str) -> str:
    return advice(name, which, [project], failed=True) or "see dataminer why VIDEO"


def _reason(video: Video, project: str) -> tuple[str, str]:
    reason, _, step = (video.error or "").partition(" Next: ")
    step = step or _next_step(video.error_class or "", video.video_id, project)
    return cut(reason, _LONGEST_REASON), cut(step, _LONGEST_REASON)


# ---- cost, settings ----------------------------------------------------------------------------


def cost(found: Findings) -> Html:
    """Return time and memory by stage."""
    lead = "Of each result, measured while it was made; many are made side by side."
    if not found.costs:
        return section("cost", "Time and cost", "Nothing is known of it.")
    rows = [
        [
            part.stage,
            f"{part.results:,}",
            duration(part.seconds),
            duration(part.cpu_seconds),
            duration(part.slowest),
            f"{part.peak_mb:,.0f} MB",
        ]
        for part in found.costs
    ]
    bars = [
        (part.stage, part.cpu_seconds, f"{duration(part.cpu_seconds)} CPU", "")
        for part in found.costs
    ]
    headings = ["stage", "results", "wall, summed", "CPU, summed", "slowest", "most memory"]
    return section(
        "cost",
        "Time and cost",
        lead,
        charts.bars(bars, "processor time by stage"),
        table(headings, rows, numeric={1, 2, 3, 4, 5}),
    )


def made(found: Findings) -> Html:
    """Return versions and settings."""
    model = found.objects.info if found.objects else {}
    facts = [("model", model.get("model")), ("its sha256", model.get("model_sha256"))]
    facts += [(name, version) for name, version in found.versions.items()]
    listed = tag("dl", *_facts([(k, v) for k, v in facts if v]), class_="facts")
    settings = [
        tag(
            "details",
            tag("summary", f"{name}: {len(values)} settings"),
            tag("dl", *_facts(sorted(values.items())), class_="facts"),
            open=True,
        )
        for name, values in found.settings.items()
    ]
    return section(
        "made",
        "Versions and settings",
        "With these, the same videos give the same dataset. Settings are those of the"
        " configuration when this page was made.",
        listed,
        tag("div", *settings, class_="grid"),
    )


def _facts(pairs: list[tuple[str, Any]]) -> Iterator[Html]:
    for name, value in pairs:
        yield tag("dt", name)
        yield tag("dd", "–" if value in (None, [], {}) else value)
