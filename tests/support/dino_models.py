"""DINOv2 and DINOv3 checkpoints as small as can be, with the weights that they begin with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.siglip_model import SIZES

DIMENSION = 32
_PICTURE = 28
_VIT = {name: SIZES[name] for name in SIZES if name != "intermediate_size"}


def _dinov2() -> Any:
    from transformers import Dinov2Config, Dinov2Model

    return Dinov2Model(Dinov2Config(image_size=_PICTURE, patch_size=14, mlp_ratio=2, **_VIT))


def _dinov2_with_registers() -> Any:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    sizes = {"image_size": _PICTURE, "patch_size": 14, "mlp_ratio": 2, **_VIT}
    return Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes))


def _dinov3_vit() -> Any:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    sizes = {"image_size": 32, "patch_size": 16, "num_register_tokens": 4, **SIZES}
    return DINOv3ViTModel(DINOv3ViTConfig(**sizes))


def _dinov3_convnext() -> Any:
    from transformers import DINOv3ConvNextConfig, DINOv3ConvNextModel

    stages = {"hidden_sizes": [8, 16, 24, DIMENSION], "depths": [1, 1, 1, 1]}
    return DINOv3ConvNextModel(DINOv3ConvNextConfig(image_size=32, **stages))


MODELS: dict[str, Callable[[], Any]] = {
    "dinov2": _dinov2,
    "dinov2_with_registers": _dinov2_with_registers,
    "dinov3_vit": _dinov3_vit,
    "dinov3_convnext": _dinov3_convnext,
}


def write_dino(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a checkpoint, with the image processor that published ones of its kind have.

    Parameters
    ----------
    kind : str
        A key of ``MODELS``, the ``model_type`` of transformers.
    folder : Path
        The folder, which is made and returned.
    seed : int
        Of the weights.
    """
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(seed)
    model = MODELS[kind]()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lambda" in name or "gamma" in name:
                weight.fill_(1.0)  # else the layers hardly change the class token
    model.save_pretrained(folder)
    _image_processor(kind).save_pretrained(folder)
    return folder


def _image_processor(kind: str) -> Any:
    from transformers import DINOv3ViTImageProcessor
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    if kind.startswith("dinov3"):
        return DINOv3ViTImageProcessor(size={"height": 32, "width": 32})
    crop = {"height": _PICTURE, "width": _PICTURE}
    return BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=crop)
