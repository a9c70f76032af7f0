"""The greedy choice: several kinds of hashes, vectors, and rows that are kept in any case."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataminer.stages.dedup import hamming, representatives
from dataminer.stages.dedup.change_detection import ChangeDetector
from dataminer.stages.dedup.representatives import (
    Representatives,
    representatives_of_hashes,
    representatives_of_vectors,
)
from tests.support.hash_pairs import pairs_within
from tests.support.hashes import scenes

Distances = NDArray[np.float64]


def slow_cover(distances: Distances, order: list[int], limit: float, pinned: int = 0) -> list[int]:
    """Choose by a loop over a whole matrix of distances; those dropped go to the nearest."""
    kept: list[int] = []
    for number, row in enumerate(order):
        if number < pinned or all(distances[row, other] > limit for other in kept):
            kept.append(row)
    own = set(kept)
    nearest = [kept[int(np.argmin(distances[row, kept]))] for row in range(len(order))]
    return [row if row in own else nearest[row] for row in range(len(order))]


def bits_between(*kinds: NDArray[np.uint64]) -> Distances:
    counts = [np.bitwise_count(kind[:, None] ^ kind) for kind in kinds]
    return np.asarray(np.min(counts, axis=0), float)


def wide(rng: np.random.Generator, count: int, drift: int) -> NDArray[np.uint64]:
    """Make 256-bit hashes of scenes."""
    return np.stack([scenes(rng, count, 20, drift) for _ in range(4)], axis=1)


@given(st.integers(0, 150), st.integers(0, 12), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_either_of_two_hashes_is_enough(count: int, threshold: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = [scenes(rng, count, length, 3)[rng.permutation(count)] for length in (5, 40)]
    order = rng.permutation(count)
    made = representatives_of_hashes(kinds, order, threshold)
    expected = slow_cover(bits_between(*kinds), order.tolist(), threshold) if count else []
    assert made.representative.tolist() == expected
    between = bits_between(*kinds)[np.arange(count), made.representative] if count else np.zeros(0)
    assert np.array_equal(made.distance, between)


class KnownShares:
    """ChangeDetector whose shares are known beforehand, and which count what they are asked."""

    def __init__(self, shares: Distances) -> None:
        self._shares = shares.astype(np.float32)
        self.requested: list[tuple[int, int]] = []

    def changed(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float32]:
        self.requested += zip(one.tolist(), other.tolist(), strict=True)
        return self._shares[one, other]

    def are_same(self, shares: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.asarray(shares <= 0.5)


@given(st.integers(1, 150), st.integers(0, 64), st.integers(0, 5), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_rows_that_are_near_and_show_the_same(
    count: int, threshold: int, pinned: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    kinds = [scenes(rng, count, length, 3)[rng.permutation(count)] for length in (5, 40)]
    order, pinned = rng.permutation(count), min(pinned, count)
    shares = np.triu(rng.random((count, count)), 1)
    shares += shares.T
    detector = KnownShares(shares)
    made = representatives_of_hashes(
        kinds, order, threshold, pinned, cast(ChangeDetector, detector)
    )
    bits = bits_between(*kinds)
    distances = np.where(shares <= 0.5, bits, 1000)
    assert made.representative.tolist() == slow_cover(distances, order.tolist(), threshold, pinned)
    rows = np.arange(count)
    dropped = made.representative != rows
    assert np.array_equal(made.distance, bits[rows, made.representative])
    assert made.changed is not None
    expected = shares[rows, made.representative].astype(np.float32)
    assert np.array_equal(made.changed[dropped], expected[dropped])
    assert all(bits[pair] <= threshold for pair in detector.requested)  # nothing else costs a look


def test_what_kept_rows_resemble_is_told() -> None:
    hashes = np.array([0, 1, 3, 0xFFFF_FFFF], np.uint64)
    shares = np.full((4, 4), 0.9)
    shares[0, 2] = shares[2, 0] = 0.7
    known = cast(ChangeDetector, KnownShares(shares))
    made = representatives_of_hashes(hashes, np.arange(4), 8, 0, known)
    assert made.representative.tolist() == [0, 1, 2, 3]
    assert made.changed is not None
    near = made.changed.tolist()
    assert np.isnan(near[0])  # the first one: no kept row was there to compare it with
    assert near[1:3] == pytest.approx([0.9, 0.7])
    assert np.isnan(near[3])


@given(st.integers(0, 150), st.integers(0, 100), st.integers(0, 3), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_hashes_of_256_bits(count: int, threshold: int, drift: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    hashes, order = wide(rng, count, drift), rng.permutation(count)
    between = np.bitwise_count(hashes[:, None] ^ hashes).sum(axis=2).astype(float)
    i, j, distance = pairs_within(hashes, threshold)
    one, other = np.nonzero(np.triu(between <= threshold, 1))
    expected = sorted(zip(one, other, between[one, other], strict=True))
    assert sorted(zip(i, j, distance, strict=True)) == expected
    made = representatives_of_hashes(hashes, order, threshold)
    assert made.representative.tolist() == slow_cover(between, order.tolist(), threshold)


@pytest.mark.parametrize("threshold", [8, 20])
def test_256_bits_through_the_index(threshold: int) -> None:
    hashes = wide(np.random.default_rng(7), 4000, 1)
    assert hamming._plan(hashes, threshold)
    i, _, distance = pairs_within(hashes, threshold)
    between = [
        np.bitwise_count(hashes[row] ^ hashes[row + 1 :]).sum(axis=1) for row in range(len(hashes))
    ]
    expected = [int((row <= threshold).sum()) for row in between]
    assert np.bincount(i, minlength=len(hashes)).tolist() == expected
    assert distance.max() <= threshold


def test_twenty_scenes_of_two_hundred_keep_what_brute_force_keeps() -> None:
    rng = np.random.default_rng(3)
    kinds = [scenes(rng, 4000, 200, 2), scenes(rng, 4000, 200, 2)]
    order = rng.permutation(4000)
    made = representatives_of_hashes(kinds, order, 8)
    assert made.representative.tolist() == slow_cover(bits_between(*kinds), order.tolist(), 8)
    assert 20 <= len(set(made.representative.tolist())) < 2000


def directions(rng: np.random.Generator, count: int, drift: float) -> NDArray[np.float16]:
    """Walk over the sphere in small steps, with a jump every twenty."""
    steps = rng.normal(0, drift, (count, 24))
    steps[::20] = rng.normal(0, 3, steps[::20].shape)
    walk = np.cumsum(steps, axis=0)
    return np.asarray(walk / np.linalg.norm(walk, axis=1, keepdims=True), np.float16)


@given(st.integers(0, 120), st.floats(0.5, 0.99), st.integers(0, 2**32), st.booleans())
@settings(max_examples=60, deadline=None)
def test_vectors_are_covered_as_by_a_slow_loop(
    count: int, similarity: float, seed: int, small: bool
) -> None:
    rng = np.random.default_rng(seed)
    vectors, order = directions(rng, count, 0.2), rng.permutation(count)
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    cosines = exact @ exact.T
    if np.abs(cosines - similarity).min(initial=1) < 1e-5:
        return  # on the threshold, rounding decides
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(representatives, "_BLOCK", 7)
            patch.setattr(representatives, "_TILE", 5)
        made = representatives_of_vectors(vectors, order, similarity)
    kept = [row for row in range(count) if made.representative[row] == row]
    expected = slow_cover(1 - cosines, order.tolist(), 1 - similarity)
    assert kept == [row for row in range(count) if expected[row] == row]
    apart = cosines[np.arange(count), made.representative]
    assert np.allclose(made.distance, 1 - apart, atol=1e-5)
    best = cosines[:, kept].max(axis=1) if count else apart
    assert np.allclose(apart, best, atol=1e-5)
    assert (apart >= similarity).all()


def test_a_vector_of_zeros_is_like_no_other() -> None:
    vectors = np.array([[0, 0], [1, 0], [2, 0], [0, 0]], np.float32)
    assert representatives_of_vectors(vectors, np.arange(4), 0.9).representative.tolist() == [
        0,
        1,
        1,
        3,
    ]


def test_a_pan_of_vectors_does_not_chain() -> None:
    angle = np.radians(np.arange(0, 90, 1.0))
    pan = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    made = representatives_of_vectors(pan, np.arange(90), float(np.cos(np.radians(10.5))))
    assert np.unique(made.representative).tolist() == [0, 11, 22, 33, 44, 55, 66, 77, 88]
    assert np.abs(np.arange(90) - made.representative).max() <= 10


@pytest.mark.parametrize("kind", ["hashes", "vectors"])
def test_pinned_rows_are_kept_and_not_compared_with_each_other(kind: str) -> None:
    rng = np.random.default_rng(5)

    def run(rows: NDArray[np.int64], pinned: int) -> Representatives:
        order = np.arange(len(rows))
        if kind == "hashes":
            return representatives_of_hashes(hashes[rows], order, 8, pinned)
        return representatives_of_vectors(vectors[rows], order, 0.95, pinned)

    hashes, vectors = scenes(rng, 1010, 20, 3), directions(rng, 1010, 0.3)
    old, new = np.arange(1000), np.arange(1000, 1010)
    before = run(old, 0)
    pinned = np.unique(before.representative)
    after = run(np.concatenate((pinned, new)), len(pinned))
    assert np.array_equal(after.representative[: len(pinned)], np.arange(len(pinned)))
    assert (after.distance[: len(pinned)] == 0).all()
    assert after.compared <= 2 * len(new) * (len(pinned) + len(new)) < before.compared
    between = 1 - directions_of(vectors) if kind == "vectors" else bits_between(hashes)
    rows = np.concatenate((pinned, new))
    limit = 0.05 if kind == "vectors" else 8
    expected = slow_cover(between[np.ix_(rows, rows)], list(range(len(rows))), limit, len(pinned))
    assert after.representative.tolist() == expected


def directions_of(vectors: NDArray[np.float16]) -> Distances:
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(exact @ exact.T, np.float64)


def test_only_pinned_rows_are_compared_with_nothing() -> None:
    hashes = np.array([0, 2**20 - 1, 2**40 - 1], np.uint64)
    made = representatives_of_hashes(hashes, np.arange(3), 8, pinned=3)
    assert made.representative.tolist() == [0, 1, 2]
    assert made.compared == 0
