"""Slots: a limit of what is in flight of a key, over all nodes. See docs/model.md, "Slots".

Those of `strong.strong_slots` are the same, and Redis decides."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, NoReturn

from crdtbucket._core import Decision, SlotSearch, Table, slot_of
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import span
from crdtbucket.base.forks import Turn, after_fork
from crdtbucket.errors import CrdtbucketError, SlotDenied, WaitTimeout, WrongKind
from crdtbucket.limiter.bucket import Bucket, Choose
from crdtbucket.limiter.waiting import LocalLine, Waiters, check_no_loop, patience_ns
from crdtbucket.spec.bucket_spec import SLOT_TOKENS, BucketSpec
from crdtbucket.spec.field_checks import check_duration


class SlotBucket(Bucket):
    """A bucket of kind `concurrency`: `slot` holds one of the slots of a key.

    It has no tokens to take, so what takes or settles some raises `WrongKind`.
    """

    __slots__ = ("__weakref__", "_choose", "_open", "expired", "search")

    def __init__(
        self,
        table: Table,
        spec: BucketSpec,
        *,
        min_debt: int = 0,
        update_interval_ns: int | None = None,
    ) -> None:
        """As of `Bucket`."""
        super().__init__(table, spec, min_debt=min_debt, update_interval_ns=update_interval_ns)
        self.search = SlotSearch(self)
        self.waiters = Waiters(self.search, update_interval_ns=update_interval_ns, line=SlotLine)
        self.expired = 0
        """Slots that were not released here before their ttl was over."""
        self._choose: Choose | None = None
        self._open: dict[Slot, None] = {}
        after_fork(self, Turn.LIMITERS, SlotBucket.forked)

    def choose_by(self, choose: Choose | None, others: Iterable[Bucket]) -> None:
        """As of `Bucket`; it is asked with the key, and not with the keys of its slots."""
        self._choose = choose

    def of(self, key: str | bytes) -> SlotBucket:
        """The bucket that decides on a key: this one, or that of its override."""
        if self._choose is None:
            return self
        bucket = self._choose(key)
        assert isinstance(bucket, SlotBucket), "an override is of the kind of its bucket"
        return bucket

    def spec_of(self, key: str | bytes) -> BucketSpec:
        """The definition that decides on a key."""
        return self.of(key).spec

    def slot(
        self,
        key: str | bytes,
        ttl: str | int | float | timedelta | None = None,
        timeout: float | None = 0.0,
    ) -> Slot:
        """A slot of `key` that a `with` or `async with` block holds.

        Entering raises `SlotDenied` when all are held. ttl: how long the block may take at most,
        up to the bucket's, which it is if left out: then the slot is free again, here and on all
        nodes, also when this process has died. timeout: seconds to wait for a slot, first come
        first served in this event loop; 0 for a single try, None for ever. Raises `InvalidSpec`,
        and `InvalidKey` for a key of over 508 bytes.
        """
        bucket = self.of(key)
        ttl_ns = most = bucket.spec.interval_ns
        if ttl is not None:
            words = f"above 0 and at most that of the bucket, {span(most)}"
            ttl_ns = check_duration("ttl", ttl, 1, most, words)
        return bucket.new_slot(key, ttl_ns, timeout)

    def new_slot(self, key: str | bytes, ttl_ns: int, timeout: float | None) -> Slot:
        """A slot that is not entered yet."""
        return Slot(self, key, ttl_ns, timeout)

    def held(self, key: str | bytes) -> int:
        """Slots of a key that are held, on any node, as far as this one knows. O(slots)."""
        return self.of(key).search.held(key)

    @property
    def open_slots(self) -> int:
        """Slots that this process holds now, of all keys."""
        self.forget_expired(self.table.now())
        return len(self._open)

    def returned(self, key: str | bytes) -> None:
        """Tokens of a slot came back: whoever waits for its key looks again."""
        if self.waiters.lines:
            self.waiters.kick(slot_of(key)[0])

    # ---- for slots ----

    def hold(self, slot: Slot, now: int) -> None:
        """A slot was acquired. `now`: local time, as in what follows."""
        self.forget_expired(now)
        self._open[slot] = None

    def let_go(self, slot: Slot, now: int) -> bool:
        """Ends a slot that is held, once; False for one that has ended. Safe from any thread."""
        if self._open.pop(slot, slot) is not None:
            return False
        self.expired += slot.deadline_ns <= now
        return slot.deadline_ns > now

    def forget_expired(self, now: int) -> None:
        """Forgets slots whose ttl is over: time has freed them."""
        # In the order of their begin, which is nearly that of their ends.
        while (oldest := next(iter(self._open), None)) is not None and oldest.deadline_ns <= now:
            if self._open.pop(oldest, oldest) is None:
                self.expired += 1

    def forked(self) -> None:
        """This is the child of a fork: what is held is the parent's."""
        self._open = {}

    # ---- no tokens ----

    def _no_tokens(self, *_: Any, **__: Any) -> NoReturn:
        raise WrongKind.of_slots(self.spec.name, "a take")

    take = peek = settle = reserve = take_burst = take_many = take_here = take_apart = _no_tokens
    acquire = acquire_sync = acquire_many = wait = wait_sync = refund = reset = _no_tokens


class Slot:
    """A slot of a key, held while a `with` or `async with` block runs.

    Leaving the block releases it, and so does the end of its ttl. Safe to use from several threads.
    """

    __slots__ = (
        "_bucket",
        "_interval_ns",
        "_timeout",
        "deadline_ns",
        "decision",
        "key",
        "ttl_ns",
    )

    def __init__(
        self, bucket: SlotBucket, key: str | bytes, ttl_ns: int, timeout: float | None
    ) -> None:
        """Made by `SlotBucket.slot`."""
        self.key = key
        self.ttl_ns = ttl_ns
        self.decision: Decision | None = None
        """What was decided when the slot was entered."""
        self.deadline_ns = 0
        """Local time at which it is free at the latest, once it is held."""
        self._bucket = bucket
        self._timeout = timeout
        self._interval_ns = bucket.spec.interval_ns

    def __enter__(self) -> Slot:
        """Holds a slot. Raises `SlotDenied`."""
        self._check_new()
        decision = self._bucket.search.take(self.key)
        if decision.allowed or patience_ns(self._timeout) == 0:
            return self._begin(decision)
        check_no_loop("a slot that is waited for", "`async with bucket.slot(...)`")
        return self._begin(asyncio.run(self._wait()))

    async def __aenter__(self) -> Slot:
        """Holds a slot; nothing is awaited where there is one, or without a timeout. Raises
        `SlotDenied`."""
        self._check_new()
        if patience_ns(self._timeout) == 0:
            return self._begin(self._bucket.search.take(self.key))
        return self._begin(await self._wait())

    def __exit__(self, *_: object) -> None:
        """Releases the slot."""
        self.release()

    async def __aexit__(self, *_: object) -> None:
        """Releases the slot."""
        self.release()

    def release(self) -> bool:
        """The slot is free again. False when it was already, by an earlier call or by its ttl, and
        in a process that was forked since: there it is the parent's."""
        decision, now = self.decision, self._bucket.table.now()
        if decision is None or not self._bucket.let_go(self, now):
            return False
        self._released()
        # Time has brought the rest back. Where another node holds the slot, too, that is its own.
        self._give_back(decision, self._tokens(self.deadline_ns - now))
        return True

    def _tokens(self, ns: int) -> int:
        """Tokens that the slot lacks to be free in `ns`."""
        return -(-ns * SLOT_TOKENS // self._interval_ns)

    def _check_new(self) -> None:
        if self.decision is not None:
            raise CrdtbucketError("a slot is entered once: make another with bucket.slot(key)")

    async def _wait(self) -> Decision:
        try:
            return await self._turn()
        except WaitTimeout as error:
            if error.decision is None:
                raise  # it has one wherever it is raised here
            return error.decision

    async def _turn(self) -> Decision:
        return await self._bucket.waiters.wait(self.key, SLOT_TOKENS, self._timeout)

    def _begin(self, decision: Decision) -> Slot:
        self.decision = decision
        bucket = self._bucket
        if not decision.allowed:
            raise SlotDenied(
                f"all {bucket.spec.slots} slots of bucket {bucket.spec.name!r} are held for this "
                f"key; one is free in {decision.retry_after:.3f} s at the latest",
                decision,
            )
        now = bucket.table.now()
        self.deadline_ns = self._end(now)
        bucket.hold(self, now)
        if self.ttl_ns < self._interval_ns:
            self._give_back(decision, SLOT_TOKENS - self._tokens(self.ttl_ns))
        return self

    def _end(self, now: int) -> int:
        """When a slot that is held from now on ends."""
        return now + self.ttl_ns

    def _released(self) -> None:
        """It was held until now."""

    def _give_back(self, decision: Decision, tokens: int) -> None:
        if not decision.shadowed and tokens > 0:
            self._bucket.search.refund(decision, tokens)

    def __repr__(self) -> str:
        return f"Slot(key={self.key!r}, ttl={self.ttl_ns / NS_PER_SECOND:g})"


class SlotLine(LocalLine):
    """Callers of one event loop that wait for a slot of one key."""

    def refill_ns(self, decision: Decision, tokens: int) -> int:
        """Nothing: a slot may be released at any time, whatever its ttl is."""
        return 0
