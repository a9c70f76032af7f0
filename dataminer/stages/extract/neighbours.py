"""The frames shown before and after an interlaced one, by which its fields are judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from dataminer.stages.extract.decode_stats import DecodedFrame


class NeighboursNeededError(Exception):
    """A frame is interlaced, and those before and after it were not to be decoded."""


def with_neighbours(
    frames: Iterable[tuple[DecodedFrame, bool]], are_there: bool, *, all_interlaced: bool
) -> Iterator[DecodedFrame]:
    """Yield the selected frames, interlaced ones with those shown before and after them.

    Parameters
    ----------
    frames : iterable of (DecodedFrame, bool)
        Frames in presentation order, and whether they are selected.
    are_there : bool
        Whether the neighbours of all selected frames are among them.
    all_interlaced : bool
        Whether the file says so; otherwise each frame does.

    Raises
    ------
    NeighboursNeededError
        If a selected frame is interlaced, and ``are_there`` is not set.
    """
    waiting: DecodedFrame | None = None
    last: DecodedFrame | None = None  # if it is interlaced
    for frame, is_selected in frames:
        is_interlaced = all_interlaced or frame.frame.interlaced_frame
        if is_selected and is_interlaced and not are_there:
            raise NeighboursNeededError
        if waiting:
            before = waiting.neighbours[0]
            after = frame.frame if _follows(waiting, frame) else None
            yield replace(waiting, neighbours=(before, after))
            waiting = None
        if is_selected and not is_interlaced:
            yield frame
        elif is_selected:
            before = last.frame if last and _follows(last, frame) else None
            waiting = replace(frame, neighbours=(before, None))
        last = frame if is_interlaced else None
    if waiting:
        yield waiting


def _follows(first: DecodedFrame, second: DecodedFrame) -> bool:
    """Return whether two frames are shown one after the other, and can be compared."""
    return (
        second.index == first.index + 1
        and not second.begins_part
        and not (first.frame.is_corrupt or second.frame.is_corrupt)
        and (first.frame.width, first.frame.height) == (second.frame.width, second.frame.height)
    )
