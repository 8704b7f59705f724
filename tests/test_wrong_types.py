"""Each parameter of the public interface, given values of other types: an error names it, or the
call does what it should. No call fails somewhere inside, and none that fails takes tokens."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from fastapi import FastAPI
from flask import Flask
from httpx2 import AsyncHTTPTransport, HTTPTransport

from crdtbucket import (
    AskedOverrides,
    BucketSpec,
    ControllerSettings,
    CrdtbucketError,
    Degradation,
    Limiter,
    MeshConfig,
    RedisConfig,
    limited,
)
from crdtbucket.config import load_config
from crdtbucket.http import FieldOptions, Limits, Rule
from crdtbucket.http.middleware import aiohttp, fastapi, flask
from crdtbucket.http.middleware.asgi import ASGILimitMiddleware
from crdtbucket.http.middleware.wsgi import WSGILimitMiddleware
from crdtbucket.integrations.grpc import AsyncLimitInterceptor, LimitInterceptor
from crdtbucket.integrations.langchain import BucketRateLimiter
from crdtbucket.testing import SimulationSettings, reset_fixture
from crdtbucket.upstream.aiohttp_client import upstream_middleware
from crdtbucket.upstream.httpx_transport import AsyncUpstreamTransport, UpstreamTransport
from crdtbucket.upstream.requests_adapter import UpstreamAdapter
from crdtbucket.upstream.upstream import Upstream

NOTHING = object()
VALUES = [
    *(None, NOTHING, True, -1, 3, 10**30, 1.5, math.nan, math.inf, 1j),
    *("", "x", "\udcff", b"x", [], ["x"], [3], [None], (), ("x",), {}, {"x": 3}, {1: 2}, {"x"}),
    *(int, len, BucketSpec, BucketSpec("z", 1, 1)),
]
"""What nobody would call right for all of them. `NOTHING` is right for none."""
SPECS = [BucketSpec("a", 10, 1), BucketSpec("b", 10, 1), BucketSpec.concurrency("s", 2, ttl=5)]


class World:
    """A limiter and one of each thing that comes from it."""

    def __init__(self) -> None:
        self.limiter: Any = Limiter(SPECS, max_keys=64)
        self.bucket: Any = self.limiter.bucket("a")
        self.decision = self.bucket.take("used")
        self.answer = self.limiter.take_all([("b", "used")])

    def slot(self, **given: Any) -> None:
        with self.limiter.bucket("s").slot(**given):
            pass

    def reserve(self, **given: Any) -> None:
        with self.bucket.reserve(**given) as reservation:
            reservation.commit(1)

    def commit(self, actual: Any) -> None:
        with self.bucket.reserve("k", 2) as reservation:
            reservation.commit(actual)

    def reserve_all(self, **given: Any) -> None:
        with self.limiter.reserve_all(**given) as reservation:
            reservation.commit(1)

    def commit_all(self, actual: Any) -> None:
        with self.limiter.reserve_all([("a", "k", 2)]) as reservation:
            reservation.commit(actual)

    def limited(self, **given: Any) -> None:
        limited(**given)(print_nothing)()

    def rule(self, **given: Any) -> None:
        Limits(self.limiter, Rule(**given))

    def limits(self, **given: Any) -> None:
        Limits(given.pop("limiter", self.limiter), given.pop("rules", Rule("a")), **given)

    def upstream(self, **given: Any) -> None:
        Upstream(**{"limiter": self.limiter, "bucket": "a", **given})

    def levels(self) -> list[Any]:
        """All that calls could change."""
        keys = ("used", "k", "x", b"x", "3")
        buckets = [self.limiter.bucket(name) for name in ("a", "b")]
        held = self.limiter.bucket("s")
        counts = [bucket.peek(key).remaining for bucket in buckets for key in keys]
        return [counts, [held.held(key) for key in keys], held.open_slots]


def print_nothing() -> None:
    """What is limited."""


async def an_app(*_: Any) -> None:
    """An application."""


Made = Callable[[World], tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]]
"""From a world: what is called, whose signature it has, and arguments that are right."""


def made(call: Callable[..., Any], **right: Any) -> Made:
    """Something that needs no world."""
    return lambda world: (call, call, right)


def of(name: str, /, **right: Any) -> Made:
    """A method of the bucket, which takes what is right."""
    return lambda world: (getattr(world.bucket, name), getattr(world.bucket, name), right)


def of_limiter(name: str, /, **right: Any) -> Made:
    """A method of the limiter."""
    return lambda world: (getattr(world.limiter, name), getattr(world.limiter, name), right)


def limiting(call: Callable[..., Any]) -> Made:
    """Something that takes limits."""
    return lambda world: (call, call, {"limits": Limits(world.limiter, Rule("a"))})


ONE = [("a", "k")]
PUBLIC: dict[str, Made] = {
    "BucketSpec": made(BucketSpec, name="a", capacity=10, refill_rate=1),
    "BucketSpec.parse": made(BucketSpec.parse, name="a", rate="1/s"),
    "BucketSpec.parse_all": made(BucketSpec.parse_all, name="a", rates="1/s"),
    "BucketSpec.concurrency": made(BucketSpec.concurrency, name="a", slots=1),
    "BucketSpec.calendar": made(BucketSpec.calendar, name="a", limit=1),
    "AskedOverrides": made(AskedOverrides, ask=lambda key: None),
    "Limiter": made(Limiter, buckets=SPECS),
    "Limiter.from_file": made(Limiter.from_file, path="examples/openclaw-flat.yaml", node="n"),
    "load_config": made(load_config, path="examples/openclaw-flat.yaml"),
    "MeshConfig": made(MeshConfig),
    "MeshConfig with TLS": made(MeshConfig, tls_cert="c", tls_key="k", tls_ca="a"),
    "RedisConfig": made(RedisConfig, host="localhost"),
    "RedisConfig of a URL": made(RedisConfig, url="redis://localhost"),
    "Degradation": made(Degradation),
    "ControllerSettings": made(ControllerSettings),
    "FieldOptions": made(FieldOptions),
    "limited": lambda world: (world.limited, limited, {"bucket": world.bucket, "key": "k"}),
    "Rule": lambda world: (world.rule, Rule, {"bucket": "a"}),
    "Limits": lambda world: (world.limits, Limits, {}),
    "ASGILimitMiddleware": lambda world: (
        *2 * (ASGILimitMiddleware,),
        {"app": an_app, "limits": Limits(world.limiter, Rule("a"))},
    ),
    "aiohttp.setup": lambda w: (
        *2 * (aiohttp.setup,),
        {"app": web.Application(), "limits": Limits(w.limiter, Rule("a"))},
    ),
    "aiohttp.install": made(aiohttp.install, app=web.Application()),
    "aiohttp.limiter_context": lambda w: (*2 * (aiohttp.limiter_context,), {"limiter": w.limiter}),
    "aiohttp.limit_middleware": limiting(aiohttp.limit_middleware),
    "fastapi.limit_dependency": limiting(fastapi.limit_dependency),
    "fastapi.limit_route": limiting(fastapi.limit_route),
    "fastapi's decorator": lambda w: (
        *2 * (fastapi.limit_route(Limits(w.limiter, Rule("a"))),),
        {"route": print_nothing},
    ),
    "fastapi.install": made(fastapi.install, app=FastAPI()),
    "flask.limit_route": limiting(flask.limit_route),
    "flask's decorator": lambda w: (
        *2 * (flask.limit_route(Limits(w.limiter, Rule("a"))),),
        {"view": print_nothing},
    ),
    "flask.install": made(flask.install, app=Flask("app")),
    "LimitInterceptor": lambda w: (*2 * (LimitInterceptor,), {"bucket": w.bucket}),
    "AsyncLimitInterceptor": lambda w: (*2 * (AsyncLimitInterceptor,), {"bucket": w.bucket}),
    "BucketRateLimiter": lambda w: (
        *2 * (BucketRateLimiter,),
        {"bucket": w.bucket, "key": "k"},
    ),
    "WSGILimitMiddleware": lambda world: (
        *2 * (WSGILimitMiddleware,),
        {"app": an_app, "limits": Limits(world.limiter, Rule("a"))},
    ),
    "SimulationSettings": made(SimulationSettings),
    "reset_fixture": lambda w: (*2 * (reset_fixture,), {"limiter": w.limiter}),
    "Upstream": lambda w: (w.upstream, Upstream, {"limiter": w.limiter, "bucket": "a"}),
    "UpstreamTransport": lambda w: (
        *2 * (UpstreamTransport,),
        {"transport": HTTPTransport(), "upstream": Upstream(w.limiter, "a")},
    ),
    "AsyncUpstreamTransport": lambda w: (
        *2 * (AsyncUpstreamTransport,),
        {"transport": AsyncHTTPTransport(), "upstream": Upstream(w.limiter, "a")},
    ),
    "UpstreamAdapter": lambda w: (*2 * (UpstreamAdapter,), {"upstream": Upstream(w.limiter, "a")}),
    "upstream_middleware": lambda w: (
        *2 * (upstream_middleware,),
        {"upstream": Upstream(w.limiter, "a")},
    ),
    "take": of("take", key="k"),
    "peek": of("peek", key="k"),
    "acquire": of("acquire", key="k"),
    "acquire_sync": of("acquire_sync", key="k"),
    "take_many": of("take_many", keys=["k"]),
    "acquire_many": of("acquire_many", keys=["k"]),
    "take_burst": of("take_burst", key="k", calls=2),
    "settle": of("settle", key="k", tokens=1),
    "refund": lambda world: (*2 * (world.bucket.refund,), {"decision": world.decision}),
    "reset": of("reset", key="k"),
    "wait": of("wait", key="k", timeout=0),
    "wait_sync": of("wait_sync", key="k", timeout=0),
    "reserve": lambda w: (w.reserve, w.bucket.reserve, {"key": "k", "estimate": 2}),
    "commit": lambda world: (world.commit, world.commit, {"actual": 1}),
    "slot": lambda world: (world.slot, world.limiter.bucket("s").slot, {"key": "k"}),
    "bucket": of_limiter("bucket", name="a"),
    "keys": of_limiter("keys", bucket="a"),
    "take_all": of_limiter("take_all", wanted=ONE),
    "take_first": of_limiter("take_first", wanted=ONE),
    "acquire_all": of_limiter("acquire_all", wanted=ONE),
    "acquire_first": of_limiter("acquire_first", wanted=ONE),
    "refund_all": lambda world: (*2 * (world.limiter.refund_all,), {"answer": world.answer}),
    "reserve_all": lambda w: (w.reserve_all, w.limiter.reserve_all, {"wanted": ONE}),
    "commit of all": lambda world: (world.commit_all, world.commit_all, {"actual": 1}),
    "reload": of_limiter("reload"),
    "order": of_limiter("order", order="x"),
    "overrides.set": lambda w: (
        *2 * (w.limiter.overrides.set,),
        {"bucket": "a", "key": "k", "limit": "b"},
    ),
    "overrides.remove": lambda w: (
        *2 * (w.limiter.overrides.remove,),
        {"bucket": "a", "key": "k"},
    ),
    "overrides.give": lambda w: (*2 * (w.limiter.overrides.give,), {"order": "x"}),
    "overrides.listed": lambda w: (*2 * (w.limiter.overrides.listed,), {}),
    "overrides.limit_of": lambda w: (
        *2 * (w.limiter.overrides.limit_of,),
        {"bucket": "a", "key": "k"},
    ),
}


def parameters() -> Iterator[tuple[str, str]]:
    """The names of all parameters of all that is public."""
    world = World()
    for what, make in PUBLIC.items():
        for name, one in inspect.signature(make(world)[1]).parameters.items():
            if one.kind is not one.VAR_KEYWORD and not name.startswith("_"):
                yield what, name


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    """A folder of its own: a text may be taken for the name of a file."""
    (tmp_path / "examples").symlink_to(request.config.rootpath / "examples")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("what", "name"), list(parameters()))
def test_a_wrong_type_is_named_and_changes_nothing(what: str, name: str) -> None:
    world: World | None = None
    for value in VALUES:
        if world is None:
            world = World()
            call, shown, right = PUBLIC[what](world)
            needed = inspect.signature(shown).parameters[name].default is inspect.Parameter.empty
            before = world.levels()
        refusal = refused(partial(call, **{**right, name: value}))
        told = f"{what}({name}={value!r}): {refusal}"
        if refusal is None:
            assert value is not NOTHING, told
            assert value is not None or not needed, told
            world = None  # it may have changed
            continue
        assert isinstance(refusal, CrdtbucketError) or name in str(refusal), told
        assert world.levels() == before, told


def refused(call: Callable[[], Any]) -> CrdtbucketError | TypeError | None:
    """The error of the call, if it is one that a program may make; None without one."""
    try:
        finished(call)
    except (CrdtbucketError, TypeError) as error:
        return error
    return None


def finished(call: Callable[[], Any]) -> Any:
    """The result, also of a coroutine."""

    async def awaited(coroutine: Any) -> Any:
        return await coroutine

    result = call()
    return asyncio.run(awaited(result)) if inspect.iscoroutine(result) else result
