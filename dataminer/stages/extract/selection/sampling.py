"""Which frames of a video are wanted: decided from order, time stamps and marks alone.

A sampler sees no picture, so it can be fed by a decoder or by a scan of packets, and chooses
the same frames either way. What is marked are keyframes; for scenes, the first frames of shots,
which :mod:`dataminer.stages.extract.scenes` finds.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Protocol

from dataminer.config.models import ExtractConfig


class Sampler(Protocol):
    """Says of each frame, asked once for each in presentation order, whether it is wanted."""

    def wants(self, index: int, pts: int, marked: bool) -> bool:
        """Decide about the next frame.

        Parameters
        ----------
        index : int
            0-based place in presentation order.
        pts : int
            Presentation time stamp, in units of the stream's time base.
        marked : bool
            Whether it is a keyframe, or for scenes the first frame of a shot.
        """
        ...


class TimeSampler:
    """Wants the first frame shown at or after each tick ``start + k * every_seconds``.

    ``start`` is the time stamp of the first frame. Where a gap spans several ticks, the frame
    after it stands for all of them. Where time jumps back by more than a step (recordings that
    were joined without new time stamps), ticks begin anew from there.

    Parameters
    ----------
    every_seconds : float
        Distance of the ticks, taken as the decimal number it prints as, so that 0.1 is 1/10.
    time_base : Fraction
        Seconds of one unit of ``pts``.
    """

    def __init__(self, every_seconds: float, time_base: Fraction) -> None:
        step = Fraction(str(every_seconds)) / time_base
        self._step, self._unit = step.numerator, step.denominator  # whole numbers: never rounded
        self._start: int | None = None
        self._tick = 0

    def wants(self, index: int, pts: int, marked: bool) -> bool:
        """Decide about the next frame; see :class:`Sampler`."""
        if self._start is None or self._passed(pts, self._start) < self._tick - 2:
            self._start = pts
            self._tick = 1
            return True
        passed = self._passed(pts, self._start)
        if passed < self._tick:
            return False
        self._tick = passed + 1
        return True

    def _passed(self, pts: int, start: int) -> int:
        return (pts - start) * self._unit // self._step


class IntervalSampler:
    """Wants every ``every_frames``-th frame, the first one included."""

    def __init__(self, every_frames: int) -> None:
        self._every = every_frames

    def wants(self, index: int, pts: int, marked: bool) -> bool:
        """Decide about the next frame; see :class:`Sampler`."""
        return index % self._every == 0


class MarkSampler:
    """Wants all that is marked."""

    def wants(self, index: int, pts: int, marked: bool) -> bool:
        """Decide about the next frame; see :class:`Sampler`."""
        return marked


class ShotSampler:
    """Wants the first frame of each shot and, while it lasts, one every so many seconds.

    Parameters
    ----------
    every_seconds, time_base
        As for :class:`TimeSampler`, whose ticks begin anew with each shot.
    """

    def __init__(self, every_seconds: float, time_base: Fraction) -> None:
        self._new = partial(TimeSampler, every_seconds, time_base)
        self._ticks = self._new()

    def wants(self, index: int, pts: int, marked: bool) -> bool:
        """Decide about the next frame; see :class:`Sampler`."""
        if marked:
            self._ticks = self._new()
        return self._ticks.wants(index, pts, marked)


def make_sampler(settings: ExtractConfig, time_base: Fraction) -> Sampler:
    """Return the sampler that the settings ask for.

    Parameters
    ----------
    settings : ExtractConfig
        Its ``strategy``, ``every_seconds`` and ``every_frames`` count.
    time_base : Fraction
        Seconds of one unit of the stream's time stamps.
    """
    if settings.strategy == "time":
        return TimeSampler(settings.every_seconds, time_base)
    if settings.strategy == "interval":
        return IntervalSampler(settings.every_frames)
    if settings.strategy == "scene":
        return ShotSampler(settings.every_seconds, time_base)
    return MarkSampler()
