"""Make an export: a folder that appears complete or not at all, and that describes itself."""

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
from dataminer.export.job import ExportImages, ExportJob, ExportProgress
from dataminer.export.records import SOURCES_FILE, write_sources
from dataminer.export.splits import SPLITS, Division, Shares, divide
from dataminer.export.webdataset import write_webdataset
from dataminer.files.flushing import fsync_tree
from dataminer.files.publishing import publish_dir, remove_partials, staging_dir

INFO_FILE = "dataminer.json"
FORMATS: Mapping[str, Callable[[ExportJob], None]] = {
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
        The shares of videos for validation and test.
    copy : bool
        Copy images instead of hard-linking them.
    shard_bytes : int
        Maximum size of a WebDataset archive.
    force : bool
        Replace even a folder that is not an earlier export, or to which files were added.
    """

    shares: Shares = field(default_factory=Shares)
    copy: bool = False
    shard_bytes: int = 256 * 10**6
    force: bool = False


@dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes
    ----------
    folder : Path
        Its folder.
    images, objects, videos : dict of str to int
        Counts by split.
    notes : tuple of str
        Messages for the user.
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
    """Write a dataset in one format; the same input gives the same bytes in the same files.

    Parameters
    ----------
    dataset : Dataset
        The dataset.
    kind : str
        One of ``FORMATS``.
    to : Path
        The folder ``to/kind`` is created, or replaced if it is an earlier export.
    options : Options, optional
        Splits and the like.
    progress : callable, optional
        Gets the number of images that are done, and the total.

    Raises
    ------
    DataminerError
        The folder contains something else, or an image is missing.
    """
    options = options or Options()
    final = (to / kind).resolve()
    _refuse_foreign(final, options.force)
    division = divide(dataset.videos, options.shares)
    try:
        exported = _make(dataset, division, kind, final, options, progress=progress)
    except OSError as error:
        if _is_of(dataset, error):  # an error of the store
            raise
        raise _not_writable(final, error) from error
    remove_partials(final)
    return replace(exported, folder=to / kind)


def _not_writable(final: Path, error: OSError) -> DataminerError:
    return DataminerError(
        f"{final} cannot be written: {error.strerror or error}",
        "give --to a writable folder with enough space; nothing was left in this one",
    )


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
        contextlib.closing(ExportImages(dataset, copy=options.copy, progress=progress)) as images,
    ):
        job = ExportJob(
            dataset, division, staging, images, options.shares.seed, options.shard_bytes
        )
        FORMATS[kind](job)
        write_sources(staging / SOURCES_FILE, dataset, division.split_of)
        exported = _count(job, final)
        _write_info(staging, kind, job, exported, options.shares)
        fsync_tree(staging)
        _refuse_foreign(final, options.force)  # again: the export may have taken an hour
        publish_dir(staging, final)
    return exported


def _count(job: ExportJob, folder: Path) -> Exported:
    images, objects, videos = ({s: 0 for s in SPLITS if s in job.division.used} for _ in range(3))
    for image in job.dataset.images:
        split = job.division.split_of[image.video_id]
        images[split] += 1
        objects[split] += len(image.boxes)
    for split in job.division.split_of.values():
        videos[split] += 1
    return Exported(folder, images, objects, videos, job.dataset.notes + job.division.notes)


def _write_info(
    folder: Path, kind: str, job: ExportJob, exported: Exported, shares: Shares
) -> None:
    """Describe the export in the file by which a later one recognises the folder."""
    info: dict[str, Any] = {
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
        "entries": sorted([*(entry.name for entry in folder.iterdir()), INFO_FILE]),
    }
    (folder / INFO_FILE).write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")


def _members(division: Division) -> dict[str, list[str]]:
    return {
        split: sorted(video for video, own in division.split_of.items() if own == split)
        for split in division.used
    }


def _refuse_foreign(final: Path, force: bool) -> None:
    """Refuse to replace a folder that has files of others."""
    if final.exists() and not final.is_dir():
        raise DataminerError(f"{final} is a file", "name another folder with --to")
    if force or not final.exists():
        return
    entries = {entry.name for entry in final.iterdir()}
    if not entries:
        return
    own = _own_entries(final / INFO_FILE)
    if own is None:
        raise DataminerError(
            f"{final} is not empty, and not an earlier export",
            "name another folder with --to, or delete it and all it contains with --force",
        )
    if added := sorted(entries - own):
        raise DataminerError(
            f"{final} is an earlier export to which {added[0]!r} was added",
            "move that elsewhere, or delete it and the old export with --force",
        )


def _own_entries(info_file: Path) -> set[str] | None:
    """Return the entries that an export made in its folder; None if it is not an export."""
    try:
        info = json.loads(info_file.read_text(encoding="utf-8"))
        return set(info["entries"]) if info["dataminer_export"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
