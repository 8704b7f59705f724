"""What peers stated beyond a bound: counted for each, logged once in a while."""

from __future__ import annotations

import pytest

from crdtbucket.mesh.protocol import bounded_peers
from crdtbucket.mesh.protocol.bounded_peers import OTHERS, BoundedPeers
from crdtbucket.mesh.protocol.peer_warnings import REPEAT_NS


def test_it_counts_by_peer_and_bound_and_says_who_did_what(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bounded = BoundedPeers("me")
    bounded.count("a", "clock", 2, 0, "is early")
    bounded.count("a", "clock", 3, 1, "is early")
    bounded.count("a", "rate", 1, 1, "asks for much")
    bounded.count("b", "clock", 1, 1, "is early")
    bounded.count("c", "clock", 0, 1, "did nothing")
    assert bounded.counts() == {"a": {"clock": 5, "rate": 1}, "b": {"clock": 1}}
    lines = ["me: a is early", "me: a asks for much", "me: b is early"]
    assert [record.getMessage() for record in caplog.records] == lines


def test_repeats_are_summed_up_in_the_next_line(caplog: pytest.LogCaptureFixture) -> None:
    bounded = BoundedPeers("me")
    for now in (0, 1, REPEAT_NS):
        bounded.count("a", "clock", 7, now, "is early")
    assert caplog.records[-1].getMessage() == "me: a is early (7 more since the last such line)"


def test_names_may_be_invented_so_only_some_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounded_peers, "MOST_PEERS", 2)
    bounded = BoundedPeers("me")
    for peer in ("a", "b", "c", "d", "a"):
        bounded.count(peer, "clock", 1, 0, "is early")
    assert bounded.counts() == {"a": {"clock": 2}, "b": {"clock": 1}, OTHERS: {"clock": 2}}
    bounded.counts()["a"]["clock"] = 9  # a copy, for whoever asks
    assert bounded.counts()["a"] == {"clock": 2}
