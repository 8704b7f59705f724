"""Litestar behind a proxy: the whole application is wrapped. Quart: `app.asgi_app` is.

pip install -e . litestar uvicorn
python examples/litestar_app.py 8000 &
curl -i http://127.0.0.1:8000/
"""

import sys

import uvicorn
from litestar import Litestar, get

from crdtbucket import BucketSpec, Limiter
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.asgi import ASGILimitMiddleware


@get("/")
async def home() -> str:
    """Limited by the client's address, as the proxy tells it."""
    return "hello"


limiter = Limiter([BucketSpec.parse("web", "3/minute")])
limits = Limits(limiter, Rule("web"), trusted=["127.0.0.1"])  # X-Forwarded-For of these counts
app = ASGILimitMiddleware(Litestar([home]), limits)

if __name__ == "__main__":
    port = int(sys.argv[1]) if sys.argv[1:] else 8000
    # One of the two reads X-Forwarded-For, not both.
    uvicorn.run(app, port=port, log_level="warning", proxy_headers=False)
