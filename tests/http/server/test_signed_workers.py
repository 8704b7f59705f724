"""Operators sign, the processes of a node share a table, and the leading one is killed."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from crdtbucket import Limiter, MeshConfig
from crdtbucket.mesh.links import order_spread
from crdtbucket.mesh.links.command_orders import CommandOrder
from crdtbucket.mesh.links.node_key import NodeKey
from crdtbucket.rollout.staged import Position, Status
from tests.cli.test_serve import Process, started
from tests.http.serving import HEADERS, TOKEN
from tests.limiter.test_limiter_mesh import peers
from tests.strong.redis_server import free_port
from tests.waits import eventually

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[3]
BOUND_S = 60.0
SECRET = "a secret of these tests"
LIMITS = """
version: {version}
rollout: {{stages: [{{percent: 1}}, {{percent: 50}}, {{}}]}}
services: {{api: {{limit: {limit}/day}}}}
"""
SERVED = """
node: a
shared: {place}/table
mesh:
  listen: 127.0.0.1:{port}
  secret: {secret}
  operator_keys: {operator}
  state_dir: {place}
"""
AT_ONCE = "from crdtbucket.mesh.links import order_spread\norder_spread.LEARNS_S = 0.0\n"
"""Python runs it at its start: a new node obeys the first reset without waiting."""


class Served:
    """Node `a`: two workers, and which of them leads."""

    def __init__(self, process: Process, operator: NodeKey) -> None:
        self.process = process
        self.operator = operator
        self.leader = 0
        self._read = 0

    async def _line(self) -> str:
        if self._read == len(self.process.lines):
            await self.process.line("")
        self._read += 1
        return self.process.lines[self._read - 1]

    async def said(self, *parts: str, each: int = 1) -> dict[str, set[int]]:
        """The processes that log each of these, when so many have said the last one and one has
        said each other."""
        found: dict[str, set[int]] = {part: set() for part in parts}
        while not all(found.values()) or len(found[parts[-1]]) < each:
            line = await self._line()
            for part in parts:
                if part in line and (number := re.search(r"\[(\d+)\]", line)):
                    found[part].add(int(number[1]))
        return found

    async def begin(self, workers: int) -> None:
        """Starts so many workers, one of which leads."""
        found = await self.said("listening on", "a serves", each=workers)
        (self.leader,) = found["listening on"]

    async def kill_leader(self) -> None:
        os.kill(self.leader, signal.SIGKILL)
        await self.begin(1)

    async def ask(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        """One request over a connection of its own, which any worker may get."""
        async with (
            aiohttp.ClientSession(headers=HEADERS) as session,
            session.post(self.process.url + path, json=body) as response,
        ):
            return response.status, await response.json(content_type=None)

    async def take(self, cost: int) -> None:
        assert (await self.ask("/v1/take", bucket="api", key="k", cost=cost))[0] == 200

    async def has_left(self, tokens: int) -> None:
        """A worker is found that sees so many, once all that peers took has come."""
        deadline = time.monotonic() + BOUND_S
        while (await self.ask("/v1/peek", bucket="api", key="k"))[1]["remaining"] != tokens:
            assert time.monotonic() < deadline

    async def refuses_what_is_unsigned(self) -> None:
        """Each worker does, whatever is asked."""
        for path, body, part in (
            ("/admin/reset", {"bucket": "api", "key": "k"}, "refused: not signed"),
            ("/admin/rollout", {"action": "advance"}, "advance refused: mesh.operator_keys"),
        ):
            by: set[int] = set()
            for _ in range(90):
                assert (await self.ask(path, **body))[0] == 409
                by |= (await self.said(part))[part]
                if len(by) == 2:
                    break
            assert len(by) == 2, "one worker got all connections"

    async def order(self, order: CommandOrder) -> tuple[int, str]:
        status, answer = await self.ask("/admin/order", order=order.as_text())
        return status, str(answer.get("detail", answer.get("new")))

    async def refuses(self, *orders: CommandOrder, why: str = "a counter above") -> None:
        for order in orders:
            status, said = await self.order(order)
            assert (status, why in said) == (409, True), said

    def reset(self, counter: int) -> CommandOrder:
        return CommandOrder.reset(self.operator, "mesh", "api", "k", counter)


def left(limiter: Limiter) -> int:
    return limiter.bucket("api").peek("k").remaining


def status(limiter: Limiter) -> tuple[str, int]:
    state = limiter.rollout.state or {}
    return state["status"], state["stage"]


async def test_orders_hold_once_everywhere_and_their_counters_outlive_each_leader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_spread, "LEARNS_S", 0.0)
    (tmp_path / "sitecustomize.py").write_text(AT_ONCE)
    paths: Iterable[str] = (str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    operator, port, peer_file = NodeKey.make(), free_port(), tmp_path / "b.yaml"
    (tmp_path / "token").write_text(TOKEN)
    peer_file.write_text(LIMITS.format(version=1, limit=100))
    named = SERVED.format(place=tmp_path, port=port, secret=SECRET, operator=operator.fingerprint)
    keys = {"operator_keys": [operator.fingerprint], "state_dir": tmp_path}
    mesh = MeshConfig(listen="127.0.0.1:0", peers=[f"127.0.0.1:{port}"], secret=SECRET, **keys)
    options = ("--workers", "2", "--admin-token-file", str(tmp_path / "token"))
    async with (
        started(tmp_path, *options, config=named + peer_file.read_text()) as process,
        Limiter.from_file(peer_file, node="b", mesh=mesh) as b,
    ):
        a = Served(process, operator)
        await a.begin(2)
        await a.refuses_what_is_unsigned()
        await eventually(lambda: peers(b) == ["a"])
        assert b.bucket("api").take("k", 40)
        await a.take(30)
        await eventually(lambda: left(b) == 30)
        assert await a.order(a.reset(10)) == (200, "True")
        await eventually(lambda: left(b) == 100)
        assert b.bucket("api").take("k", 25)
        await a.take(20)
        for _ in range(2):
            await a.kill_leader()
            assert await a.order(a.reset(10)) == (200, "False")
            await a.refuses(a.reset(9))
        await eventually(lambda: left(b) == 55)
        await a.has_left(55)  # it was done once

        following = LIMITS.format(version=2, limit=300)
        peer_file.write_text(following)
        (tmp_path / "crdtbucket.yaml").write_text(named + following)
        b.reload()
        await a.said("is rolled out after", each=2)
        position = b.rollout.position
        assert position is not None

        def moved(counter: int, to: Status, stage: int) -> CommandOrder:
            place = Position(*position.of, 0, to, stage)
            return CommandOrder.rollout(operator, "mesh", place, counter)

        assert await a.order(moved(20, Status.RUNNING, 1)) == (200, "True")
        await a.said("is running: stage 2 of 3", each=2)
        await eventually(lambda: status(b) == ("running", 2))
        await a.kill_leader()
        assert any("rolled out after" in line and "stage 2 of 3" in line for line in process.lines)
        await a.refuses(moved(15, Status.RUNNING, 2), a.reset(9))
        await a.refuses_what_is_unsigned()
        assert await a.order(moved(30, Status.ROLLED_BACK, 1)) == (200, "True")
        await a.said("is rolled back", each=2)
        await eventually(lambda: status(b)[0] == "rolled back")
        await a.kill_leader()
        await a.refuses(moved(20, Status.RUNNING, 1), why="was rolled back")
        assert await a.order(moved(30, Status.ROLLED_BACK, 1)) == (200, "False")
        await a.has_left(55)
        assert left(b) == 55
