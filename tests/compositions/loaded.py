"""Processes whose callers go on asking, of buckets that refill: what all of them are given."""

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
"""What all callers ask for together, as a multiple of the refill."""
CALM_S = 3.0
"""Seconds of load before an event, and after it."""
BRIEFLY_S, LONG_S = 3.0, 13.0
"""Seconds for which a link is cut or a host is down: before and after a host counts as dead."""
UNSEEN_S = 1.0
"""What is refilled in so many seconds may be granted beyond the limit: when a silence begins, and
when it ends, each side goes for half a second by what it has seen of the other."""
STARVED_S = 3.0
"""No process is denied every call for longer."""
LEAST_USED = 0.8
"""In overload at least this share of the limit is granted, though the share of a host that is down
is kept for it."""


@dataclass(frozen=True)
class Limit:
    """What a bucket holds and refills from a time on."""

    at: float
    capacity: int = CAPACITY
    refill: int = REFILL
    """Tokens a second."""


@dataclass(frozen=True)
class Cost:
    """What an event may cost under a load."""

    beyond: float = REFILL * UNSEEN_S
    """Tokens beyond the limit, and why: as for `Bound`, and what nodes did not know in time."""
    least: float = LEAST_USED
    """In overload at least this share of the limit is granted."""
    denies: bool = False
    """Whether calls within the limit may be denied."""


@dataclass(frozen=True)
class Figures:
    """What all callers together were given."""

    over: float
    """Tokens beyond the capacity and the refill, in the worst window."""
    used: float
    """What was granted, as a share of the capacity and the refill."""
    denied: int
    """Calls that were denied though half of the capacity was free."""
    starved: float
    """For so many seconds a process was denied every call, at most."""
    late: float
    """For so many seconds the machine kept a caller waiting, at most."""
    repaid: float
    """For so many seconds nothing is due, since a limit was lowered below what is owed."""

    def wrong(self, load: float, cost: Cost = Cost()) -> str:
        """What must not be under this load; "" when all is as it should."""
        if self.over > cost.beyond + REFILL * self.late:
            return "more was granted than the limit"
        if load <= LIGHT:
            return "a call within the limit was denied" if self.denied and not cost.denies else ""
        if self.starved > STARVED_S + self.late + self.repaid:
            return "a process was starved"
        return "" if self.used >= cost.least else "less was granted than the limit"


def measure(limits: Sequence[Limit], loads: Iterable[Sequence[Answered]]) -> Figures:
    """`loads`: of each process, from a start to its end."""
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
        """`load`: what all ask for, as a multiple of the refill. `apart`: seconds for which a fault
        lasts."""
        self.fleet, self.load, self.apart = fleet, load, apart
        self.limits = [Limit(0.0)]
        fleet.capacity, fleet.refill = CAPACITY, f"{REFILL}/s"
        self.processes = fleet.processes
        self._gap = len(self.processes) / (load * REFILL)

    async def begin(self) -> None:
        """Calls are made from now on, also by processes that start later."""
        for one in self.processes:
            one.gap = self._gap
            await one.load(self._gap)

    async def redefine(self, times: int) -> None:
        """All processes get a limit that is so many times the first one."""
        limit = Limit(time.monotonic(), times * CAPACITY, times * REFILL)
        if times > 1:
            self.limits.append(limit)
        self.fleet.redefine(limit.capacity, f"{limit.refill}/s")
        await self.fleet.reload()
        if times == 1:
            self.limits.append(Limit(time.monotonic()))

    def cost(self, bound: Bound = EXACT) -> Cost:
        """What an event of this bound may cost: what is forgotten is a capacity at most. Redis and
        a table decide in an order that the callers' clocks show to a call of each."""
        feature = self.fleet.feature
        eventual = feature.mesh and not feature.strong
        unknown = REFILL * UNSEEN_S if eventual else len(self.processes)
        return Cost(beyond=unknown + min(CAPACITY, bound.beyond))


LoadedEvent = Callable[[LoadedFleet], Awaitable[Cost]]


async def play_loaded(loaded: LoadedFleet, event: LoadedEvent) -> Figures:
    """Calls, an event, and more calls. Raises `Failed` when that is not how it should be, or a
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
