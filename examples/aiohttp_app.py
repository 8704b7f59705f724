"""aiohttp: a key of the program's own, and a cost by what is asked.

pip install -e .
python examples/aiohttp_app.py 8000 &
curl -i -H 'X-Tenant: a' 'http://127.0.0.1:8000/items?n=3'
"""

import sys

from aiohttp import web

from crdtbucket import BucketSpec, Limiter
from crdtbucket.http import Limits, Request, Rule
from crdtbucket.http.middleware.aiohttp import KEY, setup


def tenant(request: Request) -> str:
    """Whom a request counts for. A real service verifies what the client says."""
    return request.header("X-Tenant") or request.address


def items_wanted(request: Request) -> int:
    """An item costs a token; at most 10, which the bucket can hold."""
    wanted = request.native.query.get("n", "1")
    return min(max(int(wanted) if wanted.isdecimal() else 1, 1), 10)


async def items(request: web.Request) -> web.Response:
    """Tells what is left."""
    decision = request[KEY].decisions[0]
    return web.json_response({"items": decision.cost, "left": decision.remaining})


app = web.Application()
app.router.add_get("/items", items)
limiter = Limiter([BucketSpec.parse("items", "10/minute")])
setup(app, Limits(limiter, Rule("items", key=tenant, cost=items_wanted)))

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]) if sys.argv[1:] else 8000, print=None)
