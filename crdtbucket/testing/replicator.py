"""Copies the keys of each region's Redis to the Redis of every other region.

It stands for a Redis that is replicated between regions (Active-Active): asynchronous, each key
written on one member only. As asked, copies are late, are cut off, and arrive torn or as older
versions again. It reads each member's own keys (those that end in "@" and the region), and writes
them to the others; the servers themselves are plain and know nothing of each other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from itertools import permutations

from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.base.deadline import within
from crdtbucket.errors import RedisUnavailable
from crdtbucket.strong.redis.redis_connection import RedisConnection
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.testing.copy_queue import CopyQueue, KeyVersion, ReplicationFaults
from crdtbucket.testing.replicated_member import (
    ReplicatedMember,
    keys_of,
    replies,
    write,
)

READ_EVERY_S = 0.01
_AGAIN_S = 0.02
_IDLE_S = 3600.0
_REFUSED = ("READONLY", "NOREPLICAS", "OOM", "LOADING")
"""The errors of a server that takes no writes now."""
State = Mapping[bytes, KeyVersion]


class Replicator:
    """Runs from `start` to `stop`, on one event loop. All regions have keys of their own."""

    def __init__(
        self, members: Iterable[ReplicatedMember], faults: ReplicationFaults | None = None
    ) -> None:
        self.members = {member.region: member for member in members}
        self.faults = faults or ReplicationFaults()
        """The faults of copies, which may be changed while it runs."""
        self._ways = {
            (source, target): _Way(self.members[target], self.faults, f"{source}/{target}")
            for source, target in permutations(self.members, 2)
        }
        self._reads = dict.fromkeys(self.members, 0)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to read and to write. A member that does not answer is called again for ever."""
        self._tasks = [
            *(asyncio.create_task(self._read_on(member)) for member in self.members.values()),
            *(asyncio.create_task(way.write_on()) for way in self._ways.values()),
        ]

    async def stop(self) -> None:
        """Stop all of it. Raises the error that had ended a part of it before."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the sockets are closed in the loop's next turn
        for ended in found:
            if ended is not None and not isinstance(ended, asyncio.CancelledError):
                raise ended

    async def __aenter__(self) -> Replicator:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # -- faults

    def cut(self, *pairs: tuple[str, str], recorded: bool = True) -> None:
        """No copy passes between the regions of each pair, either way. What is sent meanwhile
        arrives after the heal, version by version; when not `recorded`, only the newest version
        does."""
        for one, other in pairs:
            self._ways[one, other].queue.cut(recorded=recorded)
            self._ways[other, one].queue.cut(recorded=recorded)

    def isolate(self, region: str, *, recorded: bool = True) -> None:
        """Cut one region off from every other."""
        self.cut(*((region, other) for other in self._others(region)), recorded=recorded)

    def heal(self) -> None:
        """Everything passes again."""
        for way in self._ways.values():
            way.queue.heal(now_ns())
            way.changed.set()

    async def held(self, member: str, region: str) -> dict[bytes, KeyVersion]:
        """The keys of a region as the member of this or another region holds them now."""
        async with self.members[member].asking() as connection:
            return await keys_of(connection, region)

    async def caught_up(self, seconds: float) -> None:
        """Returns when all that the members held when this was called has arrived everywhere.

        Raises `TimeoutError` after so many seconds, and the error that has ended a part of it."""
        wanted = {region: count + 2 for region, count in self._reads.items()}
        deadline = now_ns() + round(seconds * NS_PER_SECOND)
        while any(self._reads[region] < count for region, count in wanted.items()) or any(
            way.busy for way in self._ways.values()
        ):
            for task in self._tasks:
                if task.done():
                    task.result()
            if now_ns() > deadline:
                waiting = {pair: len(way.queue) for pair, way in self._ways.items() if way.busy}
                raise TimeoutError(f"on their way: {waiting}; read {self._reads} of {wanted}")
            await asyncio.sleep(READ_EVERY_S)

    # -- inside

    def _others(self, region: str) -> list[str]:
        return [other for other in self.members if other != region]

    async def _read_on(self, member: ReplicatedMember) -> None:
        """Reads the member's own keys again and again, and sends what has changed."""
        before: dict[bytes, KeyVersion] = {}
        while True:
            with contextlib.suppress(RedisUnavailable):
                async with member.asking() as connection:
                    while True:
                        found = await keys_of(connection, member.region)
                        self._send(member.region, found, before)
                        before = found
                        self._reads[member.region] += 1
                        await asyncio.sleep(READ_EVERY_S)
            await asyncio.sleep(_AGAIN_S)

    def _send(self, region: str, found: State, before: State) -> None:
        for key, version in found.items():
            if key not in before or before[key].fields != version.fields:
                for other in self._others(region):
                    self._ways[region, other].send(version)


class _Way:
    """The way from one member to another: its queue, and the member that gets the copies."""

    def __init__(self, target: ReplicatedMember, faults: ReplicationFaults, seed: str) -> None:
        self.queue = CopyQueue(faults, seed)
        self.changed = asyncio.Event()
        self._target = target
        self._writing = False

    @property
    def busy(self) -> bool:
        """Whether something is on its way."""
        return self._writing or len(self.queue) > 0

    def send(self, version: KeyVersion) -> None:
        """A new version of a key."""
        self.queue.send(version, now_ns())
        self.changed.set()

    async def write_on(self) -> None:
        """Writes what arrives until it is cancelled."""
        while True:
            try:
                connection = await self._target.open(lambda *_: self.changed.set())
            except RedisUnavailable:
                await asyncio.sleep(_AGAIN_S)
                continue
            try:
                await self._write_to(connection)
            except RedisUnavailable:
                self.queue.resend(now_ns())  # a server may come back without its keys
            except RedisErrorReply as error:
                if error.code not in _REFUSED:
                    raise
                self.queue.resend(now_ns())
                await asyncio.sleep(_AGAIN_S)
            finally:
                self._writing = False
                connection.abort()

    async def _write_to(self, connection: RedisConnection) -> None:
        while True:
            for version in self.queue.arrived(now_ns()):
                self._writing = True
                await write(connection, version)
            self._writing = False
            await self._next(connection)

    async def _next(self, connection: RedisConnection) -> None:
        """Waits until something may have arrived. Raises `RedisUnavailable` when the target is
        gone."""
        if connection.closed:
            await replies(connection, ("PING",))
        self.changed.clear()
        due = self.queue.due()
        seconds = _IDLE_S if due is None else max(0.0, (due - now_ns()) / NS_PER_SECOND)
        with contextlib.suppress(asyncio.TimeoutError):
            await within(seconds, self.changed.wait())
