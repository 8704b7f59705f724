"""Rules about requests in flight: a request holds a slot until it ends, in whatever way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from typing import Any

import flask
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from crdtbucket import BucketSpec, InvalidCost, InvalidSpec, Limiter
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.aiohttp import limit_middleware
from crdtbucket.http.middleware.asgi import ASGILimitMiddleware
from crdtbucket.http.middleware.fastapi import limit_dependency
from crdtbucket.http.middleware.flask import limit_route
from crdtbucket.http.middleware.wsgi import WSGILimitMiddleware
from crdtbucket.limiter.slots import SlotBucket
from tests.http.middleware.test_asgi import Server, scope_of
from tests.http.middleware.test_wsgi import environ_of

PEER = "203.0.113.9"
LLM = BucketSpec.concurrency("llm", 1)
API = BucketSpec("api", 2, 1, "1h")


@pytest.fixture
def limits() -> Limits:
    rules = [Rule("llm"), Rule("api", refund_if=lambda status: status >= 500)]
    return Limits(Limiter([LLM, API]), rules)


def held(limits: Limits) -> int:
    bucket = limits.limiter.bucket("llm")
    assert isinstance(bucket, SlotBucket)
    return bucket.held(PEER)


def left(limits: Limits) -> int:
    return limits.limiter.bucket("api").peek(PEER).remaining


async def answers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def test_a_request_holds_a_slot_until_it_ends(limits: Limits) -> None:
    ends = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answers(scope, receive, send)
        await ends.wait()  # as a stream, or a task after the answer

    wrapped = ASGILimitMiddleware(app, limits)
    first = asyncio.create_task(Server().call(wrapped, scope_of()))
    await asyncio.sleep(0)
    assert held(limits) == 1
    head, body = await Server().call(wrapped, scope_of())
    assert head["status"] == 429
    assert (b"retry-after", b"1") in head["headers"]
    document = json.loads(body["body"])
    assert document["detail"] == "llm: all slots (1) are in flight; one is free within 60 s"
    assert document["violated-policies"] == ["llm"]
    assert left(limits) == 1  # what is denied for want of a slot takes no tokens
    ends.set()
    await first
    assert held(limits) == 0


async def test_an_error_and_a_client_that_is_gone_release_it(limits: Limits) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Server().call(ASGILimitMiddleware(fails, limits), scope_of())
    assert (held(limits), left(limits)) == (0, 2)

    async def hangs(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(Server().call(ASGILimitMiddleware(hangs, limits), scope_of()))
    await asyncio.sleep(0)
    assert held(limits) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert held(limits) == 0


async def test_a_request_that_another_rule_denies_holds_nothing(limits: Limits) -> None:
    wrapped = ASGILimitMiddleware(answers, limits)
    statuses = [(await Server().call(wrapped, scope_of()))[0]["status"] for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert held(limits) == 0


def test_a_rule_that_fails_releases_the_slots_before_it() -> None:
    def broken(_: Any) -> str:
        raise ZeroDivisionError

    limits = Limits(Limiter([LLM, API]), [Rule("llm"), Rule("api", key=broken)])
    wrapped = WSGILimitMiddleware(lambda *_: [], limits, open_limiter=False)
    with pytest.raises(ZeroDivisionError):
        wrapped(environ_of(), lambda *_: lambda _: None)
    assert held(limits) == 0


def fails_at(status: int) -> bool:
    raise LookupError(f"a status of {status}")


def broken_app(environ: Any, start_response: Any) -> list[bytes]:
    raise ZeroDivisionError


def answering_app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return []


@pytest.mark.parametrize(("app", "status"), [(broken_app, 500), (answering_app, 200)])
def test_wsgi_releases_although_a_refund_if_raises(app: Any, status: int) -> None:
    limits = Limits(Limiter([LLM, API]), [Rule("llm"), Rule("api", refund_if=fails_at)])
    wrapped = WSGILimitMiddleware(app, limits, open_limiter=False)
    with pytest.raises(LookupError, match=str(status)):
        list(wrapped(environ_of(), lambda *_: lambda _: None))
    assert held(limits) == 0


@pytest.mark.parametrize("broken", [True, False])
async def test_asgi_releases_although_a_refund_if_raises(broken: bool) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    limits = Limits(Limiter([LLM, API]), [Rule("llm"), Rule("api", refund_if=fails_at)])
    with pytest.raises(LookupError):
        await Server().call(ASGILimitMiddleware(fails if broken else answers, limits), scope_of())
    assert held(limits) == 0


def test_a_long_key_has_slots_too() -> None:
    limits = Limits(Limiter([LLM]), Rule("llm", key=lambda request: "k" * 510))
    wrapped = WSGILimitMiddleware(lambda *_: [], limits, open_limiter=False)
    assert list(wrapped(environ_of(), lambda *_: lambda _: None)) == []


@pytest.mark.parametrize("whole", [True, False])
def test_wsgi_releases_at_the_end_or_when_the_server_closes(limits: Limits, whole: bool) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])

        def parts() -> Iterator[bytes]:
            yield b"one"
            yield b"two"

        return parts()

    wrapped = WSGILimitMiddleware(app, limits, open_limiter=False)
    answer = iter(wrapped(environ_of(), lambda *_: lambda _: None))
    assert next(answer) == b"one"
    assert held(limits) == 1
    if whole:
        assert list(answer) == [b"two"]
    else:
        answer.close()  # type: ignore[attr-defined]
    assert held(limits) == 0


async def test_aiohttp_releases_after_the_handler(limits: Limits) -> None:
    seen = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(held(limits))
        raise web.HTTPNotFound

    middleware: Any = limit_middleware(
        Limits(limits.limiter, Rule("llm", key=lambda request: PEER))
    )
    with pytest.raises(web.HTTPNotFound):
        await middleware(make_mocked_request("GET", "/"), handler)
    assert (seen, held(limits)) == ([1], 0)


def test_flask_holds_it_while_the_view_runs(limits: Limits) -> None:
    app = flask.Flask("app")

    @app.get("/")
    @limit_route(limits)
    def view() -> str:
        return str(held(limits))

    answer = app.test_client().get("/", environ_base={"REMOTE_ADDR": PEER})
    assert (answer.text, held(limits)) == ("1", 0)


def test_what_does_not_see_the_end_is_refused(limits: Limits) -> None:
    with pytest.raises(InvalidSpec, match="ASGILimitMiddleware"):
        limit_dependency(Limits(limits.limiter, Rule("llm")))
    with pytest.raises(InvalidSpec, match="always released"):
        Limits(limits.limiter, Rule("llm", refund_if=lambda status: True))


@pytest.mark.parametrize("cost", [0, -1, True, 1.5, None])
def test_a_cost_that_is_none_lets_no_request_pass(cost: Any) -> None:
    limits = Limits(Limiter([LLM]), Rule("llm", cost=lambda request: cost))
    wrapped = WSGILimitMiddleware(lambda *_: [], limits, open_limiter=False)
    with pytest.raises(InvalidCost, match="cost must be a whole number of slots, 1 or more, not "):
        wrapped(environ_of(), lambda *_: lambda _: None)


def test_a_request_for_more_slots_than_there_are_is_too_large() -> None:
    plan = BucketSpec.concurrency("x", 3)
    spec = BucketSpec.concurrency("llm", 2, overrides=[("gold", plan)])
    with pytest.raises(InvalidSpec, match="write 3 or less, or give it more slots") as error:
        Limits(Limiter([spec]), Rule("llm", cost=4))
    assert error.value.field == "cost"
    for rule in (
        Rule("llm", key=lambda request: "k", cost=3),
        Rule("llm", key=lambda request: "gold", cost=lambda request: 4),
    ):
        limits = Limits(Limiter([spec]), rule)
        wrapped = WSGILimitMiddleware(lambda *_: [], limits, open_limiter=False)
        answer = wrapped(environ_of(), lambda *_: lambda _: None)
        assert json.loads(b"".join(answer))["status"] == 413
