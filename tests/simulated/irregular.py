"""Draws rare events beside cuts and deaths: clocks that jump, machines that stand still together
with their clocks, operators that reset a key, bursts, floods of keys, stages of a roll-out, buckets
that are added later, and processes that are killed while they run the mesh for a shared table. Each
kind is drawn by itself, so plans without it stay as they were."""

from __future__ import annotations

import random
from typing import Any

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import MAX_RATE
from tests.simulated.plan import Event, names

SELDOM = 0.025
BESIDE_SLOW_ROUNDS = 0.1
SLOW = 3.0
"""Rounds of so many seconds or more are slow: nodes learn late what a reload changes."""
JUMPS = (0.5, 2.0, 10.0, 60.0, 600.0)
STILL = (0.5, 3.0, 10.0, 40.0)


def _none(rng: random.Random, drawn: dict[str, Any], often: float = SELDOM) -> bool:
    """Whether no event of a kind is drawn; beside members that lie none ever is."""
    return rng.random() >= often or bool(drawn["hostile"] or drawn["observer"])


def _not_reloaded(rng: random.Random, drawn: dict[str, Any]) -> bool:
    """The same for events that change definitions; they are drawn more often beside slow rounds."""
    return _none(rng, drawn, BESIDE_SLOW_ROUNDS if drawn["gossip"] >= SLOW else SELDOM)


def _when(rng: random.Random, drawn: dict[str, Any]) -> float:
    """A time; where some ways are cut, usually within the first cut."""
    cuts = [event.at for event in drawn["cuts"]]
    if len(cuts) > 1 and rng.random() < 0.7:
        return rng.uniform(*cuts[:2])
    return rng.uniform(0, 0.8 * drawn["length"])


def draw_clocks(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    """The clock of a node jumps ahead, or stands still together with the machine."""
    if _none(rng, drawn):
        return ()
    name, at = rng.choice(names(drawn["size"])), _when(rng, drawn)
    if rng.random() < 0.6:
        return (Event(at, "jump", (name, rng.choice(JUMPS))),)
    return (Event(at, "still", (name, rng.choice(STILL))),)


def draw_resets(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    """An operator resets a key, on one node or on all of them in turns."""
    if _none(rng, drawn):
        return ()
    nodes, at = rng.sample(names(drawn["size"]), drawn["size"]), _when(rng, drawn)
    which = nodes if rng.random() < 0.5 else nodes[:1]
    place = ("main", "key") if rng.random() < 0.6 else ("side", "key-0")
    return tuple(Event(at + 0.05 * i, "reset", (name, place)) for i, name in enumerate(which))


def draw_surges(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    """One node is asked for many times what is refilled, within a round."""
    if _none(rng, drawn):
        return ()
    name, times = rng.choice(names(drawn["size"])), rng.choice([10.0, 100.0])
    many = rng.choice([1, 1, 3])
    return tuple(Event(_when(rng, drawn), "surge", (name, times)) for _ in range(many))


def draw_floods(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    """One node is asked for more keys than its table holds; others may be cut off."""
    if _none(rng, drawn):
        return ()
    name, many = rng.choice(names(drawn["size"])), rng.choice([40, 100, 400])
    return (Event(_when(rng, drawn), "flood", (name, many, rng.choice([1, 10]))),)


def draw_stages(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    """A roll-out gives some keys another limit, and then gives it to all keys or takes it back.
    Nodes follow in any order; a node that starts again meanwhile is in the same stage."""
    if _not_reloaded(rng, drawn) or drawn["reloads"]:
        return ()
    capacity, rate, interval, _ = drawn["bucket"]
    by = rng.choice([0.1, 0.5, 2.0, 10.0])
    limit = max(1, round(capacity * by)), min(max(1, round(rate * by)), MAX_RATE)
    spec, at = BucketSpec("main", *limit, interval), _when(rng, drawn)
    step, order = round(rng.uniform(0, 0.5), 3), rng.getrandbits(16)
    until = rng.uniform(at, max(at, 0.9 * drawn["length"]))
    keeps = rng.random() < 0.6
    return (
        Event(at, "stage", (spec, rng.choice([0.1, 0.5, 0.6, 1.0]), step, order)),
        Event(until, "unstage", (spec, keeps, step, order)),
    )


def draw_added(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    """Some nodes begin without the side bucket, and get it later, when its keys are empty
    elsewhere. It may also be removed from all nodes for a while and come back with another
    limit."""
    if _not_reloaded(rng, drawn):
        return ()
    nodes = rng.sample(names(drawn["size"]), rng.randrange(1, drawn["size"] + 1))
    out = [Event(_when(rng, drawn), "add", (name,)) for name in nodes]
    first, before = min(event.at for event in out), rng.choice([0.5, 5.0, 20.0])
    out.append(Event(max(0.0, first - before), "spend", (rng.choice(names(drawn["size"])),)))
    if rng.random() < 0.5:
        again = max(event.at for event in out) + rng.uniform(0, 0.2 * drawn["length"])
        side: BucketSpec = drawn["side"]
        capacity = max(1, round(side.capacity * rng.choice([0.5, 1.0, 2.0])))
        spec = BucketSpec("side", capacity, side.refill_rate, side.refill_interval)
        out.append(Event(again, "limit", (spec, round(rng.uniform(0, 1), 3), rng.getrandbits(16))))
    return tuple(out)


def draw_leaders(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    """On a host whose processes share a table, the one that runs the mesh is killed, and a while
    later another one runs it; meanwhile the others go on taking. Its peers see the end of their
    connections, or nothing."""
    if _none(rng, drawn):
        return ()
    name, how = rng.choice(names(drawn["size"])), rng.choice(["resets", "silent"])
    linked = (pair for pair in drawn["graph"] if name in pair)
    cut = how, tuple(way for a, b in linked for way in ((a, b), (b, a))), name
    out = []
    for _ in range(rng.choice([1, 1, 3])):
        at, gap = _when(rng, drawn), rng.choice([0.0, 0.05, 0.5, 3.0])
        out += [Event(at, "cut", cut), Event(min(at + gap, drawn["length"]), "mend", cut)]
    return tuple(out)


IRREGULAR = {
    "clocks": draw_clocks,
    "resets": draw_resets,
    "surges": draw_surges,
    "floods": draw_floods,
    "stages": draw_stages,
    "buckets": draw_added,
    "leaders": draw_leaders,
}
"""How each dimension is drawn."""
