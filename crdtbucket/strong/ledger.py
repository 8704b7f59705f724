"""What one node states to the common store, and how it books the answers. No I/O here.

Redis is one more replica: every call carries the own column, so that any call settles what an
earlier one left open. An answer that never came is counted as taken here, and as refunded too where
the caller was denied; the next settle puts the store right. Nothing is ever asked twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from operator import index
from typing import Any, TypeVar, cast

from crdtbucket._core import BucketCore, Decision, Table
from crdtbucket.errors import RedisReplyError, WireError
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.spec.bucket_spec import OnOutage
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.in_flight import Flights
from crdtbucket.strong.owed import Owed
from crdtbucket.strong.quota import Quota
from crdtbucket.strong.redis import script
from crdtbucket.strong.redis.script import Answer, Call, Column, Status
from crdtbucket.strong.store_request import Ask, Place, Rules

SECOND = 1_000_000_000
SYNC_NS = 100_000_000
"""For so long after the store and this node compared all columns of a key, the own level alone may
deny."""
REMEMBERED_SYNCS = 100_000


Method = TypeVar("Method", bound=Callable[..., Any])


def _locked(method: Method) -> Method:
    """One of these at a time: threads that ask by themselves book beside the event loop."""

    @wraps(method)
    def alone(self: Desk, *args: Any, **named: Any) -> Any:
        with self.lock:
            return method(self, *args, **named)

    return cast("Method", alone)


class Desk:
    """The books of one node with one common store; its calls under the `lock`."""

    def __init__(
        self,
        table: Table,
        roster: Roster,
        node: str,
        rules: dict[BucketCore, Rules],
        *,
        prefix: bytes = b"crdtbucket:",
        nodes: Callable[[], int] = lambda: 1,
    ) -> None:
        """`nodes`: how many nodes share the limits, as far as is known here."""
        self._table = table
        self._roster = roster
        self._node = node
        self._rules = rules
        self._nodes = nodes
        self._prefix = prefix
        self._prefixes: dict[BucketCore, bytes] = {}
        self._candidates: dict[BucketCore, Rules] = {}
        self._by_name: dict[int, BucketCore] = {}
        self.lock = threading.RLock()
        """Held while anything is counted or booked; never while anything is waited for."""
        self.flights = Flights()
        self.owed = Owed(table, self._by_name)
        """What the store is still to be told."""
        for bucket, its in rules.items():
            self.follow(bucket, its)
        self._synced: dict[Place, int] = {}
        self._owner = (0, b"")
        self.counters = dict.fromkeys(
            ("denied_here", "ghosts", "settled_keys", "settled_tokens"), 0
        )

    @_locked
    def follow(self, bucket: BucketCore, rules: Rules, candidate: Rules | None = None) -> None:
        """How a bucket talks from now on, be it new or defined anew, and how it does on the keys of
        its candidate. What is under way goes on."""
        self._rules[bucket] = rules
        self._candidates.pop(bucket, None)
        if candidate is not None:
            self._candidates[bucket] = candidate
        self._prefixes[bucket] = key_prefix(self._prefix, bucket.spec.key)
        self._by_name[bucket.name_hash] = bucket

    def _rules_for(self, bucket: BucketCore, place: Place) -> Rules:
        """How the bucket talks on one key."""
        candidate = self._candidates.get(bucket)
        if candidate is not None and bucket.on_candidate(place[1]):
            return candidate
        return self._rules[bucket]

    # ---- decisions ----

    def open(
        self,
        bucket: BucketCore,
        key: str | bytes,
        cost: int,
        fence: int,
        *,
        threaded: bool = False,
    ) -> Ask | Decision:
        """What to ask the store, or the decision when it need not be asked. Raises as `take`.
        `threaded`: over a connection of the thread that asks. Call it under the lock."""
        stated = bucket.open_call(key, cost)
        if stated is None:
            return bucket.take_as(key, cost, Mode.STRONG)  # no room: the table's own policy
        cost = index(cost)  # it is one: open_call has checked it
        lo, hi, birth, taken, refunded, debt, wait = stated
        if not wait:
            place = (lo, hi)
            call = Call(
                self.name(bucket, place),
                cost,
                self._own_name(),
                fence,
                birth,
                taken,
                refunded,
                debt,
                None,
            )
            rules = self._rules_for(bucket, place)
            return self._begin(Ask(bucket, key, cost, place, self._owner[0], call, rules), threaded)
        if self._table.now() - self._synced.get((lo, hi), -(2**62)) < SYNC_NS:
            self.counters["denied_here"] += 1
            return self._deny(bucket, key, cost, Mode.STRONG)
        whole = self._whole(bucket, (lo, hi), key, cost, fence)
        assert whole is not None, "open_call has made the entry"
        return self._begin(whole, threaded)

    def _begin(self, ask: Ask, threaded: bool) -> Ask:
        self._table.open_tokens += ask.cost
        ask.threaded = threaded
        self.flights.began(ask)
        return ask

    def answer(
        self, ask: Ask, answer: Answer, fence: int, wanted: bool = True
    ) -> Decision | Ask | None:
        """Books an answer: the decision, another ask to be sent at once, or None when the entry is
        gone and the whole cannot be stated. `wanted`: somebody still waits; else what was taken is
        given back. Raises `RedisReplyError`. Call it under the lock."""
        if answer.status is Status.UNKNOWN:
            whole = self._whole(ask.bucket, ask.place, ask.key, ask.cost, fence)
            self.flights.ended(ask)
            if whole is not None:
                whole.threaded = ask.threaded
                self.flights.began(whole)
            return whole
        allowed = answer.status is Status.ALLOWED
        charged = ask.cost if allowed else 0
        ahead = self._check_record(ask, answer, charged)
        if ask.key is None:
            self._join(ask, answer, ahead)
            self.flights.ended(ask)
            return None
        short = 0
        if ask.call.others is not None:
            self._join(ask, answer, charged + ahead)
            if allowed:
                short = ask.bucket.shortage(*ask.place, ask.cost)
        returned = charged if short or not wanted else 0
        if returned:
            self.owed.add(*ask.item)
        decision = ask.bucket.close_call(
            ask.key,
            ask.cost,
            allowed=allowed and not returned,
            taken=charged,
            refunded=returned,
            mode=Mode.STRONG,
            debt=answer.debt_ns if self._is_current(ask) else None,
            wait=short,
        )
        self._table.open_tokens -= ask.cost
        self.flights.ended(ask)
        if allowed and not returned:
            self._rules_for(*ask.item).quota.charge(ask.key, ask.cost, self._nodes())
        return decision

    @_locked
    def lost(self, ask: Ask, mode: Mode, wanted: bool = True) -> Decision | None:
        """Decides what the store did not answer in time, under the rule of `mode`: it may have
        charged the cost or not, or charge it later, until `ended` or `adrift` is told. None for a
        settle, which is due again, and when nobody waits."""
        self.flights.ended(ask)
        self.owed.add(*ask.item)
        if ask.key is None:
            return None
        decision = self.away(ask.bucket, ask.key, ask.cost, mode) if wanted else None
        if decision is None or not took(decision):
            ask.bucket.void(*ask.place, ask.cost)
        return decision

    @_locked
    def ended(self, ask: Ask, answer: Answer | None = None) -> None:
        """A call that was given up has been answered after all, or never went out. Its tokens are
        counted here; what the store has beyond that came when a peer had told it so before."""
        if answer is not None and answer.status in (Status.ALLOWED, Status.DENIED):
            self._check_record(ask, answer, 0)
        self._table.open_tokens -= ask.cost

    @_locked
    def withdraw(self, ask: Ask) -> None:
        """A call that did not run, and is asked for in another way."""
        self.flights.ended(ask)
        self._table.open_tokens -= ask.cost

    @_locked
    def adrift(self, ask: Ask) -> None:
        """The connection of a call that was given up has ended: it may still be carried out, until
        a later connection asks for its key."""
        self.owed.add(*ask.item)  # another connection may have settled it since
        if ask.cost:
            self.owed.adrift(ask.item, ask.cost, ask.call.fence)

    @_locked
    def away(self, bucket: BucketCore, key: str | bytes, cost: int, mode: Mode) -> Decision:
        """A decision without the store, under the rule of `mode`: eventual, or what the bucket does
        in an outage."""
        rules = self._rules_for(bucket, bucket.hash(key) if self._candidates else (0, 0))
        rule: OnOutage = "eventual" if mode is Mode.EVENTUAL else rules.on_outage
        if rule == "quota":
            decision = self._from_quota(bucket, rules.quota, key, cost)
        elif rule == "eventual":
            decision = bucket.take_as(key, cost, Mode.EVENTUAL)
        elif rule == "allow":
            bucket.open_call(key, cost)  # checks both, and makes the entry
            decision = bucket.close_call(
                key, cost, allowed=True, taken=cost, refunded=0, mode=Mode.FALLBACK
            )
        else:
            bucket.open_call(key, cost)
            decision = self._deny(bucket, key, cost, Mode.FALLBACK)
        if took(decision):
            if rule != "quota":
                rules.quota.charge(key, cost, self._nodes())
            self.owed.add(bucket, bucket.hash(key), cost)
        return decision

    def _from_quota(
        self, bucket: BucketCore, quota: Quota, key: str | bytes, cost: int
    ) -> Decision:
        if bucket.open_call(key, cost) is None:
            return bucket.take_as(key, cost, Mode.FALLBACK)
        share = quota.take(key, cost, self._nodes())
        if share is None or not share.allowed:
            wait = SECOND if share is None else share.retry_after_ns
            return self._deny(bucket, key, cost, Mode.FALLBACK, wait)
        decision = bucket.take_as(key, cost, Mode.FALLBACK)
        if not took(decision):
            quota.refund(share)
        return decision

    def _deny(
        self, bucket: BucketCore, key: str | bytes, cost: int, mode: Mode, wait: int = 0
    ) -> Decision:
        return bucket.close_call(
            key, cost, allowed=False, taken=0, refunded=0, mode=mode, wait=wait
        )

    @_locked
    def give_back(self, decision: Decision) -> None:
        """Refunds a decision whose caller is gone."""
        bucket = decision.bucket
        if bucket.refund(decision):
            self.owed.add(bucket, bucket.hash(decision.key))

    def _is_current(self, ask: Ask) -> bool:
        """Whether the bucket is still defined as when it was asked for: else the debt of the answer
        is in other units."""
        return ask.rules.arguments.definition == self._rules_for(*ask.item).arguments.definition

    # ---- settling ----

    @_locked
    def settle(self, bucket: BucketCore, place: Place, fence: int) -> Ask | None:
        """The settle of one key; None, and nothing is owed, when it has no entry any more: then it
        was full."""
        ask = self._whole(bucket, place, None, 0, fence)
        if ask is not None:
            self.flights.began(ask)
        elif (bucket, place) in self.owed.unsettled:
            self.owed.dismiss((bucket, place))
        return ask

    def _whole(
        self, bucket: BucketCore, place: Place, key: str | bytes | None, cost: int, fence: int
    ) -> Ask | None:
        """An ask that states all columns of a key, so that the store's debt afterwards stands for
        them all."""
        stated = bucket.advertised(*place)
        if stated is None:
            return None
        birth, taken, refunded, debt, others = stated
        names = self._roster.names()
        columns = tuple(
            Column(script.owner_name(epoch, names[node]), *counts)
            for node, epoch, *counts in others
            if node in names
        )
        owner = self._own_name()
        call = Call(
            self.name(bucket, place), cost, owner, fence, birth, taken, refunded, debt, columns
        )
        rules = self._rules_for(bucket, place)
        return Ask(bucket, key, cost, place, self._owner[0], call, rules)

    def _check_record(self, ask: Ask, answer: Answer, charged: int) -> int:
        """Compares the own record in the store with what is counted here. Returns the tokens by
        which it is ahead as calls of other connections are not booked yet."""
        self.owed.asked(ask.item, ask.call.fence)
        own = ask.bucket.own(*ask.place)
        if own is None or own[0] != ask.birth or ask.epoch != self._table.epoch:
            return 0
        _, taken, refunded = own
        ahead = answer.taken - charged - taken
        unbooked = min(max(0, ahead), self.flights.unbooked(ask))
        ghost = ahead - unbooked
        if ghost > 0:
            # A call of an abandoned connection ran after all, and nobody got its tokens.
            ask.bucket.void(*ask.place, ghost)
            self.counters["ghosts"] += 1
            self.owed.add(*ask.item)
        elif (
            self.owed.unsettled
            and ahead == 0
            and answer.refunded == refunded
            and self.flights.alone(ask)
        ):
            tokens = self.owed.unsettled.pop(ask.item, None)
            if tokens is not None:
                self.counters["settled_keys"] += 1
                self.counters["settled_tokens"] += tokens
        return unbooked

    def _join(self, ask: Ask, answer: Answer, charged: int) -> None:
        """Adopts the statement of the store as it was before the `charged` tokens: those of this
        call, and of others that are not booked yet."""
        arguments = ask.rules.arguments
        before = max(0, answer.debt_ns - arguments.q * charged // arguments.p)
        columns = []
        try:
            for column in answer.columns:
                taken = column.taken
                if column.owner == ask.call.owner:
                    taken -= charged
                origin = self._origin(column.owner)
                columns.append((origin, column.birth, taken, column.refunded))
            ask.bucket.adopt(*ask.place, before, self._is_current(ask), columns)
        except WireError as error:
            raise RedisReplyError(f"the record of a node cannot be joined: {error}") from error
        if len(self._synced) >= REMEMBERED_SYNCS:
            self._synced.clear()
        self._synced[ask.place] = self._table.now()

    # ---- names ----

    def name(self, bucket: BucketCore, place: Place) -> bytes:
        """The Redis key of a bucket's key."""
        return b"%s%016x%016x}" % (self._prefixes[bucket], place[1], place[0])

    def _own_name(self) -> bytes:
        epoch = self._table.epoch
        if self._owner[0] != epoch:
            self._owner = (epoch, script.owner_name(epoch, self._node))
        return self._owner[1]

    def _origin(self, owner: bytes) -> int:
        epoch, node = script.read_owner(owner)
        return self._table.origin(self._roster.node(node), epoch)


def took(decision: Decision) -> bool:
    """Whether tokens were taken: a shadow admits what its limit denies."""
    return decision.allowed and not decision.shadowed


def key_prefix(prefix: bytes, bucket: str) -> bytes:
    """How the Redis keys of a bucket begin."""
    return b"%s{%s:" % (prefix, bucket.encode())


def redis_key(prefix: bytes, bucket: str, place: Place) -> bytes:
    """The Redis key of a bucket's key, known by its hash."""
    return b"%s%016x%016x}" % (key_prefix(prefix, bucket), place[1], place[0])


__all__ = ["Desk", "key_prefix", "redis_key"]
