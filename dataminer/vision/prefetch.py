"""Images decoded on threads, a little ahead of the detector."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from dataminer.errors import ErrorClass, PermanentError
from dataminer.frames.image_decoding import MAX_PIXELS_AT_ONCE, decode_image
from dataminer.frames.images import FrameReader

BgrImage = NDArray[np.uint8]


def decode_batches(
    reader: FrameReader, names: Iterable[Sequence[str]], *, threads: int = 1
) -> Iterator[list[BgrImage]]:
    """Decode batches of images, the next ones while one is in use.

    Parameters
    ----------
    reader : FrameReader
        The reader of the images.
    names : iterable of sequences of str
        Their names, by batch; no batch is empty.
    threads : int
        Number of threads. Besides the batch in use one more waits, or several small ones; at most
        two large images wait.

    Yields
    ------
    list of ndarray
        A batch's images: height x width x 3, blue first.

    Raises
    ------
    PermanentError
        An image is missing or cannot be decoded.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    waiting: deque[list[Future[BgrImage]]] = deque()
    try:
        for number, batch in enumerate(names):
            if number == 0:
                reader.read(batch[0])  # opens an archive once, and not in each thread
            waiting.append([pool.submit(_decode, reader, name) for name in batch])
            more = sum(map(len, waiting)) - len(waiting[0])
            large = more * reader.pixels.get(batch[0], 0) > MAX_PIXELS_AT_ONCE // 2
            if more >= 2 * threads or large:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(reader: FrameReader, name: str) -> BgrImage:
    try:
        return decode_image(reader.read_checked(name))
    except ValueError as error:
        raise PermanentError(
            f"the frame {name} cannot be read as a picture",
            ErrorClass.CORRUPT,
            "remove the dedup folder, then run snakemake again, which makes it",
        ) from error
