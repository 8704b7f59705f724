"""A bucket of slots whose limit a shared store keeps."""

from __future__ import annotations

from typing import Any

from crdtbucket._core import Decision, SlotSearch
from crdtbucket.base.across import check_no_loop
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import patience_ns
from crdtbucket.errors import WaitTimeout
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.held_slot import Slot
from crdtbucket.limiter.slots import SlotBucket, SlotsOfKeys
from crdtbucket.limiter.waiting import Lines
from crdtbucket.spec.bucket_kinds import SLOT_TOKENS
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.local_decisions import deny, took
from crdtbucket.strong.slot_request import SlotHold
from crdtbucket.strong.strong_bucket import AskingBucket
from crdtbucket.strong.strong_waiting import StrongWaiters


class StrongSlotBucket(AskingBucket, SlotBucket):
    """A bucket of slots whose decisions come from a Redis that all nodes share: the limit is exact
    for as long as Redis answers.

    Slots that are held are also counted in the table of this node, where eventual mode finds them.
    """

    __slots__ = ("_store",)

    def _make_lines(self, update_interval_ns: int | None) -> Lines:
        """The lines of callers that wait: they see the free slots in the table of this node."""
        self.search = SlotSearch(self)
        return StrongWaiters(self, SlotsOfKeys(self))

    def new_slot(self, key: str | bytes, ttl_ns: int, timeout: float | None) -> Slot:
        """Makes a slot that is not entered yet."""
        return StrongSlot(self, key, ttl_ns, timeout)

    def outage(self) -> dict[str, Any] | None:
        """What callers get while the store is unreachable; None while it decides."""
        return self.store.slots.ledger.outage(self) if self.mode is Mode.FALLBACK else None

    def fallback_policy(self, key: str | bytes) -> tuple[int, float] | None:
        """The slots of a key that this node holds at most while Redis is unreachable, and the
        seconds after which they are free again. None when `on_outage` is not "quota"."""
        share = self.store.slots.ledger.share(self)
        return None if share is None else (share, self.spec.interval_ns / NS_PER_SECOND)


class StrongSlot(Slot):
    """A slot that Redis decides on; its ttl counts from when it was asked for."""

    __slots__ = ("_hold", "_strong")

    def __init__(
        self, bucket: StrongSlotBucket, key: str | bytes, ttl_ns: int, timeout: float | None
    ) -> None:
        """Made by `SlotBucket.slot`."""
        super().__init__(bucket, key, ttl_ns, timeout)
        self._strong = _checked(bucket.named)
        self._hold: SlotHold | None = None

    def __enter__(self) -> Slot:
        """Holds a slot; blocks until the decision, as `acquire_sync` of a strong bucket does.
        Raises `SlotDenied`."""
        check_no_loop("a slot that Redis decides on", "`async with bucket.slot(...)`")
        return self._strong.store.block_on(self.__aenter__(), _unwanted)

    async def __aenter__(self) -> Slot:
        """Holds a slot: the decision of Redis, or within the deadline that of the mode. Raises
        `SlotDenied`."""
        self.check_new()
        once = patience_ns(self.timeout) == 0
        decision = self.follow(await self._ask()) if once else await self._wait()
        return self.hold(decision, None if self._hold is None else self._hold.deadline_ns)

    async def _turn(self) -> Decision:
        bucket = self._strong
        try:
            return await bucket.waiters.wait_for(
                self.key, SLOT_TOKENS, self.timeout, self._ask, by_time=False
            )
        except WaitTimeout as error:
            if not took(error.decision):
                raise
            # This caller's turn did not come: Redis was not asked for a slot that this node
            # believes free.
            denial = deny(bucket, self.key, SLOT_TOKENS, bucket.mode, NS_PER_SECOND)
            raise WaitTimeout(str(error), denial) from error

    async def _ask(self) -> Decision:
        bucket, slots = _checked(self._strong.of(self.key)), self._strong.store.slots
        ttl_ns = self.ttl_under(bucket.spec)
        self._hold = slots.ledger.new(bucket, bucket.search, self.key, ttl_ns)
        return await slots.hold(self._hold)

    def released(self) -> None:
        """Releases the slot in Redis, once it was released in the table of this node."""
        assert self._hold is not None, "it was asked for"
        self._strong.store.slots.release(self._hold)


def _checked(bucket: Bucket) -> StrongSlotBucket:
    """The bucket, which is of this kind because the bucket that it overrides is."""
    assert isinstance(bucket, StrongSlotBucket), "an override is of the kind of its bucket"
    return bucket


def _unwanted(slot: Slot) -> None:
    slot.release()
