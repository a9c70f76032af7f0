"""Which part of its frames a video file declares as the picture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cropping:
    """Pixels to remove at each side of stored frames of one size."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0
    frame_size: tuple[int, int] = (0, 0)
    """Width and height of the frames that it is declared for."""

    def applies_to(self, width: int, height: int) -> bool:
        """Return whether it removes anything of frames of a size."""
        removes = bool(self.left or self.top or self.right or self.bottom)
        return removes and self.frame_size == (width, height)


def checked_cropping(sides: tuple[int, int, int, int], frame_size: tuple[int, int]) -> Cropping:
    """Return a cropping by left, top, right and bottom, if it leaves a picture.

    Raises
    ------
    ValueError
        If it does not.
    """
    left, top, right, bottom = sides
    width, height = frame_size
    if min(sides) < 0 or left + right >= width or top + bottom >= height:
        raise ValueError(f"cropping {sides} leaves nothing of {width}x{height} pixels")
    return Cropping(*sides, frame_size=frame_size)
