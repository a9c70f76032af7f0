"""One attempt at a task: make its result, and decide what an error in it comes to."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from dataminer.config import MonitorConfig
from dataminer.errors import (
    NEXT_STEP,
    DataminerError,
    ErrorClass,
    FailedBefore,
    Kind,
    PermanentError,
    StageError,
    TransientError,
    UncheckedError,
    kind_of,
    os_error_class,
)
from dataminer.permissions import explain
from dataminer.sync.claims import claims
from dataminer.sync.claims.claims import Claim, LeaseLost
from dataminer.sync.tasks.costs import measured
from dataminer.sync.tasks.task import StageTask

log = logging.getLogger(__name__)


def attempt(
    task: StageTask, held: Claim, settings: MonitorConfig, staging: Path
) -> tuple[dict[str, Any], StageError | None]:
    """Make the result; return its cost, and the permanent failure that it ended in."""
    cost: dict[str, Any] = {}
    last = task.write_failure and held.attempts >= settings.max_attempts
    try:
        if task.write_failure and held.attempts > settings.max_attempts:
            raise _attempts_used_up(held, settings)
        with measured(staging) as cost:
            _make(task, staging)
    except UncheckedError as error:
        if not last:
            raise
        return cost, error
    except TransientError as error:
        return cost, _final_failure(task, held, error, settings)
    except PermanentError as error:
        return cost, error
    except MemoryError as error:
        raise StageError(f"the {held} ran out of memory", ErrorClass.OUT_OF_MEMORY) from error
    except OSError as error:
        if os_error_class(error) is ErrorClass.INTERNAL:
            raise
        return cost, _final_failure(task, held, _transient(error), settings)
    except Exception as error:
        if not last:
            raise
        log.exception("attempt %d of %d failed", held.attempts, settings.max_attempts)
        return cost, PermanentError(text_of(error), ErrorClass.INTERNAL)
    return cost, None


def _transient(error: OSError) -> TransientError:
    explained = explain(error) or DataminerError(text_of(error))
    return TransientError(explained.message, os_error_class(error), explained.hint)


def _make(task: StageTask, staging: Path) -> None:
    """Make the result; an error while the input changes tells nothing about the video."""
    try:
        task.make(staging)
    except LeaseLost:
        raise
    except Exception:
        task.refuse_change()
        raise


def write_failure(task: StageTask, staging: Path, error: StageError) -> None:
    """Write a permanent failure as the result; raise it if the stage has no such results."""
    if task.write_failure is None:
        raise error
    log.log(logging.INFO if isinstance(error, FailedBefore) else logging.ERROR, "%s", error)
    for entry in staging.iterdir():
        entry.unlink()
    task.write_failure(staging, error, error.error_class)


def is_failing(error: BaseException) -> bool:
    """Tell whether an error is about the source, and not about this machine or its pace."""
    return (
        isinstance(error, TransientError)
        and not isinstance(error, UncheckedError)
        and kind_of(error.error_class) is Kind.TRANSIENT
        and error.error_class not in (ErrorClass.RATE_LIMIT, ErrorClass.BOT_CHECK)
        and not error.progressed
    )


def _is_over(held: Claim, settings: MonitorConfig) -> bool:
    """Tell whether the attempt that is failing now is the last."""
    tried = held.failures + 1 >= settings.max_attempts
    return tried and held.failing_seconds >= settings.give_up_hours * 3600


def _final_failure(
    task: StageTask, held: Claim, error: TransientError, settings: MonitorConfig
) -> StageError:
    """Return the permanent failure after the last attempt; raise the error if there are more."""
    if not (task.write_failure and is_failing(error) and _is_over(held, settings)):
        raise error
    hours = held.failing_seconds / 3600
    spread = f" in {hours:,.0f} hours" if hours >= 1 else ""
    message = f"{error.message}; given up after {held.failures + 1} attempts{spread}"
    hint = f"once the cause is gone, `dataminer retry --class {error.error_class}`"
    if error.hint != NEXT_STEP[error.error_class]:
        hint = error.hint
    return StageError(message, error.error_class, hint)


def _attempts_used_up(held: Claim, settings: MonitorConfig) -> PermanentError:
    message = f"given up: {settings.max_attempts} attempts at the {held} ended without a result"
    row = claims.read_row(held.stage, held.key)
    if row is None or row.error_class is None:
        return PermanentError(message, ErrorClass.INTERNAL)
    hint = f"fix the cause, then `dataminer retry`; the last attempt: {row.error}"
    return PermanentError(message, ErrorClass(row.error_class), hint)


def text_of(error: BaseException) -> str:
    """Return the text of an error for a row."""
    if isinstance(error, DataminerError):
        return str(error)
    return f"{type(error).__name__}: {error}"
