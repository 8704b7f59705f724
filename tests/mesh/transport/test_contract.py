"""What every transport does, whatever carries its frames: one suite for all."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import AsyncExitStack

import msgpack
import pytest

from crdtbucket.mesh.engines.engine_transport import EngineTransport
from crdtbucket.mesh.engines.nats_engine import MAX_UNSENT
from crdtbucket.mesh.links.ejections import Ejections, EjectOrder
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.peer_identity import Proof
from crdtbucket.mesh.links.peer_keys import PeerKeys
from crdtbucket.mesh.links.session import Kind
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol.wire import MAX_FRAME
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from crdtbucket.testing.simulation_settings import SimulationSettings
from tests.mesh.engines.memory_engine import Broker, MemoryEngine, SimulatedBroker
from tests.mesh.engines.nats_server import NatsServer
from tests.mesh.keys import KeptFile
from tests.mesh.network import RecordingNode, running
from tests.strong.redis_server import Server
from tests.waits import eventually

SECRET = "a secret of these tests"
NUMBERS = itertools.count()
IN_MEMORY = ("memory", "simulated")
"""An engine in memory whose messages arrive at once, and one over the network of the simulator."""
NETWORK = SimulationSettings(latency=0.002)


class Net:
    """One carrier, and the nodes that a test starts on it."""

    def __init__(self, kind: str, servers: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.broker = SimulatedBroker(NETWORK) if kind == "simulated" else Broker()
        self._servers = servers
        self._mesh = f"test-{next(NUMBERS)}"
        self._addresses: list[str] = []

    def config(self, **settings: object) -> MeshConfig:
        """The settings of a node that finds those which were started."""
        settings.setdefault("secret", SECRET)
        if self.kind == "sockets":
            settings |= {"listen": "127.0.0.1:0", "peers": self._addresses}
        elif self.kind not in IN_MEMORY:
            settings |= {"transport": self.kind, "servers": self._servers}
            settings |= {"mesh_name": self._mesh}
        return MeshConfig(**settings)  # type: ignore[arg-type]

    def make(
        self,
        node: RecordingNode,
        *,
        keys: PeerKeys | None = None,
        **settings: object,
    ) -> MeshNetwork:
        """A network of this node that is not started; it finds the nodes that were."""
        config = self.config(**settings)
        carrier = None
        if self.kind in IN_MEMORY:

            def carrier(host, config, rng):  # type: ignore[no-untyped-def]
                return EngineTransport(host, config, MemoryEngine(self.broker, host.name))

        return MeshNetwork(node, config, carrier=carrier, peer_keys=keys)

    async def start(
        self, stack: AsyncExitStack, *nodes: RecordingNode, **settings: object
    ) -> list[MeshNetwork]:
        """Networks of these nodes, started one after the other."""
        out = []
        for node in nodes:
            mesh = self.make(node, **settings)  # type: ignore[arg-type]
            await stack.enter_async_context(running(mesh))
            self._addresses.append(mesh.address)
            out.append(mesh)
        return out


@pytest.fixture(scope="module")
def nats_server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(params=["sockets", *IN_MEMORY, "nats", "redis"])
def net(request: pytest.FixtureRequest) -> Net:
    kind: str = request.param
    if kind in ("nats", "redis"):
        server = request.getfixturevalue(f"{kind}_server")
        return Net(kind, (f"{kind}://127.0.0.1:{server.port}",))
    return Net(kind)


async def linked(*nodes: RecordingNode) -> None:
    """Waits until all of these are linked with one another."""
    names = {node.info.name for node in nodes}
    await eventually(lambda: all(node.linked.keys() >= names - {node.info.name} for node in nodes))


async def test_frames_of_any_size_come_both_ways_in_order_and_once(net: Net) -> None:
    a, b = RecordingNode("eu-1"), RecordingNode("ü s.1 >*")
    sent = [b"%d" % number for number in range(100)] + [b"x" * MAX_FRAME]
    async with AsyncExitStack() as stack:
        await net.start(stack, a, b)
        await linked(a, b)
        for frame in sent:
            a.send(b.info.name, frame)
        b.send("eu-1", b"back")
        await eventually(lambda: len(b.frames) == len(sent) and a.frames)
        assert b.frames == [("eu-1", frame) for frame in sent]
        assert a.frames == [(b.info.name, b"back")]


async def test_a_link_says_who_is_there_and_how_that_is_known(net: Net) -> None:
    a, b = RecordingNode("a"), RecordingNode("b", epoch=7)
    async with AsyncExitStack() as stack:
        mesh_a, mesh_b = await net.start(stack, a, b)
        await linked(a, b)
        link = mesh_a.links.get("b")
        assert link is not None
        assert link.identity.info.epoch == 7
        assert link.identity.instance == mesh_b.instance
        assert link.identity.proof is Proof.SECRET
        assert a.linked["b"].region == "region of b"
        assert a.linked["b"].address == mesh_b.address


async def test_three_nodes_meet(net: Net) -> None:
    nodes = [RecordingNode(name) for name in "abc"]
    async with AsyncExitStack() as stack:
        meshes = await net.start(stack, *nodes)
        await linked(*nodes)
        assert [len(mesh.links) for mesh in meshes] == [2, 2, 2]
        nodes[0].send("c", b"to c alone")
        await eventually(lambda: nodes[2].frames == [("a", b"to c alone")])
        assert nodes[1].frames == []


async def test_the_last_frames_of_a_node_that_leaves_arrive(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("links.link", "engines.nats_engine"):  # a busy machine may need more than 1 s
        monkeypatch.setattr(f"crdtbucket.mesh.{module}.CLOSE_S", 60.0)
    a, b = RecordingNode("a"), RecordingNode("b")
    # Less than what is kept for a server that takes nothing for a moment.
    size = MAX_UNSENT // 25
    b.last_words = [("a", bytes([number]) * size) for number in range(20)]
    async with AsyncExitStack() as stack:
        _, mesh_b = await net.start(stack, a, b)
        await linked(a, b)
        await mesh_b.stop()
        await eventually(lambda: not a.linked)
        assert a.frames == [("b", bytes([number]) * size) for number in range(20)]
        assert a.ends == [("b", True)]


async def test_a_process_that_another_one_follows_says_no_goodbye(net: Net) -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    b.last_words = [("a", b"goodbye")]
    async with AsyncExitStack() as stack:
        mesh_a, mesh_b = await net.start(stack, a, b)
        await linked(a, b)
        link = mesh_a.links.get("b")
        await mesh_b.stop(handed_over=True)
        await eventually(lambda: not a.linked)
        assert a.frames == []
        assert link is not None
        assert link.ended_because == "the peer says handover"


async def test_a_link_that_one_end_breaks_ends_at_the_other_and_is_made_again(net: Net) -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    async with AsyncExitStack() as stack:
        _, mesh_b = await net.start(stack, a, b)
        await linked(a, b)
        broken = mesh_b.links.get("a")
        assert broken is not None
        broken.abort("broken on purpose")
        await eventually(lambda: a.ends and b.ends)
        assert a.ends[0] == ("b", True)
        assert b.ends[0] == ("a", False)
        await linked(a, b)
        b.frames.clear()
        a.send("b", b"again")
        await eventually(lambda: b.frames == [("a", b"again")])


async def test_another_process_of_a_node_is_linked_when_the_first_has_ended(net: Net) -> None:
    a, first, second = RecordingNode("a"), RecordingNode("b"), RecordingNode("b", epoch=2)
    async with AsyncExitStack() as stack:
        _, mesh_b = await net.start(stack, a, first)
        await linked(a, first)
        await mesh_b.stop()
        await net.start(stack, second)
        await eventually(lambda: "b" in a.linked and a.linked["b"].epoch == 2)


async def test_a_wrong_secret_is_refused_at_both_ends(net: Net) -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    async with AsyncExitStack() as stack:
        (mesh_a,) = await net.start(stack, a)
        (mesh_b,) = await net.start(stack, b, secret="another secret, and long")
        await eventually(lambda: mesh_a.counters.refused.get("secret"))
        await eventually(lambda: mesh_b.counters.refused.get("secret"))
        assert not a.events
        assert not b.events


async def test_links_are_made_up_to_max_peers(net: Net) -> None:
    hub, leaves = RecordingNode("hub"), [RecordingNode(name) for name in "ab"]
    async with AsyncExitStack() as stack:
        (mesh,) = await net.start(stack, hub, max_peers=1)
        await net.start(stack, *leaves)
        await eventually(lambda: hub.linked and mesh.counters.refused.get("busy"))
        assert len(hub.linked) == 1


async def test_two_processes_with_one_name_are_both_reported(net: Net) -> None:
    one, two = RecordingNode("same", epoch=1), RecordingNode("same", epoch=2)
    async with AsyncExitStack() as stack:
        await net.start(stack, one, two)
        await eventually(lambda: one.conflicts and two.conflicts)
        assert not one.linked
        assert not two.linked


async def test_a_stranger_with_the_secret_gets_no_link_under_a_pinned_name(net: Net) -> None:
    a, owner = RecordingNode("a"), RecordingNode("b")
    key, kept = NodeKey.make(), KeptFile()
    keys_a = PeerKeys("a", "pinned", NodeKey.make(), pins=kept)
    async with AsyncExitStack() as stack:
        await net.start(stack, a, keys=keys_a)
        keys_b = PeerKeys("b", "pinned", key, pins=KeptFile())
        (mesh_b,) = await net.start(stack, owner, keys=keys_b)
        await linked(a, owner)
        link = mesh_b.links.get("a")
        assert link is not None
        assert link.identity.proof is Proof.KEY
        assert link.identity.key == keys_a.own.public  # type: ignore[union-attr]
        assert key.fingerprint.encode() in (kept.data or b"")
        strangers = RecordingNode("b", epoch=66), RecordingNode("b", epoch=67)
        for stranger, theirs in zip(strangers, (NodeKey.make(), None), strict=True):
            keys = PeerKeys("b") if theirs is None else PeerKeys("b", "pinned", theirs)
            met = mesh_b.counters.refused.get("key", 0)
            async with AsyncExitStack() as visit:
                (mesh,) = await net.start(visit, stranger, keys=keys)
                await eventually(lambda mesh=mesh: mesh.counters.refused.get("key"))
                # It has met the owner, too.
                await eventually(lambda met=met: mesh_b.counters.refused.get("key", 0) > met)
            assert not stranger.events
            assert not stranger.conflicts
        assert not owner.conflicts  # who has the key of a name is stopped by nobody who lacks it
        await linked(a, owner)
        assert a.linked["b"].epoch == 1
        if net.kind == "sockets":  # on an engine without rights who reads as b can end its channels
            assert mesh_b.links.get("a") is link


async def test_a_name_is_used_twice_where_two_processes_have_one_key(net: Net) -> None:
    one, two = RecordingNode("same", epoch=1), RecordingNode("same", epoch=2)
    key = NodeKey.make()
    async with AsyncExitStack() as stack:
        for node in (one, two):
            keys = PeerKeys("same", "pinned", key, pins=KeptFile())
            await net.start(stack, node, keys=keys)
        await eventually(lambda: one.conflicts and two.conflicts)


async def test_a_list_of_keys_may_have_two_for_a_name_while_one_is_replaced(net: Net) -> None:
    old, new, a = NodeKey.make(), NodeKey.make(), NodeKey.make()
    listed = {"a": (a.fingerprint,), "b": (new.fingerprint, old.fingerprint)}
    hub = RecordingNode("a")
    async with AsyncExitStack() as stack:
        (mesh_a,) = await net.start(stack, hub, keys=PeerKeys("a", "allowed", a, allowed=listed))
        for epoch, key in enumerate((old, new)):
            async with AsyncExitStack() as life:
                b = RecordingNode("b", epoch=epoch + 1)
                await net.start(life, b, keys=PeerKeys("b", "allowed", key, allowed=listed))
                await linked(hub, b)
            await eventually(lambda: not hub.linked)
        assert not mesh_a.counters.refused
        other = RecordingNode("c")
        (mesh_c,) = await net.start(stack, other, keys=PeerKeys("c", "pinned", NodeKey.make()))
        await eventually(lambda: mesh_c.counters.refused.get("key"))
        assert not hub.linked


async def test_a_node_without_a_key_is_linked_until_its_name_has_one(net: Net) -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    keys = PeerKeys("a", "pinned", NodeKey.make(), pins=KeptFile())
    async with AsyncExitStack() as stack:
        (mesh_a,) = await net.start(stack, a, keys=keys)
        await net.start(stack, b)
        await linked(a, b)
        link = mesh_a.links.get("b")
        assert link is not None
        assert (link.identity.proof, link.identity.key) == (Proof.SECRET, None)


async def test_who_is_ejected_at_one_node_is_refused_by_all_until_it_is_admitted(net: Net) -> None:
    operator = NodeKey.make()
    nodes = [RecordingNode(name) for name in "abc"]
    a, b, c = nodes
    kept = [KeptFile() for _ in nodes]

    def keys(name: str, file: KeptFile) -> PeerKeys:
        return PeerKeys(name, ejections=Ejections([operator.fingerprint], "mesh", file))

    async with AsyncExitStack() as stack:
        mesh_a, _, mesh_c = [
            (await net.start(stack, node, keys=keys(node.info.name, file)))[0]
            for node, file in zip(nodes, kept, strict=True)
        ]
        await linked(*nodes)
        order = EjectOrder.sign(operator, "mesh", "c", 1, ejected=True)
        assert mesh_a.orders.order(order)
        await eventually(lambda: not c.linked and kept[1].data)
        await eventually(lambda: a.linked.keys() == {"b"} and b.linked.keys() == {"a"})
        await eventually(lambda: mesh_c.counters.refused.get("ejected"))  # it goes on dialling
        assert not c.linked
        readmitted = EjectOrder.sign(operator, "mesh", "c", 2, ejected=False)
        assert await asyncio.to_thread(mesh_a.orders.order, readmitted)
        await linked(*nodes)
        await eventually(lambda: len({file.data for file in kept}) == 1)  # c has it, too


async def test_a_node_that_lost_its_key_gets_its_name_back_by_order(net: Net) -> None:
    operator, old, new = (NodeKey.make() for _ in range(3))
    keys = {name: NodeKey.make() for name in "ac"}
    kept = {name: (KeptFile(), KeptFile()) for name in "ac"}

    def known(name: str) -> PeerKeys:
        """What a node that has started again knows."""
        pins, orders = kept[name]
        ejections = Ejections([operator.fingerprint], "mesh", orders)
        return PeerKeys(name, "pinned", keys[name], pins=pins, ejections=ejections)

    async def lives(key: NodeKey, *nodes: RecordingNode) -> None:
        """A life of b is linked with these."""
        async with AsyncExitStack() as life:
            b = RecordingNode("b", epoch=next(NUMBERS))
            await net.start(life, b, keys=PeerKeys("b", "pinned", key, pins=KeptFile()))
            await linked(b, *nodes)

    async with AsyncExitStack() as stack:
        a, c = nodes = [RecordingNode(name) for name in "ac"]
        meshes = [(await net.start(stack, node, keys=known(node.info.name)))[0] for node in nodes]
        await linked(*nodes)
        await lives(old, *nodes)
        await eventually(lambda: not {"b"} & (a.linked.keys() | c.linked.keys()))
        async with AsyncExitStack() as life:
            b = RecordingNode("b", epoch=next(NUMBERS))
            await net.start(life, b, keys=PeerKeys("b", "pinned", new, pins=KeptFile()))
            await eventually(lambda: all(one.counters.refused.get("key") for one in meshes))
            assert not b.linked
            order = EjectOrder.rebind(operator, "mesh", "b", 1, to=new.fingerprint)
            assert meshes[0].orders.order(order)
            await linked(b, *nodes)
        await eventually(lambda: not {"b"} & (a.linked.keys() | c.linked.keys()))
    async with AsyncExitStack() as stack:
        a, c = nodes = [RecordingNode(name, epoch=2) for name in "ac"]
        meshes = [(await net.start(stack, node, keys=known(node.info.name)))[0] for node in nodes]
        await lives(new, *nodes)
        async with AsyncExitStack() as life:  # the process with the old key has lost the name
            b = RecordingNode("b", epoch=next(NUMBERS))
            await net.start(life, b, keys=PeerKeys("b", "pinned", old, pins=KeptFile()))
            await eventually(lambda: all(one.counters.refused.get("key") for one in meshes))
            assert not b.linked
            again = EjectOrder.rebind(operator, "mesh", "b", 2, to=old.fingerprint)
            assert meshes[1].orders.order(again)
            await linked(b, *nodes)
            link = meshes[0].links.get("b")
            back = EjectOrder.rebind(operator, "mesh", "b", 3, to=new.fingerprint)
            assert meshes[1].orders.order(back)  # a link with the other key ends
            await eventually(lambda: not b.linked and link is not None and link.ended_because)


async def test_secrets_and_keys_change_while_links_carry_frames(net: Net) -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    key, first, later = (NodeKey.make() for _ in range(3))
    both = {"a": key.fingerprint, "b": [later.fingerprint, first.fingerprint]}
    old, new = SECRET, "the secret that comes after it"
    settings: dict[str, object] = {"identity": "allowed", "hash_secret": "for life"}
    pems = {one: one.pem().decode() for one in (key, first, later)}
    async with AsyncExitStack() as stack:
        nodes = {}
        for node, own in ((a, key), (b, first)):
            keys = PeerKeys(
                node.info.name, "allowed", own,
                allowed={"a": (key.fingerprint,), "b": (later.fingerprint, first.fingerprint)},
            )  # fmt: skip
            more = {**settings, "identity_key": pems[own], "allowed_keys": both}
            (nodes[node.info.name],) = await net.start(stack, node, keys=keys, **more)  # type: ignore[arg-type]
        mesh_a, mesh_b = nodes["a"], nodes["b"]
        now = {"a": net.config(**more), "b": net.config(**more)}  # type: ignore[possibly-undefined]
        steps = [
            ("a", {"identity_key": pems[key], "secret": [new, old]}),
            ("b", {"secret": [new, old]}),
            ("a", {"secret": new}),
            ("b", {"secret": new}),
            ("b", {"identity_key": pems[later]}),
            ("a", {"allowed_keys": {"a": key.fingerprint, "b": later.fingerprint}}),
        ]
        for number, (name, change) in enumerate(steps):
            await linked(a, b)
            before = mesh_a.links.get("b"), mesh_b.links.get("a")
            now[name] = dataclasses.replace(now[name], **change)  # type: ignore[arg-type]
            await asyncio.to_thread(nodes[name].renew, now[name])
            if number in (2, 5):  # the link was made with what holds no more
                await eventually(lambda: mesh_a.links.get("b") not in (None, before[0]))  # noqa: B023
            await linked(a, b)
            a.send("b", b"%d" % number)
            await eventually(lambda: b.frames[-1:] == [("a", b"%d" % number)])  # noqa: B023
            if number not in (2, 5):
                assert (mesh_a.links.get("b"), mesh_b.links.get("a")) == before
        link = mesh_a.links.get("b")
        assert link is not None
        assert link.identity.key == later.public
        refused = mesh_a.counters.refused.keys() | mesh_b.counters.refused.keys()
        assert not refused & {"secret", "hash_key", "key", "seal", "frame", "renewed"}
        late = RecordingNode("late")
        (mesh,) = await net.start(stack, late, hash_secret="for life")
        await eventually(lambda: mesh.counters.refused.get("secret"))
        assert not late.linked


async def test_a_forged_order_is_a_bad_frame(net: Net) -> None:
    operator = NodeKey.make()
    a, b = RecordingNode("a"), RecordingNode("b")
    ejections = Ejections([operator.fingerprint], "mesh")
    async with AsyncExitStack() as stack:
        (mesh_a,) = await net.start(stack, a, keys=PeerKeys("a", ejections=ejections))
        (mesh_b,) = await net.start(stack, b)
        await linked(a, b)
        link = mesh_b.links.get("a")
        assert link is not None
        forged = EjectOrder.sign(NodeKey.make(), "mesh", "a", 1, ejected=True)
        row = (*forged.row()[:3], operator.public, forged.signature)
        link.offer(msgpack.packb([row]), Kind.ORDERS)
        await eventually(lambda: mesh_a.counters.refused.get("frame"))
        assert not ejections.ejected


async def test_a_frame_that_is_no_frame_is_counted_and_a_few_end_the_link(net: Net) -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    async with AsyncExitStack() as stack:
        mesh_a, _ = await net.start(stack, a, b)
        await linked(a, b)
        for _ in range(3):
            b.send("a", b"bad")
        await eventually(lambda: a.ends)
        assert mesh_a.counters.refused == {"frame": 3}


async def test_stopping_ends_all_that_runs(net: Net) -> None:
    before = asyncio.all_tasks()
    async with AsyncExitStack() as stack:
        nodes = [RecordingNode(name) for name in "abc"]
        await net.start(stack, *nodes)
        await eventually(lambda: any(node.linked for node in nodes))
    await eventually(lambda: asyncio.all_tasks() == before)
