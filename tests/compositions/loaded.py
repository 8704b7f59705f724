"""Processes whose callers go on asking buckets that refill, and what all of them are granted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.compositions.fleet import EXACT, Bound, Fleet
from tests.compositions.process import Answered, Failed

CAPACITY, REFILL = 240, 80
"""Tokens, and tokens a second."""
HEAVY, LIGHT = 3.0, 0.5
"""The load: what all callers ask for together, as a multiple of the refill."""
CALM_S = 3.0
"""Seconds of load before an event, and after it."""
BRIEFLY_S, LONG_S = 3.0, 13.0
"""Seconds for which a link is cut or a host is down: less and more than it takes to count as
dead."""
UNSEEN_S = 1.0
"""The refill of so many seconds may be granted beyond the limit: when a silence begins, and when it
ends, each side decides for half a second by what it last saw of the other."""
STARVED_S = 3.0
"""The most seconds for which a process may deny every call, if nothing is to be repaid."""
LEAST_USED = 0.8
"""The least share of the limit that is granted in overload, even if the share of a host that is
down is kept for it."""


@dataclass(frozen=True)
class Limit:
    """The capacity and the refill of a bucket from a time on."""

    at: float
    capacity: int = CAPACITY
    refill: int = REFILL
    """Tokens a second."""


@dataclass(frozen=True)
class Cost:
    """What an event may cost under a load."""

    beyond: float = REFILL * UNSEEN_S
    """Tokens beyond the limit: those that `Bound` allows, and those that nodes did not know of in
    time."""
    least: float = LEAST_USED
    """The least share of the limit that is granted in overload."""
    denies: bool = False
    """Whether calls within the limit may be denied."""
    starved: float = STARVED_S
    """The most seconds for which a process may deny every call."""


@dataclass(frozen=True)
class Figures:
    """What all callers together were granted."""

    over: float
    """The most tokens beyond the capacity and the refill, in any window."""
    used: float
    """What was granted, as a share of the capacity and the refill."""
    denied: int
    """Calls that were denied though half of the capacity was free."""
    starved: float
    """The most seconds for which a process denied every call."""
    late: float
    """The most seconds for which the machine kept a caller waiting."""
    repaid: float
    """Seconds for which nothing is due, since a limit was lowered below what is owed."""

    def wrong(self, load: float, cost: Cost = Cost()) -> str:
        """What is wrong under this load; "" when nothing is."""
        if self.over > cost.beyond + REFILL * self.late:
            return "more was granted than the limit"
        if load <= LIGHT:
            return "a call within the limit was denied" if self.denied and not cost.denies else ""
        if self.starved > cost.starved + self.late + self.repaid:
            return "a process was starved"
        return "" if self.used >= cost.least else "less was granted than the limit"


def measure(limits: Sequence[Limit], loads: Iterable[Sequence[Answered]]) -> Figures:
    """The figures of a run. `loads`: the calls of each process, from one start to its end."""
    loads = [load for load in loads if load]
    calls = sorted(call for load in loads for call in load)
    (limit, *later), at = limits, calls[0].at
    level = over = repaid = 0.0
    refilled, granted, denied = float(limit.capacity), 0, 0
    for call in calls:
        changed = bool(later) and later[0].at <= call.at
        while later and later[0].at <= call.at:
            limit = later.pop(0)
        refill = limit.refill * (call.at - at)
        at, refilled, granted = call.at, refilled + refill, granted + call.granted
        level = max(0.0, level - refill)
        if changed:
            repaid = max(repaid, (level - limit.capacity) / limit.refill)
        denied += not call.granted and level <= limit.capacity / 2
        level += call.granted
        if call.granted:
            over = max(over, level - limit.capacity)
    late = max(call.late for call in calls)
    return Figures(over, granted / refilled, denied, max(map(_starved, loads)), late, repaid)


def _starved(load: Sequence[Answered]) -> float:
    longest, since = 0.0, None
    for call in load:
        if since is not None:
            longest = max(longest, call.at - since)
        since = None if call.granted else call.at if since is None else since
    return longest


class LoadedFleet:
    """The processes of a feature, each of which makes calls whenever it runs."""

    def __init__(self, fleet: Fleet, load: float, apart: float = BRIEFLY_S) -> None:
        """`load`: what all callers ask for, as a multiple of the refill. `apart`: the seconds for
        which a fault lasts."""
        self.fleet, self.load, self.apart = fleet, load, apart
        self.limits = [Limit(0.0)]
        fleet.capacity, fleet.refill = CAPACITY, f"{REFILL}/s"
        self.processes = fleet.processes
        self._gap = len(self.processes) / (load * REFILL)

    async def begin(self) -> None:
        """Begins the calls, also of processes that start later."""
        for one in self.processes:
            one.gap = self._gap
            await one.load(self._gap)

    async def redefine(self, times: int) -> None:
        """Gives all processes a limit that is so many times the first one."""
        limit = Limit(time.monotonic(), times * CAPACITY, times * REFILL)
        if times > 1:
            self.limits.append(limit)
        self.fleet.redefine(limit.capacity, f"{limit.refill}/s")
        await self.fleet.reload()
        if times == 1:
            self.limits.append(Limit(time.monotonic()))

    def cost(self, bound: Bound = EXACT) -> Cost:
        """What an event with this bound may cost: a capacity at most for all that is forgotten. The
        times of callers show the order of decisions in Redis or in a table only to within a call of
        each."""
        feature = self.fleet.feature
        eventual = feature.mesh and not feature.strong
        unknown = REFILL * UNSEEN_S if eventual else len(self.processes)
        return Cost(beyond=unknown + min(CAPACITY, bound.beyond))


LoadedEvent = Callable[[LoadedFleet], Awaitable[Cost]]


async def play_loaded(loaded: LoadedFleet, event: LoadedEvent) -> Figures:
    """Plays calls, an event, and more calls. Raises `Failed` when the figures are wrong, or a
    process does not serve again."""
    async with loaded.fleet as fleet:
        await loaded.begin()
        await asyncio.sleep(CALM_S)
        cost = await event(loaded)
        await fleet.serve()
        before = [one.granted for one in loaded.processes]
        await asyncio.sleep(CALM_S)

        async def all_served() -> bool:
            return all(a < b.granted for a, b in zip(before, loaded.processes, strict=True))

        await fleet.until(all_served, lambda: "not every process is granted calls")
    figures = measure(loaded.limits, (load for one in loaded.processes for load in one.loads))
    if wrong := figures.wrong(loaded.load, cost):
        raise Failed(f"{wrong}: {figures}")
    return figures
