"""A slot that one call of this node holds, and the requests to the store that are about slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crdtbucket._core import BucketCore, SlotSearch
from crdtbucket.strong.redis.slot_script import SlotAnswer, SlotCall, parse_slots
from crdtbucket.strong.store_request import Item, RequestLedger


class SlotHold:
    """A slot that one call of this node holds, or asks for."""

    __slots__ = ("asked", "bucket", "deadline_ns", "id", "item", "key", "number", "search",
                 "stored", "ttl_ns")  # fmt: skip

    def __init__(
        self, bucket: BucketCore, search: SlotSearch, key: str | bytes, ttl_ns: int, name: bytes
    ) -> None:
        """`name`: its id."""
        self.bucket = bucket
        self.search = search
        self.key = key
        self.item: Item = (bucket, bucket.hash(key))
        self.ttl_ns = ttl_ns
        self.id = name
        self.number = 0
        """The number of the slot, once the store has given one."""
        self.deadline_ns = 0
        """When it ends at the latest (time of the table)."""
        self.asked = False
        """Whether Redis was asked for it, so that it may have a record of it."""
        self.stored = False
        """Whether Redis has a record of it, as far as this node knows."""


class SlotRequest:
    """A call about one key: for a hold, or to record and free what Redis has otherwise."""

    __slots__ = ("call", "cost", "gone", "hold", "item", "key", "ledger", "rows")

    def __init__(
        self,
        ledger: RequestLedger,
        item: Item,
        call: SlotCall,
        hold: SlotHold | None = None,
        rows: Sequence[SlotHold] = (),
        gone: Mapping[bytes, int] | None = None,
    ) -> None:
        """`rows`: the holds that the call records; `gone`: those that it frees, by their ids, and
        when each ends at the latest."""
        self.ledger = ledger
        self.item = item
        self.call = call
        self.hold = hold
        self.rows = rows
        self.gone = gone or {}
        self.key = None if hold is None else hold.key
        self.cost = 1

    def command(self, beats: bytes, source: bool) -> bytes:
        """The bytes of the request; with `source` those of the whole script, for a server that
        lacks it."""
        return self.call.command(source)

    def parse(self, reply: object) -> SlotAnswer:
        return parse_slots(reply)

    def sent_by(self, fence: int) -> None:
        """Does nothing: a hold that still arrives over an ended connection has its id, and ends by
        its ttl."""
