"""Slots of one process: what a block holds and gives back, and when it is refused."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from crdtbucket import BucketSpec, Limiter
from crdtbucket._core import BucketCore, Table
from crdtbucket.errors import (
    CrdtbucketError,
    InvalidKey,
    InvalidSpec,
    LimiterClosed,
    SlotDenied,
    WrongKind,
)
from crdtbucket.limiter.held_slot import Slot
from crdtbucket.limiter.slots import SlotBucket
from tests.threads import in_threads
from tests.virtual_loop import VirtualTime, virtually

KEY = "tenant-42"


def bucket_of(time: VirtualTime, slots: int = 3, ttl: str = "60s", **more: Any) -> SlotBucket:
    return SlotBucket(time.table, BucketSpec.concurrency("llm", slots, ttl=ttl, **more))


def enter(bucket: SlotBucket, key: str | bytes = KEY, **more: Any) -> Slot:
    return bucket.slot(key, **more).__enter__()


def full(bucket: SlotBucket, key: str | bytes = KEY) -> bool:
    try:
        with bucket.slot(key):
            return False
    except SlotDenied:
        return True


def test_a_long_hold_hides_no_short_one_that_is_over(time: VirtualTime) -> None:
    bucket = bucket_of(time, slots=10, ttl="1h")
    with bucket.slot(KEY):
        for _ in range(5):
            enter(bucket, ttl="10s")
        time.advance(20)
        assert bucket.expired == 5
        assert bucket.open_slots == bucket.held(KEY) == 1
    assert (bucket.open_slots, bucket.expired) == (0, 5)


def test_a_block_holds_a_slot(time: VirtualTime) -> None:
    bucket = bucket_of(time, slots=2)
    with bucket.slot(KEY) as slot, bucket.slot(KEY):
        assert bucket.held(KEY) == bucket.open_slots == 2
        assert slot.decision is not None
        assert slot.decision.allowed
        with pytest.raises(SlotDenied, match=r"all slots .* in 60.000 s at the latest") as denied:
            enter(bucket)
        assert denied.value.decision.retry_after == 60.0
        assert not full(bucket, "another key")
    assert bucket.held(KEY) == bucket.open_slots == 0
    counted = bucket.counters()
    assert (counted["allowed"], counted["denied"]) == (3, 1)


def test_an_error_in_the_block_releases_too(time: VirtualTime) -> None:
    bucket = bucket_of(time, slots=1)
    with pytest.raises(ZeroDivisionError), bucket.slot(KEY):
        raise ZeroDivisionError
    assert not full(bucket)


@virtually
async def test_async_with_is_the_same_without_a_task_switch(time: VirtualTime) -> None:
    bucket = bucket_of(time, slots=1)
    others: list[int] = []
    asyncio.get_running_loop().call_soon(others.append, 1)
    async with bucket.slot(KEY):
        assert full(bucket)
        assert not others
    assert not full(bucket)


@pytest.mark.parametrize(("ttl", "after"), [(None, 60.0), (60, 60.0), ("1.5s", 1.5), (0.01, 0.06)])
def test_what_nobody_releases_is_free_after_its_ttl(
    time: VirtualTime, ttl: Any, after: float
) -> None:
    """The time is right to within a thousandth of the longest."""
    bucket = bucket_of(time, slots=1)
    enter(bucket, ttl=ttl)
    time.advance(after - 0.001)
    assert full(bucket)
    time.advance(0.001)
    assert not full(bucket)
    assert bucket.expired == 1


def test_a_late_release_frees_nothing_of_the_next_holder(time: VirtualTime) -> None:
    bucket = bucket_of(time, slots=1)
    late = enter(bucket)
    time.advance(60)
    enter(bucket)
    assert late.release() is False
    assert full(bucket)
    assert bucket.open_slots == 1


def test_a_slot_is_released_once(time: VirtualTime) -> None:
    bucket = bucket_of(time, slots=2)
    first, _ = enter(bucket), enter(bucket)
    assert first.release() is True
    enter(bucket)
    assert first.release() is False
    assert full(bucket)
    with pytest.raises(CrdtbucketError, match="entered once"):
        first.__enter__()


def test_a_release_leaves_an_overlapping_hold_its_time(time: VirtualTime) -> None:
    """So it is after a partition: this node and another one hold the only slot."""
    bucket = bucket_of(time, slots=1)
    first = enter(bucket)
    time.advance(20)
    BucketCore.settle(bucket, f"{KEY}#0", 1_000)
    time.advance(30)
    first.release()
    time.advance(29)
    assert full(bucket)  # the other one's ttl is over 30 s after the release
    time.advance(31)  # for as long as the two overlapped it may be held in vain
    assert not full(bucket)


def test_slots_that_were_released_are_found_first(time: VirtualTime) -> None:
    bucket = bucket_of(time, slots=500)
    held = [enter(bucket) for _ in range(400)]
    held[123].release()
    slot = enter(bucket)
    assert slot.decision is not None
    assert held[123].decision is not None
    assert slot.decision.key == held[123].decision.key
    assert bucket.held(KEY) == 400


@pytest.mark.parametrize("key", ["a#1", "a", b"a", b"\xff#2", "#"])
def test_keys_that_look_alike_are_different(time: VirtualTime, key: str | bytes) -> None:
    bucket = bucket_of(time, slots=2)
    for other in ("a#1", "a", b"\xff#2", "#"):
        enter(bucket, other)
    assert bucket.held(key) == 1
    assert not full(bucket, key)


def test_the_text_of_a_key_counts(time: VirtualTime) -> None:
    class Tenant(str, enum.Enum):
        ONE = KEY

    bucket = bucket_of(time, slots=1)
    enter(bucket, Tenant.ONE)
    assert full(bucket, KEY)


@pytest.mark.parametrize("key", ["", 7, None, "k" * 509, "\ud800"])
def test_what_is_no_key_is_refused(time: VirtualTime, key: Any) -> None:
    with pytest.raises(InvalidKey):
        enter(bucket_of(time), key)
    assert len("k" * 508) == 508
    enter(bucket_of(time), "k" * 508)


@pytest.mark.parametrize("ttl", [0, -1, 61, "soon"])
def test_a_ttl_is_within_that_of_the_bucket(time: VirtualTime, ttl: Any) -> None:
    with pytest.raises(InvalidSpec, match="ttl"):
        bucket_of(time).slot(KEY, ttl=ttl)


@virtually
async def test_callers_wait_in_their_order(time: VirtualTime) -> None:
    bucket = bucket_of(time, slots=1)
    order: list[int] = []

    async def one(number: int, seconds: float) -> None:
        async with bucket.slot(KEY, timeout=None):
            order.append(number)
            await asyncio.sleep(seconds)

    await asyncio.gather(*(one(number, 1.0) for number in range(4)))
    assert order == [0, 1, 2, 3]
    assert time.elapsed == pytest.approx(4.0)
    assert not full(bucket)


@virtually
async def test_a_caller_waits_no_longer_than_it_wants_to(time: VirtualTime) -> None:
    bucket = bucket_of(time, slots=1)
    enter(bucket)
    with pytest.raises(SlotDenied):
        async with bucket.slot(KEY, timeout=2.5):
            pass
    assert time.elapsed == pytest.approx(2.5)
    assert bucket.open_slots == 1


@virtually
async def test_a_caller_that_waits_gets_the_slot_of_a_holder_that_is_gone(
    time: VirtualTime,
) -> None:
    bucket = bucket_of(time, slots=1, ttl="5s")
    enter(bucket)
    async with bucket.slot(KEY, timeout=None):
        assert time.elapsed == pytest.approx(5.0, abs=0.01)


@virtually
async def test_a_caller_that_is_cancelled_holds_nothing(time: VirtualTime) -> None:
    bucket = bucket_of(time, slots=1)
    first = enter(bucket)
    waiting = asyncio.create_task(bucket.slot(KEY, timeout=None).__aenter__())
    await asyncio.sleep(1)
    first.release()
    waiting.cancel()  # its turn has come, and it has not run yet
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not full(bucket)


def test_threads_share_the_slots_of_a_key() -> None:
    bucket = SlotBucket(Table(), BucketSpec.concurrency("llm", 3, ttl="1h"))
    inside: set[int] = set()
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            with contextlib.suppress(SlotDenied), bucket.slot(KEY):
                inside.add(number)
                most.append(len(inside))
                inside.discard(number)

    in_threads(*(partial(work, number) for number in range(6)))
    assert 1 <= max(most) <= 3
    assert bucket.held(KEY) == bucket.open_slots == 0


TOKENS: list[Callable[[Any], Any]] = [
    lambda b: b.take(KEY),
    lambda b: b.peek(KEY),
    lambda b: b.settle(KEY, 1),
    lambda b: b.reserve(KEY, 1),
    lambda b: b.take_burst(KEY, 1),
    lambda b: b.take_many([KEY]),
    lambda b: b.acquire_sync(KEY),
    lambda b: b.reset(KEY),
    lambda b: b.wait_sync(KEY),
]


@pytest.mark.parametrize("call", TOKENS)
def test_a_bucket_of_slots_has_no_tokens(time: VirtualTime, call: Callable[[Any], Any]) -> None:
    with pytest.raises(WrongKind, match=r"bucket 'llm' limits what is in flight .*`.*bucket\."):
        call(bucket_of(time))


@pytest.mark.parametrize(
    ("method", "advice"),
    [("peek", r"bucket\.held\(key\)"), ("refund", r"bucket\.slot"), ("take_many", r"bucket\.slot")],
)
def test_the_error_has_the_method_that_was_called(
    time: VirtualTime, method: str, advice: str
) -> None:
    with pytest.raises(WrongKind, match=rf"no tokens for {method}: `.*{advice}"):
        getattr(bucket_of(time), method)(KEY)


def test_it_is_no_part_of_a_take_of_several() -> None:
    limiter = Limiter(
        [BucketSpec.concurrency("llm", 3), BucketSpec.parse("api", "10/s")], _table=Table()
    )
    with pytest.raises(WrongKind):
        limiter.take_all([("api", KEY), ("llm", KEY)])
    with pytest.raises(WrongKind):
        asyncio.run(limiter.acquire_all([("api", KEY), ("llm", KEY)]))
    assert limiter.bucket("api").peek(KEY).remaining == 10


def test_a_bucket_of_tokens_has_no_slots() -> None:
    limiter = Limiter([BucketSpec.parse("api", "10/s")])
    with pytest.raises(WrongKind, match=r"BucketSpec.concurrency"):
        limiter.bucket("api").slot(KEY)


def test_an_override_has_slots_of_its_own(time: VirtualTime) -> None:
    premium = BucketSpec.concurrency("x", 2, ttl="5s")
    spec = BucketSpec.concurrency("llm", 1, overrides=[("gold-*", premium), ("*#0", premium)])
    bucket = Limiter([spec], _table=time.table).bucket("llm")
    assert isinstance(bucket, SlotBucket)
    enter(bucket)
    enter(bucket, "gold-1")
    assert full(bucket)
    assert not full(bucket, "gold-1")
    assert bucket.spec_of("gold-1").slots == 2
    with pytest.raises(InvalidSpec, match="5s"):
        bucket.slot("gold-1", ttl=6)


def test_a_shadow_counts_and_admits(time: VirtualTime) -> None:
    bucket = bucket_of(time, slots=1, shadow=True)
    enter(bucket)
    with bucket.slot(KEY) as slot:
        assert slot.decision is not None
        assert slot.decision.shadowed
    assert bucket.held(KEY) == 1
    assert bucket.counters()["shadowed"] == 1


def test_a_closed_limiter_gives_out_nothing_and_takes_back() -> None:
    limiter = Limiter([BucketSpec.concurrency("llm", 1)])
    with limiter:
        slot = limiter.bucket("llm").slot(KEY).__enter__()
    with pytest.raises(LimiterClosed):
        limiter.bucket("llm").slot(KEY).__enter__()
    slot.release()


SPECS: list[tuple[Callable[[], Any], str]] = [
    (lambda: BucketSpec.concurrency("llm", 0), "slots is 0"),
    (lambda: BucketSpec.concurrency("llm", 1_001), "slots is 1001"),
    (lambda: BucketSpec.concurrency("llm", 5, ttl="50ms"), "ttl is '50ms'"),
    (lambda: BucketSpec.concurrency("llm", 5, ttl="31d"), "ttl is '31d'"),
    (lambda: BucketSpec("llm", 5, 5, slots=5), "slots is given beside"),
    (
        lambda: BucketSpec.concurrency("llm", 5, overrides=[("a", BucketSpec("x", 1, 1))]),
        "of another kind",
    ),
    (
        lambda: BucketSpec("api", 5, 5, overrides=[("a", BucketSpec.concurrency("x", 1))]),
        "of another kind",
    ),
]


@pytest.mark.parametrize(("make", "words"), SPECS)
def test_definitions_that_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(InvalidSpec, match=words):
        make()
