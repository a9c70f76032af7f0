"""One cell of the matrix: a video of one kind, and what is right for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataminer.errors import ErrorClass
from tests.support.matrix.encoding import RATE, SIZE
from tests.support.matrix.pictures import PATCHES, Image

STEP = 0.4
"""Seconds between the frames that most cells take: ten pictures."""
TEN_APART = (0, 10, 20, 30, 40)
SDR_ERROR, HDR_ERROR = 3.0, 12.0


@dataclass(frozen=True)
class Refusal:
    """The error that a video must end with."""

    error_class: ErrorClass
    message: str
    """A regular expression that its text matches."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One video, and what is right for it.

    Every warning that is not named, every other size and every larger error of a patch is wrong.
    """

    group: str
    container: str
    """The suffix of the file."""
    codec: str
    trouble: str
    make: Callable[[Path], Path]
    """Writes the video to a path, and returns the path."""
    numbers: tuple[int, ...] | None = TEN_APART
    """The pictures that must come, in this order; None if ``check`` tells."""
    about: bool = False
    """Whether each number may be up to five off, and one more or less may come."""
    seconds: tuple[float, ...] | None = None
    """Their times since the first; by default the numbers at 25 frames per second."""
    size: tuple[int, int] | None = SIZE
    """Of every image; None if it changes."""
    error: float | None = SDR_ERROR
    """The largest error of a patch, of 255; None if the picture has no patches."""
    truth: Image = field(default_factory=lambda: PATCHES)
    """The true colours of the patches, (2, 4, 3)."""
    warns: frozenset[str] = frozenset()
    """The kinds of notes that must be there and are warnings."""
    some_of: frozenset[str] = frozenset()
    """Kinds of warnings one of which must be there at least."""
    may_warn: frozenset[str] = frozenset()
    """Kinds of warnings that are right, too."""
    converts: frozenset[str] = frozenset()
    """The kinds of notes that must be there and are none."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Values that the table must have in each row."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of extract, beside one frame every 0.4 s."""
    check: Callable[[Cell, Result], None] | None = None
    """What else must hold."""
    refused: Refusal | None = None

    @property
    def name(self) -> str:
        """Tell the cell in one line."""
        return f"{self.group}: {self.container} {self.codec} {self.trouble}".replace("/", "|")

    @property
    def file_name(self) -> str:
        """Return a name for the file, by which nothing is told of what is wrong with it."""
        return f"video.{self.container}"

    @property
    def times(self) -> tuple[float, ...]:
        """Return the times that are right, since the first frame's."""
        if self.seconds is not None:
            return self.seconds
        numbers = self.numbers or ()
        return tuple((number - numbers[0]) / RATE for number in numbers)


@dataclass(frozen=True)
class Result:
    """What came out of a cell's video."""

    video: Path
    images: list[Image]
    numbers: list[int | None]
    seconds: list[float]
    rows: list[dict[str, Any]]
    meta: dict[str, Any]
    warning: str | None
