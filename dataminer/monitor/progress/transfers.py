"""The bytes received by current downloads, from the files that they write in the store."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dataminer.monitor.progress.rates import WINDOW, Ended
from dataminer.stages.download import partial

STILL = 150.0  # seconds without growth: a pause; updates are up to two minutes apart
_SHARE = 0.05  # maximum share of time for listing the store's videos


@dataclass
class _Transfer:
    """The bytes of one transfer over time."""

    grown: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def size(self) -> int:
        return self.grown[-1][1]

    def saw(self, now: float, size: int) -> None:
        """Record its size; a transfer that restarted or was stalled is measured from here."""
        if self.grown and size != self.size and (size < self.size or not self.moves(now)):
            self.grown.clear()
        if not self.grown or size != self.size:
            self.grown.append((now, size))
        while now - self.grown[0][0] > WINDOW and len(self.grown) > 1:
            self.grown.popleft()

    def moves(self, now: float) -> bool:
        """Return whether it grew recently."""
        return now - self.grown[-1][0] <= STILL

    def since(self, now: float) -> Ended:
        """Return the bytes received while it was observed."""
        at, size = self.grown[0]
        return Ended(now, now - at, size=self.size - size)


class Transfers:
    """Tracks the downloads of a run; finds nothing if the store is not visible.

    Parameters
    ----------
    folder : Path or None
        The store's folder of videos.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._found: dict[str, Path] = {}
        self._transfers: dict[str, _Transfer] = {}
        self._now, self._list_at = 0.0, 0.0

    @property
    def size(self) -> int:
        """The bytes received so far, in this attempt and earlier ones."""
        return sum(transfer.size for transfer in self._transfers.values())

    @property
    def under_way(self) -> list[Ended]:
        """The bytes of transfers that grow, as results at the time of the last update."""
        moving = (transfer for transfer in self._transfers.values() if transfer.moves(self._now))
        return [transfer.since(self._now) for transfer in moving]

    def read(self, videos: Collection[str], now: float) -> None:
        """Read the file sizes of videos that are being downloaded.

        Parameters
        ----------
        videos : collection of str
            The ids of the videos.
        now : float
            The time, by the clock used for the measurements.
        """
        self._now = now
        # A complete file is moved a moment before its row is updated
        self._transfers = {v: self._transfers[v] for v in videos if v in self._transfers}
        self._found = {v: self._found[v] for v in videos if v in self._found}
        if self._folder is None:
            return
        with suppress(OSError):
            self._list(self._folder, {v for v in videos if v not in self._found})
        for video, folder in [*self._found.items()]:
            try:
                size = partial.bytes_in(folder)
            except OSError:  # taken over by another attempt, or moved to its final path
                del self._found[video]
                continue
            self._transfers.setdefault(video, _Transfer()).saw(now, size)

    def _list(self, folder: Path, videos: set[str]) -> None:
        began = time.monotonic()
        if videos and began >= self._list_at:
            self._found |= dict(partial.attempts(folder, videos))
            self._list_at = time.monotonic() + (time.monotonic() - began) / _SHARE
