"""One attempt at a task: make its result, or raise what ended it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from dataminer.config import MonitorConfig
from dataminer.errors import (
    DataminerError,
    ErrorClass,
    FailedBefore,
    PermanentError,
    StageError,
    TransientError,
    UncheckedError,
    os_error_class,
)
from dataminer.permissions import explain_os_error
from dataminer.sync.claims.claims import Claim, LeaseLost
from dataminer.sync.tasks.costs import measured
from dataminer.sync.tasks.retry_rule import attempts_used_up, final_failure, text_of
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
            raise attempts_used_up(held, settings)
        with measured(staging) as cost:
            _make(task, staging)
    except UncheckedError as error:
        if not last:
            raise
        return cost, error
    except TransientError as error:
        return cost, final_failure(task, held, error, settings)
    except PermanentError as error:
        return cost, error
    except MemoryError as error:
        raise StageError(f"the {held} ran out of memory", ErrorClass.OUT_OF_MEMORY) from error
    except OSError as error:
        if os_error_class(error) is ErrorClass.INTERNAL:
            raise
        return cost, final_failure(task, held, _transient(error), settings)
    except Exception as error:
        if not last:
            raise
        log.exception("attempt %d of %d failed", held.attempts, settings.max_attempts)
        return cost, PermanentError(text_of(error), ErrorClass.INTERNAL)
    return cost, None


def _transient(error: OSError) -> TransientError:
    explained = explain_os_error(error) or DataminerError(text_of(error))
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
