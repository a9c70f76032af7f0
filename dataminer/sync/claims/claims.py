"""Claim rows, and keep the claims alive: every write is fenced by the claim's lease."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataminer.errors import DataminerError
from dataminer.sync.claims import statements
from dataminer.sync.claims.execution import PATIENCE, execute, fetch_all
from dataminer.sync.claims.owners import owner_name
from dataminer.sync.claims.stage_rows import DOWNLOAD, StageRows, running_statuses


class LeaseLost(DataminerError):
    """Another job took this claim over; nothing of this job's result was written."""

    @classmethod
    def of(cls, held: Claim) -> LeaseLost:
        """Return the error for a claim that was lost."""
        return cls(
            f"the {held} was taken over by another job, so this one stopped and changed nothing",
            "nothing: the other job's result counts",
        )


@dataclass(frozen=True)
class Claim:
    """The right to work on one row until the lease moves on.

    Parameters
    ----------
    stage : StageRows
        The stage that works on the row.
    key : Mapping
        The row's key columns and their values.
    lease : int
        The number that fences every write of this claim.
    attempts : int
        The number of attempts since the last result, this one included.
    again : bool
        Whether an earlier attempt may have left files. An attempt that was killed with its whole
        job is not counted.
    failures : int
        The number of transient failures since the last result.
    failing_seconds : float
        The time since the first of them.
    """

    stage: StageRows
    key: Mapping[str, Any]
    lease: int
    attempts: int
    again: bool = True
    failures: int = 0
    failing_seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.stage.name} of {' '.join(str(value) for value in self.key.values())}"


@dataclass(frozen=True)
class RowState:
    """What a row says at this moment."""

    status: str
    lease: int
    locked_by: str | None
    error: str | None
    error_class: str | None
    suspect: bool
    kills: int
    made: str | None


def claim(
    stage: StageRows,
    key: Mapping[str, Any],
    *,
    stale_seconds: float,
    dead_lease: int | None = None,
    seen: str | None = None,
    patience: float = PATIENCE,
) -> Claim | None:
    """Claim the row that ``key`` names; None if it is held, or its status does not allow the stage.

    Parameters
    ----------
    stage, key : StageRows, Mapping
        The stage, and the row by its key columns.
    stale_seconds : float
        A holder without a heartbeat for so long, by the database's clock, has lost the row.
    dead_lease : int or None
        The lease of a holder that is known to be dead: it is not waited for.
    seen : str or None
        The status that was read before: if the row has left it since and nobody holds it, it is
        not claimed.
    patience : float
        Seconds to wait for a database that is away.
    """
    values = {
        "running": stage.running,
        "idle": [status for status in stage.idle if seen in (None, status)],
        "held": list(running_statuses(stage.table)),
        "owner": owner_name(),
        "stale": stale_seconds,
        "dead_lease": dead_lease,
    }
    row = execute(statements.CLAIM, stage, key, values, patience=patience)
    return Claim(stage, dict(key), *row) if row else None


def claim_new(videos: Iterable[str]) -> dict[str, tuple[Claim, tuple[str, str | None, str | None]]]:
    """Claim those of some videos that wait for their download, in one statement.

    Returns
    -------
    dict of str to tuple
        By video: the claim; the link, the row's ``downloaded_with``, and the list that named it.
    """
    values = {
        "videos": list(videos),
        "ready": DOWNLOAD.released,
        "running": DOWNLOAD.running,
        "owner": owner_name(),
    }
    rows = fetch_all(statements.CLAIM_NEW, DOWNLOAD, values, patience=PATIENCE)
    return {
        video_id: (Claim(DOWNLOAD, {"video_id": video_id}, *lease), (url, fetched_with, origin))
        for video_id, url, fetched_with, origin, *lease in rows
    }


def own_claims(videos: Iterable[str]) -> list[Claim]:
    """Return the claims of this process on the downloads of some videos."""
    values = {"videos": list(videos), "running": DOWNLOAD.running, "owner": owner_name()}
    rows = fetch_all(statements.OWN_CLAIMS, DOWNLOAD, values, patience=PATIENCE)
    return [Claim(DOWNLOAD, {"video_id": video_id}, lease, 0) for video_id, lease in rows]


def suspects(stage: StageRows, videos: Iterable[str]) -> set[str]:
    """Return those of some videos that were worked on when a job was killed, or still are."""
    values = {"videos": list(videos), "running": stage.running}
    rows = fetch_all(statements.SUSPECTS, stage, values, patience=PATIENCE, keep=False)
    return {video_id for (video_id,) in rows}


def postponed(stage: StageRows, videos: Iterable[str], project_id: int | None) -> dict[str, str]:
    """Return which of some videos killed their jobs too often to be tried now, and their errors."""
    values = {"videos": list(videos), "project_id": project_id}
    return dict(fetch_all(statements.POSTPONED, stage, values, patience=PATIENCE))


def read_row(stage: StageRows, key: Mapping[str, Any]) -> RowState | None:
    """Return what the row says, or None if there is no such row."""
    row = execute(statements.READ_ROW, stage, key, {}, patience=PATIENCE)
    return RowState(*row) if row else None


def beat(held: Claim) -> bool:
    """Record that the holder is alive; return False if the lease has moved on."""
    values = {"lease": held.lease, "running": held.stage.running}
    return bool(execute(statements.BEAT, held.stage, held.key, values, count=True, keep=False))


def beat_all(held: Sequence[Claim]) -> list[Claim]:
    """Record that the holder of downloads is alive; return the claims that this did not reach.

    Their lease may have moved on, or their row is being written at this moment.
    """
    values = {
        "videos": [one.key["video_id"] for one in held],
        "leases": [one.lease for one in held],
        "running": DOWNLOAD.running,
    }
    rows = fetch_all(statements.BEAT_ALL, DOWNLOAD, values, keep=False)
    alive = {video_id for (video_id,) in rows}
    return [one for one in held if one.key["video_id"] not in alive]


def is_recorded(held: Claim) -> bool:
    """Tell whether the row has the result that was made under this claim."""
    row = execute(statements.READ_ROW, held.stage, held.key, {}, keep=False)
    return row is not None and row[0] in held.stage.done and row[1] == held.lease
