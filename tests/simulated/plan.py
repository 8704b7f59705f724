"""What happens in one simulated run, as a small value that a person can read."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from crdtbucket.spec.bucket_spec import BucketSpec

Way = tuple[str, str]


STEPS = 150
"""The most times at which a run demands tokens."""
LEAST_STEP = 0.01
ENDINGS = ("afterwards", "overloaded")
"""The checks that may follow when the run is over, in this order."""
BURST_PART = 0.1
"""The part of their period in which bursts come; in the rest of it nothing is asked for."""


def names(size: int) -> tuple[str, ...]:
    return tuple(f"n{i}" for i in range(size))


class Event(NamedTuple):
    """Something that happens to the mesh. `what` names a method of the player, `do_<what>`."""

    at: float
    """Seconds since the start."""
    what: str
    args: tuple[Any, ...]


class Phase(NamedTuple):
    """Demand from some time on."""

    at: float
    amount: float
    """What all nodes together are asked for, as a multiple of the refill rate of the main
    bucket."""
    weights: tuple[float, ...]
    """How it is spread over the first nodes; a node that comes later gets as much as the first."""


@dataclass(frozen=True)
class Plan:
    """Everything about one run. Times are seconds."""

    seed: int
    nodes: tuple[str, ...]
    linked: tuple[Way, ...]
    latency: float
    jitter: float
    slow: tuple[tuple[Way, float], ...]
    """Ways on which every frame takes so many seconds longer, in this direction alone."""
    loss: tuple[float, float, float]
    """The fractions of frames that are lost, doubled, and out of order."""
    gossip_interval: float
    forget_after: float
    """A node that was silent for so long is forgotten."""
    log_kept: float
    """The time for which the log of versions is kept for a silent node."""
    clocks: tuple[tuple[float, float], ...]
    """By node: offset (s), drift (ppm)."""
    main: BucketSpec
    """The bucket of the demand below, on one key."""
    side: BucketSpec
    """The bucket of the scattered operations, on several keys."""
    keys: int
    """Keys of the side bucket; more than the table holds are a flood."""
    max_keys: int
    cost: int
    """Tokens of one call on the main bucket."""
    phases: tuple[Phase, ...]
    arrivals: tuple[str, float]
    """"even" or "random", or "bursts" once in so many seconds."""
    storm: tuple[int, float] | None
    """(node, multiple of the rate that it asks for beside its demand)."""
    scattered: float
    """Operations a second on the side bucket, with costs of all sizes."""
    returns: bool
    """Whether some of the scattered operations are refunds and settlements."""
    events: tuple[Event, ...]
    seconds: float
    bad: int
    """The number of members that lie, all in the same way at the same time."""
    endings: tuple[str, ...]
    """The checks that follow when the run is over: the first ones of `ENDINGS`."""
    idle: bool
    """Whether the run goes on until every key is full and gone."""

    @property
    def hosts(self) -> frozenset[str]:
        """Nodes whose processes share a table: the one that runs the mesh is killed in a cut."""
        return frozenset(e.args[2] for e in self.events if e.what == "cut" and len(e.args) > 2)

    @property
    def one_way(self) -> float:
        """The longest that a frame takes, in seconds."""
        return self.latency * (1 + self.jitter) + max((s for _, s in self.slow), default=0.0)

    @property
    def step(self) -> float:
        """Seconds between two times at which tokens are demanded."""
        return max(LEAST_STEP, self.seconds / STEPS)

    @property
    def period(self) -> float:
        """Seconds from one burst to the next, 0 where there are none."""
        kind, period = self.arrivals
        return max(period, 20 * self.step) if kind == "bursts" else 0.0

    def in_burst(self, at: float) -> bool:
        """Whether demand comes at this time (s); where there are no bursts, always."""
        return not self.period or at % self.period < BURST_PART * self.period

    @property
    def drift(self) -> float:
        """The most by which two clocks run apart, as a fraction."""
        ppm = [ppm for _, ppm in self.clocks]
        return (max(ppm) - min(ppm)) / 1e6

    def most_debt(self, spec: BucketSpec) -> int:
        """Tokens beyond an empty bucket that a node can owe under this definition."""
        lag = self.latency + self.gossip_interval
        return max(spec.max_debt, round(4 * spec.rate_per_second * lag))

    @property
    def complete(self) -> bool:
        """Whether every node is linked with every other one."""
        return len(self.linked) == len(self.nodes) * (len(self.nodes) - 1) // 2

    def has(self, *kinds: str) -> bool:
        return any(event.what in kinds for event in self.events)

    def __str__(self) -> str:
        shown = [(f.name, getattr(self, f.name)) for f in fields(self) if f.name != "events"]
        lines = [f"  {name} = {value}" for name, value in shown]
        events = [f"  {i}: {e.at:8.3f} s {e.what} {e.args}" for i, e in enumerate(self.events)]
        return "\n".join([*lines, *events])
