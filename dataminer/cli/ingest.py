"""``dataminer populate`` and ``dataminer add-video``: add sources to projects."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from dataminer.ingest.parse import Source, printable
from dataminer.ingest.search import ListRequest, look_up
from dataminer.ingest.sources import Collected, LookUp, collect
from dataminer.net.rate_limit import YOUTUBE, Paused
from dataminer.store.layout import Store
from dataminer.sync.claims import projects
from dataminer.sync.config_files import files_of, remember
from dataminer.sync.pairing.check import refuse_strangers
from dataminer.sync.rate_limit.shared import SharedRateLimiter, is_refusal
from dataminer.sync.repair import renewal
from dataminer.text import inert, tell
from dataminer.urls import SourceUrl

_INTERRUPTED = 128 + 2  # exit status of a program that SIGINT ended, as in a shell


def populate_from(files: Sequence[Path] = (), *, dry_run: bool = False) -> None:
    """Add everything under ``input`` of a configuration to its projects, and print a summary.

    Parameters
    ----------
    files : list of Path
        The configuration files, see :func:`dataminer.config.load_files`.
    dry_run : bool
        Only show what would be added; nothing is written, and no database is made.

    Raises
    ------
    ConfigError
        If the configuration is wrong or names no sources, or the last run of its projects read
        files that name others.
    DataminerError
        If none of the sources can be used.
    """
    config, used = _to_populate(files, dry_run=dry_run)
    _refuse_strangers(config, dry_run=dry_run)
    if config.input.names_nothing:
        base = load_files()
        whose = (
            f" for project {' and '.join(config.project_names)} ({DEFAULT_FILE} lists those of"
            f" {' and '.join(base.project_names)})"
        )
        raise ConfigError(
            f"no videos are named in {' and '.join(map(str, used))}"
            f"{'' if base.input.names_nothing else whose}: all lists under `input` are empty",
            "fill input.files, input.urls, input.url_files, input.searches or input.query_files",
        )
    found = collect(
        config.input,
        download=config.download,
        look_up=_asking(config, dry_run=dry_run),
        progress=_report,
        skip=config.store_path,
    )
    _take(config.project_names, found, config, files, typed=False, dry_run=dry_run)


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
    """Add the videos of one link or path to a project, and print a summary.

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
        If the link or path cannot be used.
    """
    load({"project": project})  # checks the name
    config = settings_of(files, [project], database=not dry_run)
    _refuse_strangers(config, dry_run=dry_run)
    bounds = config.input.model_dump(include={"max_videos_per_playlist", "filters"})
    only = InputConfig.model_validate({**bounds, "urls": [text]})
    found = collect(
        only,
        download=config.download,
        look_up=_asking(config, dry_run=dry_run),
        progress=_report,
        skip=config.store_path,
    )
    if not found.sources and len(found.rejected) == 1:
        (rejected,) = found.rejected
        raise DataminerError(f"{rejected.text}: {rejected.reason}", rejected.hint)
    manual = [replace(source, source_type=SourceType.MANUAL) for source in found.sources]
    found = replace(found, sources=manual)
    _take([project], found, config, files, typed=True, dry_run=dry_run)


def _refuse_strangers(config: Config, *, dry_run: bool) -> None:
    try:
        refuse_strangers(Store(config.store_path), may_be_away=True)
    except DatabaseError:
        if not dry_run:
            raise


def _take(
    names: list[str],
    found: Collected,
    config: Config,
    files: Sequence[Path],
    *,
    typed: bool,
    dry_run: bool,
) -> None:
    for rejected in found.rejected:
        what = f"{rejected.origin}: {rejected.text}: {rejected.reason}"
        _report(f"not used: {DataminerError(what, rejected.hint)}")
    if found.interrupted:
        _report(
            f"interrupted: {len(found.sources)} videos were found so far; run again for the rest"
        )
    if found.interrupted and not found.sources:
        raise typer.Exit(_INTERRUPTED)
    if not found.sources:
        raise DataminerError(
            f"nothing was added to project {' or '.join(names)}: none of the sources can be used",
            "correct what is listed above",
        )
    if dry_run:
        _preview(names, found)
    else:
        _add(names, found, Store(config.store_path))
        remember(names, files, only_first=True)
        run = commands.snakemake(names if typed else (), files, dry_run=True)
        print(f"Next: `{run}` shows what would be done; run it without -n to do it")
    if found.interrupted:
        raise typer.Exit(_INTERRUPTED)


def _asking(config: Config, *, dry_run: bool) -> LookUp:
    """Return the function that lists videos of YouTube, within the rate limits of all nodes.

    A dry run writes nothing, so it applies the same limits to itself alone.
    """

    def asking(
        request: ListRequest, filters: ListFilters, settings: DownloadConfig
    ) -> Generator[Source | None, None, None]:
        if dry_run:
            yield from look_up(request, filters, settings)
            return
        schema.upgrade()
        with SharedRateLimiter(config.download.budget, name="populate", report=_report) as limiter:
            try:
                yield from look_up(request, filters, settings, limiter=limiter)
            except Paused:
                raise
            except TransientError as error:  # reported by a page; an HTTP 429 was already retried
                if is_refusal(error):
                    limiter.open_breaker(YOUTUBE, error.message, error_class=error.error_class)
                raise

    return asking


def _add(names: list[str], found: Collected, store: Store) -> None:
    schema.upgrade()
    links = renewal.find_links(found.sources)
    _renew(links.renewed(found.sources), store)
    for project in names:
        added = projects.add_videos(project, _named(found.sources, links, project))
        print(
            f"project {project}: {_videos(added.new_to_project)} added,"
            f" {added.given - added.new_to_project} known already"
            f" ({added.new_to_store} new to the store), {len(found.rejected)} not used"
        )


def _named(sources: list[Source], links: renewal.Links, project: str) -> list[Source]:
    """Return sources under the ids that their rows have, if there are any."""
    return [replace(source, video_id=links.id_of(source, project)) for source in sources]


def _renew(links: Mapping[str, SourceUrl], store: Store) -> None:
    """Give known videos their new links, and report it."""
    renewed = renewal.renew(links, store)
    for video_id, owner in renewed.held.items():
        _report(
            f"not renewed: {video_id}: {owner} works on a dataset with it; run again after that"
        )
    if renewed.videos:
        count = len(renewed.retried)
        again = f"; {_videos(count)} that had failed will be tried again" if count else ""
        print(f"{_links(len(renewed.videos))} renewed{again}")


@dataclass(frozen=True)
class _Known:
    """The videos that the database knows, and the projects that have them."""

    links: renewal.Links = field(default_factory=renewal.Links)
    videos: dict[str, dict[str, bool]] = field(default_factory=dict)
    remark: str = ""
    is_reported: bool = True

    def state(self, video_id: str, project: str) -> str:
        if not self.is_reported:
            return "?"
        in_project = self.videos.get(project, {}).get(video_id)
        return {None: "new", False: "new to project", True: "known"}[in_project]


def _preview(names: list[str], found: Collected) -> None:
    known = _ask(names, found.sources)
    renewed = known.links.renewed(found.sources)
    for project in names:
        sources = _named(found.sources, known.links, project)
        states = [known.state(source.video_id, project) for source in sources]
        for source, state in zip(sources, states, strict=True):
            tell("  ".join(_line(state, source, renewed=source.video_id in renewed)))
        count = Counter(states)
        print(
            f"project {project}: {_videos(len(states) - count['known'])} would be added,"
            f" {count['known']} known already ({count['new']} new to the store),"
            f" {len(found.rejected)} not used{known.remark}; nothing was written"
        )
    if renewed:
        print(f"{_links(len(renewed))} would be renewed")


def _ask(names: list[str], sources: list[Source]) -> _Known:
    """Query which videos are known, without creating a database."""
    if no_database():
        return _Known(remark="; there is no database yet, so all are new")
    try:
        links = renewal.find_links(sources)
        ids = {name: [s.video_id for s in _named(sources, links, name)] for name in names}
        return _Known(links, {name: projects.known_videos(name, ids[name]) for name in names})
    except DatabaseError as error:
        remark = f"; which of them are known is not clear: {inert(error.message)}"
        return _Known(remark=remark, is_reported=False)


def _line(state: str, source: Source, *, renewed: bool) -> Iterator[str]:
    info = source.source_info
    yield f"{state:<14}"
    yield f"{source.video_id:<11}"
    yield str(info.get("origin", ""))
    if info.get("duration"):
        yield str(timedelta(seconds=round(info["duration"])))
    yield printable(str(source.url))
    if info.get("title"):
        yield printable(info["title"])
    if renewed:
        yield "(its new link)"


def _videos(count: int) -> str:
    return f"{count} video{'' if count == 1 else 's'}"


def _links(count: int) -> str:
    return f"{count} link{'' if count == 1 else 's'}"


def _report(line: str) -> None:
    tell(line, sys.stderr)
