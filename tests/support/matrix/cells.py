"""All cells of the matrix."""

from __future__ import annotations

from tests.support.matrix import colours, geometry, interlacing, losses, plain
from tests.support.matrix.cell import Cell

_PARTS = (plain, colours, geometry, interlacing, losses)
CELLS: tuple[Cell, ...] = tuple(cell for part in _PARTS for cell in part.cells())
