"""Observers at an engine: two with one name receive each other's messages, and disturb nobody."""

from __future__ import annotations

import os

import pytest

from crdtbucket.base.deadline import within
from crdtbucket.mesh.engines.engine_caller import EngineCaller
from crdtbucket.mesh.engines.engine_transport import EngineTransport
from crdtbucket.mesh.links.channel import ChannelLost
from crdtbucket.mesh.links.handshake import handshake_as_observer
from crdtbucket.mesh.links.hello import NONCE_BYTES, Introduction, Role
from crdtbucket.mesh.links.keyring import Keyring
from crdtbucket.mesh.links.session import Handshake
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.engines.memory_engine import Broker, MemoryEngine
from tests.mesh.network import RecordingNode, running
from tests.strong.redis_server import BOUND

MESH = MeshConfig(secret="a secret of these tests")
ME = NodeInfo("ops", "", 1, "", 0)


def network(broker: Broker, node: RecordingNode) -> MeshNetwork:
    def carrier(host, config, rng):  # type: ignore[no-untyped-def]
        return EngineTransport(host, config, MemoryEngine(broker, host.name))

    return MeshNetwork(node, MESH, carrier=carrier)


async def entered(broker: Broker) -> EngineCaller:
    caller = EngineCaller(MemoryEngine(broker, ME.name), MESH, ME.name)
    assert await caller.enter(60.0) == ""
    return caller


def handshake() -> Handshake:
    return Handshake(
        Keyring(MESH),
        Introduction(ME, 1, Role.OBSERVER),
        nonce=os.urandom(NONCE_BYTES),
        dialer=True,
        lossy=True,
    )


async def test_two_observers_of_one_name_do_not_end_each_other_s_calls() -> None:
    broker = Broker()
    async with running(network(broker, RecordingNode("eu-1"))):
        callers = [await entered(broker) for _ in range(2)]
        channels = [await caller.connect("memory:eu-1") for caller in callers]
        for channel in channels:
            shake = handshake()
            assert (await within(BOUND, handshake_as_observer(channel, shake))).name == "eu-1"
        for channel in channels:
            await channel.close()
        for caller in callers:
            await caller.close()


async def test_a_node_that_is_not_there_is_reported_at_once() -> None:
    caller = await entered(Broker())
    channel = await caller.connect("memory:eu-1")
    with pytest.raises(ChannelLost, match="nobody of this name"):
        await handshake_as_observer(channel, handshake())
    with pytest.raises(ChannelLost, match="no node of memory"):
        await caller.connect("nats:eu-1")
    await caller.close()


async def test_an_engine_that_is_not_there_is_reported() -> None:
    broker = Broker()
    broker.runs = False
    caller = EngineCaller(MemoryEngine(broker, ME.name), MESH, ME.name)
    assert "no answer within 0.01 s" in await caller.enter(0.01)
    await caller.close()
