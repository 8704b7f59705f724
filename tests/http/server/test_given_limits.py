"""Limits that operators give to keys over HTTP: which are given, refused, listed and logged."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig
from crdtbucket.http.server.serving import count_of_buckets
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.mesh.links.override_orders import OverrideOrder
from tests.http.serving import API, HEADERS, TOKEN, Asker, serving


async def ask(client: Asker, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
    status, answer, _ = await client.ask(
        method, f"/admin/overrides{path}", headers=HEADERS, **options
    )
    return status, answer


async def test_limits_are_given_listed_and_taken_away(caplog: pytest.LogCaptureFixture) -> None:
    specs = [API, BucketSpec("premium", 1000, 10)]
    async with serving(Limiter(specs), admin_token=TOKEN) as client:
        odd = "a/b \u00fc%2F?"
        for key, limit in ((odd, "premium"), ("b", "50/s"), ("c", "7/s")):
            path = f"/api/{quote(key, safe='')}"
            assert await ask(client, "PUT", path, json={"limit": limit}) == (200, {"new": True})
        assert await ask(client, "PUT", "/api/c", json={"limit": "7/s"}) == (200, {"new": False})
        limits = [client.limiter.bucket("api").peek(key).limit for key in (odd, "b", "c", "d")]
        assert limits == [1000, 50, 7, 100]
        assert len(client.limiter.buckets) == 5
        assert count_of_buckets(client.limiter) == 2
        status, first = await ask(client, "GET", "?most=2")
        assert status == 200
        assert [(one["key"], one["limit"]) for one in first["overrides"]] == [
            (odd, "premium"), ("b", "50/s"),
        ]  # fmt: skip
        assert (first["count"], first["next"]) == (3, "api/b")
        _, second = await ask(client, "GET", f"?after={quote(first['next'], safe='')}&bucket=api")
        assert [one["key"] for one in second["overrides"]] == ["c"]
        assert second["next"] is None
        assert await ask(client, "DELETE", "/api/c") == (200, {"new": True})
        assert await ask(client, "DELETE", "/api/c") == (200, {"new": False})
        assert client.limiter.bucket("api").peek("c").limit == 100
        said = [one.getMessage() for one in caplog.records if one.name == "crdtbucket.audit"]
        assert said[1:] == [
            "override of key 'b' in bucket 'api' from 127.0.0.1: '50/s'",
            "override of key 'c' in bucket 'api' from 127.0.0.1: '7/s'",
            "override of key 'c' in bucket 'api' from 127.0.0.1: '7/s', as before",
            "override of key 'c' in bucket 'api' from 127.0.0.1: none",
            "override of key 'c' in bucket 'api' from 127.0.0.1: none, as before",
        ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("PUT", "/nope/a", {"limit": "5/s"}, 404, "no bucket 'nope'"),
        ("PUT", "/api/a", {"limit": "gold"}, 400, "neither a bucket nor a rate"),
        ("PUT", "/api/a", {"limit": ""}, 400, "limit: "),
        ("PUT", "/api/a", {}, 400, "give either limit, or the order"),
        ("PUT", "/api/a", {"limit": "5/s", "order": "x"}, 400, "give either limit, or the order"),
        ("PUT", "/api/a", {"limti": "5/s"}, 400, "limti"),
        ("PUT", "/api/a", {"order": "bm9uZQ=="}, 409, "this is no order about a limit"),
        ("PUT", "/api/" + "x" * 513, {"limit": "5/s"}, 400, "1 to 512 bytes"),
        ("DELETE", "/nope/a", None, 404, "no bucket 'nope'"),
        ("DELETE", "/api/a?oder=x", None, 400, "there is no such parameter"),
        ("GET", "?most=0", None, 400, "a whole number from 1 to 1000"),
        ("GET", "?bucket=nope", None, 404, "no bucket 'nope'"),
        ("GET", "?page=2", None, 400, "there are: after, bucket, most"),
        ("POST", "/api/a", {}, 405, "this path takes DELETE, PUT"),
    ],
)
async def test_what_is_wrong_is_reported(
    method: str, path: str, body: Any, status: int, said: str
) -> None:
    async with serving(admin_token=TOKEN) as client:
        found, problem = await ask(client, method, path, json=body)
        assert (found, said in problem["detail"]) == (status, True), problem
        assert client.limiter.stats()["overrides"] == {"given": 0, "limits": 0, "failed": 0}


async def test_a_mesh_takes_what_an_operator_has_signed_for_this_key_alone() -> None:
    operator = NodeKey.make()
    mesh = MeshConfig(
        listen="127.0.0.1:0", secret="a secret of these tests",
        operator_keys=[operator.fingerprint],
    )  # fmt: skip

    def order(key: str, counter: int, limit: str | None) -> str:
        return OverrideOrder.sign(operator, "mesh", "api", key, counter, limit).as_text()

    async with serving(Limiter([API], node="eu-1", mesh=mesh), admin_token=TOKEN) as client:
        status, problem = await ask(client, "PUT", "/api/a", json={"limit": "5/s"})
        assert (status, "an operator has to sign this" in problem["detail"]) == (409, True)
        status, problem = await ask(client, "PUT", "/api/b", json={"order": order("a", 1, "5/s")})
        assert (status, "is about key 'a'" in problem["detail"]) == (409, True)
        given = await ask(client, "PUT", "/api/a", json={"order": order("a", 2, "5/s")})
        assert given == (200, {"new": True})
        assert client.limiter.bucket("api").of("a").spec.capacity == 5
        removed = await ask(client, "DELETE", f"/api/a?order={order('a', 3, None)}")
        assert removed == (200, {"new": True})
        assert client.limiter.bucket("api").of("a").spec.capacity == 100
        status, _, _ = await client.ask("GET", "/admin/overrides")
        assert status == 401
