"""Why a store and a database are no pair, and what the user can do about it."""

from __future__ import annotations

import os
from pathlib import Path

from dataminer import commands
from dataminer.sync.pairing.database import EMBEDDED
from dataminer.sync.pairing.records import Away, NeverPaired, NotAPair
from dataminer.sync.pairing.state import PairState


def belongs_to(state: PairState, path: Path, *, exists: bool) -> NotAPair:
    """Return the refusal of a database that belongs to another store."""
    gone = "" if exists else ", which is not there"
    return NotAPair(
        f"the database {state.database} belongs to the store {path}{gone}, not to {state.path}",
        f"set `store: {path}`. A second store needs a second database: name one in"
        " DATABASE_URL. If this store and this database are to work together from now on, see"
        f" what `{_adopt(state)}` does",
    )


def belongs_to_another_database(state: PairState) -> NotAPair:
    """Return the refusal of a store that belongs to another database."""
    in_store, in_database = state.in_store, state.in_database
    assert in_store
    if in_database and in_store.location == state.location:
        if state.moved:
            return belongs_to(
                state, Path(in_database.path), exists=os.path.exists(in_database.path)
            )
        return NotAPair(
            f"the store {state.path} is older than the one that the database {state.database}"
            " was last used with: a backup, or a disk that is mounted again",
            f"`{_adopt(state)}`, then rerun it without -n, and `dataminer sync`",
        )
    if in_store.database == state.database:
        return NotAPair(
            f"the database {state.database} is not the one that the store {state.path} was last"
            " used with: it was created again, or comes from a backup",
            f"put the right one back. If it is lost, see what `{_adopt(state)}` does",
        )
    its_own = (
        f", and the database {state.database} to the store {in_database.path}"
        if in_database
        else ""
    )
    return NotAPair(
        f"the store {state.path} belongs to the database {in_store.database}{its_own}",
        f"{_how_to_use(in_store.database)}. A second database needs a second store: set `store`."
        f" If the database is lost, see what `{_adopt(state)}` does",
    )


def never_paired(state: PairState) -> NeverPaired:
    """Return the refusal of a store with files of videos that the database does not have."""
    return NeverPaired(
        f"the store {state.path} has files of {_videos(len(state.names))}, and the database"
        f" {state.database} knows {state.known_here or 'none'} of them",
        "set the right `store`, or name the right database in DATABASE_URL. If it is lost, see"
        f" what `{_adopt(state)}` does",
    )


def never_paired_and_empty(state: PairState) -> NeverPaired:
    """Return the refusal of an empty store, if the database has rows with files."""
    return NeverPaired(*_files_are_absent(state))


def away(state: PairState) -> Away:
    """Return the refusal of a store whose files are absent."""
    return Away(*_files_are_absent(state))


def store_is_copy(state: PairState) -> NotAPair:
    """Return the refusal of a copied store."""
    old = Path(state.in_database.path) if state.in_database else state.path
    return NotAPair(
        f"the store {state.path} is a copy of {old}, which is still there",
        f"to work with both, each with a database of its own, see what `{_adopt(state)}` does; to"
        f" work with this one alone, delete {old}; to work with that one alone, delete this",
    )


def database_is_copy(state: PairState) -> NotAPair:
    """Return the refusal of a copied database."""
    assert state.in_store
    return NotAPair(
        f"the database {state.database} is a copy of the database {state.in_store.database}, which"
        f" is still there and works with the store {state.path}",
        "give the copy another `store`, or delete one of the two. To work with this one from"
        f" now on, see what `{_adopt(state)}` does",
    )


def _files_are_absent(state: PairState) -> tuple[str, str]:
    return (
        f"the database {state.database} has {_videos(state.with_files)} with files in the store"
        f" {state.path}, which has {state.known_here or 'none'} of them",
        "if the store is on a disk, mount it; if you moved it, set `store` to its new place; if"
        f" you emptied it on purpose, see what `{_adopt(state)}` does",
    )


def _adopt(state: PairState) -> str:
    return commands.dataminer("adopt", "-n", str(state.store.root))


def _how_to_use(database: str) -> str:
    """Return how to use a database, given its name for people."""
    if not database.startswith(EMBEDDED):
        return "name that database in DATABASE_URL"
    home = Path(database.removeprefix(EMBEDDED))
    unset = [name for name in ("DATABASE_URL", "DATAMINER_PGDATA") if os.environ.get(name)]
    if home == Path(".dataminer/postgres").absolute() and unset:
        return f"unset {' and '.join(unset)}"
    first = "unset DATABASE_URL, and " if "DATABASE_URL" in unset else ""
    return f"{first}set DATAMINER_PGDATA to {home}"


def _videos(count: int) -> str:
    return f"{count} video{'' if count == 1 else 's'}"
