"""WebDataset: tar archives of bounded size, with an image and a JSON file per sample."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable

from dataminer.export.job import ExportJob
from dataminer.export.records import objects, origin
from dataminer.frames.boxes import LabelledImage

_INFERRED = 5  # samples from which Hugging Face's reader infers the columns' types


def write_webdataset(job: ExportJob) -> None:
    """Write ``SPLIT-000000.tar`` and so on; the same input gives the same bytes.

    Samples are numbered, because some readers silently skip a name that begins with `__`, as an id
    of YouTube may. Their order is shuffled once, because readers shuffle little. The samples from
    which a reader infers its types have objects, as far as there are any.
    """
    for split in job.division.used:
        first, rest = _order(job.images_of(split), job.seed)
        parts = [first + rest] if len(first) == _INFERRED else [first, rest]
        writer = _Shards(job, split)
        for part in parts:
            writer.write(part)


def _order(
    images: Iterable[LabelledImage], seed: int
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return the first samples, which have objects, and the others."""
    drawn = sorted(images, key=lambda image: _draw(image.file_name, seed))
    first = [image for image in drawn if image.boxes][:_INFERRED]
    names = {image.file_name for image in first}
    return first, [image for image in drawn if image.file_name not in names]


def _draw(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


class _Shards:
    """Writer of a split's samples into one archive after the other."""

    def __init__(self, job: ExportJob, split: str) -> None:
        self._job, self._split = job, split
        self._samples = self._archives = 0

    def write(self, images: Iterable[LabelledImage]) -> None:
        """Write samples, beginning with a new archive."""
        archive: tarfile.TarFile | None = None
        try:
            for image in images:
                files = self._sample(image)
                size = sum(_blocks(len(data)) for _, data in files)
                if archive and archive.offset + size + tarfile.RECORDSIZE > self._job.shard_bytes:
                    archive.close()
                    archive = None
                archive = archive or self._begin()
                for name, data in files:
                    info = tarfile.TarInfo(name)  # without time and owner
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
        finally:
            if archive:
                archive.close()

    def _begin(self) -> tarfile.TarFile:
        path = self._job.out / f"{self._split}-{self._archives:06d}.tar"
        self._archives += 1
        return tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)

    def _sample(self, image: LabelledImage) -> list[tuple[str, bytes]]:
        key, dataset = f"{self._samples:09d}", self._job.dataset
        self._samples += 1
        sample = {"file_name": image.file_name, "split": self._split, **origin(image, dataset)}
        if dataset.labelled:
            sample["objects"] = objects(image, dataset)
        suffix = image.file_name.rpartition(".")[2]
        return [
            (f"{key}.{suffix}", self._job.images.read(image.file_name)),
            (f"{key}.json", json.dumps(sample).encode()),
        ]


def _blocks(size: int) -> int:
    """Return the size of a file in an archive, with its header."""
    return tarfile.BLOCKSIZE * (1 + -(-size // tarfile.BLOCKSIZE))
