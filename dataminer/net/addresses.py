"""Which addresses a link from an untrusted source may lead to."""

from __future__ import annotations

import re
import socket
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import unquote, urlsplit

from dataminer.errors import ErrorClass, PermanentError


class Scope(IntEnum):
    """How far inside the local network an address lies."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    FORBIDDEN = 3
    """Link-local, cloud metadata services, multicast, reserved: no video is ever served there."""


# IANA's registries of special-purpose addresses, and other addresses that are not on the internet
# (multicast, RFC 3879, RFC 4291, RFC 2765). The narrowest network decides. Python's own table
# depends on its version: 3.11 treats many of these as public.
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
# Azure, Alibaba, Oracle, and AWS and Google over IPv6; the others use the link-local
# 169.254.169.254
_METADATA = "168.63.129.16 100.100.100.200 192.0.0.192 fd00:ec2::254 fd20:ce::254"
_NETWORKS = sorted(
    (
        (ip_network(text), scope)
        for scope, texts in [*_SCOPES.items(), (Scope.FORBIDDEN, _METADATA)]
        for text in texts.split()
    ),
    key=lambda entry: -entry[0].prefixlen,
)
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d*)?")


def scope_of(socket_address: tuple[Any, ...]) -> Scope:
    """Return how far inside the local network a socket address lies.

    Parameters
    ----------
    socket_address : tuple
        As returned by :func:`socket.getaddrinfo`: a numeric address, a port, and more.
    """
    address = _embedded_ipv4(ip_address(str(socket_address[0]).partition("%")[0]))
    return next(scope for network, scope in _NETWORKS if address in network)


def normalised_authority(text: str) -> str:
    """Return a URL's host and port in the one spelling that every program reads alike.

    urllib decodes ``%31`` before it connects; proxies and browsers map dots, digits and letters of
    other scripts to ASCII. The host that they arrive at is the one to check.

    Parameters
    ----------
    text : str
        Host and port as written in the URL.

    Raises
    ------
    PermanentError
        UNSUPPORTED if it is not a host, or also names a user.
    """
    try:
        authority = unquote(text).encode("idna").decode().lower()
    except UnicodeError:
        authority = ""
    if not _AUTHORITY.fullmatch(authority):
        raise PermanentError(f"{text[:100]!r} names no host", ErrorClass.UNSUPPORTED)
    return authority


class AddressPolicy:
    """Which addresses one download may connect to: public ones, and those of the user's own host.

    The address that is connected to is checked, not one that was resolved before. The trusted host
    may be private: then its name may lead to every address of the scopes that it resolved to first.
    Other names gain nothing. If the trusted host first resolves to a public address, it gains
    nothing either.

    Parameters
    ----------
    trusted : str
        The link that the user named. Anything else leads to public addresses only.
    """

    def __init__(self, trusted: str) -> None:
        self._trusted_host = _host(trusted)
        self._trusted_scopes: frozenset[Scope] | None = None

    def resolve(self, host: str, port: int | None = None) -> list[tuple[Any, ...]]:
        """Return the results of :func:`socket.getaddrinfo` for a host.

        Raises
        ------
        OSError
            If there are none.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if self._trusted_scopes is None and self._is_trusted(host):
            scopes = frozenset(scope_of(address) for *_, address in found)
            is_public = Scope.PUBLIC in scopes
            self._trusted_scopes = frozenset() if is_public else scopes - {Scope.FORBIDDEN}
        return found

    def check(self, host: str, socket_address: tuple[Any, ...]) -> None:
        """Check one address that a host name resolved to.

        Raises
        ------
        PermanentError
            UNSUPPORTED, if the address is not public and not one of the trusted host's, or if no
            video can ever be served there.
        """
        scope, trusted = scope_of(socket_address), self._is_trusted(host)
        if scope is Scope.PUBLIC or (trusted and scope in (self._trusted_scopes or ())):
            return
        address = socket_address[0]
        message = f"{host[:100]} leads to {address}, a {scope.name.lower()} address"
        # a trusted name that is refused resolved to something else first, or to both
        hint = f"give a link to {address} itself" if trusted else "give a link to it"
        if scope is Scope.FORBIDDEN:
            raise PermanentError(message, ErrorClass.UNSUPPORTED)
        raise PermanentError(message, ErrorClass.UNSUPPORTED, f"if that server is yours, {hint}")

    def check_name(self, host: str) -> None:
        """Check a host that a proxy will connect to, if its name can be resolved here.

        All its addresses are checked, because the proxy may use any of them.
        """
        try:
            found = self.resolve(host.rstrip("."))  # some proxies read 127.0.0.1. as an address
        except OSError:
            return
        for *_, address in found:
            self.check(host, address)

    def _is_trusted(self, host: str) -> bool:
        return host.lower().rstrip(".") == self._trusted_host


def _embedded_ipv4(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address embedded in an IPv6 address; any other address unchanged."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _host(url: str) -> str | None:
    try:
        authority = urlsplit(url).netloc.rpartition("@")[2]
        return (urlsplit(f"//{normalised_authority(authority)}").hostname or "").rstrip(".")
    except (ValueError, PermanentError):
        return None
