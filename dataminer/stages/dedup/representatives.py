"""The greedy choice of rows that stand for all others: best first, and without chains.

The best row that nobody stands for yet is kept and stands for all rows that are near it, until none
is left. Then each dropped row is given to the *nearest* kept one; of several, to the best. So kept
rows are not near each other, and no row is far from the one that stands for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataminer.stages.dedup.hamming import (
    I64,
    Hashes,
    HashIndex,
    distances,
    distinct_rows,
    words_of,
)

# Rows that are decided on at once: a square of them must stay small.
_BLOCK = 512
# Kept vectors that a block is compared with at once.
_TILE = 8192


@dataclass(frozen=True)
class Representatives:
    """Which rows stand for which.

    Attributes
    ----------
    kept : ndarray of int64, shape (n,)
        For each row, the row that stands for it; itself where it was kept.
    distance : ndarray of float32, shape (n,)
        Between the two: bits, or 1 - cosine.
    compared : int
        How many pairs of rows were compared.
    """

    kept: I64
    distance: NDArray[np.float32]
    compared: int


def representatives_of_hashes(
    hashes: Hashes | Sequence[Hashes], order: I64, threshold: int, pinned: int = 0
) -> Representatives:
    """Choose rows that stand for all others within a Hamming distance.

    Parameters
    ----------
    hashes : ndarray of uint64, shape (n,) or (n, w), or a sequence of such
        One hash a row, or several kinds of them: the distance of two rows is then the least.
    order : ndarray of int64, shape (n,)
        The rows from best to worst, each once.
    threshold : int
        Greatest distance at which one row may stand for another, in bits.
    pinned : int
        So many rows at the head of ``order`` are kept in any case and are not compared with each
        other: they must be further apart than the threshold already.

    Notes
    -----
    Equal rows are one node, whose best row is the one that can be kept. Memory grows with n only,
    not with the number of pairs: frames of a still camera are as cheap as any.
    """
    kinds = [hashes] if isinstance(hashes, np.ndarray) else list(hashes)
    ranked = [np.asarray(kind, np.uint64)[order] for kind in kinds]
    first, inverse = distinct_rows(ranked)
    by_rank = np.argsort(first)
    first = first[by_rank]
    node = np.empty(len(first), np.int64)
    node[by_rank] = np.arange(len(first))
    fixed = int(np.searchsorted(first, pinned))
    stands, bits, compared = _cover_distinct([kind[first] for kind in ranked], threshold, fixed)
    kept, distance = np.empty(len(order), np.int64), np.empty(len(order), np.float32)
    kept[order] = order[first[stands[node[inverse]]]]
    distance[order] = bits[node[inverse]]
    return Representatives(kept, distance, compared)


def _cover_distinct(kinds: list[Hashes], threshold: int, pinned: int) -> tuple[I64, I64, int]:
    """Cover distinct rows that come from best to worst: (who stands, bits, pairs compared).

    Blocks of rows are decided on among themselves; then those kept claim theirs everywhere.
    """
    count = len(kinds[0])
    indexes = [HashIndex(kind[pinned:], threshold) for kind in kinds]
    # Distance and rank in one number, so that the least of it is the nearest, then the best.
    uncovered = np.int64(1 << 62)
    claim = np.full(count, uncovered, np.int64)
    claim[:pinned] = np.arange(pinned)
    claims = claim[pinned:]

    def let_claim(rows: I64) -> None:
        for kind, index in zip(kinds, indexes, strict=True):
            for one, two, distance in index.matches(kind[rows]):
                np.minimum.at(claims, two, (distance.astype(np.int64) << 32) | rows[one])

    if pinned < count:
        let_claim(np.arange(pinned))
    compared, position = 0, pinned
    while position < count:
        block = position + np.flatnonzero(claim[position:] == uncovered)[:_BLOCK]
        let_claim(block[_greedy_block(_near([kind[block] for kind in kinds], threshold))])
        compared += len(block) * (len(block) - 1) // 2
        position = int(block[-1]) + 1 if len(block) else count
    compared += sum(index.compared for index in indexes)
    return claim & np.int64((1 << 32) - 1), claim >> np.int64(32), compared


def _near(kinds: list[Hashes], threshold: int) -> NDArray[np.bool_]:
    """Say of a few rows which are within the threshold of which: (n, n)."""
    near = np.zeros((len(kinds[0]),) * 2, np.bool_)
    for kind in kinds:
        near |= distances(kind[:, None], kind, words_of(kind)) <= threshold
    return near


def _greedy_block(near: NDArray[np.bool_]) -> I64:
    """Return the places of those that greedy keeps among a few rows, best first."""
    free = np.ones(len(near), np.bool_)
    for place in range(len(near)):
        if free[place]:
            free[place + 1 :] &= ~near[place, place + 1 :]
    return np.flatnonzero(free)


def representatives_of_vectors(
    vectors: NDArray[np.floating], order: I64, similarity: float, pinned: int = 0
) -> Representatives:
    """Choose rows that stand for all others of at least a cosine similarity, exactly.

    Parameters
    ----------
    vectors : ndarray of float, shape (n, d)
        One vector a row, of any length; a vector of zeros is like no other.
    order : ndarray of int64, shape (n,)
        The rows from best to worst, each once.
    similarity : float
        Least cosine at which one row may stand for another, above 0.
    pinned : int
        As for :func:`representatives_of_hashes`.

    Notes
    -----
    Blocks of rows are multiplied with the vectors kept so far: about as many products as rows
    times kept ones. Beside the vectors, memory is a fixed amount.
    """
    kept, compared = np.array(order[:pinned], np.int64), 0
    for start in range(pinned, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        nearest, _ = _nearest(vectors, block, kept)
        compared += len(block) * len(kept)
        free = block[nearest < similarity]
        directions = _directions(vectors, free)
        chosen = _greedy_block(directions @ directions.T >= similarity)
        compared += len(free) * (len(free) - 1) // 2
        kept = np.concatenate((kept, free[chosen]))
    stands, distance = np.empty(len(order), np.int64), np.zeros(len(order), np.float32)
    stands[kept] = kept
    dropped = np.setdiff1d(order, kept)
    for start in range(0, len(dropped), _BLOCK):
        block = dropped[start : start + _BLOCK]
        nearest, place = _nearest(vectors, block, kept)
        compared += len(block) * len(kept)
        stands[block], distance[block] = kept[place], np.maximum(1 - nearest, 0)
    return Representatives(stands, distance, compared)


def _nearest(
    vectors: NDArray[np.floating], rows: I64, kept: I64
) -> tuple[NDArray[np.float32], I64]:
    """Return for some rows the greatest cosine with a kept one, and the first place of it."""
    queries = _directions(vectors, rows)
    best, place = np.full(len(rows), -np.inf, np.float32), np.zeros(len(rows), np.int64)
    for start in range(0, len(kept), _TILE):
        cosines = queries @ _directions(vectors, kept[start : start + _TILE]).T
        here = cosines.argmax(axis=1)
        most = cosines[np.arange(len(rows)), here]
        nearer = most > best
        best[nearer], place[nearer] = most[nearer], here[nearer] + start
    return best, place


def _directions(vectors: NDArray[np.floating], rows: I64) -> NDArray[np.float32]:
    """Return rows at length 1, in single precision."""
    chosen = vectors[rows].astype(np.float32)
    length = np.linalg.norm(chosen, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = np.divide(chosen, length, out=chosen, where=length > 0)
    return scaled
