"""How we run yt-dlp: its options, its cookies, its messages, and the one place that makes it."""

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
from dataminer.net.ytdlp_errors import one_line, stage_error
from dataminer.urls import is_secret

__all__ = ["base_options", "client", "downloader", "pause", "secrets_of", "stage_error"]


RETRIED = ("http", "fragment", "extractor")  # what yt-dlp itself tries again
_TOKEN_LENGTH = 20  # names of players and languages are shorter
# seven fields, of which the fifth is a time or empty: as yt-dlp's cookies.py has it
_COOKIE = re.compile(r"([^\t]*\t){4}(\d+(\.\d+)?)?\t[^\t]*\t[^\t]*")


class _Logger:
    """Takes in what yt-dlp would print; its warnings go on, its errors come as exceptions."""

    def __init__(self, say: Callable[[str], None], secrets: list[str]) -> None:
        self._say = say
        self._secrets = secrets

    def debug(self, message: str) -> None:
        pass

    info = error = debug

    def warning(self, message: str) -> None:
        self._say(f"yt-dlp: {one_line(message, self._secrets)}")


def client(options: dict[str, Any], *, gate: RateLimiter, given: str) -> Any:
    """Return a ``YoutubeDL`` whose requests ask a gate: the only place where one is made.

    Parameters
    ----------
    options : dict
        Those of :func:`base_options`, and what the use needs besides.
    gate : RateLimiter
        Asked before each HTTP request.
    given : str
        What the user gave, which decides how far inside requests may go.
    """
    from dataminer.net.ytdlp_client import Errand, YoutubeDL

    return YoutubeDL(options, Errand(gate, AddressPolicy(given)))


_made = threading.local()


@contextmanager
def downloader(
    settings: DownloadConfig,
    options: dict[str, Any],
    *,
    say: Callable[[str], None],
    gate: RateLimiter,
    given: str,
    watch: TransferDeadline,
) -> Iterator[Any]:
    """Yield this thread's ``YoutubeDL`` for one link; it is made once, or anew after an error.

    What sites set as cookies stays from link to link, as in a run of yt-dlp: its extractors log in
    and consent once. The file of cookies is read when one is made.

    Parameters
    ----------
    settings : DownloadConfig
        How a source is asked.
    options : dict
        What this link needs besides :func:`base_options`: the same keys for each link.
    say : callable
        Is told warnings.
    gate, given : RateLimiter, str
        As for :func:`client`.
    watch : TransferDeadline
        Is told of each connection.
    """
    from dataminer.net.ytdlp_client import Errand

    before, ydl = getattr(_made, "found", (None, None))
    _made.found = (None, None)
    if ydl is None or before != settings:
        ydl = client({**base_options(settings, say), **options}, gate=gate, given=given)
    ydl.params |= {**options, "logger": _Logger(say, secrets_of(settings))}
    ydl.errand = Errand(gate, AddressPolicy(given), watch)
    yield ydl
    _made.found = (settings, ydl)


def base_options(settings: DownloadConfig, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the options of every use of yt-dlp: silent, no cache, no config, no ``file://``.

    Raises
    ------
    TransientError
        COOKIES, where the cookies cannot be read.
    """
    return {
        "quiet": True,
        "noprogress": True,
        "color": "no_color",
        "logger": _Logger(say, secrets_of(settings)),
        "cachedir": False,
        "enable_file_urls": False,
        # YouTube wants one; yt-dlp itself only looks for deno
        "js_runtimes": dict(map(_runtime, settings.js_runtimes)),
        "noplaylist": True,
        # a forged address would be asked with a second time, and is no way to behave
        "geo_bypass": False,
        "socket_timeout": settings.socket_timeout,
        "retries": settings.retries,
        "fragment_retries": settings.retries,
        "extractor_retries": settings.retries,
        "retry_sleep_functions": dict.fromkeys(RETRIED, pause),
        **_identity(settings),
        **_parsed(settings),
    }


def secrets_of(settings: DownloadConfig) -> list[str]:
    """Return what of the settings must not be told to anybody, the longest first."""
    found = {value for text in settings.extractor_args for value in _argument_values(text)}
    if settings.proxy:
        parts = urlsplit(settings.proxy)
        found |= {settings.proxy, parts.netloc.rpartition("@")[0], parts.password or ""}
    return sorted((secret for secret in found if secret), key=len, reverse=True)


def _argument_values(text: str) -> list[str]:
    """Return the values of extractor arguments that may be a token: by their name, or long ones."""
    found = []
    for part in text.partition(":")[2].split(";"):
        value = part.partition("=")[2]
        items = [value, *value.split(","), *(item.partition("+")[2] for item in value.split(","))]
        found += [item for item in items if is_secret(part) or len(item) >= _TOKEN_LENGTH]
    return found


def _identity(settings: DownloadConfig) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if settings.proxy:
        options["proxy"] = settings.proxy
    if settings.user_agent:
        options["http_headers"] = {"User-Agent": settings.user_agent}
    if settings.cookies:
        options["cookiefile"] = _cookies(Path(os.path.expanduser(settings.cookies)))
    return options


def _cookies(path: Path) -> io.StringIO:
    """Read the cookies into memory: yt-dlp writes back what it was given, and jobs run at once."""
    shown = path if "=" not in str(path) else "what it names"  # cookies instead of their file
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        message = f"download.cookies: {shown} cannot be read: {reason}"
        raise TransientError(message, ErrorClass.COOKIES) from error
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.removeprefix("#HttpOnly_")
        if entry.strip() and not entry.startswith("#") and not _COOKIE.fullmatch(entry):
            # yt-dlp would leave it out, and print it
            message = f"download.cookies: line {number} of {shown} is no cookie in Netscape format"
            hint = "write its seven fields with tabs between them, or export the file again"
            raise TransientError(message, ErrorClass.COOKIES, hint)
    return io.StringIO(text)


def _parsed(settings: DownloadConfig) -> dict[str, Any]:
    """Have yt-dlp itself read what is written as on its command line."""
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


def pause(n: int) -> float:
    """Return the seconds to wait after ``n`` tries that failed."""
    return min(2.0**n, 20.0)
