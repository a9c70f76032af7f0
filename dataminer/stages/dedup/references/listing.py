"""The pictures that ``dedup.exclude`` names: listed, and not opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dataminer.config.models import DedupConfig
from dataminer.errors import DataminerError
from dataminer.files.hashing import fingerprint
from dataminer.stages.dedup.references.dataset_files import coco_images, yolo_sources

_IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_ARCHIVE_SUFFIX = ".tar"
SETTING = "dedup.exclude"
_KINDS = (
    "a folder of images, a COCO file (.json), YOLO's data.yaml, a .tar of images, or an image"
    f" ({', '.join(sorted(suffix[1:] for suffix in _IMAGE_SUFFIXES))})"
)


@dataclass(frozen=True)
class ReferenceFile:
    """An image, or an archive of images.

    Attributes
    ----------
    name : str
        Its path, relative to what was given (if that is a file, to its folder).
    path : Path
        The file.
    size, mtime_ns : int
        Its state: bytes, and nanoseconds since the epoch.
    """

    name: str
    path: Path
    size: int
    mtime_ns: int

    @property
    def is_archive(self) -> bool:
        """Whether it is an archive of images."""
        return _is_archive(self.path.name)


@dataclass(frozen=True)
class ReferenceSource:
    """One entry of ``dedup.exclude``.

    Attributes
    ----------
    given : str
        As it is in the configuration.
    files : tuple of ReferenceFile
        Ordered by name, each once.
    """

    given: str
    files: tuple[ReferenceFile, ...]


@dataclass(frozen=True)
class ReferencePictures:
    """The pictures of ``dedup.exclude``, and what identifies their present state.

    Attributes
    ----------
    sources : tuple of ReferenceSource
        At least one.
    fingerprint : str
        Changes if the list changes, a picture is added, removed or written to, or frames are
        compared with pictures by other settings.
    """

    sources: tuple[ReferenceSource, ...]
    fingerprint: str

    @classmethod
    def of(cls, settings: DedupConfig, own: Path | None = None) -> ReferencePictures | None:
        """List the pictures that frames are compared with; None if there are to be none.

        Parameters
        ----------
        settings : DedupConfig
            With the paths, and the settings by which pictures are compared.
        own : Path, optional
            The folder of the project, which is no reference for itself.

        Raises
        ------
        DataminerError
            A path is missing, is of no known kind, has no image, or names images that are missing.
        """
        if not settings.exclude:
            return None
        if own:
            refuse_own(settings, own)
        sources = tuple(_source(given) for given in settings.exclude)
        compared = settings.model_dump(include={"hash", "threshold", "min_object"})
        states = [
            [source.given, [(file.name, file.size, file.mtime_ns) for file in source.files]]
            for source in sources
        ]
        return cls(sources, fingerprint(compared, states))

    @property
    def given(self) -> list[str]:
        """The entries of ``dedup.exclude``."""
        return [source.given for source in self.sources]

    def find(self, given: str, name: str) -> ReferenceFile | None:
        """Return a file of an entry by its name; None if it is no longer there."""
        files = (file for source in self.sources if source.given == given for file in source.files)
        return next((file for file in files if file.name == name), None)


def base_folder(given: str) -> Path:
    """Return the folder that names of a source's files are relative to."""
    path = Path(given).expanduser()
    return path if path.is_dir() else path.parent


def exclusion_error(given: str, reason: str, step: str) -> DataminerError:
    """Return an error that names the setting and its entry."""
    return DataminerError(f"{SETTING}: {given} {reason}", step)


def refuse_own(settings: DedupConfig, own: Path) -> None:
    """Refuse the project's own folder, and one above it: all frames would be near themselves."""
    project = own.resolve()
    for given in settings.exclude:
        path = Path(given).expanduser().resolve()
        if path == project or project in path.parents or path in project.parents:
            export = f"dataminer export {own.name} --format imagefolder --to exports/{own.name}"
            step = f"run `{export}`, and name that folder in {SETTING}"
            raise exclusion_error(given, f"holds results of project {own.name} itself", step)


def _source(given: str) -> ReferenceSource:
    path = Path(given).expanduser()
    base = base_folder(given)
    found = dict[str, ReferenceFile]()
    for image in _images(given, path):
        file = _file(given, image, base)
        found.setdefault(file.name, file)
    if not found:
        raise exclusion_error(given, "has no image", f"name {_KINDS}, or remove it from {SETTING}")
    return ReferenceSource(given, tuple(found[name] for name in sorted(found)))


def _images(given: str, path: Path) -> Iterator[Path]:
    """Yield the images and archives that an entry names."""
    if path.is_dir():
        yield from _walk(path)
    elif not path.exists():
        step = f"correct the path in {SETTING}, or remove it; a relative one begins where you run"
        raise exclusion_error(given, "does not exist", f"{step} snakemake")
    elif path.suffix.lower() == ".json":
        yield from coco_images(path, lambda *error: exclusion_error(given, *error))
    elif path.suffix.lower() in (".yaml", ".yml"):
        for source in yolo_sources(path, lambda *error: exclusion_error(given, *error)):
            yield from _walk(source) if source.is_dir() else [source]
    elif is_image(path.name) or _is_archive(path.name):
        yield path
    else:
        raise exclusion_error(given, "is no list of pictures", f"name {_KINDS}")


def _walk(folder: Path) -> Iterator[Path]:
    """Yield images and archives below a folder; links are followed, hidden names are left out."""
    known = set[tuple[int, int]]()
    pending = [os.fspath(folder)]
    while pending:
        current = pending.pop()
        state = os.stat(current)
        if (state.st_dev, state.st_ino) in known:
            continue  # a link that leads back
        known.add((state.st_dev, state.st_ino))
        with os.scandir(current) as entries:
            for entry in entries:
                if entry.is_dir() and not entry.name.startswith("."):
                    pending.append(entry.path)
                elif is_image(entry.name) or _is_archive(entry.name):
                    yield Path(entry.path)


def is_image(name: str) -> bool:
    """Return whether a file's name is that of an image, and not hidden."""
    return os.path.splitext(name)[1].lower() in _IMAGE_SUFFIXES and not name.startswith(".")


def _is_archive(name: str) -> bool:
    return name.lower().endswith(_ARCHIVE_SUFFIX) and not name.startswith(".")


def _file(given: str, path: Path, base: Path) -> ReferenceFile:
    try:
        state = os.stat(path)
    except FileNotFoundError:
        step = f"restore it, or remove its name from there; or name another path in {SETTING}"
        raise exclusion_error(given, f"leads to {path}, which is missing", step) from None
    text, folder = os.fspath(path), os.path.join(base, "")
    # relpath takes most of the time of listing a large folder
    name = text.removeprefix(folder) if text.startswith(folder) else os.path.relpath(path, base)
    return ReferenceFile(readable_name(name), path, state.st_size, state.st_mtime_ns)


def readable_name(name: str) -> str:
    """Return a name as text: bytes that are no UTF-8 are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
