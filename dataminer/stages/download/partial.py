"""Transfers that broke off, kept beside the store's folders for the next attempt, on any node.

An attempt writes in a folder of its own, ``.{video_id}.{twelve hexadecimal digits}.resume``. The
next one takes it over by renaming it, under the claim of the video: a job that was paused, and
lost its claim, no longer finds it. Where it still has the file open, the bytes are copied, so that
what it writes lands in a file that has no name any more.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dataminer.files.copying import copy_file
from dataminer.files.links import ABSENT_ERRORS
from dataminer.files.publishing import RESUME_SUFFIX
from dataminer.store import documents

PART = ".part"  # what yt-dlp appends to the name of a file that is not whole
_STATE = ".state.json"
_OF_ATTEMPT = re.compile(f"[0-9a-f]{{12}}{re.escape(RESUME_SUFFIX)}")
_OF_NFS = ".nfs"  # what NFS calls a file that was deleted while somebody has it open


@dataclass(frozen=True)
class RemoteVersion:
    """What tells one state of a remote file from another.

    Parameters
    ----------
    etag, last_modified : str or None
        As the server said.
    size : int or None
        All of its bytes.
    """

    etag: str | None
    last_modified: str | None
    size: int | None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> RemoteVersion:
        """Read it from the headers of an answer with the whole file, or with a part of it."""
        size = (headers.get("Content-Range") or "").rpartition("/")[2]
        if not size:
            size = "" if headers.get("Content-Encoding") else headers.get("Content-Length") or ""
        etag = headers.get("ETag") or ""
        return cls(
            # a weak one says that two files mean the same, not that their bytes are the same
            etag if etag.startswith('"') else None,
            headers.get("Last-Modified"),
            int(size) if size.isdecimal() else None,
        )

    @property
    def condition(self) -> str | None:
        """The value for If-Range; None where nothing tells this state from another."""
        return self.etag or self.last_modified

    def differs(self, other: RemoteVersion) -> bool:
        """Tell whether something that both say is not the same."""
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return any(a is not None and b is not None and a != b for a, b in pairs)


@dataclass(frozen=True)
class PartialDownload:
    """An attempt's own folder.

    Parameters
    ----------
    folder : Path
        Where it is; its unfinished file is ``NAME.part``.
    """

    folder: Path

    @classmethod
    def take_over(cls, parent: Path, video_id: str) -> PartialDownload:
        """Make the folder of a new attempt, of the most that earlier ones left."""
        folder = parent / f".{video_id}.{uuid.uuid4().hex[:12]}{RESUME_SUFFIX}"
        left = (folder for _, folder in attempts(parent, [video_id]))
        found = sorted(left, key=_bytes_of_parts)
        if not found:
            folder.mkdir()
            return cls(folder)
        os.replace(found[-1], folder)
        for part in folder.glob(f"*{PART}"):
            if part.is_symlink():
                part.unlink()
            else:
                _own(part)
        for other in found[:-1]:
            shutil.rmtree(other, ignore_errors=True)
        return cls(folder)

    def is_of_another(self, source: str) -> bool:
        """Tell whether what is there was begun from something else, see :meth:`begin`."""
        return self._state().get("source") not in (None, _hash(source))

    def begin(self, name: str, source: str) -> RemoteVersion | None:
        """Keep what is there of this very file, and remove all else.

        Parameters
        ----------
        name : str
            What the finished file will be called.
        source : str
            What it is of: link, without its signature, and format.

        Returns
        -------
        Version or None
            Of which state of the remote file the bytes are; None where there are none, or none
            that the server can be asked about.
        """
        state = self._state()
        version = RemoteVersion(*(state.get(key) for key in ("etag", "last_modified", "size")))  # type: ignore[arg-type]
        part = self.folder / f"{name}{PART}"
        fits = state.get("source") == _hash(source) and version.condition and part.is_file()
        if fits and part.stat().st_size < (version.size or 0):
            keep = {part.name, _STATE}
        else:
            keep, version = set(), None  # type: ignore[assignment]
        for entry in self.folder.iterdir():
            if entry.name not in keep and not entry.name.startswith(_OF_NFS):
                entry.unlink()
        return version

    def restart(self, name: str, source: str, version: RemoteVersion) -> None:
        """Note that from now on the bytes are of this state; those of another go first.

        Raises
        ------
        FileNotFoundError
            When another attempt has taken the folder over.
        """
        (self.folder / f"{name}{PART}").unlink(missing_ok=True)
        partial = self.folder / f"{_STATE}.new"  # not where a folder was taken over: no mkdir
        partial.write_text(json.dumps({"source": _hash(source), **asdict(version)}))
        os.replace(partial, self.folder / _STATE)

    @property
    def bytes(self) -> int:
        """How much of a file there is."""
        return _bytes_of_parts(self.folder)

    def remove(self) -> None:
        """Delete the folder; one that was taken over by another attempt has another name."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _state(self) -> dict[str, str | int | None]:
        try:
            return documents.read_state(self.folder / _STATE)
        except ABSENT_ERRORS:
            return {}


def attempts(parent: Path, video_ids: Collection[str]) -> Iterator[tuple[str, Path]]:
    """Yield the folders of the attempts at some videos, each with its video."""
    for name in os.listdir(parent):
        if name.startswith(".") and name.endswith(RESUME_SUFFIX):
            video_id, _, rest = name[1:].partition(".")
            folder = parent / name
            if (
                video_id in video_ids
                and _OF_ATTEMPT.fullmatch(rest)
                and not folder.is_symlink()  # what it leads to is not ours
            ):
                yield video_id, folder


def bytes_in(folder: Path) -> int:
    """Return how much has come in an attempt's folder, parts and whole files."""
    with os.scandir(folder) as entries:
        return sum(
            entry.stat(follow_symlinks=False).st_size
            for entry in entries
            if not entry.name.startswith(".")
        )


def _bytes_of_parts(folder: Path) -> int:
    return sum(part.lstat().st_size for part in folder.glob(f"*{PART}"))


def _own(part: Path) -> None:
    """See to it that nobody else writes in a file: whoever has it open locks it, as yt-dlp does."""
    with part.open("r+b") as file:  # NFS locks for writing only what is open for it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held, or a file system without locks
            copy = part.with_suffix(".copy")
            copy_file(part, copy)
            os.replace(copy, part)


def _hash(source: str) -> str:
    """Stand for a link without telling it: there may be a password in it."""
    return hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()[:16]
