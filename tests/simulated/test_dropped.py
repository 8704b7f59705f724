"""The oracle excuses only the debt that nodes drop: at its ceiling, and with keys that a full table
evicts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.drawing import DIMENSIONS, draw
from tests.simulated.dropped import Dropped
from tests.simulated.network import Network
from tests.simulated.overloaded import Overloaded
from tests.simulated.run import Run
from tests.simulated.service import Service
from tests.simulated.test_overloaded import Planted, twice_the_limit
from tests.simulated.truth import IdealBucket
from tests.simulated.view import Broken, View
from tests.simulated.window import Window

SECOND = 10**9
MAIN = ("main", "key")
SIDE = BucketSpec("side", 400, 1, "3s")
FAST, TINY = BucketSpec("main", 200, 200), BucketSpec("main", 1, 1, "60s")
WAYS = (("A", "B"), ("B", "C"))


def window(ceiling: int) -> Window:
    """The window of a bucket of 100 tokens."""
    bucket = BucketSpec("main", 100, 10)
    ideal, true, capped = (IdealBucket(bucket, debt) for debt in (0, 2**53, ceiling))
    return Window(0, ideal, true, capped, SECOND)


@pytest.mark.parametrize(
    ("ceiling", "given", "forgiven", "explained"),
    [(40, 130, 0, True), (40, 131, 999, False), (20, 140, 10, True), (20, 140, 9, False)],
)
def test_as_much_is_forgiven_as_nodes_say_where_one_bucket_would_forgive_some(
    ceiling: int, given: int, forgiven: int, explained: bool
) -> None:
    """30 tokens are unknown: so much one bucket may owe that admits, and forgive what is beyond its
    ceiling."""
    found = window(ceiling)
    found.give(given, 0)
    assert found.explained(30, forgiven) == explained


class Flood:
    """A mesh whose tables hold 16 keys; others of a bucket that fills slowly may come."""

    def __init__(self, spec: BucketSpec, names: str = "A", linked: tuple[str, ...] = ()) -> None:
        self.mesh = Network(names, [spec, SIDE], linked=linked, seed=1, max_keys=16)
        self.mesh.advance(2.0)

    def comes(self, cost: int) -> None:
        for node in self.mesh.nodes.values():
            for i in range(40):
                node.take("side", f"{cost} {i}", cost)


@pytest.mark.parametrize(
    ("spec", "taken", "evicted"),
    [(FAST, 150, 150 + 7), (FAST, 0, 0), (BucketSpec("main", 200, 1, "1h"), 150, 0)],
)
def test_the_debt_of_a_key_that_is_evicted_is_dropped(
    spec: BucketSpec, taken: int, evicted: int
) -> None:
    """With what others took shortly before. A key that fills slowly is not evicted."""
    flood, seen = Flood(spec), window(0)
    node = flood.mesh["A"]
    if taken:
        node.take(*MAIN, taken)
    seen.give(7, 0)
    dropped = Dropped([node], MAIN, seen)
    dropped.before()
    flood.comes(20)
    dropped.after()
    assert node.table.stats()["evicted_indebted"] >= 20
    assert dropped.evicted == pytest.approx(evicted)


def overloaded(*floods: int, monkeypatch: pytest.MonkeyPatch) -> Overloaded:
    """Two nodes; other keys come in these turns, on both at once."""
    flood = Flood(FAST, "AB", ("AB",))
    plan = replace(draw(7, plain=tuple(DIMENSIONS)), nodes=("A", "B"), linked=(("A", "B"),))
    advance, turns = flood.mesh.advance, iter(range(1, 1000))

    def then(seconds: float) -> None:
        advance(seconds)
        if (turn := next(turns)) in floods:
            flood.comes(20 + turn)

    monkeypatch.setattr(flood.mesh, "advance", then)
    return Overloaded(plan, flood.mesh, View(plan, flood.mesh))


def test_an_overload_in_which_a_full_table_evicts_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    overloaded(60, 90, monkeypatch=monkeypatch).check()
    monkeypatch.setattr(Dropped, "after", lambda self: None)
    with pytest.raises(Broken, match="beyond the limit"):
        overloaded(60, 90, monkeypatch=monkeypatch).check()


def test_twice_the_limit_is_too_much_where_a_full_table_evicts_the_key_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Planted(monkeypatch, twice_the_limit)
    with pytest.raises(Broken, match="beyond the limit"):
        overloaded(60, monkeypatch=monkeypatch).check()


def a_tiny_bucket_in_a_chain(max_debt: int) -> Service:
    """Every node is asked for much at once, so seldom that its key is evicted in between, as it is
    full: so each forgets what the others ask for. All of them grant a token when the bucket is
    full, before they have merged each other's takes."""
    spec = replace(TINY, max_debt=max_debt)
    plan = replace(draw(7, plain=tuple(DIMENSIONS)), nodes=tuple("ABC"), linked=WAYS, main=spec)
    plan = replace(plan, gossip_interval=3.0, seconds=3600.0)
    mesh = Network("ABC", [spec], linked=WAYS, seed=1, gossip_interval=3.0)
    service = Service(plan, mesh, View(plan, mesh))
    for _ in range(45):
        mesh.advance(80 / 3)
        for node in mesh.nodes.values():
            service.took(node, 11, 1, node.take_burst(*MAIN, 11))
    return service


def given(service: Service) -> float:
    """What has been admitted so far, as a part of the limit."""
    assert service.window is not None
    minutes = (service.mesh.now_ns - service.window.since) / (60 * SECOND)
    return sum(service.window.given.values()) / minutes


def test_what_a_tiny_bucket_forgives_is_given_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tokens in some 130 s, as two are owed at most."""
    service = a_tiny_bucket_in_a_chain(1)
    assert given(service) > 1.3
    service.rules.check_over_admission(service.window, 0.0)
    monkeypatch.setattr(service.rules, "forgiven", lambda: service.window.forgiven)
    with pytest.raises(Broken, match="over-admission"):
        service.rules.check_over_admission(service.window, 0.0)


def test_where_as_much_may_be_owed_as_all_nodes_give_at_once_the_limit_holds() -> None:
    assert given(a_tiny_bucket_in_a_chain(2)) < 1.1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [900851, 901839, 910240])
def test_a_run_in_which_nodes_drop_debt(seed: int) -> None:
    Run(draw(seed, plain=("endings",))).play()
