"""A frame of many entries is merged in parts, and each of its counts is charged once, whatever
happens between two parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol import entry_merger
from crdtbucket.mesh.protocol.entry_merger import PART, PART_ROOM
from crdtbucket.mesh.protocol.member_directory import ALIVE_NS
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.tombstones import add_tombstone

SPEC = BucketSpec("b", 100, 1, "1h")
LARGER = BucketSpec("b", 200, 1, "1h")
KEYS = 12


class Node:
    """A node with one bucket, at a time that stands still."""

    def __init__(self, name: str, epoch: int, max_keys: int = 64) -> None:
        self.table = Table(max_keys=max_keys, hash_key=bytes(16), virtual=True, epoch=epoch)
        self.bucket = BucketCore(self.table, SPEC)
        self.node = MeshNode(self.table, MeshConfig(secret="s" * 32), name=name, seed=1)
        self.node.memory.remember(0)

    def link(self, *others: Node) -> None:
        for other in others:
            self.node.connected(other.node.info, 0)
            other.node.connected(self.node.info, 0)

    def round(self, *peers: str) -> list[bytes]:
        """The frames of the next round to these peers."""
        now = max(self.table.now(), self.node.next_tick(self.table.now()))
        self.table.set_time(now)
        frames = self.node.tick(now)
        while self.node.next_tick(now) <= now:
            frames += self.node.tick(now)
        return [data for name, data in frames if name in peers]

    def get(self, name: str, frames: list[bytes]) -> None:
        for data in frames:
            self.node.receive(name, data, self.table.now())

    def debts(self, keys: int = KEYS) -> list[int]:
        return [
            self.bucket.spec.capacity - self.bucket.peek(f"k{i}").remaining for i in range(keys)
        ]

    @property
    def merged(self) -> int:
        return self.node.counters["merged"]


@pytest.fixture
def trio() -> tuple[Node, Node, Node]:
    """Three linked nodes; the first two have taken 10 and 5 of each key, and sent nothing of
    that."""
    one, other, me = Node("one", 11), Node("other", 22), Node("me", 33)
    me.link(one, other)
    for node, cost in ((one, 10), (other, 5)):
        me.get(node.node.name, node.round("me"))
        for i in range(KEYS):
            node.bucket.take(f"k{i}", cost)
    return one, other, me


def entries_of(frames: list[bytes]) -> bytes:
    """The one frame that is large enough to have entries."""
    return max(frames, key=len)


def begun(me: Node, frame: bytes) -> Iterator[object]:
    """The parts of a frame of `one`, of which the first was taken in."""
    parts = me.node.parts("one", frame, me.table.now())
    assert next(parts)[1]
    assert me.merged == 4
    return parts


def test_a_part_merges_so_many_entries_and_the_last_one_acknowledges_all() -> None:
    keys = PART + 100
    one, me = Node("one", 11, 8_192), Node("me", 33, 8_192)
    me.link(one)
    me.get("one", one.round("me"))
    one.bucket.take_many([f"k{i}" for i in range(keys)], 10)
    frame = entries_of(one.round("me"))
    seen, link, before = [], me.node.links["one"], 0
    for _, more in me.node.parts("one", frame, me.table.now()):
        seen.append((me.merged - before, link.received.highest == one.node.links["me"].seq, more))
        before = me.merged
    assert seen == [(PART, False, True), (100, True, False)]
    assert me.debts(keys) == [10] * keys
    assert me.node.members.bounded.counts() == {"one": {"frames": 1}}


def test_a_part_that_looks_for_room_in_a_full_table_is_smaller() -> None:
    keys = 2 * PART_ROOM
    one, me = Node("one", 11, 4_096), Node("me", 33, keys)
    me.link(one)
    me.get("one", one.round("me"))
    me.bucket.take_many([f"own {i}" for i in range(keys)], 10)
    one.bucket.take_many([f"k{i}" for i in range(keys)], 10)
    frame = entries_of(one.round("me"))
    looked = [
        me.table.stats()["evicted_indebted"] + me.node.counters["dropped"]
        for _ in me.node.parts("one", frame, me.table.now())
    ]
    assert looked == [PART_ROOM, keys]
    assert me.merged + me.node.counters["dropped"] == keys


def other_sends(one: Node, other: Node, me: Node) -> None:
    me.get("other", other.round("me"))


def is_reloaded(one: Node, other: Node, me: Node) -> None:
    me.bucket = BucketCore(me.table, LARGER)


def opens_an_epoch(one: Node, other: Node, me: Node) -> None:
    me.table.epochs.open(34)


def sends_its_round(one: Node, other: Node, me: Node) -> None:
    one.get("me", me.round("one"))


@pytest.mark.parametrize("between", [other_sends, is_reloaded, opens_an_epoch, sends_its_round])
def test_whatever_comes_between_two_parts_each_count_is_charged_once(
    trio: tuple[Node, Node, Node],
    between: Callable[[Node, Node, Node], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entry_merger, "PART", 4)
    one, other, me = trio
    parts = begun(me, entries_of(one.round("me")))
    between(one, other, me)
    assert [more for _, more in parts] == [True, False]  # type: ignore[attr-defined]
    me.get("other", other.round("me"))
    assert me.debts() == [15] * KEYS


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize(
    ("seconds", "rounds", "stood_still"),
    [(0.2, 0, False), (2.0, 0, True), (2.0, 3, True), (5.0, 14, False), (0.8, 3, False)],
)
def test_a_peer_stood_still_where_it_has_made_few_rounds_in_a_long_time(
    trio: tuple[Node, Node, Node], seconds: float, rounds: int, stood_still: bool, linked: bool
) -> None:
    """Of these rounds none arrives: frames of the link are lost, or there is no link."""
    one, _, me = trio
    me.get("one", one.round("me"))
    now = me.table.now() + round(seconds * 1e9)
    if not linked:
        me.node.disconnected("one", me.table.now())
        one.node.disconnected("me", one.table.now())
    for _ in range(rounds):
        one.round("me")
    for node in (one, me):
        node.table.set_time(now)
    if not linked:
        me.link(one)
    me.get("one", one.round("me")[:1])
    link = me.node.links["one"]
    assert (link.woke_until > me.table.now()) is stood_still
    assert link.woke_until <= me.table.now() + ALIVE_NS


def test_a_peer_that_is_met_for_the_first_time_did_not_stand_still() -> None:
    one, me = Node("one", 11), Node("me", 33)
    me.link(one)
    for node in (one, me):
        node.table.set_time(3_600 * 10**9)
    me.get("one", one.round("me"))
    assert me.node.links["one"].woke_until < 0


def test_an_image_that_was_reverted_did_not_stand_still() -> None:
    """It counts from an earlier number on, and gets at last to those that came before."""
    one, me = Node("one", 11), Node("me", 33)
    me.link(one)
    for _ in range(30):
        me.get("one", one.round("me"))
    me.node.disconnected("one", me.table.now())
    one.node.links["me"].seq = 5
    me.node.connected(one.node.info, me.table.now())
    for _ in range(60):
        me.get("one", one.round("me"))
    assert me.node.links["one"].received.highest > 60
    assert me.node.links["one"].woke_until < 0


def test_a_frame_that_was_given_up_between_two_parts_comes_again_and_is_charged_once(
    trio: tuple[Node, Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_merger, "PART", 4)
    one, _, me = trio
    begun(me, entries_of(one.round("me"))).close()  # type: ignore[attr-defined]
    assert me.debts() == [10] * 4 + [0] * (KEYS - 4)
    one.get("me", me.round("one"))
    one.table.set_time(5 * 10**9)
    me.table.set_time(5 * 10**9)
    me.get("one", one.round("me"))
    assert me.debts() == [10] * KEYS


def test_a_number_that_became_another_epochs_between_two_parts_is_given_no_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The frame brings counts of a third node, whose epoch was pruned and released meanwhile."""
    monkeypatch.setattr(entry_merger, "PART", 4)
    one, third, me = Node("one", 11), Node("third", 22), Node("me", 33)
    one.link(third, me)
    for i in range(KEYS):
        third.bucket.take(f"k{i}", 5)
    one.get("third", third.round("one"))
    for i in range(KEYS):
        one.bucket.take(f"k{i}", 10)
    parts = begun(me, entries_of(one.round("me")))
    number = next(at for at, _, epoch, _ in me.table.epochs.origins() if epoch == 22)
    assert add_tombstone(me.table, 22)
    me.table.epochs.release(22)
    new = me.node.roster.node("new")
    assert me.table.epochs.origin(new, 99) == number
    assert [more for _, more in parts] == [True, False]  # type: ignore[attr-defined]
    assert not any((new, 99) in me.bucket.columns(f"k{i}") for i in range(KEYS))
    assert me.debts() == [15] * KEYS
