"""The client that a request counts for."""

from __future__ import annotations

import ipaddress

import pytest

from crdtbucket import InvalidKey, InvalidSpec
from crdtbucket.http import client_address as module
from crdtbucket.http.client_address import InvalidAddress, client_address

PROXIES = ["10.0.0.0/8", "fd00::/8", "192.0.2.7"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "counts"),
    [
        # Not believed by default, nor from a peer that is no proxy of ours.
        ("203.0.113.9", "198.51.100.1", [], "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", PROXIES, "203.0.113.9"),
        # Read from the end, through our proxies only: what stands before is what a client wrote.
        ("10.0.0.1", "198.51.100.1", PROXIES, "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", PROXIES, "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 192.0.2.7,10.9.9.9", PROXIES, "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", PROXIES, "10.0.0.3"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1, 10.0.0.2"], PROXIES, "198.51.100.1"),
        # Nothing there, or nothing that is an address.
        ("10.0.0.1", None, PROXIES, "10.0.0.1"),
        ("10.0.0.1", "", PROXIES, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, unknown", PROXIES, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, ,10.0.0.2", PROXIES, "10.0.0.2"),
        ("10.0.0.1", "010.1.1.1", PROXIES, "10.0.0.1"),
        # Ports, brackets, zones, and IPv4 in IPv6.
        ("10.0.0.1", "198.51.100.1:4711", PROXIES, "198.51.100.1"),
        ("::ffff:10.0.0.1", "[2001:db8:1:2:3::4]:4711", PROXIES, "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", None, [], "203.0.113.9"),
        ("fe80::1%eth0", None, [], "fe80::/64"),
        # IPv6 by its /64, proxies by their whole address.
        ("2001:db8:1:2:aaaa::1", None, [], "2001:db8:1:2::/64"),
        ("2001:DB8:1:2:bbbb::1", None, [], "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", None, [], "2001:db8:1:3::/64"),
        ("fd00::1", "2001:db8:1:2::1", PROXIES, "2001:db8:1:2::/64"),
        # A peer without an address, which the settings name as ours.
        ("", "198.51.100.1", ["unix"], "198.51.100.1"),
        (None, "198.51.100.1, 10.0.0.2", ["unix", "10.0.0.0/8"], "198.51.100.1"),
        ("203.0.113.9", "198.51.100.1", ["unix"], "203.0.113.9"),
        ("/run/proxy.sock", "198.51.100.1", ["unix"], "198.51.100.1"),
        ("<local>", "198.51.100.1", ["unix"], "198.51.100.1"),  # as Werkzeug says
        ("testclient", "198.51.100.1", ["unix"], "testclient"),
    ],
)
def test_whom_a_request_counts_for(
    peer: str | None, forwarded: str | list[str] | None, trusted: list[str], counts: str
) -> None:
    assert client_address(peer, forwarded, trusted) == counts
    networks = [t if t == "unix" else ipaddress.ip_network(t) for t in trusted]
    assert client_address(peer, forwarded, networks) == counts


@pytest.mark.parametrize(
    ("forwarded", "trusted", "says"),
    [
        ("198.51.100.1", [], 'put "unix" among the trusted proxies'),
        (None, ["unix"], "names no client address: let the proxy set it"),
        ("unknown", ["unix"], "proxy_set_header X-Forwarded-For"),
    ],
)
def test_no_address_at_all_is_an_error(
    forwarded: str | None, trusted: list[str], says: str
) -> None:
    with pytest.raises(InvalidKey, match=says):
        client_address(None, forwarded, trusted)


@pytest.mark.parametrize("peer", ["junk", "unix", "<script>", "198.51.100.1x", " "])
def test_a_text_that_is_no_address_is_not_the_peer_of_a_unix_socket(peer: str) -> None:
    """A client has sent it: a server puts what `X-Forwarded-For` says in place of the peer."""
    with pytest.raises(InvalidAddress, match="is none"):
        client_address(peer, "198.51.100.1", ["unix"])


def test_a_unix_socket_is_told_how_its_peers_get_addresses() -> None:
    for peer in ("/run/proxy.sock", "<local>"):
        with pytest.raises(InvalidKey, match='put "unix" among the trusted') as raised:
            client_address(peer, "198.51.100.1", [])
        assert not isinstance(raised.value, InvalidAddress)
        with pytest.raises(InvalidKey, match="names no client address: let the proxy set it"):
            client_address(peer, None, ["unix"])


def test_a_trusted_proxy_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidSpec, match=r"trusted has '10\.0\.0\.1/8' .*host bits"):
        client_address("10.0.0.1", None, ["10.0.0.1/8"])


def test_the_test_client_of_starlette_has_a_key() -> None:
    assert client_address("testclient", None, ()) == "testclient"
    assert client_address("testclient", "198.51.100.1", ["10.0.0.0/8"]) == "testclient"
    with pytest.raises(InvalidKey):
        client_address("another name", None, ())


def test_caches_are_bounded_and_hold_no_long_text() -> None:
    with pytest.raises(InvalidKey):
        client_address("1" * (module.LONGEST + 1), None, ())
    assert [module.key_of_peer(one) for one in (None, "", "x", "::1")] == [None] * 3 + ["::/64"]
    for n in range(module.CACHED + 100):
        address = f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"
        assert module.key_of_peer(address) == client_address(address, None, ()) == address
    for cache in (module._parsed, module.key_of_peer):
        assert cache.cache_info().currsize <= module.CACHED
    before = module._parsed.cache_info().misses
    client_address("10.0.0.1", "9" * 1000, ["10.0.0.0/8"])
    assert module._parsed.cache_info().misses <= before + 1  # of the peer alone
