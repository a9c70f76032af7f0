"""The verdict on frames whose hashes are near: whether anything of a size that matters changed.

A glance at the means of a few parts decides most pairs of a still camera: those in which hardly any
part changed, and those in which a few changed much while the rest is as it was. All others are
looked at; see :mod:`dataminer.stages.dedup.changed_share`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from dataminer.frames.thumbnails import PARTS
from dataminer.stages.dedup.changed_share import changed_share
from dataminer.stages.dedup.hamming import I64
from dataminer.stages.dedup.thumbnails import StoredPictures

Shares = NDArray[np.float32]

# in grey levels; the quiet ones are those of noise and a codec's flicker
_QUIET, _LOUD = 3, 30
_LEAST_QUIET, _FEWEST_LOUD = 0.8, 4  # of all parts; parts, which must also be twice as large
_FINEST = 0.005  # of the picture: a smaller object changes the mean of a part too little
_AT_ONCE = 4096
_KEPT_VERDICTS, _KEPT_PICTURES = 1 << 16, 1024
_REPORT_SECONDS = 10.0


class _Verdict(IntEnum):
    UNSURE = 0
    SAME = 1
    CHANGED = 2


class ChangeDetector:
    """Compares frames by their thumbnails.

    Parameters
    ----------
    pictures : StoredPictures
        The frames' thumbnails. A frame without one shows the same as no other.
    min_object : float
        The share of the picture from which on a change counts.
    progress : callable
        Gets a message every few seconds.

    Attributes
    ----------
    aligned : int
        How many pairs a glance could not decide.
    """

    def __init__(
        self,
        pictures: StoredPictures,
        min_object: float,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._means = pictures.means
        self._readable = pictures.readable
        self._least = min_object
        self._progress = progress
        self._reported = time.monotonic()
        self.aligned = 0

        picture = lru_cache(maxsize=_KEPT_PICTURES)(pictures.picture)

        @lru_cache(maxsize=_KEPT_VERDICTS)
        def share(one: int, other: int) -> float:
            return changed_share(picture(one), picture(other), min_object)

        self._share = share

    def changed(self, one: I64, other: I64) -> Shares:
        """Return which share of the picture changed between two frames each.

        Parameters
        ----------
        one, other : ndarray of int64, (m,)
            Rows.

        Returns
        -------
        ndarray of float32, (m,)
            At most ``min_object`` if they show the same.
        """
        shares = np.empty(len(one), np.float32)
        for start in range(0, len(one), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            shares[part] = self._changed(one[part], other[part])
        return shares

    def are_same(self, shares: Shares) -> NDArray[np.bool_]:
        """Return which shares of :meth:`changed` are those of frames that show the same."""
        same: NDArray[np.bool_] = shares <= np.float32(self._least)
        return same

    def _changed(self, one: I64, other: I64) -> Shares:
        verdicts, shares = self._compare_means(one, other)
        unsure = np.flatnonzero(verdicts == _Verdict.UNSURE)
        for index in unsure:
            pair = sorted((int(one[index]), int(other[index])))
            shares[index] = self._share(*pair)
            self.aligned += 1
            self._report()
        return shares

    def _compare_means(self, one: I64, other: I64) -> tuple[NDArray[np.int8], Shares]:
        """Return what is seen at a glance, and which share changed, where that is certain."""
        verdicts = np.full(len(one), _Verdict.UNSURE, np.int8)
        shares = np.zeros(len(one), np.float32)
        first, second = self._means[one], self._means[other]
        if self._least >= _FINEST:
            # most pairs of a still camera; not numpy, which would need wider numbers
            size = cv2.absdiff(first.reshape(len(one), -1), second.reshape(len(one), -1))
            verdicts[np.asarray(size).max(axis=1, initial=0) <= _QUIET] = _Verdict.SAME
        left = np.flatnonzero(verdicts == _Verdict.UNSURE)
        difference = first[left].astype(np.int16) - second[left]
        light = np.median(difference[:, 0, ::5], axis=1).astype(np.int16)  # a sample is enough
        difference[:, 0] -= light[:, None]
        loudest = np.abs(difference).max(axis=1)  # of luma and both colours
        loud, quiet = (loudest > _LOUD).sum(axis=1), (loudest <= _QUIET).mean(axis=1)
        if self._least >= _FINEST:
            verdicts[left[loudest.max(axis=1) <= _QUIET]] = _Verdict.SAME
        fewest = max(_FEWEST_LOUD, 2 * self._least * PARTS)
        changed = (loud >= fewest) & (quiet >= _LEAST_QUIET)
        verdicts[left[changed]], shares[left[changed]] = _Verdict.CHANGED, loud[changed] / PARTS
        unknown = ~(self._readable[one] & self._readable[other])
        verdicts[unknown], shares[unknown] = _Verdict.CHANGED, 1
        return verdicts, shares

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._reported > _REPORT_SECONDS:
            self._reported = now
            self._progress(f"looked closely at {self.aligned:,} pairs of frames so far")
