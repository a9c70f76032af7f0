"""Writes what a store and a database record about each other."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, replace
from pathlib import Path

from psycopg2.extensions import cursor as Cursor

from dataminer.errors import DataminerError
from dataminer.files.publishing import atomic_write
from dataminer.permissions import explain_os_error
from dataminer.sync.pairing.records import (
    STORE_FILE,
    DatabaseRecord,
    NotAPair,
    StoreRecord,
    record_as_json,
)
from dataminer.sync.pairing.state import PairState, inode_of

# ---- statements: values bound ------------------------------------------------------------------

LOCK = "LOCK TABLE dataminer_store IN SHARE ROW EXCLUSIVE MODE"
_FORGET = "DELETE FROM dataminer_store"
_REMEMBER = """
INSERT INTO dataminer_store (token, path, root, inode, place)
VALUES (%(token)s, %(path)s, %(root)s, %(inode)s, %(location)s)
"""
# a path that only names another folder is no change: plans compare its time with that of files
_STORE_MOVES = "SELECT set_config('dataminer.store_moves', 'on', true)"
_PATHS = {
    "videos": ("video_path", "frames_dir"),
    "project_videos": ("filtered_dir",),
    "projects": ("dedup_dir", "detect_dir"),
}
_FOLLOW = """
UPDATE {table} SET {column} = %(new)s || substr({column}, 1 + length(
    CASE WHEN starts_with({column}, %(path)s) THEN %(path)s ELSE %(root)s END))
WHERE (starts_with({column}, %(path)s)
    OR starts_with({column}, %(root)s) AND NOT (%(relative)s AND starts_with({column}, '/')))
    AND NOT (starts_with(%(new)s, %(path)s) AND starts_with({column}, %(new)s))
"""


def new_token() -> str:
    """Return a token for a new pair."""
    return secrets.token_hex(16)


def new_store_record(state: PairState, token: str) -> StoreRecord:
    """Return what a store records about the database, with nothing of its past."""
    return StoreRecord(token, state.location, state.database, str(Path.cwd()))


def record_store(cursor: Cursor, state: PairState, token: str) -> int:
    """Record the store in the database; return how many paths in rows follow it."""
    root = str(state.store.root)
    _make_folder(state.path)
    paths = follow(cursor, state.in_database, root) if state.in_database and state.moved else 0
    in_database = DatabaseRecord(token, str(state.path), root, inode_of(state.path), state.location)
    if state.in_database and not state.moved:
        in_database = replace(in_database, root=state.in_database.root)
    replace_database_record(cursor, in_database)
    return paths


def replace_database_record(cursor: Cursor, in_database: DatabaseRecord | None) -> None:
    """Replace what the database records about its store."""
    cursor.execute(_FORGET)
    if in_database:
        cursor.execute(_REMEMBER, asdict(in_database))


def follow(cursor: Cursor, in_database: DatabaseRecord, root: str) -> int:
    """Let the paths in rows begin with another store; return how many changed."""
    cursor.execute(_STORE_MOVES)
    values = {
        "path": _beginning(in_database.path),
        "root": _beginning(in_database.root),
        "new": _beginning(root),
        "relative": not in_database.root.startswith("/"),
    }
    paths = 0
    for table, columns in _PATHS.items():
        for column in columns:
            cursor.execute(_FOLLOW.format(table=table, column=column), values)
            paths += cursor.rowcount
    return paths


def write_store_record(state: PairState, in_store: StoreRecord) -> None:
    """Record the database in the store, unless another database has done so since."""
    file = state.path / STORE_FILE
    try:
        with atomic_write(file) as partial:
            partial.write_text(json.dumps(record_as_json(in_store), indent=2) + "\n")
            if state.in_store is None:
                _link_unless_taken(partial, file)
    except FileExistsError as error:
        raise NotAPair(
            f"another database has just begun to work with the store {state.path}",
            "run again to see which one",
        ) from error
    except OSError as error:
        raise explain_os_error(error) or DataminerError(
            f"{file} cannot be written: {error.strerror}", "try again"
        ) from error


def _beginning(root: str) -> str:
    """Return the beginning of paths in a store."""
    return str(Path(root, "x"))[:-1]


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataminerError(
            f"the store {path} cannot be made: {error.strerror}", "set another `store`"
        ) from error


def _link_unless_taken(partial: Path, file: Path) -> None:
    """Create a file, or raise if it exists; not if the file system has no links."""
    try:
        os.link(partial, file)
    except FileExistsError:
        raise
    except OSError:  # then the later of two that begin at one moment wins
        return
