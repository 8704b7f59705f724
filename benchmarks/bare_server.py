"""`python -m benchmarks.bare_server PORT`: an aiohttp server that reads a JSON body, answers with
one, and does nothing else. A sidecar on aiohttp cannot make more decisions a second than this one
answers."""

from __future__ import annotations

import sys

from aiohttp import web

try:
    import uvloop
except ImportError:
    uvloop = None

ANSWER = {
    "allowed": True,
    "limit": 1_000_000_000,
    "remaining": 999_999_999,
    "retry_after": 0.0,
    "reset_after": 0.001,
    "mode": "eventual",
}


async def take(request: web.Request) -> web.Response:
    """Parses the question; the answer is always the same."""
    await request.json()
    return web.json_response(ANSWER)


async def healthz(request: web.Request) -> web.Response:
    """Answers, which shows that the server is ready."""
    return web.Response()


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/v1/take", take)
    app.router.add_get("/healthz", healthz)
    options = {"host": "127.0.0.1", "port": int(sys.argv[1]), "print": None, "access_log": None}
    loop = uvloop.new_event_loop() if uvloop else None  # as the sidecar does
    web.run_app(app, loop=loop, **options)
