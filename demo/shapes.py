"""Photographs from installed packages, and the three shapes that are planted on them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
BBox = tuple[float, float, float, float]

CLASSES = ("disc", "box", "triangle")
# BGR; vivid, so that shapes stand out from a photograph
COLOURS = (
    (60, 60, 235),
    (60, 190, 60),
    (235, 130, 50),
    (40, 210, 245),
    (210, 70, 200),
    (225, 215, 60),
)
# corners, the first one's direction in degrees, their distance from the centre in half sizes
_FORMS = {"disc": (64, 0.0, 1.0), "box": (4, 45.0, 1.27), "triangle": (3, -90.0, 1.15)}
_OUTLINE = (255, 255, 255)
_RIM = (30, 30, 30)
_SHIFT = 4  # cv2 takes coordinates in 1/16 pixel, so that slow movement stays smooth

# the first three come with ultralytics and its matplotlib; the others with scikit-image
_PHOTOGRAPHS = (
    ("ultralytics", "assets/bus.jpg"),
    ("ultralytics", "assets/zidane.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/motorcycle_left.png"),
)


@dataclass(frozen=True)
class Shape:
    """One planted object: its class, centre and size in pixels, angle in degrees, colour."""

    kind: str
    x: float
    y: float
    size: float
    angle: float = 0.0
    colour: int = 0


def photographs() -> list[Image]:
    """Load the photographs on this machine, without importing the packages that contain them.

    Returns
    -------
    list of ndarray
        BGR pictures of shape (height, width, 3), at least 640 by 360 pixels each.

    Raises
    ------
    FileNotFoundError
        If no package with photographs is installed.
    """
    found = [_load(path) for path in map(_path, _PHOTOGRAPHS) if path is not None]
    if not found:
        raise FileNotFoundError("no photographs: install ultralytics, which contains two")
    return found


def _path(photograph: tuple[str, str]) -> Path | None:
    package, name = photograph
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / name if spec and spec.origin else None
    return path if path and path.is_file() else None


def _load(path: Path) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(f"cannot read the photograph {path}")
    scale = max(960 / image.shape[1], 540 / image.shape[0])
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=method)  # type: ignore[return-value]


def draw(image: Image, shape: Shape) -> BBox:
    """Draw a shape into a picture, in place.

    Parameters
    ----------
    image : ndarray
        BGR picture of shape (height, width, 3).
    shape : Shape
        What to draw; coordinates in pixels of ``image``.

    Returns
    -------
    tuple of float
        The box x1, y1, x2, y2 around the shape with its outline, in pixels.
    """
    outline = max(1, round(shape.size * 0.05))
    points = _outline_points(shape)
    polygon = np.round((points - 0.5) * (1 << _SHIFT)).astype(np.int32)
    colour = COLOURS[shape.colour % len(COLOURS)]
    for thickness, stroke in ((outline * 3, _RIM), (outline, _OUTLINE)):
        cv2.polylines(image, [polygon], True, stroke, thickness, cv2.LINE_AA, _SHIFT)
        if stroke == _RIM:
            cv2.fillPoly(image, [polygon], colour, cv2.LINE_AA, _SHIFT)
    margin = outline * 1.5
    (x1, y1), (x2, y2) = points.min(axis=0) - margin, points.max(axis=0) + margin
    return float(x1), float(y1), float(x2), float(y2)


def _outline_points(shape: Shape) -> npt.NDArray[np.float64]:
    """Return the corners (N, 2) of a shape; a disc is a polygon of many."""
    corners, offset, extent = _FORMS[shape.kind]
    turn = np.radians(shape.angle + offset + np.arange(corners) * 360 / corners)
    unit = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    points: npt.NDArray[np.float64] = np.array([shape.x, shape.y]) + shape.size / 2 * extent * unit
    return points
