from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataminer.errors import ConfigError
from dataminer.export.splits import Shares, divide

ids = st.text("abcXYZ019_-", min_size=1, max_size=11)


@given(st.sets(ids, min_size=1, max_size=40), st.randoms(), st.integers(0, 9))
def test_the_order_of_videos_does_not_matter(videos: set[str], random: Random, seed: int) -> None:
    shuffled = sorted(videos)
    random.shuffle(shuffled)
    shares = Shares(0.2, 0.1, seed)
    division = divide(shuffled, shares)
    assert division == divide(sorted(videos), shares)
    assert set(division.split_of) == videos
    assert division.used == ("train", "val", "test")[: len(videos)]


@given(st.sets(ids, min_size=2, max_size=40), ids)
def test_a_video_more_moves_none_unless_it_was_said(videos: set[str], more: str) -> None:
    shares = Shares(0.25, 0.25)
    before, after = divide(videos, shares), divide({*videos, more}, shares)
    moved = {video for video in videos if before.split_of[video] != after.split_of[video]}
    assert not moved or before.notes


def test_without_stand_ins_no_video_moves() -> None:
    videos = [f"video{number}" for number in range(400)]
    shares = Shares(0.2, 0.1)
    whole = divide(videos, shares)
    for count in (50, 100, 399):
        part = divide(videos[:count], shares)
        assert part.notes == ()
        assert all(whole.split_of[video] == split for video, split in part.split_of.items())
    share = {s: list(whole.split_of.values()).count(s) / 400 for s in ("train", "val", "test")}
    assert share == pytest.approx({"train": 0.7, "val": 0.2, "test": 0.1}, abs=0.06)
    assert divide(videos, Shares(0.2, 0.1, seed=1)).split_of != whole.split_of


def test_two_videos_give_a_train_and_a_val_whatever_the_draw() -> None:
    for seed in range(20):
        division = divide(["a", "b"], Shares(0.01, 0, seed))
        assert division.used == ("train", "val")
        assert "stands in" in division.notes[0]


def test_one_video_is_train_and_this_is_said() -> None:
    division = divide(["only"], Shares(0.99, 0))
    assert division.split_of == {"only": "train"}
    assert "one video, only" in division.notes[0]
    assert divide(["only"], Shares(0, 0)).notes == ()


def test_too_few_for_test_is_said() -> None:
    division = divide(["a", "b"], Shares(0.2, 0.2))
    assert sorted(division.split_of.values()) == ["train", "val"]
    assert any("too few for test" in note for note in division.notes)


@pytest.mark.parametrize(("val", "test"), [(1.0, 0), (0.5, 0.5), (-0.1, 0), (float("nan"), 0)])
def test_shares_must_leave_something_for_train(val: float, test: float) -> None:
    with pytest.raises(ConfigError, match="leave nothing for train"):
        Shares(val, test)
