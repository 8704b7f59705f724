"""A key, or a certificate, has one name at a time; also over real sockets on loopback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.peer_identity import PeerIdentity, Proof
from crdtbucket.mesh.links.peer_keys import PeerKeys
from crdtbucket.mesh.links.session import HandshakeError, Reason
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.certificates import Authority
from tests.mesh.keys import KeptFile
from tests.mesh.network import RecordingNode, config, running
from tests.waits import eventually

SHARED, OWN, OTHER = NodeKey.make(), NodeKey.make(), NodeKey.make()
Maker = Callable[..., MeshNetwork]
"""Makes the network of a node; `shared`: it has what others have, too."""


def keyed(node: RecordingNode, *peers: str, shared: bool) -> MeshNetwork:
    keys = PeerKeys(node.info.name, "pinned", SHARED if shared else NodeKey.make(), pins=KeptFile())
    return MeshNetwork(node, config(*peers), peer_keys=keys)


@pytest.fixture(params=["key", "certificate"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Maker:
    if request.param == "key":
        return keyed
    authority = Authority(tmp_path, "ca")
    common = authority.issue("common", "b", "c", "d", "node.example")

    def certified(node: RecordingNode, *peers: str, shared: bool) -> MeshNetwork:
        name = node.info.name
        own = common if shared else authority.issue(name, name, "node.example")
        settings: dict[str, Any] = {**own, "tls_ca": authority.file, "secret": None}
        keys = PeerKeys(name, "certificate")
        return MeshNetwork(node, config(*peers, **settings), peer_keys=keys)

    return certified


async def test_one_process_under_two_names_has_one_link(
    made: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    """So it has one voice where peers have to agree. Which of the two calls makes no difference."""
    honest, other = RecordingNode("a"), RecordingNode("e")
    first, second = RecordingNode("b"), RecordingNode("c", epoch=2)
    mesh = made(honest, shared=False)
    async with running(mesh):
        bad = made(first, mesh.address, shared=True)
        late = made(other, mesh.address, shared=False)
        async with running(bad, late):
            await eventually(lambda: honest.linked.keys() == {"b", "e"})
            also = made(second, mesh.address, shared=True)
            async with running(also):
                await eventually(lambda: mesh.counters.refused.get("shared_key"))
                await eventually(lambda: also.counters.refused.get("shared_key"))
                assert honest.linked.keys() == {"b", "e"}
                dialled = made(RecordingNode("f"), bad.address, also.address, shared=False)
                async with running(dialled):
                    await eventually(lambda: dialled.counters.refused.get("shared_key", 0) >= 3)
                    assert len(dialled.links) == 1
                    # At first it dials both at once; later it refuses before it proves itself.
                    assert len([*first.ends, *second.ends]) <= 1
    assert any("'c'" in text and "'b'" in text for text in caplog.messages)
    assert any("give each node" in text for text in caplog.messages)


async def test_a_node_that_begins_again_under_another_name_is_linked_once_the_former_is_gone(
    made: Maker,
) -> None:
    honest, former, later = RecordingNode("a"), RecordingNode("b"), RecordingNode("c", epoch=2)
    mesh = made(honest, shared=False)
    async with running(mesh):
        old, new = (made(one, mesh.address, shared=True) for one in (former, later))
        await old.start()
        await eventually(lambda: "b" in honest.linked)
        async with running(new):
            await eventually(lambda: new.counters.refused.get("shared_key"))
            await old.stop()
            await eventually(lambda: honest.linked.keys() == {"c"})
            await eventually(lambda: new.links.get("a"))  # its end of the link comes a moment later


async def test_nodes_that_share_one_key_by_mistake_say_so(
    made: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where there are two: one of them is the only peer of the other."""
    nodes = RecordingNode("b"), RecordingNode("c", epoch=2)
    one = made(nodes[0], shared=True)
    async with running(one):
        two = made(nodes[1], one.address, shared=True)
        async with running(two):
            for mesh in (one, two):
                await eventually(lambda mesh=mesh: mesh.counters.refused.get("shared_key"))
            assert not any(node.events for node in nodes)
    assert any("of this node" in text and "give each node" in text for text in caplog.messages)


def linked(name: str, key: NodeKey | None) -> PeerIdentity:
    info = NodeInfo(name, "", 1, "", 0)
    return PeerIdentity(info, 1, Proof.KEY, None if key is None else key.public)


def shares(keys: PeerKeys, peer: PeerIdentity, *known: PeerIdentity) -> str:
    with pytest.raises(HandshakeError) as caught:
        keys.check_alone(peer, known)
    assert caught.value.reason is Reason.SHARED_KEY
    return str(caught.value)


@pytest.mark.parametrize("policy", ["pinned", "allowed"])
def test_a_key_has_one_name_at_a_time(policy: str) -> None:
    keys = PeerKeys("me", policy, OWN)
    both = linked("b", SHARED), linked("x", None)
    told = shares(keys, linked("c", SHARED), *both)
    assert told == (
        f"its key {SHARED.fingerprint} is that of 'b', which is linked, too: "
        "give each node one of its own"
    )
    assert "is that of this node, too" in shares(keys, linked("c", OWN))
    for free in (linked("b", SHARED), linked("c", OTHER), linked("c", None)):
        keys.check_alone(free, both)
    keys.check_alone(linked("c", SHARED), both[1:])
    keys.check_alone(linked("me", OWN), both)  # another process of this node
    PeerKeys("me").check_alone(linked("c", None), both)


def test_a_certificate_has_one_name_at_a_time() -> None:
    keys = PeerKeys("me", "certificate")
    other = replace(linked("b", None), certified_names=("b", "d", "node.example"))
    for names, whose in ((("c", "b"), "'b', which is linked"), (("c", "me"), "this node")):
        peer = replace(linked("c", None), certified_names=names)
        told = shares(keys, peer, other)
        assert told.startswith(f"its certificate is that of {whose}, too: give each node one")
        assert told.endswith("or set mesh.identity: off where all nodes share one")
        PeerKeys("me").check_alone(peer, [other])
    for name, names in (("b", ("b", "d")), ("d", ("d", "node.example"))):
        keys.check_alone(replace(linked(name, None), certified_names=names), [other])
