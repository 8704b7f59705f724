"""How many names without a key may be linked in an hour."""

from __future__ import annotations

import pytest

from crdtbucket.mesh.links import new_names
from crdtbucket.mesh.links.new_names import AN_HOUR, HOUR_NS, IN_ALL, NewNames
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.peer_identity import PeerIdentity, Proof
from crdtbucket.mesh.links.peer_keys import PeerKeys
from crdtbucket.mesh.links.session import HandshakeError, Reason
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.keys import KeptFile
from tests.mesh.network import RecordingNode, config, running
from tests.waits import eventually

KEY = NodeKey.make()


def named(name: str) -> NodeInfo:
    return NodeInfo(name, "", 1, "", 0)


def met(
    names: NewNames, many: int, host: str, *, prefix: str = "x", configured: bool = False
) -> int:
    """How many of so many names are linked that come from an address."""
    linked = 0
    for name in (f"{prefix}{i}" for i in range(many)):
        if not names.refuses(name, host, configured=configured, now=0):
            names.linked(name, host, configured=configured, now=0)
            linked += 1
    return linked


def test_one_address_brings_so_many_names_in_an_hour_and_the_same_name_again() -> None:
    names = NewNames()
    assert met(names, AN_HOUR + 10, "10.0.0.1") == AN_HOUR
    assert met(names, AN_HOUR + 10, "10.0.0.1") == AN_HOUR
    assert names.refuses("late", "10.0.0.1", configured=True, now=0).startswith("128 new names")
    assert met(names, 10, "10.0.0.2", prefix="y") == 10
    assert met(names, AN_HOUR + 10, "2001:db8::1", prefix="v") == AN_HOUR
    assert met(names, 1, "2001:db8::ffff", prefix="w") == 0


@pytest.mark.parametrize("engine", [False, True])
def test_all_addresses_together_bring_so_many_but_for_configured_ones(engine: bool) -> None:
    names = NewNames()
    hosts = [""] if engine else [f"10.0.0.{i}" for i in range(8)]
    assert sum(met(names, IN_ALL, host, prefix=f"{host}-") for host in hosts) == IN_ALL
    assert met(names, 1, "10.1.0.1", prefix="new") == 0
    assert met(names, 3, "10.1.0.1", prefix="named", configured=True) == 3


def test_a_name_counts_for_an_hour() -> None:
    names = NewNames()
    met(names, AN_HOUR, "10.0.0.1")
    for now, refused in ((HOUR_NS - 1, True), (HOUR_NS, False)):
        assert bool(names.refuses("next", "10.0.0.1", configured=False, now=now)) == refused


@pytest.mark.parametrize("policy", ["off", "allowed", "pinned"])
def test_where_keys_are_pinned_a_name_without_a_pin_may_be_one_too_many(policy: str) -> None:
    keys = PeerKeys("me", policy, NodeKey.make(), allowed={"late": ("x",)}, pins=KeptFile())
    keys.proved(PeerIdentity(named("known"), 1, Proof.KEY, KEY.public))
    met(keys._new, AN_HOUR, "10.0.0.1")
    if policy != "allowed":
        keys.check_new(named("known"), "10.0.0.1", configured=False, now=0)
    if policy != "pinned":
        keys.check_new(named("late"), "10.0.0.1", configured=False, now=0)
        return
    with pytest.raises(HandshakeError, match="'late' may come later") as refused:
        keys.check_new(named("late"), "10.0.0.1", configured=False, now=0)
    assert (refused.value.reason, refused.value.peer) == (Reason.NEW_NAMES, named("late"))


async def test_a_name_that_finds_no_room_is_none_of_those_of_the_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(new_names, "AN_HOUR", 2)
    hub = RecordingNode("a")
    mesh = _keyed(hub, max_peers=1)
    async with running(mesh):
        async with running(_keyed(RecordingNode("b"), mesh.address)):
            await eventually(lambda: hub.linked)
            for name in "cd":
                late = _keyed(RecordingNode(name), mesh.address)
                async with running(late):
                    await eventually(lambda: late.counters.refused)  # noqa: B023 - awaited here
                    assert late.counters.refused.keys() == {"busy"}
        await eventually(lambda: not hub.linked)
        async with running(_keyed(RecordingNode("e"), mesh.address)):
            await eventually(lambda: hub.linked.keys() == {"e"})


async def test_a_name_too_many_is_refused_and_counted_by_real_nodes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(new_names, "AN_HOUR", 1)
    honest = RecordingNode("a")
    mesh = _keyed(honest)
    async with running(mesh):
        first = _keyed(RecordingNode("b"), mesh.address)
        async with running(first):
            await eventually(lambda: honest.linked.keys() == {"b"})
            second = _keyed(RecordingNode("c", epoch=2), mesh.address)
            async with running(second):
                await eventually(lambda: mesh.counters.refused.get("new_names"))
                await eventually(lambda: second.counters.refused.get("new_names"))
                assert honest.linked.keys() == {"b"}
    assert "1 new names came from 127.0.0.1 in an hour, none with a pinned key: 'c'" in caplog.text


def _keyed(node: RecordingNode, *peers: str, **settings: object) -> MeshNetwork:
    keys = PeerKeys(node.info.name, "pinned", NodeKey.make(), pins=KeptFile())
    return MeshNetwork(node, config(*peers, **settings), peer_keys=keys)
