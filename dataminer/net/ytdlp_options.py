"""How yt-dlp is run: its options, cookies and messages, and the only place that creates it."""

from __future__ import annotations

import io
import optparse
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dataminer.config.models import DownloadConfig
from dataminer.errors import ErrorClass, TransientError
from dataminer.net.addresses import AddressPolicy
from dataminer.net.deadline import TransferDeadline
from dataminer.net.rate_limit import RateLimiter
from dataminer.net.ytdlp_errors import one_line
from dataminer.urls import is_secret

Log = Callable[[str], None]

RETRIED = ("http", "fragment", "extractor")  # what yt-dlp itself retries
_TOKEN_LENGTH = 20  # names of players and languages are shorter
# seven fields, the fifth a time or empty, as in yt-dlp's cookies.py
_COOKIE = re.compile(r"([^\t]*\t){4}(\d+(\.\d+)?)?\t[^\t]*\t[^\t]*")


class _Logger:
    """Receives what yt-dlp would print. Only warnings are passed on: its errors are exceptions."""

    def __init__(self, warn: Log, secrets: list[str]) -> None:
        self._warn = warn
        self._secrets = secrets

    def debug(self, message: str) -> None:
        pass

    info = error = debug

    def warning(self, message: str) -> None:
        self._warn(f"yt-dlp: {one_line(message, self._secrets)}")


def client(options: dict[str, Any], *, limiter: RateLimiter, trusted: str) -> Any:
    """Return a new ``YoutubeDL`` whose requests are limited; nothing else creates one.

    Parameters
    ----------
    options : dict
        Those of :func:`base_options`, and any others.
    limiter : RateLimiter
        Asked before each HTTP request.
    trusted : str
        The link that the user named, see :class:`~dataminer.net.addresses.AddressPolicy`.
    """
    from dataminer.net.ytdlp_client import YoutubeDL
    from dataminer.net.ytdlp_handler import RequestContext

    return YoutubeDL(options, RequestContext(limiter, AddressPolicy(trusted)))


_clients = threading.local()


@contextmanager
def downloader(
    settings: DownloadConfig,
    options: dict[str, Any],
    *,
    warn: Log,
    limiter: RateLimiter,
    trusted: str,
    deadline: TransferDeadline,
) -> Iterator[Any]:
    """Yield this thread's ``YoutubeDL`` for one link; after an error, the next link gets a new one.

    Cookies set by sites are kept from link to link, as in a run of yt-dlp: its extractors log in
    and consent once. The cookie file is read when a ``YoutubeDL`` is created.

    Parameters
    ----------
    settings : DownloadConfig
        Network settings.
    options : dict
        Options for this link besides :func:`base_options`: the same keys for each link.
    warn : callable
        Gets yt-dlp's warnings.
    limiter, trusted : RateLimiter, str
        As for :func:`client`.
    deadline : TransferDeadline
        Gets each connection.
    """
    from dataminer.net.ytdlp_handler import RequestContext

    before, ydl = getattr(_clients, "last", (None, None))
    _clients.last = (None, None)
    if ydl is None or before != settings:
        ydl = client({**base_options(settings, warn), **options}, limiter=limiter, trusted=trusted)
    ydl.params |= {**options, "logger": _Logger(warn, secrets_of(settings))}
    ydl.request_context = RequestContext(limiter, AddressPolicy(trusted), deadline)
    yield ydl
    _clients.last = (settings, ydl)


def base_options(settings: DownloadConfig, warn: Log) -> dict[str, Any]:
    """Return the options of every use of yt-dlp: silent, no cache, no config, no ``file://``.

    Raises
    ------
    TransientError
        COOKIES, if the cookies cannot be read.
    """
    return {
        "quiet": True,
        "noprogress": True,
        "color": "no_color",
        "logger": _Logger(warn, secrets_of(settings)),
        "cachedir": False,
        "enable_file_urls": False,
        # YouTube needs one; by default yt-dlp only looks for deno
        "js_runtimes": dict(map(_runtime, settings.js_runtimes)),
        "noplaylist": True,
        # it would repeat a request with a forged address, which is impolite
        "geo_bypass": False,
        "socket_timeout": settings.socket_timeout,
        "retries": settings.retries,
        "fragment_retries": settings.retries,
        "extractor_retries": settings.retries,
        "retry_sleep_functions": dict.fromkeys(RETRIED, retry_delay),
        **_identity_options(settings),
        **_command_line_options(settings),
    }


def secrets_of(settings: DownloadConfig) -> list[str]:
    """Return the secrets among the settings, the longest first."""
    found = {value for text in settings.extractor_args for value in _argument_values(text)}
    if settings.proxy:
        parts = urlsplit(settings.proxy)
        found |= {settings.proxy, parts.netloc.rpartition("@")[0], parts.password or ""}
    return sorted((secret for secret in found if secret), key=len, reverse=True)


def _argument_values(text: str) -> list[str]:
    """Return the values of an extractor argument that may be tokens, by their name or length."""
    found = []
    for part in text.partition(":")[2].split(";"):
        value = part.partition("=")[2]
        items = [value, *value.split(","), *(item.partition("+")[2] for item in value.split(","))]
        found += [item for item in items if is_secret(part) or len(item) >= _TOKEN_LENGTH]
    return found


def _identity_options(settings: DownloadConfig) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if settings.proxy:
        options["proxy"] = settings.proxy
    if settings.user_agent:
        options["http_headers"] = {"User-Agent": settings.user_agent}
    if settings.cookies:
        options["cookiefile"] = _read_cookies(Path(os.path.expanduser(settings.cookies)))
    return options


def _read_cookies(path: Path) -> io.StringIO:
    """Read the cookies into memory: yt-dlp would write to the file, which other jobs use too."""
    # the setting may hold cookies instead of the name of their file
    name = path if "=" not in str(path) else "what it names"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        message = f"download.cookies: {name} cannot be read: {reason}"
        raise TransientError(message, ErrorClass.COOKIES) from error
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.removeprefix("#HttpOnly_")
        if entry.strip() and not entry.startswith("#") and not _COOKIE.fullmatch(entry):
            # yt-dlp would skip it, and print it
            position = f"line {number} of {name}"
            message = f"download.cookies: {position} is not a cookie in Netscape format"
            hint = "write its seven fields with tabs between them, or export the file again"
            raise TransientError(message, ErrorClass.COOKIES, hint)
    return io.StringIO(text)


def _command_line_options(settings: DownloadConfig) -> dict[str, Any]:
    """Let yt-dlp itself parse settings that are written as on its command line."""
    arguments = [f"--extractor-args={text}" for text in settings.extractor_args]
    if settings.cookies_from_browser:
        arguments.append(f"--cookies-from-browser={settings.cookies_from_browser}")
    if not arguments:
        return {}
    import yt_dlp

    try:
        options = yt_dlp.parse_options(["--ignore-config", *arguments]).ydl_opts
    except optparse.OptParseError:
        message = "download.cookies_from_browser names no browser that yt-dlp knows"
        hint = "write BROWSER[+KEYRING][:PROFILE][::CONTAINER], such as firefox"
        raise TransientError(message, ErrorClass.COOKIES, hint) from None
    return {key: options[key] for key in ("extractor_args", "cookiesfrombrowser")}


def _runtime(text: str) -> tuple[str, dict[str, str]]:
    name, _, path = text.partition(":")
    return name, {"path": path} if path else {}


def retry_delay(n: int) -> float:
    """Return the seconds to wait after ``n`` failed tries; yt-dlp passes ``n`` by name."""
    return min(2.0**n, 20.0)
