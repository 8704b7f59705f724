"""Properties of regions that hold whatever happens, and the rule that each one needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.strong.replicated.region_model import Rules
from tests.strong.replicated.regions import HOUR, MS, PLAIN, WIDE, World

process, region = st.integers(0, 3), st.integers(0, 2)
tokens = st.integers(1, 9)
older = st.sampled_from([-2, -3, -4, -6])
TAKE = st.tuples(st.just("take"), process, tokens)
LOCAL = st.tuples(st.just("take_here"), process, tokens)
LOSE = st.tuples(st.just("lose"), process, tokens)
WAIT = st.tuples(st.just("wait"), st.sampled_from([MS, 7 * MS, 50 * MS, 300 * MS, 3000 * MS]))
COPY = st.tuples(st.just("copy"), region, region, st.sampled_from([-1, -1, -1, -2, -3, -5, -20]))
BEAT = st.tuples(st.just("beat"), region, region, st.sampled_from([0, 20 * MS, 80 * MS, 400 * MS]))
LOOK = st.tuples(st.just("look"), region)
MOVE = st.tuples(st.just("move"), process, region)
PUSH = st.tuples(st.just("push"), process, process)
LATE = st.tuples(st.just("push_late"), older)
TORN = st.tuples(st.just("torn"), region, region, st.integers(-6, -1), st.integers(0, 2**16 - 1))
REFUND = st.tuples(st.just("refund"), process, tokens)
EXPIRE = st.tuples(st.just("expire"), region)
RESTART = st.tuples(st.just("restart"), process)
offsets = st.tuples(*[st.integers(-HOUR, HOUR)] * 3)


def losses(which: st.SearchStrategy[int]) -> tuple[st.SearchStrategy[Any], ...]:
    """A member is flushed, with its copies or without, set back, or gets own old fields again."""
    return (
        st.tuples(st.just("flush"), which, st.booleans()),
        st.tuples(st.just("restore"), which, older),
        st.tuples(st.just("mix"), which, older),
    )


def plans(*kinds: st.SearchStrategy[Any], most: int = 30) -> st.SearchStrategy[list[Any]]:
    usual = (TAKE, TAKE, LOCAL, LOSE, WAIT, COPY, COPY, BEAT, LOOK)
    return st.lists(st.one_of(*usual, *kinds), max_size=most)


def apply(world: World, name: str, values: list[Any]) -> None:
    if name in ("copy", "torn", "beat"):
        one, other = (world.regions[i] for i in values[:2])
        if one is other:
            return
        if name == "copy":
            one.receive(other, values[2])
        elif name == "torn":
            one.receive_torn(other, *values[2:])
        else:
            one.beat(other, world.t, values[2])
    elif name == "move":
        world.processes[values[0]].region = values[1]
    elif name == "look":
        world.regions[values[0]].look(world.t)
    elif name == "expire":
        world.regions[values[0]].expire(world.t)
    elif name in ("flush", "restore", "mix"):
        getattr(world.regions[values[0]], name)(*values[1:])
    else:
        getattr(world, name)(*values)


def run(world: World, ops: list[Any], measured: bool = True) -> None:
    for name, *values in ops:
        world.wait(1)  # no two generations begin at once
        apply(world, name, values)
        if measured:
            world.measure()


def above(world: World) -> Any:
    """By how much the highest level of a region falls short of the bucket that saw everything."""
    return world.owed() - min(region.debt(world.t) for region in world.regions)


def below(world: World) -> Any:
    return max(region.debt(world.t) for region in world.regions) - world.owed()


# ---- the properties: each takes a plan, the members' clocks, and which rules hold ----


def counts_every_take_once(ops: Any, clocks: Any, rules: Rules) -> None:
    """After catching up, every region has of every process what that process has counted."""
    world = World(WIDE, clocks, rules)
    run(world, ops, measured=False)
    world.catch_up()
    for one in world.regions:
        for p in world.processes:
            if p.taken:
                record = one.record(p.owner)
                assert record is not None
                assert (record.taken, record.refunded) == (p.taken, p.refunded)
    counted = sum(p.taken - p.refunded for p in (*world.processes, *world.dead))
    assert counted == world.admitted - world.refunded


def is_never_above(ops: Any, clocks: Any, rules: Rules) -> None:
    """No region has more tokens than the bucket that saw everything, after catching up."""
    for spec in (WIDE, PLAIN):
        world = World(spec, clocks, replace(rules, predicts=False))
        run(world, ops)
        world.catch_up()
        assert above(world) <= world.forgiven()


def is_below_by_what_was_in_flight(ops: Any, clocks: Any, rules: Rules) -> None:
    world = World(WIDE, clocks, replace(rules, predicts=False))
    run(world, ops)
    world.catch_up()
    refunds = sum(p.refunded for p in world.processes)
    assert below(world) <= world.unit * (world.in_flight + refunds)


def is_above_by_the_credit(ops: Any, clocks: Any, rates: Any, rules: Rules) -> None:
    """Whatever rates the regions state."""
    world = World(WIDE, clocks, rules)
    for one, tokens_a_second in zip(world.regions, rates, strict=True):
        one.stated_rate = tokens_a_second
    run(world, ops)
    world.catch_up()
    credit = max(region.credit for region in world.regions)
    assert above(world) <= credit + world.forgiven()


def forgives_nothing_to_live_peers(ops: Any, clocks: Any, rules: Rules) -> None:
    """One member loses its key, and has the others' copies again before it decides."""
    world = World(WIDE, clocks, replace(rules, predicts=False))
    for i in range(4):
        world.take(i, 1)
    world.catch_up()
    for name, *values in ops:
        run(world, [(name, *values)])
        if name == "flush":
            world.replicate()
    world.catch_up()
    refunds = world.unit * sum(p.refunded for p in world.processes)
    assert above(world) <= refunds


def with_history(clocks: Any, rules: Rules) -> World:
    """Much has been taken and is known everywhere; then nothing, for an hour."""
    world = World(PLAIN, clocks, rules)
    world.beats()
    for _ in range(6):
        for i in range(4):
            world.take_here(i, 9)
        world.wait(700 * MS)
        world.catch_up()
    world.wait(HOUR)
    world.beats()
    return world


def charges_no_history(ops: Any, clocks: Any, rules: Rules) -> None:
    """Nothing is owed but what has been taken since."""
    world = with_history(clocks, rules)
    before = world.admitted
    run(world, ops, measured=False)
    world.wait(10 * MS)
    world.beats()
    world.replicate()
    for one in world.regions:
        one.look(world.t)
        refunds = sum(p.refunded for p in world.processes)
        assert one.debt(world.t) <= world.unit * (world.admitted - before + refunds)


anything = plans(*losses(region), MOVE, PUSH, LATE, EXPIRE, RESTART, REFUND, TORN)
moves = plans(MOVE, PUSH, LATE, EXPIRE)
lost = plans(*losses(region), MOVE, EXPIRE, most=40)
of_one = plans(*losses(st.just(0)), EXPIRE)
quiet = st.lists(
    st.one_of(TAKE, TAKE, WAIT, COPY, BEAT, LOOK, MOVE, EXPIRE, RESTART, *losses(st.just(0))[:2]),
    max_size=20,
)


@given(anything, offsets)
def test_no_take_lost_or_twice(ops: Any, clocks: Any) -> None:
    counts_every_take_once(ops, clocks, Rules())


@given(moves, offsets)
def test_never_above_the_reference_after_catch_up(ops: Any, clocks: Any) -> None:
    is_never_above(ops, clocks, Rules())


@given(plans(MOVE, PUSH, LATE), offsets)
def test_below_by_at_most_what_was_in_flight(ops: Any, clocks: Any) -> None:
    is_below_by_what_was_in_flight(ops, clocks, Rules())


@given(plans(MOVE, PUSH, LATE, TORN), offsets)
def test_torn_copies_never_above(ops: Any, clocks: Any) -> None:
    is_never_above(ops, clocks, Rules())


@given(plans(MOVE, PUSH, LATE), offsets, st.lists(st.integers(0, 60), min_size=3, max_size=3))
def test_credit_above_by_at_most_the_credit(ops: Any, clocks: Any, rates: Any) -> None:
    is_above_by_the_credit(ops, clocks, rates, Rules())


@given(plans(MOVE, PUSH, LATE, REFUND), offsets)
def test_refunds_in_flight(ops: Any, clocks: Any) -> None:
    is_never_above(ops, clocks, Rules())
    is_below_by_what_was_in_flight(ops, clocks, Rules())


@given(lost, offsets)
def test_flush_old_state_and_fields_that_come_back_never_above(ops: Any, clocks: Any) -> None:
    is_never_above(ops, clocks, Rules())


@given(of_one, offsets)
def test_flush_of_a_member_with_live_peers_forgives_nothing(ops: Any, clocks: Any) -> None:
    forgives_nothing_to_live_peers(ops, clocks, Rules())


@given(quiet, offsets)
def test_history_costs_nothing(ops: Any, clocks: Any) -> None:
    charges_no_history(ops, clocks, Rules())
