"""Why a key is denied: the numbers are those of the decision, and each reason is named."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket import BucketSpec, InvalidCost, Limiter, UnknownBucket
from crdtbucket.errors import CostExceedsCapacity
from crdtbucket.http.server.calls import Calls
from crdtbucket.http.server.console.explanation import explain
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.siblings import Siblings


def asked(limiter: Limiter, key: str, cost: int = 1, bucket: str = "api") -> dict[str, Any]:
    return explain(limiter, Calls(limiter, ServeSettings(), Siblings()), bucket, key, cost)


def test_a_key_that_nobody_asked_for_is_full() -> None:
    found = asked(Limiter([BucketSpec("api", 10, 10, "1d")]), "a", 10)
    assert (found["allowed"], found["passes"], found["taken"]) == (True, 10, [])
    assert "never asked for" in found["reasons"][0]
    assert "at most 10" in found["reasons"][1]


def test_a_denial_says_what_would_pass_and_when_and_who_took() -> None:
    limiter = Limiter([BucketSpec("api", 10, 1, "10s")])
    calls, bucket = Calls(limiter, ServeSettings(), Siblings()), limiter.bucket("api")
    decision = bucket.take("a", 7)
    calls.weigh(bucket, "a", 7, decision.allowed)
    found = explain(limiter, calls, "api", "a", 5)
    assert (found["allowed"], found["remaining"], found["passes"]) == (False, 3, 3)
    assert found["kept_back"] == 0
    assert found["retry_after"] == pytest.approx(20, abs=1)
    assert found["taken"] == [{"node": "local", "tokens": 7}]
    assert found["asked"] == {"tokens": 7, "denied": 0}
    assert "at most 3 pass now" in found["reasons"][0]
    assert bucket.peek("a").remaining == 3  # nothing was taken for the answer


def test_a_key_in_debt_is_explained() -> None:
    limiter = Limiter([BucketSpec("api", 10, 1, "1d", max_debt=100)])
    limiter.bucket("api").take("a", 10)
    limiter.bucket("api").settle("a", 30)
    found = asked(limiter, "a")
    assert found["level"] == pytest.approx(-30, abs=0.1)
    assert any("in debt by 30 tokens" in one for one in found["reasons"])


def test_an_override_is_named() -> None:
    narrow = BucketSpec("vip", 5, 1, "1d")
    limiter = Limiter([BucketSpec("api", 10, 1, "1d", overrides=[("vip-*", narrow)])])
    found = asked(limiter, "vip-1", 5)
    assert (found["bucket"], found["limit"]) == ("api", 5)
    assert found["limited_by"] == limiter.bucket("api").of("vip-1").spec.name
    assert any(found["limited_by"] in one for one in found["reasons"])


def test_what_cannot_be_asked_is_an_error() -> None:
    limiter = Limiter([BucketSpec("api", 10, 1)])
    with pytest.raises(CostExceedsCapacity):
        asked(limiter, "a", 11)
    with pytest.raises(InvalidCost):
        asked(limiter, "a", 0)
    with pytest.raises(UnknownBucket):
        asked(limiter, "a", bucket="none")
