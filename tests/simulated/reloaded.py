"""Rarely draws a plan in which a change of limits can be judged: a roll-out that goes on until all
that was owed has refilled, or a bucket that is added while others are in debt on its keys. By
chance that is hardly ever drawn, least of all with slow rounds."""

from __future__ import annotations

import random
from itertools import combinations
from typing import Any

from crdtbucket.mesh.mesh_config import LEAST_ROUNDS
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.irregular import IRREGULAR
from tests.simulated.plan import Event, names
from tests.simulated.reloads import SETTLES, ceiling

RARELY = 0.02
TRAVEL = 0.4
"""The most seconds that an update travels."""
KEPT = 20.0
"""Seconds, beside two rounds, after which a full key is evicted."""
BEFORE = ("reloads", "given_up")
"""If one of these dimensions has events, the plan is about something else."""
OTHERS = ("cuts", "members", "crowd", "pauses", "stalls")
"""Dimensions whose events may happen in such a plan."""


def draw_reloaded(rng: random.Random, drawn: dict[str, Any]) -> dict[str, Any]:
    """The values of other dimensions that make such a plan."""
    if rng.random() >= RARELY or any(map(drawn.get, ("hostile", "observer", *BEFORE))):
        return {}
    gossip = rng.choice([0.1, 1.0, 3.0, 10.0, 10.0])
    values = rng.choice([_rolled_out, _added])(rng, drawn, gossip)
    length = values["length"] = max(values["length"], drawn["length"])
    quiet = {} if rng.random() < 0.4 else dict.fromkeys(OTHERS, ())
    return {
        **dict.fromkeys(IRREGULAR, ()),
        **quiet,
        "loss": (0.0, 0.0, 0.0),
        "forget": max(drawn["forget"], LEAST_ROUNDS * gossip),
        "log": 60.0,
        "scattered": min(drawn["scattered"], 150 / length),
        "gossip": gossip,
        **values,
    }


def _rolled_out(rng: random.Random, drawn: dict[str, Any], gossip: float) -> dict[str, Any]:
    lag, to_full = drawn["size"] * (gossip + TRAVEL), gossip * rng.choice([0.1, 1.0, 6.0])
    capacity, by = rng.choice([100, 1000, 10**6]), rng.choice([0.5, 2.0, 10.0])
    limit = capacity, max(1, round(1000 * capacity / to_full)), "1000s"
    first = BucketSpec("main", *limit)
    spec = BucketSpec("main", *(round(by * part) for part in limit[:2]), limit[2])
    most = max(ceiling(first, lag), ceiling(spec, lag)) / spec.rate_per_second
    judged = SETTLES + 10 * lag + most
    at, step, order = rng.uniform(0, lag), round(rng.uniform(0, 0.5), 3), rng.getrandbits(16)
    until = at + judged + 20 * gossip
    ends = Event(until, "unstage", (spec, rng.random() < 0.5, step, order))
    again = ends.at + judged + 20 * gossip if rng.random() < 0.3 else until + 1.0
    stage = Event(at, "stage", (spec, rng.choice([0.1, 0.5, 0.6, 1.0]), step, order))
    return {"bucket": (*limit, None), "stages": (stage, ends), "length": again}


def _added(rng: random.Random, drawn: dict[str, Any], gossip: float) -> dict[str, Any]:
    nodes = rng.sample(names(drawn["size"]), drawn["size"])
    capacity = rng.choice([50, 100, 400])
    to_full = rng.choice([1.0, 2.0]) * (30.0 + 6 * gossip)
    side = BucketSpec("side", capacity, round(1000 * capacity / to_full), "1000s")
    first = Event(rng.uniform(0, gossip), "spend", (nodes[-1],))
    at = rng.choice([0.0, to_full + KEPT + 2 * gossip]) + rng.uniform(1.0, 5.0)
    spent = Event(at, "spend", (rng.choice(nodes),))
    without = nodes[: rng.randrange(1, max(2, len(nodes)))]
    added = [Event(at + rng.uniform(0.0, 10.0), "add", (name,)) for name in without]
    graph = tuple(combinations(names(drawn["size"]), 2))
    return {
        "side": side,
        "graph": graph,
        "buckets": (first, spent, *added),
        "length": at + to_full,
    }
