"""The layout of the live view: funnels, claims, failures. Untrusted texts are not markup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from dataminer.config import MonitorConfig
from dataminer.errors import brief
from dataminer.monitor.progress.rates import Rate
from dataminer.monitor.status import NO_PROJECTS, pause_end, unbroken
from dataminer.monitor.terminal.block import Bar, block
from dataminer.monitor.terminal.live import View
from dataminer.monitor.words import duration

_FUNNELS = 3  # projects that are drawn in full; others get one line each
_CLAIMS, _FAILURES = 12, 6

_STAGE_STYLES = {"COMPLETE": "bold green", "POPULATING": "dim"}
_BAR_STYLES = ("cyan", "cyan", "cyan", "magenta", "green")


def drawn(view: View) -> RenderableType:
    """Return a view as a rich renderable for at least 80 columns."""
    parts: list[RenderableType] = [_headline(view)]
    if view.trouble:
        parts.append(_trouble(view))
    for run in view.runs:
        parts += [_heading(Text("run at work")), block(run)]
    parts += _projects(view)
    parts += _pauses(view)
    parts += _claims(view)
    parts += _recovered(view)
    parts += _failures(view)
    return Group(*parts)


def _headline(view: View) -> Text:
    mode = "read-only" if view.read_only else "releases dead claims"
    line = Text.assemble(("dataminer monitor", "bold"), f"  {view.at:%H:%M:%S} UTC")
    return line.append(f"  {mode}  Ctrl-C ends", "dim")


def _trouble(view: View) -> Text:
    return Text(
        f"The database did not answer; this is from {view.at:%H:%M:%S} UTC. Trying again."
        f" {view.trouble}",
        style="bold red",
    )


# ---- projects ----------------------------------------------------------------------------------


def _projects(view: View) -> Iterator[RenderableType]:
    if not view.seen.projects:
        yield Text(NO_PROJECTS)
    elif len(view.seen.projects) <= _FUNNELS:
        for project in view.seen.projects:
            rate = view.rates.get(project["name"])
            yield _heading(Text.assemble(_title(project), "  ", (_pace(rate), "dim")))
            yield _funnel(project, rate)
    else:
        yield _heading(Text(f"{len(view.seen.projects)} projects"))
        yield _lines(view)


def _title(project: dict[str, Any]) -> Text:
    stage = project["stage"]
    return Text.assemble((project["name"], "bold"), "  ", (stage, _stage_style(stage)))


def _funnel(project: dict[str, Any], rate: Rate | None) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=10)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    for (name, count, total, text), style in zip(
        _steps(project, rate), ("yellow", *_BAR_STYLES), strict=True
    ):
        table.add_row(Text(name, style="dim"), Bar(count, total, style), Text(text))
    if project["videos_failed"]:
        text = f"{project['videos_failed']:,} of {project['total_videos']:,} videos"
        failed = Bar(project["videos_failed"], project["total_videos"], "red")
        table.add_row(Text("failed", style="red"), failed, Text(text, style="red"))
    return table


def _steps(project: dict[str, Any], rate: Rate | None) -> Iterator[tuple[str, int, int, str]]:
    """Return the steps of the funnel: name, number, total, and a text."""
    total = project["total_videos"]
    filtered = rate.filtered if rate else 0
    for name, count in (
        ("pending", project["videos_pending"]),
        ("downloaded", project["videos_downloaded"]),
        ("extracted", project["videos_extracted"]),
        ("filtered", filtered),
    ):
        yield name, count, total, f"{count:,} of {total:,} videos"
    frames, unique = project["filtered_frames"], project["unique_frames"]
    yield "unique", min(unique, frames), frames, f"{unique:,} of {frames:,} frames"
    done = unique if project["stage"] == "COMPLETE" else 0
    yield "annotated", done, unique, f"{project['annotations']:,} objects"


def _lines(view: View) -> Table:
    table = Table(box=None, header_style="dim", expand=True, padding=(0, 2, 0, 0))
    table.add_column("project", overflow="ellipsis", no_wrap=True, ratio=2)
    table.add_column("stage", no_wrap=True)
    table.add_column("through", ratio=2)
    table.add_column("videos", justify="right", no_wrap=True)
    table.add_column("failed", justify="right", no_wrap=True)
    table.add_column("pace", no_wrap=True)
    for project in view.seen.projects:
        rate = view.rates.get(project["name"])
        through, total = rate.through if rate else 0, project["total_videos"]
        table.add_row(
            Text(project["name"], style="bold"),
            Text(project["stage"], style=_stage_style(project["stage"])),
            Bar(through, total, "cyan"),
            f"{through:,}/{total:,}",
            Text(f"{project['videos_failed']:,}", style="red" if project["videos_failed"] else ""),
            Text(_pace(rate, short=True)),
        )
    return table


def _pace(rate: Rate | None, *, short: bool = False) -> str:
    if rate is None or not rate.per_minute:
        return ""
    pace = f"{rate.per_minute:.1f}/min" if short else f"{rate.per_minute:.1f} videos/min"
    if rate.eta_seconds is None:
        return pace
    return f"{pace}, {'' if short else 'filtered in '}{duration(rate.eta_seconds)}"


# ---- sources that pause ------------------------------------------------------------------------


def _pauses(view: View) -> Iterator[RenderableType]:
    if not view.seen.pauses:
        return
    yield _heading(Text("sources that pause"))
    for pause in view.seen.pauses:
        yield Text.assemble(("⏸ ", "yellow"), (pause["source"], "bold"), f"  {pause['reason']}")
        until = "until " if pause["seconds_left"] > 0 else ""
        yield Padding(Text(until + pause_end(pause)), (0, 0, 0, 2))
    yield Text("Try them again at once: dataminer budget reset", "dim")


# ---- claims ------------------------------------------------------------------------------------


def _claims(view: View) -> Iterator[RenderableType]:
    claims = sorted(view.seen.claims, key=lambda claim: not _stale(claim, view.settings))
    if not claims:
        return
    yield _heading(Text(f"being worked on{_more(len(claims), _CLAIMS)}"))
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("doing", "what", "host", "pid", "slurm", "heartbeat"):
        right = heading in ("pid", "heartbeat")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for claim in claims[:_CLAIMS]:
        host, pid, job = owner_parts(claim["locked_by"])
        age = _beat(claim["heartbeat_age"], view.settings)
        table.add_row(Text(claim["doing"]), Text(claim["what"]), Text(host), pid, Text(job), age)
    yield table


def owner_parts(owner: str) -> tuple[str, str, str]:
    """Return host, process id and Slurm job of ``host:pid[:slurm-ID]``; "" for a missing one."""
    host, _, rest = owner.partition(":")
    pid, _, job = rest.partition(":")
    return host, pid, job.removeprefix("slurm-")


def _beat(age: float, settings: MonitorConfig) -> Text:
    if age > settings.stale_threshold_minutes * 60:
        return Text(f"{duration(age)}, stale", style="bold red")
    late = age > 2 * settings.heartbeat_seconds
    return Text(duration(age), style="yellow" if late else "green")


def _stale(claim: dict[str, Any], settings: MonitorConfig) -> bool:
    return bool(claim["heartbeat_age"] > settings.stale_threshold_minutes * 60)


def _recovered(view: View) -> Iterator[RenderableType]:
    if view.recovered:
        yield _heading(Text("released for jobs that died"))
        yield from (Text(str(claim), style="yellow") for claim in view.recovered)


# ---- failures ----------------------------------------------------------------------------------


def _failures(view: View) -> Iterator[RenderableType]:
    for title, symbol, rows in (
        ("failed", ("✗ ", "red"), view.seen.failures),
        ("to be tried again", ("↻ ", "yellow"), view.seen.to_retry),
    ):
        if rows:
            yield _heading(Text(title + _more(len(rows), _FAILURES)))
            yield from _reasons(symbol, rows[:_FAILURES])
    if view.seen.failures:
        text = f"dataminer why {view.seen.failures[0]['video_id']}"
        yield Text(f"Try them again: dataminer retry; one video's story: {text}", "dim")


def _reasons(symbol: tuple[str, str], rows: Iterable[dict[str, Any]]) -> Iterator[RenderableType]:
    for row in rows:
        what = "/".join(part for part in (row["project"], row["video_id"]) if part)
        reason, _, step = brief(row["error"] or "").partition(" Next: ")
        yield Text.assemble(symbol, (what, "bold"), (f"  {row['error_class']}", "dim"))
        yield Padding(Text(reason), (0, 0, 0, 2))
        if step:
            yield Padding(Text.assemble(("→ ", "cyan"), unbroken(step)), (0, 0, 0, 2))


# ---- small parts -------------------------------------------------------------------------------


def _heading(text: Text) -> RenderableType:
    return Padding(Rule(text, align="left", style="dim"), (1, 0, 0, 0))


def _more(count: int, shown: int) -> str:
    return f" ({shown} of {count:,})" if count > shown else f" ({count:,})"


def _stage_style(stage: str) -> str:
    return _STAGE_STYLES.get(stage, "cyan")
