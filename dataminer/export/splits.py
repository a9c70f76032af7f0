"""The split of each video into train, val or test; no video is in two of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dataminer.errors import ConfigError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Shares:
    """The shares of videos for val and test; the rest is train.

    Parameters
    ----------
    val, test : float
        In 0..1; their sum is below 1.
    seed : int
        Another seed draws other videos.

    Raises
    ------
    ConfigError
        The shares leave nothing for train.
    """

    val: float = 0.2
    test: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise ConfigError(
                f"--val-share {self.val:g} and --test-share {self.test:g} leave nothing for train",
                "give shares of 0 or more whose sum is below 1",
            )

    def band(self, split: str) -> tuple[float, float]:
        """Return the interval of a split's draws."""
        middle = self.val + self.test
        return {"val": (0.0, self.val), "test": (self.val, middle), "train": (middle, 1.0)}[split]


@dataclass(frozen=True)
class Division:
    """The split of each video, and messages for the user."""

    split_of: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> tuple[str, ...]:
        """The splits that have a video, train first."""
        present = set(self.split_of.values())
        return tuple(split for split in SPLITS if split in present)


def divide(videos: Iterable[str], shares: Shares) -> Division:
    """Give each video a split.

    Each video's split follows from a draw that depends only on its id and the seed, so that videos
    that are added later move no other. If a split got no video, the nearest one is moved to it;
    then splits may change as videos are added, and a note says so.

    Parameters
    ----------
    videos : iterable of str
        Ids, in any order.
    shares : Shares
        The average share of each split.
    """
    draws = {video_id: draw(video_id, shares.seed) for video_id in sorted(set(videos))}
    splits = [split for split in SPLITS if _width(shares.band(split)) > 0]
    possible, left_out = splits[: len(draws)], splits[len(draws) :]
    split_of = {}
    for video_id, value in draws.items():
        drawn = next(split for split in splits if _contains(shares.band(split), value))
        split_of[video_id] = drawn if drawn in possible else "train"
    notes = _too_few(list(draws), left_out)
    for split in possible:
        if split not in split_of.values():
            taken = _nearest(_spare(split_of), draws, shares.band(split))
            split_of[taken] = split
            notes.append(
                f"no video was drawn for {split}: {taken} stands in, and splits may change as"
                " videos are added"
            )
    return Division(split_of, tuple(notes))


def _too_few(videos: list[str], left_out: list[str]) -> list[str]:
    if left_out and len(videos) == 1:
        return [f"all frames come from one video, {videos[0]}: nothing is held out from train"]
    return [f"{len(videos)} videos are too few for {split}: it is left out" for split in left_out]


def draw(video_id: str, seed: int) -> float:
    """Return a number in 0..1 that depends only on a video's id and the seed."""
    digest = hashlib.sha256(f"{seed}:{video_id}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def _width(band: tuple[float, float]) -> float:
    return band[1] - band[0]


def _contains(band: tuple[float, float], value: float) -> bool:
    return band[0] <= value < band[1]


def _nearest(videos: list[str], draws: Mapping[str, float], band: tuple[float, float]) -> str:
    """Return the video whose draw is nearest to a band."""
    low, high = band
    return min(videos, key=lambda video: (max(low - draws[video], draws[video] - high), video))


def _spare(split_of: Mapping[str, str]) -> list[str]:
    """Return the videos of splits that have more than one."""
    splits = Counter(split_of.values())
    return [video for video, split in split_of.items() if splits[split] > 1]
