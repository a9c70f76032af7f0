"""Which videos share a job: parts of a plan of about the same work, and the list that jobs read."""

from __future__ import annotations

import heapq
import json
import math
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataminer.errors import DataminerError
from dataminer.files.hashing import fingerprint
from dataminer.files.publishing import atomic_write
from dataminer.sync.claims.owners import is_dead

LISTED_FILE = "batches.json"
SHOWN_BY_ITSELF = 12
"""Up to so many videos are a batch each on one machine: a dry run and the DAG show every video."""

_RUN = "[0-9]" * 8 + "-" + "[0-9]" * 6 + "-*"  # the name of a run
_VIDEO = re.compile(rb"^\S+ \S+ [A-Z]+ ([A-Za-z0-9_-]+): ", re.M)  # as a batch's log names it
_DOWNLOADS = 100  # which one process does in passing; its time is spent waiting
_SIDE_BY_SIDE = 4  # that a process downloads at once, at least
_NAMED = 5  # videos that a batch's message lists
_KEEP_SECONDS = 30 * 24 * 3600  # of a run on another machine, of which nothing else is known
_UNKNOWN_SECONDS = 600.0  # of a video whose length nobody told
_LONGEST_SECONDS = 48 * 3600.0  # that a declared length counts as
# Work on a video, in seconds: at least, and per second of the video. Extraction was measured at 8
# (1080p) and 2 (4K) times playing speed on one old core.
_LEAST, _EACH = 2.0, 0.25
# seconds that a download takes, at least and per second of the video: 1080p at 10 MB/s
_DOWNLOAD_LEAST, _DOWNLOAD_EACH = 5.0, 1 / 40

Members = Mapping[str, Sequence[str]]


def estimate(seconds: float | None) -> float:
    """Return about how many seconds all stages work on a video of this length."""
    return _LEAST + _EACH * _length(seconds)


def estimate_download(seconds: float | None, at_once: int) -> float:
    """Return about how long a job downloads a video of this length, of so many at once."""
    return (_DOWNLOAD_LEAST + _DOWNLOAD_EACH * _length(seconds)) / at_once


def _length(seconds: float | None) -> float:
    """Return what a declared length counts as; strangers declare it."""
    if seconds is None or not seconds >= 0:
        return _UNKNOWN_SECONDS
    return min(seconds, _LONGEST_SECONDS)


def share_of_several(downloads: int) -> int:
    """Return how many downloads at once one of several batches makes, of what all may.

    Half of them: the slowest of one batch does not hold up all.
    """
    return math.ceil(downloads / 2)


def name_of(videos: Sequence[str]) -> str:
    """Return the name of a batch: the id of its only video, or a digest."""
    return videos[0] if len(videos) == 1 else fingerprint("batch", list(videos))


def mark_of(folder: Path, rule: str, batch: str) -> str:
    """Return what a job leaves in the folder of its run to say that it is done."""
    return str(folder / rule / f"{batch}.done")


def part(
    videos: Iterable[str],
    work: Mapping[str, float],
    *,
    count: int,
    most: int | None = None,
    alone: Iterable[str] = (),
) -> list[tuple[str, ...]]:
    """Part videos into batches of about the same work.

    Parameters
    ----------
    videos : iterable of str
        What to part; the result does not depend on their order.
    work : mapping of str to float
        Seconds that each video takes.
    count : int
        How many batches there shall be, at least 1.
    most : int, optional
        No batch holds more videos.
    alone : iterable of str
        Videos that were in work when a job was killed: each is a batch by itself.

    Returns
    -------
    list of tuple of str
        The batches, sorted, each with the longest video first: it must not be begun last.
    """
    by_themselves = sorted(set(alone))
    rest = sorted(set(videos) - set(by_themselves), key=lambda v: (-work[v], v))
    if most:
        count = max(count, math.ceil(len(rest) / most))
    # the longest first, each to the batch with the least work so far
    piles: list[tuple[float, int, int]] = [(0.0, 0, number) for number in range(count)]
    parts: list[list[str]] = [[] for _ in piles]
    for video in rest:
        filled, size, number = heapq.heappop(piles)
        parts[number].append(video)
        if most is None or size + 1 < most:
            heapq.heappush(piles, (filled + work[video], size + 1, number))
    batches = [tuple(videos) for videos in parts if videos]
    return sorted([*batches, *((video,) for video in by_themselves)])


def logs_of(folder: Path) -> list[Path]:
    """Return the logs of a stage's batches, the newest first.

    Parameters
    ----------
    folder : Path
        Of the stage's logs, for filter those of one project.
    """
    written = {}
    for path in folder.glob(f"{_RUN}/*.log"):
        with suppress(OSError):  # another run removes it
            written[path] = path.stat().st_mtime
    return sorted(written, key=written.__getitem__, reverse=True)


def remove_old(runs: Path, logs: Path) -> None:
    """Remove what runs left that have ended, but for logs that are still of use.

    These are the logs of the last run, and the last log of each video at each stage.

    Parameters
    ----------
    runs : Path
        The parent of the folders of all runs.
    logs : Path
        The parent of the folders of all rules' logs.
    """
    for listed in runs.glob("*/*.json"):
        owner = json.loads(listed.read_text("utf-8"))["owner"]
        old = time.time() - listed.stat().st_mtime > _KEEP_SECONDS
        if is_dead(owner) or old:
            shutil.rmtree(listed.parent, ignore_errors=True)
    _remove_logs(logs, {folder.name for folder in runs.glob("*")})


def _remove_logs(logs: Path, at_work: set[str]) -> None:
    of_runs = [path for rule in ("adopt", "batches") for path in logs.glob(f"{rule}/{_RUN}.log")]
    last = max((path.stem for path in of_runs if path.stem not in at_work), default="")
    kept = {*at_work, last}
    stages = (logs / "download", logs / "extract", logs / "embed", *logs.glob("filter/*"))
    for folder in stages:
        kept |= _remove_older(folder, {*at_work, last})
    for path in of_runs:
        if path.stem not in kept:
            path.unlink(missing_ok=True)


def _remove_older(folder: Path, kept: set[str]) -> set[str]:
    """Remove logs whose videos all have newer ones; return the runs of which some are left."""
    named: set[bytes] = set()
    left = set()
    for path in logs_of(folder):
        with suppress(OSError):
            videos = {*_VIDEO.findall(path.read_bytes())}
            if path.parent.name in kept or not videos <= named:
                left.add(path.parent.name)
            else:
                path.unlink()
            named |= videos
    for run in folder.glob(_RUN):
        if run.name not in kept:  # else a job may be about to write there
            with suppress(OSError):  # not empty
                run.rmdir()
    return left


@dataclass(frozen=True)
class BatchList:
    """The batches of a run: as it planned them, and as its jobs read them.

    Parameters
    ----------
    folder : Path
        Of the run: where its jobs say that they are done.
    members : mapping
        The videos of each batch, by rule and batch.
    owner : str
        Whose run it is, see :func:`dataminer.sync.claims.owners.owner_name`.
    slots : int
        How many videos a job works on at once, if it has so many.
    downloads : int
        How many all jobs together download at once.
    forced : sequence of str
        Stages whose results are made anew.
    datasets : mapping
        By project, which of ``dedup``, ``detect`` and ``report`` the run makes.
    projects : sequence of str
        Whose run it is.
    """

    folder: Path
    members: Mapping[str, Members]
    owner: str
    slots: int
    downloads: int = 1
    forced: Sequence[str] = ()
    datasets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    projects: Sequence[str] = ()

    @classmethod
    def read(cls, path: Path) -> BatchList:
        """Read what :meth:`write` wrote."""
        return cls(path.parent, **json.loads(path.read_text("utf-8")))

    def write(self) -> None:
        """Write it down for the jobs."""
        with atomic_write(self.path) as partial:
            partial.write_text(json.dumps(self.told()), encoding="utf-8")

    @property
    def path(self) -> Path:
        """Where it is written down."""
        return self.folder / LISTED_FILE

    def told(self) -> dict[str, Any]:
        """Return what is written down."""
        return {name: value for name, value in vars(self).items() if name != "folder"}

    def videos(self, rule: str, batch: str) -> Sequence[str]:
        """Return the videos of a batch.

        Raises
        ------
        DataminerError
            When there is no such batch.
        """
        try:
            return self.members[rule][batch]
        except KeyError as error:
            raise DataminerError(
                f"{self.path} lists no batch {batch} of {rule}", "run snakemake again"
            ) from error

    def marks(self, rule: str) -> list[str]:
        """Return what the jobs of a rule leave, one file per batch."""
        return [mark_of(self.folder, rule, batch) for batch in self.members.get(rule, ())]

    def mark(self, rule: str, batch: str) -> list[str]:
        """Return what the job of a rule leaves for one batch, if there is such a job."""
        found = batch in self.members.get(rule, {})
        return [mark_of(self.folder, rule, batch)] if found else []

    def first_videos(self, rule: str, batch: str) -> str:
        """Name the first videos of a batch, for its message."""
        videos = self.videos(rule, batch)
        more = len(videos) - _NAMED
        return ", ".join(videos[:_NAMED]) + (f" and {more} more" if more > 0 else "")

    def workers(self, rule: str, batch: str) -> int:
        """Return how many processes work on a batch: one per video, or for many downloads."""
        videos = len(self.videos(rule, batch))
        if rule == "download":
            at_once = self.side_by_side(rule, batch)
            videos = min(math.ceil(videos / _DOWNLOADS), max(1, at_once // _SIDE_BY_SIDE))
        return min(self.slots, videos)

    def side_by_side(self, rule: str, batch: str) -> int:
        """Return how many videos of a batch are downloaded at once."""
        several = len(self.members[rule]) > 1
        most = share_of_several(self.downloads) if several else self.downloads
        return min(most, len(self.videos(rule, batch)))


def forced_since(listed: str | Sequence[str] | None, stage: str) -> float | None:
    """Return since when a run makes results anew; None if it does not.

    Parameters
    ----------
    listed : str or None
        The list of batches, an input that few jobs have.
    stage : str
        The stage.
    """
    if not listed:
        return None
    told = BatchList.read(Path(str(listed)))
    return told.path.stat().st_mtime if stage in told.forced else None
