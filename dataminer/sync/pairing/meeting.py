"""What a store and a database say of each other, and whether they belong together.

Both hold the same token: the database in a table of one row, the store in :data:`STORE_FILE`. It
changes when one of them turns up in another place, so that what was left behind, be it on a machine
that cannot be seen from here, is known as a copy.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from dataminer import commands
from dataminer.db import tables
from dataminer.db.connection import database_url, no_database, reading
from dataminer.db.server import control
from dataminer.errors import DamagedFile, DatabaseError, DataminerError
from dataminer.files.reading import MAX_DOCUMENT_BYTES, names_in, read_file
from dataminer.permissions import explain
from dataminer.store.layout import Store
from dataminer.store.trash import VIDEO_ID

_EMBEDDED = "in "  # what names the embedded database begins with
STORE_FILE = "store.json"
"""In the store: the token, and who goes with it."""
_SINCE = "0009"  # the revision of the tables
_WORKDIRS_SINCE = "0008"
_UNKNOWN = "?"  # a server that does not say which one it is
_SAMPLE = 20  # rows whose files are looked for elsewhere

# ---- statements: values bound ------------------------------------------------------------------

_KNOWN = "SELECT token, path, root, inode, place FROM dataminer_store"
# where a database is: a copy is in another place, however it was made
_MAY_ASK = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')"
_PLACE = """
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
_IS_THERE = """
SELECT EXISTS (SELECT FROM pg_database WHERE oid::text = %(oid)s
    AND (datname <> current_database() OR to_regclass(%(schema)s || '.videos') IS NOT NULL))
"""
_NEWEST = """
SELECT coalesce(video_path, frames_dir) FROM videos
WHERE video_path IS NOT NULL OR frames_dir IS NOT NULL ORDER BY updated_at DESC LIMIT %(most)s
"""
_WORKDIRS = "SELECT DISTINCT workdir FROM projects WHERE workdir IS NOT NULL"


class NotAPair(DataminerError):
    """A store and a database do not belong together."""


class NeverPaired(NotAPair):
    """Nothing says that a store and a database belong together, or that they do not."""


class Away(NotAPair):
    """The files of a pair's store are not there."""


@dataclass(frozen=True)
class StoreMark:
    """What a store says of its database, in :data:`STORE_FILE`.

    Parameters
    ----------
    token : str
        The one that both hold.
    place, database : str
        Where the database is, for programs and for people.
    workdir : str
        The working folder of who wrote this.
    was : tuple of str
        Earlier tokens of the pair, which an older dump brings back.
    undo : PreviousPair, optional
        What both held before `dataminer adopt`.
    """

    token: str
    place: str
    database: str
    workdir: str = ""
    was: tuple[str, ...] = ()
    undo: PreviousPair | None = None


@dataclass(frozen=True)
class KnownStore:
    """What a database says of its store.

    Parameters
    ----------
    token : str
        The one that both hold.
    path, root : str
        Where the store is: absolute, and as the paths in rows begin.
    inode : int
        The number of its folder, which a copy does not have.
    place : str
        Where the database was then.
    """

    token: str
    path: str
    root: str
    inode: int
    place: str


@dataclass(frozen=True)
class PreviousPair:
    """What a store and a database held before they were made a pair."""

    mark: StoreMark | None
    known: KnownStore | None


_MARK = TypeAdapter(StoreMark)


class PairingStep(Enum):
    """What has to be done so that a store and a database go on as a pair."""

    NOTHING = auto()
    PAIR = auto()  # neither knows another one
    TAKE = auto()  # an older dump came back
    MARK = auto()  # the store's file is gone
    FOLLOW = auto()  # the store has moved
    REPLACED = auto()  # the store has come back from a backup, or the database has


@dataclass(frozen=True)
class Pairing:
    """A store and a database, and what each says of the other.

    Parameters
    ----------
    store : Store
        The store.
    database, place : str
        The database, for people and for programs.
    mark : StoreMark or None
        What the store says.
    known : KnownStore or None
        What the database says.
    names : frozenset of str
        Videos that have files in this store; looked for where a mark does not say enough.
    videos, with_files, known_here : int
        Rows of videos, those that have files, and those of ``names``.
    elsewhere : Path or None
        Another store in which files of rows are, if neither says anything.
    other_is_there : bool
        Whether the database is there that the store was last used with, if it is another one.
    """

    store: Store
    database: str
    place: str
    mark: StoreMark | None
    known: KnownStore | None
    names: frozenset[str] = frozenset()
    videos: int = 0
    with_files: int = 0
    known_here: int = 0
    elsewhere: Path | None = None
    other_is_there: bool = False

    @property
    def path(self) -> Path:
        """Where the store is."""
        return _real(self.store.root)

    @property
    def moved(self) -> bool:
        """Whether the store is in another place than the database says."""
        return self.known is not None and not _same(Path(self.known.path), self.path)

    @property
    def shared(self) -> bool:
        """Whether rows and files are of the same videos; one that many people use is no sign."""
        return 0 < self.known_here >= min(len(self.names), self.with_files or self.videos) / 2

    @property
    def is_whole(self) -> bool:
        """Whether the files are there that rows tell of, or most of them."""
        return self.known_here >= self.with_files / 2

    @property
    def fits(self) -> bool:
        """Whether the tokens say that the two are a pair."""
        mark, known = self.mark, self.known
        if mark is None or known is None:
            return mark is not None and mark.place == self.place
        if known.token == mark.token:
            return True
        # an older dump, in its old place or in a new one; else another database has the store now
        return known.token in mark.was and (mark.place == self.place or known.place != self.place)

    def step(self) -> PairingStep:
        """Return what has to be done.

        Raises
        ------
        NotAPair
            When the two do not belong together, or nothing says that they do.
        """
        if self.mark is None:
            return self._unmarked()
        if not self.fits:
            raise self.strangers()
        if self.known and self.moved and self._old_is_there():
            raise self._copies()
        if self.mark.place != self.place and self.other_is_there:
            raise self._database_copies()
        if self.known is None:
            if self.names and not self.shared:
                raise self.strangers()
            return PairingStep.TAKE
        if self.moved:
            return PairingStep.FOLLOW
        if self.known.place != self.place or self.known.inode != inode_of(self.path):
            return PairingStep.REPLACED
        return PairingStep.NOTHING if self.known.token == self.mark.token else PairingStep.TAKE

    def _unmarked(self) -> PairingStep:
        known = self.known
        if known is None:
            if self.elsewhere and not self.shared:
                raise self._belongs_to(self.elsewhere, there=True)
            if self.with_files and not self.names:
                raise NeverPaired(*self._away())
            if self.names and self.videos and not self.shared:
                raise self._never_met()
            return PairingStep.PAIR
        if not self.moved:
            if not self.is_whole:
                raise Away(*self._away())
            return PairingStep.MARK
        is_there = self._old_is_there()
        if is_there or not self.is_whole:
            raise self._belongs_to(Path(known.path), there=is_there)
        if self.with_files:
            return PairingStep.FOLLOW
        if self.names and not self.shared:
            raise self._never_met()
        return PairingStep.PAIR  # nothing was made yet

    def _old_is_there(self) -> bool:
        """Whether the store is there that the database was last used with."""
        assert self.known
        path = Path(self.known.path)
        try:
            old = read_mark(path)
            if old is None:
                return self.mark is None and bool(_videos_in(Store(path)))
            return old.token == self.known.token
        except (NotAPair, OSError):  # whatever is there now, it cannot be used
            return False

    # ---- refusals, and the ways out

    def _belongs_to(self, path: Path, *, there: bool) -> NotAPair:
        gone = "" if there else ", which is not there"
        return NotAPair(
            f"the database {self.database} belongs to the store {path}{gone}, not to {self.path}",
            f"set `store: {path}`. A second store needs a second database: name one in"
            " DATABASE_URL. If this store and this database are to work together from now on, see"
            f" what `{self._adopt}` does",
        )

    @property
    def _adopt(self) -> str:
        return commands.dataminer("adopt", "-n", str(self.store.root))

    def strangers(self) -> NotAPair:
        """Return the refusal of a store that belongs to another database."""
        mark, known = self.mark, self.known
        assert mark
        if known and mark.place == self.place:
            if not self.moved:
                return NotAPair(
                    f"the store {self.path} is older than the one that the database {self.database}"
                    " was last used with: a backup, or a disk that is mounted again",
                    f"`{self._adopt}`, then the same without -n, and `dataminer sync`",
                )
            return self._belongs_to(Path(known.path), there=os.path.exists(known.path))
        if mark.database == self.database:
            return NotAPair(
                f"the database {self.database} is not the one that the store {self.path} was last"
                " used with: it was made anew, or comes from a backup",
                f"put the right one back. If it is lost, see what `{self._adopt}` does",
            )
        its_own = f", and the database {self.database} to the store {known.path}" if known else ""
        return NotAPair(
            f"the store {self.path} belongs to the database {mark.database}{its_own}",
            f"{_way_to(mark.database)}. A second database needs a second store: set `store`. If the"
            f" database is lost, see what `{self._adopt}` does",
        )

    def _never_met(self) -> NeverPaired:
        return NeverPaired(
            f"the store {self.path} has files of {_videos(len(self.names))}, and the database"
            f" {self.database} knows {self.known_here or 'none'} of them",
            "set the right `store`, or name the right database in DATABASE_URL. If it is lost, see"
            f" what `{self._adopt}` does",
        )

    def _away(self) -> tuple[str, str]:
        return (
            f"the database {self.database} has {_videos(self.with_files)} with files in the store"
            f" {self.path}, which has {self.known_here or 'none'} of them",
            "if the store is on a disk, mount it; if you moved it, set `store` to its new place; if"
            f" you emptied it on purpose, see what `{self._adopt}` does",
        )

    def _copies(self) -> NotAPair:
        old = Path(self.known.path) if self.known else self.path
        return NotAPair(
            f"the store {self.path} is a copy of {old}, which is still there",
            f"to work with both, each with a database of its own, see what `{self._adopt}` does; to"
            f" work with this one alone, delete {old}; to work with that one alone, delete this",
        )

    def _database_copies(self) -> NotAPair:
        assert self.mark
        return NotAPair(
            f"the database {self.database} is a copy of the database {self.mark.database}, which is"
            f" still there and works with the store {self.path}",
            "give the copy another `store`, or delete one of the two. To work with this one from"
            f" now on, see what `{self._adopt}` does",
        )


def require(store: Store) -> PairingStep:
    """Make sure that a store and the database belong together; write nothing.

    Parameters
    ----------
    store : Store
        The store.

    Returns
    -------
    Step
        What :func:`settle` would do.

    Raises
    ------
    NotAPair
        When they do not, with the ways out.
    """
    found = read_pairing(store)
    if found:
        return found.step()
    if mark := read_mark(store.root):
        raise Pairing(store, _database(), "", mark, None).strangers()
    return PairingStep.NOTHING


def refuse_strangers(store: Store, *, may_be_away: bool = False) -> None:
    """Make sure that a store and the database do not belong to others.

    Enough for what changes no files: links are added, and pages drawn, before anything was made.

    Parameters
    ----------
    store : Store
        The store.
    may_be_away : bool
        Whether the store's files may be gone.

    Raises
    ------
    NotAPair
        When one of them belongs to another.
    """
    try:
        require(store)
    except NeverPaired:
        return
    except Away:
        if not may_be_away:
            raise


def read_pairing(store: Store) -> Pairing | None:
    """Ask a store and the database of each other; None if there is no database, or no tables."""
    if no_database():
        return None
    with reading("pair", check=False) as session, session.cursor() as cursor:
        found = tables.find_tables(session)
        tables.check(found)
        return ask(cursor, store, found.revision) if found.revision else None


def ask(
    cursor: Any, store: Store, revision: str = tables.HEAD, *, thorough: bool = False
) -> Pairing:
    """Ask in a transaction that has begun.

    Parameters
    ----------
    cursor : cursor
        Of a connection to the database.
    store : Store
        The store.
    revision : str
        Of the database's tables.
    thorough : bool
        Also ask for what is needed only where a mark does not say enough.
    """
    mark, known = read_mark(store.root), None
    if revision >= _SINCE:
        cursor.execute(_KNOWN)
        row = cursor.fetchone()
        known = KnownStore(*row) if row else None
    if store.root.exists() and not store.root.is_dir():
        raise NotAPair(f"{store.root} is not a folder", "set `store` to one")
    place = _place(cursor)
    found = Pairing(store, _database(), place, mark, known)
    if mark and mark.place != place:
        found = replace(found, other_is_there=_is_there(cursor, mark, place))
    if mark and known and not thorough:
        return found
    names = _videos_in(store)
    cursor.execute(_COUNTS, {"names": sorted(names)})
    ((videos, with_files, known_here),) = cursor.fetchall()
    found = replace(found, names=names, videos=videos, with_files=with_files, known_here=known_here)
    if known is None and with_files and not found.shared:
        return replace(found, elsewhere=_elsewhere(cursor, found.path, revision))
    return found


def read_mark(path: Path) -> StoreMark | None:
    """Read what a store says of its database; None if it says nothing.

    Raises
    ------
    NotAPair
        When the file cannot be read.
    """
    file = path / STORE_FILE
    try:
        return _MARK.validate_json(read_file(file, MAX_DOCUMENT_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        known = explain(error)
        raise NotAPair(
            known.message if known else f"{file} cannot be read: {error.strerror}",
            known.hint if known else "have its owner let you read it",
        ) from error
    except (ValueError, DamagedFile) as error:
        raise NotAPair(
            f"{file} is damaged, so that nothing says which database the store belongs to",
            "restore it from a backup; or delete it, and the next run writes it again if the files"
            " are those of the database",
        ) from error


def _videos_in(store: Store) -> frozenset[str]:
    """Return the videos that a store has anything of."""
    chosen = (store.filtered(name, "x").parent for name in names_in(store.project("x").parent))
    folders = (store.video("x").parent, store.frames("x").parent, *chosen)
    return frozenset().union(*(names_in(folder, VIDEO_ID) for folder in folders))


def _elsewhere(cursor: Any, path: Path, revision: str) -> Path | None:
    """Return another store in which files of rows are, as of versions that noted none."""
    cursor.execute(_NEWEST, {"most": _SAMPLE})
    files = [Path(row[0]) for row in cursor.fetchall()]
    folders = map(Path, workdirs(cursor, revision))
    pairs = itertools.product(files, folders)
    for file in (folder / file for file, folder in pairs):
        root = next((p.parent for p in file.parents if p.name in ("videos", "frames")), None)
        if root and os.path.exists(file) and not _same(root, path):
            return _real(root)
    return None


def workdirs(cursor: Any, revision: str = tables.HEAD) -> list[str]:
    """Return this working folder, and those that projects were last run in."""
    found = {str(Path.cwd())}
    if revision >= _WORKDIRS_SINCE:
        cursor.execute(_WORKDIRS)
        found |= {row[0] for row in cursor.fetchall()}
    return sorted(found)


def _place(cursor: Any) -> str:
    cursor.execute(_MAY_ASK)
    ((may,),) = cursor.fetchall()
    system = "(SELECT system_identifier FROM pg_control_system())" if may else f"'{_UNKNOWN}'"
    cursor.execute(_PLACE.format(system))
    ((place,),) = cursor.fetchall()
    return str(place)


def _is_there(cursor: Any, mark: StoreMark, place: str) -> bool:
    """Whether another database is still there that a store was last used with, if one can see."""
    if mark.database.startswith(_EMBEDDED):
        home = Path(mark.database.removeprefix(_EMBEDDED))
        try:
            return mark.database != _database() and control.status(home).state != "absent"
        except DatabaseError:  # it is another user's
            return True
    (system, oid, schema), here = _parts(mark.place), _parts(place)
    if system in ("", _UNKNOWN) or system != here[0] or (oid, schema) == here[1:]:
        return False  # of another server, or the server itself was moved
    cursor.execute(_IS_THERE, {"oid": oid, "schema": schema})
    ((there,),) = cursor.fetchall()
    return bool(there)


def _parts(place: str) -> tuple[str, ...]:
    """Return the server, the database and the schema of a place."""
    return (*place.split("/"), "", "", "")[:3]


def _way_to(database: str) -> str:
    """Return how to use a database, as it is named for people."""
    if not database.startswith(_EMBEDDED):
        return "name that database in DATABASE_URL"
    home = Path(database.removeprefix(_EMBEDDED))
    unset = [name for name in ("DATABASE_URL", "DATAMINER_PGDATA") if os.environ.get(name)]
    if home == Path(".dataminer/postgres").absolute() and unset:
        return f"unset {' and '.join(unset)}"
    first = "unset DATABASE_URL, and " if "DATABASE_URL" in unset else ""
    return f"{first}set DATAMINER_PGDATA to {home}"


def _videos(count: int) -> str:
    return f"{count} video{'' if count == 1 else 's'}"


def _database() -> str:
    """Return the name of the database for people."""
    if os.environ.get("DATABASE_URL"):
        return str(database_url())
    return f"{_EMBEDDED}{control.default_home()}"


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same folder, or would if it were there."""
    try:
        return one.samefile(other)
    except OSError:
        return _real(one) == _real(other)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # no error where links lead in a circle


def inode_of(path: Path) -> int:
    """Return the number of a folder; 0 if it is not there."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0
