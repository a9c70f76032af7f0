from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataminer.config.models import ExtractConfig
from dataminer.stages.extract.selection.sampling import TimeSampler, make_sampler


def chosen(
    settings: ExtractConfig, stamps: Sequence[int], base: Fraction, keys: set[int] | None = None
) -> list[int]:
    sampler = make_sampler(settings, base)
    keys = keys or set()
    return [i for i, pts in enumerate(stamps) if sampler.wants(i, pts, i in keys)]


def at(seconds: float) -> ExtractConfig:
    return ExtractConfig(strategy="time", every_seconds=seconds)


def by_definition(stamps: Sequence[int], step: Fraction) -> list[int]:
    """For each tick the first frame at or after it, no frame twice."""
    found: list[int] = []
    tick = Fraction(stamps[0])
    while tick <= stamps[-1]:
        first = next(i for i, pts in enumerate(stamps) if pts >= tick)
        if first not in found:
            found.append(first)
        tick += step
    return found


@pytest.mark.parametrize("base", [Fraction(1, 25), Fraction(1, 12800), Fraction(1, 90000)])
def test_25_fps_at_one_second_gives_every_25th_frame(base: Fraction) -> None:
    stamps = [int(i * Fraction(1, 25) / base) for i in range(20_000)]
    assert chosen(at(1.0), stamps, base) == list(range(0, 20_000, 25))


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.3, 0.7])
def test_decimal_steps_stay_exact_over_hours(seconds: float) -> None:
    base, every = Fraction(1, 1000), round(seconds * 10)
    stamps = [100 * i for i in range(100_000)]
    assert chosen(at(seconds), stamps, base) == list(range(0, 100_000, every))


def test_ntsc_rates_take_the_first_frame_at_or_after_each_second() -> None:
    base = Fraction(1, 30000)
    stamps = [1001 * i for i in range(1200)]
    assert chosen(at(1.0), stamps, base) == by_definition(stamps, Fraction(30000))


def test_ticks_count_from_the_first_frame() -> None:
    stamps = [7 + 40 * i for i in range(100)]
    assert chosen(at(1.0), stamps, Fraction(1, 1000)) == [0, 25, 50, 75]
    stamps = [-80 + 40 * i for i in range(100)]
    assert chosen(at(1.0), stamps, Fraction(1, 1000)) == [0, 25, 50, 75]


def test_a_gap_of_many_ticks_gives_one_frame() -> None:
    stamps = [0, 500, 1000, 9700, 9900, 10_000, 10_900, 11_100]
    assert chosen(at(1.0), stamps, Fraction(1, 1000)) == [0, 2, 3, 5, 7]


def test_steps_below_the_frame_distance_give_every_frame_once() -> None:
    stamps = [40 * i for i in range(10)]
    assert chosen(at(0.001), stamps, Fraction(1, 1000)) == list(range(10))


def test_each_part_of_a_joined_recording_is_sampled_from_its_first_frame() -> None:
    sampler = TimeSampler(60.0, Fraction(1, 1000))
    wanted = [sampler.wants(i, 40 * i, False, i in (50, 53)) for i in range(100)]
    assert [i for i, is_wanted in enumerate(wanted) if is_wanted] == [0, 50, 53]


def test_shots_and_parts_restart_the_ticks_of_scenes() -> None:
    settings = ExtractConfig(strategy="scene", every_seconds=1)
    sampler = make_sampler(settings, Fraction(1, 1000))
    wanted = [sampler.wants(i, 40 * i, i in (0, 30), i == 60) for i in range(100)]
    assert [i for i, is_wanted in enumerate(wanted) if is_wanted] == [0, 25, 30, 55, 60, 85]


@given(
    st.lists(st.integers(1, 700), min_size=1, max_size=60),
    st.sampled_from([0.04, 0.1, 0.333, 1.0, 2.5]),
    st.integers(-5000, 5000),
)
def test_any_rate_follows_the_definition(gaps: list[int], seconds: float, start: int) -> None:
    stamps = [start]
    for gap in gaps:
        stamps.append(stamps[-1] + gap)
    expected = by_definition(stamps, Fraction(str(seconds)) * 1000)
    assert chosen(at(seconds), stamps, Fraction(1, 1000)) == expected


def test_interval_counts_frames_not_time() -> None:
    settings = ExtractConfig(strategy="interval", every_frames=3)
    assert chosen(settings, [0, 5, 6, 400, 401, 402, 403], Fraction(1, 25)) == [0, 3, 6]
    everything = ExtractConfig(strategy="interval", every_frames=1)
    assert chosen(everything, [0, 1, 2], Fraction(1, 25)) == [0, 1, 2]


def test_keyframe_takes_all_keyframes() -> None:
    settings = ExtractConfig(strategy="keyframe")
    assert chosen(settings, list(range(10)), Fraction(1, 25), {0, 4, 5}) == [0, 4, 5]


def test_a_sampler_sees_each_frame_once() -> None:
    sampler = TimeSampler(1.0, Fraction(1, 25))
    assert [sampler.wants(i, i, False) for i in (0, 24, 25)] == [True, False, True]
