"""How a mesh handles the events of an engine, with an engine in memory."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from crdtbucket.base.address import MOST_CHARACTERS
from crdtbucket.errors import MeshError
from crdtbucket.mesh.engines import engine_transport
from crdtbucket.mesh.engines.engine_channel import CARRIES, ENDS, OPENS, Envelope, open_envelope
from crdtbucket.mesh.engines.engine_exchange import EngineExchange
from crdtbucket.mesh.engines.engine_transport import EngineTransport
from crdtbucket.mesh.links import dialer
from crdtbucket.mesh.links.counters import MeshCounters
from crdtbucket.mesh.links.handshake import MeshEndpoint
from crdtbucket.mesh.links.hello import MAX_HELLO
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.transport import mesh_network
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from crdtbucket.testing.simulation_settings import SimulationSettings
from tests.mesh.engines.memory_engine import Broker, MemoryEngine, SimulatedBroker
from tests.mesh.network import RecordingNode, running
from tests.virtual_loop import virtually
from tests.waits import eventually

SECRET = "a secret of these tests"


def mesh(broker: Broker, node: RecordingNode, called: str = "") -> MeshNetwork:
    """A network over the broker. `called`: the name under which it writes there, if not its own."""

    def carrier(host: MeshEndpoint, config: MeshConfig, rng: random.Random) -> EngineTransport:
        return EngineTransport(host, config, MemoryEngine(broker, called or host.name))

    return MeshNetwork(node, MeshConfig(secret=SECRET), carrier=carrier)


async def pair(stack: AsyncExitStack, broker: Broker) -> tuple[RecordingNode, RecordingNode]:
    a, b, *_ = await exchanging(stack, broker)
    return a, b


async def exchanging(stack: AsyncExitStack, broker: Broker) -> tuple[Any, ...]:
    """Two linked nodes; and of the first its network, and the exchange that has its channel."""
    a, b = RecordingNode("a"), RecordingNode("b")
    networks = mesh(broker, a), mesh(broker, b)
    await stack.enter_async_context(running(*networks))
    await eventually(lambda: a.linked and b.linked)
    exchange = networks[0]._transport._exchange  # type: ignore[attr-defined]
    return a, b, networks[0], exchange


async def test_a_name_that_makes_its_address_longer_than_frames_take_is_refused() -> None:
    """The node once started, and no peer could read the frames of others about it."""
    broker, fits = Broker(), RecordingNode("n" * (MOST_CHARACTERS - len("memory:")))
    longer = RecordingNode(f"{fits.info.name[1:]}_")
    fits.info, longer.info = (replace(one.info, region="") for one in (fits, longer))
    network = mesh(broker, fits)
    async with running(network):
        assert len(network.handshake(dialer=True, lossy=True).hello) < MAX_HELLO
    with pytest.raises(MeshError, match="too long for memory"):
        await mesh(broker, longer).start()


async def test_links_outlive_the_engine_and_nothing_is_sent_late() -> None:
    broker = Broker()
    async with AsyncExitStack() as stack:
        a, b = await pair(stack, broker)
        broker.stop()
        for number in range(10):
            a.send("b", b"lost %d" % number)
        ticks = a.ticks
        await eventually(lambda: not a.outbox and a.ticks > ticks + 2)
        broker.start()
        a.send("b", b"new")
        await eventually(lambda: b.frames)
        assert b.frames == [("a", b"new")]
        assert a.ends == b.ends == []


async def test_links_outlive_a_cut_and_a_stall_of_the_simulated_network() -> None:
    broker = SimulatedBroker(SimulationSettings(latency=0.002))
    async with AsyncExitStack() as stack:
        a, b = await pair(stack, broker)
        broker.network.partition("a", "b")
        a.send("b", b"lost")
        ticks = a.ticks
        await eventually(lambda: not a.outbox and a.ticks > ticks + 2)
        assert b.frames == []
        broker.network.heal()
        broker.network.stall(0.5)
        for number in range(10):
            a.send("b", b"%d" % number)
        await eventually(lambda: len(b.frames) == 10)
        assert b.frames == [("a", b"%d" % number) for number in range(10)]
        assert a.ends == b.ends == []


@pytest.mark.parametrize("names", ["a", "ab"])
@virtually
async def test_a_node_that_meets_nobody_says_so_once(
    names: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Another subject prefix than that of the other nodes is no error, and shows nowhere else."""
    broker, config = Broker(), MeshConfig(secret=SECRET)
    exchanges = [
        EngineExchange(MemoryEngine(broker, name), config, MeshCounters(), name=name, instance=1)
        for name in names
    ]
    for exchange in exchanges:
        exchange.start()
    await asyncio.sleep(300.0)
    for exchange in exchanges:
        await exchange.stop()
    assert caplog.text.count("no other node has announced itself") == (len(names) == 1)


async def test_a_process_that_ends_without_a_word_is_noticed_at_the_next_question() -> None:
    broker = Broker()
    async with AsyncExitStack() as stack:
        a, _ = await pair(stack, broker)
        broker.nodes[1].connected = False  # its connection with the engine is gone, as it is
        await eventually(lambda: a.ends)
        assert a.ends == [("b", True)]
        await eventually(lambda: a.failed_dials)
        assert a.failed_dials[0] == ("b", "memory:b", True)


async def test_nobody_behind_another_server_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_network, "SILENT_S", 1.0)
    monkeypatch.setattr(mesh_network, "WATCH_S", 0.05)
    broker = Broker()
    async with AsyncExitStack() as stack:
        a, _ = await pair(stack, broker)
        broker.place = "server 2"  # where a is connected now, and b is not
        broker.nodes[1].connected = False
        await eventually(lambda: a.ends)
        assert a.ends == [("b", False)]  # it was silent, no more is known


async def test_nobody_after_a_silence_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_network, "SILENT_S", 3.0)
    monkeypatch.setattr(mesh_network, "WATCH_S", 0.05)
    broker = Broker()
    async with AsyncExitStack() as stack:
        a, b = await pair(stack, broker)
        network = mesh_network
        broker.drop |= {("a", "b"), ("b", "a")}  # as a cut does, of which the engine knows nothing
        link_silent = eventually(lambda: a.ticks > ticks + 60)
        ticks = a.ticks
        await link_silent  # three seconds of rounds are more than the time in which it was seen
        broker.nodes[1].connected = False  # now the engine has given the connection up
        await eventually(lambda: a.ends)
        assert a.ends == [("b", False)]
        assert network.SILENT_S == 3.0
        assert b.ends == [] or b.ends == [("a", False)]


async def test_a_name_that_is_not_the_one_of_the_subject_is_refused_at_both_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = Broker()
    a, liar = RecordingNode("a"), RecordingNode("b")
    networks = mesh(broker, a), mesh(broker, liar, called="c")
    async with running(*networks):
        await eventually(lambda: networks[0].counters.refused.get("name"))
        await eventually(lambda: networks[1].counters.refused.get("name"))
        assert not a.events
        assert not liar.events
    assert "'b' and writes where 'c' does" in caplog.text


async def test_what_another_sends_into_a_channel_ends_it_and_is_no_frame() -> None:
    broker = Broker()
    async with AsyncExitStack() as stack:
        a, _, network, exchange = await exchanging(stack, broker)
        (channel,) = exchange._channels.values()
        forged = Envelope(CARRIES, not channel.dialed, channel.number, bytes(8 + 16) + b"\0forged")
        exchange.arrived("b", forged.encode())
        await eventually(lambda: a.ends)
        assert network.counters.refused == {"seal": 1}
        assert a.frames == []
        await eventually(lambda: "b" in a.linked)


async def test_who_writes_under_another_name_reaches_no_channel() -> None:
    """A client of the engine can read the numbers of channels where it needs no rights."""
    broker = Broker()
    async with AsyncExitStack() as stack:
        a, b, network, exchange = await exchanging(stack, broker)
        (channel,) = exchange._channels.values()
        for kind in (CARRIES, ENDS):
            forged = Envelope(kind, not channel.dialed, channel.number, b"forged")
            exchange.arrived("c", forged.encode())
        b.send("a", b"frame")
        await eventually(lambda: a.frames)
        assert a.frames == [("b", b"frame")]
        assert a.ends == []
        assert not network.counters.refused


async def test_a_frame_that_comes_twice_ends_the_link() -> None:
    broker = Broker()
    async with AsyncExitStack() as stack:
        a, _, network, exchange = await exchanging(stack, broker)
        real, seen = exchange.arrived, []

        def twice(sender: str, data: bytes) -> None:
            real(sender, data)
            message = open_envelope(data)
            assert message is not None
            if message.kind == CARRIES and not seen:
                seen.append(data)
                real(sender, data)

        exchange.arrived = twice
        await eventually(lambda: a.ends)
        assert network.counters.refused == {"seal": 1}


async def test_calls_that_prove_nothing_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_transport, "HANDSHAKE_S", 0.5)
    broker = Broker()
    network = mesh(broker, RecordingNode("a"))
    async with running(network):
        exchange = network._transport._exchange  # type: ignore[attr-defined]
        for number in range(10):
            exchange.arrived("b", Envelope(OPENS, True, number, b"").encode())
        await eventually(lambda: sum(network.counters.refused.values()) == 10)
        assert network.counters.refused == {"too_many_unproven": 6, "malformed": 4}
        await eventually(lambda: exchange._channels == {})
        exchange.arrived("b", b"nothing of ours")
        exchange.arrived("b", Envelope(CARRIES, True, 99, b"x").encode())
        await eventually(lambda: exchange._channels == {})


async def test_of_two_nodes_one_dials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_transport, "SECOND_PAUSE_S", 60.0)
    monkeypatch.setattr(dialer, "FIRST_PAUSE_S", 60.0)
    broker = Broker()
    nodes = [RecordingNode(name) for name in "cab"]
    networks = [mesh(broker, node) for node in nodes]
    async with running(*networks):
        await eventually(lambda: all(len(node.linked) == 2 for node in nodes))
        assert [one.counters.connections for one in networks] == [2, 2, 2]
        dialed = {n.name: sum(link.dialed for link in n.links.all()) for n in networks}
        assert dialed == {"a": 2, "b": 1, "c": 0}
