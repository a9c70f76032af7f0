"""The database of a pair: its name for people, its location for programs, and what it records."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

from psycopg2.extensions import cursor as Cursor

from dataminer.db import tables
from dataminer.db.connection import database_url, no_database, reading
from dataminer.db.server import control
from dataminer.errors import DatabaseError
from dataminer.store.layout import Store
from dataminer.sync.pairing.records import DatabaseRecord, NotAPair, StoreRecord, read_store_record
from dataminer.sync.pairing.state import PairState, is_same, real_path, videos_in

EMBEDDED = "in "
"""The beginning of the name of an embedded database, before its folder."""

_SINCE = "0009"  # the revision of the tables
_WORKDIRS_SINCE = "0008"
_UNKNOWN = "?"  # a server that does not identify itself
_SAMPLE = 20  # rows whose files are looked for elsewhere

# ---- statements: values bound ------------------------------------------------------------------

_KNOWN = "SELECT token, path, root, inode, place FROM dataminer_store"
# where a database is: a copy is in another place, however it was made
_MAY_IDENTIFY = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')"
_DATABASE_LOCATION = """
SELECT concat_ws('/', {}, (SELECT oid FROM pg_database WHERE datname = current_database()),
    (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'videos'::regclass),
    CASE WHEN current_setting('cluster_name') LIKE 'dataminer-%'
        THEN current_setting('cluster_name') END)
"""
_COUNTS = """
SELECT count(*), count(*) FILTER (WHERE video_path IS NOT NULL OR frames_dir IS NOT NULL),
    count(*) FILTER (WHERE video_id = ANY(%(names)s))
FROM videos
"""
_EXISTS = """
SELECT EXISTS (SELECT FROM pg_database WHERE oid::text = %(oid)s
    AND (datname <> current_database() OR to_regclass(%(schema)s || '.videos') IS NOT NULL))
"""
_NEWEST = """
SELECT coalesce(video_path, frames_dir) FROM videos
WHERE video_path IS NOT NULL OR frames_dir IS NOT NULL ORDER BY updated_at DESC LIMIT %(most)s
"""
_WORKDIRS = "SELECT DISTINCT workdir FROM projects WHERE workdir IS NOT NULL"


def read_pair_state(store: Store) -> PairState | None:
    """Read the state of a store and the database; None if there is no database, or no tables."""
    if no_database():
        return None
    with reading("pair", check=False) as session, session.cursor() as cursor:
        found = tables.find_tables(session)
        tables.check(found)
        return query_state(cursor, store, found.revision) if found.revision else None


def query_state(
    cursor: Cursor, store: Store, revision: str = tables.HEAD, *, thorough: bool = False
) -> PairState:
    """Read the state in a transaction that has begun.

    Parameters
    ----------
    cursor : cursor
        Of a connection to the database.
    store : Store
        The store.
    revision : str
        Of the database's tables.
    thorough : bool
        Count rows and files even if the records suffice.
    """
    in_store, in_database = read_store_record(store.root), None
    if revision >= _SINCE:
        cursor.execute(_KNOWN)
        row = cursor.fetchone()
        in_database = DatabaseRecord(*row) if row else None
    if store.root.exists() and not store.root.is_dir():
        raise NotAPair(f"{store.root} is not a folder", "set `store` to one")
    location = _location(cursor)
    state = PairState(store, database_name(), location, in_store, in_database)
    if in_store and in_store.location != location:
        state = replace(state, other_exists=_other_exists(cursor, in_store, location))
    if in_store and in_database and not thorough:
        return state
    names = videos_in(store)
    cursor.execute(_COUNTS, {"names": sorted(names)})
    ((videos, with_files, known_here),) = cursor.fetchall()
    state = replace(state, names=names, videos=videos, with_files=with_files, known_here=known_here)
    if in_database is None and with_files and not state.shared:
        return replace(state, elsewhere=_other_store(cursor, state.path, revision))
    return state


def workdirs(cursor: Cursor, revision: str = tables.HEAD) -> list[str]:
    """Return this working folder, and those that projects were last run in."""
    found = {str(Path.cwd())}
    if revision >= _WORKDIRS_SINCE:
        cursor.execute(_WORKDIRS)
        found |= {row[0] for row in cursor.fetchall()}
    return sorted(found)


def database_name() -> str:
    """Return the name of the database for people."""
    if os.environ.get("DATABASE_URL"):
        return str(database_url())
    return f"{EMBEDDED}{control.default_home()}"


def _other_store(cursor: Cursor, path: Path, revision: str) -> Path | None:
    """Return another store that holds files of rows, from versions that recorded no store."""
    cursor.execute(_NEWEST, {"most": _SAMPLE})
    files = [Path(row[0]) for row in cursor.fetchall()]
    folders = map(Path, workdirs(cursor, revision))
    pairs = itertools.product(files, folders)
    for file in (folder / file for file, folder in pairs):
        root = next((p.parent for p in file.parents if p.name in ("videos", "frames")), None)
        if root and os.path.exists(file) and not is_same(root, path):
            return real_path(root)
    return None


def _location(cursor: Cursor) -> str:
    cursor.execute(_MAY_IDENTIFY)
    ((may,),) = cursor.fetchall()
    system = "(SELECT system_identifier FROM pg_control_system())" if may else f"'{_UNKNOWN}'"
    cursor.execute(_DATABASE_LOCATION.format(system))
    ((location,),) = cursor.fetchall()
    return str(location)


def _other_exists(cursor: Cursor, in_store: StoreRecord, location: str) -> bool:
    """Return whether the database that a store was last used with exists, if it can be seen."""
    if in_store.database.startswith(EMBEDDED):
        home = Path(in_store.database.removeprefix(EMBEDDED))
        try:
            return in_store.database != database_name() and control.status(home).state != "absent"
        except DatabaseError:  # it is another user's
            return True
    (system, oid, schema), here = _parts(in_store.location), _parts(location)
    if system in ("", _UNKNOWN) or system != here[0] or (oid, schema) == here[1:]:
        return False  # of another server, or the server itself was moved
    cursor.execute(_EXISTS, {"oid": oid, "schema": schema})
    ((exists,),) = cursor.fetchall()
    return bool(exists)


def _parts(location: str) -> tuple[str, ...]:
    """Return the server, the database and the schema of a location."""
    return (*location.split("/"), "", "", "")[:3]
