"""What a node answers to observers, and that they are no members."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from crdtbucket.errors import WireError
from crdtbucket.mesh.protocol import entries, wire
from crdtbucket.mesh.protocol.entries import Entry
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh, SimulatedNode

LAST = 2**64 - 1
SPEC = BucketSpec("api", 1000, 10)


def mesh(*names: str, **options: Any) -> SimulatedMesh:
    return SimulatedMesh(names, [SPEC], max_keys=20_000, **options)


def ask(node: SimulatedNode, **values: Any) -> wire.Frame:
    node.bucket("api")  # sets its clock
    frame = wire.Frame(epoch=1, to_epoch=0, seq=7, sent=0, **values)
    return wire.decode(node.node.observe(wire.encode(frame), node.table.now()))


def ask_range(node: SimulatedNode, first: int = 0, last: int = LAST) -> wire.Frame:
    return ask(node, payload_kind=wire.RANGE, items=(first, last))


def read(frame: wire.Frame) -> dict[tuple[int, int], Entry]:
    assert frame.tables is not None
    tables = frame.tables
    found = entries.read(frame.payload, len(tables.definitions), len(tables.origins))
    return {(one.lo, one.hi): one for one in found}


def tell(node: SimulatedNode, key: str, debt_ns: int, **counts: int) -> wire.Frame:
    """Tells a node what members, by name, have taken of a key in their running lives."""
    found = node._mesh
    owners = tuple((name, found[name].table.epoch) for name in counts)
    columns = tuple((i, 1, taken, 0) for i, taken in enumerate(counts.values()))
    definitions = tuple(node.table.all_definitions())
    entry = Entry(*node.bucket("api").hash(key), 0, debt_ns, columns)
    return ask(
        node,
        payload=entries.write(entry),
        tables_version=1,
        tables=wire.AnnouncedTables(1, owners, definitions),
    )


def test_all_indebted_keys_are_shown_range_by_range() -> None:
    eu = mesh("eu")["eu"]
    for number in range(5_000):
        eu.take("api", f"k{number}", 5)
    first, seen, answers = 0, {}, 0
    while first <= LAST:
        answer = ask_range(eu, first)
        assert answer.items is not None
        found = read(answer)
        assert all(first <= hi <= answer.items[1] for _, hi in found)
        assert answer.items[0] == first
        seen |= found
        first, answers = answer.items[1] + 1, answers + 1
    assert seen.keys() == {eu.bucket("api").hash(f"k{number}") for number in range(5_000)}
    assert 4 <= answers <= 8


def test_what_does_not_fit_into_a_frame_comes_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    eu = mesh("eu")["eu"]
    for number in range(500):
        eu.take("api", f"k{number}", 5)
    monkeypatch.setattr(wire, "MAX_PAYLOAD", 4_000)
    seen: dict[tuple[int, int], Entry] = {}
    first = 0
    while first <= LAST:
        answer = ask_range(eu, first)
        assert len(answer.payload) <= 4_000
        assert answer.items is not None
        seen |= read(answer)
        first = answer.items[1] + 1
    assert len(seen) == 500
    hashes = sorted(seen, key=lambda place: place[1])
    wanted = b"".join(lo.to_bytes(8, "little") + hi.to_bytes(8, "little") for lo, hi in hashes)
    answer = ask(eu, payload_kind=wire.WANT, payload=wanted)
    assert answer.items is not None
    covered = [place for place in hashes if place[1] <= answer.items[1]]
    assert 0 < len(covered) < 500
    assert list(read(answer)) == covered


def test_busy_keys_are_shown_and_full_ones_only_by_their_hash() -> None:
    simulated = mesh("eu")
    eu = simulated["eu"]
    eu.take("api", "busy", 5)
    eu.take("api", "full", 1)
    place = eu.bucket("api").hash("full")
    simulated.advance(0.2)
    assert read(ask_range(eu)).keys() == {eu.bucket("api").hash("busy")}
    payload = b"".join(half.to_bytes(8, "little") for half in place)
    full = read(ask(eu, payload_kind=wire.WANT, payload=payload))[place]
    assert (full.debt_ns, full.columns[0][2]) == (0, 1)


def test_answers_name_the_members_and_the_marks() -> None:
    simulated = mesh("eu", "us")
    simulated.advance(1)
    eu = simulated["eu"]
    answer = ask_range(eu)
    assert answer.members is not None
    assert {name for name, *_ in answer.members} == {"eu", "us"}
    assert answer.tombstones is None
    epoch = 99
    eu.table.origin(1, epoch)
    assert eu.table.add_tombstone(epoch)
    assert ask_range(eu).tombstones == (epoch,)
    assert ask_range(eu).ack == 7


def test_what_is_told_is_merged_like_what_is_relayed() -> None:
    simulated = mesh("eu", "us")
    simulated.advance(1)
    simulated.partition(["eu"], ["us"])
    simulated.advance(2)
    eu = simulated["eu"]
    eu.take("api", "k", 100)
    answer = tell(eu, "k", SPEC.emission[0] * 400, us=300)
    assert answer.merge_result == (1, 0, 0)
    assert eu.columns("api", "k") == {"eu": (100, 0), "us": (300, 0)}
    assert eu.peek("api", "k").remaining == 600
    assert tell(eu, "k", SPEC.emission[0] * 400, us=300).merge_result == (1, 0, 0)
    assert eu.peek("api", "k").remaining == 600


def test_nothing_is_believed_of_a_peer_that_is_connected() -> None:
    simulated = mesh("eu", "us")
    simulated.advance(1)
    eu = simulated["eu"]
    eu.take("api", "k", 100)
    tell(eu, "k", SPEC.emission[0] * 400, us=300)
    assert eu.columns("api", "k") == {"eu": (100, 0)}
    assert eu.peek("api", "k").remaining == 900


def test_more_than_the_limit_allows_is_refused_and_said() -> None:
    simulated = mesh("eu", "us")
    simulated["us"].take("api", "k", 10)
    simulated.advance(1)
    simulated.partition(["eu"], ["us"])
    simulated.advance(2)
    answer = tell(simulated["eu"], "k", SPEC.emission[0] * 900, us=10**6)
    assert answer.merge_result == (1, 1, 0)
    taken, refunded = simulated["eu"].columns("api", "k")["us"]
    most = 2 * SPEC.capacity + 4 * SPEC.capacity + 1.25 * SPEC.rate_per_second * (2 + 5)
    assert 10 < taken < most, "the plausible part is counted"
    assert refunded == 0


def test_own_counts_that_are_told_smaller_change_nothing() -> None:
    eu = mesh("eu")["eu"]
    eu.take("api", "k", 100)
    epoch = eu.table.epoch
    assert tell(eu, "k", 1, eu=50).merge_result == (1, 0, 0)
    assert eu.table.epoch == epoch
    assert eu.columns("api", "k") == {"eu": (100, 0)}


def observable(node: SimulatedNode) -> Any:
    """All that depends on who is a member."""
    now = node.table.now()
    return (
        sorted(node.node.links),
        node.node.members.advertised(node.node.info, now),
        node.node.known(),
        node.node.names(),
        node.table.origins(),
        node.table.version,
    )


def test_an_observer_is_no_member_and_leaves_nothing_behind() -> None:
    simulated = mesh("eu", "us")
    for number in range(100):
        simulated["eu"].take("api", f"k{number}", 5)
    simulated.advance(1)
    eu, us = simulated["eu"], simulated["us"]
    before = [observable(node) for node in (eu, us)]
    place = us.bucket("api").hash("k1")
    for node in (eu, us):
        ask_range(node)
        payload = b"".join(half.to_bytes(8, "little") for half in place)
        ask(node, payload_kind=wire.WANT, payload=payload)
        tell(node, "k1", 1, eu=5)
    assert [observable(node) for node in (eu, us)] == before


def test_observation_changes_no_decision() -> None:
    """Two meshes with the same traffic, one of them observed all the time."""
    traces = []
    for watched in (False, True):
        simulated = mesh("eu", "us", "ap", seed=5)
        trace = []
        for step in range(300):
            for number, name in enumerate(("eu", "us", "ap")):
                node = simulated[name]
                trace.append(bool(node.take("api", f"k{step % 7}", 20 + number)))
                if watched:
                    ask_range(node)
            simulated.advance(0.02)
        traces.append(trace)
    assert traces[0] == traces[1]
    assert 0 < sum(traces[0]) < len(traces[0])


def test_wrong_frames_change_nothing() -> None:
    eu = mesh("eu")["eu"]
    eu.take("api", "k", 5)
    before = observable(eu)
    good = wire.Frame(epoch=1, to_epoch=0, seq=1, sent=0)
    for wrong in (
        b"",
        wire.encode(dataclasses.replace(good, payload=b"x")),  # no tables
        wire.encode(
            dataclasses.replace(
                good, payload=b"x" * 30, tables_version=1, tables=wire.AnnouncedTables(1, (), ())
            )
        ),
    ):
        with pytest.raises(WireError):
            eu.node.observe(wrong, eu.table.now())
    assert observable(eu) == before
