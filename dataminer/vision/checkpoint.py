"""Finding and loading checkpoints that embed images, or texts too, one tower at a time."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataminer.errors import ConfigError, ErrorClass, PermanentError, TransientError
from dataminer.process import how_to_install
from dataminer.vision import device as devices
from dataminer.vision import hub
from dataminer.vision.errors import first_line

SEMANTIC_MODEL = "filter.semantic.model"
DEDUP_MODEL = "dedup.model"


class Towers(NamedTuple):
    """The classes of a checkpoint's towers, and the attributes of their embeddings.

    SigLIP and CLIP have one for images and one for texts, trained together. DINOv2 and DINOv3 have
    no text tower. Their ``pooler_output`` is the class token after the last layer norm
    (``Dinov2Model.forward``, ``Dinov2WithRegistersModel.forward`` and ``DINOv3ViTModel.forward`` in
    transformers 5: ``pooled_output = sequence_output[:, 0, :]``); the convolutional DINOv3 uses the
    mean of the last feature map as this token (``DINOv3ConvNextModel.forward``). The training
    compares whole pictures by this token, so its cosine measures their similarity; patch tokens
    and registers describe parts.

    Attributes
    ----------
    vision, text : str
        Classes of transformers; without a text tower, ``text`` is None.
    image_output, text_output : str
        Attributes of their outputs.
    half : bool
        Whether half precision is used on a CUDA GPU. Not for DINO: DINOv3 was trained in bfloat16,
        whose range is larger.
    """

    vision: str
    text: str | None
    image_output: str = "pooler_output"
    text_output: str = "pooler_output"
    half: bool = True


# by model_type
_TOWERS = {
    "siglip": Towers("SiglipVisionModel", "SiglipTextModel"),
    "siglip2": Towers("Siglip2VisionModel", "Siglip2TextModel"),
    "clip": Towers(
        "CLIPVisionModelWithProjection",
        "CLIPTextModelWithProjection",
        "image_embeds",
        "text_embeds",
    ),
    "dinov2": Towers("Dinov2Model", None, half=False),
    "dinov2_with_registers": Towers("Dinov2WithRegistersModel", None, half=False),
    "dinov3_vit": Towers("DINOv3ViTModel", None, half=False),
    "dinov3_convnext": Towers("DINOv3ConvNextModel", None, half=False),
}
Inputs = dict[str, NDArray[Any]]
_EXAMPLES = {
    SEMANTIC_MODEL: "google/siglip2-base-patch16-224",
    DEDUP_MODEL: "facebook/dinov2-small",
}
_REASONS = {
    SEMANTIC_MODEL: ("filter.semantic has prompts", "remove the prompts"),
    DEDUP_MODEL: ("dedup compares embeddings", "set dedup.method to hash"),
}


def model_folder(model: str, folder: Path) -> Path:
    """Return the folder that a model is loaded from, which may not exist.

    Parameters
    ----------
    model, folder : str, Path
        As for :func:`checkpoint_path`.
    """
    return hub.snapshot_folder(model, folder) if hub.is_hub_id(model) else Path(model)


def checkpoint_path(model: str, folder: Path, setting: str = SEMANTIC_MODEL) -> Path:
    """Return the folder of the checkpoint that a setting names.

    Parameters
    ----------
    model : str
        A folder, or a name on the hub such as ``google/siglip2-base-patch16-224``.
    folder : Path
        The folder of fetched checkpoints.
    setting : str
        The setting, for the error.

    Raises
    ------
    ConfigError
        The model is a folder without a ``config.json``, or neither a folder nor a name.
    """
    path = model_folder(model, folder)
    if hub.is_hub_id(model) or hub.is_model_folder(path):
        return path
    if path.is_dir():
        raise ConfigError(
            f"{setting}: {model} has no {hub.CONFIG_FILE}", "name the folder of a whole checkpoint"
        )
    raise ConfigError(
        f"{setting}: there is no folder {model}",
        f"put the checkpoint there, or give a name such as {_EXAMPLES[setting]}",
    )


def require_transformers(setting: str = SEMANTIC_MODEL) -> None:
    """Check that the libraries of the models are installed, without loading them.

    Parameters
    ----------
    setting : str
        The setting whose model needs them, for the error.

    Raises
    ------
    ConfigError
        A library is missing.
    """
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        reason, way_out = _REASONS[setting]
        raise ConfigError(
            f"{reason}, and {' and '.join(missing)} cannot be found here",
            f"{how_to_install('semantic')}; or {way_out}",
        )


def require_text_tower(checkpoint: Path) -> None:
    """Refuse a checkpoint that embeds no texts, by its ``config.json`` alone.

    A checkpoint that does not exist, is damaged or of an unknown kind is left to the loading.

    Raises
    ------
    PermanentError
        MODEL.
    """
    try:
        kind = str(json.loads((checkpoint / hub.CONFIG_FILE).read_bytes())["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if kind in _TOWERS and _TOWERS[kind].text is None:
        raise _no_text_tower(checkpoint, kind)


def _no_text_tower(checkpoint: Path, kind: str) -> PermanentError:
    return PermanentError(
        f"{checkpoint} is a {kind} model, which embeds no texts; filter.semantic has prompts",
        ErrorClass.MODEL,
        f"set {SEMANTIC_MODEL} to a SigLIP, SigLIP 2 or CLIP checkpoint, or remove the prompts;"
        f" to compare near-duplicates by this one, set {DEDUP_MODEL} to it",
    )


@dataclass(frozen=True)
class Vision:
    """The vision tower of a checkpoint.

    Attributes
    ----------
    dimension : int
        Of its embeddings.
    prepare : callable
        From an image, (height, width, 3), red first, to the model's inputs for it; thread-safe.
    encode : callable
        From the inputs of n images to unit vectors, float16, shape (n, dimension).
    """

    dimension: int
    prepare: Callable[[NDArray[np.uint8]], Inputs]
    encode: Callable[[Sequence[Inputs]], NDArray[np.float16]]


def load_vision(checkpoint: Path, device: str, setting: str = SEMANTIC_MODEL) -> Vision:
    """Load the vision tower alone; on a CUDA GPU in half precision, if it is trained for that.

    Parameters
    ----------
    checkpoint, device : Path, str
        The folder of the checkpoint, and a value of ``filter.semantic.device``.
    setting : str
        The setting that names the checkpoint, for errors.

    Raises
    ------
    PermanentError
        The checkpoint is of an unknown kind, or damaged.
    TransientError
        transformers cannot be imported, or the device is missing.
    """
    with _quiet(checkpoint, setting) as transformers:
        import torch

        chosen = devices.choose(device, setting="filter.semantic.device")
        towers, options = _towers(checkpoint, setting)
        precision = torch.float16 if chosen.type == "cuda" and towers.half else torch.float32
        model = _load(towers.vision, checkpoint, dtype=precision, **options).to(chosen).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(
            checkpoint, backend="pil", **hub.LOCAL_DATA_ONLY
        )

    def prepare(image: NDArray[np.uint8]) -> Inputs:
        # else an image of three lines would be taken for three channels
        inputs = processor(images=[image], input_data_format="channels_last", return_tensors="np")
        return {name: np.asarray(value)[0] for name, value in inputs.items()}

    def encode(images: Sequence[Inputs]) -> NDArray[np.float16]:
        vectors = _unit(_run(model, images, towers.image_output))
        if not np.isfinite(vectors).all():
            raise _not_finite(checkpoint, setting)
        return vectors.astype(np.float16)

    return Vision(_dimension(model.config), prepare, encode)


def _run(model: Any, images: Sequence[Inputs], output: str) -> Any:
    """Return an attribute of a model's output for images, on its device and in its precision."""
    import torch

    arrays = {name: np.stack([image[name] for image in images]) for name in images[0]}
    tensors = {name: torch.from_numpy(array).to(model.device) for name, array in arrays.items()}
    tensors["pixel_values"] = tensors["pixel_values"].to(model.dtype)
    with torch.inference_mode():
        return getattr(model(**tensors), output)


def _dimension(config: Any) -> int:
    """Return the length of embeddings; a convolutional tower has that of its last stage."""
    for name in ("projection_dim", "hidden_size"):
        if hasattr(config, name):
            return int(getattr(config, name))
    return int(config.hidden_sizes[-1])


def _not_finite(checkpoint: Path, setting: str) -> PermanentError:
    return PermanentError(
        f"{checkpoint} computes embeddings that are not finite numbers",
        ErrorClass.MODEL,
        f"set filter.semantic.device to cpu, or {setting} to another checkpoint",
    )


def encode_texts(checkpoint: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts with the text tower alone, on the CPU.

    Parameters
    ----------
    checkpoint : Path
        The folder of the checkpoint.
    texts : sequence of str, length n
        Truncated to the tokens that the model reads; in lower case for SigLIP, as in its training.

    Returns
    -------
    ndarray of float32, shape (n, d)
        Unit vectors.

    Raises
    ------
    PermanentError, TransientError
        As :func:`load_vision`.
    """
    with _quiet(checkpoint, SEMANTIC_MODEL):
        import torch

        require_text_tower(checkpoint)
        towers, options = _towers(checkpoint, SEMANTIC_MODEL)
        assert towers.text
        model = _load(towers.text, checkpoint, dtype=torch.float32, **options).eval()
        siglip = "Siglip" in towers.text
        length = model.config.max_position_embeddings
        tokens = _tokens(checkpoint, texts, length, siglip=siglip)
        with torch.inference_mode():
            names = ("input_ids",) if siglip else ("input_ids", "attention_mask")
            found = model(**{name: tokens[name] for name in names})
            return _unit(getattr(found, towers.text_output))


def _tokens(checkpoint: Path, texts: Sequence[str], length: int, *, siglip: bool) -> Any:
    """Return the tokens of texts, at most ``length`` of each."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint, **hub.LOCAL_DATA_ONLY)
    return tokenizer(
        [text.lower() for text in texts] if siglip else list(texts),
        # SigLIP was trained without a mask, on texts padded to full length
        padding="max_length" if siglip else True,
        truncation=True,
        max_length=length,
        return_attention_mask=not siglip,
        return_tensors="pt",
    )


def read_scale(checkpoint: Path) -> tuple[float, float | None]:
    """Return the factor (the exponential of the scale) and bias that turn cosines into logits.

    Returns
    -------
    scale : float
        Logits per unit of cosine.
    bias : float or None
        Added to logits; None for models trained with softmax, such as CLIP.
    """
    with _quiet(checkpoint, SEMANTIC_MODEL):
        from safetensors import safe_open

        found: dict[str, float] = {}
        for path in sorted(checkpoint.glob("*.safetensors")):
            with safe_open(path, framework="numpy") as file:
                for name in {"logit_scale", "logit_bias"} & set(file.keys()):
                    found[name] = float(np.ravel(file.get_tensor(name))[0])
        return float(np.exp(found["logit_scale"])), found.get("logit_bias")


def _towers(checkpoint: Path, setting: str) -> tuple[Towers, dict[str, Any]]:
    """Return the classes for a checkpoint, and the options of its towers."""
    import transformers

    hub.refuse_kernels(checkpoint)
    config = transformers.AutoConfig.from_pretrained(checkpoint, **hub.LOCAL_DATA_ONLY)
    if config.model_type not in _TOWERS:
        raise PermanentError(
            f"{checkpoint} is a {config.model_type} model; known are {', '.join(_TOWERS)}",
            ErrorClass.MODEL,
            f"set {setting} to one of these",
        )
    clip = config.model_type == "clip"
    return _TOWERS[config.model_type], {"projection_dim": config.projection_dim} if clip else {}


def _load(name: str, checkpoint: Path, **options: Any) -> Any:
    import transformers

    model, info = getattr(transformers, name).from_pretrained(
        checkpoint, use_safetensors=True, output_loading_info=True, **hub.LOCAL_DATA_ONLY, **options
    )
    if info["missing_keys"]:
        raise ValueError(f"its weights lack {sorted(info['missing_keys'])[0]}")
    return model


def _unit(vectors: Any) -> NDArray[np.float32]:
    """Scale rows to unit vectors, in single precision."""
    array: NDArray[np.float32] = vectors.float().cpu().numpy()
    with np.errstate(all="ignore"):  # what comes of an overflow is not finite
        scaled: NDArray[np.float32] = array / np.linalg.norm(array, axis=1, keepdims=True)
    return scaled


@contextlib.contextmanager
def _quiet(checkpoint: Path, setting: str) -> Iterator[Any]:
    """Use transformers offline and silently; turn its exceptions into errors with a next step."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    require_transformers(setting)
    try:
        import transformers

        # imported now, so that a failure is caught here
        from transformers import AutoImageProcessor, PreTrainedModel  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise TransientError(
            f"transformers cannot be imported: {first_line(error.__cause__ or error)}",
            ErrorClass.MISSING_TOOL,
            "install torch, torchvision and transformers from one index",
        ) from error
    library_log: Any = transformers.utils.logging
    library_log.set_verbosity_error()
    library_log.disable_progress_bar()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        yield transformers
    except (PermanentError, TransientError):
        raise
    except Exception as error:  # a damaged or foreign checkpoint may raise anything
        if "out of memory" in str(error) or isinstance(error, MemoryError):
            raise
        raise PermanentError(
            f"cannot load the checkpoint {checkpoint}: {first_line(error)}",
            ErrorClass.MODEL,
            f"set {setting} to a whole checkpoint",
        ) from error
