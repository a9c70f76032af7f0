"""The story of one video as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

from dataminer.errors import ErrorClass, kind_of
from dataminer.monitor.console import console_of
from dataminer.monitor.status import pause_end, unbroken
from dataminer.monitor.story import Log, VideoStory

if TYPE_CHECKING:
    from rich.table import Table


def print_story(history: VideoStory, file: IO[str]) -> None:
    """Print a story."""
    from rich.console import Group
    from rich.rule import Rule
    from rich.text import Text

    console = console_of(file)
    if not console.is_terminal and console.width < 100:
        console = console_of(file, width=100)
    title = Text(history.video["video_id"], style="bold")
    parts: list[Any] = [
        title.append(f"  {history.video['status']}", _colour(history.video["status"]))
    ]
    parts.append(_facts(_video_facts(history)))
    for pair in history.projects:
        parts.append(Rule(Text(f"in project {pair['project']}"), align="left", style="dim"))
        parts.append(_facts(_pair_facts(pair)))
    if history.logs:
        parts.append(Rule(Text("logs"), align="left", style="dim"))
        parts += _log_lines(history.logs)
    console.print(Group(*parts))


def _video_facts(history: VideoStory) -> Iterator[tuple[str, str]]:
    video, files = history.video, history.files
    yield "title", video["title"] or ""
    yield "source", f"{video['url']} ({video['source_type']})"
    named = ", ".join(f"{key} {value}" for key, value in video["source_info"].items())
    yield "named in", named
    yield from _times(video)
    yield from _trouble(video, history.next_step)
    if history.pause:
        until = pause_end(history.pause)
        yield "pause", f"{history.pause['source']}: {history.pause['reason']} ({until})"
    yield "warning", video["warning"] or ""
    yield "noted", "; ".join(history.noted)
    size = f" ({files['video_bytes']:,} bytes)" if files["video"] else ""
    yield "file", (files["video"] or "none") + size
    counts = [
        f"{'table damaged' if count is None else f'{count:,}'} in {folder}"
        for folder, count in files["frames"].items()
    ]
    yield "frames", ", ".join(counts) or _number(None)
    yield "damaged", "; ".join(files["damaged"])
    yield from _costs(video)


def _pair_facts(pair: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "status", f"{pair['status']} (the project: {pair['project_stage']})"
    yield from _times(pair)
    yield from _trouble(pair, pair["next_step"])
    if pair["filtered_from"]:
        yield "frames", f"{_number(pair['source_frames'])}, of recipe {pair['filtered_from']}"
    yield "noted", "; ".join(pair["noted"])
    yield "passed", _number(pair["filtered"])
    left_out = (f"{count:,} {reason}" for reason, count in pair["rejected"].items())
    yield "left out", ", ".join(left_out)
    yield "excluded", f"{pair['excluded']:,} near a reference" if pair["excluded"] else ""
    yield "unique", _number(pair["unique"])
    yield from _costs(pair)


def _costs(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for stage, cost in row["costs"].items():
        took = f"{cost['seconds']:.1f} s, {cost['cpu_seconds']:.1f} s of CPU"
        yield f"{stage} cost", f"{took}, {cost['peak_mb']:,.0f} MB of memory"


def _times(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "added", _time(row["created_at"])
    yield "changed", _time(row["updated_at"])
    if row["locked_by"]:
        beat = f"last heartbeat {row['heartbeat_age']:.0f} s ago"
        yield "held by", f"{row['locked_by']} since {_time(row['locked_at'])}, {beat}"
    if row["attempts"] and row["status"] != "FAILED" and not row["failing_since"]:
        yield "attempts", f"{row['attempts']} since the last result"
    if row["failing_since"]:
        yield "failing", f"{row['failures']} attempts since {_time(row['failing_since'])}"
    if row["not_before"]:
        yield "waits", f"until {_time(row['not_before'])}"


def _trouble(row: dict[str, Any], next_step: str | None) -> Iterator[tuple[str, str]]:
    if row["error"]:
        reason, _, own_step = row["error"].partition(" Next: ")
        yield "error", f"{reason} [{_class_and_kind(row['error_class'])}]"
        yield "next", own_step or next_step or ""


def _class_and_kind(error_class: str) -> str:
    try:
        return f"{error_class}, {kind_of(ErrorClass(error_class))}"
    except ValueError:  # of another version
        return error_class


def _log_lines(logs: list[Log]) -> Iterator[Any]:
    from rich.padding import Padding
    from rich.text import Text

    for log in logs:
        symbol = ("✗ ", "red") if log.failed else ("✓ ", "green")
        yield Text.assemble(symbol, log.path, (f"  {_time(log.written)}", "dim"))
    failing = max((log for log in logs if log.failed), key=lambda log: log.written, default=None)
    if failing:
        yield Text(f"the end of {failing.path}:", style="dim")
        yield Padding(Text("\n".join(failing.last_lines)), (0, 0, 0, 2))


def _facts(facts: Iterator[tuple[str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True, min_width=8)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value:
            style = {"error": "red", "next": "bold", "warning": "yellow"}.get(name, "")
            table.add_row(name, Text(unbroken(value), style=style))
    return table


def _colour(status: str) -> str:
    return {"FAILED": "bold red", "EXTRACTED": "green", "PENDING": "dim"}.get(status, "cyan")


def _number(count: int | None) -> str:
    return "none made yet" if count is None else f"{count:,}"


def _time(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
