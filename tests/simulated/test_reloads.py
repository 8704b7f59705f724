"""After a reload, and after an overload, the oracle judges again."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedNode
from tests.simulated.drawing import DIMENSIONS, draw
from tests.simulated.light_load import RESTED_NS, LightLoad
from tests.simulated.network import Network
from tests.simulated.plan import Event, Phase, Plan
from tests.simulated.reloads import Reloads
from tests.simulated.run import Run
from tests.simulated.service import Service
from tests.simulated.view import Broken, View

SECOND = 10**9
LARGE, SMALL = BucketSpec("main", 400, 100), BucketSpec("main", 200, 50)
EVEN = (0.3333,) * 3


def plan_of(*amounts: float) -> Plan:
    """A limit is halved after ten seconds; each amount is asked for in one part of the run."""
    plain = draw(7, plain=tuple(DIMENSIONS))
    events = (Event(10.0, "reload", (SMALL, 0.5, True, 3, 4.0)),)
    phases = tuple(Phase(60.0 * i, amount, EVEN) for i, amount in enumerate(amounts))
    return replace(plain, main=LARGE, events=events, phases=phases, seconds=60.0 * len(amounts))


class Wrong:
    """From a time on, all calls are denied, on all nodes or on one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, since: float, *names: str) -> None:
        take_burst = SimulatedNode.take_burst

        def take(node: SimulatedNode, bucket: str, key: str, calls: int, cost: int = 1) -> int:
            wrong = node._mesh.now_ns > since * SECOND and (not names or node.name in names)
            return 0 if wrong else take_burst(node, bucket, key, calls, cost)

        monkeypatch.setattr(SimulatedNode, "take_burst", take)


@pytest.mark.parametrize("amounts", [(0.3, 0.3), (0.3, 2.0), (3.0, 0.3, 0.3)])
def test_a_run_with_a_reload_keeps_to_every_rule(amounts: tuple[float, ...]) -> None:
    Run(plan_of(*amounts)).play()


def test_a_light_load_is_judged_by_the_new_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    Wrong(monkeypatch, 70.0)
    with pytest.raises(Broken, match="denied"):
        Run(plan_of(0.3, 0.3)).play()


def test_shares_are_judged_by_the_new_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    Wrong(monkeypatch, 70.0, "n1")
    with pytest.raises(Broken, match=r"share: n1|starved"):
        Run(plan_of(2.0, 2.0)).play()


def test_a_light_load_after_an_overload_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    Wrong(monkeypatch, 170.0)
    with pytest.raises(Broken, match="denied"):
        Run(plan_of(3.0, 0.3, 0.3)).play()


@pytest.mark.parametrize(("keeps", "seconds"), [(False, 400 / 50), (True, 800 / 50)])
def test_it_is_in_force_when_it_is_everywhere_and_what_was_owed_has_refilled(
    keeps: bool, seconds: float
) -> None:
    plan = plan_of(0.3)
    mesh = Network("ABC", [plan.main], linked=["AB"], seed=1)
    reloads = Reloads(plan, mesh)
    assert reloads.in_force() is None
    reloads.begins(SMALL, 1.0, keeps, 0, 7.0)
    mesh.advance(3.0 + 7.0 + seconds)
    assert reloads.in_force() is None
    mesh.advance(8.0)
    assert reloads.in_force() == SMALL
    assert reloads.in_force() is None


def test_a_load_is_light_again_when_it_has_been_so_for_long_and_all_has_refilled() -> None:
    load = LightLoad(BucketSpec("b", 100, 10), 100, 0, 0)
    load.offered(80, 1, SECOND)
    assert not load.within
    load.may_be_clear(SECOND + RESTED_NS, 0)
    assert not load.within  # not for long
    load.given(200, SECOND + RESTED_NS)
    load.may_be_clear(SECOND + RESTED_NS + 1, 0)
    assert not load.within  # all is owed
    load.may_be_clear(30 * SECOND + RESTED_NS, 0)
    assert load.within
    load.offered(40, 1, 30 * SECOND + RESTED_NS)
    assert load.within


@pytest.mark.parametrize(
    ("tokens", "calls", "broken"), [(90, 1, False), (150, 1, True), (150, 90, False)]
)
def test_a_light_load_leaves_no_large_debt(tokens: int, calls: int, broken: bool) -> None:
    """Whatever was cut: but where more was asked for than the limit gives."""
    plain = draw(7, plain=tuple(DIMENSIONS))
    mesh = Network(plain.nodes, [plain.main, plain.side], linked=plain.linked, seed=1)
    service = Service(plain, mesh, View(plain, mesh))
    service.took(mesh["n0"], calls, 1, calls)
    mesh["n0"].settle("main", "key", tokens)
    with pytest.raises(Broken, match="light") if broken else nullcontext():
        service.check_owed()
