"""Processes that share a table: one runs the mesh and dies, and another one takes over."""

from __future__ import annotations

import logging
import zlib

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.errors import MeshError
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol import handoff, node_memory
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh, SimulatedNode
from tests.mesh.network import running
from tests.strong.redis_server import free_port
from tests.tombstones import add_tombstone
from tests.waits import eventually

STILL = BucketSpec("b", 1000, 1, "1h")
"""Hardly refills, so that counts show as levels."""


class Host:
    """The node A of a mesh as a host whose processes share its table."""

    def __init__(self, mesh: SimulatedMesh) -> None:
        self.mesh = mesh
        self.node: SimulatedNode = mesh["A"]
        self.leader_dies()
        self.another_leads(remembers=True)
        mesh.advance(1.0)

    def leader_dies(self, *, seen: bool = True) -> None:
        """No goodbye. `seen`: the kernel closes its sockets, and the peers see that."""
        self.node.node.on_wake = self.node.table.on_wake = None
        self.node.epochs += 1  # what is under way to or from it is lost
        self.node._tick_at = 0
        for name in self.others if seen else ():
            peer = self.mesh[name]
            local = peer.local_ns(self.mesh.now_ns)
            peer.table.set_time(local)
            peer.node.disconnected("A", local)

    def another_leads(self, order: str = "", *, remembers: bool = False) -> None:
        """Another process runs the mesh on the same table, and links with the peers."""
        mesh, node = self.mesh, self.node
        node.table.set_time(node.local_ns(mesh.now_ns))
        node.node = MeshNode(node.table, mesh.config, name="A", region="A", seed=9, shared=True)
        if remembers:
            node.node.memory.remember(node.local_ns(mesh.now_ns))
        node.node.set_waker(node._wake)
        node._wake()
        for name in order or self.others:
            if mesh[name].up:
                mesh._connect("A", name, node.epochs, mesh[name].epochs)

    @property
    def others(self) -> list[str]:
        return [name for name in self.mesh.nodes if name != "A"]


def mesh_of(size: int = 3, **options: object) -> SimulatedMesh:
    return SimulatedMesh("ABCD"[:size], [STILL], **{"latency": 0.02, "seed": 5, **options})  # type: ignore[arg-type]


def columns(mesh: SimulatedMesh, key: str = "k") -> list[dict[str, tuple[int, int]]]:
    return [node.columns("b", key) for node in mesh.nodes.values() if node.up]


def levels(mesh: SimulatedMesh, key: str = "k") -> list[int]:
    return [node.peek("b", key).remaining for node in mesh.nodes.values() if node.up]


def states(mesh: SimulatedMesh) -> set[str]:
    return {
        one.node.members.status(one.node.links[name], one.local_ns(mesh.now_ns))
        for one in mesh.nodes.values()
        for name in one.node.links
        if one.up
    }


@pytest.mark.parametrize("seen", [True, False])
def test_no_take_is_lost_and_none_counts_twice(seen: bool) -> None:
    mesh = mesh_of()
    host = Host(mesh)
    for name in "ABC":
        assert mesh[name].take("b", "k", 10)
    mesh.advance(1.0)
    for name in "ABC":
        assert mesh[name].take("b", "k", 1)  # it is sent to nobody before the leader dies
    host.leader_dies(seen=seen)
    for _ in range(5):
        mesh.advance(0.1)
        for name in "ABC":
            assert mesh[name].take("b", "k", 2)  # other processes of A's host take, too
    host.another_leads("CB")
    assert mesh["A"].take("b", "k", 3)
    mesh.advance(0.3)
    assert columns(mesh) == [{"A": (24, 0), "B": (21, 0), "C": (21, 0)}] * 3
    assert levels(mesh) == [1000 - 66] * 3
    assert states(mesh) == {"alive"}
    assert not mesh["A"].node.counters["refused_columns"]
    assert mesh["A"].table.stats()["refused_columns"] == 0


def test_a_process_that_takes_over_does_not_warm_up_and_counts_the_silent() -> None:
    mesh = mesh_of()
    host = Host(mesh)
    born = mesh["A"].table.now() - mesh["A"].node.info.age_ns
    host.leader_dies()
    mesh.advance(0.5)
    mesh.crash("C")
    host.another_leads()
    node = mesh["A"]
    assert node.table.now() - node.node.info.age_ns == born  # nobody is older who came meanwhile
    assert node.node.memory.complete
    assert node.table.nodes.warming_up_until <= node.table.now()
    assert node.node.members.known() == 3
    mesh.advance(0.3)
    assert {
        name: node.node.members.status(node.node.links[name], node.table.now()) for name in "BC"
    } == {
        "B": "alive",
        "C": "suspect",
    }
    mesh.advance(16.0)
    assert node.node.members.status(node.node.links["C"], node.table.now()) == "dead"


def test_a_member_that_is_not_linked_yet_is_called_and_seen_through_others() -> None:
    mesh = mesh_of()
    mesh["B"].node.listens("127.0.0.1:7946")
    host = Host(mesh)
    host.leader_dies()
    mesh.partition("A", "B")
    host.another_leads()
    assert mesh["A"].node.known_addresses() == ["127.0.0.1:7946"]
    mesh["B"].take("b", "k", 5)
    mesh.advance(1.0)
    assert (
        mesh["A"].node.members.status(mesh["A"].node.links["B"], mesh["A"].table.now()) == "suspect"
    )
    assert mesh["A"].columns("b", "k") == {"B": (5, 0)}


def test_a_silent_member_is_forgotten_in_its_time_by_whoever_took_over() -> None:
    mesh = mesh_of(forget_after=5.0)
    host = Host(mesh)
    mesh["C"].take("b", "k", 5)
    mesh.advance(1.0)
    mesh.crash("C")
    host.leader_dies()
    mesh.advance(0.5)
    host.another_leads()
    mesh.advance(6.0)
    assert mesh["A"].node.links["C"].forgotten
    assert mesh["A"].table.stats()["forgotten"] == 1


def test_what_was_unsent_goes_out_though_its_key_is_full_again() -> None:
    mesh = mesh_of(2)
    host = Host(mesh)
    mesh["A"].take("b", "k", 5)
    mesh.advance(1.0)
    decision = mesh["A"].take("b", "k", 7)
    mesh.advance(1.0)
    assert mesh["A"].refund(decision) == 7
    mesh["A"].bucket("b").reset("k")
    assert levels(mesh) == [1000, 988]
    host.leader_dies()
    host.another_leads()
    mesh.advance(0.3)
    assert levels(mesh) == [1000, 1000]


def test_a_member_that_had_all_is_not_sent_all_again() -> None:
    mesh = mesh_of(2)
    host = Host(mesh)
    for number in range(500):
        mesh["A"].take("b", f"k{number}")
    mesh.advance(1.0)
    host.leader_dies()
    mesh["A"].take("b", "k0")
    host.another_leads()
    mesh.advance(0.5)
    assert levels(mesh, "k0") == [998] * 2
    assert mesh["A"].node.entries_sent < 10


def test_a_member_in_the_middle_of_a_full_sync_gets_all_of_it() -> None:
    mesh = mesh_of(2, max_keys=70_000)
    mesh.partition("A", "B")
    host = Host(mesh)
    for number in range(60_000):
        mesh["A"].take("b", f"k{number}")
    mesh.advance(70.0)  # beyond the hold: a full sync is due
    mesh.heal()
    host.leader_dies()
    host.another_leads()
    mesh.advance(0.13)
    assert 0 < len(mesh["B"].table) < 60_000
    host.leader_dies()
    host.another_leads()
    assert not mesh["A"].node.links["B"].synced
    mesh.advance(3.0)
    assert len(mesh["B"].table) == 60_000


def test_a_node_that_was_warming_up_stays_it_under_the_next_leader() -> None:
    mesh = mesh_of(2)
    host = Host(mesh)
    mesh.restart("A")
    assert not mesh["A"].table.sharing.read_handoff()
    host.leader_dies()
    mesh.crash("B")
    host.another_leads()
    mesh.advance(0.2)
    assert mesh["A"].table.sharing.read_handoff()
    host.leader_dies()
    host.another_leads()
    assert not mesh["A"].node.memory.complete
    assert mesh["A"].table.nodes.warming_up_until > mesh["A"].table.now()


def test_tombstones_of_dead_epochs_are_given_up_in_time_by_the_next_leader() -> None:
    mesh = mesh_of(2)
    host = Host(mesh)
    mesh["B"].take("b", "k", 5)
    mesh.advance(1.0)
    mesh.restart("B")
    mesh["B"].take("b", "k", 1)
    mesh["A"].bucket("b").reset("k")
    epochs = {epoch for _, _, epoch, _ in mesh["A"].table.epochs.origins()}
    (dead,) = epochs - {mesh[name].node.info.epoch for name in "AB"} - {0}
    add_tombstone(mesh["A"].table, dead)
    host.leader_dies()
    host.another_leads()
    assert dead in mesh["A"].node.members.pruner.tombstones


@pytest.mark.parametrize("seed", range(12))
def test_whenever_the_leader_dies_the_next_one_can_go_on(seed: int) -> None:
    mesh = mesh_of(4, seed=seed, loss=0.05, jitter=0.9)
    host = Host(mesh)
    taken = 0
    for step in range(30):
        taken += mesh["A"].take("b", "k").allowed
        for name in "BCD":
            assert mesh[name].take("b", "k")
        mesh.advance(0.011 * (1 + (seed * 7 + step * 5) % 13))
        if step % 4 == 0:
            host.leader_dies(seen=bool(step % 8))
            taken += mesh["A"].take("b", "k").allowed
            mesh.advance(0.007 * (seed % 5))
            host.another_leads("DBC"[step % 3 :] + "DBC"[: step % 3])
        if step % 7 == 3:
            mesh.restart("BCD"[step % 3])  # and what it had not sent is lost
    mesh.advance(12.0)
    first, *others = columns(mesh)
    assert others == [first] * 3
    assert first["A"] == (taken, 0)
    assert levels(mesh) == [1000 - sum(p for p, _ in first.values())] * 4
    assert states(mesh) == {"alive"}


def test_the_handoff_is_written_when_something_changed_and_not_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writes: list[handoff.HandoffRecord] = []

    def dump(noted: handoff.HandoffRecord) -> bytes:
        writes.append(noted)
        return handoff.dump(noted)

    monkeypatch.setattr(node_memory, "dump", dump)
    mesh = mesh_of()
    Host(mesh)
    before = list(writes)
    assert before
    for _ in range(20):
        mesh["A"].take("b", "k")
        mesh.advance(0.5)
    assert writes == before


def test_a_number_has_its_name_before_the_table_has_an_epoch_of_it() -> None:
    mesh = mesh_of()
    Host(mesh)
    node = mesh["A"].node
    number = node.roster.node("new-1")
    assert mesh["A"].table.nodes.node_names()[number] == "new-1"
    assert number not in {of for _, of, _, _ in mesh["A"].table.epochs.origins()}


GOOD = handoff.dump(handoff.HandoffRecord(5, True, ()))
BAD = {
    "nothing": b"\xc1",
    "not ours": b"\xff" * 9,
    "cut off": GOOD[:-1],
    "one bit": GOOD[:6] + bytes([GOOD[6] ^ 1]) + GOOD[7:],
    "another format": zlib.crc32(b"\x91\x09").to_bytes(4, "big") + b"\x91\x09",
    "too little": zlib.crc32(b"\x91\x02").to_bytes(4, "big") + b"\x91\x02",
}


@pytest.mark.parametrize("kind", BAD)
def test_of_a_handoff_that_cannot_be_read_there_is_a_warning(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert handoff.load(BAD[kind]) is None
    assert "the hand-over record in the shared table cannot be used" in caplog.text


def test_a_handoff_is_read_as_it_was_written() -> None:
    noted = handoff.HandoffRecord(5, True, (("B", "eu", 7, "127.0.0.1:1", True),))
    assert handoff.load(handoff.dump(noted)) == noted
    assert handoff.load(b"") is None


@pytest.mark.parametrize("lost", [b"", b"\xff" * 9])
@pytest.mark.parametrize("order", ["BC", "CB"])
def test_a_leader_whose_handoff_is_lost_goes_on_and_asks_the_peers(lost: bytes, order: str) -> None:
    mesh = mesh_of()
    host = Host(mesh)
    for name in "ABC":
        assert mesh[name].take("b", "k", 10)
    mesh.advance(1.0)
    assert mesh["A"].take("b", "k", 3)
    host.leader_dies()
    mesh["A"].table.sharing.write_handoff(lost)
    host.another_leads(order)
    assert not mesh["A"].node.memory.complete
    mesh.advance(3.0)
    assert mesh["A"].node.memory.complete
    assert columns(mesh) == [{"A": (13, 0), "B": (10, 0), "C": (10, 0)}] * 3
    assert levels(mesh) == [1000 - 33] * 3
    assert states(mesh) == {"alive"}


def test_the_table_of_another_node_is_refused() -> None:
    mesh = mesh_of()
    with pytest.raises(MeshError, match="used by node 'A', not 'C'"):
        MeshNode(mesh["A"].table, mesh.config, name="C", shared=True)


# -- over real sockets


async def killed(mesh: MeshNetwork) -> None:
    """Closes the sockets of a process, as the kernel does."""
    mesh._running = False
    mesh._driver.stop()
    await mesh._transport.refuse_new()
    for link in mesh.links.all():
        link.abort("killed")
    await mesh._dialer.stop()
    await mesh._transport.stop()
    await mesh._tasks.end()


@pytest.mark.parametrize("dials", [True, False])
async def test_peers_take_the_next_leader_at_once(dials: bool) -> None:
    places = [f"127.0.0.1:{free_port()}" for _ in "AB"]
    tables = [Table(hash_key=bytes(16)) for _ in "AB"]
    buckets = [BucketCore(table, STILL) for table in tables]

    def process(of: int) -> MeshNetwork:
        calls = [places[1 - of]] if dials is (of == 0) else []
        config = MeshConfig(listen=places[of], peers=calls, secret="a secret of this test")
        node = MeshNode(tables[of], config, name="AB"[of], shared=of == 0)
        nodes[of] = node
        return MeshNetwork(node, config, tables[of].now)

    def agreed(taken: int) -> bool:
        return [bucket.peek("k").remaining for bucket in buckets] == [1000 - taken] * 2

    nodes: dict[int, MeshNode] = {}
    peer, first = process(1), process(0)
    async with running(peer):
        await first.start()
        await eventually(lambda: "B" in nodes[0].links and "A" in nodes[1].links)
        assert all(bucket.take("k", 10) for bucket in buckets)
        await eventually(lambda: agreed(20))
        assert all(bucket.take("k") for bucket in buckets)
        await killed(first)
        assert all(bucket.take("k", 100) for bucket in buckets)
        async with running(process(0)):
            await eventually(lambda: agreed(222))
            assert nodes[1].members.status(nodes[1].links["A"], tables[1].now()) == "alive"
            assert nodes[0].memory.complete
