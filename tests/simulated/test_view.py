"""The parts of a mesh whose nodes see each other are found in any graph, whatever is cut."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.drawing import draw
from tests.simulated.network import Network
from tests.simulated.view import View

NAMES = "ABCDEF"


def hears(mesh: Network) -> dict[str, set[str]]:
    """By running node, the nodes that its updates reach: the closure of what single ways carry."""
    up = [name for name in mesh.nodes if mesh.nodes[name].up]
    reached = {name: {name} for name in up}
    for _ in up:
        for here, there in [(a, b) for a in up for b in up]:
            linked = frozenset((here, there)) in mesh.linked
            if linked and mesh.flows(here, there) and mesh.passes(there, here):
                for found in reached.values():
                    found.update([there] if here in found else [])
    return reached


@pytest.mark.parametrize("seed", range(12))
def test_the_parts_are_those_that_hear_each_other(seed: int) -> None:
    rng = random.Random(seed)
    pairs = [pair for pair in combinations(NAMES, 2) if rng.random() < 0.4]
    mesh = Network(NAMES, [BucketSpec("b", 100, 1)], linked=pairs, latency=0.02, seed=1)
    view = View(draw(0), mesh)
    ways = [(a, b) for a in NAMES for b in NAMES if a != b]
    for round_ in range(4):
        reached = hears(mesh)
        parts = view.components()
        assert sorted(name for part in parts for name in part) == sorted(reached)
        for a, b in combinations(reached, 2):
            together = any(a in part and b in part for part in parts)
            assert together is (b in reached[a] and a in reached[b])
        assert view.connected() is (len(parts) <= 1)
        mesh.stall(5.0, 0.0, *rng.sample(ways, 2))
        mesh.cut_ways(rng.sample(ways, 2), times_out=False)
        if round_ == 1:
            mesh.die(rng.choice(NAMES), ends=False)
            mesh.link(*rng.choice(ways))
            mesh.come("G", rng.sample(sorted(mesh.nodes), 2), 0.0, 0.0)


def test_a_link_that_is_added_shows() -> None:
    mesh = Network("ABC", [BucketSpec("b", 100, 1)], linked=[("A", "B")], latency=0.02, seed=1)
    view = View(draw(0), mesh)
    assert (mesh.peers("C"), view.hops, view.connected()) == ([], 3, False)
    mesh.link("C", "A")
    assert (mesh.peers("C"), mesh.peers("A"), view.hops) == (["A"], ["B", "C"], 3)
    mesh.link("C", "B")
    assert view.connected()
    assert view.hops == 1
    mesh.come("D", ["B"], 0.0, 0.0)
    assert mesh.peers("B") == ["A", "C", "D"]
