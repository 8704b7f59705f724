"""The OpenAPI document is valid, complete, and what the server does: checked by generated calls."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from crdtbucket import BucketSpec, Limiter
from tests.http.serving import HEADERS, SMALL, TOKEN, Asker, serving

BIG = BucketSpec("big", 2**53, 10**9, max_debt=0)
"""For it any cost is one that can be."""


async def test_every_route_is_described_and_nothing_else() -> None:
    async with serving() as client:
        document = await client.get("/openapi.json")
        described = {
            (method.upper(), path)
            for path, methods in document["paths"].items()
            for method in methods
        }
        assert described == {(one.method, one.path) for one in client.server.api.routes}
        assert {"/v1/take", "/v1/peek", "/v1/refund", "/v1/reserve", "/v1/commit",
                "/v1/take-many", "/v1/buckets", "/v1/buckets/{bucket}/keys", "/v1/peers",
                "/healthz", "/readyz", "/metrics", "/admin/status",
                "/admin/reset"} <= set(document["paths"])  # fmt: skip
        take = document["components"]["schemas"]["Take"]
        assert take["required"] == ["bucket", "key"]
        assert take["additionalProperties"] is False
        assert (
            take["properties"]["cost"] | {"minimum": 1, "maximum": 2**53, "default": 1}
            == (take["properties"]["cost"])
        )


@pytest.fixture(scope="module")
def served() -> Iterator[Asker]:
    """A server in a thread: what generates the calls blocks."""
    ready = threading.Event()
    found: list[Any] = []

    async def run() -> None:
        done = asyncio.Event()
        async with serving(Limiter([BIG, SMALL]), admin_token=TOKEN) as client:
            found.extend([client, asyncio.get_running_loop(), done])
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(60)
    client, loop, done = found
    yield client
    loop.call_soon_threadsafe(done.set)
    thread.join(60)


def name_a_bucket(case: Any) -> None:
    """Generated names are those of no bucket, and would get nothing but 404."""
    if "bucket" in (case.path_parameters or {}):
        case.path_parameters["bucket"] = BIG.name
    if isinstance(case.body, dict):
        for one in [case.body, *case.body.get("takes", [])]:
            if "bucket" in one:
                one["bucket"] = BIG.name


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_generated_calls_get_the_answers_that_are_described(served: Asker, mode: str) -> None:
    import schemathesis  # long to import, and every process that runs tests imports this file
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    # Not `positive_data_acceptance`: a document cannot say that a cost is below a bucket's
    # capacity, or a key short enough in UTF-8.
    asked_of_each = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
        checks.negative_data_rejection,
        checks.missing_required_header,
        checks.unsupported_method,
        checks.ignored_auth,
    ]
    generated = schemathesis.GenerationMode(mode)
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    asked = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=5,
            derandomize=True,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(operation.as_strategy(generation_mode=generated))
        def call(case: schemathesis.Case) -> None:
            nonlocal asked
            asked += 1
            if mode == "positive":
                name_a_bucket(case)
            case.call_and_validate(headers=HEADERS, checks=asked_of_each)

        with contextlib.suppress(Unsatisfiable):  # nothing can be wrong where nothing is passed
            call()
    assert asked > 50
    if mode == "positive":
        answered = served.server.api.metrics.requests
        paths = ("take", "peek", "reserve", "take-many", "buckets/{bucket}/keys")
        assert all(answered[f"/v1/{path}", "200"] for path in paths)
        assert answered["/admin/reset", "200"]
