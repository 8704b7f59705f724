"""Tombstones that are withdrawn, and which of those that peers advertise are believed."""

from __future__ import annotations

import pytest

from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.withdrawals import Withdrawals

SETTLED, TOLD, DOUBTED = 600, 200, 300
EPOCH = 5


def peer_of(epoch: int = 9, steady_since: int = 0) -> PeerState:
    one = PeerState(NodeInfo(f"peer {epoch}", "", epoch, "", 0), 1, 0)
    one.steady_since = steady_since
    return one


def withdrawals(*peers: PeerState, running: tuple[int, ...] = ()) -> Withdrawals:
    one = Withdrawals(SETTLED)
    follow(one, *peers, running=running)
    return one


def follow(
    one: Withdrawals, *peers: PeerState, running: tuple[int, ...] = (), known: tuple[int, ...] = ()
) -> None:
    one.follow({peer.info.epoch: peer for peer in peers}, running, {EPOCH, *running, *known})


def due(one: Withdrawals, now: int, since: int = 0) -> list[tuple[str, str, int]]:
    return [(peer.info.name, owner, e) for peer, owner, e in one.due({EPOCH: since}, now)]


SHOWN = ("owner", EPOCH), ("other", 6)


@pytest.mark.parametrize(("at", "withdrawn"), [(TOLD - 1, False), (TOLD, True)])
def test_who_counts_an_epoch_when_all_had_the_time_to_add_its_tombstone_never_got_that(
    at: int, withdrawn: bool
) -> None:
    one = withdrawals(peer := peer_of())
    one.shown(peer, SHOWN, at)
    assert due(one, TOLD) == [("peer 9", "owner", EPOCH)] * withdrawn
    assert due(one, 2 * TOLD) == [("peer 9", "owner", EPOCH)] * withdrawn  # by when it came


def test_of_several_tombstones_each_has_its_time() -> None:
    one = withdrawals(peer := peer_of(), running=(6,))
    one.shown(peer, SHOWN, TOLD)
    assert [epoch for _, _, epoch in one.due({EPOCH: 1, 6: 0}, 2 * TOLD)] == [6]
    assert list(one.due({}, TOLD)) == []


def test_the_newest_entries_of_a_live_peer_show_what_it_counts() -> None:
    one = withdrawals(peer := peer_of())
    one.shown(peer, SHOWN, TOLD)
    one.shown(peer, (("other", 6),), TOLD + 1)
    assert due(one, TOLD + 1) == []
    one.shown(peer, SHOWN, TOLD + 2)
    follow(one)
    assert due(one, TOLD + 2) == []


def test_whoever_goes_on_counting_an_epoch_decides_on_it_while_it_does() -> None:
    peer, other = peer_of(), peer_of(8)
    one = withdrawals(peer, other)
    one.shown(peer, SHOWN, TOLD)
    one.withdrawn(EPOCH, peer)
    follow(one, peer, other)
    assert one.is_counted(EPOCH)
    assert [one.believed(EPOCH, 0, by, TOLD) for by in (peer, other)] == [True, False]
    one.shown(peer, (), TOLD)
    follow(one, peer, other)
    assert not one.is_counted(EPOCH)
    assert one.believed(EPOCH, 0, other, TOLD)


def test_who_is_gone_decides_nothing() -> None:
    one = withdrawals(peer := peer_of())
    one.shown(peer, SHOWN, TOLD)
    one.withdrawn(EPOCH, peer)
    follow(one)
    assert not one.is_counted(EPOCH)


def test_a_peer_is_believed_once_it_is_linked_for_a_while() -> None:
    one = withdrawals(peer := peer_of(steady_since=100), running=(EPOCH,))
    times = (100, 100 + DOUBTED - 1, 100 + DOUBTED)
    assert [one.believed(EPOCH, 0, peer, now) for now in times] == [False, False, True]


def test_of_an_epoch_that_was_dead_when_it_became_known_a_peer_is_believed_that_was_linked() -> (
    None
):
    """As a newcomer believes its first peers."""
    one = withdrawals(peer := peer_of(steady_since=100))
    assert [one.believed(EPOCH, since, peer, 110) for since in (99, 100, None)] == [
        False,
        True,
        True,
    ]


def test_of_an_epoch_that_ran_here_it_is_not() -> None:
    """However late that was found dead: it took while the peer was cut off, perhaps."""
    one = withdrawals(peer := peer_of(steady_since=100), running=(EPOCH,))
    follow(one, peer)
    assert not one.believed(EPOCH, 105, peer, 110)
    one.follow({9: peer}, (), ())
    assert one.believed(EPOCH, 105, peer, 110)  # its number was given up since


def test_nor_of_one_that_a_node_remembers() -> None:
    one = withdrawals(peer := peer_of(steady_since=100))
    one.remember([EPOCH])
    assert not one.believed(EPOCH, None, peer, 110)
