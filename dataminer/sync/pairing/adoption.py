"""``dataminer adopt``: joins a store and a database that belonged to others, and undoes it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from dataminer.db import schema
from dataminer.db.connection import transaction
from dataminer.errors import DataminerError
from dataminer.files.reading import list_names
from dataminer.store.layout import Store
from dataminer.store.trash import PROJECT_NAME
from dataminer.sync.claims.owners import is_dead
from dataminer.sync.pairing import write
from dataminer.sync.pairing.check import PairingStep, next_step
from dataminer.sync.pairing.database import query_state, read_pair_state, workdirs
from dataminer.sync.pairing.records import (
    STORE_FILE,
    NotAPair,
    PreviousPair,
    StoreRecord,
    read_store_record,
)
from dataminer.sync.pairing.state import PairState

_MOST_UNDO_STEPS = 20

# ---- statements: values bound ------------------------------------------------------------------

_READ_ONLY = "SET TRANSACTION READ ONLY"
_KNOWN_PROJECTS = "SELECT name FROM projects WHERE name = ANY(%(names)s)"
_AT_WORK = """
SELECT DISTINCT locked_by FROM (
    SELECT locked_by, heartbeat_at FROM videos
    UNION ALL SELECT locked_by, heartbeat_at FROM project_videos
    UNION ALL SELECT locked_by, heartbeat_at FROM projects) AS held
WHERE heartbeat_at >= clock_timestamp() - make_interval(secs => %(stale)s) ORDER BY 1
"""


@dataclass(frozen=True)
class Adoption:
    """What `dataminer adopt` would do, or has done.

    Parameters
    ----------
    lines : list of str
        For people.
    needed : bool
        Whether there is anything to do.
    projects : list of str
        Projects with files in the store and no row in the database.
    """

    lines: list[str] = field(default_factory=list)
    needed: bool = True
    projects: list[str] = field(default_factory=list)


def adopt(store: Store, *, stale_seconds: float, dry_run: bool = False) -> Adoption:
    """Join a store and the database, whatever each of them belonged to.

    No file and no row is lost: only the records of the two and the paths in rows change. What
    either of them belonged to before is left without it.

    Parameters
    ----------
    store : Store
        The store; it is made if it does not exist, and so is the database.
    stale_seconds : float
        The age of a heartbeat from which on its claim is no obstacle.
    dry_run : bool
        Write nothing.

    Raises
    ------
    DataminerError
        If somebody is at work with the database.
    """
    if not dry_run:
        schema.upgrade()
    elif read_pair_state(store) is None:
        return _adoption_of_new_database(store)
    token = write.new_token()

    def work(connection: Connection) -> Adoption:
        with connection.cursor() as cursor:
            cursor.execute(_READ_ONLY if dry_run else write.LOCK)
            state = query_state(cursor, store, thorough=True)
            if _is_pair(state):
                line = f"Nothing to do: {_both(state)} belong together already."
                return Adoption([line], needed=False)
            if not dry_run:
                _refuse_at_work(cursor, state, stale_seconds)
                _join(cursor, state, token)
            return _adoption(cursor, state, dry_run=dry_run)

    return transaction(work, name="adopt")


def _adoption_of_new_database(store: Store) -> Adoption:
    in_store = read_store_record(store.root)
    was = f", which belonged to the database {in_store.database}" if in_store else ""
    return Adoption([f"Would make a database for the store {store.root}{was}."])


def _join(cursor: Cursor, state: PairState, token: str) -> None:
    write.record_store(cursor, state, token)
    in_store = write.new_store_record(state, token)
    write.write_store_record(state, replace(in_store, undo=_present_pair(state)))


def undo(store: Store, *, stale_seconds: float, dry_run: bool = False) -> list[str]:
    """Undo :func:`adopt`, with the same parameters; return lines for people.

    Raises
    ------
    DataminerError
        If the two were not joined by :func:`adopt`, or somebody is at work.
    """

    def work(connection: Connection) -> tuple[PairState, PreviousPair]:
        with connection.cursor() as cursor:
            cursor.execute(_READ_ONLY if dry_run else write.LOCK)
            state = query_state(cursor, store)
            before = _pair_before_adopt(state)
            if not dry_run:
                _refuse_at_work(cursor, state, stale_seconds)
                if before.in_database and state.in_database:
                    write.follow(cursor, state.in_database, before.in_database.root)
                    write.replace_database_record(cursor, before.in_database)
                else:
                    write.replace_database_record(cursor, None)
        return state, before

    state, before = transaction(work, name="adopt")
    if not dry_run:
        _restore_store_record(state, before.in_store)
    verb = "would belong" if dry_run else "belongs"
    in_database, in_store = before.in_database, before.in_store
    return [
        f"The database {state.database} {verb} to"
        f" {f'the store {in_database.path}' if in_database else 'no store'} again.",
        f"The store {state.path} {verb} to"
        f" {f'the database {in_store.database}' if in_store else 'no database'} again.",
    ]


def _restore_store_record(state: PairState, in_store: StoreRecord | None) -> None:
    if in_store:
        write.write_store_record(state, in_store)
        return
    (state.path / STORE_FILE).unlink(missing_ok=True)
    with suppress(OSError):  # adopt made the folder, and nothing is in it
        state.path.rmdir()


def _pair_before_adopt(state: PairState) -> PreviousPair:
    """Return what a store and its database held before `dataminer adopt`."""
    in_store, in_database = state.in_store, state.in_database
    if in_store and in_store.undo:
        is_pair = in_database and in_database.token == in_store.token and not state.other_exists
        # killed between the two writes
        killed = in_database == in_store.undo.in_database and in_store.location == state.location
        if is_pair or killed:
            return in_store.undo
    raise DataminerError(
        f"there is nothing to undo: {_both(state)} are no pair that `dataminer adopt` has made",
        "see `dataminer status`",
    )


def _present_pair(state: PairState) -> PreviousPair:
    """Return what a store and a database hold before they are joined."""
    in_store, in_database = state.in_store, state.in_database
    if (
        in_store
        and in_store.undo
        and in_store.undo.in_database == in_database
        and in_store.location == state.location
    ):
        return in_store.undo  # an earlier attempt to join them was killed
    return PreviousPair(_limited(in_store, _MOST_UNDO_STEPS), in_database)


def _limited(in_store: StoreRecord | None, steps: int) -> StoreRecord | None:
    """Return a record that can be undone a limited number of times."""
    if in_store is None or in_store.undo is None:
        return in_store
    if steps == 0:
        return replace(in_store, undo=None)
    return replace(
        in_store, undo=replace(in_store.undo, in_store=_limited(in_store.undo.in_store, steps - 1))
    )


def _adoption(cursor: Cursor, state: PairState, *, dry_run: bool) -> Adoption:
    would, will = ("Would join", "would be") if dry_run else ("Joined", "is")
    lines = [f"{would} {_both(state)}."]
    if state.in_database and state.moved:
        lines.append(f"The store {state.in_database.path} {will} without a database.")
    if state.in_store and state.in_store.location != state.location:
        lines.append(f"The database {state.in_store.database} {will} without a store.")
    lines.append(
        f"Videos with files in the store: {len(state.names)}; the database has rows of"
        f" {state.known_here} of them. Videos with files, as the database has it:"
        f" {state.with_files}."
    )
    projects = list_names(state.store.project("x").parent, PROJECT_NAME)
    cursor.execute(_KNOWN_PROJECTS, {"names": sorted(projects)})
    unknown = sorted(projects - {row[0] for row in cursor.fetchall()})
    return Adoption(lines, projects=unknown)


def _is_pair(state: PairState) -> bool:
    try:
        return next_step(state) is PairingStep.NOTHING
    except NotAPair:
        return False


def _refuse_at_work(cursor: Cursor, state: PairState, stale_seconds: float) -> None:
    """Raise if a run is at work with this database, or with the one that the store belonged to."""
    cursor.execute(_AT_WORK, {"stale": stale_seconds})
    owners = [row[0] for row in cursor.fetchall() if not is_dead(row[0])]
    if owners:
        raise DataminerError(
            f"{', '.join(owners)} is at work with this database",
            "wait for the run to end, or end it",
        )
    folders = {*workdirs(cursor), *([state.in_store.workdir] if state.in_store else [])} - {""}
    for folder in sorted(folders):
        with suppress(OSError):
            if any(Path(folder, ".snakemake", "locks").iterdir()):
                raise DataminerError(
                    f"a run of snakemake is at work in {folder}, or was killed there",
                    "wait for its end; if it was killed, run `snakemake --unlock` there",
                )


def _both(state: PairState) -> str:
    return f"the store {state.path} and the database {state.database}"
