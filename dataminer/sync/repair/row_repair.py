"""Makes one row agree with its files: adopts results, or reverts the row; both are fenced."""

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
from dataminer.sync.claims.execution import adapt, compose
from dataminer.sync.claims.stage_rows import StageRows
from dataminer.sync.repair.evidence import Evidence, read_if_whole
from dataminer.sync.tasks.task import TaskOutcome

# ---- statements: identifiers in braces, values bound -------------------------------------------

_LOCK = "SELECT {status}, lease FROM {table} WHERE {key} FOR UPDATE"

# Attempts stay: a video that kills its jobs must end as FAILED, whatever is repaired in between.
_REVERT = """
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
        Returns the outcome that the files in a folder show.
    """

    stage: StageRows
    final: Path
    read: Callable[[Path], TaskOutcome | None]


def adopt_results(
    steps: list[FoundResult], key: Mapping[str, Any], lease: int, settings: MonitorConfig
) -> bool:
    """Record results that exist already, one stage after the other.

    Parameters
    ----------
    steps : list of FoundResult
        The results, in the order of their stages.
    key : Mapping
        The row.
    lease : int
        Its lease when the row was read; a row that has changed since is left alone.
    settings : MonitorConfig
        The age at which a claim is stale.

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
    claim = claims.claim(step.stage, key, stale_seconds=settings.stale_threshold_minutes * 60)
    if claim is None:
        return False
    try:
        outcome = read_if_whole(step.read, step.final)  # again, since nobody else writes there now
        if outcome is None:
            claim_end.release(claim, error=None, error_class=None, counts=False)
            return False
        columns = {name: _plain(value) for name, value in outcome.columns.items()}
        claim_end.finish(claim, outcome.status, columns, lambda: None)
    except claims.LeaseLost:
        return False
    except BaseException:
        claim_end.release(claim, error=None, error_class=None, counts=False)
        raise
    return outcome.status in step.stage.past or outcome.status == "FAILED"


def revert_row(
    stage: StageRows,
    key: Mapping[str, Any],
    before: tuple[str, int],
    evidence: Evidence,
    judge: Callable[[], Evidence],
) -> bool:
    """Revert a row to the status that its files support, and remove damaged outputs.

    Nothing is done, and False returned, if the row or its files have changed since they were read.

    Parameters
    ----------
    stage : StageRows
        Any stage of the row's table.
    key : Mapping
        The row.
    before : tuple of str and int
        Status and lease when the row was read.
    evidence, judge : Evidence, callable
        What its files support, and what reads them again once the row is locked.
    """
    columns = evidence.columns or {}
    bound = {f"column_{name}": adapt(_plain(value)) for name, value in columns.items()}

    def work(connection: Connection) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(compose(cursor, _LOCK, stage, key), key)
            if cursor.fetchone() != before or judge() != evidence:
                return False
            if evidence.status != before[0] or evidence.renamed:
                text = _RENAME if evidence.renamed else _REVERT
                query = compose(cursor, text, stage, key, columns)
                cursor.execute(query, {**key, **bound, "status": evidence.status})
            for path in evidence.remove:
                remove_file(path)
        return True

    return transaction(work, name="sync")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
