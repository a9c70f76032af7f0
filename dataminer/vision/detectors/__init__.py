"""Detectors behind one small interface: class names, and the boxes of pictures in batches."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from dataminer.config.models import DetectConfig
from dataminer.errors import ConfigError
from dataminer.frames.boxes import Box, sort
from dataminer.vision.prefetch import RgbImage
from dataminer.vision.weights import weights_sha256

MAX_BOXES = 300  # of one picture; ultralytics' own default
_SAME = 0.7  # overlap above which two boxes of one class are one object; ultralytics' `iou`


class Detector(Protocol):
    """What finds objects in pictures."""

    @property
    def names(self) -> Sequence[str]:
        """The classes, in the order of the numbers that boxes carry."""

    def predict(
        self, batches: Iterable[Sequence[RgbImage]]
    ) -> Generator[tuple[Box, ...], None, None]:
        """Find the objects of pictures, which come in batches of one size each.

        Takes a batch only when it needs one, so that others can be decoded meanwhile.

        Parameters
        ----------
        batches : iterable of sequences of ndarray
            Height x width x 3 each, blue first, as OpenCV has them; within a batch of one size.

        Yields
        ------
        tuple of Box
            Of each picture in their order, the surest first; none below ``detect.confidence``.
        """


@contextmanager
def opened(weights: Path, settings: DetectConfig, *, part: int = 0) -> Iterator[Detector]:
    """Load a detector: ultralytics for a file, the transformers library for a folder.

    Parameters
    ----------
    weights : Path
        A ``.pt`` file, or a folder as the Hugging Face Hub has it. Neither may run code.
    settings : DetectConfig
        Least score, picture size, prompts, device.
    part : int
        Which of several jobs this is: where several GPUs are to be seen, they take turns.

    Yields
    ------
    Detector
        To be used within the block.

    Raises
    ------
    PermanentError
        The weights cannot be loaded, or find no boxes.
    ConfigError
        The prompts do not go with the model.
    TransientError
        This machine lacks the device or a library.
    """
    if weights.is_dir():
        from dataminer.vision.detectors.text import TextDetector

        yield TextDetector(weights, settings, part)
        return
    from dataminer.vision import only_data
    from dataminer.vision.detectors.yolo import YoloDetector
    from dataminer.vision.weights import quiet_ultralytics

    with quiet_ultralytics(), only_data.programs(settings.trusted_programs):
        yield YoloDetector(weights, settings, part)


def describe(weights: Path, settings: DetectConfig) -> dict[str, Any]:
    """Return what a dataset says of the model that its boxes come from."""
    prompts = {"prompts": list(settings.prompts)} if settings.prompts else {}
    return {
        "model": weights.name,
        "model_sha256": weights_sha256(weights),
        **prompts,
        "confidence": settings.confidence,
        "image_size": settings.image_size,
    }


def distinct(boxes: Iterable[Box]) -> tuple[Box, ...]:
    """Leave out boxes that name an object again, the less sure ones; the surest come first."""
    kept: list[Box] = []
    for box in sort(boxes):
        if not any(box.category == other.category and box.iou(other) > _SAME for other in kept):
            kept.append(box)
    return tuple(kept)


def need_prompts(weights: Path, settings: DetectConfig) -> list[str]:
    """Return the prompts for a model that finds what text names.

    Raises
    ------
    ConfigError
        There are none.
    """
    if not settings.prompts:
        raise ConfigError(
            f"{weights.name} finds what text names, and detect.prompts is empty",
            "say what to look for, such as `prompts: [a car, a bicycle]`",
        )
    return list(settings.prompts)
