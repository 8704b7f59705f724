"""Addresses as people write and read them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.base.address import (
    Address,
    is_literal,
    is_loopback,
    read_address,
    source_of,
    split_address,
)

HOSTS = st.one_of(
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]{1,9})?", fullmatch=True),
    st.ip_addresses().map(str),
)


@given(HOSTS, st.integers(1, 65_535))
def test_what_is_shown_is_what_is_read(host: str, port: int) -> None:
    address = Address(host, port)
    assert read_address(str(address)) == address
    shown = f"[{host}]" if ":" in host else host
    assert read_address(shown, port) == address


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_fault_that_does_not_repeat_it(text: str) -> None:
    secret = f"hunter{text}"
    try:
        address = read_address(secret)
    except ValueError as error:
        told = str(error)
    else:
        assert read_address(str(address)) == address
        told = ""
    assert "hunter" not in told
    try:
        address = read_address(text)
    except ValueError:
        return
    assert 1 <= address.port <= 65_535
    assert address.host
    assert not set(address.host) & set("/@[]?# \t\r\n")
    if ":" in address.host:
        assert ipaddress.IPv6Address(address.host)
    assert read_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no host"),
        (":6379", "no host"),
        ("h:", "no port"),
        ("h:+1", "no port"),
        ("h:1_0", "no port"),
        ("h:٣", "no port"),
        ("[]:1", "no IPv6"),
        ("[1.2.3.4]:1", "no IPv6"),
        ("::1:6379", "without brackets"),
        ("h\u00a0:1", "no host"),
        ("user@h", "no host"),
        ("a..example:1", "an empty part"),
        (f"{'a' * 64}.example:1", "over 63 characters"),
    ],
)
def test_a_wrong_address_says_what_is_wrong(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_address(text)


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("h\x1b[31m:1", "no host"),
        ("h\u200b:1", "no host"),
        ("h\n:1", "no host"),
        (f"{'h' * 199}:1", "201 characters"),
    ],
)
def test_an_address_that_peers_say_can_be_logged_and_passed_on(address: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as caught:
        split_address(address)
    assert str(caught.value).isprintable()
    assert split_address(f"{'h' * 198}:1") == ("h" * 198, 1)


def test_a_socket_is_shown_by_its_path() -> None:
    assert str(Address(path="/run/redis.sock")) == "/run/redis.sock"


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::2%eth0", "2001:db8::/64"),
    ],
)
def test_what_counts_as_one_address(host: str, source: str) -> None:
    assert source_of(host) == source


@pytest.mark.parametrize(
    ("host", "literal"),
    [("10.0.0.5", True), ("::1", True), ("fe80::1%eth0", True), ("redis", False), ("1.2.3", False)],
)
def test_an_address_is_told_from_a_name(host: str, literal: bool) -> None:
    assert is_literal(host) is literal


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("::1%lo", True),
        ("::ffff:127.0.0.1", True),  # as a socket of both families shows a client of this host
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("redis", False),
    ],
)
def test_which_hosts_are_this_machine(host: str, here: bool) -> None:
    assert is_loopback(host) is here
