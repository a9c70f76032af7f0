"""Writes what a store and a database record about each other."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dataminer.errors import DataminerError
from dataminer.files import atomic_write
from dataminer.permissions import explain
from dataminer.sync.pairing.state import PairState, inode_of
from dataminer.sync.pairing.store_mark import STORE_FILE, KnownStore, NotAPair, StoreMark

# ---- statements: values bound ------------------------------------------------------------------

LOCK = "LOCK TABLE dataminer_store IN SHARE ROW EXCLUSIVE MODE"
_FORGET = "DELETE FROM dataminer_store"
_REMEMBER = """
INSERT INTO dataminer_store (token, path, root, inode, place)
VALUES (%(token)s, %(path)s, %(root)s, %(inode)s, %(place)s)
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


def new_mark(state: PairState, token: str) -> StoreMark:
    """Return what a store records about the database, with nothing of its past."""
    return StoreMark(token, state.place, state.database, str(Path.cwd()))


def record_store(cursor: Any, state: PairState, token: str) -> int:
    """Record the store in the database; return how many paths in rows follow it."""
    root = str(state.store.root)
    _make_folder(state.path)
    paths = follow(cursor, state.known, root) if state.known and state.moved else 0
    known = KnownStore(token, str(state.path), root, inode_of(state.path), state.place)
    if state.known and not state.moved:
        known = replace(known, root=state.known.root)
    replace_known(cursor, known)
    return paths


def replace_known(cursor: Any, known: KnownStore | None) -> None:
    """Replace what the database records about its store."""
    cursor.execute(_FORGET)
    if known:
        cursor.execute(_REMEMBER, asdict(known))


def follow(cursor: Any, known: KnownStore, root: str) -> int:
    """Let the paths in rows begin with another store; return how many changed."""
    cursor.execute(_STORE_MOVES)
    values = {
        "path": _beginning(known.path),
        "root": _beginning(known.root),
        "new": _beginning(root),
        "relative": not known.root.startswith("/"),
    }
    paths = 0
    for table, columns in _PATHS.items():
        for column in columns:
            cursor.execute(_FOLLOW.format(table=table, column=column), values)
            paths += cursor.rowcount
    return paths


def write_mark(state: PairState, mark: StoreMark) -> None:
    """Record the database in the store, unless another database has done so since."""
    file = state.path / STORE_FILE
    try:
        with atomic_write(file) as partial:
            partial.write_text(json.dumps(asdict(mark), indent=2) + "\n")
            if state.mark is None:
                _link_unless_taken(partial, file)
    except FileExistsError as error:
        raise NotAPair(
            f"another database has just begun to work with the store {state.path}",
            "run again to see which one",
        ) from error
    except OSError as error:
        raise explain(error) or DataminerError(
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
