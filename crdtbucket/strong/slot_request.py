"""A slot that one call of this node holds, and the requests to the store that are about slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from crdtbucket._core import BucketCore, SlotSearch
from crdtbucket.strong.redis.slot_script import SlotAnswer, SlotCall, parse_slots
from crdtbucket.strong.store_request import Item, RequestLedger


@dataclass(slots=True, eq=False)
class SlotHold:
    """A slot that one call of this node holds, or asks for."""

    bucket: BucketCore
    search: SlotSearch
    key: str | bytes
    ttl_ns: int
    id: bytes
    item: Item = field(init=False)
    """The bucket and the key's hash."""
    number: int = field(default=0, init=False)
    """The number of the slot, once the store has given one."""
    deadline_ns: int = field(default=0, init=False)
    """When it ends at the latest (time of the table)."""
    asked: bool = field(default=False, init=False)
    """Whether Redis was asked for it, so that it may have a record of it."""
    stored: bool = field(default=False, init=False)
    """Whether Redis has a record of it, as far as this node knows."""

    def __post_init__(self) -> None:
        self.item = (self.bucket, self.bucket.hash(self.key))


@dataclass(slots=True, eq=False)
class SlotRequest:
    """A call about one key: it asks for a hold, or makes Redis record and free holds until it
    agrees with this node."""

    ledger: RequestLedger
    item: Item
    call: SlotCall
    hold: SlotHold | None = None
    rows: Sequence[SlotHold] = ()
    """The holds that the call records."""
    gone: Mapping[bytes, int] = field(default_factory=dict)
    """The holds that the call frees, by their ids, and when each ends at the latest."""
    cost: ClassVar[int] = 1

    @property
    def key(self) -> str | bytes | None:
        return None if self.hold is None else self.hold.key

    def command(self, beats: bytes, source: bool) -> bytes:
        """The bytes of the request; with `source` those of the whole script, for a server that
        lacks it."""
        return self.call.command(source)

    def parse(self, reply: object) -> SlotAnswer:
        return parse_slots(reply)

    def sent_by(self, fence: int) -> None:
        """Does nothing: a hold that still arrives over an ended connection has its id, and ends by
        its ttl."""
