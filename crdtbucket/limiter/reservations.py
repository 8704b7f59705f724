"""Tokens set aside for work whose true cost is known only when it is done."""

from __future__ import annotations

import enum
import functools
import heapq
import logging
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from crdtbucket._core import MAX_SETTLE, Decision
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import duration_ns
from crdtbucket.errors import InvalidCost, InvalidSpec, ReservationDenied, ReservationError

if TYPE_CHECKING:
    from crdtbucket.limiter.bucket import Bucket

LOG = logging.getLogger("crdtbucket")
# Late commits come in bursts, when whatever served the calls was slow: one line says it.
REPEAT_NS = 60 * NS_PER_SECOND
# Committed reservations stay in the heap until their time; beyond this many they are swept out.
SWEEP_FROM = 1_024


class ReservationState(enum.Enum):
    """Where a reservation stands."""

    NEW = "not entered"
    HELD = "its estimate is taken"
    RETURNED = "left, or past its time, without a commit: the estimate was given back"
    COMMITTED = "its true cost is charged"


NEW, HELD = ReservationState.NEW, ReservationState.HELD
RETURNED, COMMITTED = ReservationState.RETURNED, ReservationState.COMMITTED


class Reservation:
    """An estimate that is taken while a `with` (or `async with`) block runs.

    Entering takes the estimate, or raises `ReservationDenied`. `commit` replaces the estimate by
    the true cost. Leaving without it, by an exception too, gives the estimate back; so does the
    end of `ttl`. Safe to use from several threads.
    """

    __slots__ = ("_book", "actual", "deadline_ns", "decision", "estimate", "key", "state", "ttl_ns")

    def __init__(self, book: Reservations, key: str | bytes, estimate: int, ttl_ns: int) -> None:
        """Made by `Bucket.reserve`; nothing is taken yet."""
        self._book = book
        self.key = key
        self.estimate = estimate
        self.ttl_ns = ttl_ns
        self.deadline_ns = 0
        """Local time at which the estimate goes back, once entered (ns)."""
        self.state = NEW
        self.decision: Decision | None = None
        """The decision on the estimate, once entered."""
        self.actual: int | None = None
        """The cost that was committed, in tokens."""

    def __enter__(self) -> Reservation:
        self._begin()
        self._book.hold(self, self._book.bucket.take(self.key, self.estimate))
        return self

    async def __aenter__(self) -> Reservation:
        self._begin()
        self._book.hold(self, await self._book.bucket.acquire(self.key, self.estimate))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._book.leave(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._book.leave(self)

    def commit(self, actual: int) -> None:
        """Charge `actual` tokens (0 to 2^62) instead of the estimate; the bucket may go into debt.

        The same number again changes nothing, another raises `ReservationError`. After the ttl or
        the block the estimate is back already: then `actual` is charged in full, counted as a
        late commit and logged, so that no use is lost.
        """
        self._book.commit(self, checked_actual(actual))

    def _begin(self) -> None:
        if self.state is not NEW or self.decision is not None:
            raise ReservationError("a reservation is entered once: make another with reserve()")

    def __repr__(self) -> str:
        return (
            f"Reservation(key={self.key!r}, estimate={self.estimate}, state={self.state.name}, "
            f"actual={self.actual})"
        )


def ttl_ns(ttl: float) -> int:
    """The time after which an estimate goes back. Raises `InvalidSpec`."""
    # What cannot be hashed is no time either, and must reach the check that says so.
    return _ttl_ns(ttl) if isinstance(ttl, (int, float)) else _ttl_ns.__wrapped__(ttl)


@functools.lru_cache(typed=True)
def _ttl_ns(ttl: float) -> int:
    ns = duration_ns(ttl, "ttl")
    if ns == 0:
        raise InvalidSpec("ttl is 0", "give the seconds after which the work is lost", "ttl")
    return ns


def checked_actual(actual: int) -> int:
    """A true cost, when it is one. Raises `InvalidCost`."""
    if type(actual) is int and 0 <= actual <= MAX_SETTLE:
        return actual
    if isinstance(actual, bool) or not hasattr(actual, "__index__"):
        raise InvalidCost(f"actual must be a whole number of tokens (int), not {actual!r}")
    tokens = actual.__index__()
    if not 0 <= tokens <= MAX_SETTLE:
        raise InvalidCost(f"actual must be 0 to 2^62 tokens, not {tokens}")
    return tokens


class Reservations:
    """All reservations of one bucket, and their ends.

    No timer runs: time-outs are looked at whenever a reservation of the bucket is used, and by
    whoever calls `expire` regularly.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.held = 0
        self.reserved = 0
        """Tokens of the reservations that are held."""
        self.expired = 0
        self.late_commits = 0
        self._due: list[tuple[int, int, Reservation]] = []
        self._serial = 0
        self._quiet_until_ns = 0
        self._unsaid = 0
        # Held over changes of state and the calls into the core that belong to them.
        self._lock = threading.Lock()

    def reserve(self, key: str | bytes, estimate: int, ttl: float) -> Reservation:
        """A reservation that is not entered yet."""
        return Reservation(self, key, estimate, ttl_ns(ttl))

    def enter(self, decision: Decision, ttl: float) -> Reservation:
        """A reservation of an estimate that was taken already."""
        one = self.reserve(decision.key, decision.cost, ttl)
        self.hold(one, decision)
        return one

    def hold(self, one: Reservation, decision: Decision) -> None:
        """Enter a reservation whose estimate was decided on."""
        one.decision = decision
        if not decision.allowed:
            raise ReservationDenied(
                f"{one.estimate} tokens cannot be set aside now; "
                f"retry after {decision.retry_after:.3f} s",
                decision,
            )
        with self._lock:
            now = self.bucket.table.now()
            if self._due and self._due[0][0] <= now:
                self._expire(now)
            one.state = HELD
            one.deadline_ns = now + one.ttl_ns
            self._serial += 1
            heapq.heappush(self._due, (one.deadline_ns, self._serial, one))
            self.held += 1
            self.reserved += one.estimate

    def leave(self, one: Reservation) -> None:
        """The block ends: an estimate that was not committed goes back."""
        if one.state is COMMITTED and len(self._due) <= SWEEP_FROM:
            return
        with self._lock:
            self._expire(self.bucket.table.now())
            if one.state is HELD:
                self._give_back(one)
            self._tidy()

    def commit(self, one: Reservation, actual: int) -> None:
        """Charge the true cost."""
        with self._lock:
            now = self.bucket.table.now()
            if self._due and self._due[0][0] <= now:
                self._expire(now)
            if one.state is NEW:
                raise ReservationError("commit before the reservation was entered or granted")
            if one.state is COMMITTED:
                if one.actual != actual:
                    raise ReservationError(
                        f"committed with {one.actual} tokens already, not with {actual}"
                    )
                return
            late = one.state is RETURNED
            self._charge(one, actual, 0 if late else one.estimate)
            one.state, one.actual = COMMITTED, actual
            if late:
                self._count_late(one, actual, now)
            else:
                self._count(one, -1)

    def expire(self) -> int | None:
        """Give back what is past its time. Returns when the next is due (ns), None when none."""
        with self._lock:
            self._expire(self.bucket.table.now())
            self._tidy()
            return self._due[0][0] if self._due else None

    def _expire(self, now: int) -> None:
        while self._due and self._due[0][0] <= now:
            one = heapq.heappop(self._due)[2]
            if one.state is HELD:
                self.expired += 1
                self._give_back(one)

    def _count(self, one: Reservation, by: int) -> None:
        self.held += by
        self.reserved += by * one.estimate

    def _give_back(self, one: Reservation) -> None:
        one.state = RETURNED
        self._count(one, -1)
        if one.decision is not None:
            self.bucket.refund(one.decision)

    def _charge(self, one: Reservation, actual: int, taken: int) -> None:
        if one.decision is not None and one.decision.shadowed:
            return  # the limit would have turned the work away
        if actual > taken:
            self.bucket.settle(one.key, actual - taken)
        elif actual < taken and one.decision is not None:
            self.bucket.refund(one.decision, taken - actual)

    def _tidy(self) -> None:
        # Costs as much as the commits since the last time, so nothing on average.
        if len(self._due) > SWEEP_FROM and len(self._due) > 2 * self.held:
            self._due = [item for item in self._due if item[2].state is HELD]
            heapq.heapify(self._due)

    def _count_late(self, one: Reservation, actual: int, now: int) -> None:
        self.late_commits += 1
        self._unsaid += 1
        if now < self._quiet_until_ns:
            return
        LOG.warning(
            "bucket %s: %d reservation(s) committed after their estimate had gone back (ttl %g s); "
            "charged in full, the last one %d tokens. A longer ttl avoids it",
            self.bucket.spec.name,
            self._unsaid,
            one.ttl_ns / NS_PER_SECOND,
            actual,
        )
        self._quiet_until_ns = now + REPEAT_NS
        self._unsaid = 0


__all__ = ["Reservation", "Reservations", "ReservationState", "checked_actual"]
