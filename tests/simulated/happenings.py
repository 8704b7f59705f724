"""Draws what happens to the links, the nodes and the limit of a plan, and which members lie."""

from __future__ import annotations

import random
from typing import Any

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import MAX_RATE
from tests.simulated.lies import ACTS
from tests.simulated.observing import OBSERVED
from tests.simulated.plan import Event, Way, names

# ---- what happens to links ----


def draw_slow(rng: random.Random, drawn: dict[str, Any]) -> tuple[tuple[Way, float], ...]:
    """Rarely, one way between two nodes, or all ways from or to a node, is slower than the way
    back."""
    if drawn["size"] < 2 or rng.random() < 0.95:
        return ()
    linked = [(a, b) for pair in drawn["graph"] for a, b in (pair, pair[::-1])]
    source, target = rng.choice(linked)
    ways = [w for w in linked if w[0] == source] if rng.random() < 0.5 else [(source, target)]
    seconds = rng.choice([0.1, 0.5, 2.0])
    return tuple((way, seconds) for way in ways)


def draw_cuts(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    """Ways that are cut for a while: one way, a pair, all of a node, a part of the mesh, or any
    ways."""
    if drawn["size"] < 2 or rng.random() < 0.5:
        return ()
    out: list[Event] = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.uniform(0, 0.7 * drawn["length"])
        until = rng.uniform(at, drawn["length"]) if rng.random() < 0.7 else drawn["length"]
        ways = draw_ways(rng, drawn)
        how = rng.choice(["silent", "times out", "resets"])
        out += [Event(at, "cut", (how, ways)), Event(until, "mend", (how, ways))]
    if rng.random() < 0.15:
        out += flapping(rng, drawn)
    return tuple(out)


def flapping(rng: random.Random, drawn: dict[str, Any]) -> list[Event]:
    """Ways that are cut during one half of every period of so many seconds."""
    each, how = rng.choice([0.2, 1.0, 3.0, 8.0]), rng.choice(["silent", "resets"])
    ways, at = draw_ways(rng, drawn), rng.uniform(0, 0.5 * drawn["length"])
    times = [at + i * each for i in range(min(20, int((drawn["length"] - at) / each)))]
    events = [
        (Event(at, "cut", (how, ways)), Event(at + each / 2, "mend", (how, ways))) for at in times
    ]
    return [event for pair in events for event in pair]


def draw_stalls(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    """Ways on which frames are held for a while. Then they arrive, all at once or each a little
    less late than the one before."""
    if drawn["size"] < 2 or rng.random() < 0.85:
        return ()
    held = rng.choice([0.5, 1.5, 3.0, 5.0, 8.0])
    drain = held * rng.choice([0.0, 1.0, 2.0])
    at = rng.uniform(0, max(0.1, 0.9 * drawn["length"] - held))
    linked = tuple((a, b) for pair in drawn["graph"] for a, b in (pair, pair[::-1]))
    ways = linked if rng.random() < 0.5 else draw_ways(rng, drawn)
    if not ways:
        return ()
    return (Event(at, "stall", (held, drain, ways)), Event(at + held + drain, "flow", (ways,)))


def draw_ways(rng: random.Random, drawn: dict[str, Any]) -> tuple[Way, ...]:
    linked = [(a, b) for pair in drawn["graph"] for a, b in (pair, pair[::-1])]
    kind = rng.choice(["way", "pair", "pair", "node", "parts", "parts", "any"])
    if kind == "way":
        return (rng.choice(linked),)
    if kind == "pair":
        way = rng.choice(linked)
        return (way, way[::-1])
    if kind == "any":
        return tuple(way for way in linked if rng.random() < 0.4)
    nodes = rng.sample(names(drawn["size"]), drawn["size"])
    here = set(nodes[: 1 if kind == "node" else rng.randrange(1, len(nodes))])
    return tuple(way for way in linked if (way[0] in here) != (way[1] in here))


# ---- what happens to nodes ----


def draw_members(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    """Nodes that come, leave, die with or without an end of their connections, and return under the
    same name or are replaced under a new one; with snapshots of any age."""
    if rng.random() < 0.5:
        return ()
    out: list[Event] = []
    leaving = rng.sample(names(drawn["size"]), min(drawn["size"], rng.choice([1, 1, 2, 3])))
    for number, name in enumerate(leaving):
        at = rng.uniform(0, 0.8 * drawn["length"])
        kind = rng.choice(["come", "leave", "die", "return", "return", "return", "replace"])
        if kind != "come":
            end = "leave" if kind == "leave" or rng.random() < 0.2 else "die"
            ends = end == "leave" or rng.random() < 0.75
            out.append(Event(at, end, (name,) if end == "leave" else (name, ends)))
        back = at + rng.uniform(0.0, 0.5 * drawn["length"])
        if kind == "return":
            saved = rng.choice([None, at, rng.uniform(0, at)])
            if saved is not None:
                out.append(Event(saved, "save", (name,)))
            out.append(Event(back, "return", (name, saved is not None)))
        elif kind in ("come", "replace"):
            beside = [other for other in names(drawn["size"]) if other != name]
            few = beside if rng.random() < 0.7 else rng.sample(beside, min(1, len(beside)))
            at = at if kind == "come" else back
            out.append(Event(at, "come", (f"m{number}", tuple(few), rng.choice([0.0, 300.0]))))
    return tuple(out)


def draw_crowd(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    """Rarely, pods each under a new name: each is killed after three more have come."""
    if rng.random() < 0.99 or drawn["size"] > 3:
        return ()
    pace, out = max(1.0, drawn["gossip"]) / 2, list[Event]()
    for i in range(min(560, int(drawn["length"] / pace))):
        out.append(Event(i * pace, "come", (f"pod{i}", ("n0",), 0.0)))
        out.append(Event((i + 3) * pace, "die", (f"pod{i}", True)))
    return tuple(out)


def draw_pauses(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    if rng.random() < 0.85:
        return ()
    """One pause, or a node that stands still for a part of every second. After some pauses the
    calls that waited are decided before the frames that arrived meanwhile are read."""
    at, name = rng.uniform(0, drawn["length"]), rng.choice(names(drawn["size"]))
    often = rng.random() < 0.2
    seconds = rng.choice([0.1, 0.3, 0.6] if often else [0.1, 0.5, 2.0, 6.0, 20.0])
    many = min(60, int(drawn["length"] - at)) if often else 1
    unread = rng.choice([0.0, 0.0, 0.01, 0.1])
    return tuple(Event(at + i, "pause", (name, seconds, unread)) for i in range(many))


def draw_reloads(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    """Limits that change, up or down, the capacity or the rate or both, and perhaps back. The nodes
    get them in any order; one node may get them much later, and start again with the old ones. What
    was owed under the larger limit is kept, as `Limiter.reload` does, or forgiven above the new
    ceiling."""
    if rng.random() < 0.8:
        return ()
    capacity, rate, interval, _ = drawn["bucket"]
    by = rng.choice([0.01, 0.1, 0.5, 0.5, 2.0, 10.0])
    larger, faster = rng.choice([(by, by), (by, by), (by, 1.0), (1.0, by)])
    limit = max(1, round(capacity * larger)), min(max(1, round(rate * faster)), MAX_RATE)
    step, at = round(rng.uniform(0, 0.5), 3), rng.uniform(0, 0.8 * drawn["length"])
    keeps = rng.random() < 0.5
    last = rng.choice([0.0, 0.0, 0.0, round(rng.uniform(0, 0.5 * drawn["length"]), 3)])

    def reload(at: float, *limit: int) -> Event:
        spec = BucketSpec("main", *limit, interval)
        return Event(at, "reload", (spec, step, keeps, rng.getrandbits(16), last))

    out = [reload(at, *limit)]
    if rng.random() < 0.4:
        again = at + rng.uniform(0, 1) if rng.random() < 0.5 else rng.uniform(at, drawn["length"])
        out.append(reload(again, *(limit if rng.random() < 0.2 else (capacity, rate))))
    return tuple(out)


# ---- a member that lies ----


def draw_hostile(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    """Acts of one kind, of some, or of all kinds, once or again and again, for a while."""
    if rng.random() < 0.9:
        return ()
    kinds = rng.sample(list(ACTS), rng.choice([1, 1, 2, 4, len(ACTS)]))
    many = rng.choice([1, 5, 20, 60])
    first, last = sorted(rng.uniform(0, drawn["length"]) for _ in range(2))
    times = [first + (last - first) * i / many for i in range(many)]
    return tuple(Event(at, "lie", (rng.choice(kinds), rng.getrandbits(32))) for at in times)


def draw_observer(rng: random.Random, drawn: dict[str, Any]) -> tuple[Event, ...]:
    """The same acts of an observer that has the observers' secret, or of one that has the secret of
    the members and says that it is an observer."""
    if rng.random() < 0.97:
        return ()
    kind = rng.choice(["look", "look", "write"])
    times = sorted(rng.uniform(0, drawn["length"]) for _ in range(rng.choice([1, 5, 20])))
    acts = list(OBSERVED)
    return tuple(Event(at, kind, (rng.choice(acts), rng.getrandbits(32))) for at in times)


def draw_bad(rng: random.Random, drawn: dict[str, Any]) -> int:
    """In a part of the plans in which a member lies, two of at least five members lie together."""
    return 2 if drawn["size"] >= 3 and rng.random() < 0.4 else 1


def draw_alone(rng: random.Random, drawn: dict[str, Any]) -> bool:
    """Whether all events are hostile ones, so that the run is judged strictly."""
    return bool(drawn["hostile"] or drawn["observer"]) and rng.random() < 0.5
