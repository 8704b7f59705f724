"""Peers that the configuration names have places among the links, over real sockets on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from crdtbucket.errors import WireError
from crdtbucket.mesh.links import dialer
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.link_table import LinkTable
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.network import RecordingNode, config, running
from tests.strong.redis_server import free_port
from tests.waits import eventually

A, B = "10.0.0.1:7946", "10.0.0.2:7946"


def link(name: str, host: str) -> Link:
    """All that a table looks at."""
    return cast("Link", SimpleNamespace(peer=NodeInfo(name, "", 1, "", 0), source=host))


def put(table: LinkTable, name: str, host: str, dialed: str = "") -> Link:
    """A link as it is made where there is room."""
    made = link(name, host)
    table.put(made, table.places.of(dialed, host, table.get(name)))
    return made


def table(*addresses: str) -> LinkTable:
    """A table whose file names these addresses, which dials have reached."""
    made = LinkTable("hub")
    made.places.change(addresses)
    for one in addresses:
        made.places.reached(one, one.rpartition(":")[0])
    return made


def test_the_newest_link_without_a_place_gives_way_to_one_with_a_place() -> None:
    links = table(A, B)
    put(links, "old", "10.0.0.8")
    new = put(links, "new", "10.0.0.9")
    put(links, "a", "10.0.0.1", A)
    assert links.yields_to(B)
    assert not links.yields_to(A)  # which has its link
    assert links.giving_way("10.0.0.2", B) is new


def test_what_nobody_named_makes_no_room_for_itself() -> None:
    links = table(A)
    put(links, "old", "10.0.0.8")
    assert not links.yields_to("10.0.0.7:7946")
    place = links.places.of("10.0.0.7:7946", "10.0.0.7", None)
    assert place == links.places.of("", "10.0.0.7", None) == links.places.of("", "", None) == ""
    assert links.giving_way("10.0.0.7", "") is None


def test_an_address_has_one_place_however_many_call_from_its_host() -> None:
    links = table(A)
    put(links, "other", "10.0.0.8")
    assert links.places.of("", "10.0.0.1", None) == A
    first = put(links, "a", "10.0.0.1")
    assert links.places.of("", "10.0.0.1", None) == ""
    assert links.places.of("", "10.0.0.1", first) == A  # it called again
    assert links.giving_way("10.0.0.1", A) is first  # whom the dial meets takes its place over


def test_who_has_a_place_neither_crowds_nor_gives_way() -> None:
    links = table(A, B)
    put(links, "a", "10.0.0.1", A)
    put(links, "b", "10.0.0.1", B)
    assert not links.crowded
    assert links.giving_way("10.0.0.9", "") is None
    assert not links.yields_to(A)


def test_a_place_is_free_when_its_link_has_ended_or_its_address_is_named_no_more() -> None:
    links = table(A, B)
    a = put(links, "a", "10.0.0.1", A)
    put(links, "b", "10.0.0.2", B)
    links.remove(a)
    assert links.places.free() == [A]
    links.places.change([A])
    assert links.giving_way("10.0.0.1", A) is links.get("b")
    links.places.change([A, B])
    assert links.places.free() == [A, B]


def test_of_an_address_that_was_never_reached_only_a_dial_has_the_place() -> None:
    links = LinkTable("hub")
    links.places.change([A])
    links.places.reached(B, "10.0.0.2")
    assert links.places.of("", "10.0.0.1", None) == links.places.of("", "10.0.0.2", None) == ""
    assert links.places.of(A, "10.0.0.1", None) == A


@pytest.fixture
def _dials_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer, "LAST_PAUSE_S", 0.2)


@asynccontextmanager
async def crowded(*hubs: MeshNetwork) -> AsyncIterator[None]:
    """Members hold all links of these nodes, each member at an address of its own."""
    async with contextlib.AsyncExitStack() as crowd:
        for number in range(sum(hub.max_peers for hub in hubs)):
            hub = hubs[number % len(hubs)]
            held = len(hub.links)
            await crowd.enter_async_context(caller(f"crowd {number}", f"127.0.0.{2 + number}", hub))
            await eventually(lambda hub=hub, held=held: len(hub.links) > held)
        yield


@asynccontextmanager
async def caller(name: str, source: str, hub: MeshNetwork) -> AsyncIterator[RecordingNode]:
    """A member that calls the node from this address of loopback."""
    node = RecordingNode(name)
    with pytest.MonkeyPatch.context() as patched:
        elsewhere = partial(aiohttp.TCPConnector, local_addr=(source, 0))
        patched.setattr(aiohttp, "TCPConnector", elsewhere)
        mesh = MeshNetwork(node, config(hub.address))
        await mesh.start()
    try:
        yield node
    finally:
        await mesh.stop()


def names(mesh: MeshNetwork, address: str) -> None:
    """The node's file names this peer, by a DNS name that resolves from now on."""
    cast("Any", mesh)._transport._discovered._fixed.append(address)


@pytest.mark.usefixtures("_dials_again_soon")
@pytest.mark.parametrize("calls", [False, True])
async def test_a_configured_peer_takes_the_place_of_a_member_that_nobody_named(
    calls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    hub, late = RecordingNode("hub"), RecordingNode("late")
    address = f"127.0.0.1:{free_port()}"
    mesh = MeshNetwork(hub, config(address, max_peers=2))
    async with running(mesh), crowded(mesh):
        named = [mesh.address] if calls else []
        there = MeshConfig(listen=address, peers=named, secret="a secret of these tests")
        async with running(MeshNetwork(late, there)):
            await eventually(lambda: "late" in hub.linked and late.linked)
            refused = mesh.counters.refused.get("busy", 0)
            await eventually(lambda: mesh.counters.refused.get("busy", 0) >= refused + 3)
            assert set(hub.linked) == {"late", "crowd 0"}  # the newest one went
            assert mesh.counters.refused["gave_way"] == 1
    told = "the link with 'crowd 1' gave way to 'late', as there are 2 peers already"
    assert told in caplog.text


@pytest.mark.usefixtures("_dials_again_soon")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_two_nodes_without_room_that_name_each_other_are_linked(host: str) -> None:
    """Each refuses calls, so the other end must know the one that dials by its host."""
    nodes = [RecordingNode(name) for name in "ab"]
    meshes = [MeshNetwork(node, config(max_peers=2)) for node in nodes]
    async with running(*meshes), crowded(*meshes):
        for mesh, other in (meshes, reversed(meshes)):
            names(mesh, other.address.replace("127.0.0.1", host))
        await eventually(lambda: "b" in nodes[0].linked and "a" in nodes[1].linked)
        assert [len(mesh.links) for mesh in meshes] == [2, 2]


@pytest.mark.usefixtures("_dials_again_soon")
async def test_a_node_that_gossip_names_takes_no_place() -> None:
    hub, late = RecordingNode("hub"), RecordingNode("late")
    mesh, other = MeshNetwork(hub, config(max_peers=2)), MeshNetwork(late, config())
    async with running(mesh, other), crowded(mesh):
        hub.addresses = [other.address]
        async with caller("loud", "127.0.0.9", mesh):
            await eventually(lambda: mesh.counters.refused.get("busy", 0) >= 3)
        assert set(hub.linked) == {"crowd 0", "crowd 1"}


@pytest.mark.usefixtures("_dials_again_soon")
async def test_who_gave_way_is_dialled_again_once_there_is_room() -> None:
    hub, far, late = RecordingNode("hub"), RecordingNode("far"), RecordingNode("late")
    mesh, there = MeshNetwork(hub, config(max_peers=1)), MeshNetwork(far, config())
    async with running(mesh, there):
        hub.addresses = [there.address]
        await eventually(lambda: "far" in hub.linked)
        other = MeshNetwork(late, config())
        async with running(other):
            names(mesh, other.address)
            await eventually(lambda: set(hub.linked) == {"late"})
        await eventually(lambda: set(hub.linked) == {"far"})


@pytest.mark.usefixtures("_dials_again_soon")
async def test_a_peer_that_the_node_refuses_pushes_nobody_out() -> None:
    class Full(RecordingNode):
        def connected(self, peer: NodeInfo, now: int) -> None:
            if peer.name == "late":
                raise WireError("more epochs than can be told apart")
            super().connected(peer, now)

    hub, late = Full("hub"), RecordingNode("late")
    other = MeshNetwork(late, config())
    async with running(other):
        mesh = MeshNetwork(hub, config(max_peers=1))
        async with running(mesh), crowded(mesh):
            names(mesh, other.address)
            await eventually(lambda: mesh.counters.refused.get("busy"))
            assert not hub.ends
            assert set(hub.linked) == {"crowd 0"}
