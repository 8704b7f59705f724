"""What is done to Redis in a run, and whether the mode of every region follows before the next
act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.spec.mode import Mode

PER_REGION = "regions"
"""Asks for a Redis in each region."""
SLOW_S = 0.3
"""The delay of each way to the slow Redis, seconds."""
DEADLINE_S = 1.0
"""The deadline of a decision, seconds. It is above the round trip to the slow Redis, so that Redis
still decides for a moment after it has become slow."""
PATIENCE = {
    # A machine that runs all three regions is now and then late itself.
    "latency_limit": 0.4,
    # Above the round trip to the slow Redis, which is not gone.
    "outage_after": 1.5,
    # The smallest region makes some seven calls a second.
    "least_samples": 3,
    "stable_after": 2.0,
    # By default a return waits until a minute after strong mode was left for eventual and fallback.
    "least_return_gap": 5.0,
}
"""Settings of the mode controllers, so that three switches fit into a run of some seconds."""
REGIONAL_PATIENCE = {**PATIENCE, "latency_limit": DEADLINE_S - 0.1}
"""The same settings for a run in which nothing is done to Redis, so that only a stall of this
machine makes it slow."""


ACTS = {"slow": Mode.EVENTUAL, "gone": Mode.FALLBACK, "back": Mode.STRONG}
"""What is done to Redis, and the mode to which each act must lead before the next one."""


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
    """How the modes of a region followed what was done to Redis, by act. `ended`: the mode at the
    end of the act. `delays`: the seconds until that mode was reached; 0 where the region had left
    its mode before the act, because the machine itself was so late."""

    path: tuple[str, ...]
    ended: dict[str, str]
    delays: dict[str, float]

    def fault(self) -> str:
        """What is wrong, in words; empty for nothing."""
        wrong = ", ".join(
            f"{self.ended[act]} at the end of {act} and not {mode}"
            for act, mode in ACTS.items()
            if self.ended[act] != mode.value
        )
        return f"went {' -> '.join(self.path)}: {wrong}" if wrong else ""


def follow(switches: Sequence[Switch], acts_ns: Mapping[str, int], regions: int) -> list[Followed]:
    """How each region's mode followed the acts, which were done at `acts_ns`. An act ends with the
    next one, the last with the run."""
    found = []
    for region in range(regions):
        mine = sorted((s for s in switches if s.region == region), key=lambda s: s.at_ns)
        broken = next((b for a, b in pairwise(mine) if a.after != b.before), None)
        assert broken is None, f"a switch is missing before {broken}"
        ended, delays = {}, {}
        for act, following in zip(ACTS, (*list(ACTS)[1:], None), strict=True):
            before = [s for s in mine if following is None or s.at_ns < acts_ns[following]]
            ended[act] = before[-1].after if before else Mode.STRONG.value
            reached_ns = before[-1].at_ns if before else 0
            delays[act] = max(0, reached_ns - acts_ns[act]) / NS_PER_SECOND
        path = (Mode.STRONG.value, *(switch.after for switch in mine))
        found.append(Followed(path, ended, delays))
    return found
