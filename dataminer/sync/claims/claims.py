"""Claim a row, keep it, finish it or give it back: every write fenced by the claim's lease."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import Json

from dataminer.config import MonitorConfig
from dataminer.db.connection import transaction
from dataminer.errors import NEXT_STEP, DataminerError, ErrorClass
from dataminer.sync.claims import slurm, statements
from dataminer.sync.claims.stage_rows import DOWNLOAD, KEYS, StageRows, running_statuses

PATIENCE = 180.0  # seconds that a job waits for the database to come back


class LeaseLost(DataminerError):
    """Another job took this claim over; nothing of this one's result was written."""

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
        What is being done to the row.
    key : Mapping
        The row's key columns and their values.
    lease : int
        The number that fences every write of this claim.
    attempts : int
        How many attempts, this one included, have begun since the last result.
    again : bool
        Whether an earlier attempt may have left something: one that was killed with its whole job
        is not counted.
    failures : int
        How many attempts have failed in passing since the last result.
    failing_seconds : float
        How long ago the first of them was.
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


def owner_name() -> str:
    """Return who this process is: host, process id and, under Slurm, the job's id."""
    job = slurm.own_job()
    return f"{socket.gethostname()}:{os.getpid()}" + (f":slurm-{job}" if job else "")


def slurm_job_of(owner: str | None) -> str | None:
    """Return the number of the Slurm job that an owner's process belonged to."""
    return (owner or "").partition(":slurm-")[2] or None


def session_name(stage: StageRows) -> str:
    """Return what `pg_stat_activity` shows of a session: the stage, and the owner of its claims.

    One name for all that a process does, as each change is a statement of its own.
    """
    return f"{stage.name} {owner_name()}"


def is_dead(owner: str | None) -> bool:
    """Tell whether an owner was a process of this host that is no more.

    So is one of this Slurm job on another host, if the job was requeued: it goes on here. A wrong
    yes (two containers of one host name) costs double work and nothing else: whoever lost the lease
    writes nothing.
    """
    host, _, rest = (owner or "").partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname():
        return slurm.was_requeued() and slurm_job_of(owner) == slurm.own_job()
    if not pid.isdigit():
        return False
    import psutil  # which few processes need

    try:
        # one that ended and that nobody waits for, as in a container without init, is no more
        return psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def claim(
    stage: StageRows,
    key: Mapping[str, Any],
    *,
    stale_seconds: float,
    dead_lease: int | None = None,
    seen: str | None = None,
    patience: float = PATIENCE,
) -> Claim | None:
    """Claim exactly the row that ``key`` names.

    Parameters
    ----------
    stage : StageRows
        What shall be done to it.
    key : Mapping
        Key columns and values.
    stale_seconds : float
        A holder without a heartbeat for so long, by the database's clock, has lost the row.
    dead_lease : int or None
        A lease whose holder is known to be dead, and need not be waited for.
    seen : str or None
        The status that was looked at: a row that has moved on from it since, and that nobody holds,
        is not claimed.
    patience : float
        Seconds to wait for a database that is away.

    Returns
    -------
    Claim or None
        None when somebody else holds the row, or it is in no status that allows this stage.
    """
    values = {
        "running": stage.running,
        "idle": [status for status in stage.idle if seen in (None, status)],
        "held": list(running_statuses(stage.table)),
        "owner": owner_name(),
        "stale": stale_seconds,
        "dead_lease": dead_lease,
    }
    row = _execute(statements.CLAIM, stage, key, values, patience=patience)
    return Claim(stage, dict(key), *row) if row else None


def claim_batch(
    stage: StageRows, count: int, *, project_id: int | None = None, patience: float = PATIENCE
) -> list[Claim]:
    """Claim the oldest rows that are ready for ``stage``, in one statement.

    Rows that wait for this stage and nobody holds; stale ones are given back by ``recover``, and
    those that are made again by name with :func:`claim`. The table ``projects`` is never locked.

    Parameters
    ----------
    stage : StageRows
        A stage of ``videos`` or ``project_videos``.
    count : int
        At most so many.
    project_id : int or None
        Only videos of this project.
    patience : float
        Seconds to wait for a database that is away.

    Returns
    -------
    list of Claim
        Oldest first; fewer than ``count`` when no more are ready.
    """
    if stage.table not in statements.WANTED:
        raise ValueError(f"{stage.name} is claimed by name, not in batches")
    names = KEYS[stage.table]
    query = sql.SQL(statements.CLAIM_BATCH).format(
        table=sql.Identifier(stage.table),
        status=sql.Identifier(stage.status_column),
        keys=_columns("r", names),
        wanted=sql.SQL(statements.WANTED[stage.table]),
        matches=sql.SQL("({}) = ({})").format(_columns("t", names), _columns("chosen", names)),
        returned=_columns("t", names),
    )
    values = {
        "ready": stage.released,
        "running": stage.running,
        "owner": owner_name(),
        "count": count,
        "project_id": project_id,
    }

    def work(connection: Connection) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchall()

    rows = transaction(work, patience=patience, name=session_name(stage), single=True)
    return [
        Claim(stage, dict(zip(names, key, strict=True)), lease, attempts)
        for _, lease, attempts, *key in sorted(rows)
    ]


def claim_new(videos: Iterable[str]) -> dict[str, tuple[Claim, tuple[str, str | None, str | None]]]:
    """Claim those of some videos that wait for their download, in one statement.

    Returns
    -------
    dict of str to tuple
        By video: the claim; the link, what the row says that its file was fetched with, and which
        list named it.
    """
    values = {
        "videos": list(videos),
        "ready": DOWNLOAD.released,
        "running": DOWNLOAD.running,
        "owner": owner_name(),
    }
    rows = fetched(DOWNLOAD, statements.CLAIM_NEW, values, patience=PATIENCE)
    return {
        video_id: (Claim(DOWNLOAD, {"video_id": video_id}, *lease), (url, fetched_with, origin))
        for video_id, url, fetched_with, origin, *lease in rows
    }


def own_claims(videos: Iterable[str]) -> list[Claim]:
    """Return the claims of this process on the downloads of some videos."""
    values = {"videos": list(videos), "running": DOWNLOAD.running, "owner": owner_name()}
    rows = fetched(DOWNLOAD, statements.OWN_CLAIMS, values, patience=PATIENCE)
    return [Claim(DOWNLOAD, {"video_id": video_id}, lease, 0) for video_id, lease in rows]


def suspects(stage: StageRows, videos: Iterable[str]) -> set[str]:
    """Return those of some videos that were worked on when a job was killed, or still are."""
    values = {"videos": list(videos), "running": stage.running}
    rows = fetched(stage, statements.SUSPECTS, values, patience=PATIENCE, keep=False)
    return {video_id for (video_id,) in rows}


def left_alone(stage: StageRows, videos: Iterable[str], project_id: int | None) -> dict[str, str]:
    """Return those of some videos that killed their jobs too often to be tried now, and why."""
    values = {"videos": list(videos), "project_id": project_id}
    return dict(fetched(stage, statements.LEFT_ALONE, values, patience=PATIENCE))


def read_row(stage: StageRows, key: Mapping[str, Any]) -> RowState | None:
    """Return what the row says, or None when there is no such row."""
    row = _execute(statements.LOOK, stage, key, {}, patience=PATIENCE)
    return RowState(*row) if row else None


def beat(held: Claim) -> bool:
    """Tell the database that the holder lives; False when the lease has moved on."""
    values = {"lease": held.lease, "running": held.stage.running}
    return bool(_execute(statements.BEAT, held.stage, held.key, values, count=True, keep=False))


def beat_all(held: Sequence[Claim]) -> list[Claim]:
    """Tell the database that the holder of downloads lives; return those without an answer.

    Their lease may have moved on, or their row is being written at this moment.
    """
    values = {
        "videos": [one.key["video_id"] for one in held],
        "leases": [one.lease for one in held],
        "running": DOWNLOAD.running,
    }
    alive = {video_id for (video_id,) in fetched(DOWNLOAD, statements.BEAT_ALL, values, keep=False)}
    return [one for one in held if one.key["video_id"] not in alive]


def is_recorded(held: Claim) -> bool:
    """Tell whether the row has the result that was made under this claim."""
    row = _execute(statements.LOOK, held.stage, held.key, {}, keep=False)
    return row is not None and row[0] in held.stage.done and row[1] == held.lease


@dataclass(frozen=True)
class Result:
    """What :func:`finish` puts in place and records; the parameters are its own."""

    held: Claim
    status: str
    columns: Mapping[str, Any]
    publish: Callable[[], object]
    cost: Mapping[str, Any] | None = None


def finish_all(results: Sequence[Result]) -> list[Result]:
    """Put the results of several downloads in place and record them, in one transaction.

    Returns
    -------
    list of Result
        Those that were recorded; for the others, :func:`finish` says what is wrong.
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
    """Put a result in place and record it, while the row is locked and only if it is still ours.

    Parameters
    ----------
    held : Claim
        The claim under which the result was made.
    status : str
        One of ``held.stage.done``.
    columns : Mapping
        What the row shall say besides, by column.
    publish : callable
        Puts the files in place; run again when the COMMIT's answer was lost, so safe to repeat.
    cost : Mapping, optional
        What the result cost, see :func:`dataminer.sync.jobs.costs.measured`; None leaves what
        is known.

    Raises
    ------
    LeaseLost
        When another job took the row over; then ``publish`` was not called.
    """
    if status not in held.stage.done:
        raise ValueError(f"{held.stage.name} cannot end in {status}")
    values = {
        "lease": held.lease,
        "running": held.stage.running,
        "done": status,
        "cost": Json({held.stage.name: cost} if cost else {}),
    }
    bound = {f"column_{name}": _adapt(value) for name, value in columns.items()}

    def work(connection: Connection) -> None:
        with connection.cursor() as cursor:
            query = compose(cursor, statements.FINISH, held.stage, held.key, columns)
            cursor.execute(query, {**held.key, **values, **bound})
            if cursor.rowcount:  # and locked: nobody can take it over before the COMMIT
                publish()
                return
            cursor.execute(compose(cursor, statements.LOOK, held.stage, held.key), held.key)
            row = cursor.fetchone()
            if not row or row[:2] != (status, held.lease):
                raise LeaseLost.of(held)
            # recorded before; only the answer was lost

    transaction(work, patience=PATIENCE, name=session_name(held.stage))


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
    """Give a claim back without a result.

    Parameters
    ----------
    held : Claim
        The claim; when its lease has moved on already, nothing happens.
    error, error_class : str or None
        Why, for the row to tell; None leaves what stands there.
    counts : bool
        Whether this attempt counts against ``max_attempts``.
    suspect : bool
        Whether the row was worked on when its job was killed: the next attempt is made alone.
    killed : bool
        Whether its job was killed although it was alone in it, for which it is left alone in time.
    failing : bool
        Whether it is one of the failures after which a row is given up.
    wait : float or None
        Seconds before the next attempt.

    Returns
    -------
    bool
        Whether the claim was still ours.
    """
    values = {
        "lease": held.lease,
        "running": held.stage.running,
        "released": held.stage.released,
        "counts": counts,
        "suspect": suspect,
        "killed": killed,
        "failing": failing,
        "wait": wait,
        "error": error,
        "error_class": error_class,
    }
    return bool(
        _execute(statements.RELEASE, held.stage, held.key, values, count=True, patience=PATIENCE)
    )


def release_killed(
    held: Claim, row: RowState, settings: MonitorConfig, how: str, error_class: str
) -> bool:
    """Give back the claim of a job that was killed as a whole, which condemns no video.

    It makes the video a suspect, which is tried alone. One that was killed so ``max_attempts``
    times is left alone for ``give_up_hours``, and an hour at least.

    Parameters
    ----------
    held : Claim
        The claim.
    row : RowState
        What the row says.
    settings : MonitorConfig
        How often, and for how long.
    how : str
        How the job ended.
    error_class : str
        What kind of end that is.

    Returns
    -------
    bool
        Whether the claim was still held.
    """
    step = NEXT_STEP[ErrorClass(error_class)]
    last = is_last_kill(held.stage, row, settings)
    if last:
        again = f"`dataminer retry --video {held.key['video_id']}`"
        step = f"give its rule more memory (mem_mb in the profile), then {again}"
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
    """Tell whether a video is left alone, now that its job was killed once more."""
    return stage.table != "projects" and row.suspect and row.kills + 1 >= settings.max_attempts


def pause_of_killed(settings: MonitorConfig) -> float:
    """Return for how many seconds a video is left alone that was killed with its job too often."""
    return max(settings.give_up_hours, 1.0) * 3600


def note(
    stage: StageRows, key: Mapping[str, Any], lease: int, *, error: str, error_class: str
) -> None:
    """Have a row that waits for its next attempt say how the last one ended.

    Parameters
    ----------
    stage, key : StageRows, Mapping
        The row.
    lease : int
        As it was when the row was looked at: once it moves on, the note is late.
    error, error_class : str
        What happened.
    """
    values = {"lease": lease, "released": stage.released, "error": error}
    _execute(statements.NOTE, stage, key, {**values, "error_class": error_class}, count=True)


def _execute(
    text: str,
    stage: StageRows,
    key: Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    count: bool = False,
    patience: float = 0.0,
    keep: bool = True,
) -> Any:
    def work(connection: Connection) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(compose(cursor, text, stage, key), {**key, **values})
            return cursor.rowcount if count else cursor.fetchone()

    name = session_name(stage)
    return transaction(work, patience=patience, name=name, keep=keep, single=True)


def fetched(
    stage: StageRows,
    text: str,
    values: Mapping[str, Any],
    *,
    name: str | None = None,
    patience: float = 0.0,
    keep: bool = True,
) -> list[tuple[Any, ...]]:
    """Execute one statement, and return its rows.

    Parameters
    ----------
    stage : StageRows
        Whose identifiers are put in, see :func:`compose`.
    text : str
        The statement.
    values : Mapping
        What is bound.
    name : str, optional
        What `pg_stat_activity` shows; by default, the session of the stage.
    patience, keep : float, bool
        As for :func:`dataminer.db.connection.transaction`.
    """

    def work(connection: Connection) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(compose(cursor, text, stage, ()), values)
            return list(cursor.fetchall())

    name = name or session_name(stage)
    return transaction(work, patience=patience, name=name, keep=keep, single=True)


def compose(
    cursor: Cursor, text: str, stage: StageRows, key: Iterable[str], columns: Iterable[str] = ()
) -> str:
    """Put a stage's identifiers and the columns to set into a statement; values stay bound.

    Parameters
    ----------
    cursor : Cursor
        What will execute it.
    text : str
        One of :mod:`dataminer.sync.claims.statements`.
    stage : StageRows
        The stage.
    key : iterable of str
        The columns that name its row, bound by their names.
    columns : iterable of str
        What else is set, bound as ``column_NAME``.
    """
    asked = (text, stage, tuple(key), tuple(columns))
    if asked not in _composed:
        _composed[asked] = _compose(*asked).as_string(cursor)
    return _composed[asked]


_composed: dict[tuple[Any, ...], str] = {}  # which takes as long as to execute it


def _compose(
    text: str, stage: StageRows, key: tuple[str, ...], columns: tuple[str, ...]
) -> sql.Composed:
    matches = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in key
    ]
    assignments = [
        sql.SQL(", {} = {}").format(sql.Identifier(name), sql.Placeholder(f"column_{name}"))
        for name in columns
    ]
    return sql.SQL(text).format(
        table=sql.Identifier(stage.table),
        status=sql.Identifier(stage.status_column),
        made=sql.Identifier(stage.made) if stage.made else sql.SQL("NULL"),
        key=sql.SQL(" AND ").join(matches),
        keys=sql.SQL(", ").join(map(sql.Identifier, KEYS[stage.table])),
        columns=sql.Composed(assignments),
    )


def _columns(table: str, names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(table, name) for name in names)


def _adapt(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value
