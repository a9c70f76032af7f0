"""Whether and when a video that failed is tried again.

:data:`dataminer.errors.TRANSIENT_CLASSES` says after which failures another attempt may succeed. A
job tries again after each of :data:`RETRY_PAUSES`, and then leaves the video to the next run. A
video fails for good once it has failed ``monitor.max_attempts`` times over
``monitor.give_up_hours``.
"""

from __future__ import annotations

from dataminer.config import MonitorConfig
from dataminer.errors import (
    NEXT_STEP,
    DataminerError,
    ErrorClass,
    Kind,
    PermanentError,
    StageError,
    TransientError,
    UncheckedError,
    kind_of,
)
from dataminer.sync.claims import claims
from dataminer.sync.claims.claims import Claim
from dataminer.sync.tasks.task import StageTask

# How many times `monitor.retry_seconds` pass before each retry within a job
RETRY_PAUSES = (1, 5)


def pause_before_retry(failures: int, settings: MonitorConfig) -> float | None:
    """Return how long a job waits before it tries again; None if that is left to the next run.

    Parameters
    ----------
    failures : int
        How often the video has failed in this job before.
    settings : MonitorConfig
        Where ``retry_seconds`` is.

    Returns
    -------
    float or None
        Seconds.
    """
    if failures >= len(RETRY_PAUSES):
        return None
    return RETRY_PAUSES[failures] * settings.retry_seconds


def counts_as_failure(error: BaseException) -> bool:
    """Tell whether an error is about the source, and not about this machine or its pace."""
    return (
        isinstance(error, TransientError)
        and not isinstance(error, UncheckedError)
        and kind_of(error.error_class) is Kind.TRANSIENT
        and error.error_class not in (ErrorClass.RATE_LIMIT, ErrorClass.BOT_CHECK)
        and not error.progressed
    )


def is_last_failure(held: Claim, settings: MonitorConfig) -> bool:
    """Tell whether the attempt that is failing now is the last."""
    tried = held.failures + 1 >= settings.max_attempts
    return tried and held.failing_seconds >= settings.give_up_hours * 3600


def final_failure(
    task: StageTask, held: Claim, error: TransientError, settings: MonitorConfig
) -> StageError:
    """Return the permanent failure after the last attempt; raise the error if there are more."""
    if not (task.write_failure and counts_as_failure(error) and is_last_failure(held, settings)):
        raise error
    hours = held.failing_seconds / 3600
    spread = f" in {hours:,.0f} hours" if hours >= 1 else ""
    message = f"{error.message}; given up after {held.failures + 1} attempts{spread}"
    hint = f"once the cause is gone, `dataminer retry --class {error.error_class}`"
    if error.hint != NEXT_STEP[error.error_class]:
        hint = error.hint
    return StageError(message, error.error_class, hint)


def attempts_used_up(held: Claim, settings: MonitorConfig) -> PermanentError:
    """Return the failure of a video whose attempts ended without a result, and without an error."""
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
