"""The Redis of one region, as the replicator uses it: reads its keys, and writes copies of others
to it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

from crdtbucket.base.address import Address
from crdtbucket.base.deadline import within
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.redis_connection import OnLost, RedisConnection, all_of, asked
from crdtbucket.testing.copy_queue import KeyVersion

ANSWER_S = 60.0
"""Seconds within which a server has to answer; else the replicator fails."""
STRING = b""
"""The one field of a key that is a string."""
_SCANNED = 1_000
Command = tuple[bytes | str | int, ...]


@dataclass(frozen=True)
class ReplicatedMember:
    """The Redis of a region. Its own keys are those that end in "@" and the region's name."""

    region: str
    address: Address
    access: Access = field(default_factory=Access)

    async def open(self, on_lost: OnLost | None = None) -> RedisConnection:
        """Opens a connection. Raises `RedisUnavailable`."""
        return await RedisConnection.open(self.address, self.access, ANSWER_S, on_lost=on_lost)

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[RedisConnection]:
        """A connection for a few commands."""
        connection = await self.open()
        try:
            yield connection
        finally:
            connection.abort()


async def replies(connection: RedisConnection, *commands: Command) -> list[object]:
    """The replies to commands that are sent together. Raises the first error among them."""
    return await within(ANSWER_S, all_of(asked(connection, *command) for command in commands))


async def keys_of(connection: RedisConnection, region: str) -> dict[bytes, KeyVersion]:
    """The keys of a region that this server holds, its own or copies; each as of one moment."""
    names: set[bytes] = set()
    cursor: bytes = b"0"
    while True:
        [reply] = await replies(
            connection, ("SCAN", cursor, "MATCH", f"*@{region}", "COUNT", _SCANNED)
        )
        cursor, found = cast("tuple[bytes, list[bytes]]", reply)
        names.update(found)
        if cursor == b"0":
            break
    ordered = sorted(names)
    kinds = await replies(connection, *(("TYPE", name) for name in ordered))
    reads = {b"hash": "HGETALL", b"string": "GET"}
    present = [(name, kind) for name, kind in zip(ordered, kinds, strict=True) if kind != b"none"]
    for name, kind in present:
        if kind not in reads:
            raise ValueError(f"{name!r} is a {kind!r}: only hashes and strings are replicated here")
    commands = [
        (command, name) for name, kind in present for command in (reads[cast(bytes, kind)], "PTTL")
    ]
    answers = iter(await replies(connection, *commands))
    out = {}
    for (name, _), value, expires_ms in zip(present, answers, answers, strict=True):
        if value:  # without a value it has expired meanwhile
            out[name] = KeyVersion(name, _fields(value), cast(int, expires_ms))
    return out


def _fields(value: object) -> dict[bytes, bytes]:
    if isinstance(value, bytes):
        return {STRING: value}
    flat = cast("list[bytes]", value)
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def write(connection: RedisConnection, version: KeyVersion) -> None:
    """The server holds this version from now on; of a torn one the fields that arrived."""
    pairs = [word for pair in version.fields.items() for word in pair]
    commands: list[Command] = [("MULTI",)]
    if version.whole:
        commands.append(("DEL", version.key))
    if STRING in version.fields:
        commands.append(("SET", version.key, version.fields[STRING]))
    else:
        commands.append(("HSET", version.key, *pairs))
    if version.expires_ms >= 0:
        commands.append(("PEXPIRE", version.key, version.expires_ms))
    await replies(connection, *commands, ("EXEC",))
