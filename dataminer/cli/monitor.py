"""``dataminer monitor``, ``why`` and ``retry``: watch runs, explain and retry failures."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from dataminer.cli.options import (
    AsJson,
    ConfigFiles,
    Projects,
    in_common,
    paired,
    readings,
    settings_of,
    store_of,
    tell_strangers,
)
from dataminer.errors import NEXT_STEP, ErrorClass, Kind, brief, kind_of
from dataminer.store.layout import ANNOTATIONS_FILE, Store
from dataminer.text import tell

if TYPE_CHECKING:
    from dataminer.sync.repair.retry_command import Retried


def register(app: typer.Typer) -> None:
    """Add the commands to the ``dataminer`` command."""
    app.command()(monitor)
    app.command()(why)
    app.command()(retry)


def monitor(
    *,
    project: Projects = None,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between updates.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print the state once and exit.")] = False,
    as_json: AsJson = False,
    read_only: Annotated[
        bool,
        typer.Option("--read-only", help="Change nothing: do not release the claims of dead jobs."),
    ] = False,
    web: Annotated[
        bool,
        typer.Option(
            "--web", help="Serve a web page instead, on this machine only; changes nothing."
        ),
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="For --web: the port; 0 chooses a free one.")
    ] = 0,
    config: ConfigFiles = None,
) -> None:
    """Watch the projects live; Ctrl-C ends it.

    Each update also releases the claims of dead jobs and refreshes counters and stages, unless you
    add --read-only. If the output is not a terminal, the state is printed once.

    Example: dataminer monitor --project birds

    Example: dataminer monitor --web --port 8765
    """
    from dataminer.monitor.terminal import live

    found = readings(config, project)
    settings = in_common(found)
    tell_strangers(found)
    only_look = read_only or web
    store = Store(settings.store_path)
    names = project or []
    live_monitor = live.Monitor(
        names, settings.monitor, read_only=only_look, configs=found, store=store
    )
    if web:
        from dataminer.monitor.web.server import Site, run_server

        run_server(Site(live_monitor, names, store, interval), port, sys.stdout)
        return
    if as_json:
        print(json.dumps(live_monitor.read().as_json(), indent=2))
    elif once or not sys.stdout.isatty():
        live.print_view(live_monitor.read(), sys.stdout)
    else:
        live.run_live(live_monitor, interval, sys.stdout)


def why(
    video: Annotated[str, typer.Argument(help="The id of the video, or a prefix of it.")],
    as_json: AsJson = False,
    config: ConfigFiles = None,
) -> None:
    """Show everything about one video: source, status, error and next step, files, logs.

    Example: dataminer why aqz-KE-bpKQ
    """
    from dataminer.monitor import story
    from dataminer.monitor.terminal import story_text
    from dataminer.sync.config_files import projects_with

    video_id = story.find_video(video)
    settings = settings_of(config, projects_with([video_id]))
    tell_strangers([settings])
    history = story.story(video_id, Store(settings.store_path))
    if as_json:
        print(json.dumps(history.as_json(), indent=2))
    else:
        story_text.print_story(history, sys.stdout)


def retry(
    *,
    project: Projects = None,
    video: Annotated[
        Optional[list[str]],
        typer.Option(help="Only this video (id or prefix); may be given several times."),
    ] = None,
    error_class: Annotated[
        Optional[list[ErrorClass]],
        typer.Option("--class", help="Only failures of this class; may be given several times."),
    ] = None,
    download: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="VIDEO",
            help="Download this video again (id or prefix), failed or not, for example after a"
            " change of download.*; may be given several times.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only show what would be retried.")
    ] = False,
    config: ConfigFiles = None,
) -> None:
    """Mark failed videos to be retried by the next run of snakemake; by default all of them.

    Videos that a job is working on are left alone.

    Example: dataminer retry --project birds --class network

    Example: dataminer retry --download aqz-KE-bpKQ
    """
    from dataminer.monitor.story import find_video
    from dataminer.sync.config_files import projects_with
    from dataminer.sync.repair.retry_command import retry as send_back

    if download:
        if project or video or error_class:
            raise typer.BadParameter(
                "--download cannot be combined with --project, --video or --class"
            )
        _fetch_again([find_video(text) for text in download], dry_run, config)
        return
    videos = [find_video(text) for text in video or []]
    rows = send_back(
        project or [],
        videos,
        error_class or [],
        store=paired(store_of(config, project or projects_with(videos)), dry_run=dry_run),
        dry_run=dry_run,
    )
    for line in (*_lines(rows), *_before_that(rows)):
        tell(line)
    remade = {row.project for row in rows if ANNOTATIONS_FILE in {f.name for f in row.removed}}
    if remade:
        print(f"Dedup and detect will run again too: {', '.join(sorted(map(str, remade)))}")
    moved = [row.video_id for row in rows if row.held_by is None]
    _print_next(moved, dry_run, project or [], config)


def _fetch_again(videos: list[str], dry_run: bool, config: list[Path] | None) -> None:
    from dataminer.sync.config_files import projects_with
    from dataminer.sync.repair.retry_command import fetch_again

    paired(store_of(config, projects_with(videos)), dry_run=dry_run)
    fetched = fetch_again(videos, dry_run=dry_run)
    for video_id, before in fetched.items():
        busy = "left alone, somebody works on it"
        print(f"{video_id}: {f'{before} -> PENDING, to be fetched again' if before else busy}")
    _print_next([video_id for video_id, before in fetched.items() if before], dry_run, [], config)


def _lines(rows: list[Retried]) -> list[str]:
    """Return one line per video, or per video and project if only that is retried."""
    whole = {row.video_id for row in rows if row.project is None}
    lines = []
    for row in rows:
        if row.project is not None and row.video_id in whole:
            continue
        what = f"{row.video_id} in {row.project}" if row.project else row.video_id
        if row.held_by:
            lines.append(f"{what}: left alone, {row.held_by} works on it")
            continue
        step = row.was if row.was == row.becomes else f"{row.was} -> {row.becomes}"
        reason = brief(row.error or "").partition(" Next: ")[0]
        lines.append(f"{what}: {step} [{row.error_class}] {reason}")
    return lines


def _before_that(rows: list[Retried]) -> Iterator[str]:
    """Yield what to do first about classes that fail again unless something changes."""
    moved = {row.error_class for row in rows if not row.held_by}
    for error_class in ErrorClass:
        if error_class in moved and kind_of(error_class) is not Kind.TRANSIENT:
            step = NEXT_STEP[error_class].partition(", then")[0]
            yield f"[{error_class}] {kind_of(error_class)}: {step}"


def _print_next(
    videos: list[str], dry_run: bool, projects: list[str], config: list[Path] | None
) -> None:
    from dataminer.sync.config_files import runs_of

    if not videos:
        print("Nothing to retry.")
        return
    if dry_run:
        print("Nothing was changed. Next: rerun without --dry-run")
        return
    for command in runs_of(projects, config, videos=videos):
        print(f"Next: `{command}`")
