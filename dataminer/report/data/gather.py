"""Read all that a report shows from a store."""

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
from dataminer.report.data.excluded import ExcludedFrames, read_excluded_frames
from dataminer.report.data.facts import ProjectFacts
from dataminer.report.data.frames import FrameFindings, FrameLookup, read_frames
from dataminer.report.data.near_duplicates import NearDuplicates, read_merged
from dataminer.report.data.objects import Objects, read_objects
from dataminer.stages.dedup.references.listing import ReferencePictures
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
    """The results of a project; None for those that do not exist yet.

    Parameters
    ----------
    facts : ProjectFacts
        What the database has on it.
    frames : FrameFindings
        Quality, and what the filter dropped.
    merged : NearDuplicates or None
        Near-duplicates.
    excluded : ExcludedFrames or None
        Frames near reference pictures; None if there are no references.
    objects : Objects or None
        Annotations.
    costs : list of Cost
        Time and memory by stage.
    settings : dict of str to dict
        The settings that determine results, by section of the configuration.
    versions : dict of str to str
        Versions by package.
    changed : datetime or None
        Time of the latest result.
    damaged : list of str
        One message for each file that could not be read.
    """

    facts: ProjectFacts
    frames: FrameFindings
    merged: NearDuplicates | None
    excluded: ExcludedFrames | None
    objects: Objects | None
    costs: list[Cost]
    settings: dict[str, dict[str, Any]]
    versions: dict[str, str]
    changed: datetime | None
    damaged: list[str]


def gather(
    store: Store,
    facts: ProjectFacts,
    settings: Mapping[str, Mapping[str, Any]],
    benchmarks: Path,
    references: ReferencePictures | None = None,
) -> Findings:
    """Read the results of a project that exist so far.

    Parameters
    ----------
    store : Store
        The store.
    facts : ProjectFacts
        What the database has on the project.
    settings : mapping
        By section; ``filter`` is used for results without recorded settings.
    benchmarks, references
        The folder of Snakemake's benchmark files; the reference pictures that may be shown.
    """
    project, lookup = facts.project, FrameLookup(store, facts.project)
    dedup_dir = store.dedup(project)
    ids = [video.video_id for video in facts.videos]
    fallback = FilterConfig.model_validate(settings.get("filter", {}))
    extract = settings.get("extract", {})
    frames = read_frames(store, project, ids, fallback, PER_REASON, extract=extract)
    damaged = list(frames.damaged)
    return Findings(
        facts=facts,
        frames=frames,
        merged=_undamaged(lambda: read_merged(dedup_dir, lookup, GROUPS, MEMBERS), damaged),
        excluded=_undamaged(lambda: read_excluded_frames(dedup_dir, lookup, references), damaged),
        objects=_undamaged(lambda: read_objects(store.detect(project), EXAMPLES), damaged),
        costs=costs(benchmarks, facts),
        settings={section: dict(values) for section, values in settings.items()},
        versions=_versions(),
        changed=_changed(store, project),
        damaged=damaged,
    )


def _undamaged(read: Callable[[], _Part | None], damaged: list[str]) -> _Part | None:
    try:
        return read()
    except DamagedFile as error:
        damaged.append(error.message)
        return None


def _versions() -> dict[str, str]:
    found = {"dataminer": __version__, "python": python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _changed(store: Store, project: str) -> datetime | None:
    """Return the time of the results, not of the page: equal results give an equal page."""
    for path in (store.detect(project) / ANNOTATIONS_FILE, store.dedup(project) / FRAMES_FILE):
        if path.is_file():
            return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return None
