"""The near-duplicate engine is exact, and the greedy choice is what a slow loop would choose."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataminer.stages.dedup import hamming, representatives
from dataminer.stages.dedup.hamming import HashIndex
from dataminer.stages.dedup.representatives import representatives_of_hashes
from tests.support.hash_pairs import pairs_within
from tests.support.hashes import Hashes, scenes

thresholds = st.integers(0, 32)


@st.composite
def hash_arrays(draw: st.DrawFn, most: int = 300) -> Hashes:
    """Draw random, clustered or duplicate-heavy hashes, in any order."""
    count = draw(st.integers(0, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["random", "scenes", "duplicates", "dense"]))
    if kind == "random":
        return rng.integers(0, 2**64, count, dtype=np.uint64)
    if kind == "dense":
        dense: Hashes = rng.integers(0, 2**12, count, dtype=np.uint64) << np.uint64(20)
        return dense ^ rng.integers(0, 2**64, dtype=np.uint64)
    made = scenes(rng, count, draw(st.integers(1, 50)), draw(st.integers(0, 4)))
    if kind == "duplicates" and count:
        made = made[rng.integers(0, max(1, count // 5), count)]
    return rng.permutation(made)


def by_brute_force(hashes: Hashes, threshold: int) -> set[tuple[int, int, int]]:
    words = [int(word) for word in hashes]
    return {
        (i, j, distance)
        for i in range(len(words))
        for j in range(i + 1, len(words))
        if (distance := (words[i] ^ words[j]).bit_count()) <= threshold
    }


def found(hashes: Hashes, threshold: int) -> set[tuple[int, int, int]]:
    i, j, distance = pairs_within(hashes, threshold)
    assert [part.dtype.name for part in (i, j, distance)] == ["int64", "int64", "uint16"]
    made = set(zip(i.tolist(), j.tolist(), distance.tolist(), strict=True))
    assert len(made) == len(i), "a pair came twice"
    return made


def greedy_cover(
    hashes: Hashes, order: NDArray[np.int64], threshold: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    made = representatives_of_hashes(hashes, order, threshold)
    return made.representative, made.distance


def slow_cover(hashes: Hashes, order: list[int], threshold: int) -> list[tuple[int, int]]:
    words = [int(word) for word in hashes]
    kept: list[int] = []
    for row in order:
        if all((words[row] ^ words[other]).bit_count() > threshold for other in kept):
            kept.append(row)
    nearest = [
        min(
            ((words[row] ^ words[other]).bit_count(), position)
            for position, other in enumerate(kept)
        )
        for row in range(len(words))
    ]
    return [(kept[position], distance) for distance, position in nearest]


@given(hash_arrays(), thresholds)
@settings(max_examples=60, deadline=None)
def test_pairs_are_those_of_brute_force(hashes: Hashes, threshold: int) -> None:
    assert found(hashes, threshold) == by_brute_force(hashes, threshold)


@given(hash_arrays(most=120), st.integers(0, 20), st.integers(4, 16))
@settings(max_examples=50, deadline=None)
def test_every_split_finds_the_same(hashes: Hashes, threshold: int, chunks: int) -> None:
    split = hamming._split(chunks, threshold)
    if sum(chunk.probes for chunk in split) > 5000:
        return
    with patch.object(hamming, "_plan", lambda *_: split):
        assert found(hashes, threshold) == by_brute_force(hashes, threshold)


@pytest.mark.parametrize("threshold", [0, 3, 8])
def test_index_and_comparison_of_all_agree_where_the_index_is_chosen(threshold: int) -> None:
    hashes = scenes(np.random.default_rng(5), 12_000, 25, 3)
    assert hamming._plan(np.unique(hashes), threshold)
    indexed = found(hashes, threshold)
    with patch.object(hamming, "_plan", lambda *_: []):
        assert indexed == found(hashes, threshold)


@given(hash_arrays(), hash_arrays(most=50), st.integers(0, 12), st.sampled_from([0, 5, 8]))
@settings(max_examples=30, deadline=None)
def test_matches_of_foreign_queries(
    hashes: Hashes, queries: Hashes, threshold: int, chunks: int
) -> None:
    hashes = np.unique(hashes)
    queries = np.concatenate((queries, hashes[:5]))
    expected = np.argwhere(np.bitwise_count(queries[:, None] ^ hashes) <= threshold)
    split = hamming._split(chunks, threshold) if chunks else []
    with patch.object(hamming, "_plan", lambda *_: split):
        rows = [
            (i, j)
            for one, two, _ in HashIndex(hashes, threshold).matches(queries)
            for i, j in zip(one.tolist(), two.tolist(), strict=True)
        ]
    assert sorted(rows) == [tuple(pair) for pair in expected.tolist()]


@pytest.fixture
def small_slices() -> Iterator[None]:
    with patch.object(hamming, "_SLICE", 64), patch.object(representatives, "_BLOCK", 16):
        yield


@pytest.mark.usefixtures("small_slices")
def test_cutting_the_work_into_slices_changes_nothing() -> None:
    hashes = scenes(np.random.default_rng(2), 300, 20, 2)
    order = np.random.default_rng(3).permutation(300)
    for split in ([], hamming._split(8, 8)):
        with patch.object(hamming, "_plan", lambda *_, split=split: split):
            assert found(hashes, 8) == by_brute_force(hashes, 8)
            kept, distance = greedy_cover(hashes, order, 8)
        expected = slow_cover(hashes, order.tolist(), 8)
        assert list(zip(kept.tolist(), distance.tolist(), strict=True)) == expected


def test_no_candidate_list_is_longer_than_a_slice_or_a_bucket() -> None:
    rng = np.random.default_rng(0)
    dense = np.unique(rng.integers(0, 2**14, 3000, dtype=np.uint64))
    table = hamming._Buckets(dense, hamming._Chunk(word=0, shift=0, bits=8, radius=2))
    with patch.object(hamming, "_SLICE", 1000):
        lengths = [len(one) for one, _ in table.candidates(table.chunk.keys(dense), own=False)]
    assert sum(lengths) > 100_000
    assert max(lengths) <= 1000 + np.bincount(table.chunk.keys(dense)).max()


@given(hash_arrays(most=150), thresholds, st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_greedy_is_that_of_a_slow_loop(hashes: Hashes, threshold: int, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(hashes))
    kept, distance = greedy_cover(hashes, order, threshold)
    expected = slow_cover(hashes, order.tolist(), threshold)
    assert list(zip(kept.tolist(), distance.tolist(), strict=True)) == expected


@given(hash_arrays(), thresholds, st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_greedy_does_not_depend_on_the_order_of_rows(
    hashes: Hashes, threshold: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    order, shuffle = rng.permutation(len(hashes)), rng.permutation(len(hashes))
    kept, distance = greedy_cover(hashes, order, threshold)
    new_place = np.argsort(shuffle)
    moved, moved_distance = greedy_cover(hashes[shuffle], new_place[order], threshold)
    assert np.array_equal(shuffle[moved], kept[shuffle])
    assert np.array_equal(moved_distance, distance[shuffle])


@given(hash_arrays(), thresholds)
@settings(max_examples=50, deadline=None)
def test_kept_are_apart_and_the_others_near(hashes: Hashes, threshold: int) -> None:
    kept, distance = greedy_cover(hashes, np.arange(len(hashes)), threshold)
    assert np.array_equal(np.bitwise_count(hashes ^ hashes[kept]), distance)
    assert (distance <= threshold).all()
    assert not found(hashes[np.unique(kept)], threshold)


def test_a_slow_pan_does_not_chain() -> None:
    # one bit more at each step: 64 steps lead from all zeros to all ones
    pan = np.array([(1 << step) - 1 for step in range(65)], dtype=np.uint64)
    kept, distance = greedy_cover(pan, np.arange(65), 8)
    assert distance.max() <= 8
    assert np.unique(kept).tolist() == [0, 9, 18, 27, 36, 45, 54, 63]
    # 5 is as near to 9 as 4 is to 0: the nearest represents it, not the first that reached it
    assert kept[4] == 0
    assert kept[5] == 9


def test_a_tie_goes_to_the_better() -> None:
    hashes = np.array([0b0000_0000, 0b1111_1111, 0b0000_1111], dtype=np.uint64)
    assert greedy_cover(hashes, np.array([0, 1, 2]), 4)[0].tolist() == [0, 1, 0]
    assert greedy_cover(hashes, np.array([1, 0, 2]), 4)[0].tolist() == [0, 1, 1]


@pytest.mark.parametrize("flips", [0, 1])
def test_two_thousand_near_identical_become_one(flips: int) -> None:
    rng = np.random.default_rng(1)
    same = np.full(2000, 0x0123_4567_89AB_CDEF, np.uint64)
    # at most 4 bits from the middle, so at most 8 from each other
    for bit in rng.integers(0, 64, (4 * flips, 2000)).astype(np.uint64):
        same ^= np.uint64(1) << bit
    kept, distance = greedy_cover(same, rng.permutation(2000), 8)
    assert len(np.unique(kept)) == 1
    assert distance.max() <= 8


def test_two_thousand_identical_are_one_hash_for_the_index() -> None:
    same = np.full(2000, 77, np.uint64)
    assert len(pairs_within(same, 8)[0]) == 2000 * 1999 // 2
    kept, distance = greedy_cover(same, np.arange(2000)[::-1], 8)
    assert set(kept.tolist()) == {1999}
    assert distance.max() == 0


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    hashes = np.zeros(count, np.uint64)
    assert [len(part) for part in pairs_within(hashes, 8)] == [0, 0, 0]
    kept, distance = greedy_cover(hashes, np.arange(count), 8)
    assert kept.tolist() == list(range(count))
    assert distance.tolist() == [0] * count


@pytest.mark.parametrize("threshold", [-1, 65])
def test_a_threshold_out_of_range_is_refused(threshold: int) -> None:
    with pytest.raises(ValueError, match="0 to 64"):
        pairs_within(np.zeros(2, np.uint64), threshold)


def test_a_threshold_of_all_bits_pairs_everything() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, 40, dtype=np.uint64)
    assert len(pairs_within(hashes, 64)[0]) == 40 * 39 // 2
