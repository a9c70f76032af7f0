"""How fast a stage goes: pauses and suspended machines slow nothing, and promise nothing."""

from __future__ import annotations

import pytest

from dataminer.monitor.progress.rates import Ended, overlap, speed


def every(
    seconds: float, count: int, *, begin: float = 0.0, took: float | None = None
) -> list[Ended]:
    """Return results that come one after the other."""
    took = seconds if took is None else took
    return [Ended(begin + seconds * n, took, work=2, size=10) for n in range(1, count + 1)]


def test_a_rate_counts_results_their_work_and_their_size_per_second() -> None:
    found = speed(every(10, 20), 200, at_work=True)
    assert (found.results, found.work, found.size) == pytest.approx((0.1, 0.2, 1.0))


def test_what_several_do_at_once_takes_the_time_once() -> None:
    both = every(10, 20) + every(10, 20)
    assert speed(both, 200, at_work=True).results == pytest.approx(0.2)


@pytest.mark.parametrize("apart", [0, 150])
def test_results_that_each_take_longer_than_ten_minutes_all_count(apart: int) -> None:
    side_by_side = [Ended(1200.0 + apart * n, 1200, size=10) for n in range(8)]
    found = speed(side_by_side, side_by_side[-1].at, at_work=False)
    assert found.results == pytest.approx(8 / 1200)


def test_a_pause_slows_nothing() -> None:
    before, after = every(10, 20), every(10, 5, begin=200 + 7200)
    assert speed([*before, *after], 7450, at_work=True).results == pytest.approx(0.1)


def test_a_suspended_machine_slows_nothing() -> None:
    """The clock that measures work stands still meanwhile: the result seems to come too late."""
    late = Ended(200 + 3600 + 10, 10)
    assert speed([*every(10, 20), late], 3810, at_work=True).results == pytest.approx(0.1)
    # and while the next one is being made after the machine was woken, nobody knows how long it was
    assert speed(every(10, 20), 3900, at_work=True).results > 0.07


def test_a_job_that_was_stopped_for_an_hour_slows_little() -> None:
    stopped = Ended(200 + 3610, 3610, work=2)
    found = speed([*every(10, 20), stopped], 3810, at_work=True).results
    assert found == pytest.approx(21 / 300)


def test_a_long_video_may_take_long() -> None:
    long = Ended(200 + 2000, 2000, work=400)
    assert speed([*every(10, 20), long], 2200, at_work=True).work == pytest.approx(
        402 / 2010, rel=0.01
    )


def test_starts_of_jobs_between_results_are_part_of_the_work() -> None:
    assert speed(every(20, 30, took=5), 600, at_work=False).results == pytest.approx(0.05, rel=0.03)


def test_nothing_is_known_if_nobody_works() -> None:
    assert speed(every(10, 20), 1000, at_work=False, idle=True).results == 0
    assert speed([], 1000, at_work=True).results == 0


def test_nothing_is_known_after_a_moment() -> None:
    assert speed([Ended(1.0, 1.0)], 1, at_work=True).results == 0


def test_the_last_ten_minutes_of_work_count() -> None:
    slow, fast = every(100, 10), every(10, 100, begin=1000)
    assert speed([*slow, *fast], 2000, at_work=True).results == pytest.approx(0.1, rel=0.02)


def test_stages_that_take_turns_do_not_overlap() -> None:
    first, second = every(10, 10), every(10, 10, begin=100)
    assert overlap([first, second]) == pytest.approx(1)
    assert overlap([first, first]) == pytest.approx(0.5)
    assert overlap([[], []]) == 1
