"""One question to the common store, and what it is about."""

from __future__ import annotations

from dataclasses import dataclass

from crdtbucket._core import BucketCore
from crdtbucket.spec.bucket_spec import OnOutage
from crdtbucket.strong.in_flight import KeyInFlight
from crdtbucket.strong.quota import Quota
from crdtbucket.strong.redis.script import Arguments, ScriptCall

Place = tuple[int, int]
"""The two halves of a key's hash."""
Item = tuple[BucketCore, Place]


@dataclass(frozen=True)
class Rules:
    """How one strong bucket talks and what it does in an outage."""

    arguments: Arguments
    on_outage: OnOutage
    quota: Quota


class StoreRequest:
    """One decision that the store is asked for, or one key that is settled with it (cost 0)."""

    __slots__ = (
        "birth",
        "bucket",
        "call",
        "cost",
        "epoch",
        "in_flight",
        "item",
        "key",
        "mark",
        "place",
        "rules",
        "threaded",
        "under_way",
    )

    def __init__(
        self,
        bucket: BucketCore,
        key: str | bytes | None,
        cost: int,
        place: Place,
        epoch: int,
        call: ScriptCall,
        rules: Rules,
    ) -> None:
        self.bucket = bucket
        self.key = key
        """None when the key is known by its hash alone, as settles are."""
        self.cost = cost
        self.place = place
        self.epoch = epoch
        self.birth = call.birth
        self.call = call
        self.rules = rules
        """Those of the bucket when it was made: the answer is in their definition."""
        self.item = (bucket, place)
        """What it is about."""
        self.threaded = False
        """Whether it goes over the connection of a thread, not over that of the event loop."""
        self.under_way = False
        self.in_flight: KeyInFlight | None = None
        self.mark = 0
        """The last three are for `InFlight`."""


__all__ = ["StoreRequest", "Item", "Place", "Rules"]
