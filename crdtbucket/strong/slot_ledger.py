"""The holds of one node on slots whose limit Redis keeps. No I/O here.

Redis has a record of each hold, by its id, and decides. Holds that were made without Redis are
recorded there as soon as it answers. A record there that no caller holds is freed, or ends with its
ttl. See docs/model.md, "Slots with Redis". All of it runs on one event loop.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from crdtbucket._core import BucketCore, BucketReplica, Decision, SlotSearch, Table, slot_of
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.spec.bucket_kinds import SLOT_TOKENS
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.local_decisions import deny, took
from crdtbucket.strong.redis.script import ScriptStatus
from crdtbucket.strong.redis.shares import Division
from crdtbucket.strong.redis.slot_script import SlotAnswer, SlotCall, SlotRow
from crdtbucket.strong.slot_request import SlotHold, SlotRequest
from crdtbucket.strong.store_names import StoreNames
from crdtbucket.strong.store_request import Item, RequestLedger
from crdtbucket.strong.store_rules import SlotRules

MS = 1_000_000
MOST_GONE = 500
"""Ids that one call frees; the next one frees others."""
DRIFT = 500
"""The speeds of the clocks may differ by one part in this many. If at most that part of a hold's
ttl, and a second, is left, the hold may have ended by Redis' clock: a missing record then does not
mean that Redis has lost it."""


class SlotLedger(RequestLedger):
    """Keeps the holds of one node on slots, by key."""

    def __init__(
        self,
        table: Table,
        names: StoreNames,
        rules: Mapping[BucketCore, SlotRules],
        division: Callable[[], Division],
        on_pending: Callable[[], None],
    ) -> None:
        """`rules`: of each bucket of slots. `division`: among how many nodes slots are divided in
        an outage. `on_pending` is called when a record in Redis begins to differ from the holds of
        this node."""
        self.pending: dict[Item, None] = {}
        """Keys whose record in Redis differs from the holds of this node."""
        self._table = table
        self._names = names
        self._division = division
        self._on_pending = on_pending
        self._rules = rules
        self._numbers = itertools.count(1)
        self._live: dict[Item, dict[bytes, SlotHold]] = {}
        self._gone: dict[Item, dict[bytes, int]] = {}
        self._born: dict[Item, int] = {}
        self._begun: OrderedDict[SlotHold, None] = OrderedDict()

    def __contains__(self, bucket: object) -> bool:
        return bucket in self._rules

    def name(self, item: Item) -> bytes:
        """The Redis key of a key's slots; in a cluster it is on the same node as the key of a
        record would be."""
        return self._names.key(*item) + b":slots"

    def new(
        self, bucket: BucketCore, search: SlotSearch, key: str | bytes, ttl_ns: int
    ) -> SlotHold:
        """A hold that is to be asked for. Raises `InvalidKey`."""
        search.check(key)
        name = b"%016x:%d" % (self._table.epochs.running, next(self._numbers))
        return SlotHold(bucket, search, key, ttl_ns, name)

    def share(self, bucket: BucketCore) -> int | None:
        """Slots of a key that this node holds at most in an outage; None when `on_outage` is not
        "quota"."""
        rules = self._rules[bucket]
        return rules.share(self._division().nodes) if rules.on_outage == "quota" else None

    def outage(self, bucket: BucketCore) -> dict[str, object]:
        """What callers of a bucket get without the store: its `rule`, and for the rule "quota" the
        `tokens` that a key has here, which are slots and do not refill."""
        share = self.share(bucket)
        rule: dict[str, object] = {"rule": self._rules[bucket].on_outage}
        return rule if share is None else {**rule, "tokens": share}

    # ---- decisions ----

    def open(self, hold: SlotHold) -> SlotRequest:
        """The request for a hold. What this node holds without a record goes with it."""
        self._begin(hold)
        hold.asked = True
        return self._request(hold.item, hold, whole=hold.item in self.pending)

    def decide_here(self, hold: SlotHold, mode: Mode) -> Decision:
        """The decision without Redis, under `mode`."""
        self._begin(hold)
        rules = self._rules[hold.bucket]
        rule = "eventual" if mode is Mode.EVENTUAL else rules.on_outage
        mode = Mode.EVENTUAL if rule == "eventual" else Mode.FALLBACK
        if rule == "deny":
            return self._deny(hold, mode, NS_PER_SECOND)
        if rule == "quota":
            own = [one.deadline_ns for one in self._alive(hold.item)]
            if len(own) >= rules.share(self._division().nodes):
                end = min(own, default=hold.deadline_ns)
                return self._deny(hold, mode, end - self._table.now())
        if rule == "allow":
            return self._hold(hold, slot_of(hold.search.peek(hold.key).key)[1], mode)
        decision = hold.search.take(hold.key, mode=mode)
        if took(decision):
            self._keep(hold, slot_of(decision.key)[1])
        return decision

    def book(
        self, request: SlotRequest, answer: SlotAnswer, fence: int, wanted: bool = True
    ) -> Decision | SlotRequest | None:
        """Books an answer. Returns the decision, or another request to send at once, or None when
        nobody waits for one."""
        item, hold = request.item, request.hold
        if answer.status is ScriptStatus.UNKNOWN:
            self._leave(item, request.gone)
            return self._request(item, hold, whole=True)
        self._booked(request, answer)
        if hold is None or not wanted:
            return None
        if answer.status is ScriptStatus.ALLOWED:
            hold.stored = True
            self._born[item] = answer.born
            return self._hold(hold, answer.number, Mode.STRONG)
        hold.asked = False
        return self._deny(hold, Mode.STRONG, answer.left_ms * MS)

    def give_up(self, request: SlotRequest, mode: Mode, wanted: bool = True) -> Decision | None:
        """Decides under `mode` what Redis did not answer in time. Redis may have the hold, or may
        still record it: then the hold is freed there later, unless it is held here. Raises as a
        search does."""
        hold = request.hold
        self._leave(request.item, request.gone)
        if hold is None:
            return None
        decision = None
        try:
            if wanted:
                decision = self.decide_here(hold, mode)
        finally:
            if (decision is None or not took(decision)) and self._may_be_there(hold):
                self._leave(hold.item, {hold.id: hold.deadline_ns})
        return decision

    def lacking(self, request: SlotRequest) -> bool:
        """Whether it was known that Redis lacks holds of the key of a request."""
        return request.item in self.pending

    def release(self, hold: SlotHold) -> SlotRequest | None:
        """A hold ends. Returns what frees it in Redis; None when that has nothing to free."""
        self._begun.pop(hold, None)
        live = self._live.get(hold.item, {})
        if live.pop(hold.id, None) is None:
            return None  # the hold has ended already
        born = self._known(hold.item, (*live.values(), hold))
        self._alive(hold.item)  # forgets the key, where this was its last hold
        if not self._may_be_there(hold):
            return None
        call = SlotCall(self.name(hold.item), self._rules[hold.bucket].slots, born, gone=[hold.id])
        return SlotRequest(self, hold.item, call, gone={hold.id: hold.deadline_ns})

    # ---- settling ----

    def settle(self, item: Item) -> SlotRequest | None:
        """The request that records and frees all of one key; None when there is nothing."""
        if not self._dead(item) and not self._alive(item):
            return None
        return self._request(item, None, whole=True)

    def held(self) -> Iterator[Item]:
        """The keys of which this node holds slots."""
        return iter(list(self._live))

    def _request(self, item: Item, hold: SlotHold | None, whole: bool) -> SlotRequest:
        slots, now = self._rules[item[0]].slots, self._table.now()
        alive = self._alive(item)
        name, born = self.name(item), self._known(item, alive)
        asked = (hold.id, math.ceil(hold.ttl_ns / MS)) if hold else (b"", 0)
        if not whole:
            return SlotRequest(self, item, SlotCall(name, slots, born, *asked), hold)
        gone = dict(itertools.islice(self._dead(item).items(), MOST_GONE))
        rows = [SlotRow(one.id, -(-(one.deadline_ns - now) // MS), one.number) for one in alive]
        for one in alive:
            one.asked = True
        call = SlotCall(name, slots, born, *asked, list(gone), rows)
        return SlotRequest(self, item, call, hold, alive, gone)

    def _booked(self, request: SlotRequest, answer: SlotAnswer) -> None:
        item = request.item
        gone = self._gone.get(item, {})
        for name in request.gone:
            gone.pop(name, None)
        if not gone:
            self._gone.pop(item, None)
        if answer.born != self._born.get(item, answer.born):
            for hold in self._alive(item):  # Redis has lost the record that had them
                hold.stored = False
        for hold in request.rows:
            hold.stored = True
        self._born.pop(item, None)
        alive = self._alive(item)
        if alive:
            self._born[item] = answer.born
        if gone or not all(hold.stored for hold in alive):
            self._due(item)
        else:
            self.pending.pop(item, None)

    def _known(self, item: Item, alive: tuple[SlotHold, ...] | list[SlotHold]) -> int | None:
        """The time at which the record with this node's holds began; None if it is not certain that
        the record exists."""
        now = self._table.now()
        for hold in alive:
            if hold.stored and hold.deadline_ns - now > NS_PER_SECOND + hold.ttl_ns // DRIFT:
                return self._born.get(item)
        return None

    # ---- holds ----

    def _begin(self, hold: SlotHold) -> None:
        now = self._table.now()
        if not hold.asked:  # else Redis may have recorded it meanwhile, and would free it first
            hold.deadline_ns = now + hold.ttl_ns
        # Mostly in the order of their ends; one with a longer ttl must not hide those behind it.
        while (oldest := next(iter(self._begun), None)) is not None and oldest.deadline_ns <= now:
            del self._begun[oldest]
            self._alive(oldest.item)
        if oldest is not None:
            self._begun.move_to_end(oldest)

    def _hold(self, hold: SlotHold, number: int, mode: Mode) -> Decision:
        """Holds that slot in the table, even where another hold has it there: Redis has decided."""
        name = hold.search.name(hold.key, number)
        decision = BucketReplica(hold.bucket).close_call(
            name, SLOT_TOKENS, allowed=True, taken=SLOT_TOKENS, refunded=0, mode=mode
        )
        self._keep(hold, number)
        return decision

    def _keep(self, hold: SlotHold, number: int) -> None:
        hold.number = number
        self._live.setdefault(hold.item, {})[hold.id] = hold
        self._begun[hold] = None
        if not hold.stored:
            self._due(hold.item)

    def _deny(self, hold: SlotHold, mode: Mode, wait_ns: int) -> Decision:
        wait_ns = max(wait_ns, MS)
        debt = min(wait_ns, hold.bucket.spec.interval_ns)
        return deny(hold.bucket, hold.key, SLOT_TOKENS, mode, wait_ns, debt)

    def _may_be_there(self, hold: SlotHold) -> bool:
        """Whether Redis may have a record of a hold."""
        return (hold.asked or hold.stored) and hold.deadline_ns > self._table.now()

    def _leave(self, item: Item, gone: Mapping[bytes, int]) -> None:
        """No caller holds these any more, and Redis may still have records of them, which are to be
        freed."""
        if gone:
            self._gone.setdefault(item, {}).update(gone)
            self._due(item)

    def _due(self, item: Item) -> None:
        if item not in self.pending:
            self.pending[item] = None
            self._on_pending()

    def _alive(self, item: Item) -> list[SlotHold]:
        """The holds of a key; those whose ttl is over are forgotten."""
        live, now = self._live.get(item, {}), self._table.now()
        for hold in [one for one in live.values() if one.deadline_ns <= now]:
            del live[hold.id]
            self._begun.pop(hold, None)
        if not live:
            self._live.pop(item, None)
            self._born.pop(item, None)
            if item not in self._gone:  # an outage may last, and there is no end of keys
                self.pending.pop(item, None)
        return list(live.values())

    def _dead(self, item: Item) -> dict[bytes, int]:
        """The ids to be freed; those whose ttl is over are forgotten."""
        gone, now = self._gone.get(item, {}), self._table.now()
        for name in [name for name, end in gone.items() if end <= now]:
            del gone[name]
        if not gone:
            self._gone.pop(item, None)
        return gone
