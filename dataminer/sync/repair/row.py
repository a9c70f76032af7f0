"""Make one row agree with its files: adopt a result, or put the row back; both fenced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg2.extensions import connection as Connection

from dataminer.config import MonitorConfig
from dataminer.db.connection import transaction
from dataminer.files.publishing import remove_file
from dataminer.sync.claims import claim_end, claims
from dataminer.sync.claims.execution import compose
from dataminer.sync.claims.stage_rows import StageRows
from dataminer.sync.repair.evidence import Evidence, read
from dataminer.sync.tasks.task import TaskOutcome

# ---- statements: identifiers in braces, values bound -------------------------------------------

_HOLD = "SELECT {status}, lease FROM {table} WHERE {key} FOR UPDATE"

# Attempts stay: a video that kills its jobs must end as FAILED, whatever is mended in between.
_PUT_BACK = """
UPDATE {table} SET {status} = %(status)s, error = NULL, error_class = NULL{columns} WHERE {key}
"""


_RENAME = "UPDATE {table} SET {status} = %(status)s{columns} WHERE {key}"


@dataclass(frozen=True)
class FoundResult:
    """One stage's result, to be recorded if it is whole.

    Parameters
    ----------
    stage : StageRows
        The stage.
    final : Path
        The folder of its result.
    read : callable
        Tells what the files in a folder say.
    """

    stage: StageRows
    final: Path
    read: Callable[[Path], TaskOutcome | None]


def adopt(
    steps: list[FoundResult], key: Mapping[str, Any], lease: int, settings: MonitorConfig
) -> bool:
    """Record results that are in place already, one stage after the other.

    Parameters
    ----------
    steps : list of FoundResult
        The stages, in their order.
    key : Mapping
        The row.
    lease : int
        As it was when the row was looked at; one that has moved on since is left alone.
    settings : MonitorConfig
        When a claim is stale.

    Returns
    -------
    bool
        Whether all of them were recorded.
    """
    row = claims.read_row(steps[0].stage, key)
    if row is None or row.lease != lease or row.locked_by is not None:
        return False
    return all(_adopt_one(step, key, settings) for step in steps)


def _adopt_one(step: FoundResult, key: Mapping[str, Any], settings: MonitorConfig) -> bool:
    held = claims.claim(step.stage, key, stale_seconds=settings.stale_threshold_minutes * 60)
    if held is None:
        return False
    try:
        outcome = read(step.read, step.final)  # again: now nobody else writes there
        if outcome is None:
            claim_end.release(held, error=None, error_class=None, counts=False)
            return False
        columns = {name: _plain(value) for name, value in outcome.columns.items()}
        claim_end.finish(held, outcome.status, columns, lambda: None)
    except claims.LeaseLost:
        return False
    except BaseException:
        claim_end.release(held, error=None, error_class=None, counts=False)
        raise
    return outcome.status in step.stage.past or outcome.status == "FAILED"


def revert_row(
    stage: StageRows,
    key: Mapping[str, Any],
    before: tuple[str, int],
    verdict: Evidence,
    judge: Callable[[], Evidence],
) -> bool:
    """Put a row back to what its files support, and remove outputs that are not whole.

    Parameters
    ----------
    stage : StageRows
        Any stage of the row's table.
    key : Mapping
        The row.
    before : tuple of str and int
        Status and lease when the row was looked at; when either has changed, nothing happens.
    verdict : Evidence
        What was found.
    judge : callable
        Looks again, now that the row is locked and its files change no more.

    Returns
    -------
    bool
        Whether it was done.
    """
    columns = verdict.columns or {}
    bound = {f"column_{name}": _plain(value) for name, value in columns.items()}

    def work(connection: Connection) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(compose(cursor, _HOLD, stage, key), key)
            if cursor.fetchone() != before or judge() != verdict:
                return False
            if verdict.status != before[0] or verdict.renamed:
                text = _RENAME if verdict.renamed else _PUT_BACK
                query = compose(cursor, text, stage, key, columns)
                cursor.execute(query, {**key, **bound, "status": verdict.status})
            for path in verdict.remove:
                remove_file(path)
        return True

    return transaction(work, name="sync")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
