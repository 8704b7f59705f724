"""A bucket some of whose keys have plans: each call goes to the bucket that decides on its key."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import SupportsIndex

from crdtbucket._core import Decision, Decisions, Table
from crdtbucket.limiter.bucket import Bucket, cost_of_each
from crdtbucket.limiter.reservations import Reservation
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.overrides import Choice


class PlannedBucket(Bucket):
    """Decides itself on the keys that no plan matches, and passes on all others.

    What names no key, such as `counters` and `mode`, and `hash`, `columns`, `debt` and `credit` are
    of this bucket alone; `of(key)` is the one to ask for those of a plan.
    """

    __slots__ = ()

    _choice: Choice[Bucket]
    _plans: set[object]

    def __init__(
        self, table: Table, spec: BucketSpec, *, min_debt: int = 0, news_ns: int | None = None
    ) -> None:
        """As `Bucket`; without plans until `set_plans`."""
        super().__init__(table, spec, min_debt=min_debt, news_ns=news_ns)
        self._plans = set()
        self.set_plans(())

    @classmethod
    def plan(cls, bucket: Bucket) -> None:
        """Makes a plain bucket one of these, in place."""
        bucket.__class__ = cls
        assert isinstance(bucket, cls)
        bucket._plans = set()
        bucket.set_plans(())

    def set_plans(self, plans: Iterable[tuple[str, Bucket]]) -> None:
        """From now on the first glob that matches a key says which bucket decides on it."""
        plans = tuple(plans)
        self._plans |= {bucket for _, bucket in plans}  # earlier ones too: for their refunds
        self._choice = Choice(plans, self)

    def of(self, key: str | bytes) -> Bucket:
        """The bucket that decides on a key: this one, or that of the key's plan."""
        return self._choice.of(key)

    def spec_of(self, key: str | bytes) -> BucketSpec:
        """As `Bucket.spec_of`, of the plan of the key."""
        bucket = self._choice.of(key)
        return super().spec_of(key) if bucket is self else bucket.spec_of(key)

    def take(self, key: str | bytes, cost: SupportsIndex = 1) -> Decision:
        """As `Bucket.take`, under the plan of the key."""
        bucket = self._choice.of(key)
        return super().take(key, cost) if bucket is self else bucket.take(key, cost)

    def peek(self, key: str | bytes, cost: SupportsIndex = 1) -> Decision:
        """As `Bucket.peek`, under the plan of the key."""
        bucket = self._choice.of(key)
        return super().peek(key, cost) if bucket is self else bucket.peek(key, cost)

    def settle(self, key: str | bytes, tokens: SupportsIndex) -> int:
        """As `Bucket.settle`, under the plan of the key."""
        bucket = self._choice.of(key)
        return super().settle(key, tokens) if bucket is self else bucket.settle(key, tokens)

    def reset(self, key: str | bytes) -> int:
        """As `Bucket.reset`, under the plan of the key."""
        bucket = self._choice.of(key)
        return super().reset(key) if bucket is self else bucket.reset(key)

    def take_burst(self, key: str | bytes, calls: SupportsIndex, cost: SupportsIndex = 1) -> int:
        """As `Bucket.take_burst`, under the plan of the key."""
        bucket = self._choice.of(key)
        if bucket is self:
            return super().take_burst(key, calls, cost)
        return bucket.take_burst(key, calls, cost)

    async def acquire(self, key: str | bytes, cost: int = 1) -> Decision:
        """As `Bucket.acquire`, under the plan of the key."""
        bucket = self._choice.of(key)
        return await (super().acquire(key, cost) if bucket is self else bucket.acquire(key, cost))

    def acquire_sync(self, key: str | bytes, cost: int = 1) -> Decision:
        """As `Bucket.acquire_sync`, under the plan of the key."""
        bucket = self._choice.of(key)
        return super().acquire_sync(key, cost) if bucket is self else bucket.acquire_sync(key, cost)

    async def wait(self, key: str | bytes, cost: int = 1, timeout: float | None = None) -> Decision:
        """As `Bucket.wait`, under the plan of the key."""
        bucket = self._choice.of(key)
        waiting = super().wait if bucket is self else bucket.wait
        return await waiting(key, cost, timeout)

    def reserve(self, key: str | bytes, estimate: int, ttl: float = 60.0) -> Reservation:
        """As `Bucket.reserve`, under the plan of the key."""
        bucket = self._choice.of(key)
        reserving = super().reserve if bucket is self else bucket.reserve
        return reserving(key, estimate, ttl)

    def refund(self, decision: Decision, tokens: SupportsIndex | None = None) -> int:
        """As `Bucket.refund`, of a decision of this bucket or of one of its plans."""
        bucket = decision.bucket
        refunding = bucket.refund if bucket in self._plans else super().refund
        return refunding(decision, tokens)

    def take_many(
        self, keys: Iterable[str | bytes], costs: SupportsIndex | Iterable[SupportsIndex] = 1
    ) -> Decisions:
        """As `Bucket.take_many`, each key under its plan; the plans are taken from in turn."""
        if isinstance(keys, (str, bytes)):
            return super().take_many(keys, costs)  # which refuses
        names = tuple(keys)
        each = cost_of_each(names, costs)
        places: dict[Bucket, list[int]] = {}
        for place, name in enumerate(names):
            places.setdefault(self._choice.of(name), []).append(place)
        if len(places) > 1:
            for name, cost in zip(names, each, strict=True):
                self.peek(name, cost)  # refuses what is wrong before anything is taken
        size = len(names)
        out = Decisions(array("b", bytes(size)), array("q", [0]) * size, array("d", [0]) * size)
        for bucket, mine in places.items():
            taking = super().take_many if bucket is self else bucket.take_many
            answers = taking([names[place] for place in mine], [each[place] for place in mine])
            for n, place in enumerate(mine):
                out.allowed[place] = answers.allowed[n]
                out.remaining[place] = answers.remaining[n]
                out.retry_after[place] = answers.retry_after[n]
        return out


def with_plans(specs: Iterable[BucketSpec]) -> Iterator[tuple[BucketSpec, BucketSpec]]:
    """Every definition, each bucket's before those of its plans, and the bucket that it is of."""
    for spec in specs:
        yield spec, spec
        for _, plan in spec.plans:
            yield plan, spec


def set_plans(specs: Iterable[BucketSpec], buckets: Mapping[str, Bucket]) -> None:
    """Tells buckets which keys have which plans."""
    for spec in specs:
        bucket = buckets[spec.key]
        if isinstance(bucket, PlannedBucket):
            bucket.set_plans((glob, buckets[plan.key]) for glob, plan in spec.plans)


__all__ = ["PlannedBucket", "set_plans", "with_plans"]
