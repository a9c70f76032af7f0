"""The thumbnails of the frames that dedup judges: read, or made where extract made none."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple, Self

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataminer.errors import DamagedFile, ErrorClass, PermanentError
from dataminer.frames.image_decoding import decode_image
from dataminer.frames.images import FrameReader
from dataminer.frames.thumbnails import (
    PARTS,
    THUMBNAILS_FILE,
    Thumbnail,
    VideoThumbnails,
    read_thumbnails,
    write_thumbnails,
)
from dataminer.stages.dedup.small_picture import SmallPicture
from dataminer.stages.extract.quality.metrics import measure

_UNREADABLE = Thumbnail(b"", np.zeros((3, PARTS), np.uint8))
_REPORT_EVERY = 1000  # thumbnails that are made

log = logging.getLogger(__name__)


class ThumbnailSource(NamedTuple):
    """Where the thumbnails of a video's frames are, and the frames they can be made from.

    Parameters
    ----------
    file : Path
        The file of thumbnails, which need not exist.
    frames_dir : Path
        A folder with the frames and their table.
    """

    file: Path
    frames_dir: Path

    @classmethod
    def of(cls, folders: Sequence[Path], frames: Sequence[Path]) -> list[Self]:
        """Return the sources of videos whose thumbnails are in these folders."""
        pairs = zip(folders, frames, strict=True)
        return [cls(folder / THUMBNAILS_FILE, frames_dir) for folder, frames_dir in pairs]


class FrameRows(NamedTuple):
    """The frames of a video whose thumbnails are needed.

    Parameters
    ----------
    source : int
        The index of the video's source.
    rows : ndarray of int64, (n,)
        Their rows in the whole.
    frame_index : ndarray of int32, (n,)
        Their positions in the video, ascending.
    names : pa.ChunkedArray of str, length n
        Their images.
    """

    source: int
    rows: NDArray[np.int64]
    frame_index: NDArray[np.int32]
    names: pa.ChunkedArray


@dataclass(frozen=True)
class StoredPictures:
    """The thumbnails of n frames; those of a million stay on disk.

    Attributes
    ----------
    means : ndarray of uint8, (n, 3, PARTS)
        See :class:`dataminer.frames.thumbnails.Thumbnail`.
    begins, sizes : ndarray of int64, (n,)
        Where the JPEG of each is in the file; a frame whose image cannot be read has the size 0.
    """

    means: NDArray[np.uint8]
    begins: NDArray[np.int64]
    sizes: NDArray[np.int64]
    _file: BinaryIO

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Which frames have a thumbnail."""
        return np.asarray(self.sizes > 0)

    def picture(self, row: int) -> SmallPicture:
        """Return one of them, decoded."""
        data = os.pread(self._file.fileno(), int(self.sizes[row]), int(self.begins[row]))
        try:
            return SmallPicture(data)
        except ValueError as error:
            raise PermanentError(
                "a stored thumbnail is no image of the right size",
                ErrorClass.CORRUPT,
                f"remove {THUMBNAILS_FILE} from the folders of the project's frames",
            ) from error

    def and_also(self, thumbnails: Sequence[Thumbnail]) -> StoredPictures:
        """Return these and others, whose rows follow."""
        sizes = np.array([len(thumbnail.jpeg) for thumbnail in thumbnails], np.int64)
        begins = self._file.seek(0, os.SEEK_END) + np.cumsum(sizes) - sizes
        self._file.write(b"".join(thumbnail.jpeg for thumbnail in thumbnails))
        self._file.flush()
        return StoredPictures(
            np.concatenate([self.means, np.stack([each.means for each in thumbnails])]),
            np.concatenate([self.begins, begins]),
            np.concatenate([self.sizes, sizes]),
            self._file,
        )


@contextmanager
def stored_pictures(
    rows_by_source: Sequence[FrameRows],
    sources: Sequence[ThumbnailSource],
    folder: Path,
    progress: Callable[[str], None],
    *,
    threads: int = 1,
) -> Iterator[StoredPictures]:
    """Gather the thumbnails of frames in a nameless file.

    Parameters
    ----------
    rows_by_source : sequence of FrameRows
        Together they have each row once.
    sources : sequence of ThumbnailSource
        Of the videos.
    folder : Path
        Where the file is, for as long as it is open.
    progress, threads
        Gets a message now and then; for making thumbnails of frames that have none.
    """
    count = sum(len(frames.rows) for frames in rows_by_source)
    means = np.zeros((count, 3, PARTS), np.uint8)
    begins, sizes = np.zeros(count, np.int64), np.zeros(count, np.int64)
    made = _Maker(progress, threads)
    with TemporaryFile(dir=folder) as file:
        for frames in rows_by_source:
            thumbnails = made.complete(sources[frames.source], frames)
            index = np.searchsorted(thumbnails.frame_index, frames.frame_index)
            jpegs = [thumbnails.jpegs[number] for number in index]
            means[frames.rows] = thumbnails.means[index]
            lengths = np.array([len(jpeg) for jpeg in jpegs], np.int64)
            sizes[frames.rows] = lengths
            begins[frames.rows] = file.tell() + np.cumsum(lengths) - lengths
            file.write(b"".join(jpegs))
        file.flush()
        yield StoredPictures(means, begins, sizes, file)


class _Maker:
    """Reads the thumbnails of videos, and makes those that are missing."""

    def __init__(self, progress: Callable[[str], None], threads: int) -> None:
        self._progress = progress
        self._threads = threads
        self._made = 0

    def complete(self, source: ThumbnailSource, frames: FrameRows) -> VideoThumbnails:
        """Return thumbnails of at least these frames; new ones are kept for the next time."""
        known = _read(source.file)
        lacking = ~np.isin(frames.frame_index, known.frame_index)
        if not lacking.any():
            return known
        names = frames.names.filter(pa.array(lacking)).to_pylist()
        new = zip(frames.frame_index[lacking].tolist(), self._make(source, names), strict=True)
        old = zip(known.frame_index.tolist(), map(Thumbnail, known.jpegs, known.means), strict=True)
        made = VideoThumbnails.of([*old, *new])
        write_thumbnails(source.file, made)
        return made

    def _make(self, source: ThumbnailSource, names: Sequence[str]) -> list[Thumbnail]:
        cv2.setNumThreads(1)  # OpenCV's own threads would compete with ours
        with FrameReader(source.frames_dir) as reader, ThreadPoolExecutor(self._threads) as pool:
            _open_once(reader, names[0])
            made = []
            for thumbnail in pool.map(lambda name: _from_image(reader, name), names):
                made.append(thumbnail)
                self._made += 1
                if self._made % _REPORT_EVERY == 0:
                    self._progress(f"made {self._made:,} thumbnails of frames that had none")
        return made


def _open_once(reader: FrameReader, name: str) -> None:
    """Open an archive here, and not in several threads at the same time."""
    with contextlib.suppress(PermanentError):
        reader.read(name)


def _read(path: Path) -> VideoThumbnails:
    try:
        return read_thumbnails(path)
    except FileNotFoundError:
        return VideoThumbnails.of([])
    except DamagedFile as error:
        log.warning("%s; its thumbnails are made again", error.message)
        return VideoThumbnails.of([])


def _from_image(reader: FrameReader, name: str) -> Thumbnail:
    """Make the thumbnail of a stored frame; an empty one if the image is damaged or missing."""
    try:
        return measure(decode_image(reader.read_checked(name))).thumbnail
    except (PermanentError, ValueError):
        return _UNREADABLE
