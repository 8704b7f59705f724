"""What a node has counted and the common store may lack. No I/O here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from crdtbucket._core import BucketCore, Table
from crdtbucket.strong.store_request import Item, Place

SECOND = 1_000_000_000
CARRY_NS = SECOND
"""A key that nodes without the store take of is brought to the store no more often than this."""
SCAN = 128
"""Places of the table that are looked at together."""


Row = tuple[int, int, int, int]
"""The hash of a bucket's name, the two halves of a key's, and tokens."""


class Unsettled:
    """The keys that the store is still to be told of."""

    def __init__(self, table: Table, by_name: Mapping[int, BucketCore]) -> None:
        """`by_name`: the buckets that ask the store, by the hashes of their names."""
        self.pending: dict[Item, int] = {}
        """Keys whose counts here the store may lack, and the tokens admitted without it."""
        self.on_owe: Callable[[], None] | None = None
        """Told that there is one more."""
        self._table = table
        self._by_name = by_name
        self._adrift: dict[Item, tuple[int, int]] = {}
        self._brought: set[Item] = set()
        self._carry_at = 0

    def add(self, bucket: BucketCore, place: Place, tokens: int = 0) -> None:
        """Counts of this key changed without the store: it is to be told."""
        item = (bucket, place)
        if len(self.pending) >= self._table.max_keys and item not in self.pending:
            self._drop_evicted()
        known = self.pending.get(item)
        self.pending[item] = (known or 0) + tokens
        if known is None and self.on_owe is not None:
            self.on_owe()

    def _drop_evicted(self) -> None:
        # What went from the table was full, or forgotten for want of room.
        for item in [item for item in self.pending if item[0].own(*item[1]) is None]:
            self.dismiss(item)

    def dismiss(self, item: Item) -> None:
        """Nothing is to be told of this key any more: it was full."""
        del self.pending[item]
        self._table.open_tokens -= self._adrift.pop(item, (0, 0))[0]

    def indebted(self) -> Iterator[list[Item]]:
        """All keys here that are not full: those of some places of the table, then of the next."""
        for start in range(0, self._table.places, SCAN):
            found = []
            for name, lo, hi in self._table.hashes(range(start, start + SCAN)):
                bucket = self._by_name.get(name)
                if bucket is None:
                    continue
                spec = bucket.candidate if bucket.on_candidate(hi) else bucket.spec
                if spec is not None and bucket.shortage(lo, hi, spec.capacity):
                    found.append((bucket, (lo, hi)))
            yield found

    def tokens(self) -> int:
        """Tokens that were admitted without the store, of all keys that it is still to be told."""
        return sum(self.pending.values())

    def resume(self, rows: Iterable[Row]) -> None:
        """An earlier life of this node had still to tell these; its columns are in the table. What
        is of a bucket that is no more, or came back with no entry, was full or is nobody's."""
        for name, lo, hi, tokens in rows:
            bucket = self._by_name.get(name)
            if bucket is not None and bucket.own(lo, hi) is not None:
                self.add(bucket, (lo, hi), tokens)

    def push(self, entries: Iterable[int]) -> None:
        """A peer that is cut off from the store has taken of these entries: `carry` tells it."""
        for name, lo, hi in self._table.hashes(entries):
            bucket = self._by_name.get(name)
            if bucket is not None:
                self._brought.add((bucket, (lo, hi)))

    def carry(self) -> None:
        """To be called often: the store is to be told what was pushed, once in a while each."""
        now = self._table.now()
        if self._brought and now >= self._carry_at:
            self._carry_at = now + CARRY_NS
            brought, self._brought = self._brought, set()
            for item in brought:
                self.add(*item)

    def adrift(self, item: Item, cost: int, fence: int) -> None:
        """A call of an ended connection may still be carried out, until one with a higher fence
        asks."""
        tokens, highest = self._adrift.get(item, (0, 0))
        self._adrift[item] = tokens + cost, max(highest, fence)

    def asked(self, item: Item, fence: int) -> None:
        """Somebody has asked for this key: a higher fence keeps out what is adrift."""
        if self._adrift and self._adrift.get(item, (0, fence))[1] < fence:
            self._table.open_tokens -= self._adrift.pop(item)[0]


__all__ = ["CARRY_NS", "SCAN", "Unsettled", "Row"]
