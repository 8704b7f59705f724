"""Meshes in which not every node sees every other one, but all are connected by some."""

from __future__ import annotations

import itertools
import random

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.simulated.meshes import NAMES, drive, mesh_of, total
from tests.simulated.run import play

SPEC = BucketSpec("b", 500, 100)
SECONDS = 30.0
Way = tuple[str, str]


def steady(mesh: SimulatedMesh, load: float, seconds: float) -> dict[str, tuple[int, int, float]]:
    """Every node offers the same, `load` times the rate together."""
    return drive(mesh, dict.fromkeys(mesh.nodes, load * 100 / len(mesh.nodes)), seconds)


def denied(result: dict[str, tuple[int, int, float]]) -> int:
    return sum(refused for _, refused, _ in result.values())


CHAIN = {("A", "B"), ("B", "A"), ("B", "C"), ("C", "B"), ("C", "D"), ("D", "C")}
PAIRS = {
    "both ways of a pair beside a relay": (3, [("A", "C"), ("C", "A")]),
    "one way of a pair beside a relay": (3, [("A", "C")]),
    "both ways of one pair of five": (5, [("A", "B"), ("B", "A")]),
    "one way of one pair of five": (5, [("A", "B")]),
    "a chain of four": (4, [w for w in itertools.permutations("ABCD", 2) if w not in CHAIN]),
}


@pytest.mark.parametrize("case", PAIRS)
def test_a_cut_pair_in_overload_starves_nobody(case: str) -> None:
    """Others relay what the two take: neither may hold back for it a second time."""
    size, ways = PAIRS[case]
    mesh = mesh_of(size, SPEC)
    steady(mesh, 2.0, 10.0)
    mesh.drop_frames(*ways)
    steady(mesh, 2.0, 10.0)
    result = steady(mesh, 2.0, SECONDS)
    assert 0.99 * 100 * SECONDS <= total(result) <= 1.03 * 100 * SECONDS
    assert max(starved for _, _, starved in result.values()) <= 1.0
    fair = total(result) / size
    assert all(fair / 1.5 <= allowed <= 1.5 * fair for allowed, _, _ in result.values()), result


@pytest.mark.parametrize("case", PAIRS)
def test_a_cut_pair_under_a_light_load_denies_nothing(case: str) -> None:
    size, ways = PAIRS[case]
    mesh = mesh_of(size, SPEC)
    steady(mesh, 0.6, 10.0)
    mesh.drop_frames(*ways)
    assert denied(steady(mesh, 0.6, SECONDS / 2)) == 0
    mesh.heal()
    assert denied(steady(mesh, 0.6, 5.0)) == 0


def test_what_a_relay_knows_of_an_idle_node_counts() -> None:
    """C was hot and is idle since the cut: A, which does not see it, soon has the whole limit."""
    mesh = mesh_of(3, SPEC)
    drive(mesh, {"C": 200.0}, 30.0)
    mesh.drop_frames(("A", "C"), ("C", "A"))
    first = drive(mesh, {"A": 80.0}, 10.0)
    assert first["A"][0] >= 0.9 * 800
    assert denied(drive(mesh, {"A": 80.0}, SECONDS)) == 0


def test_a_relay_passes_rates_on_so_that_shares_stay_fair() -> None:
    """... when demand moves after the cut: C, unseen by A, wants three times as much as A. What is
    guaranteed to A and B, up to half of a third, gives them somewhat more than that."""
    mesh = mesh_of(3, SPEC)
    steady(mesh, 2.0, 10.0)
    mesh.drop_frames(("A", "C"), ("C", "A"))
    demand = {"A": 50.0, "B": 50.0, "C": 150.0}
    drive(mesh, demand, 30.0)
    result = drive(mesh, demand, SECONDS)
    assert 0.99 * 100 * SECONDS <= total(result) <= 1.03 * 100 * SECONDS
    for name, (allowed, _, starved) in result.items():
        assert allowed / total(result) == pytest.approx(demand[name] / 250, rel=0.3), result
        assert starved <= 1.0


def connected(names: str, ways: set[Way]) -> bool:
    """Whether updates of every node reach every other one, over whatever way is left."""
    for start in names:
        reached = {start}
        while more := {
            b
            for a, b in itertools.permutations(names, 2)
            if a in reached and b not in reached and (a, b) not in ways
        }:
            reached |= more
        if len(reached) < len(names):
            return False
    return True


def cut_ways(rng: random.Random, names: str) -> set[Way]:
    """Draws ways to cut: as many as the mesh can lose and stay connected."""
    ways = list(itertools.permutations(names, 2))
    rng.shuffle(ways)
    gone: set[Way] = set()
    for way in ways[: rng.randrange(1, len(ways))]:
        for lost in ({way}, {way, way[::-1]}):
            if rng.random() < 0.6 and connected(names, gone | lost):
                gone |= lost
    return gone


@pytest.mark.parametrize("seed", range(12))
def test_any_cut_ways_that_leave_the_mesh_connected_deny_nothing(seed: int) -> None:
    rng = random.Random(seed)
    names = "".join(NAMES[: rng.choice([3, 4, 5])])
    mesh = mesh_of(len(names), SPEC, seed=seed)
    demand = {name: 60 * weight for name, weight in weights(rng, names).items()}
    drive(mesh, demand, 10.0)
    mesh.drop_frames(*sorted(cut_ways(rng, names)))
    assert denied(drive(mesh, demand, SECONDS / 2)) == 0


def weights(rng: random.Random, names: str) -> dict[str, float]:
    drawn = {name: rng.random() + 0.05 for name in names}
    return {name: weight / sum(drawn.values()) for name, weight in drawn.items()}


def test_a_way_that_is_cut_for_long_hides_nobody_whom_others_see() -> None:
    """A receives nothing and goes on to send. So B knows that it asks for nothing any more."""
    mesh, asks = mesh_of(2, SPEC), {"A": 40.0, "B": 20.0}
    drive(mesh, asks, 10.0)
    mesh.drop_frames(("B", "A"))
    drive(mesh, asks, 65.0)
    drive(mesh, {"B": 100.0}, 10.0)
    assert total(drive(mesh, {"B": 150.0}, 20.0)) >= 0.95 * 20 * 100


@pytest.mark.parametrize("before", [30.0, 30.5])
def test_a_key_that_only_the_other_side_asked_for_is_predicted(before: float) -> None:
    """Idle for long here, and full, it could be evicted between the last update and the silence:
    nobody would state its rates again, and each side would take the limit for the whole cut."""
    mesh = mesh_of(2, BucketSpec("b", 20, 20))
    drive(mesh, {"A": 16.0}, before)
    mesh.partition("A", "B")
    drive(mesh, {"A": 16.0}, 3.0)
    both = {"A": 16.0, "B": 20.0}
    drive(mesh, both, 10.0)
    assert total(drive(mesh, both, 10.0)) <= 1.5 * 20 * 10


SLOW = [1700193, 1751725, 1752160, 1753475, 1764129, 1787687, 1792070, 1795040]


@pytest.mark.parametrize("seed", SLOW)
def test_what_a_relay_brought_earlier_than_a_slow_link_is_charged_once(seed: int) -> None:
    """In these plans the way over a relay is faster than the link itself, in one direction at
    least, in the first one since frames are held for five seconds."""
    play(seed)
