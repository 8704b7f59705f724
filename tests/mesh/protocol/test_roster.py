"""Names and numbers: who has which, when they change, and a thread that reads while another builds
them."""

from __future__ import annotations

import itertools
import sys
from array import array
from types import FrameType
from typing import Any

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.roster import MAX_NODES, NO_PLACE, Roster
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.tombstones import add_tombstone


def table_of(*specs: BucketSpec) -> Table:
    table = Table(max_keys=64, hash_key=bytes(16), virtual=True, epoch=7)
    for spec in specs or (BucketSpec("b", 10, 1),):
        BucketCore(table, spec)
    return table


def test_the_lowest_free_id_is_given_and_kept_while_anything_needs_it() -> None:
    table = table_of()
    roster = Roster(table, "me")
    assert [roster.node(name) for name in ("a", "b", "c", "b")] == [1, 2, 3, 2]
    assert roster.changes == 3
    table.epochs.origin(2, 20)
    roster.drop_strangers(["c"])  # "b" has an epoch
    assert roster.names() == table.nodes.node_names() == {0: "me", 2: "b", 3: "c"}
    assert roster.changes == 4
    roster.drop_strangers(["c", "b"])
    assert roster.changes == 4
    assert [roster.node(name) for name in ("d", "e")] == [1, 4]
    assert Roster(table, "me").names() == roster.names()
    assert Roster(table, "me").node("f") == 5
    with pytest.raises(MeshError, match="node 'me', not 'you': give it that name"):
        Roster(table, "you")


def test_a_name_without_room_is_refused_and_the_next_that_leaves_makes_room() -> None:
    roster = Roster(table_of(), "me")
    for number in range(1, MAX_NODES):
        assert roster.node(f"n{number}") == number
    with pytest.raises(WireError, match=r"^more than 1023 nodes are known: 'late' is refused"):
        roster.node("late")
    roster.drop_strangers([f"n{number}" for number in range(1, MAX_NODES) if number != 500])
    assert roster.node("late") == 500


def test_the_owner_of_an_epoch_is_known_while_it_is_announced() -> None:
    table = table_of()
    table.nodes.name_node(0, "me")
    table.nodes.name_node(2, "other")
    roster = Roster(table, "me")
    assert roster.announced()[0] == wire.AnnouncedTables(
        1, (("me", 7),), tuple(table.definitions.all())
    )
    assert [roster.owner(epoch) for epoch in (7, 8)] == ["me", None]
    table.epochs.origin(roster.node("peer"), 8)
    assert [roster.owner(epoch) for epoch in (7, 8)] == ["me", "peer"]
    for _ in range(2):
        assert add_tombstone(table, 8)
        assert [roster.owner(epoch) for epoch in (7, 8)] == ["me", None]
        assert roster.announced()[0].version == 3
    table.epochs.remove_tombstone(8)
    assert roster.owner(8) == "peer"


def test_only_epochs_that_are_admitted_and_of_their_owner_are_followed() -> None:
    table = table_of()
    roster = Roster(table, "me")
    known = table.epochs.origin(roster.node("a"), 10)
    asked: list[tuple[str, int]] = []

    def admits(name: str, epoch: int) -> bool:
        asked.append((name, epoch))
        return epoch != 30

    def followed(*owners: tuple[str, int]) -> list[int]:
        asked.clear()
        resolved = roster.resolve(wire.AnnouncedTables(1, owners, ()), admits)
        assert resolved.origins.typecode == "H"
        return list(resolved.origins)

    assert followed(("a", 10), ("b", 10), ("me", 7)) == [known, 0, 1]
    assert asked == []
    new = known + 1
    assert followed(("b", 20), ("b", 20), ("a", 20), ("b", 30)) == [new, new, 0, 0]
    assert asked == [("b", 20), ("b", 30)]
    assert [owner for owner in table.epochs.origins() if owner[2] not in (7, 10)] == [
        (new, 2, 20, False)
    ]
    for epoch in range(100, 100 + wire.MAX_ORIGINS - len(table.epochs.origins()) - 1):
        table.epochs.origin(0, epoch)
    assert followed(("b", 40)) == [0]
    assert asked == [("b", 40)]
    own = wire.AnnouncedTables(1, (("b", 20), ("me", 7)), ())
    assert list(roster.restore(own).origins) == [new, 1]
    with pytest.raises(WireError, match="more epochs"):
        roster.restore(wire.AnnouncedTables(1, (("b", 40),), ()))


def test_definitions_are_compared_with_the_one_here_and_with_its_candidate() -> None:
    old, new = BucketSpec("b", 10, 1), BucketSpec("b", 20, 2)
    table = table_of(BucketSpec("a", 5, 5))
    bucket = BucketCore(table, old)
    roster = Roster(table, "me")
    tables, _ = roster.announced()
    first, other = roster.restore(tables).definitions, tables.definitions
    assert [row[:2] for row in first] == [(0, 1), (1, 1)]
    assert [row[2:] for row in first] == [row[2:] for row in other]
    bucket.stage(new, 0.5)
    (named, _, *_), (_, _, q, p) = other[1], other[0]
    candidate = table.definitions.candidates()[named]
    told = ((named, other[1][1], q, p), (named, candidate, q, p), (named, 1, q, p), (1, 1, q, p))
    found = roster.restore(wire.AnnouncedTables(2, (), told)).definitions
    assert found == ((1, 1, q, p), (1, 2, q, p), (1, 0, q, p), (-1, 0, q, p))


def test_tables_are_read_again_when_a_number_is_given_up_and_when_there_may_be_room() -> None:
    table = table_of()
    roster = Roster(table, "me")
    table.epochs.origin(roster.node("peer"), 8)
    resolved = roster.restore(wire.AnnouncedTables(1, (("peer", 8),), ()))
    assert resolved.key == roster.key
    keys = [roster.key]
    for change in (
        roster.retry,
        roster.retry,
        lambda: (add_tombstone(table, 8), table.epochs.release(8)),
    ):
        change()
        assert roster.key not in keys
        keys.append(roster.key)


def test_what_is_announced_is_whole_whenever_another_thread_asks() -> None:
    """A snapshot is taken beside the mesh: positions half filled would send entries without the
    columns of their takes, and the peers would acknowledge them."""
    table = table_of()
    roster = Roster(table, "me")
    for step, lines in enumerate(itertools.combinations(range(1, 16), 2)):
        table.epochs.origin(roster.node("peer"), 8 + step)
        for tables, positions in interrupted(roster, lines):
            places = sorted(place for place in positions if place != NO_PLACE)
            assert places == list(range(len(tables.origins))) == list(range(step + 2))


def test_the_owners_that_all_peers_state_are_held_once() -> None:
    table = table_of()
    roster = Roster(table, "me")
    stated = [("me", 7), *((f"n{i}", 100 + i) for i in range(5))]
    first, second = (
        roster.restore(wire.AnnouncedTables(1, tuple((name, epoch) for name, epoch in stated), ()))
        for _ in range(2)
    )
    table.epochs.origin(roster.node("late"), 200)
    own, _ = roster.announced()
    kept = {id(owner) for owner in own.origins}
    for resolved in (first, second):
        assert resolved.tables.origins == tuple(stated)
        assert {id(owner) for owner in resolved.tables.origins} <= kept
        assert list(resolved.origins) == [table.epochs.origin(roster.node(n), e) for n, e in stated]


def interrupted(
    roster: Roster, at: tuple[int, ...]
) -> list[tuple[wire.AnnouncedTables, array[int]]]:
    """What `announced` returns, and what it returns to calls within it after so many lines."""
    seen: list[tuple[wire.AnnouncedTables, array[int]]] = []
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if frame.f_code is not Roster.announced.__code__:
            return None
        lines += 1
        if lines in at:
            sys.settrace(None)
            tables, positions = roster.announced()
            seen.append((tables, positions[:]))  # as it is used now
            sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        seen.append(roster.announced())
    finally:
        sys.settrace(before)
    return seen
