"""The greedy choice of rows that represent all others: best first, and without chains.

The best uncovered row is kept and covers all rows near it, until every row is covered. Then each
dropped row is assigned to the *nearest* kept one; of several, to the best. So kept rows are not
near each other, and no row is far from its representative. If rows are also looked at, two of them
are near only if their hashes are, and they show the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataminer.stages.dedup.change_detection import ChangeDetector
from dataminer.stages.dedup.hamming import (
    I64,
    Hashes,
    HashIndex,
    are_near_duplicates,
    distances,
    distinct_rows,
    words_of,
)

# Rows that are decided together: a square matrix of them must stay small.
_BLOCK = 512
# Kept vectors that a block is compared with in one product.
_TILE = 8192
_UNCOVERED = np.int64(1 << 62)


@dataclass(frozen=True)
class Representatives:
    """The representative of each row.

    Attributes
    ----------
    representative : ndarray of int64, shape (n,)
        For each row, the row that represents it; itself if it was kept.
    distance : ndarray of float32, shape (n,)
        Between the two: bits, or 1 - cosine.
    compared : int
        Number of pairs of rows that were compared.
    changed : ndarray of float32, shape (n,), or None
        If rows were looked at: which share of the picture changed between a dropped row and its
        representative, and between a kept row and the kept one that resembles it most; NaN if no
        kept row's hash is near.
    """

    representative: I64
    distance: NDArray[np.float32]
    compared: int
    changed: NDArray[np.float32] | None = None


def representatives_of_hashes(
    hashes: Hashes | Sequence[Hashes],
    order: I64,
    threshold: int,
    pinned: int = 0,
    detector: ChangeDetector | None = None,
) -> Representatives:
    """Choose rows that represent all others within a Hamming distance.

    Unless a detector compares them, equal rows form one node, of which only the best can be kept.
    Memory grows with n only, not with the number of pairs: frames of a still camera are as cheap
    as any.

    Parameters
    ----------
    hashes : ndarray of uint64, shape (n,) or (n, w), or a sequence of such
        One hash per row, or several kinds of them; the kind with the least distance counts.
    order : ndarray of int64, shape (n,)
        The rows from best to worst, each once.
    threshold : int
        Greatest distance at which one row may represent another, in bits.
    pinned : int
        Number of rows at the head of ``order`` that are kept in any case. They are not compared
        with each other: they must already be further apart than the threshold.
    detector : ChangeDetector, optional
        Decides whether two rows with near hashes show the same; by default, they do.
    """
    kinds = [hashes] if isinstance(hashes, np.ndarray) else list(hashes)
    ranked = [np.asarray(kind, np.uint64)[order] for kind in kinds]
    if detector:
        return _CheckedCover(ranked, order, threshold, detector).choose(pinned)
    return _representatives_of_equal(ranked, order, threshold, pinned)


def _representatives_of_equal(
    ranked: list[Hashes], order: I64, threshold: int, pinned: int
) -> Representatives:
    """Choose among rows of which equal ones are one."""
    first, inverse = distinct_rows(ranked)
    by_rank = np.argsort(first)
    first = first[by_rank]
    node = np.empty(len(first), np.int64)
    node[by_rank] = np.arange(len(first))
    fixed = int(np.searchsorted(first, pinned))
    covers, bits, compared = _cover_distinct([kind[first] for kind in ranked], threshold, fixed)
    representative, distance = np.empty(len(order), np.int64), np.empty(len(order), np.float32)
    representative[order] = order[first[covers[node[inverse]]]]
    distance[order] = bits[node[inverse]]
    return Representatives(representative, distance, compared)


def _cover_distinct(kinds: list[Hashes], threshold: int, pinned: int) -> tuple[I64, I64, int]:
    """Cover distinct rows, ordered from best to worst: (representative, bits, pairs compared).

    The rows of a block are decided among themselves; then those kept claim near rows everywhere.
    """
    count = len(kinds[0])
    indexes = [HashIndex(kind[pinned:], threshold) for kind in kinds]
    # Distance and rank in one number, so that the smallest is the nearest, then the best.
    claim = np.full(count, _UNCOVERED, np.int64)
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
        block = position + np.flatnonzero(claim[position:] == _UNCOVERED)[:_BLOCK]
        let_claim(block[_greedy_block(_near([kind[block] for kind in kinds], threshold))])
        compared += len(block) * (len(block) - 1) // 2
        position = int(block[-1]) + 1 if len(block) else count
    compared += sum(index.compared for index in indexes)
    return claim & np.int64((1 << 32) - 1), claim >> np.int64(32), compared


class _CheckedCover:
    """The cover of rows that are also looked at; ranks are places in the order.

    Parameters
    ----------
    kinds : list of ndarray of uint64, each (n,) or (n, w)
        The hashes of the rows, from best to worst.
    order : ndarray of int64, shape (n,)
        The rows.
    threshold, detector
        As for :func:`representatives_of_hashes`.
    """

    def __init__(
        self, kinds: list[Hashes], order: I64, threshold: int, detector: ChangeDetector
    ) -> None:
        self._kinds = kinds
        self._order = order
        self._threshold = threshold
        self._detector = detector
        count = len(order)
        # distance and rank of the nearest kept row in one number, as without thumbnails
        self._claims = np.full(count, _UNCOVERED, np.int64)
        self._changed = np.full(count, np.nan, np.float32)
        self._resembles = np.full(count, np.inf, np.float32)  # of what was refused

    def choose(self, pinned: int) -> Representatives:
        """Cover all rows after those pinned."""
        order, count, compared = self._order, len(self._order), 0
        indexes = [HashIndex(kind[pinned:], self._threshold) for kind in self._kinds]
        self._claims[:pinned] = np.arange(pinned)
        if pinned < count:
            self._let_claim(indexes, np.arange(pinned), pinned)
        position = pinned
        while position < count:
            block = position + np.flatnonzero(self._claims[position:] == _UNCOVERED)[:_BLOCK]
            self._let_claim(indexes, block[self._greedy_block(block)], pinned)
            compared += len(block) * (len(block) - 1) // 2
            position = int(block[-1]) + 1 if len(block) else count
        compared += sum(index.compared for index in indexes)
        ranks = self._claims & np.int64((1 << 32) - 1)
        kept = ranks == np.arange(count)
        resembles = np.where(np.isinf(self._resembles), np.float32(np.nan), self._resembles)
        representative, distance = np.empty(count, np.int64), np.empty(count, np.float32)
        changed = np.empty(count, np.float32)
        representative[order], distance[order] = order[ranks], self._claims >> np.int64(32)
        changed[order] = np.where(kept, resembles, self._changed)
        return Representatives(representative, distance, compared, changed)

    def _greedy_block(self, block: I64) -> I64:
        """Return the indices of the rows of a block that the greedy choice keeps."""
        near = np.triu(_near([kind[block] for kind in self._kinds], self._threshold), 1)
        free = np.ones(len(block), np.bool_)
        for index in np.flatnonzero(near.any(axis=1)):
            if free[index]:
                others = np.flatnonzero(near[index] & free)
                shares = self._shares(np.full(len(others), block[index]), block[others])
                same = self._detector.are_same(shares)
                free[others[same]] = False
                self._refuse(block[others[~same]], shares[~same])
        return np.flatnonzero(free)

    def _let_claim(self, indexes: Sequence[HashIndex], kept: I64, pinned: int) -> None:
        """Let kept rows claim those that are near them and show the same."""
        self._claims[kept] = kept  # itself, at no distance
        for kind, index in zip(self._kinds, indexes, strict=True):
            for one, two, distance in index.matches(kind[kept]):
                ranks, rows = kept[one], two + pinned
                keys = (distance.astype(np.int64) << 32) | ranks
                better = (keys < self._claims[rows]) & (ranks != rows)
                self._claim(ranks[better], rows[better], keys[better])

    def _claim(self, kept: I64, rows: I64, keys: I64) -> None:
        shares = self._shares(kept, rows)
        same = self._detector.are_same(shares)
        self._refuse(rows[~same], shares[~same])
        order = np.argsort(-keys[same], kind="stable")  # the last one of each row is the nearest
        rows, keys, shares = rows[same][order], keys[same][order], shares[same][order]
        nearer = keys < self._claims[rows]
        self._claims[rows[nearer]] = keys[nearer]
        self._changed[rows[nearer]] = shares[nearer]

    def _refuse(self, rows: I64, shares: NDArray[np.float32]) -> None:
        np.minimum.at(self._resembles, rows, shares)

    def _shares(self, one: I64, other: I64) -> NDArray[np.float32]:
        return self._detector.changed(self._order[one], self._order[other])


def _near(kinds: list[Hashes], threshold: int) -> NDArray[np.bool_]:
    """Return which of a few rows are within the threshold of each other: (n, n)."""
    near = np.zeros((len(kinds[0]),) * 2, np.bool_)
    for kind in kinds:
        near |= are_near_duplicates(distances(kind[:, None], kind, words_of(kind)), threshold)
    return near


def _greedy_block(near: NDArray[np.bool_]) -> I64:
    """Return the indices of the rows that the greedy choice keeps, of a few rows, best first."""
    free = np.ones(len(near), np.bool_)
    for row in range(len(near)):
        if free[row]:
            free[row + 1 :] &= ~near[row, row + 1 :]
    return np.flatnonzero(free)


def representatives_of_vectors(
    vectors: NDArray[np.floating], order: I64, similarity: float, pinned: int = 0
) -> Representatives:
    """Choose rows that represent all others of at least a cosine similarity, exactly.

    Parameters
    ----------
    vectors : ndarray of float, shape (n, d)
        One vector per row, of any length; a vector of zeros is similar to no other.
    order : ndarray of int64, shape (n,)
        The rows from best to worst, each once.
    similarity : float
        Least cosine at which one row may represent another, above 0.
    pinned : int
        As for :func:`representatives_of_hashes`.

    Notes
    -----
    Blocks of rows are multiplied with the vectors kept so far: about as many products as rows
    times kept ones. Besides the vectors, memory is a fixed amount.
    """
    chosen, compared = np.array(order[:pinned], np.int64), 0
    for start in range(pinned, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        cosine, _ = _nearest(vectors, block, chosen)
        compared += len(block) * len(chosen)
        free = block[cosine < similarity]
        directions = _directions(vectors, free)
        new = _greedy_block(directions @ directions.T >= similarity)
        compared += len(free) * (len(free) - 1) // 2
        chosen = np.concatenate((chosen, free[new]))
    representative, distance = np.empty(len(order), np.int64), np.zeros(len(order), np.float32)
    representative[chosen] = chosen
    dropped = np.setdiff1d(order, chosen)
    for start in range(0, len(dropped), _BLOCK):
        block = dropped[start : start + _BLOCK]
        cosine, nearest = _nearest(vectors, block, chosen)
        compared += len(block) * len(chosen)
        representative[block], distance[block] = chosen[nearest], np.maximum(1 - cosine, 0)
    return Representatives(representative, distance, compared)


def _nearest(
    vectors: NDArray[np.floating], rows: I64, chosen: I64
) -> tuple[NDArray[np.float32], I64]:
    """Return for some rows the greatest cosine with a chosen one, and the first index of that."""
    queries = _directions(vectors, rows)
    best, nearest = np.full(len(rows), -np.inf, np.float32), np.zeros(len(rows), np.int64)
    for start in range(0, len(chosen), _TILE):
        cosines = queries @ _directions(vectors, chosen[start : start + _TILE]).T
        index = cosines.argmax(axis=1)
        cosine = cosines[np.arange(len(rows)), index]
        nearer = cosine > best
        best[nearer], nearest[nearer] = cosine[nearer], index[nearer] + start
    return best, nearest


def _directions(vectors: NDArray[np.floating], rows: I64) -> NDArray[np.float32]:
    """Return rows as unit vectors, in single precision."""
    chosen = vectors[rows].astype(np.float32)
    length = np.linalg.norm(chosen, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = np.divide(chosen, length, out=chosen, where=length > 0)
    return scaled
