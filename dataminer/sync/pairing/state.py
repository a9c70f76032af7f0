"""The facts about a store and a database from which follows whether they are a pair."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dataminer.files.reading import list_names
from dataminer.store.layout import Store
from dataminer.store.trash import VIDEO_ID
from dataminer.sync.pairing.records import DatabaseRecord, NotAPair, StoreRecord, read_store_record


@dataclass(frozen=True)
class PairState:
    """A store and a database, and what each records about the other.

    Parameters
    ----------
    store : Store
        The store.
    database, location : str
        The database, for people and for programs.
    in_store : StoreRecord or None
        What the store records.
    in_database : DatabaseRecord or None
        What the database records.
    names : frozenset of str
        Videos with files in this store; determined only if the records do not suffice.
    videos, with_files, known_here : int
        The number of rows of videos, of those with files, and of those of ``names``.
    elsewhere : Path or None
        Another store that holds files of rows, if there are no records.
    other_exists : bool
        Whether another database that the store was last used with still exists.
    """

    store: Store
    database: str
    location: str
    in_store: StoreRecord | None
    in_database: DatabaseRecord | None
    names: frozenset[str] = frozenset()
    videos: int = 0
    with_files: int = 0
    known_here: int = 0
    elsewhere: Path | None = None
    other_exists: bool = False

    @property
    def path(self) -> Path:
        """Where the store is."""
        return real_path(self.store.root)

    @property
    def moved(self) -> bool:
        """Whether the store is in another place than the database records."""
        return self.in_database is not None and not is_same(Path(self.in_database.path), self.path)

    @property
    def shared(self) -> bool:
        """Whether rows and files are of the same videos; a single popular video is no proof."""
        return 0 < self.known_here >= min(len(self.names), self.with_files or self.videos) / 2

    @property
    def is_whole(self) -> bool:
        """Whether the files of most rows are there."""
        return self.known_here >= self.with_files / 2

    @property
    def fits(self) -> bool:
        """Whether the tokens show that the two are a pair."""
        in_store, in_database = self.in_store, self.in_database
        if in_store is None or in_database is None:
            return in_store is not None and in_store.location == self.location
        if in_database.token == in_store.token:
            return True
        # an older dump, in its old place or in a new one; else another database has the store now
        return in_database.token in in_store.was and (
            in_store.location == self.location or in_database.location != self.location
        )

    def old_store_exists(self) -> bool:
        """Return whether the store that the database was last used with is still in its place."""
        assert self.in_database
        path = Path(self.in_database.path)
        try:
            old = read_store_record(path)
            if old is None:
                return self.in_store is None and bool(videos_in(Store(path)))
            return old.token == self.in_database.token
        except (NotAPair, OSError):  # whatever is there now, it cannot be used
            return False


def videos_in(store: Store) -> frozenset[str]:
    """Return the videos of which a store has any file."""
    filtered = (store.filtered(name, "x").parent for name in list_names(store.project("x").parent))
    folders = (store.video("x").parent, store.frames("x").parent, *filtered)
    return frozenset().union(*(list_names(folder, VIDEO_ID) for folder in folders))


def is_same(one: Path, other: Path) -> bool:
    """Return whether two paths lead to the same folder, or would if it existed."""
    try:
        return one.samefile(other)
    except OSError:
        return real_path(one) == real_path(other)


def real_path(path: Path) -> Path:
    """Return a path without links; raises nothing, even if links lead in a circle."""
    return Path(os.path.realpath(path))


def inode_of(path: Path) -> int:
    """Return the number of a folder; 0 if it does not exist."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0
