"""A plain link to a video file, which is fetched with one request.

yt-dlp's generic extractor requests such a link twice: to identify it, and for the file. Here the
answer to the first request is the file. If it is anything else, usually a page, yt-dlp gets that
answer instead of requesting it again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

# as in yt-dlp's generic extractor
_TYPE = re.compile(
    r"(?P<type>audio|video|application(?=/(?:ogg$|(?:vnd\.apple\.|x-)?mpegurl)))/(?P<format_id>[^;\s]+)"
)
_PLAYLIST = re.compile(r".*mpegurl|f4m")
_RESERVED = re.compile(r"[\s,/+\[\]()]")  # what yt-dlp removes from the name of a format
# sites whose links look like files, but whose yt-dlp extractors know more than the answer does
_SITES = ("arnes.si", "dropbox.com", "imgur.com", "redgifs.com")
_PARTIAL = 206
_SNIFFED = 512  # bytes, as in yt-dlp's generic extractor
_UNNAMED = "0"  # yt-dlp's name for the only format if it has none
_UNKNOWN = "unknown_video"  # yt-dlp's suffix for a file of unknown type
_MANIFESTS = ("m3u8", "f4m")


class NotAFile(Exception):
    """The answer to a plain link is not a video file.

    Parameters
    ----------
    response : yt_dlp.networking.Response
        The answer, which can still be read in full.
    """

    def __init__(self, response: Any) -> None:
        super().__init__("no video file")
        self.response = response


class FirstRequestFailed(Exception):
    """The first request failed: unlike a request in the middle of a transfer, it is not retried."""


def suffix_of(url: str) -> str | None:
    """Return the suffix of a plain link, without its dot; None if it may lead to something else."""
    from yt_dlp.utils import MEDIA_EXTENSIONS

    try:
        parts = urlsplit(url)
        site = f".{parts.hostname or ''}".endswith(tuple(f".{name}" for name in _SITES))
    except ValueError:
        return None
    suffix = os.path.splitext(parts.path)[1].lower().lstrip(".")
    return suffix if suffix in MEDIA_EXTENSIONS.video and not site else None


def describe_response(response: Any) -> dict[str, Any]:
    """Describe a file as yt-dlp's generic extractor does, from the answer to its request.

    Parameters
    ----------
    response : yt_dlp.networking.Response
        The answer.

    Raises
    ------
    NotAFile
        If the answer is something else: a page, a playlist, or audio.
    """
    from yt_dlp.utils import strftime_or_none, unified_timestamp, url_basename

    format_id, ext = _format_of(response)
    name = unquote(os.path.splitext(response.url.rstrip("/").split("/")[-1])[0])
    timestamp = unified_timestamp(response.headers.get("Last-Modified"))
    return {
        "id": name,
        "title": unquote(os.path.splitext(url_basename(response.url))[0])
        or f"generic video #{name}",
        "timestamp": timestamp,
        "upload_date": strftime_or_none(timestamp),
        "direct": True,
        "extractor": "generic",
        "webpage_url": response.url,
        "url": response.url,
        "protocol": urlsplit(response.url).scheme,
        "format_id": format_id,
        "ext": ext,
    }


def _format_of(response: Any) -> tuple[str, str]:
    """Return the name of the format, and the suffix of its file."""
    from yt_dlp.utils import MEDIA_EXTENSIONS, determine_ext, urlhandle_detect_ext
    from yt_dlp.utils._utils import _UnsafeExtensionError

    found = _TYPE.match((response.headers.get("Content-Type") or "").lower())
    if found is None:
        # a partial answer continues what was a file before
        if response.status != _PARTIAL and _is_text(_first_bytes(response)):
            raise NotAFile(response)
        ext = determine_ext(response.url)
        return _UNNAMED, ext if ext in _UnsafeExtensionError.ALLOWED_EXTENSIONS else _UNKNOWN
    ext = determine_ext(response.url, default_ext=None) or urlhandle_detect_ext(response)
    if found["type"] == "audio" or _PLAYLIST.fullmatch(found["format_id"]) or ext in _MANIFESTS:
        raise NotAFile(response)
    name = _RESERVED.sub("_", found["format_id"])
    reserved = (*MEDIA_EXTENSIONS.common_video, *MEDIA_EXTENSIONS.common_audio, "3gp")
    return f"f{name}" if name != ext and name in reserved else name, ext


def _is_text(start: bytes) -> bool:
    from yt_dlp.utils import is_html

    return start.startswith(b"#EXTM3U") or bool(is_html(start))


def _first_bytes(response: Any) -> bytes:
    """Read the first bytes of an answer, which can then be read again."""
    read: Callable[[int | None], bytes] = response.read
    start = left = read(_SNIFFED)

    def replay(size: int | None = None) -> bytes:
        nonlocal left
        if not left:
            return read(size)
        if size is None or size < 0:
            found, left = left + read(None), b""
        else:
            found, left = left[:size], left[size:]
        return found

    response.read = replay
    return start
