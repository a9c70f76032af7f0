"""What a store and a database record about each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from dataminer.errors import DamagedFile, DataminerError
from dataminer.files.reading import MAX_DOCUMENT_BYTES, read_file
from dataminer.permissions import explain_os_error

STORE_FILE = "store.json"
"""In the store: the token, and the database that it belongs to."""


class NotAPair(DataminerError):
    """A store and a database do not belong together."""


class NeverPaired(NotAPair):
    """Nothing shows whether a store and a database belong together."""


class Away(NotAPair):
    """The files of a pair's store are absent."""


# aliases are the keys of the file, which earlier versions wrote
_Location = Annotated[str, Field(alias="place")]


@dataclass(frozen=True)
class StoreRecord:
    """What a store records about its database, in :data:`STORE_FILE`.

    Parameters
    ----------
    token : str
        The token that both hold.
    location, database : str
        Where the database is, for programs and for people.
    workdir : str
        The working folder of the writer.
    was : tuple of str
        Earlier tokens of the pair, which an older dump brings back.
    undo : PreviousPair, optional
        What both held before `dataminer adopt`.
    """

    token: str
    location: _Location
    database: str
    workdir: str = ""
    was: tuple[str, ...] = ()
    undo: PreviousPair | None = None


@dataclass(frozen=True)
class DatabaseRecord:
    """What a database records about its store.

    Parameters
    ----------
    token : str
        The token that both hold.
    path, root : str
        Where the store is: absolute, and as the paths in rows begin.
    inode : int
        The number of its folder, which a copy does not have.
    location : str
        Where the database was at that time.
    """

    token: str
    path: str
    root: str
    inode: int
    location: _Location


@dataclass(frozen=True)
class PreviousPair:
    """What a store and a database held before they were joined."""

    in_store: Annotated[StoreRecord | None, Field(alias="mark")]
    in_database: Annotated[DatabaseRecord | None, Field(alias="known")]


_STORE_RECORD = TypeAdapter(StoreRecord)


def record_as_json(record: StoreRecord) -> Any:
    """Return a record as :data:`STORE_FILE` holds it."""
    return _STORE_RECORD.dump_python(record, mode="json", by_alias=True)


def read_store_record(path: Path) -> StoreRecord | None:
    """Read what a store records about its database; None if it records nothing.

    Raises
    ------
    NotAPair
        If the file cannot be read.
    """
    file = path / STORE_FILE
    try:
        return _STORE_RECORD.validate_json(read_file(file, MAX_DOCUMENT_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        explained = explain_os_error(error)
        raise NotAPair(
            explained.message if explained else f"{file} cannot be read: {error.strerror}",
            explained.hint if explained else "have its owner let you read it",
        ) from error
    except (ValueError, DamagedFile) as error:
        raise NotAPair(
            f"{file} is damaged, so the database of this store is unknown",
            "restore it from a backup; or delete it, and the next run writes it again if the files"
            " are those of the database",
        ) from error
