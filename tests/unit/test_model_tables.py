"""What models saw in frames, as files that others have changed: read as written, or damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dataminer.config.models import ContentConfig, PromptsConfig, TextConfig
from dataminer.errors import DamagedFile
from dataminer.frames.embeddings import read_embeddings
from dataminer.frames.table import write_table
from dataminer.stages.embed.content import score_boxes
from dataminer.stages.embed.semantic import read_prompts
from dataminer.stages.embed.text import score_text

PROMPTS = PromptsConfig(positive=["a"], negative=["b"])
CORNERS = pa.array([0.25, 0.5], pa.float32())
HALVES = pa.array(np.zeros(8, np.float16))
READERS: dict[str, tuple[Callable[[Path], Any], dict[str, Any], dict[str, Any]]] = {
    "content": (
        lambda path: score_boxes(path, ContentConfig(model="x.pt", require=["cat"])),
        {
            "frame_index": pa.array([0, 5], pa.int32()),
            "category": pa.array([0, 0], pa.int32()),
            "confidence": pa.array([0.5, 0.5], pa.float32()),
            "size": pa.array([0.5, 0.5], pa.float32()),
        },
        {"names": ["cat"], "frames": [0, 5, 7], "mark": "m"},
    ),
    "text": (
        lambda path: score_text(path, TextConfig(max_area=0.1)),
        {
            "frame_index": pa.array([0, 5], pa.int32()),
            "confidence": pa.array([0.5, 0.5], pa.float32()),
            **{f"{axis}{corner}": CORNERS for axis in "xy" for corner in (1, 2, 3, 4)},
        },
        {"frames": [0, 5, 7], "mark": "m"},
    ),
    "embeddings": (
        read_embeddings,
        {
            "video_id": pa.array(["v", "v"]).dictionary_encode(),
            "frame_index": pa.array([0, 5], pa.int32()),
            "embedding": pa.FixedSizeListArray.from_arrays(HALVES, 4),
        },
        {"dimension": 4, "mark": "m"},
    ),
    "prompts": (
        lambda path: read_prompts(path, PROMPTS),
        {
            "prompt": pa.array(["a", "b"]),
            "embedding": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        },
        {"scale": 1.0, "bias": None, "mark": "m", "model": "x"},
    ),
}
DAMAGES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("content", {}, {"frames": 5}),
    ("content", {}, {"frames": [0, 2**40]}),
    ("content", {}, {"frames": [5, 0]}),
    ("content", {}, {"frames": []}),
    ("content", {}, {"names": []}),
    ("content", {}, {"mark": 5}),
    ("content", {"frame_index": pa.array([0, 77], pa.int32())}, {}),
    ("content", {"frame_index": pa.array([0, -7], pa.int32())}, {}),
    ("content", {"frame_index": pa.array([0, None], pa.int32())}, {}),
    ("content", {"category": pa.array([0, 1], pa.int32())}, {}),
    ("content", {"size": pa.array(["a", "b"])}, {}),
    ("text", {}, {"frames": 5}),
    ("text", {}, {"frames": [5, 0]}),
    ("text", {}, {"frames": []}),
    ("text", {}, {"mark": 5}),
    ("text", {"frame_index": pa.array([0, 77], pa.int32())}, {}),
    ("text", {"frame_index": pa.array([0, None], pa.int32())}, {}),
    ("text", {"confidence": pa.array(["a", "b"])}, {}),
    ("text", {"x1": pa.array([0.5, None], pa.float32())}, {}),
    ("text", {"y4": pa.array([0.5, float("nan")], pa.float32())}, {}),
    ("text", {"y4": pa.array([0.5, float("inf")], pa.float32())}, {}),
    ("embeddings", {"frame_index": pa.array(["a", "b"])}, {}),
    ("embeddings", {"frame_index": pa.array([0, None], pa.int32())}, {}),
    ("embeddings", {"frame_index": pa.array([0.5, 1e30])}, {}),
    ("embeddings", {"embedding": pa.array([["a"], ["b"]])}, {}),
    ("embeddings", {"embedding": pa.array([[1.0], [1.0, 2.0]])}, {}),
    ("embeddings", {"embedding": pa.array([[[1.0]], [[2.0]]])}, {}),
    ("embeddings", {"embedding": pa.array([1, 2])}, {}),
    (
        "embeddings",
        {"embedding": pa.array([None, [np.float16(1)] * 4], pa.list_(pa.float16(), 4))},
        {},
    ),
    ("embeddings", {"video_id": pa.array([None, "v"])}, {}),
    ("embeddings", {}, {"dimension": 2}),
    ("embeddings", {}, {"dimension": 8}),
    ("embeddings", {}, {"dimension": 2**40}),
    ("prompts", {"prompt": pa.array(["a", "c"])}, {}),
    ("prompts", {"prompt": pa.array(["a", "a"])}, {}),
    ("prompts", {"prompt": pa.array(["a", None])}, {}),
    ("prompts", {"embedding": pa.array([["a"], ["b"]])}, {}),
    ("prompts", {"embedding": pa.array([None, [1.0]])}, {}),
    ("prompts", {"embedding": pa.array([1, 2])}, {}),
    ("prompts", {}, {"scale": "x"}),
]


def write(path: Path, columns: dict[str, Any], meta: dict[str, Any]) -> None:
    table = pa.table(columns)
    write_table(path, table, table.schema, meta, ready=True)


@pytest.mark.parametrize("kind", READERS)
def test_what_was_written_is_read(kind: str, tmp_path: Path) -> None:
    read, columns, meta = READERS[kind]
    write(tmp_path / "t", columns, meta)
    assert read(tmp_path / "t")
    for missing in meta.keys() - {"bias", "mark", "model"}:
        write(tmp_path / "t", columns, {k: v for k, v in meta.items() if k != missing})
        with pytest.raises(DamagedFile):
            read(tmp_path / "t")


@pytest.mark.parametrize(("kind", "columns", "meta"), DAMAGES, ids=lambda value: str(value)[:40])
def test_anything_else_is_damaged(
    kind: str, columns: dict[str, Any], meta: dict[str, Any], tmp_path: Path
) -> None:
    read, good, about = READERS[kind]
    write(tmp_path / "t", good | columns, about | meta)
    with pytest.raises(DamagedFile, match=str(tmp_path)):
        read(tmp_path / "t")
