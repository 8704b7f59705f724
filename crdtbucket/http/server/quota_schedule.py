"""Schedules the groups of Envoys: each is handled by itself, so that a store that is slow for one
key delays no other."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from itertools import count

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.deadline import within
from crdtbucket.base.repeated_lines import RepeatedLines
from crdtbucket.errors import CrdtbucketError
from crdtbucket.http.server.quota_group import LONGEST_NS, SHORTEST_NS, QuotaGroup
from crdtbucket.http.server.quota_subscription import AT_ONCE, IDLE_NS

LOG = logging.getLogger("crdtbucket.http")


class QuotaSchedule:
    """Calls `assign` of each group when it is due. Times are ns of the server's clock."""

    def __init__(
        self, clock: Callable[[], int], assign: Callable[[QuotaGroup, int], Awaitable[int]]
    ) -> None:
        """`assign` gets a group and the time, and returns when it is to be called again."""
        self._clock = clock
        self._assign = assign
        self.assigning: set[asyncio.Future[None]] = set()
        """The assignments that were started and have not ended, one for each key at most."""
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(AT_ONCE)
        )
        """Bounds the concurrent work per bucket, so that a store is not asked about all keys of a
        bucket at once."""
        self._lines = RepeatedLines(IDLE_NS)
        """The failures to assign, by bucket."""
        self._due: list[tuple[int, int, QuotaGroup]] = []
        self._order = count()
        self.sooner = asyncio.Event()
        """Set when something is due before what `start_due` returned last."""

    async def run(self, tick: Callable[[], int | None]) -> None:
        """Calls `tick` for ever: when its last call has asked for it, and when something is due
        sooner."""
        try:
            while True:
                self.sooner.clear()
                try:
                    due = tick()
                except Exception:
                    LOG.exception("a bug in what is assigned to Envoys")
                    due = self._clock() + LONGEST_NS
                await self._until(due)
        finally:
            for task in self.assigning:
                task.cancel()
            if self.assigning:
                await asyncio.wait(self.assigning)

    async def _until(self, due: int | None) -> None:
        wait = None if due is None else max(0, due - self._clock()) / NS_PER_SECOND
        with contextlib.suppress(asyncio.TimeoutError):
            await within(wait, self.sooner.wait())

    def put(self, group: QuotaGroup, at: int) -> None:
        """Looks at the group by then, but not sooner than `SHORTEST_NS` after the last look."""
        if not group.members:
            return
        at = max(at, group.begun + SHORTEST_NS)
        if group.due is None or at < group.due:
            group.due = at
            heapq.heappush(self._due, (at, next(self._order), group))
            self.sooner.set()

    def start_due(self, now: int) -> int | None:
        """Begins to look at groups that are due, some at a time. Returns when to call it again;
        None: when `sooner` is set."""
        started = 0
        while self._due and self._due[0][0] <= now and started < AT_ONCE:
            due, _, group = heapq.heappop(self._due)
            if group.due == due and not group.busy:  # else it is looked at again at the end
                started += 1
                group.due, group.busy = None, True
                task = asyncio.ensure_future(self._in_turn(group))
                self.assigning.add(task)
                task.add_done_callback(self.assigning.discard)
        return self._due[0][0] if self._due else None

    async def _in_turn(self, group: QuotaGroup) -> None:
        async with self._turns[group.place.bucket]:
            now = group.begun = self._clock()
            group.due = None
            try:
                at = await self._assign(group, now)
            except Exception as error:  # noqa: BLE001 - logged, and tried again
                at = self._clock() + LONGEST_NS
                self._failed(group.place.bucket, error, now)
        missed, group.due, group.busy = group.due, None, False
        self.put(group, at if missed is None else min(at, missed))

    def _failed(self, bucket: str, error: Exception, now: int) -> None:
        if (more := self._lines.add(bucket, now)) is not None:
            why = None if isinstance(error, CrdtbucketError) else error
            what = "nothing can be assigned of bucket %s now: %s%s"
            LOG.warning(what, bucket, error, more, exc_info=why)
