"""A mesh whose NATS server was lost agrees again two rounds after it is back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.mesh.protocol.protocol_node import Frames
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
"""Of the outage, on the clocks of the nodes: after so long they send only once a second what is not
acknowledged, and still keep it."""


class CountingNode(MeshNode):
    """Counts the frames that it sends and receives."""

    sent = received = ticked_at = 0

    def tick(self, now: int) -> Frames:
        out = super().tick(now)
        self.sent += len(out)
        self.ticked_at = now
        return out

    def parts(self, name: str, data: bytes, now: int) -> Iterator[tuple[Frames, bool]]:
        self.received += 1
        for out, more in super().parts(name, data, now):
            self.sent += len(out)
            yield out, more


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
        self.node = CountingNode(self.table, config, name=name)
        self.network = MeshNetwork(self.node, config, lambda: self.now)

    @property
    def connected(self) -> bool:
        """Whether the engine is there."""
        counters = self.network.counters
        return counters.engine_connections > counters.engine_losses


def under_way(members: list[Member]) -> int:
    """Frames that were sent, and have not come or been dropped."""
    done = (one.node.received + one.network.counters.frames_dropped for one in members)
    return sum(one.node.sent for one in members) - sum(done)


async def one_round(members: list[Member], rest: int = 0, after: float = INTERVAL_S) -> None:
    """One round of each, so many seconds after the last one, and all that it leads to: then so few
    frames are under way."""
    for one in members:
        one.now += round(after * NS)
        one.table.set_time(one.now)

    def over() -> bool:
        begun = all(one.node.ticked_at == one.now for one in members)
        return begun and under_way(members) <= rest

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
            await eventually(lambda: all(len(one.network.links) == 2 for one in members))
            while not all(one.node.memory for one in members):
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
                await one_round(members, after=LOST_S / LOST_ROUNDS)
            assert levels(members) == [800, 850, 875]
            rest = under_way(members)  # below 0: what links said of their own end was dropped, too
            server.start()
            await eventually(lambda: all(one.connected for one in members))
            await eventually(lambda: all(len(one.network.links) == 2 for one in members))
            for _ in range(2):
                await one_round(members, rest)
            assert levels(members) == [725, 725, 725]
