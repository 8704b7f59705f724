"""Several honest processes with one name: which goes on, and that the limit holds all the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from crdtbucket._core import Table
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol import mesh_node
from crdtbucket.mesh.protocol.membership import Membership
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.mesh.namesakes import Namesakes

RATE = 20
SPEC = BucketSpec("b", 100, RATE, "1s")
SPLIT = {
    "a chain": ["A-X1", "X1-B", "B-C", "C-X2", "X2-D"],
    "a pair each": ["X1-P", "P-Q", "Q-X2"],
}


def mesh_of(*processes: str, pairs: list[str] | None = None, down: str = "") -> Namesakes:
    return Namesakes(processes, [SPEC], pairs, latency=0.02, seed=3, down=(down,) if down else ())


def admitted(mesh: Namesakes, seconds: int) -> float:
    """What all admit of `C + r * t`, each asked for half of what all may have."""
    total = 0
    for _ in range(seconds * 10):
        mesh.advance(0.1)
        for process, node in mesh.nodes.items():
            if node.up and mesh.serves(process):
                total += node.take("b", "k").allowed
    return total / (SPEC.capacity + RATE * seconds)


def counted_alike(mesh: Namesakes) -> bool:
    """Whether every process counts the same of all, under whatever name."""
    mesh.advance(10.0)
    counted = [node.columns("b", "k") for key, node in mesh.nodes.items() if mesh.serves(key)]
    return counted == [counted[0]] * len(counted)


@pytest.mark.parametrize("pairs", SPLIT.values(), ids=SPLIT)
def test_where_each_has_a_link_both_go_on_and_share_the_limit(pairs: list[str]) -> None:
    """As nodes with names of their own do."""
    processes = sorted({end for pair in pairs for end in pair.split("-")})
    mesh = mesh_of(*processes, pairs=[*pairs, "X1-X2"])
    mesh.advance(5.0)
    assert admitted(mesh, 30) < 1.03
    assert mesh.serves("X1")
    assert mesh.serves("X2")
    assert counted_alike(mesh)


@pytest.mark.parametrize("pairs", [None, ["H-X1", "H-X2", "H-L"]], ids=["all linked", "a star"])
def test_a_second_process_finds_no_link_and_stops(pairs: list[str] | None) -> None:
    mesh = mesh_of("X1", "H", "L", "X2", pairs=pairs, down="X2")
    mesh.advance(3.0)
    mesh.begin("X2")
    mesh.advance(3.0)
    assert mesh.serves("X1")
    assert not mesh.serves("X2")
    assert admitted(mesh, 20) < 1.03
    mesh.crash("X1")
    mesh.advance(35.0)
    assert mesh.serves("X2")


@pytest.mark.parametrize("here", [("X1", "P"), ("X1", "P", "R"), ("X1", "P", "R", "S")])
def test_one_that_began_in_a_partition_goes_on_with_its_links(here: tuple[str, ...]) -> None:
    """Whatever part is the larger one."""
    mesh = mesh_of("X1", "P", "Q", "R", "S", "X2", down="X2")
    mesh.advance(2.0)
    mesh.partition(here, mesh.nodes.keys() - set(here))
    mesh.advance(3.0)
    mesh.begin("X2")
    mesh.advance(5.0)
    mesh.heal()
    mesh.advance(5.0)
    assert admitted(mesh, 20) < 1.03
    assert mesh.serves("X1")
    assert mesh.serves("X2")
    assert counted_alike(mesh)


def test_of_two_that_nobody_is_linked_with_the_first_goes_on() -> None:
    mesh = mesh_of("X1", "X2", "P")
    mesh.partition({"P"}, {"X1", "X2"})
    mesh.advance(3.0)
    assert [mesh.serves(one) for one in ("X1", "X2")] == [True, False]
    mesh.heal()
    mesh.advance(3.0)
    assert [mesh.serves(one) for one in ("X1", "X2")] == [True, False]
    assert admitted(mesh, 20) < 1.03


@pytest.mark.parametrize("stalled_ns", [0, 1, 10**10])
def test_a_process_that_was_held_up_at_its_start_did_not_begin_later_for_that(
    stalled_ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine it seemed to have begun after one that began just then, and yielded."""
    table, ahead = Table(max_keys=16, virtual=True), 10**18
    table.set_time(10**12)

    def held_up(*arguments: Any) -> Membership:
        table.set_time(table.now() + stalled_ns)
        return Membership(*arguments)

    clock = SimpleNamespace(time_ns=lambda: ahead + table.now())
    monkeypatch.setattr(mesh_node, "time", clock)
    monkeypatch.setattr(mesh_node, "Membership", held_up)
    node = mesh_node.MeshNode(table, MeshConfig(peers=["127.0.0.1:1"]), name="A")
    assert node.info.began == ahead + table.now() - node.info.age_ns
