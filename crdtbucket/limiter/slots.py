"""Slots: a limit on the calls of a key that are in flight, over all nodes. See docs/model.md,
"Slots".

In `strong.strong_slots` Redis decides instead of this node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, NoReturn

from crdtbucket._core import Decision, SlotBook, SlotSearch, Table, slot_of
from crdtbucket.base.duration import patience_ns, span
from crdtbucket.errors import WrongKind
from crdtbucket.limiter.bucket import Bucket, Choose
from crdtbucket.limiter.held_slot import Slot
from crdtbucket.limiter.waiting import Lines, LocalLine, Waiters
from crdtbucket.spec.bucket_kinds import SLOT_TOKENS
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import check_duration


def _without_tokens(called: str) -> Callable[..., Any]:
    """A method of a bucket that has no tokens: what the caller has called is in its error."""

    def refuse(self: Bucket, *_: object, **__: object) -> NoReturn:
        raise WrongKind.of_slots(self.spec.name, called)

    return refuse


class SlotBucket(Bucket):
    """A bucket of kind `concurrency`: `slot` holds one of the slots of a key.

    It has no tokens to take, so what takes or settles some raises `WrongKind`.
    """

    __slots__ = ("_choose", "book", "search")

    def __init__(self, table: Table, spec: BucketSpec, **more: Any) -> None:
        """Takes what `Bucket` takes."""
        super().__init__(table, spec, **more)
        self.book = SlotBook()
        self._choose: Choose | None = None

    def _make_lines(self, update_interval_ns: int | None) -> Lines:
        """The lines of callers that wait for a slot."""
        self.search = SlotSearch(self)
        return Waiters(SlotsOfKeys(self), update_interval_ns=update_interval_ns, line=SlotLine)

    def choose_by(self, choose: Choose | None, others: Iterable[Bucket]) -> None:
        """From now on `choose` says which bucket decides on a key. It is asked with the key itself,
        and not with the keys under which the slots count."""
        self._choose = choose
        self._name_for(others)

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

        Entering raises `SlotDenied` when all are held. ttl: how long the block may take at most, up
        to the bucket's ttl, which is the default: after that the slot is free again, here and on
        all nodes, also when this process has died. timeout: seconds to wait for a slot, first come
        first served in this event loop; 0 for a single try, None for ever. Raises `InvalidSpec`,
        and `InvalidKey` for a key of over 508 bytes.
        """
        if timeout:
            patience_ns(timeout)  # refuses what is no time, also while a slot is free
        bucket = self.of(key)
        ttl_ns = most = bucket.spec.interval_ns
        if ttl is not None:
            words = f"above 0 and at most that of the bucket, {span(most)}"
            ttl_ns = check_duration("ttl", ttl, 1, most, words)
        return bucket.new_slot(key, ttl_ns, timeout)

    def new_slot(self, key: str | bytes, ttl_ns: int, timeout: float | None) -> Slot:
        """Makes a slot that is not entered yet."""
        return Slot(self, key, ttl_ns, timeout)

    def held(self, key: str | bytes) -> int:
        """Slots of a key that are held, on any node, as far as this one knows. O(slots)."""
        return self.of(key).search.held(key)

    @property
    def open_slots(self) -> int:
        """Slots that this process holds now, of all keys."""
        return self.book.held(self.table.now())

    @property
    def expired(self) -> int:
        """Slots that were not released here before their ttl was over."""
        self.book.held(self.table.now())  # counts those that have ended since
        return self.book.expired

    def returned(self, key: str | bytes, tokens: int) -> None:
        """Tokens of a slot came back: whoever waits for its key looks again."""
        for bucket in {self, self.named}:
            if bucket.waiters.lines:
                bucket.waiters.kick(slot_of(key)[0])

    # ---- no tokens ----

    take, take_burst, take_many = map(_without_tokens, ("take", "take_burst", "take_many"))
    acquire, acquire_sync = map(_without_tokens, ("acquire", "acquire_sync"))
    acquire_many, wait, wait_sync = map(_without_tokens, ("acquire_many", "wait", "wait_sync"))
    peek, settle, refund = map(_without_tokens, ("peek", "settle", "refund"))
    reserve, reset = map(_without_tokens, ("reserve", "reset"))
    take_here, take_apart = take_many, take_many


class SlotsOfKeys:
    """The slots that callers wait for, in the bucket that decides on their key at the moment."""

    def __init__(self, bucket: SlotBucket) -> None:
        """`bucket`: the one that the callers name."""
        self._bucket = bucket
        self.hash = bucket.hash
        self.spec_of = bucket.spec_of

    def take(self, key: str | bytes, cost: int = SLOT_TOKENS, /) -> Decision:
        """Takes a free slot, or says which one is free first."""
        return self._bucket.of(key).search.take(key, cost)

    def peek(self, key: str | bytes, cost: int = SLOT_TOKENS, /) -> Decision:
        """What a take would get now."""
        return self._bucket.of(key).search.peek(key, cost)

    def refund(self, decision: Decision, /) -> int:
        """Frees the slot of a decision."""
        bucket = decision.bucket
        assert isinstance(bucket, SlotBucket), "it decides on slots"
        return bucket.search.refund(decision)


class SlotLine(LocalLine):
    """Callers of one event loop that wait for a slot of one key."""

    def refill_ns(self, decision: Decision, tokens: int) -> int:
        """Nothing: a slot may be released at any time, whatever its ttl is."""
        return 0
