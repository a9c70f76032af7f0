"""Where a folder's images are: a file each, or one after the other in a tar archive."""

from __future__ import annotations

import contextlib
import io
import itertools
import operator
import os
import struct
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataminer.errors import DamagedFile, ErrorClass, PermanentError
from dataminer.files import (
    MOST_BYTES,
    StrPath,
    led_to,
    link_or_copy,
    look,
    member,
    open_file,
    own_names,
    read_file,
    sizes_in,
)
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, read_meta, read_table

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

FrameStore = Literal["files", "tar"]
ARCHIVE_FILE = "frames.tar"
_TABLES = (".parquet", ".partial", ARCHIVE_FILE)
ARCHIVE_KEY = "archive"
"""In the frame table's metadata: the archive's path from the table's folder, and its size."""


_IMAGES = (
    (b"\xff\xd8", b"\xff\xd9"),  # JPEG
    (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
    (b"RIFF", b""),  # WebP
)
_LONGEST_MAGIC = 8
MOST_PIXELS = 178_000_000  # as many as the settings allow a picture of a video
TOGETHER_PIXELS = 170_000_000  # of decoded pictures that are in a model, or wait: 512 MB each


class ImageLocation(NamedTuple):
    """Where an image is; the columns of the frame table with the same names."""

    byte_offset: int | None
    """Of its first byte in the archive; None where the image is a file of its own."""
    byte_size: int | None


class FrameWriter:
    """Puts images into a folder, as files or as one archive that any ``tar`` reads.

    Closing ends the archive; what is written appears with the folder, which the caller publishes.

    Parameters
    ----------
    folder : Path
        An existing folder without these images.
    kind : {"files", "tar"}
        How to keep them.
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
            with contextlib.suppress(OSError):  # what was not written is given up
                self._file.close()

    def close(self) -> None:
        """End the archive; a second call does nothing."""
        if self._file and not self._file.closed:
            self._append(bytes(2 * tarfile.BLOCKSIZE), tarfile.RECORDSIZE)
            self._file.close()

    def add(self, name: str, data: bytes | memoryview) -> ImageLocation:
        """Write one image; not to be called from two threads at once.

        An OSError, such as of a full disk, is for the caller to name.

        Parameters
        ----------
        name : str
            The file's name, at most 100 bytes and without folders.
        data : bytes-like
            The encoded image.

        Returns
        -------
        Place
            For the row of the frame.
        """
        size = memoryview(data).nbytes
        if self._file is None:
            (self._folder / name).write_bytes(data)
            return ImageLocation(None, size)
        self._append(_header(name, size))
        place = ImageLocation(self._size, size)
        self._append(data)
        return place

    def take(self, reader: FrameReader, name: str) -> ImageLocation:
        """Put another folder's image into this one: linked as a file, copied into an archive."""
        if self._file:
            return self.add(name, reader.read(name))
        return ImageLocation(None, reader.link(name, self._folder / name))

    @property
    def meta(self) -> dict[str, Any]:
        """What the frame table's metadata must say, once the writer is closed."""
        if self._file is None:
            return {}
        return {ARCHIVE_KEY: {"path": ARCHIVE_FILE, "bytes": self._size}}

    def _append(self, data: bytes | memoryview, multiple: int = tarfile.BLOCKSIZE) -> None:
        assert self._file
        self._size += self._file.write(data)
        self._size += self._file.write(bytes(-self._size % multiple))
        self._file.flush()  # a full disk shall be told of here, not when the file is closed


class FrameReader:
    """Reads the images that a folder's ``frames.parquet`` names, wherever they are.

    Parameters
    ----------
    folder : Path
        A folder with a frame table. Where the table points to an archive in another folder, that
        is read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._open.close()

    @property
    def kind(self) -> FrameStore:
        """How the images are kept."""
        return "tar" if self.archive else "files"

    @cached_property
    def archive(self) -> Path | None:
        """The archive; None where each image is a file."""
        entry = self._entry
        if entry is None:
            return None
        return _archive(self._folder, entry)

    @cached_property
    def names(self) -> list[str]:
        """The images that the table names, in its order."""
        return self._table["file_name"].to_pylist()  # type: ignore[no-any-return]

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What is known about the frame table as a whole."""
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
            with stored(self._folder, name) as path:
                return read_file(path)
        offset, size = self._places.get(name, (None, None))
        if offset is None or size is None or offset < tarfile.BLOCKSIZE or size < 0:
            raise self._changed(f"no place of {name} is known in it")
        fd, start = self._opened().fileno(), offset - tarfile.BLOCKSIZE
        if size > MOST_BYTES or os.fstat(fd).st_size < offset + size:
            raise self._changed(f"it ends before {name} does")
        data = os.pread(fd, tarfile.BLOCKSIZE + size, start)
        if _named(data[: tarfile.BLOCKSIZE]) != (name, size):
            raise self._changed(f"{name} is not at its place in it")
        return data[tarfile.BLOCKSIZE :]

    def picture(self, name: str) -> bytes:
        """Return the bytes of an image that is to be decoded.

        Raises
        ------
        PermanentError
            As :meth:`read`.
        ValueError
            It is no picture, or declares more pixels than the table says.
        """
        data = self.read(name)
        refuse_larger(data, self.pixels.get(name, 0))
        return data

    def link(self, name: str, target: Path) -> int:
        """Make an image a file of its own: hard-linked where it is one, else written.

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
        with stored(self._folder, name) as path:
            link_or_copy(path, target)
        return target.stat().st_size

    def lost(self) -> set[str]:
        """Return the names of images that are in the table and not in their place.

        Looks at names and sizes; what the images hold is looked at when one is read.
        """
        names = set(self.names)
        entry = self._entry
        if entry is None:
            return names - self._whole()
        return set() if _is_whole(self._folder, entry) else names

    def pointer(self, folder: Path) -> dict[str, Any]:
        """Return what the metadata of another folder's table must say to read these images.

        Parameters
        ----------
        folder : Path
            Where that table will lie, or a sibling.

        Raises
        ------
        PermanentError
            The archive is not there, or not as it was.
        """
        if self.archive is None:
            return {}
        if not self.archive.exists():
            raise missing(self.archive, self.archive.parent)
        if self.lost():
            raise self._changed("its size is not the one that it was written with")
        path = os.path.relpath(self.archive, folder)
        return {ARCHIVE_KEY: {**(self._entry or {}), "path": path}}

    @property
    def sizes(self) -> dict[str, int | None]:
        """How many bytes each image has; None of one of which the table does not say it."""
        return {name: place.byte_size for name, place in self._places.items()}

    @property
    def _entry(self) -> Mapping[str, Any] | None:
        entry: Mapping[str, Any] | None = self.meta.get(ARCHIVE_KEY)
        return entry

    @cached_property
    def _places(self) -> dict[str, ImageLocation]:
        columns = (self._table[name].to_pylist() for name in ImageLocation._fields)
        places = itertools.starmap(ImageLocation, zip(*columns, strict=True))
        return dict(zip(self.names, places, strict=True))

    @cached_property
    def pixels(self) -> dict[str, int]:
        """How many pixels the table says that each image has."""
        sizes = zip(
            self._table["width"].to_pylist(), self._table["height"].to_pylist(), strict=True
        )
        return dict(zip(self.names, itertools.starmap(operator.mul, sizes), strict=True))

    @cached_property
    def _table(self) -> pa.Table:
        columns = ["file_name", "width", "height", *ImageLocation._fields]
        return read_table(self._folder / FRAMES_FILE, columns, schema=FRAMES_SCHEMA)

    def _whole(self) -> set[str]:
        """Return the names of files that are as large as the table says, as far as it does."""
        sizes, found = self.sizes, sizes_in(self._folder)
        return {name for name, size in found.items() if sizes.get(name) in (None, size)}

    def _opened(self) -> BinaryIO:
        assert self.archive
        if self._open is None:
            with stored(self.archive.parent, self.archive.name) as path:
                self._open = open_file(path)
        return self._open

    def _changed(self, how: str) -> PermanentError:
        assert self.archive
        return corrupt(self.archive, how, self.archive.parent)


@contextlib.contextmanager
def lack_of_memory() -> Iterator[None]:
    """Raise OpenCV's lack of memory as a MemoryError."""
    import cv2

    try:
        yield
    except cv2.error as error:
        if getattr(error, "code", None) == cv2.Error.StsNoMem or "bad_alloc" in str(error):
            raise MemoryError(str(error)) from error
        raise


def decode_image(data: bytes, *, rgb: bool = False) -> NDArray[np.uint8]:
    """Decode a picture.

    Parameters
    ----------
    data : bytes
        A file in any format that OpenCV reads.
    rgb : bool
        Red first instead of blue.

    Returns
    -------
    ndarray of uint8, (height, width, 3)

    Raises
    ------
    ValueError
        It is no picture, or one of more than ``MOST_PIXELS``.
    """
    import cv2

    colour = cv2.IMREAD_COLOR_RGB if rgb else cv2.IMREAD_COLOR
    try:
        with lack_of_memory():
            image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), colour) if data else None
    except cv2.error as error:
        raise ValueError(str(error)) from error
    if image is None:
        raise ValueError("not an image")
    return np.asarray(image, np.uint8)


@contextlib.contextmanager
def open_picture(data: bytes) -> Iterator[ImageFile]:
    """Open a picture with Pillow, which decodes it only in the body.

    Not by ``Image.open``, which ultralytics replaces in its process by what looks for packages.

    Parameters
    ----------
    data : bytes
        A file in one of the formats that frames are kept in.

    Raises
    ------
    ValueError
        It is no picture, is damaged, or has more than ``MOST_PIXELS``; also out of the body.
    """
    from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    kinds: tuple[Any, ...] = (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
    )
    known = zip(_IMAGES, kinds, strict=True)
    kind = next((kind for (magic, _), kind in known if data.startswith(magic)), None)
    if kind is None:
        raise ValueError("not an image")
    try:
        with kind(io.BytesIO(data)) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(f"it has {picture.width} x {picture.height} pixels")
            yield picture
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error) as error:
        raise ValueError(f"damaged: {error}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error


def refuse_larger(data: bytes, pixels: int) -> None:
    """Raise ValueError if a picture declares more pixels than so many, or is none."""
    with open_picture(data) as picture:
        if picture.width * picture.height > pixels:
            raise ValueError(f"it has {picture.width} x {picture.height} pixels, not {pixels}")


def seem_whole(folder: StrPath, meta: Mapping[str, Any]) -> bool:
    """Tell by their number, or their archive's size, whether all images of a table are there.

    Parameters
    ----------
    folder : path
        Where the table lies.
    meta : mapping
        What is known about it as a whole.
    """
    entry = meta.get(ARCHIVE_KEY)
    if entry:
        return _is_whole(folder, entry)
    count = meta.get("unique", meta.get("passed", meta.get("frames")))
    if not isinstance(count, int):  # by an older version
        try:
            return not FrameReader(Path(folder)).lost()
        except DamagedFile:
            return False
    found = own_names(folder)
    others = [name for name in found if name.endswith(_TABLES)]
    return bool(len(found) - len(others) >= count)


def is_whole_image(path: Path) -> bool:
    """Tell by its first and last bytes whether an image is there, and not cut off.

    Raises
    ------
    DamagedFile
        It is a link.
    """
    with open_file(path) as file:
        start = file.read(_LONGEST_MAGIC)
        file.seek(max(file.seek(0, os.SEEK_END) - _LONGEST_MAGIC, 0))
        end = file.read()
    return any(start.startswith(first) and end.endswith(last) for first, last in _IMAGES)


def _archive(folder: StrPath, entry: Mapping[str, Any]) -> Path:
    """Return the path of an archive that a frame table's metadata names."""
    # not left to the file system, which would follow a linked folder before going up from it
    return Path(led_to(os.path.normpath(os.path.join(folder, entry["path"]))))


def _is_whole(folder: StrPath, entry: Mapping[str, Any]) -> bool:
    """Tell by its size whether an archive that a frame table's metadata names is there."""
    try:
        found = look(_archive(folder, entry))
    except DamagedFile:
        return False
    return found is not None and found.st_size == entry["bytes"]


def place_columns(places: list[ImageLocation]) -> dict[str, pa.Array]:
    """Return the columns of the frame table that say where images are."""
    return {
        field: pa.array([getattr(place, field) for place in places], pa.int64())
        for field in ImageLocation._fields
    }


@contextlib.contextmanager
def stored(folder: Path, name: str, result: Path | None = None) -> Iterator[Path]:
    """Yield the path of a file of a result, and say what is wrong if it cannot be opened.

    Parameters
    ----------
    folder : Path
        Where the file is.
    name : str
        Its name.
    result : Path, optional
        What is to be made again without it; by default the folder.

    Raises
    ------
    PermanentError
        ``MISSING_SOURCE``: it is not there. ``CORRUPT``: it is a link, or the name leads out of
        the folder.
    """
    try:
        yield member(folder, name)
    except FileNotFoundError as error:
        raise missing(folder / name, result or folder) from error
    except DamagedFile as error:
        raise corrupt(error.path, error.reason, result or folder) from None


def missing(path: Path, folder: Path) -> PermanentError:
    """Say that a file of a result is not there."""
    return PermanentError(f"{path} is missing", ErrorClass.MISSING_SOURCE, _remake(folder))


def corrupt(path: StrPath, reason: str, folder: Path) -> DamagedFile:
    """Say that a file of a result is not as it was written."""
    return DamagedFile(path, reason, _remake(folder))


def _remake(folder: Path) -> str:
    return f"remove {folder}, then run snakemake again: it is made anew"


def _header(name: str, size: int) -> bytes:
    if "/" in name or len(name.encode()) > tarfile.LENGTH_NAME:
        raise ValueError(f"{name!r} cannot be the name of a frame")
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def _named(header: bytes) -> tuple[str, int] | None:
    """Return the name and size that a tar header gives; None where it is none."""
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    return info.name, info.size
