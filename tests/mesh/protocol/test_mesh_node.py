"""The protocol machine, driven without sockets: what it accepts, sends, refuses and forgets."""

from __future__ import annotations

import dataclasses

import pytest

from crdtbucket.errors import MeshError, NodeConflict, WireError
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.fuzz import fuzz

SPEC = BucketSpec("b", 100, 1, "1h")
NS = 10**9


def mesh_of(size: int = 2, **options: object) -> SimulatedMesh:
    return SimulatedMesh("ABCD"[:size], [SPEC], **{"latency": 0.01, "seed": 5, **options})  # type: ignore[arg-type]


def frames_to(mesh: SimulatedMesh, name: str) -> list[bytes]:
    """What arrives at a node from now on, first to last."""
    got: list[bytes] = []
    receive = mesh[name].receive

    def recording(source: str, life: int, data: bytes) -> None:
        got.append(data)
        receive(source, life, data)

    mesh[name].receive = recording  # type: ignore[method-assign]
    return got


def local(mesh: SimulatedMesh, name: str) -> int:
    return mesh[name].local_ns(mesh.now_ns)


def test_a_frame_of_a_stranger_is_refused() -> None:
    mesh = mesh_of()
    with pytest.raises(MeshError, match="no link"):
        mesh["A"].node.receive("nobody", b"", 0)


def test_broken_frames_change_nothing() -> None:
    given, taken = fuzz(1.0, seed=11)
    assert given > 200
    assert 0 < taken < given


@pytest.mark.parametrize("extreme", [2**63 - 1, 1 - 2**63])
def test_an_extreme_time_in_a_frame_ends_no_later_tick(extreme: int) -> None:
    mesh = mesh_of()
    got = frames_to(mesh, "B")
    mesh["B"].take("b", "k", 40)
    mesh.advance(0.2)
    frame = wire.decode(got[-1])
    for number in range(30):
        now = local(mesh, "B")
        bad = dataclasses.replace(
            frame, sent=extreme, seq=10_000 + number, payload=b"", echo=now - 10**7, hold=0
        )
        mesh["B"].node.receive("A", wire.encode(bad), now)
        mesh.advance(0.1)
    mesh.advance(10.0)
    assert mesh["B"].peek("b", "k").remaining == 60
    mesh["B"].take("b", "k", 5)
    mesh.advance(1.0)
    assert mesh["A"].columns("b", "k") == {"B": (45, 0)}


def test_a_drift_through_a_partition_moves_no_level(caplog: pytest.LogCaptureFixture) -> None:
    mesh = mesh_of(3, gossip_interval=1.0, clock_drift_ppm={"A": 500.0, "B": -500.0, "C": -500.0})
    mesh.advance(5.0)
    mesh.partition("A", "BC")
    mesh.advance(1800.0)
    for name in "ABC":
        mesh[name].take("b", "k", 30)
    mesh.heal()
    mesh.advance(10.0)
    assert "jump" not in caplog.text
    assert {mesh[name].peek("b", "k").remaining for name in "ABC"} == {10}


def after_a_take() -> tuple[SimulatedMesh, list[bytes]]:
    """A mesh in which A has taken 5 tokens, and the frames that B got since."""
    mesh = mesh_of()
    got = frames_to(mesh, "B")
    mesh["A"].take("b", "k", 5)
    mesh.advance(0.3)
    return mesh, got


def test_malformed_entries_are_refused_and_not_acknowledged() -> None:
    mesh, got = after_a_take()
    frame = next(f for f in map(wire.decode, got) if f.payload)
    link = mesh["B"].node.links["A"]
    bad = dataclasses.replace(frame, epoch=4711, seq=10_000, payload=frame.payload + b"\xff")
    with pytest.raises(WireError, match="malformed entries"):
        mesh["B"].node.receive("A", wire.encode(bad), local(mesh, "B"))
    assert not link.received.seen(10_000)
    assert link.info.epoch == frame.epoch
    assert mesh["B"].columns("b", "k") == {"A": (5, 0)}


def test_a_repeated_frame_is_counted_once() -> None:
    mesh, got = after_a_take()
    node, before = mesh["B"].node, mesh["B"].peek("b", "k").debt
    for data in list(got):
        assert node.receive("A", data, local(mesh, "B")) == []
    assert node.counters["duplicates"] >= len(got)
    assert mesh["B"].peek("b", "k").debt == before


def test_entries_whose_tables_have_not_come_wait() -> None:
    mesh, got = after_a_take()
    frame = next(f for f in map(wire.decode, got) if f.payload)
    unknown = dataclasses.replace(frame, seq=999, tables=None, tables_version=77)
    assert mesh["B"].node.receive("A", wire.encode(unknown), local(mesh, "B")) == []
    assert not mesh["B"].node.links["A"].received.seen(999)


def test_early_flush_of_a_large_take() -> None:
    mesh = mesh_of(gossip_interval=2.0)
    mesh.advance(5.0)
    mesh["A"].take("b", "k", 50)
    mesh.advance(0.05)
    assert mesh["B"].peek("b", "k").remaining == 50


def test_flushes_are_ten_ms_apart() -> None:
    mesh = mesh_of(gossip_interval=2.0)
    mesh.advance(5.0)
    got = frames_to(mesh, "B")
    for _ in range(100):
        mesh["A"].take("b", "k", 1)
        mesh.advance(0.001)
    assert 5 <= len(got) <= 11


def test_a_round_of_many_keys_takes_several_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = mesh_of(3, max_keys=80_000)
    mesh.advance(1.0)
    one = mesh["A"]
    bucket = one.buckets["b"]
    bucket.take_many([f"k{n}" for n in range(80_000)])
    now = local(mesh, "A") + NS
    one.table.set_time(now)
    monkeypatch.setattr("crdtbucket.mesh.protocol.gossip.TICK_BYTES", 1)
    sent = []
    while one.node.next_tick(now) <= now:
        sent.append({name for name, _ in one.node.tick(now)})
    assert sent == [set(), {"B"}, {"C"}]  # collects, and then a link in each tick
    assert one.node.links["B"].acked.gaps(one.table.outbox.version)
    mesh.advance(3.0)
    assert all(mesh[name].peek("b", "k79999").remaining == 99 for name in "ABC")


def test_a_peer_that_says_goodbye_has_left_and_all_it_took_is_known() -> None:
    mesh = mesh_of()
    mesh["A"].take("b", "k", 30)
    node = mesh["A"].node
    for frames in node.leave(local(mesh, "A")):
        mesh.send(mesh["A"], frames)
    mesh.advance(0.05)
    assert mesh["B"].node.members.status(mesh["B"].node.links["A"], local(mesh, "B")) == "left"
    assert mesh["B"].peek("b", "k").remaining == 70


def test_status_follows_silence() -> None:
    mesh = mesh_of(forget_after=60.0)
    mesh.advance(1.0)
    node, seen = mesh["B"].node, []
    mesh.partition(["A"], ["B"])
    for _ in range(20):
        mesh.advance(1.0)
        seen.append(node.members.status(node.links["A"], local(mesh, "B")))
    assert seen[0] == "alive" or seen[0] == "suspect"
    assert seen[5] == "suspect"
    assert seen[19] == "dead"
    mesh.heal()
    mesh.advance(1.0)
    assert node.members.status(node.links["A"], local(mesh, "B")) == "alive"


def test_the_lag_of_a_peer_is_the_age_of_its_newest_complete_round() -> None:
    mesh = mesh_of(gossip_interval=0.1)
    mesh.advance(1.0)
    node = mesh["B"].node

    def lag() -> float:
        ((ns, _),) = node.members.lags(local(mesh, "B")).values()
        return float(ns) / 1e9

    def longest() -> float:
        ((_, ns),) = node.members.lags(local(mesh, "B")).values()
        return float(ns) / 1e9

    seen = []
    for _ in range(50):
        mesh.advance(0.011)
        seen.append(lag())
    assert 0 < min(seen) < max(seen) < 0.3
    mesh.partition(["A"], ["B"])
    mesh.advance(5.0)
    assert 5.0 < lag() == longest() < 5.3
    mesh.heal()
    mesh.advance(1.0)
    assert lag() < 0.3
    assert 5.0 < longest() < 6.3
    mesh.advance(125.0)
    assert lag() < longest() < 0.3
    for frames in mesh["A"].node.leave(local(mesh, "A")):
        mesh.send(mesh["A"], frames)
    mesh.advance(0.05)
    assert node.members.lags(local(mesh, "B")) == {}


def test_a_peer_silent_beyond_the_hold_is_sent_all_when_it_is_back() -> None:
    mesh = mesh_of()
    mesh.advance(1.0)
    mesh.partition(["A"], ["B"])
    mesh["A"].take("b", "k", 40)
    mesh.advance(70.0)
    assert not mesh["A"].node.links["B"].log_kept
    mesh.heal()
    mesh.advance(2.0)
    assert mesh["B"].peek("b", "k").remaining == 60


def test_members_are_known_by_gossip() -> None:
    mesh = mesh_of(3)
    mesh.advance(2.5)
    known = set(mesh["A"].node.members.directory.known)
    assert known == {"B", "C"}


def test_what_one_peer_is_not_seen_by_another_is_relayed() -> None:
    mesh = mesh_of(3)
    mesh.advance(1.0)
    cut = mesh.cut
    mesh.cut = lambda a, b: {a, b} == {"A", "C"} or cut(a, b)  # type: ignore[method-assign]
    mesh.advance(4.0)
    mesh["A"].take("b", "k", 25)
    mesh.advance(1.0)
    assert mesh["C"].columns("b", "k") == {"A": (25, 0)}
    assert mesh["C"].peek("b", "k").remaining == 75


def test_a_newcomer_warms_up_until_it_has_seen() -> None:
    mesh = mesh_of(2)
    mesh["A"].take("b", "k", 100)
    mesh.advance(1.0)
    mesh.partition(["A"], ["B"])
    mesh.restart("B")
    assert not mesh["B"].take("b", "k", 13).allowed  # a quarter of its half at once
    assert mesh["B"].take("b", "k", 12).allowed
    mesh.heal()
    mesh.advance(1.0)
    assert mesh["B"].node.memory.complete
    assert not mesh["B"].take("b", "k", 1).allowed


def test_the_younger_of_two_with_one_name_reports_it_to_its_owner() -> None:
    mesh = mesh_of()
    mesh.advance(1.0)
    told: list[NodeConflict] = []
    node = mesh["A"].node
    node.subscribe(refusal=told.append)
    mesh.partition("A", "B")
    mesh.advance(2.0)
    with pytest.raises(NodeConflict):
        node.connected(NodeInfo("A", "there", 99, "", 10**18), local(mesh, "A"))
    assert len(told) == 1
    assert "there" in str(told[0])


def test_what_was_too_long_under_way_counts_on_columns_that_are_held() -> None:
    """A link on which every frame takes six seconds."""
    mesh = mesh_of(2)
    mesh["A"].take("b", "k", 10)
    mesh.advance(1.0)
    mesh.change_network(latency=6.0)
    mesh.advance(20.0)
    received = mesh["B"].node.members.links["A"].received
    last = received.highest
    mesh["A"].take("b", "k", 30)
    mesh["A"].take("b", "late", 30)
    mesh.advance(12.0)
    assert mesh["B"].node.counters["stale"] > 0
    assert mesh["B"].columns("b", "k") == {"A": (40, 0)}
    assert mesh["B"].peek("b", "k").remaining == 60
    assert mesh["B"].columns("b", "late") == {}
    assert received.highest == last  # nothing is acknowledged, so the other key comes again
    assert mesh["B"].node.members.lags(local(mesh, "B"))["A"][0] > 20 * 10**9  # no round counts
    mesh.change_network(latency=0.01)
    mesh.advance(12.0)
    assert mesh["B"].columns("b", "late") == {"A": (30, 0)}


def test_the_first_frame_of_one_who_was_taken_for_dead_counts() -> None:
    """It is acknowledged, so what is left out of it does not come again."""
    mesh = mesh_of(3, gossip_interval=1.0)
    mesh.advance(16.0)  # C is linked for long enough to be believed
    members, epoch = mesh["A"].node.members, mesh["B"].table.epochs.running
    mesh["B"].take("b", "k", 50)
    members.forget(members.links["B"], "is gone")
    told = wire.Frame(
        epoch=mesh["C"].table.epochs.running, to_epoch=0, seq=1, sent=0, tombstones=(epoch,)
    )
    members.receive(members.links["C"], told, local(mesh, "A"))
    assert members.links["B"].forgotten
    assert [row for row in mesh["A"].table.epochs.origins() if row[2] == epoch and row[3]]
    mesh.advance(0.1)
    assert mesh["A"].peek("b", "k").remaining == 50
