"""The client of a node's HTTP API: one clear line for each way that a call can fail."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from crdtbucket.cli import node_client
from crdtbucket.cli.node_client import NodeClient, NodeError, Unreachable, base_url
from tests.certificates import Authority
from tests.cli.fake_node import TOKEN, fake_node, problem
from tests.strong.redis_server import free_port

SERVES = "is `crdtbucket serve` running there?"
REFUSED = f"Connection refused: {SERVES}"


async def fault(url: str, timeout: float = 5.0) -> str:
    """The error of a call of `status` that fails; it is always one line."""
    async with NodeClient(url, TOKEN, timeout=timeout) as node:
        with pytest.raises(NodeError) as error:
            await node.status()
    assert len(str(error.value).splitlines()) == 1
    return str(error.value).removeprefix(url)


async def test_nobody_listens() -> None:
    assert await fault(f"http://127.0.0.1:{free_port()}") == f" is not reachable: {REFUSED}"


async def test_a_host_that_is_none() -> None:
    assert "label" in await fault("http://no-such..host:7980")
    said = await fault("http://no-such-host.invalid:7980")
    assert said.startswith(" is not reachable: ")
    assert "Unknown error" not in said


async def test_a_certificate_that_nobody_vouches_for_and_none_at_all(tmp_path: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*Authority(tmp_path, "nobody").issue("node").values())
    async with fake_node() as node, fake_node(tls=server) as sealed:
        said = await fault(sealed.url)
        assert said.startswith(" is not reachable: it is not trusted (certificate verify failed")
        assert said.endswith(" in SSL_CERT_FILE, and call it by its name")
        plain = node.url.replace("http:", "https:")
        assert (await fault(plain)).endswith("): does it serve http:// there?")
        bare = sealed.url.replace("https:", "http:")
        assert await fault(bare) == ": Server disconnected: does it serve https:// there?"


async def test_who_listens_and_is_silent_costs_the_timeout_only() -> None:
    release = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await fault(f"http://127.0.0.1:{port}", 0.1) == ": no answer within 0.1 s"
    release.set()
    server.close()


async def test_a_socket_of_this_machine(tmp_path: Path) -> None:
    path = str(tmp_path / "node.sock")
    async with fake_node(path=path, GET_admin_status={"node": "eu-1"}) as node:
        async with NodeClient(f"unix:{path}", TOKEN) as asked:
            assert await asked.status() == {"node": "eu-1"}
        assert node.calls == [("GET /admin/status", None)]
    nobody = f"unix:{tmp_path}/another.sock"
    assert await fault(nobody) == f" is not reachable: No such file or directory: {SERVES}"


async def test_a_node_without_an_admin_side_shows_what_others_may_see() -> None:
    answers = {"GET_readyz": {"status": "ok"}, "GET_v1_peers": {"node": "eu-1", "peers": []}}
    off = {"GET_admin_status": lambda: problem(403, "the admin side is off")}
    public = {"node": "eu-1", "peers": [], "buckets": [], "ready": True, "not_ready": ""}
    async with (
        fake_node(**answers, **off, GET_v1_buckets={"buckets": []}) as node,
        NodeClient(node.url, TOKEN) as asked,
    ):
        assert await asked.status() == public


async def test_who_hangs_up() -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with NodeClient(f"127.0.0.1:{port}") as node:
        with pytest.raises(Unreachable, match="disconnected"):
            await node.status()
    server.close()


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (lambda: web.Response(text="hello"), "with status 200 and no JSON object: is this a"),
        (lambda: web.Response(text="[" * 99_999), "and no JSON object"),
        (lambda: web.json_response([1]), "with status 200 and no JSON object: is this a"),
        (lambda: web.Response(status=404), "with status 404 and no JSON object: is this a"),
        (lambda: web.json_response({}, status=500), "/admin/status with status 500: is this a"),
        (lambda: problem(400, "cost\n is \x1b[2J wrong"), ": cost is \\x1b[2J wrong"),
        (lambda: web.Response(status=302, headers={"Location": "/elsewhere"}), "with status 302"),
    ],
)  # fmt: skip
async def test_answers_that_are_none(response: object, words: str) -> None:
    async with fake_node(GET_admin_status=response) as node:
        assert words in await fault(node.url)
        assert len(node.calls) == 1


async def test_an_answer_without_end_is_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_client, "MAX_ANSWER", 1 << 20)

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await fault(f"http://127.0.0.1:{port}") == ": its answer is longer than 1 MiB"
    server.close()


async def test_a_bucket_in_a_path_is_quoted() -> None:
    async with fake_node() as node, NodeClient(node.url) as asked:
        with pytest.raises(NodeError):
            await asked.keys("ai\u2011agent/..?#", 3)
        path = "/v1/buckets/ai%E2%80%91agent%2F..%3F%23/keys?top=3"
        assert node.calls == [(f"GET {path}", None)]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("10.0.0.5:7980", "http://10.0.0.5:7980"),
        ("https://node.example/limits/", "https://node.example/limits"),
        ("unix:/run/crdtbucket.sock", "unix:/run/crdtbucket.sock"),
        ("http://[::1]:7980", "http://[::1]:7980"),
    ],
)
def test_each_spelling_of_a_url_has_one_base(text: str, url: str) -> None:
    assert base_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "http://",
        "ftp://a:1",
        "http://a:b",
        "http://me:word@a:1",
        "http://a:1/?x=1",
        "a:99999",
    ],
)
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(NodeError) as error:
        base_url(text)
    assert "write http://host:port" in str(error.value) or "is no URL" in str(error.value)
    assert "word" not in str(error.value)


def test_the_command_line_says_it_in_one_line_with_status_2() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "crdtbucket", "take", "api", "k", "--url", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"crdtbucket: {url} is not reachable: {REFUSED}\n"
