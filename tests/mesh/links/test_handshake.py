"""Handshakes during which a node gets an order or a reload, over real sockets on loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crdtbucket import Limiter, MeshConfig
from crdtbucket.config import load_config
from crdtbucket.mesh.links import handshake
from crdtbucket.mesh.links.channel import Channel
from crdtbucket.mesh.links.ejections import EjectOrder
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.peer_keys import peer_keys_of
from crdtbucket.mesh.links.session import Handshake
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from crdtbucket.reconcile.observed_node import ObservationFailed
from crdtbucket.reconcile.observer import Observer
from tests.mesh.network import RecordingNode, running
from tests.mesh.test_roles import FILE, MEMBERS, OBSERVERS, config
from tests.waits import eventually

OPERATOR = NodeKey.make()
KEYS = {name: NodeKey.make() for name in "ab"}


def keyed(name: str, *peers: str, listed: str = "ab") -> MeshConfig:
    """Settings of a node that links with the nodes that it lists, by their keys."""
    return MeshConfig(
        listen="127.0.0.1:0",
        peers=peers,
        secret=MEMBERS,
        identity="allowed",
        identity_key=KEYS[name].pem().decode(),
        allowed_keys={one: KEYS[one].fingerprint for one in listed},
        operator_keys=[OPERATOR.fingerprint],
    )


def network(node: RecordingNode, settings: MeshConfig) -> MeshNetwork:
    keys = peer_keys_of(settings, node.info.name, None)
    return MeshNetwork(node, settings, peer_keys=keys)


@pytest.mark.parametrize("reason", ["ejected", "key"])
async def test_who_is_ejected_while_its_answer_is_on_its_way_is_not_linked(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called, answers = asyncio.Event(), asyncio.Event()
    send = Link._send

    async def late(self: Link, accept: bytes | None) -> None:
        if accept is not None:
            called.set()
            await answers.wait()
        await send(self, accept)

    monkeypatch.setattr(Link, "_send", late)
    node = RecordingNode("a")
    called_one = network(RecordingNode("b"), keyed("b"))
    async with running(called_one):
        mesh = network(node, keyed("a", called_one.address))
        async with running(mesh):
            await called.wait()
            if reason == "ejected":
                mesh.orders.order(EjectOrder.sign(OPERATOR, "mesh", "b", 1, ejected=True))
            else:
                mesh.renew(keyed("a", called_one.address, listed="a"))
                await eventually(lambda: mesh.peer_keys._allowed.keys() == {"a"})
            answers.set()
            await eventually(lambda: mesh.counters.connections or mesh.counters.refused)
            assert mesh.counters.refused.keys() == {reason}
            assert not node.events


async def test_an_observer_whose_secret_ends_during_its_handshake_is_not_linked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called, proves = asyncio.Event(), asyncio.Event()
    prove = handshake._prove

    async def late(channel: Channel, shake: Handshake, peer: NodeInfo) -> None:
        called.set()
        await proves.wait()
        await prove(channel, shake, peer)

    monkeypatch.setattr(handshake, "_prove", late)
    path = tmp_path / "crdtbucket.yaml"
    path.write_text(FILE)
    own = config(MEMBERS, observers=OBSERVERS)
    async with (
        Limiter.from_file(path, node="a", mesh=own) as a,
        Observer(load_config(path), config(OBSERVERS), "looks", 5.0) as observer,
    ):
        calling = asyncio.ensure_future(observer.call(a.address))
        await called.wait()
        a._node.renew(config(MEMBERS, observers="another secret of observers"))
        await asyncio.sleep(0)
        proves.set()
        with pytest.raises(ObservationFailed, match="secrets have changed"):
            await calling
