"""Reads the records of strong buckets from Redis by plain commands, and raises them by the script,
without a take."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import islice
from typing import Any, TypeGuard, TypeVar

from crdtbucket.base.deadline import within
from crdtbucket.errors import RedisReplyError, RedisUnavailable
from crdtbucket.reconcile.buckets import BucketIndex, KeyUpdate, Place, ReconciledBucket
from crdtbucket.reconcile.merging import Columns, HeldKey, Owner
from crdtbucket.reconcile.observed_node import MergeOutcome
from crdtbucket.strong.redis import script, topology
from crdtbucket.strong.redis.access import server_access, tls_context
from crdtbucket.strong.redis.locator import Locator
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.redis_connection import RedisConnection, all_of, ask, asked, good, sent
from crdtbucket.strong.redis.replicated import read_entry
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.redis.script import Column, ScriptCall, ScriptStatus
from crdtbucket.strong.redis.server_facts import read_time
from crdtbucket.strong.store_names import redis_key

CHUNK = 256
"""Keys that are asked for at a time."""
SCAN_COUNT = b"1000"
_OWNER = script.owner_name(1, "observer")
"""The caller in the script's eyes; without counts it gets no record."""
T = TypeVar("T")


class Records:
    """The connections to all primaries."""

    def __init__(self, config: RedisConfig, buckets: BucketIndex, timeout: float) -> None:
        """`timeout` (s): for each chunk of answers."""
        self._config, self._buckets, self._timeout = config, buckets, timeout
        self.owner: Owner | None = None
        """None, as Redis is no node and has no column of its own."""
        self.tombstones: set[int] = set()
        self._connections: list[RedisConnection] = []
        self._slots: list[int | None] = []
        self._prefix = config.prefix.encode()
        self._regions = buckets.regions
        self._homes: dict[Owner, bytes] = {}
        own = b"" if self._regions is None else b"@" + self._regions.own
        # Copies of other regions' keys are theirs to write, and are no holders of their own.
        self._name = re.compile(
            re.escape(self._prefix) + rb"\{(.+):([0-9a-f]{16})([0-9a-f]{16})\}" + re.escape(own),
            re.DOTALL,
        )

    @property
    def name(self) -> str:
        """The name of this Redis in a report."""
        return "redis" if self._regions is None else f"redis@{self._regions.own.decode()}"

    @property
    def address(self) -> str:
        """The addresses of all primaries."""
        return " ".join(str(connection.address) for connection in self._connections)

    async def open(self) -> None:
        """Connects. Raises `RedisUnavailable`."""
        tls = tls_context(self._config)
        layout = await Locator(self._config, tls).locate()
        access = server_access(self._config, tls, "crdtbucket:reconcile")
        for primary in layout.primaries:
            self._connections.append(
                await RedisConnection.open(
                    primary.address, access, self._config.connect_timeout, scripts=self._scripts()
                )
            )
        self._slots = layout.owners()

    def _scripts(self) -> list[str]:
        found = (one.arguments for one in self._buckets.by_key.values())
        return list({one.script.source for one in found if one is not None})

    def close(self) -> None:
        """Closes the connections."""
        for connection in self._connections:
            connection.abort()

    async def places(self) -> dict[Place, ReconciledBucket]:
        """All keys of the file's strong buckets, in the order of their hashes; full ones too.

        Raises `RedisUnavailable`.
        """
        found: dict[Place, ReconciledBucket] = {}
        pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", self._prefix) + b"{*"
        for connection in self._connections:
            cursor = b"0"
            while True:
                words = (b"SCAN", cursor, b"MATCH", pattern, b"COUNT", SCAN_COUNT)
                reply = await self._within(ask(connection, *words))
                if not isinstance(reply, list) or len(reply) != 2 or not _are_texts(reply[1]):
                    raise RedisReplyError("SCAN was answered with something else")
                cursor = reply[0]
                found.update(filter(None, map(self._place, reply[1])))
                if cursor == b"0":
                    break
        return dict(sorted(found.items(), key=lambda item: item[0][1]))

    def _place(self, name: bytes) -> tuple[Place, ReconciledBucket] | None:
        match = self._name.fullmatch(name)
        bucket = self._buckets.by_key.get(match[1].decode(errors="replace")) if match else None
        if match is None or bucket is None or bucket.arguments is None:
            return None
        return (int(match[3], 16), int(match[2], 16)), bucket

    async def have(
        self, places: Mapping[Place, ReconciledBucket]
    ) -> dict[Place, tuple[ReconciledBucket, HeldKey]]:
        """Reads which of these keys Redis holds, full ones too. Nothing is written.

        Raises `RedisUnavailable`, and `RedisReplyError` for a record that is none.
        """
        found: dict[Place, tuple[ReconciledBucket, HeldKey]] = {}
        for chunk in _chunks(places.items()):
            servers = {self._server(self._redis_key(*item)) for item in chunk}
            clocks = {server: asked(server, b"TIME") for server in servers}
            names = [self._own_key(*item) for item in chunk]
            calls = [asked(self._server(name), b"HGETALL", name) for name in names]
            await self._within(all_of([*clocks.values(), *calls]))
            now = {server: read_time(clock.result()) for server, clock in clocks.items()}
            for (place, bucket), name, call in zip(chunk, names, calls, strict=True):
                held = self._held(call.result(), bucket, now[self._server(name)])
                if held is not None:
                    found[place] = bucket, held
        return found

    async def send(self, updates: Mapping[Place, KeyUpdate]) -> MergeOutcome:
        """Raises its records to these columns. Raises as `have`."""
        for chunk in _chunks(updates.items()):
            await self._within(all_of(self._raise(place, *update) for place, update in chunk))
        return MergeOutcome(len(updates), 0, 0)

    async def _raise(
        self, place: Place, bucket: ReconciledBucket, columns: Columns, owed: Fraction
    ) -> None:
        arguments = bucket.arguments
        assert arguments is not None, "only strong buckets are in Redis"
        others = tuple(
            Column(script.owner_name(epoch, node), *counts, self._homes.get((node, epoch), b""))
            for (node, epoch), counts in columns.items()
        )
        name, debt = self._redis_key(place, bucket), bucket.debt_ns(owed)
        call = ScriptCall(name, 0, _OWNER, 0, 0, 0, 0, debt, others)
        connection = self._server(name)
        reply = await sent(connection, arguments.command(call))
        if isinstance(reply, RedisErrorReply) and reply.code == "NOSCRIPT":
            reply = await sent(connection, arguments.command(call, source=True))
        status = arguments.parse(good(reply)).status
        if status is not ScriptStatus.ALLOWED:
            raise RedisReplyError(f"a settle of nothing ended as {status.name}")

    def _own_key(self, place: Place, bucket: ReconciledBucket) -> bytes:
        name = self._redis_key(place, bucket)
        return name if self._regions is None else self._regions.key(name)

    def _held(self, reply: object, bucket: ReconciledBucket, now_us: int) -> HeldKey | None:
        """What HGETALL says of a key; None when there is no such key."""
        fields = _fields(reply, bucket)
        entry = read_entry(fields)
        if entry is None:
            if fields and self._regions is None:
                raise RedisReplyError(f"a key of {bucket.spec.name!r} has no level")
            return None
        columns = {}
        for name, one in entry.records.items():
            columns[_owner(name)] = one.generation, one.taken, one.refunded
            self._homes[_owner(name)] = one.home
        owed_ns = entry.debt - max(0, now_us - entry.at_us) * 1_000
        comparable = entry.emission == Fraction(*bucket.spec.emission)
        return HeldKey(columns, max(Fraction(0), owed_ns / entry.emission), comparable)

    def _redis_key(self, place: Place, bucket: ReconciledBucket) -> bytes:
        return redis_key(self._prefix, bucket.spec.key, place)

    def _server(self, name: bytes) -> RedisConnection:
        owner = self._slots[topology.slot(name)]
        if owner is None:
            text = f"no primary serves slot {topology.slot(name)} of the cluster"
            raise RedisUnavailable(text, "down")
        return self._connections[owner]

    async def _within(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await within(self._timeout, work)
        except asyncio.TimeoutError as error:
            text = f"Redis did not answer within {self._timeout:g} s"
            raise RedisUnavailable(text, "timed_out") from error
        except RedisErrorReply as error:
            raise RedisUnavailable(f"Redis answered {error}", error.kind) from error


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    left = iter(items)
    while chunk := list(islice(left, CHUNK)):
        yield chunk


def _are_texts(reply: object) -> TypeGuard[list[bytes]]:
    return isinstance(reply, list) and all(isinstance(one, bytes) for one in reply)


def _fields(reply: object, bucket: ReconciledBucket) -> dict[bytes, bytes]:
    if not _are_texts(reply) or len(reply) % 2:
        raise RedisReplyError(f"a key of {bucket.spec.name!r} is no hash")
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _owner(name: bytes) -> Owner:
    epoch, node = script.read_owner(name)
    return node, epoch
