"""What do calls cost that are built on a take: reservations, slots, several buckets, decorators?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from benchmarks.measure import Case, Comparison, Scale, one_key
from benchmarks.peers import PLENTY
from crdtbucket import BucketSpec, Limiter, limited

QUESTION = "what does a call that is built on `take` cost?"
KEY = "tenant-42"
SLOWER = 10
"""These rows make so many times fewer calls."""
HELD = 19
"""Slots of a key that others hold, all but one."""


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Each way of taking, beside the plain take of one hot key."""
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

    def plain(key: str) -> str:
        return key

    calls = scale.pick(400_000, 200_000, 2_000)
    rows: dict[str, tuple[str, dict[str, Any]]] = {
        "a Python call of nothing": ("plain(key)", {"plain": plain}),
        "limiter.bucket(name).take(key)": ('limiter.bucket("a").take(key)', {"limiter": limiter}),
        "a call of a limited function": (
            "call(key)",
            {"call": limited(bucket, key=lambda key: key)(plain)},
        ),
        "take and refund": ("bucket.refund(bucket.take(key))", {"bucket": bucket}),
        "take_all of two": ("take_all(both)", {"take_all": limiter.take_all, "both": both}),
        "reserve and commit": ("reserve()", {"reserve": reserve}),
        "reserve_all of two": ("reserve_all()", {"reserve_all": reserve_all}),
        "take of a calendar quota": ("take(key)", {"take": limiter.bucket("calendar").take}),
        "a slot, held and released": ("hold(key)", {"hold": hold}),
        f"the same while {HELD} are held": ('hold("crowded")', {"hold": hold}),
    }
    cases = [Case("take", one_key("take(key)", calls, take=bucket.take, key=KEY))]
    for name, (statement, names) in rows.items():
        cases.append(Case(name, one_key(statement, calls // SLOWER, key=KEY, **names)))
    yield Comparison("one hot key", ("ns a call",), cases)
