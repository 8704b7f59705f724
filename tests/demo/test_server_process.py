"""The server of a run: it is empty at each start, closed to others, and ends with its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from crdtbucket.demo.processes import DemoError
from crdtbucket.demo.server_process import RedisProcess
from crdtbucket.errors import RedisUnavailable
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.redis_connection import RedisConnection
from tests.demo.programs import answer_of, gone, is_open
from tests.strong.redis_server import PROGRAMS
from tests.waits import until

installed = pytest.mark.skipif(not PROGRAMS, reason="no redis-server here: make redis")


async def asked(server: RedisProcess, *words: str) -> object:
    return await answer_of(server.address, server.access, *words)


@installed
async def test_it_comes_back_empty_at_the_same_address_and_is_closed_to_others() -> None:
    server = RedisProcess()
    try:
        await server.start()
        assert await asked(server, "SET", "a", "1") == b"OK"
        with pytest.raises(RedisUnavailable, match="password"):
            await RedisConnection.open(server.address, Access(), 5.0)
        await server.kill()
        assert not is_open(server.address.port)
        await server.start()
        assert await asked(server, "GET", "a") is None
    finally:
        await server.kill()
        await server.kill()
    assert not is_open(server.address.port)


@installed
async def test_a_start_that_fails_says_why_and_leaves_no_process() -> None:
    first, second = RedisProcess(), RedisProcess()
    second.address, second.access = first.address, Access(password="another")
    await first.start()
    try:
        with pytest.raises(DemoError, match=r"(?is)does not start: .*address"):
            await second.start()
        await second.kill()
    finally:
        await first.kill()


def test_it_says_what_to_do_where_none_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DemoError, match="neither redis-server nor valkey-server"):
        RedisProcess()


PARENT = """
import asyncio
from crdtbucket.demo.server_process import RedisProcess
async def main():
    server = RedisProcess()
    await server.start()
    print(server._process.pid, server.address.port, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@installed
@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell no child of its parent")
async def test_a_parent_that_is_killed_takes_it_along() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid, port = map(int, (await parent.stdout.readline()).split())
    assert is_open(port)
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    try:
        until(lambda: gone(pid))
    finally:
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not is_open(port))  # its last threads end after it
