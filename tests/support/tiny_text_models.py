"""Models that find what text names, as small as they can be, with weights out of the air."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "a", "red", "disc", "blue", "box")


def _tokenizer(most: int) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(word, ids[word]) for word in ("[CLS]", "[SEP]")]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, sep_token="[SEP]", model_max_length=most, **special
    )


def _stretch(model: Any, names: tuple[str, ...], factor: float) -> None:
    """Let a model say something else of each place; fresh weights hardly do."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(".weight") and any(part in name for part in names):
                weight.mul_(factor)


def owlv2(folder: Path) -> Path:
    """Write an OWLv2 model of 16 patches."""
    import torch
    from transformers import (
        Owlv2Config,
        Owlv2ForObjectDetection,
        Owlv2ImageProcessor,
        Owlv2Processor,
    )

    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    small["num_attention_heads"] = 2
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    text = {"vocab_size": len(WORDS), "max_position_embeddings": 8, **special, **small}
    torch.manual_seed(1)
    config = Owlv2Config(
        text_config=text,
        vision_config={"image_size": 64, "patch_size": 16, **small},
        projection_dim=16,
    )
    model = Owlv2ForObjectDetection(config).eval()
    _stretch(model, ("text_model", "vision_model"), 3)
    _stretch(model, ("box_head",), 0.3)  # or some versions' boxes would have no area
    model.save_pretrained(folder)
    images = Owlv2ImageProcessor(size={"height": 64, "width": 64})
    Owlv2Processor(image_processor=images, tokenizer=_tokenizer(8)).save_pretrained(folder)
    return folder


def grounding_dino(folder: Path) -> Path:
    """Write a Grounding DINO model of 20 queries."""
    import torch
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    torch.manual_seed(2)
    backbone = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    text = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=32,
        num_queries=20,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_text_len=32,
        disable_custom_kernels=True,
    )
    model = GroundingDinoForObjectDetection(config).eval()
    _stretch(model, ("text_backbone",), 4)
    model.save_pretrained(folder)
    images = GroundingDinoImageProcessor(size={"height": 64, "width": 96})
    tokenizer = _tokenizer(64)
    GroundingDinoProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder
