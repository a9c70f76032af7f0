"""Embeddings of frames, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataminer.errors import PermanentError
from dataminer.frames.embeddings import model_key, read_embeddings, write_embeddings
from dataminer.frames.table import read_meta
from dataminer.store.layout import Store


def _unit(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dimension))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, np.float16)


def test_what_was_written_is_read_and_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    path = Store(tmp_path).embeddings("m", "vid", "r")
    vectors, positions = _unit(5, 8), np.arange(0, 50, 10, dtype=np.int32)
    write_embeddings(path, "vid", positions, vectors, {"model": "x"})
    before = path.read_bytes()
    write_embeddings(path, "vid", positions, vectors, {"model": "x"})
    read = read_embeddings(path)
    assert path.read_bytes() == before
    assert read.video_ids == ("vid",) * 5
    assert read.vectors.dtype == np.float16 and (read.vectors == vectors).all()
    assert read.frame_index.tolist() == positions.tolist()
    assert read_meta(path) == {"model": "x", "dimension": 8}


def test_damaged_files_raise_an_error(tmp_path: Path) -> None:
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
