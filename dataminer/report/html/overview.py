"""The report's sections on videos: funnel, counts, failures, costs, settings."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from dataminer import commands
from dataminer.errors import ErrorClass, advice, kind_of
from dataminer.report.data.costs import Cost
from dataminer.report.data.facts import VideoFacts
from dataminer.report.data.gather import Findings
from dataminer.report.html import charts
from dataminer.report.html.markup import render
from dataminer.text import cut

_ROWS = 200  # of a table; of a larger project the rest is counted
_LONGEST = 500  # characters of a reason


def empty_section(key: str, title: str, message: str) -> Markup:
    """Return a section that only says why there is nothing to show."""
    return render("empty", key=key, title=title, message=message)


def plot(name: str, chart: Markup, more: str = "") -> dict[str, Any]:
    """Return a chart with its caption, for the template."""
    return {"name": name, "more": more, "chart": chart}


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


def tiles(found: Findings) -> list[dict[str, str]]:
    """Return the numbers at the top."""
    facts, objects, merged = found.facts, found.objects, found.merged
    failed = facts.failures.total()
    having = f"in {int((objects.per_frame > 0).sum()):,} frames" if objects else "not detected yet"
    values = [
        ("videos", f"{len(facts.videos):,}", f"{facts.downloaded:,} downloaded"),
        ("failed", f"{failed:,}", "see their reasons" if failed else "none"),
        ("frames", f"{sum(found.frames.extracted.values()):,}", "extracted"),
        ("unique", f"{merged.unique:,}" if merged else "–", "after dedup"),
        ("objects", f"{len(objects.boxes):,}" if objects else "–", having),
        ("machine time", _machine_time(found.costs), "of all jobs, CPU"),
    ]
    return [
        {
            "name": name,
            "value": value,
            "more": more,
            "class": "bad" if name == "failed" and failed else "",
        }
        for name, value, more in values
    ]


def _machine_time(costs: list[Cost]) -> str:
    return duration(sum(cost.cpu_seconds for cost in costs)) if costs else "–"


def funnel(found: Findings) -> Markup:
    """Return how many frames were left after each step."""
    frames, objects = found.frames, found.objects
    steps = [
        ("extracted", sum(frames.extracted.values())),
        ("good enough", sum(frames.passed.values())),
        ("unique", found.merged.unique if found.merged else 0),
        ("with objects", int((objects.per_frame > 0).sum()) if objects else 0),
    ]
    words = ", ".join(f"{count:,} {name}" for name, count in steps)
    chart = charts.funnel(steps, f"Frames: {words}")
    return render("funnel", chart=chart, notes=_unfinished(found))


def not_run(found: Findings, stages: str) -> str:
    """Return that a result is missing, and the command that makes it."""
    have = "have" if " and " in stages else "has"
    return f"{stages} {have} not run yet. Next: `{commands.snakemake([found.facts.project])}`"


def _unfinished(found: Findings) -> list[str]:
    missing = [
        name for name, part in (("dedup", found.merged), ("detect", found.objects)) if not part
    ]
    notes = []
    if missing:
        notes.append(not_run(found, " and ".join(missing).capitalize()))
    if found.damaged:
        more = f", and {len(found.damaged) - 1:,} more files" if len(found.damaged) > 1 else ""
        step = commands.snakemake([found.facts.project])
        notes.append(f"Left out: {cut(found.damaged[0], _LONGEST)}{more}. Next: `{step}`")
    notes += [
        f"The frames of {count:,} videos were extracted with other settings:"
        f" {cut(differ, _LONGEST)}."
        for differ, count in sorted(found.frames.other_settings.items())
    ]
    return notes


# ---- videos ------------------------------------------------------------------------------------


def videos(found: Findings) -> Markup:
    """Return how many frames each video gave."""
    frames, objects = found.frames, found.objects
    counts = [
        ("frames per video", frames.extracted, "as extracted"),
        ("good frames per video", frames.passed, "after the filter"),
    ]
    if objects:
        counts.append(("unique frames per video", objects.images, "after dedup"))
    plots = []
    for name, by_video, more in counts:
        values = np.array(list(by_video.values()), np.int64)
        label = f"{name}: {len(values):,} videos"
        plots.append(plot(name, charts.histogram(values, label=label, whole=True), more))
    longest_first = sorted(found.facts.videos, key=lambda v: -frames.extracted.get(v.video_id, 0))
    rows = [_video_row(video, found) for video in longest_first[:_ROWS]]
    return render("videos", charts=plots, rows=rows, count=len(longest_first))


def _video_row(video: VideoFacts, found: Findings) -> tuple[VideoFacts, str, str, list[str]]:
    frames, objects, video_id = found.frames, found.objects, video.video_id
    counts = [frames.extracted.get(video_id), frames.passed.get(video_id), None, None]
    if objects:
        counts[2:] = objects.images.get(video_id, 0), objects.per_video[video_id]
    status = video.member_status.lower().replace("_", " ")
    if video.failed:
        status = f"failed: {video.error_class or 'unknown'}"
    numbers = ["–" if count is None else f"{count:,}" for count in counts]
    return video, status, cut(video.warning or "", _LONGEST), numbers


# ---- failures ----------------------------------------------------------------------------------


def failures(found: Findings) -> Markup:
    """Return why videos failed, by class, and what to do."""
    failed = [video for video in found.facts.videos if video.failed]
    if not failed:
        return empty_section("failures", "Failures", "No video failed.")
    project = found.facts.project
    classes = [
        {
            "name": name,
            "kind": _kind(name),
            "count": count,
            "next_step": _next_step(name, f"--class {name}", project),
        }
        for name, count in found.facts.failures.most_common()
    ]
    rows = [(video, *_reason(video, project)) for video in failed[:_ROWS]]
    return render("failures", classes=classes, rows=rows, count=len(failed))


def _kind(name: str) -> str:
    return str(kind_of(ErrorClass(name))) if name in list(ErrorClass) else ""


def _next_step(name: str, which: str, project: str) -> str:
    return advice(name, which, [project], failed=True) or "see dataminer why VIDEO"


def _reason(video: VideoFacts, project: str) -> tuple[str, str]:
    reason, _, step = (video.error or "").partition(" Next: ")
    step = step or _next_step(video.error_class or "", video.video_id, project)
    return cut(reason, _LONGEST), cut(step, _LONGEST)


# ---- cost, settings ----------------------------------------------------------------------------


def cost(found: Findings) -> Markup:
    """Return time and memory by stage."""
    if not found.costs:
        return empty_section("cost", "Time and cost", "No times are recorded.")
    bars, rows = [], []
    for part in found.costs:
        cpu = duration(part.cpu_seconds)
        bars.append((part.stage, part.cpu_seconds, f"{cpu} CPU", ""))
        wall, slowest = duration(part.seconds), duration(part.slowest)
        rows.append(
            (part.stage, [f"{part.results:,}", wall, cpu, slowest, f"{part.peak_mb:,.0f} MB"])
        )
    return render("cost", chart=charts.bars(bars, "processor time by stage"), rows=rows)


def made(found: Findings) -> Markup:
    """Return versions and settings."""
    model = found.objects.info if found.objects else {}
    versions = [("model", model.get("model")), ("its sha256", model.get("model_sha256"))]
    versions += found.versions.items()
    return render(
        "made",
        versions=[(name, version) for name, version in versions if version],
        settings=[(name, sorted(values.items())) for name, values in found.settings.items()],
    )
