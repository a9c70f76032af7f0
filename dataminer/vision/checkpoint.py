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

_SETTING = "filter.semantic.model"


class Towers(NamedTuple):
    """The classes of a checkpoint's two halves, and where their outputs have the embedding."""

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
    """Say where the checkpoint that ``filter.semantic.model`` names lies, or will once fetched.

    Parameters
    ----------
    model : str
        A folder, or a name on the hub such as ``google/siglip2-base-patch16-224``.
    folder : Path
        Where fetched checkpoints are kept.

    Raises
    ------
    ConfigError
        It is a folder without a ``config.json``, or neither a folder nor a name.
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
    """Make sure that the libraries of the semantic filter are there, without loading them.

    Raises
    ------
    ConfigError
        Saying what to install.
    """
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"filter.semantic has prompts, and {' and '.join(missing)} cannot be found here",
            f"{how_to_install('semantic')}; or take the prompts out",
        )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]


@dataclass(frozen=True)
class Vision:
    """The half of a checkpoint that looks at pictures.

    Attributes
    ----------
    dimension : int
        Of its embeddings.
    prepare : callable
        From an image file's bytes to the model's inputs for that one picture; thread-safe.
    encode : callable
        From the inputs of n pictures to embeddings, float16, shape (n, dimension), length 1 each.
    """

    dimension: int
    prepare: Callable[[bytes], Inputs]
    encode: Callable[[Sequence[Inputs]], NDArray[np.float16]]


def load_vision(checkpoint: Path, device: str) -> Vision:
    """Load the vision tower alone; in half precision on a CUDA GPU.

    Raises
    ------
    PermanentError
        It is no checkpoint of a known kind, or damaged.
    TransientError
        transformers cannot be imported, or the device is not there.
    """
    with _quiet(checkpoint) as transformers:
        import torch

        where = devices.choose(device, setting="filter.semantic.device")
        kind = torch.float16 if where.type == "cuda" else torch.float32
        towers, how = _towers(checkpoint)
        model = _load(towers.vision, checkpoint, dtype=kind, **how).to(where).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(
            checkpoint, backend="pil", **hub.ONLY_DATA
        )

    def prepare(data: bytes) -> Inputs:
        inputs = processor(images=[decode_image(data, rgb=True)], return_tensors="np")
        return {name: np.asarray(value)[0] for name, value in inputs.items()}

    def encode(pictures: Sequence[Inputs]) -> NDArray[np.float16]:
        arrays = {name: np.stack([picture[name] for picture in pictures]) for name in pictures[0]}
        tensors = {name: torch.from_numpy(array).to(where) for name, array in arrays.items()}
        with torch.inference_mode():
            tensors["pixel_values"] = tensors["pixel_values"].to(kind)
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
        Cut to as many tokens as the model takes. SigLIP was trained on lower case, and gets it.

    Returns
    -------
    ndarray of float32, shape (n, d)
        Of length 1 each.

    Raises
    ------
    PermanentError, TransientError
        As :func:`load_vision`.
    """
    with _quiet(checkpoint) as transformers:
        import torch

        towers, how = _towers(checkpoint)
        model = _load(towers.text, checkpoint, dtype=torch.float32, **how).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint, **hub.ONLY_DATA)
        siglip = "Siglip" in towers.text
        tokens = tokenizer(
            [text.lower() for text in texts] if siglip else list(texts),
            # SigLIP was trained without a mask on texts that are all of full length
            padding="max_length" if siglip else True,
            truncation=True,
            max_length=model.config.max_position_embeddings,
            return_attention_mask=not siglip,
            return_tensors="pt",
        )
        with torch.inference_mode():
            wanted = ("input_ids",) if siglip else ("input_ids", "attention_mask")
            found = model(**{name: tokens[name] for name in wanted})
            return _unit(getattr(found, towers.text_output))


def read_scale(checkpoint: Path) -> tuple[float, float | None]:
    """Return what makes logits of cosines: factor (the exponential of the scale), and bias.

    Returns
    -------
    scale : float
        Logits per unit of cosine.
    bias : float or None
        Added to logits; None for models trained with softmax, such as CLIP, which have none.
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
    """Return the classes for a checkpoint, and what its halves must be told of the whole."""
    import transformers

    hub.refuse_kernels(checkpoint)
    config = transformers.AutoConfig.from_pretrained(checkpoint, **hub.ONLY_DATA)
    if config.model_type not in _TOWERS:
        raise PermanentError(
            f"{checkpoint} is a {config.model_type} model; known are {', '.join(_TOWERS)}",
            ErrorClass.MODEL,
            f"set {_SETTING} to one of these",
        )
    clip = config.model_type == "clip"
    return _TOWERS[config.model_type], {"projection_dim": config.projection_dim} if clip else {}


def _load(name: str, checkpoint: Path, **how: Any) -> Any:
    import transformers

    model, info = getattr(transformers, name).from_pretrained(
        checkpoint, use_safetensors=True, output_loading_info=True, **hub.ONLY_DATA, **how
    )
    if info["missing_keys"]:
        raise ValueError(f"its weights lack {sorted(info['missing_keys'])[0]}")
    return model


def _unit(vectors: Any) -> NDArray[np.float32]:
    """Scale rows to length 1, in single precision."""
    array: NDArray[np.float32] = vectors.float().cpu().numpy()
    scaled: NDArray[np.float32] = array / np.linalg.norm(array, axis=1, keepdims=True)
    return scaled


@contextlib.contextmanager
def _quiet(checkpoint: Path) -> Iterator[Any]:
    """Let transformers work on files alone, without a word; name what is wrong with them."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    require_transformers()
    try:
        import transformers

        # in one go what each of the lazy names would fail on later
        from transformers import AutoImageProcessor, PreTrainedModel  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise TransientError(
            f"transformers cannot be imported: {_first_line(error.__cause__ or error)}",
            ErrorClass.MISSING_TOOL,
            "install torch, torchvision and transformers from one index",
        ) from error
    chatter: Any = transformers.utils.logging
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        yield transformers
    except (PermanentError, TransientError):
        raise
    except Exception as error:  # whatever a damaged or foreign checkpoint makes the libraries raise
        if "out of memory" in str(error) or isinstance(error, MemoryError):
            raise
        raise PermanentError(
            f"cannot load the checkpoint {checkpoint}: {_first_line(error)}",
            ErrorClass.MODEL,
            f"set {_SETTING} to a whole checkpoint",
        ) from error
