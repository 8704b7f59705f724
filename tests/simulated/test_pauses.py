"""A process that stands still while the others go on, and the calls that waited for it."""

from __future__ import annotations

from functools import partial
from itertools import permutations

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from crdtbucket.testing.simulated_mesh import RETRY_NS
from tests.simulated.meshes import NAMES, SECOND, drive, levels, mesh_of, total
from tests.simulated.network import Network

CAPACITY, RATE = 500, 1_000
SPEC = BucketSpec("b", CAPACITY, RATE)
DEMAND = {"A": 1_000.0, "B": 800.0, "C": 200.0}
"""Twice the limit, half of it at A."""


def back_from(pause: float, unread: float) -> SimulatedMesh:
    """A mesh in overload whose hot node has just stood still. Its part was left to it meanwhile, so
    the bucket of one server would be full."""
    mesh = mesh_of(3, SPEC, latency=0.001)
    drive(mesh, DEMAND, 10.0)
    mesh.suspend("A", pause, unread=unread)
    drive(mesh, {"B": 800.0, "C": 200.0}, pause)
    return mesh


@pytest.mark.parametrize("unread", [0.0, 0.002, 0.02, 0.2])
@pytest.mark.parametrize("pause", [2.0, 4.0, 8.0, 20.0])
def test_a_burst_after_a_pause_is_given_out_once(pause: float, unread: float) -> None:
    mesh = back_from(pause, unread)
    admitted = mesh["A"].take_burst("b", "k", round(1_000 * pause))
    assert admitted >= 0.4 * CAPACITY
    admitted += total(drive(mesh, DEMAND, 3.0))
    assert admitted == pytest.approx(3 * RATE + CAPACITY, rel=0.02)


@pytest.mark.parametrize("unread", [0.0, 0.02])
def test_what_no_call_waited_for_is_given_out_after_a_pause(unread: float) -> None:
    admitted = total(drive(back_from(8.0, unread), DEMAND, 3.0))
    assert admitted == pytest.approx(3 * RATE + CAPACITY, rel=0.02)


@pytest.mark.parametrize("unread", [0.0, 0.02])
def test_a_light_load_is_not_denied_after_a_pause(unread: float) -> None:
    mesh, light = mesh_of(3, SPEC, latency=0.001), {"A": 400.0, "B": 200.0, "C": 200.0}
    drive(mesh, light, 10.0)
    mesh.suspend("A", 8.0, unread=unread)
    drive(mesh, {"B": 200.0, "C": 200.0}, 8.0)
    assert mesh["A"].take_burst("b", "k", 100) == 100
    assert sum(denied for _, denied, _ in drive(mesh, light, 5.0).values()) == 0
    mesh.advance(2.0)
    assert set(levels(mesh).values()) == {CAPACITY}


@pytest.mark.parametrize("cut", [2.0, 2.5, 8.0])
def test_a_burst_at_the_end_of_a_partition_is_given_out_once(cut: float) -> None:
    """A side that asked for nothing and then for all of a full bucket, and the other one that asked
    for more than its part all the time."""
    mesh = mesh_of(3, SPEC, latency=0.001)
    drive(mesh, DEMAND, 10.0)
    mesh.partition(["A"], ["B", "C"])
    drive(mesh, {"B": 800.0, "C": 200.0}, cut)
    assert mesh["A"].take_burst("b", "k", 8_000) == pytest.approx(CAPACITY, rel=0.1)
    mesh.heal()
    assert total(drive(mesh, DEMAND, 3.0)) <= 3 * RATE + 0.1 * CAPACITY


def test_what_a_side_keeps_for_others_is_no_burst_of_it() -> None:
    """All ask for twice the limit in every other five seconds, in which a bucket refills, through a
    partition that ends when one begins."""
    mesh, wave = mesh_of(3, BucketSpec("b", 1_000, 200)), dict.fromkeys("ABC", 2.0 * 200 / 3)
    for second in range(0, 50, 5):
        if second == 25:
            mesh.partition(["A"], ["B", "C"])
        drive(mesh, wave if second % 10 == 0 else {}, 5.0)
    mesh.heal()
    assert total(drive(mesh, wave, 5.0)) >= 0.95 * (1_000 + 5 * 200)


def test_calls_are_decided_before_what_waits_is_read() -> None:
    """The first round goes out in between."""
    mesh = mesh_of(2, BucketSpec("b", CAPACITY, 1), latency=0.001)
    mesh.suspend("A", 1.0, unread=0.1)
    mesh["B"].take("b", "k", 100)
    mesh.advance_to(SECOND)
    assert mesh["A"].columns("b", "k") == {}
    mesh["A"].take("b", "k", 50)
    mesh.advance(0.09)
    assert mesh["A"].columns("b", "k") == {"A": (50, 0)}
    assert mesh["B"].columns("b", "k") == {"A": (50, 0), "B": (100, 0)}
    mesh.advance(0.02)
    assert mesh["A"].columns("b", "k") == {"A": (50, 0), "B": (100, 0)}


SHORT = BucketSpec("b", 240, 240)
"""It refills within the pauses below."""


def back_together(
    mesh: SimulatedMesh, load: float, pause: float, unread: float = 0.02
) -> dict[str, float]:
    """A and B stand still at the same time, under so many times the limit in all; returns what each
    node is asked for in a second."""
    demand = dict.fromkeys(mesh.nodes, load * SHORT.rate_per_second / len(mesh.nodes))
    for name in "AB":
        mesh.suspend(name, pause, unread=unread)
    drive(mesh, demand, pause)
    return demand


@pytest.mark.parametrize(("nodes", "pause"), [(2, 1.5), (2, 3.0), (3, 3.0)])
def test_bursts_of_two_that_stood_still_together_are_both_charged(nodes: int, pause: float) -> None:
    """Each decides the calls that waited before it knows of the other's. What both give out is at
    most a capacity too much, and is owed."""
    mesh = mesh_of(nodes, SHORT, latency=0.001)
    drive(mesh, dict.fromkeys(NAMES[:nodes], 720.0 / nodes), 5.0)
    demand = back_together(mesh, 3.0, pause)
    admitted = sum(mesh[n].take_burst("b", "k", round(demand[n] * pause)) for n in "AB")
    assert admitted > 1.3 * 240
    admitted += total(drive(mesh, demand, 4.0))
    assert admitted == pytest.approx(240 + 4 * 240, rel=0.03)


@pytest.mark.parametrize(
    ("unread", "bursts"), [(0.02, (0.0, 0.012)), (0.02, (0.016, 0.016)), (0.1, (0.04, 0.12))]
)
def test_bursts_around_the_first_round_after_a_pause_are_both_charged(
    unread: float, bursts: tuple[float, float]
) -> None:
    """One of them decides after it has sent a round without its burst, so its peer is no longer
    silent when the burst comes, and neither had been charged for its own yet."""
    mesh = mesh_of(2, SHORT, latency=0.001)
    drive(mesh, dict.fromkeys("AB", 360.0), 5.0)
    demand, began = back_together(mesh, 3.0, 3.0, unread), mesh.now_ns
    admitted = 0
    for name, at in zip("AB", bursts, strict=True):
        mesh.advance_to(began + round(at * SECOND))
        admitted += mesh[name].take_burst("b", "k", 1_080)
    admitted += total(drive(mesh, demand, 4.0))
    assert admitted == pytest.approx(240 + (4 + bursts[1]) * 240, rel=0.03)


@pytest.mark.parametrize(
    ("unread", "bursts"),
    [
        ((0.001, 0.02, 0.001), (0.0009, 0.0008, 0.0007)),
        ((0.15, 0.01, 0.15), (0.125, 0.004, 0.021)),
        ((0.01, 0.01, 0.15), (0.0085, 0.012, 0.145)),
    ],
)
def test_a_burst_is_charged_when_its_node_is_no_longer_silent_but_another_one_is(
    unread: tuple[float, float, float], bursts: tuple[float, float, float]
) -> None:
    """Of three that stood still, one sends a round, and then its burst, which the room for the
    third would hide. What is beyond an empty bucket and `max_debt` is forgiven."""
    mesh = mesh_of(3, BucketSpec("b", 240, 80), latency=0.001)
    demand = dict.fromkeys("ABC", 80.0)
    drive(mesh, demand, 6.0)
    for name, seconds in zip("ABC", unread, strict=True):
        mesh.suspend(name, 6.0, unread=seconds)
    began, admitted = mesh.now_ns + 6 * SECOND, 0
    for at, name in sorted(zip(bursts, "ABC", strict=True)):
        mesh.advance_to(began + round(at * SECOND))
        admitted += mesh[name].take_burst("b", "k", 480)
    forgiven = max(0, admitted - 2 * 240)
    admitted += total(drive(mesh, demand, 5.0))
    assert admitted <= 1.03 * (240 + 80 * (mesh.now_ns - began) / SECOND) + forgiven


def test_both_bursts_are_owed_as_soon_as_a_node_reads_of_the_other_one() -> None:
    """Its next round would charge its own, and it may have given out as much again by then."""
    mesh = mesh_of(2, SHORT, latency=0.001)
    drive(mesh, dict.fromkeys("AB", 360.0), 5.0)
    demand = back_together(mesh, 3.0, 3.0)
    bursts = [mesh[n].take_burst("b", "k", round(demand[n] * 3.0)) for n in "AB"]
    taken = mesh["A"].columns("b", "k")["B"][0]
    for _ in range(200):
        if mesh["A"].columns("b", "k")["B"][0] >= taken + bursts[1]:
            break
        mesh.advance(0.001)
    owed = mesh["A"].peek("b", "k").debt * SHORT.rate_per_second / SECOND
    assert owed >= 0.9 * sum(bursts)


@pytest.mark.parametrize("before", [0, 100])
def test_a_light_load_is_not_denied_after_two_stood_still_together(before: int) -> None:
    """What was taken just before the pause is refilled in it."""
    mesh = mesh_of(2, SHORT, latency=0.001)
    drive(mesh, dict.fromkeys("AB", 72.0), 5.0)
    assert [mesh[n].take_burst("b", "k", before) for n in "AB"] == [before, before]
    light = back_together(mesh, 0.6, 3.0)
    assert [mesh[n].take_burst("b", "k", 100) for n in "AB"] == [100, 100]
    assert sum(denied for _, denied, _ in drive(mesh, light, 4.0).values()) == 0
    mesh.advance(1.5)
    assert set(levels(mesh).values()) == {240}


@pytest.mark.parametrize("unread", [0.02, 0.2])
@pytest.mark.parametrize(("nodes", "pause"), [(2, 1.5), (2, 3.0), (3, 3.0), (3, 8.0)])
def test_a_burst_is_charged_where_the_peers_took_nothing_in_the_pause(
    nodes: int, pause: float, unread: float
) -> None:
    """They come back with rounds that show no takes. The room that was kept for these ends, and
    what was taken of it is owed: a burst into it was given out again."""
    mesh = mesh_of(nodes, SHORT, latency=0.001)
    demand = dict.fromkeys(NAMES[:nodes], 720.0 / nodes)
    drive(mesh, demand, 5.0)
    mesh.suspend("A", pause, unread=unread)
    mesh.advance(pause)
    admitted = mesh["A"].take_burst("b", "k", 1_000)
    assert admitted >= 150
    mesh.advance(0.03)
    admitted += total(drive(mesh, demand, 4.0))
    assert admitted <= 1.2 * 240 + 4.03 * 240


@pytest.mark.parametrize("unread", [0.02, 0.1])
def test_room_of_a_peer_that_stays_silent_is_no_debt_after_a_pause(unread: float) -> None:
    """B is seen again after it, and C, which is cut off, is not: A took of the room of both."""
    mesh, light = mesh_of(3, SPEC, latency=0.001), dict.fromkeys("ABC", 200.0)
    drive(mesh, light, 10.0)
    mesh.partition("AB", "C")
    mesh.suspend("A", 3.0, unread=unread)
    drive(mesh, light, 3.0)
    assert mesh["A"].take_burst("b", "k", 300) == 300
    for _ in range(80):
        mesh.advance(0.005)
        assert mesh["A"].take("b", "k").remaining >= 0.85 * CAPACITY


def test_what_was_given_back_after_a_pause_is_not_charged_again() -> None:
    """A burst that a round has noted, before the peer is seen again."""
    mesh = mesh_of(2, SHORT, latency=0.001)
    drive(mesh, dict.fromkeys("AB", 360.0), 5.0)
    mesh.suspend("A", 3.0, unread=0.1)
    mesh.advance(3.0)
    node = mesh["A"]
    decision = node.take("b", "k", 200)
    assert decision
    mesh.advance(0.08)
    assert node.refund(decision) == 200
    node.take("b", "k", 1)
    for _ in range(100):
        mesh.advance(0.002)
        assert node.peek("b", "k").remaining >= 200


def test_what_a_peer_gave_back_after_a_pause_is_not_charged_at_the_next_one() -> None:
    """Its burst was noted here, and the bucket takes long to refill it."""
    mesh, light = mesh_of(2, BucketSpec("b", 1_000, 10), latency=0.001), dict.fromkeys("AB", 2.0)
    drive(mesh, light, 10.0)
    for name in "AB":
        mesh.suspend(name, 3.0, unread=0.02)
    mesh.advance(3.0)
    _, decision = (mesh[n].take("b", "k", 450) for n in "AB")
    mesh.advance(0.5)
    assert mesh["B"].refund(decision) == 450
    mesh.advance(0.5)
    before = mesh["A"].peek("b", "k").remaining
    assert before >= 550
    mesh.suspend("B", 10.0)
    drive(mesh, {"A": 2.0}, 10.0)
    for _ in range(100):
        mesh.advance(0.01)
        assert mesh["A"].peek("b", "k").remaining >= before


def test_what_was_taken_after_a_pause_is_no_more_under_a_larger_limit() -> None:
    """It is noted as the time in which it is refilled, which is worth more tokens then."""
    mesh = mesh_of(2, SHORT, latency=0.001)
    drive(mesh, dict.fromkeys("AB", 360.0), 5.0)
    mesh.suspend("A", 3.0, unread=0.3)
    mesh.advance(3.0)
    assert mesh["A"].take_burst("b", "k", 200) >= 150
    mesh.advance(0.29)
    for node in mesh.nodes.values():
        node.buckets["b"].define(BucketSpec("b", 2_400, 2_400))
    mesh["A"].take("b", "k", 1)
    for _ in range(50):
        mesh.advance(0.002)
        assert mesh["A"].peek("b", "k").remaining >= 2_000


PAIRS = (("A", "B"), ("A", "C"), ("B", "C"))
AFTERS = [*permutations((0.03, 0.06, 0.12))]


def relinked(
    load: float,
    pause: float,
    links: dict[tuple[str, str], float],
    before: int = 0,
    going_on: str = "",
) -> Network:
    """A mesh whose nodes have stood still, all but `going_on`, each just after it took tokens
    (`before`). The connections have ended meanwhile; each is made again so many seconds after the
    pause."""
    names = sorted({name for pair in links for name in pair})
    mesh = Network(names, [SHORT], linked=links, latency=0.001, seed=1)
    demand = dict.fromkeys(names, load * SHORT.rate_per_second / len(names))
    drive(mesh, demand, 5.0)
    assert [mesh[name].take_burst("b", "k", before) for name in names] == [before] * len(names)
    for name in sorted({*names} - {*going_on}):
        mesh.suspend(name, pause, unread=0.02)
    for pair, after in links.items():  # the first dial is `RETRY_NS` after the end
        ends = mesh.now_ns + round((pause + after) * SECOND) - RETRY_NS
        mesh.schedule(ends, mesh.reset_pairs, [pair])
        mesh.schedule(ends, partial(mesh.mend, resets=True), [pair])
    drive(mesh, {name: demand[name] for name in going_on}, pause)
    return mesh


@pytest.mark.parametrize(("pause", "after"), [(3.0, 0.01), (3.0, 0.2), (20.0, 0.1)])
def test_bursts_of_two_are_both_charged_when_their_connection_had_ended(
    pause: float, after: float
) -> None:
    """A new link shows no gap between frames, but how few rounds the other one has made. What
    either of them is given before they are linked was refilled in that time."""
    mesh = relinked(3.0, pause, {("A", "B"): after})
    admitted = sum(mesh[n].take_burst("b", "k", 1_080) for n in "AB")
    assert admitted >= 1.9 * 240
    admitted += total(drive(mesh, dict.fromkeys("AB", 360.0), 4.0))
    assert admitted == pytest.approx(240 + 4 * 240, rel=0.04)


@pytest.mark.parametrize("afters", AFTERS[:3])
def test_bursts_of_three_are_charged_in_whatever_order_they_are_linked_again(
    afters: tuple[float, float, float],
) -> None:
    """What is beyond an empty bucket and `max_debt`, a capacity here, is forgiven."""
    mesh = relinked(3.0, 8.0, dict(zip(PAIRS, afters, strict=True)))
    admitted = sum(mesh[n].take_burst("b", "k", 720) for n in "ABC")
    assert admitted == 3 * 240
    admitted += total(drive(mesh, dict.fromkeys("ABC", 240.0), 4.0))
    assert admitted <= 1.03 * (240 + 4 * 240) + 240


@pytest.mark.parametrize("afters", [one for one in AFTERS if one[0] < max(one)])
def test_bursts_of_two_are_charged_where_a_third_node_went_on(
    afters: tuple[float, float, float],
) -> None:
    """But where it is linked with both before they are."""
    mesh = relinked(3.0, 8.0, dict(zip(PAIRS, afters, strict=True)), going_on="C")
    admitted = sum(mesh[n].take_burst("b", "k", 720) for n in "AB")
    assert admitted == 2 * 240
    admitted += total(drive(mesh, dict.fromkeys("ABC", 240.0), 4.0))
    assert admitted == pytest.approx(240 + 4 * 240, rel=0.03)


@pytest.mark.parametrize("afters", AFTERS[::3])
@pytest.mark.parametrize("before", [0, 60])
def test_a_light_load_is_hardly_denied_after_all_stood_still_and_were_linked_again(
    before: int, afters: tuple[float, float, float]
) -> None:
    """But for a call or so, since a burst that is just seen may go on."""
    mesh = relinked(0.6, 8.0, dict(zip(PAIRS, afters, strict=True)), before)
    assert [mesh[n].take_burst("b", "k", 40) for n in "ABC"] == [40, 40, 40]
    light = dict.fromkeys("ABC", 0.6 * 240 / 3)
    assert sum(denied for _, denied, _ in drive(mesh, light, 4.0).values()) <= 3
    mesh.advance(1.5)
    assert set(levels(mesh).values()) == {240}
