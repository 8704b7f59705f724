"""Which epochs get a place by which introduction, rule by rule: a table, and peers by name."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import introductions as module
from crdtbucket.mesh.protocol import pruning, wire
from crdtbucket.mesh.protocol.introductions import Introductions
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.peer_warnings import BoundedPeers
from crdtbucket.mesh.protocol.pruning import Pruner
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.tombstones import add_tombstone


class Node:
    """A node with two connected peers, each of which may introduce three epochs of six."""

    def __init__(self, epoch: int = 7) -> None:
        self.table = Table(max_keys=16, hash_key=bytes(16), virtual=True, epoch=epoch)
        self.directory: Any = SimpleNamespace(links={}, known={}, running=lambda own: {11})
        for place, name in enumerate("abc", 1):
            self.link(name, place)
        self.directory.links["c"].connected = False
        self.bounded = BoundedPeers("me")
        self.pruner = Pruner(self.table, 0)
        self.peer = PeerState(NodeInfo("a", "", 1, "", 0), 1, 0)
        """It has not got the final counts of any epoch."""
        self.introductions = Introductions(self.table, self.directory, self.bounded, self.pruner)

    def link(self, name: str, epoch: int) -> None:
        info = SimpleNamespace(epoch=epoch)
        self.directory.links[name] = SimpleNamespace(connected=True, info=info)

    @property
    def free(self) -> int:
        return wire.MAX_ORIGINS - 1 - len(self.table.epochs.origins())

    def fill(self, left: int) -> None:
        """With the epochs of linked peers, but for so many places."""
        for epoch in range(100, 100 + self.free - left):
            self.link(f"linked {epoch}", epoch)
            self.table.epochs.origin(0, epoch)

    def admits(self, peer: str, epoch: int, name: str = "far") -> bool:
        """Reads the tables of a peer: an epoch that is admitted is then in the table."""
        admitted = self.introductions.by(peer)(name, epoch)
        if admitted:
            self.table.epochs.origin(1, epoch)
        return admitted

    def dead(self, epoch: int) -> None:
        add_tombstone(self.table, epoch)
        self.table.epochs.release(epoch)

    @property
    def epochs(self) -> set[int]:
        return {epoch for _, _, epoch, _ in self.table.epochs.origins()} - {
            self.table.epochs.running
        }


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLACES", 6)
    monkeypatch.setattr(module, "MEMBER_PLACES", 8)


def test_each_connected_peer_may_fill_its_part_of_the_places() -> None:
    node = Node()
    assert [node.admits("a", epoch) for epoch in range(10, 14)] == [True, True, True, False]
    assert [node.admits("b", epoch) for epoch in range(20, 24)] == [True, True, True, False]
    assert not node.admits("c", 30)  # its part is free, and no place
    for link in node.directory.links.values():
        link.connected = False
    assert not node.admits("a", 14)  # alone it may have all, and there is none
    node.dead(20)
    node.introductions.step((), 0)
    assert node.admits("a", 14)


def test_a_member_that_somebody_sees_gets_one_of_the_last_places() -> None:
    node = Node()
    node.directory.known = {"far": ("far", "", 40, ""), "late": ("late", "", 41, "")}
    for epoch in range(10, 13):
        node.admits("a", epoch)
    assert [node.admits("a", 40, "late"), node.admits("a", 40, "far")] == [False, True]
    assert [node.admits("b", epoch) for epoch in range(20, 23)] == [True, True, False]
    assert node.admits("b", 41, "late")
    node.directory.known |= {"more": ("more", "", 42, ""), "last": ("last", "", 43, "")}
    assert [node.admits("b", 42, "more"), node.admits("b", 43, "last")] == [True, False]


def test_members_that_run_are_not_counted_in_the_part_of_a_hub_until_they_run_no_more() -> None:
    """A gateway to many members had no part left for their next processes."""
    node = Node()
    node.directory.known = {name: (name, "", 10 + i, "") for i, name in enumerate("xyz")}
    assert [node.admits("a", 10 + i, name) for i, name in enumerate("xyz")] == [True] * 3
    assert [node.admits("a", epoch) for epoch in (20, 21)] == [True] * 2
    del node.directory.known["x"]
    assert not node.admits("a", 22)


def test_what_found_no_place_is_said_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    node = Node()
    for epoch in range(10, 15):
        node.admits("a", epoch)
    assert node.introductions.step((), 0)
    assert node.bounded.counts() == {"a": {"epochs": 2}}
    (said,) = caplog.messages
    assert said.startswith(
        "me: a advertises more epochs than its part of the places, 3 of 6; what was"
    )
    assert said.endswith("counted under those beyond is left out until there is room")
    assert not node.introductions.step((), 1)
    assert node.epochs == {10, 11, 12}  # it has had its part: nobody makes room for it
    assert node.bounded.counts() == {"a": {"epochs": 2}}


def test_whoever_has_most_makes_room_for_a_peer_that_has_not_had_its_part() -> None:
    node = Node()
    node.directory.links["b"].connected = False
    assert node.admits("b", 20)
    for epoch in range(10, 15):
        assert node.admits("a", epoch)
    node.directory.links["b"].connected = True
    assert not node.admits("b", 21)
    assert not node.admits("a", 15)  # which had its part, and does not take that back
    assert node.introductions.step({14, 12}, 0)
    assert node.epochs == {20, 10, 11, 12, 14}  # the newest one under which nobody runs
    assert node.admits("b", 21)
    node.directory.links["b"].connected = False
    assert not node.introductions.step({14, 12}, 1)
    assert len(node.epochs) == 6
    assert not node.admits("b", 22)
    assert node.introductions.step(range(30), 2)  # all run
    assert len(node.epochs) == 6
    assert not node.admits("b", 22)
    for epoch in node.epochs:
        node.dead(epoch)
    assert node.introductions.step((), 3)  # nobody has any now
    assert node.admits("b", 22)


@pytest.mark.parametrize(
    ("introduced", "gone", "gives_way"),
    [
        ("aaabb", (10, 11), 21),
        ("baaa", (10,), 12),
        ("bbbaaa", (10, 20, 21), 12),
    ],
)
def test_who_has_most_is_who_has_most_now(
    introduced: str, gone: tuple[int, ...], gives_way: int
) -> None:
    node, numbers = Node(), {"a": itertools.count(10), "b": itertools.count(20)}
    for peer in introduced:
        assert node.admits(peer, next(numbers[peer]))
    for epoch in gone:
        node.dead(epoch)
    node.introductions.step((), 0)
    before = node.epochs
    node.fill(0)
    node.introductions.claimed(2, 60)
    assert before - node.epochs == {gives_way}


def test_a_frame_introduces_no_more_than_the_part_of_its_sender() -> None:
    admit = Node().introductions.by("a")
    assert [admit("far", epoch) for epoch in range(10, 14)] == [True, True, True, False]


def test_what_is_gone_gives_its_place_back() -> None:
    node = Node()
    for epoch in range(10, 14):
        node.admits("a", epoch)
    for epoch in (10, 11, 12):
        node.dead(epoch)
    assert not node.admits("a", 14)  # not before a step
    node.introductions.step((), 0)
    assert [node.admits("a", epoch) for epoch in range(14, 18)] == [True, True, True, False]


def test_what_a_peer_counts_again_has_a_place_of_its_part() -> None:
    """This does not hold for an epoch that a peer has introduced already."""
    node = Node()
    assert node.admits("b", 99)
    for epoch in (99, 20, 21, 22, 23):
        node.table.epochs.origin(1, epoch)
        node.pruner.advertised(node.peer, [epoch], {7}, 0)
    again = node.introductions.again
    assert [e for e in (20, 21, 22, 23, 99) if again("a", "far", e)] == [20, 21, 22, 99]


def test_dead_epochs_of_a_part_that_is_nearly_used_up_give_way_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once peers have had the time to get the tombstones: else they introduce them again."""
    monkeypatch.setattr(module, "PLACES", 16)
    node, died, got = Node(), pruning.SETTLED_NS, pruning.SETTLED_NS // 3
    assert all(node.admits("a", epoch) for epoch in range(10, 18))
    assert all(node.admits("b", epoch) for epoch in (20, 21))
    for now in (0, died - 1, died):
        node.pruner.step([node.peer], {7, 10}, now)
        assert not node.introductions.step({10}, now)
        assert [*node.pruner.tombstones] == ([11, 12] if now == died else [])
    for now in (died + got - 1, died + got):
        assert not node.admits("a", 18)
        node.introductions.step({10}, now)
    assert node.admits("a", 18)
    assert node.epochs == {10, *range(13, 19), 20, 21}


def test_where_all_parts_together_are_nearly_used_up_the_longest_dead_give_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else what a large snapshot brings keeps the epochs of honest peers out."""
    monkeypatch.setattr(module, "PLACES", 16)
    node, died = Node(), pruning.SETTLED_NS
    for epoch in range(40, 52):
        node.table.epochs.origin(3, epoch)
    assert all(node.admits("a", epoch) for epoch in range(10, 13))
    for now in (0, died, died + died // 3):
        node.pruner.step([node.peer], {7, *range(10, 13), *range(44, 52)}, now)
        node.introductions.step((), now)
    assert node.epochs == {*range(43, 52), *range(10, 13)}
    assert all(node.admits("a", epoch) for epoch in range(13, 17))


def test_the_epoch_of_a_linked_peer_has_a_place_whoever_advertised_it() -> None:
    node = Node()
    for epoch in (10, 11, 12):
        node.admits("a", epoch)
    node.introductions.claimed(1, 11)  # it is the peer's indeed, and none of the introduced ones
    assert node.epochs == {10, 11, 12}
    assert node.admits("a", 13)
    assert not node.admits("a", 14)
    node.introductions.claimed(2, 12)  # another peer says that it is node 1's
    assert node.epochs == {10, 11, 13}
    assert node.admits("a", 14)
    node.introductions.claimed(2, 50)
    assert node.epochs == {10, 11, 13, 14}
    node.dead(13)
    node.introductions.claimed(1, 13)  # its number was given up meanwhile
    assert node.admits("a", 15)


def test_a_full_table_makes_room_for_a_linked_peer() -> None:
    node = Node()
    for epoch in (10, 11, 12):
        node.admits("a", epoch)
    node.fill(1)
    node.introductions.claimed(2, 60)
    assert {10, 11, 12} <= node.epochs  # one place is left
    node.table.epochs.origin(2, 60)
    node.introductions.claimed(2, 60)
    assert {10, 11, 12} <= node.epochs  # it has one
    node.link("d", 60)
    node.introductions.by("b")("far", 13)  # for which there is no room
    node.introductions.claimed(2, 61)
    assert node.epochs & {10, 11, 12} == {10, 11}
    node.table.epochs.origin(2, 61)


def test_what_a_node_remembers_has_its_part_of_the_places_and_makes_room_as_others_do() -> None:
    """Else peers filled the table beside a large snapshot, and a linked peer found no place."""
    node = Node()
    for epoch in range(40, 44):
        node.table.epochs.origin(3, epoch)
    assert [node.admits("a", epoch) for epoch in (10, 11, 12)] == [True, True, False]
    assert node.introductions.step({43}, 0)
    assert node.epochs == {40, 41, 43, 10, 11}
    assert node.admits("a", 12)
    for epoch in range(50, 50 + node.free):
        node.table.epochs.origin(3, epoch)
    node.introductions.claimed(2, 4)
    assert node.table.epochs.origin(2, 4)


def test_an_epoch_whose_link_is_gone_is_remembered() -> None:
    node = Node()
    for link in node.directory.links.values():
        node.table.epochs.origin(1, link.info.epoch)
    assert [node.admits("a", epoch) for epoch in (10, 11, 12)] == [True] * 3
    node.directory.links["b"].connected = False
    assert node.admits("a", 13)
    assert not node.admits("a", 14)
    node.introductions.claimed(1, 2)  # it is linked again
    node.directory.links["b"].connected = True
    assert node.admits("b", 14)
    assert not node.admits("b", 15)


def test_a_peer_that_goes_on_under_another_epoch_introduces_the_one_before() -> None:
    node = Node()
    assert [node.introductions.follow("a", epoch) for epoch in (10, 10, 11, 12, 13)] == [
        True, True, True, True, False,
    ]  # fmt: skip
    assert not node.introductions.follow("a", 13)
    assert node.introductions.step((), 0)  # they are in no table: all places are free again
    assert node.bounded.counts() == {"a": {"epochs": 2}}
    assert [node.introductions.follow("a", epoch) for epoch in (13, 14, 15, 16)] == [
        True, True, True, False,
    ]  # fmt: skip
    for epoch in (20, 21, 22):
        assert node.introductions.follow("b", epoch)
    node.directory.links["c"].connected = node.directory.links["a"].connected = False
    for epoch in (23, 24):
        assert node.introductions.follow("b", epoch)
    assert not node.introductions.follow("b", 25)  # all places of members are taken, too


def test_what_a_peer_only_advertised_gives_way_to_an_epoch_of_its_own() -> None:
    """The newest gives way first, but none under which a process runs, as 11 does here."""
    node = Node()
    assert [node.admits("a", epoch) for epoch in (10, 11, 12)] == [True] * 3
    followed = [node.introductions.follow("a", epoch) for epoch in (20, 21, 22)]
    assert followed == [True, True, False]
    assert node.epochs == {11}
    node.introductions.step((), 0)  # 20 and 21 are in no table
    assert [node.admits("a", epoch) for epoch in (20, 21)] == [True, True]
    assert node.introductions.follow("a", 22)  # they are only advertised now
    assert node.epochs == {11, 20}


class Large(Node):
    """A node whose table is walked through in parts. Peer `a` has announced 12 and 13, and 13 has a
    column on each key."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(13)
        monkeypatch.setattr(pruning, "PRUNED_PLACES", 4)
        self.bucket = BucketCore(self.table, BucketSpec("b", 100, 1, "1h"))
        for number in range(10):
            self.bucket.take(f"k{number}", 30)
        self.admits("a", 10)
        self.admits("a", 12)
        assert self.introductions.by("a")("far", 13)
        self.table.epochs.open(7)

    @property
    def held(self) -> int:
        return sum((0, 13) in self.bucket.columns(f"k{number}") for number in range(10))


def test_what_gives_way_in_a_large_table_is_removed_a_part_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bad peer may change its epoch with every frame: another one comes after the first part."""
    node = Large(monkeypatch)
    assert node.introductions.follow("a", 20)
    assert node.held == 10
    assert node.pruner.step([], {7, 10, 12}, 0) == ()  # nothing is sent to peers
    node.pruner.prune_some()
    assert node.introductions.follow("a", 21)
    for left in (2, 0):
        assert node.epochs == {10, 12, 13}
        node.pruner.prune_some()
        assert node.held == left
    assert node.epochs == {10, 12}
    for _ in range(3):
        node.pruner.prune_some()
    assert node.epochs == {10}
    assert [node.bucket.peek(f"k{number}").remaining for number in range(10)] == [70] * 10


def test_what_gives_way_and_runs_after_all_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Large(monkeypatch)
    node.introductions.follow("a", 20)
    node.pruner.returned(13)
    for _ in range(6):
        node.pruner.prune_some()
    assert node.held == 10
    assert node.epochs == {10, 12, 13}


def test_the_process_that_leads_next_goes_on_with_what_gives_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Large(monkeypatch)
    node.introductions.follow("a", 20)
    node.pruner.prune_some()
    later = Pruner(node.table, 0)
    for _ in range(3):
        later.prune_some()
    assert node.held == 0
    later.step([], {7, 10, 12}, pruning.KEPT_NS + 1)
    assert node.epochs == {10, 12}


def test_a_linked_peer_gets_its_place_at_once_in_a_large_table_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Large(monkeypatch)
    node.introductions.claimed(2, 13)  # another peer says that it is node 0's
    assert node.epochs == {10, 12}


def test_a_large_table_that_is_full_makes_room_for_a_linked_peer_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Large(monkeypatch)
    node.fill(0)
    node.introductions.claimed(2, 60)
    node.table.epochs.origin(2, 60)
    assert 13 not in node.epochs


def test_in_a_large_table_whoever_has_most_makes_room_a_part_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Large(monkeypatch)
    monkeypatch.setattr(module, "PLACES", 3)
    assert not node.admits("b", 20)
    node.introductions.step({7}, 0)
    for left in (10, 6, 2, 0):
        assert node.held == left
        node.pruner.prune_some()
    assert node.epochs == {10, 12}
    assert node.admits("b", 20)
