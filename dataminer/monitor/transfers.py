"""What has come of downloads under way, from the files that they write in the store."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dataminer.monitor.rates import WINDOW, Ended
from dataminer.stages.download import partial

STILL = 150.0  # seconds without growth: a pause; two looks are up to two minutes apart
_SHARE = 0.05  # of the time that is spent on listing the store's videos


@dataclass
class _Transfer:
    """The bytes of one transfer, each time that it had more of them."""

    grown: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def size(self) -> int:
        return self.grown[-1][1]

    def saw(self, now: float, size: int) -> None:
        """Note how large it is; one that began anew, or stood still, is measured from here."""
        if self.grown and size != self.size and (size < self.size or not self.moves(now)):
            self.grown.clear()
        if not self.grown or size != self.size:
            self.grown.append((now, size))
        while now - self.grown[0][0] > WINDOW and len(self.grown) > 1:
            self.grown.popleft()

    def moves(self, now: float) -> bool:
        """Tell whether it grew lately."""
        return now - self.grown[-1][0] <= STILL

    def since(self, now: float) -> Ended:
        """Return what has come of it while somebody looked."""
        at, size = self.grown[0]
        return Ended(now, now - at, size=self.size - size)


class Transfers:
    """Follows the downloads of a run; of a store that cannot be seen, nothing is known.

    Parameters
    ----------
    folder : Path or None
        Where the store keeps its videos.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._found: dict[str, Path] = {}
        self._transfers: dict[str, _Transfer] = {}
        self._now, self._list_at = 0.0, 0.0

    @property
    def size(self) -> int:
        """How many bytes there are of them, in this attempt and earlier ones."""
        return sum(transfer.size for transfer in self._transfers.values())

    @property
    def under_way(self) -> list[Ended]:
        """What has come of those that move, as results of the moment of the last look."""
        moving = (transfer for transfer in self._transfers.values() if transfer.moves(self._now))
        return [transfer.since(self._now) for transfer in moving]

    def read(self, videos: Collection[str], now: float) -> None:
        """Look at the files of the videos that are being downloaded.

        Parameters
        ----------
        videos : collection of str
            Those.
        now : float
            The time, by the clock of what is measured.
        """
        self._now = now
        # what is whole lies elsewhere a moment before its row says so
        self._transfers = {v: self._transfers[v] for v in videos if v in self._transfers}
        self._found = {v: self._found[v] for v in videos if v in self._found}
        if self._folder is None:
            return
        with suppress(OSError):
            self._list(self._folder, {v for v in videos if v not in self._found})
        for video, folder in [*self._found.items()]:
            try:
                size = partial.bytes_in(folder)
            except OSError:  # taken over by another attempt, or put in place
                del self._found[video]
                continue
            self._transfers.setdefault(video, _Transfer()).saw(now, size)

    def _list(self, folder: Path, videos: set[str]) -> None:
        began = time.monotonic()
        if videos and began >= self._list_at:
            self._found |= dict(partial.attempts(folder, videos))
            self._list_at = time.monotonic() + (time.monotonic() - began) / _SHARE
