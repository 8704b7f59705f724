"""FastAPI: every request counts for its address, and one route for its tenant.

pip install -e . fastapi uvicorn
python examples/fastapi_app.py 8000 &
curl -i http://127.0.0.1:8000/
"""

import sys

import uvicorn
from fastapi import Depends, FastAPI

from crdtbucket import BucketSpec, Limiter
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.asgi import ASGILimitMiddleware
from crdtbucket.http.middleware.fastapi import install, limit_dependency

limiter = Limiter([BucketSpec.parse("web", "20/minute"), BucketSpec.parse("reports", "3/minute")])
everything = Limits(limiter, Rule("web", exempt=lambda request: request.path == "/healthz"))
reports = Limits(limiter, Rule("reports", key=lambda request: request.header("X-Tenant") or "none"))

app = FastAPI()
app.add_middleware(ASGILimitMiddleware, limits=everything)  # it opens and closes the limiter, too
install(app)  # denials of dependencies are problem documents


@app.get("/")
async def home() -> dict[str, str]:
    """Limited by the middleware alone."""
    return {"hello": "world"}


@app.get("/reports/{name}", dependencies=[Depends(limit_dependency(reports))])
async def report(name: str) -> dict[str, str]:
    """Limited by its tenant, too."""
    return {"report": name}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if sys.argv[1:] else 8000, log_level="warning")
