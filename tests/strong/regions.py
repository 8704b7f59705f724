"""Limiters in several regions, each with a real server, and the replicator between these."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from crdtbucket import BucketSpec, Limiter, RedisConfig
from crdtbucket.base.address import Address
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.redis.beats import Beat, read_beat
from crdtbucket.strong.redis.replicated import HeldEntry, read_entry
from crdtbucket.testing.copy_queue import ReplicationFaults
from crdtbucket.testing.replicated_member import ReplicatedMember
from tests.strong.redis_server import PATIENT, PROGRAMS, Server
from tests.strong.tried_replicator import TriedReplicator
from tests.waits import eventually

SPEC = BucketSpec("b", 200, 1, "1h")
KEY = "tenant-42"
QUICK = ReplicationFaults(lag=0.005)


@dataclass
class RegionWorld:
    """The servers by region, and the replicator."""

    servers: dict[str, Server]
    replicator: TriedReplicator

    @contextlib.asynccontextmanager
    async def opened(
        self,
        region: str,
        node: str = "",
        *,
        regions: Sequence[str] = (),
        at: str = "",
        modes: dict[str, float] = PATIENT,
        mesh: MeshConfig | None = None,
        redis: RedisConfig | None = None,
        **degradation: Any,
    ) -> AsyncIterator[Limiter]:
        """A node of a region; `at`: the region of its server, if another."""
        limiter = Limiter(
            [SPEC],
            node=node or f"{region}-1",
            region=region,
            redis=redis or self.config(region, regions, at),
            consistency="strong",
            mesh=mesh,
            degradation=Degradation(modes=ControllerSettings(**modes), **degradation),  # type: ignore[arg-type]
        )
        async with limiter:
            yield limiter

    def config(self, region: str, regions: Sequence[str] = (), at: str = "") -> RedisConfig:
        """The settings of a node of a region."""
        names = tuple(regions or self.servers)
        url = self.servers[at or region].url
        return RedisConfig(url=url, deadline=10.0, active_active=True, regions=names)

    def beat(self, member: str, region: str) -> Beat:
        """A region's newest beat, as a member holds it."""
        return read_beat(self.servers[member].call("GET", f"crdtbucket:{{0}}:beat@{region}"))

    def entry(self, member: str, region: str = "", bucket: str = "b") -> HeldEntry | None:
        """The entry of a region's key, for the one key in use, as a member holds it."""
        server = self.servers[member]
        names = server.call("KEYS", f"crdtbucket:{{{bucket}:*}}@{region or member}")
        assert len(names) <= 1, names
        if not names:
            return None
        flat = server.call("HGETALL", names[0])
        return read_entry(dict(zip(flat[::2], flat[1::2], strict=True)))

    def counts(self, member: str) -> dict[str, int]:
        """The tokens (taken less refunded, of all epochs) that a member has counted of each node,
        where not 0."""
        found: dict[str, int] = {}
        entry = self.entry(member)
        for owner, one in ({} if entry is None else entry.records).items():
            node = owner.partition(b":")[2].decode()
            found[node] = found.get(node, 0) + one.taken - one.refunded
        return {node: net for node, net in found.items() if net}

    async def settled(self, *limiters: Limiter) -> None:
        """Returns when nothing is unsettled in these."""
        await eventually(lambda: not any(one.stats()["strong"]["unsettled"] for one in limiters))


@contextlib.asynccontextmanager
async def region_world(
    *names: str, faults: ReplicationFaults = QUICK
) -> AsyncIterator[RegionWorld]:
    """A server for each region; the installed programs take turns."""
    with contextlib.ExitStack() as stack:
        servers = {
            region: stack.enter_context(Server(program=PROGRAMS[number % len(PROGRAMS)]))
            for number, region in enumerate(names)
        }
        members = [
            ReplicatedMember(region, Address(server.host, server.port))
            for region, server in servers.items()
        ]
        async with TriedReplicator(members, faults) as replicator:
            yield RegionWorld(servers, replicator)


def state(limiter: Limiter, region: str) -> str:
    """The state of another region that a node shows."""
    told: str = limiter.stats()["regions"][region]["state"]
    return told


async def take(limiter: Limiter, cost: int, key: str = KEY) -> bool:
    """Whether a call was allowed."""
    return (await limiter.bucket("b").acquire(key, cost)).allowed
