"""Perceptual hashes as those of videos are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]


def scenes(rng: np.random.Generator, count: int, length: int, drift: int) -> Hashes:
    """Walk through hash space in small steps, with a jump now and then."""
    made = np.empty(count, np.uint64)
    current = 0
    for position in range(count):
        if position % length == 0:
            current = int(rng.integers(0, 2**64, dtype=np.uint64))
        else:
            for bit in rng.integers(0, 64, rng.integers(0, drift + 1)):
                current ^= 1 << int(bit)
        made[position] = current
    return made
