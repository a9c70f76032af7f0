"""A stage's work on one row, described: its result, how to make it and how to record it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dataminer.config import MonitorConfig
from dataminer.errors import DataminerError, ErrorClass, InputChanged
from dataminer.files.flushing import fsync_tree
from dataminer.sync.claims import claim_end
from dataminer.sync.claims.claims import Claim
from dataminer.sync.claims.heartbeat import kept_alive
from dataminer.sync.claims.stage_rows import StageRows


@dataclass(frozen=True)
class TaskOptions:
    """How a stage is run for one video.

    Parameters
    ----------
    patient : bool
        Wait while another process works on the video.
    forced : bool
        Make the result again, even if it is up to date.
    threads : int
        The number of threads it may use.
    """

    patient: bool = True
    forced: bool = False
    threads: int = 1


@dataclass(frozen=True)
class TaskOutcome:
    """What finished files say, in the row's terms.

    Parameters
    ----------
    status : str
        The status of a row with these files.
    columns : dict
        The other columns of the row.
    fingerprint : str
        The fingerprint of the input and the settings that the files were made from.
    """

    status: str
    columns: dict[str, Any]
    fingerprint: str


@dataclass(frozen=True)
class StageTask:
    """One stage for one row.

    Parameters
    ----------
    stage : StageRows
        The stage.
    key : Mapping
        The row.
    final : Path
        The folder of the result.
    fingerprint : str
        Of the input and the settings: a whole result that carries it is up to date.
    make : callable
        Makes the result in the given folder.
    read : callable
        Reads what the files of a folder say; None if they are absent or not whole.
    write_failure : callable or None
        Writes the result of a failed video into the given folder. None if a failure is not data
        (stages of a project).
    fall_back : callable
        Returns what there is to go on with after a permanent failure; None if there is nothing.
    update_links : callable
        Points the links that people follow to this result, once it is in place.
    forced : bool
        Make the result again, even if it is up to date.
    read_input_state : callable
        Returns the present state of the input, as something that can be compared.
    input_state : object
        The state before anything of the input was read, its fingerprint included.
    """

    stage: StageRows
    key: Mapping[str, Any]
    final: Path
    fingerprint: str
    make: Callable[[Path], None]
    read: Callable[[Path], TaskOutcome | None]
    write_failure: Callable[[Path, DataminerError, ErrorClass], None] | None = field(default=None)
    fall_back: Callable[[DataminerError, ErrorClass], TaskOutcome | None] = lambda *_: None
    update_links: Callable[[], None] = lambda: None
    forced: bool = False
    read_input_state: Callable[[], object] = lambda: None
    input_state: object = None

    def refuse_change(self) -> None:
        """Stop if the input has changed since its fingerprint was taken.

        Raises
        ------
        InputChanged
            If it was replaced, changed or removed.
        """
        if self.read_input_state() != self.input_state:
            raise InputChanged(self.final)


class Keeper(Protocol):
    """Keeps claims alive while their tasks run, and records the results."""

    def kept_alive(self, held: Claim, settings: MonitorConfig, /) -> AbstractContextManager[None]:
        """Keep a claim for the block, see :func:`dataminer.sync.claims.heartbeat.kept_alive`."""

    def flush(self, folder: Path, /) -> None:
        """Flush the folder of a result to the disk."""

    def finish(
        self,
        held: Claim,
        status: str,
        columns: Mapping[str, Any],
        publish: Callable[[], object],
        cost: Mapping[str, Any] | None = None,
        /,
    ) -> None:
        """Publish a result and record it, see :func:`dataminer.sync.claims.claim_end.finish`."""


class SingleClaimKeeper:
    """Keeps the only claim of a process."""

    kept_alive = staticmethod(kept_alive)
    flush = staticmethod(fsync_tree)
    finish = staticmethod(claim_end.finish)


SINGLE_CLAIM = SingleClaimKeeper()


class Deleted(DataminerError):
    """The row has been deleted."""

    def __init__(self, key: Mapping[str, Any]) -> None:
        what = f"video {key['video_id']}" if "video_id" in key else "project"
        super().__init__(
            f"{what} was deleted", "add it again; `dataminer populate` does if it is listed"
        )


class Busy(DataminerError):
    """Another process is working on the row."""
