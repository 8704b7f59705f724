"""What a node answers to observers, and that they are no members."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from crdtbucket.errors import WireError
from crdtbucket.mesh.protocol import entries, observers, wire
from crdtbucket.mesh.protocol.entries import Entry
from crdtbucket.mesh.protocol.entry_merger import EntryMerger
from crdtbucket.mesh.protocol.introductions import PLACES
from crdtbucket.mesh.protocol.observers import SLICE, Observers
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh, SimulatedNode
from tests.mesh.protocol import lone_node
from tests.tombstones import add_tombstone

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


def state(node: SimulatedNode, key: str, debt_ns: int, **counts: int) -> wire.Frame:
    """Sends a node what members, by name, have taken of a key in their running epochs."""
    found = node._mesh
    owners = tuple((name, found[name].table.epochs.running) for name in counts)
    columns = tuple((i, 1, taken, 0) for i, taken in enumerate(counts.values()))
    definitions = tuple(node.table.definitions.all())
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
        following = eu.table.outbox.digest(first, LAST, SLICE, True)[3]
        assert answer.items == (first, following - 1 if following else LAST)
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
    assert answer.items == (0, hashes[len(covered)][1] - 1)


def test_busy_keys_are_shown_and_full_ones_only_by_their_hash() -> None:
    simulated = mesh("eu")
    eu = simulated["eu"]
    eu.take("api", "busy", 5)
    eu.take("api", "full", 1)
    place = eu.bucket("api").hash("full")
    simulated.advance(0.2)
    assert read(ask_range(eu)).keys() == {eu.bucket("api").hash("busy")}
    payload = b"".join(half.to_bytes(8, "little") for half in place)
    answer = ask(eu, payload_kind=wire.WANT, payload=payload, items=(1, 2))
    full = read(answer)[place]
    assert (full.debt_ns, full.columns[0][2]) == (0, 1)
    assert answer.items == (0, LAST)


def test_answers_name_the_members_the_configuration_and_the_tombstones() -> None:
    simulated = mesh("eu", "us")
    simulated.advance(1)
    eu = simulated["eu"]
    assert ask_range(eu).config is None
    eu.node.members.updates.advertise((1, 2, 3), None)
    answer = ask_range(eu)
    assert answer.config == (1, 2, 3)
    assert answer.members is not None
    assert {name for name, *_ in answer.members} == {"eu", "us"}
    assert answer.tombstones is None
    epoch = 99
    eu.table.epochs.origin(1, epoch)
    assert add_tombstone(eu.table, epoch)
    assert ask_range(eu).tombstones == (epoch,)
    assert ask_range(eu).ack == 7


def test_what_an_observer_sends_is_merged_like_what_is_relayed() -> None:
    simulated = mesh("eu", "us")
    simulated.advance(1)
    simulated.partition(["eu"], ["us"])
    simulated.advance(2)
    eu = simulated["eu"]
    eu.take("api", "k", 100)
    answer = state(eu, "k", SPEC.emission[0] * 400, us=300)
    assert answer.merge_result == (1, 0, 0)
    assert eu.columns("api", "k") == {"eu": (100, 0), "us": (300, 0)}
    assert eu.peek("api", "k").remaining == 600
    assert state(eu, "k", SPEC.emission[0] * 400, us=300).merge_result == (1, 0, 0)
    assert eu.peek("api", "k").remaining == 600


def test_nothing_is_believed_of_a_peer_that_is_connected() -> None:
    simulated = mesh("eu", "us")
    simulated.advance(1)
    eu = simulated["eu"]
    eu.take("api", "k", 100)
    state(eu, "k", SPEC.emission[0] * 400, us=300)
    assert eu.columns("api", "k") == {"eu": (100, 0)}
    assert eu.peek("api", "k").remaining == 900


def test_more_than_the_limit_allows_is_refused_and_said(caplog: pytest.LogCaptureFixture) -> None:
    simulated = mesh("eu", "us")
    simulated["us"].take("api", "k", 10)
    simulated.advance(1)
    simulated.partition(["eu"], ["us"])
    simulated.advance(2)
    answer = state(simulated["eu"], "k", SPEC.emission[0] * 900, us=10**6)
    assert answer.merge_result == (1, 1, 0)
    taken, refunded = simulated["eu"].columns("api", "k")["us"]
    most = 2 * SPEC.capacity + 4 * SPEC.capacity + 1.25 * SPEC.rate_per_second * (2 + 5)
    assert 10 < taken < most, "the plausible part is counted"
    assert refunded == 0
    state(simulated["eu"], "k", SPEC.emission[0] * 900, us=10**6)
    (said,) = caplog.messages
    assert said.startswith("eu: an observer relays counts of other nodes that no limit known here")


@pytest.mark.parametrize("told", [50, 500])
def test_own_counts_that_an_observer_states_otherwise_change_nothing(told: int) -> None:
    eu = mesh("eu")["eu"]
    eu.take("api", "k", 100)
    epoch = eu.table.epochs.running
    assert state(eu, "k", 1, eu=told).merge_result == (1, 0, 0)
    assert eu.table.epochs.running == epoch
    assert eu.columns("api", "k") == {"eu": (100, 0)}
    assert eu.peek("api", "k").remaining == 900


def observable(node: SimulatedNode) -> Any:
    """All that depends on who is a member."""
    now = node.table.now()
    return (
        sorted(node.node.links),
        node.node.members.advertised(node.node.info, now),
        node.node.members.known(),
        node.node.roster.names(),
        node.table.epochs.origins(),
        node.table.outbox.version,
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
        state(node, "k1", 1, eu=5)
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
    good = wire.Frame(epoch=1, to_epoch=0, seq=1, sent=0, payload=b"x" * 30)
    tables = wire.AnnouncedTables(1, (), ())
    no_tables = "an observer's entries come with their tables"
    for wrong, writes, text in (
        (b"", True, "frame"),
        (wire.encode(good), True, no_tables),
        (wire.encode(dataclasses.replace(good, tables=tables)), True, "malformed entries"),
        (wire.encode(good), False, "entries of one who may only look"),
    ):
        with pytest.raises(WireError, match=f"^{text}"):
            eu.node.observe(wrong, eu.table.now(), writes=writes)
    assert observable(eu) == before
    look = dataclasses.replace(good, payload=b"", payload_kind=wire.WANT)
    assert eu.node.observe(wire.encode(look), eu.table.now(), writes=False)


@pytest.mark.parametrize("kind", [wire.WANT, wire.ENTRIES])
def test_a_frame_of_an_observer_holds_nobody_up(kind: int) -> None:
    """It is answered in one go; a larger one of a member is merged in parts."""
    eu = mesh("eu")["eu"]
    tables = wire.AnnouncedTables(1, (), ())
    frame = wire.Frame(epoch=1, to_epoch=0, seq=1, sent=0, tables=tables, payload_kind=kind)
    most = dataclasses.replace(frame, payload=bytes(wire.MAX_OBSERVER_PAYLOAD))
    large = dataclasses.replace(frame, payload=bytes(wire.MAX_OBSERVER_PAYLOAD + 16))
    with pytest.raises(WireError, match=r"^an observer's payload of 32784 bytes"):
        eu.node.observe(wire.encode(large), eu.table.now())
    if kind == wire.WANT:
        eu.node.observe(wire.encode(most), eu.table.now())


def test_epochs_that_observers_state_take_places_of_one_part() -> None:
    eu = mesh("eu")["eu"]
    owners = tuple(("far", 1_000 + number) for number in range(PLACES + 5))
    tables = wire.AnnouncedTables(1, owners, tuple(eu.table.definitions.all()))
    entry = Entry(*eu.bucket("api").hash("k"), 0, 1, ((0, 1, 5, 0),))
    ask(eu, payload=entries.write(entry), tables_version=1, tables=tables)
    assert len(eu.table.epochs.origins()) == 1 + PLACES
    eu.node.members.introductions.step((), 0)
    assert eu.node.members.bounded.counts() == {"an observer": {"epochs": 5}}


def test_what_the_core_is_given_of_entries_of_an_observer() -> None:
    """They are merged as if from this node: no rates are those of the observer, and no epoch is
    opened."""
    members, table = lone_node.membership()
    core: Any = table
    roster = members._roster
    observers = Observers(core, roster, members, EntryMerger(core, roster, members, "me"))
    table.merges = [lone_node.NOTHING]
    tables = wire.AnnouncedTables(1, (), ())
    look = wire.Frame(epoch=1, to_epoch=0, seq=1, sent=0, tables=tables, payload=b"entries")
    observers.answer(wire.encode(look), lone_node.ME, 5, writes=True)
    ((_, args, given),) = [call for call in table.calls if call[0] == "merge"]
    assert args[0] == b"entries"
    at = given.pop("at")
    assert at == table.now()
    assert given == {"node": 0, "epoch": lone_node.ME.epoch, "newer": False, "reopen": False}


def test_an_answer_looks_at_so_many_keys_and_says_how_far_it_went(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observers, "LOOKS", 500)  # most keys may be full
    eu = mesh("eu")["eu"]
    for number in range(2000):
        eu.take("api", f"k{number}", 5)
    eu._mesh.advance(2.0)
    eu.take("api", "owes", 5)
    first, seen, answers = 0, {}, 0
    while first <= LAST:
        answer = ask_range(eu, first)
        assert answer.items is not None
        seen |= read(answer)
        first, answers = answer.items[1] + 1, answers + 1
    assert [*seen] == [eu.bucket("api").hash("owes")]
    assert answers >= 3
