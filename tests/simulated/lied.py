"""Rarely, a plan in which a member lies of others while these are not met yet, or are cut off, and
in which much is asked for long after that. By chance that is hardly ever drawn: what is said of a
process has to come before the process has a link. In some of these plans two sides of new
processes have never had a link with each other, and the member lies to each of the other. In others
it goes on lying while frames are lost or the limit changes."""

from __future__ import annotations

import random
from collections.abc import Collection
from itertools import combinations, count
from typing import Any

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.happenings import draw_reloads
from tests.simulated.irregular import IRREGULAR
from tests.simulated.lies import ACTS
from tests.simulated.plan import Event, Phase, names
from tests.simulated.reloads import SETTLES, ceiling

RARELY = 0.01
OTHERS = ("crowd", "pauses", "reloads", "stalls", "observer", *IRREGULAR)
"""Dimensions whose events do not happen beside."""
OFTEN = (
    *("unmet", "contradicts") * 2,
    "columns",
    "lower columns",
    "debts",
    "refunds",
    "generations",
)
"""What is said, beside anything else."""
AFTER = 20.0
"""Seconds that are judged at the end, beside those in which the bucket fills."""
PRESSED = 24.0
"""Seconds for which a member says the same."""
OF_EACH_OTHER = ("mutual", "mutual", "mutual", "unmet", *OFTEN)
"""What is said to processes that have not met."""
LONGEST = 150.0
"""No more seconds are played to judge the shares after a reload."""
LOSSES = (*[(0.0, 0.0, 0.0)] * 4, (0.05, 0.2, 0.3), (0.3, 0.0, 0.0))


def draw_lied(rng: random.Random, drawn: dict[str, Any]) -> dict[str, Any]:
    """The values of other dimensions that make such a plan."""
    if rng.random() >= RARELY or drawn["size"] < 3 or drawn["given_up"] or drawn["reloaded"]:
        return {}
    bucket = rng.choice([50, 100, 1000]), rng.choice([1, 2, 5])
    events = rng.choice([_cut, _restarts, _restarts])(rng, drawn)
    times = [at for event in events for at in _times(rng, event.at, drawn["lag"][0])]
    kinds = [rng.choice(OFTEN if rng.random() < 0.8 else list(ACTS)) for _ in range(3)]
    lies = [Event(at, "lie", (rng.choice(kinds), rng.getrandbits(32))) for at in times]
    return _judged(rng, drawn, bucket, events, lies)


def draw_mutual(rng: random.Random, drawn: dict[str, Any]) -> dict[str, Any]:
    """The same, where all processes of two sides begin while these are cut off from each other, and
    a member tells each of counts of the other; perhaps frames are lost, or the limit changes."""
    if not _alone(rng, drawn, "lied"):
        return {}
    bucket = rng.choice([50, 100, 1000]), rng.choice([1, 2, 5])
    events, met = _never_met(rng, drawn)
    first = max(event.at for event in events if event.what == "return") + 3 * drawn["lag"][0]
    times = sorted(rng.uniform(first, met) for _ in range(rng.choice([2, 6, 20])))
    times += [met + rng.uniform(-0.02, 1.0) for _ in range(rng.choice([0, 2, 5]))]
    kinds = [rng.choice(OF_EACH_OTHER) for _ in range(3)] + ["mutual"]
    lies = [Event(at, "lie", (rng.choice(kinds), rng.getrandbits(32))) for at in times]
    values = _judged(rng, drawn, bucket, events, lies)
    values["loss"] = rng.choice(LOSSES)
    return _with_reloads(rng, drawn, values, draw_reloads(rng, {**drawn, **values}))


def draw_pressed(rng: random.Random, drawn: dict[str, Any]) -> dict[str, Any]:
    """A member says the same again and again to nodes that are asked for too much, while frames are
    lost or the limit changes."""
    if not _alone(rng, drawn, "lied", "mutual"):
        return {}
    bucket, many = (rng.choice([50, 100, 1000]), rng.choice([1, 2, 5])), rng.choice([30, 200])
    kinds = [
        rng.choice(OFTEN if rng.random() < 0.8 else list(ACTS)) for _ in range(rng.choice([1, 2]))
    ]
    times = [2.0 + PRESSED * i / many for i in range(many)]
    lies = [Event(at, "lie", (rng.choice(kinds), rng.getrandbits(32))) for at in times]
    values = _judged(rng, drawn, bucket, [], lies) | {"length": PRESSED + 4.0}
    if rng.random() < 0.5:
        return values | {"loss": rng.choice(LOSSES[-2:])}
    reloads = (draw_reloads(rng, {**drawn, **values}) for _ in count())
    return _with_reloads(rng, drawn, values, next(filter(None, reloads)))


def _alone(rng: random.Random, drawn: dict[str, Any], *others: str) -> bool:
    """Whether such a plan is drawn: rarely, and where none of the others is."""
    others = ("given_up", "reloaded", *others)
    return rng.random() < RARELY and drawn["size"] > 1 and not any(map(drawn.get, others))


def _with_reloads(
    rng: random.Random,
    drawn: dict[str, Any],
    values: dict[str, Any],
    reloads: tuple[Event, ...],
) -> dict[str, Any]:
    """These changes of the limit as well, and often enough time after the last one to judge what
    each node gets, unless that takes too long."""
    if reloads and rng.random() < 0.7:
        spec, step, _, _, last = reloads[-1].args
        lag = drawn["size"] * (values["gossip"] + drawn["lag"][0])
        before = BucketSpec("main", *values["bucket"][:3])
        owed = max(ceiling(spec, lag), ceiling(before, lag)) / spec.rate_per_second
        patience = 5.0 + ceiling(spec, lag) / spec.rate_per_second
        on_all = max(event.at for event in reloads) + drawn["size"] * step + last
        length = on_all + SETTLES + 10 * lag + owed + 5 * patience
        if length < LONGEST:
            values = values | {"length": max(length, values["length"])}
    return values | {"reloads": reloads}


def _judged(
    rng: random.Random,
    drawn: dict[str, Any],
    bucket: tuple[int, int],
    events: list[Event],
    lies: list[Event],
) -> dict[str, Any]:
    """The values of a plan with these events, which is judged for long after them. `bucket`: its
    capacity, and the seconds in which it fills."""
    capacity, to_full = bucket
    length = max(event.at for event in events or lies) + 10.0 + AFTER + 5 * to_full
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


def _never_met(rng: random.Random, drawn: dict[str, Any]) -> tuple[list[Event], float]:
    """Two sides of processes that all begin while the sides are cut off from each other, and when
    they meet."""
    nodes = rng.sample(names(drawn["size"]), drawn["size"])
    here = nodes[: rng.randrange(1, len(nodes))]
    ways = tuple((a, b) for a in nodes for b in nodes if a != b and (a in here) != (b in here))
    times = [rng.uniform(1.0, 3.0) for _ in nodes]
    met = max(times) + 2.0 + rng.choice([rng.uniform(1.0, 4.0), rng.uniform(4.0, 15.0)])
    began = [e for name, at in zip(nodes, times, strict=True) for e in _restart(rng, name, at)]
    cut = rng.choice(["silent", "times out", "resets"]), ways
    return [Event(0.5, "cut", cut), *began, Event(met, "mend", cut)], met


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
