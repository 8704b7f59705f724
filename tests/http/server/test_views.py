"""The views of a server: buckets, heavy keys, peers, readiness, metrics."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from crdtbucket import BucketSpec, Limiter, MeshConfig
from tests.http.serving import API, HEADERS, SMALL, TOKEN, Asker, serving
from tests.strong.redis_server import free_port
from tests.waits import eventually

SECRET = "a secret of these tests"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_what_monitors_ask_has_a_head(path: str) -> None:
    async with serving() as client:
        for method in ("HEAD", "GET", "HEAD"):  # on one connection
            async with client.session.request(method, client.url + path) as answer:
                assert (answer.status, answer.ok) == (200, True)
                assert bool(await answer.read()) == (method == "GET")
        async with client.session.head(client.url + "/v1/buckets") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET")
        async with client.session.post(client.url + path) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
            assert (await answer.json(content_type=None))["detail"] == "this path takes GET, HEAD"


async def test_buckets_with_their_counts() -> None:
    async with serving() as client:
        await client.post("/v1/take", bucket="small", key="a", cost=8)
        await client.refused("/v1/take", bucket="small", key="a", cost=8)
        api, small = (await client.get("/v1/buckets"))["buckets"]
        assert (api["name"], api["capacity"], api["allowed"]) == ("api", 100, 0)
        assert small["refill_per_second"] == pytest.approx(10 / 86_400)
        counts = {name: small[name] for name in ("allowed", "denied", "granted", "keys", "mode")}
        assert counts == {
            "allowed": 1, "denied": 1, "granted": 8, "keys": 1, "mode": "eventual",
        }  # fmt: skip


async def test_the_heaviest_keys() -> None:
    async with serving() as client:
        for key, cost in (("light", 1), ("heavy", 9), ("heavy", 9), ("middle", 5)):
            await client.ask("POST", "/v1/take", json={"bucket": "small", "key": key, "cost": cost})
        answer = await client.get("/v1/buckets/small/keys?top=2")
        assert answer["bucket"] == "small"
        assert "tokens asked for" in answer["counted"]
        assert answer["keys"] == [
            {"key": "heavy", "tokens": 18, "error": 0, "denied": 9, "remaining": 1},
            {"key": "middle", "tokens": 5, "error": 0, "denied": 0, "remaining": 5},
        ]
        assert len((await client.get("/v1/buckets/small/keys"))["keys"]) == 3
        assert (await client.get("/v1/buckets/api/keys"))["keys"] == []


@pytest.mark.parametrize("query", ["top=0", "top=501", "top=x", "top=", "top=1&pot=2", "top=-1"])
async def test_a_wrong_question(query: str) -> None:
    async with serving() as client:
        status, problem, _ = await client.ask("GET", f"/v1/buckets/small/keys?{query}")
        assert status == 400
        assert problem["errors"][0]["field"] in ("top", "pot")
        assert (await client.ask("GET", "/v1/buckets/none/keys"))[0] == 404


def node(name: str, listen: int, peer: int, **options: Any) -> Limiter:
    mesh = MeshConfig(
        listen=f"127.0.0.1:{listen}", peers=[f"127.0.0.1:{peer}"], secret=SECRET, **options
    )
    return Limiter([API, SMALL], node=name, region="eu", mesh=mesh)


async def status_of(client: Asker, path: str) -> int:
    status, _, _ = await client.ask("GET", path)
    return status


async def is_ready(client: Asker) -> None:
    async def answers() -> bool:
        return await status_of(client, "/readyz") == 200

    await eventually(answers, "it is not ready")


async def test_a_node_is_ready_when_it_has_received_from_the_mesh() -> None:
    ports = [free_port(), free_port()]
    async with serving(node("eu-1", ports[0], ports[1])) as one:
        status, problem, _ = await one.ask("GET", "/readyz")
        assert status == 503
        assert "has no answer from the mesh yet" in problem["detail"]
        assert await status_of(one, "/healthz") == 200
        async with serving(node("eu-2", ports[1], ports[0])) as two:
            for client in (one, two):
                await is_ready(client)
            answer = await one.get("/v1/peers")
            assert (answer["node"], answer["region"]) == ("eu-1", "eu")
            assert answer["alone"] is False
            (peer,) = answer["peers"]
            assert (peer["name"], peer["state"]) == ("eu-2", "alive")


async def test_alone_past_its_deadline_a_node_is_ready_and_says_whom_it_cannot_reach() -> None:
    peer = free_port()
    async with serving(node("eu-1", free_port(), peer), admin_token=TOKEN) as client:
        assert await status_of(client, "/readyz") == 503
        await is_ready(client)
        answer = await client.get("/v1/peers")
        assert (answer["peers"], answer["alone"]) == ([], True)
        _, status, _ = await client.ask("GET", "/admin/status", headers=HEADERS)
        assert status["last_failure"] == f"cannot reach 127.0.0.1:{peer}: Connection refused"


async def test_a_node_that_may_not_serve_is_not_ready() -> None:
    async with serving() as client:
        assert await status_of(client, "/readyz") == 200
        await client.limiter.aclose()
        assert await status_of(client, "/readyz") == 503


async def test_a_node_whose_first_bucket_has_slots_is_ready_until_it_is_closed() -> None:
    async with serving(Limiter([BucketSpec.concurrency("jobs", 4), API])) as client:
        assert await status_of(client, "/readyz") == 200
        await client.limiter.aclose()
        assert await status_of(client, "/readyz") == 503


async def metrics(session: aiohttp.ClientSession, url: str) -> dict[str, float]:
    async with session.get(f"{url}/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        families = text_string_to_metric_families(await response.text())
        return {
            f"{sample.name}{sorted(sample.labels.values())}": sample.value
            for family in families
            for sample in family.samples
        }


async def test_the_metrics_are_those_of_the_limiter_and_the_server() -> None:
    async with serving() as client:
        await client.post("/v1/take", bucket="api", key="a", cost=3, refundable=True)
        await client.post("/v1/reserve", bucket="api", key="a", estimate=4)
        await client.refused("/v1/take", bucket="no", key="a")
        await client.refused("/v1/take", bucket="api", key="a", cost=100)
        await client.ask("GET", "/some/" + "where")
        await client.ask("GET", "/v1/buckets/api/keys")
        found = await metrics(client.session, client.url)
        assert found["crdtbucket_tokens_granted_total['api']"] == 7
        assert found["crdtbucket_http_requests_total['/v1/take', '200']"] == 1
        assert found["crdtbucket_http_requests_total['/v1/take', '404']"] == 1
        assert found["crdtbucket_http_requests_total['/v1/take', '429']"] == 1
        assert found["crdtbucket_http_requests_total['/v1/buckets/{bucket}/keys', '200']"] == 1
        assert found["crdtbucket_http_requests_total['', '404']"] == 1
        assert found["crdtbucket_http_request_seconds_bucket['+Inf', '/v1/take']"] == 3
        assert 0 < found["crdtbucket_http_request_seconds_sum['/v1/take']"] < 10
        assert found["crdtbucket_http_refundable_takes[]"] == 1
        assert found["crdtbucket_http_reservations[]"] == 1
        assert found["crdtbucket_http_connections[]"] >= 1
        assert found["crdtbucket_http_refused_total['full']"] == 0
