"""Hashes and thumbnails of reference pictures, made once and kept in the store."""

from __future__ import annotations

import logging
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataminer.errors import DamagedFile
from dataminer.files.hashing import fingerprint
from dataminer.frames.image_decoding import decode_image
from dataminer.frames.table import read_meta, read_table, write_table
from dataminer.provenance.fingerprints import VERSIONS
from dataminer.stages.dedup.references.listing import (
    ReferenceFile,
    ReferenceSource,
    base_folder,
    exclusion_error,
    is_image,
    readable_name,
)
from dataminer.stages.extract.quality.metrics import measure, table_columns

PICTURES_SCHEMA = pa.schema(
    [
        # relative to what was given; for a picture in an archive, that of the archive
        pa.field("file", pa.string(), nullable=False),
        # the name in the archive; null for a file of its own
        pa.field("member", pa.string()),
        # of the file, by which a later dedup recognises it: bytes, and nanoseconds
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        # null if it cannot be decoded, as all that follows
        pa.field("phash", pa.uint64()),
        pa.field("dhash", pa.uint64()),
        # as in dataminer.frames.thumbnails
        pa.field("thumbnail", pa.binary()),
        pa.field("means", pa.binary()),
        # of its mirror image: its own thumbnail, because colour is sampled from the left
        pa.field("phash_mirrored", pa.uint64()),
        pa.field("dhash_mirrored", pa.uint64()),
        pa.field("thumbnail_mirrored", pa.binary()),
        pa.field("means_mirrored", pa.binary()),
    ]
)
MIRRORED = "_mirrored"
"""Ends the names of columns of mirror images."""
_Row = dict[str, Any]
_Key = tuple[str, int, int]
_ORDER = [("file", "ascending"), ("member", "ascending")]
_AT_ONCE = 256  # files that wait for a thread
_SAVE_SECONDS, _REPORT_SECONDS = 120.0, 10.0

log = logging.getLogger("dataminer")


def read_pictures(
    source: ReferenceSource, cache: Path, progress: Callable[[str], None], *, threads: int = 1
) -> pa.Table:
    """Return the hashes and thumbnails of a source's pictures.

    Parameters
    ----------
    source : ReferenceSource
        The listed files.
    cache : Path
        The folder of the pictures that are known. A file is read if its name, size or time differs.
    progress, threads
        Gets a message now and then; for decoding.

    Returns
    -------
    pa.Table
        With the columns of ``PICTURES_SCHEMA``, ordered by file and member. Pictures that cannot be
        decoded are among them.

    Raises
    ------
    DataminerError
        A file cannot be read, archives have no image, or no picture can be decoded.
    """
    path = cache / f"{fingerprint(str(base_folder(source.given).resolve()))}.parquet"
    table = _Reader(source, path, progress).complete(threads)
    unreadable = table.filter(pc.is_null(table["phash"]))
    if len(unreadable) == len(table):
        reason = f"has no image that can be decoded; {len(unreadable):,} cannot"
        raise exclusion_error(source.given, reason, "name a folder of images, or remove it")
    if len(unreadable):
        name = picture_name(unreadable["file"][0].as_py(), unreadable["member"][0].as_py())
        counts = f"{len(unreadable):,} of {len(table):,} pictures"
        reason = "cannot be decoded and are not compared"
        log.warning("%s: %s %s, such as %s", source.given, counts, reason, name)
    return table


def picture_name(file: str, member: str | None) -> str:
    """Return the name by which a picture is reported."""
    return file if member is None else f"{file}/{member}"


def read_picture(file: ReferenceFile, member: str | None) -> bytes:
    """Return a reference picture as a JPEG.

    Parameters
    ----------
    file : ReferenceFile
        The image, or its archive.
    member : str or None
        Its name in the archive.

    Raises
    ------
    OSError
        It is no longer there.
    ValueError
        It is no longer an image.
    """
    contents = _whole(file.path) if member is None else _members(file.path)
    data = next((data for name, data in contents if name == member), b"")
    return cv2.imencode(".jpg", decode_image(data))[1].tobytes()


class _Reader:
    """Reads the pictures of a source that are not known yet."""

    def __init__(
        self, source: ReferenceSource, path: Path, progress: Callable[[str], None]
    ) -> None:
        self._source = source
        self._path = path
        self._progress = progress
        self._wanted = {_key(file) for file in source.files}
        self._read = 0
        self._saved = self._reported = time.monotonic()

    def complete(self, threads: int) -> pa.Table:
        """Return all pictures; what was read is kept for the next time."""
        parts = [_read_known(self._path)]
        known = set(_keys(parts[0]))
        new = [file for file in self._source.files if _key(file) not in known]
        if new:
            count = len(self._source.files)
            self._progress(f"{self._source.given}: {len(new):,} of {count:,} files are new")
        cv2.setNumThreads(1)  # OpenCV's own threads would compete with ours
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(new), _AT_ONCE):
                found = pool.map(self._rows, new[start : start + _AT_ONCE])
                rows = [row for rows in found for row in rows]
                parts.append(pa.Table.from_pylist(rows, schema=PICTURES_SCHEMA))
                if time.monotonic() - self._saved > _SAVE_SECONDS:
                    self._save(parts)
        if new:
            self._save(parts)
        table = pa.concat_tables(parts)
        present = [key in self._wanted for key in _keys(table)]
        if not all(present):
            table = table.filter(pa.array(present, pa.bool_()))
        return table.sort_by(_ORDER) if new else table  # what was saved is sorted

    def _save(self, parts: list[pa.Table]) -> None:
        """Keep what is known, except for earlier states of files."""
        table = pa.concat_tables(parts)
        names = {file.name for file in self._source.files}
        current = [key in self._wanted or key[0] not in names for key in _keys(table)]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = table.filter(pa.array(current, pa.bool_())).sort_by(_ORDER)
        write_table(self._path, kept, PICTURES_SCHEMA, _meta())
        self._saved = time.monotonic()

    def _rows(self, file: ReferenceFile) -> list[_Row]:
        """Return the row of an image, or those of the images in an archive."""
        contents = _members(file.path) if file.is_archive else _whole(file.path)
        try:
            return [self._row(file, member, data) for member, data in contents]
        except OSError as error:
            reason = f"leads to {file.path}, which cannot be read: {error.strerror}"
            step = "correct its permissions, or name another path"
            raise exclusion_error(self._source.given, reason, step) from error

    def _row(self, file: ReferenceFile, member: str | None, data: bytes) -> _Row:
        self._count()
        state = {"size": file.size, "mtime_ns": file.mtime_ns}
        row: _Row = {"file": file.name, "member": member, **state}
        try:
            image = decode_image(data)
            metrics = [measure(image), measure(np.asarray(cv2.flip(image, 1), np.uint8))]
        except (ValueError, cv2.error):
            return row
        hashes = table_columns(metrics)
        for number, suffix in enumerate(("", MIRRORED)):
            for kind in ("phash", "dhash"):
                row[f"{kind}{suffix}"] = int(hashes[kind][number])
            thumbnail = metrics[number].thumbnail
            row[f"thumbnail{suffix}"] = thumbnail.jpeg
            row[f"means{suffix}"] = thumbnail.means.tobytes()
        return row

    def _count(self) -> None:
        self._read += 1
        if time.monotonic() - self._reported > _REPORT_SECONDS:
            self._reported = time.monotonic()
            self._progress(f"{self._source.given}: {self._read:,} new pictures are hashed")


def _key(file: ReferenceFile) -> _Key:
    return file.name, file.size, file.mtime_ns


def _keys(table: pa.Table) -> list[_Key]:
    columns = (table[name].to_pylist() for name in ("file", "size", "mtime_ns"))
    return list(zip(*columns, strict=True))


def _meta() -> dict[str, Any]:
    """Return what the hashes depend on besides the pictures."""
    return {"stage": "dedup", "version": VERSIONS["extract"]}


def _read_known(path: Path) -> pa.Table:
    """Return the pictures that an earlier dedup read."""
    try:
        if read_meta(path) == _meta():
            return read_table(path, schema=PICTURES_SCHEMA)
    except FileNotFoundError:
        pass
    except DamagedFile as error:
        log.warning("%s; its pictures are hashed again", error.message)
    return PICTURES_SCHEMA.empty_table()


def _whole(path: Path) -> Iterator[tuple[str | None, bytes]]:
    yield None, path.read_bytes()


def _members(path: Path) -> Iterator[tuple[str | None, bytes]]:
    """Yield the images of an archive; where it is damaged, an image without bytes."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and is_image(PurePath(member.name).name):
                    content = archive.extractfile(member)
                    yield readable_name(member.name), content.read() if content else b""
    except (tarfile.TarError, EOFError):
        yield None, b""
