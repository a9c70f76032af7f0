"""Finding and loading image-text checkpoints, one tower at a time."""

from __future__ import annotations

import contextlib
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
from dataminer.frames.image_decoding import decode_image
from dataminer.process import how_to_install
from dataminer.vision import device as devices
from dataminer.vision import hub
from dataminer.vision.errors import first_line

_SETTING = "filter.semantic.model"


class Towers(NamedTuple):
    """The classes of a checkpoint's two towers, and the attributes of their embeddings."""

    vision: str
    text: str
    image_output: str = "pooler_output"
    text_output: str = "pooler_output"


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
}
Inputs = dict[str, NDArray[Any]]


def checkpoint_path(model: str, folder: Path) -> Path:
    """Return the folder of the checkpoint that ``filter.semantic.model`` names.

    Parameters
    ----------
    model : str
        A folder, or a name on the hub such as ``google/siglip2-base-patch16-224``.
    folder : Path
        The folder of fetched checkpoints.

    Raises
    ------
    ConfigError
        The model is a folder without a ``config.json``, or neither a folder nor a name.
    """
    path = Path(model)
    if path.is_dir():
        if hub.is_model_folder(path):
            return path
        raise ConfigError(
            f"{_SETTING}: {model} has no {hub.CONFIG_FILE}", "name the folder of a whole checkpoint"
        )
    if hub.is_hub_id(model):
        return hub.snapshot_folder(model, folder)
    raise ConfigError(
        f"{_SETTING}: there is no folder {model}",
        "put the checkpoint there, or give a name such as google/siglip2-base-patch16-224",
    )


def require_transformers() -> None:
    """Check that the libraries of the semantic filter are installed, without loading them.

    Raises
    ------
    ConfigError
        A library is missing.
    """
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"filter.semantic has prompts, and {' and '.join(missing)} cannot be found here",
            f"{how_to_install('semantic')}; or remove the prompts",
        )


@dataclass(frozen=True)
class Vision:
    """The vision tower of a checkpoint.

    Attributes
    ----------
    dimension : int
        Of its embeddings.
    prepare : callable
        From an image file's bytes to the model's inputs for that image; thread-safe.
    encode : callable
        From the inputs of n images to unit vectors, float16, shape (n, dimension).
    """

    dimension: int
    prepare: Callable[[bytes], Inputs]
    encode: Callable[[Sequence[Inputs]], NDArray[np.float16]]


def load_vision(checkpoint: Path, device: str) -> Vision:
    """Load the vision tower alone; in half precision on a CUDA GPU.

    Raises
    ------
    PermanentError
        The checkpoint is of an unknown kind, or damaged.
    TransientError
        transformers cannot be imported, or the device is missing.
    """
    with _quiet(checkpoint) as transformers:
        import torch

        chosen = devices.choose(device, setting="filter.semantic.device")
        precision = torch.float16 if chosen.type == "cuda" else torch.float32
        towers, options = _towers(checkpoint)
        model = _load(towers.vision, checkpoint, dtype=precision, **options).to(chosen).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(
            checkpoint, backend="pil", **hub.LOCAL_DATA_ONLY
        )

    def prepare(data: bytes) -> Inputs:
        inputs = processor(images=[decode_image(data, rgb=True)], return_tensors="np")
        return {name: np.asarray(value)[0] for name, value in inputs.items()}

    def encode(images: Sequence[Inputs]) -> NDArray[np.float16]:
        arrays = {name: np.stack([image[name] for image in images]) for name in images[0]}
        tensors = {name: torch.from_numpy(array).to(chosen) for name, array in arrays.items()}
        with torch.inference_mode():
            tensors["pixel_values"] = tensors["pixel_values"].to(precision)
            found = getattr(model(**tensors), towers.image_output)
        return _unit(found).astype(np.float16)

    dimension = getattr(model.config, "projection_dim", model.config.hidden_size)
    return Vision(int(dimension), prepare, encode)


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
    with _quiet(checkpoint) as transformers:
        import torch

        towers, options = _towers(checkpoint)
        model = _load(towers.text, checkpoint, dtype=torch.float32, **options).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint, **hub.LOCAL_DATA_ONLY)
        siglip = "Siglip" in towers.text
        tokens = tokenizer(
            [text.lower() for text in texts] if siglip else list(texts),
            # SigLIP was trained without a mask, on texts padded to full length
            padding="max_length" if siglip else True,
            truncation=True,
            max_length=model.config.max_position_embeddings,
            return_attention_mask=not siglip,
            return_tensors="pt",
        )
        with torch.inference_mode():
            names = ("input_ids",) if siglip else ("input_ids", "attention_mask")
            found = model(**{name: tokens[name] for name in names})
            return _unit(getattr(found, towers.text_output))


def read_scale(checkpoint: Path) -> tuple[float, float | None]:
    """Return the factor (the exponential of the scale) and bias that turn cosines into logits.

    Returns
    -------
    scale : float
        Logits per unit of cosine.
    bias : float or None
        Added to logits; None for models trained with softmax, such as CLIP.
    """
    with _quiet(checkpoint):
        from safetensors import safe_open

        found: dict[str, float] = {}
        for path in sorted(checkpoint.glob("*.safetensors")):
            with safe_open(path, framework="numpy") as file:
                for name in {"logit_scale", "logit_bias"} & set(file.keys()):
                    found[name] = float(np.ravel(file.get_tensor(name))[0])
        return float(np.exp(found["logit_scale"])), found.get("logit_bias")


def _towers(checkpoint: Path) -> tuple[Towers, dict[str, Any]]:
    """Return the classes for a checkpoint, and the options of its towers."""
    import transformers

    hub.refuse_kernels(checkpoint)
    config = transformers.AutoConfig.from_pretrained(checkpoint, **hub.LOCAL_DATA_ONLY)
    if config.model_type not in _TOWERS:
        raise PermanentError(
            f"{checkpoint} is a {config.model_type} model; known are {', '.join(_TOWERS)}",
            ErrorClass.MODEL,
            f"set {_SETTING} to one of these",
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
    scaled: NDArray[np.float32] = array / np.linalg.norm(array, axis=1, keepdims=True)
    return scaled


@contextlib.contextmanager
def _quiet(checkpoint: Path) -> Iterator[Any]:
    """Use transformers offline and silently; turn its exceptions into errors with a next step."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    require_transformers()
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
            f"set {_SETTING} to a whole checkpoint",
        ) from error
