"""The measured over-admission is never more than lag explains, and often not zero."""

from __future__ import annotations

import random

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh

SPEC = BucketSpec("b", 100, 200, max_debt=10_000)
NAMES = ("A", "B", "C", "D")


def bound(mesh: SimulatedMesh, name: str) -> float:
    """The bound as the metric of this name computes it."""
    node = mesh[name]
    lags = node.node.members.lags(node.local_ns(mesh.now_ns)).values()
    longest = sum(ns for _, ns in lags) / 1e9
    return len(lags) * SPEC.capacity + SPEC.rate_per_second * longest


def over_admission(mesh: SimulatedMesh, name: str) -> int:
    found: int = mesh[name].bucket("b").counters()["over_admission"]
    return found


def history(seed: int) -> list[tuple[float, float]]:
    """Bursts, partitions, heals; (over-admission, bound) of every node after each step."""
    rng = random.Random(seed)
    mesh = SimulatedMesh(NAMES, [SPEC], latency=0.08, loss=rng.choice([0, 0.1]), seed=seed)
    mesh.advance(2.0)
    seen = []
    for _ in range(40):
        if rng.random() < 0.2:
            cut = rng.randrange(1, len(NAMES))
            mesh.partition(NAMES[:cut], NAMES[cut:])
        elif rng.random() < 0.4:
            mesh.heal()
        for name in NAMES:
            if rng.random() < 0.6:
                mesh[name].take_burst("b", "k", rng.choice([10, 100, 400]))
        mesh.advance(rng.choice([0.05, 0.5, 3.0]))
        seen += [(over_admission(mesh, name), bound(mesh, name)) for name in NAMES]
    return seen


@pytest.mark.parametrize("seed", range(6))
def test_lag_explains_all_that_is_beyond_the_capacity(seed: int) -> None:
    seen = history(seed)
    assert all(beyond <= most for beyond, most in seen)
    assert max(beyond for beyond, _ in seen) > SPEC.capacity / 2


def test_a_cold_burst_everywhere_is_beyond_what_one_bucket_admits() -> None:
    """Four nodes give away a capacity each, and all but one of these is too much."""
    mesh = SimulatedMesh(NAMES, [SPEC], latency=0.08, seed=1)
    mesh.advance(2.0)
    assert [mesh[name].take_burst("b", "k", 100) for name in NAMES] == [100] * 4
    mesh.advance(0.4)
    for name in NAMES:
        assert 300 - 200 * 0.4 <= over_admission(mesh, name) <= 300 <= bound(mesh, name)


def test_calls_within_the_limit_are_never_beyond_it() -> None:
    mesh = SimulatedMesh(NAMES, [SPEC], latency=0.08, seed=2)
    mesh.advance(2.0)
    for _ in range(100):
        for name in NAMES:
            assert mesh[name].take("b", "k", 4)
        mesh.advance(0.1)
    assert [over_admission(mesh, name) for name in NAMES] == [0] * 4
