"""What the ledger sends, books and keeps for the store, rule by rule: answers made by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from crdtbucket._core import BucketCore, BucketReplica, Decision, Table
from crdtbucket.base.clock import NS_PER_SECOND as SECOND
from crdtbucket.errors import CostExceedsCapacity, RedisReplyError
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.mesh.protocol.wire import MAX_ORIGINS
from crdtbucket.spec.bucket_spec import BucketSpec, OnOutage
from crdtbucket.spec.mode import Mode
from crdtbucket.strong import ledger as module
from crdtbucket.strong.ledger import SYNC_NS, Ledger
from crdtbucket.strong.quota import Quota
from crdtbucket.strong.redis.script import (
    Arguments,
    Column,
    ScriptAnswer,
    ScriptCall,
    ScriptStatus,
    owner_name,
)
from crdtbucket.strong.redis.shares import Division
from crdtbucket.strong.store_names import StoreNames
from crdtbucket.strong.store_request import StoreRequest
from crdtbucket.strong.store_rules import RuleBook, Rules

START = 10**12
EPOCH = 5
ME, PEER = owner_name(EPOCH, "n"), owner_name(9, "peer")
TWO = Division(2, 2)
SPEC = BucketSpec("b", 10, 1, "1s")
"""A token is a second of debt."""
ALLOWED, DENIED, UNKNOWN = ScriptStatus.ALLOWED, ScriptStatus.DENIED, ScriptStatus.UNKNOWN


class Three:
    """A cost that is no `int`."""

    def __index__(self) -> int:
        return 3


class Book:
    """A ledger of one bucket, with its requests and answers."""

    def __init__(self, on_outage: OnOutage = "eventual", spec: BucketSpec = SPEC) -> None:
        self.table = Table(max_keys=64, virtual=True, hash_key=bytes(16), grace=0.0, epoch=EPOCH)
        self.table.set_time(START)
        self.quotas = Table(max_keys=64, virtual=True)
        self.bucket = BucketCore(self.table, spec)
        self.quota = Quota(self.quotas, SPEC, Fraction(1), fleet=False)
        self.rules = Rules(Arguments(SPEC, SPEC.max_debt), on_outage, self.quota)
        self.book = RuleBook({self.bucket: self.rules})
        self.added = 0
        self.ledger = Ledger(
            self.table,
            StoreNames(
                self.table, Roster(self.table, "n"), "n", region_of=lambda node: f"home of {node}"
            ),
            self.book,
            division=lambda: TWO,
            on_unsettled=self._added,
        )
        self.place = self.bucket.hash("k")
        self.item = (self.bucket, self.place)

    def _added(self) -> None:
        self.added += 1

    def open(self, cost: int = 1, *, fence: int = 3, threaded: bool = False) -> StoreRequest:
        request = self.ledger.open(self.bucket, "k", cost, fence, threaded=threaded)
        assert isinstance(request, StoreRequest)
        return request

    def decided(self, request: StoreRequest, answer: ScriptAnswer, wanted: bool = True) -> Decision:
        decision = self.ledger.book(request, answer, 3, *() if wanted else (False,))
        assert isinstance(decision, Decision)
        return decision

    def take(self, cost: int = 1) -> Decision:
        """The store admits it, and has what is counted here."""
        request = self.open(cost)
        taken = self.counts[0] + cost
        answer = ScriptAnswer(ALLOWED, taken * SECOND, taken, self.counts[1])
        return self.decided(request, answer)

    def settled(self, debt: int, taken: int, refunded: int, *others: Column) -> StoreRequest:
        """The request of a settling, answered with this record, those of others and their debt in
        tokens."""
        request = self.ledger.settle(*self.item, 3)
        assert request is not None
        assert request.is_in_flight
        columns = (Column(ME, 1, taken, refunded), *others)
        answer = ScriptAnswer(ALLOWED, debt * SECOND, taken, refunded, columns)
        assert self.ledger.book(request, answer, 3) is None
        return request

    @property
    def columns(self) -> dict[int, tuple[int, int, int]]:
        return {epoch: column for (_, epoch), column in self.bucket.columns("k").items()}

    @property
    def counts(self) -> tuple[int, int]:
        own = BucketReplica(self.bucket).own(*self.place)
        return own[1:] if own else (0, 0)

    @property
    def quota_used(self) -> int:
        """Tokens that the quota of two nodes, half of the bucket, is charged for."""
        return 5 - (10 - self.quota.debt_ns("k", TWO) // SECOND)

    @property
    def pending(self) -> dict[Any, int]:
        return self.ledger.unsettled.pending


def test_a_request_says_what_is_counted_here() -> None:
    book = Book()
    assert book.take(2).allowed
    request = book.open(3, fence=7)
    name = b"crdtbucket:{b:%016x%016x}" % (book.place[1], book.place[0])
    assert request.call == ScriptCall(name, 3, ME, 7, 1, 2, 0, 2 * SECOND, None)
    assert (request.key, request.cost, request.item) == ("k", 3, book.item)
    assert (request.rules, request.ledger, request.threaded) == (book.rules, book.ledger, False)
    assert request.is_in_flight
    assert book.table.open_tokens == 3
    other = book.ledger.open(book.bucket, "j", 1, 3)
    assert isinstance(other, StoreRequest)
    assert not other.threaded
    book.ledger.ended(other)
    assert book.open(1, threaded=True).threaded
    assert book.table.open_tokens == 4
    with pytest.raises(CostExceedsCapacity):
        book.open(11)
    three: Any = Three()
    assert type(book.open(three).call.cost) is int


def test_without_room_for_a_key_the_table_decides() -> None:
    book = Book(spec=BucketSpec("b", 10, 1, "1s", max_keys=1))
    book.bucket.take("other")
    decision = book.ledger.open(book.bucket, "k", 2, 3)
    assert isinstance(decision, Decision)
    assert (decision.key, decision.cost, decision.mode) == ("k", 2, Mode.STRONG)
    assert book.table.open_tokens == 0


def test_a_denial_by_the_level_here_alone_is_good_for_a_moment_after_a_comparison() -> None:
    book = Book()
    book.take(10)
    request = book.open(4)
    assert request.call.others == ()  # nothing was compared yet: the store decides
    assert (request.key, request.cost, request.call.fence) == ("k", 4, 3)
    own = (Column(ME, 1, 10, 0),)
    assert not book.decided(request, ScriptAnswer(DENIED, 10 * SECOND, 10, 0, own)).allowed
    book.table.set_time(START + SYNC_NS - 1)
    decision = book.ledger.open(book.bucket, "k", 4, 3)
    assert isinstance(decision, Decision)
    assert (decision.allowed, decision.key, decision.cost) == (False, "k", 4)
    assert decision.mode is Mode.STRONG
    assert decision.retry_after == pytest.approx(4 - SYNC_NS / SECOND)
    assert book.ledger.counters["denied_here"] == 1
    assert book.table.open_tokens == 0
    book.table.set_time(START + SYNC_NS)
    assert book.open(4, threaded=True).threaded
    assert book.ledger.counters["denied_here"] == 1
    book.table.set_time(START + SYNC_NS - 1)
    book.ledger.open(book.bucket, "k", 4, 3)
    assert book.ledger.counters["denied_here"] == 2


def test_only_so_many_comparisons_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_SYNCS", 2)
    book = Book()

    def compared(key: str) -> None:
        place = book.bucket.hash(key)
        book.bucket.take(key, 10)
        request = book.ledger.settle(book.bucket, place, 3)
        assert request is not None
        own = (Column(ME, 1, 10, 0),)
        book.ledger.book(request, ScriptAnswer(ALLOWED, 10 * SECOND, 10, 0, own), 3)

    def here(key: str) -> bool:
        return isinstance(book.ledger.open(book.bucket, key, 1, 3), Decision)

    for key, known in (("a", "a"), ("b", "ab"), ("c", "c")):
        compared(key)
        assert [key for key in "abc" if here(key)] == list(known)


def test_what_the_store_admitted_is_counted_and_charged() -> None:
    book = Book()
    request = book.open(4)
    answer = ScriptAnswer(ALLOWED, 6 * SECOND, 4, 0, (), 7 * SECOND)  # held back from denied ones
    decision = book.decided(request, answer)
    assert (decision.allowed, decision.mode, decision.key) == (True, Mode.STRONG, "k")
    assert (decision.cost, decision.remaining) == (4, 4)  # as the store says, of all nodes
    assert (book.counts, book.quota_used, book.pending) == ((4, 0), 4, {})
    assert (book.table.open_tokens, request.is_in_flight) == (0, False)


def test_what_the_store_denied_waits_as_the_store_says() -> None:
    book = Book()
    request = book.open(4)
    decision = book.decided(request, ScriptAnswer(DENIED, 9 * SECOND, 0, 0))
    assert (decision.allowed, decision.mode, decision.remaining) == (False, Mode.STRONG, 1)
    assert decision.retry_after == pytest.approx(3)
    assert (book.counts, book.quota_used, book.pending) == ((0, 0), 0, {})
    assert (book.table.open_tokens, request.is_in_flight) == (0, False)
    held = ScriptAnswer(DENIED, 9 * SECOND, 0, 0, (), 2 * SECOND)  # for silent regions
    assert book.decided(book.open(4), held).retry_after == pytest.approx(5)


def test_tokens_of_a_caller_that_is_gone_are_given_back() -> None:
    book = Book()
    decision = book.decided(book.open(4), ScriptAnswer(ALLOWED, 4 * SECOND, 4, 0), wanted=False)
    assert not decision.allowed
    assert (book.counts, book.quota_used) == ((4, 4), 0)
    assert (book.pending, book.added) == ({book.item: 0}, 1)


def test_an_admission_that_the_levels_together_deny_is_given_back() -> None:
    """A whole request is decided by what both know: the store lacked what came here meanwhile."""
    book = Book()
    whole = book.ledger.book(book.open(4), ScriptAnswer(UNKNOWN, 0, 0, 0), 3)
    assert isinstance(whole, StoreRequest)
    peer = book.ledger.names.origin(Column(PEER, 1, 8, 0))
    BucketReplica(book.bucket).adopt(*book.place, 8 * SECOND, True, [(peer, 1, 8, 0)])
    answer = ScriptAnswer(ALLOWED, 4 * SECOND, 4, 0, (Column(ME, 1, 4, 0),))
    decision = book.decided(whole, answer)
    assert (decision.allowed, book.counts, book.pending) == (False, (4, 4), {book.item: 0})
    assert decision.retry_after == pytest.approx(2)


def test_debt_under_another_definition_is_not_shown() -> None:
    book = Book()
    request = book.open(4)
    other = BucketSpec("b", 10, 2, "1s")
    book.bucket.define(other)
    book.book.follow(book.bucket, Rules(Arguments(other, other.max_debt), "eventual", book.quota))
    decision = book.decided(request, ScriptAnswer(ALLOWED, 9 * SECOND, 4, 0))
    assert decision.remaining == 6


def test_a_request_that_the_store_sends_back_is_sent_whole() -> None:
    book = Book()
    book.ledger.in_flight.count_by_key()
    request = book.open(4, threaded=True)
    whole = book.ledger.book(request, ScriptAnswer(UNKNOWN, 0, 0, 0), 8)
    assert isinstance(whole, StoreRequest)
    assert (whole.key, whole.cost, whole.item) == ("k", 4, book.item)
    assert (whole.call.fence, whole.call.others, whole.threaded) == (8, (), True)
    assert (request.is_in_flight, whole.is_in_flight) == (False, True)
    assert book.table.open_tokens == 4  # as before: it is one call
    book.bucket.reset_all()
    book.table.set_time(START + 3600 * SECOND)
    for key in range(64):
        book.bucket.take(str(key))
    assert book.ledger.book(whole, ScriptAnswer(UNKNOWN, 0, 0, 0), 9) is None
    assert not whole.is_in_flight


@pytest.mark.parametrize(
    ("on_outage", "mode", "allowed"),
    [
        ("eventual", Mode.FALLBACK, True),
        ("deny", Mode.FALLBACK, False),
        ("deny", Mode.EVENTUAL, True),
    ],
)
def test_a_request_that_is_given_up_is_decided_here_and_settled(
    on_outage: OnOutage, mode: Mode, allowed: bool
) -> None:
    book = Book(on_outage)
    request = book.open(4)
    decision = book.ledger.give_up(request, mode)
    assert decision is not None
    assert (decision.allowed, decision.cost) == (allowed, 4)
    assert decision.mode is (Mode.EVENTUAL if allowed else Mode.FALLBACK)
    # The store may have charged it: what no caller got is refunded there by the next settling.
    assert book.counts == ((4, 0) if allowed else (4, 4))
    assert book.pending == {book.item: 4 * allowed}
    assert (book.table.open_tokens, request.is_in_flight) == (4, False)
    book.ledger.ended(request)
    assert book.table.open_tokens == 0
    request = book.open(1)
    assert book.ledger.give_up(request, Mode.FALLBACK, wanted=False) is None
    assert book.counts == ((5, 1) if allowed else (5, 5))


def test_a_settling_that_is_given_up_stays_due() -> None:
    book = Book()
    book.take(3)
    request = book.ledger.settle(*book.item, 3)
    assert request is not None
    assert book.ledger.give_up(request, Mode.FALLBACK) is None
    assert (book.counts, book.pending, request.is_in_flight) == ((3, 0), {book.item: 0}, False)
    assert book.ledger.lacking(request)


def test_a_request_that_did_not_run_was_never_there() -> None:
    book = Book()
    request = book.open(4)
    book.ledger.ended(request)
    assert (book.table.open_tokens, request.is_in_flight, book.counts) == (0, False, (0, 0))
    assert not book.ledger.lacking(request)


def test_what_an_ended_connection_may_still_run_is_open_until_a_later_one_was_answered() -> None:
    book = Book()
    lost = book.open(4, fence=3)
    book.ledger.give_up(lost, Mode.FALLBACK)
    book.pending.clear()
    book.ledger.connection_ended(lost)
    assert book.pending == {book.item: 0}
    settling = book.ledger.settle(*book.item, 3)
    assert settling is not None
    book.ledger.connection_ended(settling)
    answer = ScriptAnswer(ALLOWED, 4 * SECOND, 4, 0, (Column(ME, 1, 4, 0),))
    for fence, left in ((3, 4), (4, 0)):
        request = book.ledger.settle(*book.item, fence)
        assert request is not None
        book.ledger.book(request, answer, fence)
        assert book.table.open_tokens == left


def test_a_late_answer_is_compared_with_what_is_counted_here() -> None:
    book = Book()
    request = book.open(4)
    book.ledger.give_up(request, Mode.FALLBACK)
    assert book.pending == {book.item: 4}
    book.ledger.ended(request, ScriptAnswer(ScriptStatus.FENCED, 4 * SECOND, 4, 0))
    assert book.pending == {book.item: 4}
    book.table.open_tokens = 4
    book.ledger.ended(request, ScriptAnswer(DENIED, 4 * SECOND, 4, 0))
    assert (book.pending, book.table.open_tokens) == ({}, 0)
    counters = book.ledger.counters
    assert (counters["settled_keys"], counters["settled_tokens"]) == (1, 4)


@pytest.mark.parametrize(
    ("taken", "refunded", "counted"),
    [(5, 1, None), (4, 1, (5, 1)), (5, 0, (5, 1)), (7, 1, (7, 3)), (7, 3, (7, 3))],
)
def test_a_key_is_settled_when_the_record_is_what_is_counted_here(
    taken: int, refunded: int, counted: tuple[int, int] | None
) -> None:
    """One that is ahead was charged by a request of which no answer came: nobody got its tokens."""
    book = Book()
    book.bucket.refund(book.take(5), 1)
    book.ledger.unsettled.add(*book.item, 2)
    book.ledger.unsettled.add(book.bucket, book.bucket.hash("other"), 9)
    book.settled(4, taken, refunded)
    assert book.counts == (counted or (5, 1))
    assert (book.item in book.pending) is (counted is not None)
    settled = counted is None
    assert book.ledger.counters == {
        "denied_here": 0,
        "unclaimed_charges": int(taken > 5),
        "settled_keys": int(settled),
        "settled_tokens": 2 * settled,
    }


def test_charges_of_nobody_and_settled_keys_are_counted() -> None:
    book = Book()
    book.take(1)
    for charged in (1, 2):
        book.settled(4, 1 + charged, charged - 1)
        book.settled(4, 1 + charged, charged)
    counters = book.ledger.counters
    assert (counters["unclaimed_charges"], counters["settled_keys"]) == (2, 2)
    assert counters["settled_tokens"] == 0
    for tokens in (2, 3):
        book.ledger.unsettled.add(*book.item, tokens)
        book.settled(4, 3, 2)
    assert counters["settled_tokens"] == 5


def test_a_record_of_an_earlier_generation_or_epoch_is_not_compared() -> None:
    book = Book()
    book.take(2)
    for change in ("generation", "epoch"):
        request = book.open(1)
        if change == "epoch":
            request.epoch -= 1
        else:
            request.call.generation += 1
        before = book.counts[0]
        book.decided(request, ScriptAnswer(ALLOWED, 9 * SECOND, 9, 0))
        assert book.counts == (before + 1, 0)
    assert book.ledger.counters["unclaimed_charges"] == 0


def test_tokens_of_a_thread_whose_answer_is_not_booked_yet_are_no_charge_of_nobody() -> None:
    book = Book()
    book.ledger.in_flight.count_by_key()
    one = book.open(1, threaded=True)
    book.settled(1, 1, 0)
    assert (book.counts, book.bucket.debt("k")) == ((0, 0), 0)
    book.ledger.ended(one)
    thread = book.open(3, threaded=True)
    assert book.decided(book.open(1), ScriptAnswer(ALLOWED, 4 * SECOND, 4, 0)).allowed
    assert book.counts == (1, 0)
    book.ledger.unsettled.add(*book.item)
    book.settled(4, 4, 0)  # as it was before the thread's three
    assert (book.counts, book.bucket.debt("k")) == ((1, 0), SECOND)
    book.settled(5, 5, 0)  # one more than is in flight
    assert (book.counts, book.ledger.counters["unclaimed_charges"]) == ((2, 1), 1)
    book.settled(2, 2, 1)
    assert book.pending == {book.item: 0}  # they were not alone
    assert book.decided(thread, ScriptAnswer(ALLOWED, 4 * SECOND, 5, 1)).allowed
    assert book.counts == (5, 1)
    book.settled(4, 5, 1)
    assert book.pending == {}


def test_the_columns_of_all_are_sent_and_adopted_with_their_level() -> None:
    book = Book()
    book.take(2)
    peers = Column(PEER, 1, 4, 1)
    book.settled(5, 2, 0, peers)
    assert book.columns == {EPOCH: (1, 2, 0), 9: (1, 4, 1)}
    assert book.bucket.debt("k") == 5 * SECOND
    request = book.settled(5, 2, 0, peers)
    others = (Column(PEER, 1, 4, 1, b"home of peer"),)
    name = book.ledger.names.key(*book.item)
    assert request.call == ScriptCall(name, 0, ME, 3, 1, 2, 0, 5 * SECOND, others)
    assert request.ledger is book.ledger
    assert (request.key, request.cost, request.is_in_flight) == (None, 0, False)
    # An admission is booked on the level before it; the store has refilled faster than we know.
    whole = book.ledger.book(book.open(3), ScriptAnswer(UNKNOWN, 0, 0, 0), 3)
    assert isinstance(whole, StoreRequest)
    answer = ScriptAnswer(ALLOWED, 2 * SECOND, 5, 0, (Column(ME, 1, 5, 0), peers))
    assert book.decided(whole, answer).allowed
    assert book.columns == {EPOCH: (1, 5, 0), 9: (1, 4, 1)}
    assert book.bucket.debt("k") == 3 * SECOND


def test_what_is_taken_here_while_the_store_compares_stays_in_the_level() -> None:
    book = Book()
    book.take(2)
    whole = book.ledger.book(book.open(3), ScriptAnswer(UNKNOWN, 0, 0, 0), 3)
    assert isinstance(whole, StoreRequest)
    assert whole.call.cost == 3
    book.ledger.decide_here(book.bucket, "k", 2, Mode.EVENTUAL)
    answer = ScriptAnswer(ALLOWED, 5 * SECOND, 5, 0, (Column(ME, 1, 5, 0),))
    assert book.decided(whole, answer).allowed
    assert (book.counts, book.bucket.debt("k")) == ((7, 0), 7 * SECOND)


def test_the_level_before_a_comparison_is_without_what_threads_took_since() -> None:
    book = Book()
    book.ledger.in_flight.count_by_key()
    book.take(5)
    thread = book.open(3, threaded=True)
    whole = book.ledger.book(book.open(1), ScriptAnswer(UNKNOWN, 0, 0, 0), 3)
    assert isinstance(whole, StoreRequest)
    answer = ScriptAnswer(ALLOWED, 6 * SECOND, 9, 0, (Column(ME, 1, 9, 0),))
    assert book.decided(whole, answer).allowed
    assert (book.counts, book.bucket.debt("k")) == ((6, 0), 3 * SECOND)
    assert book.decided(thread, ScriptAnswer(ALLOWED, 6 * SECOND, 9, 0)).allowed
    assert (book.counts, book.bucket.debt("k")) == ((9, 0), 6 * SECOND)


def test_requests_for_keys_of_a_candidate_follow_its_rules() -> None:
    book = Book("deny")
    new = BucketSpec("b", 20, 1, "1s")
    book.bucket.stage(new, 1.0)
    candidate = Rules(Arguments(new, new.max_debt), "quota", book.quota)
    book.book.follow(book.bucket, book.rules, candidate)
    request = book.open(1)
    settling = book.ledger.settle(*book.item, 3)
    assert settling is not None
    assert (request.rules, settling.rules) == (candidate, candidate)
    assert book.ledger.local.policy(book.bucket, "k") == book.quota.policy(TWO)
    book.decided(request, ScriptAnswer(ALLOWED, SECOND, 1, 0))
    assert list(book.ledger.unsettled.not_full()) == [[book.item]]


def test_a_record_that_cannot_be_is_no_answer() -> None:
    book = Book()
    book.take(2)
    with pytest.raises(RedisReplyError, match=r"^the record of a node cannot be merged: \("):
        book.settled(5, 2, 0, Column(PEER, 1, 4, 5))


def test_owners_for_whom_there_is_no_room_are_left_out() -> None:
    """Processes come and go, and Redis has the records of all for an hour."""
    book = Book()
    book.take(2)
    many = [Column(owner_name(100 + n, f"n{n}"), 1, 4, 0) for n in range(MAX_ORIGINS)]
    another = Column(owner_name(EPOCH, "another"), 1, 1, 0)  # the epoch is this node's own
    book.settled(5, 2, 0, *many, another)
    assert book.pending == {}
    assert book.columns[EPOCH] == (1, 2, 0)
    assert book.columns[100] == (1, 4, 0)
    assert len(book.columns) == MAX_ORIGINS - 1
    assert book.bucket.debt("k") == 5 * SECOND
    with pytest.raises(RedisReplyError, match="names no process"):
        book.settled(5, 2, 0, Column(b"nobody", 1, 1, 0))


def test_a_key_that_has_left_the_table_needs_no_settling() -> None:
    book = Book()
    assert book.ledger.settle(*book.item, 3) is None
    book.ledger.unsettled.add(*book.item, 2)
    assert book.ledger.settle(*book.item, 3) is None
    assert book.pending == {}


def test_what_is_decided_here_is_settled_later() -> None:
    book = Book()
    decision = book.ledger.decide_here(book.bucket, "k", 4, Mode.EVENTUAL)
    assert (decision.allowed, decision.mode, book.pending) == (True, Mode.EVENTUAL, {book.item: 4})
    assert not book.ledger.decide_here(book.bucket, "k", 7, Mode.EVENTUAL).allowed
    assert book.pending == {book.item: 4}
    book.pending.clear()
    for pending in ({book.item: 0}, {}):  # it is given back once
        book.ledger.refund(decision)
        assert (book.pending, book.counts) == (pending, (4, 4))
        book.pending.clear()


def test_the_policy_without_the_store_is_that_of_the_quota() -> None:
    deny, quota = Book("deny"), Book("quota")
    assert deny.ledger.local.policy(deny.bucket, "k") is None
    assert quota.ledger.local.policy(quota.bucket, "k") == quota.quota.policy(TWO)


def test_nobody_need_listen_or_know_regions() -> None:
    book = Book()
    ledger = Ledger(book.table, StoreNames(book.table, Roster(book.table, "n"), "n"), book.book)
    decision = ledger.decide_here(book.bucket, "k", 4, Mode.EVENTUAL)
    BucketReplica(book.bucket).adopt(
        *book.place, 5, True, [(book.table.epochs.origin(1, 9), 1, 4, 1)]
    )
    request = ledger.settle(*book.item, 3)
    assert decision.allowed
    assert request is not None
    assert request.call.key.startswith(b"crdtbucket:{b:")
