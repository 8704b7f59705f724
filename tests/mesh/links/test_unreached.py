"""Entries of `mesh.peers` at which no node is linked, and why."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

import pytest

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.mesh.links import unreached as rule
from crdtbucket.mesh.links.unreached import (
    MISSED_NS,
    MOST_TEXT,
    DialState,
    PeerSource,
    Unreached,
    unreached,
)
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.sockets import discovery
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.network import RecordingNode, config, running
from tests.strong.redis_server import free_port
from tests.waits import eventually

SECRET = "a secret of these tests"
REFUSED = "Connection refused"


@pytest.fixture(autouse=True)
def missed_at_once(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if inspect.iscoroutinefunction(request.function):
        monkeypatch.setattr(rule, "MISSED_NS", 0)


def reasons(mesh: MeshNetwork) -> dict[str, str]:
    return {one.address: one.reason for one in mesh.unreached()}


async def test_of_several_peers_that_cannot_be_reached_each_has_its_own_reason() -> None:
    gone = f"127.0.0.1:{free_port()}"
    well = MeshNetwork(RecordingNode("well"), config())
    stranger = MeshNetwork(RecordingNode("stranger"), config(secret="another secret of others"))
    async with running(well, stranger):
        node = MeshNetwork(RecordingNode("a"), config(well.address, gone, stranger.address))
        assert node.unreached() == []  # before it has begun
        async with running(node):
            await eventually(lambda: len(reasons(node)) == 2 and node.links.get("well"))
            found = reasons(node)
            assert found[gone] == REFUSED
            assert found[stranger.address].startswith("it shares no secret with this node")


async def test_a_peer_that_called_first_is_reached() -> None:
    ports = [free_port(), free_port()]
    first, second = (
        MeshNetwork(
            RecordingNode(name),
            MeshConfig(listen=f"127.0.0.1:{own}", peers=[f"127.0.0.1:{other}"], secret=SECRET),
        )
        for name, own, other in (("a", *ports), ("b", *reversed(ports)))
    )
    async with running(first, second):
        await eventually(lambda: first.links.get("b") and second.links.get("a"))
        await eventually(lambda: not first.unreached() and not second.unreached())


async def test_the_own_address_is_no_peer_that_is_missed() -> None:
    port = free_port()
    same = MeshConfig(listen=f"0.0.0.0:{port}", peers=[f"127.0.0.1:{port}"], secret=SECRET)
    node = MeshNetwork(RecordingNode("a"), same)
    async with running(node):
        # Another name for the own address, which only a call shows.
        await eventually(lambda: any(t.state.own for t, _ in node._dialer._targets.values()))
        assert node.unreached() == []


async def test_a_peer_that_said_goodbye_has_left_until_a_node_is_met_there_again() -> None:
    port = free_port()
    listens = MeshConfig(listen=f"127.0.0.1:{port}", secret=SECRET)
    node, b = RecordingNode("a"), MeshNetwork(RecordingNode("b"), listens)
    mesh = MeshNetwork(node, config(f"127.0.0.1:{port}"))
    await b.start()
    async with running(mesh):
        await eventually(lambda: node.linked)
        await b.stop()
        await eventually(mesh.unreached)
        (row,) = mesh.unreached()
        assert (row.node, row.left, row.reason) == ("b", True, REFUSED)
        again = MeshNetwork(RecordingNode("b", epoch=2), listens)
        await again.start()
        await eventually(lambda: node.linked)
        assert mesh.unreached() == []
        link = mesh.links.get("b")
        assert link is not None
        await again.stop(handed_over=True)
        await eventually(mesh.unreached)
        (row,) = mesh.unreached()
        assert not row.left


async def test_a_name_that_resolves_to_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        return found

    monkeypatch.setattr(discovery, "resolve_all", resolve)
    monkeypatch.setattr(discovery, "REFRESH_S", 0.01)
    node = MeshNetwork(RecordingNode("a"), config("dns+nodes:7946"))
    async with running(node):
        await eventually(node.unreached)
        assert reasons(node) == {"dns+nodes:7946": "the name has no address"}
        gone = f"127.0.0.1:{free_port()}"
        found.append(gone)
        text = f"{gone}: {REFUSED}"
        await eventually(lambda: reasons(node) == {"dns+nodes:7946": text})


# -- the rule

NOW = 100 * NS_PER_SECOND
LATER = NOW + 60 * NS_PER_SECOND
FAILED = DialState(since=NOW, node="b", reason=REFUSED)
LEFT = DialState(since=NOW, node="c", reason=REFUSED, left=True)
LINKED = DialState(since=NOW, linked=True)
OWN = DialState(since=NOW, own=True)
CALLED = DialState(since=NOW)


def states(*all_: DialState) -> Callable[[str], DialState | None]:
    return {f"10.0.0.{n}:1": one for n, one in enumerate(all_)}.get


def name_of(*all_: DialState, fault: str = "") -> list[Unreached]:
    addresses = tuple(f"10.0.0.{n}:1" for n in range(len(all_)))
    return unreached([PeerSource("dns+nodes:1", addresses, fault)], states(*all_), LATER)


@pytest.mark.parametrize("state", [LINKED, OWN, CALLED])
def test_what_is_linked_or_called_for_the_first_time_is_not_missed(state: DialState) -> None:
    assert unreached([PeerSource("10.0.0.0:1", ("10.0.0.0:1",))], states(state), LATER) == []
    assert unreached([PeerSource("10.0.0.0:1", ("10.0.0.0:1",))], states(), LATER) == []


def test_a_link_that_is_made_again_soon_is_not_missed() -> None:
    source = [PeerSource("10.0.0.0:1", ("10.0.0.0:1",))]
    assert unreached(source, states(FAILED), NOW + MISSED_NS - 1) == []
    assert unreached(source, states(FAILED), NOW + MISSED_NS) == [
        Unreached("10.0.0.0:1", "b", NOW, REFUSED, False)
    ]


def test_a_name_is_reached_when_one_of_its_addresses_is() -> None:
    assert name_of(FAILED, LINKED) == []
    assert name_of(OWN) == []
    assert name_of(CALLED) == []


def test_a_name_of_which_no_address_is_linked_gives_the_reasons() -> None:
    other = DialState(since=NOW + 5, node="d", reason="no answer within 3 s")
    (row,) = name_of(FAILED, OWN, other)
    assert row == Unreached(
        "dns+nodes:1",
        "",
        NOW + 5,
        f"none of its 2 addresses is linked: 10.0.0.0:1: {REFUSED}; "
        "10.0.0.2:1: no answer within 3 s",
        False,
    )
    (row,) = name_of(LEFT, LEFT)
    assert row.left
    (row,) = name_of(FAILED, LEFT)
    assert not row.left


def test_a_name_that_cannot_be_resolved_says_why() -> None:
    (row,) = name_of(fault="Name or service not known")
    assert row.reason == "Name or service not known"
    assert name_of(LINKED, fault="try again") == []


def test_what_a_peer_said_does_not_fill_the_screen() -> None:
    long = DialState(since=NOW, reason="x" * 5_000)
    (row,) = unreached([PeerSource("10.0.0.0:1", ("10.0.0.0:1",))], states(long), LATER)
    assert len(row.reason) == MOST_TEXT
    rows = unreached([PeerSource(f"10.0.0.0:{n}", ("10.0.0.0:1",)) for n in range(99)],
                     lambda _: FAILED, LATER)  # fmt: skip
    assert len(rows) == 32


async def test_a_full_node_says_so() -> None:
    b, c = MeshNetwork(RecordingNode("b"), config()), MeshNetwork(RecordingNode("c"), config())
    async with running(b, c):
        node = RecordingNode("a")
        mesh = MeshNetwork(node, config(b.address, c.address, max_peers=1))
        async with running(mesh):
            await eventually(lambda: len(node.linked) == 1 and mesh.unreached())
            await asyncio.sleep(0)
            (row,) = mesh.unreached()
            assert "max_peers" in row.reason or "peers already" in row.reason
