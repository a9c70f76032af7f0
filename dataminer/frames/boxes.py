"""Boxes of objects detected on frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Box:
    """One detected object: x, y, width and height in pixels from the upper left corner.

    ``category`` is the model's 0-based class; ``score`` lies in 0..1.
    """

    category: int
    x: float
    y: float
    width: float
    height: float
    score: float

    @classmethod
    def from_corners(
        cls, corners: Sequence[float], score: float, category: int, image_size: tuple[int, int]
    ) -> Box | None:
        """Make a box clipped to the image and rounded to a hundredth of a pixel.

        Parameters
        ----------
        corners : sequence of float
            x1, y1, x2, y2 in pixels.
        score : float
            Confidence of the model.
        category : int
            0-based class.
        image_size : tuple of int
            Width and height of the image.

        Returns
        -------
        Box or None
            None if it lies outside of the image.
        """
        width, height = image_size
        x1, x2 = (round(min(max(v, 0.0), width), 2) for v in (corners[0], corners[2]))
        y1, y2 = (round(min(max(v, 0.0), height), 2) for v in (corners[1], corners[3]))
        if x2 <= x1 or y2 <= y1:
            return None
        return cls(category, x1, y1, round(x2 - x1, 2), round(y2 - y1, 2), round(score, 4))

    def iou(self, other: Box) -> float:
        """Return the intersection over union of two boxes."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        if width <= 0 or height <= 0:
            return 0.0
        shared = width * height
        return shared / (self.width * self.height + other.width * other.height - shared)


@dataclass(frozen=True)
class LabelledImage:
    """An image of the dataset and its boxes; sizes in pixels, times in seconds."""

    file_name: str
    width: int
    height: int
    video_id: str
    frame_index: int
    pts_time: float
    boxes: tuple[Box, ...] = field(default=())


def sort(boxes: Iterable[Box]) -> list[Box]:
    """Sort boxes by descending score; ties by position and class."""
    return sorted(boxes, key=lambda b: (-b.score, b.x, b.y, b.width, b.height, b.category))
