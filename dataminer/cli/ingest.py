"""``dataminer populate`` and ``dataminer add-video``: from what is given to rows."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import typer

from dataminer import commands
from dataminer.cli.options import settings_of
from dataminer.config import DEFAULT_FILE, Config, DownloadConfig, InputConfig, load_files
from dataminer.config.load import load
from dataminer.config.models import ListFilters
from dataminer.db import schema
from dataminer.db.connection import no_database
from dataminer.db.enums import SourceType
from dataminer.errors import ConfigError, DatabaseError, DataminerError, TransientError
from dataminer.ingest.parse import inert, printable
from dataminer.ingest.search import Asked, look_up
from dataminer.ingest.sources import Collected, LookUp, Source, collect
from dataminer.stages.gate import YOUTUBE, Paused
from dataminer.sync import projects
from dataminer.sync.budget import FleetGate, is_refusal
from dataminer.sync.configfiles import files_of, remember

_INTERRUPTED = 128 + 2  # as a shell has it for a program that SIGINT ended


def populate_from(files: Sequence[Path] = (), *, dry_run: bool = False) -> None:
    """Add everything under ``input`` of a configuration to its projects, and say what was done.

    Parameters
    ----------
    files : list of Path
        The configuration files, see :func:`dataminer.config.load_files`.
    dry_run : bool
        Only show what would be added; nothing is written, and no database is made.

    Raises
    ------
    ConfigError
        When the configuration is wrong or names no sources, or the last run of its projects read
        files that name others.
    DataminerError
        When nothing that it names can be used.
    """
    config, used = _to_populate(files, dry_run=dry_run)
    if config.input.names_nothing:
        raise ConfigError(
            f"no videos are named in {' and '.join(map(str, used))}: all lists under `input` are"
            " empty",
            "fill input.files, input.urls, input.url_files, input.searches or input.query_files",
        )
    found = collect(
        config.input,
        download=config.download,
        look_up=_asking(config, dry_run=dry_run),
        progress=_say,
        skip=config.store_path,
    )
    run = commands.snakemake((), files, dry_run=True)
    _take(config.project_names, found, run, files, dry_run=dry_run)


def _to_populate(files: Sequence[Path], *, dry_run: bool) -> tuple[Config, list[Path]]:
    """Return the settings, and the files that they come from."""
    used = list(files) or [DEFAULT_FILE]
    config = load_files(used)
    try:
        last = [] if files else files_of(config.project_names, typed=False)
    except DatabaseError:
        if not dry_run:
            raise
        last = []
    return (load_files(last), [*used, *last]) if last else (config, used)


def add_source(
    text: str, project: str, *, files: Sequence[Path] = (), dry_run: bool = False
) -> None:
    """Add what one link or path stands for to a project, and say what was done.

    Parameters
    ----------
    text : str
        A video, a folder of them, or a YouTube playlist or channel.
    project : str
        The project's name.
    files : list of Path
        Whose bounds and filters count for a list, and how YouTube is reached; those of the
        project's last run if there are none.
    dry_run : bool
        See :func:`populate_from`.

    Raises
    ------
    DataminerError
        When it cannot be used.
    """
    load({"project": project})  # checks the name
    config = settings_of(files, [project], database=not dry_run)
    bounds = config.input.model_dump(include={"max_videos_per_playlist", "filters"})
    only = InputConfig.model_validate({**bounds, "urls": [text]})
    found = collect(
        only,
        download=config.download,
        look_up=_asking(config, dry_run=dry_run),
        progress=_say,
        skip=config.store_path,
    )
    if not found.sources and len(found.rejected) == 1:
        raise DataminerError(f"{found.rejected[0].text}: {found.rejected[0].reason}")
    manual = [replace(source, source_type=SourceType.MANUAL) for source in found.sources]
    run = commands.snakemake([project], files, dry_run=True)
    _take([project], replace(found, sources=manual), run, files, dry_run=dry_run)


def _take(
    names: list[str], found: Collected, run: str, files: Sequence[Path], *, dry_run: bool
) -> None:
    for rejected in found.rejected:
        _say(f"not used: {rejected.origin}: {rejected.text}: {rejected.reason}")
    if found.interrupted:
        _say(f"interrupted: {len(found.sources)} videos were found so far; run again for the rest")
    if found.interrupted and not found.sources:
        raise typer.Exit(_INTERRUPTED)
    if not found.sources:
        raise DataminerError(
            f"nothing was added to project {' or '.join(names)}: none of the sources can be used",
            "correct what is listed above",
        )
    for project in names:
        if dry_run:
            _preview(project, found)
        else:
            _add(project, found)
    if not dry_run:
        remember(names, files, only_first=not files)
        print(f"Next: `{run}` shows what would be done, without -n it is done")
    if found.interrupted:
        raise typer.Exit(_INTERRUPTED)


def _asking(config: Config, *, dry_run: bool) -> LookUp:
    """Return what asks YouTube for lists, within the budget that the jobs of all nodes share.

    A dry run writes nothing, and so keeps to the same limits by itself.
    """

    def asking(
        asked: Asked, filters: ListFilters, settings: DownloadConfig
    ) -> Generator[Source | None, None, None]:
        if dry_run:
            yield from look_up(asked, filters, settings)
            return
        schema.upgrade()
        with FleetGate(config.download.budget, name="populate", say=_say) as gate:
            try:
                yield from look_up(asked, filters, settings, gate=gate)
            except Paused:
                raise
            except TransientError as error:  # said by a page; an HTTP 429 was asked again
                if is_refusal(error):
                    gate.trip(YOUTUBE, error.message, error_class=error.error_class)
                raise

    return asking


def _add(project: str, found: Collected) -> None:
    schema.upgrade()
    added = projects.add_videos(project, found.sources)
    print(
        f"project {project}: {_videos(added.new_to_project)} added,"
        f" {added.given - added.new_to_project} known already"
        f" ({added.new_to_store} new to the store), {len(found.rejected)} not used"
    )


@dataclass(frozen=True)
class _Known:
    """What the database says: which videos it has, and whether the project has them."""

    videos: dict[str, bool]
    remark: str = ""
    told: bool = True

    def state(self, source: Source) -> str:
        if not self.told:
            return "?"
        in_project = self.videos.get(source.video_id)
        return {None: "new", False: "new to project", True: "known"}[in_project]


def _preview(project: str, found: Collected) -> None:
    known = _ask(project, found.sources)
    states = [known.state(source) for source in found.sources]
    for source, state in zip(found.sources, states, strict=True):
        print("  ".join(_line(state, source)))
    count = Counter(states)
    print(
        f"project {project}: {_videos(len(states) - count['known'])} would be added,"
        f" {count['known']} known already ({count['new']} new to the store),"
        f" {len(found.rejected)} not used{known.remark}; nothing was written"
    )


def _ask(project: str, sources: list[Source]) -> _Known:
    """Ask which videos are known, without making a database where there is none."""
    if no_database():
        return _Known({}, "; there is no database yet, so all are new")
    try:
        return _Known(projects.known(project, [source.video_id for source in sources]))
    except DatabaseError as error:
        remark = f"; which of them are known cannot be told: {inert(error.message)}"
        return _Known({}, remark, told=False)


def _line(state: str, source: Source) -> Iterator[str]:
    info = source.source_info
    yield f"{state:<14}"
    yield f"{source.video_id:<11}"
    yield str(info.get("origin", ""))
    if info.get("duration"):
        yield str(timedelta(seconds=round(info["duration"])))
    yield printable(str(source.url))
    if info.get("title"):
        yield printable(info["title"])


def _videos(count: int) -> str:
    return f"{count} video{'' if count == 1 else 's'}"


def _say(line: str) -> None:
    print(line, file=sys.stderr)
