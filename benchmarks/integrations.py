"""What does a limit add to a call through the frameworks of RPC, models and clients?"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from functools import partial
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

from benchmarks.client_integrations import (
    aiohttp_client,
    httpx_async_client,
    httpx_client,
    requests_client,
)
from benchmarks.integration_calls import NAME, awaited, bucket
from benchmarks.measure import Case, Comparison, Scale
from benchmarks.rpc_integrations import envoy, envoy_quotas, forward_auth, rpc_loop, rpc_threads
from benchmarks.surfaces import ADDRESSES, Loop, Run, in_turns, spent, timed

QUESTION = "what does a limit add to a call in a framework of RPC, models or clients?"
UNITS = ("us a call without a limit", "us added by a limit")
NOTE = (
    "CPU time of client and server, which are one process; every call is allowed; a call of the "
    "quota service is a report about a new user"
)


def rest_framework(*, limited: bool) -> Run:
    """Requests through a view, from the request to the rendered answer."""
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    settings.REST_FRAMEWORK = {"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []}
    django.setup()
    from rest_framework.renderers import JSONRenderer
    from rest_framework.response import Response
    from rest_framework.settings import api_settings
    from rest_framework.test import APIRequestFactory
    from rest_framework.views import APIView

    from crdtbucket.integrations.rest_framework import BucketThrottle

    api_settings.reload()  # something else in this process may have read them before
    throttle = type("Throttle", (BucketThrottle,), {"bucket": bucket()})

    class Home(APIView):
        renderer_classes = (JSONRenderer,)
        throttle_classes = (throttle,) if limited else ()

        def get(self, request: Any) -> Response:
            return Response("ok")

    ask, view = APIRequestFactory(), Home.as_view()

    def each(request: Any) -> None:
        if view(request).render().status_code != 200:
            raise AssertionError("denied")

    requests = [ask.get("/", REMOTE_ADDR=address) for address in ADDRESSES]
    return lambda calls: timed(calls, each, requests)


def langchain(*, limited: bool) -> Run:
    """Calls of a chat model that answers a constant."""
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel

    from crdtbucket.integrations.langchain import BucketRateLimiter

    rate_limiter = BucketRateLimiter(bucket()) if limited else None
    model = GenericFakeChatModel(messages=itertools.repeat("ok"), rate_limiter=rate_limiter)
    return lambda calls: timed(calls, model.invoke, ["go"])


def litellm(loop: Loop, *, limited: bool) -> Run:
    """The calls that the proxy of LiteLLM makes of a hook before and after each of its own."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else an import asks the network
    from litellm.integrations.custom_logger import CustomLogger

    from crdtbucket.integrations.litellm import BudgetHook

    hook = BudgetHook(bucket()) if limited else CustomLogger()
    user, used = SimpleNamespace(api_key="k"), SimpleNamespace(usage={"total_tokens": 20})
    numbers = itertools.count()

    async def each(text: str) -> None:
        call = {"litellm_call_id": str(next(numbers))}
        data = {**call, "max_tokens": 50, "messages": [{"role": "user", "content": text}]}
        await hook.async_pre_call_hook(user, None, data, "acompletion")
        await hook.async_log_success_event(call, used, None, None)

    return awaited(loop, each, ["go"])


def fastmcp(loop: Loop, *, limited: bool) -> Run:
    """Calls of a tool, by a client in memory."""
    from fastmcp import Client, FastMCP

    from crdtbucket.integrations.fastmcp import BucketMiddleware

    server = FastMCP(NAME)
    if limited:
        server.add_middleware(BucketMiddleware(bucket()))

    @server.tool
    def add(a: int, b: int) -> int:
        return a + b

    async def all_of(calls: int) -> float:
        async with Client(server) as client:  # its tasks end in the task in which they began
            return await spent(lambda one: client.call_tool("add", one), [{"a": 1, "b": 2}], calls)

    return lambda calls: loop.run_until_complete(all_of(calls))


def beside(bare: Run, limited: Run, calls: int) -> tuple[float, float]:
    """(What a call takes, what a limit adds to it.)"""
    alone, _, more = in_turns(bare, limited, calls)
    return alone, more


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """One table, with a row for each framework."""
    calls = scale.pick(2_000, 500, 10)
    with closing(asyncio.new_event_loop()) as loop, ExitStack() as servers:
        integrations: dict[str, Callable[..., Any]] = {
            "Django REST framework": rest_framework,
            "gRPC, threads": rpc_threads,
            "gRPC, event loop": partial(rpc_loop, loop),
            "Envoy's rate limit service": partial(envoy, loop),
            "Envoy's quota service": partial(envoy_quotas, loop),
            "forward auth": partial(forward_auth, loop),
            "httpx": httpx_client,
            "httpx, event loop": partial(httpx_async_client, loop),
            "requests": requests_client,
            "aiohttp client": partial(aiohttp_client, loop),
            "LiteLLM": partial(litellm, loop),
            "FastMCP": partial(fastmcp, loop),
            "LangChain": langchain,
        }
        # These two packages are not among the tools of this project.
        absent = [name for name in ("LiteLLM", "FastMCP") if find_spec(name.lower()) is None]
        cases = []
        for name, integration in integrations.items():
            if name in absent:
                continue
            bare, limited = (
                servers.enter_context(made) if isinstance(made, AbstractContextManager) else made
                for made in (integration(limited=False), integration(limited=True))
            )
            cases.append(Case(name, partial(beside, bare, limited, calls)))
        missing = [(one, f"cannot be: {one.lower()} is not installed") for one in absent]
        yield Comparison("a call", UNITS, cases, missing, NOTE, ratios=False)
