"""What do calls that are built on a take cost: reservations, slots, several buckets, decorators?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing, nullcontext
from typing import Any

from benchmarks.measure import Case, Comparison, Scale, awaited, one_key
from benchmarks.peers import PLENTY
from crdtbucket import AskedOverrides, BucketSpec, Limiter, limited

KEY, OTHER = "tenant-42", "tenant-43"
RATE = f"{PLENTY}/s"
SLOWER = 10
"""The slower rows make so many times fewer calls."""
HELD = 19
"""Slots of a key that others hold: all but one."""


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Each way of taking, beside the plain take of one hot key."""
    yield blocking(scale)
    yield overridden(scale)
    with closing(asyncio.new_event_loop()) as loop:
        yield awaiting(scale, loop)


def blocking(scale: Scale) -> Comparison:
    """Calls that await nothing."""
    specs = [BucketSpec(name, PLENTY, 1_000_000) for name in ("a", "b")]
    slots = BucketSpec.concurrency("slots", HELD + 1, ttl="1h")
    calendar = BucketSpec.calendar("calendar", PLENTY, per="day", time_zone="Europe/Berlin")
    limiter = Limiter([*specs, slots, calendar], max_keys=1_000)
    bucket = limiter.bucket("a")
    slot = limiter.bucket("slots").slot
    both = [("a", KEY, 1), ("b", KEY, 1)]
    others = ExitStack()
    for _ in range(HELD):
        others.enter_context(slot("crowded"))

    def reserve() -> None:
        with bucket.reserve(KEY, 10) as reservation:
            reservation.commit(5)

    def reserve_all() -> None:
        with limiter.reserve_all([("a", KEY, 10), ("b", KEY, 10)]) as held:
            held.commit(5, 5)

    def hold(key: str) -> None:
        with slot(key):
            pass

    def enter(key: str) -> None:
        with nullcontext():
            pass

    def plain(key: str) -> str:
        return key

    take_first = limiter.take_first
    calls = scale.pick(400_000, 200_000, 2_000)
    rows: dict[str, tuple[str, dict[str, Any]]] = {
        "a Python call of nothing": ("plain(key)", {"plain": plain}),
        "limiter.bucket(name).take(key)": ('limiter.bucket("a").take(key)', {"limiter": limiter}),
        "a call of a limited function": (
            "call(key)",
            {"call": limited(bucket, key=lambda key: key)(plain)},
        ),
        "take and refund": ("bucket.refund(bucket.take(key))", {"bucket": bucket}),
        "take(floor=0.2)": ("take(key, 1, 0.2)", {"take": bucket.take}),
        'take(floor="normal")': ('take(key, 1, "normal")', {"take": bucket.take}),
        "wait_sync": ("wait(key)", {"wait": bucket.wait_sync}),
        "take_first of two": ("take_first(both)", {"take_first": take_first, "both": both}),
        "take_all of two": ("take_all(both)", {"take_all": limiter.take_all, "both": both}),
        "reserve and commit": ("reserve()", {"reserve": reserve}),
        "reserve_all of two": ("reserve_all()", {"reserve_all": reserve_all}),
        "take of a calendar quota": ("take(key)", {"take": limiter.bucket("calendar").take}),
        "a `with` block of nothing": ("enter(key)", {"enter": enter}),
        "a slot, held and released": ("hold(key)", {"hold": hold}),
        f"the same while {HELD} are held": ('hold("crowded")', {"hold": hold}),
    }
    cases = [Case("take", one_key("take(key)", calls, take=bucket.take, key=KEY))]
    for name, (statement, names) in rows.items():
        cases.append(Case(name, one_key(statement, calls // SLOWER, key=KEY, **names)))
    return Comparison("one hot key", ("ns a call",), cases)


def overridden(scale: Scale) -> Comparison:
    """Takes of a bucket whose keys may have other limits."""
    by_glob = [("tenant-*", BucketSpec("tenants", PLENTY, 2_000_000))]
    asked = AskedOverrides(lambda _: RATE, "1h")
    limiter = Limiter(
        [
            BucketSpec("plain", PLENTY, 1_000_000),
            BucketSpec("globs", PLENTY, 1_000_000, overrides=by_glob),
            BucketSpec("asked", PLENTY, 1_000_000, overrides_from=asked),
            BucketSpec("given", PLENTY, 1_000_000),
        ],
        max_keys=1_000,
    )
    limiter.overrides.set("given", KEY, RATE)
    rows = {
        "no overrides": ("plain", KEY),
        "an override by a glob": ("globs", KEY),
        "a function that was asked before": ("asked", KEY),
        "a limit that an operator has given": ("given", KEY),
        "a key to which none was given": ("given", OTHER),
    }
    calls = scale.pick(40_000, 20_000, 200)
    cases = [
        Case(label, one_key("take(key)", calls, take=limiter.bucket(name).take, key=key))
        for label, (name, key) in rows.items()
    ]
    return Comparison("takes where keys may have other limits", ("ns a take",), cases)


def awaiting(scale: Scale, loop: asyncio.AbstractEventLoop) -> Comparison:
    """Calls that are awaited, though nothing holds them up."""
    slots = BucketSpec.concurrency("slots", HELD + 1, ttl="1h")
    limiter = Limiter([BucketSpec("a", PLENTY, 1_000_000), slots], max_keys=1_000)
    bucket, slot = limiter.bucket("a"), limiter.bucket("slots").slot

    async def nothing(key: str) -> None:
        pass

    async def enter(key: str) -> None:
        async with nullcontext():
            pass

    async def hold(key: str) -> None:
        async with slot(key):
            pass

    call = limited(bucket, key=lambda key: key)(nothing)
    keys = [KEY] * scale.pick(40_000, 20_000, 200)
    rows = {
        "a coroutine of nothing": nothing,
        "acquire": bucket.acquire,
        "wait": bucket.wait,
        "a call of a limited coroutine function": call,
        "an `async with` block of nothing": enter,
        "a slot, held and released": hold,
    }
    cases = [Case(label, awaited(take, keys, loop)) for label, take in rows.items()]
    return Comparison("awaited, one hot key", ("ns a call",), cases)
