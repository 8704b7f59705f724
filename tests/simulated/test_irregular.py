"""What happens rarely is played as it was drawn, and judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtbucket.mesh.protocol.gossip import GossipSchedule
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.drawing import DIMENSIONS, draw
from tests.simulated.plan import Event, Plan
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
