"""Warnings about peers: one for each peer and cause, and the next one counts those since."""

from __future__ import annotations

import pytest

from crdtbucket.mesh.protocol import peer_warnings
from crdtbucket.mesh.protocol.peer_warnings import OTHERS, REPEAT_NS, BoundedPeers


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


def test_what_honest_peers_do_as_well_is_counted_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bounded = BoundedPeers("me")
    bounded.count("a", "frames", 2, 0)
    assert bounded.counts() == {"a": {"frames": 2}}
    assert not caplog.records


def test_it_counts_by_peer_the_tokens_by_which_debts_fell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_warnings, "MOST_PEERS", 2)
    bounded = BoundedPeers("me")
    for peer, tokens in (("a", 5), ("none", 0), ("b", 1), ("c", 2), ("d", 3), ("a", 1)):
        bounded.count_adopted(peer, tokens)
    assert bounded.adopted() == {"a": 6, "b": 1, OTHERS: 5}


def test_repeats_are_summed_up_in_the_next_line(caplog: pytest.LogCaptureFixture) -> None:
    bounded = BoundedPeers("me")
    for now in (0, 1, REPEAT_NS):
        bounded.count("a", "clock", 7, now, "is early")
    assert caplog.records[-1].getMessage() == "me: a is early (7 more since the last such line)"


def test_names_may_be_invented_so_only_some_are_counted_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer_warnings, "MOST_PEERS", 2)
    bounded = BoundedPeers("me")
    for peer in ("a", "b", "c", "d", "a"):
        bounded.count(peer, "clock", 1, 0, "is early")
    assert bounded.counts() == {"a": {"clock": 2}, "b": {"clock": 1}, OTHERS: {"clock": 2}}
    bounded.counts()["a"]["clock"] = 9  # it is a copy
    assert bounded.counts()["a"] == {"clock": 2}
