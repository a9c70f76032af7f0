"""Which frames of a video are selected, by their order, time stamps and marks alone.

A sampler sees no pixels, so it selects the same frames whether a decoder or a scan of packets
feeds it. Marked frames are keyframes or, for scenes, the first frames of shots, which
:mod:`dataminer.stages.extract.scenes` finds.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Protocol

from dataminer.config.models import ExtractConfig


class Sampler(Protocol):
    """Decides about each frame, once per frame in presentation order."""

    def wants(self, index: int, pts: int, marked: bool, begins_part: bool = False) -> bool:
        """Return whether the next frame is selected.

        Parameters
        ----------
        index : int
            0-based position in presentation order.
        pts : int
            Its time on a line that ascends, in units of the stream's time base.
        marked : bool
            Whether it is a keyframe, or for scenes the first frame of a shot.
        begins_part : bool
            Whether another recording, joined to the one before, begins with it.
        """
        ...


class TimeSampler:
    """Selects the first frame shown at or after each tick ``start + k * every_seconds``.

    ``start`` is the time of the first frame. If a gap spans several ticks, the frame after it is
    selected once. Ticks restart with each part of a joined recording, so that none of them is
    passed over, however short.

    Parameters
    ----------
    every_seconds : float
        Distance of the ticks, taken as the decimal number that it prints as: 0.1 is 1/10.
    time_base : Fraction
        Seconds of one unit of ``pts``.
    """

    def __init__(self, every_seconds: float, time_base: Fraction) -> None:
        step = Fraction(str(every_seconds)) / time_base
        self._step, self._unit = step.numerator, step.denominator  # integers are never rounded
        self._start: int | None = None
        self._next_tick = 0

    def wants(self, index: int, pts: int, marked: bool, begins_part: bool = False) -> bool:
        """Return whether the next frame is selected; see :class:`Sampler`."""
        if self._start is None or begins_part:
            self._start = pts
            self._next_tick = 1
            return True
        ticks = (pts - self._start) * self._unit // self._step
        if ticks < self._next_tick:
            return False
        self._next_tick = ticks + 1
        return True


class IntervalSampler:
    """Selects every ``every_frames``-th frame, starting with the first."""

    def __init__(self, every_frames: int) -> None:
        self._every = every_frames

    def wants(self, index: int, pts: int, marked: bool, begins_part: bool = False) -> bool:
        """Return whether the next frame is selected; see :class:`Sampler`."""
        return index % self._every == 0


class MarkSampler:
    """Selects all marked frames."""

    def wants(self, index: int, pts: int, marked: bool, begins_part: bool = False) -> bool:
        """Return whether the next frame is selected; see :class:`Sampler`."""
        return marked


class ShotSampler:
    """Selects the first frame of each shot, then one every ``every_seconds`` until it ends.

    Parameters
    ----------
    every_seconds, time_base
        As for :class:`TimeSampler`, whose ticks restart with each shot.
    """

    def __init__(self, every_seconds: float, time_base: Fraction) -> None:
        self._new_sampler = partial(TimeSampler, every_seconds, time_base)
        self._sampler = self._new_sampler()

    def wants(self, index: int, pts: int, marked: bool, begins_part: bool = False) -> bool:
        """Return whether the next frame is selected; see :class:`Sampler`."""
        if marked:
            self._sampler = self._new_sampler()
        return self._sampler.wants(index, pts, marked, begins_part)


def make_sampler(settings: ExtractConfig, time_base: Fraction) -> Sampler:
    """Return the sampler of the configured strategy.

    Parameters
    ----------
    settings : ExtractConfig
        Uses ``strategy``, ``every_seconds`` and ``every_frames``.
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
