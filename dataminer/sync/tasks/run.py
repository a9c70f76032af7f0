"""Run a stage's task on one row: claim it, make the result, publish it and record it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dataminer.config import MonitorConfig
from dataminer.errors import (
    DataminerError,
    ErrorClass,
    InputChanged,
    TransientError,
    UncheckedError,
)
from dataminer.files.publishing import publish_dir, remove, remove_partials, staging_dir
from dataminer.permissions import named
from dataminer.sync.claims import claim_end, claims, owners
from dataminer.sync.claims.claims import Claim, LeaseLost
from dataminer.sync.claims.heartbeat import Interrupted
from dataminer.sync.recovery import dead_jobs
from dataminer.sync.tasks.attempt import attempt, write_failure
from dataminer.sync.tasks.retry_rule import counts_as_failure, text_of
from dataminer.sync.tasks.task import (
    SINGLE_CLAIM,
    Busy,
    Deleted,
    Keeper,
    StageTask,
    TaskOutcome,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_WAIT, LONGEST_WAIT = 0.2, 15.0  # seconds between two reads of a busy row
_RESTARTS = 5  # because the input changed; after that, the next run makes the result


def describe_and_run(
    describe: Callable[[], StageTask],
    settings: MonitorConfig,
    *,
    patient: bool = True,
    keeper: Keeper = SINGLE_CLAIM,
    held: Claim | None = None,
) -> TaskOutcome:
    """Call :func:`run_task` for a description of the present input, again if the input changes.

    Parameters
    ----------
    describe : callable
        Describes the task by the input at that moment.
    settings, patient, keeper : MonitorConfig, bool, Keeper
        As for :func:`run_task`.
    held : Claim, optional
        The claim of the row, if it is claimed already.

    Raises
    ------
    InputChanged
        If the input changed each time.
    """

    def run_once() -> TaskOutcome:
        nonlocal held
        given, held = held, None  # a claim is given back after each attempt
        try:
            task = describe()
        except BaseException as error:
            if given:
                _give_back(given, error)
            raise
        return run_task(task, settings, patient=patient, keeper=keeper, held=given)

    return restart_on_change(run_once)


def restart_on_change(make: Callable[[], T]) -> T:
    """Call a function that reads files, again if they are replaced meanwhile.

    Raises
    ------
    InputChanged
        If they were replaced each time.
    """
    for _ in range(_RESTARTS):
        try:
            return make()
        except InputChanged as error:
            log.warning("%s: starting over", error.message)
    return make()


def run_task(
    task: StageTask,
    settings: MonitorConfig,
    *,
    patient: bool = True,
    keeper: Keeper = SINGLE_CLAIM,
    held: Claim | None = None,
) -> TaskOutcome:
    """Return the result of a task; make it first unless it is up to date.

    A permanent failure is a result like any other. With ``patient``, wait while another process
    makes the result; else ``Busy`` is raised. ``held`` is the claim of the row, if it is claimed
    already.

    Raises
    ------
    TransientError, DataminerError
        If it failed, and another attempt may succeed.
    InputChanged
        If the fingerprint is no longer that of the input: then nothing counts.
    LeaseLost
        If another process took over.
    """
    if held is None:
        claim = _claim_or_find(task, settings, patient=patient)
        if isinstance(claim, TaskOutcome):
            return claim
        held = claim
    if held.again:
        remove_partials(task.final)
    try:
        with keeper.kept_alive(held, settings):
            return _make_or_adopt(task, held, settings, keeper)
    except BaseException as error:
        _give_back(held, error)
        raise


def _give_back(held: Claim, error: BaseException) -> None:
    """Give back a claim whose attempt ended in an error."""
    if isinstance(error, Interrupted | KeyboardInterrupt):
        message, interrupted = dead_jobs.interruption()
        claim_end.release(held, error=message, error_class=interrupted, counts=False)
        return
    if isinstance(error, InputChanged):
        claim_end.release(held, error=None, error_class=None, counts=False)
        return
    counts = isinstance(error, UncheckedError) or not isinstance(error, TransientError)
    error_class = getattr(error, "error_class", ErrorClass.INTERNAL)
    if not claim_end.release(
        held,
        error=text_of(error),
        error_class=error_class,
        counts=counts,
        failing=counts_as_failure(error),
        wait=error.wait if isinstance(error, TransientError) else None,
    ):
        raise LeaseLost.of(held) from error


# ---- the claim, or a result that the row has already ---------------------------------------------


def _claim_or_find(
    task: StageTask, settings: MonitorConfig, *, patient: bool
) -> Claim | TaskOutcome:
    """Claim the row, or return the result that it has, or that another process just recorded."""
    wait, waited = FIRST_WAIT, False
    if not task.final.exists():  # as a rule: there is nothing but a row that waits
        held = _claim(task, settings, seen=task.stage.released)
        if held:
            return held
    while True:
        # the row first: the files of what it says are in place by then
        row = claims.read_row(task.stage, task.key)
        outcome = _up_to_date(task, also_failed=waited)
        if row is None:
            raise Deleted(task.key)
        if outcome and _is_recorded(task, row, outcome):
            log.info("%s: already %s, nothing to do", task.final, outcome.status)
            return outcome
        dead_lease = row.lease if owners.is_dead(row.locked_by) else None
        if dead_lease is not None and claim_end.is_last_kill(task.stage, row, settings):
            _postpone_killed(task, row, settings)
        held = _claim(task, settings, seen=row.status, dead_lease=dead_lease)
        if held:
            return held
        _check_busy(task, row, patient=patient)
        log.info("%s is %s by %s; waiting %.1f s", task.final, row.status, row.locked_by, wait)
        time.sleep(wait * random.uniform(0.5, 1.0))
        wait, waited = min(wait * 2, LONGEST_WAIT), True


def _is_recorded(task: StageTask, row: claims.RowState, outcome: TaskOutcome) -> bool:
    """Tell whether the row has this result already."""
    column = task.stage.made
    made = outcome.columns.get(column, outcome.fingerprint) if column else None
    is_named = task.stage.shared or row.made == made
    return is_named and row.status in (*task.stage.past, outcome.status)


def _check_busy(task: StageTask, row: claims.RowState, *, patient: bool) -> None:
    """Raise an error unless a row that was not claimed is worth waiting for."""
    if row.locked_by is None and row.status not in task.stage.idle:
        raise DataminerError(
            f"{task.stage.name} cannot begin on {task.final}: the database says {row.status}",
            "run snakemake again, which makes what comes before it",
        )
    if not patient:
        raise Busy(f"{task.final} is {row.status} by {row.locked_by}")


def _postpone_killed(task: StageTask, row: claims.RowState, settings: MonitorConfig) -> None:
    """Give back a dead run's claim on a video whose jobs were killed as often as is allowed."""
    held = Claim(task.stage, task.key, row.lease, attempts=0)
    how = f"unnoticed, like {row.kills} before it"
    if claim_end.release_killed(held, row, settings, how, ErrorClass.KILLED):
        error = TransientError(
            f"{task.final} was worked on when {row.kills + 1} jobs were killed", ErrorClass.KILLED
        )
        error.wait = claim_end.pause_of_killed(settings)
        raise error


def _claim(
    task: StageTask, settings: MonitorConfig, *, seen: str, dead_lease: int | None = None
) -> Claim | None:
    held = claims.claim(
        task.stage,
        task.key,
        stale_seconds=settings.stale_threshold_minutes * 60,
        dead_lease=dead_lease,
        seen=seen,
    )
    if held:
        log.info("claimed the %s (lease %d, attempt %d)", held, held.lease, held.attempts)
    return held


def _up_to_date(task: StageTask, *, also_failed: bool) -> TaskOutcome | None:
    """Return what is in place if it was made from the same input with the same settings."""
    outcome = task.read(task.final)
    remake = task.forced and not also_failed
    if outcome is None or remake or outcome.fingerprint != task.fingerprint:
        return None
    return outcome if also_failed or outcome.status != "FAILED" else None


# ---- the result ----------------------------------------------------------------------------------


@named()
def _make_or_adopt(
    task: StageTask, held: Claim, settings: MonitorConfig, keeper: Keeper
) -> TaskOutcome:
    """Record a result that is in place but not in the row; else make one."""
    task.refuse_change()
    existing = _up_to_date(task, also_failed=False)
    if existing:
        existing = _placed(existing, task.final, task.final)
        keeper.finish(held, existing.status, existing.columns, lambda: None)
        return existing
    with staging_dir(task.final) as staging:
        cost, failure = attempt(task, held, settings, staging)
        if failure:
            fallback = task.fall_back(failure, failure.error_class)
            if fallback:
                log.warning("%s; the existing result is kept", failure)
                keeper.finish(held, fallback.status, fallback.columns, task.refuse_change, cost)
                return fallback
            write_failure(task, staging, failure)
        outcome, replaced = _publish(task, held, keeper, staging, cost)
    if replaced:
        remove(replaced, ignore_errors=True)
    log.info("%s: %s", task.final, outcome.status)
    return outcome


def _publish(
    task: StageTask, held: Claim, keeper: Keeper, staging: Path, cost: dict[str, Any]
) -> tuple[TaskOutcome, Path | None]:
    """Put the files of a result in place and record it; return it and the folder it replaced."""
    outcome = task.read(staging)
    if outcome is None:
        task.refuse_change()
        raise DataminerError(f"the {held} left no complete result in {staging}", "report this bug")
    outcome = _placed(outcome, staging, task.final)
    keeper.flush(staging)
    replaced: Path | None = None

    def publish() -> None:
        nonlocal replaced
        task.refuse_change()
        replaced = publish_dir(staging, task.final) or replaced  # None if it is repeated
        if outcome.status != "FAILED":
            task.update_links()

    keeper.finish(held, outcome.status, outcome.columns, publish, cost)
    return outcome, replaced


def _placed(outcome: TaskOutcome, staging: Path, final: Path) -> TaskOutcome:
    """Name the paths as they will be once the folder is in place."""

    def moved(value: Any) -> Any:
        if not isinstance(value, Path):
            return value
        return str(final / value.relative_to(staging))

    columns = {name: moved(value) for name, value in outcome.columns.items()}
    return TaskOutcome(outcome.status, columns, outcome.fingerprint)
