"""The parts of a mesh whose nodes see each other are found in any graph, whatever is cut; and it is
known when the others know that a node has ended."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

import pytest

from crdtbucket.mesh.protocol.failure_detector import FailureDetector
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.drawing import DIMENSIONS, draw
from tests.simulated.network import Network
from tests.simulated.plan import Event, Phase, Plan
from tests.simulated.run import Run
from tests.simulated.view import Broken, View

NAMES = "ABCDEF"
WAYS = ("n0", "n1"), ("n1", "n0")
RESET, TIMES_OUT = (
    (Event(3.0, "cut", (how, WAYS)), Event(until, "mend", (how, WAYS)))
    for how, until in (("resets", 6.0), ("times out", 20.0))
)
LEFT_UNLINKED = (
    *RESET,
    Event(5.8, "stall", (5.0, 5.0, WAYS)),
    Event(10.4, "leave", ("n1",)),
    Event(15.8, "flow", (WAYS,)),
)


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


def ends(events: tuple[Event, ...], seconds: float) -> Plan:
    """One of two nodes ends, and the other one is asked for much."""
    plain = draw(7, plain=tuple(DIMENSIONS))
    return replace(
        plain,
        nodes=("n0", "n1"),
        linked=WAYS[:1],
        clocks=plain.clocks[:2],
        main=BucketSpec("main", 20, 20),
        phases=(Phase(0.0, 20.0, (0.3, 0.7)),),
        endings=(),
        events=events,
        seconds=seconds,
    )


@pytest.mark.parametrize(
    ("events", "seconds"),
    [
        pytest.param(LEFT_UNLINKED, 21.0, id="it was not linked again"),
        pytest.param(
            (*TIMES_OUT, Event(20.05, "leave", ("n1",))), 50.0, id="its connection had timed out"
        ),
        *(
            pytest.param(
                (Event(6.0, "stall", (8.0, 16.0, WAYS)), Event(6.5, *end)),
                38.0,
                id=f"{end[0]} late",
            )
            for end in (("leave", ("n1",)), ("die", ("n1", True)))
        ),
        pytest.param(
            (Event(10.0, "die", ("n1", True)), Event(12.0, "stall", (5.0, 5.0, WAYS))),
            31.0,
            id="dials are held",
        ),
    ],
)
def test_a_part_is_expected_for_who_may_still_run(
    events: tuple[Event, ...], seconds: float
) -> None:
    """No goodbye comes, or it comes too late to count, and no dial is refused for some time."""
    Run(ends(events, seconds)).play()


def test_a_part_is_not_expected_once_dials_have_been_refused_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FailureDetector, "is_dead", lambda *_: False)
    with pytest.raises(Broken, match="given"):
        Run(ends(LEFT_UNLINKED, 45.0)).play()
