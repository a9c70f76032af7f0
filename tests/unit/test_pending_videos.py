"""When a model processes a video again, and when its output is reused."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dataminer.config.models import ContentConfig, SemanticConfig
from dataminer.files.hashing import sha256_file
from dataminer.frames.embeddings import Embeddings
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, write_table
from dataminer.provenance.fingerprints import VERSIONS, of_content_model
from dataminer.stages.embed import content, embedding, semantic
from dataminer.stages.embed.embedding import EmbeddingModel
from dataminer.stages.embed.pending import PendingVideo, changed, is_up_to_date, pending_video
from dataminer.vision.weights import weights_sha256


def test_an_output_belongs_to_one_stage_version_model_and_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made(stage: str = "embed", model: str = "m", source: str = "f") -> str:
        video = PendingVideo("v", Path("frames"), Path("out"), source)
        return video.output_fingerprint(stage, model)

    usual = made()
    others = {made(stage="content"), made(model="n"), made(source="g")}
    elsewhere = PendingVideo("w", Path("elsewhere"), Path("other"), "f")
    assert elsewhere.output_fingerprint("embed", "m") == usual
    monkeypatch.setitem(VERSIONS, "embed", VERSIONS["embed"] + 1)
    others.add(made())
    assert len(others) == 4 and usual not in others


@dataclass
class Model:
    """Models that get no image, as the video has no frames; and their settings."""

    folder: Path
    patch: pytest.MonkeyPatch
    settings: dict[str, Any] = field(default_factory=dict)
    source: str = "f"

    @property
    def weights(self) -> Path:
        return self.folder / "model.pt"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    def embed(self, videos: Sequence[PendingVideo], **settings: Any) -> int:
        """Embed the frames of videos; return how many the semantic model processes."""
        model = EmbeddingModel(str(self.checkpoint), "filter.semantic.model", self.folder)
        how: dict[str, Any] = {"threads": 1, "progress": lambda line: None}
        (count,) = embedding.embed({model: videos}, SemanticConfig(**settings), **how)
        return count

    def processed(self) -> dict[str, int]:
        """Return how many videos the content model and the semantic one process."""
        frames = self.folder / "frames"
        frames.mkdir(exist_ok=True)
        empty = FRAMES_SCHEMA.empty_table()
        write_table(frames / FRAMES_FILE, empty, FRAMES_SCHEMA, {"fingerprint": self.source})
        items = {
            name: pending_video("v", frames, self.folder / f"{name}.parquet") for name in ("c", "s")
        }
        given = {"exclude": ["car"], **self.settings}
        semantic_only = {name: given[name] for name in given if name in ("batch", "device")}
        how: dict[str, Any] = {"threads": 1, "progress": lambda line: None}
        boxes = [item for item in [items["c"]] if item]
        vectors = [item for item in [items["s"]] if item]
        found = content.find_boxes(boxes, ContentConfig(**given), self.weights, **how)
        embedded = self.embed(vectors, **semantic_only)
        return {"content": found, "semantic": embedded}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    @contextmanager
    def opened(*_: Any, **__: Any) -> Iterator[Any]:
        yield SimpleNamespace(names=["car", "bus"], predict=lambda batches: iter([*batches]))

    monkeypatch.setattr(content, "open_detector", opened)
    vision = SimpleNamespace(dimension=2, prepare=None)
    monkeypatch.setattr(embedding, "load_vision", lambda *_: vision)
    made = Model(tmp_path, monkeypatch)
    made.weights.write_bytes(b"weights")
    made.checkpoint.mkdir()
    (made.checkpoint / "config.json").write_text("{}")
    (made.checkpoint / "model.safetensors").write_bytes(b"weights")
    assert made.processed() == {"content": 1, "semantic": 1}
    assert made.processed() == {"content": 0, "semantic": 0}
    return made


def other_version(model: Model, stage: str) -> None:
    model.patch.setitem(VERSIONS, stage, VERSIONS[stage] + 1)


def retrained(path: Path) -> None:
    """Other weights of the same name and size."""
    path.write_bytes(path.read_bytes().swapcase())


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda m: retrained(m.weights), ["content"]),
        (lambda m: retrained(m.checkpoint / "model.safetensors"), ["semantic"]),
        (lambda m: (m.checkpoint / "config.json").write_text("{ }"), ["semantic"]),
        (lambda m: setattr(m, "source", "other frames"), ["content", "semantic"]),
        (lambda m: m.settings.update(image_size=320), ["content"]),
        (lambda m: other_version(m, "content"), ["content"]),
        (lambda m: other_version(m, "embed"), ["semantic"]),
        # settings that do not change the output of a model
        (lambda m: m.settings.update(batch=1, device="cpu"), []),
        (lambda m: m.settings.update(confidence=0.5, min_size=0.1, require=["bus"]), []),
        (lambda m: m.weights.touch(), []),
    ],
)
def test_a_model_runs_again_if_its_output_would_be_another(
    model: Model, change: Callable[[Model], object], again: list[str]
) -> None:
    change(model)
    assert model.processed() == {name: int(name in again) for name in ("content", "semantic")}
    assert model.processed() == {"content": 0, "semantic": 0}


def test_each_recipe_of_a_video_gets_a_file_of_its_own(model: Model) -> None:
    frames = model.folder / "frames"
    videos = [
        PendingVideo("v", frames, model.folder / f"{recipe}.parquet", recipe) for recipe in "ab"
    ]
    assert model.embed(videos) == 2
    assert all(video.out.is_file() for video in videos)


def test_without_a_model_its_output_is_known_to_be_up_to_date(model: Model) -> None:
    out = model.folder / "c.parquet"
    fetched = changed(model.weights)

    def done(source: str = "f", since: float | None = fetched, known: str | None = None) -> bool:
        return is_up_to_date("content", out, source, since, known)

    os.utime(model.folder / "frames" / FRAMES_FILE)  # as a copy of the store may have it
    assert done()
    assert not done("other frames")
    detector = of_content_model(weights_sha256(model.weights), 640)
    assert done(known=detector) and not done(known="other")
    assert not done(since=None)
    assert fetched is not None and not done(since=time.time() + 60)
    out.write_bytes(b"cut off")
    assert not done()
    out.unlink()
    assert not done()


def test_scores_belong_to_embeddings_and_prompts() -> None:
    none = Embeddings((), np.zeros(0, np.int32), np.zeros((0, 2), np.float16))
    vector = np.array([1, 0], np.float32)

    def made(embeddings: str = "e", prompts: str = "p", **settings: Any) -> str:
        known = semantic.Prompts({"a": vector, "b": vector}, 1.0, 0.0, prompts, "m")
        given = {"prompts": {"positive": ["a"], "negative": ["b"]}, **settings}
        chosen = SemanticConfig.model_validate(given)
        return semantic.score(none, known, chosen, embeddings).fingerprint

    assert len({made(), made(embeddings="f"), made(prompts="q")}) == 3
    assert made(min_margin=1.0, min_score=0.5) == made()


def test_the_checksum_of_a_model_is_of_all_that_its_files_say(tmp_path: Path) -> None:
    file, folder = tmp_path / "model.pt", tmp_path / "model"
    file.write_bytes(b"weights")
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(b"one")
    assert weights_sha256(file) == sha256_file(file)
    seen = {weights_sha256(folder)}
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_bytes(b"two")
        seen.add(weights_sha256(folder))
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    assert len(seen | {weights_sha256(folder)}) == 5
