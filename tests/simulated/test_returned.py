"""A node that was taken for dead is back: those count it again who only hear of it, too."""

from __future__ import annotations

from crdtbucket.policy import BucketSpec
from tests.simulated.network import Network

QUICK = BucketSpec("quick", 10, 10)
HOUR = BucketSpec("b", 1000, 1000, "1h")


def test_who_is_not_linked_with_it_counts_it_again() -> None:
    """A device cuts A off from B and C. D comes, linked with A alone, and A takes both others for
    dead: their marks are told to D, and so must it be that they are back."""
    mesh = Network("ABC", [QUICK, HOUR], linked=["AB", "AC", "BC"], latency=0.02, seed=1)
    mesh.advance(2.0)
    for name in "BC":
        mesh[name].take("quick", "k", 5)
    mesh.advance(2.0)
    pairs = [("A", "B"), ("A", "C")]
    mesh.reset_pairs(pairs)
    mesh.advance(14.0)
    mesh.come("D", ["A"], 0.0, 0.0)
    mesh.advance(2.0)
    mesh["A"].take("quick", "k", 5)
    mesh.advance(60.0)
    assert marked(mesh, "A") >= {mesh[name].table.epoch for name in "BC"}
    mesh.mend(pairs, resets=True)
    mesh.advance(15.0)
    mesh["B"].take("b", "k", 400)
    mesh.advance(5.0)
    assert [mesh[name].peek("b", "k").remaining for name in "ABCD"] == [601] * 4
    assert mesh["D"].columns("b", "k") == {"B": (400, 0)}


def marked(mesh: Network, name: str) -> set[int]:
    """Epochs that count no more at this node."""
    return {epoch for _, _, epoch, dead in mesh[name].table.origins() if dead}
