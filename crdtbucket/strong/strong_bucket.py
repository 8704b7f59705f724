"""Buckets whose decisions a shared store makes: the base of all, and that of tokens."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any, NoReturn, SupportsIndex

from crdtbucket._core import Decision, Decisions, Table
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.errors import AcquireRequired, InvalidCost, InvalidKey, LimiterNotOpen
from crdtbucket.limiter.bucket import Bucket, cost_of_each
from crdtbucket.limiter.waiting import Lines
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.spec.priority import Floor
from crdtbucket.strong.store import Store
from crdtbucket.strong.strong_waiting import StrongWaiters


class AskingBucket(Bucket):
    """A bucket whose decisions come from a Redis that all nodes share. Each kind has an attribute
    `_store`."""

    __slots__ = ()

    waiters: StrongWaiters
    _store: Store | None

    def __init__(self, table: Table, spec: BucketSpec, **more: Any) -> None:
        """Takes what `Bucket` takes."""
        super().__init__(table, spec, **more)
        self._store = None
        self.mode = Mode.STRONG
        self.immediate = False

    def _make_lines(self, update_interval_ns: int | None) -> Lines:
        """The lines of callers that wait."""
        return StrongWaiters(self, self)

    def switch(self, mode: Mode) -> None:
        """Decide in this mode from now on."""
        self.mode = mode

    def attach(self, store: Store) -> None:
        """Decide by this store from now on."""
        self._store = store

    @property
    def store(self) -> Store:
        """What decides. Raises `LimiterNotOpen` before the limiter is open."""
        if self._store is None:
            raise self.table.refusal or LimiterNotOpen(
                f"bucket {self.spec.name!r} asks Redis, and the limiter is not open: decide inside "
                "`async with limiter:`, or `with limiter:` where there is no event loop"
            )
        return self._store

    def outage(self) -> dict[str, Any] | None:
        """What callers get while the store is unreachable, as in `LocalDecisions.outage`; None
        while the store decides."""
        return self.store.ledger.local.outage(self) if self.mode is Mode.FALLBACK else None


MANY = "await bucket.acquire_many(keys, costs)"


class StrongBucket(AskingBucket):
    """A bucket of tokens whose decisions come from a Redis that all nodes share.

    They need I/O, so there is `acquire` and no `take`. Everything else is as in `Bucket`; a
    `refund`, a commit or a `settle` reaches Redis within a moment.
    """

    __slots__ = ("_store",)

    def take(self, key: str | bytes, cost: SupportsIndex = 1, floor: Floor = 0) -> NoReturn:
        """Raises `AcquireRequired`: a strong decision waits for Redis."""
        raise AcquireRequired(self.spec.name, "take", "await bucket.acquire(key, cost)")

    def take_many(
        self, keys: Iterable[str | bytes], costs: SupportsIndex | Iterable[SupportsIndex] = 1
    ) -> NoReturn:
        """Raises `AcquireRequired`, as `take`."""
        raise AcquireRequired(self.spec.name, "take_many", MANY)

    def take_burst(
        self, key: str | bytes, calls: SupportsIndex, cost: SupportsIndex = 1
    ) -> NoReturn:
        """Raises `AcquireRequired`, as `take`."""
        raise AcquireRequired(self.spec.name, "take_burst", MANY)

    def peek(self, key: str | bytes, cost: SupportsIndex = 1, floor: Floor = 0) -> Decision:
        """What a call would get now by this node's own level. Raises `InvalidCost` for a `floor`,
        as `acquire` does."""
        self._check_floor(floor)
        return super().peek(key, cost)

    async def acquire(self, key: str | bytes, cost: int = 1, floor: Floor = 0) -> Decision:
        """The decision of Redis, which this node's own level must confirm; if it does not come
        within the deadline, that of the present mode. The deadline begins when the call is written:
        if very many are in flight, the call first waits for room. Never waits for tokens. Raises as
        `take` of a plain bucket, and `InvalidCost` for a `floor`."""
        self._check_floor(floor)
        return await self.store.acquire(self.of(key), key, cost)

    def acquire_sync(self, key: str | bytes, cost: int = 1, floor: Floor = 0) -> Decision:
        """`acquire` for threads without an event loop, over a connection of the thread: blocks
        until the decision, at most its deadline, and one more when it has to connect first. The
        limiter runs in a thread of its own (`with limiter:`). Raises `LimiterNotOpen` in a forked
        child."""
        self._check_floor(floor)
        return self.store.acquire_sync(self.of(key), key, cost)

    async def acquire_many(
        self, keys: Iterable[str | bytes], costs: SupportsIndex | Iterable[SupportsIndex] = 1
    ) -> Decisions:
        """One pipelined decision of each key, in order; see `Bucket.acquire_many`."""
        if isinstance(keys, (str, bytes)):
            raise InvalidKey(f"keys is one key, {keys!r}: pass a sequence of keys")
        names = tuple(keys)
        each = cost_of_each(names, costs)
        for name, cost in zip(names, each, strict=True):
            self.peek(name, cost)  # refuses what is wrong before anything is asked
        asked = [(self.of(name), name, int(cost)) for name, cost in zip(names, each, strict=True)]
        decisions = await self.store.acquire_many(asked)
        return Decisions(
            array("b", (d.allowed for d in decisions)),
            array("q", (d.remaining for d in decisions)),
            array("d", (d.retry_after for d in decisions)),
        )

    def _check_floor(self, floor: Floor) -> None:
        if floor != 0:
            raise InvalidCost(
                f"bucket {self.spec.name!r} has strong consistency, where Redis decides on whole "
                "levels: a floor needs an eventual bucket"
            )

    def fallback_policy(self, key: str | bytes) -> tuple[int, float] | None:
        """The limit that this node applies to a key while Redis is unreachable: whole tokens, and
        the seconds in which they come back. None when `on_outage` is not "quota"."""
        bucket = self.of(key)
        found = self.store.ledger.local.policy(bucket, key)
        return None if found is None else (found[0], found[1] / NS_PER_SECOND)

    def returned(self, key: str | bytes, tokens: int) -> None:
        """Tokens of a key came back: adds them to the quota of an outage as well, and Redis learns
        of it within a moment."""
        super().returned(key, tokens)
        self.store.ledger.local.give_back(self, key, tokens)
        self.store.unsettle(self, key)

    def charged(self, key: str | bytes, tokens: int) -> None:
        """Tokens of a key were settled: charges them to the quota of an outage as well, and Redis
        learns of it within a moment."""
        self.store.ledger.local.charged(self, key, tokens)
        self.store.unsettle(self, key)

    def reset_some(self, place: int) -> tuple[list[tuple[int, int]], int]:
        """Resets keys as every bucket does; Redis learns of it within a moment."""
        found, place = super().reset_some(place)
        if found:
            self.store.unsettle_places(self, found)
        return found, place
