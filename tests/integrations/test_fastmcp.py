"""Tools of a FastMCP server take from a bucket. FastMCP is not among the tools of this project:
these tests are skipped where it is not installed."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket import BucketSpec, InvalidSpec, Limiter

pytestmark = pytest.mark.slow
fastmcp = pytest.importorskip("fastmcp")
mcp = pytest.importorskip("mcp")
middleware = pytest.importorskip("crdtbucket.integrations.fastmcp")


def server(**options: Any) -> Any:
    spec = BucketSpec("tools", capacity=2, refill_rate=1, refill_interval="1h")
    made = fastmcp.FastMCP("test")
    made.add_middleware(middleware.BucketMiddleware(Limiter([spec]).bucket("tools"), **options))

    @made.tool
    def add(a: int, b: int) -> int:
        return a + b

    @made.tool
    def long() -> str:
        return "done"

    return made


async def test_calls_of_tools_take_and_learn_when_to_come_back() -> None:
    async with fastmcp.Client(server()) as client:
        for n in range(2):
            assert (await client.call_tool("add", {"a": n, "b": 1})).data == n + 1
        with pytest.raises(mcp.MCPError) as told:
            await client.call_tool("add", {"a": 1, "b": 1})
        assert told.value.code == middleware.LIMIT_REACHED
        assert 3_500 < told.value.data["retry_after"] <= 3_600
        assert len(await client.list_tools()) == 2  # of what is not limited, anything


async def test_cost_and_key_are_of_the_message() -> None:
    made = server(
        key=lambda context: context.message.name,
        cost=lambda context: 2 if context.message.name == "long" else 1,
    )
    async with fastmcp.Client(made) as client:
        assert (await client.call_tool("long")).data == "done"
        with pytest.raises(mcp.MCPError):
            await client.call_tool("long")
        assert (await client.call_tool("add", {"a": 1, "b": 1})).data == 2


def test_a_text_in_place_of_a_list_of_methods_is_refused() -> None:
    """Its letters were once taken for methods, so that no call was limited."""
    with pytest.raises(InvalidSpec, match=r"methods is 'tools/call': write a list"):
        server(methods="tools/call")
