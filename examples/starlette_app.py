"""Starlette, and any other ASGI application: requests, streams and WebSockets.

pip install -e . starlette uvicorn websockets
python examples/starlette_app.py 8000 &
curl -i http://127.0.0.1:8000/numbers
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from crdtbucket import BucketSpec, Limiter
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.asgi import ASGILimitMiddleware


async def numbers(_: Request) -> StreamingResponse:
    """A stream; its head carries the header fields."""
    return StreamingResponse((f"{n}\n" for n in range(3)), media_type="text/plain")


async def echo(socket: WebSocket) -> None:
    """Too many of these are refused before they are accepted."""
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


limiter = Limiter([BucketSpec.parse("web", "5/minute"), BucketSpec.parse("sockets", "2/minute")])
rules = [Rule("web"), Rule("sockets", exempt=lambda request: not request.websocket)]
app = Starlette(routes=[Route("/numbers", numbers), WebSocketRoute("/echo", echo)])
app.add_middleware(ASGILimitMiddleware, limits=Limits(limiter, rules))

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if sys.argv[1:] else 8000, log_level="warning")
