"""Interrupted transfers, kept beside the store's folders for the next attempt, on any node.

An attempt writes to its own folder, ``.{video_id}.{twelve hexadecimal digits}.resume``. The next
attempt takes it over by renaming it, under the claim of the video: a job that was paused and lost
its claim no longer finds the folder. If that job still has the file open, the bytes are copied, so
that it writes to a file that has no name any more.
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

PART = ".part"  # the suffix that yt-dlp gives to an incomplete file
_STATE = ".state.json"
_ATTEMPT = re.compile(f"[0-9a-f]{{12}}{re.escape(RESUME_SUFFIX)}")
_NFS_PREFIX = ".nfs"  # NFS gives such a name to a deleted file that is still open


@dataclass(frozen=True)
class RemoteVersion:
    """What distinguishes one version of a remote file from another.

    Parameters
    ----------
    etag, last_modified : str or None
        As sent by the server.
    size : int or None
        In bytes, of the whole file.
    """

    etag: str | None
    last_modified: str | None
    size: int | None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> RemoteVersion:
        """Return the version that an answer with the file, or with a part of it, belongs to."""
        size = (headers.get("Content-Range") or "").rpartition("/")[2]
        if not size:
            size = "" if headers.get("Content-Encoding") else headers.get("Content-Length") or ""
        etag = headers.get("ETag") or ""
        return cls(
            # a weak ETag says that two files mean the same, not that their bytes are equal
            etag if etag.startswith('"') else None,
            headers.get("Last-Modified"),
            int(size) if size.isdecimal() else None,
        )

    @property
    def condition(self) -> str | None:
        """The value for If-Range; None if nothing identifies this version."""
        return self.etag or self.last_modified

    def differs(self, other: RemoteVersion) -> bool:
        """Return whether a value that both versions have is not equal."""
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return any(a is not None and b is not None and a != b for a, b in pairs)


@dataclass(frozen=True)
class PartialDownload:
    """An attempt's own folder.

    Parameters
    ----------
    folder : Path
        The folder; its incomplete file is ``NAME.part``.
    """

    folder: Path

    @classmethod
    def take_over(cls, parent: Path, video_id: str) -> PartialDownload:
        """Create the folder of a new attempt, from the largest that earlier attempts left."""
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
                _make_exclusive(part)
        for other in found[:-1]:
            shutil.rmtree(other, ignore_errors=True)
        return cls(folder)

    def is_of_another(self, source: str) -> bool:
        """Return whether the incomplete file is of another source, see :meth:`begin`."""
        return self._state().get("source") not in (None, _hash(source))

    def begin(self, name: str, source: str) -> RemoteVersion | None:
        """Keep the bytes of this very file, and remove all others.

        Parameters
        ----------
        name : str
            Name of the finished file.
        source : str
            The link without its signature, and the format.

        Returns
        -------
        RemoteVersion or None
            The version that the kept bytes belong to; None if there are none, or if the server
            cannot be asked whether it still has that version.
        """
        state = self._state()
        version = RemoteVersion(*(state.get(key) for key in ("etag", "last_modified", "size")))  # type: ignore[arg-type]
        part = self.folder / f"{name}{PART}"
        fits = state.get("source") == _hash(source) and version.condition and part.is_file()
        resumable = fits and part.stat().st_size < (version.size or 0)
        keep = {part.name, _STATE} if resumable else set()
        for entry in self.folder.iterdir():
            if entry.name not in keep and not entry.name.startswith(_NFS_PREFIX):
                entry.unlink()
        return version if resumable else None

    def restart(self, name: str, source: str, version: RemoteVersion) -> None:
        """Record the version of all bytes to come, and delete the bytes of another version.

        Raises
        ------
        FileNotFoundError
            If another attempt has taken over the folder.
        """
        (self.folder / f"{name}{PART}").unlink(missing_ok=True)
        partial = self.folder / f"{_STATE}.new"  # no mkdir: another attempt may have taken over
        partial.write_text(json.dumps({"source": _hash(source), **asdict(version)}))
        os.replace(partial, self.folder / _STATE)

    @property
    def bytes(self) -> int:
        """The size of the incomplete file."""
        return _bytes_of_parts(self.folder)

    def remove(self) -> None:
        """Delete the folder, unless another attempt has taken it over under another name."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _state(self) -> dict[str, str | int | None]:
        try:
            return documents.read_transfer_state(self.folder / _STATE)
        except ABSENT_ERRORS:
            return {}


def attempts(parent: Path, video_ids: Collection[str]) -> Iterator[tuple[str, Path]]:
    """Yield each video with the folder of an attempt at it."""
    for name in os.listdir(parent):
        if name.startswith(".") and name.endswith(RESUME_SUFFIX):
            video_id, _, rest = name[1:].partition(".")
            folder = parent / name
            if (
                video_id in video_ids
                and _ATTEMPT.fullmatch(rest)
                and not folder.is_symlink()  # its target is not ours
            ):
                yield video_id, folder


def bytes_in(folder: Path) -> int:
    """Return the bytes in an attempt's folder, of incomplete and finished files."""
    with os.scandir(folder) as entries:
        return sum(
            entry.stat(follow_symlinks=False).st_size
            for entry in entries
            if not entry.name.startswith(".")
        )


def _bytes_of_parts(folder: Path) -> int:
    return sum(part.lstat().st_size for part in folder.glob(f"*{PART}"))


def _make_exclusive(part: Path) -> None:
    """Ensure that no other process writes to a file; yt-dlp locks the file while it is open."""
    with part.open("r+b") as file:  # NFS grants a write lock only on a file open for writing
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # locked, or a file system without locks
            copy = part.with_suffix(".copy")
            copy_file(part, copy)
            os.replace(copy, part)


def _hash(source: str) -> str:
    """Identify a link without revealing it: it may contain a password."""
    return hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()[:16]
