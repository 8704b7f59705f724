"""Finds the client address that a request counts for, as far as proxies can be believed."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from crdtbucket.base.address import household, ip_address_of
from crdtbucket.errors import InvalidKey, InvalidSpec
from crdtbucket.spec.field_checks import check_listed

UNIX = "unix"
"""Among trusted proxies: a peer that connects through a Unix socket, and so has no address."""
TEST_CLIENT = "testclient"
"""The peer that Starlette's `TestClient` gives, which is no address; no server gives it."""
LONGEST = 100
"""The most characters of an address; longer texts are neither parsed nor cached."""
CACHED = 16_384
"""Addresses whose parsed forms are kept."""


class InvalidAddress(InvalidKey):
    """The server gives a text as the peer that is no address: a client has sent it as its own."""


Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(
    peer: str | None,
    forwarded_for: str | Iterable[str] | None,
    trusted: Iterable[str | Network],
) -> str:
    """The key under which a client's address counts: IPv4 as it is, IPv6 by its /64.

    peer: the other end of the connection. forwarded_for: the value(s) of `X-Forwarded-For`, read
    from its end, and only as long as the addresses read so far are `trusted` proxies (addresses or
    networks, or "unix" for a peer without an address); so entries that a client writes into it are
    ignored. An entry that is not an address ends the reading. Raises `InvalidKey` when there is no
    address at all (`InvalidAddress` if the peer is another text), `InvalidSpec` for a trusted proxy
    that is not an address or network.
    """
    unix, networks = _parsed_proxies(tuple(trusted))
    known = _known(peer or "")
    local = known is None and _is_local(peer)
    believed = local and unix if known is None else _within(known.address, networks)
    entries = iter(_from_the_end(forwarded_for))
    while believed:
        further = _known(next(entries, ""))
        if further is None:
            break
        known, believed = further, _within(further.address, networks)
    if known is not None:
        return known.key
    if peer == TEST_CLIENT:
        return peer
    if peer and not local:
        raise InvalidAddress(f"the client's address is given as {peer[:LONGEST]!r}, which is none")
    if unix:
        raise InvalidKey(
            "X-Forwarded-For names no client address: let the proxy set it, in nginx by "
            "`proxy_set_header X-Forwarded-For $remote_addr`"
        )
    raise InvalidKey(
        f"the peer {peer!r} has no address, and X-Forwarded-For names none that counts: put "
        '"unix" among the trusted proxies if it is yours'
    )


def check_trusted(trusted: Iterable[str | Network]) -> tuple[str | Network, ...]:
    """`trusted` for `client_address`, checked. Raises `InvalidSpec`."""
    kept = check_listed("trusted", trusted)
    _parsed_proxies(kept)
    return kept


def _is_local(peer: str | None) -> bool:
    """Whether a server gives this as the peer at a Unix socket: nothing, or the path that it has;
    Werkzeug says "<local>"."""
    return not peer or peer == "<local>" or peer.startswith("/")


@functools.lru_cache(maxsize=256)
def _parsed_proxies(trusted: tuple[str | Network, ...]) -> tuple[bool, tuple[Network, ...]]:
    networks = []
    for entry in trusted:
        if entry == UNIX:
            continue
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError as error:
            fix = 'write an address or a network, such as "10.0.0.0/8", or "unix"'
            raise InvalidSpec(f"trusted has {entry!r} ({error})", fix, "trusted") from None
    return UNIX in trusted, tuple(networks)


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return bool(networks) and any(address in network for network in networks)


def _from_the_end(forwarded_for: str | Iterable[str] | None) -> Iterable[str]:
    lines = [forwarded_for] if isinstance(forwarded_for, str) else forwarded_for or ()
    return reversed(",".join(lines).split(","))


class _Known(NamedTuple):
    """An address, and the key under which it counts."""

    address: Address
    key: str


def _known(text: str) -> _Known | None:
    """The address in "1.2.3.4", "1.2.3.4:80", "::1" or "[::1]:80"; None when there is none."""
    return _parsed(text) if len(text) <= LONGEST else None


@functools.lru_cache(maxsize=CACHED)
def _parsed(text: str) -> _Known | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    address = ip_address_of(text.partition("%")[0])
    return None if address is None else _Known(address, household(address))


@functools.lru_cache(maxsize=CACHED)
def key_of_peer(peer: str | None) -> str | None:
    """The key of a peer when no proxy is trusted; None if it has no address."""
    known = None if peer is None else _known(peer)
    return None if known is None else known.key
