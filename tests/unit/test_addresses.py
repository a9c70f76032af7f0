"""Which addresses are inside, and how far a link from outside may lead."""

from __future__ import annotations

import pytest

from dataminer.errors import ErrorClass, PermanentError
from dataminer.stages.addresses import Reach, Scope, scope_of

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
}
OUTSIDE, LAB, HERE, CLOUD = "93.184.215.14", "10.0.0.7", "127.0.0.1", "169.254.169.254"


@pytest.mark.parametrize("address", SCOPES)
def test_scopes(address):
    assert scope_of((address, 80)) is SCOPES[address]


@pytest.mark.parametrize(
    ("given", "first", "open_", "shut"),
    [
        ("https://tube.example/x", ("tube.example", OUTSIDE), [OUTSIDE], [LAB, HERE, CLOUD]),
        ("http://lab.example/x", ("lab.example", LAB), [OUTSIDE, LAB], [HERE, CLOUD]),
        ("http://LOCALHOST:8000/x", ("localhost", HERE), [OUTSIDE, LAB, HERE], [CLOUD]),
        ("ytsearch5:cats", ("www.youtube.com", OUTSIDE), [OUTSIDE], [LAB, HERE, CLOUD]),
        ("http://[", ("tube.example", OUTSIDE), [OUTSIDE], [LAB]),
    ],
)
def test_no_further_inside_than_the_link_that_was_given(given, first, open_, shut):
    reach = Reach(given)
    reach.check(first[0], (first[1], 80))
    for address in open_:
        reach.check("other.example", (address, 80))
    for address in shut:
        with pytest.raises(PermanentError, match=f"other.example leads to {address}") as caught:
            reach.check("other.example", (address, 80))
        assert caught.value.error_class is ErrorClass.UNSUPPORTED


def test_a_name_that_stands_for_another_address_the_second_time():
    reach = Reach("http://rebind.example/x")
    reach.check("rebind.example", (OUTSIDE, 80))
    with pytest.raises(PermanentError):
        reach.check("rebind.example", (HERE, 80))


def test_a_metadata_service_is_no_source_of_videos():
    with pytest.raises(PermanentError):
        Reach(f"http://{CLOUD}/latest").check(CLOUD, (CLOUD, 80))


def test_names_that_a_proxy_will_look_up():
    reach = Reach("https://tube.example/x")
    reach.check_name("no-such-name.invalid")  # known to the proxy only
    reach.check_name(OUTSIDE)
    for name in ("localhost", "127.1", "2130706433", "10.0.0.1"):
        with pytest.raises(PermanentError):
            reach.check_name(name)
    inside = Reach("http://localhost:8000/x")
    for name in ("localhost", "127.1", LAB, OUTSIDE):
        inside.check_name(name)
