"""Make a pair of a store and a database, and keep it one."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from psycopg2.extensions import connection as Connection

from dataminer.db import schema
from dataminer.db.connection import transaction
from dataminer.errors import DataminerError
from dataminer.files.publishing import atomic_write
from dataminer.files.reading import names_in
from dataminer.permissions import explain
from dataminer.store.layout import Store
from dataminer.store.trash import PROJECT_NAME
from dataminer.sync.claims.owners import is_dead
from dataminer.sync.pairing.meeting import (
    STORE_FILE,
    KnownStore,
    NotAPair,
    Pairing,
    PairingStep,
    PreviousPair,
    StoreMark,
    ask,
    inode_of,
    read_mark,
    read_pairing,
    require,
    workdirs,
)

_MOST_TOKENS = 100  # earlier ones that are known
_MOST_UNDONE = 20

# ---- statements: values bound ------------------------------------------------------------------

_LOCK = "LOCK TABLE dataminer_store IN SHARE ROW EXCLUSIVE MODE"
_KNOWN_PROJECTS = "SELECT name FROM projects WHERE name = ANY(%(names)s)"
_FORGET = "DELETE FROM dataminer_store"
_REMEMBER = """
INSERT INTO dataminer_store (token, path, root, inode, place)
VALUES (%(token)s, %(path)s, %(root)s, %(inode)s, %(place)s)
"""
# what only names another folder has not changed: plans compare the time with that of files
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
_AT_WORK = """
SELECT DISTINCT locked_by FROM (
    SELECT locked_by, heartbeat_at FROM videos
    UNION ALL SELECT locked_by, heartbeat_at FROM project_videos
    UNION ALL SELECT locked_by, heartbeat_at FROM projects) AS held
WHERE heartbeat_at >= clock_timestamp() - make_interval(secs => %(stale)s) ORDER BY 1
"""


def settle(store: Store) -> str | None:
    """Have a store and the database go on as a pair, if nothing speaks against it.

    A store that has moved is followed by the paths in rows.

    Parameters
    ----------
    store : Store
        The store; its folder is made if it is not there.

    Returns
    -------
    str or None
        What is worth saying once.

    Raises
    ------
    NotAPair
        See :func:`require`; nothing was written then.
    """
    if require(store) is PairingStep.NOTHING:
        return None
    token = _new_token()

    def work(connection: Connection) -> str | None:
        with connection.cursor() as cursor:
            cursor.execute(_LOCK)
            found = ask(cursor, store)
            step = found.step()
            if step is PairingStep.NOTHING:
                return None
            mark = _marked(found, step, token)
            paths = _remember(cursor, found, mark.token)
            _write_mark(found, mark)
        return _told(found, step, paths)

    return transaction(work, name="pair")


@dataclass(frozen=True)
class Adoption:
    """What `dataminer adopt` does, or has done.

    Parameters
    ----------
    lines : list of str
        For people.
    needed : bool
        Whether there is anything to do.
    projects : list of str
        Projects of which the store has files, and the database no row.
    """

    lines: list[str] = field(default_factory=list)
    needed: bool = True
    projects: list[str] = field(default_factory=list)


def adopt(store: Store, *, stale_seconds: float, dry_run: bool = False) -> Adoption:
    """Make a pair of a store and the database, whatever each of them belonged to.

    No file and no row is lost: the store's file and the database's row name each other from now on,
    and paths in rows the store. What either of them belonged to before goes on without it.

    Parameters
    ----------
    store : Store
        The store; its folder is made if it is not there, and so is the database.
    stale_seconds : float
        How old the last heartbeat of a claim is that is not in the way.
    dry_run : bool
        Only tell.

    Raises
    ------
    DataminerError
        When somebody is at work with the database.
    """
    if not dry_run:
        schema.upgrade()
    elif read_pairing(store) is None:
        mark = read_mark(store.root)
        was = f", which belonged to the database {mark.database}" if mark else ""
        return Adoption([f"Would make a database for the store {store.root}{was}."])
    token = _new_token()

    def work(connection: Connection) -> Adoption:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY" if dry_run else _LOCK)
            found = ask(cursor, store, thorough=True)
            if _is_pair(found):
                line = f"Nothing to do: {_both(found)} belong together already."
                return Adoption([line], needed=False)
            if not dry_run:
                _refuse_at_work(cursor, found, stale_seconds)
                _remember(cursor, found, token)
                _write_mark(found, replace(_begun(found, token), undo=_before(found)))
            return _adoption(cursor, found, dry_run=dry_run)

    return transaction(work, name="adopt")


def undo(store: Store, *, stale_seconds: float, dry_run: bool = False) -> list[str]:
    """Have a store and the database be what they were before :func:`adopt`.

    Parameters
    ----------
    store, stale_seconds, dry_run
        See :func:`adopt`.

    Raises
    ------
    DataminerError
        When they are no pair that was made so, or somebody is at work.
    """

    def work(connection: Connection) -> tuple[Pairing, PreviousPair]:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY" if dry_run else _LOCK)
            found = ask(cursor, store)
            before = _before_adopt(found)
            if not dry_run:
                _refuse_at_work(cursor, found, stale_seconds)
                cursor.execute(_FORGET)
                if before.known and found.known:
                    _follow(cursor, found.known, before.known.root)
                    cursor.execute(_REMEMBER, asdict(before.known))
        return found, before

    found, before = transaction(work, name="adopt")
    mark, known = before.mark, before.known
    if not dry_run:
        if mark:
            _write_mark(found, mark)
        else:
            (found.path / STORE_FILE).unlink(missing_ok=True)
            with suppress(OSError):  # it was made by adopt, and nothing is in it
                found.path.rmdir()
    verb = "would belong" if dry_run else "belongs"
    return [
        f"The database {found.database} {verb} to"
        f" {f'the store {known.path}' if known else 'no store'} again.",
        f"The store {found.path} {verb} to"
        f" {f'the database {mark.database}' if mark else 'no database'} again.",
    ]


def _before_adopt(found: Pairing) -> PreviousPair:
    """Return what a store and its database held before `dataminer adopt`."""
    mark, known = found.mark, found.known
    if mark and mark.undo:
        is_pair = known and known.token == mark.token and not found.other_is_there
        killed = known == mark.undo.known and mark.place == found.place  # between the two
        if is_pair or killed:
            return mark.undo
    raise DataminerError(
        f"there is nothing to undo: {_both(found)} are no pair that `dataminer adopt` has made",
        "see `dataminer status`",
    )


def _marked(found: Pairing, step: PairingStep, token: str) -> StoreMark:
    """Return what the store says from now on."""
    mark, known = found.mark, found.known
    if step is PairingStep.PAIR:
        return _begun(found, token)
    if step is PairingStep.MARK and known:
        return _begun(found, known.token)
    if step is PairingStep.TAKE and mark:
        return replace(_begun(found, mark.token), was=mark.was, undo=mark.undo)
    tokens = [*(mark.was if mark else ()), *([mark.token] if mark else [])]
    if known and known.token not in tokens:
        tokens.append(known.token)
    was, before = tuple(tokens[-_MOST_TOKENS:]), mark.undo if mark else None
    return replace(_begun(found, token), was=was, undo=before)


def _begun(found: Pairing, token: str) -> StoreMark:
    return StoreMark(token, found.place, found.database, str(Path.cwd()))


def _before(found: Pairing) -> PreviousPair:
    """Return what a store and a database hold before they are made a pair."""
    mark, known = found.mark, found.known
    if mark and mark.undo and mark.undo.known == known and mark.place == found.place:
        return mark.undo  # an attempt at the same that was killed
    return PreviousPair(_shallow(mark, _MOST_UNDONE), known)


def _shallow(mark: StoreMark | None, depth: int) -> StoreMark | None:
    """Return what a store said, and a number of things that it said before that."""
    if mark is None or mark.undo is None:
        return mark
    if depth == 0:
        return replace(mark, undo=None)
    return replace(mark, undo=replace(mark.undo, mark=_shallow(mark.undo.mark, depth - 1)))


def _remember(cursor: Any, found: Pairing, token: str) -> int:
    """Have the database name the store; return how many paths in rows follow it."""
    root = str(found.store.root)
    _make_folder(found.path)
    paths = _follow(cursor, found.known, root) if found.known and found.moved else 0
    known = KnownStore(token, str(found.path), root, inode_of(found.path), found.place)
    if found.known and not found.moved:
        known = replace(known, root=found.known.root)
    cursor.execute(_FORGET)
    cursor.execute(_REMEMBER, asdict(known))
    return paths


def _follow(cursor: Any, known: KnownStore, root: str) -> int:
    """Have the paths in rows begin with another store."""
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


def _beginning(root: str) -> str:
    """Return how paths in a store begin."""
    return str(Path(root, "x"))[:-1]


def _told(found: Pairing, step: PairingStep, paths: int) -> str | None:
    mark, known = found.mark, found.known
    if step is PairingStep.FOLLOW and known:
        follow = f": {paths} paths in the database follow it" if paths else ""
        return f"the store has moved from {known.path} to {found.path}{follow}"
    if step is PairingStep.MARK:
        return f"{found.path / STORE_FILE} was gone, and is there again"
    if step is PairingStep.REPLACED and mark and mark.database != found.database:
        return (
            f"the database was {mark.database}, and is {found.database} now: the store"
            f" {found.path} goes on with this one alone"
        )
    return None


def _adoption(cursor: Any, found: Pairing, *, dry_run: bool) -> Adoption:
    """Tell what becomes of a store and a database that are made a pair."""
    would, will = ("Would join", "would be") if dry_run else ("Joined", "is")
    lines = [f"{would} {_both(found)}."]
    if found.known and found.moved:
        lines.append(f"The store {found.known.path} {will} without a database.")
    if found.mark and found.mark.place != found.place:
        lines.append(f"The database {found.mark.database} {will} without a store.")
    lines.append(
        f"Videos with files in the store: {len(found.names)}; the database has rows of"
        f" {found.known_here} of them. Videos with files, as the database has it:"
        f" {found.with_files}."
    )
    projects = names_in(found.store.project("x").parent, PROJECT_NAME)
    cursor.execute(_KNOWN_PROJECTS, {"names": sorted(projects)})
    unknown = sorted(projects - {row[0] for row in cursor.fetchall()})
    return Adoption(lines, projects=unknown)


def _is_pair(found: Pairing) -> bool:
    try:
        return found.step() is PairingStep.NOTHING
    except NotAPair:
        return False


def _refuse_at_work(cursor: Any, found: Pairing, stale_seconds: float) -> None:
    """Refuse to go on under a run: of this database, or of the one that the store belonged to."""
    cursor.execute(_AT_WORK, {"stale": stale_seconds})
    owners = [row[0] for row in cursor.fetchall() if not is_dead(row[0])]
    if owners:
        raise DataminerError(
            f"{', '.join(owners)} is at work with this database",
            "wait for the run to end, or end it",
        )
    folders = {*workdirs(cursor), *([found.mark.workdir] if found.mark else [])} - {""}
    for folder in sorted(folders):
        with suppress(OSError):
            if any(Path(folder, ".snakemake", "locks").iterdir()):
                raise DataminerError(
                    f"a run of snakemake is at work in {folder}, or was killed there",
                    "wait for its end; if it was killed, run `snakemake --unlock` there",
                )


def _both(found: Pairing) -> str:
    return f"the store {found.path} and the database {found.database}"


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataminerError(
            f"the store {path} cannot be made: {error.strerror}", "set another `store`"
        ) from error


def _write_mark(found: Pairing, mark: StoreMark) -> None:
    """Have a store say so; what another database has written since is not replaced."""
    file = found.path / STORE_FILE
    try:
        with atomic_write(file) as partial:
            partial.write_text(json.dumps(asdict(mark), indent=2) + "\n")
            if found.mark is None:
                _first(partial, file)
    except FileExistsError as error:
        raise NotAPair(
            f"another database has just begun to work with the store {found.path}",
            "run again: that says which one",
        ) from error
    except OSError as error:
        raise explain(error) or DataminerError(
            f"{file} cannot be written: {error.strerror}", "try again"
        ) from error


def _first(partial: Path, file: Path) -> None:
    """Take a name that nobody may have taken, where the file system can link files."""
    try:
        os.link(partial, file)
    except FileExistsError:
        raise
    except OSError:  # then the later of two that begin at one moment wins
        return


def _new_token() -> str:
    return secrets.token_hex(16)
