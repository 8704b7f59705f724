"""The oracle: what it compares with, knows of the mesh, counts, and allows."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import combinations, count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedNode
from tests.simulated.books import Books
from tests.simulated.deaths import kept_for_the_dead
from tests.simulated.drawing import DIMENSIONS, draw
from tests.simulated.ending import Ending
from tests.simulated.network import Network
from tests.simulated.plan import Event, Phase, Plan, names
from tests.simulated.run import Run, play, run
from tests.simulated.service import Service
from tests.simulated.truth import IdealBucket, LateBucket
from tests.simulated.view import ENDED_NS, Broken, View

SECOND = 10**9
SPEC = BucketSpec("b", 100, 10)
WAYS = (("A", "C"), ("C", "A"), ("B", "C"), ("C", "B"))
ENDED = ENDED_NS / 10**9
DOES = nullcontext()
"""What is looked at does hold."""


@given(st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 60)), max_size=30))
def test_a_bucket_that_is_not_late_is_the_ideal_one(calls: list[tuple[int, int]]) -> None:
    late, ideal, now = LateBucket(IdealBucket(SPEC), 0), IdealBucket(SPEC), 0
    for after, number in calls:
        now += after + 1
        assert late.admits(number, 2, now) == ideal.admits(number, 2, now)


def test_what_was_taken_lately_has_not_refilled() -> None:
    bucket = LateBucket(IdealBucket(SPEC), SECOND)
    assert bucket.admits(120, 1, 10 * SECOND) == 100
    assert bucket.admits(1, 1, 11 * SECOND - 1) == 0
    assert bucket.admits(20, 1, 12 * SECOND) == 10


def test_a_light_load_is_given_by_a_late_bucket_that_holds_what_comes_meanwhile() -> None:
    bucket = LateBucket(IdealBucket(SPEC), 9 * SECOND)
    for second in range(100):
        assert bucket.admits(9, 1, second * SECOND) == 9


def test_a_bucket_that_is_too_late_denies_a_light_load() -> None:
    bucket = LateBucket(IdealBucket(SPEC), 20 * SECOND)
    assert sum(bucket.admits(9, 1, second * SECOND) for second in range(100)) < 900


def mistaken(how: str, after: float, *beside: str) -> bool:
    """C is cut off from A and B, and after so long D comes, beside these."""
    plan = replace(draw(0), forget_after=60.0)
    mesh = Network("ABC", [plan.main], linked=["AB", "AC", "BC"], seed=1)
    view = View(plan, mesh)
    view.happens("cut", (how, WAYS))
    if how == "resets":
        mesh.reset_pairs(WAYS)
    else:
        mesh.cut_ways(WAYS, times_out=False)
    mesh.advance(after)
    view.happens("come", ("D", beside, 0.0))
    return view.mistaken >= 0


@pytest.mark.parametrize(("how", "given_up"), [("resets", 10.0), ("silent", 60.0)])
def test_a_relay_that_comes_brings_back_whom_others_had_given_up(how: str, given_up: float) -> None:
    assert mistaken(how, given_up + 1.0, "A", "C")
    assert not mistaken(how, given_up - 1.0, "A", "C")


def test_who_was_given_up_stays_so_until_all_ways_are_open() -> None:
    plan = replace(draw(0), forget_after=60.0)
    mesh = Network("ABC", [plan.main], linked=["AB", "AC", "BC"], seed=1)
    view = View(plan, mesh)
    for how in ("resets", "silent"):
        view.happens("cut", (how, WAYS))
    mesh.cut_ways(WAYS, times_out=False)
    mesh.advance(20.0)
    view.happens("mend", ("resets", WAYS))
    mesh.advance(20.0)
    view.happens("mend", ("silent", WAYS))
    assert view.mistaken == mesh.now_ns


@pytest.mark.parametrize(("after", "silently"), [(ENDED - 1.0, {"C"}), (ENDED + 1.0, set())])
def test_who_is_cut_off_before_its_dials_were_refused_for_long_has_gone_silently(
    after: float, silently: set[str]
) -> None:
    plan = draw(0)
    mesh = Network("ABC", [plan.main], linked=["AB", "AC", "BC"], seed=1)
    view = View(plan, mesh)
    view.happens("die", ("C", True))
    mesh.die("C", ends=True)
    mesh.advance(after)
    view.happens("cut", ("silent", WAYS))
    assert view.gone_silently == silently


@pytest.mark.parametrize(("more", "silently"), [((), {"C"}), (("D",), {"C"}), (("D", "E"), set())])
def test_who_dies_and_leaves_no_majority_has_gone_silently(
    more: tuple[str, ...], silently: set[str]
) -> None:
    names = ("A", "B", "C", *more)
    linked = [one + two for i, one in enumerate(names) for two in names[i + 1 :]]
    mesh = Network(names, [draw(0).main], linked=linked, seed=1)
    view = View(draw(0), mesh)
    for name in "BC":
        view.happens("die", (name, True))
        mesh.die(name, ends=True)
        mesh.advance(2 * ENDED)
    assert view.gone_silently == silently


def test_who_comes_takes_the_place_of_one_that_died() -> None:
    mesh = Network("ABC", [draw(0).main], linked=["AB", "AC", "BC"], seed=1)
    view = View(draw(0), mesh)
    for name in "BC":
        view.happens("die", (name, True))
        mesh.die(name, ends=True)
        mesh.advance(2 * ENDED)
        view.happens("come", ("D", ("A",), 0.0))
    assert not view.gone_silently


@pytest.mark.parametrize("beside", ["AB", "C"])
def test_who_comes_to_one_part_alone_brings_back_nobody(beside: str) -> None:
    assert not mistaken("resets", 30.0, *beside)


def die(at: float, name: str, *, ends: bool = True) -> Event:
    return Event(at, "die", (name, ends))


RETURNS = Event(30.0, "return", ("n0", False))
COMES = Event(30.0, "come", ("m0", ("n0",), 0.0))


@pytest.mark.parametrize(
    ("events", "silently", "kept"),
    [
        ((), "", 0.0),
        ((die(10.0, "n0"),), "", ENDED),
        ((die(10.0, "n0"), die(50.0, "n1")), "", 2 * ENDED),
        ((die(10.0, "n0"), die(11.0, "n1")), "", 1.0 + ENDED),
        ((die(10.0, "n0", ends=False),), "n0", 60.0),
        ((die(10.0, "n0", ends=False), die(20.0, "n1")), "n0", 60.0),
        ((die(10.0, "n0", ends=False), RETURNS), "n0", 20.0),
        ((die(10.0, "n0", ends=False), RETURNS._replace(at=11.0)), "n0", ENDED),
        ((die(10.0, "n0"), RETURNS), "", ENDED),
        ((die(60.0, "n0", ends=False),), "n0", ENDED),  # it is not forgotten yet
        # Too few were left to declare them dead, until another one comes.
        ((die(10.0, "n0"), die(11.0, "n1")), "n0 n1", 61.0),
        ((die(60.0, "n0"), die(61.0, "n1")), "n0 n1", 1.0 + ENDED),
        ((die(10.0, "n0"), die(11.0, "n1"), COMES), "n0 n1", 61.0),
        ((die(10.0, "n0"), die(11.0, "n1"), RETURNS), "n0 n1", 61.0),
        ((die(60.0, "n0"), die(61.0, "n1"), COMES._replace(at=80.0)), "n0 n1", 20.0 + ENDED),
        ((die(60.0, "n0", ends=False), COMES._replace(at=80.0)), "n0", ENDED),
    ],
)
def test_room_is_kept_for_each_that_died_until_it_is_given_up_or_begins_anew(
    events: tuple[Event, ...], silently: str, kept: float
) -> None:
    plan = replace(draw(0), events=events, forget_after=60.0)
    assert kept_for_the_dead(plan, silently.split(), 100.0) == pytest.approx(kept)


@pytest.mark.parametrize(
    ("size", "forget_after", "events"),
    [
        (3, 900.0, (die(500.0, "n1"), die(501.0, "n2"))),
        (3, 300.0, (die(500.0, "n1"), die(501.0, "n2"))),
        (3, 900.0, (die(700.0, "n1"), die(701.0, "n2"), COMES._replace(at=1200.0))),
        # All that links the others with each other is gone.
        (2, 900.0, (Event(200.0, "come", ("m0", ("n1",), 0.0)), die(500.0, "n1"))),
    ],
)
def test_who_sees_too_few_to_declare_the_dead_dead_owes_what_it_kept_for_them_and_little_more(
    monkeypatch: pytest.MonkeyPatch, size: int, forget_after: float, events: tuple[Event, ...]
) -> None:
    plan = replace(draw(1961292), nodes=names(size), clocks=((0.0, 0.0),) * size, events=events)
    plan = replace(plan, linked=tuple(combinations(plan.nodes, 2)), scattered=0.0)
    plan = replace(plan, phases=(Phase(0.0, 5.0, (0.0, 1.0, 0.0)),), endings=())
    plan = replace(plan, seconds=1500.0, gossip_interval=10.0, forget_after=forget_after)
    assert run(plan).oracle.view.ever_silent
    monkeypatch.setattr(
        "tests.simulated.ending.kept_for_the_dead", lambda *args: 0.7 * kept_for_the_dead(*args)
    )
    with pytest.raises(Broken, match="history"):
        run(plan)


@pytest.mark.parametrize(("links", "silently"), [("AB BC", {"B"}), ("AB BC AC", set())])
def test_who_alone_linked_the_others_and_dies_leaves_too_few_to_know(
    links: str, silently: set[str]
) -> None:
    mesh = Network("ABC", [draw(0).main], linked=links.split(), seed=1)
    view = View(draw(0), mesh)
    view.happens("die", ("B", True))
    assert (view.ever_silent, view.gone_silently) == (silently, set())


def test_the_take_with_which_a_window_begins_counts_once() -> None:
    """It empties the bucket, and nothing is given beyond the limit."""
    plan = replace(draw(0), nodes=("A",), linked=(), events=(), clocks=((0.0, 0.0),))
    mesh = Network("A", [plan.main], linked=[], seed=1)
    service = Service(plan, mesh, View(plan, mesh))
    mesh.advance(service.settle_ns / 10**9 + 1.0)
    service.took(mesh["A"], 1, plan.main.capacity, 1)
    assert service.window is not None
    assert service.window.beyond == 0
    service.took(mesh["A"], 1, plan.main.capacity, 1)
    assert service.window.beyond == plan.main.capacity


def test_who_had_the_same_columns_at_the_end_may_evict_the_key_and_lack_some_again() -> None:
    plan, place = replace(draw(0), nodes=("A", "B"), linked=(), events=()), ("main", "key")
    mesh = Network("AB", [BucketSpec("main", 100, 1, "1h")], linked=["AB"], seed=1)
    view = View(plan, mesh)
    ending, nodes = Ending(plan, mesh, view, Books(plan, mesh, view)), list(mesh.nodes.values())
    mesh.cut_ways([("A", "B"), ("B", "A")], times_out=False)
    for node in nodes:
        node.take(*place, 5)
    assert ending._unequal(nodes, place)
    mesh.mend_all()
    mesh.advance(5.0)
    assert not ending._unequal(nodes, place)
    nodes[0].take(*place, 5)  # stands for what one of them has lost: here, too, they differ
    assert not ending._unequal(nodes, place)


@pytest.mark.parametrize(
    ("took", "cut", "apart"),
    [
        ((700, 700, 450), True, False),
        ((450, 700, 700), True, False),
        ((700, 700, 450), False, True),
        ((700, 700, 350), True, True),
        ((700, 450, 450), True, True),
        ((700, 450), True, True),
    ],
)
def test_after_a_cut_one_may_owe_less_than_all_others(
    took: tuple[int, ...], cut: bool, apart: bool
) -> None:
    events = (Event(1.0, "cut", ("silent", WAYS)),) if cut else ()
    plan = replace(draw(0), nodes=tuple("ABC"[: len(took)]), linked=(), events=events)
    plan = replace(plan, main=BucketSpec("main", 1000, 10))
    mesh = Network(plan.nodes, [plan.main], linked=["AB", "AC", "BC"][: len(took)], seed=1)
    for node, tokens in zip(mesh.nodes.values(), took, strict=True):
        node.take("main", "key", tokens)
    view = View(plan, mesh)
    ending = Ending(plan, mesh, view, Books(plan, mesh, view))
    assert (ending._apart([*mesh.nodes.values()], ("main", "key")) is not None) is apart


@pytest.mark.parametrize(
    ("held", "after", "late"), [(5.0, 1.0, 4.0), (5.0, 11.0, 0.0), (0.9, 1.0, 0.0), (0.0, 1.0, 0.0)]
)
def test_what_refilled_before_it_came_may_be_owed_until_the_bucket_has_refilled(
    held: float, after: float, late: float
) -> None:
    stall = (Event(1.0, "stall", (held, 0.0, ())),) if held else ()
    plan = replace(draw(0), nodes=("A", "B"), linked=(), events=stall)
    mesh = Network("AB", [SPEC], linked=["AB"], seed=1)
    view = View(plan, mesh)
    mesh.advance(1.0 + held + after)
    assert Ending(plan, mesh, view, Books(plan, mesh, view))._charged_late(SPEC, 2) == late


@pytest.mark.parametrize(
    ("unlinked", "expects"), [(0.0, pytest.raises(Broken, match="history")), (1.5, DOES)]
)
def test_what_refilled_before_a_new_process_was_linked_may_be_charged_twice(
    unlinked: float, expects: AbstractContextManager[object]
) -> None:
    plan = replace(draw(0), nodes=("A", "B"), linked=(("A", "B"),), loss=(0.0, 0.0, 0.0), events=())
    plan = replace(plan, main=BucketSpec("main", 100, 10), gossip_interval=0.1, latency=0.01)
    plan = replace(plan, slow=(), storm=None, forget_after=900.0)
    mesh = Network(plan.nodes, [plan.main], linked=plan.linked, seed=1)
    view = View(plan, mesh)
    books = Books(plan, mesh, view)
    books.ideal(("main", "key"))
    mesh.unlinked_ns = round(unlinked * SECOND)
    with expects:
        Ending(plan, mesh, view, books)._check_history(mesh["A"], ("main", "key"), 86.0)


@pytest.mark.parametrize(
    ("gossip", "period", "part"), [(0.1, 10.0, 1.0), (1.0, 10.0, 0.5), (1.0, 20.0, 0.75)]
)
def test_who_goes_on_after_a_burst_leaves_the_others_what_they_may_take_until_their_next_news(
    gossip: float, period: float, part: float
) -> None:
    plan = replace(draw(0), nodes=("A", "B"), linked=(("A", "B"),), events=(), latency=0.0)
    plan = replace(plan, main=BucketSpec("main", 100, 100), gossip_interval=gossip)
    plan = replace(plan, arrivals=("bursts", period), storm=(0, 100.0), seconds=1.0)
    mesh = Network(plan.nodes, [plan.main], linked=plan.linked, seed=1)
    service = Service(plan, mesh, View(plan, mesh))
    assert service.rules.part_alone(1 / 3) == part
    assert service.rules.part_alone(1.0) == 1.0
    service.rules.plan = replace(plan, arrivals=("even", 0.0))
    assert service.rules.part_alone(1 / 3) == 1.0


@pytest.mark.parametrize(
    ("period", "beyond", "step", "expects"),
    [
        (4.0, 60, 0.01, pytest.raises(Broken, match="bursts")),
        (4.0, 40, 0.01, DOES),
        (6.0, 60, 0.01, DOES),
        # 120 tokens are asked for at one moment, 20 more than there are.
        (4.0, 60, 0.2, DOES),
        (4.0, 70, 0.2, pytest.raises(Broken, match="bursts")),
    ],
)
def test_bursts_that_come_again_before_the_last_one_is_forgotten_are_expected(
    period: float, beyond: int, step: float, expects: AbstractContextManager[object]
) -> None:
    bucket = BucketSpec("main", 100, 10)
    plan = replace(draw(0), nodes=("A",), linked=(), events=(), main=bucket, cost=1, storm=None)
    plan = replace(plan, latency=0.02, gossip_interval=0.1, loss=(0.0,) * 3, seconds=150 * step)
    plan = replace(plan, arrivals=("bursts", period), phases=(Phase(0.0, 6.0, (1.0,)),))
    mesh = Network("A", [bucket], linked=[], seed=1)
    service = Service(plan, mesh, View(plan, mesh))
    window = service._open(0, 0)
    window.give(100 + beyond, 0)
    with expects:
        service.rules.check_over_admission(window, 6 * period)


def test_a_whole_burst_at_one_moment_is_decided_before_anybody_knows_of_it() -> None:
    play(1796452)


@pytest.mark.parametrize(
    ("cut", "rate", "expects"),
    [
        (3.2, 0.4, DOES),
        # What it may have taken leaves enough; the end of its burst was seen; and by then it is
        # silent beyond the near horizon.
        (3.2, 0.02, pytest.raises(Broken, match="as one")),
        (3.9, 0.4, pytest.raises(Broken, match="as one")),
        (2.2, 0.4, pytest.raises(Broken, match="as one")),
    ],
)
def test_calls_are_denied_for_who_may_go_on_with_a_burst_after_a_cut(
    cut: float, rate: float, expects: AbstractContextManager[object]
) -> None:
    """Ten tokens a burst are asked of A, which denies those of the fourth, and up to 40 of B."""
    plan = replace(draw(0), nodes=("A", "B"), linked=(("A", "B"),), loss=(0.0, 0.0, 0.0), cost=1)
    plan = replace(plan, latency=0.1, jitter=0.0, gossip_interval=0.3, clocks=((0.0, 0.0),) * 2)
    plan = replace(plan, main=BucketSpec("main", 100, 100), arrivals=("bursts", 1.0), seconds=5.0)
    plan = replace(plan, phases=(Phase(0.0, 1.0, (0.1, rate)),), storm=None, events=())
    ways = (("A", "B"), ("B", "A"))
    mesh = Network(plan.nodes, [plan.main], linked=plan.linked, seed=1)
    service = Service(plan, mesh, View(plan, mesh))
    for second in range(1, 5):
        mesh.advance_to(round((second + 0.05) * SECOND))
        service.took(mesh["B"], round(100 * rate), 1, round(100 * rate))
        service.took(mesh["A"], 10, 1, 0 if second == 4 else 10)
        if second == int(cut):
            mesh.advance_to(round(cut * SECOND))
            service.happens("cut", ("silent", ways))
    assert (service.denied, service.denied_by_one) == (10, 0)
    with expects:
        service._check_as_one()


@pytest.mark.parametrize(
    ("amount", "change", "cut", "expects"),
    [
        (2.0, 1.0, 1.5, DOES),
        # The others have room beside the first demand; it goes on when they are cut off; and it
        # was known that it had ended.
        (0.9, 1.0, 1.5, pytest.raises(Broken, match="as one")),
        (2.0, 1.6, 1.5, pytest.raises(Broken, match="as one")),
        (2.0, 1.0, 2.5, pytest.raises(Broken, match="as one")),
    ],
)
def test_calls_are_denied_for_who_asked_for_more_just_before_it_was_cut_off(
    amount: float, change: float, cut: float, expects: AbstractContextManager[object]
) -> None:
    plan = replace(draw(0), nodes=("A", "B"), linked=(("A", "B"),), loss=(0.0, 0.0, 0.0), cost=1)
    plan = replace(plan, latency=0.1, jitter=0.0, gossip_interval=0.3, clocks=((0.0, 0.0),) * 2)
    plan = replace(plan, main=BucketSpec("main", 100, 100), arrivals=("even", 0.0), seconds=5.0)
    phases = Phase(0.0, amount, (0.0, 1.0)), Phase(change, 0.2, (1.0, 0.0))
    plan = replace(plan, phases=phases, storm=None, events=())
    mesh = Network(plan.nodes, [plan.main], linked=plan.linked, seed=1)
    service = Service(plan, mesh, View(plan, mesh))
    mesh.advance_to(round(cut * SECOND))
    service.took(mesh["A"], 1, 1, 1)
    ways = (("A", "B"), ("B", "A"))
    service.happens("cut", ("silent", ways))
    mesh.cut_ways(ways, times_out=False)
    mesh.advance_to(4 * SECOND)
    service.took(mesh["A"], 20, 1, 10)
    with expects:
        service._check_as_one()


def test_nobody_knows_by_its_first_rounds_that_a_node_asks_for_less_now() -> None:
    play(2602069)


@pytest.mark.parametrize(("nodes", "worth"), [("ABC", (25, 40)), ("AB", (0, 0))])
def test_refunds_are_set_off_against_what_had_refilled_when_a_second_node_got_the_bucket(
    nodes: str, worth: tuple[int, int]
) -> None:
    side = BucketSpec("side", 100, 10)
    plan = replace(draw(0), nodes=tuple(nodes), linked=(), side=side, clocks=(), events=())
    mesh = Network(nodes, [plan.main], linked=[], seed=1)
    books = Books(plan, mesh, View(plan, mesh))
    place, owner = ("side", "key-0"), ("A", mesh["A"].table.epochs.running)
    books.book(mesh["A"], place, 90, 0)
    mesh.advance(4.0)
    books.refund(owner, place, 10)
    books.happens("add", ("B",))
    for tokens, most in zip((25, 50), worth, strict=True):
        books.refund(owner, place, tokens)
        assert books.set_off(place) == pytest.approx(most)


@pytest.mark.parametrize(
    ("asked", "after", "expects"),
    [
        (3, 0.6, DOES),
        # What it may have taken leaves enough; and the next round showed that it took no more.
        (1, 0.6, pytest.raises(Broken, match="denied")),
        (3, 0.8, pytest.raises(Broken, match="denied")),
    ],
)
def test_calls_are_denied_for_a_burst_that_a_slow_way_does_not_show_to_end(
    asked: int, after: float, expects: AbstractContextManager[object]
) -> None:
    """B is asked for 15 of 100 tokens at once. Half a second later A denies 25 of 30, until it gets
    the next round of B."""
    plan = replace(draw(0), nodes=("A", "B"), linked=(("A", "B"),), loss=(0.0, 0.0, 0.0), cost=5)
    plan = replace(plan, latency=0.01, jitter=0.0, gossip_interval=0.1, clocks=((0.0, 0.0),) * 2)
    plan = replace(plan, main=BucketSpec("main", 100, 100), arrivals=("random", 0.0), events=())
    plan = replace(plan, slow=((("B", "A"), 0.5),), storm=None)
    mesh = Network(plan.nodes, [plan.main], linked=plan.linked, slow=plan.slow, latency=0.01)
    service = Service(plan, mesh, View(plan, mesh))
    mesh.advance(1.0)
    service.took(mesh["B"], asked, 5, asked)
    mesh.advance(after)
    with expects:
        service.took(mesh["A"], 6, 5, 1)


def test_a_light_load_on_slow_ways_is_denied_no_more_than_that() -> None:
    play(2401878)


@pytest.mark.parametrize(("cut", "beyond"), [(True, 0), (False, 60)])
def test_what_counts_as_refilled_after_a_cut_may_be_given_again(cut: bool, beyond: int) -> None:
    """A node that owes 40 gives the other 60, when 100 are owed in truth."""
    bucket = BucketSpec("main", 100, 10)
    events = (Event(1.0, "cut", ("silent", WAYS)),) if cut else ()
    plan = replace(draw(0), nodes=("A",), linked=(), events=events, main=bucket)
    mesh = Network("A", [bucket], linked=[], seed=1)
    mesh["A"].take("main", "key", 40)
    view = View(plan, mesh)
    view.first = 0 if cut else -1
    window = Service(plan, mesh, view)._open(mesh.now_ns, 100)
    window.give(60, mesh.now_ns)
    assert window.beyond == beyond


def test_the_columns_of_a_key_that_was_evicted_for_want_of_room_are_waited_for() -> None:
    """Its debt is gone with it, and anti-entropy brings its columns again."""
    half = 0.5, 0.5
    phases = (Phase(0.0, 0.6, half), Phase(0.1072935815, 0.8, half), Phase(0.39816, 0.0, half))
    plan = replace(
        draw(1111615, plain=tuple(DIMENSIONS)),
        nodes=("n0", "n1"),
        linked=(("n0", "n1"),),
        clocks=((0.0, 0.0), (0.0, 0.0)),
        main=BucketSpec("main", 400, 40),
        side=BucketSpec("side", 20, 1),
        keys=60,
        max_keys=16,
        phases=phases,
        arrivals=("random", 0.0),
        storm=(1, 100.0),
        scattered=30.0,
        seconds=5.0,
    )
    run = Run(plan).play()
    assert all(run.mesh[name].table.stats()["evicted_indebted"] for name in plan.nodes)


def test_who_waits_for_two_tokens_of_what_refills_is_not_starved() -> None:
    """In 3141 a bucket holds 400 tokens, and gets another one each 9 s once they are gone."""
    assert Run(draw(3141)).play()


@pytest.mark.parametrize(("until", "looked"), [(75.0, DOES), (110.0, pytest.raises(Broken))])
def test_who_gets_nothing_while_others_do_is_starved(
    until: float, looked: AbstractContextManager[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket is empty after 40 s, and gets another token each second; most are its part."""
    spec = BucketSpec("main", 4000, 4000, "3600s")
    plan = replace(draw(3141), main=spec, linked=(("n0", "n1"), ("n0", "n2"), ("n1", "n2")))
    run, take_burst = Run(plan), SimulatedNode.take_burst

    def take(node: SimulatedNode, bucket: str, key: str, calls: int, cost: int = 1) -> int:
        denied = node.name == "n2" and 60.0 < run.mesh.now_ns / SECOND < until
        return 0 if denied else take_burst(node, bucket, key, calls, cost)

    monkeypatch.setattr(SimulatedNode, "take_burst", take)
    with looked:
        run.play()


def in_step(seconds: float) -> Plan:
    """In 2002067 a call of the whole bucket comes whenever that has just refilled. By a travel time
    it has not on the node that is asked, which is asked again after two more refills."""
    return replace(draw(2002067), seconds=seconds)


def test_calls_in_step_are_denied_by_a_travel_time() -> None:
    Run(in_step(750.0)).play()


def test_no_more_than_every_other_call_in_step_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    take_burst, number = SimulatedNode.take_burst, count()

    def take(node: SimulatedNode, bucket: str, key: str, calls: int, cost: int = 1) -> int:
        return 0 if next(number) % 4 else take_burst(node, bucket, key, calls, cost)

    monkeypatch.setattr(SimulatedNode, "take_burst", take)
    with pytest.raises(Broken, match="given"):
        Run(replace(in_step(750.0), events=())).play()
