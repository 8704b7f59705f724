"""The errors of wrong calls: each message says what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crdtbucket import BucketSpec, InvalidCost, InvalidKey, Limiter, ReservationError
from crdtbucket._core import Decision
from crdtbucket.errors import CrdtbucketError

API = BucketSpec("api", 100, 1, "1h")
OTHER = BucketSpec("other", 5, 1, "1h")
JOBS = BucketSpec.concurrency("jobs", 4)


ANOTHER = "which may be that of another limiter: refund it there"
EACH = "one cost for each that was asked for, in the same order"


def committed_twice(limiter: Limiter) -> None:
    with limiter.bucket("api").reserve("k", 2) as held:
        held.commit(2)
        held.commit(3)


def too_few_costs(limiter: Limiter) -> None:
    with limiter.reserve_all([("api", "k", 2), ("other", "k", 1)]) as held:
        held.commit(2)


def refunded_elsewhere(limiter: Limiter) -> None:
    limiter.bucket("other").refund(limiter.bucket("api").take("k"))


def refunded_in_another_limiter(limiter: Limiter) -> None:
    Limiter([API]).bucket("api").refund(limiter.bucket("api").take("k"))


def refunded_denial(limiter: Limiter) -> None:
    bucket = limiter.bucket("other")
    bucket.take("k", 5)
    bucket.refund(bucket.take("k", 5))


WRONG: list[tuple[Callable[[Limiter], Any], type[Exception], str]] = [
    (
        too_few_costs,
        InvalidCost,
        f"1 costs for 2 reservations: commit {EACH}",
    ),
    (
        lambda limiter: limiter.reserve_all([("api", "k", 2)]).commit(2),
        ReservationError,
        "commit before the reservation was entered or granted: commit within its `with` block",
    ),
    (
        lambda limiter: limiter.bucket("api").reserve("k", 2).commit(2),
        ReservationError,
        "commit before the reservation was entered or granted: commit within its `with` block",
    ),
    (
        committed_twice,
        ReservationError,
        "committed with 2 tokens already, not with 3: commit the total once",
    ),
    (
        refunded_elsewhere,
        InvalidCost,
        f"the decision is of bucket 'api', not of this 'other', {ANOTHER}",
    ),
    (
        refunded_in_another_limiter,
        InvalidCost,
        f"the decision is of bucket 'api', not of this 'api', {ANOTHER}",
    ),
    (refunded_denial, InvalidCost, "a denied decision took nothing: refund allowed ones only"),
    (
        lambda limiter: limiter.bucket("api").take("\ud800"),
        InvalidKey,
        "key '\\ud800' cannot be encoded as UTF-8: pass bytes",
    ),
    (
        lambda limiter: limiter.bucket("api").take_many(["a", "b"], [1]),
        InvalidCost,
        "1 costs for 2 keys: pass one for each, or one number",
    ),
    (lambda _: Decision(), TypeError, "decisions come from a bucket: bucket.take(key)"),
]


@pytest.mark.parametrize(("call", "error", "text"), WRONG, ids=[text[:45] for *_, text in WRONG])
def test_a_wrong_call_is_told_what_to_write(
    call: Callable[[Limiter], Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as raised:
        call(Limiter([API, OTHER]))
    assert str(raised.value) == text


def test_a_key_of_slots_that_is_too_long_is_told_so() -> None:
    with pytest.raises(CrdtbucketError, match=r"hash or shorten it$"):
        Limiter([JOBS]).bucket("jobs").held("k" * 512)
