"""Buckets that some nodes get earlier than others, or that a process no longer has."""

from __future__ import annotations

import pytest

from crdtbucket._core import BucketCore
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.simulated.meshes import SECOND

OTHER = BucketSpec("other", 50, 5)
ADDED = BucketSpec("b", 100, 1, "10s")


def add(mesh: SimulatedMesh, name: str, spec: BucketSpec = ADDED) -> None:
    """A reload brings the bucket to this node."""
    node = mesh[name]
    node.table.set_time(node.local_ns(mesh.now_ns))
    node._define(BucketCore, spec)


@pytest.mark.parametrize(("idle", "within"), [(20.0, 0.4), (0.5, 4.0)])
def test_a_bucket_that_is_added_knows_soon_what_others_have_taken(
    idle: float, within: float
) -> None:
    """What was sent before it was there is not sent again by rounds, as it was acknowledged."""
    mesh = SimulatedMesh("ABC", [OTHER], latency=0.02, seed=1)
    mesh.advance(1.0)
    for name in "BC":
        add(mesh, name)
    assert mesh["B"].take_burst("b", "k", 100) == 100
    mesh.advance(idle)
    assert mesh["A"].node.counters["unknown_bucket"] > 0
    add(mesh, "A")
    mesh.advance(within)
    assert mesh["A"].peek("b", "k").remaining <= 3
    assert mesh["A"].columns("b", "k") == mesh["B"].columns("b", "k")


def test_keys_are_compared_twice_after_a_reload_and_then_as_ever() -> None:
    mesh = SimulatedMesh("ABC", [OTHER, ADDED], latency=0.02, seed=1)
    mesh.advance(5.0)
    link = mesh["A"].node.links["B"]
    dues = [link.digest_due]
    mesh["A"].bucket("b").define(BucketSpec("b", 100, 1, "20s"))
    for _ in range(90):
        mesh.advance(0.1)
        if link.digest_due != dues[-1]:
            dues.append(link.digest_due)
    assert len(dues) == 3, dues
    assert 2.9 * SECOND < dues[2] - dues[1] < 3.4 * SECOND


@pytest.mark.parametrize(
    ("nodes", "late", "apart"), [("ABC", "AB", 53), ("ABC", "A", 0), ("AC", "A", 0)]
)
def test_refunds_are_set_off_against_what_had_refilled_before_unless_two_know_better(
    nodes: str, late: str, apart: int
) -> None:
    """Of what C has taken, much has refilled when others get the bucket, which they never charge.
    Then it takes 80 tokens and gives them back. If C alone knows that these were charged, it is
    believed within 26 tokens, a fifth of the capacity for all members, and what refills."""
    mesh = SimulatedMesh(nodes, [OTHER], latency=0.02, seed=1)
    spec = BucketSpec("b", 400, 4)
    for name in sorted({*nodes} - {*late}):
        add(mesh, name, spec)
    for cost, idle in ((400, 50.0), (80, 5.0)):
        assert mesh["C"].take("b", "k", cost)
        mesh.advance(idle)
    for name in late:
        add(mesh, name, spec)
    mesh.advance(5.0)
    taken = mesh["C"].take("b", "k", 80)
    mesh.advance(5.0)
    assert abs(mesh["A"].peek("b", "k").remaining - mesh["C"].peek("b", "k").remaining) <= 1
    assert mesh["C"].refund(taken) == 80
    mesh.advance(6.0)
    shown = [mesh[name].peek("b", "k").remaining for name in nodes]
    assert abs(shown[-1] - shown[0] - apart) <= 2, shown
