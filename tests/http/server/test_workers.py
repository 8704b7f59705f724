"""`crdtbucket serve --workers`: several processes are one server."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import socket
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from crdtbucket.http.server.connections import Connections
from crdtbucket.http.server.listening import Listening
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.server_metrics import SERVER, ServerMetrics
from crdtbucket.http.server.siblings import CANNOT, Siblings
from crdtbucket.http.server.worker_folder import PREFIX
from crdtbucket.http.server.workers import WorkerPool
from crdtbucket.limiter.facade import Limiter
from crdtbucket.metrics.collector import CatalogueCollector
from tests.cli.test_serve import Process, started
from tests.waits import eventually

CONFIG = """
node: eu-1
shared: {}
services:
  api:
    limit: 100/day
"""
WITHIN_S = 20


@pytest.fixture
def config(tmp_path: Path) -> str:
    return CONFIG.format(tmp_path / "table")


async def ask(server: Process, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    """One request over a connection of its own, which any worker may get."""
    async with aiohttp.ClientSession() as session:
        method = "POST" if body else "GET"
        async with session.request(method, server.url + path, json=body or None) as response:
            return response.status, await response.json(content_type=None)


async def taken_by_all(server: Process, workers: int) -> dict[int, str]:
    """The handle of a take by each worker."""
    found: dict[int, str] = {}
    for _ in range(90):
        status, answer = await ask(server, "/v1/take", bucket="api", key="k", refundable=True)
        assert status == 200, answer
        match = re.match(r"w(\d)_", answer["id"])
        assert match is not None
        found.setdefault(int(match[1]), answer["id"])
        if len(found) == workers:
            return found
    raise AssertionError(f"one worker got all connections: {found}")


def workers_of(server: Process) -> set[int]:
    """The processes that the first one has forked."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return {int(number) for number in children.read_text().split()}


def folder_of(server: Process) -> Path:
    """The folder of its workers, which the first process holds open."""
    opened = map(Path.readlink, Path(f"/proc/{server.process.pid}/fd").iterdir())
    (found,) = (one for one in opened if one.name.startswith(PREFIX))
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def metric(server: Process, line: str) -> float:
    async with (
        aiohttp.ClientSession() as session,
        session.get(server.url + "/metrics") as response,
    ):
        text = await response.text()
    found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_workers_need_no_folder_for_temporary_files(
    tmp_path: Path, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container whose file system is read-only has none; it has that of shared tables."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    async with started(tmp_path, "--workers", "2", config=config) as server:
        await taken_by_all(server, 2)
        assert list(folder.iterdir()) == []


async def test_workers_are_one_server(tmp_path: Path, config: str) -> None:
    async with started(tmp_path, "--workers", "2", config=config) as server:
        handles = await taken_by_all(server, 2)
        _, peeked = await ask(server, "/v1/peek", bucket="api", key="k")
        taken = 100 - peeked["remaining"]
        # Whichever worker is asked, the one that gave a handle out answers.
        for handle in handles.values():
            for _ in range(6):
                answer = await ask(server, "/v1/refund", id=handle)
                assert answer == (200, {"refunded": 1})
        status, _ = await ask(server, "/v1/refund", id="w1_unknown")
        assert status == 404
        _, peeked = await ask(server, "/v1/peek", bucket="api", key="k")
        assert peeked["remaining"] == 100 - taken + 2
        _, heavy = await ask(server, "/v1/buckets/api/keys")
        assert [(one["key"], one["tokens"]) for one in heavy["keys"]] == [("k", taken)]
        count = 'crdtbucket_http_requests_total{path="/v1/take",status="200"}'
        assert [await metric(server, count) for _ in range(4)] == [taken] * 4
        # There is one limit: what is left is granted once, whoever asks.
        asked = [ask(server, "/v1/take", bucket="api", key="k") for _ in range(120)]
        statuses = [status for status, _ in await asyncio.gather(*asked)]
        assert statuses.count(200) == 100 - taken + 2
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_worker_that_dies_is_replaced_and_nothing_is_given_out_twice(
    tmp_path: Path, config: str, how: signal.Signals
) -> None:
    async with started(tmp_path, "--workers", "2", config=config) as server:
        await server.line(" on http://")  # the second one serves as well
        await ask(server, "/v1/take", bucket="api", key="k", cost=60)
        before = workers_of(server)
        os.kill(min(before), how)
        await server.line("another one starts")
        await server.line(" on http://")
        assert len(workers_of(server) - before) == 1
        _, answer = await ask(server, "/v1/peek", bucket="api", key="k")
        assert answer["remaining"] == 40
        await taken_by_all(server, 2)


async def test_a_worker_that_cannot_be_replaced_yet_ends_nobody(
    tmp_path: Path, config: str
) -> None:
    async with started(tmp_path, "--workers", "2", config=config) as server:
        await server.line(" on http://")
        file = tmp_path / "crdtbucket.yaml"
        file.write_text("services: {")
        await server.line("the configuration in force stays")
        os.kill(min(workers_of(server)), signal.SIGKILL)
        await server.line("and the others go on")
        for _ in range(20):  # each connection of its own is one of the worker that is left
            assert (await ask(server, "/v1/peek", bucket="api", key="k"))[0] == 200
        file.write_text(config)
        # This reaches the new one before it could handle it.
        await eventually(lambda: len(workers_of(server)) == 2)
        server.process.send_signal(signal.SIGHUP)
        await server.line(" on http://")
        await taken_by_all(server, 2)


def test_no_alarm_for_a_worker_is_left_after_the_pool() -> None:
    of_the_test_run = signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        assert WorkerPool([], lambda: Limiter([]), ServeSettings()).run() == 0
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, *of_the_test_run)


async def test_workers_end_with_the_first_process(tmp_path: Path, config: str) -> None:
    async with started(tmp_path, "--workers", "2", config=config) as server:
        await server.line(" on http://")
        workers = workers_of(server)
        assert len(workers) == 2
        folder = folder_of(server)
        async with started(tmp_path, config=CONFIG.format(tmp_path / "another")):
            assert len(list(folder.iterdir())) == 2
        server.process.kill()
        await server.process.wait()
        await eventually(lambda: not any(map(alive, workers)))
    assert folder.is_dir()
    async with started(tmp_path, config=CONFIG.format(tmp_path / "another")):
        assert not folder.exists()


async def test_a_worker_that_cannot_start_ends_the_server(tmp_path: Path) -> None:
    table = tmp_path / "mine"
    table.write_text("a letter")
    config = CONFIG.format(table)
    with pytest.raises(AssertionError) as error:
        async with started(tmp_path, "--workers", "2", config=config):
            pass
    lines = str(error.value.args)
    assert "a worker ends: " in lines
    assert "ended with status 1 at its start" in lines
    assert table.read_text() == "a letter"


async def test_a_worker_whose_disk_is_full_at_the_end_has_served(
    tmp_path: Path, config: str
) -> None:
    mesh = f"mesh: {{listen: '127.0.0.1:0', state_dir: {tmp_path}}}"
    async with started(tmp_path, "--workers", "2", config=config + mesh) as server:
        for worker in workers_of(server):
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 1
    lines = "".join(server.lines)
    assert "a worker ends: " in lines, lines
    assert "cannot serve" not in lines


async def test_a_unix_socket_is_served_by_all_and_removed_once(tmp_path: Path, config: str) -> None:
    path = tmp_path / "it.sock"
    options = ("--workers", "2", "--listen", f"unix:{path}")
    async with started(tmp_path, *options, config=config) as server:
        await server.line(" on http://")
        connector = aiohttp.UnixConnector(str(path))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://localhost/healthz") as response,
        ):
            assert response.status == 200
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
        assert not path.exists()


def test_a_forked_process_does_not_remove_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "it.sock"
    first = Listening(f"unix:{path}", shared=True)
    second = first.again()
    process = os.fork()
    if process == 0:
        second.close()
        os._exit(0)
    os.waitpid(process, 0)
    assert path.exists()
    second.socket.close()
    first.close()
    assert not path.exists()


def test_sockets_of_one_port(tmp_path: Path) -> None:
    first = Listening("127.0.0.1:0", shared=True)
    second = first.again()
    assert first.socket.getsockname() == second.socket.getsockname()
    assert first.name == second.name
    first.socket.settimeout(WITHIN_S)
    second.socket.settimeout(WITHIN_S)
    second.pause()
    second.pause()  # as after a second attempt that failed
    for _ in range(20):
        with socket.create_connection(first.socket.getsockname(), timeout=WITHIN_S):
            first.socket.accept()[0].close()
    first.pause()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(first.socket.getsockname(), timeout=WITHIN_S)
    second.socket.listen()
    with socket.create_connection(first.socket.getsockname(), timeout=WITHIN_S):
        connection, _ = second.socket.accept()
        connection.setblocking(False)
        with connection, pytest.raises(BlockingIOError):  # not the end of what the client sends
            connection.recv(1)
    first.close()
    second.close()


def test_whose_a_handle_is(tmp_path: Path) -> None:
    siblings = Siblings(tmp_path, 1, 3)
    assert [siblings.owner(one) for one in ("w0_x", "w2_x")] == [0, 2]
    assert [siblings.owner(one) for one in ("w1_x", "w3_x", "w10_x", "x", "w_0")] == [None] * 5


async def test_a_request_goes_to_the_worker_that_can_do_it(tmp_path: Path) -> None:
    """With the token of the client; what that one answers is the answer, also where it refuses."""

    class Request:
        path = "/admin/order"
        headers = {"Authorization": "Bearer token"}

        async def read(self) -> bytes:
            return b"{}"

    def worker(status: int) -> Any:
        async def handle(request: web.BaseRequest) -> web.Response:
            assert (request.path, await request.read()) == ("/admin/order", b"{}")
            shown = request.headers.get("Authorization") == "Bearer token"
            return web.json_response({"by": status}, status=status if shown else 401)

        return web.Server(handle)

    siblings = Siblings(tmp_path, 1, 4)  # the last one does not run
    async with AsyncExitStack() as stack:
        stack.push_async_callback(siblings.close)
        for index, status in ((0, CANNOT), (2, 409)):
            runner = web.ServerRunner(worker(status))
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.UnixSite(runner, str(tmp_path / f"{index}.sock")).start()
        request: Any = Request()
        answer = await siblings.forward_to_any(request)
        assert answer is not None
        assert (answer.status, answer.body) == (409, b'{"by": 409}')
        alone = Siblings(tmp_path, 2, 4)
        stack.push_async_callback(alone.close)
        assert await alone.forward_to_any(request) is None


def test_counts_of_workers_are_added_up() -> None:
    class Nothing:
        takes: tuple[str, ...] = ()
        reservations: tuple[str, ...] = ()
        counts = Counter({("api", "OVER_LIMIT"): 2})
        requests = Counter({("api", "OK"): 5})
        subscriptions = 3

    calls: Any = Nothing()
    one, other = (
        ServerMetrics(Connections(ServeSettings()), calls, calls, calls) for _ in range(2)
    )
    one.answered("/a", 200, 1_000_000)
    other.answered("/a", 200, 3_000_000)
    other.answered("/b", 429, 1_000_000)
    one.add_up([other.counts()])
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in CatalogueCollector(SERVER, one.stats).collect()
        for sample in metric.samples
    }
    assert found["crdtbucket_http_requests_total", "/a", "200"] == 2
    assert found["crdtbucket_http_requests_total", "/b", "429"] == 1
    assert found["crdtbucket_http_request_seconds_sum", "/a"] == pytest.approx(0.004)
    assert found["crdtbucket_http_refused_total", "full"] == 0
    assert found["crdtbucket_envoy_descriptors_total", "api", "OVER_LIMIT"] == 4
    assert found["crdtbucket_envoy_quota_requests_total", "api", "OK"] == 10
    assert found["crdtbucket_envoy_quota_buckets",] == 6
