"""Takes from several buckets at once: from all of them, or from none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from operator import index
from typing import TYPE_CHECKING, Any, SupportsIndex

from crdtbucket._core import AllDecision, AllReservation, Decision, MultiCore, take_all
from crdtbucket.errors import AcquireRequired, InvalidCost, InvalidSpec, UnknownBucket
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.spec.priority import Floor

if TYPE_CHECKING:
    from crdtbucket.rollout.in_force import InForce

Wanted = (
    tuple[str, "str | bytes"]
    | tuple[str, "str | bytes", SupportsIndex]
    | tuple[str, "str | bytes", SupportsIndex, Floor]
)
"""The name of a bucket, a key, a cost (1 if left out), and a floor (none if left out). A name
without a bucket of its own stands for the buckets `name:1`, `name:2` and so on, as
`BucketSpec.parse_all` makes them."""

Asked = (
    tuple[Bucket, "str | bytes", SupportsIndex] | tuple[Bucket, "str | bytes", SupportsIndex, Floor]
)


@dataclass(slots=True, eq=False)
class Part:
    """All that one call asks for one key, however often it names the key."""

    bucket: Bucket
    key: str | bytes
    cost: int
    decision: Decision
    """The last decision on this part; a peek if nothing was taken."""

    def order(self) -> tuple[bool, str, tuple[int, int]]:
        """The sort key of the part: parts that would be denied come first, so that nothing is taken
        in vain; the rest is in an order that all nodes share, so that two nodes never each hold
        what the other one needs.
        """
        return self.decision.allowed, self.bucket.spec.key, self.bucket.hash(self.key)


class Multi(MultiCore):
    """Takes of several buckets of one limiter.

    Buckets that decide in this process are taken from last and at one moment, so none of their
    tokens is held while the common store is asked. They are peeked at first, so that the store is
    not asked in vain. Whatever was taken goes back when another part is denied, fails, or the
    caller is cancelled.

    `bucket` and `take_all` are the compiled core's own methods.
    """

    in_force: InForce
    """The buckets by their names. Other modules of the package read it, too; users do not."""

    if TYPE_CHECKING:

        def bucket(self, name: str) -> Bucket:
            """The core's: the bucket with this name. Raises `UnknownBucket`."""
            raise NotImplementedError

    else:  # hidden from type checkers, which would accept any attribute

        def __getattr__(self, name: str) -> Any:
            """Says where a method of a bucket is."""
            if name.startswith("_") or not hasattr(Bucket, name):
                raise AttributeError(f"a limiter has no attribute {name!r}", name=name, obj=self)
            raise AttributeError(
                f"a limiter has no {name!r}, its buckets have: limiter.bucket(name).{name}(...); "
                f"there are: {', '.join(self.in_force.buckets)}",
                name=name,
                obj=self,
            )

    async def acquire_all(self, wanted: Iterable[Wanted]) -> AllDecision:
        """A `take_all` that works in every mode of the buckets; never waits for tokens.

        Strong buckets are asked one after the other. What was taken goes back when another one
        denies, raises, or the caller is cancelled. Without strong ones nothing is awaited.
        """
        return await self._acquire(self._asked(wanted)[0])

    def take_first(self, wanted: Iterable[Wanted]) -> Decision:
        """Takes from the first bucket that admits, such as a plan, and then credits.

        `wanted` is as for `take_all`, but each item must name a single bucket. When none admits,
        returns the denial with the earliest retry. All arguments are checked before anything is
        taken. Raises as `take_all`.
        """
        denials = []
        asked = self._each(wanted)
        for bucket, *_ in asked:
            if not bucket.immediate:
                instead = "await limiter.acquire_first([...])"
                raise AcquireRequired(bucket.spec.name, "take_first", instead)
        for one in asked:
            if decision := one[0].take(*one[1:]):
                return decision
            denials.append(decision)
        return min(denials, key=lambda one: one.retry_after_ns)

    async def acquire_first(self, wanted: Iterable[Wanted]) -> Decision:
        """A `take_first` that works in every mode of the buckets: they are asked one after the
        other."""
        denials = []
        for one in self._each(wanted):
            if decision := await one[0].acquire(*one[1:]):
                return decision
            denials.append(decision)
        return min(denials, key=lambda one: one.retry_after_ns)

    def refund_all(self, answer: AllDecision) -> int:
        """Gives back all that is left of an allowed answer; returns the tokens that came back.

        Raises `InvalidCost` for a denied one.
        """
        if not isinstance(answer, AllDecision):
            raise InvalidCost(f"answer is {answer!r}: pass what take_all or acquire_all returned")
        if not answer:
            raise InvalidCost("a denied decision took nothing that could be refunded")
        each = dict.fromkeys(answer.decisions)
        return sum(decision.bucket.refund(decision) for decision in each)

    def reserve_all(
        self, wanted: Iterable[Wanted], ttl: str | float | timedelta = 60.0
    ) -> AllReservation:
        """Reserves estimates in several buckets together while a `with` block learns the costs. Use
        `async with` if one of the buckets is strong. `ttl` as in `Bucket.reserve`.
        """
        return AllReservation(self, self._acquire, wanted, ttl)

    def _each(self, wanted: Iterable[Wanted]) -> list[Asked]:
        """The parts that are asked in turn, with one bucket for each item; all arguments are
        checked."""
        items = list(wanted) if isinstance(wanted, Iterable) else wanted
        parts, sizes = self._asked(items)
        if len(parts) > len(items):
            name = items[next(place for place, size in enumerate(sizes) if size > 1)][0]
            raise UnknownBucket(name, (one.spec.name for one in self.in_force.group(name)))
        for one in parts[1:]:  # the first is checked when it is taken
            one[0].peek(*one[1:])
        return parts

    async def _acquire(self, wanted: list[Asked]) -> AllDecision:
        if all(one[0].immediate for one in wanted):
            return take_all(wanted)
        if any(len(one) > 3 and one[3] != 0 for one in wanted):
            raise InvalidCost("a floor beside a strong bucket, which has none: leave it out")
        items = _parts_of(wanted)
        parts = list(dict.fromkeys(items))
        here = [part for part in parts if part.bucket.immediate]
        there = [part for part in parts if not part.bucket.immediate]
        # Parts that this node would deny are taken first: usually they are denied indeed, and the
        # store is not asked at all. Parts that it would admit are taken last.
        early = not all(part.decision for part in here)
        if early and not _take(here):
            return _answer(items)
        held = list(here) if early else []
        try:
            for part in sorted(there, key=Part.order):
                part.decision = await part.bucket.acquire(part.key, part.cost)
                if not part.decision:
                    _deny(held)
                    return _answer(items)
                held.append(part)
            if not early and not _take(here):
                _deny(held)
        except BaseException:
            _give_back(held)
            raise
        return _answer(items)


def _parts_of(wanted: Sequence[Asked]) -> list[Part]:
    """The part for each item; items with the same key share one part. Everything is checked;
    nothing is taken."""
    parts: dict[tuple[int, tuple[int, int]], Part] = {}
    items = []
    for bucket, key, cost, *_ in wanted:
        decision = bucket.peek(key, cost)
        place = bucket.name_hash, bucket.hash(key)
        if (part := parts.get(place)) is None:
            part = parts[place] = Part(bucket, key, index(cost), decision)
        else:
            part.cost += index(cost)
            part.decision = bucket.peek(key, part.cost)
        items.append(part)
    return items


def _take(parts: Sequence[Part]) -> bool:
    """Takes all or nothing, without I/O."""
    if parts:
        decisions = take_all([(part.bucket, part.key, part.cost) for part in parts]).decisions
        for part, decision in zip(parts, decisions, strict=True):
            part.decision = decision
    return all(part.decision for part in parts)


def _give_back(held: list[Part]) -> None:
    while held:
        part = held.pop()
        part.bucket.refund(part.decision)


def _deny(held: list[Part]) -> None:
    """Gives back what was taken for parts that another part's denial has made useless."""
    parts = tuple(held)
    _give_back(held)
    for part in parts:
        part.decision = part.bucket.peek(part.key, part.cost)


def _answer(items: Sequence[Part]) -> AllDecision:
    return AllDecision(tuple(part.decision for part in items))


def check_limiter(limiter: object, example: str) -> None:
    """Raises `InvalidSpec` if this is not a limiter. `example`: the correct call."""
    if not isinstance(limiter, Multi):
        fix = f"pass the limiter first: {example}"
        raise InvalidSpec(f"limiter is {limiter!r}", fix, "limiter")
