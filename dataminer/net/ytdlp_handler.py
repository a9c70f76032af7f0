"""yt-dlp's request handler with a rate limiter and an address policy.

Import it only if needed: it loads yt-dlp.
"""

from __future__ import annotations

import email.utils
import errno
import functools
import io
import re
import time
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from yt_dlp.networking import _helper, _urllib
from yt_dlp.networking.common import Response
from yt_dlp.networking.exceptions import HTTPError

from dataminer.errors import DataminerError, ErrorClass, PermanentError, TransientError
from dataminer.net.addresses import AddressPolicy, normalised_authority
from dataminer.net.deadline import TransferDeadline
from dataminer.net.rate_limit import RateLimiter
from dataminer.net.ytdlp_limits import MOST_PAGE, WrappedError, decompressed, read_whole
from dataminer.urls import mask_url

_REFUSAL = re.compile(
    rb"not a (ro)?bot|unusual traffic|rate.?limit|too many requests", re.IGNORECASE
)
_MAX_BODY = 1 << 20  # of the page of a refusal
_MAX_RETRY_AFTER = 86_400.0
_STALE = 5.0  # seconds after which a server may have closed an idle connection
_TRIES = 5  # permits that may expire before a connection is ready
_NO_ROUTE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
_ENCODINGS = "gzip, deflate"


@dataclass(frozen=True)
class RequestContext:
    """What the requests for one link are subject to.

    Parameters
    ----------
    limiter : RateLimiter
        Asked before each request.
    addresses : AddressPolicy
        Which addresses may be connected to.
    deadline : TransferDeadline, optional
        Gets each connection.
    """

    limiter: RateLimiter
    addresses: AddressPolicy
    deadline: TransferDeadline | None = None


class HasContext(Protocol):
    """The owner of a handler, whose context changes from link to link."""

    request_context: RequestContext


class LimitedRH(_urllib.UrllibRH):  # type: ignore[misc]
    """The request handler that needs only the standard library, with limits.

    Parameters
    ----------
    owner : HasContext
        Has the context of the present link.
    """

    _SUPPORTED_URL_SCHEMES = ("http", "https", "data")

    def __init__(self, *, owner: HasContext, **options: Any) -> None:
        super().__init__(**options)
        self._owner = owner

    def _create_instance(
        self, proxies: Any, cookiejar: Any, legacy_ssl_support: Any = None
    ) -> urllib.request.OpenerDirector:
        """Do as the original, without ``ftp://`` and ``file://``, and with our connections."""
        opener = urllib.request.OpenerDirector()
        for handler in (
            _urllib.ProxyHandler(proxies),
            _Connections(
                self._owner,
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
        # no other encoding, even if a library for it is installed
        request.headers.setdefault("Accept-Encoding", _ENCODINGS)
        while True:
            try:
                return super()._send(request)
            except HTTPError as error:
                refusal = _refusal(error)
                if refusal is None or not isinstance(request.data, bytes | None):
                    raise
                if not self._may_retry(error, *refusal):
                    raise
                error.close()

    def _may_retry(self, error: HTTPError, reason: str, error_class: ErrorClass) -> bool:
        wait = _retry_after(error.response.headers)
        try:
            limiter = self._owner.request_context.limiter
            return limiter.refused(error.response.url, reason, wait, error_class)
        except DataminerError as stopped:
            raise WrappedError(stopped) from stopped


class _Redirects(_urllib.RedirectHandler):  # type: ignore[misc]
    """Follows redirects to http(s) only; each hop is a request like any other."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Follow a redirect, or refuse it."""
        try:
            scheme = urlsplit(headers.get("Location") or "").scheme.lower()
            target = "" if scheme in ("", "http", "https") else f"a {scheme[:20]}: link"
        except ValueError:
            target = "something that is not a link"
        if target:
            fp.close()
            message = f"{mask_url(req.full_url)[:200]} redirects to {target}"
            raise WrappedError(PermanentError(message, ErrorClass.UNSUPPORTED))
        return super().http_error_302(req, fp, code, msg, headers)

    def redirect_request(self, req: Any, *answer: Any) -> Any:
        """Send the user and password of the link to no other host."""
        request = super().redirect_request(req, *answer)
        if urlsplit(request.full_url).hostname != urlsplit(req.full_url).hostname:
            request.headers.pop("Authorization", None)
        return request

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _Connections(_urllib.HTTPHandler):  # type: ignore[misc]
    """Opens a connection per request."""

    def __init__(self, owner: HasContext, **options: Any) -> None:
        super().__init__(**options)
        self._owner = owner

    @staticmethod
    def _make_conn_class(base: Any, req: Any) -> Any:
        req.via_socks = "Ytdl-socks-proxy" in req.headers  # the original removes this header
        return _urllib.HTTPHandler._make_conn_class(base, req)

    def http_request(self, req: Any) -> Any:
        """Normalise the host, so that the request and every check use the same spelling."""
        parts = urlsplit(req.full_url)
        authority = _wrapping_errors(normalised_authority, parts.netloc)
        if authority != parts.netloc:
            req.full_url = parts._replace(netloc=authority).geturl()
        return super().http_request(req)

    https_request = http_request

    def http_response(self, req: Any, resp: Any) -> Any:
        """Decompress an answer as the original does: all of it at once."""
        if resp.headers.get("Content-Encoding"):
            read = resp.read
            resp.read = lambda: read_whole(read, MOST_PAGE)
        return super().http_response(req, resp)

    https_response = http_response

    @staticmethod
    def gz(data: bytes) -> bytes:
        """Decompress gzip, up to the size of a page."""
        return decompressed(data, zlib.MAX_WBITS | 16)

    @staticmethod
    def deflate(data: bytes) -> bytes:
        """Decompress deflate, with a header or without, up to the size of a page."""
        try:
            return decompressed(data, -zlib.MAX_WBITS)
        except zlib.error:
            return decompressed(data, zlib.MAX_WBITS)

    @staticmethod
    def brotli(data: bytes) -> bytes:
        """Refuse an encoding that was not requested."""
        message = "its answer is compressed with brotli"
        raise WrappedError(PermanentError(message, ErrorClass.UNSUPPORTED))

    def do_open(self, http_class: Callable[..., Any], req: Any, **options: Any) -> Any:
        """Make one request once the rate limiter permits it."""
        proxied = req.via_socks or req.has_proxy() or req._tunnel_host

        def make(*args: Any, **kwargs: Any) -> Any:
            connection = http_class(*args, **kwargs)
            self._restrict(connection, req.full_url, proxied=bool(proxied))
            return connection

        return super().do_open(make, req, **options)

    def _restrict(self, connection: Any, url: str, *, proxied: bool) -> None:
        """Connect to allowed addresses only, and only when the rate limiter permits it."""
        context = self._owner.request_context
        if not proxied:
            connection._create_connection = functools.partial(_connect, context.addresses)
        connect = connection.connect

        def connect_in_time() -> None:
            if proxied:
                _wrapping_errors(context.addresses.check_name, urlsplit(url).hostname or "")
            expires, connected = _wrapping_errors(context.limiter.request, url), None
            for _ in range(_TRIES):
                if connected is None:
                    connect()
                    connected = time.monotonic()
                    if context.deadline:
                        context.deadline.add_connection(connection.sock)
                if time.monotonic() <= expires:
                    return
                expires = _wrapping_errors(context.limiter.request, url)
                if time.monotonic() - connected > _STALE:
                    connection.sock.close()  # the connection's own close() would drop the request
                    connection.sock = connected = None
            message = f"{mask_url(url)}: no connection was ready in time to keep to the limits"
            raise WrappedError(TransientError(message, ErrorClass.TIMEOUT))

        connection.connect = connect_in_time


def _wrapping_errors(function: Callable[[str], Any], text: str) -> Any:
    try:
        return function(text)
    except DataminerError as error:
        raise WrappedError(error) from error


def _connect(policy: AddressPolicy, address: tuple[str, int], *options: Any) -> Any:
    """Connect to a host's first allowed address that answers, without resolving it again."""
    refused: Exception | None = None
    failure = OSError(errno.EHOSTUNREACH, "the name has no address")
    for found in policy.resolve(*address):
        try:
            policy.check(address[0], found[4])
            return _helper._socket_connect(found, *options)
        except DataminerError as error:
            refused = refused or WrappedError(error)
        except OSError as error:
            failure = error
    # an allowed address without a route from this machine, such as an IPv6 one, does not count
    raise refused if refused and failure.errno in _NO_ROUTE else failure


def _refusal(error: HTTPError) -> tuple[str, ErrorClass] | None:
    """Return why an answer means "not now" rather than "never"; None if it does not."""
    if error.status == 429:
        return "HTTP 429 Too Many Requests", ErrorClass.RATE_LIMIT
    if error.status == 403 and _REFUSAL.search(_body(error)):
        return "HTTP 403, a check for robots", ErrorClass.BOT_CHECK
    if error.status in (403, 503) and error.response.headers.get("Retry-After"):
        return f"HTTP {error.status} with Retry-After", ErrorClass.RATE_LIMIT
    return None


def _body(error: HTTPError) -> bytes:
    """Read the page of an answer, and let yt-dlp read it again."""
    old = error.response
    body = bytes(old.read(_MAX_BODY))
    error.response = Response(io.BytesIO(body), old.url, old.headers, old.status, old.reason)
    old.close()
    return body


def _retry_after(headers: Any) -> float | None:
    """Return the seconds that a server asks to wait (RFC 9110, 10.2.3), at most a day."""
    text = (headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), _MAX_RETRY_AFTER)
    try:
        until = email.utils.parsedate_to_datetime(text)
        now = email.utils.parsedate_to_datetime(headers.get("Date") or email.utils.formatdate())
        return min(max((until - now).total_seconds(), 0.0), _MAX_RETRY_AFTER)
    except (TypeError, ValueError):
        return None
