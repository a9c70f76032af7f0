"""The summary of a run: counts, failures with their next steps, and paths of results."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from dataminer import commands
from dataminer.errors import brief
from dataminer.monitor import status
from dataminer.monitor.console import console_of
from dataminer.monitor.progress.run import RunProgress
from dataminer.monitor.status import Snapshot, by_class, unbroken
from dataminer.monitor.words import counted, duration, size, videos
from dataminer.report import REPORT_FILE
from dataminer.store.layout import ANNOTATIONS_FILE, Store

_WIDTH = 80
_LABEL = 10  # columns
_CLASSES = 6  # classes of failures that are listed
_KINDS = 2  # of warnings that are named
_REASON = 140  # characters of a reason
_ONLY_AGAIN = re.compile("run `[^`]*snakemake [^`]*` again(?!,)")
_DONE = {"download": "downloaded", "extract": "extracted", "embed": "seen", "filter": "filtered"}


@dataclass(frozen=True)
class RunOutcome:
    """The state of a run at its end.

    Parameters
    ----------
    progress : RunProgress, optional
        The progress of the run.
    done : bool, optional
        Whether all its targets exist; None if they were files by name, or a part.
    targets : tuple of str
        Its targets; everything if empty.
    folder : Path, optional
        Its working folder as typed, if it was started in another one.
    """

    progress: RunProgress | None = None
    done: bool | None = None
    targets: tuple[str, ...] = ()
    folder: Path | None = None


def print_summary(names: Iterable[str], file: IO[str], store: Store, outcome: RunOutcome) -> None:
    """Print the summary of a run.

    Parameters
    ----------
    names : iterable of str
        The projects of the run.
    file : file
        Where to print.
    store : Store
        The store with the results.
    outcome : Outcome
        The state of the run.
    """
    from rich.text import Text

    console = console_of(file)
    for line in summary(status.snapshot(names), store, outcome):
        text = Text(line)
        text.highlight_regex(r"^\S+: [A-Z_]+", "bold")
        text.highlight_regex(r"^  failed ", "red")
        text.highlight_regex(r"^  (waits|pauses) ", "yellow")
        console.print(text, soft_wrap=True, highlight=False)


def summary(seen: Snapshot, store: Store, outcome: RunOutcome) -> list[str]:
    """Return the lines of the summary, at most 80 columns wide except for commands.

    Parameters
    ----------
    seen : Snapshot
        The state of its projects.
    store, outcome : Store, Outcome
        See :func:`print_summary`.
    """
    text = list(_run(outcome.progress))
    lines = ["", *text] if text else []
    for project in seen.projects:
        lines += ["", *_project(project, seen, store, outcome)]
    pauses = [] if outcome.done else [p for p in seen.pauses if p["seconds_left"] > 0]
    if shared := [*_pauses(pauses), *_next(seen, outcome)]:
        lines += ["", "All projects:"] if len(seen.projects) > 1 else []
    return [*lines, *shared, ""]


def _run(progress: RunProgress | None) -> Iterator[str]:
    if progress is None or not progress.stages:
        return
    text = [
        f"{stage.done:,} {_DONE[stage.name]}{_amount(stage.name, stage.size)}"
        for stage in progress.stages
    ]
    yield from _wrapped(f"This run took {duration(progress.seconds)}: {', '.join(text)}.")


def _amount(stage: str, amount: int) -> str:
    if not amount:
        return ""
    return f" ({size(amount)})" if stage == "download" else f" ({amount:,} frames)"


def _project(
    project: dict[str, Any], seen: Snapshot, store: Store, outcome: RunOutcome
) -> Iterator[str]:
    name = project["name"]
    mine = {
        part: [row for row in getattr(seen, part) if row["project"] == name]
        for part in ("failures", "to_retry", "warnings", "notes")
    }
    yield from _wrapped(f"{name}: {project['stage']}, {_videos(project)}")
    if project["extracted_frames"]:
        yield from _part("frames", _frames(project))
    yield from _failures(mine["failures"])
    yield from _waits(mine["to_retry"], goes_on=outcome.done is False)
    if project["error"]:
        yield from _part("failed", brief(project["error"]))
    if mine["warnings"]:
        count = len({row["video_id"] for row in mine["warnings"]})
        text = f"{videos(count)} with a warning{_losses(mine['notes'])}"
        command = commands.dataminer("status", "--project", name)
        yield from _part("look at", f"{text}: `{command}`")
    yield from _results(project, store, outcome.folder or Path())


def _losses(notes: list[dict[str, Any]]) -> str:
    """Name the kinds of warnings that most videos have, in parentheses."""
    kinds = sorted((row for row in notes if row["is_warning"]), key=lambda row: -row["videos"])
    named = [f"{row['count']:,} {row['text']}" for row in kinds[:_KINDS]]
    if len(kinds) > _KINDS:
        more = len(kinds) - _KINDS
        named.append(f"{more} more kind{'s' * (more > 1)}")
    return f" ({'; '.join(named)})" if named else ""


def _pauses(pauses: list[dict[str, Any]]) -> Iterator[str]:
    for pause in pauses:
        until = status.pause_end(pause)
        yield from _part("pauses", f"{pause['source']} until {until}: {pause['reason']}")


def _next(seen: Snapshot, outcome: RunOutcome) -> Iterator[str]:
    """Yield how to continue the run or, if its targets are complete, how to make the rest."""
    if outcome.folder and seen.projects:
        yield from _part("folder", f"{outcome.folder}: run commands of dataminer there")
    stages = outcome.progress.stages if outcome.progress else []
    # what waits for another attempt was remade as far as possible
    short = any(stage.left and stage.left_seconds != 0 for stage in stages)
    if outcome.done is False or (outcome.done and short):
        yield _command("go on", commands.snakemake(forced=short))
    elif any(project["stage"] != "COMPLETE" for project in seen.projects):
        rest = commands.snakemake(rest=True)
        if outcome.done and outcome.targets:
            yield from _part("done", f"{', '.join(outcome.targets)}, as asked. The rest: `{rest}`")
        elif not outcome.done:
            yield _command("rest", rest)


def _videos(project: dict[str, Any]) -> str:
    total, failed = project["total_videos"], project["videos_failed"]
    text = f"{project['videos_extracted']:,} of {videos(total)} extracted"
    return f"{text}, {failed:,} failed" if failed else text


def _frames(project: dict[str, Any]) -> str:
    text = f"{project['extracted_frames']:,} extracted, {project['filtered_frames']:,} good"
    if project["dedup_dir"]:
        text += f", {project['unique_frames']:,} unique"
    if project["detect_dir"]:
        text += f"; {project['annotations']:,} object{'s' * (project['annotations'] != 1)}"
    return text


def _failures(failures: list[dict[str, Any]]) -> Iterator[str]:
    classes = by_class(failures, ())
    for name, count, step in classes[:_CLASSES]:
        row = next(row for row in failures if (row["error_class"] or "") == name)
        text = f"{count:,} {name}{', for example' if count > 1 else ''}: {_reason(row)}"
        own = brief(row["error"] or "").partition(" Next: ")[2] if count == 1 else ""
        yield from _part("failed", f"{text} Next: {own or step or _why(row)}")
    if len(classes) > _CLASSES:
        rest = {name: count for name, count, _ in classes[_CLASSES:]}
        yield from _part("failed", f"{counted(rest)}: `dataminer status` has their next steps")


def _waits(to_retry: list[dict[str, Any]], *, goes_on: bool) -> Iterator[str]:
    rows = [row for row in to_retry if row["video_id"]]
    for name, count, step in by_class((), rows):
        mine = [row for row in rows if (row["error_class"] or "") == name]
        latest = max((row["not_before"] for row in mine if row["not_before"]), default=None)
        when = ""
        if latest and latest > datetime.now(UTC):
            when = f" until {latest.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        example = ", for example" if count > 1 else ""
        text = f"{videos(count)}{when}, {name}{example}: {_reason(mine[0])}"
        if not (goes_on and _ONLY_AGAIN.match(step)):
            text = f"{text} Next: {step or _why(mine[0])}"
        yield from _part("waits", text)


def _reason(row: dict[str, Any]) -> str:
    """Return why a video failed, as a short sentence that names it."""
    reason = (row["error"] or "").partition(" Next: ")[0].rstrip(".")
    named = reason if row["video_id"] in reason else f"{row['video_id']}: {reason}"
    return f"{textwrap.shorten(named, _REASON, placeholder=' …')}."


def _why(row: dict[str, Any]) -> str:
    return f"`{commands.dataminer('why', row['video_id'])}`"


def _results(project: dict[str, Any], store: Store, folder: Path) -> Iterator[str]:
    name = project["name"]
    report, annotations = store.report(name) / REPORT_FILE, store.detect(name) / ANNOTATIONS_FILE
    unique = store.dedup(name)
    labelled = bool(project["detect_dir"]) and annotations.is_file()
    if report.is_file():
        yield from _part("report", _shown(report, folder))
    if project["dedup_dir"] and unique.is_dir():
        shown = [_shown(path, folder) for path in ([unique, annotations] if labelled else [unique])]
        yield from _part("dataset", ", ".join(shown))
        words = ["export", name, "--format", "yolo" if labelled else "imagefolder"]
        words += [] if labelled else ["--frames-only"]
        yield _command("export", commands.dataminer(*words, "--to", f"exports/{name}"))


def _shown(path: Path, folder: Path) -> str:
    """Return a path as typed where the run, which works in ``folder``, was started."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else str(folder / relative)


def _command(label: str, command: str) -> str:
    return f"  {label:<{_LABEL}}{command}"


def _part(label: str, text: str) -> Iterator[str]:
    """Yield a labelled text; each command is on a separate line, so that it can be copied."""
    indent = " " * (2 + _LABEL)
    first = f"  {label:<{_LABEL}}"
    for line in unbroken(f" {text}").strip().splitlines():
        prose = line
        if line.startswith("`"):
            command, _, rest = line[1:].partition("`")
            yield f"{first}{command}"
            prose, first = rest.strip(" ,;."), indent
            if prose.startswith(":"):
                prose = f"({prose[1:].strip()})"
        if prose:
            yield from _wrapped(prose, first, indent)
            first = indent


def _wrapped(text: str, first: str = "", indent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
