"""When peers are believed that they hold larger counts of the running epoch than this process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from crdtbucket.mesh.protocol.own_epoch import AGREE_NS, GAP_NS, OwnEpoch
from crdtbucket.mesh.protocol.peer_warnings import BoundedPeers

NOW = 10**15


class Linked:
    """A node with links to these peers."""

    def __init__(self, connected: str) -> None:
        self.links: dict[str, Any] = {
            name: SimpleNamespace(connected=name in connected) for name in "abcd"
        }
        self.bounded = BoundedPeers("me")
        self.own = OwnEpoch(self.links, self.bounded)

    def __call__(self, peer: str, after: int) -> bool:
        return self.own.believed(peer, NOW + after)


def test_the_only_peer_is_believed() -> None:
    said = Linked("a")
    assert said("a", 0)
    assert said.bounded.counts() == {}


def test_of_several_two_must_agree_and_one_alone_is_counted_as_beyond_a_bound(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = Linked("abc")
    assert not said("a", 0)
    assert not said("a", 1)
    assert said.bounded.counts() == {"a": {"own_epoch": 2}}
    assert caplog.records[0].getMessage() == (
        "me: a advertises more takes of this very process than it has made; that is ignored, "
        "since too few other peers say so, or peers were believed a moment ago"
    )
    assert said("b", 2)


def test_half_of_the_peers_do_not_agree() -> None:
    said = Linked("abcd")
    assert not said("a", 0)
    assert not said("b", 1)
    assert not said("a", 2)
    assert said("d", 3)


@pytest.mark.parametrize(("after", "agree"), [(AGREE_NS, True), (AGREE_NS + 1, False)])
def test_two_agree_that_say_so_within_a_while(after: int, agree: bool) -> None:
    said = Linked("ab")
    said("a", 0)
    assert said("b", after) is agree


def test_a_peer_that_is_not_connected_any_more_agrees_with_nobody() -> None:
    said = Linked("abc")
    said("a", 0)
    said.links["a"].connected = False
    assert not said("b", 1)


@pytest.mark.parametrize(("after", "again"), [(GAP_NS - 1, False), (GAP_NS, True)])
def test_they_are_not_believed_again_and_again(after: int, again: bool) -> None:
    said = Linked("ab")
    said("a", 0)
    assert said("b", 1)
    said("a", 1 + after)
    assert said("b", 1 + after) is again


def test_who_was_believed_must_say_it_anew() -> None:
    said = Linked("ab")
    said("a", 0)
    assert said("b", 1)
    assert not said("a", 1 + AGREE_NS)
