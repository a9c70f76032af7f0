"""Which addresses a link from a stranger may lead to."""

from __future__ import annotations

import socket
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from dataminer.errors import ErrorClass, PermanentError


class Scope(IntEnum):
    """How far inside an address lies: from one, only the same and those further out are open."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    FORBIDDEN = 3
    """Link-local and metadata services of clouds, multicast, reserved: no video is ever there."""


# RFC 1918, RFC 6598 (carriers, and virtual private networks), RFC 4193
_PRIVATE = [
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]
# of Azure, Alibaba, Oracle and AWS over IPv6; 169.254.169.254 of the others is link-local
_METADATA = {
    ip_address(text)
    for text in ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")
}
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


def scope_of(place: tuple[Any, ...]) -> Scope:
    """Tell how far inside a socket's address lies.

    Parameters
    ----------
    place : tuple
        As :func:`socket.getaddrinfo` gives it: an address in digits, a port, and more.
    """
    address = _unwrapped(ip_address(str(place[0]).partition("%")[0]))
    if address in _METADATA:
        return Scope.FORBIDDEN
    if address.is_loopback:
        return Scope.LOOPBACK
    if any(address in network for network in _PRIVATE):
        return Scope.PRIVATE
    if address.is_global and not address.is_multicast:
        return Scope.PUBLIC
    return Scope.FORBIDDEN


class Reach:
    """What one download may connect to: as far inside as the link that the user gave, no further.

    A name is judged by the address that is connected to, not by one that was looked up before.

    Parameters
    ----------
    given : str
        What the user gave: a link, or something else, which leads to public places only.
    """

    def __init__(self, given: str) -> None:
        self._host = _host(given)
        self._trusted: Scope | None = None

    def check(self, host: str, place: tuple[Any, ...]) -> None:
        """Let an address pass that a host's name stands for.

        Raises
        ------
        PermanentError
            UNSUPPORTED, when it lies further inside than the link that the user gave.
        """
        scope = scope_of(place)
        if scope < Scope.FORBIDDEN and self._trusted is None and host.lower() == self._host:
            self._trusted = scope  # once: the name may stand for another address later
        if scope > (self._trusted or Scope.PUBLIC) or scope == Scope.FORBIDDEN:
            raise PermanentError(
                f"{host[:100]} leads to {place[0]}, a {scope.name.lower()} address",
                ErrorClass.UNSUPPORTED,
                "if that server is yours, give a link to it",
            )

    def check_name(self, host: str) -> None:
        """Check a host that a proxy will connect to, as far as its name is known here."""
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            return
        for *_, place in found:
            self.check(host, place)


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address leads to, where there is one."""
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
