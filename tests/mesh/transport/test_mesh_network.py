"""The mesh over real sockets on loopback."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from functools import partial

import aiohttp
import pytest

from crdtbucket.errors import MeshError, WireError
from crdtbucket.limiter.background import Background
from crdtbucket.mesh.links import dialer, link
from crdtbucket.mesh.links.session import (
    HandshakeError,
    Kind,
    Reason,
)
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.wire import MAX_FRAME
from crdtbucket.mesh.transport import driver
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.network import RecordingNode, config, pair, running
from tests.strong.redis_server import free_port
from tests.waits import eventually


async def test_between_two_parts_of_a_frame_all_others_have_their_turn() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    order: list[bytes] = []

    def answer(name: str, part: bytes) -> list[tuple[str, bytes]]:
        if part != b"round":
            order.append(part)
            asyncio.get_running_loop().call_soon(order.append, b"another")
        return []

    b.answer = answer
    async with pair(a, b):
        a.send("b", b"1|2|3")
        await eventually(lambda: len(order) == 6)
    assert order == [b"1", b"another", b"2", b"another", b"3", b"another"]


async def test_a_frame_is_given_up_between_two_parts_when_its_link_is_no_more() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    seen: list[bytes] = []
    async with pair(a, b) as (_, mesh_b):

        def answer(name: str, part: bytes) -> list[tuple[str, bytes]]:
            seen.append(part)
            if part == b"1":
                link = mesh_b.links.get("a")
                assert link is not None
                mesh_b.links.remove(link)
            return []

        b.answer = answer
        a.send("b", b"1|2")
        await eventually(lambda: b"1" in seen)
        for _ in range(5):
            await asyncio.sleep(0)
    assert b"2" not in seen


async def test_two_nodes_exchange_frames_both_ways() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    async with pair(a, b) as (mesh_a, mesh_b):
        assert a.linked["b"].region == "region of b"
        assert b.linked["a"].address == mesh_a.address
        a.send("b", b"to b")
        b.send("a", b"x" * MAX_FRAME)
        await eventually(lambda: a.frames and b.frames)
        assert b.frames == [("a", b"to b")]
        assert a.frames == [("b", b"x" * MAX_FRAME)]
        assert mesh_a.counters.frames_in >= 1
        assert mesh_b.counters.bytes_out > MAX_FRAME
        assert mesh_a.counters.refused == {}


async def test_an_answer_goes_out_at_once() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    a.answer = lambda name, frame: [(name, b"echo " + frame)] if frame != b"round" else []
    async with pair(a, b):
        b.send("a", b"hi")
        await eventually(lambda: b.frames == [("a", b"echo hi")])


async def test_three_nodes_meet_by_gossiped_addresses() -> None:
    nodes = [RecordingNode(name) for name in "abc"]
    first = MeshNetwork(nodes[0], config())
    async with running(first):
        others = [MeshNetwork(node, config(first.address)) for node in nodes[1:]]
        async with running(*others):
            nodes[1].addresses = [others[1].address]
            await eventually(lambda: all(len(node.linked) == 2 for node in nodes))
            nodes[1].send("c", b"direct")
            await eventually(lambda: nodes[2].frames == [("b", b"direct")])


async def test_both_call_and_exactly_one_link_stays() -> None:
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    nodes = [RecordingNode(name, interval_ns=10_000_000) for name in "ab"]
    meshes = [
        MeshNetwork(node, MeshConfig(listen=mine, peers=[other], secret="s" * 16))
        for node, mine, other in zip(nodes, addresses, reversed(addresses), strict=True)
    ]
    async with running(*meshes):
        await eventually(lambda: nodes[0].linked and nodes[1].linked)
        await eventually(lambda: all(mesh.counters.frames_in > 20 for mesh in meshes))
        made = [mesh.counters.connections for mesh in meshes]
        assert max(made) <= 2  # at most the loser of the race was replaced
        seen = [mesh.counters.frames_in for mesh in meshes]
        await eventually(
            lambda: all(m.counters.frames_in > s + 50 for m, s in zip(meshes, seen, strict=True))
        )
        assert [mesh.counters.connections for mesh in meshes] == made  # and it does not flap
        assert [len(mesh.links) for mesh in meshes] == [1, 1]
        assert meshes[0].links.all()[0].dialed != meshes[1].links.all()[0].dialed


async def test_two_addresses_of_one_node_make_one_link() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    mesh_a = MeshNetwork(a, config())
    async with running(mesh_a):
        port = mesh_a.address.rpartition(":")[2]
        mesh_b = MeshNetwork(b, config(mesh_a.address, f"localhost:{port}"))
        async with running(mesh_b):
            await eventually(lambda: b.linked)
            await eventually(lambda: mesh_b.counters.frames_in > 5)
            assert mesh_b.counters.connections == 1
            assert mesh_b.counters.dials_failed == 0


async def test_a_node_that_finds_itself_is_silent_about_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    a = RecordingNode("a")
    mesh = MeshNetwork(a, config())
    async with running(mesh):
        port = mesh.address.rpartition(":")[2]
        a.addresses = [f"localhost:{port}"]
        with caplog.at_level(logging.DEBUG, "crdtbucket.mesh"):
            await eventually(lambda: "is this node itself" in caplog.text)
        assert mesh.counters.refused == {}
        assert mesh.counters.connections == 0
        assert a.events == []


async def test_a_lost_peer_is_linked_again_when_it_is_back() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    mesh_b = MeshNetwork(b, config())
    await mesh_b.start()
    mesh_a = MeshNetwork(a, config(mesh_b.address))
    async with running(mesh_a):
        await eventually(lambda: a.linked)
        await mesh_b.stop()
        await eventually(lambda: not a.linked)
        again = RecordingNode("b", epoch=2)
        async with running(
            MeshNetwork(again, MeshConfig(listen=mesh_b.address, secret="a secret of these tests"))
        ):
            await eventually(lambda: a.linked)
            assert a.linked["b"].epoch == 2
    assert [what for what, _ in a.events] == ["connected", "disconnected"] * 2


async def test_the_last_frames_of_a_leaving_node_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "CLOSE_S", 60.0)  # a busy machine may need more than a second
    a, b = RecordingNode("a"), RecordingNode("b")
    b.last_words = [("a", bytes([number]) * 50_000) for number in range(20)]
    async with pair(a, b) as (_, mesh_b):
        await asyncio.wait_for(mesh_b.stop(), 60)
        await eventually(lambda: not a.linked)
        assert a.frames == [("b", bytes([number]) * 50_000) for number in range(20)]


async def test_a_node_that_leaves_before_its_first_call_is_answered_says_goodbye(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = asyncio.Event()
    send = link.Link._send_one

    async def send_on_request(one: link.Link, kind: Kind, body: bytes) -> None:
        if kind is Kind.ACCEPT:
            await answer.wait()
        await send(one, kind, body)

    monkeypatch.setattr(link.Link, "_send_one", send_on_request)
    monkeypatch.setattr(dialer, "CLOSE_S", 60.0)  # a busy machine may need more than a second
    a, b = RecordingNode("a"), RecordingNode("b")
    b.last_words = [("a", b"goodbye")]
    mesh_a = MeshNetwork(a, config())
    async with running(mesh_a):
        mesh_b = MeshNetwork(b, config(mesh_a.address))
        async with running(mesh_b):
            await eventually(lambda: "b" in a.linked)
            assert not b.linked
            stopping = asyncio.create_task(mesh_b.stop())
            asyncio.get_running_loop().call_later(0.02, answer.set)  # the way of the answer
            await stopping
            await eventually(lambda: a.frames == [("b", b"goodbye")])


async def test_a_node_that_leaves_waits_a_second_for_answers_and_sends_no_more_proofs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialer, "CLOSE_S", 0.05)
    mesh = MeshNetwork(RecordingNode("alone"), config())
    peer = NodeInfo("mute", "", 1, "", 0)
    async with running(mesh):
        pending = mesh._dialer.pending
        with pending.begin(peer):
            await mesh.stop()
        with pytest.raises(HandshakeError) as refused, pending.begin(peer):
            raise AssertionError
        assert refused.value.reason is Reason.LEAVING


async def test_a_process_whose_node_goes_on_in_another_one_says_no_goodbye() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    b.last_words = [("a", b"goodbye")]
    async with pair(a, b) as (mesh_a, mesh_b):
        linked = mesh_a.links.get("b")
        assert linked is not None
        await mesh_b.stop(handed_over=True)
        await eventually(lambda: not a.linked)
        assert a.frames == []
        assert linked.ended_because == "the peer says handover"


async def test_links_are_made_up_to_max_peers() -> None:
    hub = RecordingNode("hub")
    mesh = MeshNetwork(hub, config(max_peers=1))
    async with running(mesh):
        leaves = [RecordingNode(name) for name in "ab"]
        async with running(*(MeshNetwork(leaf, config(mesh.address)) for leaf in leaves)):
            await eventually(lambda: mesh.counters.refused.get("busy"))
            assert len(hub.linked) == 1


@pytest.mark.parametrize("hub_dials", [False, True])
async def test_members_of_one_address_leave_a_place_for_one_of_another(
    hub_dials: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad member has as many names as it likes."""
    hub = RecordingNode("hub")
    mesh = MeshNetwork(hub, config(max_peers=2))
    async with running(mesh):
        elsewhere = partial(aiohttp.TCPConnector, local_addr=("127.0.0.2", 0))
        with monkeypatch.context() as patched:
            patched.setattr(aiohttp, "TCPConnector", elsewhere)
            crowd = [MeshNetwork(RecordingNode(name), config(mesh.address)) for name in "abc"]
            await asyncio.gather(*(one.start() for one in crowd))
            await eventually(lambda: len(hub.linked) == 2)
            await eventually(lambda: mesh.counters.refused.get("busy"))
        honest = RecordingNode("honest")
        late = MeshNetwork(honest, config(*([] if hub_dials else [mesh.address])))
        async with running(late):
            hub.addresses = [late.address] if hub_dials else []
            await eventually(lambda: "honest" in hub.linked)
            refused = mesh.counters.refused["busy"]
            await eventually(lambda: mesh.counters.refused["busy"] >= refused + 2)
            assert len(hub.linked) == 2
            assert "honest" in hub.linked
        await asyncio.gather(*(one.stop() for one in crowd))


class Crowded(RecordingNode):
    """A node that knows as many others as it can."""

    def connected(self, peer: NodeInfo, now: int) -> None:
        raise WireError("more epochs than can be told apart")


async def test_a_node_that_knows_too_many_says_that_it_is_full() -> None:
    hub, leaf = Crowded("hub"), RecordingNode("leaf")
    mesh = MeshNetwork(hub, config())
    async with running(mesh):
        caller = MeshNetwork(leaf, config(mesh.address))
        async with running(caller):
            await eventually(lambda: mesh.counters.refused.get("busy"))
            await eventually(lambda: caller.counters.refused.get("busy"))
            assert not mesh.links.all()


async def test_a_wake_from_another_thread_ticks_before_the_interval() -> None:
    hour = 3_600_000_000_000
    a, b = RecordingNode("a", interval_ns=hour), RecordingNode("b", interval_ns=hour)
    async with pair(a, b):
        await eventually(lambda: a.ticks and b.ticks)
        thread = threading.Thread(target=a.send, args=("b", b"early"))
        thread.start()
        await eventually(lambda: b.frames == [("a", b"early")])
        thread.join()


async def test_a_node_that_always_wants_a_tick_leaves_time_for_others() -> None:
    node = RecordingNode("a", interval_ns=0)
    mesh = MeshNetwork(node, config())
    async with running(mesh):
        started, ticks = time.monotonic(), node.ticks
        await eventually(lambda: node.ticks > ticks + 20)
        rate = (node.ticks - ticks) / (time.monotonic() - started)
        assert rate <= 1.2 / driver.TICK_GAP_S


def test_mesh_in_a_thread_exchanges_frames_and_ends() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    mesh = MeshNetwork(a, config())
    first = Background("crdtbucket mesh a", [mesh])
    first.start()
    second = Background("crdtbucket mesh b", [MeshNetwork(b, config(mesh.address))])
    second.start()
    try:
        b.outbox.append(("a", b"from a thread"))
        deadline = time.monotonic() + 60
        while not a.frames and time.monotonic() < deadline:
            if not b.outbox:  # it was sent before the link was up
                b.send("a", b"from a thread")
            threading.Event().wait(0.01)
        assert ("b", b"from a thread") in a.frames
    finally:
        second.stop()
        first.stop()
    assert not [t for t in threading.enumerate() if t.name.startswith("crdtbucket mesh")]
    first.stop()  # again is harmless
    assert a.on_wake is None


def test_mesh_in_a_thread_raises_in_the_caller() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        mesh = MeshNetwork(
            RecordingNode("a"), MeshConfig(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        )
        with pytest.raises(MeshError, match="cannot listen"):
            Background("crdtbucket mesh a", [mesh]).start()


async def test_a_mesh_that_stops_begins_no_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    node = RecordingNode("alone")
    mesh = MeshNetwork(node, config())
    await mesh.start()
    stopping = asyncio.create_task(mesh.stop())
    await asyncio.sleep(0)
    node.addresses = ["127.0.0.1:9"]
    mesh.found()  # what gossip and sources of addresses do while the dialer stops
    await stopping
    assert not mesh._dialer._targets


async def test_an_address_of_another_machine_is_not_advised_as_a_taken_port() -> None:
    elsewhere = MeshConfig(listen="192.0.2.1:7946", secret="sixteen bytes or more")
    mesh = MeshNetwork(RecordingNode("a"), elsewhere)
    with pytest.raises(MeshError, match=r"such as 0\.0\.0\.0 .* belongs in mesh\.advertise"):
        await mesh.start()


@pytest.mark.parametrize(("region", "shown"), [("eu", " (region 'eu')"), ("", "")])
async def test_a_region_that_a_peer_does_not_have_is_not_logged(
    region: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "crdtbucket.mesh"):
        a, b = RecordingNode("a"), RecordingNode("b")
        b.info = NodeInfo("b", region, 1, "", 0)
        one = MeshNetwork(a, config())
        async with running(one), running(MeshNetwork(b, config(one.address))):
            await eventually(lambda: "linked with b" in caplog.text)
    assert f"linked with b{shown} at" in caplog.text


async def test_a_taken_port_is_a_clear_error() -> None:
    mesh = MeshNetwork(RecordingNode("a"), config())
    async with running(mesh):
        second = MeshNetwork(RecordingNode("b"), MeshConfig(listen=mesh.address))
        with pytest.raises(MeshError, match=r"cannot listen on mesh\.listen"):
            await second.start()
