"""Which addresses a link from a stranger may lead to."""

from __future__ import annotations

import re
import socket
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import unquote, urlsplit

from dataminer.errors import ErrorClass, PermanentError


class Scope(IntEnum):
    """How far inside an address lies."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    FORBIDDEN = 3
    """Link-local and metadata services of clouds, multicast, reserved: no video is ever there."""


# What IANA's registries of special-purpose addresses name, and what else is no place on the
# internet (multicast, RFC 3879, RFC 4291, RFC 2765); the narrowest network decides. Python's own
# table follows its version: 3.11 counts many of these as public.
_SCOPES = {
    Scope.PUBLIC: """
        0.0.0.0/0 192.0.0.9/32 192.0.0.10/32
        2000::/3 2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:3::/32 2001:4:112::/48 2001:20::/28
        2001:30::/28
    """,
    Scope.PRIVATE: """
        10.0.0.0/8 100.64.0.0/10 172.16.0.0/12 192.168.0.0/16
        64:ff9b:1::/48 fc00::/7 fec0::/10
    """,
    Scope.LOOPBACK: "127.0.0.0/8 ::1/128",
    Scope.FORBIDDEN: """
        0.0.0.0/8 169.254.0.0/16 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15
        198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
        ::/0 2001::/23 2001:db8::/32 3fff::/20
    """,
}
# of Azure, Alibaba, Oracle, and AWS and Google over IPv6; 169.254.169.254 of the others is
# link-local
_METADATA = "168.63.129.16 100.100.100.200 192.0.0.192 fd00:ec2::254 fd20:ce::254"
_NETWORKS = sorted(
    (
        (ip_network(text), scope)
        for scope, texts in [*_SCOPES.items(), (Scope.FORBIDDEN, _METADATA)]
        for text in texts.split()
    ),
    key=lambda known: -known[0].prefixlen,
)
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d*)?")


def scope_of(place: tuple[Any, ...]) -> Scope:
    """Tell how far inside a socket's address lies.

    Parameters
    ----------
    place : tuple
        As :func:`socket.getaddrinfo` gives it: an address in digits, a port, and more.
    """
    address = _unwrapped(ip_address(str(place[0]).partition("%")[0]))
    return next(scope for network, scope in _NETWORKS if address in network)


def plain_authority(text: str) -> str:
    """Return a URL's host and port, written in the one way that everybody reads alike.

    urllib decodes ``%31`` before it connects, proxies and browsers read dots, digits and letters of
    other scripts as their own: a host is judged by what they make of it.

    Parameters
    ----------
    text : str
        Host and port as they stand in the URL.

    Raises
    ------
    PermanentError
        UNSUPPORTED if it is no host, or names a user too.
    """
    try:
        plain = unquote(text).encode("idna").decode().lower()
    except UnicodeError:
        plain = ""
    if not _AUTHORITY.fullmatch(plain):
        raise PermanentError(f"{text[:100]!r} names no host", ErrorClass.UNSUPPORTED)
    return plain


class AddressPolicy:
    """What one download may connect to: public addresses, and the host that the user gave.

    A name is judged by the address that is connected to, not by one that was looked up before. The
    host that the user gave may lie inside; that opens for its name what lies as far inside as the
    addresses that it stood for at first, and nothing for other names. A name that stood for a
    public address at first opens none.

    Parameters
    ----------
    given : str
        What the user gave: a link, or something else, which leads to public places only.
    """

    def __init__(self, given: str) -> None:
        self._host = _host(given)
        self._opened: frozenset[Scope] | None = None

    def look_up(self, host: str, port: int | None = None) -> list[tuple[Any, ...]]:
        """Return what :func:`socket.getaddrinfo` finds for a host.

        Raises
        ------
        OSError
            It finds nothing.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if self._opened is None and self._is_given(host):
            scopes = frozenset(scope_of(place) for *_, place in found)
            self._opened = frozenset() if Scope.PUBLIC in scopes else scopes - {Scope.FORBIDDEN}
        return found

    def check(self, host: str, place: tuple[Any, ...]) -> None:
        """Let an address pass that a host's name stands for.

        Raises
        ------
        PermanentError
            UNSUPPORTED, if it lies inside and is not that of the host that the user gave, or if no
            video can ever be there.
        """
        scope, given = scope_of(place), self._is_given(host)
        if scope is Scope.PUBLIC or (given and scope in (self._opened or ())):
            return
        message = f"{host[:100]} leads to {place[0]}, a {scope.name.lower()} address"
        # its name led elsewhere, at first or too
        hint = f"give a link to {place[0]} itself" if given else "give a link to it"
        if scope is Scope.FORBIDDEN:
            raise PermanentError(message, ErrorClass.UNSUPPORTED)
        raise PermanentError(message, ErrorClass.UNSUPPORTED, f"if that server is yours, {hint}")

    def check_name(self, host: str) -> None:
        """Check a host that a proxy will connect to, as far as its name is known here.

        All its addresses are: the proxy may take any.
        """
        try:
            found = self.look_up(host.rstrip("."))  # some proxies read 127.0.0.1. as an address
        except OSError:
            return
        for *_, place in found:
            self.check(host, place)

    def _is_given(self, host: str) -> bool:
        return host.lower().rstrip(".") == self._host


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address leads to, if public ones may be written so."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _host(url: str) -> str | None:
    try:
        authority = urlsplit(url).netloc.rpartition("@")[2]
        return (urlsplit(f"//{plain_authority(authority)}").hostname or "").rstrip(".")
    except (ValueError, PermanentError):
        return None
