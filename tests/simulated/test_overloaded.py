"""At the end of a run the limit holds, whatever happened before: the oracle notices where it does
not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count, islice

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedNode
from tests.simulated.drawing import draw
from tests.simulated.network import Network
from tests.simulated.oracle import Oracle
from tests.simulated.overloaded import SHARE, SHARE_UNEVEN, Overloaded
from tests.simulated.plan import Event, Plan
from tests.simulated.run import Run, play
from tests.simulated.test_faults import SEEDS
from tests.simulated.view import Broken, View

MANY, LEAST = 12, 0.6
Burst = Callable[..., int]
Wrong = Callable[[SimulatedNode, Burst, int, int], int]


LOWERED = 1786438
"""A limit is lowered, and a process that begins afterwards can hold less debt than the others."""
STOOD_STILL = 2300129
"""A machine stands still together with its clock for most of the run."""


def overloaded(capacity: int, raised: str = "", owed: int = 0, still: float = 0.0) -> Overloaded:
    """`raised`: nodes with a raised ceiling of debt. A owes so many tokens. `still`: for so many
    seconds the machine of B stood still, as the plan has it."""
    nodes, linked = ("A", "B", "C"), (("A", "B"), ("A", "C"), ("B", "C"))
    events = (Event(0.0, "still", ("B", still)),) if still else ()
    plan = replace(draw(0), nodes=nodes, linked=linked, events=events, gossip_interval=0.1)
    mesh = Network("ABC", [BucketSpec("main", capacity, 50)], linked=["AB", "AC", "BC"], seed=1)
    for name in raised:
        mesh.nodes[name].bucket("main").define(mesh.specs[0], min_debt=owed)
    mesh.advance(1.0)
    if owed:
        mesh.nodes["A"].settle("main", "key", owed)
    mesh.advance(1.0)
    return Overloaded(plan, mesh, View(plan, mesh))


@pytest.mark.parametrize("capacity", [1, 10, 100, 1000])
def test_a_mesh_that_keeps_to_the_limit(capacity: int) -> None:
    found = overloaded(capacity)
    found.check()
    assert found.judged == (capacity < 1000)  # that would take too long


def all_denied(node: SimulatedNode, burst: Burst, calls: int, cost: int) -> int:
    return 0


def none_for_one(node: SimulatedNode, burst: Burst, calls: int, cost: int) -> int:
    return 0 if node.name == "A" else burst(calls, cost)


def half_for_one(node: SimulatedNode, burst: Burst, calls: int, cost: int) -> int:
    """Of the calls that are given to the first node every other one is denied."""
    given = burst(calls, cost)
    if node.name not in ("A", "n0"):
        return given
    kept = getattr(node, "kept", 0) + given
    node.kept = kept % 2  # type: ignore[attr-defined]
    return kept // 2


def twice_the_limit(node: SimulatedNode, burst: Burst, calls: int, cost: int) -> int:
    """As many calls again are let pass as are given."""
    given = burst(calls, cost)
    spare = getattr(node, "spare", 0) + given
    passed = min(calls - given, spare)
    node.spare = spare - passed  # type: ignore[attr-defined]
    return given + passed


WRONG = (all_denied, half_for_one, twice_the_limit)


class Planted:
    """Whether it is there may be changed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wrong: Wrong) -> None:
        self.on, take_burst = True, SimulatedNode.take_burst

        def take(node: SimulatedNode, bucket: str, key: str, calls: int, cost: int = 1) -> int:
            def burst(calls: int, cost: int) -> int:
                return take_burst(node, bucket, key, calls, cost)

            return wrong(node, burst, calls, cost) if self.on else burst(calls, cost)

        monkeypatch.setattr(SimulatedNode, "take_burst", take)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_mesh_that_does_not_keep_to_it(wrong: Wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    found = overloaded(100)
    Planted(monkeypatch, wrong)
    with pytest.raises(Broken, match="overloaded"):
        found.check()


def test_who_can_hold_less_debt_gets_more_until_that_has_refilled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overloaded(100, "AB", 1000).check()
    run = Run(draw(LOWERED)).play()
    assert isinstance(run.oracle, Oracle)
    assert run.oracle.overloaded.judged
    Planted(monkeypatch, none_for_one)
    with pytest.raises(Broken, match="are the mean"):
        overloaded(100, "ABC", 1000).check()


def test_less_than_an_even_part_is_due_beside_a_machine_that_has_seen_a_shorter_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play(STOOD_STILL)
    for still, least in ((0.0, SHARE), (1.0, SHARE), (40.0, SHARE_UNEVEN)):
        found = overloaded(100, still=still)
        assert found._share(found._window(BucketSpec("main", 100, 50), 0)) == least
    Planted(monkeypatch, none_for_one)
    with pytest.raises(Broken, match="are the mean"):
        found.check()


def test_a_mesh_shares_evenly_after_calls_of_the_whole_bucket_and_a_jump() -> None:
    play(2300758)


def fits(plan: Plan) -> bool:
    """Whether a plan has several nodes and a reload, no member lies, and it is known how its bucket
    is shared: it holds some calls of each node, updates travel faster than it fills, and that takes
    no longer than half a minute."""
    limits = [event.args[0] for event in plan.events if event.what == "reload"]
    if not limits or plan.has("lie", "write") or len(plan.nodes) < 2:
        return False
    lag, spec = plan.gossip_interval + plan.one_way, limits[-1]
    seconds = spec.capacity / spec.rate_per_second
    return spec.capacity >= 16 * len(plan.nodes) and 8 * lag <= seconds <= 30


def plans() -> list[Plan]:
    """The first ones that fit."""
    return [*islice(filter(fits, (draw(i, plain=("endings",)) for i in count())), MANY)]


def test_enough_seeds_of_the_suite_are_overloaded() -> None:
    """A fault from a reload on is noticed in most of these."""
    drawn = [plan for plan in map(draw, range(SEEDS)) if fits(plan)]
    assert sum("overloaded" in plan.endings for plan in drawn) >= MANY


def is_noticed(plan: Plan, planted: Planted) -> bool:
    run, happens = Run(plan), Run._happens

    def then(what: str, args: tuple[object, ...]) -> None:
        planted.on |= what == "reload"
        happens(run, what, args)

    planted.on, run._happens = False, then  # type: ignore[method-assign]
    try:
        run.play()
    except Broken as broken:
        print(plan.seed, broken)
        return True
    print(
        plan.seed,
        "no",
        plan.main,
        plan.gossip_interval,
        plan.linked,
        [e for e in plan.events if e.what == "reload"],
    )
    return False


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_from_a_reload_on_is_noticed(
    wrong: Wrong, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In most plans: in some a part is kept for nodes that may still run, some buckets fill too
    slowly, and some hold too few calls to be shared evenly."""
    planted = Planted(monkeypatch, wrong)
    noticed = [is_noticed(plan, planted) for plan in plans()]
    assert sum(noticed) >= LEAST * MANY, noticed
