"""The dependency for single routes of FastAPI."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from crdtbucket import BucketSpec, InvalidSpec, Limiter, limited
from crdtbucket.http import Limits, Rule, Verdict
from crdtbucket.http.middleware.asgi import ASGILimitMiddleware
from crdtbucket.http.middleware.fastapi import install, limit_dependency, limit_route
from tests.http.waits import in_minutes

API = BucketSpec("api", 2, 1, "1h")
ALL = BucketSpec("all", 100, 1, "1h")


def application(*, installed: bool = True, **options: Any) -> FastAPI:
    limits = Limits(Limiter([API]), Rule("api", key=lambda r: r.path), **options)
    limit = limit_dependency(limits)
    app = FastAPI()
    if installed:
        install(app)

    @app.get("/items")
    async def items(verdict: Verdict = Depends(limit)) -> int:  # noqa: B008 - FastAPI reads it
        return verdict.decisions[0].remaining

    @app.get("/free")
    def free() -> str:
        return "free"

    @app.websocket("/ws", dependencies=[Depends(limit)])
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text(await ws.receive_text())
        await ws.close()

    return app


def test_a_route_is_limited_and_others_are_not() -> None:
    client = TestClient(application())
    answers = [client.get("/items") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].json() == 1
    assert in_minutes(answers[0].headers["RateLimit"]) == '"api";r=1;t=3600'
    assert answers[2].headers["Content-Type"] == "application/problem+json"
    assert in_minutes(answers[2].headers["Retry-After"]) == "3600"
    assert answers[2].json()["violated-policies"] == ["api"]
    assert client.get("/free").status_code == 200
    assert client.get("/openapi.json").status_code == 200  # the verdict is no parameter


def test_without_the_handler_fastapi_answers() -> None:
    client = TestClient(application(installed=False))
    denied = [client.get("/items") for _ in range(3)][2]
    assert (denied.status_code, denied.json()) == (429, {"detail": "rate limited"})
    assert in_minutes(denied.headers["Retry-After"]) == "3600"


def test_a_denied_websocket_is_not_accepted() -> None:
    heard: list[str] = []
    client = TestClient(application(on_denied=lambda request, _: heard.append(request.path)))
    for _ in range(2):
        with client.websocket_connect("/ws") as ws:
            ws.send_text("hi")
            assert ws.receive_text() == "hi"
    with pytest.raises(WebSocketDisconnect) as error, client.websocket_connect("/ws"):
        pass
    assert error.value.code == 1008
    assert heard == ["/ws"]


@pytest.mark.parametrize("peer", ["é" * 100, "x" + "é" * 100, "\N{GRINNING FACE}" * 100])
def test_why_a_websocket_is_closed_fits_into_its_frame(peer: str) -> None:
    """A frame that closes a WebSocket has room for 123 bytes of UTF-8 (RFC 6455)."""
    app = FastAPI()
    limit = limit_dependency(Limits(Limiter([API]), Rule("api")))
    app.websocket("/ws", dependencies=[Depends(limit)])(lambda ws: None)
    client = TestClient(app, client=(peer, 50000))
    with pytest.raises(WebSocketDisconnect) as error, client.websocket_connect("/ws"):
        pass
    reason = error.value.reason
    assert reason.startswith("the client's address is given as '" + peer[:10])
    assert 119 < len(reason.encode()) <= 123


def test_with_middleware_both_policies_are_in_the_headers() -> None:
    app = application()
    limits = Limits(Limiter([ALL]), Rule("all", lambda _: "k"))
    app.add_middleware(ASGILimitMiddleware, limits=limits)
    with TestClient(app) as client:
        answer = client.get("/items")
        assert [*map(in_minutes, answer.headers.get_list("RateLimit"))] == [
            '"api";r=1;t=3600',
            '"all";r=99;t=3600',
        ]


def test_an_option_that_would_do_nothing_is_refused() -> None:
    rule = Rule("api", refund_if=lambda status: status >= 500)
    with pytest.raises(InvalidSpec, match="use ASGILimitMiddleware"):
        limit_dependency(Limits(Limiter([API]), rule))


# -- the decorator


def decorated(**options: Any) -> FastAPI:
    limit = limit_route(Limits(Limiter([API]), Rule("api", key=lambda r: r.path), **options))
    app = FastAPI()
    install(app)

    @app.get("/items/{number}")
    @limit
    async def items(number: int, twice: bool = False) -> int:
        return number * 2 if twice else number

    return app


def test_a_decorated_route_is_limited_and_keeps_its_arguments() -> None:
    client = TestClient(decorated())
    answers = [client.get("/items/3?twice=1") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].json() == 6
    assert in_minutes(answers[0].headers["RateLimit"]) == '"api";r=1;t=3600'
    assert answers[2].headers["Content-Type"] == "application/problem+json"
    assert client.get("/items/x").status_code == 422
    parameters = client.get("/openapi.json").json()["paths"]["/items/{number}"]["get"]["parameters"]
    assert [one["name"] for one in parameters] == ["number", "twice"]


def test_a_decorated_route_may_be_synchronous() -> None:
    limit = limit_route(Limits(Limiter([API]), Rule("api", key=lambda r: r.path)))
    app = FastAPI()
    app.get("/sync")(limit(lambda: "sync"))
    client = TestClient(app)
    assert [client.get("/sync").status_code for _ in range(3)] == [200, 200, 429]


def test_limit_exceeded_is_answered_by_a_problem_document() -> None:
    app = FastAPI()
    install(app)

    @app.get("/work")
    @limited(Limiter([API]).bucket("api"), key="k")
    async def work() -> str:
        return "done"

    client = TestClient(app)
    answers = [client.get("/work") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert in_minutes(answers[2].headers["Retry-After"]) == "3600"
    assert answers[2].json()["violated-policies"] == ["api"]


def test_a_denied_reservation_and_a_denied_slot_are_answered_so_too() -> None:
    app = FastAPI()
    install(app)
    slots = BucketSpec.concurrency("slots", 1, ttl="60s")
    limiter = Limiter([API, slots])

    @app.get("/reserve")
    async def reserve() -> None:
        async with limiter.reserve_all([("api", "k", 2)]) as held:
            held.commit(2)

    @app.get("/slot")
    async def slot() -> None:
        async with limiter.bucket("slots").slot("k"), limiter.bucket("slots").slot("k"):
            pass

    client = TestClient(app)
    assert client.get("/reserve").status_code == 200
    for path, bucket in (("/reserve", "api"), ("/slot", "slots")):
        denied = client.get(path)
        assert denied.status_code == 429
        assert int(denied.headers["Retry-After"]) > 0
        assert denied.json()["violated-policies"] == [bucket]
    assert denied.headers["Retry-After"] == "1"  # nobody knows when a slot is given back
    assert "RateLimit" not in denied.headers


@pytest.mark.parametrize("installed", [True, False])
def test_a_client_that_sends_no_address_as_its_own_is_told_so(installed: bool) -> None:
    app = FastAPI()
    if installed:
        install(app)

    @app.get("/", dependencies=[Depends(limit_dependency(Limits(Limiter([API]), Rule("api"))))])
    async def home() -> None: ...

    answer = TestClient(app, raise_server_exceptions=False, client=("unknown", 1)).get("/")
    assert answer.status_code == 400
    assert answer.json()["detail"] == "the client's address is given as 'unknown', which is none"


def test_a_request_that_is_too_large_is_answered_so() -> None:
    limiter = Limiter([API])
    limit = limit_dependency(Limits(limiter, Rule("api", cost=lambda r: int(r.path[1:]))))
    for installed in (True, False):
        app = FastAPI()
        if installed:
            install(app)

        @app.get("/{size}", dependencies=[Depends(limit)])
        async def sized(size: int) -> None: ...

        @app.post("/work")
        async def work() -> None:
            async with limiter.bucket("api").reserve("k", 9):
                raise AssertionError("it could never pass")

        client = TestClient(app, raise_server_exceptions=False)
        dependency, reservation = client.get("/3"), client.post("/work")
        assert dependency.status_code == 413
        assert reservation.status_code == (413 if installed else 500)
        if installed:
            assert "at most 2 can pass" in dependency.json()["detail"]
            assert "costs 9 tokens" in reservation.json()["detail"]
        else:
            assert dependency.json()["detail"].startswith("cost 3 is above")
