"""The model whose embeddings dedup compares, through real checkpoints of a small size."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dataminer.config import Config, load
from dataminer.errors import ConfigError, ErrorClass, PermanentError
from dataminer.frames.embeddings import Embeddings, read_embeddings
from dataminer.frames.image_decoding import decode_image
from dataminer.frames.images import FrameReader
from dataminer.frames.table import read_meta
from dataminer.stages.embed import embedding
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.vision import checkpoint as checkpoints
from dataminer.vision.weights import weights_sha256
from tests.support.dino_models import DIMENSION, MODELS, write_dino
from tests.support.model_frames import PROMPTS, frames, run_models
from tests.support.siglip_model import COLOURS
from tests.support.stores import frames_of

VIDEOS = {"v": ["red", "green", "blue"], "w": ["blue", "blue"]}


@pytest.fixture
def dino(shims: str, tmp_path: Path) -> Path:
    return write_dino("dinov2", tmp_path / "dino")


def configured(folder: Path, own: Path | str | None, /, **semantic: Any) -> Config:
    """Return a configuration that compares the embeddings of a model."""
    return load(
        {
            "store": str(folder / "data"),
            "filter": {"semantic": {"batch": 4, "device": "cpu", **semantic}},
            "dedup": {"method": "embedding", "model": None if own is None else str(own)},
        }
    )


def of_dedup(folder: Path, own: Path | str | None, /, **semantic: Any) -> FrameModels:
    return FrameModels.of(configured(folder, own, **semantic))


def filtered_by(siglip: Path) -> dict[str, Any]:
    return {"model": str(siglip), "prompts": PROMPTS}


def add_videos(models: FrameModels) -> None:
    for video_id, colours in VIDEOS.items():
        frames(models.store, video_id, colours, source=video_id)


def compared(models: FrameModels, video_id: str) -> Embeddings:
    return read_embeddings(models.embedded(video_id, frames_of(models.store, video_id).name))


def class_tokens(model: Path, pictures: list[Path]) -> NDArray[np.float32]:
    """Return the unit class tokens of pictures, by transformers alone."""
    import torch
    from transformers import AutoImageProcessor, AutoModel

    processor = AutoImageProcessor.from_pretrained(model, backend="pil")
    images = [Image.open(file).convert("RGB") for file in pictures]
    with torch.inference_mode():
        pixels = processor(images=images, return_tensors="pt")["pixel_values"]
        states = AutoModel.from_pretrained(model).eval()(pixels).last_hidden_state
    tokens: NDArray[np.float32] = states[:, 0].numpy()
    return np.asarray(tokens / np.linalg.norm(tokens, axis=1, keepdims=True))


@pytest.mark.parametrize("kind", MODELS)
def test_embeddings_are_the_class_tokens_of_a_direct_computation(
    kind: str, shims: str, tmp_path: Path
) -> None:
    model = write_dino(kind, tmp_path / kind)
    models = of_dedup(tmp_path, model)
    folder = frames(models.store, "v", [*COLOURS, *COLOURS])
    assert run_models(models, "v")[1] == {"dedup": 1}
    found = compared(models, "v")
    assert found.vectors.shape == (6, DIMENSION)
    expected = class_tokens(model, sorted(folder.glob("*.png")))
    assert found.vectors == pytest.approx(expected, abs=1e-3)
    assert expected[0] @ expected[1] < 0.99, "the weights tell pictures apart"


@pytest.mark.parametrize("kind", ["siglip", "dinov2", "dinov3_vit"])
def test_a_picture_of_three_lines_is_not_turned(
    kind: str, tiny_siglip: Path, tmp_path: Path
) -> None:
    from transformers import AutoImageProcessor

    model = tiny_siglip if kind == "siglip" else write_dino(kind, tmp_path / kind)
    vision = checkpoints.load_vision(model, "cpu")
    processor = AutoImageProcessor.from_pretrained(model, backend="pil")
    for height, width in ((3, 60), (60, 3), (1, 1)):
        image = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
        expected = processor(images=[Image.fromarray(image)], return_tensors="np")
        assert (vision.prepare(image)["pixel_values"] == expected["pixel_values"][0]).all()


def test_two_models_in_one_pass_read_and_decode_each_image_once(
    tiny_siglip: Path, dino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[str] = Counter()
    decoded: list[int] = []
    read_image = FrameReader.read_checked

    def count_read(self: FrameReader, name: str) -> bytes:
        read[name] += 1
        return read_image(self, name)

    def count_decoded(data: bytes, **options: Any) -> Any:
        decoded.append(len(data))
        return decode_image(data, **options)

    monkeypatch.setattr(FrameReader, "read_checked", count_read)
    monkeypatch.setattr(embedding, "decode_image", count_decoded)
    both = of_dedup(tmp_path, dino, **filtered_by(tiny_siglip))
    add_videos(both)
    printed, counts = run_models(both, *VIDEOS)
    assert counts == {"semantic": 2, "dedup": 2}
    assert printed[-1] == "model loads: 2 for 2 videos (2 by semantic, 2 by dedup)"
    assert len(read) == 5 and {*read.values()} == {1} and len(decoded) == 5

    # each is what the model alone gives
    alone = of_dedup(tmp_path / "alone", None, **filtered_by(tiny_siglip))
    other = of_dedup(tmp_path / "alone", dino)
    add_videos(alone)
    run_models(alone, *VIDEOS)
    run_models(other, *VIDEOS)
    assert both.embedding_models.keys() == {"semantic", "dedup"}
    for video_id in VIDEOS:
        assert (compared(both, video_id).vectors == compared(other, video_id).vectors).all()
        path = both.embeddings(video_id, video_id)
        by_filter = read_embeddings(path).vectors
        assert (by_filter == read_embeddings(alone.embeddings(video_id, video_id)).vectors).all()
        assert read_meta(path)["model"] == weights_sha256(tiny_siglip)
        assert read_meta(both.embedded(video_id, video_id))["model"] == weights_sha256(dino)


def test_a_video_that_lacks_one_output_runs_one_model(
    tiny_siglip: Path, dino: Path, tmp_path: Path
) -> None:
    both = of_dedup(tmp_path, dino, **filtered_by(tiny_siglip))
    add_videos(both)
    recipes = {video_id: [video_id] for video_id in VIDEOS}
    assert both.outdated_videos(recipes) == ["v", "w"]
    run_models(of_dedup(tmp_path, None, **filtered_by(tiny_siglip)), "v")
    assert both.outdated_videos(recipes) == ["v", "w"]
    semantic = both.embeddings("v", "v")
    before = semantic.read_bytes(), semantic.stat().st_ino
    printed, counts = run_models(both, *VIDEOS)
    assert counts == {"semantic": 1, "dedup": 2}
    assert [line for line in printed if "embedded" in line] == [
        f"embedded 2 frames of video w by {tiny_siglip}",
        f"embedded 2 frames of video w by {dino}",
        "embedded 3 frames of video v",
    ]
    assert (semantic.read_bytes(), semantic.stat().st_ino) == before
    assert both.outdated_videos(recipes) == []
    assert run_models(both, *VIDEOS)[1] == {"semantic": 0, "dedup": 0}
    both.embedded("w", "w").unlink()
    assert both.outdated_videos(recipes) == ["w"]
    assert run_models(both, *VIDEOS)[1] == {"semantic": 0, "dedup": 1}


@pytest.mark.parametrize("spelled", ["{}", "{}/", "{}/../{}"])
def test_one_model_of_both_settings_runs_once_and_is_stored_once(
    spelled: str, tiny_siglip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_siglip.parent)
    name = tiny_siglip.name
    models = of_dedup(tmp_path, spelled.format(name, name), **filtered_by(Path(name)))
    add_videos(models)
    assert run_models(models, *VIDEOS)[1] == {"semantic": 2}
    assert [path.name for path in (tmp_path / "data/embeddings").iterdir()] == [models.key]
    assert models.embedded("v", "v") == models.embeddings("v", "v")


def test_without_prompts_the_filters_model_need_not_exist(dino: Path, tmp_path: Path) -> None:
    models = of_dedup(tmp_path, dino, model="./nowhere")
    add_videos(models)
    assert models.outdated_videos({"v": ["v"], "w": ["w"]}) == ["v", "w"]
    assert run_models(models, *VIDEOS)[1] == {"dedup": 2}
    assert models.outdated_videos({"v": ["v"], "w": ["w"]}) == []


@pytest.mark.parametrize("kind", ["siglip", "dino"])
def test_any_kind_compares_without_prompts(
    kind: str, tiny_siglip: Path, dino: Path, tmp_path: Path
) -> None:
    """Also as the filter's model, which dedup compares by if it has none of its own."""
    model = {"siglip": tiny_siglip, "dino": dino}[kind]
    own, shared = of_dedup(tmp_path, model), of_dedup(tmp_path / "b", None, model=str(model))
    for models, name in ((own, "dedup"), (shared, "semantic")):
        add_videos(models)
        assert run_models(models, *VIDEOS)[1] == {name: 2}
    assert (compared(own, "v").vectors == compared(shared, "v").vectors).all()


@pytest.mark.parametrize("kind", MODELS)
def test_prompts_need_a_model_with_a_text_tower(kind: str, shims: str, tmp_path: Path) -> None:
    model = write_dino(kind, tmp_path / kind)
    printed = rf"is a {kind} model, which embeds no texts; filter\.semantic has prompts.*set filter"
    with pytest.raises(PermanentError, match=printed) as refused:
        checkpoints.encode_texts(model, ["a picture of red"])
    assert refused.value.error_class is ErrorClass.MODEL
    assert "dedup.model" in str(refused.value)
    models = of_dedup(tmp_path, None, **filtered_by(model))
    add_videos(models)
    with pytest.raises(PermanentError, match=printed):  # before a frame is embedded
        run_models(models, *VIDEOS)
    assert not (tmp_path / "data/embeddings").exists()


def test_faults_of_a_checkpoint_name_the_setting(dino: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dedup\.model: there is no folder \./nowhere"):
        of_dedup(tmp_path, "./nowhere").outdated_videos({})
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match=r"dedup\.model: .*empty has no config\.json"):
        of_dedup(tmp_path, empty).outdated_videos({})
    models = of_dedup(tmp_path, dino)
    add_videos(models)
    (dino / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(PermanentError, match=r"cannot load .* set dedup\.model to a whole"):
        run_models(models, "v")
    (dino / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(PermanentError, match=r"is a bert model; .*dinov3_vit.*set dedup\.model"):
        run_models(models, "v")
    (dino / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"dedup\.model: .*dino has no config\.json"):
        run_models(models, "v")


def test_a_model_that_computes_no_numbers_is_an_error(dino: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(dino / "model.safetensors")
    weights["layernorm.weight"][0] = np.inf
    save_file(weights, dino / "model.safetensors", {"format": "pt"})
    models = of_dedup(tmp_path, dino)
    add_videos(models)
    with pytest.raises(PermanentError, match="embeddings that are not finite numbers"):
        run_models(models, "v")
    assert not models.embedded("v", "v").exists()


def test_an_image_that_one_processor_refuses_is_embedded_by_the_other(
    tiny_siglip: Path, dino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = of_dedup(tmp_path, dino, **filtered_by(tiny_siglip))
    folder = frames(both.store, "v", ["red", "green", "blue"])
    (folder / "v_000020.png").write_bytes(b"not an image")
    refused: list[int] = []

    def picky(checkpoint: Path, *rest: Any) -> checkpoints.Vision:
        vision = checkpoints.load_vision(checkpoint, *rest)

        def prepare(image: NDArray[np.uint8]) -> checkpoints.Inputs:
            if image[..., 1].mean() > 130:  # green
                refused.append(len(image))
                raise ValueError("too green")
            return vision.prepare(image)

        return replace(vision, prepare=prepare) if checkpoint == dino else vision

    monkeypatch.setattr(embedding, "load_vision", picky)
    run_models(both, "v")
    assert len(refused) == 1
    assert read_embeddings(both.embeddings("v", "f")).frame_index.tolist() == [0, 10]
    assert compared(both, "v").frame_index.tolist() == [0]
