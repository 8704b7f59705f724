"""Takes from several buckets that hold together: all of them, or none."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from operator import index
from types import TracebackType
from typing import SupportsIndex

from crdtbucket._core import Decision, take_all
from crdtbucket.errors import (
    AcquireRequired,
    InvalidCost,
    InvalidKey,
    ReservationDenied,
    ReservationError,
)
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.reservations import Reservation, checked_actual, ttl_ns

Wanted = tuple[str, "str | bytes"] | tuple[str, "str | bytes", SupportsIndex]
"""The name of a bucket, a key, and a cost (1 if left out). A name without a bucket of its own
stands for the buckets `name:1`, `name:2` and so on, as `BucketSpec.parse_all` makes them."""

Asked = tuple[Bucket, "str | bytes", SupportsIndex]


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

    What decides in this process is taken last and at one moment, so no such token is held while a
    common store is asked; it is looked at first, so that the store is not asked in vain. Whatever
    was taken goes back when another part is denied, fails, or the caller is cancelled.
    """

    def __init__(self, find: Callable[[str], Sequence[Bucket]]) -> None:
        """`find`: the buckets with a name, one or more."""
        self.find = find

    def take(self, wanted: Iterable[Wanted]) -> AllDecision:
        """All or nothing, without I/O; `Limiter.take_all` says the rest."""
        asked = self._asked(wanted)
        for one in asked:
            if not one[0].immediate:
                self._parts(asked)  # wrong arguments raise first
                name = one[0].spec.name
                raise AcquireRequired(name, "take_all", "limiter.acquire_all([...])")
        return AllDecision(take_all(asked))

    def refund(self, answer: AllDecision) -> int:
        """Gives back all that is left of an allowed answer; returns the tokens that came back."""
        if not answer:
            raise InvalidCost("a denied decision took nothing that could be refunded")
        each = dict.fromkeys(answer.decisions)
        return sum(decision.bucket.refund(decision) for decision in each)

    async def acquire(self, wanted: Iterable[Wanted]) -> AllDecision:
        """All or nothing, in whatever modes the buckets are."""
        asked = self._asked(wanted)
        if all(bucket.immediate for bucket, _, _ in asked):
            return AllDecision(take_all(asked))
        parts = self._parts(asked)
        here = [part for part in parts if part.bucket.immediate]
        there = [part for part in parts if not part.bucket.immediate]
        early = not all(part.decision for part in here)
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
            if not early and not _take(here):
                _deny(held)
        except BaseException:
            _give_back(held)
            raise
        return _answer(parts)

    def _asked(self, wanted: Iterable[Wanted]) -> list[Asked]:
        """The bucket that decides, the key and the cost of each item. Raises `InvalidKey`."""
        asked: list[Asked] = []
        find = self.find
        for item in wanted:
            if not isinstance(item, (tuple, list)) or not 2 <= len(item) <= 3:
                raise InvalidKey(f"{item!r} is no (bucket, key) and no (bucket, key, cost)")
            key, cost = item[1], item[2] if len(item) == 3 else 1
            for bucket in find(item[0]):
                asked.append((bucket.of(key), key, cost))  # noqa: PERF401 - most have one
        if not asked:
            raise InvalidKey("nothing is asked for: pass one (bucket, key, cost) or more")
        return asked

    def _parts(self, asked: Sequence[Asked]) -> Parts:
        """What is asked for, a part for each key. Everything is checked; nothing is taken."""
        parts = Parts()
        for bucket, key, cost in asked:
            parts.add(bucket, key, cost, bucket.peek(key, cost))
        return parts


class AllReservation:
    """Estimates of several buckets that are set aside together; made by `Limiter.reserve_all`.

    Entering takes all of them, or raises `ReservationDenied` with the decision that binds. Leaving
    gives back each one that was not committed.
    """

    def __init__(self, multi: Multi, wanted: Iterable[Wanted], ttl: float) -> None:
        """Nothing is taken yet."""
        ttl_ns(ttl)
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
        if len(self.reservations) == len(self._wanted):
            self._groups = [(one,) for one in self.reservations]
            return
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
    if parts:
        decisions = take_all([(part.bucket, part.key, part.cost) for part in parts])
        for part, decision in zip(parts, decisions, strict=True):
            part.decision = decision
    return all(part.decision for part in parts)


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
