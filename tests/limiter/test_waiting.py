"""Waiting callers: their order, the moment at which they wake, and every way in which they give
up."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket._core import BucketCore, Decision
from crdtbucket.errors import (
    CostExceedsCapacity,
    InvalidCost,
    InvalidKey,
    InvalidSpec,
    LimiterClosed,
    WaitTimeout,
)
from crdtbucket.limiter.bucket import Bucket
from tests.forks import in_child
from tests.threads import in_threads
from tests.virtual_loop import VirtualTime, virtually

KEY = "tenant-42"


class Crowd:
    """Callers of one bucket in virtual time, and which of them passed, and when."""

    def __init__(self, time: VirtualTime, capacity: int = 10, rate: int = 10, **more: Any) -> None:
        self.time = time
        self.bucket = self.time.bucket(capacity, rate, **more)
        self.passed: list[tuple[str, float]] = []
        self.tasks: dict[str, asyncio.Task[Decision]] = {}

    async def call(
        self, name: str, cost: int = 1, timeout: float | None = None, key: str = KEY
    ) -> None:
        """Starts a caller and lets it get in line."""

        async def wait() -> Decision:
            decision = await self.bucket.wait(key, cost, timeout)
            assert decision.allowed
            self.passed.append((name, self.time.elapsed))
            return decision

        self.tasks[name] = asyncio.get_running_loop().create_task(wait())
        await asyncio.sleep(0)

    async def all(self) -> list[Any]:
        """Until every caller has an answer; errors are values."""
        return await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    def drain(self, key: str = KEY) -> None:
        """Nothing is left for `key`."""
        level = self.bucket.peek(key).remaining
        if level:
            assert self.bucket.take(key, level)

    def taken(self) -> int:
        """Tokens that are counted as taken and not refunded."""
        (counts,) = self.bucket.columns(KEY).values()
        return counts[1] - counts[2]


@pytest.fixture
def crowd(time: VirtualTime) -> Crowd:
    return Crowd(time)


def at(seconds: float) -> Any:
    return pytest.approx(seconds, abs=1e-6)


def test_frameworks_see_that_it_has_to_be_awaited() -> None:
    assert inspect.iscoroutinefunction(Bucket.wait)
    assert inspect.iscoroutinefunction(Bucket.acquire)


@virtually
async def test_what_is_there_is_given_at_once(crowd: Crowd) -> None:
    decision = await crowd.bucket.wait(KEY, 10)
    assert (decision.allowed, decision.remaining) == (True, 0)
    assert crowd.time.elapsed == 0


@pytest.mark.parametrize(
    ("rate", "cost", "seconds"), [(10, 1, 0.1), (10, 7, 0.7), (3, 1, 1 / 3), (1, 10, 10.0)]
)
@virtually
async def test_wakes_exactly_at_retry_after(
    time: VirtualTime, rate: int, cost: int, seconds: float
) -> None:
    crowd = Crowd(time, rate=rate)
    crowd.drain()
    assert crowd.bucket.peek(KEY, cost).retry_after == at(seconds)
    await crowd.call("a", cost)
    await crowd.all()
    assert crowd.passed == [("a", at(seconds))]


@virtually
async def test_first_come_first_served_and_one_refill_apart(crowd: Crowd) -> None:
    crowd.drain()
    for name in "abcde":
        await crowd.call(name)
    await crowd.all()
    assert crowd.passed == [(name, at(0.1 * n)) for n, name in enumerate("abcde", start=1)]


@virtually
async def test_a_small_cost_does_not_pass_a_large_one(crowd: Crowd) -> None:
    crowd.drain()
    await crowd.call("large", 10)
    await asyncio.sleep(0.5)  # five tokens are there: plenty for the small one
    await crowd.call("small", 1)
    await crowd.all()
    assert crowd.passed == [("large", at(1.0)), ("small", at(1.1))]


@virtually
async def test_keys_do_not_wait_for_each_other(crowd: Crowd) -> None:
    crowd.drain()
    crowd.drain("other")
    await crowd.call("a", 10)
    await crowd.call("b", 1, key="other")
    await crowd.all()
    assert crowd.passed == [("b", at(0.1)), ("a", at(1.0))]


@virtually
async def test_str_and_bytes_of_one_key_stand_in_one_line(crowd: Crowd) -> None:
    crowd.drain()
    await crowd.call("a", 10)
    crowd.tasks["b"] = asyncio.ensure_future(crowd.bucket.wait(KEY.encode(), 1))
    await asyncio.sleep(0)
    assert len(crowd.bucket.waiters) == 2
    crowd.tasks["b"].add_done_callback(lambda _: crowd.passed.append(("b", 0)))
    await crowd.all()
    assert [name for name, _ in crowd.passed] == ["a", "b"]


@virtually
async def test_a_cancelled_first_hands_over_at_once(crowd: Crowd) -> None:
    crowd.drain()
    await crowd.call("large", 10)
    await crowd.call("small", 1)
    await asyncio.sleep(0.5)
    crowd.tasks["large"].cancel()
    answers = await crowd.all()
    assert isinstance(answers[0], asyncio.CancelledError)
    assert crowd.passed == [("small", at(0.5))]
    assert len(crowd.bucket.waiters) == 0


@virtually
async def test_a_cancelled_one_in_the_middle_frees_its_place(crowd: Crowd) -> None:
    crowd.drain()
    for name in "abc":
        await crowd.call(name)
    crowd.tasks["b"].cancel()
    await crowd.all()
    assert crowd.passed == [("a", at(0.1)), ("c", at(0.2))]
    assert crowd.taken() == 12


@virtually
async def test_tokens_taken_for_a_cancelled_caller_go_back(crowd: Crowd) -> None:
    crowd.drain()
    await crowd.call("a")
    await crowd.call("b")
    crowd.time.advance(0.1)
    crowd.bucket.waiters.kick_all()
    # The kick runs before this continues; "a" has its token, but has not run yet.
    await asyncio.sleep(0)
    assert len(crowd.bucket.waiters) == 1
    assert crowd.passed == []
    crowd.tasks["a"].cancel()
    answers = await crowd.all()
    assert isinstance(answers[0], asyncio.CancelledError)
    # The token of "a" is the one that "b" gets: at once, not a refill later.
    assert crowd.passed == [("b", at(0.1))]
    assert crowd.taken() == 11


@virtually
async def test_nothing_is_taken_for_one_who_is_cancelled_as_its_turn_comes(crowd: Crowd) -> None:
    crowd.drain()
    await crowd.call("a")
    await crowd.call("b")
    crowd.time.advance(0.1)
    crowd.bucket.waiters.kick_all()  # will look before "a" itself can leave
    crowd.tasks["a"].cancel()
    await crowd.all()
    assert crowd.passed == [("b", at(0.1))]
    assert crowd.bucket.counters()["granted"] == 11
    assert crowd.bucket.counters()["refunded"] == 0


@virtually
async def test_timeout_carries_the_last_denial_and_frees_the_place(crowd: Crowd) -> None:
    crowd.drain()
    await crowd.call("a", 5, timeout=0.5)
    await crowd.call("b", 1, timeout=None)
    await asyncio.sleep(0.3)
    assert crowd.bucket.take(KEY, 3)  # does not stand in line: "a" is now too late
    error = (await crowd.all())[0]
    assert isinstance(error, WaitTimeout)
    assert isinstance(error, TimeoutError)
    assert not error.decision.allowed
    assert error.decision.cost == 5
    assert crowd.time.elapsed == at(0.5)
    assert crowd.passed == [("b", at(0.5))]  # two tokens are there when "a" gives up


@virtually
async def test_tokens_that_come_at_the_timeout_are_in_time(crowd: Crowd) -> None:
    crowd.drain()
    await crowd.call("a", 5, timeout=0.5)
    await crowd.call("b", 1, timeout=0.6)
    await crowd.all()
    assert crowd.passed == [("a", at(0.5)), ("b", at(0.6))]


@pytest.mark.parametrize("timeout", [0, -1, 0.4999])
@virtually
async def test_a_wait_in_vain_is_refused_at_once(timeout: float, crowd: Crowd) -> None:
    crowd.drain()
    with pytest.raises(WaitTimeout) as caught:
        await crowd.bucket.wait(KEY, 5, timeout)
    assert caught.value.decision is not None
    assert caught.value.decision.retry_after == at(0.5)
    assert crowd.time.elapsed == 0
    assert len(crowd.bucket.waiters) == 0


@virtually
async def test_those_before_count_in_what_is_in_vain(crowd: Crowd) -> None:
    crowd.drain()
    await crowd.call("a", 8)
    await asyncio.sleep(0.3)
    # Alone it could pass now; behind "a" it takes 0.8 + 0.2 - 0.3 s.
    assert crowd.bucket.peek(KEY, 2)
    with pytest.raises(WaitTimeout) as caught:
        await crowd.bucket.wait(KEY, 2, 0.6)
    assert crowd.time.elapsed == at(0.3)
    assert caught.value.decision is not None
    assert not caught.value.decision.allowed
    await crowd.call("b", 2, 0.71)
    await crowd.all()
    assert crowd.passed == [("a", at(0.8)), ("b", at(1.0))]


@virtually
async def test_a_refund_wakes_the_line_at_once(crowd: Crowd) -> None:
    big = crowd.bucket.take(KEY, 10)
    await crowd.call("a", 6)
    await asyncio.sleep(0.2)
    assert crowd.bucket.refund(big, 5) == 5
    await crowd.all()
    assert crowd.passed == [("a", at(0.2))]


@virtually
async def test_a_returned_reservation_wakes_the_line_at_once(crowd: Crowd) -> None:
    async with crowd.bucket.reserve(KEY, 10) as reservation:
        await crowd.call("a", 6)
        await asyncio.sleep(0.2)
        reservation.commit(3)
    await crowd.all()
    assert crowd.passed == [("a", at(0.2))]


@virtually
async def test_a_charge_makes_the_line_wait_the_rest(crowd: Crowd) -> None:
    crowd.drain()
    await crowd.call("a", 5)
    await asyncio.sleep(0.2)
    crowd.bucket.settle(KEY, 10)
    await crowd.all()
    assert crowd.passed == [("a", at(1.5))]


@pytest.mark.parametrize(("rate", "seconds"), [(1, 1.0), (10, 0.6)])
@virtually
async def test_with_other_nodes_the_line_looks_for_what_they_gave_back(
    time: VirtualTime, rate: int, seconds: float
) -> None:
    crowd = Crowd(time, rate=rate, update_interval_ns=100_000_000)
    # As a merge would, another process of the same table gives tokens back without waking the
    # waiters.
    other = BucketCore(crowd.bucket.table, crowd.bucket.spec)
    big = other.take(KEY, 10)
    await crowd.call("a", 6)
    await asyncio.sleep(0.1)
    other.refund(big, 5)
    await crowd.all()
    assert crowd.passed == [("a", at(seconds))]


@virtually
async def test_what_is_held_back_for_others_is_looked_at_with_their_next_updates(
    time: VirtualTime,
) -> None:
    crowd = Crowd(time, rate=1, update_interval_ns=100_000_000)
    # A node without memory serves its share of 10 tokens only, until it sees the others.
    crowd.time.table.nodes.configure(members=5, warming_up_until=crowd.time.now_ns + 2 * 10**9)
    assert crowd.bucket.take(KEY, 1)
    await crowd.call("a", 8, timeout=1.5)
    await asyncio.sleep(0.25)
    crowd.time.table.nodes.configure(warming_up_until=0)
    await crowd.all()
    assert crowd.passed == [("a", at(0.3))]


@virtually
async def test_impossible_costs_and_bad_arguments_are_refused_at_once(crowd: Crowd) -> None:
    for drained in (False, True):
        if drained:
            crowd.drain()
            await crowd.call("first", 1)
        with pytest.raises(CostExceedsCapacity):
            await crowd.bucket.wait(KEY, 11)
        with pytest.raises(InvalidCost):
            await crowd.bucket.wait(KEY, 0)
        with pytest.raises(InvalidKey):
            await crowd.bucket.wait("", 1)
        for timeout in (float("nan"), True, "soon"):
            with pytest.raises(InvalidSpec, match="timeout"):
                await crowd.bucket.wait(KEY, 1, timeout)  # type: ignore[arg-type]
    await crowd.bucket.wait(KEY, 1, float("inf"))
    await crowd.all()
    assert len(crowd.bucket.waiters) == 0


@virtually
async def test_a_line_is_bounded(monkeypatch: pytest.MonkeyPatch, crowd: Crowd) -> None:
    monkeypatch.setattr("crdtbucket.limiter.waiting.MAX_WAITERS", 3)
    waiters = crowd.bucket.waiters
    crowd.drain()
    tasks = [asyncio.ensure_future(waiters.wait(KEY, 1, None)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(WaitTimeout, match="3 callers already wait") as caught:
        await waiters.wait(KEY, 1, None)
    assert caught.value.decision is not None
    await asyncio.gather(*tasks)
    assert await waiters.wait(KEY, 1, None)


@virtually
async def test_a_smaller_definition_ends_waits_that_became_impossible(crowd: Crowd) -> None:
    crowd.drain()
    await crowd.call("large", 9)
    await crowd.call("small", 1)
    crowd.bucket.define(type(crowd.bucket.spec)("api", 5, 10))
    answers = await crowd.all()
    assert isinstance(answers[0], CostExceedsCapacity)
    assert [name for name, _ in crowd.passed] == ["small"]


@virtually
async def test_a_refusal_reaches_everybody_who_waits(crowd: Crowd) -> None:
    crowd.drain()
    for name in "ab":
        await crowd.call(name)
    crowd.bucket.table.refuse(LimiterClosed("closed"))
    crowd.bucket.waiters.kick_all()
    await asyncio.wait(list(crowd.tasks.values()), timeout=0.01)
    assert [type(answer) for answer in await crowd.all()] == [LimiterClosed] * 2
    assert crowd.time.elapsed < 0.05


@virtually
async def test_a_wake_up_that_is_too_early_is_no_new_demand(crowd: Crowd) -> None:
    crowd.drain()
    await crowd.call("a", 5)
    before = crowd.bucket.counters()
    for _ in range(20):
        crowd.bucket.waiters.kick(KEY)
        await asyncio.sleep(0)
    assert crowd.bucket.counters() == before
    await crowd.all()


@virtually
async def test_an_abandoned_loop_leaves_no_line_behind(crowd: Crowd) -> None:
    crowd.drain()
    waiting: Awaitable[Decision] = crowd.bucket.wait(KEY)
    iterator = waiting.__await__()
    next(iterator)
    assert len(crowd.bucket.waiters) == 1
    iterator.close()  # type: ignore[attr-defined]
    assert not crowd.bucket.waiters


def test_loops_of_several_threads_wait_for_one_key() -> None:
    # Real time and real threads: 60 callers on three loops share 1,000 tokens a second.
    from crdtbucket import BucketSpec, Limiter

    limiter = Limiter([BucketSpec("api", 10, 1_000)])
    bucket = limiter.bucket("api")
    orders: list[list[int]] = []

    async def callers() -> None:
        order: list[int] = []

        async def call(number: int) -> None:
            await bucket.wait(KEY, 1, 30)
            order.append(number)

        await asyncio.gather(*(call(number) for number in range(20)))
        orders.append(order)

    in_threads(*[lambda: asyncio.run(callers())] * 3)
    assert orders == [list(range(20))] * 3
    assert bucket.counters()["granted"] == 60
    assert not bucket.waiters


@given(
    st.lists(
        st.tuples(
            st.integers(1, 10),  # cost
            st.integers(0, 400),  # ms until the next caller
            st.one_of(st.none(), st.integers(0, 1_500)),  # ms until it is cancelled
            st.one_of(st.none(), st.integers(0, 1_500)),  # timeout, ms
        ),
        max_size=12,
    )
)
def test_order_and_balance_hold_whatever_callers_do(
    plan: list[tuple[int, int, int | None, int | None]],
) -> None:
    crowd = Crowd(VirtualTime())

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        for number, (cost, pause, cancel, timeout) in enumerate(plan):
            await crowd.call(str(number), cost, None if timeout is None else timeout / 1000)
            if cancel is not None:
                loop.call_later(cancel / 1000, crowd.tasks[str(number)].cancel)
            await asyncio.sleep(pause / 1000)
        answers = await crowd.all()
        await asyncio.sleep(1.5)  # until the last cancel was called
        return answers

    answers = crowd.time.run(main())
    order = [int(name) for name, _ in crowd.passed]
    assert order == sorted(order)
    assert not crowd.bucket.waiters
    granted = sum(plan[number][0] for number in order)
    assert len(order) == sum(isinstance(answer, Decision) for answer in answers)
    if plan:
        assert crowd.taken() == granted
    # Nobody got more than there was: the burst, and what was refilled by then.
    so_far = 0
    for name, seconds in crowd.passed:
        so_far += plan[int(name)][0]
        assert so_far <= 10 + 10 * seconds + 1e-3


def test_a_forked_child_has_no_callers_that_wait() -> None:
    """Theirs is a loop of the parent, which the child would wake whenever tokens come back."""

    async def main(crowd: Crowd) -> None:
        assert crowd.bucket.take(KEY, 10)
        await crowd.call("a", 5)
        assert len(crowd.bucket.waiters) == 1
        look = in_child(
            lambda: len(crowd.bucket.waiters),
            lambda: crowd.bucket.reset(KEY),
            lambda: crowd.bucket.take(KEY, 10).allowed,
        )
        assert look == ["0", "10", "True"]
        await crowd.all()
        assert crowd.passed == [("a", at(0.5))]

    crowd = Crowd(VirtualTime())
    crowd.time.run(main(crowd))
