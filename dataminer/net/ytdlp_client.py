"""yt-dlp with one way to the network: each request asks the gate, each address is looked at.

Imported where it is used: it loads yt-dlp.
"""

from __future__ import annotations

import email.utils
import errno
import functools
import io
import itertools
import re
import time
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree
from xml.parsers.expat import errors

import yt_dlp
import yt_dlp.compat
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.networking import RequestDirector, _helper, _urllib
from yt_dlp.networking.common import Response
from yt_dlp.networking.exceptions import HTTPError, RequestError

from dataminer.errors import DataminerError, ErrorClass, PermanentError, TransientError
from dataminer.memory import within_memory
from dataminer.net.addresses import AddressPolicy, plain_authority
from dataminer.net.deadline import TransferDeadline
from dataminer.net.rate_limit import RateLimiter
from dataminer.urls import mask_url

_REFUSAL = re.compile(
    rb"not a (ro)?bot|unusual traffic|rate.?limit|too many requests", re.IGNORECASE
)
_MAX_BODY = 1 << 20  # of a refusal's page
_MAX_RETRY_AFTER = 86_400.0
_STALE = 5.0  # seconds after which a server may have hung up on a connection that says nothing
_TRIES = 5  # permits that a connection may be too late for
MOST_PAGE = 16 << 20  # bytes of a page or a list, which yt-dlp holds in memory several times
MOST_PART = 64 << 20  # of a stream that comes in parts, each of which it holds as well
_MOST_LISTED = 200  # MB of what the lists that one link leads to name: some 500,000 parts
_MOST_TREE = 100  # MB of an XML document
# bytes of what yt-dlp holds of a part, beside its link: of XML, of HLS; and of an attribute
_PART, _LINE, _ATTRIBUTE = 300, 400, 170
_FORMAT = 100_000  # of which 2,000 are too many: yt-dlp takes milliseconds for each
# at the begin of a line as str.splitlines() has it
_PART_LINE = re.compile(rb"(?:^|[\n\r\v\f\x1c-\x1e\x85\xa8\xa9])[ \t]*[^#\s]")
_TAG = re.compile(rb"#EXT-X-.*")
_BLOCK = 1 << 16
_NO_WAY = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
_OTHER_LINK = "give the link of the video file itself"
_PACKED = "gzip, deflate"
_NO_FFMPEG = "/nonexistent/ffmpeg"


class _Stopped(RequestError):  # type: ignore[misc]
    """Carries an error of ours through yt-dlp, which lets its own pass only."""

    def __init__(self, reason: DataminerError) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(frozen=True)
class Errand:
    """For whom requests are made.

    Parameters
    ----------
    gate : RateLimiter
        Asked before each request.
    reach : AddressPolicy
        Which addresses are open.
    watch : TransferDeadline, optional
        Is told of each connection.
    """

    gate: RateLimiter
    reach: AddressPolicy
    watch: TransferDeadline | None = None


class YoutubeDL(yt_dlp.YoutubeDL):  # type: ignore[misc]
    """yt-dlp's own, whose every HTTP request goes through a gate to an address it may go to.

    That holds for pages, formats, media and their fragments, for each hop of a redirect and for
    yt-dlp's own retries. A request that is refused for now (429, a check for robots) is made again
    when the gate says so. There is no other way to the network: no ffmpeg, no ``ftp://``.

    Parameters
    ----------
    options : dict
        yt-dlp's.
    errand : Errand
        For whom the first requests are made; may be replaced between two links.
    """

    def __init__(self, options: dict[str, Any], errand: Errand) -> None:
        self.errand, self.fetching, self._room = errand, False, 0
        # ffmpeg would fetch by itself, past the gate; nothing here needs it
        super().__init__({**options, "ffmpeg_location": _NO_FFMPEG}, auto_init=False)

    def extract_info(self, *args: Any, **kwargs: Any) -> Any:
        """Extract, with all extractors, which take longer to load than a plain file to fetch."""
        if not self._ies:
            self.add_default_info_extractors()
        self._room = _MOST_LISTED * 1_000_000
        return super().extract_info(*args, **kwargs)

    def hold(self, formats: list[dict[str, Any]]) -> None:
        """Count what lists name, of all that one link leads to.

        Raises
        ------
        PermanentError
            UNSUPPORTED, once it is too much.
        """
        self._room -= sum(map(_held, formats))
        if self._room < 0:
            raise _too_long()

    def process_video_result(self, info: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Choose a format, unless there are too many of them, wherever they come from."""
        if len(info.get("formats") or ()) * _FORMAT > _MOST_LISTED * 1_000_000:
            raise _too_long()
        return super().process_video_result(info, *args, **kwargs)

    def build_request_director(self, handlers: Any, preferences: Any = None) -> RequestDirector:
        """Give requests to our handler only, whichever others are installed."""
        return super().build_request_director([functools.partial(_GatedRH, ydl=self)])

    def urlopen(self, req: Any) -> Response:
        """Open a link.

        Raises
        ------
        PermanentError
            UNSUPPORTED, when it leads to an address that it may not lead to.
        TransientError
            When the gate stays shut for longer than this job waits.
        """
        try:
            response = super().urlopen(req)
        except _Stopped as stopped:
            raise stopped.reason from None
        if self.fetching:
            self.errand.gate.report_success()
        return response

    def dl(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch the media: pages and formats were given, so an answer now says that all is well."""
        self.fetching = True
        try:
            return super().dl(*args, **kwargs)
        finally:
            self.fetching = False

    def report_error(self, message: str, *args: Any, **kwargs: Any) -> None:
        """Say by an exception of ours what only ffmpeg could fetch."""
        if "ffmpeg could not be found" in message:
            raise PermanentError("its stream can only be fetched by ffmpeg", ErrorClass.UNSUPPORTED)
        super().report_error(message, *args, **kwargs)


class _GatedRH(_urllib.UrllibRH):  # type: ignore[misc]
    """The handler of requests that needs the standard library only."""

    _SUPPORTED_URL_SCHEMES = ("http", "https", "data")

    def __init__(self, *, ydl: YoutubeDL, **options: Any) -> None:
        super().__init__(**options)
        self._ydl = ydl

    def _create_instance(
        self, proxies: Any, cookiejar: Any, legacy_ssl_support: Any = None
    ) -> urllib.request.OpenerDirector:
        """As the original does it, without ``ftp://`` and ``file://``, and with our connections."""
        opener = urllib.request.OpenerDirector()
        for handler in (
            _urllib.ProxyHandler(proxies),
            _Connections(
                self._ydl,
                context=self._make_sslcontext(legacy_ssl_support=legacy_ssl_support),
                source_address=self.source_address,
            ),
            urllib.request.HTTPCookieProcessor(cookiejar),
            urllib.request.DataHandler(),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _Redirects(),
        ):
            opener.add_handler(handler)
        opener.addheaders = []
        return opener

    def _send(self, request: Any) -> Response:
        request.headers.setdefault("Accept-Encoding", _PACKED)  # and nothing else that is installed
        while True:
            try:
                return super()._send(request)
            except HTTPError as error:
                refusal = _refusal(error)
                if refusal is None or not isinstance(request.data, bytes | None):
                    raise
                if not self._ask_again(error, *refusal):
                    raise
                error.close()

    def _ask_again(self, error: HTTPError, reason: str, error_class: ErrorClass) -> bool:
        wait = _retry_after(error.response.headers)
        try:
            gate = self._ydl.errand.gate
            return gate.refused(error.response.url, reason, wait, error_class)
        except DataminerError as stopped:
            raise _Stopped(stopped) from stopped


class _Redirects(_urllib.RedirectHandler):  # type: ignore[misc]
    """Follows redirects to http(s) only; each hop is a request like any other."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Follow a redirect, or refuse it."""
        try:
            scheme = urlsplit(headers.get("Location") or "").scheme.lower()
            target = "" if scheme in ("", "http", "https") else f"a {scheme[:20]}: link"
        except ValueError:
            target = "what is no link"
        if target:
            fp.close()
            message = f"{mask_url(req.full_url)[:200]} redirects to {target}"
            raise _Stopped(PermanentError(message, ErrorClass.UNSUPPORTED))
        return super().http_error_302(req, fp, code, msg, headers)

    def redirect_request(self, req: Any, *answer: Any) -> Any:
        """Keep from another host the user and password of the link."""
        request = super().redirect_request(req, *answer)
        if urlsplit(request.full_url).hostname != urlsplit(req.full_url).hostname:
            request.headers.pop("Authorization", None)
        return request

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _Connections(_urllib.HTTPHandler):  # type: ignore[misc]
    """Opens a connection for each request on the wire."""

    def __init__(self, ydl: YoutubeDL, **options: Any) -> None:
        super().__init__(**options)
        self._ydl = ydl

    @staticmethod
    def _make_conn_class(base: Any, req: Any) -> Any:
        req.via_socks = "Ytdl-socks-proxy" in req.headers  # which the original takes away
        return _urllib.HTTPHandler._make_conn_class(base, req)

    def http_request(self, req: Any) -> Any:
        """Write its host as it is looked up, in the request and for all that is asked of it."""
        parts = urlsplit(req.full_url)
        authority = self._checked(plain_authority, parts.netloc)
        if authority != parts.netloc:
            req.full_url = parts._replace(netloc=authority).geturl()
        return super().http_request(req)

    https_request = http_request

    def http_response(self, req: Any, resp: Any) -> Any:
        """Unpack an answer, as the original does it: as a whole."""
        if resp.headers.get("Content-Encoding"):
            read = resp.read
            resp.read = lambda: _whole(read, MOST_PAGE)
        return super().http_response(req, resp)

    https_response = http_response

    @staticmethod
    def gz(data: bytes) -> bytes:
        """Unpack what gzip packed, up to the size of a page."""
        return _unpacked(data, zlib.MAX_WBITS | 16)

    @staticmethod
    def deflate(data: bytes) -> bytes:
        """Unpack what deflate packed, with a header or without, up to the size of a page."""
        try:
            return _unpacked(data, -zlib.MAX_WBITS)
        except zlib.error:
            return _unpacked(data, zlib.MAX_WBITS)

    @staticmethod
    def brotli(data: bytes) -> bytes:
        """Refuse what nobody asked for."""
        raise _Stopped(PermanentError("its answer is packed by brotli", ErrorClass.UNSUPPORTED))

    def do_open(self, http_class: Callable[..., Any], req: Any, **options: Any) -> Any:
        """Make one request, when the gate lets it through."""
        proxied = req.via_socks or req.has_proxy() or req._tunnel_host

        def make(*args: Any, **kwargs: Any) -> Any:
            connection = http_class(*args, **kwargs)
            self._guard(connection, req.full_url, proxied=bool(proxied))
            return connection

        return super().do_open(make, req, **options)

    def _guard(self, connection: Any, url: str, *, proxied: bool) -> None:
        """Let a connection be made to an open address only, and used when the gate says so."""
        errand = self._ydl.errand
        if not proxied:
            connection._create_connection = functools.partial(_connect, errand.reach)
        connect = connection.connect

        def connect_in_time() -> None:
            if proxied:
                self._checked(errand.reach.check_name, urlsplit(url).hostname or "")
            holds, connected = self._checked(errand.gate.request, url), None
            for _ in range(_TRIES):
                if connected is None:
                    connect()
                    connected = time.monotonic()
                    if errand.watch:
                        errand.watch.uses(connection.sock)
                if time.monotonic() <= holds:
                    return
                holds = self._checked(errand.gate.request, url)
                if time.monotonic() - connected > _STALE:
                    connection.sock.close()  # the connection's own close() would forget the request
                    connection.sock = connected = None
            message = f"{mask_url(url)}: no connection was ready in time to keep to the limits"
            raise _Stopped(TransientError(message, ErrorClass.TIMEOUT))

        connection.connect = connect_in_time

    @staticmethod
    def _checked(ask: Callable[[str], Any], text: str) -> Any:
        try:
            return ask(text)
        except DataminerError as error:
            raise _Stopped(error) from error


def bounded(response: Any, *, part: bool = False) -> Any:
    """Return an answer of which no more can be read than a page, or a part of a stream, has.

    Raises
    ------
    PermanentError
        UNSUPPORTED, once more comes, or a list names too many parts.
    """
    most = MOST_PART if part else MOST_PAGE
    read, left, start = response.read, most, b""

    def read_on(amount: int | None = None) -> bytes:
        nonlocal left, start
        whole = amount is None or amount < 0
        try:
            data = _whole(read, left) if whole else read(amount)
        except _Stopped:
            raise _too_large(most) from None
        left -= len(data)
        if left < 0:
            raise _too_large(most)
        if part:
            return data
        text = start + data
        start = text[:_BLOCK]  # yt-dlp looks at some hundred bytes before it reads on
        if _listed(text, response.url) > _MOST_LISTED * 1_000_000:
            raise _too_long()
        return data

    response.read = read_on
    return response


def _listed(data: bytes, url: str) -> int:
    """Return the most bytes that yt-dlp holds of the parts that a list names line by line (HLS)."""
    part, most = _LINE + len(url), _MOST_LISTED * 1_000_000
    parts = sum(1 for _ in itertools.islice(_PART_LINE.finditer(data), most // part + 1))
    return parts * part + sum(tag[0].count(b"=") for tag in _TAG.finditer(data)) * _ATTRIBUTE


def _held(found: dict[str, Any]) -> int:
    """Return about how many bytes yt-dlp holds of a format, with all of its parts."""
    parts = found.get("fragments") or ()
    texts = sum(len(text) for text in found.values() if isinstance(text, str))
    links = sum(len(part.get("url") or part.get("path") or "") for part in parts)
    return _FORMAT + texts + links + len(parts) * _PART


def _too_long() -> PermanentError:
    message = "it leads to a list that is too large: more than some 2,000 formats or 500,000 parts"
    return PermanentError(message, ErrorClass.UNSUPPORTED, _OTHER_LINK)


def _in_bounds(megabytes: float, parse: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Parse a list, and refuse one that takes too much memory.

    Some bytes of XML stand for any number of parts, and for links of any length, in more ways than
    can be counted beforehand.
    """
    try:
        return within_memory(megabytes, parse, *args, **options)
    except MemoryError as error:
        raise _too_long() from error.with_traceback(None)  # which holds all of it


def _parsed_in_bounds(parse: Callable[..., Any]) -> Callable[..., Any]:
    """Bound a method of yt-dlp's extractors that returns formats and subtitles of a list."""

    @functools.wraps(parse)
    def parse_in_bounds(extractor: Any, *args: Any, **options: Any) -> Any:
        formats, subtitles = _in_bounds(_MOST_LISTED, parse, extractor, *args, **options)
        extractor._downloader.hold([*formats, *itertools.chain(*subtitles.values())])
        return formats, subtitles

    return parse_in_bounds


def _xml(text: str | bytes, parser: Any) -> Any:
    """Parse XML as yt-dlp does it, but not all that may come of it."""
    try:
        return _in_bounds(_MOST_TREE, ElementTree.XML, text, parser)
    except ElementTree.ParseError as error:
        if errors.messages.get(error.code) != errors.XML_ERROR_NO_MEMORY:
            raise
        raise _too_long() from error


def _flash(extractor: Any, url: str, *_: Any, **__: Any) -> list[dict[str, Any]]:
    """Name a stream of Flash, which nothing here fetches, without a look at what it consists of."""
    return [{"format_id": "f4m", "url": url, "ext": "flv", "protocol": "f4m"}]


# each is taken by its name, so that a yt-dlp that has another ends at import
for _name in (
    "_merge_mpd_periods",
    "_parse_ism_formats_and_subtitles",
    "_parse_m3u8_formats_and_subtitles",
):
    setattr(InfoExtractor, _name, _parsed_in_bounds(getattr(InfoExtractor, _name)))
InfoExtractor._extract_f4m_formats = functools.wraps(InfoExtractor._extract_f4m_formats)(_flash)
yt_dlp.compat.etree = SimpleNamespace(**{**vars(yt_dlp.compat.etree), "XML": _xml})


def _whole(read: Callable[[int], bytes], most: int) -> bytes:
    """Read all of an answer, block by block: one call would make room for what it declares."""
    blocks, size = [], 0
    while block := read(_BLOCK):
        size += len(block)
        if size > most:
            raise _Stopped(_too_large(most))
        blocks.append(block)
    return b"".join(blocks)


def _unpacked(data: bytes, wbits: int) -> bytes:
    unpacker = zlib.decompressobj(wbits)
    found = unpacker.decompress(data, MOST_PAGE + 1)
    if len(found) > MOST_PAGE:
        raise _Stopped(_too_large(MOST_PAGE))
    if data and not unpacker.eof:
        raise zlib.error("incomplete")
    return found


def _too_large(most: int) -> PermanentError:
    message = f"it leads to a page, list or part of a stream of more than {most >> 20} MB"
    return PermanentError(message, ErrorClass.UNSUPPORTED, _OTHER_LINK)


def _connect(reach: AddressPolicy, address: tuple[str, int], *options: Any) -> Any:
    """Connect to a host's first open address that answers, the very one that was looked at."""
    refused: Exception | None = None
    failure = OSError(errno.EHOSTUNREACH, "the name stands for no address")
    for found in reach.look_up(*address):
        try:
            reach.check(address[0], found[4])
            return _helper._socket_connect(found, *options)
        except DataminerError as error:
            refused = refused or _Stopped(error)
        except OSError as error:
            failure = error
    # an open address that this machine has no way to, such as an IPv6 one, is as none
    raise refused if refused and failure.errno in _NO_WAY else failure


def _refusal(error: HTTPError) -> tuple[str, ErrorClass] | None:
    """Say why an answer means "not now" rather than "not this"; None where it does not."""
    if error.status == 429:
        return "HTTP 429 Too Many Requests", ErrorClass.RATE_LIMIT
    if error.status == 403 and _REFUSAL.search(_body(error)):
        return "HTTP 403, a check for robots", ErrorClass.BOT_CHECK
    if error.status in (403, 503) and error.response.headers.get("Retry-After"):
        return f"HTTP {error.status} with Retry-After", ErrorClass.RATE_LIMIT
    return None


def _body(error: HTTPError) -> bytes:
    """Read an answer's page, and leave it there for yt-dlp to read."""
    old = error.response
    body = bytes(old.read(_MAX_BODY))
    error.response = Response(io.BytesIO(body), old.url, old.headers, old.status, old.reason)
    old.close()
    return body


def _retry_after(headers: Any) -> float | None:
    """Return the seconds that a server asks to wait (RFC 9110, 10.2.3), a day at most."""
    text = (headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), _MAX_RETRY_AFTER)
    try:
        until = email.utils.parsedate_to_datetime(text)
        now = email.utils.parsedate_to_datetime(headers.get("Date") or email.utils.formatdate())
        return min(max((until - now).total_seconds(), 0.0), _MAX_RETRY_AFTER)
    except (TypeError, ValueError):
        return None
