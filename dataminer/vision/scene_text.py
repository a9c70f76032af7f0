"""Where text is in a picture, by the weights in rapidocr's wheel; onnxruntime is imported here."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, files
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataminer.errors import ConfigError, ErrorClass, PermanentError, TransientError
from dataminer.process import how_to_install
from dataminer.vision.errors import first_line
from dataminer.vision.prefetch import BgrImage

_STRIDE = 32  # the network takes sides that are multiples of it
# as in rapidocr
_MEAN = _DEVIATION = np.float32(127.5)
_LEAST = 0.3  # probability of a pixel of text
_THINNEST = 3  # pixels of a region
# By which a region grows: this times its area, divided by its circumference. With rapidocr's 1.6,
# which leaves room for reading, drawn text gets 1.4 times its area; with 1, 1.05 times (median).
_MARGIN = 1.0
# The network takes plates, wheels and clocks for letters, and scores them like text
_THICKEST = 0.5  # of the picture's shorter side


class TextRegions(NamedTuple):
    """The text in a picture.

    Attributes
    ----------
    corners : ndarray of float32, shape (k, 4, 2)
        Rectangles at any angle: x and y of their corners in order, as shares of width and height;
        some lie outside of the picture.
    scores : ndarray of float32, shape (k,)
        From 0 to 1.
    """

    corners: NDArray[np.float32]
    scores: NDArray[np.float32]


def missing_libraries() -> list[str]:
    """Return the libraries of the text filter that are not installed, without loading any."""
    return [name for name in ("rapidocr", "onnxruntime") if find_spec(name) is None]


def require_rapidocr() -> None:
    """Check that the libraries of the text filter are installed, without loading them.

    Raises
    ------
    ConfigError
        A library is missing.
    """
    if missing := missing_libraries():
        raise ConfigError(
            f"filter.text.max_area is set, and {' and '.join(missing)} cannot be found here",
            f"{how_to_install('text')}; or set filter.text.max_area to null",
        )


def text_weights() -> Path:
    """Return the detector's weights in the installed wheel of rapidocr.

    Raises
    ------
    PermanentError
        ``MODEL``: the wheel has none, or more than one. Others that rapidocr may have downloaded
        into the same folder are not those of its wheel.
    """
    try:
        installed = files("rapidocr") or []
    except PackageNotFoundError:
        installed = []
    named = [file for file in installed if PurePath(file).match("rapidocr/models/*_det_*.onnx")]
    found = [path for file in named if (path := Path(str(file.locate()))).is_file()]
    if len(found) != 1:
        listed = ", ".join(path.name for path in found) or "none"
        raise PermanentError(
            f"expected the weights of one text detector in the wheel of rapidocr, found {listed}",
            ErrorClass.MODEL,
            f"{how_to_install('text')}, which takes a version that has them",
        )
    return found[0]


class SceneTextDetector:
    """Finds text of any script in pictures, on the CPU; it reads none of it.

    The network is PaddleOCR's (differentiable binarization), and its output is read as rapidocr
    does. That library itself is not used: it sorts boxes without their scores (3.10).
    Each call runs on its caller's thread alone, and several threads may call at the same time.

    Parameters
    ----------
    weights : Path
        From :func:`text_weights`.
    image_size : int
        Larger pictures are scaled to this many pixels on the longer side.
    confidence : float
        Regions with a lower score are left out.

    Raises
    ------
    PermanentError
        ``MODEL``: the weights cannot be loaded.
    TransientError
        ``MISSING_TOOL``: onnxruntime cannot be imported.
    """

    def __init__(self, weights: Path, image_size: int, confidence: float) -> None:
        self._image_size, self._confidence = image_size, confidence
        self._session = _load(weights)
        self._input = self._session.get_inputs()[0].name

    def find(self, image: BgrImage) -> TextRegions:
        """Find the text in a picture."""
        scaled = _scaled(image, self._image_size).astype(np.float32)
        planes = np.ascontiguousarray(((scaled - _MEAN) / _DEVIATION).transpose(2, 0, 1))
        (maps,) = self._session.run(None, {self._input: planes[np.newaxis]})
        return _regions(maps[0, 0], self._confidence)


def _load(weights: Path) -> Any:
    """Return a session of onnxruntime that computes on the thread that calls it."""
    try:
        library: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise TransientError(
            f"onnxruntime cannot be imported: {first_line(error)}",
            ErrorClass.MISSING_TOOL,
            how_to_install("text"),
        ) from error
    options = library.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # it would keep memory for each size of pictures
    options.log_severity_level = 3  # errors
    try:
        return library.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class per failure, and no common one
        raise PermanentError(
            f"cannot load the text detector {weights}: {first_line(error)}",
            ErrorClass.MODEL,
            how_to_install("text"),
        ) from error


def _scaled(image: BgrImage, longest: int) -> BgrImage:
    """Scale a picture down to a longest side, and each side to the nearest multiple of 32."""
    import cv2

    height, width = image.shape[:2]
    scale = min(1.0, longest / max(height, width))
    sides = (max(_STRIDE, round(side * scale / _STRIDE) * _STRIDE) for side in (width, height))
    size = tuple(min(side, longest) for side in sides)
    smaller = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=smaller), np.uint8)


def _regions(probability: NDArray[np.float32], confidence: float) -> TextRegions:
    """Return the regions of a map of probabilities, each a rectangle at any angle."""
    import cv2

    height, width = probability.shape
    mask = cv2.dilate((probability > _LEAST).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    corners, scores = [], []
    for contour in contours:
        centre, sides, angle = cv2.minAreaRect(contour)
        if min(sides) < _THINNEST:
            continue
        # the network marks the middle of text
        more = _MARGIN * sides[0] * sides[1] / (sides[0] + sides[1])
        wider = (sides[0] + more, sides[1] + more)
        if min(wider) > _THICKEST * min(width, height):
            continue
        score = _mean_within(probability, cv2.boxPoints((centre, sides, angle)))
        if score >= confidence:
            corners.append(cv2.boxPoints((centre, wider, angle)) / (width, height))
            scores.append(score)
    shaped = np.array(corners, np.float32).reshape(-1, 4, 2)
    return TextRegions(shaped, np.array(scores, np.float32))


def _mean_within(values: NDArray[np.float32], corners: NDArray[Any]) -> float:
    """Return the mean of the values in a rectangle at any angle."""
    import cv2

    last = np.array(values.shape[::-1]) - 1
    left, top = np.floor(corners.min(axis=0)).clip(0, last).astype(int)
    right, bottom = np.ceil(corners.max(axis=0)).clip(0, last).astype(int)
    mask = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
    cv2.fillConvexPoly(mask, (corners - (left, top)).astype(np.int32), 1)
    mean: float = cv2.mean(values[top : bottom + 1, left : right + 1], mask)[0]
    return mean
