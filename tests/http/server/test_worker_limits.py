"""Real servers with worker processes keep one limit, exactly."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.strong.redis_server import Server, free_port

ROOT = Path(__file__).parents[3]
LIMIT = 200
ASKED = 320
SERVERS = {
    "uvicorn": ["--app-dir", "examples", "--log-level", "warning", "workers_asgi:app"],
    "gunicorn": ["--chdir", "examples", "--preload", "--log-level", "warning", "workers_wsgi:app"],
}


def get(port: int, path: str) -> tuple[int, str]:
    """One request on a connection of its own, so that any worker may serve it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip()
    finally:
        connection.close()


@contextmanager
def served(server: str, workers: int, shared: Path, app: list[str] | None = None) -> Iterator[int]:
    """A server with so many workers, all up, on a port; it must end well. `app`: the arguments that
    name another application than the example's."""
    port = free_port()
    where = ["--port", str(port)] if server == "uvicorn" else ["--bind", f"127.0.0.1:{port}"]
    which = SERVERS[server] if app is None else app
    command = [sys.executable, "-m", server, *where, "--workers", str(workers), *which]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "SHARED": str(shared), "PYTHONPATH": os.pathsep.join(paths)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        seen: set[str] = set()
        deadline = time.monotonic() + 60
        while len(seen) < workers:
            assert process.poll() is None
            assert time.monotonic() < deadline, f"{len(seen)} of {workers} workers serve"
            try:
                seen.add(get(port, "/healthz")[1])
            except OSError:
                time.sleep(0.05)  # it does not listen yet
        yield port
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors, errors


CASES = [("gunicorn", 1), ("gunicorn", 2), ("gunicorn", 4), ("gunicorn", 8), ("uvicorn", 4)]


@pytest.mark.parametrize(("server", "workers"), CASES)
def test_a_limit_is_one_limit_however_many_workers_serve(
    server: str, workers: int, tmp_path: Path
) -> None:
    with served(server, workers, tmp_path / "table") as port, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: get(port, "/"), range(ASKED)))
    assert Counter(status for status, _ in answers) == {200: LIMIT, 429: ASKED - LIMIT}
    serving = {who for status, who in answers if status == 200}
    assert len(serving) > 1 or workers == 1  # else it would prove nothing


STRONG_APP = """
import os
from crdtbucket import BucketSpec, Limiter
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.wsgi import WSGILimitMiddleware

def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

spec = BucketSpec.parse("web", "{limit}/hour", consistency="strong")
limiter = Limiter([spec], node="edge-1", redis="{url}", shared=os.environ["SHARED"])
rule = Rule("web", key=lambda request: "all", exempt=lambda request: request.path == "/healthz")
app = WSGILimitMiddleware(hello, Limits(limiter, rule))
"""


def test_a_strong_limit_is_exact_over_the_workers(tmp_path: Path) -> None:
    with Server() as redis:
        (tmp_path / "strong_app.py").write_text(STRONG_APP.format(limit=LIMIT, url=redis.url))
        app = ["--chdir", str(tmp_path), "--preload", "--log-level", "warning", "strong_app:app"]
        shared = tmp_path / "table"
        with served("gunicorn", 4, shared, app) as port, ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: get(port, "/"), range(ASKED)))
    assert Counter(status for status, _ in answers) == {200: LIMIT, 429: ASKED - LIMIT}
    assert len({process for status, process in answers if status == 200}) > 1
