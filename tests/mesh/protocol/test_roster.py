"""Names and numbers, as one thread builds them while another asks."""

from __future__ import annotations

import itertools
import sys
from array import array
from types import FrameType
from typing import Any

from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.roster import NO_PLACE, Roster
from crdtbucket.spec.bucket_spec import BucketSpec


def test_what_is_announced_is_whole_whenever_another_thread_asks() -> None:
    """A snapshot is taken beside the mesh: positions half filled would send entries without the
    columns of their takes, and the peers would acknowledge them."""
    table = Table(max_keys=64, hash_key=bytes(16), virtual=True, epoch=7)
    BucketCore(table, BucketSpec("b", 10, 1))
    roster = Roster(table, "me")
    for step, lines in enumerate(itertools.combinations(range(1, 16), 2)):
        table.origin(roster.node("peer"), 8 + step)
        for tables, positions in interrupted(roster, lines):
            places = sorted(place for place in positions if place != NO_PLACE)
            assert places == list(range(len(tables.origins))) == list(range(step + 2))


def test_the_owners_that_all_peers_state_are_held_once() -> None:
    table = Table(max_keys=64, hash_key=bytes(16), virtual=True, epoch=7)
    roster = Roster(table, "me")
    stated = [("me", 7), *((f"n{i}", 100 + i) for i in range(5))]
    first, second = (
        roster.resolve(wire.AnnouncedTables(1, tuple((name, epoch) for name, epoch in stated), ()))
        for _ in range(2)
    )
    table.origin(roster.node("late"), 200)
    own, _ = roster.announced()
    kept = {id(owner) for owner in own.origins}
    for resolved in (first, second):
        assert resolved.tables.origins == tuple(stated)
        assert {id(owner) for owner in resolved.tables.origins} <= kept
        assert list(resolved.origins) == [table.origin(roster.node(n), e) for n, e in stated]


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
