"""Exact near-duplicate search over hashes of 64 or 256 bits.

The search is multi-index hashing (Norouzi, Punjani, Fleet, "Fast Exact Search in Hamming Space
with Multi-Index Hashing", 2014) on whole arrays: hashes are cut into m chunks of bits, and two
hashes within a threshold must nearly agree on at least one chunk. Each hash is looked up in the
buckets of each chunk under every flip of bits that this allows, and each candidate is verified. If
comparing all with all is estimated to be cheaper, that is done instead; both are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise
from math import comb
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# (n,): n hashes of 64 bits; (n, w): n hashes of w words of 64 bits
Hashes: TypeAlias = NDArray[np.uint64]
I64: TypeAlias = NDArray[np.int64]
Bits: TypeAlias = NDArray[np.uint16]
Pairs: TypeAlias = tuple[I64, I64, Bits]

_WORD = 64
# The elements (8 bytes each) that a temporary array holds at most, roughly, whatever the input.
_SLICE = 1 << 20
# Nanoseconds per step, measured; only their ratios matter, and they only affect speed.
_COST_COMPARE, _COST_PROBE, _COST_CANDIDATE, _COST_BUCKET = 0.6, 8.0, 12.0, 2.0
_FEWEST_CHUNKS, _MOST_CHUNKS = 3, 16
_SAMPLED_PAIRS = 1 << 17


@dataclass(frozen=True)
class _Chunk:
    """A run of bits of one word of the hash, and how many of them may differ."""

    word: int
    shift: int
    bits: int
    radius: int

    def keys(self, hashes: Hashes) -> I64:
        """Cut the chunk out of hashes."""
        words: Hashes = hashes if hashes.ndim == 1 else hashes[:, self.word]
        keys = (words >> np.uint64(self.shift)) & np.uint64((1 << self.bits) - 1)
        return keys.view(np.int64)  # as it is: far fewer than 63 bits

    def agrees(self, difference: Hashes) -> NDArray[np.bool_]:
        """Return which xors of two hashes have at most ``radius`` bits in this chunk."""
        few: NDArray[np.bool_] = np.bitwise_count(self.keys(difference)) <= self.radius
        return few

    @property
    def probes(self) -> int:
        """Number of buckets in which one hash is looked up."""
        return sum(comb(self.bits, flips) for flips in range(self.radius + 1))


def _split(chunks: int, threshold: int, words: int = 1) -> list[_Chunk]:
    """Cut each word into chunks, of which one must agree if the hashes are within the threshold.

    With m chunks in all and t = m·a + b, it is enough that b + 1 chunks agree up to a bits and
    the others up to a - 1: otherwise they would differ by (b + 1)(a + 1) + (m - b - 1)a =
    t + 1 bits.
    """
    radius, rest = divmod(threshold, chunks * words)
    edges = [_WORD * number // chunks for number in range(chunks + 1)]
    ranges = [(word, low, high - low) for word in range(words) for low, high in pairwise(edges)]
    split = [
        _Chunk(*bits, radius if number <= rest else radius - 1)
        for number, bits in enumerate(ranges)
    ]
    return [chunk for chunk in split if chunk.radius >= 0]


def _plan(hashes: Hashes, threshold: int) -> list[_Chunk]:
    """Choose the cheapest split for these hashes; none if comparing all with all is cheaper."""
    count, words = len(hashes), words_of(hashes)
    best, best_cost = list[_Chunk](), count / 2 * _COST_COMPARE * words
    sample = _sample_differences(hashes)
    for number in range(_FEWEST_CHUNKS, _MOST_CHUNKS + 1):
        chunks = _split(number, threshold, words)
        cost = sum(_cost(chunk, count) for chunk in chunks)
        if cost >= best_cost:
            continue
        # Real hashes crowd some buckets, so promising splits are also estimated on a sample.
        cost = sum(max(_cost(chunk, count), _cost(chunk, count, sample)) for chunk in chunks)
        if cost < best_cost:
            best, best_cost = chunks, cost
    return best


def words_of(hashes: Hashes) -> int:
    """Return how many words of 64 bits a hash has."""
    return 1 if hashes.ndim == 1 else hashes.shape[1]


def distances(one: Hashes, two: Hashes, words: int) -> NDArray[np.unsignedinteger]:
    """Return the number of bits in which hashes differ; several words are along the last axis."""
    if words == 1:
        bits: NDArray[np.uint8] = np.bitwise_count(one ^ two)
        return bits
    # word by word: a sum over an axis of length four is slower than all other steps
    total = np.zeros(np.broadcast_shapes(one.shape, two.shape)[:-1], np.uint16)
    for word in range(words):
        total += np.bitwise_count(one[..., word] ^ two[..., word])
    return total


def are_near_duplicates(distance: NDArray[np.unsignedinteger], threshold: int) -> NDArray[np.bool_]:
    """Return which distances are those of near-duplicates: what ``dedup.threshold`` means."""
    return distance <= threshold


def _sample_differences(hashes: Hashes) -> Hashes:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, max(len(hashes), 1), (2, min(_SAMPLED_PAIRS, 4 * len(hashes))))
    differences: Hashes = hashes[rows[0]] ^ hashes[rows[1]]
    distinct = differences.reshape(len(differences), words_of(hashes)).any(axis=1)
    chosen: Hashes = differences[distinct]
    return chosen


def _cost(chunk: _Chunk, count: int, sample: Hashes | None = None) -> float:
    """Estimate the nanoseconds that one of ``count`` hashes costs in a chunk."""
    hit_rate = chunk.probes / 2.0**chunk.bits
    if sample is not None and len(sample):
        hit_rate = float(chunk.agrees(sample).mean())
    table = 2.0**chunk.bits / max(count, 1) * _COST_BUCKET
    return table + chunk.probes * _COST_PROBE + hit_rate * count / 2 * _COST_CANDIDATE


@lru_cache(maxsize=64)
def _masks(bits: int, radius: int) -> I64:
    """Return every flip of at most ``radius`` of ``bits`` bits, the empty one first."""
    flips = [
        sum(1 << bit for bit in chosen)
        for size in range(radius + 1)
        for chosen in combinations(range(bits), size)
    ]
    return np.array(flips, dtype=np.int64)


class _Buckets:
    """Hashes sorted by one chunk, and the start of each value of the chunk."""

    def __init__(self, hashes: Hashes, chunk: _Chunk) -> None:
        keys = chunk.keys(hashes)
        self.chunk = chunk
        self.rows = np.argsort(keys)
        self.hashes = hashes[self.rows]
        sizes = np.bincount(keys, minlength=1 << chunk.bits)
        self.starts = np.concatenate(([0], np.cumsum(sizes))).astype(np.int32)

    def candidates(self, keys: I64, *, own: bool) -> Iterator[tuple[I64, I64]]:
        """Yield (index in ``keys``, index in this order) of all that share a bucket after a flip.

        With ``own``, ``keys`` are this table's own, in its order, and each pair comes once.
        """
        if not len(keys):
            return
        masks = _masks(self.chunk.bits, self.chunk.radius)
        step = max(1, _SLICE // len(keys))
        for first in range(0, len(masks), step):
            flipped = (masks[first : first + step, None] ^ keys).ravel()
            low = self.starts[flipped].astype(np.int64)
            high = self.starts[flipped + 1]
            if own:
                higher = flipped.reshape(-1, len(keys)) > keys
                high = np.where(higher.ravel(), high, low)
                if first == 0:  # the empty flip: within a bucket, only those that come after
                    low[: len(keys)] = np.arange(1, len(keys) + 1)
                    high[: len(keys)] = self.starts[keys + 1]
            probe = np.flatnonzero(high > low)
            for begin, end in _slices(high[probe] - low[probe]):
                part = probe[begin:end]
                which, row = _ranges(low[part], high[part] - low[part])
                yield (part % len(keys))[which], row


def _slices(sizes: I64) -> Iterator[tuple[int, int]]:
    """Cut a list of sizes into runs that sum to about ``_SLICE`` at most."""
    ends = np.cumsum(sizes)
    begin = 0
    while begin < len(sizes):
        done = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + _SLICE, side="right")))
        yield begin, end
        begin = end


def _ranges(starts: I64, sizes: I64) -> tuple[I64, I64]:
    """Write out the ranges ``starts[k] .. starts[k] + sizes[k]``: (k, number) for each number."""
    which = np.repeat(np.arange(len(sizes)), sizes)
    before = np.cumsum(sizes) - sizes
    return which, np.arange(len(which)) + (starts - before)[which]


class HashIndex:
    """An exact index of hashes for one threshold.

    Parameters
    ----------
    hashes : ndarray of uint64, shape (n,) or (n, w)
        Hashes of 64 bits, or of w times 64; fewer than 2**31. Equal ones are found like any other,
        and are best removed beforehand (see :func:`distinct_rows`): k of them are k² / 2 pairs.
    threshold : int
        Greatest Hamming distance of a match, in bits, 0 to 64 w.

    Attributes
    ----------
    compared : int
        Number of pairs of whole hashes that were compared so far.

    Notes
    -----
    Memory is 16 bytes per hash of 64 bits and chunk (3 to 16 chunks per word) and a fixed amount,
    however many candidates or matches there are.
    """

    def __init__(self, hashes: Hashes, threshold: int) -> None:
        self.hashes = np.ascontiguousarray(hashes, dtype=np.uint64)
        self.compared = 0
        self._words = words_of(self.hashes)
        self.threshold = _checked(threshold, self._words)
        self._tables = [_Buckets(self.hashes, chunk) for chunk in _plan(self.hashes, threshold)]

    def pairs(self) -> Iterator[Pairs]:
        """Yield all pairs of the index's own hashes within the threshold, each once.

        Yields
        ------
        (i, j, distance) : ndarrays of int64, int64, uint16
            Places in ``hashes`` in no particular order, a bounded number at a time.
        """
        if not self._tables:
            for i, j, distance in self._compare(self.hashes, upper=True):
                later = j > i
                yield i[later], j[later], distance[later]
            return
        for number, table in enumerate(self._tables):
            keys = table.chunk.keys(table.hashes)
            for candidates in table.candidates(keys, own=True):
                one, two, distance = self._verify(number, table.hashes, *candidates)
                yield table.rows[one], table.rows[two], distance

    def matches(self, queries: Hashes) -> Iterator[Pairs]:
        """Yield all (query, hash) within the threshold, each once.

        Parameters
        ----------
        queries : ndarray of uint64, shape (q,) or (q, w)
            Hashes to look up; they need not be distinct, nor in the index.

        Yields
        ------
        (i, j, distance) : ndarrays of int64, int64, uint16
            Indices into ``queries`` and ``hashes``, a bounded number at a time.
        """
        if not self._tables:
            yield from self._compare(queries, upper=False)
            return
        for number, table in enumerate(self._tables):
            order = np.argsort(table.chunk.keys(queries))
            queries_sorted = queries[order]
            for candidates in table.candidates(table.chunk.keys(queries_sorted), own=False):
                one, two, distance = self._verify(number, queries_sorted, *candidates)
                yield order[one], table.rows[two], distance

    def _verify(self, number: int, queries: Hashes, one: I64, two: I64) -> Pairs:
        """Keep candidates within the threshold that no earlier chunk has found."""
        self.compared += len(one)
        left, right = queries[one], self._tables[number].hashes[two]
        distance = distances(left, right, self._words)
        hit = np.flatnonzero(are_near_duplicates(distance, self.threshold))
        difference = left[hit] ^ right[hit]
        new = np.ones(len(hit), np.bool_)
        for table in self._tables[:number]:
            new &= ~table.chunk.agrees(difference)
        hit = hit[new]
        return one[hit], two[hit], distance[hit].astype(np.uint16)

    def _compare(self, queries: Hashes, *, upper: bool) -> Iterator[Pairs]:
        """Compare all with all; with ``upper``, skip most pairs with j < i."""
        step = max(1, _SLICE // max(len(self.hashes) * self._words, 1))
        for first in range(0, len(queries), step):
            left = first if upper else 0
            rows = queries[first : first + step, None]
            distance = distances(rows, self.hashes[left:], self._words).ravel()
            self.compared += len(distance)
            hit = np.flatnonzero(are_near_duplicates(distance, self.threshold))
            i, j = np.divmod(hit, len(self.hashes) - left)
            yield i + first, j + left, distance[hit].astype(np.uint16)


def _checked(threshold: int, words: int) -> int:
    if not 0 <= threshold <= words * _WORD:
        bits = words * _WORD
        raise ValueError(f"a threshold on {bits}-bit hashes is 0 to {bits}, not {threshold}")
    return threshold


def distinct_rows(columns: Sequence[Hashes]) -> tuple[I64, I64]:
    """Find rows that are equal in all columns.

    Parameters
    ----------
    columns : sequence of ndarray, each (n,) or (n, w)
        What makes up a row.

    Returns
    -------
    first : ndarray of int64, shape (d,)
        The first row of each kind, in no particular order.
    inverse : ndarray of int64, shape (n,)
        For each row, the index of its kind in ``first``.
    """
    words = np.concatenate([each.reshape(len(each), words_of(each)) for each in columns], axis=1)
    order = np.lexsort(words.T)  # stable, so that the first of a run is the first row
    ordered = words[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.cumsum(begins) - 1
    return order[begins], inverse
