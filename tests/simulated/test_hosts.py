"""Nodes that are hosts whose processes share a table: the one that runs the mesh is killed, or all
are, and the next ones go on with the table."""

from __future__ import annotations

import os
from itertools import combinations

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.drawing import draw
from tests.simulated.meshes import NAMES, SECOND, STILL, drive
from tests.simulated.network import Network
from tests.simulated.run import run

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create"), reason="tables are shared on Linux alone"
)


def network() -> Network:
    names = ("a", "b", "c")
    pairs = [("a", "b"), ("b", "c"), ("a", "c")]
    return Network(names, [STILL], linked=pairs, hosts=["a"], latency=0.02, seed=1)


def test_what_others_of_the_host_take_before_somebody_leads_again_is_sent_then() -> None:
    mesh = network()
    mesh.advance(1.0)
    assert mesh["a"].take_burst("b", "k", 10) == 10
    mesh.lose_leader("a")
    assert mesh["a"].take_burst("b", "k", 20) == 20
    mesh.advance(2.0)
    assert mesh["b"].peek("b", "k").remaining == 100  # nobody of the host tells it
    mesh.lead("a")
    mesh.advance(2.0)
    assert [mesh[name].peek("b", "k").remaining for name in "abc"] == [70] * 3
    assert mesh["b"].columns("b", "k") == {"a": (30, 0)}


def test_the_next_process_of_a_host_goes_on_with_the_table_that_is_left() -> None:
    mesh = network()
    mesh.advance(1.0)
    mesh["a"].take_burst("b", "k", 30)
    mesh.die("a", ends=True)  # at once, so that nobody else knows of these takes
    mesh.advance(1.0)
    mesh.back("a", None)
    assert mesh["a"].peek("b", "k").remaining == 70
    mesh.advance(2.0)
    assert [mesh[name].peek("b", "k").remaining for name in "abc"] == [70] * 3


def test_a_host_that_is_gone_has_lost_its_table() -> None:
    mesh = network()
    mesh.advance(1.0)
    mesh["a"].take_burst("b", "k", 30)
    mesh.die("a", ends=False)
    mesh.advance(1.0)
    mesh.back("a", None)
    mesh.advance(10.0)
    assert [mesh[name].peek("b", "k").remaining for name in "abc"] == [100] * 3


@pytest.mark.parametrize("after", [0.1, 0.35])
@pytest.mark.parametrize("size", [2, 3])
def test_a_burst_beside_a_silent_peer_is_owed_by_whoever_leads_next(
    size: int, after: float
) -> None:
    """The next leader takes over `after` seconds after the burst: before the peer is seen again, or
    just then. A full bucket was given out again, since only the one before had noted the burst."""
    names = NAMES[:size]
    *live, silent = names
    pairs = list(combinations(names, 2))
    mesh = Network(names, [BucketSpec("b", 1_000, 333)], linked=pairs, hosts="A", latency=0.02)
    drive(mesh, dict.fromkeys(names, 0.3 * 333 / size), 20.0)
    ways = [way for one in live for way in ((one, silent), (silent, one))]
    mesh.cut_ways(ways, times_out=False)
    drive(mesh, dict.fromkeys(live, 0.3 * 333 / size), 10.0)
    admitted = mesh["A"].take_burst("b", "k", 2_000)
    assert admitted >= 700
    burst = mesh.now_ns
    mesh.schedule(burst + round(0.3 * SECOND), mesh.mend_all)
    mesh.advance(after)
    mesh.lose_leader("A")
    mesh.lead("A")
    mesh.advance_to(burst + round(0.7 * SECOND))
    admitted += mesh["A"].take_burst("b", "k", 2_000)
    assert admitted <= 1_000 + 0.7 * 333 + 50


@pytest.mark.parametrize("seed", [2422397, 2446670, 2450661, 2452189, 2456574, 2461460])
def test_a_table_that_is_found_again_is_as_old_as_it_is(seed: int) -> None:
    """In each of these plans a host starts again while others are silent. If the new process took
    the table's times for others, what is kept for the silent would be wrong."""
    plan = draw(seed)
    assert plan.hosts & {event.args[0] for event in plan.events if event.what == "return"}
    run(plan)
