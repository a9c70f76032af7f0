"""How the frames of a shard are batched."""

from __future__ import annotations

from dataminer.frames.boxes import LabelledImage
from dataminer.stages.detect import shards


def test_batches_stay_within_a_shard_and_a_size() -> None:
    frames = tuple(
        LabelledImage(f"{number}.jpg", width, 64, "a", number, 0.0)
        for number, width in enumerate((64, 96, 64, 64, 96, 64))
    )
    found = [
        [frame.file_name for frame in batch]
        for batch in shards._batches(shards.Shard("key", frames), 3)
    ]
    assert found == [["0.jpg", "2.jpg", "3.jpg"], ["5.jpg"], ["1.jpg", "4.jpg"]]


def test_a_batch_of_8k_frames_takes_half_a_gigabyte() -> None:
    frames = tuple(LabelledImage(f"{n}.jpg", 7680, 4320, "a", n, 0.0) for n in range(12))
    found = [len(batch) for batch in shards._batches(shards.Shard("key", frames), 16)]
    assert found == [5, 5, 2]
