"""What happens in one simulated run, drawn from one integer: the mesh, its network, its history."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from crdtbucket.policy import BucketSpec

Event = tuple[float, str, tuple[Any, ...]]
"""(seconds since the start, what, its arguments); see the methods of `Run`."""

BUCKETS = ("api", "bulk")
STYLES = ("plain", "plain", "lossy", "partition", "restarts", "light", "redefinition", "flood")


@dataclass
class Plan:
    seed: int
    style: str
    nodes: list[str]
    specs: list[BucketSpec]
    options: dict[str, Any]
    keys: list[str]
    seconds: float
    quiet: float
    events: list[Event] = field(default_factory=list)
    silence: float = 0.0
    """The longest time for which some node may be unheard by another, at most, in seconds."""

    @property
    def one_way(self) -> float:
        return float(self.options["latency"] * (1 + self.options["jitter"]))

    @property
    def drift(self) -> float:
        """The most by which two clocks run apart, as a fraction."""
        ppm = self.options["clock_drift_ppm"].values()
        return (max(ppm) - min(ppm)) / 1e6


def draw(seed: int) -> Plan:
    """The plan of a seed; the same on every machine and in every process."""
    rng = random.Random(seed)
    style = STYLES[seed % len(STYLES)]
    size = 7 if rng.random() < 0.02 else rng.choice([2, 2, 3, 3, 3, 4, 5])
    nodes = [f"n{i}" for i in range(size)]
    plan = Plan(
        seed=seed,
        style=style,
        nodes=nodes,
        specs=[draw_spec(rng, name, style, size) for name in BUCKETS],
        options=draw_network(rng, style, nodes),
        keys=[f"key-{i}" for i in range(rng.choice([1, 2, 3]))],
        seconds=rng.uniform(2.0, 6.0),
        quiet=0.0,
    )
    longest = max(plan.options["gossip_interval"], plan.options["latency"])
    plan.quiet = 3.0 + 10 * longest
    if style == "light":
        draw_light(rng, plan)
    else:
        draw_traffic(rng, plan)
    draw_faults(rng, plan)
    plan.events.sort(key=lambda event: event[0])
    return plan


def draw_spec(rng: random.Random, name: str, style: str, size: int) -> BucketSpec:
    capacity = rng.choice([10, 20, 50, 100, 400])
    rate = rng.choice([1, 3, 7, 10, 50]) if style != "light" else rng.choice([10, 20, 50])
    if (
        style == "light"
    ):  # one token just taken reads as 20 a second, and half a second is held back
        capacity = max(capacity, rate, 25 * size)
    interval = rng.choice(["1s", "1s", "3s"]) if style != "light" else "1s"
    return BucketSpec(
        name, capacity, rate, interval, max_debt=rng.choice([None, None, 2 * capacity])
    )


def draw_network(rng: random.Random, style: str, nodes: list[str]) -> dict[str, Any]:
    lossy = style == "lossy"
    return {
        "latency": rng.choice([0.001, 0.02, 0.08, 0.15]),
        "jitter": rng.choice([0.0, 0.5, 0.95]),
        "loss": rng.choice([0.05, 0.3]) if lossy else 0.0,
        "duplication": rng.choice([0.0, 0.2]) if lossy else 0.0,
        "reordering": rng.choice([0.0, 0.3]) if lossy else 0.0,
        "gossip_interval": rng.choice([0.05, 0.1, 0.1, 0.3]),
        "seed": rng.getrandbits(32),
        "clock_offsets": {n: rng.choice([0.0, 3600.0, -900.0, rng.uniform(0, 9)]) for n in nodes},
        "clock_drift_ppm": {n: rng.choice([0.0, 200.0, -200.0, 500.0]) for n in nodes},
        "max_keys": 16 if style == "flood" else 64,
    }


def draw_light(rng: random.Random, plan: Plan) -> None:
    """Single tokens, evenly, at 0.4 of the rate of each bucket; sides may shift."""
    for spec in plan.specs:
        gap, at = 1 / (0.4 * spec.rate_per_second), rng.uniform(0, 0.2)
        weights = [rng.random() + 0.01 for _ in plan.nodes]
        while at < plan.seconds:
            (node,) = rng.choices(plan.nodes, weights)
            plan.events.append((at, "take", (node, spec.name, plan.keys[0], 1)))
            at += gap


def draw_traffic(rng: random.Random, plan: Plan) -> None:
    rate = rng.choice([10, 25, 60])
    keys = plan.keys if plan.style != "flood" else [f"key-{i}" for i in range(60)]
    for _ in range(int(rate * plan.seconds)):
        at = rng.uniform(0, plan.seconds)
        spec = rng.choice(plan.specs)
        node, key = rng.choice(plan.nodes), rng.choice(keys)
        cost = rng.choice([1, 1, 1, 2, 5, max(1, spec.capacity // 5), spec.capacity])
        kind = rng.random()
        if kind < 0.82:
            plan.events.append((at, "take", (node, spec.name, key, cost)))
        elif kind < 0.93:
            plan.events.append((at, "refund", (rng.randrange(8), rng.choice([None, 1]))))
        else:
            plan.events.append(
                (at, "settle", (node, spec.name, key, rng.choice([1, cost, 3 * cost])))
            )


def draw_faults(rng: random.Random, plan: Plan) -> None:
    end = plan.seconds
    if plan.style in ("partition", "light") and len(plan.nodes) > 1:
        start, stop = sorted(rng.uniform(0, end) for _ in range(2))
        nodes = rng.sample(plan.nodes, len(plan.nodes))
        cut = rng.randrange(1, len(nodes))
        plan.events += [(start, "partition", (nodes[:cut], nodes[cut:])), (stop, "heal", ())]
        plan.silence = max(plan.silence, stop - start)
    if plan.style in ("partition", "lossy") and rng.random() < 0.4:
        pause = rng.uniform(0.1, 2.0)
        plan.events.append((rng.uniform(0, end), "suspend", (rng.choice(plan.nodes), pause)))
        plan.silence += pause
    if plan.style == "restarts":
        draw_restarts(rng, plan)
    if plan.style == "redefinition":
        spec = rng.choice(plan.specs)
        other = BucketSpec(spec.name, rng.choice([10, 30, 200]), rng.choice([2, 9, 40]))
        start, step = rng.uniform(0, end), rng.uniform(0, 0.5)
        for i, node in enumerate(plan.nodes):
            plan.events.append((min(end, start + i * step), "define", (node, other)))


def draw_restarts(rng: random.Random, plan: Plan) -> None:
    for node in rng.sample(plan.nodes, rng.randrange(1, len(plan.nodes))):
        death = rng.uniform(0, plan.seconds)
        plan.events.append((death, "crash", (node,)))
        back = death + rng.uniform(0.0, 2.0)
        if rng.random() < 0.8:
            plan.events.append((back, "restart", (node, rng.choice(["empty", "snapshot"]))))
            plan.silence = max(plan.silence, back - death)
        else:
            plan.silence = max(plan.silence, plan.seconds + plan.quiet - death)
