"""Who uses the same Redis: how many nodes share a limit where no mesh tells."""

from __future__ import annotations

import asyncio
import re

from crdtbucket._core import Table
from crdtbucket.clock import NS_PER_SECOND
from crdtbucket.errors import CrdtbucketError, RedisReplyError
from crdtbucket.mesh.deadline import within
from crdtbucket.policy import BucketSpec
from crdtbucket.strong import script, topology
from crdtbucket.strong.connection import Connection, ask
from crdtbucket.strong.greeting import LOG

BEAT_NS = 5 * NS_PER_SECOND
PATIENCE_S = 0.5
"""Longer than that nobody waits for a server that does not answer."""
GONE_S = 60
"""A node that was not seen for so long is not counted."""
FORGOTTEN_S = 3_600
"""Nor one that was seen so long ago, or is so far in the future, that Redis' clock has changed."""
_SECOND = re.compile(rb"\d{1,12}")
PROBE = script.Arguments(BucketSpec("probe", 1_000, 1_000), 0, 60_000)


class Registry:
    """One hash in Redis: node name -> Redis second at which it was last seen."""

    beat_s = BEAT_NS / NS_PER_SECOND

    def __init__(self, prefix: str, node: str, table: Table) -> None:
        self.name = f"{prefix}nodes".encode()
        self.nodes = 1
        """Nodes seen in the last minute, this one included; it stays while Redis is gone."""
        self._prefix = prefix.encode()
        self._node = node.encode()
        self._table = table
        self._due = 0

    def due(self) -> bool:
        """Whether this node is to show itself again."""
        return self._table.now() >= self._due

    async def beat(self, connection: Connection) -> bool:
        """Shows this node and counts the others; whether that went well. What fails is logged, and
        due again like any."""
        self._due = self._table.now() + BEAT_NS
        try:
            self.nodes = await within(PATIENCE_S, self._count(connection))
        except asyncio.TimeoutError:
            LOG.info("Redis %s: nodes were not counted: no answer", connection.address)
        except CrdtbucketError as error:
            LOG.info("Redis %s: nodes were not counted: %s", connection.address, error)
        else:
            return True
        return False

    async def _count(self, connection: Connection) -> int:
        now = _second(await _list(connection, "TIME"))
        await ask(connection, "HSET", self.name, self._node, str(now))
        await ask(connection, "PEXPIRE", self.name, FORGOTTEN_S * 1000)
        seen = await _list(connection, "HGETALL", self.name)
        if len(seen) % 2:
            raise RedisReplyError("HGETALL was answered with a field that has no value")
        pairs = zip(seen[::2], seen[1::2], strict=True)
        ages = {node: now - int(at) for node, at in pairs if _SECOND.fullmatch(at)}
        gone = [node for node, age in ages.items() if abs(age) > FORGOTTEN_S]
        if gone:
            await ask(connection, "HDEL", self.name, *gone)
        return max(1, sum(-FORGOTTEN_S <= age <= GONE_S for age in ages.values()))

    def probe(self, ranges: tuple[tuple[int, int], ...]) -> tuple[script.Arguments, script.Call]:
        """A call on a key of this node's own in these slots, to see whether a server decides."""
        name = next(
            name
            for name in (b"%s{probe:%s:%d}" % (self._prefix, self._node, i) for i in range(10**7))
            if any(first <= topology.slot(name) <= last for first, last in ranges)
        )
        owner = script.owner_name(self._table.epoch, self._node.decode())
        return PROBE, script.Call(name, 1, owner, 0, 1, 0, 0, 0, None)


def _second(time: list[bytes]) -> int:
    if not time or not _SECOND.fullmatch(time[0]):
        raise RedisReplyError("TIME was answered with no time")
    return int(time[0])


async def _list(connection: Connection, command: str, *words: bytes) -> list[bytes]:
    reply = await ask(connection, command, *words)
    if not isinstance(reply, list) or not all(isinstance(one, bytes) for one in reply):
        raise RedisReplyError(f"{command} was answered with no list of texts")
    return reply


__all__ = ["Registry"]
