"""Turn one link or path into a source: a video with a permanent id."""

from __future__ import annotations

import hashlib
import re
import stat
import unicodedata
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from dataminer.errors import ConfigError
from dataminer.ingest import youtube
from dataminer.ingest.listing import VIDEO_SUFFIXES
from dataminer.signatures import unsigned
from dataminer.text import inert
from dataminer.urls import SourceUrl, mask_line

MAX_LENGTH = 4096
_SLUG_LENGTH = 40
_MAX_QUOTED = 200
_MAX_SCHEME = 20
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PLAIN_HOST = re.compile(r"[a-z0-9._:-]+")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_NOT_A_PATH = re.compile(
    r"(https?|file|data|javascript|mailto|magnet|about|blob|ytsearch\w*):", re.IGNORECASE
)
_SECOND_LINK = re.compile(r"[,;|\s]\s*[\"']?https?://", re.IGNORECASE)
_NEXT_CELL = re.compile(r"[,|]|;(?!.*=)")  # `a.mp4;id=5` is a link
_WORD_IN_QUERY = re.compile(r"[,;|][^\W\d_]+$")
_PREFIXED_ID = re.compile(r"youtube:(?!//)\s*(.*)", re.IGNORECASE)


class InputError(ConfigError):
    """A text does not name a video that can be mined.

    Parameters
    ----------
    text : str
        The text.
    reason : str
        Why it cannot be used, and what to write instead: the rest of a sentence about the text.
    """

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"{printable(text)}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Source:
    """One video to mine: its permanent id, its location, and how it was named."""

    video_id: str
    url: SourceUrl
    source_type: str
    source_info: dict[str, Any] = field(default_factory=dict)


def parse(text: str, *, base: Path = Path()) -> Source:
    """Turn one link or path into a source.

    Parameters
    ----------
    text : str
        A link to a YouTube video in any spelling, ``youtube:ID``, an http(s) link, or a local
        path.
    base : Path
        The folder that a relative path starts from.

    Returns
    -------
    Source
        Of type ``"URL"`` or ``"FILE"``. A YouTube video has YouTube's id. Any other id consists of
        a readable part of the name, `-`, and 10 digits of the SHA-256 of the normalised link
        (without user, password and signature) or of the resolved path. It has at least 12
        characters, so that it never equals one of YouTube's.

    Raises
    ------
    InputError
        If the text does not name a video; the message says why in one sentence.
    """
    check_text(text.strip())
    url = as_url(text.strip())
    return _from_path(text, base) if url is None else _from_url(text.strip(), url)


def printable(text: str) -> str:
    """Make an untrusted text safe to show: one short line, no control characters, no secrets."""
    text = mask_line(text)
    if len(text) > _MAX_QUOTED:
        text = f"{text[:_MAX_QUOTED]}..."
    return inert(text)


def check_text(text: str) -> None:
    """Raise `InputError` for a text that cannot be a link, or a path that can be stored."""
    if not text:
        raise InputError(text, "is empty")
    if len(text) > MAX_LENGTH:
        raise InputError(text, f"is longer than {MAX_LENGTH} characters")
    if not text.isprintable() and any(unicodedata.category(c) == "Cc" for c in text):
        raise InputError(text, "contains control characters such as a line end or a NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(text, "is not UTF-8: rename the file or save the list as UTF-8") from None


def as_url(text: str) -> str | None:
    """Return the complete link that a text means; None if it means a path."""
    prefixed = _PREFIXED_ID.fullmatch(text)
    if prefixed is not None:
        if not youtube.is_id(prefixed[1]):
            raise InputError(text, "names no YouTube video: `youtube:` needs an 11-character id")
        return youtube.WATCH_URL.format(prefixed[1])
    scheme = _SCHEME.match(text)
    if scheme is None:
        return youtube.with_scheme(text)
    if scheme[1].lower() not in _DEFAULT_PORTS:
        name = scheme[1][:_MAX_SCHEME]
        raise InputError(text, f"`{name}://` is not supported: give an http(s) link or a path")
    return text


def as_video_list(text: str) -> youtube.VideoList | None:
    """Read a text as a YouTube playlist, channel or results page; None for anything else.

    Raises
    ------
    InputError
        If the text is not a usable link.
    """
    text = text.strip()
    check_text(text)
    url = as_url(text)
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return None
    return youtube.video_list(parts) if youtube.is_host(parts.hostname or "") else None


def _refuse_row(text: str, parts: SplitResult) -> None:
    """Refuse a row of a table that starts with a link, because all of it looks like one."""
    if _SECOND_LINK.search(text):
        raise InputError(text, "contains more than one link: give each its own line")
    name = parts.path.rpartition("/")[2]
    cell = _NEXT_CELL.search(name)
    video = name[: cell.start()] if cell else name
    cell = cell or _WORD_IN_QUERY.search(parts.query)
    if cell and PurePosixPath(video).suffix.lower() in VIDEO_SUFFIXES:
        sign = quote(cell[0][0])
        raise InputError(
            text, f"looks like a row of a table: name the file .csv, or write {sign} in the link"
        )


def _from_url(text: str, url: str) -> Source:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InputError(text, "is not a valid link") from None
    _refuse_row(text, parts)
    host = (parts.hostname or "").rstrip(".")
    if youtube.is_host(host):
        return _from_youtube(text, parts)
    if re.search(r"\s", url):
        raise InputError(text, "has a space in the link: write %20, or ` #` before a comment")
    normalised = _normalised(text, parts, host, port)
    user, at, _ = parts.netloc.rpartition("@")
    full = SourceUrl(normalised.replace("//", f"//{user}{at}", 1))
    stem = PurePosixPath(unquote(urlsplit(full.masked).path, errors="replace")).stem
    return Source(_make_id(stem, unsigned(normalised)), full, "URL")


def _from_youtube(text: str, parts: SplitResult) -> Source:
    try:
        video_id = youtube.video_id(parts)
    except ValueError as error:
        raise InputError(text, str(error)) from None
    return Source(video_id, SourceUrl(youtube.WATCH_URL.format(video_id)), "URL")


def _normalised(text: str, parts: SplitResult, host: str, port: int | None) -> str:
    """Return the canonical spelling of a link, without user, password and fragment."""
    scheme = parts.scheme.lower()
    try:
        host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise InputError(text, "is not a valid link (its host is not a host name)") from None
    if not _PLAIN_HOST.fullmatch(host):
        raise InputError(text, "is not a valid link (its host is not a host name)")
    netloc = f"[{host}]" if ":" in host else host
    if port is not None and port != _DEFAULT_PORTS[scheme]:
        netloc = f"{netloc}:{port}"
    path = quote(parts.path or "/", safe="%/:=&?~+!$,;'@()*[]|")
    return urlunsplit((scheme, netloc, path, quote(parts.query, safe="%/:=&?~+!$,;'@()*[]|"), ""))


def _from_path(text: str, base: Path) -> Source:
    path, mode = resolve_path(text, base)
    if mode is None:
        raise InputError(text, _why_missing(text))
    if stat.S_ISDIR(mode):
        raise InputError(text, "is a folder: give a video file")
    if not stat.S_ISREG(mode):
        raise InputError(text, "is not a regular file")
    check_text(str(path))  # a symbolic link may lead to any name
    return Source(_make_id(path.stem, str(path)), SourceUrl(str(path)), "FILE")


def resolve_path(text: str, base: Path) -> tuple[Path, int | None]:
    """Resolve a path; return it with its ``st_mode``, or with None if it does not exist.

    A name may start or end with spaces. If no such file exists, the spaces are ignored.
    """
    path, mode = _find(text, base)
    return _find(text.strip(), base) if mode is None and text.strip() else (path, mode)


def _find(text: str, base: Path) -> tuple[Path, int | None]:
    path = Path(text)
    with suppress(RuntimeError):  # `~nobody` may be the name of a file
        path = path.expanduser()
    try:
        resolved = (base / path).resolve()
        return resolved, resolved.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return base / path, None
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of symbolic links
        reason = getattr(error, "strerror", None) or "symbolic links lead in a circle"
        raise InputError(text, f"cannot be accessed ({reason})") from None


def _why_missing(text: str) -> str:
    if youtube.is_id(text):
        return f"is not a file here; if it is a YouTube id, write `youtube:{text}`"
    scheme = _NOT_A_PATH.match(text)
    if scheme is not None and scheme[1].lower() in _DEFAULT_PORTS:
        return "is not a complete link: write it with ://"
    if scheme is not None:
        return f"`{scheme[1]}:` is not supported: give an http(s) link or a path"
    if _SECOND_LINK.search(text):
        return "no such file; if it is a row of a table, name the file .csv"
    if re.match(r"(?:[a-z0-9-]+\.)+[a-z]{2,}/", text, re.IGNORECASE):
        return "no such file; if it is a link, write it with https://"
    return "no such file or folder"


def _make_id(stem: str, key: str) -> str:
    ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    slug = re.sub("[^A-Za-z0-9]+", "-", ascii_stem).strip("-")[:_SLUG_LENGTH].strip("-")
    return f"{slug or 'video'}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"
