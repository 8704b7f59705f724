"""Header fields and problems, read by an independent parser."""

from __future__ import annotations

import math

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket import BucketSpec, Decision, InvalidSpec, Mode
from crdtbucket._core import BucketCore, Table
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.http import fields as fields_module
from crdtbucket.http.fields import (
    MAX_INTEGER,
    FieldOptions,
    deferred_fields,
    policy_of,
    problem,
    rate_limit_fields,
)
from tests.limiter.test_calendar_bucket import Machine

START = 1_000 * NS_PER_SECOND


def core(spec: BucketSpec) -> BucketCore:
    """A bucket at a time that stands still."""
    table = Table(virtual=True)
    table.set_time(START)
    return BucketCore(table, spec)


def item(field: str) -> tuple[str, dict[str, object]]:
    """The one member of a list field."""
    members = http_sf.parse(field.encode(), tltype="list")
    assert len(members) == 1
    name, parameters = members[0]
    return name, dict(parameters)


def take(bucket: BucketCore, cost: int = 1, times: int = 1) -> Decision:
    """The last of some decisions."""
    for _ in range(times):
        decision = bucket.take("k", cost)
    return decision


# -- fields


def test_the_policy_and_what_is_left_of_it() -> None:
    spec = BucketSpec.parse("api", "100/minute")
    fields = rate_limit_fields(take(core(spec), 50), spec)
    assert fields == {
        "RateLimit-Policy": '"api";q=100;w=60',
        "RateLimit": '"api";r=50;t=1',  # a token comes every 0.6 s
    }


def test_a_denial_says_when_the_same_cost_could_pass() -> None:
    spec = BucketSpec("api", 10, 1, "7s")
    fields = rate_limit_fields(take(core(spec), 6, times=2), spec)
    assert fields["RateLimit"] == '"api";r=4;t=14'
    assert fields["Retry-After"] == "14"


def test_t_is_when_the_next_token_comes() -> None:
    spec = BucketSpec("api", 10, 1, "7s")
    bucket = core(spec)
    take(bucket, 3)
    bucket.table.set_time(START + 5 * NS_PER_SECOND)
    decision = bucket.peek("k")
    assert decision.remaining == 7
    assert rate_limit_fields(decision, spec)["RateLimit"] == '"api";r=7;t=2'
    bucket.table.set_time(START + 7 * NS_PER_SECOND)
    assert rate_limit_fields(bucket.peek("k"), spec)["RateLimit"] == '"api";r=8;t=7'


def test_nothing_more_comes_to_a_full_bucket() -> None:
    spec = BucketSpec("api", 10, 1)
    assert rate_limit_fields(core(spec).peek("k"), spec)["RateLimit"] == '"api";r=10;t=0'


def test_a_wait_of_milliseconds_is_a_second() -> None:
    spec = BucketSpec("api", 1, 1000)
    denied = take(core(spec), times=2)
    assert 0 < denied.retry_after < 0.01
    fields = rate_limit_fields(denied, spec)
    assert (fields["Retry-After"], fields["RateLimit"]) == ("1", '"api";r=0;t=1')
    assert fields["RateLimit-Policy"] == '"api";q=1;w=1'


def test_jitter_comes_on_top_and_never_before() -> None:
    spec = BucketSpec("api", 1, 1, "10s")
    denied = take(core(spec), times=2)
    drawn = {int(rate_limit_fields(denied, spec, jitter_s=3)["Retry-After"]) for _ in range(1000)}
    assert drawn == {11, 12, 13} or drawn == {10, 11, 12, 13}
    assert rate_limit_fields(denied, spec, jitter_s=3)["RateLimit"] == '"api";r=0;t=10'


def test_legacy_fields_on_request_only() -> None:
    spec = BucketSpec("api", 10, 1, "7s")
    decision = take(core(spec), 3)
    assert "X-RateLimit-Limit" not in rate_limit_fields(decision, spec)
    fields = rate_limit_fields(decision, spec, legacy=True)
    assert fields["X-RateLimit-Limit"] == "10"
    assert fields["X-RateLimit-Remaining"] == "7"
    assert fields["X-RateLimit-Reset"] == "21"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ai‑agent‑inference", "ai-agent-inference"),
        ('say "hi" \\ 100%', 'say "hi" \\ 100%'),
        ("zürich", "z%C3%BCrich"),
        ("premium[tenant-*]", "premium[tenant-*]"),
    ],
)
def test_names_are_quoted_strings(name: str, text: str) -> None:
    spec = BucketSpec(name, 1, 1)
    assert item(rate_limit_fields(core(spec).peek("k"), spec)["RateLimit"])[0] == text
    assert http_sf.parse(policy_of(spec).name.encode(), tltype="item")[0] == text


@given(
    capacity=st.integers(1, 2**53),
    rate=st.integers(1, 1_000),
    interval=st.integers(1, 86_400),
    share=st.floats(0, 1),
    later=st.floats(0, 3),
    name=st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Zs"]), min_size=1),
)
def test_fields_are_well_formed_and_true(
    capacity: int, rate: int, interval: int, share: float, later: float, name: str
) -> None:
    try:
        spec = BucketSpec(name[:50], capacity, rate, interval, max_debt=0)
    except InvalidSpec:
        return  # what takes over 146 years to fill
    bucket = core(spec)
    bucket.take("k", max(1, int(capacity * share)))
    wait_ns = int(later * interval * NS_PER_SECOND / rate)
    bucket.table.set_time(START + wait_ns)
    decision = bucket.take("k", max(1, capacity // 3))
    fields = rate_limit_fields(decision, spec)
    name_of_policy, policy = item(fields["RateLimit-Policy"])
    name_of_state, state = item(fields["RateLimit"])
    assert name_of_policy == name_of_state
    assert policy["q"] == min(capacity, MAX_INTEGER)
    assert policy["w"] == min(max(math.ceil(capacity * interval / rate), 1), MAX_INTEGER)
    assert state["r"] == min(decision.remaining, MAX_INTEGER)
    assert 0 <= state["t"] <= policy["w"] + 1
    if decision.allowed and decision.remaining < min(capacity, MAX_INTEGER):
        # At `t` there is one more token; more than a second before there was not.
        bucket.table.set_time(START + wait_ns + state["t"] * NS_PER_SECOND)
        assert bucket.peek("k").remaining > decision.remaining
        if state["t"] > 1:
            bucket.table.set_time(START + wait_ns + (state["t"] - 1) * NS_PER_SECOND - 2)
            assert bucket.peek("k").remaining <= decision.remaining
    if not decision.allowed:
        assert int(fields["Retry-After"]) == state["t"] >= 1
        bucket.table.set_time(START + wait_ns + state["t"] * NS_PER_SECOND)
        assert bucket.peek("k", decision.cost).allowed


# -- problems


def test_a_problem_names_the_policy_and_the_wait() -> None:
    spec = BucketSpec("api", 10, 1, "7s")
    denied = take(core(spec), 6, times=2)
    assert problem(denied, spec, instance="urn:request:1") == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Quota exceeded",
        "status": 429,
        "detail": "api: 4 of 10 left and 6 asked for; retry in 14 s",
        "violated-policies": ["api"],
        "instance": "urn:request:1",
    }
    assert "instance" not in problem(denied, spec)


def test_a_problem_says_why_calls_are_denied_while_there_are_tokens() -> None:
    """A floor keeps them for more important calls."""
    spec = BucketSpec("api", 10, 1, "7s")
    bucket = core(spec)
    assert bucket.take("k", 2, floor=0.5).allowed
    denied = bucket.take("k", 4, floor=0.5)
    assert (denied.allowed, denied.remaining) == (False, 8)
    detail = problem(denied, spec)["detail"]
    assert detail == (
        "api: 8 of 10 left, part of it kept for other nodes or more important calls, and 4 asked "
        f"for; retry in {round(denied.retry_after)} s"
    )


def test_fallback_is_reduced_capacity() -> None:
    spec = BucketSpec("api", 1, 1)
    bucket = core(spec)
    take(bucket)
    denied = bucket.take_as("k", 1, Mode.FALLBACK)
    assert not denied.allowed
    document = problem(denied, spec)
    assert document["type"].endswith("#temporary-reduced-capacity")
    assert document["status"] == 503
    plain = problem(denied, spec, reduced_capacity=False)
    assert plain["type"].endswith("#quota-exceeded")
    assert plain["status"] == 429


def test_policies_are_kept_with_a_bound() -> None:
    specs = [BucketSpec("api", n, 1) for n in range(1, fields_module.POLICIES + 10)]
    assert [policy_of(spec).text for spec in specs] == [
        f'"api";q={n};w={n}' for n in range(1, len(specs) + 1)
    ]
    assert len(fields_module._policies) <= fields_module.POLICIES
    assert policy_of(specs[-1]) is policy_of(specs[-1])


class WithQuota(BucketCore):
    """A bucket that grants three tokens in 90 s while the store is unreachable: one in 30 s."""

    def fallback_policy(self, key: str) -> tuple[int, float]:
        return 3, 89.5


def test_a_decision_in_fallback_shows_the_policy_of_the_quota() -> None:
    spec = BucketSpec("api", 1, 1, "1h")
    bucket = WithQuota(Table(virtual=True), spec)
    allowed, denied = (bucket.take_as("k", 1, Mode.FALLBACK) for _ in range(2))
    shown = deferred_fields(allowed, FieldOptions())
    assert shown == rate_limit_fields(allowed, spec)
    assert shown["RateLimit-Policy"] == '"api";q=3;w=90'
    assert rate_limit_fields(allowed, spec, legacy=True)["X-RateLimit-Limit"] == "3"
    assert rate_limit_fields(denied, spec)["RateLimit-Policy"] == '"api";q=3;w=90'
    detail = problem(denied, spec)["detail"]
    assert detail.startswith("api: the store is unreachable, and this node alone grants 3 in 90 s")
    other = take(bucket)  # in another mode
    assert rate_limit_fields(other, spec)["RateLimit-Policy"] == '"api";q=1;w=3600'


def test_in_fallback_the_next_token_is_that_of_the_quota() -> None:
    spec = BucketSpec("api", 10, 10, "1s")
    bucket = WithQuota(Table(virtual=True), spec)
    left = [bucket.take_as("k", cost, Mode.FALLBACK) for cost in (7, 1)]
    fields = [rate_limit_fields(one, spec)["RateLimit"] for one in left]
    assert fields == ['"api";r=3;t=1', '"api";r=2;t=30']  # the quota is full with three


def test_a_quota_of_the_calendar_says_when_the_next_period_begins() -> None:
    here = Machine(2026, 11, 29, 23, 59)
    bucket = here.bucket(2)
    taken = bucket.take("k", 2)
    fields = rate_limit_fields(taken, taken.spec, legacy=True)
    assert fields["RateLimit-Policy"] == '"api";q=2;w=86400'
    assert (fields["RateLimit"], fields["X-RateLimit-Reset"]) == ('"api";r=0;t=60', "60")
    here.advance(59.5)
    denied = bucket.take("k")
    assert rate_limit_fields(denied, denied.spec)["Retry-After"] == "1"
    assert problem(denied, denied.spec)["detail"].endswith("1 asked for; retry in 1 s")
