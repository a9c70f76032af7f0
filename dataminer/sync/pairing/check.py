"""Checks that a store and the database belong together; writes nothing."""

from __future__ import annotations

from enum import Enum, auto
from pathlib import Path

from dataminer.store.layout import Store
from dataminer.sync.pairing import refusals
from dataminer.sync.pairing.database import database_name, read_pair_state
from dataminer.sync.pairing.records import Away, NeverPaired, read_store_record
from dataminer.sync.pairing.state import PairState, inode_of


class PairingStep(Enum):
    """What must be written so that a store and a database continue as a pair."""

    NOTHING = auto()
    PAIR = auto()  # neither records another one
    TAKE = auto()  # an older dump came back
    RESTORE = auto()  # the store's file is gone
    FOLLOW = auto()  # the store has moved
    REPLACED = auto()  # the store has come back from a backup, or the database has


def require_pair(store: Store) -> PairingStep:
    """Return what :func:`dataminer.sync.pairing.settle.settle_pair` would do.

    Raises
    ------
    NotAPair
        If the store and the database do not belong together.
    """
    state = read_pair_state(store)
    if state:
        return next_step(state)
    if in_store := read_store_record(store.root):
        state = PairState(store, database_name(), "", in_store, None)
        raise refusals.belongs_to_another_database(state)
    return PairingStep.NOTHING


def refuse_strangers(store: Store, *, may_be_away: bool = False) -> None:
    """Make sure that a store and the database do not belong to others.

    This suffices for commands that change no files. Such commands add links or draw pages, even
    before anything was made.

    Parameters
    ----------
    store : Store
        The store.
    may_be_away : bool
        Whether the store's files may be absent.

    Raises
    ------
    NotAPair
        If one of them belongs to another.
    """
    try:
        require_pair(store)
    except NeverPaired:
        return
    except Away:
        if not may_be_away:
            raise


def next_step(state: PairState) -> PairingStep:
    """Return what must be written.

    Raises
    ------
    NotAPair
        If the two do not belong together, or nothing shows that they do.
    """
    in_store, in_database = state.in_store, state.in_database
    if in_store is None:
        return _without_store_record(state)
    if not state.fits:
        raise refusals.belongs_to_another_database(state)
    if in_database and state.moved and state.old_store_exists():
        raise refusals.store_is_copy(state)
    if in_store.location != state.location and state.other_exists:
        raise refusals.database_is_copy(state)
    if in_database is None:
        if state.names and not state.shared:
            raise refusals.belongs_to_another_database(state)
        return PairingStep.TAKE
    if state.moved:
        return PairingStep.FOLLOW
    if in_database.location != state.location or in_database.inode != inode_of(state.path):
        return PairingStep.REPLACED
    return PairingStep.NOTHING if in_database.token == in_store.token else PairingStep.TAKE


def _without_store_record(state: PairState) -> PairingStep:
    in_database = state.in_database
    if in_database is None:
        return _without_records(state)
    if not state.moved:
        if not state.is_whole:
            raise refusals.away(state)
        return PairingStep.RESTORE
    exists = state.old_store_exists()
    if exists or not state.is_whole:
        raise refusals.belongs_to(state, Path(in_database.path), exists=exists)
    if state.with_files:
        return PairingStep.FOLLOW
    if state.names and not state.shared:
        raise refusals.never_paired(state)
    return PairingStep.PAIR  # nothing was made yet


def _without_records(state: PairState) -> PairingStep:
    if state.elsewhere and not state.shared:
        raise refusals.belongs_to(state, state.elsewhere, exists=True)
    if state.with_files and not state.names:
        raise refusals.never_paired_and_empty(state)
    if state.names and state.videos and not state.shared:
        raise refusals.never_paired(state)
    return PairingStep.PAIR
