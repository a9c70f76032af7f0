"""How many pictures are decoded ahead of a detector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from dataminer.vision.prefetch import decode_batches

PICTURE = cv2.imencode(".png", np.zeros((3, 4, 3), np.uint8))[1].tobytes()


class Reader:
    """Has pictures of which a table says that they are large."""

    def __init__(self, names: list[str], pixels: int) -> None:
        self.pixels = dict.fromkeys(names, pixels)

    def read(self, name: str) -> bytes:
        assert name in self.pixels
        return PICTURE

    read_checked = read


@pytest.mark.parametrize(("pixels", "most"), [(12, 8), (33_000_000, 3), (178_000_000, 1)])
def test_of_large_pictures_fewer_wait(pixels: int, most: int) -> None:
    names = [f"{number}.png" for number in range(20)]
    reader: Any = Reader(names, pixels)
    requested, ahead = 0, []

    def wanted() -> Iterator[list[str]]:
        nonlocal requested
        for name in names:
            requested += 1
            yield [name]

    for number, batch in enumerate(decode_batches(reader, wanted(), threads=4), start=1):
        assert [picture.shape for picture in batch] == [(3, 4, 3)]
        ahead.append(requested - number)
    assert len(ahead) == 20
    assert max(ahead) == most
