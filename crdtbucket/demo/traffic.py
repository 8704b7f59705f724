"""Plans the calls of a run: part of a trace of real LLM calls, spread over regions and phases."""

from __future__ import annotations

import random
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.simulator.simulation_errors import TraceError
from crdtbucket.simulator.trace import Trace, parse_trace, read_trace
from crdtbucket.spec.bucket_spec import BucketSpec

REGIONS = ("eu", "us", "ap")
WEIGHTS = (0.5, 0.3, 0.2)
CUT_REGION = "us"
BLOCK = 16
"""Model tokens that one token of the bucket pays for: the block in which inference servers hand
out memory."""
LOAD = 1.5
BURST = 5.0
Marks = tuple[tuple[str, float, float], ...]
"""The parts of a kind of run: the name of each, and where it begins and ends, from 0 to 1."""
CUT_MARKS: Marks = (
    ("normal", 0.0, 0.44), ("burst", 0.44, 0.56), ("normal", 0.56, 0.62),
    ("cut", 0.62, 0.82), ("healed", 0.82, 1.0),
)  # fmt: skip
STALL_MARKS: Marks = (*CUT_MARKS[:-1], ("healed", 0.82, 0.91), ("stalled", 0.91, 1.0))
REDIS_MARKS: Marks = (
    ("normal", 0.0, 0.16), ("burst", 0.16, 0.26), ("normal", 0.26, 0.40),
    ("slow", 0.40, 0.62), ("gone", 0.62, 0.76), ("back", 0.76, 1.0),
)  # fmt: skip


@dataclass(frozen=True)
class Phase:
    """A part of the run: what happens in it and when, ns from the start."""

    name: str
    start_ns: int
    end_ns: int
    pace: float = 1.0


@dataclass(frozen=True)
class PlannedCall:
    """A call: when (ns from the start), the number of its region, tokens of the bucket."""

    at_ns: int
    region: int
    cost: int


@dataclass(frozen=True)
class Traffic:
    """All calls of a run in the order of time, and what was done to the trace.

    `speed`: times as fast as it happened, outside the burst. `too_large`: calls above the
    capacity, which are in none of the other figures. `rounds`: times that the trace was begun.
    """

    calls: list[PlannedCall]
    phases: list[Phase]
    speed: float
    too_large: int
    rounds: int

    def phase(self, at_ns: int) -> Phase:
        """The phase at a time; the last one after the end."""
        return next((one for one in self.phases if at_ns < one.end_ns), self.phases[-1])


def demo_trace(path: str | Path | None = None) -> Trace:
    """The trace in a file, or the one that is shipped. Raises `TraceError`."""
    if path is not None:
        return read_trace(path)
    text = (resources.files("crdtbucket.demo") / "trace.csv").read_text("utf-8")
    return parse_trace(text.splitlines(), "trace.csv")


def phases(seconds: float, marks: Marks = CUT_MARKS) -> list[Phase]:
    """The parts of a run that lasts so long."""
    length = round(seconds * NS_PER_SECOND)
    return [
        Phase(name, round(a * length), round(b * length), BURST if name == "burst" else 1.0)
        for name, a, b in marks
    ]


def plan(trace: Trace, spec: BucketSpec, parts: list[Phase], seed: int) -> Traffic:
    """The calls of a run that offers the bucket 1.5 times its rate, and 5 times that in a burst.

    It uses as many calls of the trace as that takes, from the first on, and begins again where the
    trace is too short. The times between calls keep their proportions. The region of a call is
    drawn from the seed.
    """
    # A second of a burst holds as much of the trace as five others.
    length_ns = sum((part.end_ns - part.start_ns) * part.pace for part in parts)
    wanted = LOAD * spec.rate_per_second * length_ns / NS_PER_SECOND
    stretch, too_large, rounds = _stretch(trace, wanted, spec.capacity)
    last_ns = stretch[-1][0] + 1
    rng = random.Random(f"{seed}/demo")
    numbers = range(len(REGIONS))
    calls = [
        PlannedCall(
            _unwarp(when * length_ns / last_ns, parts), rng.choices(numbers, WEIGHTS)[0], cost
        )
        for when, cost in stretch
    ]
    return Traffic(calls, parts, last_ns / length_ns, too_large, rounds)


def _stretch(trace: Trace, wanted: float, capacity: int) -> tuple[list[tuple[int, int]], int, int]:
    costs = [-(-tokens // BLOCK) for tokens in trace.costs]
    if not any(0 < cost <= capacity for cost in costs):
        raise TraceError("the trace", 0, f"no call costs from 1 to {capacity} tokens of the bucket")
    gap = trace.duration_ns // max(1, len(trace) - 1) + 1
    out: list[tuple[int, int]] = []
    total, too_large, rounds = 0.0, 0, 0
    while total < wanted:
        base = rounds * (trace.duration_ns + gap)
        rounds += 1
        for when, cost in zip(trace.times_ns, costs, strict=True):
            if cost > capacity:
                too_large += 1
            elif cost > 0:
                out.append((base + when, cost))
                total += cost
            if total >= wanted:
                break
    return out, too_large, rounds


def _unwarp(amount: float, parts: list[Phase]) -> int:
    """The time at which this much of the trace has been played; in a burst more of it is played a
    second."""
    for part in parts:
        held = (part.end_ns - part.start_ns) * part.pace
        if amount < held:
            return part.start_ns + int(amount / part.pace)
        amount -= held
    return parts[-1].end_ns
