"""Strong slots in all that happens to a fleet: real processes and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.compositions.process import BOUND_S, Failed, LibraryProcess
from tests.strong.redis_server import Server, free_port

SLOTS = 6
CONFIG = """
node: {node}
version: {version}
{rollout}
rating:
  consistency: strong
  fallback_ratio: 0.34
  bucket_backend: {{type: redis, deadline: 5s, connection: {{url: {url}}}}}
  modes: {{latency_limit: 4s, outage_after: 10s, stable_after: 300ms, stable_after_failover: 300ms}}
services:
  api: {{limit: {version}0/s}}
  llm: {{concurrency: {{slots: {slots}, ttl: 1h}}, consistency: {consistency}}}
  {more}
mesh: {{listen: "127.0.0.1:{port}", peers: ["127.0.0.1:{other}"], state_dir: {state},
  secret: "a secret of this composition, 32+"}}
"""
STAGES = "rollout: {stages: [{percent: 50}, {percent: 100}]}"


class Pair:
    """Two nodes of a mesh with one Redis."""

    def __init__(self, folder: Path) -> None:
        self.redis = Server()
        self._folder = folder
        self._ports = [free_port(), free_port()]
        self._version = 0
        self.write()
        self.nodes = [
            LibraryProcess(folder / f"{n}.yaml", folder / f"{n}.log", watch=False) for n in (0, 1)
        ]

    def write(
        self, slots: int = SLOTS, rollout: str = "", consistency: str = "strong", more: str = ""
    ) -> None:
        """Another version of both files."""
        self._version += 1
        for node, port in enumerate(self._ports):
            text = CONFIG.format(
                node=f"node-{node}", version=self._version, rollout=rollout, url=self.redis.url,
                slots=slots, consistency=consistency, more=more, port=port,
                other=self._ports[1 - node], state=self._folder / "state",
            )  # fmt: skip
            (self._folder / f"{node}.yaml").write_text(text)

    async def reload(self) -> None:
        """Both take their files."""
        for one in self.nodes:
            await one.reload()

    async def until(self, holds: Callable[[LibraryProcess], Awaitable[bool]]) -> None:
        """Waits until something holds of both."""
        end = asyncio.get_running_loop().time() + BOUND_S
        while not all([await holds(one) for one in self.nodes]):
            if asyncio.get_running_loop().time() > end:
                raise self.nodes[0].failed(f"it never came to be so: {holds}")
            await asyncio.sleep(0.05)

    @property
    def recorded(self) -> int:
        """The holds that Redis has."""
        (name,) = self.redis.call("KEYS", "*{llm:*:slots")
        return int(self.redis.call("HLEN", name)) - 1


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Pair]:
    both = Pair(folder)
    both.redis.start().has_known_processes()
    try:
        await asyncio.gather(*(one.start() for one in both.nodes))
        yield both
    finally:
        await asyncio.gather(*(one.kill() for one in both.nodes))
        both.redis.remove()


async def held(node: LibraryProcess, calls: int, **more: object) -> list[str]:
    """The modes in which the slots were admitted that a node got."""
    modes: list[str] = (await node.ask("hold", calls=calls, **more))["held"]
    return modes


async def strong(node: LibraryProcess) -> bool:
    look = await node.look()
    return (look["mode"], look["unsettled"]) == ("strong", 0)


async def without_redis(node: LibraryProcess) -> bool:
    return bool((await node.look())["mode"] == "fallback")


async def rolled_out(node: LibraryProcess) -> bool:
    return bool((await node.ask("rollout"))["status"] == "done")


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_slots_through_forks_stages_reloads_an_outage_and_kills(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        a, b = both.nodes
        await both.until(strong)
        assert await held(a, 4) == ["strong"] * 4
        assert await held(b, 4) == ["strong"] * 2

        told, released = (await a.ask("fork_with_slots"))["told"]
        assert "LimiterNotOpen: this process was forked" in told
        assert (released, both.recorded) == ("False", SLOTS)

        both.write(slots=9, rollout=STAGES)
        with pytest.raises(Failed, match="has slots, which change on all keys at once"):
            await a.reload()
        both.write(consistency="eventual")
        with pytest.raises(Failed, match="cannot become eventual while the limiter works"):
            await a.reload()

        both.write(rollout=STAGES, more="exports: {concurrency: 2}")
        await both.reload()
        both.redis.kill()
        await both.until(without_redis)
        assert (await a.ask("let_go", slots=3))["released"] == [True] * 3
        assert await held(a, 2) == ["fallback"]  # with the one of before it has its share
        assert await held(b, 1) == []
        assert await held(a, 2, bucket="exports") == ["fallback"]
        for _ in range(2):
            await a.ask("roll_out", command="advance")
        await both.until(rolled_out)

        await b.kill()
        await b.start()
        assert await held(b, 2, timeout=BOUND_S / 2) == ["fallback"] * 2
        assert await held(b, 1) == []
        both.redis.start()  # empty
        await both.until(strong)
        assert both.recorded == 4
        assert await held(a, 3) == ["strong"] * 2

        both.write(slots=3, more="exports: {concurrency: 2}")
        await both.reload()
        assert await held(a, 1) == []
        assert (await a.ask("let_go", slots=5))["released"] == [True] * 5  # one of them of exports
        assert await held(a, 4) == ["strong"]
        both.write(slots=8, more="exports: {concurrency: 2}")
        await both.reload()
        assert await held(a, 9) == ["strong"] * 5

        await b.kill()
        await b.start()
        await both.until(strong)
        assert await held(b, 1) == await held(a, 1) == []  # until the ttl of what b held
        assert (await a.ask("let_go", slots=1))["released"] == [True]
        assert await held(b, 1, timeout=BOUND_S / 2) == ["strong"]
        assert await held(b, 1) == []
        assert both.recorded == 8
