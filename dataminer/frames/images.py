"""Images of a folder: one file each, or all of them in one tar archive."""

from __future__ import annotations

import contextlib
import itertools
import operator
import os
import tarfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, NamedTuple, Self

import pyarrow as pa

from dataminer.errors import DamagedFile, PermanentError
from dataminer.files.copying import link_or_copy
from dataminer.files.links import StrPath, lstat_or_none, read_link
from dataminer.files.reading import (
    MAX_FILE_BYTES,
    names_without_links,
    open_file,
    read_file,
    sizes_in,
)
from dataminer.frames.image_decoding import check_declared_pixels
from dataminer.frames.result_files import damaged_error, missing_error, result_file
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, read_meta, read_table

FrameStore = Literal["files", "tar"]
ARCHIVE_FILE = "frames.tar"
ARCHIVE_KEY = "archive"
"""Key in the frame table's metadata: the archive's path from the table's folder, and its size."""
_OTHER_FILES = (".parquet", ".partial", ARCHIVE_FILE)


class ImageLocation(NamedTuple):
    """Where an image is stored; the columns of the frame table with the same names."""

    byte_offset: int | None
    """Position of its first byte in the archive; None if the image is a file of its own."""
    byte_size: int | None


class FrameWriter:
    """Writes images into a folder, as files or as one archive that any ``tar`` reads.

    Closing ends the archive. The caller publishes the folder.

    Parameters
    ----------
    folder : Path
        An existing folder without these images.
    kind : {"files", "tar"}
        How to store them.
    """

    def __init__(self, folder: Path, kind: FrameStore) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._size = 0
        if kind == "tar":
            self._file = (folder / ARCHIVE_FILE).open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        elif self._file:
            with contextlib.suppress(OSError):  # the folder is discarded
                self._file.close()

    def close(self) -> None:
        """End the archive; a second call does nothing."""
        if self._file and not self._file.closed:
            self._append(bytes(2 * tarfile.BLOCKSIZE), tarfile.RECORDSIZE)
            self._file.close()

    def add(self, name: str, data: bytes | memoryview) -> ImageLocation:
        """Write one image; not safe to call from two threads at once.

        The caller handles an OSError, for example of a full disk.

        Parameters
        ----------
        name : str
            The file's name, at most 100 bytes and without folders.
        data : bytes-like
            The encoded image.

        Returns
        -------
        ImageLocation
            For the row of the frame.
        """
        size = memoryview(data).nbytes
        if self._file is None:
            (self._folder / name).write_bytes(data)
            return ImageLocation(None, size)
        self._append(_header(name, size))
        location = ImageLocation(self._size, size)
        self._append(data)
        return location

    def copy_from(self, reader: FrameReader, name: str) -> ImageLocation:
        """Add another folder's image: a file is hard-linked, an archive receives a copy."""
        if self._file:
            return self.add(name, reader.read(name))
        return ImageLocation(None, reader.link(name, self._folder / name))

    @property
    def meta(self) -> dict[str, Any]:
        """Entries for the frame table's metadata, once the writer is closed."""
        if self._file is None:
            return {}
        return {ARCHIVE_KEY: {"path": ARCHIVE_FILE, "bytes": self._size}}

    def _append(self, data: bytes | memoryview, multiple: int = tarfile.BLOCKSIZE) -> None:
        assert self._file
        self._size += self._file.write(data)
        self._size += self._file.write(bytes(-self._size % multiple))
        self._file.flush()  # so that a full disk raises here, not when the file is closed


class FrameReader:
    """Reads the images that a folder's ``frames.parquet`` names, wherever they are stored.

    Parameters
    ----------
    folder : Path
        A folder with a frame table, which may point to an archive in another folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    @property
    def kind(self) -> FrameStore:
        """How the images are stored."""
        return "tar" if self.archive else "files"

    @cached_property
    def archive(self) -> Path | None:
        """The archive; None if each image is a file."""
        entry = self._entry
        if entry is None:
            return None
        return _archive(self._folder, entry)

    @cached_property
    def names(self) -> list[str]:
        """The images that the table names, in its order."""
        names: list[str] = self._table["file_name"].to_pylist()
        return names

    @cached_property
    def meta(self) -> dict[str, Any]:
        """The frame table's metadata."""
        return read_meta(self._folder / FRAMES_FILE)

    def read(self, name: str) -> bytes:
        """Return an image's bytes.

        Raises
        ------
        PermanentError
            ``MISSING_SOURCE``: the file or the archive is not there. ``CORRUPT``: the archive is
            cut off or was changed, or a file is a link.
        """
        if self.archive is None:
            with result_file(self._folder, name) as path:
                return read_file(path)
        offset, size = self._locations.get(name, (None, None))
        if offset is None or size is None or offset < tarfile.BLOCKSIZE or size < 0:
            raise self._archive_error(f"the table gives no position of {name} in it")
        fd, start = self._open_archive().fileno(), offset - tarfile.BLOCKSIZE
        if size > MAX_FILE_BYTES or os.fstat(fd).st_size < offset + size:
            raise self._archive_error(f"it ends before {name} does")
        data = os.pread(fd, tarfile.BLOCKSIZE + size, start)
        if _parse_header(data[: tarfile.BLOCKSIZE]) != (name, size):
            raise self._archive_error(f"{name} is not at its position in it")
        return data[tarfile.BLOCKSIZE :]

    def read_checked(self, name: str) -> bytes:
        """Return the bytes of an image that may be decoded: it is no larger than the table says.

        Raises
        ------
        PermanentError
            As :meth:`read`.
        ValueError
            It is no image, or declares more pixels than the table says.
        """
        data = self.read(name)
        check_declared_pixels(data, self.pixels.get(name, 0))
        return data

    def link(self, name: str, target: Path) -> int:
        """Make an image a file of its own: hard-linked if it is one already, else written.

        Parameters
        ----------
        name : str
            The image.
        target : Path
            A name that does not exist yet.

        Returns
        -------
        int
            Its size in bytes.

        Raises
        ------
        PermanentError
            As :meth:`read`.
        """
        if self.archive:
            return target.write_bytes(self.read(name))
        with result_file(self._folder, name) as path:
            link_or_copy(path, target)
        return target.stat().st_size

    def missing_images(self) -> set[str]:
        """Return the names of images that the table lists and that are missing.

        Compares names and sizes only; content is checked when an image is read.
        """
        names = set(self.names)
        entry = self._entry
        if entry is None:
            return names - self._complete_files()
        return set() if _is_complete(self._folder, entry) else names

    def archive_pointer(self, folder: Path) -> dict[str, Any]:
        """Return the metadata that make another folder's table refer to these images.

        Parameters
        ----------
        folder : Path
            The folder of that table, or a sibling.

        Raises
        ------
        PermanentError
            The archive is not there, or not as it was.
        """
        if self.archive is None:
            return {}
        if not self.archive.exists():
            raise missing_error(self.archive, self.archive.parent)
        if self.missing_images():
            raise self._archive_error("its size has changed since it was written")
        path = os.path.relpath(self.archive, folder)
        return {ARCHIVE_KEY: {**(self._entry or {}), "path": path}}

    @property
    def sizes(self) -> dict[str, int | None]:
        """The bytes of each image; None if the table does not state them."""
        return {name: location.byte_size for name, location in self._locations.items()}

    @property
    def _entry(self) -> Mapping[str, Any] | None:
        entry: Mapping[str, Any] | None = self.meta.get(ARCHIVE_KEY)
        return entry

    @cached_property
    def _locations(self) -> dict[str, ImageLocation]:
        columns = (self._table[name].to_pylist() for name in ImageLocation._fields)
        locations = itertools.starmap(ImageLocation, zip(*columns, strict=True))
        return dict(zip(self.names, locations, strict=True))

    @cached_property
    def pixels(self) -> dict[str, int]:
        """The pixels of each image, as the table states them."""
        sizes = zip(
            self._table["width"].to_pylist(), self._table["height"].to_pylist(), strict=True
        )
        return dict(zip(self.names, itertools.starmap(operator.mul, sizes), strict=True))

    @cached_property
    def _table(self) -> pa.Table:
        columns = ["file_name", "width", "height", *ImageLocation._fields]
        return read_table(self._folder / FRAMES_FILE, columns, schema=FRAMES_SCHEMA)

    def _complete_files(self) -> set[str]:
        """Return the names of files that have the size in the table, if it states one."""
        expected, actual = self.sizes, sizes_in(self._folder)
        return {name for name, size in actual.items() if expected.get(name) in (None, size)}

    def _open_archive(self) -> BinaryIO:
        assert self.archive
        if self._file is None:
            with result_file(self.archive.parent, self.archive.name) as path:
                self._file = open_file(path)
        return self._file

    def _archive_error(self, reason: str) -> PermanentError:
        assert self.archive
        return damaged_error(self.archive, reason, self.archive.parent)


def seem_complete(folder: StrPath, meta: Mapping[str, Any]) -> bool:
    """Judge by the number of files, or the archive's size, whether all images of a table exist.

    Parameters
    ----------
    folder : path
        The folder of the table.
    meta : mapping
        The table's metadata.
    """
    entry = meta.get(ARCHIVE_KEY)
    if entry:
        return _is_complete(folder, entry)
    count = meta.get("unique", meta.get("passed", meta.get("frames")))
    if not isinstance(count, int):  # written by an older version
        try:
            return not FrameReader(Path(folder)).missing_images()
        except DamagedFile:
            return False
    names = names_without_links(folder)
    others = [name for name in names if name.endswith(_OTHER_FILES)]
    return bool(len(names) - len(others) >= count)


def _archive(folder: StrPath, entry: Mapping[str, Any]) -> Path:
    """Return the path of an archive that a frame table's metadata names."""
    # normalised here, because the file system would follow a linked folder before ".."
    return Path(read_link(os.path.normpath(os.path.join(folder, entry["path"]))))


def _is_complete(folder: StrPath, entry: Mapping[str, Any]) -> bool:
    """Return whether the archive that a frame table's metadata names has the right size."""
    try:
        status = lstat_or_none(_archive(folder, entry))
    except DamagedFile:
        return False
    return status is not None and status.st_size == entry["bytes"]


def location_columns(locations: list[ImageLocation]) -> dict[str, pa.Array]:
    """Return the columns of the frame table that say where images are stored."""
    return {
        field: pa.array([getattr(location, field) for location in locations], pa.int64())
        for field in ImageLocation._fields
    }


def _header(name: str, size: int) -> bytes:
    if "/" in name or len(name.encode()) > tarfile.LENGTH_NAME:
        raise ValueError(f"{name!r} cannot be the name of a frame")
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def _parse_header(header: bytes) -> tuple[str, int] | None:
    """Return the name and size in a tar header; None if it is not one."""
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    return info.name, info.size
