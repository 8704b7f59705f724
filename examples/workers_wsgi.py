"""Worker processes under gunicorn share one limit, also when it is loaded before the fork.

pip install -e . gunicorn
gunicorn --chdir examples --preload --workers 4 --bind 127.0.0.1:8000 workers_wsgi:app &
curl -i http://127.0.0.1:8000/
"""

import os

from crdtbucket import BucketSpec, Limiter
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.wsgi import WSGILimitMiddleware

SHARED = os.environ.get("SHARED", "/dev/shm/crdtbucket-example-wsgi")

limiter = Limiter([BucketSpec.parse("web", "200/hour")], shared=SHARED)


def hello(environ, start_response):
    """Answers with the number of the process that serves."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()}\n".encode()]


rule = Rule("web", key=lambda request: "all", exempt=lambda request: request.path == "/healthz")
app = WSGILimitMiddleware(
    hello, Limits(limiter, rule)
)  # opened by the first request of each worker
