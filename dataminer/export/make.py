"""Make an export: a folder that appears whole or not at all, and that says what it is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dataminer.errors import DataminerError
from dataminer.export.dataset import Dataset
from dataminer.export.folders import (
    write_coco_folder,
    write_csv_tables,
    write_imagefolder,
    write_parquet_tables,
    write_yolo_folder,
)
from dataminer.export.job import ExportProgress, Job, Pictures
from dataminer.export.records import SOURCES_FILE, write_sources
from dataminer.export.splits import SPLITS, Division, Shares, divide
from dataminer.export.webdataset import write_webdataset
from dataminer.files.flushing import fsync_tree
from dataminer.files.publishing import publish_dir, remove_partials, staging_dir

MARK_FILE = "dataminer.json"
FORMATS: Mapping[str, Callable[[Job], None]] = {
    "coco": write_coco_folder,
    "yolo": write_yolo_folder,
    "webdataset": write_webdataset,
    "imagefolder": write_imagefolder,
    "csv": write_csv_tables,
    "parquet": write_parquet_tables,
}


@dataclass(frozen=True)
class Options:
    """How to export.

    Attributes
    ----------
    shares : Shares
        Which share of the videos is held out.
    copy : bool
        Copy images; otherwise they are hard-linked where the file system can.
    shard_bytes : int
        Bound of a WebDataset archive.
    force : bool
        Replace a folder that is no earlier export, or that holds what was added to one.
    """

    shares: Shares = field(default_factory=Shares)
    copy: bool = False
    shard_bytes: int = 256 * 10**6
    force: bool = False


@dataclass(frozen=True)
class Exported:
    """What was made.

    Attributes
    ----------
    folder : Path
        Where it is.
    images, objects, videos : dict of str to int
        By split.
    notes : tuple of str
        What the user should know.
    """

    folder: Path
    images: Mapping[str, int]
    objects: Mapping[str, int]
    videos: Mapping[str, int]
    notes: tuple[str, ...]


def export(
    dataset: Dataset,
    kind: str,
    to: Path,
    options: Options | None = None,
    *,
    progress: ExportProgress | None = None,
) -> Exported:
    """Write a dataset in one format into a folder of that name.

    Parameters
    ----------
    dataset : Dataset
        What to write.
    kind : str
        One of ``FORMATS``.
    to : Path
        The folder ``to/kind`` is made, or replaced where it is an earlier export.
    options : Options, optional
        Splits and the like.
    progress : callable, optional
        Told how many pictures are done, and of how many.

    Returns
    -------
    Exported
        Counts; the same input gives the same bytes in the same files.

    Raises
    ------
    DataminerError
        Something else is in the way, or a picture is missing.
    """
    options = options or Options()
    final = (to / kind).resolve()
    _refuse_foreign(final, options.force)
    division = divide(dataset.videos, options.shares)
    try:
        exported = _make(dataset, division, kind, final, options, progress=progress)
    except OSError as error:
        if _is_of(dataset, error):  # the store's fault
            raise
        raise DataminerError(
            f"{final} cannot be written: {error.strerror or error}",
            "name a folder with room that you may write to with --to; nothing was left in this one",
        ) from error
    remove_partials(final)
    return replace(exported, folder=to / kind)


def _is_of(dataset: Dataset, error: OSError) -> bool:
    return str(error.filename).startswith(f"{dataset.folder.parent}/")


def _make(
    dataset: Dataset,
    division: Division,
    kind: str,
    final: Path,
    options: Options,
    *,
    progress: ExportProgress | None,
) -> Exported:
    with (
        staging_dir(final) as staging,
        contextlib.closing(Pictures(dataset, copy=options.copy, progress=progress)) as pictures,
    ):
        job = Job(dataset, division, staging, pictures, options.shares.seed, options.shard_bytes)
        FORMATS[kind](job)
        write_sources(staging / SOURCES_FILE, dataset, division.split_of)
        exported = _count(job, final)
        _write_mark(staging, kind, job, exported, options.shares)
        fsync_tree(staging)
        _refuse_foreign(final, options.force)  # it may have taken an hour
        publish_dir(staging, final)
    return exported


def _count(job: Job, folder: Path) -> Exported:
    images, objects, videos = ({s: 0 for s in SPLITS if s in job.division.used} for _ in range(3))
    for image in job.dataset.images:
        split = job.division.split_of[image.video_id]
        images[split] += 1
        objects[split] += len(image.boxes)
    for split in job.division.split_of.values():
        videos[split] += 1
    return Exported(folder, images, objects, videos, job.dataset.notes + job.division.notes)


def _write_mark(folder: Path, kind: str, job: Job, exported: Exported, shares: Shares) -> None:
    """Note what the folder is; by this file it is known as an export, later."""
    about: dict[str, Any] = {
        "dataminer_export": 1,
        "format": kind,
        "project": job.dataset.project,
        "labelled": job.dataset.labelled,
        "labels": dict(job.dataset.info),
        "classes": list(job.dataset.names),
        "shares": asdict(shares),
        "splits": _members(job.division),
        "images": dict(exported.images),
        "objects": dict(exported.objects),
        "entries": sorted([*(entry.name for entry in folder.iterdir()), MARK_FILE]),
    }
    (folder / MARK_FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _members(division: Division) -> dict[str, list[str]]:
    return {
        split: sorted(video for video, own in division.split_of.items() if own == split)
        for split in division.used
    }


def _refuse_foreign(final: Path, force: bool) -> None:
    """Stop where replacing a folder would delete what is not ours."""
    if final.exists() and not final.is_dir():
        raise DataminerError(f"{final} is a file", "name another folder with --to")
    if force or not final.exists():
        return
    entries = {entry.name for entry in final.iterdir()}
    if not entries:
        return
    known = _known_entries(final / MARK_FILE)
    if known is None:
        raise DataminerError(
            f"{final} is not empty, and no earlier export",
            "name another folder with --to, or delete it with all that is in it by --force",
        )
    if added := sorted(entries - known):
        raise DataminerError(
            f"{final} is an earlier export to which {added[0]!r} was added",
            "move that elsewhere, or delete it with the old export by --force",
        )


def _known_entries(mark: Path) -> set[str] | None:
    """Return what an export put into its folder; None where this is none."""
    try:
        about = json.loads(mark.read_text(encoding="utf-8"))
        return set(about["entries"]) if about["dataminer_export"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
