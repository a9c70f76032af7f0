"""Open-vocabulary detectors of the transformers library: OWLv2, Grounding DINO."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from dataminer.config.models import DetectConfig
from dataminer.errors import ConfigError, DataminerError, ErrorClass, PermanentError
from dataminer.frames.boxes import Box
from dataminer.process import how_to_install
from dataminer.vision import device, hub
from dataminer.vision.detectors import MAX_BOXES, distinct, need_prompts
from dataminer.vision.errors import first_line
from dataminer.vision.prefetch import BgrImage
from dataminer.vision.weights import stdout_to_stderr

_OWL = ("owlvit", "owlv2")  # score each prompt
_GROUNDED = ("grounding-dino", "mm-grounding-dino")  # score each token of one text
_SEPARATOR = ". "


class TextDetector:
    """A model folder of the transformers library; a :class:`~dataminer.vision.detectors.Detector`.

    The model's own processor scales the images.

    Parameters
    ----------
    folder : Path
        ``config.json``, the weights as safetensors, the processor's and the tokenizer's files.
    settings : DetectConfig
        As for :func:`~dataminer.vision.detectors.open_detector`.
    part : int
        The number of this job, of several.
    """

    def __init__(self, folder: Path, settings: DetectConfig, part: int) -> None:
        self.names = need_prompts(folder, settings)
        self._least = settings.confidence
        self._device = device.choose(settings.device, part)
        self._processor, model = _load(folder)
        self._model = model.to(self._device).eval()
        self._grounded = model.config.model_type in _GROUNDED
        self._text = self._read_prompts()

    def predict(
        self, batches: Iterable[Sequence[BgrImage]]
    ) -> Generator[tuple[Box, ...], None, None]:
        """Find the objects in images; see :class:`~dataminer.vision.detectors.Detector`."""
        for images in batches:
            yield from self._of_batch(images)

    def _of_batch(self, batch: Sequence[BgrImage]) -> list[tuple[Box, ...]]:
        import torch

        images = [np.ascontiguousarray(image[:, :, ::-1]) for image in batch]
        inputs = self._processor.image_processor(images=images, return_tensors="pt")
        text = {name: self._repeated(value, len(images)) for name, value in self._text.items()}
        with torch.inference_mode(), self._half():
            outputs = self._model(**inputs.to(self._device), **text)
        scores, classes = self._scores(outputs.logits.float())
        corners = _corners(outputs.pred_boxes.float())
        found = (value.cpu().numpy() for value in (corners, scores, classes))
        shapes = [image.shape for image in batch]
        return [self._boxes(*values) for values in zip(*found, shapes, strict=True)]

    def _half(self) -> AbstractContextManager[Any]:
        """Use half precision on a GPU, except for operations that would overflow."""
        import torch

        if self._device.type != "cuda":
            return nullcontext()
        half: AbstractContextManager[Any] = torch.autocast("cuda", dtype=torch.float16)
        return half

    def _read_prompts(self) -> dict[str, Any]:
        """Tokenise the prompts: one row each, or one text for models that score its tokens."""
        tokenizer = self._processor.tokenizer
        if not self._grounded:
            most = int(getattr(self._model.config.text_config, "max_position_embeddings", 16))
            options = {"padding": "max_length", "max_length": most, "truncation": True}
            return dict(tokenizer(self.names, return_tensors="pt", **options).to(self._device))
        text = "".join(f"{name.strip().lower()}{_SEPARATOR}" for name in self.names)
        tokens = tokenizer(text.strip(), return_tensors="pt", return_offsets_mapping=True)
        offsets = tokens.pop("offset_mapping")[0].tolist()
        self._tokens_of = _tokens_of(self.names, offsets)
        limit = int(self._model.config.max_text_len)
        if len(offsets) > limit:
            raise ConfigError(
                f"detect.prompts make {len(offsets)} tokens, and the model reads {limit}",
                "give fewer or shorter prompts",
            )
        return dict(tokens.to(self._device))

    def _repeated(self, value: Any, images: int) -> Any:
        return value.repeat(images, *(1,) * (value.ndim - 1))

    def _scores(self, logits: Any) -> tuple[Any, Any]:
        """Return each box's best score and its prompt, from (batch, boxes, columns)."""
        import torch

        if self._grounded:
            of_prompts = [logits[..., tokens].amax(-1) for tokens in self._tokens_of]
            logits = torch.stack(of_prompts, dim=-1)
        best = logits.max(dim=-1)
        return best.values.sigmoid(), best.indices

    def _boxes(
        self, corners: Any, scores: Any, classes: Any, shape: tuple[int, ...]
    ) -> tuple[Box, ...]:
        height, width = shape[:2]
        # OWLv2 pads images to squares at the right and below, and its boxes refer to those
        padded = self._model.config.model_type == "owlv2"
        scale = (max(height, width),) * 4 if padded else (width, height, width, height)
        order = np.argsort(-scores, kind="stable")[:MAX_BOXES]
        sure = [index for index in order if scores[index] >= self._least]
        boxes = (
            Box.from_corners(
                (corners[index] * scale).tolist(),
                float(scores[index]),
                int(classes[index]),
                (width, height),
            )
            for index in sure
        )
        return distinct(box for box in boxes if box)


def _tokens_of(names: Sequence[str], offsets: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the tokens of each prompt, by their offsets in the text."""
    owned, start = [], 0
    for name in names:
        end = start + len(name.strip())
        owned.append([n for n, (a, b) in enumerate(offsets) if start <= a < b <= end])
        start = end + len(_SEPARATOR)
    unknown = [name for name, tokens in zip(names, owned, strict=True) if not tokens]
    if unknown:
        raise ConfigError(f"the model knows no word of the prompt {unknown[0]!a}")
    return owned


def _corners(boxes: Any) -> Any:
    """Turn centre, width and height into x1, y1, x2, y2."""
    import torch

    x, y, width, height = boxes.unbind(-1)
    sides = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return torch.stack(sides, dim=-1)


def _load(folder: Path) -> tuple[Any, Any]:
    """Load a processor and a model from a folder, without the network and without code."""
    for name in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        os.environ.setdefault(name, "1")
    try:
        from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoProcessor
        from transformers.utils import logging
    except ImportError as error:
        raise ConfigError(
            f"{folder.name} needs the transformers library, which cannot be imported here",
            how_to_install("semantic"),
        ) from error
    logging.disable_progress_bar()
    try:
        with stdout_to_stderr():
            hub.refuse_kernels(folder)
            kind = AutoConfig.from_pretrained(folder, **hub.LOCAL_DATA_ONLY).model_type
            _refuse_others(folder, kind)
            processor = AutoProcessor.from_pretrained(folder, **hub.LOCAL_DATA_ONLY)
            model = AutoModelForZeroShotObjectDetection.from_pretrained(
                folder, use_safetensors=True, **hub.LOCAL_DATA_ONLY
            )
    except DataminerError:
        raise
    except Exception as error:  # a damaged or foreign folder may raise anything
        raise PermanentError(
            f"cannot load the model in {folder}: {first_line(error)}",
            ErrorClass.MODEL,
            "remove the folder, then run `dataminer models fetch` to fetch it again",
        ) from error
    return processor, model


def _refuse_others(folder: Path, kind: str) -> None:
    if kind in (*_OWL, *_GROUNDED):
        return
    raise PermanentError(
        f"{folder.name} is a {kind} model, which finds no objects by prompts",
        ErrorClass.MODEL,
        f"use one of {', '.join((*_OWL, *_GROUNDED))}",
    )
