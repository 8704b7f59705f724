"""The example for Envoy, with Envoy itself, and the configuration that its page shows."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from crdtbucket import Limiter
from tests.http.serving import Asker, serving
from tests.http.test_proxies import EXAMPLES, START_S, answers, application, found
from tests.mesh.network import eventually
from tests.strong.redis_server import free_port

PAGE = (EXAMPLES.parents[1] / "docs/proxies.md").read_text()
SENT = {"X-Forwarded-For": "198.51.100.7"}


def limits() -> str:
    """The configuration of the page, with less to spend."""
    text = (EXAMPLES / "envoy-limits.yaml").read_text()
    return text.replace("100/hour", "5/day").replace("100000/hour", "100/day")


@asynccontextmanager
async def envoy(folder: Path, app: int, service: str) -> AsyncIterator[str]:
    """Envoy with the example's configuration and other ports; its address."""
    program = found("envoy")
    if program is None:
        pytest.skip("there is no envoy")
    port = free_port()
    text = (EXAMPLES / "envoy.yaml").read_text()
    for old, new in {
        "8080": str(port),
        "8081": str(app),
        "7981": service,
        # However busy the machine is, no request may pass without a decision.
        "timeout: 0.1s": f"timeout: {START_S}s",
        "failure_mode_deny: false": "failure_mode_deny: true",
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "envoy.yaml").write_text(text)
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(program, "-c", str(folder / "envoy.yaml"), *options),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        loop = asyncio.get_running_loop()
        end = loop.time() + START_S
        while not await answers(url):
            assert process.returncode is None, (folder / "log").read_text()
            assert loop.time() < end, (folder / "log").read_text()
            await asyncio.sleep(0.05)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_envoy_passes_on_what_the_limit_admits(tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(limits())
    limiter = Limiter.from_file(file)
    async with serving(limiter, grpc="127.0.0.1:0") as client, application() as (app, came):
        service = client.server.addresses[-1].rpartition(":")[2]
        async with envoy(tmp_path, app, service) as url, aiohttp.ClientSession() as session:
            limiter.reset_all()
            came.clear()
            statuses = []
            for _ in range(7):
                async with session.get(url + "/a?b=c", headers=SENT) as answer:
                    statuses.append(answer.status)
                    fields, text = answer.headers, await answer.text()
            assert statuses == [200] * 5 + [429] * 2
            assert came == ["/a"] * 5
            assert int(fields["Retry-After"]) > 0
            assert fields["RateLimit"].startswith('"api";r=0;t=')
            assert fields["Content-Type"] == "application/problem+json"
            assert "quota-exceeded" in text
            assert limiter.keys("api") == ["127.0.0.1"]  # not what the client wrote
            await charged_afterwards(client, int(url.rpartition(":")[2]))


async def said(port: int, user: bytes, cost: int) -> str:
    """The head of the answer to a user whose name may be any bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-user: " + user)
    writer.write(b"\r\nx-cost: %d\r\n\r\n" % cost)
    head = (await reader.read()).partition(b"\r\n\r\n")[0].decode()
    writer.close()
    return head


async def charged_afterwards(client: Asker, port: int) -> None:
    """What an answer costs is known with it, and charged even if it is more than is left. A name
    that is no UTF-8 is a key like any other, and no way around the limit."""
    chat = client.limiter.bucket("chat")
    for left, then in ((100, lambda level: level.remaining == 40), (40, lambda level: not level)):
        head = await said(port, b"u\xff", 60)
        assert head.startswith("HTTP/1.1 200 ")
        assert f'ratelimit: "chat";r={left};' in head
        await eventually(lambda then=then: then(chat.peek("u\\xff")))  # type: ignore[misc]
    head = await said(port, b"u\xff", 60)
    assert head.startswith("HTTP/1.1 429 ")
    wait = re.search(r"retry-after: (\d+)", head)
    assert wait is not None
    assert int(wait[1]) > 20 * 864  # 20 below empty


def test_the_page_shows_the_example() -> None:
    for name in ("envoy.yaml", "envoy-limits.yaml"):
        example = (EXAMPLES / name).read_text()
        assert f"\n{example}```\n" in PAGE, f"docs/proxies.md has another {name}"
