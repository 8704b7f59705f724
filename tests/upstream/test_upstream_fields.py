"""The fields in which services describe their limits are read; unreadable ones are ignored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket import BucketSpec, Limiter
from crdtbucket.http.fields import rate_limit_fields
from crdtbucket.upstream.upstream_fields import (
    LONGEST_S,
    MAX_FIELDS,
    MAX_NUMBER,
    MAX_QUOTAS,
    REQUESTS,
    UpstreamQuota,
    read_upstream,
)

DATE = ("Date", "Sun, 29 Nov 2026 10:00:00 GMT")
KNOWN = (
    "retry-after",
    "date",
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
)


@pytest.mark.parametrize(
    ("fields", "quotas"),
    [
        ({"RateLimit": '"burst";r=5;t=3'}, [("burst", "requests", 5, 3.0)]),
        (
            {"RateLimit": '"a, b";r=1, day;r=2', "RateLimit-Policy": 'day;q=9;qu="tokens"'},
            [("a, b", "requests", 1, None), ("day", "tokens", 2, None)],
        ),
        ({"RateLimit": '"one";r=1, "two'}, []),  # a list with an error is none
        ({"RateLimit": "limit=10, remaining=1"}, []),
        (
            {"RateLimit-Remaining": "7", "RateLimit-Reset": "60"},
            [("", "requests", 7, 60.0)],
        ),
        (
            {"x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "1m6.5s"},
            [("tokens", "tokens", 149_984, 66.5)],
        ),
        ({"X-Rate-Limit-Remaining": "4"}, [("", "requests", 4, None)]),
        (
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1795946490"},
            [("", "requests", 0, 90.0)],
        ),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "12",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-29T10:00:30Z",
            },
            [("input-tokens", "input-tokens", 12, 30.0)],
        ),
        (
            {"x-ratelimit-remaining-requests": "-1", "x-ratelimit-remaining": "1e3"},
            [],
        ),
    ],
)
def test_what_services_write(
    fields: dict[str, str], quotas: list[tuple[str, str, int, float | None]]
) -> None:
    read = read_upstream(200, [DATE, *fields.items()])
    assert read.quotas == tuple(UpstreamQuota(*one) for one in quotas)
    assert not read.denied


def test_what_our_own_answers_say_is_read() -> None:
    bucket = Limiter([BucketSpec('a "b", é', capacity=2, refill_rate=1)]).bucket('a "b", é')
    for left in (1, 0):
        decision = bucket.take("k")
        (quota,) = read_upstream(200, rate_limit_fields(decision, decision.spec).items()).quotas
        assert (quota.name, quota.remaining, quota.reset_s) == ('a "b", %C3%A9', left, 1.0)
    denied = bucket.take("k")
    read = read_upstream(429, rate_limit_fields(denied, denied.spec).items())
    assert (read.denied, read.retry_after_s) == (True, 1.0)


@pytest.mark.parametrize(
    ("status", "fields", "denied", "pause"),
    [
        (429, {}, True, 0.0),
        (429, {"Retry-After": "20"}, True, 20.0),
        (429, {"Retry-After": "20", "retry-after-ms": "1500"}, True, 1.5),
        (429, {"Retry-After": "Sun, 29 Nov 2026 10:00:05 GMT"}, True, 5.0),
        (429, {"Retry-After": "Sun, 29 Nov 2026 09:00:05 GMT"}, True, 0.0),
        (429, {"Retry-After": "-5"}, True, 0.0),
        (429, {"RateLimit": "day;r=0;t=50, hour;r=9;t=70"}, True, 50.0),
        (429, {"RateLimit": "day;r=3;t=50"}, True, 0.0),  # t is not about what denied
        (503, {"Retry-After": "7"}, True, 7.0),
        (503, {}, False, 0.0),
        (529, {"Retry-After": "7"}, True, 7.0),
        (200, {"Retry-After": "7"}, False, 0.0),
    ],
)
def test_when_a_service_denies_and_for_how_long(
    status: int, fields: dict[str, str], denied: bool, pause: float
) -> None:
    read = read_upstream(status, [DATE, *fields.items()])
    assert (read.denied, read.pause_s("requests")) == (denied, pause)


def test_without_the_date_of_the_answer_no_clock_is_asked() -> None:
    read = read_upstream(429, [("Retry-After", DATE[1]), ("x-ratelimit-reset", "1796000000")])
    assert (read.denied, read.retry_after_s) == (True, None)


def test_the_smallest_quota_of_the_unit_or_of_the_name_counts() -> None:
    fields = {"RateLimit": "day;r=9, hour;r=2", "x-ratelimit-remaining-tokens": "1"}
    read = read_upstream(200, fields.items())
    found = {name: read.left(name) for name in ("requests", "tokens", "day", "bytes")}
    assert {name: one and one.remaining for name, one in found.items()} == {
        "requests": 2,
        "tokens": 1,
        "day": 9,
        "bytes": None,
    }


PIECES = (
    *('"', "\\", ";", ",", "=", "r", "t", "a", "r=1", "t=9", "0", "9" * 20, "-", ".", ":", " "),
    *("6m0s", "1ms", "nan", "inf", "1e9", DATE[1], "2026-11-29T10:00:00", "+99:99", "\0", "é"),
)
VALUES = st.lists(st.sampled_from(PIECES), max_size=9).map("".join)
FIELDS = st.dictionaries(st.sampled_from(KNOWN), VALUES, max_size=5).map(lambda of: [*of.items()])


@given(st.sampled_from([200, 429, 503]), FIELDS)
def test_whatever_a_service_writes_is_within_bounds(
    status: int, fields: list[tuple[str, str]]
) -> None:
    read = read_upstream(status, fields)
    assert len(read.quotas) <= MAX_QUOTAS
    assert all(0 <= one.remaining <= MAX_NUMBER for one in read.quotas)
    assert all(0 <= (one.reset_s or 0) <= LONGEST_S for one in read.quotas)
    assert all(0 <= read.pause_s(unit) <= LONGEST_S for unit in ("requests", "tokens"))


def test_a_field_that_is_too_long_says_nothing() -> None:
    items = ", ".join(f"p{n};r={n}" for n in range(MAX_QUOTAS + 9))
    assert len(read_upstream(200, [("RateLimit", items)]).quotas) == MAX_QUOTAS
    assert read_upstream(200, [("RateLimit", items + ", p;r=1" * 300)]).quotas == ()


def test_no_more_fields_are_read_than_an_honest_service_sends() -> None:
    """Clients take tens of thousands, and each is looked at on the client's own event loop."""
    fields = iter([("x-ratelimit-remaining", "7")] + [("x-ratelimit-remaining-a", "1")] * 30_000)
    state = read_upstream(200, fields)
    assert state.left(REQUESTS) is not None
    assert len(list(fields)) == 30_001 - MAX_FIELDS
