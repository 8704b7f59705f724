"""One request to the store, the key that it is about, and what else is in flight on that key."""

from __future__ import annotations

from crdtbucket._core import BucketCore
from crdtbucket.strong.redis.script import ScriptCall
from crdtbucket.strong.store_rules import Place, Rules

Item = tuple[BucketCore, Place]


class KeyInFlight:
    """The requests in flight on one key; its numbers belong to `RequestsInFlight`."""

    __slots__ = ("begun", "begun_by_threads", "by_threads", "requests", "thread_tokens", "tokens")

    def __init__(self) -> None:
        self.requests = 0
        self.by_threads = 0
        self.tokens = 0
        self.thread_tokens = 0
        self.begun = 0
        self.begun_by_threads = 0


class StoreRequest:
    """A request for one decision, or for the settling of one key (cost 0)."""

    __slots__ = (
        "bucket",
        "call",
        "cost",
        "epoch",
        "is_in_flight",
        "item",
        "key",
        "key_in_flight",
        "mark",
        "place",
        "rules",
        "threaded",
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
        """None when the key is known by its hash alone, as in a settling."""
        self.cost = cost
        self.place = place
        self.epoch = epoch
        self.call = call
        self.rules = rules
        """The rules when the request was made: the answer is in their definition."""
        self.item = (bucket, place)
        """The key that it is about."""
        self.threaded = False
        """Whether it goes over the connection of a thread, not over that of the event loop."""
        self.is_in_flight = False
        self.key_in_flight: KeyInFlight | None = None
        self.mark = 0
        """The last three belong to `RequestsInFlight`."""

    def follows(self, rules: Rules) -> bool:
        """Whether these rules define the bucket as those of the request: else the debt of the
        answer is in other units."""
        made = self.rules
        return made is rules or made.arguments.definition == rules.arguments.definition
