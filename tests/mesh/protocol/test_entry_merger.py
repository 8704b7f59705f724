"""The entries of a peer that the core gets, and what a node counts and logs of the result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from crdtbucket._core import Merged
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.entries import Entry, write
from crdtbucket.mesh.protocol.entry_merger import (
    BEGINS_NS,
    OWES_NS,
    PART,
    PART_ROOM,
    REMEMBERED_TABLES,
    EntryMerger,
)
from crdtbucket.mesh.protocol.introductions import PLACES
from crdtbucket.mesh.protocol.mismatches import LASTS_NS
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.rollout.staged import Status
from tests.mesh.protocol.lone_node import (
    ME,
    NOTHING,
    PEER,
    SECOND,
    RecordedPart,
    frame,
    linked,
    membership,
    named,
)
from tests.tombstones import add_tombstone

NOW = 100 * SECOND


class Node:
    """A node `me` with links to `peer` and `third`. The core merges nothing: it returns what a test
    wants, and the arguments are looked at."""

    def __init__(self) -> None:
        self.members, self.table = membership()
        self.link, self.third = linked(self.members, PEER, named("third", 3))
        roster = self.members._roster
        self.merger = EntryMerger(self.table, roster, self.members, "me")  # type: ignore[arg-type]
        self.stranger = roster.node("stranger")

    def tables(self, version: int, *owners: tuple[str, int]) -> wire.AnnouncedTables:
        return wire.AnnouncedTables(version, owners, tuple(self.table.definitions.all()))

    def merge(
        self, *results: Merged, now: int = NOW, memory: bool = False, **values: Any
    ) -> Merged:
        self.table.merges += results or (NOTHING,)
        values = {"tables_version": 1, "tables": self.tables(1, ("peer", 9)), **values}
        new = frame(payload=b"entries", **values)
        resolved = self.merger.tables_of(self.link, new)
        assert resolved is not None
        return self.merger.merge(self.link, new, resolved, now, memory=memory)

    def merge_late(self, result: Merged, **values: Any) -> None:
        self.table.merges.append(result)
        self.merger.merge_late(self.link, frame(**{"payload": b"late", **values}), NOW)


def read(node: Node, link: PeerState, version: int, brought: int | None = None) -> int | None:
    """The version of the tables by which a frame of this peer is read; it may bring tables."""
    tables = None if brought is None else node.tables(brought, ("peer", 9))
    found = node.merger.tables_of(link, frame(tables_version=version, tables=tables))
    return None if found is None else found.tables.version


def test_a_frame_is_read_by_the_tables_that_it_names_and_the_newest_few_are_remembered() -> None:
    node = Node()
    assert read(node, node.link, 1) is None
    for version in range(1, REMEMBERED_TABLES + 1):
        assert read(node, node.link, version, brought=version) == version
    assert read(node, node.link, 1) == 1
    assert read(node, node.link, 1, brought=9) is None  # which takes the place of the first
    assert [read(node, node.link, version) for version in (2, 3, 4, 9)] == [2, 3, 4, 9]
    assert read(node, node.third, 9) is None  # its tables are its own


def test_tables_are_read_again_when_numbers_here_have_changed() -> None:
    node = Node()
    new = frame(tables_version=1, tables=node.tables(1, ("peer", 9), ("far", 50)))
    before = node.merger.tables_of(node.link, new)
    assert before is not None
    assert [bool(origin) for origin in before.origins] == [True, True]
    assert node.merger.tables_of(node.link, frame(tables_version=1)) is before
    add_tombstone(node.table, 50)
    node.table.epochs.release(50)
    again = node.merger.tables_of(node.link, frame(tables_version=1))
    assert again is not None
    assert again is not before
    assert again.tables == before.tables
    assert node.merger.tables_of(node.link, frame(tables_version=1)) is again


def test_epochs_that_a_peer_advertises_take_places_of_its_own_part() -> None:
    node = Node()
    many = tuple((f"n{i}", 1000 + i) for i in range(PLACES))
    node.merger.tables_of(node.link, frame(tables=node.tables(1, *many)))
    node.members.introductions.step((), NOW)
    assert node.members.bounded.counts() == {"peer": {"epochs": PLACES // 2}}


def test_what_the_core_is_given_of_a_frame() -> None:
    """In the words of `TableInbox.merge`: whose entries they are, how old, who relays for whom."""
    node = Node()
    node.link.age, node.link.received.highest = 30, 4
    node.link.last_word, node.link.last_seen, node.link.answers_since = 6, NOW, NOW - 70
    node.members.receive(node.link, frame(members=(), unseen=("third",)), NOW)
    cases: tuple[tuple[dict[str, Any], bool, dict[str, Any]], ...] = (
        ({"seq": 5}, False, {"newer": True}),  # an image that was reverted may count so
        ({"seq": 7}, False, {"newer": True, "answers_since": NOW - 70}),
        ({"seq": 6}, False, {"newer": True}),
        ({"seq": 4, "epoch": 10}, False, {"epoch": 10}),
        ({"seq": 4, "flags": wire.JOINING}, False, {"joining": True}),
        ({"seq": 4, "flags": wire.LEAVING}, False, {}),
        ({"seq": 4, "flags": wire.KEEPS_CREDIT}, False, {"keeps_credit": True}),
        ({"seq": 4}, True, {"memory": True}),
    )
    for values, memory, differs in cases:
        node.table.calls.clear()
        assert node.merge(**values, memory=memory) == NOTHING
        ((_, args, given),) = [call for call in node.table.calls if call[0] == "merge"]
        payload, definitions, origins = args
        assert (payload, [row[1] for row in definitions]) == (b"entries", [1])
        assert [*origins] == [node.table.epochs.origin(node.link.node, 9)]
        relays = given.pop("relays")
        assert (relays[node.third.node], relays[node.link.node]) == (1, 0)
        assert (
            given
            == {
                "node": node.link.node,
                "epoch": 9,
                "at": NOW - 30,
                "newer": False,
                "answers_since": None,
                "joining": False,
                "memory": False,
                "keeps_credit": False,
                "silent": None,
                "newcomer": False,
                "woke": False,
                "reopen": False,
                "start": 0,
                "most": PART,
                "crowded": 0,
                "room": 0,
                "most_room": PART_ROOM,
            }
            | differs
        )


@pytest.mark.parametrize(
    ("silent", "answers", "speaks"), [(0, 10, True), (1, 10, False), (0, 11, False)]
)
def test_whom_relays_spoke_for_speaks_for_itself_once_it_answers_what_came_after_that(
    silent: int, answers: int, speaks: bool
) -> None:
    node = Node()
    node.link.last_seen = NOW - silent * node.members.directory.alive_ns
    node.link.steady_since, node.link.answers_since = NOW - 11, NOW - answers
    assert node.merge(seq=1) == NOTHING
    ((_, _, given),) = [call for call in node.table.calls if call[0] == "merge"]
    assert given["answers_since"] == (NOW - 10 if speaks else None)


@pytest.mark.parametrize(
    ("silent", "seen", "owes"),
    [
        (((3, 500),), 0, False),
        (((3, 500),), None, True),  # it is silent here, too
        (((3, 500), (4, 500)), 0, True),
        (((4, 500),), 0, True),  # an earlier process of that name
        ((), 0, True),  # the last entry of this peer is believed
    ],
)
def test_what_a_peer_keeps_for_nodes_that_are_seen_here_is_no_debt(
    silent: tuple[tuple[int, int], ...], seen: int | None, owes: bool
) -> None:
    """Else a newcomer in the middle of a chain owes what its neighbours keep for each other."""
    node = Node()
    near = node.table.nodes.near_ns
    node.third.last_seen = NOW - (near if seen is None else near - 1)
    node.merge(flags=wire.KEEPS_CREDIT, silent=silent)
    ((_, _, given),) = [call for call in node.table.calls if call[0] == "merge"]
    assert given["keeps_credit"] == owes


def test_for_whom_a_peer_keeps_credit_is_told_by_origin() -> None:
    node = Node()
    third = node.table.epochs.origin(node.third.node, 3)
    node.merge(silent=((3, 500), (50, 7)))
    ((_, _, given),) = [call for call in node.table.calls if call[0] == "merge"]
    silent = given["silent"]
    assert (silent.typecode, len(silent)) == ("q", wire.MAX_ORIGINS)
    assert {origin: ns for origin, ns in enumerate(silent) if ns} == {third: 500_000_000}


def test_whoever_began_after_a_peer_fell_silent_is_a_newcomer_and_told_what_it_owes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node()
    node.link.started = 70
    silent: dict[int, list[tuple[int, int]]] = {node.link.node: [(2, 7)]}
    monkeypatch.setattr(
        RecordedPart,
        "silent_before",
        lambda _, began, number: silent[number] if began == 70 else [],
        raising=False,
    )
    node.merge()
    assert node.link.owes_until < NOW
    node.merge(NOTHING._replace(of_silent=1))
    assert node.link.owes_until == NOW + OWES_NS
    silent[node.link.node] = []
    node.merge()
    given = [values["newcomer"] for name, _, values in node.table.calls if name == "merge"]
    assert given == [True, True, False]


def test_a_part_of_a_frame_goes_on_where_the_one_before_ended() -> None:
    node = Node()
    tables = node.tables(1, ("peer", 9))
    new = frame(payload=b"entries", tables_version=1, tables=tables)
    resolved = node.merger.tables_of(node.link, new)
    assert resolved is not None
    node.table.merges += [NOTHING._replace(crowded=3, room=20)]
    before = NOTHING._replace(following=50, crowded=5, room=30, merged=7)
    merged = node.merger.merge(node.link, new, resolved, NOW, memory=False, after=before)
    ((_, _, given),) = [call for call in node.table.calls if call[0] == "merge"]
    assert [given[what] for what in ("start", "crowded", "room")] == [50, 5, 30]
    assert (merged.crowded, merged.room, merged.merged) == (8, 50, 0)
    assert node.members.bounded.counts() == {"peer": {"entries": 3}}


def test_a_late_frame_is_merged_as_one_that_is_late_that_brings_nothing_new() -> None:
    node = Node()
    node.link.age = 30
    node.members.receive(node.link, frame(members=(), unseen=("third",)), NOW)
    node.merge_late(NOTHING, tables_version=1)  # its tables have not come
    node.merge_late(NOTHING, tables_version=1, tables=node.tables(1), payload=b"")
    node.merge_late(NOTHING, tables_version=1, tables=node.tables(1), payload_kind=wire.WANT)
    assert node.table.called("merge") == []
    tables = node.tables(1, ("peer", 9))
    counted = NOTHING._replace(merged=3, lowered=2)
    node.table.merges.clear()
    node.merge_late(counted, seq=2**40, epoch=10, tables_version=1, tables=tables)
    ((_, args, given),) = [call for call in node.table.calls if call[0] == "merge"]
    payload, definitions, origins = args
    assert (payload, [row[1] for row in definitions]) == (b"late", [1])
    assert [*origins] == [node.table.epochs.origin(node.link.node, 9)]
    relays = given.pop("relays")
    assert (relays[node.third.node], relays[node.link.node]) == (1, 0)
    assert given == {
        "node": node.link.node,
        "epoch": 10,
        "at": NOW,
        "newer": False,
        "late": True,
        "reopen": False,
    }
    assert node.merger.counters["merged"] == 3
    assert node.members.bounded.counts() == {"peer": {"debt": 2}}


def test_who_says_first_what_refilled_before_this_process_began_says_nothing_wrong(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A process that begins with a table owes what it took before; the first linked peer says that
    this has refilled, and others do a moment later."""
    node = Node()
    read(node, node.link, 1, brought=1)
    began = node.table.now()
    node.merge(NOTHING._replace(lowered=5), now=began + BEGINS_NS - 1)
    assert (node.members.bounded.counts(), caplog.records) == ({}, [])
    node.merge(NOTHING._replace(lowered=5), now=began + BEGINS_NS)
    assert node.members.bounded.counts() == {"peer": {"debt": 5}}


@pytest.mark.parametrize("late", [False, True])
def test_what_a_merge_has_done_is_counted(late: bool) -> None:
    node = Node()
    merged = NOTHING._replace(
        merged=1,
        ignored=2,
        unknown_bucket=3,
        refused_columns=4,
        capped_columns=5,
        dropped=6,
        gained=7,
        lowered=8,
        crowded=9,
        ahead=10,
        adopted=11,
    )
    read(node, node.link, 1, brought=1)
    merge_one: Callable[[Merged], object] = (
        partial(node.merge_late, tables_version=1) if late else node.merge
    )
    for _ in range(2):
        merge_one(merged)
    expected = {
        "frames": 0,
        "duplicates": 0,
        "stale": 0,
        "merged": 2,
        "ignored": 4,
        "unknown_bucket": 6,
        "refused_columns": 8,
        "capped_columns": 10,
        "dropped": 12,
        "gained": 14,
    }
    assert node.merger.counters == expected
    bounds = {
        "debt": 16,
        "entries": 18,
        "generations": 20,
        "refused_columns": 8,
        "capped_columns": 10,
    }
    assert node.members.bounded.counts() == {"peer": bounds}
    assert node.members.bounded.adopted() == {"peer": 22}


def test_rates_that_count_for_less_than_they_are_and_large_frames_are_counted() -> None:
    node = Node()
    node.table.bucket.take("k", 1)
    first = NOTHING._replace(rates_cut=1, following=50)
    node.merge(first)
    node.merge(first)
    assert node.members.bounded.counts() == {"peer": {"rates": 2, "frames": 2}}


BOUNDS = {
    "lowered": "me: peer advertises debts that are far lower than what is owed here",
    "crowded": "me: peer advertises takes from more keys than its part of this full table",
    "ahead": "me: peer advertises counts under a generation that their node cannot have reached",
    "refused_columns": (
        "me: peer relays counts of other nodes that no limit known here allows; the part that is "
        "plausible is counted. If this goes on, look for a node with a larger limit for these "
        "buckets, or for one that is no node of this mesh and has its secret"
    ),
    "capped_columns": (
        "me: peer took more than any limit known here allows; the counts are kept, and charged as "
        "far as these limits go. If this goes on, compare the configuration of both nodes: "
        "crdtbucket config show"
    ),
}


@pytest.mark.parametrize(("field", "text"), BOUNDS.items())
def test_what_is_not_believed_is_logged_once_a_peer(
    field: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node()
    times: dict[str, Any] = {field: 2}
    beyond = NOTHING._replace(**times)
    node.merge(beyond)
    node.merge(beyond, now=NOW + 599 * SECOND)
    (line,) = caplog.messages
    assert line.startswith(text)
    node.merge(beyond, now=NOW + 600 * SECOND)
    assert caplog.messages[1].startswith(text)
    assert caplog.messages[1].endswith(" (2 more since the last such line)")


def test_both_warnings_of_columns_may_be_logged_of_each_peer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = Node()
    said = [BOUNDS["refused_columns"], BOUNDS["capped_columns"]]
    for link in (node.link, node.third):
        node.link = link
        node.merge(NOTHING._replace(refused_columns=2, capped_columns=2))
    assert caplog.messages == said + [line.replace("peer", "third") for line in said]


def test_larger_counts_of_the_running_epoch_are_merged_when_a_second_peer_agrees(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A key that is full here and was advertised beside these is answered all the same."""
    node = Node()
    bucket, tables = node.table.bucket, node.tables(1, ("me", ME.epoch), ("third", 3))
    bucket.take("full", 1)
    node.table.set_time(node.table.now() + SECOND)
    bucket.take("k", 5)
    entry = write(Entry(*bucket.hash("k"), 0, 1, ((0, 2, 50, 0),)))
    full = write(Entry(*bucket.hash("full"), 0, SECOND, ((1, 1, 50, 0),)))
    results = []
    for link, payload in ((node.link, entry), (node.third, entry + full)):
        new = frame(epoch=link.info.epoch, tables_version=1, tables=tables, payload=payload)
        resolved = node.merger.tables_of(link, new)
        assert resolved is not None
        results.append(node.merger.merge(link, new, resolved, NOW, memory=False))
    assert [(one.merged, one.duplicate_epoch) for one in results] == [(1, False), (2, True)]
    assert [*results[1].answers] == [node.table.find(*bucket.hash("full"))]
    assert node.members.bounded.counts() == {"peer": {"own_epoch": 1}}
    assert node.table.epochs.running != ME.epoch
    text = "a peer has larger counts of epoch 7 than this process; it goes on under the new epoch"
    assert caplog.messages[1:] == [f"me: {text} {node.table.epochs.running:x}"]


def test_nothing_new_is_logged_where_no_epoch_could_be_opened(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = Node()
    node.third.connected = False
    behind = NOTHING._replace(lowered=1, own_behind=1)
    assert node.merge(behind, behind._replace(own_behind=0)).own_behind == 0
    assert len(node.table.called("merge")) == 2
    assert node.members.bounded.counts() == {"peer": {"debt": 2}}
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("status", Status)
def test_definitions_that_differ_by_the_stages_of_a_roll_out_are_not_said(
    status: Status, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node()
    node.members.updates.advertise((2, 7, 1), (2, 7, 1, status, 0))
    mixed = NOTHING._replace(mixed=(0,))
    node.merge(mixed)
    node.merge(mixed, now=NOW + LASTS_NS)
    at_stages = status in (Status.RUNNING, Status.HALTED)
    assert ("is defined otherwise on peer" in caplog.text) is not at_stages


def test_a_bucket_that_is_defined_otherwise_is_said_after_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = Node()
    mixed = NOTHING._replace(mixed=(0,))
    node.merge(mixed)
    node.merge(mixed, now=NOW + LASTS_NS)
    assert [
        line.startswith("me: bucket 'b' is defined otherwise on peer") for line in caplog.messages
    ] == [True]
