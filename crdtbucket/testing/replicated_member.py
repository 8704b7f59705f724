"""The Redis of one region, for the replicator: what it holds, and copies that are written there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import cast

from crdtbucket.base.address import Address
from crdtbucket.base.deadline import within
from crdtbucket.errors import CrdtbucketError
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.redis_connection import OnLost, RedisConnection, asked
from crdtbucket.testing.copy_queue import KeyVersion

ANSWER_S = 60.0
"""Within so many seconds a server answers, or the replicator fails."""
_SCANNED = 1_000
Command = tuple[bytes | str | int, ...]


@dataclass(frozen=True)
class ReplicatedMember:
    """Where a region's Redis is. Its own keys are those that end in "@" and the region's name."""

    region: str
    address: Address
    access: Access = field(default_factory=Access)

    async def open(self, on_lost: OnLost | None = None) -> RedisConnection:
        """A connection. Raises `RedisUnavailable`."""
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
    found = await within(ANSWER_S, _all(connection, commands))
    for reply in found:
        if isinstance(reply, CrdtbucketError):
            raise reply
    return found


async def _all(connection: RedisConnection, commands: Iterable[Command]) -> list[object]:
    return list(await asyncio.gather(*(asked(connection, *command) for command in commands)))


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
    commands: list[Command] = [
        (command, name) for name in ordered for command in ("HGETALL", "PTTL")
    ]
    answers = iter(await replies(connection, *commands))
    out = {}
    for name, flat, expires_ms in zip(ordered, answers, answers, strict=True):
        flat = cast("list[bytes]", flat)
        if flat:  # else it has expired since
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            out[name] = KeyVersion(name, fields, cast(int, expires_ms))
    return out


async def write(connection: RedisConnection, version: KeyVersion) -> None:
    """The server holds this version from now on; of a torn one the fields that arrived."""
    pairs = [word for pair in version.fields.items() for word in pair]
    commands: list[Command] = [("MULTI",)]
    if version.whole:
        commands.append(("DEL", version.key))
    commands.append(("HSET", version.key, *pairs))
    if version.expires_ms >= 0:
        commands.append(("PEXPIRE", version.key, version.expires_ms))
    await replies(connection, *commands, ("EXEC",))


async def fill_gaps(connection: RedisConnection, version: KeyVersion) -> None:
    """Fields that the server's key lacks come back; those that it has stay."""
    commands: list[Command] = [
        ("HSETNX", version.key, name, text) for name, text in version.fields.items()
    ]
    if version.expires_ms >= 0:
        commands.append(("PEXPIRE", version.key, version.expires_ms, "NX"))
    await replies(connection, *commands)


__all__ = ["ReplicatedMember", "fill_gaps", "keys_of", "replies", "write"]
