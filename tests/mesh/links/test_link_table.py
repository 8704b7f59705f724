"""Which of two links with one peer stays, and at which address a peer is called."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from crdtbucket.mesh.links.handshake import reachable
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.link_table import LinkTable, LinkVerdict
from crdtbucket.mesh.node_info import NodeInfo


def fake_link(name: str, instance: int, *, dialed: bool) -> Link:
    """All that a table looks at."""
    peer = NodeInfo(name, "", 1, "", 0)
    return cast("Link", SimpleNamespace(peer=peer, instance=instance, dialed=dialed))


@pytest.mark.parametrize("listener_first", [True, False])
def test_crossed_calls_end_in_the_same_connection_at_both_ends(listener_first: bool) -> None:
    """a calls b (X) while b calls a (Y): whichever verdict arrives first, X stays at both."""
    at_a = LinkTable("a")
    at_b = LinkTable("b")
    b, a = NodeInfo("b", "", 1, "", 0), NodeInfo("a", "", 1, "", 0)
    mark_a, mark_b = at_a.serial(), at_b.serial()
    if listener_first:  # both listeners accept before any dialer learns of it
        assert at_b.judge(a, 1, dialed=False, serial=mark_b) is LinkVerdict.NEW
        at_b.put(fake_link("a", 1, dialed=False))  # X
        assert at_a.judge(b, 2, dialed=False, serial=mark_a) is LinkVerdict.NEW
        at_a.put(fake_link("b", 2, dialed=False))  # Y
        assert at_a.judge(b, 2, dialed=True, serial=0) is LinkVerdict.REPLACE  # X arrives at a
        assert at_b.judge(a, 1, dialed=True, serial=0) is LinkVerdict.DUPLICATE  # Y arrives at b
    else:  # Y is complete at both before b decides on X
        at_a.put(fake_link("b", 2, dialed=False))
        at_b.put(fake_link("a", 1, dialed=True))
        assert at_b.judge(a, 1, dialed=False, serial=mark_b) is LinkVerdict.REPLACE
        assert at_a.judge(b, 2, dialed=True, serial=0) is LinkVerdict.REPLACE


def test_a_call_by_a_peer_that_lost_its_end_replaces_the_stale_link() -> None:
    at_b = LinkTable("b")
    stale = fake_link("c", 3, dialed=True)  # b's own call would win a race with c
    at_b.put(stale)
    mark = at_b.serial()
    peer = stale.peer
    assert at_b.judge(peer, 3, dialed=False, serial=mark) is LinkVerdict.REPLACE
    assert at_b.judge(peer, 4, dialed=False, serial=mark) is LinkVerdict.OTHER_PROCESS
    assert at_b.judge(peer, 3, dialed=False, serial=mark - 1) is LinkVerdict.DUPLICATE
    fresh = fake_link("c", 3, dialed=False)
    at_b.put(fresh)
    assert not at_b.remove(stale)
    assert at_b.remove(fresh)
    assert len(at_b) == 0


@pytest.mark.parametrize(
    ("said", "met_at", "address"),
    [
        (":7946", "10.0.0.1", "10.0.0.1:7946"),
        (":7946", "fd00::1", "[fd00::1]:7946"),
        ("host:1", "10.0.0.1", "host:1"),
        ("", "10.0.0.1", ""),
    ],
)
def test_an_address_without_host_gets_the_one_it_was_met_at(
    said: str, met_at: str, address: str
) -> None:
    assert reachable(NodeInfo("a", "", 1, said, 0), met_at).address == address
