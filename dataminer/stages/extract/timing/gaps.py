"""Gaps in the times of a stream of constant rate: frames are missing there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataminer.video.decoder import MAX_REORDER_DEPTH

_GAP_STEPS = 1.5  # usual steps; a longer one is a gap
_STEADY_SHARE = 0.95  # of all steps that are usual ones, at a constant rate
_GAP_SHARE = 0.03  # of all steps; more gaps, or longer steps that are stated, are a variable rate
_FEW_GAPS = 3  # that a short video may have whatever their share
_TOLERANCE = 0.1  # of a usual step that one may be off, besides one unit for rounding
_EXPLAINED = 0.75  # of a step that a frame's own duration covers: it is shown for that long
_MIN_STEPS = 10  # to call a rate constant


def find_gaps(
    times: NDArray[np.int64],
    durations: NDArray[np.int64],
    reorder_depth: int,
    decoding_times: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find where frames are missing.

    Recordings of variable rate have no gaps, nor have frames that state to be shown for longer.

    Parameters
    ----------
    times, durations : ndarray of int64, (n,)
        When frames are shown, ascending; for how long, as the file states, or 0.
    reorder_depth : int
        How far the order of decoding is from that of presentation. An MP4 states durations in the
        order of decoding, so that the one that explains a gap may be as far away.
    decoding_times : ndarray of int64, (n,), optional
        When frames are decoded: something was due in a gap if these fall into it.

    Returns
    -------
    positions, counts : ndarray of int64, (k,)
        The frames before which others are missing, and how many.
    """
    steps, none = np.diff(times), (np.empty(0, np.int64), np.empty(0, np.int64))
    if len(steps) < _MIN_STEPS:
        return none
    usual = usual_step(steps)
    steady = np.count_nonzero(np.abs(steps - usual) <= max(1, _TOLERANCE * usual))
    positions = np.flatnonzero(steps >= _GAP_STEPS * usual)
    is_steady = steady >= min(_STEADY_SHARE * len(steps), len(steps) - _FEW_GAPS)
    if not is_steady or not 0 < len(positions) <= max(_FEW_GAPS, _GAP_SHARE * len(steps)):
        return none
    window = 2 * min(reorder_depth, MAX_REORDER_DEPTH)
    longest = [durations[max(0, p - window) : p + window + 1].max() for p in positions]
    is_stated = longest >= _EXPLAINED * steps[positions]
    is_loss = [_is_filled(times, decoding_times, p, usual) for p in positions.tolist()]
    positions = positions[~is_stated | is_loss]
    return positions + 1, np.rint(steps[positions] / usual).astype(np.int64) - 1


def _is_filled(
    times: NDArray[np.int64], decoding_times: NDArray[np.int64] | None, position: int, usual: int
) -> bool:
    """Return whether pictures are decoded at times at which none is shown.

    Encoders take the times at which pictures are shown, in their order, for those of decoding, or
    the same less a constant. If a picture is taken out, one of each is missing: not the same one.
    """
    if decoding_times is None or len(decoding_times) != len(times):
        return False
    delays = times - np.sort(decoding_times)
    if np.ptp(delays) <= max(1, _TOLERANCE * usual):
        return False
    begin, end = times[position] + usual // 2, times[position + 1] - usual // 2
    return bool(np.any((decoding_times > begin) & (decoding_times < end)))


def has_long_steps(times: NDArray[np.int64]) -> bool:
    """Return whether any frame is shown clearly longer than is usual."""
    steps = np.diff(times)
    return bool(np.any(steps >= _GAP_STEPS * usual_step(steps)))


def usual_step(steps: NDArray[np.int64]) -> int:
    """Return the median of the distances between frames."""
    return int(np.partition(steps, len(steps) // 2)[len(steps) // 2]) if len(steps) else 0
