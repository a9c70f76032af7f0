"""The status that files of a store support, whatever their rows say."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dataminer.config.models import ExtractConfig, FilterConfig, Section
from dataminer.db.enums import ProjectStatus, ProjectVideoStatus, VideoStatus
from dataminer.errors import ErrorClass, TransientError
from dataminer.files.links import ABSENT_ERRORS, is_file, lstat_or_none
from dataminer.files.reading import list_names, read_file, sizes_in
from dataminer.frames.images import FrameReader
from dataminer.frames.table import CLUSTERS_FILE, FRAMES_FILE, read_meta
from dataminer.provenance import fingerprints, recipes
from dataminer.store.layout import ANNOTATIONS_FILE, DATA_FILE, INFO_FILE, Store
from dataminer.sync.claims.stage_rows import FILTER
from dataminer.sync.jobs import results
from dataminer.sync.tasks.task import TaskOutcome

_Read = TypeVar("_Read")
_V, _PV, _P = VideoStatus, ProjectVideoStatus, ProjectStatus


class Unreadable(TransientError):
    """A file exists and cannot be read, so that nobody knows whether it is whole."""


@dataclass(frozen=True)
class Evidence:
    """The status that files support, and outputs that do not belong to it.

    Parameters
    ----------
    status : str
        The status that the row should have.
    remove : tuple of Path
        Existing outputs that do not belong to that status, and that Snakemake would accept.
    columns : dict
        Other values that the row should have if it is reverted.
    renamed : bool
        Whether the row should name other frames, because its own are gone.
    """

    status: str
    remove: tuple[Path, ...] = ()
    columns: Mapping[str, Any] | None = None
    renamed: bool = False


class CurrentFrames(NamedTuple):
    """The frames of a video that count.

    Parameters
    ----------
    folder : Path
        Their folder, which may not exist.
    outcome : TaskOutcome or None
        Their outcome, if they are whole.
    damaged : tuple of Path
        Tables of other frames that are damaged.
    """

    folder: Path
    outcome: TaskOutcome | None
    damaged: tuple[Path, ...]


@dataclass(frozen=True)
class StoreInspector:
    """Inspects a store, with as few system calls as the question allows.

    Parameters
    ----------
    store : Store
        The store.
    deep : bool
        Also check for every image of finished folders, not only for the folder and its table.
    quick : bool
        Check only that the tables of finished folders exist, not that they can be read.
    """

    store: Store
    deep: bool = False
    quick: bool = False

    @cached_property
    def downloaded(self) -> frozenset[str]:
        """The names under ``videos/``."""
        return list_names(self.store.video("x").parent)

    def frames(self, video_id: str, recipe: str | None) -> CurrentFrames:
        """Return the frames of a video that its row names, or else the newest that are whole.

        Of several recipes, those that failed come last.
        """
        folders = [self.store.recipe(video_id, r) for r in recipes.of_video(self.store, video_id)]
        folders += [t.parent for t in recipes.older_tables(self.store, video_id) if is_file(t)]
        found = {folder: read_if_whole(results.read_extract, folder) for folder in folders}

        def rank(folder: Path) -> tuple[bool, bool]:
            outcome = found[folder]
            assert outcome
            return outcome.fingerprint != recipe, outcome.status == _V.FAILED

        whole = sorted((folder for folder, outcome in found.items() if outcome), key=rank)
        damaged = tuple(folder / FRAMES_FILE for folder in folders if folder not in whole)
        best = whole[0] if whole else self.store.frames(video_id)
        return CurrentFrames(best, found.get(best), damaged)

    def video(self, video_id: str, status: str, recipe: str | None = None) -> Evidence:
        """Return what a video's folders support, given its row's present status."""
        folder = self.store.video(video_id)
        known = recipe and self.store.recipe(video_id, recipe)
        if status == _V.EXTRACTED and not self.deep and known and self._has_table(known):
            return Evidence(status)
        if status == _V.PENDING and video_id not in self.downloaded:
            return Evidence(status)  # any frames wait for the download
        download = read_if_whole(results.read_download, folder)
        frames_dir, frames, damaged = self.frames(video_id, recipe)
        supported = _video_status(status, download, frames, self._frames_are_of(folder, frames_dir))
        if supported == _V.PENDING:
            # whole frames are too valuable to lose with a file that was deleted to save space
            damaged = () if frames else (*existing(folder / INFO_FILE), *damaged)
            return Evidence(supported, damaged, _NO_VIDEO)
        if supported == _V.DOWNLOADED and download:
            columns = {**_NO_FRAMES, "video_path": download.columns["video_path"]}
            return Evidence(supported, damaged, columns)
        others = recipe and frames and frames.fingerprint != recipe
        if frames and others and supported == status == _V.EXTRACTED:
            columns = {k: v for k, v in frames.columns.items() if not k.startswith("error")}
            return Evidence(supported, damaged, columns, renamed=True)
        return Evidence(supported, damaged)

    def member(
        self, project: str, video_id: str, status: str, *, source_gone: bool = False
    ) -> Evidence:
        """Return what a video's folder in a project supports, given its row's present status.

        Filtered frames do not count without the frames that they were made from: Snakemake makes
        nothing again that only finished outputs need.
        """
        folder = self.store.filtered(project, video_id)
        table = folder / FRAMES_FILE
        final = status in FILTER.past
        if final and not self.deep and not source_gone and self._has_table(folder):
            return Evidence(status)
        outcome = None if source_gone else read_if_whole(results.read_filter, folder)
        if outcome and (outcome.status == status or self._filtered_is_of(folder, video_id)):
            return Evidence(outcome.status)
        damaged = existing(table)
        if damaged or status != _PV.PENDING:
            damaged += existing(*self.outputs(project, "dedup"))
        return Evidence(_PV.PENDING, damaged, _NOT_FILTERED)

    def project(self, project: str, stage: str, videos: Iterable[str]) -> Evidence:
        """Return what a project's folders support, given the videos whose filter has ended."""
        if not self._dedup_is_whole(project, stage, videos):
            missing = "dedup"
        elif not self._detect_is_whole(project, stage):
            missing = "detect"
        else:
            return Evidence(_P.COMPLETE)
        supported, columns = self.before(missing)
        return Evidence(supported, existing(*self.outputs(project, missing)), columns)

    def outputs(self, project: str, stage: str) -> tuple[Path, ...]:
        """Return the outputs without which Snakemake runs ``dedup`` or ``detect`` again.

        Those of dedup include those of detect: Snakemake makes nothing that only a finished output
        needs. The table of clusters stays, so that dedup keeps the same frames.
        """
        detect = self.store.detect(project)
        dedup = self.store.dedup(project)
        outputs = (detect / ANNOTATIONS_FILE, detect / DATA_FILE)
        if stage == "dedup":
            return dedup / FRAMES_FILE, *outputs
        return outputs

    @staticmethod
    def before(stage: str) -> tuple[str, Mapping[str, Any]]:
        """Return status and columns of a project's row before ``dedup`` or ``detect``."""
        if stage == "dedup":
            return _P.DEDUP_READY, _NO_DEDUP
        return _P.DETECT_READY, _NO_DETECT

    def _dedup_is_whole(self, project: str, stage: str, videos: Iterable[str]) -> bool:
        folder = self.store.dedup(project)
        known = stage in (_P.DETECT_READY, _P.COMPLETE)
        if known and not self.deep:
            return self._has_table(folder) and self._has_table(folder, CLUSTERS_FILE)
        whole = read_if_whole(results.read_dedup, folder) is not None
        return whole and self._dedup_is_of(project, videos)

    def _has_table(self, folder: Path, name: str = FRAMES_FILE) -> bool:
        """Return whether a table exists and, unless only that is checked, can be read."""
        path = folder / name
        return _is_regular(path) and (self.quick or bool(read_if_whole(read_meta, path)))

    def _detect_is_whole(self, project: str, stage: str) -> bool:
        folder = self.store.detect(project)
        if stage == _P.COMPLETE and not self.deep:
            return _is_regular(folder / ANNOTATIONS_FILE) and (
                self.quick or results.annotations_seem_whole(folder, 0)
            )
        if read_if_whole(results.read_detect, folder) is None:
            return False
        if self.deep and not _has_images(folder, self.store.dedup(project)):
            return False
        return stage == _P.COMPLETE or _detect_is_of(folder, self.store.dedup(project))

    # ---- made from the present input? By time, as Snakemake decides it, or by content

    def _frames_are_of(self, folder: Path, frames_dir: Path) -> bool:
        if _is_newer(frames_dir / FRAMES_FILE, folder / INFO_FILE):
            return True
        source = (results.read_info_or_none(folder) or {}).get("sha256")
        expected = partial(fingerprints.of_extract, sha256=source)
        return _carries(frames_dir, ExtractConfig, expected)

    def _filtered_is_of(self, folder: Path, video_id: str) -> bool:
        meta = results.read_frames_meta(folder) or {}
        if meta.get("filtered_from"):
            return True  # whether these frames are wanted is decided by a plan
        frames_dir = self.frames(video_id, None).folder
        if _is_newer(folder / FRAMES_FILE, frames_dir / FRAMES_FILE):
            return True
        source = (results.read_frames_meta(frames_dir) or {}).get("fingerprint")
        seen = meta.get("seen", ())
        expected = partial(fingerprints.of_filter, frames=source, seen=seen)
        return _carries(folder, FilterConfig, expected)

    def _dedup_is_of(self, project: str, videos: Iterable[str]) -> bool:
        meta = results.read_frames_meta(self.store.dedup(project)) or {}
        inputs = [
            (name, (results.read_frames_meta(self.store.filtered(project, name)) or {}))
            for name in sorted(videos)
        ]
        filtered = [(name, table.get("fingerprint")) for name, table in inputs]
        expected = fingerprints.of_dedup(
            meta.get("settings"),
            filtered,
            meta.get("model"),
            meta.get("version"),
            meta.get("references"),
        )
        return bool(meta.get("fingerprint") == expected)


_NOT_NOTED: dict[str, Any] = {"warning": None, "notes": {}}
_NO_FRAMES: dict[str, Any] = {"frames_dir": None, "frame_count": None, **_NOT_NOTED}
_NO_VIDEO: dict[str, Any] = {"video_path": None, **_NO_FRAMES}
_NOT_FILTERED: dict[str, Any] = {"filtered_dir": None, "passed_frames": None}
_NO_DETECT: dict[str, Any] = {"detect_dir": None, "annotations": 0}
_NO_DEDUP: dict[str, Any] = {"dedup_dir": None, "unique_frames": 0, **_NO_DETECT}


def read_if_whole(reader: Callable[[Path], _Read | None], folder: Path) -> _Read | None:
    """Read a folder or file; return None if it is absent or damaged.

    Raises
    ------
    Unreadable
        If the file system refuses: no permission, or a fault of the disk.
    """
    try:
        return reader(folder)
    except ABSENT_ERRORS:
        return None
    except OSError as error:
        raise Unreadable(
            f"{folder} cannot be read: {error.strerror}", ErrorClass.PERMISSION
        ) from error


def existing(*paths: Path) -> tuple[Path, ...]:
    """Return those of the paths that exist."""
    return tuple(path for path in paths if lstat_or_none(path))


def _video_status(
    status: str, download: TaskOutcome | None, frames: TaskOutcome | None, frames_fit: bool
) -> str:
    if download is None:
        # the file was deleted to save space, and its frames count
        if frames is not None and status != _V.PENDING and (frames_fit or frames.status == status):
            return frames.status
        return _V.PENDING
    if download.status == _V.FAILED:
        return _V.FAILED
    if frames is not None and (frames.status == status or frames_fit):
        return frames.status
    return _V.DOWNLOADED


def _is_regular(path: Path) -> bool:
    """Return whether there is a regular file that is not empty."""
    found = read_if_whole(lstat_or_none, path)
    return found is not None and stat.S_ISREG(found.st_mode) and found.st_size > 0


def _is_newer(output: Path, source: Path) -> bool:
    """Return whether an output was made after its source, or its source is gone."""
    made, changed = lstat_or_none(output), lstat_or_none(source)
    return made is not None and (changed is None or made.st_mtime_ns >= changed.st_mtime_ns)


def _carries(folder: Path, settings: type[Section], expected: Callable[..., str]) -> bool:
    """Return whether a table carries the fingerprint of its input and of its own settings."""
    meta = results.read_frames_meta(folder) or {}
    try:
        used = settings.model_validate(meta.get("settings")).result_settings()
    except ValueError:  # of another version, so that only the time decides
        return False
    return bool(meta.get("fingerprint") == expected(used, version=meta.get("version")))


def _has_images(folder: Path, dedup: Path) -> bool:
    """Return whether annotated images have the sizes of the unique frames."""
    found = sizes_in(folder / "images")
    try:
        with FrameReader(dedup) as reader:
            return all(size in (None, found.get(name)) for name, size in reader.sizes.items())
    except ABSENT_ERRORS:
        return True  # dedup comes first


def _detect_is_of(folder: Path, dedup: Path) -> bool:
    """Return whether annotations are of the present unique frames."""
    if _is_newer(folder / ANNOTATIONS_FILE, dedup / FRAMES_FILE):
        return True
    images = folder / "images"
    with FrameReader(dedup) as reader:
        return set(reader.names) == list_names(images) and all(
            (images / name).samefile(dedup / name)
            if reader.kind == "files"
            else read_file(images / name) == reader.read(name)
            for name in reader.names
        )
