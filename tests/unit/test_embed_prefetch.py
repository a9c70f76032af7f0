"""How far ahead of a model images are decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from dataminer.stages.embed.pending import PendingVideo
from dataminer.stages.embed.prefetch import (
    Decoded,
    StoredFrame,
    decode_ahead,
    group_into_batches,
    rows_by_video,
)

VIDEO = PendingVideo("v", Path("frames"), Path("out"), "f")


class Reader:
    def read_checked(self, name: str) -> bytes:
        return name.encode()


@pytest.mark.parametrize(("pixels", "most"), [(1000, 6), (60_000_000, 2), (178_000_000, 1)])
def test_of_large_pictures_fewer_are_decoded_ahead(pixels: int, most: int) -> None:
    reader: Any = Reader()
    taken, ahead = 0, []

    def frames() -> Iterator[StoredFrame]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield StoredFrame(VIDEO, number, f"{number}.jpg", reader, pixels)

    found = []
    for item in decode_ahead(frames(), bytes.decode, threads=2, window=6):
        found.append(item.value)
        ahead.append(taken - len(found))
    assert found == [f"{number}.jpg" for number in range(20)]
    assert max(ahead) == most


def test_of_large_pictures_a_batch_has_fewer() -> None:
    reader: Any = Reader()
    decoded = [Decoded(StoredFrame(VIDEO, n, f"{n}.jpg", reader, 40), str(n)) for n in range(7)]
    sizes = [len(batch) for batch in group_into_batches(decoded, 16, lambda _: None, 130)]
    assert sizes == [3, 3, 1]
    assert [len(batch) for batch in group_into_batches(decoded, 16, lambda _: None, 10)] == [1] * 7


def test_results_are_grouped_by_video_and_recipe() -> None:
    videos = [PendingVideo("v", Path("frames"), Path(source), source) for source in "abc"]
    reader: Any = nullcontext()
    rows = [(StoredFrame(videos[n // 2], n, f"{n}.jpg", reader, 1), n) for n in range(4)]
    found = {video.source: [n for _, n in own] for video, own in rows_by_video(rows, videos)}
    assert found == {"a": [0, 1], "b": [2, 3], "c": []}
