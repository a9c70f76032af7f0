"""One line of ascending times for all frames of a video, whatever their time stamps are like."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from statistics import median_low
from typing import Generic, TypeVar

_LOOKAHEAD = 3  # frames after one without a stamp of its own
_FAR_LOOKAHEAD = 16  # frames after a jump or a long pause; stamps that come back were stray
_RECENT_STEPS = 15  # of which the usual step is the median
_LONG_STEP = 2.5  # usual steps; the frame after a longer one is awaited before it is believed
_NOTICEABLE = 1  # second: a stamp that is off by less is imprecise, not stray
_USUAL_RATES = Fraction(1, 3600), Fraction(1000)  # others are not believed
_DEFAULT_RATE = Fraction(25)
EQUAL_WITHIN = Fraction(1, 10_000)  # second: no frames are shown so fast
LEAST_STEP = Fraction(2, 1_000_000)  # second: times still ascend when rounded to six decimals
_SHORT_PART = 0.5  # seconds; what begins again sooner repeats a stamp,
_SEVERAL = 4  # unless it is a keyframe after this many items with stamps of their own
_EARLIER_OFFSETS = 16  # to which stamps may return
_WRAP = 1 << 33  # ISO/IEC 13818-1, 2.4.3.7: time stamps of MPEG-TS and MPEG-PS have 33 bits

Item = TypeVar("Item")


@dataclass(frozen=True)
class JumpLimit:
    """The longest step forward in time that may be a pause rather than a wrong time stamp."""

    seconds: int
    steps: int
    """The step must also be longer than so many usual ones."""


# fftools/ffmpeg_demux.c, ts_discontinuity_process: dts_delta_threshold, for formats with
# AVFMT_TS_DISCONT
BROADCAST = JumpLimit(seconds=10, steps=20)
# an MP4 or Matroska file may show one picture for minutes
STORED = JumpLimit(seconds=3600, steps=1000)


@dataclass(frozen=True)
class Placed(Generic[Item]):
    """An item with its time."""

    item: Item
    time: int
    """In units of the time base; later than that of the item before."""
    begins_part: bool
    """Whether time stamps begin again at this item: recordings were joined."""
    is_derived: bool
    """Whether its stamp is missing or imprecise."""


@dataclass(frozen=True)
class _Waiting(Generic[Item]):
    item: Item
    stamp: int | None
    is_key: bool


class TimeLine(Generic[Item]):
    """Places items, in the order in which they are shown, on one line of ascending times.

    Stamps that ascend without a jump stay as they are. After a jump, what follows is moved to
    where the next frame was due, as ffmpeg does it. Stamps that soon return were stray; they, and
    those that are missing, repeat, or step back a little, are replaced by a time between their
    neighbours', or one usual step after the last.

    Parameters
    ----------
    time_base : Fraction
        Seconds of one unit of the stamps.
    rate : Fraction or None
        Frames per second as declared; later, the steps that occurred count.
    limit : JumpLimit
        How far time may step forward.

    Attributes
    ----------
    stray, joined : int
        Items with a stray stamp; jumps that were closed.
    """

    def __init__(self, time_base: Fraction, rate: Fraction | None, limit: JumpLimit) -> None:
        if rate is None or not _USUAL_RATES[0] <= rate <= _USUAL_RATES[1]:
            rate = _DEFAULT_RATE
        self._declared_step = max(1, round(1 / (rate * time_base)))
        self._second = max(1, round(1 / time_base))
        self._equal_within = int(EQUAL_WITHIN / time_base)
        self._least_step = max(1, ceil(LEAST_STEP / time_base))
        self._limit = limit
        self._wraps = limit is BROADCAST and time_base == Fraction(1, 90000)
        self._waiting: deque[_Waiting[Item]] = deque()
        self._steps: deque[int] = deque(maxlen=_RECENT_STEPS)
        self._last: int | None = None
        self._last_stamp: int | None = None
        self._part: tuple[int | None, int] | None = None  # the stamp and the time of its first item
        self._offset = 0
        self._earlier: list[tuple[int, int]] = []  # offsets, and items placed when they ended
        self._placed = 0
        self._in_order = 0  # items since the part began or a stamp was derived
        self._most_waiting = _FAR_LOOKAHEAD + 1
        self.stray = 0
        self.joined = 0

    def limit_waiting(self, count: int) -> None:
        """Let at most ``count`` items, one or more, wait for those after them."""
        self._most_waiting = min(max(count, 1), _FAR_LOOKAHEAD + 1)

    @property
    def usual_step(self) -> int:
        """The usual distance of two items, in units of the time base."""
        return median_low(self._steps) if self._steps else self._declared_step

    def add(self, item: Item, stamp: int | None, *, is_key: bool = False) -> Iterator[Placed[Item]]:
        """Add the next item; yield those whose time is certain now.

        Parameters
        ----------
        item : object
            What is placed.
        stamp : int or None
            Its time stamp, in units of the time base; None if it has none.
        is_key : bool
            Whether a recording may begin with it.
        """
        self._waiting.append(_Waiting(item, stamp, is_key))
        return self._settled(is_end=False)

    def finish(self) -> Iterator[Placed[Item]]:
        """Yield what is left, after the last item was added."""
        return self._settled(is_end=True)

    def _settled(self, *, is_end: bool) -> Iterator[Placed[Item]]:
        while self._waiting:
            complete = is_end or len(self._waiting) >= min(_LOOKAHEAD + 1, self._most_waiting)
            placed = self._first(complete) if self._last is None else self._next(complete, is_end)
            if placed is None:
                return
            self._waiting.popleft()
            yield placed

    def _first(self, complete: bool) -> Placed[Item] | None:
        """Place the first item: where its stamp says, unless the next ones are far from it."""
        if not complete:
            return None
        known = [(i, w.stamp) for i, w in enumerate(self._waiting) if w.stamp is not None]
        if not known:
            return self._at(0, is_derived=True)
        self._learn_step([stamp for _, stamp in known])
        own = self._waiting[0].stamp
        if own is None:
            number, stamp = known[0]
            return self._at(stamp - number * self.usual_step, is_derived=True)
        later = [(number, stamp) for number, stamp in known if stamp != own]
        if len(later) > 1 and self._is_jump(later[0][1] - own):
            (number, stamp), (_, following) = later[:2]
            if not self._is_jump(following - stamp):
                is_derived = abs(stamp - own) < _NOTICEABLE * self._second
                self.stray += not is_derived
                return self._at(stamp - number * self.usual_step, is_derived=is_derived)
        return self._at(own)

    def _learn_step(self, stamps: list[int]) -> None:
        """Take the usual step from the first stamps, if they are evenly spaced."""
        steps = [later - earlier for earlier, later in pairwise(stamps)]
        if len(steps) == _LOOKAHEAD and self._equal_within < max(steps) <= 2 * min(steps):
            self._steps.extend(steps)

    def _next(self, complete: bool, is_end: bool) -> Placed[Item] | None:
        """Place the item that waits longest; None if the ones after it must be seen first."""
        assert self._last is not None
        stamp = self._waiting[0].stamp
        if stamp is None or self._repeats_last(stamp):
            return self._derive(complete)
        step = stamp + self._offset - self._last
        if self._is_usual(step):
            return self._at(self._last + step)
        back = self._return_after(step)
        if back is not None:
            return self._misplaced(step, back)
        if not is_end and self._needs_more(step, stamp):
            return None
        return self._accept(step, is_end)

    def _needs_more(self, step: int, stamp: int) -> bool:
        """Return whether a suspicious step needs more items to be judged.

        A pause does not, if what follows it goes on for a second.
        """
        count = len(self._waiting)
        if count >= self._most_waiting:
            return False
        if count < 2 or not self._is_far(step):
            return count < 2
        latest = self._waiting[-1].stamp
        goes_on = latest is not None and latest - stamp > self._second
        enough = goes_on and (count > _LOOKAHEAD or not self._is_jump(step))
        return not enough

    def _return_after(self, step: int) -> int | None:
        """Return how many items later the stamps are back on the line; None if they are not."""
        assert self._last is not None
        later = [w.stamp for w in self._waiting]
        near = _LOOKAHEAD + 1 if self._is_jump(step) else 2
        for number in range(1, len(later) if self._is_far(step) else min(2, len(later))):
            stamp, before = later[number], later[number - 1]
            if stamp is None:
                continue
            distance = stamp + self._offset - self._last
            if distance < self._least_step or self._exceeds(distance) or 0 < step <= distance:
                continue
            if number >= near and not self._is_due(distance, number):
                continue
            if number == 1 or before is None or not self._is_usual(stamp - before):
                return number
        return None

    def _is_due(self, distance: int, number: int) -> bool:
        """Return whether an item is so far ahead as the number of those before it suggests."""
        due = (number + 1) * self.usual_step
        return due <= 2 * distance <= 2 * _LONG_STEP * due

    def _misplaced(self, step: int, back: int) -> Placed[Item]:
        """Place an item whose stamp is off, while a later one is right again."""
        is_derived = abs(step) < _NOTICEABLE * self._second
        self.stray += not is_derived
        return self._at(self._time_before(back), is_derived=is_derived)

    def _derive(self, complete: bool) -> Placed[Item] | None:
        """Place an item without a stamp of its own."""
        assert self._last is not None
        for number, later in enumerate(self._waiting):
            if later.stamp is None or self._repeats_last(later.stamp, number + 1):
                continue
            if later.stamp + self._offset - self._last >= self._least_step:
                return self._at(self._time_before(number), is_derived=True)
            break
        else:
            if not complete:
                return None
        return self._at(self._last + self.usual_step, is_derived=True)

    def _time_before(self, number: int) -> int:
        """Return a time for the first waiting item, as the one ``number`` later is right."""
        assert self._last is not None
        right = self._waiting[number].stamp
        assert right is not None
        share = (right + self._offset - self._last) // (number + 1)
        return self._last + max(self._least_step, min(self.usual_step, share))

    def _accept(self, step: int, is_end: bool) -> Placed[Item]:
        """Place an item after a long pause, or close the jump before it."""
        assert self._last is not None
        stamp = self._waiting[0].stamp
        assert stamp is not None
        if not self._is_jump(step):
            returned = self._return_to_earlier(stamp, int(_LONG_STEP * self.usual_step))
            return returned or self._at(self._last + step)
        if step < self._least_step and not self._goes_on_from(stamp):
            return self._at(self._last + self.usual_step, is_derived=True)
        if is_end and len(self._waiting) == 1:  # the video's last
            self.stray += 1
            return self._at(self._last + self.usual_step)
        return self._close_jump(stamp, step)

    def _close_jump(self, stamp: int, step: int) -> Placed[Item]:
        """Place the first item after a jump."""
        assert self._last is not None
        if self._wraps and 0 < step + _WRAP <= self._limit.seconds * self._second:
            self._offset += _WRAP
            return self._at(self._last + step + _WRAP)
        if returned := self._return_to_earlier(stamp, self._second):
            return returned
        time = self._last + self.usual_step
        if self._repeats(stamp):
            self._offset = time - stamp
            return self._at(time, is_derived=True)
        self._earlier = [*self._earlier[-_EARLIER_OFFSETS:], (self._offset, self._placed)]
        self._offset = time - stamp
        self.joined += 1
        return self._at(time, begins_part=True)

    def _return_to_earlier(self, stamp: int, longest: int) -> Placed[Item] | None:
        """Place an item at an earlier offset, if it is due there: what lay between was stray."""
        assert self._last is not None
        for number, (offset, placed) in enumerate(self._earlier):
            if self._least_step <= stamp + offset - self._last <= longest:
                self.stray += self._placed - placed
                self.joined -= len(self._earlier) - number
                del self._earlier[number:]
                self._offset = offset
                return self._at(stamp + offset)
        return None

    def _repeats(self, stamp: int) -> bool:
        """Return whether a stamp is near that of the part's first item, which is only just over.

        Some streams repeat a stamp, and libav derives those in between.
        """
        assert self._part is not None and self._last is not None
        first, time = self._part
        short = _SHORT_PART * self._second
        if first is None or not 0 <= stamp - first < short or self._last - time >= short:
            return False
        if stamp == first and self._waiting[0].is_key and self._in_order >= _SEVERAL:
            return False
        self._part = first, self._last
        return True

    def _goes_on_from(self, stamp: int) -> bool:
        """Return whether the stamps after one that stepped back ascend from there."""
        assert self._last is not None
        if self._last - stamp - self._offset > _NOTICEABLE * self._second:
            return True
        later = self._waiting[1].stamp if len(self._waiting) > 1 else None
        return later is not None and later > stamp

    def _repeats_last(self, stamp: int, items: int = 1) -> bool:
        """Return whether a stamp, so many items later, is no later than the last one."""
        last = self._last_stamp
        return last is not None and abs(stamp - last) <= items * self._equal_within

    def _is_usual(self, step: int) -> bool:
        return self._least_step <= step <= _LONG_STEP * self.usual_step

    def _is_far(self, step: int) -> bool:
        return self._is_jump(step) or step >= _NOTICEABLE * self._second

    def _is_jump(self, step: int) -> bool:
        return step < self._least_step or self._exceeds(step)

    def _exceeds(self, step: int) -> bool:
        limit = self._limit
        return step > max(limit.seconds * self._second, limit.steps * self.usual_step)

    def _at(
        self, time: int, *, is_derived: bool = False, begins_part: bool = False
    ) -> Placed[Item]:
        if self._last is not None and not begins_part and not is_derived:
            self._steps.append(time - self._last)
        waiting = self._waiting[0]
        self._last, self._last_stamp = time, waiting.stamp
        if self._part is None or begins_part:
            self._part = waiting.stamp, time
        self._placed += 1
        self._in_order = 1 if is_derived or begins_part else self._in_order + 1
        return Placed(waiting.item, time, begins_part, is_derived)
