"""Detectors behind one interface: class names, and the boxes of images in batches."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from dataminer.config.models import DetectConfig
from dataminer.errors import ConfigError
from dataminer.frames.boxes import Box, sort
from dataminer.vision.prefetch import BgrImage
from dataminer.vision.weights import weights_sha256

MAX_BOXES = 300  # per image; ultralytics' default
_SAME = 0.7  # IoU above which two boxes of one class are one object; ultralytics' default


class Detector(Protocol):
    """A model that finds objects in images."""

    @property
    def names(self) -> Sequence[str]:
        """The classes, indexed by ``Box.category``."""

    def predict(
        self, batches: Iterable[Sequence[BgrImage]]
    ) -> Generator[tuple[Box, ...], None, None]:
        """Find the objects in images, which come in batches of one size each.

        A batch is taken only when it is needed, so that others are decoded in the meantime.

        Parameters
        ----------
        batches : iterable of sequences of ndarray
            Height x width x 3 each, blue first, as in OpenCV; one size per batch.

        Yields
        ------
        tuple of Box
            Per image, the highest score first; none below ``detect.confidence``.
        """


@contextmanager
def open_detector(weights: Path, settings: DetectConfig, *, part: int = 0) -> Iterator[Detector]:
    """Load a detector: ultralytics for a file, the transformers library for a folder.

    Parameters
    ----------
    weights : Path
        A ``.pt`` file, or a model folder of the Hugging Face Hub. Neither may run code.
    settings : DetectConfig
        Least score, image size, prompts, device.
    part : int
        The number of this job, of several, which take turns on the visible GPUs.

    Yields
    ------
    Detector
        Valid within the block.

    Raises
    ------
    PermanentError
        The weights cannot be loaded, or the model finds no boxes.
    ConfigError
        The prompts do not fit the model.
    TransientError
        This machine lacks the device or a library.
    """
    if weights.is_dir():
        from dataminer.vision.detectors.text import TextDetector

        yield TextDetector(weights, settings, part)
        return
    from dataminer.vision import safe_loading
    from dataminer.vision.detectors.yolo import YoloDetector
    from dataminer.vision.weights import quiet_ultralytics

    with quiet_ultralytics(), safe_loading.trusted_programs_only(settings.trusted_programs):
        yield YoloDetector(weights, settings, part)


def model_info(weights: Path, settings: DetectConfig) -> dict[str, Any]:
    """Return the description of the model for a dataset's metadata."""
    prompts = {"prompts": list(settings.prompts)} if settings.prompts else {}
    return {
        "model": weights.name,
        "model_sha256": weights_sha256(weights),
        **prompts,
        "confidence": settings.confidence,
        "image_size": settings.image_size,
    }


def distinct(boxes: Iterable[Box]) -> tuple[Box, ...]:
    """Remove duplicate boxes of one object; the highest score wins, and comes first."""
    found: list[Box] = []
    for box in sort(boxes):
        if not any(box.category == other.category and box.iou(other) > _SAME for other in found):
            found.append(box)
    return tuple(found)


def need_prompts(weights: Path, settings: DetectConfig) -> list[str]:
    """Return the prompts of an open-vocabulary model.

    Raises
    ------
    ConfigError
        There are none.
    """
    if not settings.prompts:
        raise ConfigError(
            f"{weights.name} finds what text names, and detect.prompts is empty",
            "name the objects to find, such as `prompts: [a car, a bicycle]`",
        )
    return list(settings.prompts)
