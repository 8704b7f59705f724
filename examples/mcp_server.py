"""A FastMCP server whose tools are limited, and a client that calls them.

pip install -e '.[mcp]'
python examples/mcp_server.py
"""

import asyncio

from fastmcp import Client, FastMCP
from mcp import MCPError

from crdtbucket import BucketSpec, Limiter
from crdtbucket.integrations.fastmcp import BucketMiddleware

tools = Limiter([BucketSpec.parse("tools", "7/minute")]).bucket("tools")
server = FastMCP("search")
server.add_middleware(
    BucketMiddleware(tools, cost=lambda context: 5 if context.message.name == "deep_search" else 1)
)


@server.tool
def search(text: str) -> str:
    """Costs a token."""
    return f"found {text}"


@server.tool
def deep_search(text: str) -> str:
    """Costs five."""
    return f"found all of {text}"


async def call(client: Client, tool: str) -> str:
    """What a client of the server sees."""
    try:
        return (await client.call_tool(tool, {"text": "buckets"})).data
    except MCPError as error:
        return f"denied, again in {error.data['retry_after']} s"


async def main() -> None:
    """Calls until one is denied; what is no tool is not limited."""
    async with Client(server) as client:
        for tool in ("search", "deep_search", "search", "deep_search"):
            print(f"{tool}: {await call(client, tool)}")
        print(f"{len(await client.list_tools())} tools are listed")


if __name__ == "__main__":
    asyncio.run(main())
