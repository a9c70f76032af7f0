"""Which videos share a batch: groups that take about equally long."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence

from dataminer.files.hashing import fingerprint

MAX_ONE_VIDEO_BATCHES = 12
"""Up to this many videos get a batch each on one machine, so that a dry run shows every video."""

_UNKNOWN_SECONDS = 600.0  # of a video of unknown length
_LONGEST_SECONDS = 48 * 3600.0  # that a declared length counts as
# Work on a video, in seconds: at least, and per second of the video. Extraction was measured at 8
# (1080p) and 2 (4K) times playing speed on one old core.
_WORK_MINIMUM, _WORK_PER_SECOND = 2.0, 0.25
# seconds that a download takes, at least and per second of the video: 1080p at 10 MB/s
_DOWNLOAD_MINIMUM, _DOWNLOAD_PER_SECOND = 5.0, 1 / 40


def estimate(seconds: float | None) -> float:
    """Return about how many seconds all stages work on a video of this length."""
    return _WORK_MINIMUM + _WORK_PER_SECOND * _plausible(seconds)


def estimate_download(seconds: float | None, at_once: int) -> float:
    """Return a job's share of seconds per download of this length, with some downloads at once."""
    return (_DOWNLOAD_MINIMUM + _DOWNLOAD_PER_SECOND * _plausible(seconds)) / at_once


def _plausible(seconds: float | None) -> float:
    """Return what a declared length counts as; strangers declare it."""
    if seconds is None or not seconds >= 0:
        return _UNKNOWN_SECONDS
    return min(seconds, _LONGEST_SECONDS)


def share_of_several(downloads: int) -> int:
    """Return how many downloads at once one of several batches makes, given those of all batches.

    Half of them, so that the slowest download of one batch does not hold up all.
    """
    return math.ceil(downloads / 2)


def batch_name(videos: Sequence[str]) -> str:
    """Return the name of a batch: the id of its only video, or a digest."""
    return videos[0] if len(videos) == 1 else fingerprint("batch", list(videos))


def partition(
    videos: Iterable[str],
    work: Mapping[str, float],
    *,
    count: int,
    most: int | None = None,
    alone: Iterable[str] = (),
) -> list[tuple[str, ...]]:
    """Divide videos into batches of about the same work, whatever their order.

    Parameters
    ----------
    videos : iterable of str
        What to divide.
    work : mapping of str to float
        Seconds per video.
    count : int
        The number of batches, at least 1.
    most : int, optional
        The largest number of videos per batch.
    alone : iterable of str
        Videos that get a batch each, because a job was killed while it worked on them.

    Returns
    -------
    list of tuple of str
        The batches, sorted. Each begins with its longest video, which must not be begun last.
    """
    single = sorted(set(alone))
    rest = sorted(set(videos) - set(single), key=lambda v: (-work[v], v))
    if most:
        count = max(count, math.ceil(len(rest) / most))
    batches = [tuple(batch) for batch in _balanced(rest, work, count, most) if batch]
    return sorted([*batches, *((video,) for video in single)])


def _balanced(
    videos: Sequence[str], work: Mapping[str, float], count: int, most: int | None
) -> list[list[str]]:
    """Put each video, the longest first, into the batch with the least work so far."""
    open_batches: list[tuple[float, int, int]] = [(0.0, 0, number) for number in range(count)]
    batches: list[list[str]] = [[] for _ in open_batches]
    for video in videos:
        seconds, size, number = heapq.heappop(open_batches)
        batches[number].append(video)
        if most is None or size + 1 < most:
            heapq.heappush(open_batches, (seconds + work[video], size + 1, number))
    return batches
