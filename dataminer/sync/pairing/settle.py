"""Keeps a store and the database a pair at the start of each run."""

from __future__ import annotations

from dataclasses import replace

from psycopg2.extensions import connection as Connection

from dataminer.db.connection import transaction
from dataminer.store.layout import Store
from dataminer.sync.pairing import write
from dataminer.sync.pairing.check import PairingStep, next_step, require
from dataminer.sync.pairing.database import query_state
from dataminer.sync.pairing.state import PairState
from dataminer.sync.pairing.store_mark import STORE_FILE, StoreMark

_MOST_TOKENS = 100  # earlier ones that are recorded


def settle(store: Store) -> str | None:
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
        See :func:`dataminer.sync.pairing.check.require`; nothing was written then.
    """
    if require(store) is PairingStep.NOTHING:
        return None
    token = write.new_token()

    def work(connection: Connection) -> str | None:
        with connection.cursor() as cursor:
            cursor.execute(write.LOCK)
            state = query_state(cursor, store)
            step = next_step(state)
            if step is PairingStep.NOTHING:
                return None
            mark = _mark_after(state, step, token)
            paths = write.record_store(cursor, state, mark.token)
            write.write_mark(state, mark)
        return _message(state, step, paths)

    return transaction(work, name="pair")


def _mark_after(state: PairState, step: PairingStep, token: str) -> StoreMark:
    """Return what the store records after a step."""
    mark, known = state.mark, state.known
    if step is PairingStep.PAIR:
        return write.new_mark(state, token)
    if step is PairingStep.MARK and known:
        return write.new_mark(state, known.token)
    if step is PairingStep.TAKE and mark:
        return replace(write.new_mark(state, mark.token), was=mark.was, undo=mark.undo)
    tokens = [*(mark.was if mark else ()), *([mark.token] if mark else [])]
    if known and known.token not in tokens:
        tokens.append(known.token)
    was, undo = tuple(tokens[-_MOST_TOKENS:]), mark.undo if mark else None
    return replace(write.new_mark(state, token), was=was, undo=undo)


def _message(state: PairState, step: PairingStep, paths: int) -> str | None:
    mark, known = state.mark, state.known
    if step is PairingStep.FOLLOW and known:
        follow = f": {paths} paths in the database follow it" if paths else ""
        return f"the store has moved from {known.path} to {state.path}{follow}"
    if step is PairingStep.MARK:
        return f"{state.path / STORE_FILE} was missing and has been written again"
    if step is PairingStep.REPLACED and mark and mark.database != state.database:
        return (
            f"the database was {mark.database}, and is {state.database} now: the store"
            f" {state.path} now works with this one only"
        )
    return None
