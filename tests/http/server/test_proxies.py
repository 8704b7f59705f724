"""The examples for proxies, with the proxies themselves."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.http.serving import API, serving
from tests.strong.redis_server import free_port

EXAMPLES = Path(__file__).parents[3] / "examples/proxies"
CALLS = API.capacity
START_S = 60.0


def found(program: str) -> str | None:
    """Installed beside this Python, or anywhere."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    return shutil.which(program, path=places)


def nginx(file: Path, port: int) -> list[str]:
    # Where it may write without rights: Debian's own folders are root's.
    folder = file.parent
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in kinds)
    text = file.read_text().replace("http {", f"http {{ access_log off; {places}")
    file.write_text(text)
    lines = f"pid {folder}/pid; daemon off; worker_processes 1;"
    return ["-p", str(folder), "-e", "stderr", "-c", str(file), "-g", lines]


def caddy(file: Path, port: int) -> list[str]:
    return ["run", "--adapter", "caddyfile", "--config", str(file)]


def traefik(file: Path, port: int) -> list[str]:
    entry, provider = f"--entryPoints.web.address=:{port}", f"--providers.file.filename={file}"
    return [entry, provider, "--global.checkNewVersion=false"]


PROXIES: dict[str, tuple[str, Callable[[Path, int], list[str]]]] = {
    "nginx": ("nginx.conf", nginx),
    "caddy": ("Caddyfile", caddy),
    "traefik": ("traefik-routes.yaml", traefik),
}


@asynccontextmanager
async def application() -> AsyncIterator[tuple[int, list[str]]]:
    """An application behind the proxy: its port, and the paths of the requests that arrived."""
    came: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        came.append(request.path)
        cost = request.headers.get("x-cost", "1")
        return web.Response(text="served", headers={"x-tokens": cost})

    server, port = web.Server(answer), free_port()
    runner = web.ServerRunner(server)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield port, came
    finally:
        await runner.cleanup()


async def answers(url: str) -> bool:
    """Whether a proxy is up, and has read its rules."""
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status not in (404, 500, 502, 503)
    except aiohttp.ClientError:
        return False


@asynccontextmanager
async def proxied(name: str, folder: Path, app: int, sidecar: str) -> AsyncIterator[str]:
    """The proxy of an example, with other ports; its address."""
    program = found(name)
    if program is None:
        pytest.skip(f"there is no {name}")
    file, arguments = PROXIES[name]
    port = free_port()
    text = (EXAMPLES / file).read_text()
    text = text.replace("127.0.0.1:7980", sidecar).replace("8080", str(port))
    (folder / file).write_text(text.replace("127.0.0.1:8081", f"127.0.0.1:{app}"))
    home = {name: str(folder) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    async with proxy_process([program, *arguments(folder / file, port)], folder, port, home) as url:
        yield url


@asynccontextmanager
async def proxy_process(
    command: list[str], folder: Path, port: int, env: dict[str, str] | None = None
) -> AsyncIterator[str]:
    """A proxy that runs, from when it answers at its port; its address."""
    env = {**(os.environ if env is None else env), "LD_PRELOAD": ""}  # no sanitizer of this process
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, env=env, stdout=log, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_S
        while not await answers(url):
            assert process.returncode is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            await asyncio.sleep(0.05)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.mark.parametrize("name", PROXIES)
async def test_a_proxy_passes_on_what_the_limit_admits(name: str, tmp_path: Path) -> None:
    async with serving() as client, application() as (app, came):
        sidecar = client.url.removeprefix("http://")
        async with proxied(name, tmp_path, app, sidecar) as url, aiohttp.ClientSession() as session:
            client.limiter.reset_all()
            came.clear()
            page = {"X-Forwarded-For": "198.51.100.7", "Origin": "https://shop.example"}
            statuses = []
            for number in range(CALLS + 2):
                method = "POST" if number % 2 else "GET"
                async with session.request(method, url + "/a?b=c", headers=page) as response:
                    statuses.append(response.status)
                    retry_after = response.headers.get("Retry-After")
            assert statuses == [200] * CALLS + [429] * 2
            assert came == ["/a"] * CALLS
            assert retry_after is not None
            assert int(retry_after) > 3_000
            assert client.limiter.keys("api") == ["127.0.0.1"]  # not what the client wrote


def test_the_page_shows_the_examples() -> None:
    page = (EXAMPLES.parents[1] / "docs/proxies.md").read_text()
    files = sorted(file for file in EXAMPLES.iterdir() if not file.match("envoy*"))
    assert {file.name for file in files} == {file for file, _ in PROXIES.values()}
    for file in files:
        assert f"\n{file.read_text()}```\n" in page, f"docs/proxies.md has another {file.name}"
