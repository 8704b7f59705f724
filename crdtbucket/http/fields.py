"""What an HTTP answer says about a limit, and whom a request counts for.

Header fields and problem types follow draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy` and
`RateLimit` are structured fields (RFC 9651), problems are RFC 9457 documents.
"""

from __future__ import annotations

import functools
import ipaddress
import math
import random
from collections.abc import Iterable
from typing import Any, TypeAlias
from urllib.parse import quote

from crdtbucket._core import Decision
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.errors import InvalidKey, InvalidSpec
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode

PROBLEM_TYPE = "application/problem+json"
"""The media type of a `problem`."""
TYPES = "https://iana.org/assignments/http-problem-types#"
MAX_INTEGER = 999_999_999_999_999  # of a structured field
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
UNIX = "unix"
"""Among trusted proxies: whoever connects through a Unix socket, so without an address."""
IPV6_PREFIX = 64

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


# -- header fields


def rate_limit_fields(
    decision: Decision, spec: BucketSpec, *, legacy: bool = False, jitter_s: float = 0.0
) -> dict[str, str]:
    """The header fields that tell a client how it stands after a decision.

    `w` of the policy is the time in which an empty bucket fills; `t` is when the next token comes,
    or when the denied cost could pass. All times are whole seconds, rounded up. A denial has
    `Retry-After`, at least 1 and never before `t`; `jitter_s` (seconds) draws up to so much on top
    of it, so that clients do not come back all at once. legacy: `X-RateLimit-*` too, whose `Reset`
    is the seconds until the bucket is full.
    """
    wait = seconds(decision.retry_after, least=1)
    t = _next_token(decision, spec) if decision.allowed else wait
    fields = {
        "RateLimit-Policy": _policy(spec),
        "RateLimit": f"{policy_name(spec)};r={_whole(decision.remaining)};t={t}",
    }
    if not decision.allowed:
        late = random.uniform(0, jitter_s) if jitter_s > 0 else 0.0
        fields["Retry-After"] = str(seconds(wait + late))
    if legacy:
        fields["X-RateLimit-Limit"] = str(decision.limit)
        fields["X-RateLimit-Remaining"] = str(decision.remaining)
        fields["X-RateLimit-Reset"] = str(seconds(decision.reset_after))
    return fields


@functools.lru_cache(maxsize=1024)
def policy_name(spec: BucketSpec) -> str:
    """The bucket's name as a quoted string of a structured field, which has ASCII only."""
    text = quote(spec.key, safe=PRINTABLE)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def seconds(value: float, least: int = 0) -> int:
    """Whole seconds for a field: rounded up, not below `least`."""
    return min(max(math.ceil(value), least), MAX_INTEGER)


@functools.lru_cache(maxsize=1024)
def _policy(spec: BucketSpec) -> str:
    full_ns = -(-spec.capacity * spec.interval_ns // spec.refill_rate)
    window = max(-(-full_ns // NS_PER_SECOND), 1)
    return f"{policy_name(spec)};q={_whole(spec.capacity)};w={_whole(window)}"


def _next_token(decision: Decision, spec: BucketSpec) -> int:
    # Until full it takes the rest of one token, and the whole of those above it.
    whole = max(decision.limit - decision.remaining - 1, 0)
    whole_ns = -(-whole * spec.interval_ns // spec.refill_rate)
    return _whole(-((whole_ns - decision.debt) // NS_PER_SECOND))


def _whole(number: int) -> int:
    return min(max(number, 0), MAX_INTEGER)


# -- problems


def problem(
    decision: Decision,
    spec: BucketSpec,
    *,
    instance: str | None = None,
    reduced_capacity: bool = True,
) -> dict[str, Any]:
    """The JSON document (`PROBLEM_TYPE`) that says why a request was denied.

    `status` is the HTTP status that goes with it: 429, of the type quota-exceeded; 503, of the
    type temporary-reduced-capacity, when the mode is fallback, unless `reduced_capacity` is
    False. instance: a URI of this occurrence.
    """
    reduced = reduced_capacity and decision.mode is Mode.FALLBACK
    wait = seconds(decision.retry_after, least=1)
    document: dict[str, Any] = {
        "type": TYPES + ("temporary-reduced-capacity" if reduced else "quota-exceeded"),
        "title": "Capacity is reduced for a while" if reduced else "Quota exceeded",
        "status": 503 if reduced else 429,
        "detail": f"{spec.key}: {decision.remaining} of {decision.limit} left and "
        f"{decision.cost} asked for; retry in {wait} s",
        "violated-policies": [spec.key],
    }
    if instance is not None:
        document["instance"] = instance
    return document


# -- client addresses


def client_address(
    peer: str | None,
    forwarded_for: str | Iterable[str] | None,
    trusted: Iterable[str | Network],
) -> str:
    """The key under which a client's address counts: IPv4 as it is, IPv6 by its /64.

    peer: the other end of the connection. forwarded_for: the value(s) of `X-Forwarded-For`, read
    from its end, and only as far as the addresses before it are `trusted` proxies (addresses or
    networks, or "unix" for a peer without an address); so what a client writes into it counts for
    nothing. An entry that is no address ends the reading. Raises `InvalidKey` when there is no
    address at all, `InvalidSpec` for a trusted proxy that is none.
    """
    unix, networks = _trusted(tuple(trusted))
    address = _address(peer or "")
    believed = unix if address is None else _within(address, networks)
    entries = iter(_from_the_end(forwarded_for))
    while believed:
        further = _address(next(entries, ""))
        if further is None:
            break
        address, believed = further, _within(further, networks)
    if address is None:
        raise InvalidKey(
            f"the peer {peer!r} has no address, and X-Forwarded-For names none"
            + ("" if unix else ' that counts: put "unix" among the trusted proxies if it is yours')
        )
    return _grouped(address)


def check_trusted(trusted: Iterable[str | Network]) -> tuple[str | Network, ...]:
    """`trusted` for `client_address`, checked. Raises `InvalidSpec`."""
    if isinstance(trusted, str):
        raise InvalidSpec(f"trusted is {trusted!r}", f'write a list: ["{trusted}"]', "trusted")
    kept = tuple(trusted)
    _trusted(kept)
    return kept


@functools.lru_cache(maxsize=256)
def _trusted(trusted: tuple[str | Network, ...]) -> tuple[bool, tuple[Network, ...]]:
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
    return any(address in network for network in networks)


def _from_the_end(forwarded_for: str | Iterable[str] | None) -> Iterable[str]:
    lines = [forwarded_for] if isinstance(forwarded_for, str) else forwarded_for or ()
    return reversed(",".join(lines).split(","))


def _address(text: str) -> Address | None:
    """The address in "1.2.3.4", "1.2.3.4:80", "::1" or "[::1]:80"; None when there is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _grouped(address: Address) -> str:
    # A household gets a /64 at least: by single addresses it would have 2^64 buckets.
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((int(address), IPV6_PREFIX), strict=False))


__all__ = [
    "PROBLEM_TYPE",
    "check_trusted",
    "client_address",
    "policy_name",
    "problem",
    "rate_limit_fields",
    "seconds",
]
