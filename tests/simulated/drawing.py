"""Draws a plan from one integer.

Every dimension has a random source of its own, so that none depends on what another drew, except
for the sizes that it has to fit into. Each has a plain value: a failing plan is made small by
making dimensions plain and leaving events out (see `shrink`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from crdtbucket.mesh.mesh_config import LEAST_ROUNDS
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import MAX_RATE
from tests.simulated.given_up import draw_given_up
from tests.simulated.graphs import draw_graph, full_graph
from tests.simulated.happenings import (
    draw_alone,
    draw_bad,
    draw_crowd,
    draw_cuts,
    draw_hostile,
    draw_members,
    draw_observer,
    draw_pauses,
    draw_reloads,
    draw_slow,
    draw_stalls,
)
from tests.simulated.irregular import IRREGULAR
from tests.simulated.lied import draw_lied, draw_mutual, draw_pressed
from tests.simulated.plan import ENDINGS, Event, Phase, Plan, names
from tests.simulated.reloaded import draw_reloaded

FRAMES = (*[100] * 12, *[150] * 4, 400, 400, 1200, 4000)
"""About how many frames a run sends, whatever its size. Some runs go on for longer, since some
faults show only then."""
MANY_CALLS = 4000.0
"""The number of calls at twice the rate for which the cost of a call is chosen."""


def draw(seed: int, plain: Collection[str] = (), dropped: Collection[int] = ()) -> Plan:
    """The plan of a seed, the same on every machine; `plain` dimensions have their plain value,
    and the events with the numbers in `dropped` do not happen."""
    drawn: dict[str, Any] = {}
    for name, dimension in DIMENSIONS.items():
        rng = random.Random(f"{seed} {name}")
        drawn[name] = dimension.plain(drawn) if name in plain else dimension.draw(rng, drawn)
    drawn |= drawn["given_up"] | drawn["reloaded"] | drawn["lied"]
    drawn |= drawn["mutual"] | drawn["pressed"]
    happening = ("hostile", "observer") if drawn["alone"] else EVENTS
    events = sorted((e for name in happening for e in drawn[name]), key=lambda e: (e.at, e.what))
    latency, jitter = drawn["lag"]
    capacity, rate, interval, debt = drawn["bucket"]
    main = BucketSpec("main", capacity, rate, interval, max_debt=debt)
    return Plan(
        seed=seed,
        nodes=names(drawn["size"]),
        linked=drawn["graph"],
        latency=latency,
        jitter=jitter,
        slow=drawn["slow"],
        loss=drawn["loss"],
        gossip_interval=drawn["gossip"],
        forget_after=drawn["forget"],
        log_kept=drawn["log"],
        clocks=tuple(zip(drawn["offsets"], drawn["drift"], strict=True)),
        main=main,
        side=drawn["side"],
        keys=drawn["keys"],
        max_keys=16 if drawn["keys"] > 16 else 64,
        cost=cost_of(main, drawn),
        phases=drawn["demand"],
        arrivals=drawn["arrivals"],
        storm=drawn["storm"],
        scattered=drawn["scattered"],
        returns=drawn["returns"],
        events=tuple(e for i, e in enumerate(events) if i not in dropped),
        seconds=drawn["length"],
        bad=drawn["bad"],
        endings=drawn["endings"],
        idle=drawn["idle"],
    )


def cost_of(main: BucketSpec, drawn: dict[str, Any]) -> int:
    """The drawn cost, or more where there would be too many calls."""
    at_least = main.rate_per_second * drawn["length"] * 2 / MANY_CALLS
    return min(main.capacity, max(round(at_least), round(drawn["cost"] * main.capacity), 1))


class Dimension(NamedTuple):
    """How a dimension is drawn, and its plain value; both may use the dimensions before it."""

    draw: Callable[[random.Random, dict[str, Any]], Any]
    plain: Callable[[dict[str, Any]], Any]


# ---- the mesh and its links ----


def draw_size(rng: random.Random, drawn: dict[str, Any]) -> int:
    return rng.choice([1, 6, 7]) if rng.random() < 0.03 else rng.choice([2, 2, 3, 3, 3, 4, 5])


def draw_lag(rng: random.Random, drawn: dict[str, Any]) -> tuple[float, float]:
    return rng.choice([0.001, 0.02, 0.08, 0.15]), rng.choice([0.0, 0.5, 0.95])


def draw_loss(rng: random.Random, drawn: dict[str, Any]) -> tuple[float, float, float]:
    if rng.random() < 0.8:
        return 0.0, 0.0, 0.0
    return rng.choice([0.05, 0.3]), rng.choice([0.0, 0.2]), rng.choice([0.0, 0.3])


def draw_gossip(rng: random.Random, drawn: dict[str, Any]) -> float:
    return rng.choice([0.05, 0.1, 0.1, 0.1, 0.1, 0.3, 1.0, 3.0, 10.0])


def draw_forget(rng: random.Random, drawn: dict[str, Any]) -> float:
    """Fifteen minutes, or so little that nodes are forgotten within the run."""
    interval, soon = drawn["gossip"], rng.choice([900.0] * 6 + [30.0, 5 + 5 * drawn["gossip"]])
    return max(soon, LEAST_ROUNDS * interval)


def draw_log(rng: random.Random, drawn: dict[str, Any]) -> float:
    """A minute, or so little that a full sync follows on short silences."""
    return rng.choice([60.0, 60.0, 2 * max(1.0, 3 * drawn["gossip"])])


def draw_length(rng: random.Random, drawn: dict[str, Any]) -> float:
    """Seconds, by what they cost: some runs are long in a large mesh, many in a small one."""
    long = rng.random() < (0.1 if drawn["gossip"] >= 3 else 0.02)  # hours, where rounds are slow
    frames = rng.choice(FRAMES) * (5 if long else 1)
    return max(2.0, min(4000.0, frames * drawn["gossip"] / max(1, 2 * len(drawn["graph"]))))


def plain_length(drawn: dict[str, Any]) -> float:
    return max(2.0, 300 * drawn["gossip"] / max(1, 2 * len(drawn["graph"])))


def draw_offsets(rng: random.Random, drawn: dict[str, Any]) -> tuple[float, ...]:
    return tuple(rng.choice([0.0, 3600.0, -900.0, rng.uniform(0, 9)]) for _ in range(drawn["size"]))


def draw_drift(rng: random.Random, drawn: dict[str, Any]) -> tuple[float, ...]:
    if rng.random() < 0.4:
        return (0.0,) * drawn["size"]
    return tuple(rng.choice([0.0, 200.0, -200.0, 500.0, -500.0]) for _ in range(drawn["size"]))


# ---- the buckets and the load ----


def draw_bucket(rng: random.Random, drawn: dict[str, Any]) -> tuple[int, int, str, int | None]:
    """A bucket of 1 to 10^9 tokens, which fills in a part of the run or in many times its
    length."""
    capacity = rng.choice([1, 2, 5, 10, 20, 50, 100, 100, 400, 1000, 10_000, 10**6, 10**9])
    to_full = rng.choice([0.05, 0.3, 0.3, 1.0, 1.0, 1.0, 3.0, 3.0, 10.0, 60.0, 3600.0])
    debt = rng.choice([None, None, None, 2 * capacity])
    rate = min(capacity / to_full, MAX_RATE)
    if rate >= 1:
        return capacity, round(rate), "1s", debt
    return capacity, capacity, f"{round(to_full * 1000)}ms", debt


def plain_bucket(drawn: dict[str, Any]) -> tuple[int, int, str, int | None]:
    return 100, 100, "1s", None


def draw_side(rng: random.Random, drawn: dict[str, Any]) -> BucketSpec:
    capacity = rng.choice([10, 20, 50, 100, 400])
    interval, debt = rng.choice(["1s", "1s", "3s"]), rng.choice([None, None, 2 * capacity])
    return BucketSpec("side", capacity, rng.choice([1, 3, 7, 10, 50]), interval, max_debt=debt)


def draw_keys(rng: random.Random, drawn: dict[str, Any]) -> int:
    return 60 if rng.random() < 0.06 else rng.choice([1, 2, 3])


def draw_cost(rng: random.Random, drawn: dict[str, Any]) -> float:
    """A part of the capacity; the least is one token."""
    return rng.choice([0.0, 0.0, 0.0, 0.0, 0.05, 0.2, 1.0])


def draw_demand(rng: random.Random, drawn: dict[str, Any]) -> tuple[Phase, ...]:
    """Light, exact or heavy; evenly over the nodes, skewed, or on one; moving, or stopping."""
    starts = [0.0]
    if rng.random() < 0.3:
        starts += sorted(rng.uniform(0, drawn["length"]) for _ in range(rng.choice([1, 2])))
    return tuple(Phase(at, *draw_phase(rng, drawn["size"], at)) for at in starts)


def draw_phase(rng: random.Random, size: int, at: float) -> tuple[float, tuple[float, ...]]:
    light = [0.3, 0.5, 0.6, 0.8]
    amount = rng.choice([*light, *light, 1.0, 2.0, 2.0, 5.0, 20.0, 0.0 if at else 0.5])
    kind = rng.choice(["even", "even", "skewed", "one", "any"])
    weights = [1.0] * size
    if kind == "skewed":
        weights = [float(3**i) for i in range(size)]
    elif kind == "one":
        weights = [1.0 if i == 0 else 0.0 for i in range(size)]
    elif kind == "any":
        weights = [rng.random() + 0.01 for _ in range(size)]
    rng.shuffle(weights)
    return amount, tuple(round(weight / sum(weights), 4) for weight in weights)


def plain_demand(drawn: dict[str, Any]) -> tuple[Phase, ...]:
    size = drawn["size"]
    return (Phase(0.0, 0.5, (round(1 / size, 4),) * size),)


def draw_arrivals(rng: random.Random, drawn: dict[str, Any]) -> tuple[str, float]:
    kind = rng.choice(["even", "even", "random", "random", "bursts"])
    return kind, rng.choice([0.5, 1.0, 3.0]) if kind == "bursts" else 0.0


def draw_storm(rng: random.Random, drawn: dict[str, Any]) -> tuple[int, float] | None:
    if rng.random() < 0.92:
        return None
    return rng.randrange(drawn["size"]), rng.choice([10.0, 100.0])


def draw_scattered(rng: random.Random, drawn: dict[str, Any]) -> float:
    """So many a second that there are about 100 in a run, or fewer in short ones."""
    if rng.random() < 0.4 and drawn["keys"] <= 16:
        return 0.0
    return min(rng.choice([10.0, 25.0, 60.0]), 150 / drawn["length"])


def draw_endings(rng: random.Random, drawn: dict[str, Any]) -> tuple[str, ...]:
    """None, some or all of the endings, which take longer than most runs."""
    return ENDINGS[: rng.choices([0, 1, 2], [6, 1, 3])[0]]


def nothing(drawn: dict[str, Any]) -> tuple[Event, ...]:
    return ()


DIMENSIONS: dict[str, Dimension] = {
    "size": Dimension(draw_size, lambda drawn: 3),
    "graph": Dimension(draw_graph, full_graph),
    "lag": Dimension(draw_lag, lambda drawn: (0.02, 0.0)),
    "slow": Dimension(draw_slow, lambda drawn: ()),
    "loss": Dimension(draw_loss, lambda drawn: (0.0, 0.0, 0.0)),
    "gossip": Dimension(draw_gossip, lambda drawn: 0.1),
    "forget": Dimension(draw_forget, lambda drawn: 900.0),
    "log": Dimension(draw_log, lambda drawn: 60.0),
    "length": Dimension(draw_length, plain_length),
    "offsets": Dimension(draw_offsets, lambda drawn: (0.0,) * drawn["size"]),
    "drift": Dimension(draw_drift, lambda drawn: (0.0,) * drawn["size"]),
    "bucket": Dimension(draw_bucket, plain_bucket),
    "side": Dimension(draw_side, lambda drawn: BucketSpec("side", 100, 10)),
    "keys": Dimension(draw_keys, lambda drawn: 1),
    "cost": Dimension(draw_cost, lambda drawn: 0.0),
    "demand": Dimension(draw_demand, plain_demand),
    "arrivals": Dimension(draw_arrivals, lambda drawn: ("even", 0.0)),
    "storm": Dimension(draw_storm, lambda drawn: None),
    "scattered": Dimension(draw_scattered, lambda drawn: 0.0),
    "returns": Dimension(lambda rng, drawn: rng.random() < 0.5, lambda drawn: False),
    "cuts": Dimension(draw_cuts, nothing),
    "members": Dimension(draw_members, nothing),
    "crowd": Dimension(draw_crowd, nothing),
    "pauses": Dimension(draw_pauses, nothing),
    "reloads": Dimension(draw_reloads, nothing),
    "stalls": Dimension(draw_stalls, nothing),
    "hostile": Dimension(draw_hostile, nothing),
    "bad": Dimension(draw_bad, lambda drawn: 1),
    "observer": Dimension(draw_observer, nothing),
    "alone": Dimension(draw_alone, lambda drawn: False),
    **{name: Dimension(draw_them, nothing) for name, draw_them in IRREGULAR.items()},
    "given_up": Dimension(draw_given_up, lambda drawn: {}),
    "reloaded": Dimension(draw_reloaded, lambda drawn: {}),
    "lied": Dimension(draw_lied, lambda drawn: {}),
    "mutual": Dimension(draw_mutual, lambda drawn: {}),
    "pressed": Dimension(draw_pressed, lambda drawn: {}),
    "endings": Dimension(draw_endings, lambda drawn: ENDINGS),
    "idle": Dimension(lambda rng, drawn: rng.random() < 0.08, lambda drawn: False),
}
"""All dimensions, in the order in which they are drawn."""

EVENTS = ("cuts", "members", "crowd", "pauses", "reloads", "stalls", "hostile", "observer")
EVENTS += tuple(IRREGULAR)
"""The dimensions that are events."""
