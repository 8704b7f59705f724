"""A mesh whose NATS server was lost agrees again two rounds after the server is back."""

from __future__ import annotations

from contextlib import AsyncExitStack
from itertools import combinations, permutations, starmap
from typing import Any

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.mesh.protocol.rounds import Frames
from crdtbucket.mesh.transport import mesh_network
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.mesh.engines.nats_server import NatsServer
from tests.mesh.network import running
from tests.waits import eventually

NS = 1_000_000_000
SPEC = BucketSpec("api", 1_000, 1, "1h")
INTERVAL_S = 0.02
LOST_ROUNDS, LOST_S = 10, 10.0
"""The length of the outage, on the clocks of the nodes: after it they send only once a second what
is not acknowledged, and still keep it."""


class TickedNode(MeshNode):
    """Knows when its last round was."""

    ticked_at = 0

    def tick(self, now: int) -> Frames:
        self.ticked_at = now
        return super().tick(now)


class Member:
    """One whole node, whose clock stands still between rounds."""

    def __init__(self, name: str, epoch: int, server: NatsServer) -> None:
        config = MeshConfig(
            transport="nats",
            servers=[server.url],
            secret="a secret of these tests",
            gossip_interval=INTERVAL_S,
        )
        self.now = NS
        self.table = Table(max_keys=100, hash_key=bytes(16), epoch=epoch, virtual=True)
        self.table.set_time(self.now)
        self.bucket = BucketCore(self.table, SPEC)
        self.node = TickedNode(self.table, config, name=name)
        self.network = MeshNetwork(self.node, config, lambda: self.now)

    def link(self, other: Member) -> Any:
        """The link to the other one, if there is one."""
        return self.network.links.get(other.node.info.name)

    @property
    def connected(self) -> bool:
        """Whether the engine is there."""
        counters = self.network.counters
        return counters.engine_connections > counters.engine_losses


def linked(one: Member, other: Member) -> bool:
    """Whether both have the same channel for their link: where both dial, one of two ends."""
    here, there = one.link(other), other.link(one)
    return None not in (here, there) and here._channel.number == there._channel.number


def came(one: Member, other: Member) -> bool:
    """Whether the other one has read all that this one has sent on their link."""
    here, there = one.link(other), other.link(one)
    return linked(one, other) and here._session._sealed == there._session._opened


async def one_round(members: list[Member], after: float = INTERVAL_S, *, cut: bool = False) -> None:
    """One round of each, so many seconds after the last one, and all that it leads to; `cut`:
    nothing comes."""
    for one in members:
        one.now += round(after * NS)
        one.table.set_time(one.now)

    def over() -> bool:
        begun = all(one.node.ticked_at == one.now for one in members)
        sent = not any(link._queue for one in members for link in one.network.links.all())
        return begun and sent and (cut or all(starmap(came, permutations(members, 2))))

    await eventually(over)


def levels(members: list[Member]) -> list[int]:
    return [one.bucket.peek("key").remaining for one in members]


@pytest.mark.parametrize("links_end", [False, True])
async def test_levels_are_equal_two_rounds_after_the_server_is_back(
    links_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with NatsServer() as server:
        members = [Member(name, epoch, server) for epoch, name in enumerate("abc", 1)]
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(running(*(one.network for one in members)))
            await eventually(lambda: all(starmap(linked, combinations(members, 2))))
            while not all(one.node.memory.complete for one in members):
                await one_round(members)
            assert members[0].bucket.take("key", 100).allowed
            for _ in range(3):
                await one_round(members)
            assert levels(members) == [900, 900, 900]
            server.kill()
            await eventually(lambda: not any(one.connected for one in members))
            if links_end:
                monkeypatch.setattr(mesh_network, "SILENT_S", 0.0)
                await eventually(lambda: not any(len(one.network.links) for one in members))
                monkeypatch.undo()
            for one, cost in zip(members, (100, 50, 25), strict=True):
                one.bucket.take("key", cost)
            for _ in range(LOST_ROUNDS):
                await one_round(members, after=LOST_S / LOST_ROUNDS, cut=True)
            assert levels(members) == [800, 850, 875]
            server.start()
            await eventually(lambda: all(one.connected for one in members))
            await eventually(lambda: all(starmap(linked, combinations(members, 2))))
            for _ in range(2):
                await one_round(members)
            assert levels(members) == [725, 725, 725]
