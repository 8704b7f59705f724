"""The keys whose counts here the store may lack. No I/O here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from crdtbucket._core import BucketCore, BucketReplica, Table
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.strong.store_request import Item

CARRY_NS = NS_PER_SECOND
"""A key from which nodes without the store take is added at most once in this time (ns)."""
SCAN = 128
"""Places of the table that are looked at together."""


Row = tuple[int, int, int, int]
"""The hash of a bucket's name, the two halves of a key's hash, and tokens."""


class Unsettled:
    """The keys whose counts this node has still to send to the store."""

    def __init__(
        self,
        table: Table,
        by_name: Mapping[int, BucketCore],
        on_added: Callable[[], None] = lambda: None,
    ) -> None:
        """`by_name`: the strong buckets by the hashes of their names. `on_added` is called when a
        key is added."""
        self.pending: dict[Item, int] = {}
        """Keys whose counts here the store may lack, and the tokens admitted without it."""
        self._table = table
        self._by_name = by_name
        self._on_added = on_added
        self._may_run: dict[Item, tuple[int, int]] = {}
        self._pushed: set[Item] = set()
        self._carry_at = 0

    def add(self, bucket: BucketCore, place: tuple[int, int], tokens: int = 0) -> None:
        """The counts of this key changed without the store; `tokens` of them were admitted."""
        item = (bucket, place)
        if len(self.pending) >= self._table.max_keys and item not in self.pending:
            self._drop_evicted()
        known = self.pending.get(item)
        self.pending[item] = (known or 0) + tokens
        if known is None:
            self._on_added()

    def _drop_evicted(self) -> None:
        # A key that left the table was full, or was evicted for want of room.
        for item in [item for item in self.pending if BucketReplica(item[0]).own(*item[1]) is None]:
            self.dismiss(item)

    def dismiss(self, item: Item) -> None:
        """This key needs no settling any more: it was full."""
        del self.pending[item]
        self.closed(self._may_run.pop(item, (0, 0))[0])

    def not_full(self) -> Iterator[list[Item]]:
        """All keys here that are not full, in one list for each `SCAN` places of the table."""
        for start in range(0, self._table.places, SCAN):
            found = []
            for name, lo, hi in self._table.hashes(range(start, start + SCAN)):
                bucket = self._by_name.get(name)
                if bucket is None:
                    continue
                spec = bucket.candidate if bucket.on_candidate(hi) else bucket.spec
                if spec is not None and BucketReplica(bucket).shortage(lo, hi, spec.capacity):
                    found.append((bucket, (lo, hi)))
            yield found

    def tokens(self) -> int:
        """Tokens of all pending keys that were admitted without the store."""
        return sum(self.pending.values())

    def resume(self, rows: Iterable[Row]) -> None:
        """Adds what the previous epoch of this node left unsettled; its columns are in the table. A
        row of a bucket that no longer exists, or whose key has no entry, is dropped."""
        for name, lo, hi, tokens in rows:
            bucket = self._by_name.get(name)
            if bucket is not None and BucketReplica(bucket).own(lo, hi) is not None:
                self.add(bucket, (lo, hi), tokens)

    def push(self, entries: Iterable[int]) -> None:
        """A peer that does not reach the store has taken from these entries: `carry` adds them."""
        for name, lo, hi in self._table.hashes(entries):
            bucket = self._by_name.get(name)
            if bucket is not None:
                self._pushed.add((bucket, (lo, hi)))

    def carry(self) -> None:
        """Adds what was pushed, at most once in `CARRY_NS`; to be called often."""
        now = self._table.now()
        if self._pushed and now >= self._carry_at:
            self._carry_at = now + CARRY_NS
            pushed, self._pushed = self._pushed, set()
            for item in pushed:
                self.add(*item)

    def opened(self, tokens: int) -> None:
        """A request for so many tokens is sent: the store may have charged them."""
        self._table.open_tokens += tokens

    def closed(self, tokens: int) -> None:
        """So many tokens of requests are booked, or the store will not charge them any more."""
        self._table.open_tokens -= tokens

    def may_still_run(self, item: Item, cost: int, fence: int) -> None:
        """The store may still run a request of an ended connection, until one with a higher fence
        arrives for the same key."""
        tokens, highest = self._may_run.get(item, (0, fence))
        self._may_run[item] = tokens + cost, max(highest, fence)

    def fenced(self, item: Item, fence: int) -> None:
        """The store has run a request for this key: it refuses those with a lower fence."""
        if self._may_run and self._may_run.get(item, (0, fence))[1] < fence:
            self.closed(self._may_run.pop(item)[0])
