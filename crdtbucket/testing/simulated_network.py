"""A network in simulated time: it computes when a frame that is sent now arrives, and calls what is
scheduled."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from crdtbucket.base.clock import NS_PER_SECOND as NS
from crdtbucket.errors import CrdtbucketError
from crdtbucket.testing.simulation_settings import SimulationSettings


class Stall(NamedTuple):
    """One stall of some ways: what is sent on them is held, and then arrives late. Times are ns."""

    ways: frozenset[tuple[str, str]] | None
    """(source, target) of each; None for all."""
    since: int
    held: int
    """For so long, from `since` on, nothing arrives."""
    drain: int
    """Within this time after that arrives all that was due until its end, in order and evenly
    spread; 0: what was held arrives at once."""

    @property
    def until(self) -> int:
        """The time from which frames take as long as before the stall."""
        return self.since + self.held + self.drain

    def holds(self, way: tuple[str, str], at: int) -> bool:
        """Whether a frame that would arrive at `at` comes late."""
        return self.since <= at < self.until and (self.ways is None or way in self.ways)


class SimulatedNetwork:
    """A network between named ends, with its faults, and a time that passes only in `advance`. It
    does not know what the frames are: the sender schedules what happens at the arrival."""

    def __init__(self, ends: Collection[str], settings: SimulationSettings) -> None:
        """`ends`: the names at both ends of ways; it may grow."""
        self.settings = settings
        self.random = random.Random(settings.seed)
        self.now_ns = 0
        self._ends = ends
        self._queue: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = 0
        self._groups: list[set[str]] = []
        self._deaf: set[tuple[str, str]] = set()
        self._stalls: list[Stall] = []
        self._arrived: dict[tuple[str, str], int] = {}

    # ---- time ----

    def advance(self, seconds: float) -> None:
        """Lets so much time pass, 0 or more, and everything that falls due in it."""
        if not seconds >= 0:
            raise CrdtbucketError(f"time does not go back: seconds is {seconds!r}")
        self.advance_to(self.now_ns + round(seconds * NS))

    def advance_to(self, until: int) -> None:
        """Lets time pass up to `until` ns since the start."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            at, _, act, args = heapq.heappop(queue)
            if at > self.now_ns:
                self.now_ns = at
            act(*args)
        self.now_ns = max(self.now_ns, until)

    def schedule(self, at: int, act: Callable[..., None], *args: object) -> None:
        """Schedules a call at `at` ns; of calls at the same time the first scheduled comes
        first."""
        self._count += 1
        heapq.heappush(self._queue, (at, self._count, act, args))

    # ---- faults ----

    def change_network(self, **changes: float) -> None:
        """Changes the network for frames that are sent from now on. `changes` are `latency`,
        `jitter`, `loss`, `duplication` and `reordering`, as in `SimulationSettings`."""
        self.settings = replace(self.settings, **changes)  # type: ignore[arg-type]

    def partition(self, *groups: Iterable[str]) -> None:
        """No frame passes between two of these groups; nodes that are in none see everybody.
        Connections stay as they are, and calls get no answer: it cannot be distinguished from
        silence."""
        sides = [set(group) for group in groups]
        check_names(self._ends, *(name for side in sides for name in side))
        self._groups = sides

    def drop_frames(self, *ways: tuple[str, str]) -> None:
        """Every frame from the first to the second node of each of these is lost, until `heal`."""
        check_names(self._ends, *(name for way in ways for name in way))
        self._deaf |= set(ways)

    def stall(self, seconds: float, drain: float = 0.0, *ways: tuple[str, str]) -> None:
        """Frames from the first to the second node of each of these, or all frames, are held for so
        long. Then they come in their order: at once, or within `drain` seconds, so that each is a
        little less late than the one before. None is lost."""
        check_names(self._ends, *(name for way in ways for name in way))
        now, stalled = self.now_ns, frozenset(ways) or None
        self._stalls = [stall for stall in self._stalls if stall.until > now]
        self._stalls.append(Stall(stalled, now, round(seconds * NS), round(drain * NS)))

    def heal(self) -> None:
        """Frames pass everywhere again. Stalls are not ended."""
        self._groups, self._deaf = [], set()

    # ---- frames ----

    def cut(self, first: str, second: str) -> bool:
        """Whether a partition lies between two nodes."""
        if not self._groups:
            return False
        sides = [group for group in self._groups if first in group or second in group]
        return len(sides) > 1

    def passes(self, source: str, target: str) -> bool:
        """Whether a frame that arrives now gets through."""
        return not self.cut(source, target) and (source, target) not in self._deaf

    def arrivals(self, way: tuple[str, str]) -> Iterator[int]:
        """The times (ns) at which a frame that is sent now arrives: none when it is lost, two when
        it is duplicated."""
        settings, draw = self.settings, self.random.random
        copies = 2 if settings.duplication and draw() < settings.duplication else 1
        for _ in range(copies):
            if settings.loss and draw() < settings.loss:
                continue
            at = self._arrival(way)
            if not settings.reordering or draw() >= settings.reordering:
                at = self._arrived[way] = max(at, self._arrived.get(way, 0))
            yield at

    def _arrival(self, way: tuple[str, str]) -> int:
        latency, jitter = self.settings.latency, self.settings.jitter
        at = self.now_ns + round(latency * (1 - jitter + 2 * jitter * self.random.random()) * NS)
        return self.late(way, at)

    def late(self, way: tuple[str, str], at: int) -> int:
        """When a frame that is sent now arrives, if it would arrive at `at` without any stall."""
        for stall in self._stalls:
            if stall.holds(way, at):
                passed = (at - stall.since) * stall.drain // (stall.held + stall.drain)
                at = stall.since + stall.held + passed
        return at


def check_names(known: Collection[str], *names: str) -> None:
    """Raises `CrdtbucketError` for a name that is not known."""
    for name in names:
        if name not in known:
            raise CrdtbucketError(f"no node {name!r}; there are: {', '.join(known)}")
