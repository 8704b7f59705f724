"""One request to the store, the key that it is about, and what else is in flight on that key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from crdtbucket._core import BucketCore, BucketReplica, Decision
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.redis.script import ScriptAnswer, ScriptCall
from crdtbucket.strong.redis.slot_script import SlotAnswer
from crdtbucket.strong.store_rules import Place, Rules

Item = tuple[BucketCore, Place]
Answered = ScriptAnswer | SlotAnswer


class RequestLedger(Protocol):
    """The ledger that made a request and counts its outcome; the methods of `Ledger` say how.

    `ended` and `connection_ended` do nothing here, which is right for a ledger that has counted
    everything by the time it gives a request up.
    """

    def book(
        self, request: Any, answer: Any, fence: int, wanted: bool = True
    ) -> Decision | SentRequest | None: ...

    def give_up(self, request: Any, mode: Mode, wanted: bool = True) -> Decision | None: ...

    def lacking(self, request: Any) -> bool: ...

    def ended(self, request: Any, answer: Any = None) -> None:
        """The request has been answered after all, or was never sent."""
        return

    def connection_ended(self, request: Any) -> None:
        """The store may still run it."""
        return


class SentRequest(Protocol):
    """A request as the dispatcher sends it: for tokens, for slots, or to settle a key."""

    @property
    def key(self) -> str | bytes | None:
        """The key that a decision is asked for, None when none is."""

    @property
    def cost(self) -> int:
        """The tokens or slots to take, 0 when nothing is to be taken."""

    @property
    def ledger(self) -> RequestLedger: ...

    def command(self, beats: bytes, source: bool) -> bytes:
        """The bytes of the request, with the beats of this region; with `source` those of the whole
        script, for a server that lacks it."""

    def parse(self, reply: object) -> Answered:
        """Reads the answer of the script in a reply. Raises `RedisReplyError`."""

    def sent_by(self, fence: int) -> None:
        """The request goes over the connection with this fence."""


@dataclass(slots=True, eq=False)
class KeyInFlight:
    """The requests in flight on one key; its numbers belong to `RequestsInFlight`."""

    requests: int = 0
    """All that are in flight now."""
    by_threads: int = 0
    """Those of them that threads have sent."""
    tokens: int = 0
    """Tokens that the requests of the event loop ask for."""
    thread_tokens: int = 0
    """Tokens that those of threads ask for."""
    begun: int = 0
    """Requests that have begun since there was none in flight; it does not fall when they end."""
    begun_by_threads: int = 0
    """Those of them that threads have sent."""


@dataclass(slots=True, eq=False)
class StoreRequest:
    """A request for one decision, or for the settling of one key (cost 0)."""

    bucket: BucketCore
    key: str | bytes | None
    """None when the key is known by its hash alone, as in a settling."""
    cost: int
    place: Place
    call: ScriptCall
    rules: Rules
    """The rules when the request was made: the answer uses the units of their definition."""
    ledger: RequestLedger
    replica: BucketReplica = field(init=False)
    """The bucket's counts, in which answers of the store are booked."""
    item: Item = field(init=False)
    """The bucket and the key's hash."""
    epoch: int = field(init=False)
    """The epoch of this process when the request was made."""
    threaded: bool = field(default=False, init=False)
    """Whether it goes over the connection of a thread, not over that of the event loop."""
    is_in_flight: bool = field(default=False, init=False)
    key_in_flight: KeyInFlight | None = field(default=None, init=False)
    mark: int = field(default=0, init=False)
    """Shows whether the request is alone on its key. It is the number of requests of threads (for a
    request of a thread: of all requests, itself included) that had begun on the key when this one
    began, while no other was in flight; the request is alone as long as no more begin. -1: another
    was in flight. This and the two fields before it belong to `RequestsInFlight`."""

    def __post_init__(self) -> None:
        self.replica, self.item = BucketReplica(self.bucket), (self.bucket, self.place)
        self.epoch = self.bucket.table.epochs.running

    def follows(self, rules: Rules) -> bool:
        """Whether these rules define the bucket as those of the request: else the debt of the
        answer is in other units."""
        made = self.rules
        return made is rules or made.arguments.definition == rules.arguments.definition

    def held_back_ns(self, answer: ScriptAnswer) -> int:
        """How much longer (ns) a denied call has to wait because a part of the bucket is held back
        for silent regions."""
        arguments = self.rules.arguments
        if not answer.hold_ns:
            return 0
        over = (self.cost - arguments.capacity) * arguments.q // arguments.p
        return max(0, answer.debt_ns + answer.hold_ns + over)

    def command(self, beats: bytes, source: bool) -> bytes:
        """The bytes of the request, which carry these beats; with `source` those of the whole
        script, for a server that lacks it."""
        self.call.beats = beats
        return self.rules.arguments.command(self.call, source)

    def parse(self, reply: object) -> ScriptAnswer:
        return self.rules.arguments.parse(reply)

    def sent_by(self, fence: int) -> None:
        self.call.fence = fence
