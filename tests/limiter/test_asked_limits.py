"""Overrides that a function returns: when it is asked, how long an answer is kept, and what happens
when it fails."""

from __future__ import annotations

import re
from functools import partial
from time import process_time
from typing import Any

import pytest

from crdtbucket import AskedOverrides, Bucket, BucketSpec, InvalidSpec, Limiter
from crdtbucket.config import Config
from crdtbucket.limiter import asked_limits
from crdtbucket.spec.globs import REMEMBERED_KEYS
from tests.threads import in_threads
from tests.virtual_loop import VirtualTime

PREMIUM = BucketSpec("premium", 40, 2)


class Book:
    """A function that knows limits, and counts how often it is asked."""

    def __init__(self, **limits: Any) -> None:
        self.limits: dict[str, Any] = limits
        self.asked: list[str] = []
        self.down = False

    def __call__(self, key: str) -> Any:
        self.asked.append(key)
        if self.down:
            raise ConnectionError("the database is gone")
        return self.limits.get(key)


@pytest.fixture
def book() -> Book:
    return Book(rate="30/minute", named="premium", spec=BucketSpec("own", 7, 1))


@pytest.fixture
def limiter(time: VirtualTime, book: Book) -> Limiter:
    spec = BucketSpec("api", 10, 1, overrides=AskedOverrides(book, ttl="5s"))
    return Limiter([spec, PREMIUM], _table=time.table)


@pytest.fixture
def bucket(limiter: Limiter) -> Bucket:
    return limiter.bucket("api")


def test_a_key_has_the_limit_that_the_function_says(limiter: Limiter, bucket: Bucket) -> None:
    limits = {key: bucket.take(key).limit for key in ("rate", b"rate", "named", "spec", "other")}
    assert limits == {"rate": 30, b"rate": 30, "named": 40, "spec": 7, "other": 10}
    assert set(limiter.buckets) == {
        "api", "premium", "api[=30/60s]", "api[=premium]", "api[=own]",
    }  # fmt: skip
    assert limiter.bucket("api[=premium]") is bucket.of("named")
    assert limiter.stats()["buckets"]["api[=30/60s]"]["granted"] == 2
    assert sorted(map(str, limiter.keys("api"))) == ["named", "other", "rate", "spec"]
    assert limiter.bucket("premium").peek("named").remaining == 40  # counts apart
    decision = bucket.take("rate", 5)
    assert bucket.refund(decision) == 5
    assert list(bucket.take_many(["rate", "spec", "other"], [29, 7, 9]).allowed) == [0, 0, 1]
    with pytest.raises(Exception, match="512"):
        bucket.take("x" * 600)


def test_an_answer_is_remembered_for_its_time_to_live(
    time: VirtualTime, bucket: Bucket, book: Book
) -> None:
    for _ in range(3):
        bucket.take("rate")
    book.limits["rate"] = "20/minute"
    time.advance(4.9)
    assert bucket.peek("rate").limit == 30
    assert book.asked == ["rate"]
    time.advance(0.2)
    assert bucket.peek("rate").limit == 20
    assert book.asked == ["rate", "rate"]


def test_what_a_key_has_consumed_stays_when_the_answer_changes(
    time: VirtualTime, bucket: Bucket, book: Book
) -> None:
    assert bucket.take("rate", 25)
    book.limits["rate"] = "20/minute"
    time.advance(6)  # 3 of the 25 are back
    assert not bucket.take("rate")
    assert bucket.peek("rate").remaining == 0
    time.advance(12)  # 4 more, of 22 that it owed
    assert bucket.peek("rate").remaining == 2
    book.limits.clear()  # and to the bucket's own limit, and back: nothing is given out
    time.advance(6)
    assert bucket.peek("rate", 1).limit == 10
    assert bucket.peek("rate").remaining == 0
    book.limits["rate"] = "20/minute"
    time.advance(5)
    assert bucket.peek("rate").remaining < 8


def test_a_function_that_fails_leaves_the_last_answer_and_says_so_once(
    time: VirtualTime,
    limiter: Limiter,
    bucket: Bucket,
    book: Book,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert bucket.take("named").limit == 40
    book.down = True
    time.advance(6)
    assert [bucket.take("named").limit for _ in range(3)] == [40] * 3
    assert bucket.take("rate").limit == 10  # nothing is known of it
    assert caplog.text.count("has failed") == 1
    assert "ConnectionError: the database is gone" in caplog.text
    assert limiter.stats()["overrides"] == {"given": 0, "limits": 1, "failed": 2}
    asked = len(book.asked)
    time.advance(0.9)
    bucket.take("named")
    assert len(book.asked) == asked  # not at every call
    book.down = False
    time.advance(0.2)
    assert bucket.take("rate").limit == 30
    book.down = True
    time.advance(6)
    bucket.take("rate")
    assert caplog.text.count("has failed") == 2  # it had worked in between


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("gold", "neither a bucket nor a rate"),
        ("0/s", "refill_rate|capacity|limit"),
        (7, "the name of a bucket, a rate string, a BucketSpec, or None"),
        (BucketSpec.concurrency("c", 5), "of another kind than its bucket"),
        (BucketSpec("premium", 9, 1), "called as a bucket is"),
        (BucketSpec("o", 9, 1, overrides=str.upper), "has overrides|is one limit"),
    ],
)
def test_what_is_no_limit_counts_as_a_failure(
    bucket: Bucket, book: Book, limit: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    book.limits["k"] = limit
    if said.startswith("has overrides"):
        assert bucket.take("k").limit == 9  # its own overrides are left out
        return
    assert bucket.take("k").limit == 10
    assert re.search(said, caplog.text)


def test_there_is_room_for_so_many_answers_and_limits(
    time: VirtualTime, bucket: Bucket, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked_limits, "REMEMBERED_KEYS", 2)
    for key in ("a", "b", "c", "b", "c", "a"):
        bucket.peek(key)
    assert book.asked == ["a", "b", "c", "a"]
    monkeypatch.setattr("crdtbucket.limiter.outside_limits.MAX_LIMITS", 2)
    book.limits |= {f"k{n}": f"{n}/s" for n in range(1, 4)}
    assert [bucket.peek(f"k{n}").limit for n in range(1, 4)] == [1, 2, 10]


def test_a_limit_that_no_key_has_makes_room_for_another(
    time: VirtualTime, limiter: Limiter, bucket: Bucket, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crdtbucket.limiter.outside_limits.MAX_LIMITS", 2)
    monkeypatch.setattr("crdtbucket.limiter.outside_limits.MAX_MADE", 4)
    book.limits = {f"k{n}": f"{n}/s" for n in range(1, 7)}
    limiter.overrides.set("api", "given", "9/s")
    assert [bucket.peek(f"k{n}").limit for n in (1, 2)] == [1, 10]
    time.advance(6)  # what was said of k1 is too old
    assert [bucket.peek(f"k{n}").limit for n in (3, 4)] == [3, 10]
    assert set(limiter.buckets) == {"api", "premium", "api[=9/1s]", "api[=3/1s]"}
    limiter.overrides.remove("api", "given")
    time.advance(6)
    assert [bucket.peek(f"k{n}").limit for n in (1, 5)] == [1, 5]  # one of before, and the fourth
    time.advance(6)
    assert bucket.peek("k6").limit == 10
    assert [bucket.peek(f"k{n}").limit for n in (3, 1)] == [3, 1]


def test_a_definition_of_another_period_is_no_bucket_of_the_same_name(time: VirtualTime) -> None:
    said = BucketSpec.calendar("big", 20, per="day", time_zone="Europe/Berlin")
    specs = [
        BucketSpec.calendar("api", 10, per="day", time_zone="Europe/Berlin",
                            overrides=lambda key: said),
        BucketSpec.calendar("big", 20, per="day", time_zone="America/New_York"),
    ]  # fmt: skip
    limiter = Limiter(specs, _table=time.table)
    assert limiter.bucket("api").peek("k").limit == 10
    assert limiter.stats()["overrides"]["failed"] == 1


def test_slots_have_limits_from_a_function_too(time: VirtualTime) -> None:
    book = Book(big="many", wrong="5/s")
    specs = [
        BucketSpec.concurrency("work", 1, overrides=book),
        BucketSpec.concurrency("many", 3),
    ]
    work = Limiter(specs, _table=time.table).bucket("work")
    with work.slot("big"), work.slot("big"), work.slot("big"), work.slot("wrong"):
        assert work.of("big").spec.slots == 3


def test_a_reload_changes_what_the_name_of_a_bucket_stands_for(
    limiter: Limiter, bucket: Bucket, book: Book
) -> None:
    assert bucket.take("named", 30)
    again = BucketSpec("api", 10, 1, overrides=AskedOverrides(book, ttl="5s"))
    limiter.reload(config(again, BucketSpec("premium", 35, 1)))
    assert bucket.peek("named").remaining == 5
    limiter.reload(config(again))  # premium is gone, so nothing is said of the key
    assert bucket.peek("named").limit == 10
    limiter.reload(config(BucketSpec("api", 10, 1)))
    assert bucket.take("rate").limit == 10
    assert set(limiter.buckets) == {"api"}


def test_many_threads_ask_at_once(limiter: Limiter, bucket: Bucket, book: Book) -> None:
    book.limits |= {f"k{n}": f"{n % 20 + 1}/s" for n in range(200)}
    wrong: list[str] = []

    def look() -> None:
        wrong.extend(f"k{n}" for n in range(200) if bucket.peek(f"k{n}").limit != n % 20 + 1)

    in_threads(*[look] * 4)
    assert wrong == []
    assert len(limiter.buckets) == 22


def test_a_key_moves_once_when_it_is_asked_for_twice_at_once(
    time: VirtualTime, limiter: Limiter, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[tuple[str, Bucket, Bucket]] = []
    monkeypatch.setattr(asked_limits, "carry_over", lambda *move: moved.append(move))
    said = ["premium"]

    def ask(key: str) -> str:
        if said == ["api"]:
            said.append("api")
            limits.of(key)  # as in another thread, while this one has no answer yet
        return said[-1]

    limits = asked_limits.AskedLimits(
        AskedOverrides(ask, ttl="5s"), bucket, lambda name: limiter.bucket(str(name))
    )
    assert limits.of("k") is limiter.bucket("premium")
    said[:] = ["api"]
    time.advance(6)
    assert limits.of("k") is bucket
    assert moved == [("k", limiter.bucket("premium"), bucket)]


def config(*buckets: BucketSpec) -> Config:
    return Config("test.yaml", buckets)


async def _later(_: str) -> None: ...


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AskedOverrides(_later), "a plain function"),  # type: ignore[arg-type]
        (lambda: AskedOverrides(partial(_later)), "a plain function"),  # type: ignore[arg-type]
        (lambda: AskedOverrides("gold"), "a plain function"),  # type: ignore[arg-type]
        (lambda: AskedOverrides(lambda: None), r"takes \(\): it is called with one argument"),  # type: ignore[arg-type, misc]
        (lambda: _spec(lambda key, tenant: None), r"takes \(key, tenant\)"),
        (lambda: AskedOverrides(str.upper, ttl=0), "above 0 and at most a day"),
        (lambda: AskedOverrides(str.upper, ttl="2d"), "above 0 and at most a day"),
        (lambda: _spec(overrides_from=str.upper), "AskedOverrides\\(function, ttl\\)"),
        (lambda: _spec([("a", PREMIUM)], AskedOverrides(str.upper)), "both listed and asked"),
    ],
)
def test_what_cannot_be_asked_is_refused(make: Any, said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        make()


def _spec(overrides: Any = (), overrides_from: Any = None) -> BucketSpec:
    return BucketSpec("api", 10, 1, overrides=overrides, overrides_from=overrides_from)


def test_a_key_costs_no_more_when_more_keys_ask_than_are_remembered(bucket: Bucket) -> None:
    """Time of the processor, not of the clock. Where the oldest answer was looked for among the
    places of all that have left, a key took six to ten times as long as before."""

    def seconds_a_key(first: int, last: int) -> float:
        begin = process_time()
        for n in range(first, last):
            bucket.of(f"key-{n}")
        return (process_time() - begin) / (last - first)

    filling = seconds_a_key(0, REMEMBERED_KEYS)
    full = 2 * REMEMBERED_KEYS
    seconds_a_key(REMEMBERED_KEYS, full)
    assert seconds_a_key(full, full + 10_000) < 4 * filling
