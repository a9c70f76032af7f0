"""All cells of the matrix."""

from __future__ import annotations

from tests.support.matrix import (
    colours,
    combined,
    files,
    geometry,
    interlacing,
    losses,
    plain,
    timelines,
)
from tests.support.matrix.cell import Cell

_PARTS = (plain, colours, geometry, interlacing, losses, timelines, files, combined)
CELLS: tuple[Cell, ...] = tuple(cell for part in _PARTS for cell in part.cells())
