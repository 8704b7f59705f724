"""Maps keys to servers: a single server, the one that sentinels name, or the nodes of a cluster."""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import ssl
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from crdtbucket.base.address import Address
from crdtbucket.base.deadline import within
from crdtbucket.errors import RedisUnavailable
from crdtbucket.strong.redis.access import Access, sentinel_access, server_access
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.redis_connection import RedisConnection, ask
from crdtbucket.strong.redis.resp import RedisErrorReply

SLOTS = 16_384
PATIENCE_S = 0.25
"""Seconds after which another server is asked in parallel with one that has not answered yet."""
T = TypeVar("T")
Ranges = tuple[tuple[int, int], ...]
"""Slots of a cluster: the first and the last one of each row of them."""


class Primary(NamedTuple):
    """A server that takes writes, for the slots of `ranges`."""

    address: Address
    ranges: Ranges


class Topology(NamedTuple):
    """All primaries. Slots of a cluster that nobody serves now belong to none of them."""

    primaries: tuple[Primary, ...]
    nodes: tuple[Address, ...] = ()
    """All nodes of the cluster, replicas too: any of them knows the others."""

    def owners(self) -> list[int | None]:
        """For each of the 16,384 slots the place in `primaries` of the one that serves it."""
        owners: list[int | None] = [None] * SLOTS
        for place, primary in enumerate(self.primaries):
            for first, last in primary.ranges:
                owners[first : last + 1] = [place] * (last + 1 - first)
        return owners


ALL_SLOTS = ((0, SLOTS - 1),)


async def ask_sentinel(
    sentinel: Address, master: str, config: RedisConfig, tls: ssl.SSLContext | None
) -> Topology:
    """The primary that a sentinel names, once it says that it is one. While that server says
    nothing, the sentinel is asked every `PATIENCE_S` whether it now names another one. Raises
    `RedisUnavailable`."""
    timeout = config.connect_timeout

    async def name_primary(connection: RedisConnection) -> Address:
        reply = await ask(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", master)
        if reply is None:
            text = (
                f"the sentinel at {sentinel} knows no primary {master!r}: correct sentinel_master"
            )
            raise RedisUnavailable(text, "down")
        if not isinstance(reply, list) or len(reply) != 2:
            raise _wrong(sentinel, "SENTINEL GET-MASTER-ADDR-BY-NAME")
        try:
            return _address(reply[0], int(reply[1]), sentinel)
        except (TypeError, ValueError) as error:
            raise _wrong(sentinel, "SENTINEL GET-MASTER-ADDR-BY-NAME") from error

    async def named() -> Address:
        return await asking(sentinel, sentinel_access(config, tls), timeout, name_primary)

    primary = await named()
    while True:
        question = asking(primary, server_access(config, tls), timeout, _check_primary)
        check = asyncio.ensure_future(question)
        try:
            while not (await asyncio.wait({check}, timeout=PATIENCE_S))[0]:
                before, primary = primary, await named()
                if primary != before:
                    break
            else:
                check.result()
                return Topology((Primary(primary, ALL_SLOTS),))
        finally:
            check.cancel()


async def _check_primary(connection: RedisConnection) -> None:
    # The sentinel may name the former primary: it was cut off, or a failover is under way.
    reply = await ask(connection, "ROLE")
    if not isinstance(reply, list) or not reply or reply[0] != b"master":
        role = reply[0] if isinstance(reply, list) and reply else b"?"
        text = role.decode(errors="replace") if isinstance(role, bytes) else "?"
        raise RedisUnavailable(
            f"Redis at {connection.address} is named as the primary and says it is {text[:20]!r}: "
            "a failover is under way, or the sentinels are behind",
            "readonly",
        )


async def cluster_layout(connection: RedisConnection) -> Topology:
    """The layout of the cluster as this node knows it. Raises `RedisUnavailable`."""
    reply = await ask(connection, "CLUSTER", "SLOTS")
    ranges: dict[Address, list[tuple[int, int]]] = {}
    nodes: dict[Address, None] = {}
    try:
        for first, last, address, replicas in _slot_ranges(reply, connection.address):
            ranges.setdefault(address, []).append((first, last))
            nodes |= dict.fromkeys((address, *replicas))
    except (TypeError, ValueError) as error:
        raise _wrong(connection.address, "CLUSTER SLOTS") from error
    if not ranges:
        raise RedisUnavailable(
            f"the cluster node at {connection.address} knows of no slot that is served: give the "
            "cluster its slots (redis-cli --cluster create, or fix)",
            "down",
        )
    primaries = tuple(Primary(address, tuple(found)) for address, found in ranges.items())
    return Topology(primaries, tuple(nodes))


def _slot_ranges(
    reply: object, asked: Address
) -> Iterator[tuple[int, int, Address, list[Address]]]:
    """Slots, their primaries, and of the replicas those that have an address; `TypeError` or
    `ValueError` for anything unexpected."""
    if not isinstance(reply, list):
        raise TypeError(reply)
    for first, last, (host, port, *_), *others in reply:
        if not (isinstance(first, int) and isinstance(last, int) and 0 <= first <= last < SLOTS):
            raise ValueError(first, last)
        yield first, last, _address(host, port, asked), list(_reachable(others, asked))


def _reachable(replicas: list[Any], asked: Address) -> Iterator[Address]:
    for one in replicas:
        # A replica whose address cannot be read is not asked; the slots do not depend on it.
        with contextlib.suppress(TypeError, ValueError):
            host, port, *_ = one
            yield _address(host, port, asked)


def _address(host: object, port: object, asked: Address) -> Address:
    """An address as a server names it; without a host it is the one that was asked."""
    if not isinstance(port, int) or not 1 <= port <= 65_535:
        raise ValueError(port)
    if host is None or host in (b"", b"?"):
        return Address(asked.host, port)
    if not isinstance(host, bytes):
        raise TypeError(host)
    if len(host) > 255:
        raise ValueError(host)
    return Address(host.decode(), port)


async def asking(
    address: Address,
    access: Access,
    timeout: float,
    question: Callable[[RedisConnection], Coroutine[Any, Any, T]],
) -> T:
    """Asks one server a question over a connection of its own, and returns the answer. Raises
    `RedisUnavailable`."""
    connection = await RedisConnection.open(address, access, timeout)
    try:
        return await within(timeout, question(connection))
    except asyncio.TimeoutError as error:
        text = f"Redis at {address} did not answer within {timeout:g} s"
        raise RedisUnavailable(text, "timed_out") from error
    except RedisErrorReply as error:
        text = f"Redis at {address} refuses to say where the keys are: {error}"
        raise RedisUnavailable(text, error.kind) from error
    finally:
        connection.abort()


def _wrong(address: Address, command: str) -> RedisUnavailable:
    text = f"Redis at {address} answered {command} with something else: is it really one?"
    return RedisUnavailable(text, "script")


def slot(key: bytes) -> int:
    """The slot of a cluster that a key is in: by what stands in its first braces, if anything."""
    begin = key.find(b"{")
    end = key.find(b"}", begin + 1)
    tag = key[begin + 1 : end] if 0 <= begin < end - 1 else key
    return binascii.crc_hqx(tag, 0) % SLOTS


def first_within(ranges: Ranges, names: Iterable[bytes]) -> bytes:
    """The first of these names whose slot is in one of these ranges."""
    return next(
        name for name in names if any(first <= slot(name) <= last for first, last in ranges)
    )


def parse_moved(error: RedisErrorReply, asked: Address) -> tuple[int, Address]:
    """Slot and address of a MOVED or ASK answer of the server `asked`.

    Raises `RedisUnavailable` when it says neither.
    """
    words = error.message.split(" ")
    try:
        if words[0] not in ("MOVED", "ASK") or not 0 <= int(words[1]) < SLOTS:
            raise ValueError(words)
        host, _, port = words[2].rpartition(":")
        return int(words[1]), _address(host.strip("[]").encode(), int(port), asked)
    except (IndexError, ValueError) as wrong:
        raise _wrong(asked, "a command in another slot") from wrong
