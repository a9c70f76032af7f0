"""A SigLIP model as small as can be, which knows a few colours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {"red": (200, 40, 40), "green": (40, 170, 50), "blue": (40, 60, 210)}
WORDS = ["<pad>", "</s>", "<unk>", "a", "picture", "of", *COLOURS]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def colour_picture(colour: str, rng: np.random.Generator, size: int = 32) -> Image.Image:
    """Return a noisy picture of about one colour."""
    noise = rng.normal(0, 20, (size, size, 3)) + rng.normal(0, 10, 3)
    return Image.fromarray((noise + COLOURS[colour]).clip(0, 255).astype(np.uint8))


def train(folder: Path) -> None:
    """Train the model and write its checkpoint."""
    import torch
    from transformers import SiglipProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    torch.manual_seed(0)
    model = _model()
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    processor = SiglipProcessor(images, tokenizer())
    texts = [f"a picture of {colour}" for colour in COLOURS]
    tokens = processor.tokenizer(texts, padding="max_length", return_tensors="pt")["input_ids"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    same = 2 * torch.eye(len(COLOURS)) - 1
    for _ in range(80):
        pictures = [colour_picture(colour, rng) for colour in COLOURS]
        pixels = images(images=pictures, return_tensors="pt")["pixel_values"]
        logits = model(input_ids=tokens, pixel_values=pixels).logits_per_image
        optimizer.zero_grad()
        (-torch.nn.functional.logsigmoid(same * logits).mean()).backward()
        optimizer.step()
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _model() -> Any:
    import torch
    from transformers import SiglipConfig, SiglipModel

    text = {"vocab_size": len(WORDS), "max_position_embeddings": 8, "pad_token_id": 0}
    ends = {"bos_token_id": 1, "eos_token_id": 1}
    vision = {"image_size": 32, "patch_size": 16}
    config = SiglipConfig(text_config=SIZES | text | ends, vision_config=SIZES | vision)
    model = SiglipModel(config)
    with torch.no_grad():
        model.logit_scale.fill_(np.log(10.0))
        model.logit_bias.fill_(-5.0)
    return model


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=8,
    )
