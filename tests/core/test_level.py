"""The level against exact arithmetic: odd rates, three years, the largest capacities and costs."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.oracle import Oracle
from tests.core.specs import ODD, SECOND, YEAR, bucket_of, rate_of

odd = pytest.mark.parametrize("spec", ODD.values(), ids=ODD.keys())

gaps = st.one_of(
    st.just(0),
    st.integers(0, 100),
    st.integers(0, SECOND),
    st.integers(0, 30 * 86_400 * SECOND),
    st.integers(0, YEAR),
)
"""Ns between two steps."""


class Compared:
    """A bucket of the core beside the oracle: never late, and early by less than 1 ns."""

    def __init__(self, spec: BucketSpec, start: int = 0) -> None:
        self.spec = spec
        self.core = bucket_of(spec)
        self.now = start
        self.core.table.set_time(start)
        self.oracle = Oracle(rate_of(spec), Fraction(start))

    def wait(self, ns: int) -> None:
        self.now += ns
        self.core.table.set_time(self.now)

    def take(self, cost: int) -> bool:
        over = self.oracle.over(cost, self.now)
        decision = self.core.take("k", cost)
        assert decision.allowed == (over <= 0) or 0 < over < 1
        if decision.allowed:
            assert decision.retry_after_ns == 0
            self.oracle.charge(cost, self.now)
        else:
            self.oracle.advance(self.now)
            assert math.floor(over) <= decision.retry_after_ns <= math.ceil(over)
        self.check(decision.remaining, decision.debt)
        return decision.allowed

    def check(self, remaining: int, debt: int) -> None:
        exact = self.oracle.debt(self.now)
        assert math.ceil(exact) <= debt <= math.ceil(exact) + 1
        sooner = max(exact - 1, Fraction(0))
        capacity, emission = self.oracle.rate.capacity, self.oracle.rate.emission
        least, most = (math.floor(capacity - d / emission) for d in (exact, sooner))
        assert max(least, 0) <= remaining <= max(most, 0)

    def peek(self, cost: int = 1) -> None:
        decision = self.core.peek("k", cost)
        over = self.oracle.over(cost, self.now)
        assert decision.allowed == (over <= 0) or 0 < over < 1
        self.check(decision.remaining, decision.debt)

    def settle(self, tokens: int) -> None:
        charged = self.core.settle("k", tokens)
        exact = self.oracle.settle(tokens, self.now)
        if charged != exact:  # the next token was less than 1 ns away
            assert charged == exact + 1 <= tokens
            room = self.oracle.rate.ceiling - self.oracle.debt(self.now)
            assert self.oracle.rate.emission - room < 1
            self.oracle.tat += self.oracle.rate.emission
        self.peek()


def steps(spec: BucketSpec) -> st.SearchStrategy[list[tuple[int, str, int]]]:
    costs = st.one_of(st.just(1), st.integers(1, spec.capacity), st.just(spec.capacity))
    what = st.sampled_from(["take", "peek", "settle"])
    return st.lists(st.tuples(gaps, what, costs), max_size=40)


@odd
@given(data=st.data(), start=st.integers(0, 3 * YEAR))
def test_every_level_is_exact(spec: BucketSpec, data: st.DataObject, start: int) -> None:
    compared = Compared(spec, start)
    for gap, what, cost in data.draw(steps(spec)):
        compared.wait(gap)
        getattr(compared, what)(cost)


ENDS = {
    **ODD,
    "all of it at once": BucketSpec("b", 2**50, 2**53, "366d", max_debt=2**50),
    "as long as it may be": BucketSpec("b", 1779, 1, "30d", max_debt=0),
}


@pytest.mark.parametrize("spec", ENDS.values(), ids=ENDS.keys())
@given(data=st.data(), start=st.integers(0, 3 * YEAR))
def test_no_overflow(spec: BucketSpec, data: st.DataObject, start: int) -> None:
    """The largest settles, takes and refunds, in any order, at the ends of the range of rates."""
    compared = Compared(spec, start)
    bucket, allowed = compared.core, []
    sizes = st.sampled_from([1, spec.capacity - 1, spec.capacity, 2**53, 2**62 - 1, 2**62])
    what = st.sampled_from(["take", "settle", "refund"])
    for gap, act, size in data.draw(st.lists(st.tuples(gaps, what, sizes), max_size=30)):
        compared.wait(gap)
        if act == "settle":
            compared.settle(max(size, 1))
        elif act == "take":
            decision = bucket.take("k", min(max(size, 1), spec.capacity))
            if decision:
                compared.oracle.charge(decision.cost, compared.now)
                allowed.append(decision)
            compared.check(decision.remaining, decision.debt)
        elif allowed:
            back = bucket.refund(allowed.pop())
            compared.oracle.advance(compared.now)
            compared.oracle.tat -= back * compared.oracle.rate.emission
        for _, taken, refunded in bucket.columns("k").values():
            assert 0 <= refunded <= taken < 2**55
        assert 0 <= bucket.peek("k").remaining <= spec.capacity


@odd
@given(data=st.data())
def test_waiting_for_the_stated_time_lets_the_same_cost_pass(
    spec: BucketSpec, data: st.DataObject
) -> None:
    bucket = bucket_of(spec)
    for cost in data.draw(st.lists(st.integers(1, spec.capacity), min_size=1, max_size=20)):
        denied = bucket.take("k", cost)
        while not denied:
            wait = denied.retry_after_ns
            bucket.table.set_time(bucket.table.now() + wait - 1)
            assert not bucket.take("k", cost)  # not a ns sooner
            bucket.table.set_time(bucket.table.now() + 1)
            denied = bucket.take("k", cost)
            assert denied


@odd
def test_a_full_bucket_gives_its_whole_capacity(spec: BucketSpec) -> None:
    bucket = bucket_of(spec)
    for round_ in range(1, 50):
        bucket.table.set_time(round_ * YEAR)
        assert bucket.take("k", 1).remaining == spec.capacity - 1
        bucket.table.set_time(round_ * YEAR + YEAR // 2)
        assert bucket.peek("k").remaining == spec.capacity
        assert bucket.take("k", spec.capacity)
        assert bucket.take("k", 1).retry_after_ns > 0


@odd
def test_three_years_of_takes_are_exact_to_one_token(spec: BucketSpec) -> None:
    """Emptied 5,000 times: what was admitted is the capacity and the refill, not one token off."""
    stride = 3 * YEAR // 5_000 + 123_457
    capacity = 2 * stride * spec.refill_rate // spec.interval_ns + 2  # never full
    deep = BucketSpec("b", capacity, spec.refill_rate, f"{spec.interval_ns}ns", max_debt=0)
    bucket = bucket_of(deep)
    assert bucket.take("k", capacity)
    admitted, now = capacity, 0
    while now < 3 * YEAR:
        now += stride
        bucket.table.set_time(now)
        left = bucket.peek("k").remaining
        epoch = bucket.table.epochs.running
        if left and bucket.take("k", left):
            admitted += left
        elif left:
            # Once in 2^52 tokens a column is closed, which may cost a fraction of a ns.
            assert bucket.table.epochs.running != epoch
            assert bucket.take("k", left - 1)
            admitted += left - 1
        exact = capacity + Fraction(now * spec.refill_rate, spec.interval_ns)
        early = Fraction(spec.refill_rate, spec.interval_ns)  # 1 ns
        assert exact - len(bucket.columns("k")) < admitted <= exact + early


@odd
@given(gap=gaps, cost=st.integers(1, 2**53), looks=st.lists(gaps, max_size=8))
def test_peek_changes_nothing(spec: BucketSpec, gap: int, cost: int, looks: list[int]) -> None:
    cost = min(cost, spec.capacity)
    seen, unseen = bucket_of(spec), bucket_of(spec)
    now = 0
    for bucket in (seen, unseen):
        bucket.take("k", cost)
    for look in looks:
        now += look
        seen.table.set_time(now)
        before = seen.debt("k"), seen.columns("k"), seen.table.stats(), seen.counters()
        seen.peek("k", cost)
        assert (seen.debt("k"), seen.columns("k"), seen.table.stats(), seen.counters()) == before
    for bucket in (seen, unseen):
        bucket.table.set_time(now + gap)
    a, b = seen.take("k", cost), unseen.take("k", cost)
    assert (a.allowed, a.remaining, a.debt) == (b.allowed, b.remaining, b.debt)


def test_a_peek_of_an_unknown_key_makes_no_entry() -> None:
    bucket = bucket_of(ODD["7 a second"])
    decision = bucket.peek("k", 100)
    assert decision.allowed
    assert decision.remaining == 100
    assert len(bucket.table) == 0


def test_a_denied_take_of_an_idle_key_leaves_its_level() -> None:
    bucket = bucket_of(BucketSpec("b", 10, 1))
    bucket.take("k", 10)
    assert not bucket.take("k", 10)
    assert bucket.debt("k") == 10 * SECOND


class TestSettle:
    def test_the_largest_saturates_at_the_floor(self) -> None:
        bucket = bucket_of(BucketSpec("b", 100, 100, max_debt=50))
        assert bucket.settle("k", 2**62) == 150
        assert bucket.debt("k") == 1_500_000_000
        assert bucket.counters()["forgiven"] == 2**62 - 150

    def test_again_and_again_overflows_nothing(self) -> None:
        bucket = bucket_of(BucketSpec("b", 100, 100))
        for _ in range(5):
            bucket.settle("k", 2**62)
        assert bucket.debt("k") == 2 * SECOND
        assert bucket.counters()["forgiven"] == 2**63 - 1  # at the end of its range
        assert bucket.columns("k").popitem()[1][1] == 200

    def test_of_the_largest_bucket(self) -> None:
        bucket = bucket_of(BucketSpec("b", 2**53, 10**9))
        assert bucket.settle("k", 2**62) == 2**54
        bucket.table.set_time(2**54 - 1)
        assert bucket.take("k", 1).remaining == 2**53 - 2

    def test_into_debt_denies_until_it_is_paid(self) -> None:
        bucket = bucket_of(BucketSpec("b", 10, 1))
        assert bucket.settle("k", 15) == 15
        denied = bucket.take("k", 1)
        assert not denied
        assert denied.retry_after == 6.0
        assert denied.remaining == 0


@pytest.mark.parametrize("capacity", [2**53, 2**53 - 1])
def test_the_largest_capacity_counts_single_tokens(capacity: int) -> None:
    bucket = bucket_of(BucketSpec("b", capacity, 10**9))
    assert bucket.take("k", capacity - 1).remaining == 1
    assert bucket.take("k", 1).remaining == 0
    assert not bucket.take("k", 1)
    bucket.table.set_time(1)
    assert bucket.take("k", 1)
    bucket.table.set_time(2**53 + 10)
    assert bucket.take("k", capacity)


def test_a_column_beyond_its_range_goes_on_in_a_new_epoch() -> None:
    bucket = bucket_of(BucketSpec("b", 2**52, 10**9))
    first = bucket.table.epochs.running
    assert bucket.take("k", 2**52)
    bucket.table.set_time(5)
    assert bucket.take("k", 5)
    assert bucket.table.epochs.running != first
    counts = {epoch: taken for (_, epoch), (_, taken, _) in bucket.columns("k").items()}
    assert counts == {first: 2**52, bucket.table.epochs.running: 5}
    assert bucket.peek("k").remaining == 0
