"""The semantic filter, through real checkpoints of a small size."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dataminer.config.models import FilterConfig
from dataminer.errors import ConfigError, PermanentError, TransientError
from dataminer.frames.arrays import make_table
from dataminer.frames.embeddings import read_embeddings
from dataminer.frames.table import FRAMES_FILE, FRAMES_SCHEMA, read_meta, read_table, write_table
from dataminer.stages.embed import embedding, semantic
from dataminer.stages.embed.frame_models import FrameModels
from dataminer.stages.filter.stage import filter_frames
from dataminer.store.layout import Store
from dataminer.vision import checkpoint as checkpoints
from dataminer.vision.weights import weights_sha256
from tests.support.model_frames import PROMPTS, frames, run_models
from tests.support.siglip_model import COLOURS, SIZES, WORDS, tokenizer
from tests.support.stores import frames_of


def made_models(folder: Path, model: Path, **settings: object) -> FrameModels:
    """Return what a configuration looks at: the prompts above, unless others are given."""
    given = {"model": str(model), "prompts": PROMPTS, "batch": 4, "device": "cpu", **settings}
    return FrameModels(Store(folder), FilterConfig.model_validate({"semantic": given}))


def embeddings(what: FrameModels, video_id: str) -> Path:
    return what.embeddings(video_id, frames_of(what.store, video_id).name)


def embed_prompts(what: FrameModels) -> list[str]:
    printed: list[str] = []
    semantic.write_prompts(
        what.prompts, what.settings.semantic.prompts, what.checkpoint, printed.append
    )
    return printed


def filtered(what: FrameModels, video_id: str, out: Path) -> dict[str, int]:
    frames = frames_of(what.store, video_id)
    source = read_meta(frames / FRAMES_FILE)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    found_scores = what.frame_scores(video_id, source)
    result = filter_frames(frames, out, what.settings, scores=found_scores)
    return {name: count for name, count in result.rejected.items() if count}


def direct(model: Path, files: list[Path], texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and probabilities of pictures and texts, by the whole model at once."""
    import torch
    from PIL import Image
    from transformers import AutoModel, AutoProcessor

    whole = AutoModel.from_pretrained(model).eval()
    processor = AutoProcessor.from_pretrained(model)
    inputs = processor(
        text=[text.lower() for text in texts],
        images=[Image.open(file).convert("RGB") for file in files],
        padding="max_length",
        return_tensors="pt",
    )
    with torch.inference_mode():
        logits = whole(
            input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"]
        ).logits_per_image
    return logits.numpy(), torch.sigmoid(logits).numpy()


def test_scores_equal_a_direct_computation(tiny_siglip: Path, tmp_path: Path) -> None:
    what = made_models(tmp_path, tiny_siglip)
    folder = frames(what.store, "v", [*COLOURS, *COLOURS])
    run_models(what, "v")
    embed_prompts(what)
    rejected = filtered(what, "v", tmp_path / "out")
    table = read_table(tmp_path / "out" / "scores.parquet")
    files = [folder / f"v_{position:06d}.png" for position in table["frame_index"].to_pylist()]
    texts = [*PROMPTS["positive"], *PROMPTS["negative"], *PROMPTS["junk"]]
    logits, chances = direct(tiny_siglip, files, texts)
    # embeddings are kept in half precision
    assert table["score"].to_numpy() == pytest.approx(chances[:, 0], abs=2e-3)
    assert table["junk"].to_numpy() == pytest.approx(chances[:, 2], abs=2e-3)
    assert table["margin"].to_numpy() == pytest.approx(logits[:, 0] - logits[:, 1], abs=0.02)
    scale, bias = checkpoints.read_scale(tiny_siglip)
    cosines = (logits - bias) / scale
    for position, name in enumerate(("positive", "negative", "junk")):
        assert table[f"{name}_cosine"].to_numpy() == pytest.approx(cosines[:, position], abs=2e-3)
    assert sum(rejected.values()) == 4 and rejected["semantic.min_margin"] >= 2
    kept = read_table(tmp_path / "out" / FRAMES_FILE)["frame_index"].to_pylist()
    assert kept == [0, 30]
    reasons = table["rejected"].to_pylist()
    assert [position for position, reason in enumerate(reasons) if reason is None] == [0, 3]


def test_quality_comes_first_and_what_it_rejects_keeps_its_scores(
    tiny_siglip: Path, tmp_path: Path
) -> None:
    what = made_models(tmp_path, tiny_siglip)
    folder = frames(what.store, "v", ["red", "green", "red"])
    rows = read_table(folder / FRAMES_FILE).to_pylist()
    rows[2]["brightness"] = 0.0
    columns = {field.name: [row[field.name] for row in rows] for field in FRAMES_SCHEMA}
    table = make_table(columns, FRAMES_SCHEMA)
    write_table(folder / FRAMES_FILE, table, FRAMES_SCHEMA, {"fingerprint": "f"})
    run_models(what, "v")
    embed_prompts(what)
    assert filtered(what, "v", tmp_path / "out") == {
        "min_brightness": 1,
        "semantic.min_margin": 1,
    }
    scores = read_table(tmp_path / "out" / "scores.parquet")
    assert scores["rejected"].to_pylist() == [None, "semantic.min_margin", "min_brightness"]
    assert scores["score"].null_count == 0
    assert scores["score"].to_pylist()[2] > 0.9


def test_many_videos_load_the_model_once_and_a_second_look_loads_none(
    tiny_siglip: Path, tmp_path: Path
) -> None:
    what = made_models(tmp_path, tiny_siglip)
    names = [f"v{number:02d}" for number in range(20)]
    for number, name in enumerate(names):
        frames(what.store, name, [*COLOURS][: 1 + number % 3], source=name)
    printed, counts = run_models(what, *names, "never_extracted")
    assert counts == {"semantic": 20}
    assert sum("vision tower" in line for line in printed) == 1
    assert printed[-1] == "model loads: 1 for 21 videos (20 by semantic)"
    before = {name: embeddings(what, name).read_bytes() for name in names}

    printed, counts = run_models(what, *names)
    assert counts == {"semantic": 0}
    assert printed[-1] == "model loads: 0 for 20 videos (0 by semantic)"
    assert not any("loaded" in line for line in printed)

    frames(what.store, "v03", ["blue"], source="taken out again")
    assert run_models(what, *names)[1]["semantic"] == 1
    after = {name: embeddings(what, name).read_bytes() for name in names}
    assert [name for name in names if after[name] != before[name]] == ["v03"]
    assert len(read_embeddings(embeddings(what, "v03"))) == 1


def test_new_prompts_are_scored_from_what_is_kept_and_give_what_a_fresh_run_gives(
    tiny_siglip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made_models(tmp_path / "a", tiny_siglip)
    frames(first.store, "v", [*COLOURS])
    run_models(first, "v")
    embed_prompts(first)
    filtered(first, "v", tmp_path / "a" / "out")

    other = {"prompts": {"positive": ["a picture of blue"]}, "min_score": 0.5}
    with monkeypatch.context() as patch:
        patch.setattr(embedding, "load_vision", None)  # to call it would fail
        again = made_models(tmp_path / "a", tiny_siglip, **other)
        assert again.prompts != first.prompts
        assert run_models(again, "v")[1] == {"semantic": 0}
        printed = embed_prompts(again)
        assert printed == [f"loaded the text tower of {tiny_siglip}"]
        assert filtered(again, "v", tmp_path / "a" / "out") == {"semantic.min_score": 2}

    fresh = made_models(tmp_path / "b", tiny_siglip, **other)
    frames(fresh.store, "v", [*COLOURS])
    run_models(fresh, "v")
    embed_prompts(fresh)
    filtered(fresh, "v", tmp_path / "b" / "out")
    tables = [read_table(tmp_path / side / "out" / "scores.parquet") for side in "ab"]
    assert tables[0].equals(tables[1])
    assert tables[0]["margin"].null_count == 3  # without negative prompts there is none


def test_a_frame_that_cannot_be_read_is_rejected_and_harms_no_other(
    tiny_siglip: Path, tmp_path: Path
) -> None:
    what = made_models(tmp_path, tiny_siglip)
    folder = frames(what.store, "v", ["red", "red", "red"])
    (folder / "v_000010.png").write_bytes(b"not an image")
    frames(what.store, "w", ["red"])
    printed, _ = run_models(what, "v", "w")
    assert "embedded 2 frames of video v, 1 cannot be read" in printed
    embed_prompts(what)
    assert filtered(what, "v", tmp_path / "out") == {"semantic.min_margin": 1}
    scores = read_table(tmp_path / "out" / "scores.parquet")
    assert scores["score"].to_pylist()[1] is None
    assert filtered(what, "w", tmp_path / "out2") == {}


def test_frames_in_an_archive_and_videos_that_failed(tiny_siglip: Path, tmp_path: Path) -> None:
    from dataminer.frames.images import FrameWriter, location_columns

    what = made_models(tmp_path, tiny_siglip)
    plain = frames(what.store, "v", [*COLOURS] * 4)
    rows = read_table(plain / FRAMES_FILE)
    run_models(what, "v")
    loose = read_embeddings(embeddings(what, "v"))
    locations = []
    with FrameWriter(plain, "tar") as writer:
        for name in rows["file_name"].to_pylist():
            locations.append(writer.add(name, (plain / name).read_bytes()))
            (plain / name).unlink()
    for name, column in location_columns(locations).items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    write_table(plain / FRAMES_FILE, rows, FRAMES_SCHEMA, {"fingerprint": "tar", **writer.meta})
    failed = what.store.recipe("bad", "m")
    failure = {"failure": {"message": "m", "error_class": "corrupt", "hint": ""}}
    write_table(failed / FRAMES_FILE, FRAMES_SCHEMA.empty_table(), FRAMES_SCHEMA, failure)
    assert run_models(what, "bad", "v")[1] == {"semantic": 1}
    packed = read_embeddings(embeddings(what, "v"))
    assert (packed.vectors == loose.vectors).all()
    assert what.frame_scores("bad", failure) == []
    assert not embeddings(what, "bad").exists()


def test_what_is_out_of_date_is_not_judged_by(tiny_siglip: Path, tmp_path: Path) -> None:
    what = made_models(tmp_path, tiny_siglip)
    frames(what.store, "v", ["red"])
    with pytest.raises(TransientError, match="have not processed the present frames of video v"):
        filtered(what, "v", tmp_path / "out")
    run_models(what, "v")
    embed_prompts(what)
    frames(what.store, "v", ["red"], source="other frames")
    with pytest.raises(TransientError, match="run snakemake again"):
        filtered(what, "v", tmp_path / "out")
    run_models(what, "v")
    assert filtered(what, "v", tmp_path / "out") == {}


def test_clip_scores_are_shares_of_the_softmax(shims: str, tmp_path: Path) -> None:
    import torch
    import transformers
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(1)
    transformers.utils.logging.set_verbosity_error()
    ends = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    text = SIZES | ends | {"vocab_size": len(WORDS), "max_position_embeddings": 8}
    vision = SIZES | {"image_size": 32, "patch_size": 16}
    model = tmp_path / "clip"
    CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    ).save_pretrained(model)
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    CLIPProcessor(images, tokenizer()).save_pretrained(model)

    what = made_models(tmp_path, model)
    folder = frames(what.store, "v", [*COLOURS])
    run_models(what, "v")
    embed_prompts(what)
    assert read_embeddings(embeddings(what, "v")).vectors.shape == (3, 24)
    filtered(what, "v", tmp_path / "out")
    scores = read_table(tmp_path / "out" / "scores.parquet")

    from PIL import Image
    from transformers import AutoModel, AutoProcessor

    processor = AutoProcessor.from_pretrained(model)
    texts = [*PROMPTS["positive"], *PROMPTS["negative"], *PROMPTS["junk"]]
    pictures = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))]
    inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
    wanted = {name: inputs[name] for name in ("input_ids", "attention_mask", "pixel_values")}
    with torch.inference_mode():
        logits = AutoModel.from_pretrained(model).eval()(**wanted).logits_per_image
    chances = torch.softmax(logits, dim=1).numpy()
    assert scores["score"].to_numpy() == pytest.approx(chances[:, 0], abs=2e-3)
    assert scores["junk"].to_numpy() == pytest.approx(chances[:, 2], abs=2e-3)


def test_models_that_are_none_are_named(tiny_siglip: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no folder \./nowhere"):
        checkpoints.checkpoint_path("./nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        checkpoints.checkpoint_path(str(tmp_path / "empty"), tmp_path)
    assert checkpoints.checkpoint_path("google/x", tmp_path) == tmp_path / "google--x"
    broken = tmp_path / "broken"
    shutil.copytree(tiny_siglip, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(PermanentError, match="cannot load the checkpoint"):
        checkpoints.load_vision(broken, "cpu")
    assert weights_sha256(broken) != weights_sha256(tiny_siglip)
    text = (broken / "config.json").read_text()
    (broken / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(PermanentError, match="is a bert model; known are siglip"):
        checkpoints.load_vision(broken, "cpu")
    assert "siglip" in text
