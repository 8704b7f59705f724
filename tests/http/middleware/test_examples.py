"""The examples for frameworks, served as they stand and asked over the network."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from socket import SHUT_WR
from typing import NamedTuple

import aiohttp
import pytest

from tests.strong.redis_server import free_port

EXAMPLES = Path(__file__).parents[3] / "examples"
START_S = 60.0


class Answer(NamedTuple):
    """What a client sees."""

    status: int
    headers: dict[str, str]
    body: bytes


class Example:
    """A running example."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, path: str, method: str = "GET", body: str | None = None, **headers: str
    ) -> Answer:
        """The answer, once the server is done with the request: what is given back for an answer is
        given back after that was sent, and then the server closes the connection."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, {"Connection": "close", **named})
            with connection.sock.dup() as socket:
                response: HTTPResponse = connection.getresponse()
                fields = {name.lower(): value for name, value in response.getheaders()}
                answer = Answer(response.status, fields, response.read())
                if body is not None:
                    # Where the application did not read it and it came late, Werkzeug reads on.
                    socket.shutdown(SHUT_WR)
                while socket.recv(4096):
                    pass
            return answer
        finally:
            connection.close()

    def statuses(self, path: str, times: int, **more: str) -> list[int]:
        return [self.ask(path, **more).status for _ in range(times)]


@contextlib.contextmanager
def served(name: str) -> Iterator[Example]:
    """An example that serves; it must end by itself when it is told to."""
    path = [str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / name, str(port)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until_up(process, port)
        yield Example(port)
    finally:
        output = stopped(process)
    # What uvicorn logs of every WebSocket that is answered instead of accepted.
    output = output.replace("ERROR:    ASGI callable returned without completing handshake.\n", "")
    assert "ERROR" not in output, output
    assert "Exception" not in output, output


def stopped(process: subprocess.Popen[str]) -> str:
    """Stops it; returns all that it printed."""
    for _ in range(15):  # wsgiref takes one that comes while it answers for an error of the answer
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=4)[0]
    process.kill()
    raise AssertionError(f"it does not end: {process.communicate()[0]}")


def wait_until_up(process: subprocess.Popen[str], port: int) -> None:
    end = time.monotonic() + START_S
    while not listens(port):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "it does not listen"
        time.sleep(0.05)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def test_fastapi() -> None:
    with served("fastapi_app.py") as app:
        first = app.ask("/")
        assert (first.status, json.loads(first.body)) == (200, {"hello": "world"})
        assert first.headers["ratelimit"] == '"web";r=19;t=3'
        assert app.statuses("/reports/a", 4, X_Tenant="t-1") == [200, 200, 200, 429]
        denied = app.ask("/reports/a", X_Tenant="t-1")
        assert json.loads(denied.body)["violated-policies"] == ["reports"]
        assert app.statuses("/reports/a", 1, X_Tenant="t-2") == [200]
        assert 429 in app.statuses("/", 20)
        assert app.statuses("/healthz", 1) == [404]  # exempt, and there is none


async def test_starlette() -> None:
    with served("starlette_app.py") as app:
        answer = app.ask("/numbers")
        assert (answer.status, answer.body) == (200, b"0\n1\n2\n")
        assert answer.headers["ratelimit"] == '"web";r=4;t=12'
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{app.port}/echo"
            for _ in range(2):
                async with session.ws_connect(url) as ws:
                    await ws.send_str("hi")
                    assert await ws.receive_str() == "hi"
            with pytest.raises(aiohttp.WSServerHandshakeError) as error:
                await session.ws_connect(url)
            assert error.value.status == 429
            assert error.value.headers is not None
            assert '"sockets";r=0;t=' in error.value.headers["RateLimit"]
        assert app.statuses("/numbers", 3) == [200, 200, 429]  # two sockets counted, too


def test_litestar() -> None:
    with served("litestar_app.py") as app:
        assert app.ask("/").body == b"hello"
        spoofed = [
            app.ask("/", X_Forwarded_For=f"9.9.9.{n}, 198.51.100.1").status for n in range(4)
        ]
        assert spoofed == [200, 200, 200, 429]
        assert app.statuses("/", 1, X_Forwarded_For="2001:db8:1:2:3::4") == [200]


def test_aiohttp() -> None:
    with served("aiohttp_app.py") as app:
        first = app.ask("/items?n=6", X_Tenant="t-1")
        assert json.loads(first.body) == {"items": 6, "left": 4}
        assert app.statuses("/items?n=6", 1, X_Tenant="t-1") == [429]
        assert app.statuses("/items?n=6", 1, X_Tenant="t-2") == [200]
        assert app.statuses("/items?n=9999", 2) == [200, 429]


def test_flask() -> None:
    form = {"method": "POST", "Content_Type": "application/x-www-form-urlencoded"}
    with served("flask_app.py") as app:
        right, wrong = {"body": "password=yes", **form}, {"body": "password=no", **form}
        assert app.statuses("/login", 9, **right) == [200] * 9
        assert app.statuses("/login", 4, **wrong) == [403, 403, 403, 429]
        assert app.statuses("/login", 1, **right) == [429]


def test_django() -> None:
    with served("django_app.py") as app:
        answers = [app.ask("/") for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]
        assert json.loads(answers[0].body) == {"left": 2}
        assert answers[1].headers["x-ratelimit-remaining"] == "1"
        assert answers[3].body == b"slow down, please"
        assert 0 < int(answers[3].headers["retry-after"]) <= 20


def test_every_application_has_at_most_40_lines() -> None:
    programs = [*EXAMPLES.glob("*_app.py"), EXAMPLES / "decorator.py"]
    assert len(programs) == 7
    for path in programs:
        assert len(path.read_text().splitlines()) <= 40, path.name
