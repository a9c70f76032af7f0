"""The list of a run's batches, which its jobs read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataminer.errors import DataminerError
from dataminer.files.publishing import atomic_write
from dataminer.sync.batches.partition import share_of_several

BATCHES_FILE = "batches.json"

_DOWNLOADS_PER_PROCESS = 100  # videos that one process downloads with ease: it mostly waits
_LEAST_AT_ONCE = 4  # downloads per process
_NAMED = 5  # videos that a batch's message lists

Members = Mapping[str, Sequence[str]]


def done_file(folder: Path, rule: str, batch: str) -> str:
    """Return the file by which a batch's job marks itself as done in the folder of its run."""
    return str(folder / rule / f"{batch}.done")


@dataclass(frozen=True)
class BatchList:
    """The batches of a run, as it planned them and as its jobs read them.

    Parameters
    ----------
    folder : Path
        The run's folder, in which its jobs mark themselves as done.
    members : mapping
        The videos of each batch, by rule and batch.
    owner : str
        Who runs it, see :func:`dataminer.sync.claims.claims.owner_name`.
    slots : int
        How many videos a job works on at once, at most.
    downloads : int
        How many videos all jobs together download at once.
    forced : sequence of str
        Stages whose results are made again.
    datasets : mapping
        By project, which of ``dedup``, ``detect`` and ``report`` the run makes.
    projects : sequence of str
        The projects of the run.
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
        """Read a list that :meth:`write` wrote."""
        return cls(path.parent, **json.loads(path.read_text("utf-8")))

    def write(self) -> None:
        """Write the list for the jobs."""
        with atomic_write(self.path) as partial:
            partial.write_text(json.dumps(self.as_json()), encoding="utf-8")

    @property
    def path(self) -> Path:
        """The file of the list."""
        return self.folder / BATCHES_FILE

    def as_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        return {name: value for name, value in vars(self).items() if name != "folder"}

    def videos(self, rule: str, batch: str) -> Sequence[str]:
        """Return the videos of a batch.

        Raises
        ------
        DataminerError
            If there is no such batch.
        """
        try:
            return self.members[rule][batch]
        except KeyError as error:
            raise DataminerError(
                f"{self.path} lists no batch {batch} of {rule}", "run snakemake again"
            ) from error

    def done_files(self, rule: str) -> list[str]:
        """Return the files that mark the jobs of a rule as done, one per batch."""
        return [done_file(self.folder, rule, batch) for batch in self.members.get(rule, ())]

    def done_files_of_batch(self, rule: str, batch: str) -> list[str]:
        """Return the file that marks one batch's job as done; none if there is no such job."""
        exists = batch in self.members.get(rule, {})
        return [done_file(self.folder, rule, batch)] if exists else []

    def first_videos(self, rule: str, batch: str) -> str:
        """Name the first videos of a batch, for its message."""
        videos = self.videos(rule, batch)
        more = len(videos) - _NAMED
        return ", ".join(videos[:_NAMED]) + (f" and {more} more" if more > 0 else "")

    def workers(self, rule: str, batch: str) -> int:
        """Return how many processes work on a batch: one per video or group of downloads."""
        count = len(self.videos(rule, batch))
        if rule == "download":
            at_once = self.downloads_at_once(rule, batch)
            by_downloads = max(1, at_once // _LEAST_AT_ONCE)
            count = min(math.ceil(count / _DOWNLOADS_PER_PROCESS), by_downloads)
        return min(self.slots, count)

    def downloads_at_once(self, rule: str, batch: str) -> int:
        """Return how many videos of a batch are downloaded at once."""
        several = len(self.members[rule]) > 1
        most = share_of_several(self.downloads) if several else self.downloads
        return min(most, len(self.videos(rule, batch)))


def forced_since(batches_file: str | Sequence[str] | None, stage: str) -> float | None:
    """Return when a run that makes a stage's results again began; None if it does not.

    Parameters
    ----------
    batches_file : str or None
        The list of batches, an input that few jobs have.
    stage : str
        The stage.
    """
    if not batches_file:
        return None
    batches = BatchList.read(Path(str(batches_file)))
    return batches.path.stat().st_mtime if stage in batches.forced else None
