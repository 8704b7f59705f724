"""OpenAI's own client at the gateway of the examples, through a transport that follows its limits.
The client is not among the tools of this project: these tests are skipped where it is not
installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiohttp.test_utils import TestServer

from crdtbucket import BucketSpec, Limiter
from crdtbucket.upstream.httpx_transport import AsyncUpstreamTransport
from crdtbucket.upstream.upstream import Upstream

pytestmark = pytest.mark.slow
openai = pytest.importorskip("openai")
EXAMPLE = Path(__file__).parents[2] / "examples/llm_gateway.py"
MESSAGES = [{"role": "user", "content": "Tell me of buckets"}]


def gateway() -> tuple[Any, Any, Any]:
    """The module of the example, its application and its gateway."""
    spec = importlib.util.spec_from_file_location("llm_gateway", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, *module.application(module.Model())


async def test_openai_s_client_is_answered_denied_and_followed() -> None:
    _, app, behind = gateway()
    limiter = Limiter([BucketSpec("calls", 1_000, 1, refill_interval="1h")])
    # The gateway names its buckets in the RateLimit field, and one of them is followed.
    upstream = Upstream(limiter, "calls", timeout=0, follows="prompt-tokens")
    async with TestServer(app) as server:
        transport = AsyncUpstreamTransport(httpx2.AsyncHTTPTransport(), upstream)
        client = openai.AsyncOpenAI(
            base_url=str(server.make_url("/v1")),
            api_key="acme",
            max_retries=0,
            http_client=httpx2.AsyncClient(transport=transport),
        )
        async with client:
            create = client.chat.completions.create
            whole = await create(model="example", messages=MESSAGES, max_tokens=9)
            assert whole.choices[0].message.content == "word " * whole.usage.completion_tokens
            stream = await create(model="example", messages=MESSAGES, max_tokens=9, stream=True)
            texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert "".join(texts) == "word " * (len(texts) - 1)
            assert behind.charged == whole.usage.completion_tokens + len(texts) - 1
            limited = behind.limiter.bucket("completion-tokens")
            limited.settle("acme", 10_000)
            with pytest.raises(openai.RateLimitError, match="completion-tokens: 0 of 800 left"):
                await create(model="example", messages=MESSAGES, max_tokens=9)
            assert limiter.bucket("calls").peek("all").remaining == 0
