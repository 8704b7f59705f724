"""The decorator for single views of Flask, and its handler of errors."""

from __future__ import annotations

import json
from typing import Any

import flask
import pytest

from crdtbucket import BucketSpec, Limiter, limited
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.flask import install, limit_route
from crdtbucket.http.middleware.wsgi import KEY, WSGILimitMiddleware
from tests.http.waits import in_minutes

API = BucketSpec("api", 2, 1, "1h")


def limits_of(**rule: Any) -> Limits:
    return Limits(Limiter([API]), Rule("api", **rule))


def left(limits: Limits) -> int:
    return limits.limiter.bucket("api").peek("127.0.0.1").remaining


def application(limits: Limits) -> flask.Flask:
    app = flask.Flask(__name__)
    limit = limit_route(limits)

    @app.get("/items/<int:number>")
    @limit
    def items(number: int) -> str:
        return f"{number} {flask.request.environ[KEY].decisions[0].remaining}"

    @app.get("/fails")
    @limit
    def fails() -> str:
        raise LookupError("of the application")

    @app.get("/async")
    @limit
    async def awaits() -> str:
        return "async"

    @app.get("/free")
    def free() -> str:
        return "free"

    return app


def test_a_view_is_limited_and_others_are_not() -> None:
    client = application(limits_of()).test_client()
    answers = [client.get("/items/7") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].text == "7 1"
    assert in_minutes(answers[0].headers["RateLimit"]) == '"api";r=1;t=3600'
    assert answers[2].content_type == "application/problem+json"
    assert in_minutes(answers[2].headers["Retry-After"]) == "3600"
    assert json.loads(answers[2].text)["violated-policies"] == ["api"]
    assert "RateLimit" not in client.get("/free").headers


@pytest.mark.parametrize(("path", "remaining"), [("/fails", 2), ("/items/1", 1)])
def test_failures_are_given_back_when_asked_for(path: str, remaining: int) -> None:
    limits = limits_of(refund_if=lambda status: status >= 500)
    client = application(limits).test_client()
    assert "RateLimit" in client.get(path).headers
    assert left(limits) == remaining


def test_what_the_router_takes_for_the_same_path_is_no_way_around_a_rule() -> None:
    app = flask.Flask(__name__)
    limited_app = WSGILimitMiddleware(app.wsgi_app, limits_of(match="GET /login"))
    app.wsgi_app = limited_app  # type: ignore[method-assign]

    @app.get("/login")
    def login() -> str:
        return "in"

    client, address = app.test_client(), {"REMOTE_ADDR": "203.0.113.9"}
    ways = (("GET", "//login"), ("get", "/login"), ("HEAD", "///login"), ("GET", "/login"))
    statuses = []
    for method, path in ways:
        environ = {**address, "REQUEST_METHOD": method, "PATH_INFO": path}
        statuses.append(client.get("/", environ_overrides=environ).status_code)
    limited_app.close()
    assert statuses == [200, 200, 429, 429]


def test_limit_exceeded_is_answered_by_a_problem_document() -> None:
    app = flask.Flask(__name__)
    install(app)
    bucket = Limiter([API]).bucket("api")

    @app.get("/work")
    @limited(bucket, key="k")
    def work() -> str:
        return "done"

    @app.get("/reserve")
    def reserve() -> str:
        with bucket.reserve("k", 1):
            return "done"

    client = app.test_client()
    answers = [client.get("/work") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].content_type == "application/problem+json"
    assert in_minutes(answers[2].headers["RateLimit"]) == '"api";r=0;t=3600'
    assert client.get("/reserve").status_code == 429


def test_a_request_that_is_too_large_is_answered_so() -> None:
    app = flask.Flask(__name__)
    install(app)
    limiter = Limiter([API])

    @app.get("/limited")
    @limit_route(Limits(limiter, Rule("api", cost=lambda _: 3)))
    def view() -> str:
        raise AssertionError("it could never pass")

    @app.get("/reserve")
    def reserve() -> str:
        with limiter.bucket("api").reserve("k", 9):
            raise AssertionError("it could never pass")

    client = app.test_client()
    answers = [client.get(path) for path in ("/limited", "/reserve")]
    assert [answer.status_code for answer in answers] == [413, 413]
    assert [answer.get_json()["title"] for answer in answers] == ["Content Too Large"] * 2
