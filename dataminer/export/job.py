"""One export in progress: the dataset, its splits, and the folder that is filled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dataminer.errors import DamagedFile
from dataminer.export.dataset import Dataset
from dataminer.export.splits import Division
from dataminer.files.copying import link_or_copy
from dataminer.files.reading import read_file
from dataminer.frames.boxes import LabelledImage
from dataminer.frames.image_decoding import is_complete_image
from dataminer.frames.images import FrameReader
from dataminer.frames.result_files import result_file
from dataminer.frames.table import FRAMES_FILE

ExportProgress = Callable[[int, int], None]
"""Gets the number of images that are done, and the total."""


class ExportImages:
    """The images of a dataset, which are files or members of an archive.

    Parameters
    ----------
    dataset : Dataset
        The dataset.
    copy : bool
        Never hard-link, so that changes to the export do not change the store.
    progress : callable, optional
        Called after each image.
    """

    def __init__(
        self, dataset: Dataset, *, copy: bool = False, progress: ExportProgress | None = None
    ) -> None:
        self._folder = dataset.folder
        self._copy = copy
        self._progress = progress or (lambda _, __: None)
        self._total, self._done = len(dataset.images), 0
        # annotated frames are files, without a frame table
        table = dataset.folder / FRAMES_FILE
        self._reader = FrameReader(dataset.folder) if table.is_file() else None

    def close(self) -> None:
        """Close the archive, if one was read."""
        if self._reader:
            self._reader.__exit__()

    def read(self, name: str) -> bytes:
        """Return the bytes of an image."""
        self._step()
        if self._reader:
            return self._reader.read(name)
        return read_file(self._path(name))

    def put(self, name: str, target: Path) -> None:
        """Write an image to a file: as a reflink or hard link if possible, otherwise as a copy."""
        if self._copy or (self._reader and self._reader.archive):
            target.write_bytes(self.read(name))
            return
        self._step()
        link_or_copy(self._path(name), target, reflink=True)

    def _path(self, name: str) -> Path:
        with result_file(self._folder, name, self._folder.parent) as path:
            whole = is_complete_image(path)
        if not whole:
            step = "run `dataminer sync --deep`, then snakemake, which makes it again"
            raise DamagedFile(path, "it is no whole image", step)
        return path

    def _step(self) -> None:
        self._done += 1
        self._progress(self._done, self._total)


@dataclass(frozen=True)
class ExportJob:
    """The input of a format's writer.

    Attributes
    ----------
    dataset : Dataset
        All images.
    division : Division
        The split of each video.
    out : Path
        An existing empty folder, which the caller publishes.
    images : ExportImages
        The images.
    seed : int
        Of random orders.
    shard_bytes : int
        Maximum size of an archive.
    """

    dataset: Dataset
    division: Division
    out: Path
    images: ExportImages
    seed: int
    shard_bytes: int

    def images_of(self, split: str) -> list[LabelledImage]:
        """Return the images of a split, in the order of video and frame."""
        split_of = self.division.split_of
        return [image for image in self.dataset.images if split_of[image.video_id] == split]

    def put_images(self, split: str, folder: Path) -> list[LabelledImage]:
        """Fill a new folder with the images of a split, under their own names."""
        folder.mkdir(parents=True)
        images = self.images_of(split)
        for image in images:
            self.images.put(image.file_name, folder / image.file_name)
        return images
