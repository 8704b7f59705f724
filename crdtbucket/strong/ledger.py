"""The ledger: it counts what one node and the store owe each other. No I/O here. Redis is one more
replica: every request carries this node's own column, so any request also settles what an earlier
one left open. A request without an answer is counted as taken here, and as refunded too when the
caller was denied; the next settling corrects the store. No request is sent twice.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index

from crdtbucket._core import BucketCore, BucketReplica, Decision, Table
from crdtbucket.base.forks import ForkLock
from crdtbucket.errors import RedisReplyError, WireError
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.in_flight import RequestsInFlight
from crdtbucket.strong.local_decisions import LocalDecisions, deny, took
from crdtbucket.strong.redis.script import (
    ALLOWED,
    UNKNOWN,
    ScriptAnswer,
    ScriptCall,
    ScriptStatus,
)
from crdtbucket.strong.redis.shares import ALONE, Division
from crdtbucket.strong.slot_ledger import SlotLedger
from crdtbucket.strong.store_names import StoreNames
from crdtbucket.strong.store_request import StoreRequest
from crdtbucket.strong.store_rules import Place, RuleBook
from crdtbucket.strong.unsettled import Unsettled

SYNC_NS = 100_000_000
"""Time (ns) after all columns of a key were compared with the store, during which this node's own
level may deny a call without a request."""
REMEMBERED_SYNCS = 100_000


class Ledger:
    """The ledger of one node with one store; its methods run under the `lock`, as threads that send
    requests themselves book beside the event loop."""

    def __init__(
        self,
        table: Table,
        names: StoreNames,
        rules: RuleBook,
        *,
        division: Callable[[], Division] = lambda: ALONE,
        on_unsettled: Callable[[], None] = lambda: None,
    ) -> None:
        """`division`: among how many nodes the limits are divided, as far as is known here.
        `on_unsettled` is called when a key is added to what the store lacks."""
        self.table = table
        self.names = names
        self.lock = ForkLock()
        """Held while anything is counted or booked, and never during a wait."""
        self.in_flight = RequestsInFlight()
        self.unsettled = Unsettled(table, rules.by_name, on_unsettled)
        """The keys of which the store still lacks counts."""
        self.slots = SlotLedger(table, self.names, rules.slots, division, on_unsettled)
        """The holds on buckets of slots."""
        self._rules = rules
        self.local = LocalDecisions(rules, division, table.now, self.lock)
        self._synced: dict[Place, int] = {}
        self.counters = dict.fromkeys(
            ("denied_here", "unclaimed_charges", "settled_keys", "settled_tokens"), 0
        )

    # ---- decisions ----

    def open(
        self,
        bucket: BucketCore,
        key: str | bytes,
        cost: int,
        fence: int,
        *,
        threaded: bool = False,
    ) -> StoreRequest | Decision:
        """The request to send to the store, or the decision when none is needed. Raises as `take`.
        `threaded`: it goes over a connection of the calling thread. Call it under the lock."""
        opened = BucketReplica(bucket).open_call(key, cost)
        if opened is None:
            return bucket.take_as(key, cost, Mode.STRONG)  # no room: the table's own policy
        cost = index(cost)  # open_call has checked that it is a whole number
        lo, hi, generation, taken, refunded, debt, wait = opened
        place = (lo, hi)
        if not wait:
            name, rules = self.names.key(bucket, place), self._rules.of(bucket, place)
            owner = self.names.owner()
            call = ScriptCall(name, cost, owner, fence, generation, taken, refunded, debt)
            request = StoreRequest(bucket, key, cost, place, call, rules, self)
            return self._begin(request, threaded)
        if self.table.now() - self._synced.get(place, -(2**62)) < SYNC_NS:
            self.counters["denied_here"] += 1
            return deny(bucket, key, cost, Mode.STRONG)
        whole = self._whole(bucket, place, key, cost, fence)
        assert whole is not None, "open_call has made the entry"
        return self._begin(whole, threaded)

    def _begin(self, request: StoreRequest, threaded: bool) -> StoreRequest:
        self.unsettled.opened(request.cost)
        request.threaded = threaded
        self.in_flight.began(request)
        return request

    def book(
        self, request: StoreRequest, answer: ScriptAnswer, fence: int, wanted: bool = True
    ) -> Decision | StoreRequest | None:
        """Books an answer. Returns the decision, or another request to send at once, or None when
        the entry is gone and its columns cannot be sent. `wanted`: a caller still waits; else the
        tokens go back. Raises `RedisReplyError`. Call it under the lock."""
        if answer.status is UNKNOWN:
            whole = self._whole(request.bucket, request.place, request.key, request.cost, fence)
            self.in_flight.ended(request)
            if whole is not None:
                whole.threaded = request.threaded
                self.in_flight.began(whole)
            return whole
        allowed = answer.status is ALLOWED
        charged = request.cost if allowed else 0
        ahead = self._check_record(request, answer, charged)
        if request.key is None:
            self._merge(request, answer, ahead)
            self.in_flight.ended(request)
            return None
        short = 0 if allowed else request.held_back_ns(answer)
        if request.call.others is not None:
            self._merge(request, answer, charged + ahead)
            if allowed:
                short = request.replica.shortage(*request.place, request.cost)
        current = self._rules.of(*request.item)
        returned = charged if short or not wanted else 0
        if returned:
            self.unsettled.add(*request.item)
        decision = request.replica.close_call(
            request.key,
            request.cost,
            allowed=allowed and not returned,
            taken=charged,
            refunded=returned,
            mode=Mode.STRONG,
            debt=answer.debt_ns if request.follows(current) else None,
            wait=short,
        )
        self.unsettled.closed(request.cost)
        self.in_flight.ended(request)
        if allowed and not returned:
            self.local.charge(current, request.key, request.cost)
        return decision

    def give_up(self, request: StoreRequest, mode: Mode, wanted: bool = True) -> Decision | None:
        """Decides under `mode` what the store did not answer in time. The store may have charged
        the cost, or may charge it later, until `ended` or `connection_ended` is called. None for a
        settling, which stays due, and when no caller waits. Raises as `take`, such as when the
        limiter was closed meanwhile, or holds less since a reload; all is counted then, too."""
        with self.lock:
            self.in_flight.ended(request)
            self.unsettled.add(*request.item)
            if request.key is None:
                return None
            decision = None
            try:
                if wanted:
                    decision = self.decide_here(request.bucket, request.key, request.cost, mode)
            finally:
                if decision is None or not took(decision):
                    request.replica.void(*request.place, request.cost)
            return decision

    def ended(self, request: StoreRequest, answer: ScriptAnswer | None = None) -> None:
        """A request that was given up has been answered after all. Its tokens are already counted
        here, and the store has more only if a peer had settled them before. Or the store does not
        run the request: it was never sent, or the decision is asked for in another way."""
        with self.lock:
            if answer is not None and answer.status in (ScriptStatus.ALLOWED, ScriptStatus.DENIED):
                self._check_record(request, answer, 0)
            self.in_flight.ended(request)
            self.unsettled.closed(request.cost)

    def connection_ended(self, request: StoreRequest) -> None:
        """The connection of a request that was given up has ended: the store may still run it,
        until a later connection sends a request for its key."""
        with self.lock:
            self.unsettled.add(*request.item)  # another connection may have settled it since
            if request.cost:
                self.unsettled.may_still_run(request.item, request.cost, request.call.fence)

    def lacking(self, request: StoreRequest) -> bool:
        """Whether it is known that the store lacks counts of the key of a request."""
        return request.item in self.unsettled.pending

    def decide_here(self, bucket: BucketCore, key: str | bytes, cost: int, mode: Mode) -> Decision:
        """The decision without the store, under `mode`. What it takes is settled later."""
        with self.lock:
            decision = self.local.decide(bucket, key, cost, mode)
            if took(decision):
                self.unsettled.add(bucket, bucket.hash(key), cost)
            return decision

    def refund(self, decision: Decision) -> None:
        """Gives back what was taken for a caller that waits no longer."""
        with self.lock:
            bucket = decision.bucket
            if bucket.refund(decision):
                self.unsettled.add(bucket, bucket.hash(decision.key))

    # ---- settling ----

    def settle(self, bucket: BucketCore, place: Place, fence: int) -> StoreRequest | None:
        """The request that settles one key. None when the key has no entry any more: then it was
        full, and nothing is unsettled."""
        with self.lock:
            request = self._whole(bucket, place, None, 0, fence)
            if request is not None:
                self.in_flight.began(request)
            elif (bucket, place) in self.unsettled.pending:
                self.unsettled.dismiss((bucket, place))
            return request

    def _whole(
        self, bucket: BucketCore, place: Place, key: str | bytes | None, cost: int, fence: int
    ) -> StoreRequest | None:
        """A request with all columns of a key, so that the store's debt afterwards covers them
        all."""
        entry = BucketReplica(bucket).advertised(*place)
        if entry is None:
            return None
        generation, taken, refunded, debt, others = entry
        columns, owner = self.names.columns(others), self.names.owner()
        name, rules = self.names.key(bucket, place), self._rules.of(bucket, place)
        call = ScriptCall(name, cost, owner, fence, generation, taken, refunded, debt, columns)
        return StoreRequest(bucket, key, cost, place, call, rules, self)

    def _check_record(self, request: StoreRequest, answer: ScriptAnswer, charged: int) -> int:
        """Compares this node's record in the store with what is counted here. Returns the tokens
        by which the store is ahead because requests of other connections are not booked yet."""
        self.unsettled.fenced(request.item, request.call.fence)
        own = request.replica.own(*request.place)
        if (
            own is None
            or own[0] != request.call.generation
            or request.epoch != self.table.epochs.running
        ):
            return 0
        _, taken, refunded = own
        ahead = answer.taken - charged - taken
        unbooked = min(ahead, self.in_flight.unbooked(request)) if ahead > 0 else 0
        unclaimed = ahead - unbooked
        if unclaimed > 0:
            # A request of an abandoned connection ran after all, but no caller got its tokens.
            request.replica.void(*request.place, unclaimed)
            self.counters["unclaimed_charges"] += 1
            self.unsettled.add(*request.item)
        elif (
            self.unsettled.pending
            and ahead == 0
            and answer.refunded == refunded
            and self.in_flight.alone(request)
        ):
            tokens = self.unsettled.pending.pop(request.item, None)
            if tokens is not None:
                self.counters["settled_keys"] += 1
                self.counters["settled_tokens"] += tokens
        return unbooked

    def _merge(self, request: StoreRequest, answer: ScriptAnswer, charged: int) -> None:
        """Adopts the store's entry as it was before the `charged` tokens: those of this request,
        and of others that are not booked yet."""
        arguments = request.rules.arguments
        before = max(0, answer.debt_ns - arguments.q * charged // arguments.p)
        columns = []
        for column in answer.columns:
            taken = column.taken
            if column.owner == request.call.owner:
                taken -= charged
            if origin := self.names.origin(column):
                columns.append((origin, column.generation, taken, column.refunded))
        try:
            current = request.follows(self._rules.of(*request.item))
            request.replica.adopt(*request.place, before, current, columns)
        except WireError as error:
            raise RedisReplyError(f"the record of a node cannot be merged: {error}") from error
        if len(self._synced) >= REMEMBERED_SYNCS:
            self._synced.clear()
        self._synced[request.place] = self.table.now()
