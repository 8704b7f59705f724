"""Callers that wait for tokens: one line for each key, first come, first served.

Lines belong to an event loop: callers of one loop are served in their order, loops of different
threads compete. `take` and `acquire` do not stand in line; they get the tokens that are there when
they ask.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Protocol, cast

from crdtbucket._core import Decision
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import patience_ns
from crdtbucket.base.forks import ForkLock
from crdtbucket.errors import CrdtbucketError, WaitTimeout
from crdtbucket.spec.bucket_spec import BucketSpec

MAX_WAITERS = 10_000
"""Callers in one line; a further one gets `WaitTimeout` at once."""

LOOK_AGAIN_NS = NS_PER_SECOND
"""A line looks again at least this often, since peers may have given tokens back, and a function
may return another limit."""

Hash = tuple[int, int]


class Waited(Protocol):
    """The source of tokens that callers wait for: a bucket, or a search for one of its slots."""

    def take(self, key: str | bytes, cost: int = ..., /) -> Decision: ...

    def peek(self, key: str | bytes, cost: int = ..., /) -> Decision: ...

    def refund(self, decision: Decision, /) -> int: ...

    def hash(self, key: str | bytes, /) -> Hash: ...

    def spec_of(self, key: str | bytes, /) -> BucketSpec: ...


class WaitingLine(Protocol):
    """The callers of one event loop that wait for tokens of one key, the earliest first."""

    loop: asyncio.AbstractEventLoop
    hash: Hash

    def kick(self) -> None:
        """Look again soon; from any thread."""

    def __len__(self) -> int: ...


class Lines(ABC):
    """All lines of one bucket: each of one key and one event loop."""

    def __init__(self, bucket: Waited) -> None:
        self._bucket = bucket
        self.lines: dict[Hash, tuple[WaitingLine, ...]] = {}
        """By the hash of their key; empty while nobody waits."""
        # For changes of `lines`, from the loops of several threads. A forked child has none: the
        # loops of its parent do not run there.
        self._lock = ForkLock(forget=self.lines.clear)
        self.limits_change = False

    def __len__(self) -> int:
        """Callers that wait now, on loops that still run."""
        found = (line for lines in list(self.lines.values()) for line in lines)
        return sum(len(line) for line in found if not line.loop.is_closed())

    def expect_changes(self, expected: bool) -> None:
        """Says whether a function returns the limits of keys, so that lines have to look again
        regularly."""
        self.limits_change = expected

    @abstractmethod
    async def wait(self, key: str | bytes, cost: int, timeout: float | None) -> Decision:
        """Waits until it is this caller's turn and the tokens are there. Returns the allowed
        decision; see `Bucket.wait`."""

    def kick(self, key: str | bytes) -> None:
        """Tokens of `key` came back: its lines look again at once. Safe from any thread."""
        for line in self.lines.get(self._bucket.hash(key), ()):
            line.kick()

    def kick_all(self) -> None:
        """Every line looks again, such as after a change of all of them. Safe from any thread."""
        for lines in list(self.lines.values()):
            for line in lines:
                line.kick()

    def open(self, line: WaitingLine) -> None:
        """Adds a line that its first caller joins. Those of loops that were closed, with callers
        that nobody cancelled, are forgotten: nothing else ends them."""
        with self._lock:
            known = self.lines.get(line.hash, ())
            self.lines[line.hash] = (*(one for one in known if not one.loop.is_closed()), line)

    def close(self, line: WaitingLine) -> None:
        """Forgets a line in which nobody waits."""
        with self._lock:
            left = tuple(one for one in self.lines.get(line.hash, ()) if one is not line)
            if left:
                self.lines[line.hash] = left
            else:
                self.lines.pop(line.hash, None)

    def find(self, key: str | bytes, loop: asyncio.AbstractEventLoop) -> WaitingLine | None:
        """The line of a key on an event loop."""
        lines = self.lines.get(self._bucket.hash(key), ())
        return next((line for line in lines if line.loop is loop), None)


class Waiters(Lines):
    """The callers that wait for a bucket which decides in this process."""

    def __init__(
        self,
        bucket: Waited,
        *,
        update_interval_ns: int | None = None,
        line: type[LocalLine] | None = None,
    ) -> None:
        """`update_interval_ns`: how often updates of other nodes come; None when there are none.
        `line`: the class of the lines, if not `LocalLine`.

        An update changes levels without a notice; a refund in this process calls `kick`.
        """
        super().__init__(bucket)
        self.update_interval_ns = update_interval_ns
        self._line = line or LocalLine

    async def wait(self, key: str | bytes, cost: int, timeout: float | None) -> Decision:
        """Waits until it is this caller's turn and the tokens are there. Returns the allowed
        decision."""
        timeout_ns = patience_ns(timeout)
        found = self.find(key, asyncio.get_running_loop()) if self.lines else None
        if found is None:
            decision = self._bucket.take(key, cost)
            if decision.allowed:
                return decision
            line = self._line(self, self._bucket, key, decision, asyncio.get_running_loop())
        else:
            decision, line = self._bucket.peek(key, cost), cast("LocalLine", found)
        # Nothing was awaited since the look-up, so no other caller of this loop came between.
        line.check(decision, timeout_ns, MAX_WAITERS)
        return await line.join(decision.cost, timeout_ns)


class LocalLine:
    """The callers of one event loop that wait for tokens of one key, the earliest first.

    Only the first caller's cost is tried, so a later caller never passes an earlier one. One timer
    is set to the moment when the first could pass. Everything except `kick` runs on the line's own
    loop.
    """

    def __init__(
        self,
        lines: Waiters,
        bucket: Waited,
        key: str | bytes,
        denial: Decision,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`denial` is why its first caller has to wait."""
        self.loop = loop
        self.hash = bucket.hash(key)
        self._lines = lines
        self._bucket = bucket
        self._key = key
        self._denial = denial
        self._costs: OrderedDict[asyncio.Future[Decision], int] = OrderedDict()
        self._total = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._costs)

    def check(self, decision: Decision, timeout_ns: int | None, most: int) -> None:
        """Raise `WaitTimeout` when a caller with this decision would wait in vain."""
        if len(self._costs) >= most:
            raise WaitTimeout(f"{most} callers already wait for tokens of this key", self._denial)
        if timeout_ns is None:
            return
        wait_ns = self.refill_ns(decision, self._total + decision.cost)
        if timeout_ns == 0 or wait_ns > timeout_ns:
            raise WaitTimeout(
                f"a cost of {decision.cost} takes {max(wait_ns, 0) / NS_PER_SECOND:.3f} s or more, "
                f"the caller waits {timeout_ns / NS_PER_SECOND:g} s",
                self._denial if decision.allowed else decision,
            )

    async def join(self, cost: int, timeout_ns: int | None) -> Decision:
        """Stands in line until served; a caller that gives up in any way frees its place."""
        turn: asyncio.Future[Decision] = self.loop.create_future()
        if not self._costs:
            self._lines.open(self)
            self._arm()
        self._costs[turn] = cost
        self._total += cost
        timer = None
        if timeout_ns is not None:
            seconds = timeout_ns / NS_PER_SECOND
            timer = self.loop.call_later(seconds, self._expire, turn, seconds)
        try:
            return await turn
        except BaseException:
            # Cancelled after its turn came, but before it could run: the tokens go back.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._bucket.refund(turn.result())
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self._leave(turn)

    def kick(self) -> None:
        """Look again soon; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, or another thread closes it
            self.loop.call_soon_threadsafe(self._serve)

    def _serve(self) -> None:
        """Serves, in order, all callers that can pass, and sets the timer for the next. Callers
        whose loop is closed take nothing, in whatever order they are garbage-collected."""
        while self._costs and not self.loop.is_closed():
            turn, cost = next(iter(self._costs.items()))
            if not turn.done():
                try:
                    # A peek first: a wake-up that comes too early is no new demand.
                    decision = self._bucket.peek(self._key, cost)
                    if decision.allowed:
                        decision = self._bucket.take(self._key, cost)
                except CrdtbucketError as error:
                    turn.set_exception(error)
                else:
                    if not decision.allowed:
                        self._denial = decision
                        self._arm()
                        return
                    turn.set_result(decision)
            self._remove(turn)

    def _arm(self) -> None:
        self._disarm()
        denial = self._denial
        wait_ns = denial.retry_after_ns
        update_interval_ns = self._lines.update_interval_ns
        if update_interval_ns is not None:
            # The tokens that are held back for others are a guess, which an update may correct.
            refill_ns = max(self.refill_ns(denial, denial.cost), update_interval_ns)
            wait_ns = min(wait_ns, refill_ns, LOOK_AGAIN_NS)
        elif self._lines.limits_change:
            wait_ns = min(wait_ns, LOOK_AGAIN_NS)
        self._timer = self.loop.call_later(wait_ns / NS_PER_SECOND, self._serve)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, turn: asyncio.Future[Decision], seconds: float) -> None:
        self._serve()  # tokens that are due this very moment are still in time
        if not turn.done():
            turn.set_exception(WaitTimeout(f"no tokens within {seconds:g} s", self._denial))

    def _leave(self, turn: asyncio.Future[Decision]) -> None:
        if turn in self._costs:
            first = next(iter(self._costs)) is turn
            self._remove(turn)
            if first:
                self._serve()

    def _remove(self, turn: asyncio.Future[Decision]) -> None:
        self._total -= self._costs.pop(turn)
        if not self._costs:
            self._disarm()
            self._lines.close(self)

    def refill_ns(self, decision: Decision, tokens: int) -> int:
        """How long (ns) the refill takes from the level of a decision to `tokens`, ignoring the
        tokens that are held back for other nodes."""
        q, p = self._bucket.spec_of(self._key).emission
        return decision.debt + -((decision.limit - tokens) * q // p)
