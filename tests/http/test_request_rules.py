"""The requests that a rule is about, and rules that cannot work."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket import BucketSpec, InvalidKey, InvalidSpec, Limiter
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.wsgi import WSGIRequest


def asked(method: str, path: str) -> WSGIRequest:
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "REMOTE_ADDR": "203.0.113.9"}
    return WSGIRequest(environ)


@pytest.mark.parametrize(
    ("match", "about", "not_about"),
    [
        ("/login", ["GET /login", "POST /login"], ["GET /login/", "GET /", "GET /login/x"]),
        ("POST /login", ["POST /login"], ["GET /login", "PROPOST /login", "POST /log"]),
        ("POST,PUT /items/*", ["POST /items/1", "PUT /items/"], ["GET /items/1", "PUT /items/1/"]),
        ("/items/*/parts", ["GET /items/7/parts"], ["GET /items/7/8/parts", "GET /items/7"]),
        ("/api/**", ["GET /api", "GET /api/", "POST /api/a/b"], ["GET /apis", "GET /v1/api"]),
        ("/**", ["GET /", "POST /a/b"], []),
        ("/a.b", ["GET /a.b"], ["GET /aXb"]),
        (("GET /a", "/b"), ["GET /a", "POST /b"], ["POST /a", "GET /c"]),
        ("POST /a", ["POST //a", "POST ///a", "post /a"], ["POST /a//", "POST /b//a"]),
        ("POST /", ["POST //"], ["POST //a"]),
        ("//a", ["GET //a", "GET ///a"], ["GET /a"]),
        ("POST,GET /a/*", ["HEAD /a/b", "head //a/b"], ["PUT /a/b", "HEAD /b"]),
        ((), ["GET /", "POST /x"], []),
    ],
)  # fmt: skip
def test_a_pattern_is_about_the_requests_that_it_matches(
    match: Any, about: list[str], not_about: list[str]
) -> None:
    rule = Rule("api", match=match)
    for line in about:
        assert rule.charge(asked(*line.split())) == ("api", "203.0.113.9", 1), line
    for line in not_about:
        assert rule.charge(asked(*line.split())) is None, line


segments = st.text("ab*", max_size=7).map(lambda text: re.sub(r"\*+", "*", text))


@given(
    st.lists(segments, min_size=1, max_size=2),
    st.tuples(st.text("ab", min_size=1, max_size=6))
    | st.tuples(st.text("ab", min_size=1, max_size=6), st.text("ab", max_size=6)),
)
def test_any_number_of_stars_in_a_segment_stand_for_any_text(
    patterns: list[str], path: tuple[str, ...]
) -> None:
    rule = Rule("api", match="/" + "/".join(patterns))
    about = len(path) == len(patterns) and all(map(fnmatchcase, path, patterns))
    assert (rule.charge(asked("GET", "/" + "/".join(path))) is not None) == about


def test_a_long_path_of_a_client_is_decided_on_at_once() -> None:
    rule = Rule("api", match="/" + "*-" * 30 + "x/*a*/y")
    assert rule.charge(asked("GET", "/" + "-" * 8_000)) is None
    assert rule.charge(asked("GET", "/" + "-" * 8_000 + "x/bab/y")) is not None


def test_exempt_stands_beside_match() -> None:
    rule = Rule("api", match="/items/*", exempt=lambda request: request.path.endswith("/free"))
    assert rule.charge(asked("GET", "/items/1")) is not None
    assert rule.charge(asked("GET", "/items/free")) is None


@pytest.mark.parametrize("match", ["login", "post /login", "GET  /x", "/a/**/b", "", "GET, /x", 3])
def test_a_pattern_that_is_none_is_refused(match: Any) -> None:
    with pytest.raises(InvalidSpec, match=r"match has .*POST,PUT /items"):
        Rule("api", match=(match,))


@pytest.mark.parametrize(
    ("match", "meant"),
    [
        ("GET /items/{item_id}/parts", "GET /items/*/parts"),  # as FastAPI and aiohttp write it
        ("/items/<int:item>", "/items/*"),  # as Flask and Django do
        ("/search?q=x", "/search"),
    ],
)
def test_a_pattern_of_another_router_is_refused_as_its_rule_would_limit_nobody(
    match: str, meant: str
) -> None:
    with pytest.raises(InvalidSpec, match=re.escape(f"match has {match!r}: write {meant!r}")):
        Rule("api", match=match)


def test_a_misspelt_method_is_refused_as_its_rule_would_limit_nobody() -> None:
    with pytest.raises(InvalidSpec, match=r"match has 'GET,POTS /login': did you mean 'POST'"):
        Rule("api", match="GET,POTS /login")
    for method in ("PROPFIND", "PROPPATCH", "REPORT", "PURGE", "QUERY", "BATCH", "READ", "LOCK"):
        assert Rule("api", match=f"{method} /login").charge(asked(method, "/login")) is not None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"key": "X-Tenant"}, r"key is 'X-Tenant': pass a function of the request"),
        ({"key": lambda: "k"}, r"key takes \(\): it is called with one argument, the request"),
        ({"key": lambda a, b: "k"}, r"key takes \(a, b\)"),
        ({"cost": "5"}, r"cost is '5': pass a function of the request"),
        ({"cost": 0}, "cost is 0: write 1 or more"),
        ({"cost": True}, "cost is True: write 1 or more"),
        ({"cost": lambda: 1}, "cost takes"),
        ({"exempt": True}, "exempt is True"),
        ({"refund_if": lambda: True}, "refund_if takes .*, the status"),
        ({"refund_if": 500}, "pass a function of the status, such as `lambda status"),
    ],
)
def test_callables_that_cannot_be_called_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        Rule("api", **options)


def test_further_arguments_may_have_defaults() -> None:
    rule = Rule(
        "api", key=lambda request, prefix="ip:": prefix + request.address, cost=int.__call__
    )
    assert rule.key(asked("GET", "/")) == "ip:203.0.113.9"


@pytest.mark.parametrize("key", [5, ["k"]])
def test_a_key_of_another_type_is_refused_by_the_bucket(key: Any) -> None:
    limits = Limits(Limiter([BucketSpec("api", 1, 1)]), Rule("api", key=lambda _: key))
    with pytest.raises((InvalidKey, TypeError)):
        limits.acquire_sync(asked("GET", "/"))


def test_limits_of_something_else_are_refused() -> None:
    limiter = Limiter([BucketSpec("api", 1, 1)])
    with pytest.raises(InvalidSpec, match=r"rules is 'api': write Rule\('api'\)"):
        Limits(limiter, "api")  # type: ignore[arg-type]
    with pytest.raises(InvalidSpec, match=r"rules has 'api': write Rule\('api'\)"):
        Limits(limiter, ["api"])  # type: ignore[list-item]
    with pytest.raises(InvalidSpec, match=r"Limits\(limiter, Rule\(...\)\)"):
        Limits(Rule("api"), limiter)  # type: ignore[arg-type]
