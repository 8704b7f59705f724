"""Worker processes under uvicorn share one limit: 200 an hour are 200, not 200 a process.

pip install -e . uvicorn
uvicorn --app-dir examples --workers 4 --port 8000 workers_asgi:app &
curl -i 127.0.0.1:8000/
"""

import os

from crdtbucket import BucketSpec, Limiter
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.asgi import ASGILimitMiddleware

SHARED = os.environ.get("SHARED", "/dev/shm/crdtbucket-example-asgi")

limiter = Limiter([BucketSpec.parse("web", "200/hour")], shared=SHARED)


async def hello(scope, receive, send):
    """Answers with the number of the process that serves, and ends an orderly shutdown."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{os.getpid()}\n".encode()})


rule = Rule("web", key=lambda request: "all", exempt=lambda request: request.path == "/healthz")
app = ASGILimitMiddleware(hello, limits=Limits(limiter, rule))
