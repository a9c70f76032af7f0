"""All that a report shows, read from a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any, TypeVar

from dataminer import __version__
from dataminer.config.models import FilterConfig
from dataminer.errors import DamagedFile
from dataminer.frames.table import FRAMES_FILE
from dataminer.report.data.costs import Cost, costs
from dataminer.report.data.facts import Facts
from dataminer.report.data.frames import Frames, Lookup, read_frames
from dataminer.report.data.near_duplicates import Merged, read_merged
from dataminer.report.data.objects import Objects, read_objects
from dataminer.store.layout import ANNOTATIONS_FILE, Store

_Part = TypeVar("_Part")

PER_REASON = 7
EXAMPLES = 36
GROUPS, MEMBERS = 6, 6
_PACKAGES = (
    *("snakemake", "yt-dlp", "av", "opencv-python", "numpy", "pyarrow"),
    *("torch", "ultralytics", "transformers"),
)


@dataclass(frozen=True)
class Findings:
    """What there is of a project; None for what was not made yet.

    Parameters
    ----------
    facts : Facts
        What the database says.
    frames : Frames
        Quality, and what the filter left out.
    merged : Merged or None
        Near-duplicates.
    objects : Objects or None
        Annotations.
    costs : list of Cost
        Time and memory by stage.
    settings : dict of str to dict
        By section of the configuration, what decides what comes out.
    versions : dict of str to str
        By package.
    changed : datetime or None
        When the latest result was made.
    damaged : list of str
        What is wrong with files that were left out, naming each.
    """

    facts: Facts
    frames: Frames
    merged: Merged | None
    objects: Objects | None
    costs: list[Cost]
    settings: dict[str, dict[str, Any]]
    versions: dict[str, str]
    changed: datetime | None
    damaged: list[str]


def gather(
    store: Store,
    facts: Facts,
    settings: Mapping[str, Mapping[str, Any]],
    benchmarks: Path,
) -> Findings:
    """Read a project's results, as far as they are there.

    Parameters
    ----------
    store : Store
        The store.
    facts : Facts
        What the database says.
    settings : mapping
        By section; ``filter`` stands in where a result does not say what it was made with.
    benchmarks : Path
        The folder of Snakemake's benchmark files.
    """
    project = facts.project
    ids = [video.video_id for video in facts.videos]
    lookup = Lookup(store, project)
    fallback = FilterConfig.model_validate(settings.get("filter", {}))
    frames = read_frames(
        store, project, ids, fallback, PER_REASON, extract=settings.get("extract", {})
    )
    damaged = list(frames.damaged)

    def whole(read: Callable[[], _Part | None]) -> _Part | None:
        try:
            return read()
        except DamagedFile as error:
            damaged.append(error.message)
            return None

    return Findings(
        facts=facts,
        frames=frames,
        merged=whole(lambda: read_merged(store.dedup(project), lookup, GROUPS, MEMBERS)),
        objects=whole(lambda: read_objects(store.detect(project), EXAMPLES)),
        costs=costs(benchmarks, facts),
        settings={section: dict(values) for section, values in settings.items()},
        versions=_versions(),
        changed=_changed(store, project),
        damaged=damaged,
    )


def _versions() -> dict[str, str]:
    found = {"dataminer": __version__, "python": python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _changed(store: Store, project: str) -> datetime | None:
    """The time of the results, not of this page: the same results give the same page."""
    for path in (store.detect(project) / ANNOTATIONS_FILE, store.dedup(project) / FRAMES_FILE):
        if path.is_file():
            return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return None
