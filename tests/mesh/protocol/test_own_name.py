"""Another process under this node's name: who goes on, who refuses, and for how long."""

from __future__ import annotations

import pytest

from crdtbucket.errors import NodeConflict
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh

SPEC = BucketSpec("b", 100, 1, "1h")
OLDEST = 2**64 - 1
CONFLICT = NodeConflict("another one has this name")


def mesh_of(size: int) -> SimulatedMesh:
    mesh = SimulatedMesh("ABCDE"[:size], [SPEC], latency=0.01, seed=5)
    mesh.advance(2.0)
    return mesh


def serves(mesh: SimulatedMesh, name: str) -> bool:
    try:
        return mesh[name].peek("b", "k").allowed
    except NodeConflict:
        return False


def test_a_stranger_that_says_it_is_older_stops_nobody_whom_most_are_linked_with() -> None:
    mesh = mesh_of(3)
    for name in "ABC":
        node, now = mesh[name].node, mesh[name].local_ns(mesh.now_ns)
        with pytest.raises(NodeConflict):
            node.connected(NodeInfo(name, "there", 99, "", OLDEST), now)
        assert serves(mesh, name)
        assert node.bounded == {"there": {"own_name": 1}}


@pytest.mark.parametrize(("others", "goes_on"), [("B", False), ("BC", False), ("BCD", True)])
def test_most_members_must_be_linked(others: str, goes_on: bool) -> None:
    mesh = mesh_of(5)
    mesh.partition("A" + others, set("BCDE") - set(others))
    mesh.advance(2.0)
    mesh["A"].node.duplicate_name(NodeInfo("A", "", 99, "", OLDEST))
    assert serves(mesh, "A") is goes_on


def test_who_refused_serves_again_when_most_members_are_linked() -> None:
    mesh = mesh_of(3)
    mesh.partition("A", "BC")
    mesh.advance(2.0)
    mesh["A"].node.duplicate_name(NodeInfo("A", "", 99, "", OLDEST))
    assert not serves(mesh, "A")
    assert mesh["A"].table.refused  # so do the other processes that share the table
    mesh.heal()
    mesh.advance(2.0)
    assert serves(mesh, "A")
    assert not mesh["A"].table.refused


def test_who_has_no_memory_refuses_for_as_long_as_peers_say_so() -> None:
    """A second process under a name: the peers are linked with the first, and refuse it."""
    mesh = mesh_of(3)
    mesh.partition("A", "BC")
    mesh.restart("A")
    node = mesh["A"].node
    assert not node.memory
    for _ in range(5):
        node.name_reported(CONFLICT)
        mesh.advance(20.0)
        assert not serves(mesh, "A")
    mesh.advance(11.0)
    assert serves(mesh, "A")


def test_who_was_a_part_of_the_mesh_goes_on() -> None:
    mesh = mesh_of(3)
    mesh.partition("A", "BC")
    mesh.advance(2.0)
    mesh["A"].node.name_reported(CONFLICT)
    assert serves(mesh, "A")
