"""How a claim ends: its result is published and recorded, or it is given back without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extras import Json

from dataminer.config import MonitorConfig
from dataminer.db.connection import transaction
from dataminer.errors import NEXT_STEP, DataminerError, ErrorClass
from dataminer.sync.claims import statements
from dataminer.sync.claims.claims import Claim, LeaseLost, RowState
from dataminer.sync.claims.execution import PATIENCE, adapt, compose, execute
from dataminer.sync.claims.owners import session_name
from dataminer.sync.claims.stage_rows import DOWNLOAD, StageRows


@dataclass(frozen=True)
class Result:
    """A result to publish and record; its fields are the parameters of :func:`finish`."""

    held: Claim
    status: str
    columns: Mapping[str, Any]
    publish: Callable[[], object]
    cost: Mapping[str, Any] | None = None


def finish_all(results: Sequence[Result]) -> list[Result]:
    """Publish and record the results of several downloads in one transaction.

    Returns
    -------
    list of Result
        Those that were recorded; for the others, :func:`finish` raises what is wrong.
    """

    def work(connection: Connection) -> list[Result]:
        done = []
        with connection.cursor() as cursor:
            for columns, alike in groupby(sorted(results, key=_columns_of), key=_columns_of):
                made = {one.held.key["video_id"]: one for one in alike}
                rows = Json([_row_of(one) for one in made.values()])
                assignments = [
                    sql.SQL(", {0} = m.{0}").format(sql.Identifier(name)) for name in columns
                ]
                query = sql.SQL(statements.FINISH_ALL).format(columns=sql.Composed(assignments))
                cursor.execute(query, {"rows": rows, "running": DOWNLOAD.running})
                done += [made[video_id] for (video_id,) in cursor.fetchall()]
        for one in done:  # their rows are locked: nobody can take them over before the COMMIT
            one.publish()
        return done

    return transaction(work, patience=PATIENCE, name=session_name(DOWNLOAD))


def _columns_of(result: Result) -> tuple[str, ...]:
    return tuple(sorted(result.columns))


def _row_of(result: Result) -> dict[str, Any]:
    cost = {result.held.stage.name: result.cost} if result.cost else {}
    return {
        **result.held.key,
        "lease": result.held.lease,
        "status": result.status,
        "costs": cost,
        **result.columns,
    }


def finish(
    held: Claim,
    status: str,
    columns: Mapping[str, Any],
    publish: Callable[[], object],
    cost: Mapping[str, Any] | None = None,
) -> None:
    """Publish a result and record it, while the row is locked and only if the claim still holds.

    Parameters
    ----------
    held, status : Claim, str
        The claim under which the result was made, and one of ``held.stage.done``.
    columns : Mapping
        The other columns to set.
    publish : callable
        Puts the files in place. Called again if the COMMIT's answer was lost, so safe to repeat.
    cost : Mapping, optional
        See :func:`dataminer.sync.tasks.costs.measured`; None keeps what is recorded.

    Raises
    ------
    LeaseLost
        If another job took the row over; then ``publish`` was not called.
    """
    if status not in held.stage.done:
        raise ValueError(f"{held.stage.name} cannot end in {status}")
    result = Result(held, status, columns, publish, cost)
    name = session_name(held.stage)
    transaction(lambda connection: _finish(connection, result), patience=PATIENCE, name=name)


def _finish(connection: Connection, result: Result) -> None:
    held = result.held
    values = {
        "lease": held.lease,
        "running": held.stage.running,
        "done": result.status,
        "cost": Json({held.stage.name: result.cost} if result.cost else {}),
        **{f"column_{name}": adapt(value) for name, value in result.columns.items()},
    }
    with connection.cursor() as cursor:
        query = compose(cursor, statements.FINISH, held.stage, held.key, result.columns)
        cursor.execute(query, {**held.key, **values})
        if cursor.rowcount:  # and locked: nobody can take it over before the COMMIT
            result.publish()
            return
        cursor.execute(compose(cursor, statements.READ_ROW, held.stage, held.key), held.key)
        row = cursor.fetchone()
        if not row or row[:2] != (result.status, held.lease):
            raise LeaseLost.of(held)
        # recorded before; only the answer was lost


def release(
    held: Claim,
    *,
    error: str | None,
    error_class: str | None,
    counts: bool,
    suspect: bool = False,
    killed: bool = False,
    failing: bool = False,
    wait: float | None = None,
) -> bool:
    """Give a claim back without a result; return whether it still held.

    Parameters
    ----------
    held : Claim
        The claim; if its lease has moved on already, nothing happens.
    error, error_class : str or None
        The reason, for the row; None keeps what is there.
    counts : bool
        Whether this attempt counts against ``max_attempts``.
    suspect : bool
        Whether the row was worked on when its job was killed: the next attempt is made alone.
    killed : bool
        Whether its job was killed although the row was alone in it: after several of these, it is
        postponed.
    failing : bool
        Whether this is one of the failures after which a row is given up.
    wait : float or None
        Seconds before the next attempt.
    """
    values = {"lease": held.lease, "running": held.stage.running, "released": held.stage.released}
    values |= {"counts": counts, "suspect": suspect, "killed": killed, "failing": failing}
    values |= {"wait": wait, "error": error, "error_class": error_class}
    return bool(
        execute(statements.RELEASE, held.stage, held.key, values, count=True, patience=PATIENCE)
    )


def release_killed(
    held: Claim, row: RowState, settings: MonitorConfig, how: str, error_class: str
) -> bool:
    """Give back the claim of a job that was killed as a whole; return whether it still held.

    The video becomes a suspect, which is tried alone. After ``max_attempts`` such ends, it is
    postponed for ``give_up_hours``, and at least one hour.

    Parameters
    ----------
    held, row : Claim, RowState
        The claim, and what the row says.
    settings : MonitorConfig
        The number of attempts, and the hours.
    how, error_class : str
        How the job ended, in words and as a class.
    """
    step = NEXT_STEP[ErrorClass(error_class)]
    last = is_last_kill(held.stage, row, settings)
    if last:
        retry = f"`dataminer retry --video {held.key['video_id']}`"
        step = f"give its rule more memory (mem_mb in the profile), then {retry}"
    return release(
        held,
        error=str(DataminerError(f"the job died: {how}", step)),
        error_class=error_class,
        counts=False,
        suspect=True,
        killed=row.suspect,
        wait=pause_of_killed(settings) if last else None,
    )


def is_last_kill(stage: StageRows, row: RowState, settings: MonitorConfig) -> bool:
    """Tell whether a video is postponed, now that its job was killed once more."""
    return stage.table != "projects" and row.suspect and row.kills + 1 >= settings.max_attempts


def pause_of_killed(settings: MonitorConfig) -> float:
    """Return the seconds for which a video is postponed that was killed with its job too often."""
    return max(settings.give_up_hours, 1.0) * 3600


def note(
    stage: StageRows, key: Mapping[str, Any], lease: int, *, error: str, error_class: str
) -> None:
    """Record in a row that waits for its next attempt how the last one ended.

    Parameters
    ----------
    stage, key : StageRows, Mapping
        The row.
    lease : int
        The lease at which the row was read: once it has moved on, nothing is written.
    error, error_class : str
        What happened.
    """
    values = {"lease": lease, "released": stage.released, "error": error}
    execute(statements.NOTE, stage, key, {**values, "error_class": error_class}, count=True)
