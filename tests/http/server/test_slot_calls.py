"""Slots over HTTP: held by an id, released once, and free again after their ttl."""

from __future__ import annotations

from crdtbucket import BucketSpec, Limiter
from tests.http.serving import API, serving

LLM = BucketSpec.concurrency("llm", 1, ttl="30s")


async def test_a_slot_is_held_until_it_is_released() -> None:
    async with serving(Limiter([LLM])) as client:
        held = await client.post("/v1/hold", bucket="llm", key="a")
        assert held["ttl"] == 30.0
        status, answer, headers = await client.ask(
            "POST", "/v1/hold", json={"bucket": "llm", "key": "a"}
        )
        assert status == answer["status"] == 429
        assert headers["Retry-After"] == "1"
        assert 25 < answer["retry_after"] <= 30
        assert answer["detail"].startswith("llm: all slots (1) are in flight")
        assert await client.post("/v1/release", id=held["id"]) == {"released": True}
        again = await client.post("/v1/hold", bucket="llm", key="a", ttl=0.5)
        assert again["ttl"] == 0.5
        # The first release, repeated, has the same answer, and releases nothing of the next holder.
        assert await client.post("/v1/release", id=held["id"]) == {"released": True}
        assert (await client.refused("/v1/hold", bucket="llm", key="a"))[0] == 429


async def test_what_cannot_be_held_is_refused_by_field() -> None:
    async with serving(Limiter([LLM, API])) as client:
        for path, body, field in [
            ("/v1/hold", {"bucket": "llm", "key": "a", "ttl": 31.0}, "ttl"),
            ("/v1/hold", {"bucket": "api", "key": "a"}, "bucket"),
            ("/v1/hold", {"bucket": "llm", "key": "a" * 509}, "key"),
            ("/v1/take", {"bucket": "llm", "key": "a"}, "bucket"),
            ("/v1/peek", {"bucket": "llm", "key": "a"}, "bucket"),
            ("/v1/reserve", {"bucket": "llm", "key": "a", "estimate": 1}, "bucket"),
            ("/v1/take-many", {"takes": [{"bucket": "llm", "key": "a"}]}, "takes.0.bucket"),
        ]:
            status, answer = await client.refused(path, **body)
            assert status == 400, answer
            assert answer["errors"][0]["field"] == field
        unknown, problem = await client.refused("/v1/release", id="nobody")
        assert (unknown, "was restarted, which forgets" in problem["detail"]) == (404, True)
