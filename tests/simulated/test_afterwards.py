"""At the end of a run every running node serves: the oracle notices one that does not."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, islice

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedNode
from tests.simulated.afterwards import Afterwards
from tests.simulated.drawing import draw
from tests.simulated.network import Network
from tests.simulated.plan import Plan
from tests.simulated.run import Run
from tests.simulated.view import Broken, View

MANY, LEAST = 10, 0.4
KINDS = ("reload", "mend", "die", "leave", "return", "come", "pause", "stall")


def afterwards(capacity: int) -> Afterwards:
    plan = replace(draw(0), nodes=("A", "B"), linked=(("A", "B"),), events=(), gossip_interval=0.1)
    mesh = Network("AB", [BucketSpec("main", capacity, 10)], linked=["AB"], seed=1)
    mesh.advance(2.0)
    return Afterwards(plan, mesh, View(plan, mesh))


@pytest.mark.parametrize("capacity", [1, 2, 10, 1000])
def test_a_mesh_that_serves(capacity: int) -> None:
    found = afterwards(capacity)
    found.check()
    assert found.judged


class Denying:
    """From now on these nodes, or all, deny every call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.on, take_burst = True, SimulatedNode.take_burst

        def take(node: SimulatedNode, bucket: str, key: str, calls: int, cost: int = 1) -> int:
            if self.on and (not names or node.name in names):
                return 0
            return take_burst(node, bucket, key, calls, cost)

        monkeypatch.setattr(SimulatedNode, "take_burst", take)


@pytest.mark.parametrize("capacity", [1, 1000])
def test_one_that_denies_all_is_named(capacity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = afterwards(capacity)
    Denying(monkeypatch, "B")
    with pytest.raises(Broken, match="'A': 0, 'B': 3"):
        found.check()


def test_a_jump_at_the_end_is_noticed_before_anything_is_asked() -> None:
    """Then the debts of its node are the most that they may be, and have to refill."""
    plan = draw(981030, plain=("endings",))
    assert plan.has("jump")
    Run(plan).play()


def test_what_is_kept_for_who_may_still_run_is_not_given() -> None:
    found = afterwards(100)
    for _ in range(50):
        found._mesh["B"].take_burst("main", "key", 2)
        found._mesh.advance(0.2)
    found._mesh.die("B", ends=False)
    found._mesh.advance(20.0)
    found.check()
    assert not found.judged


def plans(kind: str) -> list[Plan]:
    """The first plans in which such an event happens and no member lies."""
    drawn = (draw(seed, plain=("endings",)) for seed in count())
    return [*islice((p for p in drawn if p.has(kind) and not p.has("lie", "write")), MANY)]


def is_noticed(plan: Plan, kind: str, denying: Denying) -> bool:
    run, happens = Run(plan), Run._happens

    def then(what: str, args: tuple[object, ...]) -> None:
        denying.on |= what == kind
        happens(run, what, args)

    denying.on, run._happens = False, then  # type: ignore[method-assign]
    try:
        run.play()
    except Broken:
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_that_all_is_denied_once_something_has_happened_is_noticed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every other plan: in some a part is kept for nodes that may still run, and some buckets
    fill too slowly."""
    denying = Denying(monkeypatch)
    noticed = [is_noticed(plan, kind, denying) for plan in plans(kind)]
    assert sum(noticed) >= LEAST * MANY, noticed
