"""Leaves of a star that end and start again, one after the other, for ever: the last one is
counted."""

from __future__ import annotations

import pytest

from crdtbucket.mesh.protocol import introductions, member_directory, wire
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.network import Network

QUICK = BucketSpec("b", 1_000, 1_000)
SLOW = BucketSpec("b", 100_000, 100)
LEAVES = "bcde"


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduces the places, as it would take six minutes until all are in use."""
    monkeypatch.setattr(introductions, "PLACES", 64)
    monkeypatch.setattr(introductions, "MEMBER_PLACES", 72)
    monkeypatch.setattr(wire, "MAX_MEMBERS", 48)
    monkeypatch.setattr(member_directory, "CROWDED_MEMBERS", 42)


def star(spec: BucketSpec) -> Network:
    linked = [("hub", leaf) for leaf in "a" + LEAVES]
    return Network(["hub", "a", *LEAVES], [spec], linked=linked, latency=0.02, gossip_interval=1.0)


def take(mesh: Network, name: str) -> None:
    """Takes a token, so that the node has a column on a key in debt."""
    mesh[name].bucket("b").settle("k", 1_000)


def turnover(mesh: Network, seconds: int, *, goodbye: bool, renamed: bool) -> str:
    """One leaf a second ends and begins anew, but for `a`; `renamed`: under a new name. Returns the
    last one."""
    leaves = [*LEAVES]
    for number in range(seconds):
        name = leaves.pop(0)
        if goodbye:
            mesh.leave(name)
        else:
            mesh.die(name, ends=True)
        mesh.advance(0.4)
        if renamed:
            name = f"n{number}"
            mesh.come(name, ["hub"], 0.0, 0.0)
        else:
            mesh.back(name, None)
        leaves.append(name)
        mesh.advance(0.4)
        take(mesh, name)
        mesh.advance(0.2)
    return name


@pytest.mark.parametrize("spec", [QUICK, SLOW], ids=["quick", "slow"])
@pytest.mark.parametrize(
    ("goodbye", "renamed"),
    [(True, True), (False, False)],
    ids=["new names after a goodbye", "the same names after a crash"],
)
def test_a_leaf_counts_newcomers_however_many_there_were_before(
    spec: BucketSpec, goodbye: bool, renamed: bool
) -> None:
    """Those before took part of the places at the leaf for a quarter of an hour: earlier processes
    of a name, short-lived ones, members that nobody saw any more, and those whose columns stand in
    keys that owe for long."""
    mesh = star(spec)
    last = turnover(mesh, 100, goodbye=goodbye, renamed=renamed)
    for _ in range(3):
        take(mesh, last)
        mesh.advance(1.0)
    bounded = [mesh[name].node.members.bounded.counts() for name in ("a", "hub")]
    assert {bound for of in bounded for counts in of.values() for bound in counts} <= {"rates"}
    assert mesh["a"].columns("b", "k")[last][0] >= 4_000
