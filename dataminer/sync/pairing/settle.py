"""Keeps a store and the database a pair at the start of each run."""

from __future__ import annotations

from dataclasses import replace

from psycopg2.extensions import connection as Connection

from dataminer.db.connection import transaction
from dataminer.store.layout import Store
from dataminer.sync.pairing import write
from dataminer.sync.pairing.check import PairingStep, next_step, require_pair
from dataminer.sync.pairing.database import query_state
from dataminer.sync.pairing.records import STORE_FILE, StoreRecord
from dataminer.sync.pairing.state import PairState

_MOST_TOKENS = 100  # earlier ones that are recorded


def settle_pair(store: Store) -> str | None:
    """Let a store and the database continue as a pair, unless they belong to others.

    If the store has moved, the paths in rows follow it.

    Parameters
    ----------
    store : Store
        The store; its folder is made if it does not exist.

    Returns
    -------
    str or None
        A message for the user, if anything changed that matters.

    Raises
    ------
    NotAPair
        See :func:`dataminer.sync.pairing.check.require_pair`; nothing was written then.
    """
    if require_pair(store) is PairingStep.NOTHING:
        return None
    token = write.new_token()

    def work(connection: Connection) -> str | None:
        with connection.cursor() as cursor:
            cursor.execute(write.LOCK)
            state = query_state(cursor, store)
            step = next_step(state)
            if step is PairingStep.NOTHING:
                return None
            in_store = _store_record_after(state, step, token)
            paths = write.record_store(cursor, state, in_store.token)
            write.write_store_record(state, in_store)
        return _message(state, step, paths)

    return transaction(work, name="pair")


def _store_record_after(state: PairState, step: PairingStep, token: str) -> StoreRecord:
    """Return what the store records after a step."""
    in_store, in_database = state.in_store, state.in_database
    if step is PairingStep.PAIR:
        return write.new_store_record(state, token)
    if step is PairingStep.RESTORE and in_database:
        return write.new_store_record(state, in_database.token)
    if step is PairingStep.TAKE and in_store:
        return replace(
            write.new_store_record(state, in_store.token), was=in_store.was, undo=in_store.undo
        )
    tokens = [*(in_store.was if in_store else ()), *([in_store.token] if in_store else [])]
    if in_database and in_database.token not in tokens:
        tokens.append(in_database.token)
    was, undo = tuple(tokens[-_MOST_TOKENS:]), in_store.undo if in_store else None
    return replace(write.new_store_record(state, token), was=was, undo=undo)


def _message(state: PairState, step: PairingStep, paths: int) -> str | None:
    in_store, in_database = state.in_store, state.in_database
    if step is PairingStep.FOLLOW and in_database:
        follow = f": {paths} paths in the database follow it" if paths else ""
        return f"the store has moved from {in_database.path} to {state.path}{follow}"
    if step is PairingStep.RESTORE:
        return f"{state.path / STORE_FILE} was missing and has been written again"
    if step is PairingStep.REPLACED and in_store and in_store.database != state.database:
        return (
            f"the database was {in_store.database}, and is {state.database} now: the store"
            f" {state.path} now works with this one only"
        )
    return None
