"""Do one stage's work on one row: claim it, make the result, put it in place, record it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dataminer.config import MonitorConfig
from dataminer.errors import (
    NEXT_STEP,
    DataminerError,
    ErrorClass,
    FailedBefore,
    InputChanged,
    Kind,
    PermanentError,
    StageError,
    TransientError,
    UncheckedError,
    kind_of,
    os_error_class,
)
from dataminer.files import fsync_tree, publish_dir, remove, remove_partials, staging_dir
from dataminer.permissions import explain, named
from dataminer.sync.claims import claims, dead_jobs
from dataminer.sync.claims.claims import Claim, LeaseLost
from dataminer.sync.claims.heartbeat import Interrupted, kept_alive
from dataminer.sync.claims.stage_rows import StageRows
from dataminer.sync.jobs.costs import measured

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_WAIT, LONGEST_WAIT = 0.2, 15.0  # seconds between two looks at a row that is busy
_TIMES = 5  # that a result starts over because its input changed; then it is for the next run


@dataclass(frozen=True)
class TaskOutcome:
    """What finished files say, in the row's terms.

    Parameters
    ----------
    status : str
        The status that the row has with these files.
    columns : dict
        What else the row says.
    fingerprint : str
        Of the input and the settings that the files were made from.
    """

    status: str
    columns: dict[str, Any]
    fingerprint: str


@dataclass(frozen=True)
class StageTask:
    """One stage for one row.

    Parameters
    ----------
    stage : StageRows
        The stage.
    key : Mapping
        The row.
    final : Path
        The folder of the result.
    fingerprint : str
        Of the input and the settings: a whole result that carries it need not be made again.
    make : callable
        Makes the result in the folder it is given.
    read : callable
        Tells what the files in a folder say: None where they are absent or not whole.
    write_failure : callable or None
        Writes, into the folder it is given, the result of a video that failed. None where a
        failure is not data (project stages).
    instead : callable or None
        Tells what is there to go on with after a failure for good; None if nothing is.
    lead : callable
        Has what leads people to the result lead to this one, once it is in place.
    forced : bool
        Make the result anew, whatever there is.
    inputs : callable
        Tells in which state its input is, as something that can be compared.
    input_state : object
        What ``inputs`` told before anything was read of it, the fingerprint included.
    """

    stage: StageRows
    key: Mapping[str, Any]
    final: Path
    fingerprint: str
    make: Callable[[Path], None]
    read: Callable[[Path], TaskOutcome | None]
    write_failure: Callable[[Path, DataminerError, ErrorClass], None] | None = field(default=None)
    instead: Callable[[DataminerError, ErrorClass], TaskOutcome | None] = lambda *_: None
    lead: Callable[[], None] = lambda: None
    forced: bool = False
    inputs: Callable[[], object] = lambda: None
    input_state: object = None

    def refuse_change(self) -> None:
        """Stop if the input is no longer what the fingerprint was taken of.

        Raises
        ------
        InputChanged
            When it was replaced, changed or removed.
        """
        if self.inputs() != self.input_state:
            raise InputChanged(self.final)


class Keeper(Protocol):
    """Keeps claims alive while their work runs, and records results."""

    def kept_alive(self, held: Claim, settings: MonitorConfig, /) -> AbstractContextManager[None]:
        """Hold a claim for the block, see :func:`dataminer.sync.claims.heartbeat.kept_alive`."""

    def flush(self, folder: Path, /) -> None:
        """Flush the folder of a result to the disk."""

    def finish(
        self,
        held: Claim,
        status: str,
        columns: Mapping[str, Any],
        publish: Callable[[], object],
        cost: Mapping[str, Any] | None = None,
        /,
    ) -> None:
        """Put a result in place and record it, see :func:`dataminer.sync.claims.claims.finish`."""


class Alone:
    """Keeps the one claim of a process."""

    kept_alive = staticmethod(kept_alive)
    flush = staticmethod(fsync_tree)
    finish = staticmethod(claims.finish)


ALONE = Alone()


class Deleted(DataminerError):
    """The row is no longer there."""

    def __init__(self, key: Mapping[str, Any]) -> None:
        what = f"video {key['video_id']}" if "video_id" in key else "project"
        super().__init__(
            f"{what} was deleted", "add it again; `dataminer populate` does if it is listed"
        )


class Busy(DataminerError):
    """Another process works on the row at this moment."""


def perform_described(
    describe: Callable[[], StageTask],
    settings: MonitorConfig,
    *,
    patient: bool = True,
    keeper: Keeper = ALONE,
    held: Claim | None = None,
) -> TaskOutcome:
    """Do :func:`run_task` for what ``describe`` returns, anew if its input changes meanwhile.

    Parameters
    ----------
    describe : callable
        Describes the work, by the input as it is at that moment.
    settings, patient, keeper : MonitorConfig, bool, Keeper
        As for :func:`run_task`.
    held : Claim, optional
        The claim of the row, if it is claimed already.

    Raises
    ------
    InputChanged
        When it changed each time.
    """
    given = [held] if held else []

    def once() -> TaskOutcome:
        first = given.pop() if given else None
        try:
            work = describe()
        except BaseException as error:
            if first:
                _give_back(first, error)
            raise
        return run_task(work, settings, patient=patient, keeper=keeper, held=first)

    return undisturbed(once)


def undisturbed(make: Callable[[], T]) -> T:
    """Call what makes something from files, again if they are replaced meanwhile.

    Raises
    ------
    InputChanged
        When they were each time.
    """
    for _ in range(_TIMES):
        try:
            return make()
        except InputChanged as error:
            log.warning("%s: starting over", error.message)
    return make()


def run_task(
    work: StageTask,
    settings: MonitorConfig,
    *,
    patient: bool = True,
    keeper: Keeper = ALONE,
    held: Claim | None = None,
) -> TaskOutcome:
    """See to it that the result of ``work`` is there, making it unless it is.

    A failure for good is a result like any other.

    Parameters
    ----------
    work : StageTask
        What to do.
    settings : MonitorConfig
        Heartbeat, staleness and the number of attempts.
    patient : bool
        Wait while another process makes it.
    keeper : Keeper
        Keeps the claim alive, and records the result.
    held : Claim, optional
        The claim of the row, if it is claimed already.

    Returns
    -------
    Outcome
        What is there now.

    Raises
    ------
    Busy
        When another process makes it, unless ``patient``.
    TransientError, DataminerError
        When it failed in a way that another attempt may mend.
    InputChanged
        When its input is not what its fingerprint was taken of: then nothing counts.
    LeaseLost
        When another process took over.
    """
    if held is None:
        held, outcome = _acquire(work, settings, patient=patient)
        if held is None:
            return outcome  # type: ignore[return-value]
    if held.again:
        remove_partials(work.final)
    try:
        with keeper.kept_alive(held, settings):
            return _make(work, held, settings, keeper)
    except BaseException as error:
        _give_back(held, error)
        raise


def _give_back(held: Claim, error: BaseException) -> None:
    """Give back a claim whose attempt ended in an error."""
    if isinstance(error, Interrupted | KeyboardInterrupt):
        said, kind = dead_jobs.stopped()
        claims.release(held, error=said, error_class=kind, counts=False)
        return
    if isinstance(error, InputChanged):
        claims.release(held, error=None, error_class=None, counts=False)
        return
    counts = isinstance(error, UncheckedError) or not isinstance(error, TransientError)
    error_class = getattr(error, "error_class", ErrorClass.INTERNAL)
    if not claims.release(
        held,
        error=_described(error),
        error_class=error_class,
        counts=counts,
        failing=_is_failing(error),
        wait=error.wait if isinstance(error, TransientError) else None,
    ):
        raise LeaseLost.of(held) from error


def _acquire(
    work: StageTask, settings: MonitorConfig, *, patient: bool
) -> tuple[Claim | None, TaskOutcome | None]:
    """Claim the row, or return the result that is there or that another process finished."""
    wait, waited = FIRST_WAIT, False
    if not work.final.exists():  # as a rule: there is nothing but a row that waits
        held = _claim(work, settings, seen=work.stage.released)
        if held:
            return held, None
    while True:
        # the row first: what it says is done is in place by then
        row = claims.read_row(work.stage, work.key)
        outcome = _usable(work, also_failed=waited)
        if row is None:
            raise Deleted(work.key)
        if (
            outcome
            and (work.stage.shared or row.made == _made(work, outcome))
            and row.status in (*work.stage.past, outcome.status)
        ):
            log.info("%s: already %s, nothing to do", work.final, outcome.status)
            return None, outcome
        dead_lease = row.lease if claims.is_dead(row.locked_by) else None
        if dead_lease is not None and claims.is_last_kill(work.stage, row, settings):
            _leave_alone(work, row, settings)
        held = _claim(work, settings, seen=row.status, dead_lease=dead_lease)
        if held:
            return held, None
        if row.locked_by is None and row.status not in work.stage.idle:
            raise DataminerError(
                f"{work.stage.name} cannot begin on {work.final}: the database says {row.status}",
                "run snakemake again, which makes what comes before it",
            )
        if not patient:
            raise Busy(f"{work.final} is {row.status} by {row.locked_by}")
        log.info("%s is %s by %s; waiting %.1f s", work.final, row.status, row.locked_by, wait)
        time.sleep(wait * random.uniform(0.5, 1.0))
        wait, waited = min(wait * 2, LONGEST_WAIT), True


def _leave_alone(work: StageTask, row: claims.RowState, settings: MonitorConfig) -> None:
    """Give back the claim of a dead run, the last of those that were killed with this video."""
    held = Claim(work.stage, work.key, row.lease, attempts=0)
    how = f"without a word, as {row.kills} before"
    if claims.release_killed(held, row, settings, how, ErrorClass.KILLED):
        error = TransientError(
            f"{work.final} was worked on when {row.kills + 1} jobs were killed", ErrorClass.KILLED
        )
        error.wait = claims.pause_of_killed(settings)
        raise error


def _claim(
    work: StageTask, settings: MonitorConfig, *, seen: str, dead_lease: int | None = None
) -> Claim | None:
    held = claims.claim(
        work.stage,
        work.key,
        stale_seconds=settings.stale_threshold_minutes * 60,
        dead_lease=dead_lease,
        seen=seen,
    )
    if held:
        log.info("claimed the %s (lease %d, attempt %d)", held, held.lease, held.attempts)
    return held


def _made(work: StageTask, outcome: TaskOutcome) -> Any:
    """Return what the row says if it knows of a result."""
    column = work.stage.made
    return outcome.columns.get(column, outcome.fingerprint) if column else None


def _usable(work: StageTask, *, also_failed: bool) -> TaskOutcome | None:
    """Return what is in place if it was made from the same input with the same settings."""
    outcome = work.read(work.final)
    anew = work.forced and not also_failed
    if outcome is None or anew or outcome.fingerprint != work.fingerprint:
        return None
    return outcome if also_failed or outcome.status != "FAILED" else None


@named()
def _make(work: StageTask, held: Claim, settings: MonitorConfig, keeper: Keeper) -> TaskOutcome:
    work.refuse_change()
    there = _usable(work, also_failed=False)
    if there:  # made before, but the row did not know
        there = _placed(there, work.final, work.final)
        keeper.finish(held, there.status, there.columns, lambda: None)
        return there
    with staging_dir(work.final) as staging:
        cost, failure = _try(work, held, settings, staging)
        if failure:
            kept = work.instead(failure, failure.error_class)
            if kept:
                log.warning("%s; what there is of it is kept", failure)
                keeper.finish(held, kept.status, kept.columns, work.refuse_change, cost)
                return kept
            _write_failure(work, staging, failure)
        outcome = work.read(staging)
        if outcome is None:
            work.refuse_change()
            raise DataminerError(f"the {held} left no whole result in {staging}", "report this bug")
        outcome = _placed(outcome, staging, work.final)
        keeper.flush(staging)
        replaced: list[Path | None] = []

        def publish() -> None:
            work.refuse_change()
            replaced.append(publish_dir(staging, work.final))
            if outcome.status != "FAILED":
                work.lead()

        keeper.finish(held, outcome.status, outcome.columns, publish, cost)
    _remove(replaced)
    log.info("%s: %s", work.final, outcome.status)
    return outcome


def _try(
    work: StageTask, held: Claim, settings: MonitorConfig, staging: Path
) -> tuple[dict[str, Any], StageError | None]:
    """Make the result; return what that cost, and the failure for good that it ended in."""
    cost: dict[str, Any] = {}
    last = work.write_failure and held.attempts >= settings.max_attempts
    try:
        if work.write_failure and held.attempts > settings.max_attempts:
            raise _gave_up(held, settings)
        with measured(staging) as cost:
            _make_in(work, staging)
    except UncheckedError as error:
        if not last:
            raise
        return cost, error
    except TransientError as error:
        return cost, _in_the_end(work, held, error, settings)
    except PermanentError as error:
        return cost, error
    except MemoryError as error:
        raise StageError(f"the {held} ran out of memory", ErrorClass.OUT_OF_MEMORY) from error
    except OSError as error:
        error_class = os_error_class(error)
        if error_class is ErrorClass.INTERNAL:
            raise
        known = explain(error) or DataminerError(_described(error))
        passing = TransientError(known.message, error_class, known.hint)
        return cost, _in_the_end(work, held, passing, settings)
    except Exception as error:
        if not last:
            raise
        log.exception("attempt %d of %d failed", held.attempts, settings.max_attempts)
        return cost, PermanentError(_described(error), ErrorClass.INTERNAL)
    return cost, None


def _make_in(work: StageTask, staging: Path) -> None:
    """Make the result; whatever goes wrong while its input changes says nothing of the video."""
    try:
        work.make(staging)
    except LeaseLost:
        raise
    except Exception:
        work.refuse_change()
        raise


def _remove(replaced: Iterable[Path | None]) -> None:
    for path in filter(None, replaced):
        remove(path, ignore_errors=True)


def _placed(outcome: TaskOutcome, staging: Path, final: Path) -> TaskOutcome:
    """Name the paths as they will be once the folder is in place."""

    def moved(value: Any) -> Any:
        if not isinstance(value, Path):
            return value
        return str(final / value.relative_to(staging))

    columns = {name: moved(value) for name, value in outcome.columns.items()}
    return TaskOutcome(outcome.status, columns, outcome.fingerprint)


def _write_failure(work: StageTask, staging: Path, error: StageError) -> None:
    if work.write_failure is None:
        raise error
    log.log(logging.INFO if isinstance(error, FailedBefore) else logging.ERROR, "%s", error)
    for entry in staging.iterdir():
        entry.unlink()
    work.write_failure(staging, error, error.error_class)


def _is_failing(error: BaseException) -> bool:
    """Tell whether an error says something of the source, and not of this machine or its pace."""
    return (
        isinstance(error, TransientError)
        and not isinstance(error, UncheckedError)
        and kind_of(error.error_class) is Kind.TRANSIENT
        and error.error_class not in (ErrorClass.RATE_LIMIT, ErrorClass.BOT_CHECK)
        and not error.progressed
    )


def _is_over(held: Claim, settings: MonitorConfig) -> bool:
    """Tell whether the attempt that fails in passing now is the last."""
    tried = held.failures + 1 >= settings.max_attempts
    return tried and held.failing_seconds >= settings.give_up_hours * 3600


def _in_the_end(
    work: StageTask, held: Claim, error: TransientError, settings: MonitorConfig
) -> StageError:
    """Return the failure for good that an error comes to; raise it if there are attempts left."""
    if not (work.write_failure and _is_failing(error) and _is_over(held, settings)):
        raise error
    hours = held.failing_seconds / 3600
    spread = f" in {hours:,.0f} hours" if hours >= 1 else ""
    message = f"{error.message}; given up after {held.failures + 1} attempts{spread}"
    again = f"once the cause is gone, `dataminer retry --class {error.error_class}`"
    if error.hint != NEXT_STEP[error.error_class]:
        again = error.hint
    return StageError(message, error.error_class, again)


def _gave_up(held: Claim, settings: MonitorConfig) -> PermanentError:
    said = f"given up: {settings.max_attempts} attempts at the {held} ended without a result"
    row = claims.read_row(held.stage, held.key)
    if row is None or row.error_class is None:
        return PermanentError(said, ErrorClass.INTERNAL)
    hint = f"mend the cause, then `dataminer retry`; the last attempt: {row.error}"
    return PermanentError(said, ErrorClass(row.error_class), hint)


def _described(error: BaseException) -> str:
    if isinstance(error, DataminerError):
        return str(error)
    return f"{type(error).__name__}: {error}"
