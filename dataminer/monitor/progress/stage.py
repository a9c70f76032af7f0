"""The progress of one stage: what has ended, the rate, and the remaining time."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from functools import cached_property

from dataminer.monitor.progress.rates import Ended, flow, speed
from dataminer.monitor.progress.rows import TrackedVideo
from dataminer.sync.batches.partition import estimate

_ENOUGH = 2000  # of the latest results are used for a rate
_MOMENT = 5.0  # seconds: a download is never late before


@dataclass(frozen=True)
class StageProgress:
    """The progress of one stage of a run.

    Parameters
    ----------
    name : str
        The stage.
    total : int
        The videos that the run planned, per project for ``filter``.
    done, failed : int
        Videos with a result, and videos that will have none.
    running : int
        Videos that a job works on.
    size : int
        Bytes (``download``) or frames (other stages) of the results.
    per_minute : float
        Videos per minute of work; 0 if no job works.
    size_per_second : float
        Bytes or frames per second of work.
    left_seconds : float or None
        Remaining time, without videos that wait for another attempt; 0 if nothing is left, None if
        unknown.
    coming : int
        Bytes that current downloads have received so far.
    """

    name: str
    total: int
    done: int = 0
    failed: int = 0
    running: int = 0
    size: int = 0
    per_minute: float = 0.0
    size_per_second: float = 0.0
    left_seconds: float | None = None
    coming: int = 0

    @property
    def left(self) -> int:
        """The number of videos without a result or a final failure."""
        return max(self.total - self.done - self.failed, 0)


@dataclass
class StageCount:
    """The results of a stage so far, and what is left to do now."""

    name: str
    total: int
    done: int = 0
    failed: int = 0
    running: int = 0
    size: float = 0.0
    left: list[str] = field(default_factory=list)
    results: list[tuple[float, float, float, str]] = field(default_factory=list)
    lengths: dict[str, float] = field(default_factory=dict)
    coming: int = 0
    under_way: list[Ended] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    """When each current download began."""

    def note_duration(self, video_id: str, row: TrackedVideo | None) -> None:
        """Record the duration of a video."""
        if row and row.duration is not None:
            self.lengths[video_id] = row.duration

    def add_result(
        self,
        video_id: str,
        at: float | None,
        seconds: float | None,
        size: float | None,
        since: float,
    ) -> None:
        """Count a result; one from before the run does not affect the rate."""
        self.done += 1
        self.size += size or 0.0
        if at is not None and at >= since:
            self.results.append((at, seconds or 0.0, size or 0.0, video_id))

    def add_failure(self, video_id: str, at: float | None) -> None:
        """Count a video that will have no result; ``at`` is None if it failed before the run."""
        self.failed += 1
        if at is not None:
            self.results.append((at, 0.0, 0.0, video_id))

    @cached_property
    def ended(self) -> list[Ended]:
        """The latest results of the stage in this run."""
        return [
            Ended(at, seconds, self._work(video_id), size)
            for at, seconds, size, video_id in self._latest
        ]

    @cached_property
    def _latest(self) -> list[tuple[float, float, float, str]]:
        return heapq.nlargest(_ENOUGH, self.results)

    @cached_property
    def _usual(self) -> float | None:
        known = [self.lengths[v] for *_, v in self._latest if v in self.lengths]
        return sum(known) / len(known) if known else None

    def _work(self, video_id: str) -> float:
        # A video of unknown length is estimated like those that have ended
        return estimate(self.lengths.get(video_id, self._usual))

    def progress(self, now: float, *, idle: bool) -> StageProgress:
        """Return the progress of the stage, its rate and its remaining time."""
        found = speed(self.ended, now, at_work=self.running > 0, idle=idle)
        rest = sum(map(self._work, self.left))
        seconds = 0.0 if not rest else rest / found.work if found.work else None
        if rest and self._is_unusual(now):
            seconds = None
        counts = (self.total, self.done, self.failed, self.running, round(self.size))
        size = flow(self.ended, self.under_way, now)
        if not size and self.coming <= self.size:  # otherwise too little has ended for an estimate
            size = found.size
        return StageProgress(self.name, *counts, 60 * found.results, size, seconds, self.coming)

    def _is_unusual(self, now: float) -> bool:
        """Return whether current work is larger, or takes longer, than all that has ended."""
        took = max((seconds for _, seconds, _, _ in self.results), default=0.0)
        size = max((size for _, _, size, _ in self.results), default=0.0)
        longest = 2 * took + _MOMENT
        return self.coming > self.running * size or any(now - at > longest for at in self.begun)


def remaining_seconds(stages: list[StageProgress], overlap: float) -> float | None:
    """Return the remaining time of all stages, if they overlap as much as they did so far."""
    times = [stage.left_seconds for stage in stages]
    known = [seconds for seconds in times if seconds is not None]
    if len(known) < len(times):
        return None
    return max(*known, overlap * sum(known), 0.0) if known else 0.0
