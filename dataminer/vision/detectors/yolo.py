"""Detectors of ultralytics: YOLO, RT-DETR, and with text prompts YOLO-World and YOLOE."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dataminer.config.models import DetectConfig
from dataminer.errors import ConfigError, ErrorClass, PermanentError, TransientError
from dataminer.frames.boxes import Box
from dataminer.vision import device
from dataminer.vision.detectors import MAX_BOXES, distinct
from dataminer.vision.errors import first_line
from dataminer.vision.prefetch import BgrImage
from dataminer.vision.safe_loading import HINT_OTHER_WEIGHTS
from dataminer.vision.weights import class_names, load_model, stdout_to_stderr

# by ultralytics' name of a text encoder: its file, beside the weights
_ENCODERS = {
    "clip:ViT-B/32": "clip/ViT-B-32.pt",
    "mobileclip:blt": "mobileclip_blt.ts",
    "mobileclip2:b": "mobileclip2_b.ts",
}
_CLIP = "pip install git+https://github.com/ultralytics/CLIP.git"


class YoloDetector:
    """A ``.pt`` file of ultralytics; a :class:`~dataminer.vision.detectors.Detector`.

    Parameters
    ----------
    weights : Path
        The file.
    settings : DetectConfig
        As for :func:`~dataminer.vision.detectors.open_detector`.
    part : int
        The number of this job, of several.
    """

    def __init__(self, weights: Path, settings: DetectConfig, part: int) -> None:
        self._model = load_model(weights)
        self._options = _options(settings, part)
        _keep_threads(self._model)
        if settings.prompts:
            _set_classes(self._model, settings, weights)

    @property
    def names(self) -> list[str]:
        """Class names in the model's order."""
        return class_names(self._model)

    def predict(
        self, batches: Iterable[Sequence[BgrImage]]
    ) -> Generator[tuple[Box, ...], None, None]:
        """Find the objects in images; see :class:`~dataminer.vision.detectors.Detector`."""
        classes = len(self.names)
        with stdout_to_stderr():
            try:
                for result in self._model.predict(_source(batches), **self._options):
                    boxes = _boxes(result)
                    _check_named(boxes, classes)
                    yield boxes
            except (ImportError, RuntimeError) as error:
                if "torchvision" not in str(error):
                    raise
                raise TransientError(
                    "this model needs torchvision, and the installed one does not fit torch",
                    ErrorClass.MISSING_TOOL,
                    "install torch and torchvision from one index, or use a yolo26 model",
                ) from error


def _options(settings: DetectConfig, part: int) -> dict[str, Any]:
    chosen = device.choose(settings.device, part)
    return {
        "stream": True,
        "conf": settings.confidence,
        "imgsz": settings.image_size,
        "max_det": MAX_BOXES,
        "device": chosen,
        "quantize": 16 if chosen.type == "cuda" else None,
        # use the end-to-end head if the model has one: it needs no torchvision
        "nms": False,
        "verbose": False,
    }


def _keep_threads(model: Any) -> None:
    """Keep torch's number of threads, which ultralytics would change on a CPU."""
    import torch

    threads = torch.get_num_threads()
    model.add_callback("on_predict_start", lambda _: torch.set_num_threads(threads))


def _source(batches: Iterable[Sequence[BgrImage]]) -> Any:
    """Wrap decoded batches in a source of ultralytics, for a single call of predict.

    One call per batch would check the settings each time.
    """
    loaders: Any = importlib.import_module("ultralytics.data.loaders")

    class ImageSource(loaders.LoadPilAndNumpy):  # type: ignore[misc]
        source_type = loaders.SourceTypes(stream=False, screenshot=False, from_img=True)

        def __init__(self) -> None:
            self.mode, self.bs = "image", 1

        def __len__(self) -> int:
            return 1  # more than 1,000 would import torchvision

        def __iter__(self) -> Iterator[tuple[list[str], list[BgrImage], list[str]]]:
            for batch in batches:
                blank = [""] * len(batch)
                yield blank, list(batch), blank

    return ImageSource()


def _boxes(result: Any) -> tuple[Box, ...]:
    height, width = result.orig_shape
    rows = result.boxes.data.tolist()  # (N, 6): x1, y1, x2, y2, score, class
    boxes = (Box.from_corners(row[:4], row[4], int(row[5]), (width, height)) for row in rows)
    return distinct(box for box in boxes if box)


def _check_named(boxes: Iterable[Box], classes: int) -> None:
    nameless = [box.category for box in boxes if box.category >= classes]
    if nameless:
        raise PermanentError(
            f"the model finds class {nameless[0]}, and its file names {classes}",
            ErrorClass.MODEL,
            HINT_OTHER_WEIGHTS,
        )


def _set_classes(model: Any, settings: DetectConfig, weights: Path) -> None:
    """Set the classes of a YOLO-World or YOLOE model to the prompts."""
    prompts = list(settings.prompts)
    if not hasattr(model, "set_classes"):
        raise ConfigError(
            f"{weights.name} has classes of its own, and detect.prompts names others",
            "leave detect.prompts out, or use a yoloe, a yolov8-world or an owlv2 model",
        )
    if class_names(model) == prompts:
        return  # the file has them: no text encoder is needed
    _find_text_encoder(model, weights)
    try:
        with stdout_to_stderr():
            model.set_classes(prompts)
    except (OSError, AssertionError, RuntimeError) as error:
        raise PermanentError(
            f"{weights.name} cannot take prompts: {first_line(error)}",
            ErrorClass.MODEL,
            "use a yoloe model without `-pf` in its name, or an owlv2 model",
        ) from error


def _find_text_encoder(model: Any, weights: Path) -> None:
    """Make ultralytics use the text encoder beside the weights, and not fetch one."""
    if find_spec("clip") is None:
        raise TransientError(
            f"{weights.name} reads prompts with CLIP, which is not installed",
            ErrorClass.MISSING_TOOL,
            f"install it in this environment: {_CLIP}",
        )
    yoloe = type(model).__name__ == "YOLOE"  # else YOLO-World
    kind = str(getattr(model.model, "text_model", "mobileclip:blt")) if yoloe else "clip:ViT-B/32"
    if kind not in _ENCODERS:  # it may be a path as well
        raise PermanentError(
            f"{weights.name} reads prompts with {kind[:80]!a}, which is no known encoder",
            ErrorClass.MODEL,
            "use a model that ultralytics publishes, or an owlv2 model",
        )
    name, folder = _ENCODERS[kind], weights.parent.absolute()
    if not (folder / name).is_file():
        raise PermanentError(
            f"{weights.name} reads prompts with {name}, which is not in {folder}",
            ErrorClass.MODEL,
            f"put it there, or run `dataminer models fetch {name}` on a machine with a network"
            if yoloe
            else "put it there; docs/detect.md names its source",
        )
    utils: Any = importlib.import_module("ultralytics.utils")
    utils.SETTINGS.update({"weights_dir": str(folder)})
    utils.WEIGHTS_DIR = folder
