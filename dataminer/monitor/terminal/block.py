"""The progress of a run for people: a live block in a terminal, or one line in a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from dataminer.monitor.progress.run import RunProgress
from dataminer.monitor.progress.stage import StageProgress
from dataminer.monitor.words import counted, duration, size

_STYLES = {"download": "cyan", "extract": "cyan", "embed": "cyan", "filter": "magenta"}
_PROJECTS = 3  # classes that are named


def block(progress: RunProgress) -> RenderableType:
    """Return the progress of a run as a rich renderable for at least 80 columns."""
    parts: list[RenderableType] = [_headline(progress)]
    if progress.stages:
        parts.append(_stages(progress))
    parts += [
        Text(line, no_wrap=True, overflow="ellipsis", style=style)
        for line, style in _notes(progress)
    ]
    return Group(*parts)


def plain(progress: RunProgress) -> str:
    """Return the progress of a run as one line."""
    stages = [f"{stage.name} {_count(stage)}{_brackets(stage)}" for stage in progress.stages]
    notes = [line for line, _ in _notes(progress)]
    return "; ".join([*stages, *notes, _after(progress)])


def words(progress: RunProgress) -> dict[str, Any]:
    """Return the texts of the block for a page: headline, cells of each stage, and notes."""
    return {
        "projects": _names(progress),
        "headline": _after(progress),
        "stages": [
            [stage.name, _count(stage), _size(stage), _rate(stage), _time(stage)]
            for stage in progress.stages
        ],
        "notes": [line for line, _ in _notes(progress)],
    }


def _headline(progress: RunProgress) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    return line.append(_names(progress), "bold").append(f"  {_after(progress)}")


def _names(progress: RunProgress) -> str:
    names, more = progress.projects, len(progress.projects) - _PROJECTS
    return ", ".join(names[:_PROJECTS]) + (f" and {more} more" if more > 0 else "")


def _after(progress: RunProgress) -> str:
    return f"{_left(progress)}, after {duration(progress.seconds)}"


def _left(progress: RunProgress) -> str:
    """Return how much is done and, if known, the remaining time."""
    if not any(stage.left for stage in progress.stages):
        return "all videos are through" if progress.stages else "no videos to do"
    if not progress.left_seconds:
        return f"{progress.work}% done"
    return f"{progress.work}% done, about {duration(progress.left_seconds)} left"


# ---- the stages ----------------------------------------------------------------------------------


def _stages(progress: RunProgress) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for _ in range(4):
        table.add_column(justify="right", no_wrap=True)
    for stage in progress.stages:
        table.add_row(
            Text(stage.name, style="dim"),
            Bar(stage.done, stage.total, _STYLES.get(stage.name, "cyan"), stage.failed),
            _count(stage),
            _size(stage),
            _rate(stage),
            _time(stage),
        )
    return table


def _count(stage: StageProgress) -> str:
    return f"{stage.done:,} of {stage.total:,}"


def _size(stage: StageProgress) -> str:
    amount = stage.size + stage.coming
    if stage.name == "embed" or not amount:
        return ""
    if stage.name != "download":
        return f"{amount:,} frames"
    speed = f", {size(stage.size_per_second)}/s" if stage.left and stage.size_per_second else ""
    return f"{size(amount)}{speed}"


def _rate(stage: StageProgress) -> str:
    if not stage.left or not stage.per_minute:
        return ""
    return f"{stage.per_minute:,.{0 if stage.per_minute >= 99.5 else 1}f}/min"


def _time(stage: StageProgress) -> str:
    if not stage.left:
        return "done"
    return f"{duration(stage.left_seconds)} left" if stage.left_seconds else ""


def _brackets(stage: StageProgress) -> str:
    text = ", ".join(part for part in (_size(stage), _rate(stage), _time(stage)) if part)
    return f" ({text})" if text else ""


# ---- notes below the stages ----------------------------------------------------------------------


def _notes(progress: RunProgress) -> Iterator[tuple[str, str]]:
    """Yield lines with their styles."""
    running = [f"{stage.running:,} {stage.name}" for stage in progress.stages if stage.running]
    if running:
        yield f"running: {', '.join(running)}", ""
    text = [_dataset(name, counts) for name, counts in progress.datasets.items()]
    if text:
        yield ", ".join(text), ""
    if progress.failures:
        yield f"{sum(progress.failures.values()):,} failed: {counted(progress.failures)}", "red"
    if progress.to_retry:
        waiting = sum(progress.to_retry.values())
        yield f"{waiting:,} to be tried again: {counted(progress.to_retry)}", "yellow"
    for pause in progress.pauses:
        yield f"{pause['source']} {pauses_until(pause)}: {pause['reason']}", "yellow"
    if progress.idle_seconds is not None:
        yield f"no job has worked for {duration(progress.idle_seconds)}", "yellow"
    if progress.trouble:
        yield f"the database does not answer, trying again: {progress.trouble}", "bold red"


def pauses_until(pause: dict[str, Any], now: datetime | None = None) -> str:
    """Return until when a source pauses, with the day if that is not today."""
    if pause["seconds_left"] <= 0:
        return "pauses until one job has tried it again"
    until, now = pause["open_until"].astimezone(UTC), now or datetime.now(UTC)
    day = "" if until.date() == now.date() else f"{until:%Y-%m-%d} "
    return f"pauses until {day}{until:%H:%M:%S} UTC"


def _dataset(name: str, counts: dict[str, int]) -> str:
    total = sum(counts.values())
    if total == 1:
        (state,) = [state for state, count in counts.items() if count]
        return f"{name} {state}"
    running = f" ({counts['running']} running)" if counts["running"] else ""
    return f"{name} {counts['done']} of {total}{running}"


@dataclass(frozen=True)
class Bar:
    """A bar as wide as its column, which can also be read without colours.

    Parameters
    ----------
    count, total : int
        The full part, and the whole.
    style : str
        The style of the full part.
    failed : int
        The failed part, which is drawn after the full part.
    """

    count: int
    total: int
    style: str
    failed: int = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        full, lost = self._cells(self.count, width), self._cells(self.failed, width)
        full = min(full, width - lost)
        rest = width - full - lost
        yield Text.assemble(("━" * full, self.style), ("╍" * lost, "red"), ("┄" * rest, "dim"))

    def _cells(self, count: int, width: int) -> int:
        if count <= 0 or self.total <= 0:
            return 0
        return max(width * min(count, self.total) // self.total, 1)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(4, options.max_width)
