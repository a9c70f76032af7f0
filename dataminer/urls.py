"""URLs that are safe to show: without passwords, signatures and tokens."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from dataminer.signatures import unsigned

HIDDEN = "..."
UNREADABLE = "a URL that cannot be read"

# Parameters that name a video or a position in it, and the form of their values. Any other
# parameter may grant access.
_NUMBERS = ["p", "page", "index", "part", "n", "quality", "width", "height"]
_PLAIN = {
    name: re.compile(pattern)
    for names, pattern in [
        (["v", "list"], r"[\w-]{1,48}"),
        (["id", "video", "video_id", "format"], r"[\w.-]{1,16}"),
        (_NUMBERS, r"\d{1,6}"),
        (["t", "start", "end"], r"\d[\dhms:.]{0,9}"),
    ]
    for name in names
}
# Removed from the URL in info.json. All else stays there, because a new database reads it.
_SECRET = re.compile(
    r".*(token|key|sig|signature|hmac|secret|password|passwd|pwd|auth|credential|policy|session"
    r"|sessionid|sid)|md5|st",
    re.IGNORECASE,
)
_SIGNED_FOLDER = re.compile("l?sig|signature|token|hmac", re.IGNORECASE)  # /sig/VALUE/a.mp4
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,20}://", re.IGNORECASE)
_SCHEME_END = re.compile(r"[a-z][a-z0-9+.-]{0,20}$", re.IGNORECASE)
_HOST = re.compile(r"\[|localhost\b|[\w-]+(\.[\w-]+)+|[\w-]+(:\d|/)")
_HOST_AND_PATH = re.compile(r"[\w-]+(\.[\w-]+)+(:\d+)?/")
_TEXTS = ("error", "warning", "reason")  # columns with a stage's own messages
_FOLDER = re.compile(r"(?<![\w.:/~?=&-])(/[^\s/'\"]+)+/(?=[^\s/'\"])")
_WORD = re.compile(r"[^\s'\"<>]+")
_NO_WORD = re.compile(r"[\s'\"<>]")
_LAST_SIGNS = ".,;:!)]}"


class MaskedUrl(ABC):
    """A URL that is masked however it is printed, formatted or logged.

    It is not a ``str``: writing it as JSON or binding it to SQL by mistake is an error. Only
    `reveal` returns all of it, for connecting or fetching.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: str) -> None:
        self._raw = raw

    @property
    @abstractmethod
    def masked(self) -> str:
        """The part that may be shown to anybody."""

    def reveal(self) -> str:
        """Return the whole URL, secrets included."""
        return self._raw

    def __str__(self) -> str:
        return self.masked

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.masked!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.reveal() == self._raw

    def __hash__(self) -> int:
        return hash((type(self), self._raw))


class SourceUrl(MaskedUrl):
    """Where a video comes from: a URL, or the path of a local file."""

    __slots__ = ()

    @property
    def is_path(self) -> bool:
        """Whether it is the path of a local file."""
        return _SCHEME.match(self._raw) is None

    @property
    def masked(self) -> str:
        """The path; or the URL without user, password, fragment and most of its query's values."""
        return self._raw if self.is_path else mask_url(self._raw)

    @property
    def public(self) -> str:
        """The part that may leave this machine: as `masked`, but only the name of a local file."""
        return PurePath(self._raw).name if self.is_path else self.masked

    def without_folder(self, text: str) -> str:
        """Return a text about this source without the folders of this machine."""
        for path in (self._raw, mask_text(self._raw)) if self.is_path else ():
            text = text.replace(path, self.public)
        return _FOLDER.sub("", text)

    @property
    def is_whole(self) -> bool:
        """Whether `masked` is the whole URL and can be opened."""
        return not self.is_path and self.masked == self._raw

    @property
    def is_signed(self) -> bool:
        """Whether it is a link with a signature, see :mod:`dataminer.signatures`."""
        return not self.is_path and unsigned(self._raw) != self._raw

    @property
    def stored(self) -> str:
        """The part that is written to a store: without user, password, signature and tokens."""
        if self.is_path:
            return self._raw
        try:
            parts = _without_user(urlsplit(unsigned(self._raw)))
        except ValueError:
            return UNREADABLE
        items = [_mask_item(item, keep=not is_secret(item)) for item in parts.query.split("&")]
        path = _mask_parameters(parts.path, lambda item: not is_secret(item))
        path = re.sub("(://)[^/]*@", r"\1", path)
        fragment = "" if "=" in parts.fragment else parts.fragment
        return urlunsplit(parts._replace(path=path, query="&".join(items), fragment=fragment))


def public_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as `masked_row` does, but in a form that may leave this machine."""
    public = masked_row(row)
    for key in _TEXTS:
        if public.get(key):
            public[key] = public["url"].without_folder(public[key])
    return public


def masked_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the database with its URL, and URLs in its messages, masked."""
    masked = dict(row)
    if masked.get("url") is not None:
        masked["url"] = SourceUrl(masked["url"])
    for key in _TEXTS:
        if masked.get(key):
            masked[key] = mask_text(masked[key])
    if masked.get("source_info"):
        info = masked["source_info"].items()
        masked["source_info"] = {k: mask_text(v) if isinstance(v, str) else v for k, v in info}
    return masked


def mask_url(url: str) -> str:
    """Return a URL without its user, its password, and values that may grant access."""
    try:
        parts = _without_user(urlsplit(url))
    except ValueError:
        return UNREADABLE
    fragment = parts.fragment if re.fullmatch(r"t=\d+", parts.fragment) else ""
    query = _mask_query(parts.query)
    return urlunsplit(parts._replace(path=_mask_path(parts.path), query=query, fragment=fragment))


def mask_text(text: str) -> str:
    """Mask every URL in a text, including those without a scheme."""
    return _WORD.sub(lambda match: _mask_word(match[0]), text)


def mask_line(text: str) -> str:
    """Mask a line that is meant to be one URL, however it is written."""
    scheme = _SCHEME.match(text)
    if scheme is None or not _NO_WORD.search(text):
        return mask_text(text)
    before, at, rest = text[scheme.end() :].rpartition("@")
    location, question, _ = rest.partition("?")
    query = f"?{HIDDEN}" if question else ""
    return f"{scheme[0]}{HIDDEN if before else ''}{at}{mask_text(location)}{query}"


def without_parameters(name: str) -> str:
    """Mask the secrets in a name that was the end of a URL."""
    return _mask_path(mask_line(name))


def _mask_word(word: str) -> str:
    before, separator, _ = word.partition("://")
    scheme = _SCHEME_END.search(before) if separator else None
    if scheme is None:
        return _mask_loose(word)
    start = scheme.start()
    url = word[start:].rstrip(_LAST_SIGNS)
    if word[start + len(url) :].startswith(HIDDEN):
        url += HIDDEN
    return word[:start] + mask_url(url) + word[start + len(url) :]


def _mask_loose(word: str) -> str:
    """Mask a word that looks like a URL without its scheme, or with half of one."""
    before, at, rest = word.rpartition("@")
    if (":" in before and _HOST.match(rest)) or (before and _HOST_AND_PATH.match(rest)):
        word = f"{HIDDEN}{at}{rest}"
    location, question, query = word.partition("?")
    query = _mask_query(query) if "." in location else query
    if "=" in location:
        location = _mask_parameters(location, lambda item: not is_secret(item))
    return f"{location}{question}{query}"


def _mask_query(query: str) -> str:
    return "&".join(_mask_item(item, keep=_is_plain(item)) for item in query.split("&"))


def _mask_item(item: str, *, keep: bool) -> str:
    """Mask the value of one ``name=value``; an item without a name may be a token as a whole."""
    name, equals, _ = item.partition("=")
    if keep or not item:
        return item
    return f"{name}={HIDDEN}" if equals else HIDDEN


def _mask_path(path: str) -> str:
    """Mask a URL within a URL, folders that are signatures, parameters, and encoded secrets."""
    nested = _SCHEME.search(path)
    if nested:
        return _mask_path(path[: nested.start()]) + mask_url(path[nested.start() :])
    masked: list[str] = []
    segments = path.split("/")
    for index, segment in enumerate(segments):
        signed = 0 < index < len(segments) - 1 and _SIGNED_FOLDER.fullmatch(segments[index - 1])
        masked.append(HIDDEN if signed else _mask_encoded(segment))
    return _mask_parameters("/".join(masked), lambda item: "=" not in item)


def _mask_encoded(segment: str) -> str:
    """Mask the rest of a path segment if percent-encoding hides a query or a user in it."""
    plain = unquote(unquote(segment))
    if any(sign in plain and sign not in segment for sign in ("=", "@", "://")):
        return segment.partition("%")[0] + HIDDEN
    return segment


def _mask_parameters(path: str, keep: Callable[[str], bool]) -> str:
    """Mask parameters in a path: `;jsessionid=…`, `exp=…~hmac=…`."""
    return "".join(_mask_item(part, keep=keep(part)) for part in re.split("([/;~])", path))


def _is_plain(item: str) -> bool:
    name, _, value = item.partition("=")
    plain = _PLAIN.get(name.lower())
    return value == HIDDEN or bool(plain and plain.fullmatch(value))


def is_secret(item: str) -> bool:
    """Return whether a parameter has the name of a secret, or contains one that does."""
    name, equals, value = item.partition("=")
    inner = re.split("[~;,&]", unquote(value)) if "=" in unquote(value) else []
    return bool(equals and _SECRET.fullmatch(name)) or any(map(is_secret, inner))


def _without_user(parts: SplitResult) -> SplitResult:
    _, at, address = parts.netloc.rpartition("@")
    if ":" in address and not at and re.search("[^/]@", parts.path):  # a password with a slash
        return parts._replace(netloc="", path=f"//{parts.path.rpartition('@')[2]}")
    host, colon, port = address.rpartition(":")
    if colon and port and not port.isdigit() and not address.endswith("]"):
        address = f"{host}:{HIDDEN}"  # a part of user and password, whose @ is missing
    return parts._replace(netloc=address)
