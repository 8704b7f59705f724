"""What is done to Redis in a run, and whether every region's mode follows, in order and in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.spec.mode import Mode

PER_REGION = "regions"
"""Asks for a Redis in each region."""
SLOW_S = 0.1
"""By how much each way to the slow Redis is delayed, seconds."""
DEADLINE_S = 0.5
"""Of a decision: above the round trip to the slow Redis, which so goes on deciding for a moment."""
PATIENCE = {
    # A machine that runs all three regions is now and then late itself.
    "latency_limit": 0.1,
    # The smallest region makes some seven calls a second.
    "least_samples": 3,
    "stable_after": 2.0,
    # By default a return waits until a minute after strong mode was left for eventual and fallback.
    "least_return_gap": 5.0,
}
"""Settings of the mode controllers, so that three switches fit into a run of some seconds."""
REGIONAL_PATIENCE = {**PATIENCE, "latency_limit": DEADLINE_S - 0.1}
"""The same where nothing is done to Redis: only a stall of this machine makes it slow."""


@dataclass(frozen=True)
class Act:
    """Something that is done to Redis: the mode that it leads to, after `within_s` at most."""

    name: str
    mode: Mode
    within_s: float


ACTS = (
    Act("slow", Mode.EVENTUAL, 2.0),
    Act("gone", Mode.FALLBACK, 1.5),
    Act("back", Mode.STRONG, 6.0),
)


@dataclass(frozen=True)
class Switch:
    """One region's change of mode, at `at_ns`."""

    at_ns: int
    region: int
    before: str
    after: str
    reason: str


@dataclass(frozen=True)
class Followed:
    """How a region's mode followed what was done: `delays` in seconds, by act."""

    path: tuple[str, ...]
    delays: dict[str, float]

    def fault(self) -> str:
        """What is wrong, in words; empty for nothing."""
        wanted = (Mode.STRONG.value, *(act.mode.value for act in ACTS))
        if self.path != wanted:
            return f"went {' -> '.join(self.path)}, not {' -> '.join(wanted)}"
        late = [act for act in ACTS if not 0 <= self.delays[act.name] <= act.within_s]
        return ", ".join(
            f"was {act.mode} {self.delays[act.name]:.1f} s after Redis was {act.name}, "
            f"not within {act.within_s:g} s"
            for act in late
        )


def follow(switches: Sequence[Switch], acts_ns: Mapping[str, int], regions: int) -> list[Followed]:
    """How each region's mode followed the acts, which were done at `acts_ns`."""
    found = []
    for region in range(regions):
        mine = sorted((s for s in switches if s.region == region), key=lambda s: s.at_ns)
        broken = next((b for a, b in pairwise(mine) if a.after != b.before), None)
        assert broken is None, f"a switch is missing before {broken}"
        path = (Mode.STRONG.value, *(switch.after for switch in mine))
        # Only the right path has a switch for each act.
        delays = {
            act.name: (switch.at_ns - acts_ns[act.name]) / NS_PER_SECOND
            for act, switch in zip(ACTS, mine, strict=False)
            if act.name in acts_ns
        }
        found.append(Followed(path, delays))
    return found
