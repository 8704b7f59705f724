"""The search for a free slot of a key. Each slot is a key of an ordinary bucket, as docs/model.md,
"Slots", explains."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from crdtbucket._core import MAX_KEY_BYTES, BucketCore, Decision
from crdtbucket.errors import InvalidKey
from crdtbucket.spec.bucket_spec import MAX_SLOTS, SLOT_TOKENS, BucketSpec
from crdtbucket.spec.mode import Mode

if TYPE_CHECKING:
    from crdtbucket.limiter.waiting import Hash

MAX_SLOT_KEY_BYTES = MAX_KEY_BYTES - len(f"#{MAX_SLOTS - 1}")
REMEMBERED_KEYS = 65_536


class SlotSearch:
    """Finds free slots of the keys of one bucket, in the order of this process.

    The order begins at another slot on each node, so that nodes meet only where a key is nearly
    full. Slots that were released here come first. A search costs a look at each slot that is held
    and that this process did not know of: at all of them where none is free.
    """

    def __init__(self, bucket: BucketCore) -> None:
        """`bucket`: counts the slots."""
        self._bucket = bucket
        self._start = (bucket.table.epoch >> 1) % MAX_SLOTS  # epochs are odd
        self._first: dict[str | bytes, int] = {}
        """Of some keys: how many places of the order were held when it was looked last."""

    def take(self, key: str | bytes, cost: int = SLOT_TOKENS, mode: Mode | None = None) -> Decision:
        """All tokens of a free slot, or the denial of the one that is free first. `mode`: that
        which the decision names, of a bucket that changes it."""
        soonest: Decision | None = None
        for place, name in self._order(key):
            seen = BucketCore.peek(self._bucket, name, cost)
            if is_free(seen):
                seen = self._take(name, cost, mode)
                if is_free(seen):
                    self._remember(key, place + 1)
                    return seen
            if soonest is None or seen.retry_after_ns < soonest.retry_after_ns:
                soonest = seen
        assert soonest is not None, "there is a slot at least"
        return self._take(soonest.key, cost, mode)  # counts, and a shadow admits

    def _take(self, name: str | bytes, cost: int, mode: Mode | None) -> Decision:
        if mode is None:
            return BucketCore.take(self._bucket, name, cost)
        return self._bucket.take_as(name, cost, mode)

    def peek(self, key: str | bytes, cost: int = SLOT_TOKENS) -> Decision:
        """What a take would get now; nothing changes."""
        each = (BucketCore.peek(self._bucket, name, cost) for _, name in self._order(key))
        return min(each, key=lambda seen: seen.retry_after_ns)

    def refund(self, decision: Decision, tokens: int | None = None) -> int:
        """Gives back `tokens`, or all that is left, of the slot of a decision."""
        key, number = slot_of(decision.key)
        place, first = (number - self._start) % self._slots, self._first.get(key)
        if first is not None and place < first:
            self._first[key] = place
        return BucketCore.refund(self._bucket, decision, tokens)

    def held(self, key: str | bytes) -> int:
        """Slots of a key that are held, on any node, as far as this one knows. O(slots)."""
        each = (name for _, name in self._order(key))
        return sum(not is_free(BucketCore.peek(self._bucket, name, SLOT_TOKENS)) for name in each)

    def check(self, key: str | bytes) -> None:
        """Raises `InvalidKey` for what is no key of slots."""
        self._bucket.hash(key)
        size = len(key if isinstance(key, bytes) else key.encode())
        if size > MAX_SLOT_KEY_BYTES:
            raise InvalidKey(
                f"a key of slots has at most {MAX_SLOT_KEY_BYTES} bytes, as the number of the slot "
                f"is added to it, and this one has {size}"
            )

    def name(self, key: str | bytes, number: int) -> str | bytes:
        """The key that a slot has in its bucket."""
        if isinstance(key, bytes):
            return b"%b#%d" % (key, number)
        # The text of a key, and not what a subclass shows of it.
        return f"{str.__str__(key)}#{number}"

    def hash(self, key: str | bytes) -> Hash:
        """Names a key, as that of a bucket."""
        return self._bucket.hash(key)

    def spec_of(self, key: str | bytes) -> BucketSpec:
        """The definition of the key's slots."""
        return self._bucket.spec

    @property
    def _slots(self) -> int:
        slots = self._bucket.spec.slots
        assert slots is not None, "a bucket of kind concurrency"
        return slots

    def _remember(self, key: str | bytes, first: int) -> None:
        if len(self._first) >= REMEMBERED_KEYS:
            self._first.clear()  # it costs some searches from the beginning
        self._first[key] = first

    def _order(self, key: str | bytes) -> Iterator[tuple[int, str | bytes]]:
        """The places of the order and the keys of their slots; last come those that were held when
        the key was looked at before."""
        self.check(key)
        slots, start = self._slots, self._start
        first = min(self._first.get(key, 0), slots)
        for place in itertools.chain(range(first, slots), range(first)):
            number = (start + place) % slots
            yield place, self.name(key, number)


def is_free(seen: Decision) -> bool:
    """Whether a slot is, or was, free; a shadow admits where it is not."""
    return seen.allowed and not seen.shadowed


def slot_of(name: str | bytes) -> tuple[str | bytes, int]:
    """The key and the number of a slot, by the key that it has in its bucket."""
    if isinstance(name, bytes):
        raw, _, digits = name.rpartition(b"#")
        return raw, int(digits)
    text, _, number = name.rpartition("#")
    return text, int(number)
