"""A server that answers each path of a node's HTTP API as a test says, and runs of commands against
it."""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from click.testing import CliRunner, Result

from crdtbucket.cli.commands import cli

Answer = web.Response | dict[str, Any]
TOKEN = "a-token-of-this-test"


@dataclass
class FakeNode:
    """`answers`: by method and path, an object for a 200, a response, or a function that makes
    one, which may be a coroutine function."""

    answers: dict[str, Answer | Callable[[], Any]] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    """The method, the path with its query, and the body of each call."""
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.calls.append((f"{request.method} {request.path_qs}", body))
        self.headers.append(dict(request.headers))
        told = request.headers.get("Authorization") == f"Bearer {TOKEN}"
        if request.path.startswith("/admin/") and not told:
            return problem(401, "the admin token is missing or wrong")
        answer = self.answers.get(f"{request.method} {request.path}")
        if callable(answer):
            answer = answer()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer is None:
            raise web.HTTPNotFound
        return answer if isinstance(answer, web.Response) else web.json_response(answer)


def problem(status: int, detail: str, **more: Any) -> web.Response:
    return web.json_response(
        {"title": "no", "status": status, "detail": detail, **more},
        status=status,
        content_type="application/problem+json",
    )


@asynccontextmanager
async def fake_node(
    *, tls: ssl.SSLContext | None = None, path: str | None = None, **answers: Any
) -> AsyncIterator[FakeNode]:
    """`answers` by names such as `POST_v1_take`, which stands for `POST /v1/take`."""
    node = FakeNode(
        {name.replace("_", " /", 1).replace("_", "/"): a for name, a in answers.items()}
    )
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", node.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site: web.BaseSite = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await (site if path is None else web.UnixSite(runner, path)).start()
    if path is None:
        host, port = runner.addresses[0][:2]
        node.url = f"http{'s' if tls else ''}://{host}:{port}"
    try:
        yield node
    finally:
        await runner.cleanup()


async def run(*words: str, **env: str | None) -> Result:
    """Runs a command in a thread, so that the server of the test goes on."""
    env = {"CRDTBUCKET_TOKEN": None, **env}
    return await asyncio.to_thread(CliRunner().invoke, cli, words, env=env)
