"""A batch, and how attempts at its videos end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from dataminer.errors import (
    DataminerError,
    ErrorClass,
    Kind,
    StageError,
    TransientError,
    UncheckedError,
    kind_of,
)
from dataminer.sync.claims import projects
from dataminer.sync.claims.claims import LeaseLost
from dataminer.sync.jobs.failures import FramesLost, ModelOutputsLost, NotReady, SourceChanged
from dataminer.sync.tasks.task import Busy, Deleted
from dataminer.sync.workers.tasks import Lost

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """What a job of a stage works through.

    Parameters
    ----------
    stage : str
        ``download``, ``extract`` or ``filter``.
    videos : sequence of str
        The ids of the videos.
    project : str or None
        The project for which they are filtered.
    forced : bool
        Make results again, even if they exist.
    """

    stage: str
    videos: Sequence[str]
    project: str | None = None
    forced: bool = False

    @cached_property
    def project_id(self) -> int | None:
        """The project's number."""
        return projects.project_id_of(self.project) if self.project else None


class Ending(StrEnum):
    """How one attempt at one video ended, for the batch."""

    DONE = "done"  # recorded, a failure for good included
    NOT_READY = "not_ready"  # its input waits for the next attempt at an earlier stage
    BUSY = "busy"  # another run works on it
    TRANSIENT = "transient"  # the network and the like: no attempt was counted
    PAUSED = "paused"  # the same, and the end of the pause is known
    COUNTED = "counted"  # an attempt was counted, and more may follow
    SHARED_LOSS = "shared_loss"  # one of several whose worker was lost: no attempt was counted
    MEMORY = "memory"
    DELETED = "deleted"  # while the batch ran
    LOCAL = "local"  # this machine must change first


@dataclass(frozen=True)
class Attempt:
    """The outcome of one attempt, with an error message."""

    ending: Ending
    message: str = ""

    @classmethod
    def of_lost(cls, lost: Lost) -> Attempt:
        """Return the outcome for a video whose worker was lost."""
        if lost.shared:
            return cls(Ending.SHARED_LOSS, lost.how)
        memory = lost.error_class is ErrorClass.OUT_OF_MEMORY
        return cls(Ending.MEMORY if memory else Ending.COUNTED, lost.how)

    @classmethod
    def of_error(cls, error: Exception) -> Attempt:
        """Log an error; return the outcome."""
        ending = _ending(error)
        known = isinstance(error, DataminerError)
        if ending in (Ending.BUSY, Ending.NOT_READY):
            log.info("%s", error)
        elif known:
            log.error("%s", error)
        else:
            log.exception("failed")
        return cls(ending, str(error) if known else f"{type(error).__name__}: {error}")


def _ending(error: Exception) -> Ending:
    match error:
        case Busy() | LeaseLost():  # the new holder makes the result
            ending = Ending.BUSY
        case FramesLost() | ModelOutputsLost() | SourceChanged():
            ending = Ending.PAUSED
        case Deleted():
            ending = Ending.DELETED
        case NotReady():
            ending = Ending.NOT_READY
        case StageError(error_class=ErrorClass.OUT_OF_MEMORY):
            ending = Ending.MEMORY
        case TransientError(wait=float()):
            ending = Ending.PAUSED
        case UncheckedError() | StageError(error_class=ErrorClass.INTERNAL):
            ending = Ending.COUNTED
        case StageError() if kind_of(error.error_class) is Kind.TRANSIENT:
            ending = Ending.TRANSIENT
        case DataminerError():
            ending = Ending.LOCAL
        case _:
            ending = Ending.COUNTED
    return ending
