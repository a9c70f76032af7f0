"""Which addresses are inside, and what a link from outside may lead to."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataminer.errors import ErrorClass, PermanentError
from dataminer.net.addresses import AddressPolicy, Scope, normalised_authority, scope_of
from tests.support.addresses import REGISTRY, addresses_in, is_public, spelled, spellings_of

SCOPES = {
    "93.184.215.14": Scope.PUBLIC,
    "2606:2800:21f:cb07:6820:80da:af6b:8b2c": Scope.PUBLIC,
    "64:ff9b::5db8:d70e": Scope.PUBLIC,
    # the last address before each inner network, and the first behind it
    "9.255.255.255": Scope.PUBLIC,
    "10.0.0.0": Scope.PRIVATE,
    "10.255.255.255": Scope.PRIVATE,
    "11.0.0.0": Scope.PUBLIC,
    "100.63.255.255": Scope.PUBLIC,
    "100.127.255.255": Scope.PRIVATE,
    "100.128.0.0": Scope.PUBLIC,
    "126.255.255.255": Scope.PUBLIC,
    "128.0.0.1": Scope.PUBLIC,
    "169.253.255.255": Scope.PUBLIC,
    "169.255.0.0": Scope.PUBLIC,
    "172.15.255.255": Scope.PUBLIC,
    "172.16.0.0": Scope.PRIVATE,
    "192.167.255.255": Scope.PUBLIC,
    "192.169.0.0": Scope.PUBLIC,
    "223.255.255.255": Scope.PUBLIC,
    "2002:5db8:d70e::1": Scope.PUBLIC,
    "::ffff:93.184.215.14": Scope.PUBLIC,
    "10.1.2.3": Scope.PRIVATE,
    "172.31.255.255": Scope.PRIVATE,
    "172.32.0.1": Scope.PUBLIC,
    "192.168.0.1": Scope.PRIVATE,
    "100.64.0.1": Scope.PRIVATE,
    "fd12:3456::1": Scope.PRIVATE,
    "::ffff:10.0.0.1": Scope.PRIVATE,
    "64:ff9b::a00:1": Scope.PRIVATE,
    "2002:a00:1::1": Scope.PRIVATE,
    "127.0.0.1": Scope.LOOPBACK,
    "127.9.9.9": Scope.LOOPBACK,
    "::1": Scope.LOOPBACK,
    "::ffff:127.0.0.1": Scope.LOOPBACK,
    "169.254.169.254": Scope.FORBIDDEN,
    "::ffff:169.254.169.254": Scope.FORBIDDEN,
    "fe80::1%eth0": Scope.FORBIDDEN,
    "fd00:ec2::254": Scope.FORBIDDEN,
    "100.100.100.200": Scope.FORBIDDEN,
    "168.63.129.16": Scope.FORBIDDEN,
    "0.0.0.0": Scope.FORBIDDEN,
    "::": Scope.FORBIDDEN,
    "224.0.0.1": Scope.FORBIDDEN,
    "ff02::1": Scope.FORBIDDEN,
    "240.0.0.1": Scope.FORBIDDEN,
    "255.255.255.255": Scope.FORBIDDEN,
    "192.0.0.8": Scope.FORBIDDEN,
    "192.0.0.9": Scope.PUBLIC,
    "::127.0.0.1": Scope.FORBIDDEN,
    "::93.184.215.14": Scope.FORBIDDEN,
    "::ffff:0:127.0.0.1": Scope.FORBIDDEN,
    "64:ff9b:1::7f00:1": Scope.PRIVATE,
    "fec0::1": Scope.PRIVATE,
    "100::1": Scope.FORBIDDEN,
    "2001:0:5db8:d70e::1": Scope.FORBIDDEN,
    "2001:db8::1": Scope.FORBIDDEN,
    "2002:7f00:1::1": Scope.LOOPBACK,
    "3fff::1": Scope.FORBIDDEN,
    "4000::1": Scope.FORBIDDEN,
    "5f00::1": Scope.FORBIDDEN,
    "fd20:ce::254": Scope.FORBIDDEN,
}
OUTSIDE, HERE, CLOUD = "93.184.215.14", "127.0.0.1", "169.254.169.254"
LAB, LAB_TOO = "10.0.0.7", "10.0.0.8"


@pytest.mark.parametrize("address", SCOPES)
def test_scopes(address: str) -> None:
    assert scope_of((address, 80)) is SCOPES[address]


@pytest.mark.parametrize("network", REGISTRY)
def test_the_ends_of_each_network_in_all_spellings(network: str) -> None:
    found = ip_network(network)
    for end in {found[0], found[found.num_addresses // 2], found[-1]}:
        for host in spelled(str(end)):
            addresses = [
                address_info
                for *_, address_info in socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)
            ]
            for address_info in addresses:
                assert (scope_of(address_info) is Scope.PUBLIC) == is_public(
                    str(address_info[0])
                ), (
                    host,
                    address_info,
                )
                if not is_public(str(address_info[0])):
                    with pytest.raises(PermanentError):
                        AddressPolicy("https://tube.example/x").check(host, address_info)


@settings(deadline=None)
@given(st.sampled_from(sorted(REGISTRY)).flatmap(addresses_in).flatmap(spellings_of))
def test_what_the_registries_call_special_is_not_public_however_it_is_spelled(host: str) -> None:
    for *_, position in socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM):
        assert (scope_of(position) is Scope.PUBLIC) == is_public(str(position[0]))


@settings(deadline=None)
@given(st.ip_addresses())
def test_an_address_is_public_as_the_registries_have_it(address: Any) -> None:
    assert (scope_of((str(address), 80)) is Scope.PUBLIC) == is_public(str(address))


def found(*addresses: str) -> Any:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]


def looked_up(monkeypatch: pytest.MonkeyPatch, given: str, *addresses: str) -> AddressPolicy:
    """Return what a link opens whose host resolves to some addresses."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found(*addresses))
    policy = AddressPolicy(given)
    policy.resolve("lab.example", 80)
    return policy


@pytest.mark.parametrize(
    ("given", "addresses", "open_"),
    [
        ("http://lab.example/x", [OUTSIDE], []),
        ("http://LAB.example:8000/x", [LAB], [LAB, LAB_TOO]),
        ("http://u:p@lab.example./x", [LAB], [LAB, LAB_TOO]),
        ("http://l%61b.ex\uff41mple/x", [LAB], [LAB, LAB_TOO]),
        ("http://lab.example/x", ["::1", HERE], ["::1", HERE]),  # as localhost does
        ("http://lab.example/x", [OUTSIDE, LAB], []),
        ("http://lab.example/x", [LAB, CLOUD], [LAB, LAB_TOO]),
        ("http://lab.example/x", [CLOUD], []),
        ("http://other.example/x", [LAB], []),
        ("ytsearch5:cats", [LAB], []),
        ("http://[", [LAB], []),
    ],
)
def test_a_link_to_an_inner_host_opens_this_host_alone(
    monkeypatch: pytest.MonkeyPatch, given: str, addresses: list[str], open_: list[str]
) -> None:
    policy = looked_up(monkeypatch, given, *addresses)
    policy.check("lab.example", (OUTSIDE, 80))
    policy.check("other.example", (OUTSIDE, 80))
    for address in {*addresses, LAB, HERE, CLOUD, LAB_TOO} - {OUTSIDE}:
        hosts = [("lab.example", address)] * (address not in open_) + [("other.example", address)]
        for host, refused in hosts:
            with pytest.raises(PermanentError, match=f"{host} leads to {address}") as caught:
                policy.check(host, (refused, 80))
            assert caught.value.error_class is ErrorClass.UNSUPPORTED
    for address in open_:
        policy.check("lab.example", (address, 80))


@pytest.mark.parametrize("first", [OUTSIDE, LAB])
def test_a_name_that_stands_for_another_address_the_second_time(
    monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    policy = looked_up(monkeypatch, "http://lab.example/x", first)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found(HERE))
    policy.resolve("lab.example", 80)
    with pytest.raises(PermanentError, match=r"127\.0\.0\.1 itself"):
        policy.check("lab.example", (HERE, 80))


def test_the_next_step_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = looked_up(monkeypatch, "http://lab.example/x", OUTSIDE, LAB)
    for host, address, hint in [
        ("lab.example", LAB, f"give a link to {LAB} itself"),
        ("other.example", LAB, "give a link to it"),
        ("lab.example", CLOUD, ""),
    ]:
        with pytest.raises(PermanentError) as caught:
            policy.check(host, (address, 80))
        assert ("if that server is yours" in caught.value.hint) is bool(hint)
        assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Tube.example:8080", "tube.example:8080"),
        ("tube.example.", "tube.example."),
        ("[::1]:80", "[::1]:80"),
        ("%31%36%39.254.169.254", "169.254.169.254"),
        ("%6cocalhost", "localhost"),
        ("%5b::1%5d", "[::1]"),
        ("127\u30020\uff0e0\uff611", "127.0.0.1"),
        ("\uff11\uff12\uff17.1", "127.1"),
        ("%E2%91%A0%E3%80%821", "1.1"),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
        ("a_b.example", "a_b.example"),
    ],
)
def test_one_way_to_write_a_host(text: str, plain: str) -> None:
    assert normalised_authority(text) == plain


@pytest.mark.parametrize(
    "text",
    [
        "",
        "%2531.0.0.1",
        "a\\b",
        "u@a",
        "a%40b",
        "a%2fb",
        "a b",
        "a%00b",
        "a:b",
        "a..b",
        "[::1",
        "[fe80::1%25lo]",
    ],
)
def test_what_may_be_read_in_two_ways_is_no_host(text: str) -> None:
    with pytest.raises(PermanentError, match="names no host") as caught:
        normalised_authority(text)
    assert caught.value.error_class is ErrorClass.UNSUPPORTED


@settings(deadline=None)
@given(st.sampled_from(sorted(REGISTRY)).flatmap(addresses_in))
def test_a_link_to_an_address_opens_it_if_a_video_can_be_there(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    policy = AddressPolicy(f"http://{host}/x")
    policy.resolve(address)
    if scope_of((address, 80)) is Scope.FORBIDDEN:
        with pytest.raises(PermanentError):
            policy.check(address, (address, 80))
    else:
        policy.check(address, (address, 80))


def test_names_that_a_proxy_will_look_up() -> None:
    policy = AddressPolicy("https://tube.example/x")
    policy.check_name("no-such-name.invalid")  # known to the proxy only
    policy.check_name(OUTSIDE)
    for name in ("localhost", "127.1", "2130706433", "10.0.0.1", "127.0.0.1."):
        with pytest.raises(PermanentError):
            policy.check_name(name)
    inside = AddressPolicy("http://localhost:8000/x")
    for name in ("localhost", OUTSIDE):
        inside.check_name(name)
    for name in ("127.1", LAB):
        with pytest.raises(PermanentError):
            inside.check_name(name)
