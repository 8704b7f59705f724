"""Dead epochs get a tombstone late enough, on all nodes, and a running one never does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import pruning, wire
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.pruning import CROWDED, KEPT_NS, PASSES, ROUNDS, SETTLED_NS, Pruner
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.mesh.protocol.lone_node import RecordingTable
from tests.tombstones import add_tombstone

NS = 10**9
SPEC = BucketSpec("b", 100, 100)


def longest_ns(spec: BucketSpec = SPEC) -> int:
    """The time in which a key fills from its ceiling of debt."""
    return spec.interval_ns * (spec.capacity + spec.max_debt) // spec.refill_rate


def table_with(*dead: int) -> Table:
    """A table with these dead epochs, the last of which has a column on a key in debt."""
    table = Table(max_keys=64, hash_key=bytes(16), virtual=True, epoch=dead[-1] if dead else 7)
    bucket = BucketCore(table, SPEC)
    if dead:
        bucket.take("k", 100)
        table.epochs.open(7)
    for epoch in dead[:-1]:
        table.epochs.origin(1, epoch)
    return table


def link(name: str = "peer", epoch: int = 9) -> PeerState:
    return PeerState(NodeInfo(name, "", epoch, "", 0), 1, 0)


def fresh(peer: PeerState, now: int) -> PeerState:
    """The peer as it is when its process has just begun."""
    peer.started = now
    return peer


def passed(peer: PeerState) -> PeerState:
    peer.passes += PASSES
    return peer


def test_a_dead_epoch_has_a_tombstone_after_its_time_and_its_passes() -> None:
    table, peer = table_with(9, 5), link()
    pruner, settled = Pruner(table, 0), SETTLED_NS + longest_ns()
    running = {7, 9}
    assert pruner.step([peer], running, 0) == ()
    assert pruner.step([peer], running, settled) == ()  # no pass of anti-entropy yet
    assert pruner.step([passed(peer)], running, settled - 1) == ()
    assert pruner.step([peer], running, settled) == (5,)


def test_where_rounds_are_slow_twelve_of_them_are_waited_for() -> None:
    table, peer = table_with(9, 5), link()
    pruner = Pruner(table, 0, SETTLED_NS)
    settled = ROUNDS * SETTLED_NS + longest_ns()
    pruner.step([peer], {7, 9}, 0)
    assert pruner.step([passed(peer)], {7, 9}, settled - 1) == ()
    assert pruner.step([peer], {7, 9}, settled) == (5,)


def test_the_longest_time_to_full_of_indebted_keys_is_waited_for() -> None:
    table, peer = table_with(9, 5), link()
    slow = BucketCore(table, BucketSpec("slow", 100, 1, "1h"))
    pruner = Pruner(table, 0)
    longest = BucketCore(table, SPEC).spec.capacity * 2 * 10**7
    pruner.step([peer], {7, 9}, 0)
    assert pruner.step([passed(peer)], {7, 9}, SETTLED_NS + longest - 1) == ()
    slow.take("k", 1)  # the dead one has no part in it
    assert pruner.step([peer], {7, 9}, SETTLED_NS + longest) == (5,)

    table, peer = table_with(9, 5), link()
    slow = BucketCore(table, BucketSpec("slow", 100, 1, "1h"))
    table.epochs.open(6)
    slow.take("k", 1)
    table.epochs.open(8)
    pruner = Pruner(table, 0)
    pruner.step([peer], {8, 9, 7}, 0)
    assert pruner.step([passed(peer)], {8, 9, 7}, 100 * SETTLED_NS) == (5,)
    assert pruner.step([peer], {8, 9, 7}, longest_ns(slow.spec) + SETTLED_NS - 1) == ()  # 5 is old
    assert pruner.step([peer], {8, 9, 7}, longest_ns(slow.spec) + SETTLED_NS) == (6,)


def test_where_the_keys_are_full_columns_are_history() -> None:
    table, peer = table_with(9, 5), link()
    BucketCore(table, BucketSpec("slow", 100, 1, "1h"))
    pruner = Pruner(table, 0)
    pruner.step([peer], {7, 9}, 0)
    table.set_time(table.now() + 2 * 10**9)
    assert pruner.step([passed(peer)], {7, 9}, SETTLED_NS - 1) == ()
    assert pruner.step([peer], {7, 9}, SETTLED_NS) == (5,)


def test_keys_are_looked_at_slice_by_slice_and_anew_for_each_that_died_later() -> None:
    table = Table(max_keys=20_000, hash_key=bytes(16), virtual=True, epoch=5)
    bucket, peer = BucketCore(table, SPEC), link()
    for number in range(10_000):
        bucket.take(f"k{number}", 2 if number == 9_999 else 1)
    table.epochs.open(6)
    bucket.take("k9999", 1)
    table.epochs.open(7)
    table.set_time(table.now() + 15 * 10**6)  # all but the last are full: it is in the second slice
    pruner = Pruner(table, 0)
    assert pruner.step([peer], {7, 6}, 0) == ()
    assert pruner.step([passed(peer)], {7, 6}, SETTLED_NS) == ()  # the first slice
    assert pruner.step([peer], {7}, SETTLED_NS + 1) == ()  # the second: 5 stands in what owes
    peer.passes += PASSES
    assert pruner.step([peer], {7}, SETTLED_NS + longest_ns()) == (5,)
    late = 2 * SETTLED_NS + longest_ns() + 2
    for later in range(2):  # the look that was under way is older than what it died with
        assert pruner.step([peer], {7}, late + later) == (5,)
    assert pruner.step([peer], {7}, late + 2) == (5, 6)


def test_who_began_after_a_death_must_have_been_sent_all_but_needs_no_passes() -> None:
    late = 10 * SETTLED_NS
    table, peer, newcomer = table_with(9, 5), link(), fresh(link("newcomer", 11), late - 3 * NS)
    pruner = Pruner(table, 0)
    pruner.step([peer], {7, 9}, 0)
    assert pruner.step([passed(peer), newcomer], {7, 9, 11}, late) == ()
    newcomer.sync_place = -1
    assert pruner.step([peer, newcomer], {7, 9, 11}, late) == (5,)


def test_a_peer_that_started_again_is_a_newcomer() -> None:
    table, peer, late = table_with(9, 5), link(), 10 * SETTLED_NS
    peer.passes = 1_000
    pruner = Pruner(table, 0)
    pruner.step([peer], {7, 9}, 0)
    again = fresh(link(epoch=12), late)
    again.sync_place = -1
    assert pruner.step([again], {7, 9, 12}, late) == (5,)


@pytest.mark.parametrize("before", [False, True])
def test_who_is_linked_again_or_late_must_have_made_its_passes_since(before: bool) -> None:
    """It may have counts of the dead one that this node lacks, be it sent all or not."""
    table, peer, other = table_with(9, 5), link(), fresh(link("other", 11), -4 * NS)
    pruner, late = Pruner(table, 0), 10 * SETTLED_NS + longest_ns()
    pruner.step([peer, other] if before else [peer], {7, 9, 11}, 0)
    pruner.step([passed(peer)], {7, 9, 11}, 1)
    other.sync_place = -1
    other.passes = PASSES
    assert pruner.step([peer, other], {7, 9, 11}, late) == ()
    assert pruner.step([peer, passed(other)], {7, 9, 11}, late) == (5,)


def test_a_node_without_peers_adds_no_tombstone() -> None:
    """Others may hold columns that it lacks, and would drop them with it; so may a process that has
    just begun, out of a snapshot."""
    table, late = table_with(9, 5), 10 * SETTLED_NS + longest_ns()
    pruner, peer = Pruner(table, 0), fresh(link(), late)
    for now in (0, late):
        assert pruner.step([], {7, 9}, now) == ()
    peer.sync_place = -1
    assert pruner.step([peer], {7, 9}, late) == ()
    assert pruner.step([passed(peer)], {7, 9}, late) == (5,)


def test_every_live_peer_must_have_passed_but_no_dead_one() -> None:
    table = table_with(9, 5)
    one, other, gone = link("one"), link("other"), link("gone")
    gone.connected = False
    pruner, late = Pruner(table, 0), 10 * SETTLED_NS + longest_ns()
    pruner.step([one, other, gone], {7, 9}, 0)
    assert pruner.step([passed(one), other, gone], {7, 9}, late) == ()
    assert pruner.step([one, passed(other), gone], {7, 9}, late) == (5,)


def test_an_epoch_that_is_seen_again_starts_again() -> None:
    table, peer = table_with(9, 5), link()
    pruner, settled = Pruner(table, 0), SETTLED_NS + longest_ns()
    pruner.step([peer], {7, 9}, 0)
    passed(peer)
    pruner.step([peer], {7, 9, 5}, settled)
    assert pruner.step([peer], {7, 9}, settled + 1) == ()


def test_a_running_epoch_is_never_believed_dead() -> None:
    table = table_with(5)
    pruner = Pruner(table, 0)
    pruner.advertised(link(), [7], {7}, 0)
    pruner.advertised(link(), [5], {7, 5}, 0)
    assert pruner.tombstones == {}
    pruner.advertised(link(), [5], {7}, 0)
    assert list(pruner.tombstones) == [5]


def test_a_tombstone_is_withdrawn_where_a_peer_goes_on_counting() -> None:
    """A digest finds what that peer showed before. The peer decides from then on."""
    table, peer, late = table_with(5), link(), 10 * SETTLED_NS + longest_ns()
    pruner = Pruner(table, 0)
    pruner.advertised(link(), [5], {7}, 0)
    pruner.shown(peer, (("peer", 5),), SETTLED_NS)
    peer.digest_due = late
    assert pruner.step([peer], {7, 9}, SETTLED_NS) == ()
    assert known(table) == {7: False, 5: False}
    assert peer.digest_due == SETTLED_NS
    assert pruner.step([passed(peer)], {7, 9}, late) == ()
    pruner.advertised(link("other", 8), [5], {7, 9}, late)
    assert pruner.tombstones == {}
    pruner.shown(peer, (), late)
    assert pruner.step([peer], {7, 9}, late) == (5,)


def test_it_is_not_where_the_peer_has_used_up_its_places() -> None:
    table, peer, asked = table_with(5), link(), list[tuple[str, str, int]]()

    def admits(*what: Any) -> bool:
        asked.append(what)
        return False

    pruner = Pruner(table, 0)
    pruner.advertised(link(), [5], {7}, 0)
    pruner.shown(peer, (("owner", 5),), SETTLED_NS)
    assert pruner.step([peer], {7, 9}, SETTLED_NS, admits) == (5,)
    assert asked == [("peer", "owner", 5)]


def test_an_epoch_with_a_tombstone_that_is_seen_again_counts() -> None:
    table = table_with(5)
    pruner = Pruner(table, 0)
    pruner.advertised(link(), [5], {7}, 0)
    pruner.returned(5)
    pruner.returned(6)
    assert pruner.tombstones == {}
    assert [marked for _, _, epoch, marked in table.epochs.origins() if epoch == 5] == [False]
    assert pruner.step([], {7, 5}, KEPT_NS + 1) == ()
    assert 5 in {epoch for _, _, epoch, _ in table.epochs.origins()}


def test_tombstones_are_bounded_and_their_ids_are_used_again() -> None:
    table = table_with()
    pruner = Pruner(table, 0)
    for epoch in range(100, 100 + 4 * wire.MAX_ORIGINS):
        assert table.epochs.origin(1, epoch), epoch
        pruner.advertised(link(), [epoch], {7}, 0)
        told = pruner.step([], {7}, 0)
        assert len(told) <= wire.MAX_TOMBSTONES
        assert told[-1] == epoch
    assert len(table.epochs.origins()) <= CROWDED + 1


def test_a_tombstone_is_forgotten_when_it_is_old() -> None:
    table = table_with(5)
    pruner = Pruner(table, 0)
    pruner.advertised(link(), [5], {7}, 0)
    assert pruner.step([], {7}, KEPT_NS) == (5,)
    assert pruner.step([], {7}, KEPT_NS + 1) == ()
    assert [epoch for _, _, epoch, _ in table.epochs.origins()] == [7]


def test_a_dead_epoch_is_gone_for_good_while_nodes_go_on_talking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that was still announced came back at each peer that had just released it."""
    monkeypatch.setattr(pruning, "SETTLED_NS", NS)
    monkeypatch.setattr(pruning, "KEPT_NS", 2 * NS)
    mesh = SimulatedMesh("ABC", [SPEC], latency=0.01, seed=5)
    before = mesh["C"].table.epochs.running
    mesh["C"].take("b", "k")
    mesh.advance(1.0)
    mesh.restart("C")
    seen = []
    for _ in range(600):
        mesh.advance(0.05)
        for name in "ABC":
            mesh[name].take("b", "k")
        seen.append({name for name in "ABC" if before in epochs(mesh[name].table)})
    assert {*"ABC"} in seen
    assert not any(seen[seen.index(set()) :])


def test_a_process_that_has_just_begun_believes_its_snapshot_more_than_its_first_peer() -> None:
    """Before its first round as well, where nothing has been found dead yet."""
    mesh = SimulatedMesh("AB", [SPEC], latency=0.01, seed=5, gossip_interval=10.0)
    before = mesh["B"].table.epochs.running
    mesh["B"].take("b", "k")
    mesh.advance(11.0)
    mesh.restart("B", "snapshot")
    mesh.advance(0.1)
    node = mesh["B"].node
    assert node.links["A"].connected
    node.members.pruner.advertised(node.links["A"], [before], set(), mesh["B"].table.now())
    assert not node.members.pruner.tombstones


def test_columns_go_and_the_level_stays() -> None:
    table = Table(max_keys=64, hash_key=bytes(16), virtual=True, epoch=7)
    bucket = BucketCore(table, SPEC)
    bucket.take("k", 30)
    table.epochs.open(8)
    bucket.take("k", 20)
    Pruner(table, 0).advertised(link(), [7], {8}, 0)
    assert bucket.columns("k") == {(0, 8): (bucket.columns("k")[0, 8][0], 20, 0)}
    assert bucket.peek("k").remaining == 50


def test_columns_of_a_large_table_go_a_part_at_a_time_and_the_tombstone_stays_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that ends between two parts leaves the rest to the next one."""
    monkeypatch.setattr(pruning, "PRUNED_PLACES", 4)
    table = Table(max_keys=64, hash_key=bytes(16), virtual=True, epoch=5)
    bucket = BucketCore(table, SPEC)
    for number in range(10):
        bucket.take(f"k{number}", 30)
    table.epochs.open(7)

    def held() -> int:
        return sum((0, 5) in bucket.columns(f"k{number}") for number in range(10))

    first = Pruner(table, 0)
    first.advertised(link(), [5], {7}, 0)
    assert (first.step([], {7}, 0), held()) == ((5,), 10)
    first.prune_some()
    assert held() == 6
    assert first.step([], {7}, KEPT_NS + 1) == (5,)
    pruner = Pruner(table, 0)
    for left in (6, 2, 0, 0):
        pruner.prune_some()
        assert held() == left
    assert [bucket.peek(f"k{number}").remaining for number in range(10)] == [70] * 10
    assert pruner.step([], {7}, KEPT_NS + 1) == ()
    assert epochs(table) == {7: False}


def test_a_tombstone_that_is_no_more_in_the_table_is_not_advertised() -> None:
    """Introductions gave that epoch up, or there was no memory to remove its columns."""
    for given_up in (True, False):
        table = table_with(5)
        pruner = Pruner(table, 0)
        pruner.advertised(link(), [5], {7}, 0)
        if given_up:
            table.epochs.release(5)
        else:
            table.epochs.remove_tombstone(5)
        assert pruner.step([], {7}, 1) == ()
        assert pruner.tombstones == {}


def test_tombstones_in_the_table_are_released_in_their_time_by_a_later_epoch() -> None:
    table = Table(max_keys=64, hash_key=bytes(16), virtual=True, epoch=1)
    table.epochs.origin(1, 7)
    assert add_tombstone(table, 7)
    pruner = Pruner(table, 0)
    assert pruner.tombstones == {7: 0}
    pruner.step([], {1}, KEPT_NS + 1)
    assert 7 not in {epoch for _, _, epoch, _ in table.epochs.origins()}


def epochs(table: Table) -> dict[int, bool]:
    """The epochs of a table, and which of them have a tombstone."""
    return {epoch: marked for _, _, epoch, marked in table.epochs.origins()}


def test_where_epochs_are_crowded_the_oldest_tombstones_go_first_and_then_the_long_dead(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pruning, "CROWDED", 3)
    table, peer = Table(max_keys=64, hash_key=bytes(16), virtual=True, epoch=7), link(epoch=20)
    for epoch in (30, 20, 10):
        table.epochs.origin(1, epoch)
    pruner = Pruner(table, 0)  # and no pass of anti-entropy is made
    pruner.step([peer], {7, 20, 10}, 0)  # 30 is dead first
    for epoch in (40, 50):
        table.epochs.origin(1, epoch)
        pruner.advertised(link(), [epoch], {7}, 1)
    assert pruner.step([peer], {7, 20}, 1) == ()
    assert epochs(table) == {7: False, 30: False, 20: False, 10: False}  # the dead must settle
    assert pruner.step([peer], {7, 20}, SETTLED_NS - 1) == ()
    assert pruner.step([peer], {7, 20}, SETTLED_NS) == (30,)
    assert epochs(table) == {7: False, 30: True, 20: False, 10: False}
    assert pruner.step([peer], {7, 20}, SETTLED_NS) == ()
    assert epochs(table) == {7: False, 20: False, 10: False}
    assert [record.getMessage() for record in caplog.records] == [
        "4 epochs are known: from here on old ones are pruned early"
    ]


def test_of_several_tombstones_only_so_many_go_as_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pruning, "CROWDED", 3)
    table = table_with(9, 8, 5, 4)
    pruner = Pruner(table, 0)
    for epoch in (8, 9, 5):
        pruner.advertised(link(), [epoch], {7}, 0)
    assert pruner.step([], {7, 4}, 1) == (5,)
    assert set(epochs(table)) == {7, 5, 4}


def test_it_is_crowded_when_hardly_any_epoch_could_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "CROWDED", 3)
    table = table_with(9, 8, 5, 4)
    for running, crowded in (({7, 9, 8}, False), ({7, 9, 8, 5}, True)):
        pruner = Pruner(table, 0)
        assert not pruner.crowded
        pruner.step([], running, 0)
        assert pruner.crowded is crowded
    pruner.advertised(link(), [4], {7}, 0)
    pruner.step([], {7, 9, 8}, 0)
    assert not pruner.crowded


def test_a_peer_that_left_is_waited_for_no_more_than_one_that_is_cut_off() -> None:
    table, peer, left = table_with(9, 5), link(), link("left", 11)
    pruner, late = Pruner(table, 0), 10 * SETTLED_NS + longest_ns()
    left.left = True
    pruner.step([peer, left], {7, 9, 11}, 0)
    assert pruner.step([passed(peer), left], {7, 9, 11}, late) == (5,)


def test_what_is_advertised_again_is_not_remembered_for_longer() -> None:
    table = table_with(5)
    pruner = Pruner(table, 0)
    pruner.advertised(link(), [5], {7}, 0)
    pruner.advertised(link(), [5], {7}, KEPT_NS)
    assert pruner.step([], {7}, KEPT_NS + 1) == ()


class KnownEpochs:
    """The epochs of a table, and what each look at a part of its keys finds."""

    def __init__(self, *known: int, marked: tuple[int, ...] = ()) -> None:
        self.known = {7: False, **dict.fromkeys(known, False), **dict.fromkeys(marked, True)}
        self.looks: list[tuple[dict[int, int], int]] = []

    def origins(self) -> list[tuple[int, int, int, bool]]:
        return [(number, 1, *one) for number, one in enumerate(self.known.items())]

    def owing(self, place: int) -> tuple[dict[int, int], int]:
        return self.looks.pop(0) if self.looks else ({}, -1)

    def add_tombstones(self, epochs: list[int]) -> list[int]:
        self.known.update(dict.fromkeys(epochs, True))
        return epochs

    def prune(self, start: int, most: int) -> int:
        return -1

    def remove_tombstone(self, epoch: int) -> None:
        self.known[epoch] = False

    def release(self, epoch: int) -> bool:
        del self.known[epoch]
        return True


def pruner_of(known: KnownEpochs) -> Pruner:
    table: Any = SimpleNamespace(epochs=known, places=0)
    return Pruner(table, 0)


def test_the_longest_time_to_full_that_any_part_of_the_keys_shows_is_waited_for() -> None:
    epochs = KnownEpochs(5)
    epochs.looks = [({5: 70}, 3), ({5: 20}, -1)]
    pruner, peer = pruner_of(epochs), link()
    for now in (0, SETTLED_NS, SETTLED_NS + 69):
        assert pruner.step([passed(peer)], {7}, now) == ()
    assert pruner.step([passed(peer)], {7}, SETTLED_NS + 70) == (5,)


@pytest.mark.parametrize("looks", [(70, 10**9), (10**9, 70)])
def test_of_several_looks_that_one_counts_which_ends_the_wait_first(looks: tuple[int, int]) -> None:
    epochs = KnownEpochs(5)
    epochs.looks = [({5: longest}, -1) for longest in looks]
    pruner, peer = pruner_of(epochs), link()
    for now in (0, SETTLED_NS, SETTLED_NS + 1):
        assert pruner.step([passed(peer)], {7}, now) == ()
    epochs.looks = [({5: 10**9}, -1)]
    assert pruner.step([passed(peer)], {7}, SETTLED_NS + 70) == (5,)


def test_no_tombstone_is_withdrawn_where_epochs_are_crowded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pruning, "CROWDED", 4)
    epochs, peer = KnownEpochs(9, marked=(40, 50, 60)), link()
    pruner = pruner_of(epochs)
    pruner.step([peer], {7, 9}, 0)  # five are one too many, and 40 goes
    pruner.shown(peer, (("owner", 60),), SETTLED_NS)
    for tombstone in (True, False):
        pruner.step([peer], {7, 9}, SETTLED_NS)
        assert epochs.known == {7: False, 9: False, 50: True, 60: tombstone}


def test_an_epoch_that_gets_its_tombstone_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "CROWDED", 1)
    pruner = pruner_of(KnownEpochs(9, 5))
    for now in (0, SETTLED_NS):
        pruner.step([], {7, 9}, now)
        assert pruner.crowded


def test_room_is_made_for_as_many_as_there_are_too_many_after_the_tombstones_went(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pruning, "CROWDED", 3)
    epochs, peer = KnownEpochs(30, 20, 10, marked=(40,)), link(epoch=7)
    pruner = pruner_of(epochs)
    pruner.step([peer], {7}, 0)
    assert epochs.known == {7: False, 30: False, 20: False, 10: False}
    epochs.known[50] = True
    pruner.advertised(link(), [50], {7}, 1)
    epochs.known[60] = False
    pruner.step([peer], {7, 60}, SETTLED_NS)  # six: one tombstone goes, and two of the dead get one
    assert 50 not in epochs.known
    assert sum(epochs.known[epoch] for epoch in (30, 20, 10)) == 2
    # It is said when it begins, and said again when it has been over.
    assert len(caplog.records) == 1
    pruner.tombstones.clear()
    epochs.known = {7: False, 30: False, 60: False}
    pruner.step([peer], {7, 30, 60}, SETTLED_NS)
    assert len(caplog.records) == 1  # three are none too many
    epochs.known[70] = False
    pruner.step([peer], {7, 30, 60, 70}, SETTLED_NS)
    assert len(caplog.records) == 2


def known(table: Any) -> dict[int, bool]:
    """The epochs in the table, and which of them have a tombstone."""
    return {epoch: bool(gone) for _, _, epoch, gone in table.epochs.origins()}


def test_of_a_part_that_is_too_large_the_oldest_give_way_once_peers_know_of_it() -> None:
    table = table_with(14, 11, 12, 13)
    pruner, part, running = Pruner(table, 0), {11, 12, 13}, {7, 14, 11, 12, 13}
    for now, epoch in enumerate((14, 11, 12, 13)):
        running.discard(epoch)
        pruner.step((), running, now)
    pruner.release_early(part, 2, SETTLED_NS)
    assert pruner.tombstones == {}
    pruner.release_early(part, 2, SETTLED_NS + 1)
    assert pruner.tombstones == {11: SETTLED_NS + 1}
    pruner.release_early(part, 2, SETTLED_NS + 9)
    assert pruner.tombstones == {11: SETTLED_NS + 1, 12: SETTLED_NS + 9}
    spread = SETTLED_NS + 1 + SETTLED_NS // 3
    for beyond, now in ((2, spread - 1), (0, 2 * SETTLED_NS)):
        pruner.release_early(part, beyond, now)
        assert known(table) == {7: False, 14: False, 11: True, 12: True, 13: False}
    pruner.release_early(part, 2, spread)
    assert pruner.tombstones == {12: SETTLED_NS + 9}
    assert known(table) == {7: False, 14: False, 12: True, 13: False}


@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_given_up_loses_its_place_and_no_peer_is_told(at_once: bool) -> None:
    table = table_with(6, 5)
    pruner = Pruner(table, 0)
    pruner.give_up(5, at_once=at_once)
    assert known(table) == {6: False, 7: False}
    assert pruner.step((), {6, 7}, 0) == ()
    pruner.returned(5)
    assert known(table) == {6: False, 7: False}


@pytest.mark.parametrize("returns", [True, False])
def test_what_is_given_up_in_a_large_table_keeps_its_place_until_its_columns_are_gone(
    returns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PRUNED_PLACES", 4)
    table: Any = RecordingTable()
    for number in range(10):
        table.bucket.take(f"k{number}")
    table.epochs.open(8)
    pruner = Pruner(table, 0)
    pruner.give_up(7, at_once=False)
    pruner.prune_some()
    assert known(table) == {7: True, 8: False}
    if returns:
        pruner.returned(7)
        assert known(table) == {7: False, 8: False}
    for _ in range(2):
        pruner.prune_some()
    assert table.called("prune") == [(0, 4), (4, 4), (8, 4)]
    assert known(table) == ({7: False, 8: False} if returns else {8: False})
    pruner.prune_some()
    assert table.called("prune") == []


def test_whoever_is_seen_after_it_got_its_tombstone_runs() -> None:
    table = table_with(6, 5)
    pruner = Pruner(table, 0)
    pruner.advertised(link(), (5,), {7}, 10)
    for epoch, at in ((5, 10), (6, 99), (5, 9)):
        pruner.seen_running(epoch, at)
        assert known(table) == {5: True, 6: False, 7: False}
    pruner.seen_running(5, 11)
    assert known(table) == {5: False, 6: False, 7: False}
    assert pruner.tombstones == {}
