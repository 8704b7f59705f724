"""Takes from several buckets that hold together: all of them, or none."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from operator import index
from types import TracebackType
from typing import SupportsIndex

from crdtbucket._core import Decision
from crdtbucket.base.duration import duration_ns
from crdtbucket.errors import (
    AcquireRequired,
    InvalidCost,
    InvalidKey,
    InvalidSpec,
    ReservationDenied,
    ReservationError,
)
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.reservations import Reservation, checked_actual

Wanted = tuple[str, "str | bytes"] | tuple[str, "str | bytes", SupportsIndex]
"""The name of a bucket, a key, and a cost (1 if left out). A name without a bucket of its own
stands for the buckets `name:1`, `name:2` and so on, as `BucketSpec.parse_all` makes them."""


class AllDecision:
    """The answer of `take_all` and `acquire_all`: truthy when everything was taken."""

    __slots__ = ("decisions",)

    decisions: tuple[Decision, ...]
    """One of each bucket that was asked, in order; what names the same key shares one. When the
    whole is denied nothing was taken: then each says what it would get alone."""

    def __init__(self, decisions: tuple[Decision, ...]) -> None:
        """Made by `Limiter`; it is not changed afterwards."""
        self.decisions = decisions

    @property
    def binding(self) -> Decision:
        """The one to look at: denied, it takes longest; allowed, it has the least of its limit
        left. A shadow binds only where all are shadows."""
        denied = [decision for decision in self.decisions if not decision.allowed]
        if denied:
            return max(denied, key=lambda one: one.retry_after_ns)
        real = [one for one in self.decisions if not one.bucket.spec_of(one.key).shadow]
        return min(real or self.decisions, key=lambda one: one.remaining / one.limit)

    @property
    def allowed(self) -> bool:
        """Whether everything was taken."""
        return all(self.decisions)

    @property
    def retry_after(self) -> float:
        """Seconds until all could pass if nothing else happened, 0 when allowed."""
        return self.binding.retry_after

    def __bool__(self) -> bool:
        return all(self.decisions)

    def __repr__(self) -> str:
        return f"AllDecision(allowed={self.allowed}, binding={self.binding!r})"


class Part:
    """What one key is asked for in a call, however often it is named."""

    __slots__ = ("bucket", "cost", "decision", "key")

    def __init__(self, bucket: Bucket, key: str | bytes, cost: int, decision: Decision) -> None:
        self.bucket = bucket
        self.key = key
        self.cost = cost
        self.decision = decision
        """The last one; a peek where nothing was taken."""

    def order(self) -> tuple[bool, str, tuple[int, int]]:
        """Where it is asked for: what would be denied first, so that nothing else is taken for it;
        then in an order that all nodes share, so that two of them never hold what the other needs.
        """
        return self.decision.allowed, self.bucket.spec.key, self.bucket.hash(self.key)


class Multi:
    """Takes of several buckets of one limiter.

    What decides in this process is taken last, at once and under a lock, so no such token is held
    while a common store is asked; it is looked at first, so that the store is not asked in vain.
    Whatever was taken goes back when another part is denied, fails, or the caller is cancelled.
    """

    def __init__(self, find: Callable[[str], Sequence[Bucket]]) -> None:
        """`find`: the buckets with a name, one or more."""
        self.find = find
        # Else two callers could each hold what the other needs. A signal handler may come between.
        self._lock = threading.RLock()

    def take(self, wanted: Iterable[Wanted]) -> AllDecision:
        """All or nothing, without I/O; `Limiter.take_all` says the rest."""
        items = tuple(wanted)
        with self._lock:
            plain = self._take_plain(items)
            if plain is not None:
                return plain
            parts = self._parts(items)
            for part in parts:
                if not part.bucket.immediate:
                    name = part.bucket.spec.name
                    raise AcquireRequired(name, "take_all", "limiter.acquire_all([...])")
            _take(parts)
        return _answer(parts)

    def refund(self, answer: AllDecision) -> int:
        """Gives back all that is left of an allowed answer; returns the tokens that came back."""
        if not answer:
            raise InvalidCost("a denied decision took nothing that could be refunded")
        each = dict.fromkeys(answer.decisions)
        return sum(decision.bucket.refund(decision) for decision in each)

    async def acquire(self, wanted: Iterable[Wanted]) -> AllDecision:
        """All or nothing, in whatever modes the buckets are."""
        items = tuple(wanted)
        with self._lock:
            parts = self._parts(items)
            here = [part for part in parts if part.bucket.immediate]
            there = [part for part in parts if not part.bucket.immediate]
            early = not there or not all(part.decision for part in here)
            if early and not _take(here):
                return _answer(parts)
        held = list(here) if early else []
        try:
            for part in sorted(there, key=Part.order):
                part.decision = await part.bucket.acquire(part.key, part.cost)
                if not part.decision:
                    _deny(held)
                    return _answer(parts)
                held.append(part)
            with self._lock:
                if not early and not _take(here):
                    _deny(held)
        except BaseException:
            _give_back(held)
            raise
        return _answer(parts)

    def _take_plain(self, items: Sequence[Wanted]) -> AllDecision | None:
        """The common case: a bucket of this process for each item, all of them different, and
        tokens for all. None for every other case, with nothing taken."""
        calls: dict[Bucket, tuple[str | bytes, SupportsIndex]] = {}
        for item in items:
            if type(item) is not tuple or not 2 <= len(item) <= 3:
                return None
            buckets, key = self.find(item[0]), item[1]
            cost = item[2] if len(item) == 3 else 1
            for named in buckets:
                bucket = named.of(key)
                if bucket in calls or not bucket.immediate or not bucket.peek(key, cost):
                    return None
                calls[bucket] = key, cost
        taken: list[Decision] = []
        try:
            for bucket, (key, cost) in calls.items():
                decision = bucket.take(key, cost)
                if not decision:  # another thread was faster
                    break
                taken.append(decision)
            if taken and len(taken) == len(calls):
                return AllDecision(tuple(taken))
        except BaseException:
            _refund(taken)
            raise
        _refund(taken)
        return None

    def _parts(self, items: Sequence[Wanted]) -> Parts:
        """What is asked for, a part for each key. Everything is checked; nothing is taken."""
        parts = Parts()
        for item in items:
            if not isinstance(item, (tuple, list)) or not 2 <= len(item) <= 3:
                raise InvalidKey(f"{item!r} is no (bucket, key) and no (bucket, key, cost)")
            name, key, cost = item if len(item) == 3 else (*item, 1)
            for named in self.find(name):
                bucket = named.of(key)
                parts.add(bucket, key, cost, bucket.peek(key, cost))
        if not parts:
            raise InvalidKey("nothing is asked for: pass one (bucket, key, cost) or more")
        return parts


class AllReservation:
    """Estimates of several buckets that are set aside together; made by `Limiter.reserve_all`.

    Entering takes all of them, or raises `ReservationDenied` with the decision that binds. Leaving
    gives back each one that was not committed.
    """

    def __init__(self, multi: Multi, wanted: Iterable[Wanted], ttl: float) -> None:
        """Nothing is taken yet."""
        if duration_ns(ttl, "ttl") == 0:
            raise InvalidSpec("ttl is 0", "give the seconds after which the work is lost", "ttl")
        self._multi = multi
        self._wanted = tuple(wanted)
        self._ttl = ttl
        self._entered = False
        self._groups: list[tuple[Reservation, ...]] = []
        self.reservations: tuple[Reservation, ...] = ()
        """One of each that was asked for, in order, once entered; what names the same key shares
        one."""

    def __enter__(self) -> AllReservation:
        self._begin()
        self._hold(self._multi.take(self._wanted))
        return self

    async def __aenter__(self) -> AllReservation:
        self._begin()
        self._hold(await self._multi.acquire(self._wanted))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one in self.reservations:
            one.__exit__(kind, error, trace)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

    def commit(self, *actual: int) -> None:
        """Charge the true costs, one of each that was asked for, as `Reservation.commit` does.

        Raises `InvalidCost` when they are more or fewer, before anything is charged.
        """
        if not self.reservations:
            raise ReservationError("commit before the reservation was entered or granted")
        if len(actual) != len(self._groups):
            raise InvalidCost(f"{len(actual)} costs for {len(self._groups)} reservations")
        costs: dict[Reservation, int] = {}
        for group, tokens in zip(self._groups, actual, strict=True):
            for one in group:
                costs[one] = costs.get(one, 0) + checked_actual(tokens)
        for one, tokens in costs.items():
            one.commit(tokens)

    def _begin(self) -> None:
        if self._entered:
            raise ReservationError("a reservation is entered once: make another one")
        self._entered = True

    def _hold(self, answer: AllDecision) -> None:
        if not answer:
            raise ReservationDenied(
                f"{answer.binding.cost} tokens of {answer.binding.bucket.spec.name!r} cannot be "
                f"set aside now; retry after {answer.retry_after:.3f} s",
                answer.binding,
            )
        made: dict[Decision, Reservation] = {}
        for decision in dict.fromkeys(answer.decisions):
            bucket = decision.bucket
            assert isinstance(bucket, Bucket)
            made[decision] = bucket.reservations.enter(decision, self._ttl)
        self.reservations = tuple(made[decision] for decision in answer.decisions)
        left = iter(self.reservations)
        for item in self._wanted:  # a name may stand for several buckets
            self._groups.append(tuple(itertools.islice(left, len(self._multi.find(item[0])))))


class Parts(list[Part]):
    """The parts of a call, and which of them each item of it became."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[Part] = []
        self._known: dict[tuple[int, tuple[int, int]], Part] = {}

    def add(
        self, bucket: Bucket, key: str | bytes, cost: SupportsIndex, decision: Decision
    ) -> None:
        """One more item, with its decision if nothing else were asked for."""
        place = bucket.name_hash, bucket.hash(key)
        part = self._known.get(place)
        if part is None:
            part = self._known[place] = Part(bucket, key, index(cost), decision)
            self.append(part)
        else:
            part.cost += index(cost)
            part.decision = bucket.peek(key, part.cost)
        self.items.append(part)


def _take(parts: Sequence[Part]) -> bool:
    """Takes all or nothing, without I/O."""
    taken: list[Part] = []
    try:
        # A denial is a take as well, for it is demand that other nodes are to hear of.
        for part in sorted(parts, key=lambda part: -part.decision.retry_after_ns):
            part.decision = part.bucket.take(part.key, part.cost)
            if not part.decision:
                _deny(taken)
                return False
            taken.append(part)
    except BaseException:
        _give_back(taken)
        raise
    return True


def _refund(taken: Sequence[Decision]) -> None:
    for decision in taken:
        decision.bucket.refund(decision)


def _give_back(held: list[Part]) -> None:
    while held:
        part = held.pop()
        part.bucket.refund(part.decision)


def _deny(held: list[Part]) -> None:
    """Gives back what another part's denial leaves without use."""
    parts = tuple(held)
    _give_back(held)
    for part in parts:
        part.decision = part.bucket.peek(part.key, part.cost)


def _answer(parts: Parts) -> AllDecision:
    return AllDecision(tuple(part.decision for part in parts.items))


__all__ = ["AllDecision", "AllReservation", "Multi", "Wanted"]
