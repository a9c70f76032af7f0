"""Embeddings of frames, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataminer.errors import PermanentError
from dataminer.frames.embeddings import model_key, read_embeddings, read_many, write_embeddings
from dataminer.frames.table import read_meta
from dataminer.store.layout import Store


def _unit(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, np.float16)


def test_what_was_written_is_read_and_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    path = Store(tmp_path).embeddings("m", "vid", "r")
    vectors, places = _unit(5, 8), np.arange(0, 50, 10, dtype=np.int32)
    write_embeddings(path, "vid", places, vectors, {"model": "x"})
    before = path.read_bytes()
    write_embeddings(path, "vid", places, vectors, {"model": "x"})
    read = read_embeddings(path)
    assert path.read_bytes() == before
    assert read.video_ids == ("vid",) * 5
    assert read.vectors.dtype == np.float16 and (read.vectors == vectors).all()
    assert read.frame_index.tolist() == places.tolist()
    assert read_meta(path) == {"model": "x", "dimension": 8}


def test_many_videos_become_one_matrix_in_the_order_of_the_paths(tmp_path: Path) -> None:
    sizes = {"b": 3, "a": 2, "none": 0}
    for seed, (name, count) in enumerate(sizes.items()):
        write_embeddings(
            tmp_path / name, name, np.arange(count, dtype=np.int32), _unit(count, 4, seed), {}
        )
    together = read_many([tmp_path / name for name in sizes])
    assert together.video_ids == ("b", "b", "b", "a", "a")
    assert (together.vectors[3:] == _unit(2, 4, 1)).all()
    assert len(read_many([tmp_path / "none"])) == len(read_many([])) == 0


def test_unlike_dimensions_and_damaged_files_are_told(tmp_path: Path) -> None:
    for name, dimension in (("a", 4), ("b", 6)):
        write_embeddings(tmp_path / name, name, np.zeros(1, np.int32), _unit(1, dimension), {})
    with pytest.raises(PermanentError, match="unlike dimensions"):
        read_many([tmp_path / "a", tmp_path / "b"])
    (tmp_path / "a").write_bytes(b"PAR1 no")
    with pytest.raises(PermanentError, match="damaged"):
        read_embeddings(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        read_embeddings(tmp_path / "c")


def test_models_of_one_name_in_two_places_have_two_keys() -> None:
    keys = {model_key(name) for name in ("a/model", "b/model", "model", "model/")}
    assert len(keys) == 4
    assert all(key.startswith("model-") for key in keys)
    assert model_key("m.pt", 320) != model_key("m.pt", 640)
    assert "/" not in model_key("../..") and model_key("/")
