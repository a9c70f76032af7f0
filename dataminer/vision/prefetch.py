"""Pictures decoded on threads, a little ahead of what takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from dataminer.errors import ErrorClass, PermanentError
from dataminer.frames.image_decoding import MAX_PIXELS_AT_ONCE, decode_image
from dataminer.frames.images import FrameReader

RgbImage = NDArray[np.uint8]


def batches(
    reader: FrameReader, names: Iterable[Sequence[str]], *, threads: int = 1
) -> Iterator[list[RgbImage]]:
    """Decode batches of pictures, the next ones while one is in use.

    Parameters
    ----------
    reader : FrameReader
        Where the pictures are.
    names : iterable of sequences of str
        Which pictures, batch by batch; none empty.
    threads : int
        How many are decoded at once. Besides the batch in use one more waits, or some small ones;
        of large pictures two at most.

    Yields
    ------
    list of ndarray
        A batch's pictures: height x width x 3, blue first.

    Raises
    ------
    PermanentError
        A picture is missing or cannot be decoded.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    waiting: deque[list[Future[RgbImage]]] = deque()
    try:
        for number, batch in enumerate(names):
            if number == 0:
                reader.read(batch[0])  # opens an archive, which threads would do each for itself
            waiting.append([pool.submit(_decode, reader, name) for name in batch])
            more = sum(map(len, waiting)) - len(waiting[0])
            large = more * reader.pixels.get(batch[0], 0) > MAX_PIXELS_AT_ONCE // 2
            if more >= 2 * threads or large:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(reader: FrameReader, name: str) -> RgbImage:
    try:
        return decode_image(reader.read_checked(name))
    except ValueError as error:
        raise PermanentError(
            f"the frame {name} cannot be read as a picture",
            ErrorClass.CORRUPT,
            "remove the dedup folder, then run snakemake again: it is made anew",
        ) from error
