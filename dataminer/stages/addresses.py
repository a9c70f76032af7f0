"""Which addresses a link from a stranger may lead to."""

from __future__ import annotations

import socket
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

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


def scope_of(place: tuple[Any, ...]) -> Scope:
    """Tell how far inside a socket's address lies.

    Parameters
    ----------
    place : tuple
        As :func:`socket.getaddrinfo` gives it: an address in digits, a port, and more.
    """
    address = _unwrapped(ip_address(str(place[0]).partition("%")[0]))
    return next(scope for network, scope in _NETWORKS if address in network)


class Reach:
    """What one download may connect to: public addresses, and the host that the user gave.

    A name is judged by the address that is connected to, not by one that was looked up before. The
    host that the user gave may lie inside; that opens the addresses that its name stood for at
    first, under this name, and nothing else. A name of public and inner addresses opens none.

    Parameters
    ----------
    given : str
        What the user gave: a link, or something else, which leads to public places only.
    """

    def __init__(self, given: str) -> None:
        self._host = _host(given)
        self._opened: frozenset[Any] | None = None

    def look_up(self, host: str, port: int | None = None) -> list[tuple[Any, ...]]:
        """Return what :func:`socket.getaddrinfo` finds for a host.

        Raises
        ------
        OSError
            It finds nothing.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if self._opened is None and host.lower() == self._host:
            inside = all(scope_of(place) > Scope.PUBLIC for *_, place in found)
            self._opened = frozenset(place[0] for *_, place in found if inside)
        return found

    def check(self, host: str, place: tuple[Any, ...]) -> None:
        """Let an address pass that a host's name stands for.

        Raises
        ------
        PermanentError
            UNSUPPORTED, if it lies inside and is not that of the host that the user gave, or if no
            video can ever be there.
        """
        scope = scope_of(place)
        given = host.lower() == self._host and place[0] in (self._opened or ())
        if scope > (Scope.LOOPBACK if given else Scope.PUBLIC):
            raise PermanentError(
                f"{host[:100]} leads to {place[0]}, a {scope.name.lower()} address",
                ErrorClass.UNSUPPORTED,
                "if that server is yours, give a link to it",
            )

    def check_name(self, host: str) -> None:
        """Check a host that a proxy will connect to, as far as its name is known here."""
        try:
            found = self.look_up(host)
        except OSError:
            return
        for *_, place in found:
            self.check(host, place)


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address leads to, if public ones may be written so."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
