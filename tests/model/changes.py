"""Properties about changed and different definitions, and about refunds and settlements."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from .bucket import Definition
from .histories import DEFINITIONS, histories, prop
from .world import MILLISECOND, PLAIN, SECOND, Factory, Step, World

# --- definitions ---
RATES = st.sampled_from([5 * MILLISECOND, 10 * MILLISECOND, Fraction(SECOND, 7), SECOND])


@prop(
    history=histories("settle", "refund"),
    rates=st.lists(RATES, min_size=1, max_size=4),
    capacities=st.lists(st.integers(1, 200), max_size=3),
)
def definition_change_keeps_tokens(
    factory: Factory, size: int, history: list[Step], rates: list[Any], capacities: list[int]
) -> None:
    """A change of rate keeps the debt in tokens; a change back and forth mints only what a ceiling
    forgave."""
    world = World(factory, size).run(history)
    for name, node in world.nodes.items():
        now, columns = world.clock(name), node.columns()
        level, forgiven = node.peek(now), node.ledger().forgiven
        for rate in rates:
            node.change_definition(Definition(PLAIN.capacity, rate, PLAIN.max_debt), now)
            assert node.peek(now) == level
        node.change_definition(PLAIN, now)
        for capacity in capacities:
            debt = node.debt_ns(now)
            smaller = Definition(capacity, PLAIN.emission, capacity)
            node.change_definition(smaller, now)
            assert node.debt_ns(now) == min(debt, smaller.ceiling)
        node.change_definition(PLAIN, now)
        minted = node.ledger().forgiven - forgiven
        assert node.peek(now) == level + Fraction(minted) / PLAIN.emission
        assert node.columns() == columns


OTHER = Definition(capacity=100, emission=20 * MILLISECOND, max_debt=100)


@prop(
    history=histories("far"),
    kinds=st.lists(st.sampled_from([PLAIN, OTHER]), min_size=5, max_size=5),
)
def mixed_definitions_never_adopt(
    factory: Factory, size: int, history: list[Step], kinds: list[Definition]
) -> None:
    """Each node is compared with the ideal bucket of its own definition, plus what new columns were
    forgiven."""
    world = World(factory, size, kinds[:size])
    for step in history:
        before = {n: node.debt_ns(world.clock(n)) for n, node in world.nodes.items()}
        world.step(step)
        if step[0] in ("deliver", "push") and len(set(world.definitions.values())) == size:
            for name, node in world.nodes.items():
                assert node.debt_ns(world.clock(name)) >= before[name]
        forgiven = sum(
            Fraction(node.ledger().forgiven) / world.definitions[n].emission
            for n, node in world.nodes.items()
        )
        for name in world.names:
            above = world.amount(world.unseen(name)) + world.largest_credit + forgiven
            assert world.level(name) <= world.highest(name) + above
            assert world.level(name) >= world.lowest(name) - world.most_unseen[name]


@prop(
    history=histories("settle", "far"),
    far=st.sampled_from([0, 20, 200]),
    travel=st.integers(0, 10_000),
    kinds=st.sampled_from([PLAIN, OTHER]),
)
def stated_debt_is_decided_by_and_never_aged(
    factory: Factory, size: int, history: list[Step], far: int, travel: int, kinds: Definition
) -> None:
    """A newcomer adopts the debt that was stated, however long the message was under way, if that
    is less than all that was ever taken."""
    world = World(factory, size, kinds).run(history)
    world.do_restart(size - 1)
    for name in world.names[:-1]:
        node, now = world.nodes[name], world.clock(name)
        debt = node.debt_ns(now)
        node.set_far(far)
        assert node.debt_ns(now) == debt
        decided = node.debt_ns(now) - node.credit_ns(now) + kinds.emission * far
        message = node.message(now)
        if message is not None:
            newcomer = factory("newcomer", kinds, world.epochs)
            newcomer.merge(message, now + travel * MILLISECOND)
            counted = sum(taken - refunded for _, taken, refunded in node.columns().values())
            expected = min(max(decided, 0), kinds.ceiling, kinds.emission * counted)
            assert newcomer.debt_ns(now + travel * MILLISECOND) == expected


@prop(history=histories(), far=st.integers(1, 500), idle=st.integers(0, 5_000))
def credit_is_worth_nothing_to_others(
    factory: Factory, size: int, history: list[Step], far: int, idle: int
) -> None:
    """While one node keeps credit for silent peers, nodes that keep none do not gain by it."""
    world = World(factory, size)
    world.run([("take", 0, 1), ("far", 0, far), ("advance", idle * MILLISECOND)])
    for step in history:
        world.step(step)
        if not world.far["A"]:
            return  # all were seen
        for name in world.names[1:] if step[0] in ("deliver", "push") else ():
            assert world.level(name) <= world.highest(name) + world.amount(world.unseen(name))


# --- refunds and settlements ---
@prop(history=histories("settle", "refund", "far"), definition=DEFINITIONS)
def refund_never_creates(
    factory: Factory, size: int, history: list[Step], definition: Definition
) -> None:
    """C + refill = tokens + credit + admitted - refunded + wasted - forgiven, to the ns."""
    world = World(factory, 1, definition)
    node, started = world.nodes["A"], None
    for step in history:
        fresh = not node.columns()
        world.step(step)
        now = world.clock("A")
        if fresh and node.columns():
            started = now
        if started is None:
            continue
        ((_, taken, refunded),) = node.columns().values()
        assert 0 <= refunded <= taken
        used = definition.emission * (taken - refunded)
        signed = node.debt_ns(now) - node.credit_ns(now)
        lone = world_refill_ns(world, started, now, node)
        assert signed == used - lone - node.ledger().forgiven
        assert world.level("A") <= world.highest("A") + world.largest_credit


def world_refill_ns(world: World, started: int, now: int, node: Any) -> Any:
    """The refill that was not wasted: the time since the start, less what was thrown away until
    now."""
    node.settle(0, now)  # makes the waste of the time since the last step visible
    return now - started - node.ledger().wasted


@prop(
    tokens=st.sampled_from([1, 60, 100]),
    idle=st.sampled_from([0, 1, 590, 600, 601, 999, 1000, 1001, 5000]),
    more=st.sampled_from([0, 20, 60, 250]),
)
def refund_after_full_is_worth_nothing(
    factory: Factory, size: int, tokens: int, idle: int, more: int
) -> None:
    """Once the bucket has been full, the refill has given the take back, however it was used
    since."""
    world = World(factory, 1).run([("take", 0, tokens), ("advance", idle * MILLISECOND)])
    world.run([("settle", 0, more)])
    before, ran_over = world.level("A"), idle > 10 * tokens
    world.step(("refund", 0))
    forgiven = max(0, tokens - idle // 10 + more - 200) if not ran_over else max(0, more - 200)
    returned = 0 if ran_over else max(0, tokens - forgiven)
    assert world.level("A") == min(100, before + returned)


@prop(
    history=histories("settle"),
    tokens=st.sampled_from([250, 2**53, 2**62]),
    wait=st.integers(0, 3000),
)
def settle_saturates(
    factory: Factory, size: int, history: list[Step], tokens: int, wait: int
) -> None:
    world = World(factory, size).run(history)
    node = world.nodes["A"]
    node.settle(tokens, world.clock("A"))
    message = node.message(world.clock("A"))
    assert node.debt_ns(world.clock("A")) == PLAIN.ceiling
    for name in world.names[1:]:
        world.nodes[name].merge(message, world.clock(name))
        assert world.nodes[name].debt_ns(world.clock(name)) == PLAIN.ceiling
    world.do_advance(wait * MILLISECOND)
    for debt in (n.debt_ns(world.clock(name)) for name, n in world.nodes.items()):
        assert debt == max(0, PLAIN.ceiling - wait * MILLISECOND)
