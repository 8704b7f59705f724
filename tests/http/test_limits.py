"""What rules take from a request, what the client is answered, and what is given back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from crdtbucket import (
    BucketSpec,
    CostExceedsCapacity,
    CrdtbucketError,
    InvalidCost,
    InvalidKey,
    InvalidSpec,
    Limiter,
    Mode,
    RedisConfig,
    UnknownBucket,
)
from crdtbucket.config import Config
from crdtbucket.http import Answer, FieldOptions, Limits, Request, Rule, Verdict
from crdtbucket.http.middleware import aiohttp, fastapi, flask
from crdtbucket.http.middleware.asgi import ASGILimitMiddleware
from crdtbucket.http.middleware.wsgi import WSGILimitMiddleware, WSGIRequest
from tests.http.waits import in_minutes
from tests.strong.redis_server import Server, free_port

API = BucketSpec("api", 3, 1, "1h")
TENANT = BucketSpec("tenant", 10, 1, "1h")


def request(
    path: str = "/", peer: str | None = "203.0.113.9", method: str = "GET", **headers: str
) -> Request:
    fields = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    raw = path.encode().decode("latin-1")  # as WSGI carries UTF-8
    return WSGIRequest({"REQUEST_METHOD": method, "PATH_INFO": raw, "REMOTE_ADDR": peer, **fields})


def ask(limits: Limits, *requests: Request) -> list[Verdict]:
    return [limits.acquire_sync(one) for one in requests]


def left(limits: Limits, bucket: str, key: str) -> int:
    return limits.limiter.bucket(bucket).peek(key).remaining


@pytest.fixture
def limiter() -> Limiter:
    return Limiter([API, TENANT])


# -- rules


def test_by_default_each_address_has_its_bucket(limiter: Limiter) -> None:
    limits = Limits(limiter, Rule("api"))
    verdicts = ask(limits, *[request()] * 4, request(peer="203.0.113.10"))
    assert [v.allowed for v in verdicts] == [True, True, True, False, True]
    assert left(limits, "api", "203.0.113.10") == 2
    assert verdicts[0].fields == {
        "RateLimit-Policy": '"api";q=3;w=10800',
        **rates("api", 2, 3600),
    }
    assert in_minutes(verdicts[3].fields["Retry-After"]) == "3600"


def rates(name: str, left: int, t: int) -> dict[str, str]:
    return {"RateLimit": f'"{name}";r={left};t={t}'}


async def test_awaited_or_not_it_is_the_same(limiter: Limiter) -> None:
    limits = Limits(limiter, Rule("api", cost=2))
    assert (await limits.acquire(request())).allowed
    assert not limits.acquire_sync(request()).allowed
    assert not (await limits.acquire(request())).allowed


def test_key_cost_and_exemption_see_the_request(limiter: Limiter) -> None:
    rule = Rule(
        "tenant",
        key=lambda r: r.header("X-Tenant") or r.address,
        cost=lambda r: 5 if r.path.startswith("/heavy") else 1,
        exempt=lambda r: r.method == "OPTIONS",
    )
    limits = Limits(limiter, rule)
    ask(limits, request("/heavy/1", x_tenant="t-1"), request(x_tenant="t-1"), request())
    assert left(limits, "tenant", "t-1") == 4
    assert left(limits, "tenant", "203.0.113.9") == 9
    exempt = limits.acquire_sync(request(method="OPTIONS", x_tenant="t-1"))
    assert (exempt.allowed, exempt.decisions, exempt.fields) == (True, (), {})
    assert left(limits, "tenant", "t-1") == 4


@pytest.mark.parametrize("key", [None, "", b""])
def test_no_key_is_an_error_and_no_exemption(limiter: Limiter, key: Any) -> None:
    limits = Limits(limiter, Rule("api", key=lambda _: key))
    with pytest.raises(InvalidKey, match="`exempt` says who is not limited"):
        limits.acquire_sync(request())


def broken(_: Request) -> Any:
    raise LookupError("of the program")


@pytest.mark.parametrize("part", ["key", "cost", "exempt"])
def test_an_error_in_a_callable_is_an_error(limiter: Limiter, part: str) -> None:
    rules = [Rule("tenant"), Rule("api", **{part: broken})]
    limits = Limits(limiter, rules)
    with pytest.raises(LookupError, match="of the program"):
        limits.acquire_sync(request())
    assert left(limits, "tenant", "203.0.113.9") == 10


def test_a_key_that_is_too_long_counts_by_its_digest(limiter: Limiter) -> None:
    limits = Limits(limiter, Rule("api", key=lambda r: r.path))
    long, other = "/" + "é" * 256, "/" + "é" * 255 + "e" * 2
    verdicts = ask(limits, *[request(long)] * 4, request(other))
    assert [v.allowed for v in verdicts] == [True, True, True, False, True]
    assert len(str(verdicts[0].decisions[0].key)) == 64


def test_what_cannot_work_is_refused_at_once(limiter: Limiter) -> None:
    async def slow(_: Request) -> str:
        return "k"

    with pytest.raises(InvalidSpec, match="key is a coroutine function"):
        Rule("api", key=slow)  # type: ignore[arg-type]
    with pytest.raises(UnknownBucket):
        Limits(limiter, Rule("apis"))
    with pytest.raises(InvalidSpec, match=r'write a list: \["10\.0\.0\.1"\]'):
        Limits(limiter, Rule("api"), trusted="10.0.0.1")
    with pytest.raises(InvalidSpec, match=r"trusted has '10\.0\.0\.1/8'"):
        Limits(limiter, Rule("api"), trusted=["10.0.0.1/8"])
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (Rule, {}, r"rules is .*: write Rule\('api'\)"),
        (Rule("api"), {"fields": True}, r"fields is True: pass FieldOptions"),
        (Rule("api", cost=4), {}, r"cost 4 in the rule for 'api': write 3 or less"),
        (Rule("api"), {"on_denied": "429"}, r"on_denied is '429': pass a function"),
    ]
    for rules, options, words in wrong:
        with pytest.raises(InvalidSpec, match=words):
            Limits(limiter, rules, **options)
    with pytest.raises(InvalidSpec, match="match is 7"):
        Rule("api", match=7)  # type: ignore[arg-type]


def test_a_limiter_in_place_of_limits_is_refused_before_any_request(limiter: Limiter) -> None:
    app: Any = print
    given: Any = limiter
    places: list[Callable[[], object]] = [
        lambda: ASGILimitMiddleware(app, given),
        lambda: ASGILimitMiddleware(app, lambda: given).limits,
        lambda: WSGILimitMiddleware(app, given),
        lambda: WSGILimitMiddleware(app, lambda: given).limits,
        lambda: aiohttp.setup(None, given),  # type: ignore[arg-type]
        lambda: aiohttp.limit_middleware(given),
        lambda: fastapi.limit_dependency(given),
        lambda: fastapi.limit_route(given),
        lambda: flask.limit_route(given),
    ]
    for place in places:
        with pytest.raises(InvalidSpec, match=r"limits is .*: pass Limits\(limiter, Rule"):
            place()


@pytest.mark.parametrize("middleware", [ASGILimitMiddleware, WSGILimitMiddleware])
def test_swapped_arguments_of_a_middleware_are_refused_at_once(
    middleware: Callable[[Any, Any], object], limiter: Limiter
) -> None:
    """It took the application for a function that makes the limits, until the server started."""

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("nobody calls it")

    limits = Limits(limiter, Rule("api"))
    for swapped in (limits, lambda: limits):
        with pytest.raises(
            InvalidSpec, match=r"limits is <function .*>: pass Limits\(limiter, Rule"
        ):
            middleware(swapped, app)
    middleware(app, lambda: limits)


# -- several rules

TWO = [Rule("tenant", key=lambda _: "t-1", cost=2), Rule("api")]


def test_a_request_must_pass_every_rule(limiter: Limiter) -> None:
    limits = Limits(limiter, TWO)
    verdicts = ask(limits, *[request()] * 5)
    assert [v.allowed for v in verdicts] == [True, True, True, False, False]
    # What the first rule took of the denied requests went back.
    assert left(limits, "tenant", "t-1") == 4
    assert [d.bucket.spec.name for d in verdicts[0].decisions] == ["tenant", "api"]
    denied = verdicts[3]
    assert denied.binding is denied.decisions[1]
    assert in_minutes(denied.fields["RateLimit"]) == '"tenant";r=4;t=3600, "api";r=0;t=3600'
    assert json.loads(limits.answer(request(), denied).body)["violated-policies"] == ["api"]
    denied.refund()  # nothing was taken
    assert left(limits, "tenant", "t-1") == 4


def test_the_longest_wait_is_reported(limiter: Limiter) -> None:
    limits = Limits(
        limiter, [Rule("api", cost=3), Rule("tenant", cost=6)], fields=FieldOptions(legacy=True)
    )
    denied = ask(limits, request(), request())[1]
    assert in_minutes(denied.fields["Retry-After"]) == "10800"
    assert denied.fields["X-RateLimit-Limit"] == "3"
    violated = json.loads(limits.answer(request(), denied).body)["violated-policies"]
    assert violated == ["api", "tenant"]


def test_the_fields_of_all_rules_are_lists(limiter: Limiter) -> None:
    fields = Limits(limiter, TWO, fields=FieldOptions(legacy=True)).acquire_sync(request()).fields
    assert fields["RateLimit-Policy"] == '"tenant";q=10;w=36000, "api";q=3;w=10800'
    assert in_minutes(fields["RateLimit"]) == '"tenant";r=8;t=3600, "api";r=2;t=3600'
    assert fields["X-RateLimit-Limit"] == "3"  # of the one with the least left


def test_a_policy_stands_once_in_a_list(limiter: Limiter) -> None:
    rules = [Rule("api", key=lambda _: "a", cost=2), Rule("api", key=lambda _: "b")]
    fields = Limits(limiter, rules).acquire_sync(request()).fields
    assert in_minutes(fields["RateLimit"]) == '"api";r=1;t=3600'


def test_a_name_of_several_rates_takes_from_all_of_them() -> None:
    limiter = Limiter(BucketSpec.parse_all("api", "10/hour;2/minute"))
    limits = Limits(limiter, Rule("api"))
    verdicts = ask(limits, *[request()] * 3)
    assert [v.allowed for v in verdicts] == [True, True, False]
    assert [left(limits, name, "203.0.113.9") for name in ("api:1", "api:2")] == [8, 0]
    assert verdicts[2].fields["RateLimit"].startswith('"api:1";r=8;')
    with pytest.raises(UnknownBucket):
        Limits(limiter, Rule("other"))


async def test_the_rates_of_a_name_are_those_that_are_in_force() -> None:
    """Rules are read once, and a reload adds rates to their names and takes some away."""

    def reload(text: str) -> None:
        limiter.reload(Config("limits.yaml", BucketSpec.parse_all("api", text)))

    limiter = Limiter(BucketSpec.parse_all("api", "10/hour"))
    limits = Limits(limiter, Rule("api"))
    peers = (f"203.0.113.{number}" for number in range(3))
    for peer, acquire in zip(peers, ("take_of_peer", "acquire", "acquire_sync"), strict=True):
        for text in ("10/hour;20/day", "10/hour;20/day;9/minute", "10/hour", "10/hour;9/minute"):
            reload(text)
            if acquire == "take_of_peer":
                verdict = limits.take_of_peer(peer) or limits.acquire_sync(request(peer=peer))
            elif acquire == "acquire":
                verdict = await limits.acquire(request(peer=peer))
            else:
                verdict = limits.acquire_sync(request(peer=peer))
            assert verdict
            decided = [decision.bucket.spec.name for decision in verdict.decisions]
            assert decided == [*limiter.buckets]


def test_a_bucket_that_a_reload_removed_fails_the_requests_that_it_limits() -> None:
    limiter = Limiter([API, TENANT])
    limits = Limits(limiter, [Rule("api", match="/api"), Rule("tenant")])
    limiter.reload(Config("limits.yaml", (TENANT,)))
    assert limits.acquire_sync(request("/other"))
    with pytest.raises(UnknownBucket):
        limits.acquire_sync(request("/api"))
    limiter.reload(Config("limits.yaml", (API, TENANT)))
    assert limits.acquire_sync(request("/api"))


def test_an_impossible_cost_of_a_later_rule_takes_nothing(limiter: Limiter) -> None:
    limits = Limits(limiter, [Rule("tenant"), Rule("api", cost=lambda _: 4)])
    assert not limits.acquire_sync(request()).allowed
    assert left(limits, "tenant", "203.0.113.9") == 10


SIZED = {"key": lambda _: "k", "cost": lambda request: int(request.header("size"))}
TOO_LARGE = {
    "one rule": [Rule("api", **SIZED)],
    "beside its floor": [Rule("tenant", floor=0.7, **SIZED)],
    "several rules": [Rule("tenant"), Rule("api", **SIZED)],
    "slots": [Rule("llm", **SIZED), Rule("tenant")],
    "beside slots": [Rule("llm", key=lambda _: "k"), Rule("api", **SIZED)],
}


@pytest.mark.parametrize("case", TOO_LARGE)
async def test_a_request_that_costs_more_than_a_full_bucket_has_is_too_large(case: str) -> None:
    asked: list[Verdict] = []
    limits = Limits(
        Limiter([API, TENANT, BucketSpec.concurrency("llm", 3)]),
        TOO_LARGE[case],
        on_denied=lambda _, verdict: asked.append(verdict),
    )
    large, unit = request(size="4"), "slots" if case == "slots" else "tokens"
    name = {"slots": "llm", "beside its floor": "tenant"}.get(case, "api")
    for verdict in (limits.acquire_sync(large), await limits.acquire(large)):
        assert not verdict
        assert isinstance(verdict.too_large, CostExceedsCapacity)
        assert ("slots" in str(verdict.too_large)) == (unit == "slots")
        assert (verdict.decisions, verdict.binding, verdict.slots) == ((), None, ())
        answer = limits.answer(large, verdict)
        assert "Retry-After" not in answer.headers
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert json.loads(answer.body) == {
            "type": "about:blank",
            "title": "Content Too Large",
            "status": answer.status,
            "detail": f"the request costs 4 {unit} of {name!r}, and at most 3 can pass at once",
        }
        assert answer.status == 413
    assert asked == []  # no limit has denied it
    assert limits.acquire_sync(request(size="3"))  # nothing is held, nothing was taken


def test_a_cost_that_a_reload_has_made_too_large_is_so_too(limiter: Limiter) -> None:
    limits = Limits(limiter, Rule("api", cost=3))
    limiter.reload(Config("limits.yaml", (BucketSpec("api", 2, 1, "1h"), TENANT)))
    assert limits.take_of_peer("203.0.113.9") is None
    assert limits.answer(request(), limits.acquire_sync(request())).status == 413


@pytest.mark.parametrize("names", [["api"], ["api", "tenant"], ["llm", "api"]])
async def test_a_client_that_sends_no_address_as_its_own_gets_400(names: list[str]) -> None:
    """Servers such as uvicorn put what X-Forwarded-For says in place of the peer."""
    limiter = Limiter([API, TENANT, BucketSpec.concurrency("llm", 3)])
    limits = Limits(limiter, [Rule(name) for name in names])
    sent = request(peer="unknown")
    assert limits.take_of_peer("unknown") is None
    for verdict in (limits.acquire_sync(sent), await limits.acquire(sent)):
        assert not verdict
        answer = limits.answer(sent, verdict)
        assert json.loads(answer.body) == {
            "type": "about:blank",
            "title": "Bad Request",
            "status": answer.status,
            "detail": "the client's address is given as 'unknown', which is none",
        }
        assert answer.status == 400
    for peer in (None, ""):  # the setup is wrong
        with pytest.raises(InvalidKey, match="among the trusted"):
            limits.acquire_sync(request(peer=peer))


def test_a_request_holds_at_least_one_slot() -> None:
    limits = Limits(Limiter([BucketSpec.concurrency("llm", 3)]), Rule("llm", **SIZED))
    for size in ("0", "-1"):
        with pytest.raises(
            InvalidCost, match=f"cost must be a whole number of slots, 1 or more, not {size}"
        ):
            limits.acquire_sync(request(size=size))


def test_a_rule_that_needs_more_slots_than_there_are_is_refused() -> None:
    more = [("pro-*", BucketSpec.concurrency("pro", 5))]
    limiter = Limiter(
        [BucketSpec.concurrency("llm", 2), BucketSpec.concurrency("tiers", 2, overrides=more)]
    )
    with pytest.raises(InvalidSpec, match="cost 3 in the rule for 'llm': write 2 or less, or give"):
        Limits(limiter, Rule("llm", cost=3))
    tiers = Limits(limiter, Rule("tiers", key=lambda r: r.path[1:], cost=3))
    assert tiers.acquire_sync(request("/pro-1"))
    assert tiers.acquire_sync(request("/free-1")).too_large


def test_overrides_and_shadows() -> None:
    plan = BucketSpec("premium", 5, 1, "1h")
    shadow = BucketSpec("next", 1, 1, "1h", shadow=True)
    api = BucketSpec("api", 2, 1, "1h", overrides=[("premium-*", plan)])
    rules = [Rule(name, key=lambda r: r.path[1:]) for name in ("api", "next")]
    limits = Limits(Limiter([api, shadow]), rules)
    verdicts = ask(limits, *[request("/premium-1")] * 2, request("/basic"))
    assert all(verdicts)
    # The override is a policy of its own; clients see nothing of a shadow.
    assert in_minutes(verdicts[1].fields["RateLimit"]) == '"api[premium-*]";r=3;t=3600'
    assert in_minutes(verdicts[2].fields["RateLimit"]) == '"api";r=1;t=3600'
    assert verdicts[1].decisions[1].shadowed
    verdicts[1].refund()
    assert left(limits, "api", "premium-1") == 4


# -- what clients are answered


def test_a_denial_is_a_problem_document(limiter: Limiter) -> None:
    limits = Limits(limiter, Rule("api"))
    verdict = ask(limits, *[request()] * 4)[3]
    answer = limits.answer(request(), verdict)
    assert answer.status == 429
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert in_minutes(answer.headers["Retry-After"]) == "3600"
    assert json.loads(answer.body)["violated-policies"] == ["api"]
    assert limits.answer(request(method="HEAD"), verdict).body == b""


def test_the_program_may_answer_itself(limiter: Limiter) -> None:
    def on_denied(request: Request, verdict: Verdict) -> Answer | None:
        seen.append((request.path, verdict.decisions[0].key))
        return Answer(503, {}, b"busy") if request.path == "/own" else None

    seen: list[tuple[str, object]] = []
    limits = Limits(limiter, Rule("api"), on_denied=on_denied)
    verdict = ask(limits, *[request()] * 4)[3]
    assert limits.answer(request("/own"), verdict) == Answer(503, {}, b"busy")
    assert limits.answer(request("/other"), verdict).status == 429
    assert seen == [("/own", "203.0.113.9"), ("/other", "203.0.113.9")]


def test_allowed_answers_may_say_nothing(limiter: Limiter) -> None:
    limits = Limits(limiter, Rule("api"), fields=FieldOptions(on_allowed=False))
    verdicts = ask(limits, *[request()] * 4)
    assert verdicts[0].fields == {}
    assert in_minutes(verdicts[3].fields["RateLimit"]) == '"api";r=0;t=3600'


@pytest.mark.parametrize(("reduced", "status"), [(False, 429), (True, 503)])
def test_fallback_is_503_where_asked_for(limiter: Limiter, reduced: bool, status: int) -> None:
    limits = Limits(limiter, Rule("api"), reduced_capacity=reduced)
    bucket = limiter.bucket("api")
    decisions = [bucket.take_as("k", 1, Mode.FALLBACK) for _ in range(4)]
    assert not decisions[3].allowed
    verdict = Verdict(False, ((limits.rules[0], decisions[3]),), decisions[3])
    assert limits.answer(request(), verdict).status == status


async def test_an_answer_in_fallback_shows_the_quota_and_a_denial_says_why() -> None:
    api = BucketSpec("api", 100, 100, "1h", on_outage="quota")
    nobody = RedisConfig(host="127.0.0.1", port=free_port())
    async with Limiter([api], node="n", redis=nobody, consistency="strong") as limiter:
        limits = Limits(limiter, Rule("api", cost=6), fields=FieldOptions(legacy=True))
        shown = ("RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining")
        for key, options in (("a", FieldOptions(legacy=True)), ("b", FieldOptions())):
            first = Limits(limiter, Rule("api", lambda _, key=key: key), fields=options)
            verdict = await first.acquire(request())
            assert verdict.allowed
            assert verdict.fields["RateLimit-Policy"] == '"api";q=10;w=3600'
            assert verdict.fields["RateLimit"] == '"api";r=9;t=360'
        assert (await limits.acquire(request())).allowed
        verdict = await limits.acquire(request())
        assert not verdict.allowed
        assert [verdict.fields[name] for name in shown] == ['"api";q=10;w=3600', "10", "4"]
        assert 2 * 360 - 100 < int(verdict.fields["Retry-After"]) <= 2 * 360
        detail = json.loads(limits.answer(request(), verdict).body)["detail"]
        assert detail.startswith(
            "api: the store is unreachable, and this node alone grants 10 in 3600"
        )
        assert "4 of 10 left and 6 asked for; retry in " in detail


# -- what goes back


def failed(status: int) -> bool:
    return status >= 500


@pytest.mark.parametrize(("refund_if", "status", "remaining"), [
    (None, 500, 2), (failed, 500, 3), (failed, 200, 2),
    (lambda status: status < 400, 200, 3),  # only what fails counts, as of logins
])  # fmt: skip
def test_a_status_may_give_tokens_back(
    limiter: Limiter, refund_if: Callable[[int], bool] | None, status: int, remaining: int
) -> None:
    limits = Limits(limiter, [Rule("tenant"), Rule("api", refund_if=refund_if)])
    assert limits.may_refund == (refund_if is not None)
    limits.acquire_sync(request()).ended(status)
    assert left(limits, "api", "203.0.113.9") == remaining
    assert left(limits, "tenant", "203.0.113.9") == 9  # of the other rule, which did not ask


def test_a_verdict_can_be_given_back(limiter: Limiter) -> None:
    limits = Limits(limiter, TWO)
    verdict = limits.acquire_sync(request())
    verdict.refund()
    verdict.refund()
    assert (left(limits, "tenant", "t-1"), left(limits, "api", "203.0.113.9")) == (10, 3)


# -- strong buckets


def test_strong_and_eventual_rules_without_an_event_loop() -> None:
    strong = BucketSpec("api", 3, 1, "1h", consistency="strong")
    with Server() as server, Limiter([strong, TENANT], node="n", **server.patient()) as limiter:
        limits = Limits(limiter, TWO)
        verdicts = ask(limits, *[request()] * 5)
        assert [v.allowed for v in verdicts] == [True, True, True, False, False]
        assert [str(d.mode) for d in verdicts[0].decisions] == ["eventual", "strong"]
        assert left(limits, "tenant", "t-1") == 4


def test_a_strong_bucket_of_a_limiter_that_is_not_open_is_an_error() -> None:
    strong = BucketSpec("api", 3, 1, "1h", consistency="strong")
    limiter = Limiter([strong], node="n", redis="redis://127.0.0.1:1")
    with pytest.raises(CrdtbucketError, match="not open"):
        Limits(limiter, Rule("api")).acquire_sync(request())


def test_without_a_store_denials_show_what_this_node_grants() -> None:
    strong = BucketSpec("api", 100, 1, "1h", consistency="strong")
    with Limiter([strong], node="n", redis="redis://127.0.0.1:1") as limiter:
        verdicts = ask(Limits(limiter, Rule("api")), *[request()] * 11)
        granted = sum(map(bool, verdicts))
        denied = verdicts[-1]
        assert str(denied.decisions[0].mode) == "fallback"
        assert denied.fields["RateLimit-Policy"].startswith(f'"api";q={granted};w=')
        document = json.loads(Limits(limiter, Rule("api")).answer(request(), denied).body)
        assert f"this node alone grants {granted} in " in document["detail"]


@pytest.mark.parametrize("others", [(), (Rule("tenant"),)])
def test_a_floor_leaves_the_rest_to_others(others: tuple[Rule, ...]) -> None:
    limiter = Limiter([BucketSpec("api", 4, 1, "1h"), TENANT])
    batch = Limits(limiter, [Rule("api", floor="batch"), *others])
    by_path = Limits(limiter, Rule("api", floor=lambda one: 0.25 if one.path == "/" else 0))
    assert [one.allowed for one in ask(batch, *[request()] * 3)] == [True, True, False]
    assert [one.allowed for one in ask(by_path, request(), request())] == [True, False]
    assert ask(by_path, request("/pay"))[0].allowed


def test_a_floor_that_cannot_be_is_refused_when_the_rule_is_made() -> None:
    with pytest.raises(InvalidSpec, match=r"floor is 'urgent'.* critical, normal, batch"):
        Rule("api", floor="urgent")  # type: ignore[arg-type]
    strong = BucketSpec("api", 4, 1, consistency="strong")
    limiter = Limiter([strong], node="eu-1", redis=f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(InvalidSpec, match="only eventual buckets"):
        Limits(limiter, Rule("api", floor=0.5))
