"""Flask: only failed logins count, as what succeeds is given back.

pip install -e . flask
python examples/flask_app.py 8000 &
curl -i -X POST -d password=no http://127.0.0.1:8000/login
"""

import sys

from flask import Flask, request

from crdtbucket import BucketSpec, Limiter
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.wsgi import WSGILimitMiddleware

app = Flask(__name__)


@app.post("/login")
def login() -> tuple[str, int]:
    """Three wrong passwords a minute from one address."""
    return ("welcome", 200) if request.form.get("password") == "yes" else ("wrong", 403)


def make_limits() -> Limits:
    """Called in each process that serves; with a mesh each needs a node name of its own."""
    limiter = Limiter([BucketSpec.parse("logins", "3/minute")])
    return Limits(limiter, Rule("logins", refund_if=lambda status: status < 400))


app.wsgi_app = WSGILimitMiddleware(app.wsgi_app, make_limits)  # type: ignore[method-assign]

if __name__ == "__main__":
    port = int(sys.argv[1]) if sys.argv[1:] else 8000
    app.run(port=port)
