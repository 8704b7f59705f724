"""Takes from several buckets at once: all of them or none, even while others take."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket import (
    AllDecision,
    Bucket,
    BucketSpec,
    CostExceedsCapacity,
    Decision,
    InvalidCost,
    InvalidKey,
    InvalidSpec,
    Limiter,
    LimiterClosed,
    ReservationDenied,
    ReservationError,
    UnknownBucket,
)
from crdtbucket.limiter.multi import Multi
from tests.naive_limits import NaiveLimit
from tests.threads import in_threads
from tests.virtual_loop import VirtualTime, virtually

SPECS = (
    BucketSpec("a", 10, 1),
    BucketSpec("b", 6, 1, overrides=[("gold", BucketSpec("x", 30, 1))]),
    BucketSpec("watched", 4, 1, shadow=True),
)
SEARCH = BucketSpec.parse_all("search", "100/hour;10/second")
CAPACITIES = {("b", "gold"): 30, "a": 10, "b": 6, "watched": 4}


@pytest.fixture
def limiter(time: VirtualTime) -> Limiter:
    return Limiter(SPECS, _table=time.table)


# ---- against a naive model ----

ITEMS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "b", "watched"]),
        st.sampled_from(["k", "gold"]),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=4,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["take", "acquire", "refund", "reserve"]), ITEMS),
        st.tuples(st.just("pass"), st.integers(1, 5)),
    ),
    max_size=15,
)


class Model:
    """Buckets as dicts, and the rule in words."""

    def __init__(self) -> None:
        self.limits: dict[tuple[str, str], NaiveLimit] = {}

    def limit(self, name: str, key: str) -> NaiveLimit:
        capacity = CAPACITIES.get((name, key), CAPACITIES[name])
        return self.limits.setdefault((name, key), NaiveLimit(capacity))

    def take_all(self, items: list[tuple[str, str, int]]) -> int | None:
        """Seconds until all would pass; None for a call that never can."""
        costs: dict[tuple[str, str], int] = {}
        for name, key, cost in items:
            costs[name, key] = costs.get((name, key), 0) + cost
        if any(cost > self.limit(*place).capacity for place, cost in costs.items()):
            return None
        waits = [self.limit(*p).wait(p[1], n) for p, n in costs.items() if p[0] != "watched"]
        if not any(waits):
            for place, cost in costs.items():
                self.limit(*place).take(place[1], cost)
        return max(waits, default=0)


@given(STEPS)
def test_all_or_nothing_and_the_binding_one(steps: list[Any]) -> None:
    time = VirtualTime()
    limiter = Limiter(SPECS, _table=time.table)
    model = Model()
    for what, items in steps:
        if what == "pass":
            time.advance(items)
            for limit in model.limits.values():
                limit.pass_time(items)
            continue
        before = {place: dict(limit.debts) for place, limit in model.limits.items()}
        wait = model.take_all(items)
        if wait is None:
            with pytest.raises(CostExceedsCapacity):
                limiter.take_all(items)
        elif what == "reserve":
            if wait:
                with pytest.raises(ReservationDenied), limiter.reserve_all(items):
                    raise AssertionError("not entered")
            else:
                with limiter.reserve_all(items):
                    pass
                for place, limit in model.limits.items():
                    limit.debts = before.get(place, {})
        else:
            acquire = limiter.acquire_all(items) if what == "acquire" else None
            answer = limiter.take_all(items) if acquire is None else time.run(acquire)
            check(answer, items, wait)
            if what == "refund" and answer:
                limiter.refund_all(answer)
                assert limiter.refund_all(answer) == 0
                for place, limit in model.limits.items():
                    limit.debts = before.get(place, {})
        for (name, key), limit in model.limits.items():
            left = limiter.bucket(name).of(key).peek(key).remaining
            assert left == max(0, limit.left(key)), (name, key)


def check(answer: AllDecision, items: list[tuple[str, str, int]], wait: int) -> None:
    assert answer.allowed is bool(answer) is (wait == 0)
    assert answer.retry_after == wait
    names = [decision.bucket.spec.name.partition("[")[0] for decision in answer.decisions]
    assert [(n, d.key) for n, d in zip(names, answer.decisions, strict=True)] == [
        item[:2] for item in items
    ]
    assert answer.binding in answer.decisions
    if answer:
        assert all(answer.decisions)
        shares = [d.remaining / d.limit for d in answer.decisions if not d.bucket.spec.shadow]
        assert not shares or answer.binding.remaining / answer.binding.limit == min(shares)
    else:
        assert not answer.binding
        assert max(decision.retry_after for decision in answer.decisions) == wait


# ---- what is refused ----


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (("c", "k"), UnknownBucket),
        (("a", ""), InvalidKey),
        (("a", 7), InvalidKey),
        (("a", "k", 0), InvalidCost),
        (("a", "k", 1.5), InvalidCost),
        (("a", "k", "1"), InvalidCost),
        (("a", "k", 11), CostExceedsCapacity),
        (("b", "k", 3), CostExceedsCapacity),
        (("a",), InvalidKey),
        (("a", "k", 1, 1), InvalidCost),
        (("a", "k", 1, 0, 1), InvalidKey),
        ("ak", InvalidKey),
        (7, InvalidKey),
    ],
)
def test_errors_come_before_anything_is_taken(
    time: VirtualTime, limiter: Limiter, wrong: Any, error: type[Exception]
) -> None:
    for items in ([("a", "x", 5), ("b", "k", 4), wrong], [wrong, ("a", "x", 5), ("b", "k", 4)]):
        with pytest.raises(error):
            limiter.take_all(items)
        with pytest.raises(error):
            time.run(limiter.acquire_all(items))
        with pytest.raises(error), limiter.reserve_all(items):
            pass
    assert limiter.bucket("a").counters()["allowed"] == 0
    assert limiter.bucket("b").counters()["allowed"] == 0


def test_nothing_asked_for_is_a_mistake(limiter: Limiter) -> None:
    with pytest.raises(InvalidKey, match="nothing is asked for"):
        limiter.take_all([])


def test_a_cost_is_one_if_left_out_and_keys_are_bytes_too(limiter: Limiter) -> None:
    answer = limiter.take_all(iter([("a", "k"), ["a", b"k", 2], ("b", "k")]))
    first, second, third = answer.decisions
    assert first is second
    assert (first.cost, first.remaining, third.remaining) == (3, 7, 5)
    assert answer.binding is first
    assert limiter.refund_all(answer) == 4


def test_a_denied_answer_cannot_be_refunded(limiter: Limiter) -> None:
    limiter.bucket("b").take("k", 6)
    answer = limiter.take_all([("a", "k", 3), ("b", "k", 3)])
    assert [decision.allowed for decision in answer.decisions] == [True, False]
    assert answer.decisions[0].remaining == 10
    with pytest.raises(InvalidCost):
        limiter.refund_all(answer)
    assert limiter.bucket("a").refund(answer.decisions[0]) == 0
    assert limiter.bucket("a").peek("k").remaining == 10


def test_a_denial_counts_as_demand_of_what_denied(limiter: Limiter) -> None:
    limiter.bucket("b").take("k", 6)
    assert not limiter.take_all([("a", "k"), ("b", "k")])
    assert limiter.bucket("b").counters()["denied"] == 1
    a = limiter.bucket("a").counters()
    assert (a["allowed"], a["denied"]) == (0, 0)


def test_a_closed_limiter_takes_nothing(time: VirtualTime, limiter: Limiter) -> None:
    limiter.close()
    with pytest.raises(LimiterClosed):
        limiter.take_all([("a", "k")])
    with pytest.raises(LimiterClosed):
        time.run(limiter.acquire_all([("a", "k")]))


def test_a_binding_shadow_would_be_no_limit(limiter: Limiter) -> None:
    answer = limiter.take_all([("watched", "k", 4), ("a", "k")])
    assert answer.binding.bucket.spec.name == "a"
    answer = limiter.take_all([("watched", "k", 4), ("a", "k")])
    assert [decision.shadowed for decision in answer.decisions] == [True, False]
    assert answer.binding.bucket.spec.name == "a"
    assert limiter.take_all([("watched", "k")]).binding.shadowed


# ---- others that take meanwhile ----


def test_threads_with_opposite_orders_get_all_there_is_and_no_more() -> None:
    limiter = Limiter([BucketSpec("a", 600, 1, "1h"), BucketSpec("b", 600, 1, "1h")])
    orders = [[("a", "k"), ("b", "k")], [("b", "k"), ("a", "k")]]
    taken = [0] * 4

    def work(number: int) -> None:
        while limiter.take_all(orders[number % 2]):
            taken[number] += 1

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        in_threads(*(partial(work, number) for number in range(4)))
    finally:
        sys.setswitchinterval(before)
    # A caller that was denied found an empty bucket, never one that another held for nothing.
    assert sum(taken) == 600
    for name in ("a", "b"):
        counters = limiter.bucket(name).counters()
        assert (counters["granted"], counters["refunded"]) == (600, 0)


class Met(Bucket):
    """Each take waits, before and after, until another thread is there too, or for a moment."""

    __slots__ = ()
    meeting = threading.Barrier(2)

    def take(self, key: Any, cost: Any = 1) -> Decision:
        self.meet()
        decision = super().take(key, cost)
        self.meet()
        return decision

    def meet(self) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            self.meeting.wait(0.2)


def test_two_calls_never_each_hold_what_the_other_needs(
    time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Met, "meeting", threading.Barrier(2))
    buckets = {name: Met(time.table, BucketSpec(name, 1, 1)) for name in "ab"}
    several = Multi(SimpleNamespace(buckets=buckets))
    answers: list[AllDecision] = []
    orders = [("a", "k"), ("b", "k")], [("b", "k"), ("a", "k")]
    in_threads(*(lambda names=names: answers.append(several.take_all(names)) for names in orders))
    assert sorted(map(bool, answers)) == [False, True]


# ---- with buckets that are asked elsewhere ----


class Remote(Bucket):
    """A bucket whose answers take half a second, and which takes back what nobody waits for any
    more."""

    __slots__ = ()
    immediate = False
    asked: list[str] = []

    async def acquire(self, key: Any, cost: int = 1) -> Decision:
        self.asked.append(self.spec.name)
        decision = Bucket.take(self, key, cost)
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            if decision:
                self.refund(decision)
            raise
        return decision


class Mixed:
    """One local bucket and two remote ones, none of which refills."""

    def __init__(self, time: VirtualTime, capacity: int = 10) -> None:
        self.time = time
        kinds = {"near": Bucket, "far": Remote, "other": Remote}
        self.buckets = {
            name: kind(time.table, BucketSpec(name, capacity, 1, "30d"))
            for name, kind in kinds.items()
        }
        self.several = Multi(self)
        Remote.asked.clear()

    def left(self) -> list[int]:
        return [bucket.peek("k").remaining for bucket in self.buckets.values()]


WHOLE = [("near", "k", 2), ("other", "k", 3), ("far", "k", 4)]


@virtually
async def test_remote_ones_are_asked_in_one_order_and_local_ones_taken_last(
    time: VirtualTime,
) -> None:
    mixed = Mixed(time)
    call = asyncio.create_task(mixed.several.acquire_all(WHOLE))
    await asyncio.sleep(0.75)
    assert mixed.left() == [10, 6, 7]
    assert (await call).allowed
    assert mixed.left() == [8, 6, 7]
    assert Remote.asked == ["far", "other"]


def test_nobody_is_asked_when_a_local_one_denies(time: VirtualTime) -> None:
    mixed = Mixed(time)
    mixed.buckets["near"].take("k", 9)
    answer = time.run(mixed.several.acquire_all(WHOLE))
    assert (answer.allowed, answer.binding.bucket.spec.name) == (False, "near")
    assert Remote.asked == []
    assert mixed.buckets["near"].counters()["denied"] == 1


def test_a_remote_one_that_is_known_to_deny_is_asked_first_and_alone(time: VirtualTime) -> None:
    mixed = Mixed(time)
    mixed.buckets["other"].take("k", 9)
    assert not time.run(mixed.several.acquire_all(WHOLE))
    assert Remote.asked == ["other"]
    assert mixed.left() == [10, 10, 1]


@pytest.mark.parametrize("loser", ["near", "other"])
def test_what_a_late_denial_leaves_comes_back(time: VirtualTime, loser: str) -> None:
    mixed = Mixed(time)

    async def main() -> AllDecision:
        call = asyncio.create_task(mixed.several.acquire_all(WHOLE))
        await asyncio.sleep(0.25)
        mixed.buckets[loser].settle("k", 10)
        return await call

    answer = time.run(main())
    assert answer.binding.bucket.spec.name == loser
    assert mixed.left() == [0 if name == loser else 10 for name in mixed.buckets]


CALLS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(WHOLE), min_size=1, max_size=4),
        st.integers(0, 6),
        st.one_of(st.none(), st.integers(0, 10)),
    ),
    min_size=1,
    max_size=6,
)


@given(CALLS)
def test_no_token_is_lost_or_minted_by_denials_and_cancels(calls: list[Any]) -> None:
    time = VirtualTime()
    mixed = Mixed(time, capacity=20)
    spent = dict.fromkeys(mixed.buckets, 0)

    async def one(items: Any, start: int, patience: int | None) -> None:
        await asyncio.sleep(start / 4)
        call = asyncio.create_task(mixed.several.acquire_all(items))
        if patience is not None:
            await asyncio.wait({call}, timeout=patience / 4)
            call.cancel()
        try:
            answer = await call
        except asyncio.CancelledError:
            return
        if answer:
            for name, _, cost in items:
                spent[name] += cost

    async def main() -> None:
        await asyncio.gather(*(one(*call) for call in calls))

    time.run(main())
    assert mixed.left() == [20 - tokens for tokens in spent.values()]


# ---- reservations ----


def test_two_budgets_are_set_aside_and_committed_together(limiter: Limiter) -> None:
    with limiter.reserve_all([("a", "k"), ("b", "gold", 20)], ttl=30) as held:
        requests, tokens = held.reservations
        assert (requests.estimate, tokens.estimate) == (1, 20)
        held.commit(1, 12)
    assert limiter.bucket("a").peek("k").remaining == 9
    assert limiter.bucket("b").peek("gold").remaining == 18


@virtually
async def test_a_reservation_has_its_decision_from_its_entry_on(
    time: VirtualTime, limiter: Limiter
) -> None:
    wanted = [("a", "k", 6), ("b", "gold", 20)]
    granted, denied = limiter.reserve_all(wanted), limiter.reserve_all(wanted)
    assert granted.decision is None
    with granted:
        assert granted.decision is not None
        assert granted.decision.allowed
        assert [one.cost for one in granted.decision.decisions] == [6, 20]
        with pytest.raises(ReservationDenied) as caught:
            async with denied:
                pass
    assert denied.decision is not None
    assert not denied.decision
    assert denied.decision.binding is caught.value.decision


def test_what_is_not_committed_goes_back(time: VirtualTime, limiter: Limiter) -> None:
    with pytest.raises(ZeroDivisionError), limiter.reserve_all([("a", "k", 3), ("b", "k", 3)]):
        raise ZeroDivisionError
    with limiter.reserve_all([("a", "k", 3), ("b", "k", 3)], ttl=5) as held:
        held.reservations[0].commit(2)
        time.advance(1)
    assert limiter.bucket("a").peek("k").remaining == 9
    assert limiter.bucket("b").peek("k").remaining == 6
    with limiter.reserve_all([("b", "gold", 20)], ttl=5):
        time.advance(6)
        assert limiter.bucket("b").of("gold").reservations.expire() is None
        assert limiter.bucket("b").peek("gold").remaining == 30


def test_a_key_named_twice_is_one_reservation(limiter: Limiter) -> None:
    with limiter.reserve_all([("b", "gold", 8), ("b", "gold", 10)]) as held:
        assert held.reservations[0] is held.reservations[1]
        held.commit(5, 6)
    assert limiter.bucket("b").peek("gold").remaining == 19


def test_costs_are_checked_before_any_is_charged(limiter: Limiter) -> None:
    with limiter.reserve_all([("a", "k", 3), ("b", "k", 3)]) as held:
        for wrong in [(1,), (1, 2, 3), (1, -1), (1, 1.5), (1, None)]:
            with pytest.raises(InvalidCost):
                held.commit(*wrong)
    assert limiter.bucket("a").peek("k").remaining == 10


@virtually
async def test_the_order_of_a_reservation(time: VirtualTime, limiter: Limiter) -> None:
    with pytest.raises(InvalidSpec):
        limiter.reserve_all([("a", "k")], ttl=0)
    held = limiter.reserve_all([("a", "k", 6)])
    with pytest.raises(ReservationError, match="before"):
        held.commit(1)
    with held, pytest.raises(ReservationError, match="once"), held:
        pass
    async with limiter.reserve_all([("a", "k", 6)]) as held:
        held.commit(6)
    with pytest.raises(ReservationDenied, match="an estimate of 6 of 'a'") as caught:
        async with limiter.reserve_all([("a", "k", 6)]):
            pass
    assert caught.value.decision is not None


# ---- one name for several rates ----


SPEC_OF_ONE = BucketSpec("one", 9, 1, "1d")


def rates() -> Limiter:
    return Limiter(BucketSpec.parse_all("api", "100/day;10/hour"))


def test_one_take_takes_of_every_rate() -> None:
    limiter = rates()
    assert list(limiter.buckets) == ["api:1", "api:2"]
    answer = limiter.take_all([("api", "k", 8)])
    assert answer
    assert [one.bucket.spec.name for one in answer.decisions] == ["api:1", "api:2"]
    assert not limiter.take_all([("api", "k", 8)])
    assert limiter.bucket("api:1").peek("k").remaining == 92
    with pytest.raises(UnknownBucket, match=r"take_all\(\[\('api', key\)\]\)"):
        limiter.bucket("api")
    assert limiter.refund_all(answer) == 16


def test_a_name_for_several_rates_goes_with_others() -> None:
    limiter = Limiter([*BucketSpec.parse_all("api", "100/hour; 10/minute"), SPEC_OF_ONE])
    with limiter.reserve_all([("api", "k", 5), ("one", "k", 2)]) as held:
        assert len(held.reservations) == 3
        with pytest.raises(InvalidCost, match="3 costs for 2"):
            held.commit(1, 2, 3)
        held.commit(4, 1)
    left = [limiter.bucket(name).peek("k").remaining for name in ("api:1", "api:2", "one")]
    assert left == [96, 6, 8]


def test_a_name_that_no_rate_has_is_unknown() -> None:
    for wrong in ("ap", "api:3", 7):
        with pytest.raises(UnknownBucket, match="api:1, api:2"):
            rates().take_all([(wrong, "k")])  # type: ignore[list-item]


def test_a_bucket_with_the_plain_name_is_that_bucket() -> None:
    limiter = Limiter([BucketSpec("api", 5, 1), *BucketSpec.parse_all("api", "100/h;10/s")])
    (decision,) = limiter.take_all([("api", "k")]).decisions
    assert decision.limit == 5


async def test_the_first_that_admits() -> None:
    limiter = Limiter([BucketSpec("plan", 2, 1, "1h"), BucketSpec("credits", 5, 1, "1m"), *SEARCH])
    wanted = [("plan", "k"), ("credits", "k", 4)]
    taken = [limiter.take_first(wanted), limiter.take_first(wanted)]
    taken.append(await limiter.acquire_first(wanted))
    assert [one.bucket.spec.name for one in taken] == ["plan", "plan", "credits"]
    denied = limiter.take_first(wanted)
    assert not denied
    assert denied.bucket.spec.name == "credits"  # that could pass sooner
    assert 0 < denied.retry_after <= 180
    assert not await limiter.acquire_first(wanted)
    assert limiter.bucket("plan").refund(taken[0]) == 1
    assert limiter.take_first(wanted).bucket.spec.name == "plan"


def test_nothing_is_taken_when_a_later_one_cannot_be_asked() -> None:
    limiter = Limiter([BucketSpec("plan", 2, 1, "1h"), *SEARCH])
    for wanted, error in [
        ([("plan", "k"), ("nobody", "k")], UnknownBucket),
        ([("plan", "k"), ("search", "k")], UnknownBucket),
        ([("plan", "k"), ("plan", "k", 3)], CostExceedsCapacity),
        ([("plan", "k"), ("plan", "")], InvalidKey),
        ([], InvalidKey),
    ]:
        with pytest.raises(error):
            limiter.take_first(wanted)  # type: ignore[arg-type]
    assert limiter.bucket("plan").peek("k").remaining == 2


def test_a_name_of_several_rates_is_explained_to_whoever_asks_for_one_bucket() -> None:
    limiter = rates()
    for ask in (limiter.bucket, limiter.keys):
        with pytest.raises(UnknownBucket, match=r"each rate of 'api' is one, and take_all"):
            ask("api")
