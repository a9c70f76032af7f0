"""One table of what yt-dlp's many errors, and YouTube's sentences in them, mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from dataminer.errors import (
    CHECK_LINK,
    ErrorClass,
    Kind,
    PermanentError,
    StageError,
    TransientError,
    kind_of,
    os_error_class,
)
from dataminer.urls import SourceUrl, mask_text

# Searched in this order in the message without its links. A message that matches none is INTERNAL
# and retried: a wrong guess there costs attempts, while a wrong REMOVED costs a video. Temporary
# errors come first: YouTube calls much "unavailable" that it only withholds. A test compares each
# pattern with the messages of the installed yt-dlp and with YouTube's known sentences.
PATTERNS = [
    (re.compile(pattern, re.IGNORECASE), error_class)
    for pattern, error_class in [
        ("not a bot|captcha challenge", ErrorClass.BOT_CHECK),
        ("rate.?limit|too many requests|try again later", ErrorClass.RATE_LIMIT),
        ("private video|video is private", ErrorClass.PRIVATE),
        ("members.only|join this channel|this channel's members", ErrorClass.MEMBERS_ONLY),
        (
            r"requires payment|(music|youtube) premium|purchase this|\brental",
            ErrorClass.MEMBERS_ONLY,
        ),
        ("confirm your age|age.restricted|age.verification|inappropriate", ErrorClass.AGE),
        (
            "(available|unavailable|blocked it) in your (country|region)|from your location",
            ErrorClass.GEO,
        ),
        ("copyright", ErrorClass.COPYRIGHT),
        ("drm protected|use drm", ErrorClass.DRM),
        (
            "live event will begin|premieres? (in|will begin)|offline|not currently live"
            "|livestream has not|is not live",
            ErrorClass.LIVE,
        ),
        ("for registered users|login required|need to log in", ErrorClass.LOGIN),
        ("(video|content) (is |isn.t )?(unavailable|not available)", ErrorClass.REMOVED),
        ("(no longer|isn.t) available|been removed|been terminated", ErrorClass.REMOVED),
        ("does not exist|has been deleted", ErrorClass.REMOVED),
        ("unsupported url|is not supported", ErrorClass.UNSUPPORTED),
        ("did not get any data blocks|file is empty", ErrorClass.EMPTY),
        ("failed to load cookies", ErrorClass.COOKIES),
        ("ffmpeg (is not|could not|not)|install ffmpeg", ErrorClass.MISSING_TOOL),
        ("timed out", ErrorClass.TIMEOUT),
        (r"http error 5\d\d", ErrorClass.SERVER),
        ("more expected|connection (reset|refused)", ErrorClass.NETWORK),
        ("got error: ", ErrorClass.NETWORK),  # its downloader used up its retries
    ]
]
_NO_SUCH_FORMAT = re.compile("requested format is not available", re.IGNORECASE)
_UNSUPPORTED = re.compile("unsupported url", re.IGNORECASE)
_NO_FORMAT = re.compile("no video formats", re.IGNORECASE)
# of a proxy from the environment: the settings accept no such proxy
_NO_PROXY = re.compile("to use an https proxy|unsupported proxy type", re.IGNORECASE)
_STATUS = {
    401: ErrorClass.BLOCKED,
    402: ErrorClass.MEMBERS_ONLY,
    403: ErrorClass.BLOCKED,
    404: ErrorClass.REMOVED,
    407: ErrorClass.BLOCKED,
    408: ErrorClass.TIMEOUT,
    410: ErrorClass.REMOVED,
    425: ErrorClass.SERVER,
    429: ErrorClass.RATE_LIMIT,
    451: ErrorClass.GEO,
}
_YOUTUBE_HINT = (
    "yt-dlp needs a JavaScript runtime (deno, or node 22) and a recent version for YouTube, see"
    " docs/youtube.md; otherwise wait, then run snakemake again"
)
SIGNATURE_HINT = (
    "if its signature has expired, add the link with a new one, which replaces it: `dataminer"
    " add-video URL --project PROJECT`"
)
_MAYBE_EXPIRED = (ErrorClass.BLOCKED, ErrorClass.LOGIN, ErrorClass.UNSUPPORTED)
_PROXY_HINT = "set download.proxy, or the shell's HTTPS_PROXY, to an http:// or socks5:// proxy"
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# the generic extractor names a video by the end of its URL, secrets included
_LEAD = re.compile(
    r"^\s*(ERROR:\s*)?(\[generic\] .{1,500}?: (?=\S)|\[[^\]\s]+\]\s*)?(Got error:\s*)?"
)
_BAD_PORT = re.compile("nonnumeric port: .*")  # and what follows is part of the user and password
# the advice to users of yt-dlp's command line that follows the message
_TAIL = re.compile(
    r"[;.]?\s*(please report this|\(caused by|Use --|See  ?https?:|Giving up).*", re.IGNORECASE
)
_LINK = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
_MAX_MESSAGE = 200


def stage_error(
    error: BaseException, url: str, secrets: Iterable[str] = (), content_type: str = ""
) -> StageError:
    """Return the error of ours that an exception from yt-dlp means.

    Parameters
    ----------
    error : BaseException
        The exception; its cause is often wrapped twice.
    url : str
        The link that was requested.
    secrets : iterable of str
        Texts that the message must not contain.
    content_type : str
        The type of what the server sent, if known.

    Returns
    -------
    StageError
        A :class:`PermanentError` or a :class:`TransientError` with one short sentence.
    """
    error_class, text, hint = _explain(error, one_line(str(error), secrets))
    if content_type and _UNSUPPORTED.match(text):
        text = f"the server sent {content_type}, in which yt-dlp finds no video"
    if SourceUrl(url).is_signed and error_class in _MAYBE_EXPIRED:
        hint = SIGNATURE_HINT
    _close_responses(error)
    masked = str(SourceUrl(url))
    text = text.replace(masked, "").rstrip(" :.") or type(error).__name__
    kind = PermanentError if kind_of(error_class) is Kind.PERMANENT else TransientError
    return kind(f"{masked[:_MAX_MESSAGE]}: {text[:_MAX_MESSAGE]}", error_class, hint)


def one_line(text: str, secrets: Iterable[str] = ()) -> str:
    """Reduce a message of yt-dlp to one line without colours, advice and secrets."""
    for secret in secrets:
        text = text.replace(secret, "...")
    text = _LEAD.sub("", " ".join(_ANSI.sub("", text).split(" ")).replace("\r", ""))
    text = " ".join(_TAIL.sub("", text.replace("\n", " ")).split())
    text = _BAD_PORT.sub("the link leads to an address without a valid port", text)
    return mask_text(text)


def _explain(error: BaseException, text: str) -> tuple[ErrorClass, str, str]:
    """Return an exception's class, its message and a hint; ``text`` is its own message."""
    error_class = _by_message(str(error)) or _by_type(error)
    if _NO_PROXY.search(text):
        return ErrorClass.NETWORK, "the type of the proxy is not supported", _PROXY_HINT
    if error_class is None and (_NO_SUCH_FORMAT.search(text) or _NO_FORMAT.search(text)):
        error_class, hint = _without_stream(error, text)
        return error_class, "has no video stream", hint
    if error_class is ErrorClass.EMPTY:
        return error_class, "the server sent an empty answer (0 bytes)", CHECK_LINK
    return error_class or ErrorClass.INTERNAL, text, ""


def _by_message(text: str) -> ErrorClass | None:
    text = _LINK.sub("", text)
    return next((error_class for pattern, error_class in PATTERNS if pattern.search(text)), None)


def _without_stream(error: BaseException, text: str) -> tuple[ErrorClass, str]:
    """Distinguish a sound-only source from formats that YouTube hides from suspected robots."""
    if any(getattr(cause, "ie", None) == "youtube" for cause in _chain(error)):
        return ErrorClass.BLOCKED, _YOUTUBE_HINT
    return (ErrorClass.NO_VIDEO if _NO_SUCH_FORMAT.search(text) else ErrorClass.INTERNAL), ""


def _by_type(error: BaseException) -> ErrorClass | None:
    for cause in _chain(error):
        error_class = _by_own_type(cause)
        if error_class is not None:
            return error_class
    return None


def _by_own_type(error: BaseException) -> ErrorClass | None:
    from yt_dlp import cookies, utils
    from yt_dlp.networking import exceptions

    if isinstance(error, exceptions.HTTPError):
        if error.status in _STATUS:
            return _STATUS[error.status]
        if error.status < 400:  # redirects that lead nowhere
            return ErrorClass.NETWORK
        return ErrorClass.UNSUPPORTED if error.status < 500 else ErrorClass.SERVER
    kinds = [
        (exceptions.NoSupportingHandlers, ErrorClass.UNSUPPORTED),
        (utils.UnsupportedError, ErrorClass.UNSUPPORTED),
        (utils.GeoRestrictedError, ErrorClass.GEO),
        (utils.UserNotLive, ErrorClass.LIVE),
        (utils.DownloadCancelled, ErrorClass.POLICY),
        (cookies.CookieLoadError, ErrorClass.COOKIES),
        (exceptions.TransportError, ErrorClass.NETWORK),
        (utils.ContentTooShortError, ErrorClass.NETWORK),
    ]
    for kind, error_class in kinds:
        if isinstance(error, kind):
            return error_class
    if isinstance(error, OSError):
        error_class = os_error_class(error)
        return None if error_class is ErrorClass.INTERNAL else error_class
    return None


def _close_responses(error: BaseException) -> None:
    """Close the sockets that an exception of yt-dlp still has open."""
    for cause in _chain(error):
        response = getattr(cause, "response", None)
        if response is not None:
            response.close()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, the outermost first."""
    waiting: list[BaseException | None] = [error]
    visited: set[int] = set()
    while waiting:
        current = waiting.pop(0)
        if not isinstance(current, BaseException) or id(current) in visited:
            continue
        visited.add(id(current))
        yield current
        wrapped = getattr(current, "exc_info", None) or (None, None)
        waiting += [wrapped[1], getattr(current, "cause", None)]
        waiting += [current.__cause__, current.__context__]
