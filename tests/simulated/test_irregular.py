"""Rare events are played as they were drawn, and judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtbucket.mesh.protocol.gossip import GossipSchedule
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.drawing import DIMENSIONS, draw
from tests.simulated.plan import Event, Phase, Plan
from tests.simulated.run import Run
from tests.simulated.view import Broken

LARGE, SMALL = BucketSpec("main", 400, 100), BucketSpec("main", 100, 50)
SIDE = BucketSpec("side", 100, 1, "3s")


def plan_of(*events: Event) -> Plan:
    plain = draw(7, plain=tuple(DIMENSIONS))
    return replace(plain, main=LARGE, side=SIDE, events=events, seconds=40.0)


def test_a_bucket_comes_later_to_some_nodes() -> None:
    run = Run(plan_of(Event(20.0, "add", ("n0",))))
    assert [sorted(node.buckets) for node in run.mesh.nodes.values()] == [
        ["main"], ["main", "side"], ["main", "side"],
    ]  # fmt: skip
    run.play()
    assert "side" in run.mesh["n0"].buckets


def test_what_was_spent_before_a_bucket_was_there_is_to_be_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_of(Event(19.0, "spend", ("n1",)), Event(20.0, "add", ("n0",)))
    Run(plan).play()
    monkeypatch.setattr(GossipSchedule, "_compare_anew", lambda self, now: None)
    with pytest.raises(Broken, match="added: n0"):
        Run(plan).play()


def test_a_bucket_that_is_added_lacks_nothing_of_keys_that_were_full_and_gone_before() -> None:
    """Their columns begin anew, with a later generation: what was taken before is in no column."""
    times = [(1.0, "n1"), (45.0, "n1"), (46.0, "n2")]
    spent = [Event(at, "spend", (name,)) for at, name in times]
    plan = plan_of(*spent, Event(46.5, "add", ("n0",)))
    run = Run(replace(plan, side=BucketSpec("side", 100, 10), seconds=55.0)).play()
    assert sum(run.oracle.books.ledger.taken["side", "spent-0"].values()) > 100


def test_a_bucket_that_is_added_may_lack_what_others_took_of_keys_that_are_asked_for() -> None:
    """The calls are denied, and their node sends only its own column."""
    times = [(19.0, "n1"), (19.01, "n2"), (22.5, "n2")]
    spent = [Event(at, "spend", (name,)) for at, name in times]
    Run(plan_of(*spent[:2], Event(20.0, "add", ("n0",)), spent[2])).play()


def test_a_bucket_that_comes_to_all_nodes_but_one_is_given_back_less_than_was_refunded() -> None:
    plan = draw(2614251)
    books = Run(plan).play().oracle.books
    assert books.set_off(("side", "key-0")) == 88
    books = Run(replace(plan, events=plan.events[:3])).play().oracle.books
    assert [books.set_off(place) for place in books.ideals if books.set_off(place)] == []


@pytest.mark.parametrize(("share", "limit"), [(0.5205, 400), (0.5207, 100)])
def test_the_oracle_knows_which_part_of_a_roll_out_has_the_key_of_the_demand(
    share: float, limit: int
) -> None:
    run = Run(plan_of(Event(5.0, "stage", (SMALL, share, 0.0, 3))))
    run.mesh["n0"].bucket("main").stage(SMALL, share)
    assert run.mesh["n0"].peek("main", "key").limit == limit
    staged = run.oracle.reloads.staged("stage", (SMALL, share))
    assert staged == (SMALL if limit == 100 else None)


STAGED = Event(5.0, "stage", (BucketSpec("main", 4000, 1000), 0.5, 0.2, 3))


@pytest.mark.parametrize("amount", [0.3, 20.0])
def test_the_demand_is_judged_by_the_earlier_limit_where_a_roll_out_has_only_other_keys(
    amount: float,
) -> None:
    demand = Phase(0.0, amount, (0.3333,) * 3)
    run = Run(replace(plan_of(STAGED), phases=(demand,), seconds=100.0)).play()
    assert run.mesh["n0"].bucket("main").candidate is not None
    assert run.mesh["n0"].peek("main", "key").limit == 400


@pytest.mark.parametrize("remembers", [False, True])
def test_a_roll_out_goes_on_where_a_process_begins_anew(remembers: bool) -> None:
    """As its store has it: with the earlier limit that node would get a tenth of its part."""
    spec, _, *how = STAGED.args
    began = (
        Event(8.0, "save", ("n1",)),
        Event(8.0, "die", ("n1", True)),
        Event(10.0, "return", ("n1", remembers)),
    )
    ends = Event(99.0, "unstage", (spec, True, 0.2, 4))
    plan = plan_of(STAGED._replace(args=(spec, 0.6, *how)), *began, ends)
    demand = Phase(0.0, 20.0, (0.3333,) * 3)
    Run(replace(plan, phases=(demand,), seconds=100.0)).play()


@pytest.mark.parametrize("keeps", [False, True])
def test_a_roll_out_ends_on_all_nodes_also_on_one_that_begins_anew(keeps: bool) -> None:
    run = Run(
        plan_of(
            Event(5.0, "stage", (SMALL, 1.0, 0.2, 3)),
            Event(8.0, "die", ("n1", True)),
            Event(10.0, "return", ("n1", False)),
            Event(20.0, "unstage", (SMALL, keeps, 0.2, 4)),
        )
    ).play()
    wanted = SMALL if keeps else LARGE
    for node in run.mesh.nodes.values():
        assert (node.bucket("main").spec, node.bucket("main").candidate) == (wanted, None)


@pytest.mark.parametrize("what", ["jump", "still"])
def test_a_clock_is_ahead_or_behind_afterwards(what: str) -> None:
    run = Run(plan_of(Event(10.0, what, ("n1", 7.0)))).play()
    ahead = run.mesh["n1"].local_ns(0) - run.mesh["n2"].local_ns(0)
    assert ahead == (7 if what == "jump" else -7) * 10**9


def test_a_reset_gives_back_what_a_node_has_taken() -> None:
    run = Run(
        plan_of(Event(9.9, "surge", ("n1", 30.0)), Event(10.0, "reset", ("n1", ("main", "key"))))
    )
    run.play()
    given = sum(run.oracle.books.ledger.refunded["main", "key"].values())
    assert 100 < given <= 400


def test_a_surge_and_a_flood_reach_one_node() -> None:
    events = Event(10.0, "surge", ("n2", 100.0)), Event(12.0, "flood", ("n0", 100, 10))
    run = Run(plan_of(*events)).play()
    assert run.oracle.denied > 500
    assert run.mesh["n0"].table.stats()["evicted_indebted"] > 0
