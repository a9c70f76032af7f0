"""All pairs of near hashes, as tests compare them and benchmarks measure them."""

from __future__ import annotations

import numpy as np

from dataminer.stages.dedup.hamming import I64, Bits, Hashes, HashIndex, Pairs, distinct_rows


def pairs_within(hashes: Hashes, threshold: int) -> Pairs:
    """Find all pairs of hashes within a Hamming distance, exactly.

    Parameters
    ----------
    hashes : ndarray of uint64, shape (n,) or (n, w)
        Hashes of 64 bits, or of w times 64; equal ones among them or not.
    threshold : int
        Greatest distance, in bits, 0 to 64 w.

    Returns
    -------
    i, j : ndarrays of int64, shape (p,)
        Rows with i < j, each pair once, in no particular order.
    distance : ndarray of uint16, shape (p,)
        Bits in which the two differ.

    Notes
    -----
    Equal hashes are searched for once, but written out here as pairs of rows: 2,000 equal rows
    are 2 million pairs.
    """
    hashes = np.asarray(hashes, dtype=np.uint64)
    first, inverse = distinct_rows([hashes])
    found = list(HashIndex(hashes[first], threshold).pairs())
    if len(first) < len(hashes):
        found = _expand(found, inverse, len(first))
    else:
        found = [_ascending(first[i], first[j], distance) for i, j, distance in found]
    return _concatenate(found)


def _expand(found: list[Pairs], inverse: I64, distinct: int) -> list[Pairs]:
    """Turn pairs of distinct hashes into pairs of rows, and add those of equal hashes."""
    rows = np.argsort(inverse, kind="stable")
    sizes = np.bincount(inverse, minlength=distinct)
    starts = np.cumsum(sizes) - sizes
    many = np.flatnonzero(sizes > 1)
    made = []
    for a, b, distance in [*found, (many, many, np.zeros(len(many), np.uint16))]:
        counts = sizes[a] * sizes[b]
        pair = np.repeat(np.arange(len(a)), counts)
        number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        across, down = np.divmod(number, sizes[b][pair])
        i, j = rows[starts[a][pair] + across], rows[starts[b][pair] + down]
        keep = (a != b)[pair] | (i < j)
        made.append(_ascending(i[keep], j[keep], distance[pair][keep]))
    return made


def _ascending(i: I64, j: I64, distance: Bits) -> Pairs:
    return np.minimum(i, j), np.maximum(i, j), distance


def _concatenate(found: list[Pairs]) -> Pairs:
    none: Pairs = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint16))
    i, j, distance = zip(none, *found, strict=True)
    return np.concatenate(i), np.concatenate(j), np.concatenate(distance)
