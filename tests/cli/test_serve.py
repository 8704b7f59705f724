"""`crdtbucket serve` as a process: its start, its log, its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from crdtbucket.cli.commands import cli
from crdtbucket.cli.serve import DEFAULT_MAX_KEYS
from crdtbucket.limiter.facade import MAX_KEYS
from tests.http.serving import TOKEN
from tests.strong.redis_server import free_port

CONFIG = """
node: eu-1
region: eu
services:
  api:
    limit: 100/day
"""
HEAD = b"POST /v1/take HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HEAD += b"Content-Length: 29\r\n\r\n"
BODY = b'{"bucket": "api", "key": "a"}'
JSON = {"Content-Type": "application/json"}
WITHIN_S = 60


class Process:
    """A server, and the lines that it has logged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""
        self.writers: list[asyncio.StreamWriter] = []

    async def line(self, part: str) -> str:
        """The next line with `part`; the ones before it are passed over."""
        assert self.process.stderr is not None
        while True:
            line = (await asyncio.wait_for(self.process.stderr.readline(), WITHIN_S)).decode()
            assert line, "".join(self.lines)
            self.lines.append(line)
            if part in line:
                return line

    async def ended(self) -> int:
        """Waits for the end; returns the exit status and reads the rest of the lines."""
        assert self.process.stderr is not None
        rest = await asyncio.wait_for(self.process.stderr.read(), WITHIN_S)
        self.lines += rest.decode().splitlines(keepends=True)
        return await asyncio.wait_for(self.process.wait(), WITHIN_S)

    def close(self) -> None:
        for writer in self.writers:
            writer.transport.abort()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        self.writers.append(writer)
        return reader, writer


@asynccontextmanager
async def started(
    path: Path, *options: str, config: str = CONFIG, files: tuple[int, int] | None = None
) -> AsyncIterator[Process]:
    """`files`: how many it may open, by its soft and by its hard limit."""
    limited = None if files is None else partial(resource.setrlimit, resource.RLIMIT_NOFILE, files)
    file = path / "crdtbucket.yaml"
    file.write_text(config)
    words = ["-m", "crdtbucket", "serve", "--config", str(file), "--listen", "127.0.0.1:0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, *options, stderr=asyncio.subprocess.PIPE, cwd=path,
        preexec_fn=limited,
    )  # fmt: skip
    one = Process(process)
    try:
        one.url = (await one.line(" on http://")).split(" on ")[1].split(",")[0].strip()
        yield one
    finally:
        one.close()
        if process.returncode is None:
            process.kill()
        await one.ended()  # and with it the workers that it has left behind


async def test_one_line_at_the_start_and_none_for_a_request(tmp_path: Path) -> None:
    config = f"{CONFIG}    keys: {{gold-*: {{limit: 200/day}}}}\n"
    options = ("--node", "us-1", "--log-level", "debug")
    async with started(tmp_path, *options, config=config) as server:
        assert "us-1 serves 1 bucket on http://127.0.0.1:" in server.lines[-1]
        assert server.lines[-1].rstrip().endswith(", and its console at /console")
        before = len(server.lines)
        async with aiohttp.ClientSession() as session:
            body = {"bucket": "api", "key": "secret-tenant"}
            async with session.post(f"{server.url}/v1/take", json=body) as response:
                assert response.status == 200
            async with session.get(f"{server.url}/v1/peers") as response:
                peers = await response.json()
                node = {"node": "us-1", "region": "eu", "alone": False, "unreached": 0}
                assert peers == {**node, "peers": [], "identity": None}
        server.process.send_signal(signal.SIGINT)
        assert await server.ended() == 0
        assert "secret-tenant" not in "".join(server.lines)
        assert len(server.lines) == before + 1
        assert "us-1 ends" in server.lines[-1]


async def test_what_is_under_way_is_answered_and_nothing_new_is_taken(tmp_path: Path) -> None:
    state = tmp_path / "state"
    mesh = f"mesh: {{listen: '127.0.0.1:{free_port()}', peers: [], state_dir: '{state}'}}\n"
    async with started(tmp_path, config=CONFIG + mesh) as server:
        idle_reader, idle = await server.connect()
        idle.write(HEAD + BODY)
        assert (await idle_reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        reader, writer = await half_asked(server)
        server.process.terminate()
        await server.line("eu-1 ends")
        # An idle connection ends at once, and no new one can be made.
        assert await asyncio.wait_for(idle_reader.read(), WITHIN_S) == b""
        with pytest.raises(ConnectionRefusedError):
            await server.connect()
        assert server.process.returncode is None
        writer.write(BODY)
        answer = await asyncio.wait_for(reader.read(), WITHIN_S)
        assert answer.startswith(b"HTTP/1.1 200")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["remaining"] == 98
        assert await server.ended() == 0
    assert (state / "eu-1.snapshot").stat().st_size > 0
    async with (
        started(tmp_path, config=CONFIG + mesh) as server,
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/v1/peek", data=BODY, headers=JSON) as response,
    ):
        assert (await response.json())["remaining"] == 98


async def half_asked(server: Process) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection over which the server has read the head of a request: it counts those that it
    has begun."""
    reader, writer = await server.connect()
    writer.write(HEAD)
    async with aiohttp.ClientSession() as session:
        for _ in range(500):
            async with session.get(f"{server.url}/metrics") as response:
                if "crdtbucket_http_requests_open 2.0" in await response.text():
                    return reader, writer
            await asyncio.sleep(0.01)
    raise AssertionError("the request was not begun")


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with started(tmp_path, "--drain", "600") as server:
        _ = await half_asked(server)  # kept: unused, it would be closed
        server.process.terminate()
        await server.line("eu-1 ends")
        server.process.terminate()
        assert await server.ended() == -signal.SIGTERM


async def test_who_does_not_finish_is_left_behind(tmp_path: Path) -> None:
    async with started(tmp_path, "--drain", "0.2") as server:
        _ = await half_asked(server)  # kept: unused, it would be closed
        server.process.terminate()
        assert await server.ended() == 0


async def test_the_size_of_the_table_is_an_option(tmp_path: Path) -> None:
    async with (
        started(tmp_path, "--max-keys", "5000") as server,
        aiohttp.ClientSession() as session,
        session.get(f"{server.url}/metrics") as response,
    ):
        assert "\ncrdtbucket_table_keys_limit 5000.0\n" in await response.text()
    assert DEFAULT_MAX_KEYS == MAX_KEYS


MORE = 300
"""Connections for which 256 files are too few."""


async def healthy(server: Process) -> bool:
    timeout = aiohttp.ClientTimeout(WITHIN_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"{server.url}/healthz") as response,
    ):
        return response.ok


async def test_a_server_that_may_open_few_files_has_fewer_connections(tmp_path: Path) -> None:
    """Without a bound it would accept no more, not answer health checks, and log a megabyte a
    second."""
    async with started(tmp_path, files=(256, 256)) as server:
        assert "at most 64 connections at once, not 1000" in server.lines[0]
        assert "allow it 1192 (LimitNOFILE= of systemd, or ulimit -n)" in server.lines[0]
        for _ in range(MORE):
            await server.connect()
        assert await healthy(server)
        server.process.terminate()
        assert await server.ended() == 0
        assert "eu-1 ends" in server.lines[-1]
        assert len(server.lines) == 3


async def test_half_of_the_files_are_for_connections_of_grpc(tmp_path: Path) -> None:
    async with started(tmp_path, "--grpc", "127.0.0.1:0", files=(256, 256)) as server:
        assert "at most 32 connections at once, not 1000" in server.lines[0]
        assert "allow it 2192 (LimitNOFILE=" in server.lines[0]
    async with started(tmp_path, "--grpc", "127.0.0.1:0", files=(256, 2192)) as server:
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        assert limits == (2192, 2192)


async def test_files_that_run_out_while_it_runs_are_logged_once(tmp_path: Path) -> None:
    mesh = f"mesh: {{listen: '127.0.0.1:{free_port()}', peers: []}}\n"
    async with started(tmp_path, config=CONFIG + mesh) as server:
        process = server.process.pid
        before = resource.prlimit(process, resource.RLIMIT_NOFILE)
        limit = max(map(int, os.listdir(f"/proc/{process}/fd"))) + 1
        resource.prlimit(process, resource.RLIMIT_NOFILE, (limit, before[1]))
        reader, _ = [await server.connect() for _ in range(limit)][-1]
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), WITHIN_S) == b""
        await server.line("Too many open files: no client or peer can connect")
        assert f"allow this process more than {limit} (LimitNOFILE= of systemd" in server.lines[-1]
        server.close()
        resource.prlimit(process, resource.RLIMIT_NOFILE, before)
        await server.line("files can be opened again, after ")
        assert await healthy(server)
        assert sum("Too many open files: no client" in line for line in server.lines) == 1


async def test_as_many_files_are_opened_as_the_hard_limit_allows(tmp_path: Path) -> None:
    async with started(tmp_path, files=(256, 4096)) as server:
        assert len(server.lines) == 1
        reader, writer = [await server.connect() for _ in range(MORE)][-1]
        writer.write(HEAD + BODY)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        assert await healthy(server)


async def test_the_token_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    async with (
        started(tmp_path, "--admin-token-file", "token") as server,
        aiohttp.ClientSession() as session,
    ):
        for token, expected in ((TOKEN, 200), ("x" * 20, 401)):
            headers = {"Authorization": f"Bearer {token}"}
            async with session.get(f"{server.url}/admin/status", headers=headers) as response:
                assert response.status == expected


WRONG = [
    (["--listen", "7980"], "an address to listen on is '7980', which has no host"),
    (["--listen", "unix:/nowhere/at/all"], "cannot listen on 'unix:/nowhere/at/all'"),
    (["--admin-token-file", "short"], "the admin token is too short to be a secret"),
    (["--admin-token-file", "binary"], "the admin token must be ASCII text"),
    (["--token-file", "long", "--listen", "7980"], "long: the token has more than 4,096 bytes"),
    (["--max-connections", "0"], "--max-connections"),
    (["--config", "short"], "short: no bucket is defined: add services:"),
    (["--config", "short", "--workers", "2"], "short: no bucket is defined: add services:"),
    (["--config", "unnamed", "--workers", "2"], "no node is named, so other programs"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(o) for o, _ in WRONG])
def test_wrong_options_are_one_line(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("# secret")
    (tmp_path / "binary").write_bytes(b"\xff" * 32)
    (tmp_path / "long").write_text("x" * 4_097)
    (tmp_path / "c.yaml").write_text(CONFIG)
    (tmp_path / "unnamed").write_text(CONFIG.replace("node: eu-1", ""))
    done = CliRunner().invoke(cli, ["serve", "--config", "c.yaml", *options])
    assert done.exit_code != 0
    assert message in f"{done.output}{done.exception}"


def test_a_wrong_file_is_refused_with_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(CONFIG.replace("limit:", "limt:"))
    done = CliRunner().invoke(cli, ["serve", "--config", str(file)])
    assert done.exit_code != 0
    assert "c.yaml:6:5" in str(done.exception)
