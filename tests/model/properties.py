"""Properties that hold for every history of takes and messages: columns, levels, decisions,
silence."""

from __future__ import annotations

import itertools
import random
from typing import Any

from hypothesis import strategies as st

from .bucket import Definition, IdealBucket
from .histories import DEFINITIONS, DRIFTS, NODE, histories, prop
from .world import MILLISECOND, PLAIN, SECOND, Factory, Step, World


# --- columns ---
def merged_columns(world: World, order: list[Any]) -> dict[Any, Any]:
    """The columns of others on a new node that holds the key, after these messages."""
    name = f"holder {next(world.epochs)}"
    node = world.factory(name, PLAIN, world.epochs)
    assert node.take(1, world.now)
    for content in order:
        node.merge(content, world.now)
    return {k: c for k, c in node.columns().items() if k[0] != name}


@prop(history=histories("evict", "restart", "refund"), data=st.data())
def join_is_semilattice(factory: Factory, size: int, history: list[Step], data: Any) -> None:
    world = World(factory, size).run(history)
    letters = [letter.content for letter in world.letters]
    letters += [m for n in world.names if (m := world.nodes[n].message(world.clock(n)))]
    if not letters:
        return
    a, b, c = (data.draw(st.sampled_from(letters)) for _ in range(3))
    columns = merged_columns(world, [a, b, c])
    assert merged_columns(world, [c, b, a]) == columns
    assert merged_columns(world, [a, a, b, b, c, a]) == columns
    relay = factory("relay", PLAIN, world.epochs)
    relay.take(1, world.now)
    relay.merge(b, world.now)
    relay.merge(c, world.now)
    relayed = merged_columns(world, [a, relay.message(world.now)])
    assert {k: v for k, v in relayed.items() if k[0] != "relay"} == columns


@prop(
    history=histories("evict", "restart", "refund", "far"),
    rng=st.randoms(use_true_random=True),  # one draw, where a permutation is one for each message
)
def same_messages_same_columns(
    factory: Factory, size: int, history: list[Step], rng: random.Random
) -> None:
    """It holds for nodes that hold the key; the others ignore entries that state no debt."""
    world = World(factory, size).run(history)
    order = [letter.content for letter in world.letters]
    other = rng.sample(order * 2, 2 * len(order))
    assert merged_columns(world, order) == merged_columns(world, other)


# --- the level against the ideal bucket ---
@prop(history=histories("far", "refund"), definition=DEFINITIONS, drift=DRIFTS)
def error_at_most_in_flight(
    factory: Factory, size: int, history: list[Step], definition: Definition, drift: list[int]
) -> None:
    """A level is above the ideal by at most what is unseen now, refunds in flight, and credit; and
    below it by at most the most that was ever unseen.

    Why, with credit and drift and any number of nodes. Let t be the debt of the ideal bucket, d the
    node's signed debt, u what it has not seen, F the largest credit held. On the fastest clock t
    falls no slower than d, or it is 0 and d >= -F: so time keeps t - u - d <= F. Takes and merged
    gains move both sides alike, and at the ceiling d is t's upper bound. Adoption keeps it too:
    what was stated was at least t - u' - F when it was sent, the gains add what its sender lacked,
    and t has grown since by no more than what that sender has not seen. On the slowest clock,
    likewise, d + u - t <= the most ever unseen: it can grow only while t is 0 and d <= 0, where it
    is <= u, and adoption only lowers d.
    """
    world = World(factory, size, definition, drift)
    for step in history:
        world.step(step)
        for name in world.names:
            unseen = world.unseen(name)
            above = world.amount(unseen) + world.most_refunds_unseen + world.largest_credit
            below = world.most_unseen[name] + world.amount(unseen, -1)
            assert world.level(name) <= world.highest(name) + above
            assert world.level(name) >= world.lowest(name) - below
            credit = world.nodes[name].credit_ns(world.clock(name))
            assert credit <= definition.emission * world.far[name]


@prop(
    history=histories(
        "far", "refund", "settle", "evict", "restart", "snapshot", "restore", "prune"
    ),
    definition=DEFINITIONS,
    drift=DRIFTS,
)
def all_seen_never_above_reference(
    factory: Factory, size: int, history: list[Step], definition: Definition, drift: list[int]
) -> None:
    """Once all nodes have merged everything, nothing is minted but credit, and takes that no
    running node knew."""
    world = World(factory, size, definition, drift).run(history).settle_down()
    lost = world.amount(world.lost)
    for name in world.names:
        above = lost + world.most_refunds_unseen + world.largest_credit
        assert world.level(name) <= world.highest(name) + above


@prop(
    history=histories("far", "evict", "restart", "refund", "snapshot", "restore", "prune"),
    definition=DEFINITIONS,
    drift=DRIFTS,
)
def levels_converge_when_quiescent(
    factory: Factory, size: int, history: list[Step], definition: Definition, drift: list[int]
) -> None:
    world = World(factory, size, definition, drift).run(history).settle_down()
    assert len(set(world.levels())) == 1


@prop(history=histories(longest=20), definition=DEFINITIONS, idle=st.integers(0, 10_000))
def advance_first(
    factory: Factory, size: int, history: list[Step], definition: Definition, idle: int
) -> None:
    """A single node is the ideal bucket; what it does or merges after an idle time counts in
    full."""
    world = World(factory, 1, definition)
    for step in history:
        ideal_level = world.lowest("A")
        world.step(step)
        assert world.level("A") == world.lowest("A")
        if step[0] == "take":
            assert world.verdicts[-1] == (ideal_level >= step[2])
    listener = factory("listener", definition, world.epochs)
    assert listener.take(1, world.now)
    world.do_advance(idle * MILLISECOND)
    ideal = IdealBucket(definition, world.now)
    before = listener.debt_ns(world.now + idle * MILLISECOND)
    world.step(("take", 0, 20))
    message = world.nodes["A"].message(world.clock("A"))
    if message is not None and world.nodes["A"].debt_ns(world.clock("A")):
        listener.merge(message, world.now + idle * MILLISECOND)
        seen = sum(taken - refunded for _, taken, refunded in world.nodes["A"].columns().values())
        stated = world.nodes["A"].debt_ns(world.clock("A")) + definition.emission
        counted = before + definition.emission * seen
        expected = min(counted, stated, ideal.definition.ceiling)
        assert listener.debt_ns(world.now + idle * MILLISECOND) == expected


@prop(history=histories("far", "evict", "restart", "refund"), definition=DEFINITIONS)
def admitted_exactly_when_the_level_allows(
    factory: Factory, size: int, history: list[Step], definition: Definition
) -> None:
    """A full bucket admits its capacity; any other holds back what silent peers may be taking."""
    world = World(factory, size, definition)
    for step in history:
        if step[0] == "take":
            name = world.name(step[1])
            node, now = world.nodes[name], world.clock(name)
            room = definition.emission * world.far[name]
            debt = node.debt_ns(now) - node.credit_ns(now) + room
            tokens = definition.tokens(min(max(debt, 0), definition.ceiling))
            # A node in whole ns may round either way where the level is the cost to the ns.
            rounding = getattr(node, "rounding", 0)
            close = rounding > 0 and abs(tokens - step[2]) <= rounding
        world.step(step)
        if step[0] == "take":
            assert close or world.verdicts[-1] == (tokens >= step[2])


@prop(
    far=st.integers(0, 200),
    idle=st.integers(0, 3000),
    older=st.integers(0, 100),
    burst=st.integers(1, 100),
    pause=st.integers(0, 1500),
)
def credit_hides_no_burst(
    factory: Factory, size: int, far: int, idle: int, older: int, burst: int, pause: int
) -> None:
    """Whatever credit a node holds, it adopts a stated debt that comes with as many takes."""
    world = World(factory, 2)
    world.run([("take", 0, 1), ("far", 0, far, (1,)), ("advance", idle * MILLISECOND)])
    if older:
        world.run([("take", 1, older), ("advance", pause * MILLISECOND)])
    world.run([("take", 1, burst)])
    credit = world.nodes["A"].credit_ns(world.clock("A"))
    held = world.nodes["A"].debt_ns(world.clock("A"))
    stated = world.nodes["B"].debt_ns(world.clock("B"))
    world.step(("push", 1, 0))
    news = PLAIN.emission * world.amount(world.own["B"])
    counted = held - credit + news
    expected = max(min(counted, stated + PLAIN.emission), min(stated, news) if credit else 0, 0)
    assert world.nodes["A"].debt_ns(world.clock("A")) == min(expected, PLAIN.ceiling)


@prop(
    far=st.integers(0, 200),
    idle=st.integers(0, 3000),
    older=st.integers(0, 100),
    burst=st.integers(1, 100),
    told=st.integers(0, 60),
    owners=st.sampled_from([(1,), (2,), (1, 2)]),
    live=st.booleans(),
)
def credit_is_spent_by_those_it_was_kept_for(
    factory: Factory,
    size: int,
    far: int,
    idle: int,
    older: int,
    burst: int,
    told: int,
    owners: tuple[int, ...],
    live: bool,
) -> None:
    """B sends its own takes to A, and those of C if there are any. The credit for silent nodes of
    which it brings nothing stays, and takes of a B that was always seen spend none."""
    world = World(factory, 3)
    owners = (2,) if live else owners
    world.run([("take", 0, 1), ("far", 0, far, owners), ("advance", idle * MILLISECOND)])
    world.run([("see", 0, 1)] if live else [])
    world.run([("take", 2, told), ("push", 2, 1)] if told else [])
    world.run([("take", 1, older), ("advance", SECOND)] if older else [])
    world.run([("take", 1, burst)])
    node, now = world.nodes["A"], world.clock("A")
    held = node.debt_ns(now) - node.credit_ns(now)
    stated = world.nodes["B"].debt_ns(world.clock("B"))
    world.step(("push", 1, 0))
    own, relayed = (PLAIN.emission * world.amount(world.own[name]) for name in "BC")
    adopted = stated + PLAIN.emission
    expected = min(held + own + relayed, adopted)
    silent = relayed + (0 if live else own)
    if held < 0 < silent:
        rest = PLAIN.emission * far if 2 in owners and not relayed else 0
        expected = max(expected, min(stated, silent, adopted) - rest)
    if not stated:
        expected = held
    kept = PLAIN.emission * far if 2 in owners else 0
    assert node.debt_ns(now) - node.credit_ns(now) == min(max(expected, -kept), PLAIN.ceiling)


@prop(
    history=histories("far", "evict", "restart", "refund"),
    peeks=st.lists(st.booleans(), min_size=1, max_size=8),
    drift=DRIFTS,
)
def peek_changes_no_decision(
    factory: Factory, size: int, history: list[Step], peeks: list[bool], drift: list[int]
) -> None:
    plain, watched = World(factory, size, PLAIN, drift), World(factory, size, PLAIN, drift)
    for step, peek in zip(history, itertools.cycle(peeks), strict=False):
        for name in watched.names if peek else []:
            watched.level(name)
            watched.nodes[name].credit_ns(watched.clock(name))
            watched.nodes[name].message(watched.clock(name))
        plain.step(step)
        watched.step(step)
    assert plain.verdicts == watched.verdicts
    assert plain.levels() == watched.levels()
    for name in plain.names:
        assert plain.nodes[name].columns() == watched.nodes[name].columns()
        now = plain.clock(name)
        assert plain.nodes[name].credit_ns(now) == watched.nodes[name].credit_ns(now)


@prop(
    past=histories("far", "evict", "restart", longest=20),
    history=histories("far", "evict", "restart", "snapshot", "restore", "prune", longest=20),
    drift=DRIFTS,
)
def history_costs_nothing(
    factory: Factory, size: int, past: list[Step], history: list[Step], drift: list[int]
) -> None:
    """In a full mesh in which all have merged everything, nothing that happens costs more than the
    takes since."""
    world = World(factory, size, PLAIN, drift, max_age_ns=5 * SECOND).run(past)
    world.exchange(3)
    world.do_advance(60 * SECOND)
    world.events.clear()
    world.seen = dict.fromkeys(world.names, 0)
    world.snapshots.clear()
    for letter in world.letters:
        letter.seen = 0
    for step in history:
        world.step(step)
        since = sum(world.events)
        for name in world.names:
            assert world.level(name) >= world.lowest(name) - since


@prop(
    history=histories(),
    reborn=NODE,
    tokens=st.integers(1, 60),
    restart=st.booleans(),
    prune=st.booleans(),
)
def replacement_and_removal_do_not_move_the_level(
    factory: Factory,
    size: int,
    history: list[Step],
    reborn: int,
    tokens: int,
    restart: bool,
    prune: bool,
) -> None:
    """A new generation, a new epoch or a removed column costs the others the new takes and no
    more."""
    world = World(factory, size).run(history).settle_down()
    name = world.name(reborn)
    if restart or world.nodes[name].debt_ns(world.clock(name)):
        world.do_restart(reborn)
    else:
        world.do_evict(reborn)
    if prune:
        world.run([("advance", 3 * SECOND), ("take", reborn + 1, 40)]).settle_down()
        for _, column in itertools.product(world.names, list(world.dead)):
            if world.may_forget(column, world.dead[column][0]):
                for node in world.nodes.values():
                    now = world.clock(next(n for n in world.names if world.nodes[n] is node))
                    before = node.debt_ns(now)
                    node.forget(column)
                    assert node.debt_ns(now) == before
                    assert column not in node.columns()
    world.step(("take", reborn, tokens))
    message = world.nodes[name].message(world.clock(name))
    for other in world.names:
        if other != name and message is not None and world.nodes[other].columns():
            now, before = world.clock(other), world.nodes[other].debt_ns(world.clock(other))
            world.nodes[other].merge(message, now)
            expected = min(before + PLAIN.emission * tokens, PLAIN.ceiling)
            assert world.nodes[other].debt_ns(now) == expected


@prop(history=histories("far", "evict", "restart", "refund"), drift=DRIFTS)
def full_keys_are_silent(
    factory: Factory, size: int, history: list[Step], drift: list[int]
) -> None:
    """An entry that states no debt creates none; a node on which the key is full answers one that
    states a debt."""
    world = World(factory, size, PLAIN, drift).run(history)
    for name in world.names:
        now, node = world.clock(name), world.nodes[name]
        message = node.message(now)
        if message is None:
            continue
        newcomer = factory("newcomer", PLAIN, world.epochs)
        newcomer.set_far(200)
        assert not newcomer.merge(message, now)
        if node.debt_ns(now) == 0:
            assert newcomer.columns() == {}
        else:
            assert newcomer.debt_ns(now) > 0
    world.settle_down()
    assert len({node.debt_ns(world.clock(n)) == 0 for n, node in world.nodes.items()}) == 1
