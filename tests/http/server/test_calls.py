"""Decisions over HTTP, and their later use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import http_sf
import pytest

from crdtbucket import AllDecision, BucketSpec, Degradation, Limiter
from crdtbucket.config import load_config
from crdtbucket.http.server import calls
from crdtbucket.limiter.multi import Wanted
from tests.http.serving import API, SMALL, serving
from tests.strong.redis_server import Server, free_port
from tests.waits import eventually


async def test_a_take_and_its_denial() -> None:
    async with serving() as client:
        first = await client.post("/v1/take", bucket="api", key="a", cost=60)
        assert first["allowed"]
        assert (first["limit"], first["remaining"], first["mode"]) == (100, 40, "eventual")
        status, answer, headers = await client.ask(
            "POST", "/v1/take", json={"bucket": "api", "key": "a", "cost": 60}
        )
        assert status == answer["status"] == 429
        assert answer["type"].endswith("#quota-exceeded")
        assert answer["violated-policies"] == ["api"]
        assert not answer["allowed"]
        assert 19 * 3600 < answer["retry_after"] <= 20 * 3600
        assert int(headers["Retry-After"]) >= answer["retry_after"]
        assert client.limiter.bucket("api").peek("a").remaining == 40


async def test_the_fields_are_structured_ones() -> None:
    async with serving() as client:
        _, _, headers = await client.ask("POST", "/v1/take", json={"bucket": "api", "key": "a"})
        (limit, told), (policy, window) = (
            http_sf.parse(headers[name].encode(), tltype="list")[0]
            for name in ("RateLimit", "RateLimit-Policy")
        )
        assert limit == policy == "api"
        assert told["r"] == 99
        assert window == {"q": 100, "w": 360_000}
        assert "X-RateLimit-Limit" not in headers
    async with serving(legacy_fields=True) as client:
        _, _, headers = await client.ask("POST", "/v1/peek", json={"bucket": "api", "key": "a"})
        assert headers["X-RateLimit-Limit"] == "100"


async def test_a_peek_takes_nothing() -> None:
    async with serving() as client:
        for _ in range(2):
            answer = await client.post("/v1/peek", bucket="small", key="a", cost=10)
            assert answer["allowed"]
        await client.post("/v1/take", bucket="small", key="a", cost=10)
        answer = await client.post("/v1/peek", bucket="small", key="a")
        assert not answer["allowed"]
        assert answer["retry_after"] > 0


async def test_a_take_is_given_back_by_its_id_once() -> None:
    async with serving() as client:
        assert "id" not in await client.post("/v1/take", bucket="api", key="a")
        taken = await client.post("/v1/take", bucket="api", key="a", cost=50, refundable=True)
        for _ in range(2):
            answer = await client.post("/v1/refund", id=taken["id"], tokens=20)
            assert answer == {"refunded": 20}
            assert client.limiter.bucket("api").peek("a").remaining == 69
        assert (await client.refused("/v1/refund", id=taken["id"]))[0] == 409
        status, problem = await client.refused("/v1/refund", id="nobody-made-this")
        assert status == 404
        assert problem["errors"] == [{"field": "id", "message": "unknown"}]
        taken = await client.post("/v1/take", bucket="api", key="a", cost=9, refundable=True)
        status, problem = await client.refused("/v1/refund", id=taken["id"], tokens=10)
        assert (status, problem["errors"][0]["field"]) == (400, "tokens")
        assert (await client.post("/v1/refund", id=taken["id"])) == {"refunded": 9}


async def test_an_estimate_is_replaced_by_the_true_cost_once() -> None:
    async with serving() as client:
        bucket = client.limiter.bucket("api")
        held = await client.post("/v1/reserve", bucket="api", key="a", estimate=80)
        assert bucket.peek("a").remaining == 20
        status, problem = await client.refused(
            "/v1/reserve", bucket="api", key="a", estimate=30, ttl=5
        )
        assert status == 429
        assert problem["remaining"] == 20
        for _ in range(2):
            answer = await client.post("/v1/commit", id=held["id"], actual=30)
            assert answer == {"actual": 30, "late": False}
            assert bucket.peek("a").remaining == 70
        assert (await client.refused("/v1/commit", id=held["id"], actual=31))[0] == 409
        unknown, problem = await client.refused("/v1/commit", id="unknown", actual=1)
        assert (unknown, "was restarted, which forgets" in problem["detail"]) == (404, True)
        released = await client.post("/v1/reserve", bucket="api", key="a", estimate=70)
        await client.post("/v1/commit", id=released["id"], actual=0)
        assert bucket.peek("a").remaining == 70


async def test_an_estimate_goes_back_at_its_end_and_a_late_commit_counts() -> None:
    async with serving() as client:
        bucket = client.limiter.bucket("api")
        held = await client.post("/v1/reserve", bucket="api", key="a", estimate=80, ttl=0.02)
        await eventually(lambda: bucket.peek("a").remaining == 100)
        for _ in range(2):
            answer = await client.post("/v1/commit", id=held["id"], actual=30)
            assert answer == {"actual": 30, "late": True}
            assert bucket.peek("a").remaining == 70


async def test_many_takes_are_answered_in_their_order() -> None:
    async with serving() as client:
        takes = [
            {"bucket": "small", "key": "a", "cost": 8},
            {"bucket": "api", "key": "a", "cost": 100},
            {"bucket": "small", "key": "a", "cost": 8},
            {"bucket": "small", "key": "b"},
        ]
        results = (await client.post("/v1/take-many", takes=takes))["results"]
        assert [one["allowed"] for one in results] == [True, True, False, True]
        assert [one["remaining"] for one in results] == [2, 0, 2, 9]
        assert results[2]["retry_after"] > 0


async def test_takes_that_hold_together_are_all_made_or_none() -> None:
    async with serving() as client:
        takes = [{"bucket": "small", "key": "a", "cost": 6}, {"bucket": "api", "key": "a"}]
        answer = await client.post("/v1/take-many", takes=takes, together=True)
        assert [one["remaining"] for one in answer["results"]] == [4, 99]
        status, problem, headers = await client.ask(
            "POST", "/v1/take-many", json={"takes": takes, "together": True}
        )
        assert status == 429
        assert problem["violated-policies"] == ["small"]
        assert [one["allowed"] for one in problem["results"]] == [False, True]
        assert headers["RateLimit"].startswith('"small";r=4')
        assert client.limiter.bucket("api").peek("a").remaining == 99
        (heavy,) = (await client.get("/v1/buckets/api/keys"))["keys"]
        assert (heavy["tokens"], heavy["denied"]) == (2, 1)


async def test_takes_that_were_made_together_are_told_though_a_bucket_is_removed_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    acquire_all, config = Limiter.acquire_all, tmp_path / "config.yaml"
    config.write_text("services: {api: {limit: 1/h burst 100}}")

    async def removed(limiter: Limiter, wanted: Iterable[Wanted]) -> AllDecision:
        answer = await acquire_all(limiter, wanted)
        limiter.reload(load_config(config))
        return answer

    monkeypatch.setattr(Limiter, "acquire_all", removed)
    async with serving() as client:
        takes = [{"bucket": "small", "key": "a"}, {"bucket": "api", "key": "a"}]
        answer = await client.post("/v1/take-many", takes=takes, together=True)
        assert [one["remaining"] for one in answer["results"]] == [9, 99]


async def test_of_many_takes_none_is_made_when_one_cannot_be() -> None:
    async with serving() as client:
        takes = [
            {"bucket": "small", "key": "a"},
            {"bucket": "small", "key": "a", "cost": 11},
            {"bucket": "none", "key": "a"},
        ]
        status, problem = await client.refused("/v1/take-many", takes=takes)
        assert status == 404
        assert [one["field"] for one in problem["errors"]] == ["takes.1.cost", "takes.2.bucket"]
        assert client.limiter.bucket("small").peek("a").remaining == 10


WRONG: list[tuple[str, dict[str, Any], int, set[str]]] = [
    ("/v1/take", {}, 400, {"bucket", "key"}),
    ("/v1/take", {"bucket": "api", "key": "a", "cots": 2, "cost": "1"}, 400, {"cots", "cost"}),
    ("/v1/take", {"bucket": "api", "key": "a", "cost": 0}, 400, {"cost"}),
    ("/v1/take", {"bucket": "api", "key": "a", "cost": 1.5}, 400, {"cost"}),
    ("/v1/take", {"bucket": "api", "key": "a", "cost": True}, 400, {"cost"}),
    ("/v1/take", {"bucket": "api", "key": "a", "cost": 101}, 400, {"cost"}),
    ("/v1/take", {"bucket": "api", "key": ""}, 400, {"key"}),
    ("/v1/take", {"bucket": "api", "key": 7}, 400, {"key"}),
    ("/v1/take", {"bucket": "api", "key": "\u00fc" * 257}, 400, {"key"}),
    ("/v1/take", {"bucket": "pai", "key": "a"}, 404, {"bucket"}),
    ("/v1/peek", {"bucket": "api", "key": "a", "refundable": True}, 400, {"refundable"}),
    ("/v1/refund", {"id": "../x"}, 400, {"id"}),
    ("/v1/reserve", {"bucket": "api", "key": "a", "estimate": 1, "ttl": 1e-12}, 400, {"ttl"}),
    ("/v1/reserve", {"bucket": "api", "key": "a", "estimate": 101}, 400, {"estimate"}),
    ("/v1/commit", {"id": "x", "actual": -1}, 400, {"actual"}),
    ("/v1/take-many", {"takes": []}, 400, {"takes"}),
    ("/v1/take-many", {"takes": [{"bucket": "api"}]}, 400, {"takes.0.key"}),
]


async def test_every_fault_is_named() -> None:
    async with serving() as client:
        for path, body, status, fields in WRONG:
            answered, problem = await client.refused(path, **body)
            assert (answered, {one["field"] for one in problem["errors"]}) == (status, fields), body
            assert problem["detail"]
        _, problem = await client.refused("/v1/take", bucket="pai", key="a")
        assert problem["detail"] == "no bucket 'pai'; there are: api, small"


async def test_a_fault_of_a_field_is_told_in_the_words_of_this_api() -> None:
    async with serving() as client:
        _, problem = await client.refused("/v1/take", bucket="api", kye="a", cost=0)
        assert problem["detail"] == (
            "key: is missing; cost: should be greater than or equal to 1; "
            "kye: there is no such field; did you mean 'key'?"
        )
        _, problem = await client.refused("/v1/take", bucket="api", key="\u00fc" * 257)
        assert problem["detail"] == "key: has 514 bytes in UTF-8, at most 512 are allowed"
        takes = [{"bucket": "api", "key": "a", "weight": 1}]
        _, problem = await client.refused("/v1/take-many", takes=takes)
        assert problem["detail"] == "takes.0.weight: there is no such field"


RAW: list[tuple[bytes, dict[str, str], int]] = [
    (b"{", {"Content-Type": "application/json"}, 400),
    (b"[]", {"Content-Type": "application/json"}, 400),
    (b'{"bucket": "api", "key": "\\ud800"}', {"Content-Type": "application/json"}, 400),
    (b'{"bucket": "api", "key": "\xff"}', {"Content-Type": "application/json"}, 400),
    (b"{}", {"Content-Type": "text/plain"}, 415),
    (b"bucket=api", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    (b"{}", {"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
    (b" " * 300_000, {"Content-Type": "application/json"}, 413),
]


async def test_what_is_no_json_document_of_a_fair_size() -> None:
    async with serving() as client:
        for data, headers, expected in RAW:
            status, problem, _ = await client.ask("POST", "/v1/take", data=data, headers=headers)
            assert status == expected, data[:40]
            assert problem["detail"]
        assert (await client.ask("POST", "/v2/take"))[0] == 404
        status, _, headers = await client.ask("GET", "/v1/take")
        assert (status, headers["Allow"]) == (405, "POST")


async def test_a_closed_limiter_is_503() -> None:
    async with serving() as client:
        await client.limiter.aclose()
        status, problem = await client.refused("/v1/take", bucket="api", key="a")
        assert status == 503
        assert "closed" in problem["detail"]


async def test_so_many_reservations_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_HANDLES", 2)
    async with serving() as client:
        takes = [
            await client.post("/v1/take", bucket="api", key="a", refundable=True) for _ in range(3)
        ]
        for _ in range(2):
            await client.post("/v1/reserve", bucket="api", key="a", estimate=1)
        status, _ = await client.refused("/v1/reserve", bucket="api", key="a", estimate=1)
        assert status == 503
        assert client.limiter.bucket("api").peek("a").remaining == 95
        # The oldest take made room for the third.
        assert (await client.refused("/v1/refund", id=takes[0]["id"]))[0] == 404
        assert await client.post("/v1/refund", id=takes[2]["id"]) == {"refunded": 1}


async def test_no_reservation_is_dropped_for_one_that_waited_for_redis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "MAX_HANDLES", 1)
    with Server() as redis:
        limiter = Limiter([API], node="n1", consistency="strong", **redis.patient())
        async with serving(limiter) as client:
            body = {"bucket": "api", "key": "a", "estimate": 10}
            asked = (client.ask("POST", "/v1/reserve", json=body) for _ in range(2))
            both = await asyncio.gather(*asked)
            assert sorted(status for status, *_ in both) == [200, 503]
            (held,) = (answer for status, answer, _ in both if status == 200)
            await client.post("/v1/commit", id=held["id"], actual=4)
            assert (await client.post("/v1/peek", bucket="api", key="a"))["remaining"] == 96


async def test_strong_buckets_ask_redis() -> None:
    with Server() as redis:
        limiter = Limiter([API, SMALL], node="n1", consistency="strong", **redis.patient())
        async with serving(limiter) as client:
            taken = await client.post("/v1/take", bucket="api", key="a", cost=60, refundable=True)
            assert (taken["mode"], taken["remaining"]) == ("strong", 40)
            assert await client.post("/v1/refund", id=taken["id"]) == {"refunded": 60}
            takes = [{"bucket": "small", "key": "a", "cost": 6}] * 2
            results = (await client.post("/v1/take-many", takes=takes))["results"]
            assert [one["allowed"] for one in results] == [True, False]
            held = await client.post("/v1/reserve", bucket="api", key="b", estimate=60)
            assert held["mode"] == "strong"
            await client.post("/v1/commit", id=held["id"], actual=10)
            assert (await client.post("/v1/peek", bucket="api", key="b"))["remaining"] == 90


@pytest.mark.parametrize(
    ("told", "expected", "kind"),
    [(True, 503, "temporary-reduced-capacity"), (False, 429, "quota-exceeded")],
)
async def test_a_denial_in_fallback(told: bool, expected: int, kind: str) -> None:
    nobody = f"redis://127.0.0.1:{free_port()}"
    limiter = Limiter(
        [BucketSpec("api", 10, 1, "1h")],
        node="n1",
        redis=nobody,
        consistency="strong",
        degradation=Degradation("deny"),
    )
    async with serving(limiter, fallback_503=told) as client:
        status, problem = await client.refused("/v1/take", bucket="api", key="a")
        assert (status, problem["mode"]) == (expected, "fallback")
        assert problem["detail"] == "api: 0 of 10 left and 1 asked for; retry in 1 s"
        assert problem["type"].endswith(f"#{kind}")


# -- bodies

TWICE = [
    ("/v1/take", '{"bucket": "api", "key": "a", "key": "b"}', "key"),
    ("/v1/take", '{"bucket": "api", "key": "a", "cost": 5, "cost": 1}', "cost"),
    ("/v1/take", '{"bucket": "api", "key": "a", "c\\u006fst": 5, "cost": 1}', "cost"),
    ("/v1/take", '{"cost": [1], "bucket": "api", "key": "\\"", "cost": 1}', "cost"),
    ("/v1/refund", '{"id": "a", "id": "b"}', "id"),
    ("/v1/commit", '{"id": "a", "actual": 1, "actual": 0}', "actual"),
    ("/v1/reserve", '{"bucket": "api", "key": "a", "estimate": 2, "estimate": 1}', "estimate"),
    ("/v1/take-many", '{"takes": [{"bucket": "api", "key": "a", "cost": 1, "cost": 2}]}', "cost"),
]


@pytest.mark.parametrize(("path", "text", "name"), TWICE)
async def test_a_name_that_stands_twice_is_refused(path: str, text: str, name: str) -> None:
    async with serving() as client:
        kind = {"Content-Type": "application/json"}
        status, problem, _ = await client.ask("POST", path, data=text, headers=kind)
        assert status == 400
        assert problem["errors"] == [{"field": name, "message": "stands twice"}]
        assert client.limiter.stats()["buckets"]["api"]["granted"] == 0


@pytest.mark.parametrize("key", ['a"b', "a\\b", "é\u2028", "a:b,c", "{}"])
async def test_any_text_may_be_a_key(key: str) -> None:
    async with serving() as client:
        assert (await client.post("/v1/take", bucket="api", key=key, refundable=True))["id"]
        takes = [{"bucket": "api", "key": key, "cost": 2}, {"bucket": "api", "key": "b"}]
        assert len((await client.post("/v1/take-many", takes=takes))["results"]) == 2
        assert client.limiter.bucket("api").peek(key).remaining == 97


async def test_an_answer_lists_twenty_faults_at_most() -> None:
    async with serving() as client:
        for one in ({"bucket": "api"}, {"bucket": "none", "key": "k"}):
            _, problem = await client.refused("/v1/take-many", takes=[one] * 100)
            assert len(problem["errors"]) == 20
            assert problem["detail"].endswith("and 95 more")


async def test_a_floor_counts_in_a_peek_and_in_each_of_many_takes() -> None:
    async with serving() as client:
        one: dict[str, Any] = {"bucket": "small", "key": "a"}
        await client.post("/v1/take", **one, cost=5)
        assert not (await client.post("/v1/peek", **one, floor=0.5))["allowed"]
        assert (await client.post("/v1/peek", **one, floor=0.4))["allowed"]
        polite = {**one, "floor": "batch"}
        takes = [polite, {**one, "cost": 2}, {**one, "floor": 0.2}, {**polite, "key": "b"}]
        results = (await client.post("/v1/take-many", takes=takes))["results"]
        assert [one["allowed"] for one in results] == [False, True, True, True]
        assert [one["remaining"] for one in results] == [5, 3, 2, 9]
        assert results[0]["retry_after"] > 0
        takes = [{**one, "floor": 0.2}, {**one, "key": "b"}]
        together = {"takes": takes, "together": True}
        status, problem = await client.refused("/v1/take-many", **together)
        assert (status, [one["allowed"] for one in problem["results"]]) == (429, [False, True])
        takes[0]["floor"] = 0
        answer = await client.post("/v1/take-many", **together)
        assert [one["remaining"] for one in answer["results"]] == [1, 8]


async def test_a_floor_that_a_bucket_cannot_have_refuses_all_takes() -> None:
    """It is checked before anything is taken."""
    with Server() as redis:
        modes = [BucketSpec("strong", 10, 10, "1d", consistency="strong"), SMALL]
        limiter = Limiter(modes, node="n1", **redis.patient())
        async with serving(limiter) as client:
            first = {"bucket": "small", "key": "a"}
            faults = [
                {"bucket": "strong", "key": "a", "floor": 0.5},
                {"bucket": "small", "key": "a", "cost": 6, "floor": 0.5},
                {"bucket": "small", "key": "a", "floor": 1},
            ]
            for fault in faults:
                for path in ("/v1/take", "/v1/peek"):
                    assert (await client.refused(path, **fault))[0] == 400
                for together in (False, True):
                    status, _ = await client.refused(
                        "/v1/take-many", takes=[first, fault], together=together
                    )
                    assert status == 400
            assert (await client.post("/v1/peek", **first))["remaining"] == 10


async def test_a_floor_leaves_the_rest_to_others() -> None:
    async with serving() as client:
        await client.post("/v1/take", bucket="small", key="a", cost=5, floor="batch")
        status, _ = await client.refused("/v1/take", bucket="small", key="a", floor=0.5)
        assert status == 429
        status, _ = await client.refused(
            "/v1/reserve", bucket="small", key="a", estimate=1, floor="batch"
        )
        assert status == 429
        held = await client.post("/v1/reserve", bucket="small", key="a", estimate=1, floor=0.4)
        await client.post("/v1/commit", id=held["id"], actual=0)
        await client.post("/v1/take", bucket="small", key="a", cost=5, floor=0)
        for floor in (1, -0.1, "urgent"):
            status, answer = await client.refused("/v1/take", bucket="small", key="b", floor=floor)
            assert status == 400
            assert answer["errors"][0]["field"].startswith("floor")
