"""The processes of one composition: their files, how they start and end, and what all of them
granted."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.compositions.process import BOUND_S, Failed, LibraryProcess, Process
from tests.compositions.server import ServeProcess
from tests.histories.network import ProxiedNetwork
from tests.histories.plan import Pair
from tests.strong.redis_server import Server, free_port

CAPACITY = 300
SECRET = "a secret of this composition, 32+"
CONFIG = """
node: {node}
version: {version}
{shared}
rating:
  consistency: {consistency}
  fallback_ratio: {ratio}
  {backend}
  modes: {modes}
services: {{api: {{limit: {refill} burst {capacity}}}}}
{mesh}
"""
BACKEND = "bucket_backend: {{type: redis, deadline: 5s, connection: {{url: {url}}}}}"
"""The deadline is far above any pause of a busy machine, which is no outage of Redis."""
MODES = "{latency_limit: 4s, outage_after: 10s, stable_after: 300ms, stable_after_failover: 300ms}"
"""With these, strong mode is left only when Redis is gone, which refused connections show at once,
and is back soon after Redis is."""


@dataclass(frozen=True)
class Feature:
    """One way to run a limiter."""

    nodes: int = 1
    processes: int = 1
    """The number on each node; several processes share a table."""
    shared: bool = False
    mesh: bool = False
    strong: bool = False
    watch: bool = False
    serve: bool = False
    links: tuple[Pair, ...] | None = None
    """The pairs of nodes that can reach each other; None: all."""

    def neighbours(self, node: int) -> set[int]:
        """The nodes that a node is linked with."""
        if self.links is None:
            return set(range(self.nodes)) - {node}
        return {sum(pair) - node for pair in self.links if node in pair}

    @property
    def peeks_know(self) -> bool:
        """Whether a peek shows what others took. It asks no store, so of strong buckets it does
        not, unless a mesh carries them, which it does for processes without a shared table."""
        return not self.strong or (self.mesh and not self.shared)

    @property
    def keeps(self) -> bool:
        """Whether what was granted is remembered after all processes have ended, in whatever
        way."""
        return self.strong or (self.shared and not self.mesh)


@dataclass(frozen=True)
class Bound:
    """How far the sum of what is granted may be off the capacity, and why."""

    beyond: int = 0
    lost: int = 0
    """Takes that a kill interrupted, which may be counted though their callers got no answer."""
    forgotten: int = 0
    """Tokens that Redis counts and the mesh may not, since a process with them was killed."""


EXACT = Bound()


class Fleet:
    """All processes of a feature, and the count of what they granted."""

    def __init__(self, feature: Feature, folder: Path) -> None:
        self.feature = feature
        self.capacity, self.refill = CAPACITY, "1/hour"
        self.network = None
        if feature.links is not None:
            self.network = ProxiedNetwork(feature.nodes, feature.links)
        self.redis = Server() if feature.strong else None
        self._folder = folder
        self._version = 1
        self._ports = [free_port() for _ in range(feature.nodes)]
        self._order = tuple(range(feature.nodes))
        self.nodes: list[list[Process]] = []
        for node in range(feature.nodes):
            self.nodes.append([self._process(node, i) for i in range(feature.processes)])

    @property
    def processes(self) -> list[Process]:
        """All of them, node by node."""
        return [*itertools.chain.from_iterable(self.nodes)]

    @property
    def granted(self) -> int:
        """Tokens that all callers were granted so far."""
        return sum(one.granted for one in self.processes)

    @property
    def kept_for_others(self) -> int:
        """Tokens that a node holds back for the others in overload: one for the reserve of each."""
        mesh = self.feature.mesh and not self.feature.strong
        return self.feature.nodes - 1 if mesh else 0

    # ---- files ----

    def write(self, node: int) -> None:
        """The configuration of a node as it should be now."""
        feature = self.feature
        mesh = {
            "listen": f"127.0.0.1:{self._ports[node]}",
            "peers": [f"127.0.0.1:{self._ports[i]}" for i in self._order if i != node],
            "secret": SECRET,
            "state_dir": str(self._folder / "state"),
            **({} if self.network is None else self.network.mesh(node)),
        }
        text = CONFIG.format(
            node=f"node-{node}",
            version=self._version,
            shared=f"shared: {self._folder / f'table-{node}'}" if feature.shared else "",
            consistency="strong" if feature.strong else "eventual",
            ratio=0.1,
            backend="" if self.redis is None else BACKEND.format(url=self.redis.url),
            modes=MODES,
            capacity=self.capacity,
            refill=self.refill,
            mesh=f"mesh: {json.dumps(mesh)}" if feature.mesh else "",
        )
        self._config(node).write_text(text)

    def redefine(self, capacity: int, refill: str = "1/hour") -> None:
        """Writes another limit into the file of each node."""
        self.capacity, self.refill = capacity, refill
        self._version += 1
        self._write_all()

    def _write_all(self) -> None:
        for node in range(self.feature.nodes):
            self.write(node)

    def dial_in(self, order: tuple[int, ...]) -> None:
        """Lets each node dial its peers in this order from its next start on."""
        self._order = order
        self._write_all()

    def forget(self) -> None:
        """Deletes all files that outlive the processes."""
        shutil.rmtree(self._folder / "state", ignore_errors=True)
        for table in self._folder.glob("table-*"):
            table.unlink()
        if self.redis is not None:
            self.redis.restart()

    def _config(self, node: int) -> Path:
        return self._folder / f"node-{node}.yaml"

    def _process(self, node: int, place: int) -> Process:
        config, log = self._config(node), self._folder / f"node-{node}-{place}.log"
        if self.feature.serve:
            return ServeProcess(config, log, free_port())
        return LibraryProcess(config, log, watch=self.feature.watch)

    # ---- life ----

    async def __aenter__(self) -> Fleet:
        try:
            if self.redis is not None:
                self.redis.start().has_known_processes()
            if self.network is not None:
                await self.network.start()
            self._write_all()
            await asyncio.gather(*(one.start() for one in self.processes))
            await self.serve()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def _end(self) -> None:
        await asyncio.gather(*(one.kill() for one in self.processes))
        if self.network is not None:
            await self.network.stop()
        if self.redis is not None:
            self.redis.remove()

    async def until(self, holds: Callable[[], Awaitable[bool]], what: Callable[[], str]) -> None:
        """Waits until `holds` is true. Raises `Failed` when it never is."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + BOUND_S
        while not await holds():
            if loop.time() > deadline:
                raise Failed(what())
            await asyncio.sleep(0.05)

    async def serve(self, among: Collection[int] | None = None) -> None:
        """Returns once every process does its work: it has its links, and asks Redis. `among`: the
        nodes that run, if not all do."""
        among = range(self.feature.nodes) if among is None else among
        seen: list[object] = []

        async def all_do() -> bool:
            per_node = {}
            for node in among:
                per_node[node] = [await one.look() for one in self.nodes[node]]
            seen[:] = looks = [*itertools.chain.from_iterable(per_node.values())]
            ready = not self.feature.strong or all(look["mode"] == "strong" for look in looks)
            if self.feature.mesh:
                ready &= all(self._linked(node, looks, among) for node, looks in per_node.items())
            return ready

        await self.until(all_do, lambda: f"not every process serves: {seen}")

    def _linked(
        self, node: int, looks: Sequence[dict[str, object]], among: Collection[int]
    ) -> bool:
        """Whether the process that has the peers' connections has links to all of these that it can
        reach."""
        for look in looks:
            peers = look["peers"]
            assert isinstance(peers, dict)
            if look["leading"]:
                near = self.feature.neighbours(node).intersection(among)
                return all(peers.get(f"node-{other}") == "alive" for other in near)
        return False

    async def reload(self) -> None:
        """Returns once every process has the limits in its file."""
        if not self.feature.watch:
            for one in self.processes:
                await one.reload()

        async def all_have_it() -> bool:
            looks = [await one.look() for one in self.processes]
            return all(look["limit"] == self.capacity for look in looks)

        await self.until(all_have_it, lambda: "not every process has the new capacity")

    async def agree(self, bound: Bound = EXACT) -> None:
        """Returns once every process counts all that was granted, except for what `bound` allows,
        and Redis counts all that was granted without it."""
        seen: list[object] = []

        async def all_know() -> bool:
            seen[:] = looks = [await one.look() for one in self.processes]
            if any(look["unsettled"] for look in looks):
                return False
            if not self.feature.peeks_know:
                return True  # Redis counts it, and makes every decision
            left = self.capacity - self.granted
            beyond = bound.forgotten if self.feature.strong else bound.beyond
            least, most = max(0, left - bound.lost), max(0, left + beyond)
            levels = {look["left"] for look in looks}
            return len(levels) == 1 and least <= min(levels) <= most

        await self.until(
            all_know, lambda: f"{self.granted} of {self.capacity} were granted: {seen}"
        )

    async def drain(self, bound: Bound) -> None:
        """Takes all that is left, one process after another, and again until nothing is: what a
        node holds back for others it grants when they are quiet. Strong buckets are empty once
        Redis has denied every process."""

        seen: list[object] = []

        async def nothing_left() -> bool:
            before = self.granted
            for one in self.processes:
                await self.agree(bound)
                while await one.take(20):
                    pass
            seen[:] = looks = [await one.look() for one in self.processes]
            if self.feature.strong and self.granted > before:
                return False
            if not self.feature.peeks_know:
                return True
            most = bound.forgotten if self.feature.strong else self.kept_for_others
            return all(look["left"] <= most for look in looks)

        await self.until(
            nothing_left, lambda: f"only {self.granted} of {self.capacity} were granted: {seen}"
        )
