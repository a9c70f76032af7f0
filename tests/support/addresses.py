"""IANA's registries of special-purpose addresses, and the ways to spell an address.

https://www.iana.org/assignments/iana-ipv4-special-registry and
https://www.iana.org/assignments/iana-ipv6-special-registry, as of 2025; with each whether it is
"globally reachable" there. Below them, what other documents say.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import strategies as st

REGISTRY = {
    "0.0.0.0/8": False,
    "0.0.0.0/32": False,
    "10.0.0.0/8": False,
    "100.64.0.0/10": False,
    "127.0.0.0/8": False,
    "169.254.0.0/16": False,
    "172.16.0.0/12": False,
    "192.0.0.0/24": False,
    "192.0.0.0/29": False,
    "192.0.0.8/32": False,
    "192.0.0.9/32": True,
    "192.0.0.10/32": True,
    "192.0.0.170/32": False,
    "192.0.0.171/32": False,
    "192.0.2.0/24": False,
    "192.31.196.0/24": True,
    "192.52.193.0/24": True,
    "192.88.99.0/24": False,
    "192.88.99.2/32": False,
    "192.168.0.0/16": False,
    "192.175.48.0/24": True,
    "198.18.0.0/15": False,
    "198.51.100.0/24": False,
    "203.0.113.0/24": False,
    "240.0.0.0/4": False,
    "255.255.255.255/32": False,
    "::1/128": False,
    "::/128": False,
    "::ffff:0:0/96": False,
    "64:ff9b::/96": True,
    "64:ff9b:1::/48": False,
    "100::/64": False,
    "100:0:0:1::/64": False,
    "2001::/23": False,
    "2001::/32": False,
    "2001:1::1/128": True,
    "2001:1::2/128": True,
    "2001:1::3/128": True,
    "2001:2::/48": False,
    "2001:3::/32": True,
    "2001:4:112::/48": True,
    "2001:10::/28": False,
    "2001:20::/28": True,
    "2001:30::/28": True,
    "2001:db8::/32": False,
    "2002::/16": True,
    "2620:4f:8000::/48": True,
    "3fff::/20": False,
    "5f00::/16": False,
    "fc00::/7": False,
    "fe80::/10": False,
    # multicast (RFC 1112, RFC 4291), site-local (RFC 3879), IPv4 in IPv6 (RFC 4291, RFC 2765)
    "224.0.0.0/4": False,
    "ff00::/8": False,
    "fec0::/10": False,
    "::/96": False,
    "::ffff:0:0:0/96": False,
    # metadata services of clouds
    "168.63.129.16/32": False,
    "fd00:ec2::254/128": False,
    # the rest of the internet: RFC 4291 gives out one eighth of IPv6
    "0.0.0.0/0": True,
    "2000::/3": True,
    "::/0": False,
}
_NETWORKS = {ip_network(text): public for text, public in REGISTRY.items()}
_NARROWEST_FIRST = sorted(_NETWORKS, key=lambda network: -network.prefixlen)
# an IPv4 address at their end, or in their second and third group, is where they lead to
_LEADS = {
    ip_network(text): shift
    for text, shift in {"::ffff:0:0/96": 0, "64:ff9b::/96": 0, "2002::/16": 80}.items()
}


def is_public(text: str) -> bool:
    """Say what the registries say of an address, and of the IPv4 address that is in it."""
    address = ip_address(text.partition("%")[0])
    network = next(n for n in _NARROWEST_FIRST if n.version == address.version and address in n)
    shift = _LEADS.get(network)
    if shift is not None:
        return is_public(str(IPv4Address(int(address) >> shift & 0xFFFFFFFF)))
    return _NETWORKS[network]


def addresses_in(network: str) -> st.SearchStrategy[str]:
    """Draw an address of a network, its first and its last more often."""
    found = ip_network(network)
    return st.integers(0, found.num_addresses - 1).map(lambda n: str(found[n]))


def spelled(address: str) -> list[str]:
    """Spell an address, and those that lead to it, in all ways that resolvers understand."""
    found = ip_address(address)
    return _of_v6(found) if isinstance(found, IPv6Address) else _of_v4(found)


def spellings_of(address: str) -> st.SearchStrategy[str]:
    """Draw one of these spellings."""
    return st.sampled_from(spelled(address))


def _of_v6(address: IPv6Address) -> list[str]:
    zone = "%lo" if address.is_link_local else ""
    return [str(address), address.exploded, str(address).upper(), f"{address}{zone}"]


def _of_v4(address: IPv4Address) -> list[str]:
    number, (a, b, c, d) = int(address), address.packed
    whole = [str(address), f"{number}", f"{number:#x}", f"0{number:o}", f"{number:#X}"]
    parts = [
        f"{a}.{number & 0xFFFFFF}",
        f"{a:#x}.{b}.{c << 8 | d:#x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"0x{a:02x}.0x{b:02x}.0x{c:02x}.0x{d:02x}",
        f"000{a:o}.{b}.0x{c:x}.{d}",
    ]
    inside_v6 = [
        f"::ffff:{address}",
        f"::ffff:0:{address}",
        f"::{address}",
        f"64:ff9b::{address}",
        f"64:ff9b:1::{address}",
        str(IPv6Address((0x2002 << 112) | (number << 80) | 1)),
        str(IPv6Address((0x20010000 << 96) | (number << 64) | (number ^ 0xFFFFFFFF))),
    ]
    return [*whole, *parts, *inside_v6]
