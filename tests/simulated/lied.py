"""Rarely, a plan in which a member lies of others while these are not met yet, or are cut off, and
in which much is asked for long after that. By chance that is hardly ever drawn: what is said of a
process has to come before the process has a link."""

from __future__ import annotations

import random
from collections.abc import Collection
from itertools import combinations
from typing import Any

from tests.simulated.irregular import IRREGULAR
from tests.simulated.lies import ACTS, APART
from tests.simulated.plan import Event, Phase, names

RARELY = 0.01
OTHERS = ("crowd", "pauses", "reloads", "stalls", "observer", *IRREGULAR)
"""Dimensions whose events do not happen beside."""
OFTEN = (*APART, *APART, "columns", "lower columns", "debts", "refunds", "generations")
"""What is said, beside anything else."""
AFTER = 20.0
"""Seconds that are judged at the end, beside those in which the bucket fills."""


def draw_lied(rng: random.Random, drawn: dict[str, Any]) -> dict[str, Any]:
    """The values of other dimensions that make such a plan."""
    if rng.random() >= RARELY or drawn["size"] < 3 or drawn["given_up"] or drawn["reloaded"]:
        return {}
    capacity, to_full = rng.choice([50, 100, 1000]), rng.choice([1, 2, 5])
    events = rng.choice([_cut, _restarts, _restarts])(rng, drawn)
    ends = max(event.at for event in events)
    times = [at for event in events for at in _times(rng, event.at, drawn["lag"][0])]
    kinds = [rng.choice(OFTEN if rng.random() < 0.8 else list(ACTS)) for _ in range(3)]
    lies = [Event(at, "lie", (rng.choice(kinds), rng.getrandbits(32))) for at in times]
    length = ends + 10.0 + AFTER + 5 * to_full
    return {
        "graph": tuple(combinations(names(drawn["size"]), 2)),
        "slow": (),
        "gossip": rng.choice([0.1, 0.1, 0.3]),
        "forget": 900.0,
        "loss": (0.0, 0.0, 0.0),
        "length": length,
        "bucket": (capacity, capacity // to_full, "1s", None),
        "cost": 0.0,
        "demand": (Phase(0.0, rng.choice([1.0, 2.0, 5.0]), _weights(rng, drawn["size"])),),
        "arrivals": ("even", 0.0),
        "storm": None,
        "scattered": min(drawn["scattered"], 150 / length),
        "alone": False,
        "cuts": tuple(one for one in events if one.what in ("cut", "mend")),
        "members": tuple(one for one in events if one.what not in ("cut", "mend")),
        "hostile": tuple(lies),
        **dict.fromkeys(OTHERS, ()),
    }


def _weights(rng: random.Random, size: int) -> tuple[float, ...]:
    weights = [rng.choice([1.0, 1.0, 3.0]) for _ in range(size)]
    return tuple(round(weight / sum(weights), 4) for weight in weights)


def _times(rng: random.Random, at: float, latency: float) -> list[float]:
    """When lies come with an event: before what it changes is known, and in the seconds after."""
    return [at + 3 * latency * rng.random() + 0.001, *(at + rng.uniform(0.0, 5.0) for _ in "ab")]


def _cut(rng: random.Random, drawn: dict[str, Any]) -> list[Event]:
    """Two sides that do not hear each other, and perhaps a node that begins again meanwhile."""
    nodes = rng.sample(names(drawn["size"]), drawn["size"])
    here, how = nodes[: rng.randrange(1, len(nodes))], rng.choice(["silent", "times out", "resets"])
    ways = tuple((a, b) for a in nodes for b in nodes if a != b and (a in here) != (b in here))
    at = rng.uniform(2.0, 5.0)
    until = at + rng.choice([rng.uniform(2.0, 20.0), rng.uniform(2.0, 20.0), 45.0])
    again = _restart(rng, nodes[0], rng.uniform(at, until)) if rng.random() < 0.3 else []
    return [Event(at, "cut", (how, ways)), *again, Event(until, "mend", (how, ways))]


def _restarts(rng: random.Random, drawn: dict[str, Any]) -> list[Event]:
    """Some begin again, one after the other; or all, as in a deployment."""
    nodes, at, out = rng.sample(names(drawn["size"]), drawn["size"]), 2.0, list[Event]()
    for name in nodes[: rng.choice([1, 2, len(nodes), len(nodes)])]:
        at += rng.uniform(0.5, 4.0)
        out += _restart(rng, name, at)
    return out


def _restart(rng: random.Random, name: str, at: float) -> list[Event]:
    saved = rng.random() < 0.3
    back = at + rng.choice([0.05, 0.2, 2.0])
    first: Collection[Event] = (Event(at - 0.05, "save", (name,)),) if saved else ()
    return [*first, Event(at, "die", (name, True)), Event(back, "return", (name, saved))]
