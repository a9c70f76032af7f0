"""Boxes that were found on frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Box:
    """One found object: x, y, width and height in pixels from the left upper corner.

    ``category`` is 0-based, as the model counts; ``score`` lies in 0..1.
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
        """Make a box that lies within the picture, rounded to a hundredth of a pixel.

        Parameters
        ----------
        corners : sequence of float
            x1, y1, x2, y2 in pixels.
        score : float
            How sure the model is.
        category : int
            0-based class.
        image_size : tuple of int
            Width and height of the picture.

        Returns
        -------
        Box or None
            None where nothing of it lies within the picture.
        """
        width, height = image_size
        x1, x2 = (round(min(max(v, 0.0), width), 2) for v in (corners[0], corners[2]))
        y1, y2 = (round(min(max(v, 0.0), height), 2) for v in (corners[1], corners[3]))
        if x2 <= x1 or y2 <= y1:
            return None
        return cls(category, x1, y1, round(x2 - x1, 2), round(y2 - y1, 2), round(score, 4))

    def iou(self, other: Box) -> float:
        """Area that two boxes share, over the area that they cover together."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        if width <= 0 or height <= 0:
            return 0.0
        shared = width * height
        return shared / (self.width * self.height + other.width * other.height - shared)


@dataclass(frozen=True)
class LabelledImage:
    """A picture of the dataset and what was found in it; sizes in pixels, times in seconds."""

    file_name: str
    width: int
    height: int
    video_id: str
    frame_index: int
    pts_time: float
    boxes: tuple[Box, ...] = field(default=())


def sort(boxes: Iterable[Box]) -> list[Box]:
    """Order boxes by score, the surest first; equals by place and class."""
    return sorted(boxes, key=lambda b: (-b.score, b.x, b.y, b.width, b.height, b.category))
