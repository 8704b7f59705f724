"""A Redis in each region of the demo, replicated to the others; a region can be cut off."""

from __future__ import annotations

import asyncio
from typing import Any

from crdtbucket.demo.modes import DEADLINE_S
from crdtbucket.demo.server_process import RedisProcess, taken_by_epoch
from crdtbucket.demo.traffic import REGIONS
from crdtbucket.errors import RedisUnavailable
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.redis_connection import good, sent
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.replicated import ReplicatedArguments, read_entry
from crdtbucket.strong.redis.script import ScriptCall, owner_name
from crdtbucket.testing.copy_queue import ReplicationFaults
from crdtbucket.testing.replicated_member import ANSWER_S, ReplicatedMember
from crdtbucket.testing.replicator import Replicator

_CAUGHT_UP_S = 2.0
_OBSERVER = owner_name(2**64 - 1, "demo")
"""Takes nothing, so it gets no record."""


class RegionStores:
    """Three Redis servers that are started for this run, and the replication between them."""

    def __init__(self, lag: float, spec: BucketSpec) -> None:
        """`lag`: seconds that a copy is under way. `spec`: of the bucket in which the calls are
        made. Raises `DemoError` where no Redis is installed."""
        self._arguments = {
            region: ReplicatedArguments(spec, spec.capacity, Regions(region, REGIONS))
            for region in REGIONS
        }
        self.servers = {region: RedisProcess() for region in REGIONS}
        members = [
            ReplicatedMember(region, server.address, server.access)
            for region, server in self.servers.items()
        ]
        self._replicator = Replicator(members, ReplicationFaults(lag=lag))

    async def start(self) -> None:
        """Raises `DemoError` when a server does not start."""
        for server in self.servers.values():
            await server.start()
        await self._replicator.start()

    def config(self, region: str) -> dict[str, Any]:
        """Arguments of the `RedisConfig` by which the nodes of a region reach its Redis."""
        server = self.servers[region]
        return {
            "host": server.address.host, "port": server.address.port,
            "password": server.access.password, "deadline": DEADLINE_S, "retention": 60.0,
            "active_active": True, "regions": list(REGIONS),
        }  # fmt: skip

    def cut(self, region: str) -> None:
        """No copy passes between this region's Redis and the others."""
        self._replicator.isolate(region)

    def heal(self) -> None:
        """Copies pass again, those of the cut first."""
        self._replicator.heal()

    async def records(self, key: str) -> list[dict[str, int]] | None:
        """Tokens taken less refunded of each process, by epoch, as each region's own key has them;
        None while copies are under way.

        A region looks at the others' copies in a call, so each gets one that takes nothing."""
        try:
            await self._replicator.caught_up(_CAUGHT_UP_S)
            return [await self._observed(region, key.encode()) for region in REGIONS]
        except (RedisUnavailable, TimeoutError, asyncio.TimeoutError):
            return None

    async def _observed(self, region: str, key: bytes) -> dict[str, int]:
        arguments = self._arguments[region]
        call = ScriptCall(key, 0, _OBSERVER, 1, 1, 0, 0, 0)
        async with self._replicator.members[region].asking() as connection:
            waiting = sent(connection, arguments.command(call, source=True))
            reply = await asyncio.wait_for(waiting, ANSWER_S)
            arguments.parse(good(reply))
        version = (await self._replicator.held(region, region)).get(arguments.regions.key(key))
        return taken_by_epoch(None if version is None else read_entry(version.fields))

    async def stop(self) -> None:
        """Ends the replication and the servers."""
        await self._replicator.stop()
        for server in self.servers.values():
            await server.kill()
