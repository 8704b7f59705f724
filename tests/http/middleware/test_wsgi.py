"""The WSGI middleware: by its protocol, and in the frameworks that speak it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import flask
import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig, MeshError
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.wsgi import WSGILimitMiddleware, WSGIRequest
from tests.base.test_fork_lock import Holder
from tests.forks import in_child
from tests.http.waits import in_minutes
from tests.strong.redis_server import Server

API = BucketSpec("api", 2, 1, "1h")
PEER = "203.0.113.9"


def limits_of(**rule: Any) -> Limits:
    return Limits(Limiter([API]), Rule("api", **rule))


@pytest.fixture
def wrapped() -> Iterator[Callable[..., WSGILimitMiddleware]]:
    """Makes middleware whose limiters are closed at the end of the test."""
    made: list[WSGILimitMiddleware] = []

    def make(*arguments: Any, **options: Any) -> WSGILimitMiddleware:
        made.append(WSGILimitMiddleware(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def left(limits: Limits) -> int:
    return limits.limiter.bucket("api").peek(PEER).remaining


def environ_of(path: str = "/", **more: Any) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "PATH_INFO": path,
        "REMOTE_ADDR": PEER,
        "QUERY_STRING": "",
        "SCRIPT_NAME": "",
    } | more
    setup_testing_defaults(environ)
    return environ


class Answered:
    """An answer as a server reads it: whole, or closed after some parts."""

    def __init__(self, app: Any, environ: dict[str, Any] | None = None, parts: int = 99) -> None:
        self.status, self.headers, self.body = "", {}, b""
        body = app(environ_of() if environ is None else environ, self._start)
        try:
            for n, part in enumerate(body):
                self.body += part
                if n + 1 == parts:
                    break
        finally:
            if hasattr(body, "close"):
                body.close()

    def _start(self, status: str, headers: list[Any], exc_info: Any = None) -> Any:
        self.status, self.headers = status, dict(headers)
        return lambda _: None


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def test_allowed_and_denied_answers(wrapped: Callable[..., WSGILimitMiddleware]) -> None:
    app = wrapped(validator(hello), limits_of())
    answers = [Answered(validator(app)) for _ in range(3)]
    assert [a.status for a in answers] == ["200 OK", "200 OK", "429 Too Many Requests"]
    assert answers[0].body == b"hello"
    assert in_minutes(answers[0].headers["RateLimit"]) == '"api";r=1;t=3600'
    assert in_minutes(answers[2].headers["Retry-After"]) == "3600"
    assert json.loads(answers[2].body)["violated-policies"] == ["api"]
    head = Answered(app, environ_of(REQUEST_METHOD="HEAD"))
    assert (head.status, head.body) == ("429 Too Many Requests", b"")


def test_the_request_is_seen_as_it_is() -> None:
    limits = Limits(Limiter([API]), Rule("api"), trusted=["203.0.113.0/24"])
    environ = environ_of(
        "/caf\u00c3\u00a9",  # as WSGI carries UTF-8
        SCRIPT_NAME="/app",
        HTTP_X_FORWARDED_FOR="9.9.9.9, 198.51.100.1",
        HTTP_X_TENANT="t-1",
    )
    seen = WSGIRequest(environ, limits.trusted)
    assert (seen.method, seen.path, seen.address) == ("GET", "/app/café", "198.51.100.1")
    assert seen.header("X-Tenant") == "t-1"
    assert seen.header("X-Other") is None
    assert seen.native is environ


# -- what goes back

FAILED = {"refund_if": lambda status: status >= 500}


def raises(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    raise LookupError("of the application")


def raises_late(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [])
    yield b"hello"
    raise LookupError("of the application")


def says_503(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("503 Service Unavailable", [])
    return []


@pytest.mark.parametrize("app", [raises, raises_late, says_503, hello])
@pytest.mark.parametrize("asked", [True, False])
def test_failures_are_given_back_when_asked_for(
    app: Any, asked: bool, wrapped: Callable[..., WSGILimitMiddleware]
) -> None:
    limits = limits_of(**FAILED if asked else {})
    try:
        Answered(wrapped(app, limits))
    except LookupError:
        assert app in (raises, raises_late)
    assert left(limits) == (2 if asked and app is not hello else 1)


@pytest.mark.parametrize(("parts", "remaining"), [(1, 1), (99, 2)])
def test_a_client_that_goes_away_has_paid(
    parts: int, remaining: int, wrapped: Callable[..., WSGILimitMiddleware]
) -> None:
    class Stream:
        closed = False

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a", b"b", b"c"])

        def close(self) -> None:
            self.closed = True

    def app(environ: dict[str, Any], start_response: Any) -> Stream:
        start_response("200 OK", [])
        return stream

    stream = Stream()
    limits = limits_of(refund_if=lambda status: status == 200)
    answered = Answered(wrapped(app, limits), parts=parts)
    assert answered.body == b"abc"[:parts]
    assert stream.closed
    assert left(limits) == remaining


# -- the limiter's life


def test_the_first_request_opens_the_limiter() -> None:
    made: list[Limits] = []

    def make() -> Limits:
        made.append(limits_of())
        return made[-1]

    app = WSGILimitMiddleware(hello, make)
    assert not made
    barrier = threading.Barrier(8)

    def ask(_: int) -> str:
        barrier.wait(60)
        return Answered(app).status

    with ThreadPoolExecutor(8) as threads:
        statuses = sorted(threads.map(ask, range(8)))
    assert statuses == ["200 OK"] * 2 + ["429 Too Many Requests"] * 6
    assert len(made) == 1
    assert "open in a thread" in repr(made[0].limiter)
    app.close()
    assert "closed" in repr(made[0].limiter)


def test_a_limiter_of_the_programs_own_is_left_alone() -> None:
    limits = limits_of()
    app = WSGILimitMiddleware(hello, limits, open_limiter=False)
    assert Answered(app).status == "200 OK"
    app.close()
    assert "not opened" in repr(limits.limiter)


def test_a_limiter_that_does_not_open_is_an_error_each_time() -> None:
    mesh = MeshConfig(listen="203.0.113.1:7946", secret="s" * 32)  # no address of this machine
    app = WSGILimitMiddleware(hello, Limits(Limiter([API], node="n", mesh=mesh), Rule("api")))
    for _ in range(2):
        with pytest.raises(MeshError):
            Answered(app)


def test_a_process_forked_later_is_refused_with_the_fix() -> None:
    # The limiter is never opened, so that no thread of it runs here while the process forks.
    app = WSGILimitMiddleware(hello, limits_of, open_limiter=False)
    fresh = WSGILimitMiddleware(hello, limits_of, open_limiter=False)
    assert Answered(app).status == "200 OK"
    for _ in range(2):
        (told,) = in_child(lambda: Answered(app).status)
        assert told.startswith("CrdtbucketError: the limiter was opened before this process was")
    with Holder(fresh._opening):  # a thread that answers the first request
        assert in_child(lambda: Answered(fresh).status) == ["200 OK"]
    assert Answered(app).status == "200 OK"


PROGRAM = """
import sys, time
from crdtbucket import BucketSpec, Limiter, MeshConfig
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.wsgi import WSGILimitMiddleware
from tests.http.middleware.test_wsgi import Answered, API, hello

def make():
    mesh = MeshConfig(listen="127.0.0.1:0", peers=[sys.argv[1]])
    shared = sys.argv[2] or None
    return Limits(Limiter([API], node="worker", mesh=mesh, shared=shared), Rule("api"))

app = WSGILimitMiddleware(hello, make)
print(Answered(app).status)
while app.limits.limiter.stats()["peers"] != {"first": "alive"}:
    time.sleep(0.01)
"""


@pytest.mark.parametrize("table", ["", "table"])
def test_the_end_of_the_process_leaves_the_mesh(table: str, tmp_path: Path) -> None:
    shared = str(tmp_path / table) if table else ""
    mesh = MeshConfig(listen="127.0.0.1:0")
    with Limiter([API], node="first", mesh=mesh) as first:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM, first.address, shared],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            cwd=Path(__file__).parents[3],
        )
        assert (done.stdout, done.stderr) == ("200 OK\n", "")
        assert first.stats()["peers"] == {"worker": "left"}


def test_strong_buckets_block_the_servers_threads() -> None:
    with Server() as server:
        limiter = Limiter([API], node="n", consistency="strong", **server.patient())
        app = WSGILimitMiddleware(hello, Limits(limiter, Rule("api")))
        with ThreadPoolExecutor(4) as threads:
            answers = [*threads.map(lambda _: Answered(app).status, range(6))]
        app.close()
    assert sorted(answers) == ["200 OK"] * 2 + ["429 Too Many Requests"] * 4


# -- in the frameworks


def test_flask(wrapped: Callable[..., WSGILimitMiddleware]) -> None:
    app = flask.Flask("app")

    @app.get("/")
    def home() -> dict[str, int]:
        return {"left": flask.request.environ["crdtbucket.verdict"].decisions[0].remaining}

    limits = limits_of(exempt=lambda r: r.path == "/healthz")
    app.wsgi_app = wrapped(app.wsgi_app, limits)  # type: ignore[method-assign]
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = PEER
    answers = [client.get("/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].json == {"left": 1}
    assert in_minutes(answers[1].headers["RateLimit"]) == '"api";r=0;t=3600'
    assert client.get("/healthz").status_code == 404
    assert answers[2].get_json(force=True)["status"] == 429
