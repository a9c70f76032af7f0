from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataminer.stages.extract.timing.gaps import find_gaps
from dataminer.stages.extract.timing.timeline import BROADCAST, STORED, JumpLimit, Placed, TimeLine

MILLISECOND = Fraction(1, 1000)
STEADY = [1000 + 40 * index for index in range(100)]
BOTH = pytest.mark.parametrize("limit", [BROADCAST, STORED], ids=["broadcast", "stored"])


class Line:
    """The time line of some stamps."""

    def __init__(
        self,
        stamps: Sequence[int | None],
        limit: JumpLimit = BROADCAST,
        *,
        time_base: Fraction = MILLISECOND,
        rate: Fraction | None = Fraction(25),
        keys: Collection[int] = (),
    ) -> None:
        line: TimeLine[int] = TimeLine(time_base, rate, limit)
        self.placed: list[Placed[int]] = []
        for index, stamp in enumerate(stamps):
            self.placed += line.add(index, stamp, is_key=index in keys)
        self.placed += line.finish()
        self.times = [placed.time for placed in self.placed]
        self.parts = [placed.item for placed in self.placed if placed.begins_part]
        self.derived = sum(placed.is_derived for placed in self.placed)
        self.stray, self.joined = line.stray, line.joined
        assert [placed.item for placed in self.placed] == list(range(len(stamps)))
        assert all(earlier < later for earlier, later in pairwise(self.times))

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.derived, self.stray, self.joined


@BOTH
def test_ascending_stamps_stay_as_they_are(limit: JumpLimit) -> None:
    variable = [0, 40, 60, 400, 433, 2000, 2040, 9000, 9500, 9501]
    for stamps in (STEADY, variable, [s - 5000 for s in STEADY], [s + 10**12 for s in STEADY]):
        line = Line(stamps, limit)
        assert line.times == stamps
        assert (line.parts, line.counts) == ([], (0, 0, 0))


@BOTH
def test_joined_parts_follow_each_other(limit: JumpLimit) -> None:
    part = STEADY[:48]
    line = Line(part * 4, limit)
    assert line.times == [1000 + 40 * index for index in range(192)]
    assert (line.parts, line.counts) == ([48, 96, 144], (0, 0, 3))


@BOTH
def test_parts_of_any_length_are_seen(limit: JumpLimit) -> None:
    line = Line([*range(0, 560, 40), *range(0, 640, 40), *range(0, 2000, 40)], limit)
    assert (line.parts, line.joined) == ([14, 30], 2)


@BOTH
@pytest.mark.parametrize("off", [45_000_000, -30_000_000, -90, 5_000_000])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_stray_stamps_are_passed_over(limit: JumpLimit, off: int, length: int) -> None:
    strays = {index for start in (24, 60) for index in range(start, start + length)}
    line = Line([s + off * (i in strays) for i, s in enumerate(STEADY)], limit)
    assert line.times == STEADY
    assert line.parts == []
    assert line.stray + line.derived == len(strays)
    assert line.joined == 0


@BOTH
@pytest.mark.parametrize("index", [0, 99])
def test_the_first_and_the_last_stamp_may_be_stray(limit: JumpLimit, index: int) -> None:
    stamps: list[int] = STEADY.copy()
    stamps[index] += 45_000_000
    line = Line(stamps, limit)
    assert (line.times, line.parts, line.counts) == (STEADY, [], (0, 1, 0))


@BOTH
def test_stamps_that_stray_for_long_are_not_two_joins(limit: JumpLimit) -> None:
    stamps = [s + 45_000_000 * (20 <= i < 40) for i, s in enumerate(STEADY)]
    line = Line(stamps, limit)
    assert line.times == STEADY
    assert line.counts == (0, 20, 0)


@BOTH
@pytest.mark.parametrize("off", [9_000, 2_000, -2_000])
@pytest.mark.parametrize("length", [2, 5, 14])
def test_strays_in_a_row_below_the_limit_move_nothing(
    limit: JumpLimit, off: int, length: int
) -> None:
    strays = {index for start in (24, 60) for index in range(start, start + length)}
    line = Line([s + off * (i in strays) for i, s in enumerate(STEADY)], limit)
    assert line.times == STEADY
    assert (line.parts, line.stray, line.joined) == ([], len(strays), 0)


@BOTH
def test_stamps_that_go_back_for_long_return_to_the_line(limit: JumpLimit) -> None:
    line = Line([s - 2000 * (30 <= i < 70) for i, s in enumerate(STEADY)], limit)
    assert (line.times, line.counts) == (STEADY, (0, 40, 0))


@BOTH
def test_pauses_are_kept(limit: JumpLimit) -> None:
    stamps = [s + 5000 * (i >= 30) + 3000 * (i >= 35) for i, s in enumerate(STEADY)]
    line = Line(stamps, limit)
    assert (line.times, line.counts) == (stamps, (0, 0, 0))


@BOTH
def test_equal_stamps_follow_the_declared_rate(limit: JumpLimit) -> None:
    line = Line([7000] * 100, limit)
    assert line.times == [7000 + 40 * index for index in range(100)]
    assert line.counts == (99, 0, 0)
    assert Line([7000] * 3, limit, rate=Fraction(90000)).times == [7000, 7040, 7080]
    assert Line([None] * 3, limit, rate=None).times == [0, 40, 80]


@BOTH
@pytest.mark.parametrize("units", [1, 2, 50])
def test_stamps_of_a_rate_that_no_video_has_are_derived(limit: JumpLimit, units: int) -> None:
    line = Line(range(0, 100 * units, units), limit, time_base=Fraction(1, 1_048_601))
    assert line.times == [41_944 * index for index in range(100)]
    assert line.counts == (99, 0, 0)


@given(st.lists(st.integers(-(10**8), 10**8) | st.integers(-500, 500), max_size=60))
def test_any_times_ascend_when_rounded(stamps: list[int]) -> None:
    times = Line(stamps, STORED, time_base=Fraction(1, 10**9)).times
    seconds = [round(time / 10**9, 6) for time in times]
    assert all(earlier < later for earlier, later in pairwise(seconds))


@BOTH
def test_missing_stamps_are_derived_from_their_neighbours(limit: JumpLimit) -> None:
    stamps: list[int | None] = [None if i % 10 == 3 else s for i, s in enumerate(STEADY)]
    line = Line(stamps, limit)
    assert (line.times, line.counts) == (STEADY, (10, 0, 0))
    line = Line([None, None, *STEADY[2:]], limit)
    assert (line.times, line.counts) == (STEADY, (2, 0, 0))


def test_pairs_of_equal_stamps_are_spread() -> None:
    assert Line([s - (s - 1000) % 80 for s in STEADY]).times == STEADY


def test_stamps_that_step_back_a_little_are_placed_between_their_neighbours() -> None:
    line = Line([1, 3, 2, 5, 6, 7, 8, 11, 9], time_base=Fraction(1, 25))
    assert line.times[:2] == [1, 3]
    assert (line.stray, line.joined) == (0, 0)


def test_broadcasts_close_a_jump_of_more_than_ten_seconds() -> None:
    for gap, joined in ((9_900, 0), (10_100, 1)):
        stamps = [*STEADY, *(STEADY[-1] + gap + s - 1000 for s in STEADY)]
        assert Line(stamps).joined == joined
        assert Line(stamps, STORED).times == stamps
    slides = [15_000 * index for index in range(9)]
    assert Line(slides).times == slides


def test_a_stored_file_may_show_a_picture_for_an_hour() -> None:
    for seconds, joined in ((3590, 0), (3610, 1)):
        stamps = [*STEADY, *(s + seconds * 1000 for s in STEADY)]
        assert Line(stamps, STORED).joined == joined
    slow = [0, 60_000, 719 * 60_000, 721 * 60_000, 722 * 60_000]
    assert Line(slow, STORED).times == slow


@BOTH
def test_a_stamp_that_repeats_with_derived_ones_between_begins_no_parts(limit: JumpLimit) -> None:
    line = Line([1000, 1040, 1080] * 30, limit)
    assert line.times == [1000 + 40 * index for index in range(90)]
    assert (line.parts, line.stray, line.joined) == ([], 0, 0)
    assert line.derived == 29


@BOTH
def test_short_parts_begin_with_keyframes(limit: JumpLimit) -> None:
    line = Line(STEADY[:10] * 5, limit, keys=range(0, 50, 10))
    assert line.times == [1000 + 40 * index for index in range(50)]
    assert (line.parts, line.counts) == ([10, 20, 30, 40], (0, 0, 4))
    assert Line(STEADY[:3] * 5, limit, keys=range(0, 15, 3)).parts == []


def test_stamps_that_wrap_go_on() -> None:
    first = (1 << 33) - 36_000
    stamps = [(first + 3600 * index) % (1 << 33) for index in range(30)]
    line = Line(stamps, time_base=Fraction(1, 90_000))
    assert line.times == [first + 3600 * index for index in range(30)]
    assert (line.parts, line.counts) == ([], (0, 0, 0))


@given(
    st.lists(st.none() | st.integers(-(1 << 62), 1 << 62) | st.integers(-500, 500), max_size=60),
    st.sampled_from([BROADCAST, STORED]),
)
def test_any_stamps_give_ascending_times(stamps: list[int | None], limit: JumpLimit) -> None:
    assert len(Line(stamps, limit).times) == len(stamps)


def gaps(times: Sequence[int], durations: int | Sequence[int] = 40) -> dict[int, int]:
    given_durations: Any = np.broadcast_to(durations, len(times))
    positions, counts = find_gaps(np.array(times), np.array(given_durations), 0)
    return dict(zip(positions.tolist(), counts.tolist(), strict=True))


def test_holes_in_a_constant_rate_are_gaps() -> None:
    assert gaps(STEADY) == {}
    assert gaps([s for i, s in enumerate(STEADY) if i not in (20, 21, 60)]) == {20: 2, 58: 1}
    ntsc = [round(index * 1001 / 30) for index in range(100) if index != 50]
    assert gaps(ntsc, 33) == {50: 1}


def test_a_frame_that_states_to_be_shown_for_longer_is_no_gap() -> None:
    stamps = [s for i, s in enumerate(STEADY) if i not in (20, 21, 60)]
    durations = [40] * len(stamps)
    durations[19] = 120
    assert gaps(stamps, durations) == {58: 1}


def test_a_variable_rate_has_no_gaps() -> None:
    rng = np.random.default_rng(0)
    assert gaps([s for s in STEADY if rng.random() > 0.1], 0) == {}
    assert gaps(np.cumsum(rng.integers(20, 90, 200)).tolist(), 0) == {}
